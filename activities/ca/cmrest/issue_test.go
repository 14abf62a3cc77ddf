package cmrest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmrest"
	"mobileid/activities/ca/cmrest/cmresttest"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// signFor issues a certificate for the key.
func signFor(t testing.TB, issuer *catest.Issuer, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "Anna"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, issuer.Certificate, &key.PublicKey, issuer.Key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

// without takes a header off requests.
type without struct {
	header string
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w without) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del(w.header)
	return w.next.RoundTrip(r)
}

// What is issued is for the key of the request, and can be found and revoked.
func TestIssue(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*cmresttest.Fake, *cmrest.Driver)
	}{
		{"signed by the caller", func(*cmresttest.Fake, *cmrest.Driver) {}},
		{"signed by the server", func(f *cmresttest.Fake, _ *cmrest.Driver) { f.SignByServer() }},
		{"signed too late once", func(f *cmresttest.Fake, _ *cmrest.Driver) { f.Outdate(1) }},
		{"as PKCS #7", func(_ *cmresttest.Fake, d *cmrest.Driver) {
			d.Client().Transport = without{"Accept", d.Client().Transport}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			fake, key := cmresttest.Start(t, someName), newKey(t)
			d := newDriver(t, fake.Driver(fake.Officer))
			row.change(fake, d)
			cert, err := d.Issue(t.Context(), cmresttest.WriteRequest(t, key, "Anna"), cmresttest.Procedure, time.Time{})
			require.NoError(t, err)
			require.True(t, key.PublicKey.Equal(cert.PublicKey))
			require.NoError(t, cert.CheckSignatureFrom(fake.Certificate))
			_, err = d.Revoke(t.Context(), catest.Name(t, cert), mobileid.Superseded)
			require.NoError(t, err)
			evidence, err := d.Status(t.Context(), catest.Name(t, cert))
			require.NoError(t, err)
			require.Equal(t, mobileid.StatusRevoked, evidence.Status)
		})
	}
}

func TestIssueRefused(t *testing.T) {
	fake := cmresttest.Start(t, someName)
	csr := cmresttest.WriteRequest(t, newKey(t), "Anna")
	_, err := newDriver(t, fake.Driver(fake.Officer)).Issue(t.Context(), csr, "Another procedure", time.Time{})
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	_, err = newDriver(t, fake.Driver(fake.Auditor)).Issue(t.Context(), csr, cmresttest.Procedure, time.Time{})
	require.Equal(t, ca.Denied, kindOf(t, err))
}

// What goes over the wire: the same fields again, and the signature.
func TestIssueWire(t *testing.T) {
	issuer, key := catest.NewIssuer(t, someName), newKey(t)
	csr := cmresttest.WriteRequest(t, key, "Anna")
	var fields []map[string][]string
	d := issuing(t, issuer.Certificate, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, http.MethodPost, r.Method)
		require.Equal(t, "/pgwy/api/certificates/pkcs10", r.URL.RequestURI())
		require.Equal(t, "application/pkix-cert", r.Header.Get("Accept"))
		require.NoError(t, r.ParseMultipartForm(1<<20))
		fields = append(fields, r.MultipartForm.Value)
		if len(fields) == 1 {
			_, _ = w.Write([]byte(`{"error":-19,"msg":"Sign request and send again","dataToSign":"` + data + `"}`))
			return
		}
		_, _ = w.Write(signFor(t, issuer, key).Raw)
	})
	_, err := d.Issue(t.Context(), csr, "Mobile ID", time.Date(2028, 1, 2, 4, 4, 5, 999, time.FixedZone("CET", 3600)))
	require.NoError(t, err)
	require.Len(t, fields, 2)
	require.Equal(t, map[string][]string{"pkcs10": {base64.StdEncoding.EncodeToString(csr)}, "procname": {"Mobile ID"}, "validto": {"2028-01-02T03:04:05Z"}}, fields[0])
	require.Len(t, fields[1]["signature"], 1)
	delete(fields[1], "signature")
	require.Equal(t, fields[0], fields[1])
	_, err = d.Issue(t.Context(), csr, "", time.Time{})
	require.NoError(t, err)
	require.Equal(t, map[string][]string{"pkcs10": {base64.StdEncoding.EncodeToString(csr)}}, fields[2])
}

// issuing is a driver for the issuer whose requests the test answers.
func issuing(t testing.TB, issuer *x509.Certificate, handle http.HandlerFunc) *cmrest.Driver {
	t.Helper()
	officer := catest.NewCredentials(t, "officer")
	d := newDriver(t, cmrest.Options{
		URL: "https://localhost/pgwy/api", IssuerDN: dn, Issuer: issuer, ClientCertFile: officer.CertFile, ClientKeyFile: officer.KeyFile,
	})
	d.Client().Transport = catest.Handler(handle)
	return d
}

// A certificate that is not what was asked for is not handed on, and its certid is told.
func TestIssuedIsChecked(t *testing.T) {
	issuer, twin, other := catest.NewIssuer(t, someName), catest.NewIssuer(t, someName), catest.NewIssuer(t, pkix.Name{CommonName: "Other CA"})
	key := newKey(t)
	good := signFor(t, issuer, key)
	bundle := func(certs ...*x509.Certificate) []byte {
		var raw []byte
		for _, cert := range certs {
			raw = append(raw, cert.Raw...)
		}
		der, err := pkcs7.DegenerateCertificate(raw)
		require.NoError(t, err)
		return der
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for _, row := range []struct {
		name  string
		code  int
		body  []byte
		words string // empty: it is handed on
	}{
		{"good", 200, good.Raw, ""},
		{"created", 201, good.Raw, ""},
		{"as PEM", 200, encode("CERTIFICATE", good.Raw), ""},
		{"with its chain", 200, bundle(issuer.Certificate, good), ""},
		{"with its chain, as PEM", 200, encode("PKCS7", bundle(good, issuer.Certificate)), ""},
		{"for another key", 200, signFor(t, issuer, newKey(t)).Raw, "for the key"},
		{"the chain alone", 200, bundle(issuer.Certificate), "for the key"},
		{"of another issuer", 200, signFor(t, other, key).Raw, "another issuer"},
		{"of another issuer of the name", 200, signFor(t, twin, key).Raw, "not signed by"},
		{"cut short", 200, good.Raw[:100], "neither"},
		{"with something after it", 200, slices.Concat(good.Raw, []byte{0}), "neither"},
		{"nothing", 200, nil, "neither"},
		{"HTML", 200, []byte("<html>"), "neither"},
		{"too much", 200, bytes.Repeat([]byte("0"), 100_000), "too large"},
		{"success without a certificate", 200, []byte(` {"error":0}`), "no certificate"},
		{"a failure with a certificate", 500, good.Raw, "HTTP 500"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := issuing(t, issuer.Certificate, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("certId", "4711")
				w.WriteHeader(row.code)
				_, _ = w.Write(row.body)
			})
			cert, err := d.Issue(t.Context(), cmresttest.WriteRequest(t, key, "Anna"), "", time.Time{})
			if row.words == "" {
				require.NoError(t, err)
				require.True(t, cert.Equal(good))
				return
			}
			require.Nil(t, cert)
			require.Equal(t, ca.Ambiguous, kindOf(t, err))
			require.ErrorContains(t, err, row.words)
			if row.code == 200 && !strings.Contains(string(row.body), "{") {
				require.ErrorContains(t, err, "4711")
			}
		})
	}
}

// What cannot become a certificate is not asked for.
func TestIssueIsNotAsked(t *testing.T) {
	csr := cmresttest.WriteRequest(t, newKey(t), "Anna")
	forged := slices.Clone(csr)
	forged[len(forged)-1] ^= 1
	refuse := func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }
	issuer := catest.NewIssuer(t, someName).Certificate
	for name, row := range map[string]struct {
		issuer *x509.Certificate
		csr    []byte
	}{
		"no issuer to check by":  {nil, csr},
		"no request":             {issuer, nil},
		"not by the key's owner": {issuer, forged},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := issuing(t, row.issuer, refuse).Issue(t.Context(), row.csr, "", time.Time{})
			require.Equal(t, ca.Unsupported, kindOf(t, err))
		})
	}
}

// FuzzIssued feeds the parsers of certificates, PEM and PKCS #7.
func FuzzIssued(f *testing.F) {
	issuer, key := catest.NewIssuer(f, someName), newKey(f)
	good := signFor(f, issuer, key)
	chain, err := pkcs7.DegenerateCertificate(slices.Concat(good.Raw, issuer.Certificate.Raw))
	require.NoError(f, err)
	for _, seed := range [][]byte{good.Raw, chain, pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: chain}), []byte(`{"error":-1}`), nil, {0x30, 0x80}} {
		f.Add(200, seed)
		f.Add(500, seed)
	}
	csr := cmresttest.WriteRequest(f, key, "Anna")
	var code int
	var body []byte
	d := issuing(f, issuer.Certificate, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write(body)
	})
	f.Fuzz(func(t *testing.T, c int, b []byte) {
		if c < 200 || c > 599 {
			return
		}
		code, body = c, b
		cert, err := d.Issue(t.Context(), csr, "", time.Time{})
		if err != nil {
			require.Nil(t, cert)
			return
		}
		require.Less(t, c, 300)
		require.Equal(t, good.RawTBSCertificate, cert.RawTBSCertificate, "nobody else can have signed one")
	})
}
