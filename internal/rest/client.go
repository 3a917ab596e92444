package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Limits of the client.
const (
	maxAnswer      = 16 << 20 // bytes of an answer's body
	maxErrorAnswer = 64 << 10 // bytes of an error's body
	answerTimeout  = 30 * time.Second
	readTries      = 3                      // tries of a GET
	firstPause     = 250 * time.Millisecond // before the second try; doubles
	maxRetryAfter  = 10 * time.Second       // longest a server may make us wait before a retry
)

// Client speaks with one server. Its methods return *fleet.Error values, so
// that callers can tell kinds of failures apart. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token string
	agent string
	http  *http.Client
}

// ClientOptions say which server to speak with and as whom.
type ClientOptions struct {
	URL       string       // of the server; without a scheme https, but http on this machine
	Token     string       // of the user; "" only to sign in
	UserAgent string       // names the program; "" means ganglion
	HTTP      *http.Client // nil: one that trusts the system's authorities
}

// NewClient makes a client. An address that is none is Invalid.
func NewClient(o ClientOptions) (*Client, error) {
	base, err := ParseServer(o.URL)
	if err != nil {
		return nil, err
	}
	c := &Client{base: base, token: o.Token, agent: o.UserAgent, http: o.HTTP}
	if c.agent == "" {
		c.agent = "ganglion"
	}
	if c.http == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.ResponseHeaderTimeout = 0 // an upload is answered after its last byte was verified
		c.http = &http.Client{Transport: transport}
	}
	return c, nil
}

// ParseServer reads the address of a server as people write it.
func ParseServer(text string) (*url.URL, error) {
	full := strings.TrimSpace(text)
	if full != "" && !strings.Contains(full, "://") {
		scheme := "https://"
		host, _, _ := strings.Cut(full, "/")
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if ip := net.ParseIP(strings.Trim(host, "[]")); host == "localhost" || ip != nil && ip.IsLoopback() {
			scheme = "http://"
		}
		full = scheme + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fleet.InvalidField("server", "%q is not an address such as https://updates.example.com", text)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// URL returns the address of the server.
func (c *Client) URL() string { return c.base.String() }

// address joins the path's segments, each encoded for itself.
func (c *Client) address(query url.Values, segments ...string) (string, error) {
	var b strings.Builder
	b.WriteString(strings.TrimRight(c.base.String(), "/"))
	b.WriteString("/api")
	for _, s := range segments {
		if s == "" || s == "." || s == ".." {
			return "", fleet.Errorf(fleet.Invalid, "%q is not a name", s)
		}
		b.WriteString("/" + url.PathEscape(s))
	}
	if len(query) > 0 {
		b.WriteString("?" + query.Encode())
	}
	return b.String(), nil
}

// call is one request with its answer.
type call struct {
	method string
	path   []string
	query  url.Values
	in     any // body as JSON; nil: none
	out    any // where the answer goes; nil: it is thrown away

	patience time.Duration // for the answer; 0: answerTimeout
}

func (c *Client) do(ctx context.Context, k call) error {
	address, err := c.address(k.query, k.path...)
	if err != nil {
		return err
	}
	var body []byte
	if k.in != nil {
		if body, err = json.Marshal(k.in); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	tries := 1
	if k.method == http.MethodGet {
		tries = readTries
	}
	pause := firstPause
	for {
		tries--
		after, err := c.try(ctx, k, address, body)
		if err == nil || tries == 0 || ctx.Err() != nil || fleet.KindOf(err) != fleet.Unavailable {
			return err
		}
		if err := wait(ctx, max(pause+rand.N(pause/2), after)); err != nil {
			return err
		}
		pause *= 2
	}
}

// try sends a request once. After an error it also says how long the server
// asked to wait.
func (c *Client) try(ctx context.Context, k call, address string, body []byte) (after time.Duration, err error) {
	patience := k.patience
	if patience == 0 {
		patience = answerTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %v", patience))
	defer cancel()
	var reader io.Reader
	if k.in != nil {
		reader = bytes.NewReader(body)
	}
	req, err := c.request(ctx, k.method, address, reader)
	if err != nil {
		return 0, err
	}
	if k.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return retryAfter(resp), failure(resp)
	}
	return 0, c.decode(ctx, resp, k.out)
}

func (c *Client) request(ctx context.Context, method, address string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "request: %w", err)
	}
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Accept", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

func (c *Client) decode(ctx context.Context, resp *http.Response, out any) error {
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return c.unreachable(ctx, err)
	case len(body) > maxAnswer:
		return fleet.Errorf(fleet.TooLarge, "the server's answer is larger than %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return (&fleet.Error{Kind: fleet.Internal, Message: "the server's answer is not what was expected", Err: err}).
			WithHint("check that " + c.URL() + " is the address of a server, and that it is as new as this program")
	}
	return nil
}

var errNoAnswer = fmt.Errorf("no answer within %v", answerTimeout)

// unreachable makes an error of a request that got no answer.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errNoAnswer) {
		return context.Cause(ctx)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the address is in our own message
	}
	hint := "check the address, and that the server runs"
	if text := err.Error(); strings.Contains(text, "x509:") {
		hint = "name the authority of the server's certificate by SSL_CERT_FILE, or add it to this machine's trust store"
	}
	return &fleet.Error{Kind: fleet.Unavailable, Message: "can not reach " + c.URL(), Hint: hint, Err: err}
}

// statusKinds says what the status of an answer means when its body does not.
var statusKinds = map[int]fleet.Kind{
	http.StatusBadRequest: fleet.Invalid, http.StatusUnprocessableEntity: fleet.Invalid,
	http.StatusUnauthorized: fleet.Unauthorized, http.StatusForbidden: fleet.Forbidden,
	http.StatusNotFound: fleet.NotFound, http.StatusConflict: fleet.Conflict, http.StatusPreconditionFailed: fleet.Conflict,
	http.StatusRequestEntityTooLarge: fleet.TooLarge, http.StatusTooManyRequests: fleet.RateLimited,
	http.StatusBadGateway: fleet.Unavailable, http.StatusServiceUnavailable: fleet.Unavailable, http.StatusGatewayTimeout: fleet.Unavailable,
}

// failure makes an error of an answer that is not a success.
func failure(resp *http.Response) error {
	var e Error
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorAnswer))
	if err == nil {
		_ = json.Unmarshal(body, &e) // the status speaks for a body that is none of ours
	}
	out := &fleet.Error{Kind: e.Error.Kind, Field: e.Error.Field, Message: e.Error.Message, Hint: e.Error.Hint}
	if out.Kind == "" {
		out.Kind = fleet.Internal
		if kind, ok := statusKinds[resp.StatusCode]; ok {
			out.Kind = kind
		}
	}
	if out.Kind == fleet.Unauthorized {
		out.Hint = "" // how to sign in is the matter of the program, not of the request
	}
	if out.Message == "" {
		out.Message = detail(e.Errors)
	}
	if out.Message == "" {
		out.Message = "the server answered " + resp.Status
	}
	if e.Error.ID != "" {
		out.Message += " (error " + e.Error.ID + " in the server's log)"
	}
	return out
}

// detail reads the form of errors that NervesHub clients know.
func detail(errs map[string]any) string {
	if text, ok := errs["detail"].(string); ok {
		return text
	}
	for field, v := range errs {
		if list, ok := v.([]any); ok && len(list) > 0 {
			return fmt.Sprintf("%s: %v", field, list[0])
		}
	}
	return ""
}

func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// one asks for one resource.
func one[T any](ctx context.Context, c *Client, method string, in any, path ...string) (T, error) {
	var answer Data[T]
	err := c.do(ctx, call{method: method, path: path, in: in, out: &answer})
	return answer.Data, err
}

// page asks for one page of a list and returns the cursor of the next.
func page[T any](ctx context.Context, c *Client, query url.Values, path ...string) ([]T, string, error) {
	var answer List[T]
	err := c.do(ctx, call{method: http.MethodGet, path: path, query: query, out: &answer})
	return answer.Data, answer.Next, err
}

// all asks for every page of a list, or for limit rows of it; 0: no limit.
func all[T any](ctx context.Context, c *Client, query url.Values, limit int, path ...string) ([]T, error) {
	q := url.Values{}
	for k, v := range query {
		q[k] = v
	}
	rows := []T{}
	for {
		size := fleet.MaxPageSize
		if limit > 0 {
			size = min(size, limit-len(rows))
		}
		q.Set("limit", strconv.Itoa(size))
		got, next, err := page[T](ctx, c, q, path...)
		if err != nil {
			return nil, err
		}
		rows = append(rows, got...)
		if limit > 0 && len(rows) >= limit {
			return rows[:limit], nil
		}
		if next == "" || next == q.Get("cursor") {
			return rows, nil
		}
		q.Set("cursor", next)
	}
}

func (c *Client) send(ctx context.Context, method string, in any, path ...string) error {
	return c.do(ctx, call{method: method, path: path, in: in})
}
