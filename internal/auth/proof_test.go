package auth

import (
	"bytes"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

func TestProofTokens(t *testing.T) {
	old, err := NewKeyring(bytes.Repeat([]byte{1}, InstanceKeySize))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := NewKeyring(bytes.Repeat([]byte{2}, InstanceKeySize), bytes.Repeat([]byte{1}, InstanceKeySize))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	token, err := old.NewProofToken(7, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := ring.NewProofToken(7, now.Add(time.Hour))
	if err != nil || fresh == token {
		t.Fatalf("%q, %v", fresh, err)
	}
	flipped := []byte(token)
	flipped[0] ^= 1
	for _, tc := range []struct {
		name, token string
		org         int64
		now         time.Time
		good        bool
	}{
		{"good", token, 7, now, true},
		{"of the current key", fresh, 7, now, true},
		{"of another org", token, 8, now, false},
		{"expired", token, 7, now.Add(time.Hour + time.Second), false},
		{"changed", string(flipped), 7, now, false},
		{"cut off", token[:len(token)-1], 7, now, false},
		{"nothing", "", 7, now, false},
		{"no base64", "§", 7, now, false},
	} {
		err := ring.CheckProofToken(tc.token, tc.org, tc.now)
		if (err == nil) != tc.good || !tc.good && fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if err := old.CheckProofToken(fresh, 7, now); err == nil {
		t.Error("a token of a key that is not in the ring was believed")
	}
}
