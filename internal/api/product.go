package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type (
	productAnswer = answer[rest.Data[rest.Product]]
	changeProduct struct {
		InProduct
		Body body[rest.ProductChange]
	}
)

func (s *server) productRoutes() {
	const tag, path = "Products", orgPath + "/products"
	register(s, route{method: http.MethodGet, path: path, id: "list-products", tag: tag, summary: "The products of the org, with their counts"},
		func(c *call, _ *InOrg) (*answer[rest.List[rest.Product]], error) {
			list, err := s.control.ListProducts(c.ctx, c.scope)
			return many(list, "", err, productOf)
		})
	register(s, route{method: http.MethodPost, path: path, id: "create-product", tag: tag, status: http.StatusCreated, summary: "Add a product; its name is fixed"},
		func(c *call, in *struct {
			InOrg
			Body body[rest.Named]
		}) (*productAnswer, error) {
			p, err := s.control.CreateProduct(c.ctx, c.scope, in.Body.value.Name)
			return one(p, err, productOf)
		})
	register(s, route{method: http.MethodGet, path: productPath, id: "get-product", tag: tag, summary: "One product"},
		func(c *call, in *InProduct) (*productAnswer, error) {
			p, err := s.control.Product(c.ctx, c.scope, in.Product)
			return one(p, err, productOf)
		})
	change := route{method: http.MethodPut, path: productPath, id: "update-product", tag: tag, summary: "Change the settings of a product"}
	register(s, change, s.updateProduct)
	change.method, change.id = http.MethodPatch, "patch-product"
	register(s, change, s.updateProduct)
	register(s, route{method: http.MethodDelete, path: productPath, id: "delete-product", tag: tag, summary: "Remove a product"},
		func(c *call, in *InProduct) (*none, error) {
			return nil, s.control.DeleteProduct(c.ctx, c.scope, in.Product)
		})
}

func (s *server) updateProduct(c *call, in *changeProduct) (*productAnswer, error) {
	var refused []string
	for field := range in.Body.given {
		switch field {
		case "require_unique_firmware_version", "extensions", "quarantine_clones", "approve_devices":
		default:
			refused = append(refused, `"`+field+`"`)
		}
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		return nil, fleet.Errorf(fleet.Invalid, "These fields cannot be set on a product: %s. A product cannot be renamed; its name identifies it in every URL.",
			strings.Join(refused, ", "))
	}
	extensions, err := extensionSet("extensions", in.Body.value.Extensions)
	if err != nil {
		return nil, err
	}
	p, err := s.control.UpdateProduct(c.ctx, c.scope, in.Product, fleet.ProductUpdate{
		RequireUniqueFirmwareVersion: in.Body.value.RequireUniqueFirmwareVersion,
		QuarantineClones:             in.Body.value.QuarantineClones,
		ApproveDevices:               in.Body.value.ApproveDevices,
		Extensions:                   extensions,
	})
	return one(p, err, productOf)
}

// extensionSet reads names of extensions, where there are any.
func extensionSet(field string, names *[]string) (*fleet.ExtensionSet, error) {
	if names == nil {
		return nil, nil
	}
	set, err := fleet.ParseExtensions(field, *names)
	return &set, err
}

func productOf(p fleet.Product) rest.Product {
	return rest.Product{
		Name: p.Name, RequireUniqueFirmwareVersion: p.RequireUniqueFirmwareVersion, AllowedUpdateTools: []string{updateTool}, Extensions: p.Extensions.Names(),
		QuarantineClones: p.QuarantineClones, ApproveDevices: p.ApproveDevices, DeviceCount: p.Devices, ConnectedCount: p.Connected,
	}
}
