// Package ejbcatest is a fake of EJBCA's REST API: the product itself cannot run in
// tests. It was written from the same facts as the driver, and is strict: what EJBCA
// would refuse about paths, encodings, fields and roles is refused, with its error
// bodies.
package ejbcatest

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/ejbca"
)

const root = "/ejbca/ejbca-rest-api"

// codes of the reasons that the API knows by word.
var codes = map[string]int{
	"UNSPECIFIED": 0, "KEY_COMPROMISE": 1, "CA_COMPROMISE": 2, "AFFILIATION_CHANGED": 3, "SUPERSEDED": 4,
	"CESSATION_OF_OPERATION": 5, "CERTIFICATE_HOLD": 6, "REMOVE_FROM_CRL": 8, "PRIVILEGES_WITHDRAWN": 9, "AA_COMPROMISE": 10,
	"NOT_REVOKED": -1,
}

// Fake is a running fake.
type Fake struct {
	*catest.Issuer

	URL          string // of the API
	CRLURL       string
	DN           string             // of the CA, as the fake shows it
	Officer      catest.Credentials // of a role that may revoke
	Auditor      catest.Credentials // of a role that may not
	serverCAFile string

	mu           sync.Mutex
	certificates map[string]*entry // by serial number, in hex
	approvals    bool
	requests     int
}

type entry struct {
	cert   *x509.Certificate
	reason string // empty: not revoked
	date   time.Time
	wants  string // the reason of a request that waits for an approval
}

// Start runs a fake whose CA has the name.
func Start(t testing.TB, name pkix.Name) *Fake {
	t.Helper()
	f := &Fake{
		Issuer: catest.NewIssuer(t, name), Officer: catest.NewCredentials(t, "RA officer"), Auditor: catest.NewCredentials(t, "auditor"),
		certificates: map[string]*entry{},
	}
	f.DN = f.Certificate.Subject.String()
	server := httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	trust := x509.NewCertPool()
	trust.AddCert(f.Officer.Certificate)
	trust.AddCert(f.Auditor.Certificate)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trust, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what some tests want
	server.StartTLS()
	t.Cleanup(server.Close)
	f.URL = server.URL + root
	f.serverCAFile = catest.WritePEM(t, "server.pem", "CERTIFICATE", server.Certificate().Raw)

	public := httptest.NewServer(http.HandlerFunc(f.serveCRL))
	t.Cleanup(public.Close)
	f.CRLURL = public.URL
	return f
}

// Driver returns the options of a driver that comes with the credentials.
func (f *Fake) Driver(c catest.Credentials) ejbca.Options {
	return ejbca.Options{URL: f.URL, IssuerDN: f.DN, ClientCertFile: c.CertFile, ClientKeyFile: c.KeyFile, ServerCAFile: f.serverCAFile}
}

// Issue issues a certificate that the fake knows from then on.
func (f *Fake) Issue(t testing.TB, request catest.IssueRequest) *x509.Certificate {
	t.Helper()
	cert := f.Sign(t, request)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.certificates[fmt.Sprintf("%x", cert.SerialNumber)] = &entry{cert: cert}
	return cert
}

// Hold puts a certificate on hold.
func (f *Fake) Hold(_ testing.TB, cert *x509.Certificate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.certificates[fmt.Sprintf("%x", cert.SerialNumber)].revoke("CERTIFICATE_HOLD")
}

// Approve makes requests wait for an approval from now on. What it returns grants or
// rejects the one that waits for a certificate.
func (f *Fake) Approve(testing.TB) func(testing.TB, *x509.Certificate, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.approvals = true
	return func(_ testing.TB, cert *x509.Certificate, granted bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		e := f.certificates[fmt.Sprintf("%x", cert.SerialNumber)]
		if granted {
			e.revoke(e.wants)
		}
		e.wants = ""
	}
}

func (e *entry) revoke(reason string) {
	e.reason = reason
	e.date = time.Now().UTC().Truncate(time.Second)
}

func (f *Fake) serve(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), root+"/v1/")
	if !ok {
		http.NotFound(w, r) // the application server's own page
		return
	}
	if rest == "ca" && r.Method == http.MethodGet {
		answer(w, http.StatusOK, map[string]any{"certificate_authorities": []map[string]any{
			{"id": 1, "name": "Some other CA", "subject_dn": "CN=Some other CA"}, {"id": 2, "name": "ManagementCA", "subject_dn": f.DN},
		}})
		return
	}
	segments := strings.Split(rest, "/")
	if len(segments) != 4 || segments[0] != "certificate" {
		http.NotFound(w, r)
		return
	}
	dn, err := url.PathUnescape(segments[1])
	if err != nil {
		http.Error(w, "bad encoding", http.StatusBadRequest)
		return
	}
	switch {
	case segments[3] == "revoke" && r.Method == http.MethodPut:
		f.revoke(w, r, dn, segments[2])
	case segments[3] == "revocationstatus" && r.Method == http.MethodGet:
		f.status(w, dn, segments[2])
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// find looks a certificate up, and answers if there is none.
func (f *Fake) find(w http.ResponseWriter, dn, serial string) (*entry, bool) {
	number, ok := new(big.Int).SetString(strings.TrimPrefix(strings.ToLower(serial), "0x"), 16)
	if !ok {
		fail(w, http.StatusBadRequest, "Invalid serial number format (should be HEX): "+serial)
		return nil, false
	}
	if dn != f.DN {
		fail(w, http.StatusNotFound, "CA doesn't exist")
		return nil, false
	}
	e := f.certificates[fmt.Sprintf("%x", number)]
	if e == nil {
		fail(w, http.StatusNotFound, fmt.Sprintf("Certificate with serial number '%x' and issuer DN '%s' was not found", number, dn))
	}
	return e, e != nil
}

func (f *Fake) revoke(w http.ResponseWriter, r *http.Request, dn, serial string) {
	if body, err := io.ReadAll(r.Body); err != nil || len(body) > 0 {
		fail(w, http.StatusBadRequest, "a body is not expected")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	reason := r.URL.Query().Get("reason")
	code, known := codes[reason]
	if !known {
		fail(w, http.StatusBadRequest, "Invalid revocation reason.")
		return
	}
	if !r.TLS.PeerCertificates[0].Equal(f.Officer.Certificate) {
		fail(w, http.StatusForbidden, "Administrator is not authorized to revoke certificates of this CA.")
		return
	}
	e, ok := f.find(w, dn, serial)
	if !ok {
		return
	}
	lifts := code == -1 || reason == "REMOVE_FROM_CRL"
	switch {
	case lifts && e.reason != "CERTIFICATE_HOLD", !lifts && e.reason != "" && e.reason != "CERTIFICATE_HOLD":
		fail(w, http.StatusConflict, fmt.Sprintf("Certificate with issuer: %s and serial number: %s has previously been revoked.", dn, serial))
		return
	case f.approvals && e.wants != "":
		fail(w, http.StatusBadRequest, "Approval request already exists")
		return
	case f.approvals:
		e.wants = reason
		answer(w, http.StatusAccepted, map[string]any{"status_code": 202, "info_message": "Approval needed", "request_id": f.requests})
		return
	case lifts:
		e.reason = ""
	default:
		e.revoke(reason)
	}
	answer(w, http.StatusOK, map[string]any{
		"issuer_dn": dn, "serial_number": serial, "revocation_reason": reason, "revocation_date": time.Now().UTC().Format(time.RFC3339),
		"message": "Successfully revoked", "revoked": e.reason != "",
	})
}

func (f *Fake) status(w http.ResponseWriter, dn, serial string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.find(w, dn, serial)
	if !ok {
		return
	}
	body := map[string]any{"issuer_dn": dn, "serial_number": strings.ToUpper(serial), "revoked": e.reason != ""}
	if e.reason != "" {
		body["revocation_reason"], body["revocation_date"] = e.reason, e.date.Format(time.RFC3339)
	}
	answer(w, http.StatusOK, body)
}

func (f *Fake) serveCRL(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	var entries []x509.RevocationListEntry
	for _, e := range f.certificates {
		if e.reason != "" && e.cert.NotAfter.After(time.Now()) {
			entries = append(entries, x509.RevocationListEntry{SerialNumber: e.cert.SerialNumber, RevocationTime: e.date, ReasonCode: codes[e.reason]})
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

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, code int, message string) {
	answer(w, code, map[string]any{"error_code": code, "error_message": message})
}
