package api

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// admissionRoutes say who may connect and why somebody did not.
func (s *server) admissionRoutes() {
	const tag, path = "Devices", devicesPath + "/{identifier}"
	register(s, route{method: http.MethodPost, path: path + "/quarantine", id: "quarantine-device", tag: tag, summary: "Lock a device out and close its connection"},
		func(c *call, in *struct {
			OneDevice
			Body body[rest.Reason]
		}) (*none, error) {
			_, err := s.control.QuarantineDevice(c.ctx, c.scope, in.Product, in.Identifier, in.Body.value.Reason)
			return nil, err
		})
	register(s, route{
		method: http.MethodGet, path: path + "/doctor", id: "diagnose-device", tag: tag,
		summary: "What the server knows about why a device does or does not work",
	}, func(c *call, in *OneDevice) (*answer[rest.Data[rest.Diagnosis]], error) {
		x, err := s.control.DeviceDoctor(c.ctx, c.scope, in.Product, in.Identifier)
		return one(x, err, diagnosisOf)
	})
	register(s, route{
		method: http.MethodGet, path: productPath + "/refusals", id: "list-refusals", tag: tag,
		summary: "Which devices were refused and why, newest first",
	}, func(c *call, in *struct {
		InProduct
		Paging
	}) (*answer[rest.List[rest.Refusal]], error) {
		list, next, err := s.control.ListRefusals(c.ctx, c.scope, in.Product, in.page())
		return many(list, next, err, refusalOf)
	})
}

func refusalOf(r fleet.Refusal) rest.Refusal {
	return rest.Refusal{
		Identifier: r.Identifier, Known: r.DeviceID != 0, Code: string(r.Code), Message: r.Message, Address: r.Address, Count: r.Count,
		CreatedAt: r.CreatedAt, LastAt: r.LastAt,
	}
}

func diagnosisOf(x fleet.DeviceDiagnosis) rest.Diagnosis {
	shape := rest.Diagnosis{
		Identifier: x.Identifier, Known: x.Device != nil, Checks: []rest.Check{}, Refusals: []rest.Refusal{}, Certificates: []rest.DeviceCertificate{},
	}
	for _, c := range x.Checks {
		shape.Checks = append(shape.Checks, rest.Check{Name: c.Name, Level: string(c.Level), Message: c.Message})
	}
	for _, r := range x.Refusals {
		shape.Refusals = append(shape.Refusals, refusalOf(r))
	}
	for _, c := range x.Certificates {
		shape.Certificates = append(shape.Certificates, certificateOf(c))
	}
	return shape
}
