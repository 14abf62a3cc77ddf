package crlpush_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/crlpush"
	"mobileid/activities/identitymanager"
	"mobileid/activities/identitymanager/postgrestest"
)

// issuer is a CA that signs what a test wants.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t testing.TB, name string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &issuer{cert, key}
}

// issue issues a certificate; change, which may be left out, adapts the template.
func (i *issuer) issue(t testing.TB, serial int64, change ...func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "anna"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, key.Public(), i.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

// list is a CRL as a test wants it.
type list struct {
	number, base int64         // no base: it is complete
	reasons      map[int64]int // by serial
	thisUpdate   time.Time     // zero: a minute ago
	nextUpdate   time.Time     // zero: in an hour
	extensions   []pkix.Extension
}

var (
	oidDelta = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIDP   = asn1.ObjectIdentifier{2, 5, 29, 28}
)

func (i *issuer) sign(t testing.TB, l list) []byte {
	t.Helper()
	if l.thisUpdate.IsZero() {
		l.thisUpdate = time.Now().Add(-time.Minute)
	}
	if l.nextUpdate.IsZero() {
		l.nextUpdate = time.Now().Add(time.Hour)
	}
	template := &x509.RevocationList{Number: big.NewInt(l.number), ThisUpdate: l.thisUpdate, NextUpdate: l.nextUpdate, ExtraExtensions: l.extensions}
	if l.base > 0 {
		value, err := asn1.Marshal(l.base)
		require.NoError(t, err)
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidDelta, Critical: true, Value: value})
	}
	for serial, reason := range l.reasons {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: big.NewInt(serial), RevocationTime: time.Now().Add(-time.Hour), ReasonCode: reason,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, i.cert, i.key)
	require.NoError(t, err)
	return der
}

// place is a receiver with its store and CA.
type place struct {
	t        testing.TB
	store    *identitymanager.Store
	options  identitymanager.Options
	issuer   *issuer
	cas      *ca.Authorities
	receiver *crlpush.Receiver
}

const testPassword = "a password that is long"

func newPlace(t testing.TB, options identitymanager.Options, change ...func(*crlpush.Options)) *place {
	t.Helper()
	options.AuditKey = []byte(strings.Repeat("k", 32))
	store, err := identitymanager.Open(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	require.NoError(t, store.PutUser(t.Context(), mobileid.User{ID: "anna", Name: "Anna", Active: true}, "anna@example.com"))
	p := &place{t: t, store: store, options: options, issuer: newIssuer(t, "Issuing CA")}
	p.cas, err = ca.NewAuthorities([]*ca.Authority{{Name: "cm", Issuer: p.issuer.cert, TaskQueue: "elsewhere"}})
	require.NoError(t, err)
	p.receiver = p.newReceiver(change...)
	return p
}

func (p *place) newReceiver(change ...func(*crlpush.Options)) *crlpush.Receiver {
	p.t.Helper()
	o := crlpush.Options{User: "cm", Password: testPassword}
	for _, f := range change {
		f(&o)
	}
	receiver, err := crlpush.New(p.store, p.cas, o)
	require.NoError(p.t, err)
	return receiver
}

func sqlitePlace(t testing.TB, change ...func(*crlpush.Options)) *place {
	return newPlace(t, identitymanager.Options{Driver: identitymanager.SQLite, DSN: filepath.Join(t.TempDir(), "im.db")}, change...)
}

// eachDatabase runs a test on SQLite and on PostgreSQL.
func eachDatabase(t *testing.T, test func(t *testing.T, p *place)) {
	t.Run(identitymanager.SQLite, func(t *testing.T) { test(t, sqlitePlace(t)) })
	t.Run(identitymanager.Postgres, func(t *testing.T) {
		test(t, newPlace(t, identitymanager.Options{Driver: identitymanager.Postgres, DSN: postgrestest.Start(t).NewDatabase(t)}))
	})
}

// mobileID creates an active mobile ID with certificates in given states, by serial.
func (p *place) mobileID(id string, states map[int64]mobileid.CertificateState, change ...func(*x509.Certificate)) {
	p.t.Helper()
	m := mobileid.MobileID{ID: id, Owner: mobileid.User{ID: "anna"}, State: mobileid.Active}
	for serial, state := range states {
		cert, _ := p.issuer.issue(p.t, serial, change...)
		c, err := mobileid.NewCertificate(cert, state)
		require.NoError(p.t, err)
		m.Certificates = append(m.Certificates, c)
	}
	require.NoError(p.t, p.store.CreateMobileID(p.t.Context(), m))
}

// states are those of the certificates of a mobile ID, by serial.
func (p *place) states(id string) map[int64]mobileid.CertificateState {
	p.t.Helper()
	m, err := p.store.MobileID(p.t.Context(), id)
	require.NoError(p.t, err)
	states := map[int64]mobileid.CertificateState{}
	for _, c := range m.Certificates {
		serial, err := c.SerialNumber()
		require.NoError(p.t, err)
		states[serial.Int64()] = c.State
	}
	return states
}

func (p *place) take(l list) crlpush.Taken {
	p.t.Helper()
	taken, err := p.receiver.Take(p.t.Context(), p.issuer.sign(p.t, l))
	require.NoError(p.t, err)
	return taken
}

// events are those of the audit of a mobile ID, whose chain is whole.
func (p *place) events(id string) []mobileid.Event {
	p.t.Helper()
	report, err := p.store.VerifyAudit(p.t.Context(), id, nil, nil)
	require.NoError(p.t, err)
	require.Empty(p.t, report.Faults)
	trail, err := p.store.AuditTrail(p.t.Context(), id)
	require.NoError(p.t, err)
	events := []mobileid.Event{}
	for _, entry := range trail {
		events = append(events, entry.Record.Event)
	}
	return events
}

func hexKey(c *x509.Certificate) string { return hex.EncodeToString(c.SubjectKeyId) }
