package control_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// account is the need of a method that wants a user in no org.
const account fleet.Role = "account"

// system is the need of a method for the platform alone.
const system fleet.Role = "system"

// call is a row of the table: how a method is called for the things of the
// org alpha, and what it does.
type call struct {
	need   fleet.Role
	do     func(h *house, ctx context.Context, s fleet.Scope) (any, error)
	rows   int  // audit rows it writes; 0: it only reads
	notes  bool // it writes what is no audit row's business
	perOrg bool // it takes nothing of alpha: in another org it does the same there
}

// pick is the first result and the error of a call.
func pick[T any](v T, err error) (any, error) { return v, err }

// pick3 is that of a call with a cursor.
func pick3[T any](v T, _ string, err error) (any, error) { return v, err }

func none(err error) (any, error) { return nil, err }

// calls is the table of the methods that take a scope. A method that is in
// neither this one nor unscoped fails the test.
func calls() map[string]call {
	const p, d, g, fw, spare = "alpha-sensor", "alpha-unit", "alpha-group", "alpha-fw-0", "alpha-spare"
	type ctx = context.Context
	type s = fleet.Scope
	return map[string]call{
		"Me":         {need: account, perOrg: true, do: func(h *house, c ctx, s s) (any, error) { return pick(h.Me(c, s)) }},
		"ListOrgs":   {need: account, perOrg: true, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ListOrgs(c, s)) }},
		"CreateOrg":  {need: account, perOrg: true, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.CreateOrg(c, s, "fresh")) }},
		"ListTokens": {need: account, perOrg: true, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ListTokens(c, s)) }},
		"CreateToken": {need: account, perOrg: true, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			_, t, err := h.CreateToken(c, s, "n", time.Time{})
			return t, err
		}},
		"RevokeToken": {need: account, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.RevokeToken(c, s, h.token.UUID)) }},
		"OrgScope":    {need: account, do: func(h *house, c ctx, s s) (any, error) { _, o, err := h.OrgScope(c, s, "alpha"); return o, err }},

		"ListMembers": {need: fleet.RoleAdmin, perOrg: true, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ListMembers(c, s)) }},
		"AddMember": {need: fleet.RoleAdmin, perOrg: true, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.AddMember(c, s, "loner@example.com", fleet.RoleView))
		}},
		"CreateUser": {need: fleet.RoleAdmin, perOrg: true, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.CreateUser(c, s, newUser())) }},
		"SetMemberRole": {need: fleet.RoleAdmin, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.SetMemberRole(c, s, "view@alpha.example", fleet.RoleManage))
		}},
		"RemoveMember": {need: fleet.RoleAdmin, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.RemoveMember(c, s, "view@alpha.example")) }},

		"ListProducts":  {need: fleet.RoleView, perOrg: true, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ListProducts(c, s)) }},
		"CreateProduct": {need: fleet.RoleManage, perOrg: true, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.CreateProduct(c, s, "fresh")) }},
		"Product":       {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.Product(c, s, p)) }},
		"UpdateProduct": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			yes := true
			return pick(h.UpdateProduct(c, s, p, fleet.ProductUpdate{RequireUniqueFirmwareVersion: &yes}))
		}},
		"DeleteProduct": {need: fleet.RoleAdmin, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.DeleteProduct(c, s, p)) }},

		"CreateSharedSecret":     {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.CreateSharedSecret(c, s, p, "n")) }},
		"ListSharedSecrets":      {need: fleet.RoleManage, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ListSharedSecrets(c, s, p)) }},
		"DeactivateSharedSecret": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.DeactivateSharedSecret(c, s, p, h.secret.UUID)) }},

		"CreateSigningKey": {need: fleet.RoleManage, perOrg: true, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.CreateSigningKey(c, s, "fresh", fwup.FormatPublicKey(bytes.Repeat([]byte{9}, 32))))
		}},
		"ListSigningKeys":  {need: fleet.RoleView, perOrg: true, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ListSigningKeys(c, s)) }},
		"SigningKey":       {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.SigningKey(c, s, "alpha-key")) }},
		"DeleteSigningKey": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.DeleteSigningKey(c, s, spare)) }},

		"RegisterCACertificate": {need: fleet.RoleManage, perOrg: true, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			ca, err := pki.CreateCA("fresh")
			if err != nil {
				return nil, err
			}
			return pick(h.RegisterCACertificate(c, s, control.RegisterCAInput{Certificate: ca.CertificatePEM(), Description: "d"}))
		}},
		"CreateCAVerification": {need: fleet.RoleView, perOrg: true, do: func(h *house, c ctx, s s) (any, error) {
			token, _, err := h.CreateCAVerification(c, s)
			return token, err
		}},
		"VerifyCACertificate": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			token, err := h.keyring.NewProofToken(h.a.org.ID, h.time().Add(time.Hour))
			if err != nil {
				return nil, err
			}
			return pick(h.VerifyCACertificate(c, s, h.ca.Certificate.SerialNumber.String(), proofOf(h.ca, token)))
		}},
		"UpdateCACertificate": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			profile := &fleet.JITP{Product: p}
			return pick(h.UpdateCACertificate(c, s, h.ca.Certificate.SerialNumber.String(), fleet.CACertificateUpdate{JITP: &profile}))
		}},
		"ListCACertificates": {need: fleet.RoleView, perOrg: true, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ListCACertificates(c, s)) }},
		"CACertificate": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.CACertificate(c, s, h.ca.Certificate.SerialNumber.String()))
		}},
		"DeleteCACertificate": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return none(h.DeleteCACertificate(c, s, h.ca.Certificate.SerialNumber.String()))
		}},

		"CreateDevice": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.CreateDevice(c, s, p, control.CreateDeviceInput{Identifier: "fresh"}))
		}},
		"Device":       {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.Device(c, s, p, d)) }},
		"ListDevices":  {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick3(h.ListDevices(c, s, p, fleet.DeviceFilter{})) }},
		"CountDevices": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.CountDevices(c, s, p, fleet.DeviceFilter{})) }},
		"UpdateDevice": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.UpdateDevice(c, s, p, d, fleet.DeviceUpdate{Tags: &[]string{"x"}}))
		}},
		"DeleteDevice":    {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.DeleteDevice(c, s, p, d)) }},
		"RebootDevice":    {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.RebootDevice(c, s, p, d)) }},
		"IdentifyDevice":  {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.IdentifyDevice(c, s, p, d)) }},
		"ReconnectDevice": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.ReconnectDevice(c, s, p, d)) }},
		"ApproveDevice": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.ApproveDevice(c, s, p, "alpha-pending"))
		}},
		"RejectDevice":     {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.RejectDevice(c, s, p, "alpha-pending")) }},
		"QuarantineDevice": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.QuarantineDevice(c, s, p, d, "r")) }},
		"AdmitDevice":      {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.AdmitDevice(c, s, p, d)) }},
		"ReportClone":      {need: system, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ReportClone(c, s, h.device.ID, nil)) }},
		"DeviceDoctor":     {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.DeviceDoctor(c, s, p, d)) }},
		"ListRefusals":     {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick3(h.ListRefusals(c, s, p, fleet.Page{})) }},
		"Notify": {need: system, notes: true, do: func(h *house, c ctx, s s) (any, error) {
			return none(h.Notify(c, s, fleet.Notification{OrgID: h.a.org.ID, Kind: fleet.NotifyQuota, Title: "t"}))
		}},
		"ListNotifications":  {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick3(h.ListNotifications(c, s, p, fleet.Page{})) }},
		"CountNotifications": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.CountNotifications(c, s, p)) }},
		"DismissNotifications": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.DismissNotifications(c, s, p, nil))
		}},
		"DeviceHealth": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.DeviceHealth(c, s, p, d)) }},
		"DeviceMetrics": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.DeviceMetrics(c, s, p, d, fleet.MetricFilter{}))
		}},
		"ListAlarms": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick3(h.ListAlarms(c, s, p, d, fleet.AlarmFilter{})) }},
		"ListDeviceLogs": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) {
			return pick3(h.ListDeviceLogs(c, s, p, d, fleet.LogFilter{}))
		}},
		"ListConnections": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) {
			return pick3(h.ListConnections(c, s, p, d, fleet.Page{}))
		}},
		"DeviceLocation":        {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.DeviceLocation(c, s, p, d)) }},
		"ListNetworkIdentities": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ListNetworkIdentities(c, s, p, d)) }},
		"RecordNetworkIdentity": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.RecordNetworkIdentity(c, s, p, d, fleet.NetworkIdentity{Service: "netbird", Identifier: "alpha-netbird"}))
		}},
		"RemoveNetworkIdentity": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return none(h.RemoveNetworkIdentity(c, s, p, d, h.identity))
		}},
		"SetHealthThresholds": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.SetHealthThresholds(c, s, p, []fleet.HealthThreshold{{Metric: "cpu_temp", Warning: 1, Unhealthy: 2}}))
		}},
		"ClearPenalty":  {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ClearPenalty(c, s, p, d)) }},
		"RequestHealth": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return none(h.RequestHealth(c, s, p, d)) }},
		"RunScript": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return answered(h, func() (fleet.ScriptResult, error) { return h.RunScript(c, s, p, d, "1+1", 0) })
		}},
		"OpenTerminal": {need: fleet.RoleManage, rows: 2, do: func(h *house, c ctx, s s) (any, error) {
			terminal, err := h.OpenTerminal(c, s, p, d, fleet.TerminalConsole)
			if err != nil {
				return nil, err
			}
			return nil, terminal.Close()
		}},
		"AddDeviceCertificate": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			pair, err := pki.IssueDeviceCertificate(h.ca, d)
			if err != nil {
				return nil, err
			}
			return pick(h.AddDeviceCertificate(c, s, p, d, pair.CertificatePEM()))
		}},
		"ListDeviceCertificates":  {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ListDeviceCertificates(c, s, p, d)) }},
		"DeleteDeviceCertificate": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.DeleteDeviceCertificate(c, s, p, d, h.serial)) }},
		"PushFirmware":            {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.PushFirmware(c, s, p, d, fw)) }},
		"ListUpdateAttempts": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) {
			return pick3(h.ListUpdateAttempts(c, s, p, fleet.UpdateAttemptFilter{}))
		}},

		"ListFirmware":   {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick3(h.ListFirmware(c, s, p, fleet.FirmwareFilter{})) }},
		"Firmware":       {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.Firmware(c, s, p, fw)) }},
		"FirmwareURL":    {need: fleet.RoleManage, do: func(h *house, c ctx, s s) (any, error) { return pick(h.FirmwareURL(c, s, p, fw)) }},
		"DeleteFirmware": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.DeleteFirmware(c, s, p, fw)) }},
		"PublishFirmware": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.PublishFirmware(c, s, p, bytes.NewReader(h.archive)))
		}},
		"FirmwareToProcess":   {need: system, do: func(h *house, c ctx, s s) (any, error) { return pick(h.FirmwareToProcess(c, s, h.firmware[2].ID)) }},
		"FirmwareUnprocessed": {need: system, do: func(h *house, c ctx, s s) (any, error) { return pick(h.FirmwareUnprocessed(c, s, time.Now(), 0, 10)) }},
		"FirmwareProcessed": {need: system, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return none(h.FirmwareProcessed(c, s, h.firmware[2].ID, []string{"x"}))
		}},

		"ListArchives": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick3(h.ListArchives(c, s, p, fleet.Page{})) }},
		"Archive":      {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.Archive(c, s, p, "alpha-archive")) }},
		"ArchiveURL":   {need: fleet.RoleManage, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ArchiveURL(c, s, p, "alpha-archive")) }},
		"PublishArchive": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.PublishArchive(c, s, p, bytes.NewReader(h.archive)))
		}},
		"DeleteArchive": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.DeleteArchive(c, s, p, "alpha-archive")) }},

		"CreateScript": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.CreateScript(c, s, p, "fresh", "1+1", nil))
		}},
		"ListScripts": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick3(h.ListScripts(c, s, p, fleet.ScriptFilter{})) }},
		"Script":      {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.Script(c, s, p, "alpha-script")) }},
		"UpdateScript": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			text := "2+2"
			return pick(h.UpdateScript(c, s, p, "alpha-script", fleet.ScriptUpdate{Text: &text}))
		}},
		"DeleteScript": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.DeleteScript(c, s, p, "alpha-script")) }},
		"RunSupportScript": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return answered(h, func() (fleet.ScriptResult, error) { return h.RunSupportScript(c, s, p, d, "alpha-script", 0) })
		}},

		"CreateDeploymentGroup": {need: fleet.RoleManage, rows: 2, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.CreateDeploymentGroup(c, s, p, control.CreateDeploymentGroupInput{Name: "fresh", FirmwareUUID: fw}))
		}},
		"DeploymentGroup": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.DeploymentGroup(c, s, p, g)) }},
		"ListDeploymentGroups": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) {
			return pick3(h.ListDeploymentGroups(c, s, p, fleet.DeploymentGroupFilter{}))
		}},
		"UpdateDeploymentGroup": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			n := 5
			return pick(h.UpdateDeploymentGroup(c, s, p, g, 0, fleet.DeploymentGroupUpdate{ConcurrentUpdates: &n}))
		}},
		"PauseDeploymentGroup":  {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.PauseDeploymentGroup(c, s, p, g)) }},
		"ResumeDeploymentGroup": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return pick(h.ResumeDeploymentGroup(c, s, p, g)) }},
		"DeleteDeploymentGroup": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) { return none(h.DeleteDeploymentGroup(c, s, p, g)) }},
		"GroupCounts":           {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick(h.GroupCounts(c, s, p, g)) }},
		"CreateRelease": {need: fleet.RoleManage, rows: 1, do: func(h *house, c ctx, s s) (any, error) {
			return pick(h.CreateRelease(c, s, p, g, control.CreateReleaseInput{FirmwareUUID: fw}))
		}},
		"ListReleases":    {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick3(h.ListReleases(c, s, p, g, fleet.Page{})) }},
		"ListAuditEvents": {need: fleet.RoleView, do: func(h *house, c ctx, s s) (any, error) { return pick3(h.ListAuditEvents(c, s, p, fleet.AuditFilter{})) }},
	}
}

func newUser() control.CreateUserInput {
	return control.CreateUserInput{Email: "fresh@example.com", Password: "a long enough password", Role: fleet.RoleView}
}

// unscoped are the methods that take no scope, and why that is right.
var unscoped = map[string]string{
	"SetJobs":                 "wiring at start-up",
	"SetupToken":              "start-up asks it, and gets nothing once there is a user",
	"CompleteSetup":           "the set-up token is the right; there is no user yet",
	"EnsureAdmin":             "start-up, and nothing once there is a user",
	"SignIn":                  "makes the credentials scopes come from",
	"SignOut":                 "the token is the right",
	"Authenticate":            "makes scopes",
	"DeviceBySharedSecret":    "authenticates devices",
	"DeviceByCertificate":     "authenticates devices",
	"WriteDeviceNotes":        "the gateway calls it; what it writes was noted by the authentication of devices",
	"FirmwarePublicKeys":      "the gateway asks it for an authenticated device; the keys are public",
	"UpdatePayload":           "the rollout and PushFirmware make messages with it; the org is an argument",
	"ProductExtensions":       "the gateway asks it for an authenticated device; the org is an argument",
	"GroupConnectingCode":     "the gateway asks it for an authenticated device; the org is an argument",
	"ForgetProductExtensions": "only makes the next question go to the database",
	"ArchiveFor":              "the gateway asks it for an authenticated device; the org is an argument",
	"ForgetArchive":           "only makes the next question go to the database",

	"UpdateOffer": "the rollout answers polls with it, and UpdatePayload is made of it; the org is an argument",
}

// TestEveryMethodIsInATable compares the tables with the methods there are.
func TestEveryMethodIsInATable(t *testing.T) {
	t.Parallel()
	table := calls()
	scope := reflect.TypeFor[fleet.Scope]()
	typ := reflect.TypeFor[*control.Control]()
	for i := range typ.NumMethod() {
		m := typ.Method(i)
		takes := false
		for j := 1; j < m.Type.NumIn(); j++ {
			takes = takes || m.Type.In(j) == scope
		}
		_, listed := table[m.Name]
		_, excused := unscoped[m.Name]
		switch {
		case takes && !listed:
			t.Errorf("%s takes a scope but is missing in calls: say which role it needs", m.Name)
		case !takes && !excused:
			t.Errorf("%s takes no scope: give it one, or say in unscoped why not", m.Name)
		}
		delete(table, m.Name)
	}
	for name := range table {
		t.Errorf("there is no method %s any more", name)
	}
}

// TestAuthorization calls every method with every sort of scope.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	for name, c := range calls() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			if name == "PublishFirmware" || name == "PublishArchive" {
				h.archive = archive(t, "alpha-sensor", "9.0.0", h.key)
			}
			c.refuses(t, h, "nobody", fleet.Scope{}, fleet.Unauthorized)
			switch c.need {
			case account:
				c.others(t, h)
			case system:
				for role := range h.a.users {
					c.refuses(t, h, string(role), h.a.as(role), fleet.Forbidden)
				}
			default:
				c.refuses(t, h, "a user in no org", fleet.UserScope(h.a.users[fleet.RoleAdmin]), fleet.NotFound)
				c.others(t, h)
				for _, role := range []fleet.Role{fleet.RoleView, fleet.RoleManage} {
					if !role.Allows(c.need) {
						c.refuses(t, h, string(role), h.a.as(role), fleet.Forbidden)
					}
				}
			}
			c.works(t, h)
		})
	}
}

// refuses expects the kind of error, and that nothing changed.
func (c call) refuses(t *testing.T, h *house, who string, s fleet.Scope, kind fleet.Kind) {
	t.Helper()
	before := storetest.Contents(t, h.db)
	_, err := c.do(h, t.Context(), s)
	wantKind(t, who, err, kind)
	if after := storetest.Contents(t, h.db); after != before {
		t.Errorf("%s changed the data", who)
	}
}

// others calls as the admin of another org: what is alpha's does not exist
// there. A method about the caller's own org works in it, shows nothing of
// alpha and leaves alpha alone.
func (c call) others(t *testing.T, h *house) {
	t.Helper()
	if !c.perOrg {
		c.refuses(t, h, "the admin of another org", h.b.as(fleet.RoleAdmin), fleet.NotFound)
		return
	}
	other := newHouse(t)
	before := alphas(t, other)
	got, err := c.do(other, t.Context(), other.b.as(fleet.RoleAdmin))
	if err != nil {
		t.Errorf("the admin of another org: %v", err)
	}
	if text := fmt.Sprintf("%+v", got); strings.Contains(text, "alpha") {
		t.Errorf("the admin of another org sees %s", text)
	}
	if after := alphas(t, other); after != before {
		t.Errorf("the admin of another org changed alpha's data:\n%s\nwas\n%s", after, before)
	}
}

// alphas are the rows that tell of alpha, and how many its lists have.
func alphas(t *testing.T, h *house) string {
	t.Helper()
	var kept []string
	for _, line := range strings.Split(storetest.Contents(t, h.db), "\n") {
		if strings.Contains(line, "alpha") {
			kept = append(kept, line)
		}
	}
	members, err := h.ListMembers(t.Context(), h.a.as(fleet.RoleAdmin))
	if err != nil {
		t.Fatal(err)
	}
	products, err := h.ListProducts(t.Context(), h.a.as(fleet.RoleAdmin))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s\n%d members, %d products", strings.Join(kept, "\n"), len(members), len(products))
}

// works calls with exactly what is needed. A change must fail as a whole when
// its audit row can not be written; else it writes the rows it says, and tells
// of each after the commit. What only reads changes nothing.
func (c call) works(t *testing.T, h *house) {
	t.Helper()
	s := h.a.as(c.need)
	switch c.need {
	case account:
		s = fleet.UserScope(h.a.users[fleet.RoleAdmin])
	case system:
		s = platform
	}
	before := storetest.Contents(t, h.db)
	if c.rows > 0 {
		c.failsWhole(t, h, s, before)
	}
	heard := make(chan fleet.Change, 100)
	stop, err := h.bus.OnChange(0, func(change fleet.Change) { heard <- change })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	last := h.lastEvent(t)
	if _, err := c.do(h, t.Context(), s); err != nil {
		t.Fatalf("with the role %s: %v", c.need, err)
	}
	events := h.eventsAfter(t, last)
	if len(events) != c.rows {
		t.Errorf("%d audit rows, want %d: %+v", len(events), c.rows, events)
	}
	after := storetest.Contents(t, h.db)
	if c.rows == 0 && !c.notes && after != before {
		t.Errorf("reading changed the data:\n%s\nwas\n%s", after, before)
	}
	if c.rows > 0 && after == before {
		t.Error("nothing changed")
	}
	for _, e := range events {
		if e.Actor != s.Actor || e.Summary == "" || e.Noun == "" || !strings.HasPrefix(e.Action, e.Noun+".") {
			t.Errorf("audit row: %+v", e)
		}
	}
	// What is told comes in order, so that the end marks that there is no more.
	if err := h.bus.PublishChange(fleet.Change{OrgID: h.a.org.ID, Noun: "end"}); err != nil {
		t.Fatal(err)
	}
	told := map[int64]bool{}
	for end := false; !end; {
		select {
		case change := <-heard:
			if end = change.Noun == "end"; !end && (change.Seq != 0 || change.Noun != "notification") { // those have no audit rows
				told[change.Seq] = true
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the bus is silent")
		}
	}
	if len(told) != len(events) {
		t.Errorf("told of %v, want one for each of %+v", told, events)
	}
	for _, e := range events {
		if !told[e.ID] {
			t.Errorf("nobody was told of %+v", e)
		}
	}
}

// failsWhole makes audit rows impossible: the change must not happen either,
// and nobody may hear of it.
func (c call) failsWhole(t *testing.T, h *house, s fleet.Scope, before string) {
	t.Helper()
	_, writer := h.db.SQL()
	run := func(statement string) {
		t.Helper()
		if _, err := writer.ExecContext(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
	files := h.files(t)
	run("CREATE TRIGGER no_audit BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'no audit'); END")
	if _, err := c.do(h, t.Context(), s); err == nil {
		t.Error("it works without an audit row")
	}
	run("DROP TRIGGER no_audit")
	if after := storetest.Contents(t, h.db); after != before {
		t.Errorf("without an audit row the change remains:\n%s\nwas\n%s", after, before)
	}
	if now := h.files(t); !reflect.DeepEqual(now, files) {
		t.Errorf("without an audit row files remain: %v", now)
	}
}
