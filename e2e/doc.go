// Package e2e tests whole programs: servers in processes of their own, reached over the network, killed, started again.
package e2e
