// Package egress makes HTTP clients that reach only where the administrator allows: addresses that users name, such as
// artifact retrieval links and webhooks, must not open the server's own network to them.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Policy says what may be reached. The zero value allows public addresses over HTTPS only.
type Policy struct {
	AllowPrivate bool // loopback, private and link-local networks, too
	AllowHTTP    bool // plain HTTP, too
}

// ErrRefused is what every refusal of the policy wraps.
var ErrRefused = errors.New("not allowed")

const maxRedirects = 5

// Client returns a client under the policy. It checks the address of every connection after the name was resolved, so
// that a name which changes its address in between, or a redirect, leads nowhere else, and uses no proxy. Redirects to
// another host do not take headers along, and more than five are refused. timeout bounds a whole exchange, the body
// included; 0 is none.
func (p Policy) Client(timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return p.checkAddress(address)
	}}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:           dialer.DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 60 * time.Second,
			IdleConnTimeout:       30 * time.Second,
			MaxIdleConns:          20,
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirects are %w", maxRedirects, ErrRefused)
			}
			if err := p.CheckURL(r.URL); err != nil {
				return err
			}
			if r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
				r.Header = http.Header{} //nolint:gosec // G119: this drops all headers: what was meant for the first host, such as a token, is not for another
			}
			return nil
		},
	}
}

// CheckURL reports, wrapping ErrRefused, why a URL may not be requested, as far as that can be told without resolving its
// host name.
func (p Policy) CheckURL(u *url.URL) error {
	switch {
	case u.Scheme != "https" && (u.Scheme != "http" || !p.AllowHTTP):
		return fmt.Errorf("scheme %q of the URL is %w: use https", u.Scheme, ErrRefused)
	case u.Hostname() == "":
		return fmt.Errorf("the URL has no host: %w", ErrRefused)
	case u.User != nil:
		return fmt.Errorf("user name and password in the URL are %w: use a header", ErrRefused)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		return p.checkIP(ip)
	}
	// RFC 6761, section 6.3: these names always mean this machine.
	if name := "." + strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")); strings.HasSuffix(name, ".localhost") && !p.AllowPrivate {
		return fmt.Errorf("host %s is the server itself: %w; an administrator can allow it (--allow-private-networks)", u.Hostname(), ErrRefused)
	}
	return nil
}

func (p Policy) checkAddress(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %s: %w", address, ErrRefused)
	}
	return p.checkIP(ap.Addr())
}

// global holds the IPv6 addresses that are given out for use in the Internet (RFC 4291, section 2.4, as IANA's registry has it);
// outside of it are the addresses that embed or translate IPv4 ones, and all that is private, local or reserved.
var global = netip.MustParsePrefix("2000::/3")

// special are networks that are neither public nor recognised by netip's predicates: RFC 6890 and its registries.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("3fff::/20"),
}

func (p Policy) checkIP(ip netip.Addr) error {
	if p.AllowPrivate {
		return nil
	}
	ip = ip.Unmap().WithZone("")
	public := ip.IsGlobalUnicast() && !ip.IsPrivate() && (ip.Is4() || global.Contains(ip))
	for _, s := range special {
		public = public && !s.Contains(ip)
	}
	if !public {
		return fmt.Errorf("address %s is in a private or special network: %w; an administrator can allow it (--allow-private-networks)", ip, ErrRefused)
	}
	return nil
}
