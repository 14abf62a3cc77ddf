package cmp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	encodingasn1 "encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"mobileid/activities/ca"
)

// protector protects the messages that are sent (RFC 9810 section 5.1.3).
type protector interface {
	sender() []byte         // a Name in DER
	keyID() []byte          // senderKID; empty: none
	certificates() [][]byte // extraCerts, the signer's first; none with a secret
	seal() seal             // for one message
}

// seal protects one message.
type seal struct {
	algorithm []byte // AlgorithmIdentifier in DER; the header names it before it is used
	protect   func(part []byte) ([]byte, error)
}

// The signatures of RFC 9481 section 3 that requests bear.
var (
	oidSHA256WithRSA   = encodingasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidECDSAWithSHA256 = encodingasn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSAWithSHA384 = encodingasn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
)

// signer protects by the signature of an RA.
type signer struct {
	pair      tls.Certificate
	key       crypto.Signer
	hash      crypto.Hash
	algorithm []byte
}

// newSigner reads the certificate, with those above it if the file has them, and the
// key of an RA.
func newSigner(certFile, keyFile string) (*signer, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	s := &signer{pair: pair, hash: crypto.SHA256}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("key: it cannot sign")
	}
	s.key = key
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		s.algorithm = algorithm(oidSHA256WithRSA, addNull)
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			s.algorithm = algorithm(oidECDSAWithSHA256, nil)
		case elliptic.P384():
			s.algorithm, s.hash = algorithm(oidECDSAWithSHA384, nil), crypto.SHA384
		}
	}
	if s.algorithm == nil {
		return nil, errors.New("key: it is none of RSA, EC P-256 and EC P-384")
	}
	return s, nil
}

func (s *signer) sender() []byte         { return s.pair.Leaf.RawSubject }
func (s *signer) keyID() []byte          { return s.pair.Leaf.SubjectKeyId }
func (s *signer) certificates() [][]byte { return s.pair.Certificate }

func (s *signer) seal() seal {
	return seal{algorithm: s.algorithm, protect: func(part []byte) ([]byte, error) {
		h := s.hash.New()
		h.Write(part)
		return s.key.Sign(rand.Reader, h.Sum(nil), s.hash)
	}}
}

// algorithm is an AlgorithmIdentifier in DER.
func algorithm(id encodingasn1.ObjectIdentifier, parameters func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	addAlgorithm(&b, id, parameters)
	return b.BytesOrPanic()
}

func addAlgorithm(b *cryptobyte.Builder, id encodingasn1.ObjectIdentifier, parameters func(*cryptobyte.Builder)) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(id)
		if parameters != nil {
			parameters(b)
		}
	})
}

func addNull(b *cryptobyte.Builder) { b.AddASN1NULL() }

var (
	// errUnprotected: anybody on the line can have written the answer.
	errUnprotected = errors.New("the answer is not protected")
	// errForeign: somebody protected the answer, and nobody who is trusted.
	errForeign = errors.New("the protection of the answer is not that of the CA")
)

// trust is whose word counts. The certificates are trusted as they were named: one
// that the CA issued is not enough, because the CA's users have such certificates too.
type trust struct {
	signers []*x509.Certificate
	secret  []byte // nil: no MAC is accepted
}

// verify sees that the answer is protected by somebody who is trusted.
func (t trust) verify(a answer) error {
	var id encodingasn1.ObjectIdentifier
	parameters := a.algorithm
	if !parameters.ReadASN1ObjectIdentifier(&id) {
		return malformed("protectionAlg")
	}
	if id.Equal(oidPBM) || id.Equal(oidPBMAC1) {
		if t.secret == nil {
			return fmt.Errorf("%w: it is a MAC, and no secret is configured", errForeign)
		}
		return verifyMAC(id, parameters, t.secret, a.part(), a.protection)
	}
	algorithm, err := ca.SignatureAlgorithm(a.algorithm)
	if err != nil {
		return fmt.Errorf("%w: it %w", errForeign, err)
	}
	for _, cert := range t.signers {
		if cert.CheckSignature(algorithm, a.part(), a.protection) == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: it is no signature of the issuer or of a configured responder", errForeign)
}
