// Package cmptest is a CMP responder for tests, with a CA behind it. It is strict: the
// protection of a request, its header, and each field of a revocation request must be
// as RFC 9810 has them, and no more. Its answers are those of EJBCA, except that an
// approval is waited for with the status for it. `openssl cmp` as a client accepts
// them, which a test of the driver shows.
package cmptest

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmp"
)

const (
	path        = "/cmp/ra"
	contentType = "application/pkixcmp"

	// Reference names the fake's secret.
	Reference = "ra-4711"
)

// The bits of failInfo that the fake answers.
const (
	badMessageCheck = 1
	badRequest      = 2
	badTime         = 3
	badCertID       = 4
	certRevoked     = 10
	badSenderNonce  = 18
	transactionUsed = 21
	notAuthorized   = 23
)

// Fake is a running responder.
type Fake struct {
	*catest.Issuer

	URL      string // https
	PlainURL string // http
	CRLURL   string
	Officer  catest.Credentials // of an RA that may revoke
	Auditor  catest.Credentials // of an RA that may not
	Secret   string             // who knows it may revoke, too
	// Change, if set, changes answers before they are protected.
	Change func(*Answer)

	files        struct{ issuer, server, secret string }
	mu           sync.Mutex
	certificates map[string]*entry // by serial number, in hex
	approvals    bool
	requests     int             // to revoke, with a good protection
	seen         map[string]bool // transaction IDs and nonces
}

type entry struct {
	cert    *x509.Certificate
	revoked bool
	reason  int
	date    time.Time
	waits   bool // for an approval
	wants   int  // the reason of the request that waits
}

// Answer is what the fake is about to answer.
type Answer struct {
	TransactionID, RecipNonce []byte
	Version                   int
	Body                      int
	Statuses                  []Status
	ErrorCode                 int            // of an error message; 0: none
	ErrorDetails              []string       // of an error message
	RevCerts                  []*big.Int     // nil: none are named
	Signer                    *catest.Issuer // nil: the CA, or the secret if the request had it
	WithSecret                *string        // a MAC under it, in the place of the fake's; nil: as asked
	Iterations                int            // of a MAC
	Unprotected               bool
	Finish                    func(der []byte) []byte // nil: as it is
	ContentType               string
	Code                      int // HTTP
}

// Start runs a fake whose CA has the name.
func Start(t testing.TB, name pkix.Name) *Fake {
	t.Helper()
	f := &Fake{
		Issuer: catest.NewIssuer(t, name), Officer: catest.NewCredentials(t, "RA officer"), Auditor: catest.NewCredentials(t, "auditor"),
		Secret: "correct horse battery staple", certificates: map[string]*entry{}, seen: map[string]bool{},
	}
	secure := httptest.NewTLSServer(http.HandlerFunc(f.serve))
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(plain.Close)
	public := httptest.NewServer(http.HandlerFunc(f.serveCRL))
	t.Cleanup(public.Close)
	f.URL, f.PlainURL, f.CRLURL = secure.URL+path, plain.URL+path, public.URL
	f.files.server = catest.WritePEM(t, "server.pem", "CERTIFICATE", secure.Certificate().Raw)
	f.files.issuer = catest.WritePEM(t, "issuer.pem", "CERTIFICATE", f.Certificate.Raw)
	f.files.secret = WriteSecret(t, f.Secret)
	return f
}

// WriteSecret writes a secret into a file, as operators do: with a line end.
func WriteSecret(t testing.TB, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	return file
}

// IssuerFile returns the PEM file with the CA's certificate.
func (f *Fake) IssuerFile() string { return f.files.issuer }

// Driver returns the options of a driver that comes with the credentials, over https.
func (f *Fake) Driver(c catest.Credentials) cmp.Options {
	return cmp.Options{URL: f.URL, IssuerFile: f.files.issuer, CertFile: c.CertFile, KeyFile: c.KeyFile, ServerCAFile: f.files.server}
}

// SecretDriver returns the options of a driver that comes with the secret, over https.
func (f *Fake) SecretDriver() cmp.Options {
	return cmp.Options{URL: f.URL, IssuerFile: f.files.issuer, SecretFile: f.files.secret, Reference: Reference, ServerCAFile: f.files.server}
}

// Plain returns the options with http in the place of https.
func (f *Fake) Plain(options cmp.Options) cmp.Options {
	options.URL, options.ServerCAFile = f.PlainURL, ""
	return options
}

// Issue issues a certificate that the fake knows from then on.
func (f *Fake) Issue(t testing.TB, request catest.IssueRequest) *x509.Certificate {
	t.Helper()
	cert := f.Sign(t, request)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.certificates[cert.SerialNumber.Text(16)] = &entry{cert: cert}
	return cert
}

// Hold puts a certificate on hold.
func (f *Fake) Hold(_ testing.TB, cert *x509.Certificate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.certificates[cert.SerialNumber.Text(16)].revoke(certificateHold)
}

// Approve makes requests wait for an approval from now on. What it returns grants or
// refuses the one that waits for a certificate.
func (f *Fake) Approve(testing.TB) func(testing.TB, *x509.Certificate, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.approvals = true
	return func(_ testing.TB, cert *x509.Certificate, granted bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		e := f.certificates[cert.SerialNumber.Text(16)]
		if granted && e.waits {
			e.revoke(e.wants)
		}
		e.waits = false
	}
}

// Revocation returns whether a certificate is revoked, and for which reason.
func (f *Fake) Revocation(cert *x509.Certificate) (revoked bool, reason int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.certificates[cert.SerialNumber.Text(16)]
	return e.revoked, e.reason
}

const (
	certificateHold = 6
	removeFromCRL   = 8
)

func (e *entry) revoke(reason int) {
	e.revoked, e.reason, e.date = true, reason, time.Now().UTC().Truncate(time.Second)
}

func (f *Fake) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != path:
		http.NotFound(w, r) // EJBCA: no such alias
		return
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case r.Header.Get("Content-Type") != contentType:
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	der, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var message pkiMessage
	var header pkiHeader
	if err == nil {
		err = exactly(der, &message)
	}
	if err == nil {
		err = exactly(message.Header.FullBytes, &header)
	}
	if err != nil {
		http.Error(w, "no CMP message: "+err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := f.answer(message, header)
	answer.ContentType, answer.Code = contentType, http.StatusOK
	if f.Change != nil {
		f.Change(&answer)
	}
	der, err = f.encode(answer, header)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", answer.ContentType)
	w.WriteHeader(answer.Code)
	_, _ = w.Write(der)
}

// answer is what EJBCA would answer.
func (f *Fake) answer(message pkiMessage, header pkiHeader) Answer {
	a := Answer{Version: 2, TransactionID: header.TransactionID, RecipNonce: header.SenderNonce, Body: BodyError, Iterations: 500}
	refuse := func(protected bool, bit int, words string) Answer {
		a.Unprotected = !protected
		a.Statuses = []Status{{Status: 2, Fail: []int{bit}, Words: []string{words}}}
		return a
	}
	if header.PVNO != 2 || !bytes.Equal(nameOf(header.Recipient), f.Certificate.RawSubject) {
		return refuse(false, badRequest, "CA with DN is unknown")
	}
	caller, err := f.authenticate(message, header)
	if err != nil {
		return refuse(false, badMessageCheck, err.Error())
	}
	if age := time.Since(header.MessageTime).Abs(); age > 5*time.Minute {
		return refuse(true, badTime, "messageTime is off by "+age.String())
	}
	if len(header.TransactionID) != 16 || f.seen[string(header.TransactionID)] {
		return refuse(true, transactionUsed, "transactionID")
	}
	if len(header.SenderNonce) != 16 || f.seen[string(header.SenderNonce)] {
		return refuse(true, badSenderNonce, "senderNonce")
	}
	f.seen[string(header.TransactionID)], f.seen[string(header.SenderNonce)] = true, true
	if message.Body.Class != asn1.ClassContextSpecific || !message.Body.IsCompound {
		return refuse(true, badRequest, "no body")
	}
	switch message.Body.Tag {
	case bodyGenM:
		var list []asn1.RawValue
		if err := exactly(message.Body.Bytes, &list); err != nil || len(list) > 0 {
			return refuse(true, badRequest, "a general message that asks for something")
		}
		a.Body = BodyGenP
		return a
	case bodyRR:
	default:
		return refuse(true, badRequest, "unknown message type")
	}
	request, err := readRevocationRequest(message.Body.Bytes)
	if err != nil {
		return refuse(true, badRequest, err.Error())
	}
	a.Body = BodyRP
	if caller != nil && !caller.Equal(f.Officer.Certificate) {
		return refuse(true, notAuthorized, "not authorised to revoke")
	}
	return f.revoke(a, request)
}

func (f *Fake) revoke(a Answer, request wanted) Answer {
	f.requests++
	e := f.certificates[request.serial.Text(16)]
	reject := func(bit int, words string) Answer {
		a.Statuses = []Status{{Status: 2, Fail: []int{bit}, Words: []string{words}}}
		return a
	}
	switch {
	case !bytes.Equal(request.issuer, f.Certificate.RawSubject), e == nil:
		return reject(badCertID, "Cannot find certificate")
	case request.reason == removeFromCRL, request.reason == 7, request.reason > 10:
		return reject(badRequest, "reason")
	case e.revoked && e.reason != certificateHold:
		return reject(certRevoked, "Already revoked")
	case e.waits:
		return reject(badRequest, "Already requested")
	case f.approvals:
		e.waits, e.wants = true, request.reason
		a.Statuses = []Status{{Status: 3}}
		return a
	}
	e.revoke(request.reason)
	a.Statuses, a.RevCerts = []Status{{Status: 0}}, []*big.Int{request.serial}
	return a
}

// encode makes the bytes of an answer to a request with the header.
func (f *Fake) encode(a Answer, request pkiHeader) ([]byte, error) {
	content, err := f.content(a)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // it never fails
	header := pkiHeader{
		PVNO: a.Version, Sender: directoryName(f.Certificate.RawSubject), Recipient: asn1.RawValue{FullBytes: request.Sender.FullBytes},
		MessageTime: time.Now().UTC(), TransactionID: a.TransactionID, SenderNonce: nonce, RecipNonce: a.RecipNonce,
	}
	var s seal
	alg := request.ProtectionAlg.Algorithm
	switch {
	case a.Unprotected:
	case a.Signer != nil:
		s = signature(a.Signer)
	case a.WithSecret != nil:
		s, err = f.mac(oidPBM, a.Iterations, *a.WithSecret)
	case alg.Equal(oidPBM), alg.Equal(oidPBMAC1):
		s, err = f.mac(alg, a.Iterations, f.Secret)
	default:
		s = signature(f.Issuer)
	}
	if err != nil {
		return nil, err
	}
	header.ProtectionAlg, header.SenderKID = s.algorithm, s.keyID
	message := pkiMessage{ExtraCerts: s.certs, Body: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: a.Body, IsCompound: true, Bytes: content}}
	if message.Header.FullBytes, err = asn1.Marshal(header); err != nil {
		return nil, err
	}
	if s.protect != nil {
		part, err := asn1.Marshal(protectedPart{message.Header, message.Body})
		if err != nil {
			return nil, err
		}
		protection, err := s.protect(part)
		if err != nil {
			return nil, err
		}
		message.Protection = asn1.BitString{Bytes: protection, BitLength: 8 * len(protection)}
	}
	der, err := asn1.Marshal(message)
	if err == nil && a.Finish != nil {
		der = a.Finish(der)
	}
	return der, err
}

func (f *Fake) content(a Answer) ([]byte, error) {
	if a.Body == BodyGenP {
		return asn1.Marshal([]asn1.RawValue{})
	}
	var list []pkiStatusInfo
	for _, status := range a.Statuses {
		list = append(list, status.encode())
	}
	if a.Body == BodyError {
		return asn1.Marshal(errorMsgContent{Status: list[0], Code: a.ErrorCode, Words: texts(a.ErrorDetails)})
	}
	var named []certID
	for _, serial := range a.RevCerts {
		named = append(named, certID{directoryName(f.Certificate.RawSubject), serial})
	}
	return asn1.Marshal(revRepContent{Status: list, RevCerts: named})
}

func (f *Fake) serveCRL(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	var entries []x509.RevocationListEntry
	for _, e := range f.certificates {
		if e.revoked && e.cert.NotAfter.After(time.Now()) {
			entries = append(entries, x509.RevocationListEntry{SerialNumber: e.cert.SerialNumber, RevocationTime: e.date, ReasonCode: e.reason})
		}
	}
	f.mu.Unlock()
	der, err := f.CRL(entries)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(der)
}
