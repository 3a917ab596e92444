package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/pki"
)

// Who may call an operation, from everybody to the org's admins.
type need int

const (
	everybody need = iota
	anyUser
	view
	manage
	admin
)

// operations is what every operation needs and how it answers those who may.
// Words in braces are filled from a fixture.
var operations = map[string]struct {
	need   need
	body   string
	status int
}{
	"sign-in":      {everybody, `{"email":"{me}","password":"correct horse battery"}`, 200},
	"sign-in-auth": {everybody, `{"email":"{me}","password":"correct horse battery"}`, 200},
	"get-health":   {everybody, "", 200},

	"get-me":       {anyUser, "", 200},
	"sign-out":     {anyUser, "", 204},
	"list-tokens":  {anyUser, "", 200},
	"create-token": {anyUser, `{"note":"ci"}`, 201},
	"revoke-token": {anyUser, "", 204},
	"list-orgs":    {anyUser, "", 200},
	"create-org":   {anyUser, `{"name":"{fresh}"}`, 201},

	"list-members":  {admin, "", 200},
	"add-member":    {admin, `{"email":"outsider@example.com","role":"view"}`, 201},
	"invite-member": {admin, `{"username":"outsider@example.com","role":"write"}`, 201},
	"get-member":    {admin, "", 200},
	"update-member": {admin, `{"role":"delete"}`, 200},
	"remove-member": {admin, "", 200},

	"list-keys":  {view, "", 200},
	"get-key":    {view, "", 200},
	"create-key": {manage, `{"name":"other","key":"{freshkey}"}`, 201},
	"delete-key": {manage, "", 409}, // firmware is signed with it

	"list-ca-certificates":  {view, "", 200},
	"get-ca-certificate":    {view, "", 200},
	"create-ca-certificate": {manage, `{"cert":"{freshca}","description":null}`, 201},
	"delete-ca-certificate": {manage, "", 200},
	"update-ca-certificate": {manage, `{"check_expiration":true,"jitp":{"product_name":"thermo","tags":"line3","description":"made on line 3"}}`, 200},

	"get-verification-token": {view, "", 200},

	"list-products":  {view, "", 200},
	"get-product":    {view, "", 200},
	"create-product": {manage, `{"name":"another"}`, 201},
	"update-product": {manage, `{"require_unique_firmware_version":false}`, 200},
	"patch-product":  {manage, `{"require_unique_firmware_version":"false"}`, 200},
	"delete-product": {admin, "", 204},

	"list-shared-secrets":      {manage, "", 200},
	"create-shared-secret":     {manage, `{"note":"line 3"}`, 201},
	"deactivate-shared-secret": {manage, "", 204},

	"list-firmware":     {view, "", 200},
	"get-firmware":      {view, "", 200},
	"publish-firmware":  {manage, "", 415}, // no form; uploads have tests of their own
	"delete-firmware":   {manage, "", 409}, // a release uses it
	"download-firmware": {manage, "", 302},

	"list-archives":    {view, "", 200},
	"get-archive":      {view, "", 404}, // uploads have tests of their own
	"publish-archive":  {manage, "", 415},
	"delete-archive":   {manage, "", 404},
	"download-archive": {manage, "", 404},

	"list-scripts":        {view, "", 200},
	"list-device-scripts": {view, "", 200},
	"get-script":          {view, "", 200},
	"create-script":       {manage, `{"name":"{fresh}","text":"1+1","tags":"lab,qa"}`, 200},
	"update-script":       {manage, `{"text":"2+2"}`, 200},
	"delete-script":       {manage, "", 204},
	"run-device-script":   {manage, "", 409}, // it is not connected

	"list-deployment-groups":  {view, "", 200},
	"get-deployment-group":    {view, "", 200},
	"create-deployment-group": {manage, `{"name":"beta","firmware":"{uuid}","conditions":{"version":"","tags":[]}}`, 201},
	"update-deployment-group": {manage, `{"deployment":{"concurrent_updates":"7"}}`, 200},
	"delete-deployment-group": {manage, "", 204},
	"list-releases":           {view, "", 200},
	"create-release":          {manage, `{"firmware":"{uuid}"}`, 201},

	"list-devices":   {view, "", 200},
	"get-device":     {view, "", 200},
	"create-device":  {manage, `{"identifier":"{fresh}"}`, 201},
	"update-device":  {manage, `{"description":"cellar"}`, 201},
	"delete-device":  {manage, "", 204},
	"clear-penalty":  {manage, "", 204},
	"reboot-device":  {manage, "", 409}, // it is not connected
	"upgrade-device": {manage, `{"uuid":"{uuid}"}`, 409},

	"approve-device":    {manage, "", 409}, // it does not wait
	"reject-device":     {manage, "", 409},
	"admit-device":      {manage, "", 204},
	"quarantine-device": {manage, `{"reason":"looks odd"}`, 204},
	"diagnose-device":   {view, "", 200},
	"list-refusals":     {view, "", 200},

	"list-notifications":        {view, "", 200},
	"dismiss-notifications":     {manage, `{}`, 200},
	"list-org-notifications":    {view, "", 200},
	"dismiss-org-notifications": {manage, `{}`, 200},

	"reconnect-device": {manage, "", 409},
	"identify-device":  {manage, "", 409},
	"run-script":       {manage, `{"text":"1+1"}`, 409},

	"list-device-certificates":  {view, "", 200},
	"get-device-certificate":    {view, "", 200},
	"create-device-certificate": {manage, `{"identifier":"{identifier}","cert":"{freshcert}"}`, 201},
	"delete-device-certificate": {manage, "", 204},

	"list-attempts":        {view, "", 200},
	"list-device-attempts": {view, "", 200},
	"list-audit":           {view, "", 200},
	"list-org-audit":       {view, "", 200},
	"stream-events":        {view, "", 200},
}

// fixture is an org with one of everything, and the words for paths and bodies.
func (w *world) fixture(t *testing.T, n int, members []person) map[string]string {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	words := map[string]string{
		"org": fmt.Sprintf("org-%d", n), "product": "thermo", "name": "devkey", "identifier": "SN-1", "script": "uptime", "fresh": fmt.Sprintf("fresh-%d", n),
		"freshkey": publicKey(2*n + 1), "email": "guest@example.com",
	}
	_, err := w.control.CreateOrg(ctx, w.admin.scope, words["org"])
	must(err)
	s := w.in(t, w.admin, words["org"])
	roles := []fleet.Role{fleet.RoleView, fleet.RoleManage, fleet.RoleAdmin, fleet.RoleView}
	for i, m := range members {
		_, err := w.control.AddMember(ctx, s, m.user.Email, roles[i])
		must(err)
	}
	p, err := w.control.CreateProduct(ctx, s, "thermo")
	must(err)
	k, err := w.control.CreateSigningKey(ctx, s, "devkey", publicKey(2*n))
	must(err)
	f := w.publish(t, s, p, k, fmt.Sprintf("11111111-1111-5111-8111-%012d", n), "1.0.0")
	words["firmware"] = f.UUID
	_, err = w.control.CreateDeploymentGroup(ctx, s, "thermo", control.CreateDeploymentGroupInput{Name: "qa", FirmwareUUID: f.UUID})
	must(err)
	_, err = w.control.CreateScript(ctx, s, "thermo", "uptime", "1+1", nil)
	must(err)
	_, err = w.control.CreateDevice(ctx, s, "thermo", control.CreateDeviceInput{Identifier: "SN-1"})
	must(err)
	x, err := w.control.CreateSharedSecret(ctx, s, "thermo", "")
	must(err)
	words["secret"] = x.UUID
	ca, err := pki.CreateCA("first")
	must(err)
	registered, err := w.control.RegisterCACertificate(ctx, s, control.RegisterCAInput{Certificate: ca.CertificatePEM()})
	must(err)
	words["ca"] = registered.Serial
	leaf, err := pki.IssueDeviceCertificate(ca, "SN-1")
	must(err)
	added, err := w.control.AddDeviceCertificate(ctx, s, "thermo", "SN-1", leaf.CertificatePEM())
	must(err)
	words["certificate"] = added.Serial
	freshCA, err := pki.CreateCA("second")
	must(err)
	words["freshca"] = base64.StdEncoding.EncodeToString(freshCA.CertificatePEM())
	freshLeaf, err := pki.IssueDeviceCertificate(ca, "SN-1")
	must(err)
	words["freshcert"] = base64.StdEncoding.EncodeToString(freshLeaf.CertificatePEM())
	return words
}

// fill gives a route's words their meaning: the same word means another thing
// below another noun.
func fill(rt route, text string, words map[string]string, escape bool) string {
	set := map[string]string{}
	for k, v := range words {
		set[k] = v
	}
	switch {
	case strings.Contains(rt.path, "/firmwares"), !strings.Contains(rt.path, "/shared_secrets") && !strings.Contains(rt.path, "/tokens"):
		set["uuid"] = words["firmware"]
	case strings.Contains(rt.path, "/shared_secrets"):
		set["uuid"] = words["secret"]
	default:
		set["uuid"] = words["token"]
	}
	set["serial"] = words["ca"]
	if strings.Contains(rt.path, "/devices") {
		set["serial"] = words["certificate"]
	}
	if strings.Contains(rt.path, "/deployments") {
		set["name"] = "qa"
	}
	for k, v := range set {
		if escape {
			v = url.PathEscape(v)
		}
		text = strings.ReplaceAll(text, "{"+k+"}", v)
	}
	return text
}

// TestRoutes calls every operation that is registered as nobody, as a stranger
// to the org and in every role.
func TestRoutes(t *testing.T) {
	w := newWorld(t)
	members := []person{
		w.newUser(t, "view@example.com", fleet.RoleView), w.newUser(t, "manage@example.com", fleet.RoleView),
		w.newUser(t, "owner@example.com", fleet.RoleView), w.newUser(t, "guest@example.com", fleet.RoleView),
	}
	outsider := w.newUser(t, "outsider@example.com", fleet.RoleView)
	// Who is refused, or only reads, changes nothing: they share an org.
	shared := w.fixture(t, 0, members)
	n := 0
	s := newServer(Options{})
	for _, rt := range s.routes {
		_, ok := operations[rt.id]
		if !ok {
			t.Errorf("%s %s (%s) is not in the table: say who may call it", rt.method, rt.path, rt.id)
			continue
		}
		t.Run(rt.id, func(t *testing.T) {
			for _, who := range []struct {
				name string
				has  need
				as   person
			}{{"nobody", everybody, person{}}, {"stranger", anyUser, outsider}, {"view", view, members[0]}, {"manage", manage, members[1]}, {"admin", admin, members[2]}} {
				words := shared
				if rt.method != http.MethodGet && who.has >= operations[rt.id].need {
					n++
					words = w.fixture(t, n, members)
				}
				w.checkRoute(t, rt, who.name, who.as, who.has, words)
			}
		})
	}
	if len(operations) != len(s.routes) {
		t.Errorf("%d operations in the table, %d registered", len(operations), len(s.routes))
	}
}

func (w *world) checkRoute(t *testing.T, rt route, name string, as person, has need, words map[string]string) {
	t.Helper()
	op := operations[rt.id]
	words["me"], words["token"] = "owner@example.com", "none"
	token := ""
	if has > everybody {
		text, made, err := w.control.CreateToken(t.Context(), as.scope, "", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		token, words["token"] = text, made.UUID
	}
	path := fill(rt, rt.path, words, true)
	body := fill(rt, op.body, words, false)
	want := op.status
	switch {
	case op.need > everybody && has == everybody:
		want = 401
	case op.need > anyUser && has == anyUser:
		want = 404
	case has < op.need:
		want = 401
	}
	if rt.id == "stream-events" && want == 200 {
		w.openStream(t, token, path).close()
		return
	}
	r := w.call(t, token, rt.method, path, body)
	if r.status != want {
		t.Errorf("as %s: %s %s: status %d, want %d: %s", name, rt.method, path, r.status, want, r.body)
		return
	}
	if want < 400 {
		return
	}
	var e struct {
		Errors map[string]any
		Error  struct{ Kind fleet.Kind }
	}
	r.json(t, &e)
	if len(e.Errors) == 0 || e.Error.Kind == "" {
		t.Errorf("as %s: the error has not the common shape: %s", name, r.body)
	}
	if want == 401 && has > anyUser && e.Error.Kind != fleet.Forbidden {
		t.Errorf("as %s: kind %s, want forbidden", name, e.Error.Kind)
	}
}
