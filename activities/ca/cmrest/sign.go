package cmrest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/smallstep/pkcs7"

	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

const (
	// maxSignatures is how often one request is signed: once, and once more if what was
	// signed was out of date when it came back.
	maxSignatures = 2
	// maxDataToSign is the most that is signed, in bytes.
	maxDataToSign = 64 << 10
)

// signer is the officer who signs requests.
//
// What dataToSign is made of is not published, so nothing can be compared with the
// request: the officer signs what the gateway asks for. It is signed as CMS content,
// with signed attributes (RFC 5652 section 5.3), so it stands for nothing but that; but
// it may stand for another request to CM. Who sends it is the server of the TLS
// connection, which the configured CA vouches for, and a signing officer with no role
// beside "Revoke certificate" bounds what a bad gateway could have signed.
type signer struct {
	certificate *x509.Certificate
	key         crypto.PrivateKey
}

// newSigner reads an officer's certificate and key.
func newSigner(certFile, keyFile string) (*signer, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("signing certificate: %w", err)
	}
	switch pair.PrivateKey.(type) {
	case *ecdsa.PrivateKey, *rsa.PrivateKey:
		return &signer{certificate: pair.Leaf, key: pair.PrivateKey}, nil
	}
	return nil, errors.New("signing certificate: its key is neither ECDSA nor RSA")
}

// sign returns CMS SignedData in DER, with the content and the officer's certificate in
// it, and SHA-256 as digest.
func (s *signer) sign(content []byte) ([]byte, error) {
	message, err := pkcs7.NewSignedData(content)
	if err != nil {
		return nil, err
	}
	message.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := message.AddSigner(s.certificate, s.key, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, err
	}
	return message.Finish()
}

// signature signs dataToSign of an answer. The errors have no effect at CM.
func (s *signer) signature(op, dataToSign string) (string, error) {
	content, err := base64.StdEncoding.DecodeString(dataToSign)
	if err != nil {
		return "", &ca.Error{Kind: ca.Unavailable, Op: op, Words: "what is to be signed is not base64", Err: err}
	}
	if len(content) == 0 || len(content) > maxDataToSign {
		return "", &ca.Error{Kind: ca.Unsupported, Op: op, Words: fmt.Sprintf("%d bytes are to be signed, which is none or too much", len(content))}
	}
	message, err := s.sign(content)
	if err != nil {
		return "", &ca.Error{Kind: ca.Unsupported, Op: op, Words: "sign the request", Err: err}
	}
	return base64.StdEncoding.EncodeToString(message), nil
}

// signed sends a request, and sends it again with a signature if the answer asks for
// one. build makes the request, the same in all but the signature. What is signed comes
// from the answer just before and is used once: it may be bound to a time or to one
// request. A signature that is refused, or answered by new data, is made once more.
//
// The answer is the last one, whatever it says, and wants no signature.
func (d *Driver) signed(ctx context.Context, op string, build func(signature string) (*http.Request, error)) (httpcall.Reply, error) {
	signature := ""
	for signatures := 0; ; {
		request, err := build(signature)
		if err != nil {
			return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
		}
		reply, err := d.client.Do(ctx, op, request)
		if err != nil {
			return httpcall.Reply{}, err
		}
		var a answer
		if json.Unmarshal(reply.Body, &a) != nil {
			return reply, nil // no JSON, so no wish
		}
		switch {
		case a.wantsSignature() && signatures == maxSignatures:
			return httpcall.Reply{}, &ca.Error{Kind: ca.Denied, Op: op, Words: httpcall.Clean(fmt.Sprintf(
				"it asks for a signature after %d of them: %s", signatures, a.Message))}
		case a.wantsSignature():
			if signature, err = d.signer.signature(op, a.DataToSign); err != nil {
				return httpcall.Reply{}, err
			}
			signatures++
		case a.number() == errBadSignature && signature != "" && signatures < maxSignatures:
			signature = "" // asks for new data
		default:
			return reply, nil
		}
	}
}
