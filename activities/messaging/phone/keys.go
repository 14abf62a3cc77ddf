package phone

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"mobileid/activities/messaging"
)

// makeProfile makes the keys that are asked for, and the statement about them.
func (s *scan) makeProfile(asked messaging.Provision) (*Profile, messaging.Statement, error) {
	profile := &Profile{
		ID: rand.Text(), ServerName: asked.ServerName, Name: asked.ProfileName, UserID: asked.UserID, keys: map[string]*key{},
	}
	statement := messaging.Statement{Nonce: asked.Nonce, UserID: asked.UserID, ProfileID: profile.ID}
	if s.Misbehave == WrongNonce {
		statement.Nonce = rand.Text()
	}
	var last crypto.Signer
	for _, request := range asked.Keys {
		signer := last
		if s.Misbehave != SameKey || last == nil {
			var err error
			if signer, err = makeKey(request.Types[0], s.Misbehave == WeakKey); err != nil {
				return nil, messaging.Statement{}, fmt.Errorf("key %s: %w", request.KeyID, err)
			}
		}
		last = signer
		csr, err := s.request(request.CSRTemplate, signer)
		if err != nil {
			return nil, messaging.Statement{}, fmt.Errorf("key %s: %w", request.KeyID, err)
		}
		profile.keys[request.KeyID] = &key{signer: signer}
		statement.Keys = append(statement.Keys, messaging.MadeKey{KeyID: request.KeyID, CSR: csr})
	}
	return profile, statement, nil
}

// makeKey makes a key as asked, or a smaller one of its kind.
func makeKey(kind messaging.KeyType, weak bool) (crypto.Signer, error) {
	switch kind {
	case messaging.P256:
		if weak {
			return ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		}
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case messaging.RSA2048, messaging.RSA3072:
		bits := 2048
		if kind == messaging.RSA3072 {
			bits = 3072
		}
		if weak {
			bits = 1024
		}
		return rsa.GenerateKey(rand.Reader, bits)
	default:
		return nil, fmt.Errorf("key type %s is not one of this phone", kind)
	}
}

// request puts the key into the template: the same subject, signed anew.
func (s *scan) request(template []byte, signer crypto.Signer) ([]byte, error) {
	if s.Misbehave == Template {
		return template, nil
	}
	asked, err := x509.ParseCertificateRequest(template)
	if err != nil {
		return nil, err
	}
	made := &x509.CertificateRequest{RawSubject: asked.RawSubject, ExtraExtensions: asked.Extensions}
	if s.Misbehave == ForeignSubject {
		made.RawSubject = nil
		made.Subject.CommonName = "Mallory"
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, made, signer)
	if err == nil && s.Misbehave == BrokenRequest {
		csr[len(csr)-1] ^= 1
	}
	return csr, err
}
