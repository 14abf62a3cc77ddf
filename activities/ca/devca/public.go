package devca

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Where the public handler serves what.
const (
	caPath     = "/ca.der" // DER is what RFC 5280 section 4.2.2.1 wants behind caIssuers
	caPEMPath  = "/ca.pem"
	crlPath    = "/crl.der"
	crlPEMPath = "/crl.pem"
	ocspPath   = "/ocsp"
	healthPath = "/healthz"
)

// maxOCSPRequest is the longest OCSP request that is read, in bytes.
const maxOCSPRequest = 64 << 10

// document is something that anybody may fetch.
type document struct {
	content   []byte
	mediaType string
	etag      string // strong (RFC 9110 section 8.8.3)
	modified  time.Time
}

func newDocument(content []byte, mediaType string, modified time.Time) document {
	sum := sha256.Sum256(content)
	return document{content, mediaType, `"` + hex.EncodeToString(sum[:]) + `"`, modified}
}

func (d document) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", d.mediaType)
	h.Set("ETag", d.etag)
	h.Set("Cache-Control", "no-cache") // may be kept, if asked about each time
	h.Set("Last-Modified", d.modified.UTC().Format(http.TimeFormat))
	// ServeContent is not told the date: two CRLs can bear the same second, so
	// only the ETag may decide that nothing has changed.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.content))
}

// Public returns the handler of what is signed and therefore needs no TLS:
//
//	GET  /ca.der, /ca.pem     the CA certificate
//	GET  /crl.der, /crl.pem   the newest CRL (RFC 5280 section 5), with a strong ETag
//	POST /ocsp                OCSP (RFC 6960 appendix A.1); GET /ocsp/{base64} too
//	GET  /healthz             200, or 503 if the CA cannot do its work
func (s *Server) Public() http.Handler {
	ca := s.identity.ca.certificate
	caDER := newDocument(ca.Raw, "application/pkix-cert", ca.NotBefore)
	caPEM := newDocument(encodeCertificate(ca.Raw), "application/x-pem-file", ca.NotBefore)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+caPath, caDER.serve)
	mux.HandleFunc("GET "+caPEMPath, caPEM.serve)
	mux.HandleFunc("GET "+crlPath, func(w http.ResponseWriter, r *http.Request) { s.publisher.current.Load().der.serve(w, r) })
	mux.HandleFunc("GET "+crlPEMPath, func(w http.ResponseWriter, r *http.Request) { s.publisher.current.Load().pem.serve(w, r) })
	mux.HandleFunc("GET "+healthPath, s.serveHealth)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The mux would tidy up the path, and base64 may have "//" in it.
		if r.URL.Path == ocspPath || strings.HasPrefix(r.URL.Path, ocspPath+"/") {
			s.serveOCSP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := s.health(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, err.Error()+"\n")
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

func (s *Server) health() error {
	if err := s.journal.broken(); err != nil {
		return err
	}
	if s.options.Clock().After(s.publisher.current.Load().nextUpdate) {
		return errors.New("the CRL is past its nextUpdate")
	}
	return nil
}

func (s *Server) serveOCSP(w http.ResponseWriter, r *http.Request) {
	var request []byte
	var err error
	switch r.Method {
	case http.MethodPost:
		request, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxOCSPRequest))
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			http.Error(w, "the OCSP request is too long", http.StatusRequestEntityTooLarge)
			return
		}
		if err != nil {
			return // the client went away
		}
	case http.MethodGet:
		// What cannot be decoded stays empty, which is a malformed request.
		request = decodeOCSPPath(r.URL.EscapedPath())
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "OCSP uses GET and POST", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(s.answerOCSP(request)) //nolint:gosec // DER under its own media type, and nothing of the request but hashes and a number
}

// decodeOCSPPath reads the request that a client put into the path: the URL
// encoding of the base64 of the DER (RFC 6960 appendix A.1). Some clients leave
// out the URL encoding, which reads the same.
func decodeOCSPPath(path string) []byte {
	text, err := url.PathUnescape(strings.TrimPrefix(strings.TrimPrefix(path, ocspPath), "/"))
	if err != nil || len(text) > base64.StdEncoding.EncodedLen(maxOCSPRequest) {
		return nil
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return der
}
