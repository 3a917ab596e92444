package api

import (
	"net/http"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type (
	deviceAnswer = answer[rest.Data[rest.Device]]
	OneDevice    struct {
		InProduct
		Identifier string `path:"identifier"`
	}
)

const devicesPath = productPath + "/devices"

func (s *server) deviceRoutes() {
	const tag, path = "Devices", devicesPath
	register(s, route{
		method: http.MethodGet, path: path, id: "list-devices", tag: tag,
		summary: "The devices of a product, by identifier: a page by cursor, or by number",
	}, s.listDevices)
	register(s, route{method: http.MethodPost, path: path, id: "create-device", tag: tag, status: http.StatusCreated, summary: "Make a device known before it connects"},
		func(c *call, in *struct {
			InProduct
			Body body[rest.NewDevice]
		}) (*deviceAnswer, error) {
			b := in.Body.value
			d, err := s.control.CreateDevice(c.ctx, c.scope, in.Product, control.CreateDeviceInput{Identifier: b.Identifier, Description: b.Description, Tags: b.Tags})
			return one(d, err, s.deviceOf(c, in.Product))
		})
	register(s, route{method: http.MethodGet, path: path + "/{identifier}", id: "get-device", tag: tag, summary: "One device, with its open attempt"},
		func(c *call, in *OneDevice) (*deviceAnswer, error) {
			d, err := s.control.Device(c.ctx, c.scope, in.Product, in.Identifier)
			return one(d, err, s.deviceOf(c, in.Product))
		})
	register(s, route{
		method: http.MethodPut, path: path + "/{identifier}", id: "update-device", tag: tag, status: http.StatusCreated,
		summary: "Change a device; absent fields stay",
	}, func(c *call, in *struct {
		OneDevice
		Body body[rest.DeviceChange]
	}) (*deviceAnswer, error) {
		b := in.Body.value
		u := fleet.DeviceUpdate{Description: b.Description, UpdatesEnabled: b.UpdatesEnabled, ConnectingCode: b.ConnectingCode}
		var err error
		if u.ExtensionsOff, err = extensionSet("extensions_off", b.ExtensionsOff); err != nil {
			return nil, err
		}
		if b.Tags != nil {
			tags := []string(*b.Tags)
			u.Tags = &tags
		}
		d, err := s.control.UpdateDevice(c.ctx, c.scope, in.Product, in.Identifier, u)
		return one(d, err, s.deviceOf(c, in.Product))
	})
	register(s, route{method: http.MethodDelete, path: path + "/{identifier}", id: "delete-device", tag: tag, summary: "Remove a device and close its connection"},
		func(c *call, in *OneDevice) (*none, error) {
			return nil, s.control.DeleteDevice(c.ctx, c.scope, in.Product, in.Identifier)
		})
}

func (s *server) deviceCommandRoutes() {
	const tag, path = "Devices", devicesPath + "/{identifier}"
	for _, command := range []struct {
		name, summary string
		run           func(*call, *OneDevice) error
	}{
		{"reboot", "Ask a connected device to restart", func(c *call, in *OneDevice) error {
			return s.control.RebootDevice(c.ctx, c.scope, in.Product, in.Identifier)
		}},
		{"reconnect", "Close the connection of a device, which then comes back", func(c *call, in *OneDevice) error {
			return s.control.ReconnectDevice(c.ctx, c.scope, in.Product, in.Identifier)
		}},
		{"approve", "Let a device in that waits for approval", func(c *call, in *OneDevice) error {
			_, err := s.control.ApproveDevice(c.ctx, c.scope, in.Product, in.Identifier)
			return err
		}},
		{"reject", "Remove a device that waits for approval, and refuse it from then on", func(c *call, in *OneDevice) error {
			return s.control.RejectDevice(c.ctx, c.scope, in.Product, in.Identifier)
		}},
		{"admit", "Let a device in, whether it waits for approval or is quarantined", func(c *call, in *OneDevice) error {
			_, err := s.control.AdmitDevice(c.ctx, c.scope, in.Product, in.Identifier)
			return err
		}},
		{"identify", "Ask a connected device to show itself", func(c *call, in *OneDevice) error {
			return s.control.IdentifyDevice(c.ctx, c.scope, in.Product, in.Identifier)
		}},
	} {
		register(s, route{method: http.MethodPost, path: path + "/" + command.name, id: command.name + "-device", tag: tag, summary: command.summary},
			func(c *call, in *OneDevice) (*none, error) { return nil, command.run(c, in) })
	}
	register(s, route{method: http.MethodPost, path: path + "/upgrade", id: "upgrade-device", tag: tag, summary: "Push a firmware to a connected device, outside any group"},
		func(c *call, in *struct {
			OneDevice
			Body body[rest.Upgrade]
		}) (*none, error) {
			if !in.Body.has("uuid") {
				return nil, newFailure(http.StatusBadRequest, fleet.Invalid, "", "Invalid request")
			}
			_, err := s.control.PushFirmware(c.ctx, c.scope, in.Product, in.Identifier, in.Body.value.UUID)
			return nil, err
		})
	register(s, route{method: http.MethodPost, path: path + "/run-script", id: "run-script", tag: tag, summary: "Have a connected device run a script, and wait for the result"},
		func(c *call, in *struct {
			OneDevice
			Body body[rest.Script]
		}) (*answer[rest.Data[rest.ScriptResult]], error) {
			b := in.Body.value
			timeout := *seconds(&b.Timeout)
			var r fleet.ScriptResult
			var err error
			switch {
			case b.Script != "" && b.Text != "":
				err = fleet.InvalidField("script", "say either script or text")
			case b.Script != "":
				r, err = s.control.RunSupportScript(c.ctx, c.scope, in.Product, in.Identifier, b.Script, timeout)
			default:
				r, err = s.control.RunScript(c.ctx, c.scope, in.Product, in.Identifier, b.Text, timeout)
			}
			return one(r, err, func(r fleet.ScriptResult) rest.ScriptResult {
				return rest.ScriptResult{Output: r.Output, Return: r.Return, Result: r.Result, Reason: r.Reason}
			})
		})
	register(s, route{method: http.MethodDelete, path: path + "/penalty", id: "clear-penalty", tag: tag, summary: "Take a device out of the penalty box"},
		func(c *call, in *OneDevice) (*none, error) {
			_, err := s.control.ClearPenalty(c.ctx, c.scope, in.Product, in.Identifier)
			return nil, err
		})
}

// lastCommunication is the layout of that field, which has no T.
const lastCommunication = "2006-01-02 15:04:05.000000Z"

// deviceOf returns what makes answers of devices of a product.
func (s *server) deviceOf(c *call, product string) func(fleet.Device) rest.Device {
	return func(d fleet.Device) rest.Device {
		online := d.Connection.Status
		if online == "" {
			online = fleet.NotSeen
		}
		shape := rest.Device{
			UUID: d.UUID, Identifier: d.Identifier, Description: d.Description, Tags: append([]string{}, d.Tags...),
			Online: string(online), ConnectionStatus: string(online), Status: "offline", Version: "unknown",
			FirmwareValidation: string(d.Validation), AutoRevertDetected: d.AutoReverted, UpdatesEnabled: d.UpdatesEnabled,
			UpdatesBlockedUntil: timeOrNull(d.BlockedUntil.Truncate(time.Second)), OrgName: c.org.Name, ProductName: product,
			LastCommunication: "never", Failures: d.Failures, Address: d.Connection.Address, DisconnectedReason: d.Connection.Reason,
			ConnectionEstablised: timeOrNull(d.Connection.EstablishedAt), FirstSeenAt: timeOrNull(d.FirstSeenAt),
			ExtensionsOff: d.ExtensionsOff.Names(), ConnectingCode: d.ConnectingCode, Admission: string(d.Admission), AdmissionReason: d.AdmissionReason,
		}
		if online == fleet.Connected {
			shape.Status = "online"
		}
		if t := d.Connection.LastSeenAt; !t.IsZero() {
			shape.LastCommunication = t.UTC().Format(lastCommunication)
		}
		if m := d.Firmware; m != nil {
			shape.Version = m.Version
			shape.FirmwareMetadata = &rest.FirmwareMetadata{
				UUID: m.UUID, Product: m.Product, Version: m.Version, Architecture: m.Architecture, Platform: m.Platform,
				Author: textOrNull(m.Author), Description: textOrNull(m.Description), FwupVersion: textOrNull(d.FwupVersion),
				VCSIdentifier: textOrNull(m.VCSIdentifier), Misc: textOrNull(m.Misc),
			}
		}
		if d.GroupName != "" {
			shape.DeploymentGroup = &rest.GroupName{Name: d.GroupName}
		}
		if d.Attempt != nil {
			a := attemptOf(*d.Attempt)
			shape.Attempt = &a
		}
		return shape
	}
}
