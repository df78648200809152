package main

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/countersign-dev/countersign/client"
)

// serve serves the demo, tells of it once it answers, and plays the scenario when there is one. It returns when ctx ends,
// when the scenario fails, or with --exit after it.
func (c *demoCmd) serve(ctx context.Context, io console, sys *system, listener net.Listener, h http.Handler, state *demoState, base *url.URL) error {
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() {
		err := sys.listenAndServe(serving, listener, h)
		stop()
		served <- err
	}()
	err := c.present(serving, io, state, base)
	if err != nil || c.Exit {
		stop()
	}
	switch served := <-served; {
	case served != nil:
		return served // why present failed, too
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return &exitError{exitFailure, err}
	}
	return nil
}

// present announces the running demo and plays the scenario.
func (c *demoCmd) present(ctx context.Context, io console, state *demoState, base *url.URL) error {
	api, err := client.New(state.APIURL, "", string(state.OrganizationID))
	if err != nil {
		return err
	}
	if _, err := api.SystemInfo(ctx); err != nil {
		return err
	}
	if err := c.announce(io, state, base); err != nil || c.Scenario == "" {
		return err
	}
	s, err := newScenario(io.out, state)
	if err != nil {
		return err
	}
	return s.run(ctx, c.Scenario, c.Output)
}

// mount serves a path of its own, or one that ends in a slash with all below it, beside another handler. It is no
// [http.ServeMux]: that one redirects paths with doubled slashes, which clients send, and not all of them follow.
func mount(h http.Handler, path string, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path || strings.HasSuffix(path, "/") && strings.HasPrefix(r.URL.Path, path) {
			handler.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}
