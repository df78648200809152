package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// parseNetworks reads addresses and networks: "10.0.0.5", "10.1.0.0/16", "fd00::/8".
func parseNetworks(flag string, list []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range list {
		network, err := netip.ParsePrefix(text)
		if address, alone := netip.ParseAddr(text); alone == nil {
			network, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %q is neither an address, such as 10.0.0.5, nor a network, such as 10.1.0.0/16", flag, text)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// behindProxies gives requests that come through a trusted proxy the address of who sent them to it: of the addresses in
// X-Forwarded-For, to which each proxy appends its peer's, the last that is no trusted proxy's. What stands before it anybody may
// have written.
func behindProxies(proxies []netip.Prefix, next http.Handler) http.Handler {
	if len(proxies) == 0 {
		return next
	}
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, ok := parseAddress(r.RemoteAddr)
		if !ok || !trusted(peer) {
			next.ServeHTTP(w, r)
			return
		}
		path := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for i := len(path) - 1; i >= 0 && trusted(peer); i-- {
			before, ok := parseAddress(strings.TrimSpace(path[i]))
			if !ok {
				break
			}
			peer = before
		}
		forwarded := r.WithContext(r.Context())
		forwarded.RemoteAddr = peer.String()
		next.ServeHTTP(w, forwarded)
	})
}

// parseAddress reads an address with or without port.
func parseAddress(text string) (netip.Addr, bool) {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return a.Unmap().WithZone(""), err == nil
}
