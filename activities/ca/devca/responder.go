package devca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "crypto/sha1" //nolint:gosec // the CertID of most OCSP clients is SHA-1 (RFC 5019 section 2.1.1); it authenticates nothing
	_ "crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
)

const (
	// responderLifetime is short, because nobody can revoke a responder whose
	// certificate says that it need not be checked (RFC 6960 section 4.2.2.2.1).
	responderLifetime = 24 * time.Hour
	// responderRenewal is how long before its end it is replaced.
	responderRenewal = 8 * time.Hour
)

// responder signs OCSP answers in the CA's name (RFC 6960 section 4.2.2.2). Its
// key is not the CA's, as it should be where keys matter, and lives in memory alone.
type responder struct {
	issuer keyPair
	hashes map[crypto.Hash]issuerHashes

	mu   sync.Mutex
	pair keyPair
}

// issuerHashes are how a CertID names the issuer (RFC 6960 section 4.1.1).
type issuerHashes struct {
	name, key []byte
}

func newResponder(issuer keyPair) (*responder, error) {
	bits, err := publicKeyBits(issuer.certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	r := &responder{issuer: issuer, hashes: map[crypto.Hash]issuerHashes{}}
	for _, algorithm := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		r.hashes[algorithm] = issuerHashes{
			name: digest(algorithm, issuer.certificate.RawSubject),
			key:  digest(algorithm, bits),
		}
	}
	return r, nil
}

func digest(algorithm crypto.Hash, content []byte) []byte {
	h := algorithm.New()
	h.Write(content)
	return h.Sum(nil)
}

// responsible reports whether the request is about a certificate of this CA: by
// name and by key, because two CAs may bear one name.
func (r *responder) responsible(request *ocsp.Request) bool {
	hashes, known := r.hashes[request.HashAlgorithm]
	return known && bytes.Equal(hashes.name, request.IssuerNameHash) && bytes.Equal(hashes.key, request.IssuerKeyHash)
}

// signer returns the pair that signs at the given time, and makes a new one when
// the last nears its end.
func (r *responder) signer(at time.Time) (keyPair, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cert := r.pair.certificate; cert != nil && at.After(cert.NotBefore) && at.Before(cert.NotAfter.Add(-responderRenewal)) {
		return r.pair, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("make the key of the OCSP responder: %w", err)
	}
	cert, err := signCertificate(&x509.Certificate{
		Subject:     pkix.Name{CommonName: r.issuer.certificate.Subject.CommonName + " OCSP"},
		NotBefore:   at.Add(-backdate),
		NotAfter:    at.Add(responderLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{
			Id:    asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, // id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1)
			Value: asn1.NullBytes,
		}},
	}, key.Public(), r.issuer)
	if err != nil {
		return keyPair{}, fmt.Errorf("make the certificate of the OCSP responder: %w", err)
	}
	r.pair = keyPair{certificate: cert, key: key}
	return r.pair, nil
}
