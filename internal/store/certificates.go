package store

import (
	"context"
	"errors"

	"github.com/countersign-dev/countersign/internal/signing"
)

const certificateColumns = "id, organization_id, slug, name, type, creation_method, active, key_store, key_id, key_algorithm, " +
	"chain, csr, subject, issuer, serial_number, not_before, not_after, restrictions, created_at, version, key_deleted_at"

func scanCertificate(s scanner) (*signing.Certificate, error) {
	c := &signing.Certificate{}
	return c, s.Scan(&c.ID, &c.OrganizationID, &c.Slug, &c.Name, &c.Type, &c.CreationMethod, &c.Active, &c.KeyStore, &c.KeyID,
		&c.KeyAlgorithm, jsonColumn{&c.Chain}, &c.CSR, &c.Subject, &c.Issuer, &c.SerialNumber, timeColumn{&c.NotBefore},
		timeColumn{&c.NotAfter}, jsonColumn{&c.Restrictions}, timeColumn{&c.CreatedAt}, &c.Version,
		optionalTimeColumn{&c.KeyDeletedAt})
}

func (x *tx) Certificate(ctx context.Context, org, id signing.ID) (*signing.Certificate, error) {
	return one(ctx, x.q, "certificate", scanCertificate,
		"SELECT "+certificateColumns+" FROM certificates WHERE id = $1 AND organization_id = $2", text(id), text(org))
}

func (x *tx) CertificateBySlug(ctx context.Context, org signing.ID, slug string) (*signing.Certificate, error) {
	return one(ctx, x.q, "certificate", scanCertificate,
		"SELECT "+certificateColumns+" FROM certificates WHERE organization_id = $1 AND slug_key = $2", text(org), fold(slug))
}

func (x *tx) Certificates(ctx context.Context, org signing.ID) ([]*signing.Certificate, error) {
	all, err := list(ctx, x.q, scanCertificate, "SELECT "+certificateColumns+" FROM certificates WHERE organization_id = $1", text(org))
	return byName(all, func(c *signing.Certificate) (string, signing.ID) { return c.Name, c.ID }), err
}

func (x *tx) InsertCertificate(ctx context.Context, c *signing.Certificate) error {
	c.Version = 1
	return x.q.insert(ctx, "A certificate with this slug exists.", "INSERT INTO certificates ("+certificateColumns+", slug_key) "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)",
		text(c.ID), text(c.OrganizationID), c.Slug, c.Name, c.Type, text(c.CreationMethod), c.Active, c.KeyStore, c.KeyID,
		c.KeyAlgorithm, encode(c.Chain), c.CSR, c.Subject, c.Issuer, c.SerialNumber, micros(c.NotBefore), micros(c.NotAfter),
		encode(c.Restrictions), micros(c.CreatedAt), c.Version, optional(c.KeyDeletedAt), fold(c.Slug))
}

func (x *tx) UpdateCertificate(ctx context.Context, c *signing.Certificate) error {
	return x.q.update(ctx, "certificate", &c.Version, "UPDATE certificates SET slug = $1, slug_key = $2, name = $3, type = $4, "+
		"creation_method = $5, active = $6, key_store = $7, key_id = $8, key_algorithm = $9, chain = $10, csr = $11, "+
		"subject = $12, issuer = $13, serial_number = $14, not_before = $15, not_after = $16, restrictions = $17, "+
		"key_deleted_at = $18, version = version + 1 WHERE id = $19 AND organization_id = $20 AND version = $21",
		c.Slug, fold(c.Slug), c.Name, c.Type, text(c.CreationMethod), c.Active, c.KeyStore, c.KeyID, c.KeyAlgorithm,
		encode(c.Chain), c.CSR, c.Subject, c.Issuer, c.SerialNumber, micros(c.NotBefore), micros(c.NotAfter),
		encode(c.Restrictions), optional(c.KeyDeletedAt), text(c.ID), text(c.OrganizationID), c.Version)
}

func (x *tx) DeleteCertificate(ctx context.Context, org, id signing.ID) error {
	n, err := x.q.exec(ctx, "DELETE FROM certificates WHERE id = $1 AND organization_id = $2", text(id), text(org))
	if err == nil && n == 0 {
		err = signing.Errorf(signing.KindNotFound, "No such certificate.")
	}
	return err
}

func (x *tx) CertificateGranted(ctx context.Context, id signing.ID) (bool, error) {
	return one(ctx, x.q, "grant", func(s scanner) (found bool, err error) { return found, s.Scan(&found) },
		"SELECT EXISTS (SELECT 1 FROM grants WHERE certificate_id = $1)", text(id))
}

// SoftwareKeys keeps the sealed keys of the software key store in the database. Each call is a transaction of its own,
// so none may be made from within a [DB.Tx]: on SQLite it would wait for that transaction for ever.
type SoftwareKeys struct{ db *DB }

// SoftwareKeys returns the storage of the software key store.
func (db *DB) SoftwareKeys() SoftwareKeys { return SoftwareKeys{db} }

// Put stores a new sealed key durably. An identifier that exists is an error (KindConflict).
func (k SoftwareKeys) Put(ctx context.Context, keyID string, sealed []byte) error {
	return k.db.Tx(ctx, func(t signing.Tx) error {
		return t.(*tx).q.insert(ctx, "A key with this identifier exists.",
			"INSERT INTO software_keys (id, sealed) VALUES ($1, $2)", keyID, sealed)
	})
}

// Get returns the sealed key; found is false when there is none.
func (k SoftwareKeys) Get(ctx context.Context, keyID string) (sealed []byte, found bool, err error) {
	err = k.db.View(ctx, func(t signing.Tx) error {
		sealed, err = one(ctx, t.(*tx).q, "key", func(s scanner) ([]byte, error) {
			var b []byte
			return b, s.Scan(&b)
		}, "SELECT sealed FROM software_keys WHERE id = $1", keyID)
		return err
	})
	if signing.KindOf(err) == signing.KindNotFound {
		return nil, false, nil
	}
	return sealed, err == nil, err
}

// errAbsent rolls the deletion of nothing back.
var errAbsent = errors.New("store: no such key")

// Delete removes a sealed key; found is false when there was none.
func (k SoftwareKeys) Delete(ctx context.Context, keyID string) (found bool, err error) {
	err = k.db.Tx(ctx, func(t signing.Tx) error {
		n, err := t.(*tx).q.exec(ctx, "DELETE FROM software_keys WHERE id = $1", keyID)
		if err == nil && n == 0 {
			err = errAbsent
		}
		return err
	})
	if errors.Is(err, errAbsent) {
		return false, nil
	}
	return err == nil, err
}
