package stepca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"slices"
	"time"

	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

const signPath = "/1.0/sign"

// Issue asks for a certificate for the DER-encoded PKCS #10 request. step-ca's
// default template takes the subject from the request, and the names that the token
// vouches for must be those of the request. It is no part of [ca.Driver]; its errors
// are the same.
func (d *Driver) Issue(ctx context.Context, csrDER []byte) (*x509.Certificate, error) {
	const op = "issue a certificate"
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	sans := slices.Concat(csr.DNSNames, csr.EmailAddresses)
	token, err := d.signer.token(d.url.JoinPath(signPath).String(), csr.Subject.CommonName, time.Now(), sans...)
	if err != nil {
		return nil, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	content, err := json.Marshal(map[string]string{
		"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csrDER})), "ott": token,
	})
	if err != nil {
		return nil, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url.JoinPath(signPath).String(), bytes.NewReader(content))
	if err != nil {
		return nil, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request.Header.Set("Content-Type", "application/json")
	reply, err := d.client.Do(ctx, op, request)
	if err != nil {
		return nil, err
	}
	if reply.Code != http.StatusCreated {
		var answer answerBody
		_ = json.Unmarshal(reply.Body, &answer) // what is no error body has no words
		return nil, reply.Failure(op, answer.Message)
	}
	var body struct {
		Certificate string `json:"crt"`
	}
	if err := reply.JSON(op, &body); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(body.Certificate))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, httpcall.Unreadable(op, errors.New("it holds no PEM certificate"))
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, httpcall.Unreadable(op, err)
	}
	if key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(csr.PublicKey) {
		return nil, httpcall.Unreadable(op, errors.New("the certificate is for another key"))
	}
	return cert, nil
}
