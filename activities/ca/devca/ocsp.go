package devca

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ocsp"
)

// ocspValidity is the time from thisUpdate to nextUpdate. Every answer is made
// anew, so it only says how long a client may keep one.
const ocspValidity = time.Minute

// answerOCSP returns the answer to a DER-encoded request. Nonces are not
// repeated (RFC 6960 section 4.4.1 leaves that to the responder).
func (s *Server) answerOCSP(der []byte) []byte {
	request, err := parseOCSPRequest(der)
	if err != nil {
		return ocsp.MalformedRequestErrorResponse
	}
	if !s.responder.responsible(request) {
		return ocsp.UnauthorizedErrorResponse
	}
	_, c, at, err := s.state(request.SerialNumber)
	if err != nil && !errors.Is(err, ErrUnknownSerial) {
		s.options.Logger.Error("answer OCSP", "error", err)
		return ocsp.InternalErrorErrorResponse
	}
	template := ocsp.Response{
		SerialNumber: request.SerialNumber,
		Status:       ocsp.Good,
		ThisUpdate:   at,
		NextUpdate:   at.Add(ocspValidity),
		IssuerHash:   request.HashAlgorithm,
	}
	switch {
	case err != nil:
		template.Status = ocsp.Unknown
	case c.revoked: // OCSP knows a hold as a revocation for certificateHold
		template.Status = ocsp.Revoked
		template.RevokedAt = time.Unix(c.revokedAt, 0)
		template.RevocationReason = int(c.reason)
	}
	answer, err := s.signOCSP(template)
	if err != nil {
		s.options.Logger.Error("sign OCSP answer", "error", err)
		return ocsp.InternalErrorErrorResponse
	}
	return answer
}

func (s *Server) signOCSP(template ocsp.Response) ([]byte, error) {
	signer, err := s.responder.signer(template.ThisUpdate)
	if err != nil {
		return nil, err
	}
	template.Certificate = signer.certificate
	return ocsp.CreateResponse(s.identity.ca.certificate, signer.certificate, template, signer.key)
}

// parseOCSPRequest reads a request about one certificate, which is all that the
// profile of RFC 5019 section 2.1.1 allows. The package ocsp would read the first
// of several, and the client might take its answer for all of them.
func parseOCSPRequest(der []byte) (*ocsp.Request, error) {
	var outline struct {
		TBS struct {
			Version   int           `asn1:"explicit,tag:0,default:0,optional"`
			Requestor asn1.RawValue `asn1:"explicit,tag:1,optional"`
			Requests  []asn1.RawValue
		}
	}
	if _, err := asn1.Unmarshal(der, &outline); err != nil {
		return nil, err
	}
	if n := len(outline.TBS.Requests); n != 1 {
		return nil, fmt.Errorf("it asks about %d certificates", n)
	}
	return ocsp.ParseRequest(der)
}
