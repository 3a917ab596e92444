package link

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/phx"
)

func TestMessagePack(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.Serializer = phx.MessagePack })
	c := r.start()
	if c.request.URL.RawQuery != "vsn=3.0.0" {
		t.Errorf("connects to %s", c.request.URL)
	}
	if params := c.join(); params["nerves_fw_uuid"] != r.old.uuid || params["currently_downloading_uuid"] != nil {
		t.Errorf("joins with %v", params)
	}
	// Neither text nor nonsense ends the connection, nor does anything of the
	// table that ends no topic and starts no update.
	if err := c.ws.Write(t.Context(), websocket.MessageText, []byte(`[null,null,"device","identify",{}]`)); err != nil {
		t.Fatal(err)
	}
	if err := c.ws.Write(t.Context(), websocket.MessageBinary, []byte{0xc1}); err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("../phx/testdata/messages.tsv")
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	for line := range strings.Lines(string(table)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 4 || f[1] != "server" || f[0] == "close" || f[0] == "crash" || f[0] == "update" || f[0] == "reboot" {
			continue
		}
		frame, err := hex.DecodeString(f[3])
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ws.Write(t.Context(), websocket.MessageBinary, frame); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	if sent < 8 {
		t.Errorf("the table has only %d such messages", sent)
	}
	await(t, "identify", r.client.identified)
	c.send(`[null,null,"device","reboot",{}]`)
	c.until(phx.EventScriptsRun, "scripts are disabled") // of the table
	c.until(phx.EventRebooting, "{}")
}

func TestUnknownSerializerIsRefused(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.Serializer = 3 })
	if _, err := New(r.options); err == nil {
		t.Error("accepted")
	}
}
