// Package cmresttest is a fake of the CM REST API of Nexus Protocol Gateway: the
// product itself cannot run in tests. It was written from the same facts as the driver,
// and is strict about paths, methods, content types, fields, officers and signatures.
// What the facts leave open, the number for "revoked already" for one, is its own choice.
package cmresttest

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmrest"
)

const (
	root = "/pgwy/api/handler1"

	// Procedure is the token procedure of the fake, for a PKCS #10 request.
	Procedure = "Mobile ID"

	maxBody = 1 << 20 // of a request, in bytes
	onHold  = 6
)

// words are the reasons that the API takes, by number.
var words = map[int]string{
	0: "unspecified", 1: "key compromise", 3: "affiliation changed", 4: "superseded", 5: "cessation of operation",
	onHold: "certificate hold", 9: "privilege withdrawn",
}

// parameters are those of a search that the fake knows.
var parameters = []string{"searchLimit", "searchOffset", "certificateSerialNumber", "issuer", "subjectKeyIdentifier"}

// Fake is a running fake.
type Fake struct {
	*catest.Issuer

	URL     string // of the API
	CRLURL  string
	DN      string             // of the CA, as the fake shows it
	Officer catest.Credentials // may connect and revoke
	Signer  catest.Credentials // may revoke, and not connect
	Auditor catest.Credentials // may connect
	serials cmrest.SerialFormat
	trust   string // PEM file of what vouches for the server

	mu       sync.Mutex
	vro      bool // the gateway signs by itself
	entries  []*entry
	pending  map[string]string // by dataToSign: the request that it is for
	stale    int               // how many signatures more are too late
	limit    int               // hits that are shown at once
	requests []string          // that were signed, in order
}

type entry struct {
	id     string
	issuer string
	cert   *x509.Certificate
	reason int // negative: not revoked
	date   time.Time
}

// Start runs a fake whose CA has the name. Requests are signed by the caller.
func Start(t testing.TB, name pkix.Name) *Fake {
	t.Helper()
	f := &Fake{
		Issuer: catest.NewIssuer(t, name), Officer: catest.NewCredentials(t, "officer"),
		Signer: catest.NewCredentials(t, "signing officer"), Auditor: catest.NewCredentials(t, "auditor"),
		serials: cmrest.Hex, pending: map[string]string{}, limit: 500,
	}
	f.DN = rfc1779(f.Certificate.Subject)
	server := httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	trust := x509.NewCertPool()
	trust.AddCert(f.Officer.Certificate)
	trust.AddCert(f.Auditor.Certificate)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trust, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what some tests want
	server.StartTLS()
	t.Cleanup(server.Close)
	f.URL = server.URL + root
	f.trust = catest.WritePEM(t, "server.pem", "CERTIFICATE", server.Certificate().Raw)

	public := httptest.NewServer(http.HandlerFunc(f.serveCRL))
	t.Cleanup(public.Close)
	f.CRLURL = public.URL
	return f
}

// Driver returns the options of a driver that comes with the credentials, and signs
// with them.
func (f *Fake) Driver(c catest.Credentials) cmrest.Options {
	return cmrest.Options{
		URL: f.URL, IssuerDN: f.DN, SerialFormat: f.serials, Issuer: f.Certificate,
		ClientCertFile: c.CertFile, ClientKeyFile: c.KeyFile, ServerCAFile: f.trust,
	}
}

// SignByServer makes the gateway sign for its callers from now on (VRO mode).
func (f *Fake) SignByServer() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vro = true
}

// Write makes the fake write serial numbers in the format from now on.
func (f *Fake) Write(format cmrest.SerialFormat) { f.serials = format }

// Outdate makes so many signatures come too late.
func (f *Fake) Outdate(signatures int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale = signatures
}

// Show makes a search show so many hits at once, at most.
func (f *Fake) Show(hits int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = hits
}

// Signed returns the signatures that have come, in base64.
func (f *Fake) Signed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// Issue issues a certificate that the fake knows from then on.
func (f *Fake) Issue(t testing.TB, request catest.IssueRequest) *x509.Certificate {
	t.Helper()
	cert := f.Sign(t, request)
	f.add(cert, f.DN)
	return cert
}

// Import puts a copy of another CA's certificate into the archive, under the issuer
// name, and returns its certid.
func (f *Fake) Import(cert *x509.Certificate, issuer string) string { return f.add(cert, issuer) }

func (f *Fake) add(cert *x509.Certificate, issuer string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := fmt.Sprintf("%d/%d", 7000+len(f.entries), len(f.entries)) // a slash, to see that it is escaped
	f.entries = append(f.entries, &entry{id: id, issuer: issuer, cert: cert, reason: -1})
	return id
}

// Hold puts a certificate on hold.
func (f *Fake) Hold(_ testing.TB, cert *x509.Certificate) { f.Revoke(cert, onHold) }

// Revoke revokes a certificate by another way than the API.
func (f *Fake) Revoke(cert *x509.Certificate, reason int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.entries {
		if e.cert.Equal(cert) {
			e.revoke(reason)
		}
	}
}

// Revoked reports whether the entry of the certid is revoked or on hold.
func (f *Fake) Revoked(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.find(id)
	return e != nil && e.reason >= 0
}

func (e *entry) revoke(reason int) {
	e.reason = reason
	e.date = time.Now().UTC().Truncate(time.Second)
}

func (f *Fake) find(id string) *entry {
	for _, e := range f.entries {
		if e.id == id {
			return e
		}
	}
	return nil
}

func (f *Fake) serve(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), root+"/")
	if !ok {
		http.NotFound(w, r) // Tomcat's own page
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.Method + " " + path {
	case "GET procedures":
		f.procedures(w, r)
	case "GET certificates":
		f.list(w, r)
	case "POST certificates/revoke":
		f.revoke(w, r)
	case "POST certificates/pkcs10":
		f.issue(w, r)
	default:
		under, isOne := strings.CutPrefix(path, "certificates/")
		certID, operation, _ := strings.Cut(under, "/")
		switch {
		case isOne && r.Method == http.MethodGet && operation == "details":
			f.details(w, certID)
		case isOne && r.Method == http.MethodGet && operation == "download":
			f.download(w, r, certID)
		default:
			http.NotFound(w, r)
		}
	}
}

func (f *Fake) procedures(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("mediaType") != "pkcs10" {
		fail(w, -14, "unknown media type")
		return
	}
	answer(w, map[string]any{"error": 0, "msg": "OK", "procedures": []map[string]string{{"procid": "17", "procname": Procedure}}})
}

func (f *Fake) list(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		fail(w, -8, "bad encoding")
		return
	}
	for name, values := range query {
		if !slices.Contains(parameters, name) || len(values) != 1 {
			fail(w, -14, "parameter "+name)
			return
		}
	}
	limit, limitErr := strconv.Atoi(query.Get("searchLimit"))
	offset, offsetErr := strconv.Atoi(query.Get("searchOffset"))
	if limitErr != nil || offsetErr != nil || limit < 1 || offset < 0 {
		fail(w, -14, "bad value")
		return
	}
	wanted, ok := f.wanted(query)
	if !ok {
		fail(w, -14, "bad value")
		return
	}
	var hits []map[string]any
	for _, e := range f.entries {
		if wanted(e) {
			hits = append(hits, f.show(e))
		}
	}
	from := min(offset, len(hits))
	to := min(from+min(limit, f.limit), len(hits))
	answer(w, map[string]any{"error": 0, "msg": "OK", "searchHits": len(hits), "certificates": append([]map[string]any{}, hits[from:to]...)})
}

// wanted reads what is searched for: a serial number or a key identifier, and for an
// issuer. A search by none of the first two is a client's mistake.
func (f *Fake) wanted(query url.Values) (func(*entry) bool, bool) {
	if !query.Has("certificateSerialNumber") && !query.Has("subjectKeyIdentifier") {
		return nil, false
	}
	serial, isSerial := f.number(query.Get("certificateSerialNumber"))
	keyID, err := hex.DecodeString(query.Get("subjectKeyIdentifier"))
	if query.Has("certificateSerialNumber") != isSerial || query.Has("subjectKeyIdentifier") != (err == nil && len(keyID) > 0) {
		return nil, false
	}
	return func(e *entry) bool {
		return (!isSerial || e.cert.SerialNumber.Cmp(serial) == 0) &&
			(len(keyID) == 0 || bytes.Equal(e.cert.SubjectKeyId, keyID)) &&
			(!query.Has("issuer") || e.issuer == query.Get("issuer"))
	}, true
}

// number reads a serial number in the fake's format, and no other.
func (f *Fake) number(text string) (*big.Int, bool) {
	base, digits := 16, "0123456789abcdefABCDEF"
	if f.serials == cmrest.Decimal {
		base, digits = 10, "0123456789"
	}
	if strings.Trim(text, digits) != "" {
		return nil, false
	}
	return new(big.Int).SetString(text, base)
}

func (f *Fake) details(w http.ResponseWriter, escaped string) {
	id, err := url.PathUnescape(escaped)
	if e := f.find(id); err == nil && e != nil {
		answer(w, map[string]any{"error": 0, "msg": "OK", "certificate": f.show(e)})
		return
	}
	fail(w, -14, "no such certificate")
}

func (f *Fake) show(e *entry) map[string]any {
	serial := strings.ToUpper(fmt.Sprintf("%x", e.cert.SerialNumber.Bytes()))
	if f.serials == cmrest.Decimal {
		serial = e.cert.SerialNumber.String()
	}
	shown := map[string]any{
		"certid": e.id, "status": "active", "certificateserialnumber": serial, "issuer": e.issuer, "subject": rfc1779(e.cert.Subject),
		"validfrom": e.cert.NotBefore.UnixMilli(), "validto": e.cert.NotAfter.UnixMilli(), "subjectType": "EE",
		"subjectKeyIdentifier": strings.ToUpper(hex.EncodeToString(e.cert.SubjectKeyId)),
	}
	if e.reason >= 0 {
		shown["status"], shown["reason"], shown["revocationtime"] = "revoked", words[e.reason], e.date.Format(time.RFC3339)
	}
	return shown
}

func (f *Fake) revoke(w http.ResponseWriter, r *http.Request) {
	form, ok := readForm(w, r, []string{"certid", "reason"}, nil)
	if !ok {
		return
	}
	reason, err := strconv.Atoi(form.Get("reason"))
	if _, known := words[reason]; err != nil || !known || len(form["reason"]) != 1 {
		fail(w, -14, "reason")
		return
	}
	if !f.allowed(w, r, form) {
		return
	}
	var errors []map[string]any
	for _, id := range form["certid"] {
		e := f.find(id)
		switch {
		case e == nil:
			errors = append(errors, refused(id, -14, "no such certificate"))
		case e.reason >= 0 && (e.reason != onHold || reason == onHold):
			errors = append(errors, refused(id, -1, "certificate is in a state that does not allow it"))
		default:
			e.revoke(reason)
		}
	}
	if len(errors) > 0 {
		answer(w, map[string]any{"error": -1, "msg": "some certificates could not be revoked", "errors": errors})
		return
	}
	answer(w, map[string]any{"error": 0, "msg": "OK"})
}

// readForm reads a form of both kinds, which must have the fields, may have the optional
// ones and a signature, and has no others.
func readForm(w http.ResponseWriter, r *http.Request, fields, optional []string) (url.Values, bool) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var err error
	switch kind {
	case "application/x-www-form-urlencoded":
		err = r.ParseForm()
	case "multipart/form-data":
		err = r.ParseMultipartForm(maxBody) //nolint:gosec // serve has bounded the body
	default:
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return nil, false
	}
	if err != nil || r.URL.RawQuery != "" {
		fail(w, -8, "form")
		return nil, false
	}
	for _, field := range fields {
		if r.PostForm.Get(field) == "" {
			fail(w, -7, field)
			return nil, false
		}
	}
	for field := range r.PostForm {
		if field != "signature" && !slices.Contains(fields, field) && !slices.Contains(optional, field) {
			fail(w, -14, field)
			return nil, false
		}
	}
	return r.PostForm, true
}

// allowed sees that an officer who may has signed the request, and answers if not. By
// the server it is the caller who must be one.
func (f *Fake) allowed(w http.ResponseWriter, r *http.Request, form url.Values) bool {
	officer := r.TLS.PeerCertificates[0]
	signature := form.Get("signature")
	unsigned := maps.Clone(form)
	unsigned.Del("signature")
	request := r.URL.Path + "?" + unsigned.Encode()
	switch {
	case f.vro && signature != "":
		fail(w, -14, "signature")
		return false
	case f.vro:
	case signature == "":
		nonce := make([]byte, 32)
		_, _ = rand.Read(nonce) // never fails
		data := "CM request " + request + string(nonce)
		f.pending[data] = request
		answer(w, map[string]any{"error": -19, "msg": "Sign request and send again", "dataToSign": base64.StdEncoding.EncodeToString([]byte(data))})
		return false
	default:
		f.requests = append(f.requests, signature)
		content, signer, err := verify(signature)
		if err != nil {
			fail(w, -17, err.Error())
			return false
		}
		wanted, known := f.pending[content]
		delete(f.pending, content)
		if f.stale > 0 {
			f.stale--
			known = false
		}
		if !known || wanted != request {
			fail(w, -17, "what is signed is not this request")
			return false
		}
		officer = signer
	}
	if !officer.Equal(f.Officer.Certificate) && !officer.Equal(f.Signer.Certificate) {
		fail(w, -15, "the officer lacks the role")
		return false
	}
	return true
}

// verify returns what was signed, and by whom.
func verify(signature string) (string, *x509.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return "", nil, err
	}
	message, err := pkcs7.Parse(der)
	if err != nil {
		return "", nil, err
	}
	if err := message.Verify(); err != nil {
		return "", nil, err
	}
	signer := message.GetOnlySigner()
	if signer == nil || !message.Signers[0].DigestAlgorithm.Algorithm.Equal(pkcs7.OIDDigestAlgorithmSHA256) {
		return "", nil, fmt.Errorf("no certificate of one signer, or no SHA-256")
	}
	return string(message.Content), signer, nil
}

func (f *Fake) serveCRL(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	var list []x509.RevocationListEntry
	for _, e := range f.entries {
		if e.reason >= 0 && e.issuer == f.DN && e.cert.NotAfter.After(time.Now()) {
			list = append(list, x509.RevocationListEntry{SerialNumber: e.cert.SerialNumber, RevocationTime: e.date, ReasonCode: e.reason})
		}
	}
	f.mu.Unlock()
	der, err := f.CRL(list)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(der)
}

func refused(id string, number int, message string) map[string]any {
	return map[string]any{"certid": id, "errorcode": number, "errormessage": message, "servererrormessage": "from CM"}
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

// fail answers with an error number, and HTTP 200: a client that looks at that alone
// takes it for success.
func fail(w http.ResponseWriter, number int, message string) {
	answer(w, map[string]any{"error": number, "msg": message})
}

// rfc1779 writes a name as RFC 1779 does: quoted where need be, after a space.
func rfc1779(name pkix.Name) string {
	keys := map[string]string{"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU"}
	rdns := name.ToRDNSequence()
	slices.Reverse(rdns)
	var parts []string
	for _, rdn := range rdns {
		for _, attribute := range rdn {
			value := fmt.Sprint(attribute.Value)
			if strings.ContainsAny(value, ",=\"\r+<>#;\\") || strings.TrimSpace(value) != value {
				value = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
			}
			parts = append(parts, keys[attribute.Type.String()]+"="+value)
		}
	}
	return strings.Join(parts, ", ")
}
