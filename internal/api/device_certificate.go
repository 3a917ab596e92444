package api

import (
	"net/http"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type (
	certificateAnswer = answer[rest.Data[rest.DeviceCertificate]]
	oneCertificate    struct {
		OneDevice
		Serial string `path:"serial" doc:"Decimal."`
	}
)

func (s *server) deviceCertificateRoutes() {
	const tag, path = "Device certificates", devicesPath + "/{identifier}/certificates"
	register(s, route{method: http.MethodGet, path: path, id: "list-device-certificates", tag: tag, summary: "The certificates of a device"},
		func(c *call, in *OneDevice) (*answer[rest.List[rest.DeviceCertificate]], error) {
			list, err := s.control.ListDeviceCertificates(c.ctx, c.scope, in.Product, in.Identifier)
			return many(list, "", err, certificateOf)
		})
	register(s, route{
		method: http.MethodPost, path: path, id: "create-device-certificate", tag: tag, status: http.StatusCreated,
		summary: "Let a device sign in with a certificate",
	}, func(c *call, in *struct {
		OneDevice
		Body body[rest.NewDeviceCertificate]
	}) (*certificateAnswer, error) {
		pem, err := decodePEM("cert", in.Body.value.Cert)
		if err != nil {
			return nil, err
		}
		cert, err := s.control.AddDeviceCertificate(c.ctx, c.scope, in.Product, in.Identifier, pem)
		return one(cert, err, certificateOf)
	})
	register(s, route{method: http.MethodGet, path: path + "/{serial}", id: "get-device-certificate", tag: tag, summary: "One certificate of a device"},
		func(c *call, in *oneCertificate) (*certificateAnswer, error) {
			list, err := s.control.ListDeviceCertificates(c.ctx, c.scope, in.Product, in.Identifier)
			if err != nil {
				return nil, err
			}
			for _, cert := range list {
				if cert.Serial == in.Serial {
					return one(cert, nil, certificateOf)
				}
			}
			return nil, fleet.Missing("certificate")
		})
	register(s, route{
		method: http.MethodDelete, path: path + "/{serial}", id: "delete-device-certificate", tag: tag,
		summary: "Take a certificate from a device and close its connection",
	}, func(c *call, in *oneCertificate) (*none, error) {
		return nil, s.control.DeleteDeviceCertificate(c.ctx, c.scope, in.Product, in.Identifier, in.Serial)
	})
}

func certificateOf(cert fleet.DeviceCertificate) rest.DeviceCertificate {
	return rest.DeviceCertificate{Serial: cert.Serial, NotBefore: cert.NotBefore.Truncate(time.Second), NotAfter: cert.NotAfter.Truncate(time.Second)}
}
