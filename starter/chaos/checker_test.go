package chaos

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mobileid/starter/chaos/checker"
	"mobileid/workflows"
)

// site is a finished run on which one thing at a time is altered.
type site struct {
	checker.Options

	conn *pgx.Conn
}

// alteration is one thing that is not as it was left.
type alteration struct {
	name string
	// alter changes the store, or what the checker is told to look at.
	alter func(ctx context.Context, t *testing.T, s *site)
	rules []checker.Rule // that must be found violated, and no others
	// about is the subject of all that is found; empty: it is not the same everywhere.
	about string
}

// Whatever the checker can find it does find: each thing altered alone, on the stack
// as a run has left it, and put back.
func checkChecker(ctx context.Context, t *testing.T, o checker.Options) {
	conn, err := pgx.Connect(ctx, o.StoreURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// What no other program may do is done here as the database's owner.
	for _, table := range []string{"mobile_ids", "certificates", "audit"} {
		_, err := conn.Exec(ctx, "ALTER TABLE "+table+" DISABLE TRIGGER USER")
		require.NoError(t, err)
	}
	locked := row(ctx, t, conn, `SELECT m.id FROM mobile_ids m JOIN audit a ON a.mobile_id = m.id
		WHERE m.state = 'locked' AND m.id ~ '^mid-[0-9]{5}$' AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.mobile_id = m.id AND c.issuer <> $1)
			AND NOT EXISTS (SELECT 1 FROM mobile_ids o WHERE o.owner = m.owner AND o.id <> m.id)
		GROUP BY m.id HAVING count(*) >= 3 ORDER BY m.id LIMIT 1`, issuerOf(o))
	active := row(ctx, t, conn, `SELECT id FROM mobile_ids WHERE state = 'active' AND id ~ '^mid-[0-9]{5}$'
		AND id NOT IN (SELECT mobile_id FROM audit) ORDER BY id LIMIT 1`)
	serial := row(ctx, t, conn, `SELECT min(serial) FROM certificates WHERE mobile_id = $1`, locked)

	for _, a := range []alteration{
		{
			name: "nothing", alter: func(context.Context, *testing.T, *site) {},
		},
		{
			name: "a certificate is not revoked in Identity Manager", about: locked,
			alter: change(`UPDATE certificates SET state = 'valid' WHERE serial = $1`, serial),
			rules: []checker.Rule{checker.Receipt, checker.Unfinished},
		},
		{
			name: "a locked mobile ID is active again", about: locked,
			alter: change(`UPDATE mobile_ids SET state = 'active', locked_at = NULL WHERE id = $1`, locked),
			rules: []checker.Rule{checker.Receipt, checker.Unfinished},
		},
		{
			name: "one is locked without Next", about: active,
			alter: change(`UPDATE mobile_ids SET state = 'locked', locked_at = now() WHERE id = $1`, active),
			rules: []checker.Rule{checker.Audit, checker.LockedWithoutNext},
		},
		{
			name:  "a second one is active",
			alter: change(`INSERT INTO mobile_ids (id, owner, name, state, created_at) SELECT 'second', owner, name, 'active', now() FROM mobile_ids WHERE id = $1`, active),
			rules: []checker.Rule{checker.SecondActive},
		},
		{
			name: "one is registered, and nobody goes on", about: "left",
			alter: change(`INSERT INTO mobile_ids (id, owner, name, state, created_at) SELECT 'left', owner, name, 'registered', now() FROM mobile_ids WHERE id = $1`, active),
			rules: []checker.Rule{checker.Orphan},
		},
		{
			name: "an audit record is removed", about: locked,
			alter: change(`DELETE FROM audit WHERE mobile_id = $1 AND number = 1`, locked),
			rules: []checker.Rule{checker.Audit},
		},
		{
			name: "an audit record is altered", about: locked,
			alter: change(`UPDATE audit SET record = replace(record, '"requestedAt":"20', '"requestedAt":"19') WHERE mobile_id = $1 AND number = 1`, locked),
			rules: []checker.Rule{checker.Audit},
		},
		{
			name: "the end of a chain is cut off", about: locked,
			alter: change(`DELETE FROM audit a WHERE mobile_id = $1 AND number = (SELECT max(number) FROM audit WHERE mobile_id = $1)`, locked),
			rules: []checker.Rule{checker.Audit, checker.Receipt},
		},
		{
			name: "a receipt lies about the end", about: active,
			alter: tellClient(Entry{Moment: after, Call: callNext, MobileID: active, Answer: map[string]any{"outcome": "locked", "lockedAt": time.Now(), "revoked": true}}),
			rules: []checker.Rule{checker.Receipt},
		},
		{
			name: "a receipt lies about the date", about: locked,
			alter: tellClient(Entry{Moment: after, Call: callNext, MobileID: locked, Answer: map[string]any{
				"stored": true, "certificates": []map[string]any{{
					"issuer": issuerOf(o), "serial": serial, "stateInIm": "revoked", "statusAtCa": "revoked", "revokedAt": time.Now().Add(-time.Hour),
				}},
			}}),
			rules: []checker.Rule{checker.Receipt},
		},
		{
			name: "the receipt of Self-Service lies about the date",
			alter: func(_ context.Context, t *testing.T, s *site) {
				altered := filepath.Join(t.TempDir(), "clients.jsonl")
				text, err := os.ReadFile(s.ClientsFile)
				require.NoError(t, err)
				require.Contains(t, string(text), paperDate)
				require.NoError(t, os.WriteFile(altered, bytes.Replace(text, []byte(paperDate), []byte("  Revoked  19"), 1), 0o600))
				s.ClientsFile = altered
			},
			rules: []checker.Rule{checker.Receipt},
		},
		{
			name: "a stored Next is lost", about: active,
			alter: tellClient(Entry{Moment: after, Call: callNext, MobileID: active, Answer: map[string]any{"stored": true}}),
			rules: []checker.Rule{checker.Unfinished},
		},
		{
			name: "somebody is refused for no reason", about: active,
			alter: tellClient(Entry{Moment: after, Call: callNext, MobileID: active, Refusal: "MobileIDNotFound"}),
			rules: []checker.Rule{checker.Receipt},
		},
		{
			name: "somebody is told that no Get is under way, and one is",
			alter: func(_ context.Context, t *testing.T, s *site) {
				s.ClientsFile = changed(t, s.ClientsFile, func(e *Entry) bool {
					answer, _ := e.Answer.(map[string]any)
					if e.Call != callGetNext || e.Moment != after || answer["phase"] != string(workflows.AwaitingPhone) {
						return false
					}
					e.Answer, e.Refusal = nil, "MobileIDNotFound"
					return true
				})
			},
			rules: []checker.Rule{checker.Receipt},
		},
		{
			name: "somebody is told of an active mobile ID that is locked", about: locked,
			alter: func(ctx context.Context, t *testing.T, s *site) {
				asked := Entry{Moment: before, Call: callGetNext, MobileID: locked}
				tellClient(asked)(ctx, t, s)
				asked.Moment, asked.Refusal = after, "MobileIDAlreadyActive"
				appendTo(t, s.ClientsFile, asked)
			},
			rules: []checker.Rule{checker.Receipt},
		},
		{
			name: "a process has a Next that nobody sent", about: locked,
			alter: func(_ context.Context, t *testing.T, s *site) {
				s.ClientsFile = filtered(t, s.ClientsFile, func(e Entry) bool { return e.MobileID != locked })
			},
			rules: []checker.Rule{checker.LockedWithoutNext},
		},
		{
			name: "the CRL does not list a certificate", about: locked,
			alter: func(ctx context.Context, t *testing.T, s *site) {
				s.CAs[0].CRLURL, s.CAs[0].OCSPURL = crlWithout(ctx, t, s.CAs[0], serial), ""
			},
			rules: []checker.Rule{checker.AheadOfCA, checker.Receipt, checker.Unfinished},
		},
		{
			name: "Identity Manager is ahead of the CA", about: locked,
			alter: func(_ context.Context, t *testing.T, s *site) {
				s.RequestsFile = filtered(t, s.RequestsFile, func(e Entry) bool { return e.Serial != serial })
				appendTo(t, s.RequestsFile, Entry{At: time.Now(), Moment: before, Call: "revoke", CA: devcaName, Serial: serial})
			},
			rules: []checker.Rule{checker.AheadOfCA},
		},
		{
			name: "a certificate is revoked at the CA, and nobody asked", about: active,
			alter: func(ctx context.Context, t *testing.T, s *site) {
				serial := row(ctx, t, s.conn, `SELECT min(serial) FROM certificates WHERE mobile_id = $1 AND issuer = $2`, active, issuerOf(s.Options))
				s.CAs[0].CRLURL, s.CAs[0].OCSPURL = crlWith(ctx, t, s.CAs[0], serial), ""
			},
			rules: []checker.Rule{checker.LockedWithoutNext},
		},
		{
			name: "a certificate that nobody has is good", about: "abc123",
			alter: func(_ context.Context, t *testing.T, s *site) {
				text, err := os.ReadFile(s.CAs[0].IssuedFile)
				require.NoError(t, err)
				s.CAs[0].IssuedFile = filepath.Join(t.TempDir(), "journal")
				require.NoError(t, os.WriteFile(s.CAs[0].IssuedFile, append(text, "00000000 2026-01-01T00:00:00Z issueOnce abc123 - -\n"...), 0o600))
			},
			rules: []checker.Rule{checker.Orphan},
		},
	} {
		t.Run(a.name, func(t *testing.T) {
			s := &site{Options: o, conn: conn}
			s.CAs = slices.Clone(o.CAs)
			tables := saved(ctx, t, conn)
			a.alter(ctx, t, s)
			report, err := checker.Check(ctx, s.Options)
			require.NoError(t, err)
			restore(ctx, t, conn, tables)
			found := map[checker.Rule]bool{}
			for _, v := range report.Violations {
				found[v.Rule] = true
				if a.about != "" {
					require.Equal(t, a.about, v.Subject, v)
				}
			}
			require.ElementsMatch(t, a.rules, slices.Collect(maps.Keys(found)), "%v", report.Violations)
		})
	}
}

// paperDate is the beginning of a date in the receipt of Self-Service.
const paperDate = "  Revoked  20"

// The tables that alterations change, in the order in which they can be written.
var alteredTables = []string{"mobile_ids", "certificates", "audit"}

// saved keeps the tables beside themselves. The rows stay where they are, so that the
// commit times of those that are not altered stay, too.
func saved(ctx context.Context, t *testing.T, conn *pgx.Conn) func() {
	t.Helper()
	for _, table := range alteredTables {
		_, err := conn.Exec(ctx, `CREATE TEMP TABLE saved_`+table+` AS SELECT * FROM `+table)
		require.NoError(t, err)
	}
	return func() {
		for _, table := range alteredTables {
			_, err := conn.Exec(ctx, `DROP TABLE saved_`+table)
			require.NoError(t, err)
		}
	}
}

// restore writes back what differs.
func restore(ctx context.Context, t *testing.T, conn *pgx.Conn, drop func()) {
	t.Helper()
	for _, statement := range []string{
		`DELETE FROM mobile_ids WHERE id NOT IN (SELECT id FROM saved_mobile_ids)`,
		`UPDATE mobile_ids m SET state = s.state, locked_at = s.locked_at FROM saved_mobile_ids s WHERE s.id = m.id AND s.state <> m.state`,
		`UPDATE certificates c SET state = s.state FROM saved_certificates s WHERE s.serial = c.serial AND s.issuer = c.issuer AND s.state <> c.state`,
		`DELETE FROM audit a USING saved_audit s WHERE s.mobile_id = a.mobile_id AND s.number = a.number AND s.record <> a.record`,
		`INSERT INTO audit SELECT * FROM saved_audit s WHERE NOT EXISTS (SELECT 1 FROM audit a WHERE a.mobile_id = s.mobile_id AND a.number = s.number)`,
	} {
		_, err := conn.Exec(ctx, statement)
		require.NoError(t, err)
	}
	drop()
}

func row(ctx context.Context, t *testing.T, conn *pgx.Conn, query string, args ...any) string {
	t.Helper()
	var text string
	require.NoError(t, conn.QueryRow(ctx, query, args...).Scan(&text), query)
	return text
}

func change(statement string, args ...any) func(context.Context, *testing.T, *site) {
	return func(ctx context.Context, t *testing.T, s *site) {
		tag, err := s.conn.Exec(ctx, statement, args...)
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
	}
}

// tellClient adds an answer to a copy of the journal.
func tellClient(e Entry) func(context.Context, *testing.T, *site) {
	return func(_ context.Context, t *testing.T, s *site) {
		s.ClientsFile = filtered(t, s.ClientsFile, func(Entry) bool { return true })
		appendTo(t, s.ClientsFile, e)
	}
}

// filtered is a copy of a journal with the entries that are to stay.
func filtered(t *testing.T, file string, stays func(Entry) bool) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var kept bytes.Buffer
	for line := range bytes.Lines(text) {
		var e Entry
		require.NoError(t, json.Unmarshal(line, &e))
		if stays(e) {
			kept.Write(line)
		}
	}
	filter := filepath.Join(t.TempDir(), filepath.Base(file))
	require.NoError(t, os.WriteFile(filter, kept.Bytes(), 0o600))
	return filter
}

// changed is a copy of a journal in which the first entry that change takes is changed.
func changed(t *testing.T, file string, change func(e *Entry) bool) string {
	t.Helper()
	done := false
	copied := filtered(t, file, func(Entry) bool { return true })
	text, err := os.ReadFile(copied)
	require.NoError(t, err)
	var all bytes.Buffer
	for line := range bytes.Lines(text) {
		var e Entry
		require.NoError(t, json.Unmarshal(line, &e))
		if !done && change(&e) {
			done = true
			line, err = json.Marshal(e)
			require.NoError(t, err)
			line = append(line, '\n')
		}
		all.Write(line)
	}
	require.True(t, done, "there is no such entry")
	require.NoError(t, os.WriteFile(copied, all.Bytes(), 0o600))
	return copied
}

func appendTo(t *testing.T, file string, e Entry) {
	t.Helper()
	j, err := newJournal(file)
	require.NoError(t, err)
	j.write(e)
	require.NoError(t, j.close())
}

func issuerOf(o checker.Options) string { return checker.NameOf(o.CAs[0].Issuer) }

// crlWithout serves devca's CRL as it would be without a certificate, signed by the
// same key.
func crlWithout(ctx context.Context, t *testing.T, ca checker.CA, serial string) string {
	t.Helper()
	return serveCRL(ctx, t, ca, func(entries []x509.RevocationListEntry) []x509.RevocationListEntry {
		return slices.DeleteFunc(entries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Text(16) == serial })
	})
}

// crlWith is the same with one more.
func crlWith(ctx context.Context, t *testing.T, ca checker.CA, serial string) string {
	t.Helper()
	number, ok := new(big.Int).SetString(serial, 16)
	require.True(t, ok)
	return serveCRL(ctx, t, ca, func(entries []x509.RevocationListEntry) []x509.RevocationListEntry {
		return append(entries, x509.RevocationListEntry{SerialNumber: number, RevocationTime: time.Now()})
	})
}

func serveCRL(ctx context.Context, t *testing.T, ca checker.CA, edit func([]x509.RevocationListEntry) []x509.RevocationListEntry) string {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, ca.CRLURL, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	der, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	crl, err := x509.ParseRevocationList(der)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(ca.IssuedFile), "ca.key"))
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	signer, ok := key.(crypto.Signer)
	require.True(t, ok)
	edited, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: crl.Number, ThisUpdate: crl.ThisUpdate, NextUpdate: crl.NextUpdate, RevokedCertificateEntries: edit(crl.RevokedCertificateEntries),
	}, ca.Issuer, signer)
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(edited) }))
	t.Cleanup(server.Close)
	return server.URL
}
