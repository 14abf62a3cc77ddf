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
		{Name: "h", Issuer: newCA(t, "H").cert, TaskQueue: "zone"},
	})
	require.NotContains(t, err.Error(), `CA "h"`, "workers in its zone have the driver")
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

// What a lock may ask for is sent, or the worker does not start.
func TestReasonsAreCheckedAtStart(t *testing.T) {
	issuer := newCA(t, "CA")
	type reasons = map[mobileid.Reason]mobileid.Reason
	most := []mobileid.Reason{mobileid.KeyCompromise, mobileid.AffiliationChanged, mobileid.Superseded, mobileid.CessationOfOperation}
	for name, test := range map[string]struct {
		takes  []mobileid.Reason // nil: all
		mapped reasons
		fault  string
	}{
		"all are taken":                    {},
		"one is not":                       {takes: most, fault: `does not take reason "privilegeWithdrawn"`},
		"one is not, and is mapped":        {takes: most, mapped: reasons{mobileid.PrivilegeWithdrawn: mobileid.CessationOfOperation}},
		"mapped to what is not taken":      {takes: most, mapped: reasons{mobileid.PrivilegeWithdrawn: mobileid.CACompromise}, fault: `mapped to "cACompromise", which the driver does not take`},
		"mapped to a hold":                 {mapped: reasons{mobileid.Superseded: mobileid.CertificateHold}, fault: "certificateHold"},
		"a stronger one":                   {mapped: reasons{mobileid.Superseded: mobileid.KeyCompromise}},
		"keyCompromise weakened":           {mapped: reasons{mobileid.KeyCompromise: mobileid.Unspecified}, fault: "never sent as anything else"},
		"keyCompromise not taken":          {takes: []mobileid.Reason{}, fault: `does not take reason "keyCompromise"`},
		"keyCompromise not taken, weaker":  {takes: []mobileid.Reason{}, mapped: reasons{mobileid.KeyCompromise: mobileid.Superseded}, fault: "never sent as anything else"},
		"a reason that no lock sends":      {mapped: reasons{mobileid.CertificateHold: mobileid.Superseded}, fault: "which no lock sends"},
		"a word that is no reason":         {mapped: reasons{"lost": mobileid.Superseded}, fault: "which no lock sends"},
		"unspecified sent as another word": {mapped: reasons{mobileid.Unspecified: mobileid.CessationOfOperation}},
	} {
		t.Run(name, func(t *testing.T) {
			driver := &fakeDriver{capabilities: Capabilities{HasStatus: true, CarriesReason: true, Reasons: test.takes}}
			_, err := NewAuthorities([]*Authority{{Name: "ca", Issuer: issuer.cert, Driver: driver, Reasons: test.mapped}})
			if test.fault == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.fault)
		})
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
