package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
	"github.com/ganglion-iot/ganglion/internal/version"
)

// invocation is one run of the program: its streams, what the environment and
// the global flags say, and the server it works with.
type invocation struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	flags    settings
	json     bool
	yes      bool
}

// settings puts together what flags, environment and file say.
func (inv *invocation) settings() (settings, error) {
	dir, err := configDir(inv.getenv)
	if err != nil {
		return settings{}, err
	}
	file, err := readSettings(dir)
	if err != nil {
		return settings{}, err
	}
	return settle(inv.flags, inv.getenv, file), nil
}

// change rewrites the file of settings.
func (inv *invocation) change(fn func(*settings)) error {
	dir, err := configDir(inv.getenv)
	if err != nil {
		return err
	}
	s, err := readSettings(dir)
	if err != nil {
		return err
	}
	fn(&s)
	return writeSettings(dir, s)
}

// client is for a server somebody is signed in to.
func (inv *invocation) client() (*rest.Client, settings, error) {
	s, err := inv.settings()
	if err != nil {
		return nil, s, err
	}
	if s.Server == "" {
		return nil, s, fleet.Errorf(fleet.Unauthorized, "no server is known yet").
			WithHint("sign in with `ganglion login --server URL`, or start a server here with `ganglion serve`")
	}
	if s.Token == "" {
		return nil, s, fleet.Errorf(fleet.Unauthorized, "nobody is signed in to %s", s.Server).
			WithHint("sign in with `ganglion login --server " + s.Server + "`, or set GANGLION_TOKEN")
	}
	c, err := newClient(s)
	return c, s, err
}

func newClient(s settings) (*rest.Client, error) {
	return rest.NewClient(rest.ClientOptions{URL: s.Server, Token: s.Token, UserAgent: "ganglion/" + version.Version})
}

// inOrg is the client and the org to work in: the one named, or the only one.
func (inv *invocation) inOrg(ctx context.Context) (*rest.Client, string, error) {
	c, s, err := inv.client()
	if err != nil || s.Org != "" {
		return c, s.Org, err
	}
	orgs, err := c.Orgs(ctx)
	if err != nil {
		return nil, "", err
	}
	switch len(orgs) {
	case 0:
		return nil, "", fleet.Errorf(fleet.NotFound, "you belong to no org").
			WithHint("make one with `ganglion org create NAME`, or ask an admin to add you")
	case 1:
		return c, orgs[0].Name, nil
	}
	return nil, "", choose("org", names(orgs, func(o rest.Org) string { return o.Name }))
}

// inProduct is a client for the product to work with: the one named, or the
// only one.
func (inv *invocation) inProduct(ctx context.Context) (*rest.ProductClient, error) {
	c, org, err := inv.inOrg(ctx)
	if err != nil {
		return nil, err
	}
	s, err := inv.settings()
	if err != nil || s.Product != "" {
		return c.In(org, s.Product), err
	}
	products, err := c.Products(ctx, org)
	if err != nil {
		return nil, inv.explain(ctx, err, subject{c: c, org: org})
	}
	switch len(products) {
	case 0:
		return nil, fleet.Errorf(fleet.NotFound, "the org %s has no product yet", org).
			WithHint("make one with `ganglion product create NAME`")
	case 1:
		return c.In(org, products[0].Name), nil
	}
	return nil, choose("product", names(products, func(p rest.Product) string { return p.Name }))
}

// choose is the error of a choice only a person can make.
func choose(noun string, from []string) error {
	return &usageError{
		err:  fmt.Errorf("there are several %ss: %s", noun, enumerate(from)),
		hint: fmt.Sprintf("choose with --%s NAME, or once and for all with `ganglion config set %s NAME`", noun, noun),
	}
}

func names[T any](list []T, name func(T) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = name(v)
	}
	return out
}

// enumerate writes a list for people, not longer than they read.
func enumerate(list []string) string {
	const most = 8
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}

// interactive tells whether a person can be asked.
func (inv *invocation) interactive() bool {
	for _, name := range []string{"GANGLION_NON_INTERACTIVE", "NERVES_HUB_NON_INTERACTIVE"} {
		if inv.getenv(name) != "" {
			return false
		}
	}
	return isTerminal(inv.in) && isTerminal(inv.err)
}

// terminalOf returns the descriptor of a stream that is a terminal.
func terminalOf(stream any) (fd int, ok bool) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

func isTerminal(stream any) bool {
	_, ok := terminalOf(stream)
	return ok
}
