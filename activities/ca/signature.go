package ca

import (
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// errWeakSignature: whoever can make two texts of one SHA-1 or MD5 sum can make
// an answer that no CA has given.
var errWeakSignature = errors.New("is signed with MD5 or SHA-1, which proves nothing")

const oidRSAPSS objectID = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a" // 1.2.840.113549.1.1.10, RFC 4055 3.1

// signatureAlgorithms are those that proofs may be signed with (RFC 5758, RFC
// 8410, RFC 4055). crypto/x509 keeps its own list to itself.
var signatureAlgorithms = map[objectID]x509.SignatureAlgorithm{
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b": x509.SHA256WithRSA,
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c": x509.SHA384WithRSA,
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d": x509.SHA512WithRSA,
	"\x2a\x86\x48\xce\x3d\x04\x03\x02":     x509.ECDSAWithSHA256,
	"\x2a\x86\x48\xce\x3d\x04\x03\x03":     x509.ECDSAWithSHA384,
	"\x2a\x86\x48\xce\x3d\x04\x03\x04":     x509.ECDSAWithSHA512,
	"\x2b\x65\x70":                         x509.PureEd25519,
}

var weakSignatureAlgorithms = map[objectID]bool{
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04": true, // md5WithRSAEncryption
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05": true, // sha1WithRSAEncryption
	"\x2b\x0e\x03\x02\x1d":                 true, // sha1WithRSASignature
	"\x2a\x86\x48\xce\x3d\x04\x01":         true, // ecdsa-with-SHA1
	"\x2a\x86\x48\xce\x38\x04\x03":         true, // dsa-with-sha1
}

// pssAlgorithms are the algorithms of RSASSA-PSS by its hash.
var pssAlgorithms = map[objectID]x509.SignatureAlgorithm{
	oidSHA256: x509.SHA256WithRSAPSS,
	oidSHA384: x509.SHA384WithRSAPSS,
	oidSHA512: x509.SHA512WithRSAPSS,
}

// signatureAlgorithm reads the content of an AlgorithmIdentifier.
func signatureAlgorithm(identifier cryptobyte.String) (x509.SignatureAlgorithm, error) {
	var content cryptobyte.String
	if !identifier.ReadASN1(&content, asn1.OBJECT_IDENTIFIER) {
		return 0, malformed("signature algorithm")
	}
	id := objectID(content)
	if id == oidRSAPSS {
		return pssAlgorithm(identifier)
	}
	if algorithm, ok := signatureAlgorithms[id]; ok {
		return algorithm, nil
	}
	if weakSignatureAlgorithms[id] {
		return 0, errWeakSignature
	}
	return 0, fmt.Errorf("is signed with the unknown algorithm %s", id)
}

// pssAlgorithm reads the hash out of RSASSA-PSS-params (RFC 4055 section 3.1).
// The other parameters need no reading: the signature does not verify unless
// they are those that the hash implies. Without a hash it is SHA-1.
func pssAlgorithm(parameters cryptobyte.String) (x509.SignatureAlgorithm, error) {
	var params, hash, hashID cryptobyte.String
	var present bool
	if !parameters.ReadASN1(&params, asn1.SEQUENCE) || !params.ReadOptionalASN1(&hash, &present, explicitTag(0)) {
		return 0, malformed("signature algorithm")
	}
	if !present {
		return 0, errWeakSignature
	}
	if !hash.ReadASN1(&hash, asn1.SEQUENCE) || !hash.ReadASN1(&hashID, asn1.OBJECT_IDENTIFIER) {
		return 0, malformed("signature algorithm")
	}
	algorithm, ok := pssAlgorithms[objectID(hashID)]
	if !ok {
		return 0, fmt.Errorf("is signed with RSASSA-PSS over the hash %s", objectID(hashID))
	}
	return algorithm, nil
}

// SignatureAlgorithm reads the content of an AlgorithmIdentifier in DER, for drivers
// whose answers are signed. It refuses what proofs may not be signed with.
func SignatureAlgorithm(identifier []byte) (x509.SignatureAlgorithm, error) {
	return signatureAlgorithm(identifier)
}
