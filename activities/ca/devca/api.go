package devca

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"mobileid"
)

const (
	certificatesPath = "/v1/certificates"
	keysPath         = "/v1/keys"
	// maxAPIRequest is the longest body that is read, in bytes.
	maxAPIRequest = 64 << 10
	maxDays       = 3650
	// codeBadReason is the error that callers tell apart from others of its status.
	codeBadReason = "badReason"
	// codeUnknownKey tells an answer about a key from a wrong address.
	codeUnknownKey = "unknownKey"
)

// issueBody, issuedBody and revokeBody are the JSON bodies of the API, and
// apiError that of its refusals.
type (
	issueBody struct {
		CSR     string  `json:"csr"` // PEM
		Profile Profile `json:"profile"`
		Days    int     `json:"days"`
		Once    bool    `json:"once,omitempty"` // one certificate for the key, however often it is asked for
	}
	issuedBody struct {
		Serial      string `json:"serial"`
		Certificate string `json:"certificate"` // PEM
	}
	revokeBody struct {
		Reason mobileid.Reason `json:"reason"`
	}
	apiError struct {
		Code    string `json:"error"`
		Message string `json:"message"`
	}
)

// API returns the handler that issues and revokes. It must be served with TLS
// that asks for a client certificate, see [Server.TLSConfig]; without one it
// refuses everything.
//
//	POST /v1/certificates                  {"csr", "profile", "days"}: 201 {"serial", "certificate"}
//	GET  /v1/keys/{SHA-256 of the SubjectPublicKeyInfo, in hex}  200 {"serial", "certificate"}, if it was issued once; 404 "unknownKey"
//	GET  /v1/certificates/{serial}         200 CertificateStatus; 404 {"status": "unknown"}
//	POST /v1/certificates/{serial}/revoke  {"reason"}: 200 CertificateStatus; 409 the same if it is revoked for good already
//	POST /v1/certificates/{serial}/release {}: 200 CertificateStatus; 409 the same if it is not on hold
//
// Everything else is {"error", "message"}: 400 for a request that cannot be
// read ("badRequest") or a reason that is not taken ("badReason"), 403, 404
// ("unknownSerial"), 405, 413, 500 if the outcome of a change is unknown, and
// 503 if it surely did not happen.
func (s *Server) API() http.Handler {
	mux := http.NewServeMux()
	for path, methods := range map[string]map[string]http.HandlerFunc{
		certificatesPath:                       {http.MethodPost: s.serveIssue},
		keysPath + "/{key}":                    {http.MethodGet: s.serveIssued},
		certificatesPath + "/{serial}":         {http.MethodGet: withSerial(s.serveStatus)},
		certificatesPath + "/{serial}/revoke":  {http.MethodPost: withSerial(s.serveRevoke)},
		certificatesPath + "/{serial}/release": {http.MethodPost: withSerial(s.serveRelease)},
	} {
		for method, handler := range methods {
			mux.HandleFunc(method+" "+path, handler)
			mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Allow", method)
				writeError(w, http.StatusMethodNotAllowed, "methodNotAllowed", "only "+method+" is possible here")
			})
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, "notFound", "there is nothing at this address")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			writeError(w, http.StatusForbidden, "forbidden", "the API needs a client certificate")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// withSerial reads the serial number of the path.
func withSerial(next func(http.ResponseWriter, *http.Request, *big.Int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		serial, err := mobileid.ParseSerial(r.PathValue("serial"))
		if err != nil {
			writeError(w, http.StatusBadRequest, "badRequest", err.Error())
			return
		}
		next(w, r, serial)
	}
}

func (s *Server) serveIssue(w http.ResponseWriter, r *http.Request) {
	var body issueBody
	if !readJSON(w, r, &body) {
		return
	}
	csr, err := decodePEM([]byte(body.CSR), "CERTIFICATE REQUEST")
	if err != nil {
		writeError(w, http.StatusBadRequest, "badRequest", "csr: "+err.Error())
		return
	}
	if body.Days < 1 || body.Days > maxDays {
		writeError(w, http.StatusBadRequest, "badRequest", fmt.Sprintf("days must be 1 to %d", maxDays))
		return
	}
	cert, err := s.Issue(r.Context(), IssueRequest{
		CSR:       csr,
		Profile:   body.Profile,
		NotBefore: s.now(),
		Validity:  time.Duration(body.Days) * 24 * time.Hour,
		Once:      body.Once,
	})
	if err != nil {
		s.refuse(w, err)
		return
	}
	writeJSON(w, http.StatusCreated, newIssuedBody(cert))
}

func newIssuedBody(cert *x509.Certificate) issuedBody {
	return issuedBody{Serial: cert.SerialNumber.Text(16), Certificate: string(encodeCertificate(cert.Raw))}
}

func (s *Server) serveIssued(w http.ResponseWriter, r *http.Request) {
	var key keyHash
	text := r.PathValue("key")
	if len(text) != hex.EncodedLen(len(key)) { // Decode would write behind the end
		text = ""
	}
	if n, err := hex.Decode(key[:], []byte(text)); err != nil || n != len(key) {
		writeError(w, http.StatusBadRequest, "badRequest", "the key is no SHA-256 in hex")
		return
	}
	cert, err := s.Issued(r.Context(), key)
	switch {
	case errors.Is(err, ErrUnknownKey):
		writeError(w, http.StatusNotFound, codeUnknownKey, err.Error())
	case err != nil:
		s.refuse(w, err)
	default:
		writeJSON(w, http.StatusOK, newIssuedBody(cert))
	}
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request, serial *big.Int) {
	status, err := s.Status(r.Context(), serial)
	if errors.Is(err, ErrUnknownSerial) {
		writeJSON(w, http.StatusNotFound, CertificateStatus{Serial: serial.Text(16), Status: mobileid.StatusUnknown, At: s.now()})
		return
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, status)
}

func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request, serial *big.Int) {
	var body revokeBody
	if !readJSON(w, r, &body) {
		return
	}
	status, err := s.Revoke(r.Context(), serial, body.Reason)
	s.writeChange(w, status, err)
}

func (s *Server) serveRelease(w http.ResponseWriter, r *http.Request, serial *big.Int) {
	if !readJSON(w, r, &struct{}{}) {
		return
	}
	status, err := s.Release(r.Context(), serial)
	s.writeChange(w, status, err)
}

func (s *Server) writeChange(w http.ResponseWriter, status CertificateStatus, err error) {
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, status)
	case errors.Is(err, ErrAlreadyRevoked), errors.Is(err, ErrNotOnHold):
		writeJSON(w, http.StatusConflict, status)
	default:
		s.refuse(w, err)
	}
}

func (s *Server) refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, ErrBadReason):
		writeError(w, http.StatusBadRequest, codeBadReason, err.Error())
	case errors.Is(err, ErrBadRequest):
		writeError(w, http.StatusBadRequest, "badRequest", err.Error())
	case errors.Is(err, ErrUnknownSerial):
		writeError(w, http.StatusNotFound, "unknownSerial", err.Error())
	case errors.Is(err, ErrRefusesChanges):
		s.options.Logger.Error("refused a change", "error", err)
		writeError(w, http.StatusServiceUnavailable, "unavailable", ErrRefusesChanges.Error())
	default:
		s.options.Logger.Error("request failed", "error", err)
		writeError(w, http.StatusInternalServerError, "internal", "the CA does not know whether the change is on disk")
	}
}

// readJSON reads a body of one JSON object without unknown fields, or answers
// why not and returns false.
func readJSON(w http.ResponseWriter, r *http.Request, body any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAPIRequest))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(body)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return true
		}
		if err == nil {
			err = errors.New("something follows the object")
		}
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		writeError(w, http.StatusRequestEntityTooLarge, "tooLarge", fmt.Sprintf("the body has more than %d bytes", maxAPIRequest))
		return false
	}
	writeError(w, http.StatusBadRequest, "badRequest", "read the body: "+err.Error())
	return false
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, apiError{Code: code, Message: message})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The client may be gone; what it asked for has happened or not all the same.
	_ = json.NewEncoder(w).Encode(body)
}
