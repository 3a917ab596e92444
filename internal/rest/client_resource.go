package rest

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// SignIn makes a token for somebody with a password.
func (c *Client) SignIn(ctx context.Context, in SignIn) (User, error) {
	return one[User](ctx, c, http.MethodPost, in, "users", "login")
}

// SignOut revokes the client's own token.
func (c *Client) SignOut(ctx context.Context) error {
	return c.send(ctx, http.MethodDelete, nil, "users", "session")
}

// Me returns the user the client's token belongs to.
func (c *Client) Me(ctx context.Context) (User, error) {
	return one[User](ctx, c, http.MethodGet, nil, "users", "me")
}

// Tokens lists the user's own tokens.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	return all[Token](ctx, c, nil, 0, "users", "tokens")
}

// CreateToken makes a token; only this answer holds it.
func (c *Client) CreateToken(ctx context.Context, in NewToken) (Token, error) {
	return one[Token](ctx, c, http.MethodPost, in, "users", "tokens")
}

// RevokeToken makes a token worthless.
func (c *Client) RevokeToken(ctx context.Context, uuid string) error {
	return c.send(ctx, http.MethodDelete, nil, "users", "tokens", uuid)
}

// Orgs lists the orgs the user belongs to.
func (c *Client) Orgs(ctx context.Context) ([]Org, error) { return all[Org](ctx, c, nil, 0, "orgs") }

// CreateOrg makes an org with the user as its admin.
func (c *Client) CreateOrg(ctx context.Context, name string) (Org, error) {
	return one[Org](ctx, c, http.MethodPost, Named{Name: name}, "orgs")
}

// Members lists who belongs to an org.
func (c *Client) Members(ctx context.Context, org string) ([]Member, error) {
	return all[Member](ctx, c, nil, 0, "orgs", org, "users")
}

// AddMember gives somebody a role in an org.
func (c *Client) AddMember(ctx context.Context, org string, in NewMember) (Member, error) {
	return one[Member](ctx, c, http.MethodPost, in, "orgs", org, "users")
}

// ChangeMember changes the role of a member.
func (c *Client) ChangeMember(ctx context.Context, org, email, role string) (Member, error) {
	return one[Member](ctx, c, http.MethodPut, map[string]string{"role": role}, "orgs", org, "users", email)
}

// RemoveMember takes somebody out of an org.
func (c *Client) RemoveMember(ctx context.Context, org, email string) error {
	return c.send(ctx, http.MethodDelete, nil, "orgs", org, "users", email)
}

// SigningKeys lists the public keys of an org.
func (c *Client) SigningKeys(ctx context.Context, org string) ([]SigningKey, error) {
	return all[SigningKey](ctx, c, nil, 0, "orgs", org, "keys")
}

// CreateSigningKey registers a public key.
func (c *Client) CreateSigningKey(ctx context.Context, org string, in NewSigningKey) (SigningKey, error) {
	return one[SigningKey](ctx, c, http.MethodPost, in, "orgs", org, "keys")
}

// DeleteSigningKey forgets a public key.
func (c *Client) DeleteSigningKey(ctx context.Context, org, name string) error {
	return c.send(ctx, http.MethodDelete, nil, "orgs", org, "keys", name)
}

// CACertificates lists the authorities of an org.
func (c *Client) CACertificates(ctx context.Context, org string) ([]CACertificate, error) {
	return all[CACertificate](ctx, c, nil, 0, "orgs", org, "ca_certificates")
}

// CreateCACertificate registers an authority.
func (c *Client) CreateCACertificate(ctx context.Context, org string, in NewCACertificate) (CACertificate, error) {
	return one[CACertificate](ctx, c, http.MethodPost, in, "orgs", org, "ca_certificates")
}

// CACertificate returns an authority by its decimal serial.
func (c *Client) CACertificate(ctx context.Context, org, serial string) (CACertificate, error) {
	return one[CACertificate](ctx, c, http.MethodGet, nil, "orgs", org, "ca_certificates", serial)
}

// ChangeCACertificate changes an authority by its decimal serial.
func (c *Client) ChangeCACertificate(ctx context.Context, org, serial string, in CACertificateChange) (CACertificate, error) {
	return one[CACertificate](ctx, c, http.MethodPut, in, "orgs", org, "ca_certificates", serial)
}

// VerificationToken makes a token that an authority signs to prove that its key
// is there.
func (c *Client) VerificationToken(ctx context.Context, org string) (VerificationToken, error) {
	return one[VerificationToken](ctx, c, http.MethodGet, nil, "orgs", org, "ca_certificates", "verification_token")
}

// DeleteCACertificate forgets an authority by its decimal serial.
func (c *Client) DeleteCACertificate(ctx context.Context, org, serial string) error {
	return c.send(ctx, http.MethodDelete, nil, "orgs", org, "ca_certificates", serial)
}

// Products lists the products of an org.
func (c *Client) Products(ctx context.Context, org string) ([]Product, error) {
	return all[Product](ctx, c, nil, 0, "orgs", org, "products")
}

// Product returns one product.
func (c *Client) Product(ctx context.Context, org, name string) (Product, error) {
	return one[Product](ctx, c, http.MethodGet, nil, "orgs", org, "products", name)
}

// CreateProduct makes a product.
func (c *Client) CreateProduct(ctx context.Context, org, name string) (Product, error) {
	return one[Product](ctx, c, http.MethodPost, Named{Name: name}, "orgs", org, "products")
}

// ChangeProduct changes a product.
func (c *Client) ChangeProduct(ctx context.Context, org, name string, in ProductChange) (Product, error) {
	return one[Product](ctx, c, http.MethodPut, in, "orgs", org, "products", name)
}

// DeleteProduct deletes a product that has nothing left.
func (c *Client) DeleteProduct(ctx context.Context, org, name string) error {
	return c.send(ctx, http.MethodDelete, nil, "orgs", org, "products", name)
}

// ProductClient speaks with one server about one product.
type ProductClient struct {
	c            *Client
	Org, Product string
}

// In narrows the client to a product.
func (c *Client) In(org, product string) *ProductClient {
	return &ProductClient{c: c, Org: org, Product: product}
}

func (p *ProductClient) path(segments ...string) []string {
	return append([]string{"orgs", p.Org, "products", p.Product}, segments...)
}

// SharedSecrets lists the product's shared secrets, without the secrets.
func (p *ProductClient) SharedSecrets(ctx context.Context) ([]SharedSecret, error) {
	return all[SharedSecret](ctx, p.c, nil, 0, p.path("shared_secrets")...)
}

// CreateSharedSecret makes a shared secret; only this answer holds it.
func (p *ProductClient) CreateSharedSecret(ctx context.Context, in NewSharedSecret) (SharedSecret, error) {
	return one[SharedSecret](ctx, p.c, http.MethodPost, in, p.path("shared_secrets")...)
}

// DeactivateSharedSecret makes a shared secret worthless.
func (p *ProductClient) DeactivateSharedSecret(ctx context.Context, uuid string) error {
	return p.c.send(ctx, http.MethodDelete, nil, p.path("shared_secrets", uuid)...)
}

// DeploymentGroups lists the product's groups.
func (p *ProductClient) DeploymentGroups(ctx context.Context) ([]DeploymentGroup, error) {
	return all[DeploymentGroup](ctx, p.c, nil, 0, p.path("deployments")...)
}

// DeploymentGroup returns one group with its counts.
func (p *ProductClient) DeploymentGroup(ctx context.Context, name string) (DeploymentGroup, error) {
	return one[DeploymentGroup](ctx, p.c, http.MethodGet, nil, p.path("deployments", name)...)
}

// CreateDeploymentGroup makes a group with its first release.
func (p *ProductClient) CreateDeploymentGroup(ctx context.Context, in NewDeploymentGroup) (DeploymentGroup, error) {
	return one[DeploymentGroup](ctx, p.c, http.MethodPost, in, p.path("deployments")...)
}

// ChangeDeploymentGroup changes a group or gives it a release.
func (p *ProductClient) ChangeDeploymentGroup(ctx context.Context, name string, in DeploymentGroupChange) (DeploymentGroup, error) {
	return one[DeploymentGroup](ctx, p.c, http.MethodPut, UpdateDeployment{Deployment: in}, p.path("deployments", name)...)
}

// DeleteDeploymentGroup deletes a group; its devices stay.
func (p *ProductClient) DeleteDeploymentGroup(ctx context.Context, name string) error {
	return p.c.send(ctx, http.MethodDelete, nil, p.path("deployments", name)...)
}

// Releases lists the releases of a group, newest first.
func (p *ProductClient) Releases(ctx context.Context, group string) ([]Release, error) {
	return all[Release](ctx, p.c, nil, 0, p.path("deployments", group, "releases")...)
}

// Devices lists the product's devices that match a query, at most limit; 0: all.
func (p *ProductClient) Devices(ctx context.Context, query url.Values, limit int) ([]Device, error) {
	return all[Device](ctx, p.c, query, limit, p.path("devices")...)
}

// Device returns one device.
func (p *ProductClient) Device(ctx context.Context, identifier string) (Device, error) {
	return one[Device](ctx, p.c, http.MethodGet, nil, p.path("devices", identifier)...)
}

// CreateDevice makes a device known.
func (p *ProductClient) CreateDevice(ctx context.Context, in NewDevice) (Device, error) {
	return one[Device](ctx, p.c, http.MethodPost, in, p.path("devices")...)
}

// ChangeDevice changes a device.
func (p *ProductClient) ChangeDevice(ctx context.Context, identifier string, in DeviceChange) (Device, error) {
	return one[Device](ctx, p.c, http.MethodPut, in, p.path("devices", identifier)...)
}

// DeleteDevice forgets a device.
func (p *ProductClient) DeleteDevice(ctx context.Context, identifier string) error {
	return p.c.send(ctx, http.MethodDelete, nil, p.path("devices", identifier)...)
}

// DeviceCommand asks a device to reboot, reconnect or identify itself.
func (p *ProductClient) DeviceCommand(ctx context.Context, identifier, command string) error {
	return p.c.send(ctx, http.MethodPost, nil, p.path("devices", identifier, command)...)
}

// RunScript has a connected device run a script and waits for the result,
// timeout long; 0: as long as the server does by itself.
func (p *ProductClient) RunScript(ctx context.Context, identifier, text string, timeout time.Duration) (ScriptResult, error) {
	return p.runScript(ctx, identifier, Script{Text: text}, timeout)
}

// RunSupportScript is RunScript for a script of the product, by its name or id.
func (p *ProductClient) RunSupportScript(ctx context.Context, identifier, script string, timeout time.Duration) (ScriptResult, error) {
	return p.runScript(ctx, identifier, Script{Script: script}, timeout)
}

func (p *ProductClient) runScript(ctx context.Context, identifier string, in Script, timeout time.Duration) (ScriptResult, error) {
	in.Timeout = int((timeout + time.Second - 1) / time.Second)
	var answer Data[ScriptResult]
	err := p.c.do(ctx, call{
		method: http.MethodPost, path: p.path("devices", identifier, "run-script"), in: in, out: &answer, patience: max(timeout, answerTimeout) + answerTimeout,
	})
	return answer.Data, err
}

// Upgrade pushes a firmware to one device.
func (p *ProductClient) Upgrade(ctx context.Context, identifier, firmware string) error {
	return p.c.send(ctx, http.MethodPost, Upgrade{UUID: firmware}, p.path("devices", identifier, "upgrade")...)
}

// ClearPenalty lets a device out of the penalty box.
func (p *ProductClient) ClearPenalty(ctx context.Context, identifier string) error {
	return p.c.send(ctx, http.MethodDelete, nil, p.path("devices", identifier, "penalty")...)
}

// DeviceAttempts lists the update attempts of a device, newest first.
func (p *ProductClient) DeviceAttempts(ctx context.Context, identifier string, limit int) ([]UpdateAttempt, error) {
	return all[UpdateAttempt](ctx, p.c, nil, limit, p.path("devices", identifier, "attempts")...)
}

// DeviceCertificates lists the certificates of a device.
func (p *ProductClient) DeviceCertificates(ctx context.Context, identifier string) ([]DeviceCertificate, error) {
	return all[DeviceCertificate](ctx, p.c, nil, 0, p.path("devices", identifier, "certificates")...)
}

// CreateDeviceCertificate registers a certificate a device signs in with.
func (p *ProductClient) CreateDeviceCertificate(ctx context.Context, identifier string, in NewDeviceCertificate) (DeviceCertificate, error) {
	return one[DeviceCertificate](ctx, p.c, http.MethodPost, in, p.path("devices", identifier, "certificates")...)
}

// DeleteDeviceCertificate forgets a certificate of a device by its serial.
func (p *ProductClient) DeleteDeviceCertificate(ctx context.Context, identifier, serial string) error {
	return p.c.send(ctx, http.MethodDelete, nil, p.path("devices", identifier, "certificates", serial)...)
}

// Audit lists who did what in the product, newest first.
func (p *ProductClient) Audit(ctx context.Context, limit int) ([]AuditEvent, error) {
	return all[AuditEvent](ctx, p.c, nil, limit, p.path("audit")...)
}

// Firmwares lists the product's firmware, newest first.
func (p *ProductClient) Firmwares(ctx context.Context, limit int) ([]Firmware, error) {
	return all[Firmware](ctx, p.c, nil, limit, p.path("firmwares")...)
}

// Firmware returns one firmware.
func (p *ProductClient) Firmware(ctx context.Context, uuid string) (Firmware, error) {
	return one[Firmware](ctx, p.c, http.MethodGet, nil, p.path("firmwares", uuid)...)
}

// DeleteFirmware deletes a firmware no release has.
func (p *ProductClient) DeleteFirmware(ctx context.Context, uuid string) error {
	return p.c.send(ctx, http.MethodDelete, nil, p.path("firmwares", uuid)...)
}

// Diagnose asks for everything the server knows about why a device does or does
// not work.
func (p *ProductClient) Diagnose(ctx context.Context, identifier string) (Diagnosis, error) {
	return one[Diagnosis](ctx, p.c, http.MethodGet, nil, p.path("devices", identifier, "doctor")...)
}

// Refusals lists which devices were refused and why, newest first.
func (p *ProductClient) Refusals(ctx context.Context, limit int) ([]Refusal, error) {
	return all[Refusal](ctx, p.c, nil, limit, p.path("refusals")...)
}

// Quarantine locks a device out.
func (p *ProductClient) Quarantine(ctx context.Context, identifier, reason string) error {
	return p.c.send(ctx, http.MethodPost, Reason{Reason: reason}, p.path("devices", identifier, "quarantine")...)
}

// Notifications lists what needs people's eyes, what happened last first.
func (p *ProductClient) Notifications(ctx context.Context, limit int) ([]Notification, error) {
	return all[Notification](ctx, p.c, nil, limit, p.path("notifications")...)
}

// DismissNotifications removes notifications by UUID, nil: all.
func (p *ProductClient) DismissNotifications(ctx context.Context, uuids []string) (Dismissed, error) {
	return one[Dismissed](ctx, p.c, http.MethodPost, Dismissal{Notifications: uuids}, p.path("notifications", "dismiss")...)
}

// OrgNotifications lists those that are about no product.
func (c *Client) OrgNotifications(ctx context.Context, org string, limit int) ([]Notification, error) {
	return all[Notification](ctx, c, nil, limit, "orgs", org, "notifications")
}

// DismissOrgNotifications removes those that are about no product.
func (c *Client) DismissOrgNotifications(ctx context.Context, org string, uuids []string) (Dismissed, error) {
	return one[Dismissed](ctx, c, http.MethodPost, Dismissal{Notifications: uuids}, "orgs", org, "notifications", "dismiss")
}

// Archives lists the product's archives, newest first.
func (p *ProductClient) Archives(ctx context.Context, limit int) ([]Archive, error) {
	return all[Archive](ctx, p.c, nil, limit, p.path("archives")...)
}

// Archive returns one archive.
func (p *ProductClient) Archive(ctx context.Context, uuid string) (Archive, error) {
	return one[Archive](ctx, p.c, http.MethodGet, nil, p.path("archives", uuid)...)
}

// DeleteArchive deletes an archive no release has.
func (p *ProductClient) DeleteArchive(ctx context.Context, uuid string) error {
	return p.c.send(ctx, http.MethodDelete, nil, p.path("archives", uuid)...)
}

// Scripts lists the product's scripts by name, without their texts.
func (p *ProductClient) Scripts(ctx context.Context, query url.Values) ([]SupportScript, error) {
	return all[SupportScript](ctx, p.c, query, 0, p.path("scripts")...)
}

// Script returns one script by its name or id.
func (p *ProductClient) Script(ctx context.Context, script string) (SupportScript, error) {
	return one[SupportScript](ctx, p.c, http.MethodGet, nil, p.path("scripts", script)...)
}

// CreateScript keeps a script.
func (p *ProductClient) CreateScript(ctx context.Context, in SupportScriptChange) (SupportScript, error) {
	return one[SupportScript](ctx, p.c, http.MethodPost, in, p.path("scripts")...)
}

// ChangeScript changes a script.
func (p *ProductClient) ChangeScript(ctx context.Context, script string, in SupportScriptChange) (SupportScript, error) {
	return one[SupportScript](ctx, p.c, http.MethodPut, in, p.path("scripts", script)...)
}

// DeleteScript deletes a script.
func (p *ProductClient) DeleteScript(ctx context.Context, script string) error {
	return p.c.send(ctx, http.MethodDelete, nil, p.path("scripts", script)...)
}
