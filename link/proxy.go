package link

import (
	"fmt"
	"net/http"
	"net/url"
)

// ParseProxy makes Options.Proxy of text: an address such as
// "http://proxy.example.com:3128" or "socks5://user:password@10.0.0.1:1080",
// "none" for no proxy at all, or "" for what the environment says.
func ParseProxy(text string) (func(*http.Request) (*url.URL, error), error) {
	switch text {
	case "":
		return http.ProxyFromEnvironment, nil
	case "none":
		return func(*http.Request) (*url.URL, error) { return nil, nil }, nil //nolint:nilnil // no proxy, as http.Transport wants it said
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("the proxy is no address such as http://proxy.example.com:3128")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return http.ProxyURL(u), nil
	}
	return nil, fmt.Errorf("a proxy of scheme %q: http, https and socks5 are known", u.Scheme)
}
