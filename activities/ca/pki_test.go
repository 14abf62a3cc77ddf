package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	encodingasn1 "encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"mobileid"
)

const (
	testURL    = "http://pki.example/test"
	ecdsaSHA2  = objectID("\x2a\x86\x48\xce\x3d\x04\x03\x02")
	ecdsaSHA1  = objectID("\x2a\x86\x48\xce\x3d\x04\x01")
	userSerial = 0x1f
)

// noon is when all tests happen.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func clockAt(at time.Time) func() time.Time { return func() time.Time { return at } }

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// certify makes a certificate; a nil parent signs itself. The template's zero
// times become a year around noon.
func certify(t testing.TB, template x509.Certificate, parent *pair) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	if template.NotBefore.IsZero() {
		template.NotBefore = noon.AddDate(0, -6, 0)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = noon.AddDate(0, 6, 0)
	}
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(1000)
	}
	signer := pair{&template, key}
	if parent != nil {
		signer = *parent
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, signer.cert, &key.PublicKey, signer.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return pair{cert, key}
}

func newCA(t testing.TB, name string) pair {
	t.Helper()
	return certify(t, x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}, nil)
}

// newResponder makes the certificate of a delegated responder; change may spoil it.
func newResponder(t testing.TB, issuer pair, change func(*x509.Certificate)) pair {
	t.Helper()
	template := x509.Certificate{
		Subject:     pkix.Name{CommonName: "Responder"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}
	if change != nil {
		change(&template)
	}
	return certify(t, template, &issuer)
}

// certificateOf is a live user certificate of the CA.
func certificateOf(issuer pair, serial *big.Int) Certificate {
	return Certificate{
		CertificateID: mobileid.CertificateID{
			Issuer: mobileid.HashName(issuer.cert.RawSubject),
			AKI:    (&Authority{Issuer: issuer.cert}).keyID(),
			Serial: serial.Text(16),
		},
		NotAfter: noon.AddDate(1, 0, 0),
	}
}

func userOf(issuer pair) Certificate { return certificateOf(issuer, big.NewInt(userSerial)) }

// roundTrip answers HTTP requests without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func httpAnswer(code int, body []byte, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Header: h,
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
}

// serving is a client whose server always answers body.
func serving(body []byte) *http.Client {
	return &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return httpAnswer(http.StatusOK, body), nil
	})}
}

func requireKind(t testing.TB, kind Kind, err error) *Error {
	t.Helper()
	require.Error(t, err)
	var e *Error
	require.True(t, errors.As(err, &e), "%v is no *Error", err)
	require.Equal(t, kind, e.Kind, "%v", err)
	return e
}

// sequence, element and raw write DER.
func sequence(b *cryptobyte.Builder, content func(*cryptobyte.Builder)) {
	b.AddASN1(asn1.SEQUENCE, content)
}

func element(b *cryptobyte.Builder, tag asn1.Tag, content []byte) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(content) })
}

func addAlgorithm(b *cryptobyte.Builder, id objectID) {
	sequence(b, func(b *cryptobyte.Builder) { element(b, asn1.OBJECT_IDENTIFIER, []byte(id)) })
}

func sign(t testing.TB, key *ecdsa.PrivateKey, algorithm objectID, data []byte) []byte {
	t.Helper()
	hash := crypto.SHA256
	if algorithm == ecdsaSHA1 {
		hash = crypto.SHA1
	}
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest(hash, data))
	require.NoError(t, err)
	return signature
}

type testExtension struct {
	id       objectID
	critical bool
	value    []byte
}

func addExtensions(b *cryptobyte.Builder, list []testExtension) {
	sequence(b, func(b *cryptobyte.Builder) {
		for _, e := range list {
			sequence(b, func(b *cryptobyte.Builder) {
				element(b, asn1.OBJECT_IDENTIFIER, []byte(e.id))
				if e.critical {
					b.AddASN1Boolean(true)
				}
				element(b, asn1.OCTET_STRING, e.value)
			})
		}
	})
}

// fakeSource is a scripted Source and Publication.
type fakeSource struct {
	evidence Evidence
	err      error
	next     time.Time
	asked    atomic.Int32
}

func (s *fakeSource) Check(context.Context, Certificate) (Evidence, error) {
	s.asked.Add(1)
	return s.evidence, s.err
}

func (s *fakeSource) NextUpdate() time.Time { return s.next }

var unknownCritical = testExtension{id: "\x2a\x03\x04", critical: true, value: []byte{5, 0}}

func mustMarshal(t testing.TB, value any) []byte {
	t.Helper()
	der, err := encodingasn1.Marshal(value)
	require.NoError(t, err)
	return der
}
