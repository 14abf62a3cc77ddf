package cmptest

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // OpenSSL's client uses it in HMAC
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"mobileid/activities/ca/catest"
)

var (
	oidPBM          = asn1.ObjectIdentifier{1, 2, 840, 113533, 7, 66, 13}
	oidPBMAC1       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
	oidPBKDF2       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidSHA256       = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidHMACSHA256   = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidHMACSHA1     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 8, 1, 2}
	oidECDSASHA256  = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSASHA384  = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidRSASHA256    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	null            = asn1.RawValue{Tag: asn1.TagNull}
	errNoProtection = errors.New("no protection")
)

type pbmParameter struct {
	Salt       []byte
	OWF        pkix.AlgorithmIdentifier
	Iterations int
	MAC        pkix.AlgorithmIdentifier
}

type pbmac1Params struct {
	KDF pbkdf2Algorithm
	MAC pkix.AlgorithmIdentifier
}

type pbkdf2Algorithm struct {
	ID     asn1.ObjectIdentifier
	Params pbkdf2Params
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier
}

// authenticate returns the caller's certificate, or nil for one that knows the secret.
func (f *Fake) authenticate(message pkiMessage, header pkiHeader) (*x509.Certificate, error) {
	if len(header.ProtectionAlg.Algorithm) == 0 || message.Protection.BitLength == 0 {
		return nil, errNoProtection
	}
	part, err := asn1.Marshal(protectedPart{message.Header, message.Body})
	if err != nil {
		return nil, err
	}
	given := message.Protection.RightAlign()
	if alg := header.ProtectionAlg.Algorithm; alg.Equal(oidPBM) || alg.Equal(oidPBMAC1) {
		if string(header.SenderKID) != Reference {
			return nil, fmt.Errorf("no secret has the reference %q", header.SenderKID)
		}
		mac, err := computeMAC(header.ProtectionAlg, []byte(f.Secret), part)
		if err != nil {
			return nil, err
		}
		if !hmac.Equal(mac, given) {
			return nil, errors.New("wrong MAC")
		}
		return nil, nil
	}
	if len(message.ExtraCerts) == 0 {
		return nil, errors.New("no certificate in extraCerts")
	}
	cert, err := x509.ParseCertificate(message.ExtraCerts[0].FullBytes)
	if err != nil {
		return nil, err
	}
	if !cert.Equal(f.Officer.Certificate) && !cert.Equal(f.Auditor.Certificate) {
		return nil, fmt.Errorf("%s is no RA", cert.Subject)
	}
	if !bytes.Equal(nameOf(header.Sender), cert.RawSubject) {
		return nil, errors.New("the sender is not the subject of the certificate")
	}
	if !bytes.Equal(header.SenderKID, cert.SubjectKeyId) {
		return nil, errors.New("senderKID is not the subject key identifier")
	}
	return cert, checkSignature(cert, header.ProtectionAlg.Algorithm, part, given)
}

func checkSignature(cert *x509.Certificate, id asn1.ObjectIdentifier, part, signature []byte) error {
	switch {
	case id.Equal(oidECDSASHA256):
		return cert.CheckSignature(x509.ECDSAWithSHA256, part, signature)
	case id.Equal(oidECDSASHA384):
		return cert.CheckSignature(x509.ECDSAWithSHA384, part, signature)
	case id.Equal(oidRSASHA256):
		return cert.CheckSignature(x509.SHA256WithRSA, part, signature)
	}
	return fmt.Errorf("unknown algorithm %s", id)
}

// computeMAC by the parameters, which are within EJBCA's bounds.
func computeMAC(algorithm pkix.AlgorithmIdentifier, secret, part []byte) ([]byte, error) {
	const most = 10_000
	if algorithm.Algorithm.Equal(oidPBMAC1) {
		var p pbmac1Params
		if err := exactly(algorithm.Parameters.FullBytes, &p); err != nil {
			return nil, err
		}
		if !p.KDF.ID.Equal(oidPBKDF2) || !p.KDF.Params.PRF.Algorithm.Equal(oidHMACSHA256) || !p.MAC.Algorithm.Equal(oidHMACSHA256) || p.KDF.Params.Iterations > most {
			return nil, errors.New("PBMAC1: only PBKDF2 and HMAC-SHA-256, with 10,000 iterations at most")
		}
		return pbmac1(secret, p, part)
	}
	var p pbmParameter
	if err := exactly(algorithm.Parameters.FullBytes, &p); err != nil {
		return nil, err
	}
	if !p.OWF.Algorithm.Equal(oidSHA256) || p.Iterations > most || len(p.Salt) < 8 {
		return nil, errors.New("PBM: only SHA-256, with 10,000 iterations at most and a salt")
	}
	switch {
	case p.MAC.Algorithm.Equal(oidHMACSHA256):
		return pbm(secret, p, sha256.New, part), nil
	case p.MAC.Algorithm.Equal(oidHMACSHA1):
		return pbm(secret, p, sha1.New, part), nil
	}
	return nil, fmt.Errorf("PBM: unknown MAC %s", p.MAC.Algorithm)
}

// pbm as RFC 4211 section 4.4 tells it: secret and salt, hashed so many times.
func pbm(secret []byte, p pbmParameter, mac func() hash.Hash, part []byte) []byte {
	key := append(bytes.Clone(secret), p.Salt...)
	for range p.Iterations {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	m := hmac.New(mac, key)
	m.Write(part)
	return m.Sum(nil)
}

func pbmac1(secret []byte, p pbmac1Params, part []byte) ([]byte, error) {
	size := p.KDF.Params.KeyLength
	if size == 0 {
		size = sha256.Size
	}
	key, err := pbkdf2.Key(sha256.New, string(secret), p.KDF.Params.Salt, p.KDF.Params.Iterations, size)
	if err != nil {
		return nil, err
	}
	m := hmac.New(sha256.New, key)
	m.Write(part)
	return m.Sum(nil), nil
}

// seal names an algorithm, and protects by it.
type seal struct {
	algorithm pkix.AlgorithmIdentifier
	keyID     []byte
	certs     []asn1.RawValue
	protect   func(part []byte) ([]byte, error)
}

func signature(signer *catest.Issuer) seal {
	return seal{
		algorithm: pkix.AlgorithmIdentifier{Algorithm: oidECDSASHA256},
		keyID:     signer.Certificate.SubjectKeyId,
		certs:     []asn1.RawValue{{FullBytes: signer.Certificate.Raw}},
		protect: func(part []byte) ([]byte, error) {
			sum := sha256.Sum256(part)
			return signer.Key.Sign(rand.Reader, sum[:], nil)
		},
	}
}

func (f *Fake) mac(id asn1.ObjectIdentifier, iterations int, secret string) (seal, error) {
	salt := []byte("sixteen bytes of")
	hmacSHA256 := pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: null}
	s := seal{keyID: []byte(Reference)}
	var params any
	if id.Equal(oidPBMAC1) {
		p := pbmac1Params{MAC: hmacSHA256, KDF: pbkdf2Algorithm{ID: oidPBKDF2, Params: pbkdf2Params{
			Salt: salt, Iterations: iterations, KeyLength: sha256.Size, PRF: hmacSHA256,
		}}}
		params = p
		s.protect = func(part []byte) ([]byte, error) { return pbmac1([]byte(secret), p, part) }
	} else {
		p := pbmParameter{Salt: salt, OWF: pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: null}, Iterations: iterations, MAC: hmacSHA256}
		params = p
		s.protect = func(part []byte) ([]byte, error) { return pbm([]byte(secret), p, sha256.New, part), nil }
	}
	der, err := asn1.Marshal(params)
	s.algorithm = pkix.AlgorithmIdentifier{Algorithm: id, Parameters: asn1.RawValue{FullBytes: der}}
	return s, err
}
