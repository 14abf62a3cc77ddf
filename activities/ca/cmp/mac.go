package cmp

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // only in HMAC, which its collisions do not touch
	"crypto/sha256"
	"crypto/sha512"
	encodingasn1 "encoding/asn1"
	"fmt"
	"hash"
	"os"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The two MACs of RFC 9481 section 6.1.
var (
	oidPBM    = encodingasn1.ObjectIdentifier{1, 2, 840, 113533, 7, 66, 13} // RFC 4211 section 4.4
	oidPBMAC1 = encodingasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}  // RFC 8018 section 7.1
	oidPBKDF2 = encodingasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}  // RFC 8018 section 5.2
	oidSHA256 = encodingasn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}

	oidHMACSHA256 = encodingasn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
)

const (
	// iterations of requests: the most that EJBCA takes (CmpPbeVerifyer.java), and
	// more than OpenSSL's 500. No number of them saves a secret that can be guessed.
	iterations = 10_000
	// An answer's own number costs time before it proves anything. OpenSSL's bounds
	// are the same (crypto/crmf/crmf_pbm.c); the upper one costs 60 ms at worst.
	minIterations = 100
	maxIterations = 100_000
	// Bounds of the other parameters of an answer, in bytes.
	maxSalt  = 256
	minKey   = 16
	maxKey   = 64
	saltSize = 16
)

// hashes are the one-way functions of a PBM that answers may have.
var hashes = map[string]func() hash.Hash{
	oidSHA256.String():       sha256.New,
	"2.16.840.1.101.3.4.2.2": sha512.New384,
	"2.16.840.1.101.3.4.2.3": sha512.New,
}

// macs are the MACs that answers may have. OpenSSL 3.0 answers with HMAC-SHA-1 unless
// it is told otherwise, by either name.
var macs = map[string]func() hash.Hash{
	"1.3.6.1.5.5.8.1.2":    sha1.New, // RFC 4211 section 4.4
	"1.2.840.113549.2.7":   sha1.New, // RFC 8018 B.1.1
	oidHMACSHA256.String(): sha256.New,
	"1.2.840.113549.2.10":  sha512.New384,
	"1.2.840.113549.2.11":  sha512.New,
}

// secret protects by a MAC under a shared secret.
type secret struct {
	value     []byte
	reference []byte
	pbmac1    bool
}

// newSecret reads a secret; the line's end does not count. Its errors never tell what
// stands in the file.
func newSecret(file, reference string, pbmac1 bool) (*secret, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 {
		return nil, fmt.Errorf("secret: %s is empty", file)
	}
	return &secret{value: text, reference: []byte(reference), pbmac1: pbmac1}, nil
}

// sender is NULL-DN: the reference says who it is (RFC 9810 section 5.1.1).
func (*secret) sender() []byte         { return emptySequence }
func (s *secret) keyID() []byte        { return s.reference }
func (*secret) certificates() [][]byte { return nil }

func (s *secret) seal() seal {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // it never fails
	if s.pbmac1 {
		return seal{algorithm: pbmac1Algorithm(salt), protect: func(part []byte) ([]byte, error) {
			return pbmac1(s.value, salt, iterations, sha256.Size, sha256.New, sha256.New, part)
		}}
	}
	return seal{algorithm: pbmAlgorithm(salt), protect: func(part []byte) ([]byte, error) {
		return pbm(s.value, salt, iterations, sha256.New, sha256.New, part), nil
	}}
}

func pbmAlgorithm(salt []byte) []byte {
	return algorithm(oidPBM, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1OctetString(salt)
			addAlgorithm(b, oidSHA256, addNull)
			b.AddASN1Int64(iterations)
			addAlgorithm(b, oidHMACSHA256, addNull)
		})
	})
}

func pbmac1Algorithm(salt []byte) []byte {
	return algorithm(oidPBMAC1, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addAlgorithm(b, oidPBKDF2, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1OctetString(salt)
					b.AddASN1Int64(iterations)
					b.AddASN1Int64(sha256.Size)
					addAlgorithm(b, oidHMACSHA256, addNull)
				})
			})
			addAlgorithm(b, oidHMACSHA256, addNull)
		})
	})
}

// pbm is the password-based MAC of RFC 4211 section 4.4.
func pbm(secret, salt []byte, rounds int, owf, mac func() hash.Hash, part []byte) []byte {
	h := owf()
	h.Write(secret)
	h.Write(salt)
	key := h.Sum(nil)
	for range rounds - 1 {
		h.Reset()
		h.Write(key)
		key = h.Sum(key[:0])
	}
	return tag(key, mac, part)
}

// pbmac1 is that of RFC 8018 section 7.1, with PBKDF2.
func pbmac1(secret, salt []byte, rounds, keySize int, prf, mac func() hash.Hash, part []byte) ([]byte, error) {
	key, err := pbkdf2.Key(prf, string(secret), salt, rounds, keySize)
	if err != nil {
		return nil, err
	}
	return tag(key, mac, part), nil
}

func tag(key []byte, mac func() hash.Hash, part []byte) []byte {
	m := hmac.New(mac, key)
	m.Write(part)
	return m.Sum(nil)
}

// verifyMAC sees that an answer's MAC was made with the secret.
func verifyMAC(id encodingasn1.ObjectIdentifier, parameters cryptobyte.String, secret, part, protection []byte) error {
	compute := readPBM
	if id.Equal(oidPBMAC1) {
		compute = readPBMAC1
	}
	expected, err := compute(parameters, secret, part)
	if err != nil {
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	if !hmac.Equal(expected, protection) {
		return fmt.Errorf("%w: the MAC is not one of the secret", errForeign)
	}
	return nil
}

// readPBM reads PBMParameter, and computes the MAC by it.
func readPBM(parameters cryptobyte.String, secret, part []byte) ([]byte, error) {
	var params, salt cryptobyte.String
	if !parameters.ReadASN1(&params, asn1.SEQUENCE) || !parameters.Empty() || !params.ReadASN1(&salt, asn1.OCTET_STRING) {
		return nil, malformed("PBMParameter")
	}
	owf, err := readHash(&params, hashes)
	if err != nil {
		return nil, err
	}
	rounds, err := readBounded(&params, "iterationCount", minIterations, maxIterations)
	if err != nil {
		return nil, err
	}
	mac, err := readHash(&params, macs)
	if err != nil {
		return nil, err
	}
	if !params.Empty() || len(salt) > maxSalt {
		return nil, malformed("PBMParameter")
	}
	return pbm(secret, salt, rounds, owf, mac, part), nil
}

// readPBMAC1 reads PBMAC1-params (RFC 8018 A.5), and computes the MAC by it. The prf
// is named in all that is accepted: the default is HMAC-SHA-1, which RFC 9481 does
// not have for it.
func readPBMAC1(parameters cryptobyte.String, secret, part []byte) ([]byte, error) {
	var params, kdf, kdfParams, salt cryptobyte.String
	var id encodingasn1.ObjectIdentifier
	if !parameters.ReadASN1(&params, asn1.SEQUENCE) || !parameters.Empty() ||
		!params.ReadASN1(&kdf, asn1.SEQUENCE) || !kdf.ReadASN1ObjectIdentifier(&id) ||
		!kdf.ReadASN1(&kdfParams, asn1.SEQUENCE) || !kdf.Empty() || !kdfParams.ReadASN1(&salt, asn1.OCTET_STRING) {
		return nil, malformed("PBMAC1-params")
	}
	if !id.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("the key derivation %s is not known", id)
	}
	rounds, err := readBounded(&kdfParams, "iterationCount", minIterations, maxIterations)
	if err != nil {
		return nil, err
	}
	keySize := 0
	if kdfParams.PeekASN1Tag(asn1.INTEGER) {
		if keySize, err = readBounded(&kdfParams, "keyLength", minKey, maxKey); err != nil {
			return nil, err
		}
	}
	prf, err := readHash(&kdfParams, macs)
	if err != nil {
		return nil, err
	}
	mac, err := readHash(&params, macs)
	if err != nil {
		return nil, err
	}
	if !params.Empty() || !kdfParams.Empty() || len(salt) > maxSalt {
		return nil, malformed("PBMAC1-params")
	}
	if keySize == 0 {
		keySize = mac().Size()
	}
	return pbmac1(secret, salt, rounds, keySize, prf, mac, part)
}

// readHash reads an AlgorithmIdentifier without parameters that count.
func readHash(from *cryptobyte.String, known map[string]func() hash.Hash) (func() hash.Hash, error) {
	var content cryptobyte.String
	var id encodingasn1.ObjectIdentifier
	if !from.ReadASN1(&content, asn1.SEQUENCE) || !content.ReadASN1ObjectIdentifier(&id) {
		return nil, malformed("algorithm")
	}
	var null cryptobyte.String
	if !content.Empty() && (!content.ReadASN1(&null, asn1.NULL) || !null.Empty() || !content.Empty()) {
		return nil, malformed("algorithm")
	}
	algorithm, ok := known[id.String()]
	if !ok {
		return nil, fmt.Errorf("the algorithm %s is not accepted", id)
	}
	return algorithm, nil
}

func readBounded(from *cryptobyte.String, what string, least, most int) (int, error) {
	var n int
	if !from.ReadASN1Integer(&n) {
		return 0, malformed(what)
	}
	if n < least || n > most {
		return 0, fmt.Errorf("%s %d is not between %d and %d", what, n, least, most)
	}
	return n, nil
}
