package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"mobileid"
)

// Issues reports whether certificates can be had from the CA.
func (a *Authority) Issues() bool {
	_, ok := a.Driver.(Issuer)
	return ok
}

// IssueOnce has a certificate issued, or finds the one that was issued for the key
// before. What comes back is checked: it is signed by the configured CA, and for the
// key that was asked for.
func (a *Authority) IssueOnce(ctx context.Context, request IssueRequest) (mobileid.Certificate, error) {
	op := "issue a certificate at " + a.Name
	issuer, err := a.issuer(op)
	if err != nil {
		return mobileid.Certificate{}, err
	}
	if err := a.turn(ctx); err != nil {
		return mobileid.Certificate{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.requestTimeout())
	defer cancel()
	cert, err := observed(ctx, a, CallIssue, func(ctx context.Context) (*x509.Certificate, error) { return issuer.IssueOnce(ctx, request) }, doneClass)
	if err != nil {
		return mobileid.Certificate{}, asError(err, op)
	}
	return a.issuedFor(op, cert, request.CSR)
}

// Issued finds what was issued for the key of a request, as far as it is the
// configured CA's.
func (a *Authority) Issued(ctx context.Context, csr *x509.CertificateRequest) ([]mobileid.Certificate, error) {
	op := "look for what was issued at " + a.Name
	issuer, err := a.issuer(op)
	if err != nil {
		return nil, err
	}
	if err := a.turn(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.requestTimeout())
	defer cancel()
	found, err := observed(ctx, a, CallFind, func(ctx context.Context) ([]*x509.Certificate, error) { return issuer.Issued(ctx, csr) }, doneClass)
	if err != nil {
		return nil, asError(err, op)
	}
	var issued []mobileid.Certificate
	for _, cert := range found {
		c, err := a.issuedFor(op, cert, csr)
		if err != nil {
			return nil, err
		}
		issued = append(issued, c)
	}
	return issued, nil
}

func (a *Authority) issuer(op string) (Issuer, error) {
	issuer, ok := a.Driver.(Issuer)
	if !ok {
		return nil, &Error{Kind: Unsupported, Op: op, Err: errors.New("its driver does not issue certificates")}
	}
	return issuer, nil
}

// issuedFor refuses a certificate that nobody should put on a phone, or could revoke
// later.
func (a *Authority) issuedFor(op string, cert *x509.Certificate, csr *x509.CertificateRequest) (mobileid.Certificate, error) {
	wrong := func(err error) (mobileid.Certificate, error) {
		return mobileid.Certificate{}, &Error{Kind: Contradiction, Op: op, Err: err}
	}
	key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !key.Equal(csr.PublicKey) {
		return wrong(errors.New("the CA answers with a certificate for another key"))
	}
	c, err := mobileid.NewCertificate(cert, mobileid.CertificateIssued)
	if err != nil {
		return wrong(err)
	}
	if err := issuedBy(a.Issuer, c.CertificateID); err != nil {
		return wrong(err)
	}
	if err := cert.CheckSignatureFrom(a.Issuer); err != nil {
		return wrong(fmt.Errorf("it is not signed by the configured CA: %w", err))
	}
	return c, nil
}
