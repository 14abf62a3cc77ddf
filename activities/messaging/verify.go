package messaging

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// Refusal says why the answer of a phone is not believed.
type Refusal string

// The refusals. None is cured by asking again with the same command. The first is
// the product's own word; the product's words for the others are not known.
const (
	// BadSignature: the JWS is not signed by a configured attestation key.
	BadSignature Refusal = "HERMOD_ERROR_JWT_SIGNATURE"
	// WrongNonce: it answers another question, or an old one.
	WrongNonce Refusal = "MessagingWrongNonce"
	// WrongProfile: what is signed names another profile or user than the callback.
	WrongProfile Refusal = "MessagingWrongProfile"
	// Unreadable: what is signed, or a request in it, cannot be read.
	Unreadable Refusal = "MessagingUnreadable"
	// ForeignCSR: a request is not for the subject, or asks for more than it.
	ForeignCSR Refusal = "MessagingForeignCSR"
	// BrokenCSR: a request is not signed by the key in it.
	BrokenCSR Refusal = "MessagingBrokenCSR"
	// WrongKey: a key is of a kind that was not asked for.
	WrongKey Refusal = "MessagingWrongKey"
	// DuplicateKey: two requests, or a request and a template, have one key.
	DuplicateKey Refusal = "MessagingDuplicateKey"
	// MissingKey: a key that was asked for is not there.
	MissingKey Refusal = "MessagingMissingKey"
	// UnexpectedKey: a key that was not asked for is there, or one is there twice.
	UnexpectedKey Refusal = "MessagingUnexpectedKey"
)

// VerifyError is an answer of a phone that is not believed.
type VerifyError struct {
	Refusal Refusal
	KeyID   string // the key it is about; empty if it is the whole answer
	Words   string // for people, free of secrets
}

func (e *VerifyError) Error() string {
	if e.KeyID == "" {
		return fmt.Sprintf("%s: %s", e.Refusal, e.Words)
	}
	return fmt.Sprintf("%s: key %s: %s", e.Refusal, e.KeyID, e.Words)
}

// ExpectedKey is what was asked of a phone. It can be kept as JSON.
type ExpectedKey struct {
	KeyID       string    `json:"keyId"`
	Types       []KeyType `json:"types"`
	CSRTemplate []byte    `json:"csrTemplate"` // DER, as it was sent
}

// VerifyOptions are what an answer is measured by.
type VerifyOptions struct {
	Keys     AttestationKeys
	Nonce    string // of the command
	UserID   string // of the command; empty: not compared
	Requests []ExpectedKey
}

// SignedRequest is a request that a phone has proven to be its own.
type SignedRequest struct {
	KeyID          string
	CSR            []byte // DER
	Request        *x509.CertificateRequest
	AttestationKey string // kid of the key that vouches for it
}

// Verify checks the answer to a provision command and returns its requests in the
// order in which they were asked for. Before the signature is good, nothing of the
// content is looked at. The error is *VerifyError.
//
// A request must have the subject of its template byte for byte, ask for no
// extension that the template does not have (else a phone could have a name put
// into its certificate), and have a key of its own: not that of the template,
// which would be the template returned, and not that of another request.
func Verify(callback Callback, options VerifyOptions) ([]SignedRequest, error) {
	if callback.Kind != KindProvision || callback.Outcome != Answered {
		return nil, &VerifyError{Refusal: Unreadable, Words: "it is not the answer to a provision command"}
	}
	payload, kid, err := options.Keys.open(callback.JWS)
	if err != nil {
		return nil, &VerifyError{Refusal: BadSignature, Words: err.Error()}
	}
	said, err := parseStatement(payload)
	if err != nil {
		return nil, &VerifyError{Refusal: Unreadable, Words: err.Error()}
	}
	// An empty nonce is a caller's mistake, and must not make an empty answer right.
	if options.Nonce == "" || !equalSecret(said.Nonce, options.Nonce) {
		return nil, &VerifyError{Refusal: WrongNonce, Words: "the answer does not hold the nonce of the command"}
	}
	if said.ProfileID != callback.ProfileID {
		return nil, &VerifyError{Refusal: WrongProfile, Words: "the signed profile is not the one that the callback names"}
	}
	if options.UserID != "" && said.UserID != options.UserID {
		return nil, &VerifyError{Refusal: WrongProfile, Words: "the signed user is not the one that the command was for"}
	}
	return checkKeys(said, options.Requests, kid)
}

// equalSecret compares in constant time, whatever the lengths.
func equalSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func checkKeys(said Statement, asked []ExpectedKey, kid string) ([]SignedRequest, error) {
	made := map[string][]byte{}
	for _, key := range said.Keys {
		expected := slices.ContainsFunc(asked, func(e ExpectedKey) bool { return e.KeyID == key.KeyID })
		if _, twice := made[key.KeyID]; twice || !expected {
			return nil, &VerifyError{Refusal: UnexpectedKey, KeyID: clean(key.KeyID), Words: "it was not asked for, or is there twice"}
		}
		made[key.KeyID] = key.CSR
	}
	if len(asked) == 0 {
		return nil, &VerifyError{Refusal: MissingKey, Words: "no key was asked for"}
	}
	var taken []crypto.PublicKey
	var requests []SignedRequest
	for _, want := range asked {
		template, err := readTemplate(want.CSRTemplate)
		if err != nil {
			return nil, &VerifyError{Refusal: Unreadable, KeyID: want.KeyID, Words: "the template: " + err.Error()}
		}
		taken = append(taken, template.PublicKey)
	}
	for i, want := range asked {
		der, there := made[want.KeyID]
		if !there {
			return nil, &VerifyError{Refusal: MissingKey, KeyID: want.KeyID, Words: "it was asked for, and is not in the answer"}
		}
		csr, err := checkRequest(der, want)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(taken, func(k crypto.PublicKey) bool { return samePublicKey(k, csr.PublicKey) }) {
			words := "its key is in another request, too"
			if slices.ContainsFunc(taken[:len(asked)], func(k crypto.PublicKey) bool { return samePublicKey(k, csr.PublicKey) }) {
				words = "the phone has not put in a key of its own"
			}
			return nil, &VerifyError{Refusal: DuplicateKey, KeyID: want.KeyID, Words: words}
		}
		taken = append(taken, csr.PublicKey)
		requests = append(requests, SignedRequest{KeyID: asked[i].KeyID, CSR: der, Request: csr, AttestationKey: kid})
	}
	return requests, nil
}

// goodCSRSignatures leave out what x509 takes for the sake of old requests: SHA-1.
var goodCSRSignatures = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
	x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
}

// checkRequest measures one request by what was asked.
func checkRequest(der []byte, want ExpectedKey) (*x509.CertificateRequest, error) {
	refuse := func(refusal Refusal, words string) error {
		return &VerifyError{Refusal: refusal, KeyID: want.KeyID, Words: words}
	}
	template, err := readTemplate(want.CSRTemplate)
	if err != nil {
		return nil, refuse(Unreadable, "the template: "+err.Error())
	}
	csr, err := readTemplate(der)
	if err != nil {
		return nil, refuse(Unreadable, "the request: "+err.Error())
	}
	if !slices.ContainsFunc(want.Types, func(k KeyType) bool { return k.Fits(csr.PublicKey) }) {
		var names []string
		for _, name := range want.Types {
			names = append(names, string(name))
		}
		return nil, refuse(WrongKey, fmt.Sprintf("asked for %s, and got %s", strings.Join(names, " or "), describeKey(csr.PublicKey)))
	}
	if !slices.Contains(goodCSRSignatures, csr.SignatureAlgorithm) || csr.CheckSignature() != nil {
		return nil, refuse(BrokenCSR, "the request is not signed by the key in it")
	}
	if !bytes.Equal(csr.RawSubject, template.RawSubject) {
		return nil, refuse(ForeignCSR, "the request is for another subject than the template")
	}
	if !sameExtensions(csr, template) {
		return nil, refuse(ForeignCSR, "the request asks for other extensions than the template")
	}
	return csr, nil
}

func sameExtensions(a, b *x509.CertificateRequest) bool {
	if len(a.Extensions) != len(b.Extensions) {
		return false
	}
	for i, x := range a.Extensions {
		y := b.Extensions[i]
		if !x.Id.Equal(y.Id) || x.Critical != y.Critical || !bytes.Equal(x.Value, y.Value) {
			return false
		}
	}
	return true
}

func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}
