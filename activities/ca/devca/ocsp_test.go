package devca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"mobileid"
)

func ocspRequest(t testing.TB, cert, issuer *x509.Certificate, hash crypto.Hash) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: hash})
	require.NoError(t, err)
	return der
}

func TestOCSPStates(t *testing.T) {
	now := newClock(time.Now().Truncate(time.Second))
	s := open(t, t.TempDir(), Options{Clock: now.Now})
	revokedFor := func(reason mobileid.Reason) *x509.Certificate {
		cert := issue(t, s, "")
		revoke(t, s, cert, reason)
		return cert
	}
	unknown := &x509.Certificate{SerialNumber: big.NewInt(4711)}
	for _, row := range []struct {
		name   string
		cert   *x509.Certificate
		status int
		reason int
	}{
		{"good", issue(t, s, ""), ocsp.Good, 0},
		{"revoked", revokedFor(mobileid.KeyCompromise), ocsp.Revoked, ocsp.KeyCompromise},
		{"revoked for no reason", revokedFor(mobileid.Unspecified), ocsp.Revoked, ocsp.Unspecified},
		{"on hold", revokedFor(mobileid.CertificateHold), ocsp.Revoked, ocsp.CertificateHold},
		{"unknown", unknown, ocsp.Unknown, 0},
		{"longer than a serial number", &x509.Certificate{SerialNumber: new(big.Int).Lsh(big.NewInt(1), 200)}, ocsp.Unknown, 0},
	} {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			t.Run(row.name+" by "+hash.String(), func(t *testing.T) {
				answer := s.answerOCSP(ocspRequest(t, row.cert, s.Certificate(), hash))
				response, err := ocsp.ParseResponseForCert(answer, row.cert, s.Certificate())
				require.NoError(t, err)
				require.Equal(t, row.status, response.Status)
				require.Equal(t, row.reason, response.RevocationReason)
				require.Equal(t, hash, response.IssuerHash)
				require.True(t, now.Now().Equal(response.ThisUpdate))
				require.Equal(t, ocspValidity, response.NextUpdate.Sub(response.ThisUpdate))
				if row.status == ocsp.Revoked {
					require.True(t, now.Now().Equal(response.RevokedAt))
				}
			})
		}
	}
}

func TestOCSPResponderCertificate(t *testing.T) {
	now := newClock(time.Now())
	s := open(t, t.TempDir(), Options{Clock: now.Now})
	cert := issue(t, s, "")
	ask := func() *x509.Certificate {
		response, err := ocsp.ParseResponseForCert(s.answerOCSP(ocspRequest(t, cert, s.Certificate(), crypto.SHA1)), cert, s.Certificate())
		require.NoError(t, err)
		require.NotNil(t, response.Certificate)
		return response.Certificate
	}
	first := ask()
	require.NoError(t, first.CheckSignatureFrom(s.Certificate()))
	require.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, first.ExtKeyUsage)
	noCheck := false
	for _, extension := range first.Extensions {
		noCheck = noCheck || extension.Id.String() == "1.3.6.1.5.5.7.48.1.5" && bytes.Equal(extension.Value, asn1.NullBytes)
	}
	require.True(t, noCheck)
	require.Equal(t, first.SerialNumber, ask().SerialNumber, "it is kept while it is valid")
	now.Move(responderLifetime - responderRenewal + time.Second)
	second := ask()
	require.NotEqual(t, first.SerialNumber, second.SerialNumber, "it is renewed before its end")
	require.True(t, now.Now().Before(second.NotAfter))
}

func TestOCSPErrors(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	other := open(t, t.TempDir(), Options{}) // of the same name
	require.Equal(t, s.Certificate().RawSubject, other.Certificate().RawSubject)
	cert := issue(t, s, "")
	request := ocspRequest(t, cert, s.Certificate(), crypto.SHA1)
	id := func(request []byte) asn1.RawValue {
		var parsed struct {
			TBS struct{ Requests []asn1.RawValue }
		}
		_, err := asn1.Unmarshal(request, &parsed)
		require.NoError(t, err)
		return parsed.TBS.Requests[0]
	}
	two, err := asn1.Marshal(struct {
		TBS struct{ Requests []asn1.RawValue }
	}{struct{ Requests []asn1.RawValue }{[]asn1.RawValue{id(request), id(request)}}})
	require.NoError(t, err)
	for _, row := range []struct {
		name    string
		request []byte
		want    ocsp.ResponseStatus
	}{
		{"nothing", nil, ocsp.Malformed},
		{"no DER", []byte("hello"), ocsp.Malformed},
		{"cut short", request[:len(request)-2], ocsp.Malformed},
		{"two certificates", two, ocsp.Malformed},
		{"another CA of the same name", ocspRequest(t, cert, other.Certificate(), crypto.SHA1), ocsp.Unauthorized},
		{"another CA of the same name by SHA-256", ocspRequest(t, cert, other.Certificate(), crypto.SHA256), ocsp.Unauthorized},
		{"a hash that is not offered", ocspRequest(t, cert, s.Certificate(), crypto.SHA512), ocsp.Unauthorized},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := ocsp.ParseResponse(s.answerOCSP(row.request), nil)
			require.Equal(t, ocsp.ResponseError{Status: row.want}, err)
		})
	}
}

func TestOCSPByHTTP(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	server := httptest.NewServer(s.Public())
	t.Cleanup(server.Close)

	// Base64 of serials is searched for one whose text holds what URLs trip over.
	var cert *x509.Certificate
	var encoded string
	for n := int64(1); !strings.Contains(encoded, "//") || !strings.Contains(encoded, "+"); n++ {
		serial := new(big.Int).SetBytes([]byte{0x0f, 0xff, 0xff, 0xfb, 0xef, byte(n >> 8), byte(n), 0xff, 0xff, 0xff, 0xbe, byte(n * 7)})
		cert = &x509.Certificate{SerialNumber: serial}
		encoded = base64.StdEncoding.EncodeToString(ocspRequest(t, cert, s.Certificate(), crypto.SHA1))
	}
	cert, err := s.Issue(t.Context(), IssueRequest{
		CSR: newCSR(t, newKey(t), pkix.Name{CommonName: "Anna"}), Profile: ProfileSignature, Validity: time.Hour, Serial: cert.SerialNumber,
	})
	require.NoError(t, err)
	request := ocspRequest(t, cert, s.Certificate(), crypto.SHA1)

	for _, row := range []struct {
		name, method, path string
		body               []byte
		code               int
	}{
		{"POST", http.MethodPost, "/ocsp", request, 200},
		{"POST with a slash", http.MethodPost, "/ocsp/", request, 200},
		{"GET, escaped", http.MethodGet, "/ocsp/" + url.QueryEscape(encoded), nil, 200},
		{"GET, as it is", http.MethodGet, "/ocsp/" + encoded, nil, 200},
		{"too long", http.MethodPost, "/ocsp", make([]byte, maxOCSPRequest+1), 413},
		{"another method", http.MethodPut, "/ocsp", request, 405},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), row.method, server.URL+row.path, bytes.NewReader(row.body))
			require.NoError(t, err)
			response, err := server.Client().Do(r)
			require.NoError(t, err)
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, row.code, response.StatusCode)
			if row.code != 200 {
				return
			}
			require.Equal(t, "application/ocsp-response", response.Header.Get("Content-Type"))
			parsed, err := ocsp.ParseResponseForCert(answer, cert, s.Certificate())
			require.NoError(t, err)
			require.Equal(t, ocsp.Good, parsed.Status)
		})
	}
}
