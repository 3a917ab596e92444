package cli

import (
	"context"
	"net/url"
	"slices"
	"sort"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// subject is what a failed call was about.
type subject struct {
	c       *rest.Client
	org     string
	product string
	noun    string // "device", "firmware", "deployment group", …
	name    string
	others  func() ([]string, error) // names there are instead
	list    string                   // the command that lists them
	create  string                   // the command that makes one, told when there is none
}

// explain finds out which part of the subject does not exist and says what
// does. Any other error it returns as it is.
func (inv *invocation) explain(ctx context.Context, err error, s subject) error {
	if fleet.KindOf(err) != fleet.NotFound || ctx.Err() != nil || s.c == nil {
		return err
	}
	if orgs, e := s.c.Orgs(ctx); e == nil && s.org != "" {
		if known := names(orgs, func(o rest.Org) string { return o.Name }); !slices.Contains(known, s.org) {
			return absent("org", s.org, known, "ganglion org list")
		}
	}
	if s.product != "" {
		if products, e := s.c.Products(ctx, s.org); e == nil {
			if known := names(products, func(p rest.Product) string { return p.Name }); !slices.Contains(known, s.product) {
				return absent("product", s.product, known, "ganglion product list")
			}
		}
	}
	if s.noun == "" {
		return err
	}
	var known []string
	if s.others != nil {
		list, e := s.others() // without a list there is no suggestion
		if e == nil && len(list) == 0 && s.create != "" {
			return absent(s.noun, s.name, nil, "").WithHint("there is none yet; make one with `" + s.create + "`")
		}
		known = list
	}
	return absent(s.noun, s.name, known, s.list)
}

// absent says that a name is unknown and which ones are near.
func absent(noun, name string, known []string, list string) *fleet.Error {
	err := fleet.Errorf(fleet.NotFound, "there is no %s %q", noun, plain(name))
	if close := near(name, known); len(close) > 0 {
		return err.WithHint("did you mean " + strings.Join(close, " or ") + "?")
	}
	if len(known) > 0 && len(known) <= 8 {
		return err.WithHint("there is " + enumerate(known))
	}
	if list == "" {
		return err
	}
	return err.WithHint("`" + list + "` shows what there is")
}

// near picks up to three names that somebody may have meant, nearest first.
func near(name string, known []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	want := strings.ToLower(name)
	var found []candidate
	for _, k := range known {
		have := strings.ToLower(k)
		d := distance(want, have)
		if len(want) >= 3 && (strings.HasPrefix(have, want) || strings.HasPrefix(want, have)) {
			d = min(d, 1)
		}
		if d <= max(1, len([]rune(want))/3) {
			found = append(found, candidate{k, d})
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].distance < found[j].distance })
	var out []string
	for _, c := range found[:min(3, len(found))] {
		out = append(out, c.name)
	}
	return out
}

// distance counts the letters to change, add or drop between two words.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i, r := range x {
		diagonal := row[0]
		row[0] = i + 1
		for j, s := range y {
			cost := diagonal
			if r != s {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(y)]
}

// about is the subject of a call about something in a product.
func (inv *invocation) about(p *rest.ProductClient, noun, name string) subject {
	c, _, err := inv.client()
	if err != nil {
		return subject{}
	}
	return subject{c: c, org: p.Org, product: p.Product, noun: noun, name: name}
}

// aboutListed is about for a noun that has a list command.
func (inv *invocation) aboutListed(p *rest.ProductClient, noun, name string) subject {
	s := inv.about(p, noun, name)
	s.list = "ganglion " + noun + " list"
	return s
}

// aboutDevice is about for a device.
func (inv *invocation) aboutDevice(ctx context.Context, p *rest.ProductClient, identifier string) subject {
	s := inv.about(p, "device", identifier)
	s.list, s.create = "ganglion device list", "ganglion device create IDENTIFIER"
	s.others = func() ([]string, error) {
		devices, err := p.Devices(ctx, url.Values{}, fleet.MaxPageSize)
		return names(devices, func(d rest.Device) string { return d.Identifier }), err
	}
	return s
}

// aboutGroup is about for a deployment group.
func (inv *invocation) aboutGroup(ctx context.Context, p *rest.ProductClient, name string) subject {
	s := inv.about(p, "deployment group", name)
	s.list, s.create = "ganglion deployment list", "ganglion deployment create NAME --firmware FIRMWARE"
	s.others = func() ([]string, error) {
		groups, err := p.DeploymentGroups(ctx)
		return names(groups, func(g rest.DeploymentGroup) string { return g.Name }), err
	}
	return s
}
