// Package signing is the domain of Countersign: organizations, users, projects, signing policies,
// certificates, signing requests with their state machine, approvals, origin rules and permissions.
//
// The package decides; it stores nothing and speaks no protocol itself. What it needs from outside is
// declared here as small interfaces with their contract: [Store] (transactions over the database), [Blobs]
// (artifact bytes), [Keys] (private keys) and [Clock].
//
// Three rules hold everywhere. Deny by default: an operation that no row of the permission table opens is
// refused. One transaction: a state change, its audit entry and the next job commit together or not at
// all. Permission is a value: a private key is reached only through the gate, which takes a single-use
// grant that evaluating a signing policy yields.
package signing
