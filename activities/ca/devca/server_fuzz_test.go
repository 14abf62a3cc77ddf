package devca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"mobileid"
)

// books are what the CA has issued and revoked.
func (s *Server) books() map[serialNumber]certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.certificates)
}

// Any request to the API: what is refused has changed nothing, what is answered is
// JSON that says what happened, and nothing breaks.
func FuzzAPI(f *testing.F) {
	s := open(f, f.TempDir(), Options{})
	issue(f, s, "a1")
	issue(f, s, "a2")
	key := newKey(f)
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: newCSR(f, key, pkix.Name{CommonName: "Anna"})}))
	quoted, err := json.Marshal(csr)
	require.NoError(f, err)
	for _, row := range [][3]string{
		{"POST", "/v1/certificates", `{"csr":CSR,"profile":"signature","days":1}`},
		{"POST", "/v1/certificates", `{"csr":CSR,"profile":"authentication","days":1,"once":true}`},
		{"POST", "/v1/certificates", `{"csr":CSR,"profile":"encryption","days":99999}`},
		{"POST", "/v1/certificates", `{"csr":"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----","days":1}`},
		{"GET", "/v1/keys/00", ""},
		{"GET", "/v1/keys/" + strings.Repeat("0a", 32), ""},
		{"GET", "/v1/certificates/a1", ""},
		{"GET", "/v1/certificates/%61%31", ""},
		{"POST", "/v1/certificates/a1/revoke", `{"reason":"certificateHold"}`},
		{"POST", "/v1/certificates/a1/release", `{}`},
		{"POST", "/v1/certificates/a2/revoke", `{"reason":"keyCompromise"}`},
		{"POST", "/v1/certificates/-1/revoke", `{"reason":"superseded"}{}`},
		{"DELETE", "/v1//certificates/../keys/x", "[]"},
	} {
		f.Add(row[0], row[1], row[2])
	}
	handler := s.API()
	f.Fuzz(func(t *testing.T, method, path, body string) {
		// A fuzzer makes no key: with the word CSR it can ask for a certificate all the same.
		body = strings.ReplaceAll(body, "CSR", string(quoted))
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Method, r.URL = method, &url.URL{Path: path}
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{s.Certificate()}}}
		before := s.books()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Less(t, w.Code, 500, w.Body)
		after := s.books()
		if w.Code >= 300 {
			require.Equal(t, before, after, "it was refused: %s", w.Body)
		}
		if w.Code >= 300 && w.Code < 400 { // a path that is tidied up
			return
		}
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		var answer struct{ Error, Message, Serial, Status, Certificate string }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), w.Body)
		require.NotEmpty(t, answer.Serial+answer.Error)
		require.Equal(t, answer.Error == "", answer.Message == "", "a refusal has words")
		if w.Code != http.StatusCreated {
			require.Len(t, after, len(before), "a certificate that nobody was told of")
			return
		}
		block, _ := pem.Decode([]byte(answer.Certificate))
		require.NotNil(t, block)
		requireIssued(t, s, block.Bytes, key.Public())
	})
}

// requireIssued checks what must be true of every certificate of the CA: it is for
// the key, verifies, can issue nothing itself, and can be read by the worker.
func requireIssued(t *testing.T, s *Server, der []byte, public crypto.PublicKey) {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	require.NoError(t, cert.CheckSignatureFrom(s.Certificate()))
	require.False(t, cert.IsCA)
	require.True(t, cert.BasicConstraintsValid)
	require.Zero(t, cert.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign))
	require.Empty(t, append(append(cert.DNSNames, cert.EmailAddresses...), cert.PermittedDNSDomains...), "names of the request")
	own, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	require.True(t, ok)
	require.True(t, own.Equal(public), "it is for another key")
	name := cert.Subject
	require.Empty(t, slices.Concat(name.Country, name.Organization, name.OrganizationalUnit, name.Locality, name.Province, name.StreetAddress, name.PostalCode),
		"taken from the request")
	require.NotEmpty(t, name.Names)
	_, err = mobileid.NewCertificate(cert, mobileid.CertificateValid)
	require.NoError(t, err)
}

// Any subject and extensions in a request that is well signed, and any bytes in the
// place of a request: a certificate that says no more than who the person is, or
// ErrBadRequest, and nothing in the books.
func FuzzRequest(f *testing.F) {
	s := open(f, f.TempDir(), Options{})
	key := newKey(f)
	name := func(n pkix.Name) []byte {
		der, err := asn1.Marshal(n.ToRDNSequence())
		require.NoError(f, err)
		return der
	}
	for _, subject := range [][]byte{
		name(pkix.Name{CommonName: "Anna"}), name(pkix.Name{Organization: []string{"Evil"}}), name(pkix.Name{CommonName: "Anna", Country: []string{"SE"}, SerialNumber: "1"}),
		name(pkix.Name{CommonName: strings.Repeat("a", 300)}), name(pkix.Name{CommonName: "\x00\n"}), {0x30, 0}, {}, {0x30, 0x80, 0, 0},
	} {
		f.Add(subject, []byte(nil), false)
		f.Add(subject, []byte{0x30, 3, 1, 1, 0xff}, true)
	}
	f.Add(newCSR(f, key, pkix.Name{CommonName: "Anna"}), []byte(nil), true)
	f.Fuzz(func(t *testing.T, subject, constraints []byte, raw bool) {
		before := len(s.books())
		request := IssueRequest{CSR: subject, Profile: ProfileAuthentication, Validity: time.Hour}
		if !raw {
			request.CSR = signedRequest(t, key, subject, constraints)
		}
		cert, err := s.Issue(t.Context(), request)
		if err != nil {
			require.ErrorIs(t, err, ErrBadRequest)
			require.Len(t, s.books(), before)
			return
		}
		require.Len(t, s.books(), before+1)
		csr, err := x509.ParseCertificateRequest(request.CSR)
		require.NoError(t, err)
		requireIssued(t, s, cert.Raw, csr.PublicKey)
	})
}

// signedRequest is a request whose parts nobody has looked at, signed by its key.
func signedRequest(t *testing.T, key *ecdsa.PrivateKey, subject, constraints []byte) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject:      subject,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: constraints}},
	}, key)
	if err != nil {
		return nil // which is no request, either
	}
	return der
}

// Any request to the addresses that are open to everybody, OCSP above all: nothing
// breaks or changes, and only what was issued is called good.
func FuzzPublic(f *testing.F) {
	s := open(f, f.TempDir(), Options{})
	cert := issue(f, s, "a1")
	asked, err := ocsp.CreateRequest(cert, s.Certificate(), &ocsp.RequestOptions{Hash: crypto.SHA256})
	require.NoError(f, err)
	for _, path := range []string{"/ocsp", "/ocsp/", "/crl.der", "/crl.pem", "/ca.der", "/ca.pem", "/healthz", "//ocsp", "/ocsp/%zz", "/../ocsp"} {
		f.Add("GET", path, "bytes=0-1", []byte(nil))
		f.Add("POST", path, "", asked)
	}
	unknown := *cert
	unknown.SerialNumber = integer(f, "b1")
	asked, err = ocsp.CreateRequest(&unknown, s.Certificate(), nil)
	require.NoError(f, err)
	f.Add("POST", "/ocsp", "", asked)
	f.Add("POST", "/ocsp", "", []byte{0x30, 3, 10, 1, 1})
	handler := s.Public()
	f.Fuzz(func(t *testing.T, method, path, ranges string, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		r.Method = method
		target, err := url.Parse("http://ca.example" + path)
		if err != nil {
			target = &url.URL{Path: path}
		}
		r.URL = target
		r.Header.Set("Range", ranges)
		before := s.books()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Less(t, w.Code, 500, w.Body)
		require.Equal(t, before, s.books())
		if w.Header().Get("Content-Type") != "application/ocsp-response" {
			return
		}
		answer, err := io.ReadAll(w.Body)
		require.NoError(t, err)
		require.Less(t, len(answer), 4<<10, "longer than any answer about one certificate")
		response, err := ocsp.ParseResponse(answer, s.Certificate())
		if refused := (ocsp.ResponseError{}); err != nil {
			require.ErrorAs(t, err, &refused)
			require.NotEqual(t, ocsp.InternalError, refused.Status)
			return
		}
		if response.Status == ocsp.Good {
			require.Equal(t, cert.SerialNumber, response.SerialNumber)
		}
	})
}
