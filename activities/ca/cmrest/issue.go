package cmrest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"time"

	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

// isoTime is how dates are written in the API: ISO 8601, of UTC, in seconds.
const isoTime = "2006-01-02T15:04:05Z"

// IssueOnce implements [ca.Issuer]. The procedure is a token procedure, and NotAfter is
// sent as validto, cut to the second; zero leaves both out, and the choice to the
// gateway. What was issued for the key is looked for first, so a repeat after an
// Ambiguous failure finds it. Revoked or expired, it is still the one of its key.
//
// CM itself does not know "once". Two calls at the same time for one key, or one that
// comes while an earlier request is still on its way through CM, can both find nothing,
// and each have a certificate issued. From then on Issued returns both of them, and
// IssueOnce the first of those. So callers ask for a key one after the other, and who
// gives up revokes all that Issued returns.
func (d *Driver) IssueOnce(ctx context.Context, request ca.IssueRequest) (*x509.Certificate, error) {
	before, err := d.Issued(ctx, request.CSR)
	if err != nil {
		return nil, withoutEffect(err)
	}
	if len(before) > 0 {
		return before[0], nil
	}
	return d.Issue(ctx, request.CSR.Raw, request.Procedure, request.NotAfter)
}

// Issue asks for a certificate for the DER-encoded PKCS #10 request, by the token
// procedure of the name; empty is the gateway's choice, and so is a zero notAfter. The
// certificate returned is one of the configured issuer, for the key of the request, and
// another one each time. It is no part of [ca.Issuer]; its errors are the same. One of
// kind Ambiguous may have left a certificate at CM, which Issued finds; where its certid
// is known, the error names it.
func (d *Driver) Issue(ctx context.Context, csrDER []byte, procedure string, notAfter time.Time) (*x509.Certificate, error) {
	const op = "issue a certificate"
	if err := d.canCheck(op); err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, &ca.Error{Kind: ca.Unsupported, Op: op, Err: fmt.Errorf("pkcs10: %w", err)}
	}
	reply, err := d.signed(ctx, op, func(signature string) (*http.Request, error) {
		return d.issueRequest(ctx, csrDER, procedure, notAfter, signature)
	})
	if err != nil {
		return nil, err
	}
	certID := reply.Header.Get("certId")
	certs, err := readCertificates(op, reply, certID)
	if err != nil {
		return nil, err
	}
	cert, err := d.pick(certs, csr)
	if err != nil {
		return nil, httpcall.Unreadable(op, fmt.Errorf("certid %q: %w", certID, err))
	}
	return cert, nil
}

func (d *Driver) issueRequest(ctx context.Context, csrDER []byte, procedure string, notAfter time.Time, signature string) (*http.Request, error) {
	validTo := ""
	if !notAfter.IsZero() {
		validTo = notAfter.UTC().Format(isoTime)
	}
	var content bytes.Buffer
	form := multipart.NewWriter(&content)
	var faults []error
	for _, field := range [][2]string{
		{"pkcs10", base64.StdEncoding.EncodeToString(csrDER)}, {"procname", procedure}, {"validto", validTo}, {"signature", signature},
	} {
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
	request.Header.Set("Accept", pkixCert)
	return request, nil
}

// canCheck refuses to handle certificates that nothing could be compared with.
func (d *Driver) canCheck(op string) error {
	if d.issuer == nil {
		return &ca.Error{Kind: ca.Unsupported, Op: op, Words: "no issuer is configured to check the certificate by"}
	}
	return nil
}
