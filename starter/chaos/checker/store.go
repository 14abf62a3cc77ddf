package checker

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// mobileID is a row, with what hangs on it.
type mobileID struct {
	id, owner, state string
	lockedAt         *time.Time
	lockWorkflow     string
	lockRun          string
	committed        *time.Time // when the row became as it is
	certificates     []*certificate
	records          []*record
	head             *mark
}

// certificateKey names a certificate: the CA by the SHA-256 of its name, and the
// serial number in lower-case hex.
type certificateKey struct{ issuer, serial string }

type certificate struct {
	certificateKey

	mobileID  string
	state     string
	der       []byte
	notAfter  time.Time
	committed *time.Time // when the row became as it is
	parsed    *x509.Certificate
}

type mark struct {
	Number int64  `json:"number"`
	MAC    string `json:"mac"`
}

// record is one of the audit.
type record struct {
	mark

	stored  []byte
	content struct {
		MobileID string `json:"mobileId"`
		Event    string `json:"event"`
		Process  struct {
			WorkflowID string `json:"workflowId"`
			RunID      string `json:"runId"`
		} `json:"process"`
		Certificates []result `json:"certificates"`
	}
}

func (c *check) readStore(ctx context.Context) error {
	c.mobileIDs, c.certificates = map[string]*mobileID{}, map[certificateKey]*certificate{}
	return c.connect(ctx, func(tx pgx.Tx) error {
		for _, read := range []func(context.Context, pgx.Tx) error{c.readMobileIDs, c.readCertificates, c.readRecords, c.readHeads} {
			if err := read(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *check) readMobileIDs(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT id, owner, state, locked_at, coalesce(lock_workflow_id, ''), coalesce(lock_run_id, ''), pg_xact_commit_timestamp(xmin) FROM mobile_ids`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		m := &mobileID{}
		if err := rows.Scan(&m.id, &m.owner, &m.state, &m.lockedAt, &m.lockWorkflow, &m.lockRun, &m.committed); err != nil {
			return err
		}
		c.mobileIDs[m.id] = m
		c.report.MobileIDs++
		if m.state == stateLocked {
			c.report.Locked++
		}
	}
	return rows.Err()
}

func (c *check) readCertificates(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT issuer, serial, mobile_id, state, der, not_after, pg_xact_commit_timestamp(xmin) FROM certificates`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		x := &certificate{}
		if err := rows.Scan(&x.issuer, &x.serial, &x.mobileID, &x.state, &x.der, &x.notAfter, &x.committed); err != nil {
			return err
		}
		if x.parsed, err = x509.ParseCertificate(x.der); err != nil {
			return fmt.Errorf("certificate %s: %w", x.serial, err)
		}
		name := sha256.Sum256(x.parsed.RawIssuer)
		if hex.EncodeToString(name[:]) != x.issuer || x.parsed.SerialNumber.Text(16) != x.serial {
			return fmt.Errorf("certificate %s is kept under another name", x.serial)
		}
		c.certificates[x.certificateKey] = x
		c.report.Certificates++
		if m, ok := c.mobileIDs[x.mobileID]; ok {
			m.certificates = append(m.certificates, x)
		}
	}
	return rows.Err()
}

func (c *check) readRecords(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT mobile_id, number, mac, record FROM audit ORDER BY mobile_id, number`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		r := &record{}
		var id, text string
		if err := rows.Scan(&id, &r.Number, &r.MAC, &text); err != nil {
			return err
		}
		r.stored = []byte(text)
		if err := json.Unmarshal(r.stored, &r.content); err != nil {
			return fmt.Errorf("record %d of %s: %w", r.Number, id, err)
		}
		c.report.Records++
		if m := c.chain(id); m != nil {
			m.records = append(m.records, r)
		}
	}
	return rows.Err()
}

// chain is who a chain of the audit is about. There are chains without a mobile ID,
// of what never came into being: they are kept as if there were one.
func (c *check) chain(id string) *mobileID {
	m, ok := c.mobileIDs[id]
	if !ok {
		m = &mobileID{id: id}
		c.mobileIDs[id] = m
	}
	return m
}

func (c *check) readHeads(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT mobile_id, number, mac FROM audit_heads`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var head mark
		if err := rows.Scan(&id, &head.Number, &head.MAC); err != nil {
			return err
		}
		c.chain(id).head = &head
	}
	return rows.Err()
}

func (c *check) readKey(context.Context) error {
	text, err := os.ReadFile(c.AuditKeyFile)
	if err != nil {
		return err
	}
	c.key, err = hex.DecodeString(strings.TrimSpace(string(text)))
	return err
}
