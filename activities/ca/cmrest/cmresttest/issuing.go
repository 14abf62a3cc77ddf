package cmresttest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // a key identifier
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
	"github.com/stretchr/testify/require"

	"mobileid/activities/ca/catest"
)

// WriteRequest makes a PKCS #10 request with the key, in DER.
func WriteRequest(t testing.TB, key any, commonName string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}, key)
	require.NoError(t, err)
	return der
}

// SignFor issues a certificate for the key of a request, with the serial number and the
// key identifier that CM is taken to give it. No fake knows it.
func SignFor(issuer *catest.Issuer, csr *x509.CertificateRequest, serial *big.Int, notAfter time.Time) (*x509.Certificate, error) {
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the fake takes ECDSA keys only")
	}
	point, err := key.Bytes()
	if err != nil {
		return nil, err
	}
	keyID := sha1.Sum(point) //nolint:gosec // a key identifier
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, RawSubject: csr.RawSubject, SubjectKeyId: keyID[:], NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter,
	}, issuer.Certificate, csr.PublicKey, issuer.Key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (f *Fake) issue(w http.ResponseWriter, r *http.Request) {
	form, ok := readForm(w, r, []string{"pkcs10", "procname"}, []string{"validto"})
	if !ok {
		return
	}
	for field, values := range form {
		if len(values) != 1 {
			fail(w, -14, field)
			return
		}
	}
	if form.Get("procname") != Procedure {
		fail(w, -14, "procname")
		return
	}
	notAfter := time.Now().Add(24 * time.Hour)
	if form.Has("validto") {
		var err error
		notAfter, err = time.Parse("2006-01-02T15:04:05Z", form.Get("validto"))
		if err != nil || notAfter.Nanosecond() != 0 || !notAfter.After(time.Now()) {
			fail(w, -14, "validto")
			return
		}
	}
	der, err := base64.StdEncoding.DecodeString(form.Get("pkcs10"))
	if err != nil {
		fail(w, -8, "pkcs10")
		return
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		fail(w, -14, "pkcs10")
		return
	}
	if !f.allowed(w, r, form) {
		return
	}
	serial := big.NewInt(0x900000 + int64(len(f.entries)))
	cert, err := SignFor(f.Issuer, csr, serial, notAfter)
	if err != nil {
		fail(w, -1, err.Error())
		return
	}
	f.entries = append(f.entries, &entry{id: serial.String(), issuer: f.DN, cert: cert, reason: -1})
	w.Header().Set("certId", serial.String())
	f.send(w, r, cert)
}

func (f *Fake) download(w http.ResponseWriter, r *http.Request, escaped string) {
	id, err := url.PathUnescape(escaped)
	e := f.find(id)
	if err != nil || e == nil || r.URL.RawQuery != "" {
		fail(w, -14, "no such certificate")
		return
	}
	f.send(w, r, e.cert)
}

// send answers with the certificate in the wanted form: PKCS #7, with the CA's, unless
// the client says otherwise.
func (f *Fake) send(w http.ResponseWriter, r *http.Request, cert *x509.Certificate) {
	kind, body := r.Header.Get("Accept"), cert.Raw
	switch kind {
	case "application/pkix-cert":
	case "", "application/pkcs7-mime":
		var err error
		if body, err = pkcs7.DegenerateCertificate(slices.Concat(f.Certificate.Raw, cert.Raw)); err != nil {
			fail(w, -1, err.Error())
			return
		}
		kind = "application/pkcs7-mime"
	default:
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(body) //nolint:gosec // a certificate, to a client that is no browser
}
