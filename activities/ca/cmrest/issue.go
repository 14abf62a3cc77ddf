package cmrest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"

	"github.com/smallstep/pkcs7"

	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

// maxIssued is the longest answer with a certificate, in bytes.
const maxIssued = 64 << 10

// Issue asks for a certificate for the DER-encoded PKCS #10 request, by the token
// procedure of the name; empty is the gateway's choice. The certificate returned is one
// of the configured issuer, for the key of the request. It is no part of [ca.Driver]; its
// errors are the same. One of kind Ambiguous may have left a certificate at CM that
// nobody holds; where its certid is known, the error names it.
func (d *Driver) Issue(ctx context.Context, csrDER []byte, procedure string) (*x509.Certificate, error) {
	const op = "issue a certificate"
	if d.issuer == nil {
		return nil, &ca.Error{Kind: ca.Unsupported, Op: op, Words: "no issuer is configured to check the certificate by"}
	}
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	reply, err := d.signed(ctx, op, func(signature string) (*http.Request, error) {
		return d.issueRequest(ctx, csrDER, procedure, signature)
	})
	if err != nil {
		return nil, err
	}
	if !success(reply.Code) || bytes.HasPrefix(bytes.TrimSpace(reply.Body), []byte("{")) {
		a, err := readAnswer(op, reply)
		if err != nil {
			return nil, err
		}
		if refusal := a.failure(op, reply, ""); refusal != nil {
			return nil, refusal
		}
		return nil, httpcall.Unreadable(op, errors.New("it says success and holds no certificate"))
	}
	cert, err := issued(reply.Body, csr, d.issuer)
	if err != nil {
		return nil, httpcall.Unreadable(op, fmt.Errorf("certid %q: %w", reply.Header.Get("certId"), err))
	}
	return cert, nil
}

func (d *Driver) issueRequest(ctx context.Context, csrDER []byte, procedure, signature string) (*http.Request, error) {
	var content bytes.Buffer
	form := multipart.NewWriter(&content)
	var faults []error
	for _, field := range [][2]string{{"pkcs10", base64.StdEncoding.EncodeToString(csrDER)}, {"procname", procedure}, {"signature", signature}} {
		if field[1] != "" {
			faults = append(faults, form.WriteField(field[0], field[1]))
		}
	}
	if err := errors.Join(append(faults, form.Close())...); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url.JoinPath("certificates", "pkcs10").String(), &content)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", form.FormDataContentType())
	request.Header.Set("Accept", "application/pkix-cert")
	return request, nil
}

// issued finds the certificate for the request in an answer, and checks that it is the
// issuer's.
func issued(body []byte, csr *x509.CertificateRequest, issuer *x509.Certificate) (*x509.Certificate, error) {
	certs, err := certificates(body)
	if err != nil {
		return nil, err
	}
	for _, cert := range certs {
		if key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(csr.PublicKey) {
			continue // one of the chain
		}
		if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
			return nil, errors.New("the certificate is of another issuer")
		}
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			return nil, fmt.Errorf("the certificate is not signed by the issuer: %w", err)
		}
		return cert, nil
	}
	return nil, errors.New("no certificate in it is for the key of the request")
}

// certificates reads a certificate, or those of a PKCS #7 message, in DER or PEM. A
// gateway that does not heed Accept answers with PKCS #7.
func certificates(body []byte) ([]*x509.Certificate, error) {
	if len(body) > maxIssued {
		return nil, errors.New("it is too large")
	}
	if block, _ := pem.Decode(body); block != nil {
		body = block.Bytes
	}
	if cert, err := x509.ParseCertificate(body); err == nil {
		return []*x509.Certificate{cert}, nil
	}
	message, err := pkcs7.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("it is neither a certificate nor PKCS #7: %w", err)
	}
	return message.Certificates, nil
}
