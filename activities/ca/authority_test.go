package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestNewAuthoritiesReportsAllFaultsAtOnce(t *testing.T) {
	first, second := newCA(t, "CA"), newCA(t, "Other CA")
	user := certify(t, x509.Certificate{Subject: pkix.Name{CommonName: "Anna"}}, &first)
	good := &fakeDriver{capabilities: Capabilities{HasStatus: true}}
	_, err := NewAuthorities([]*Authority{
		{Name: "a", Issuer: first.cert, Driver: good},
		nil,
		{Name: "a", Issuer: second.cert, Driver: good},
		{Name: "b", Issuer: first.cert, Driver: good},
		{Name: "c", Driver: good},
		{Name: "d", Issuer: newCA(t, "D").cert},
		{Name: "e", Issuer: user.cert, Driver: good},
		{Name: "f", Issuer: newCA(t, "F").cert, Driver: &fakeDriver{}},
		{Issuer: newCA(t, "G").cert, Driver: good, RequestTimeout: -1},
	})
	for _, fault := range []string{
		"CA number 2 is missing",
		`CA "a" is configured twice`,
		`CAs "a" and "b" have the same issuer name`,
		`CA "c": no CA certificate`,
		`CA "d": has no driver`,
		`CA "e": the configured certificate is not a CA's`,
		`CA "f": needs an OCSP responder or a CRL`,
		`CA "": has no name`,
		`CA "": request time-out is negative`,
	} {
		require.ErrorContains(t, err, fault)
	}
}

func TestAuthoritiesFindTheIssuer(t *testing.T) {
	old, renewed, other, stranger := newCA(t, "CA"), newCA(t, "CA"), newCA(t, "Other CA"), newCA(t, "Stranger")
	driver := &fakeDriver{capabilities: Capabilities{HasStatus: true}}
	a := &Authority{Name: "old", Issuer: old.cert, Driver: driver}
	b := &Authority{Name: "renewed", Issuer: renewed.cert, Driver: driver}
	c := &Authority{Name: "other", Issuer: other.cert, Driver: driver}
	as, err := NewAuthorities([]*Authority{a, b, c})
	require.NoError(t, err)
	require.Equal(t, []*Authority{a, b, c}, as.All())

	without := func(cert Certificate) mobileid.CertificateID {
		cert.AKI = ""
		return cert.CertificateID
	}
	for name, test := range map[string]struct {
		id   mobileid.CertificateID
		want *Authority
	}{
		"by name and key":                    {userOf(old).CertificateID, a},
		"same name, other key":               {userOf(renewed).CertificateID, b},
		"same name, unknown key":             {userOf(newCA(t, "CA")).CertificateID, nil},
		"same name, certificate without AKI": {without(userOf(old)), nil},
		"one name, certificate without AKI":  {without(userOf(other)), c},
		"one name, unknown key":              {userOf(newCA(t, "Other CA")).CertificateID, nil},
		"not configured":                     {userOf(stranger).CertificateID, nil},
		"nothing":                            {mobileid.CertificateID{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			found, ok := as.For(test.id)
			require.Equal(t, test.want != nil, ok)
			require.Same(t, test.want, found)
		})
	}

	found, ok := as.ByName("renewed")
	require.True(t, ok)
	require.Same(t, b, found)
	_, ok = as.ByName("")
	require.False(t, ok)
}

func TestNextPublication(t *testing.T) {
	require.True(t, (&Authority{}).NextPublication().IsZero())
	next := noon.Add(time.Hour)
	require.Equal(t, next, (&Authority{CRL: &fakeSource{next: next}}).NextPublication())
}
