package ca

import (
	"context"
	"crypto/x509"
	"time"
)

// Issuer is a driver that also issues certificates, for the keys of new mobile IDs.
//
// An answer that is lost must leave no certificate that nobody knows. So a key gets
// one certificate, however often it is asked for, and what was issued for a key can
// be read: a driver whose CA offers neither is no Issuer.
type Issuer interface {
	// IssueOnce has a certificate issued for a key, or returns the one that was. The
	// certificate is the configured CA's and for the key of the request; what else
	// stands in it is the CA's decision. Its errors are *Error.
	IssueOnce(ctx context.Context, request IssueRequest) (*x509.Certificate, error)

	// Issued returns the certificates that were issued for the key of a request, none
	// if there are none. Its errors are *Error.
	Issued(ctx context.Context, csr *x509.CertificateRequest) ([]*x509.Certificate, error)
}

// IssueRequest asks for a certificate.
type IssueRequest struct {
	CSR *x509.CertificateRequest // PKCS #10 (RFC 2986), its own signature checked
	// Procedure is how the CA calls the kind of certificate: its profile, template or
	// token procedure.
	Procedure string
	NotAfter  time.Time
}
