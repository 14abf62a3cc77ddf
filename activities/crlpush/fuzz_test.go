package crlpush_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
)

// fixedIssuer is a CA whose key and signatures are the same in every run, so that what
// the corpus holds is signed.
func fixedIssuer(t testing.TB) (*x509.Certificate, ed25519.PrivateKey) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	begin := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Issuing CA"}, NotBefore: begin, NotAfter: begin.AddDate(50, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

// FuzzReadPushed sees that whatever comes is either what the CA has signed, or refused
// by a problem, and that asking the one for any certificate is safe.
func FuzzReadPushed(f *testing.F) {
	cert, key := fixedIssuer(f)
	cas, err := ca.NewAuthorities([]*ca.Authority{{Name: "cm", Issuer: cert, TaskQueue: "elsewhere"}})
	require.NoError(f, err)
	now := time.Date(2026, time.June, 1, 0, 0, 0, 0, time.UTC)
	seed := func(number int64, reasons map[int64]int, more ...pkix.Extension) []byte {
		template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.AddDate(0, 0, 1), ExtraExtensions: more}
		for _, serial := range []int64{11, 12, 13} {
			if reason, listed := reasons[serial]; listed {
				template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
					SerialNumber: big.NewInt(serial), RevocationTime: now.Add(-time.Hour), ReasonCode: reason,
				})
			}
		}
		der, err := x509.CreateRevocationList(rand.Reader, template, cert, key)
		require.NoError(f, err)
		return der
	}
	delta := pkix.Extension{Id: oidDelta, Critical: true, Value: []byte{2, 1, 3}}
	f.Add(seed(1, nil))
	f.Add(seed(2, map[int64]int{11: 1, 12: 6, 13: 0}))
	f.Add(seed(4, map[int64]int{11: 8, 12: 6, 13: 4}, delta))
	f.Add(seed(5, map[int64]int{11: 1}, point(f, "http://crl.example.com/1.crl")...))
	f.Add(seed(6, map[int64]int{11: 1})[:100])
	f.Add([]byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"))
	id := mobileid.CertificateID{Issuer: mobileid.HashName(cert.RawSubject), AKI: hexKey(cert), Serial: "b"}
	f.Fuzz(func(t *testing.T, document []byte) {
		crl, err := cas.ReadPushed(document, now)
		var refused *ca.PushError
		if err != nil {
			if !errors.As(err, &refused) {
				t.Fatalf("%v is no problem of a CRL", err)
			}
			return
		}
		// Nobody but the CA can have made it, so all of it is known.
		if n := crl.Number.Int64(); n != 1 && n != 2 && n != 4 && n != 5 {
			t.Fatalf("number %d was never signed", n)
		}
		if said := crl.Look(ca.Certificate{CertificateID: id}); said.Status == mobileid.StatusRevoked && crl.Number.Int64() != 2 {
			t.Fatalf("CRL %s says %s", crl.Number, said.Status)
		}
	})
}
