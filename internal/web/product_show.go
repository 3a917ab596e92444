package web

import (
	"net/url"
	"slices"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// overview is what a product's first page shows.
type overview struct {
	product       fleet.Product
	groups        []fleet.DeploymentGroup
	counts        map[int64]fleet.GroupCounts
	firmware      []fleet.Firmware
	recent        []fleet.UpdateAttempt
	updating      int
	keys, secrets int
}

// firstSteps reports whether the way to the first update is still to go.
func (o overview) firstSteps() bool {
	return o.keys == 0 || len(o.firmware) == 0 || o.product.Devices == 0 || len(o.groups) == 0
}

// overviewGroups is the most groups the first page counts.
const overviewGroups = 10

func (s *site) productShow(r *request) (view, error) {
	o, err := s.overview(r)
	return view{title: r.product(), tab: "Overview", crumbs: here(r), parts: []part{{id: "overview", body: productPage(r, o), live: true}}}, err
}

func (s *site) overview(r *request) (o overview, err error) {
	if o.product, err = s.productWithCounts(r); err != nil {
		return o, err
	}
	if o.groups, _, err = s.control.ListDeploymentGroups(r.ctx, r.scope, r.product(), fleet.DeploymentGroupFilter{Page: fleet.Page{Limit: overviewGroups}}); err != nil {
		return o, err
	}
	if o.counts, err = s.groupCounts(r, o.groups); err != nil {
		return o, err
	}
	for _, c := range o.counts {
		o.updating += c.Updating
	}
	if o.firmware, _, err = s.control.ListFirmware(r.ctx, r.scope, r.product(), fleet.FirmwareFilter{}); err != nil {
		return o, err
	}
	if o.recent, _, err = s.control.ListUpdateAttempts(r.ctx, r.scope, r.product(), fleet.UpdateAttemptFilter{Page: fleet.Page{Limit: 10}}); err != nil {
		return o, err
	}
	keys, err := s.control.ListSigningKeys(r.ctx, r.scope)
	if err != nil {
		return o, err
	}
	o.keys = len(keys)
	if r.scope.Role.Allows(fleet.RoleManage) {
		secrets, err := s.control.ListSharedSecrets(r.ctx, r.scope, r.product())
		if err != nil {
			return o, err
		}
		o.secrets = len(secrets)
	}
	return o, nil
}

// productWithCounts is the product with the numbers only lists carry.
func (s *site) productWithCounts(r *request) (fleet.Product, error) {
	products, err := s.control.ListProducts(r.ctx, r.scope)
	if err != nil {
		return fleet.Product{}, err
	}
	for _, p := range products {
		if p.Name == r.product() {
			return p, nil
		}
	}
	return fleet.Product{}, fleet.Missing("product")
}

func (s *site) groupCounts(r *request, groups []fleet.DeploymentGroup) (map[int64]fleet.GroupCounts, error) {
	counts := map[int64]fleet.GroupCounts{}
	for _, g := range groups {
		c, err := s.control.GroupCounts(r.ctx, r.scope, r.product(), g.Name)
		if err != nil {
			return nil, err
		}
		counts[g.ID] = c
	}
	return counts, nil
}

// explained reports whether any of the attempts has a reason to show.
func explained(attempts []fleet.UpdateAttempt) bool {
	return slices.ContainsFunc(attempts, func(a fleet.UpdateAttempt) bool { return a.Reason != "" })
}

func tookText(a fleet.UpdateAttempt) string {
	if a.FinishedAt.IsZero() {
		return ""
	}
	return a.FinishedAt.Sub(a.OfferedAt).Round(100 * time.Millisecond).String()
}

func pathEscape(s string) string { return url.PathEscape(s) }
