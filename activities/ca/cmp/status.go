package cmp

import (
	encodingasn1 "encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

// PKIStatus of RFC 9810 section 5.2.3.
const (
	accepted               = 0
	grantedWithMods        = 1
	rejection              = 2
	waiting                = 3
	revocationWarning      = 4 // it is imminent, which is not done
	revocationNotification = 5 // it has occurred
)

// failInfo is PKIFailureInfo (RFC 9810 section 5.2.3): bit n of the standard is 1<<n.
type failInfo uint32

// The bits that say something about the next try.
const (
	badMessageCheck    failInfo = 1 << 1
	badCertID          failInfo = 1 << 4
	certRevoked        failInfo = 1 << 10
	wrongIntegrity     failInfo = 1 << 12
	signerNotTrusted   failInfo = 1 << 20
	transactionIDInUse failInfo = 1 << 21
	notAuthorized      failInfo = 1 << 23
	systemUnavail      failInfo = 1 << 24
	systemFailure      failInfo = 1 << 25

	denials = badMessageCheck | wrongIntegrity | signerNotTrusted | notAuthorized
)

// failNames are the bits by name, in the order of the standard.
var failNames = []string{
	"badAlg", "badMessageCheck", "badRequest", "badTime", "badCertId", "badDataFormat", "wrongAuthority", "incorrectData",
	"missingTimeStamp", "badPOP", "certRevoked", "certConfirmed", "wrongIntegrity", "badRecipientNonce", "timeNotAvailable",
	"unacceptedPolicy", "unacceptedExtension", "addInfoNotAvailable", "badSenderNonce", "badCertTemplate", "signerNotTrusted",
	"transactionIdInUse", "unsupportedVersion", "notAuthorized", "systemUnavail", "systemFailure", "duplicateCertReq",
}

func (f failInfo) String() string {
	var names []string
	for n := range 32 {
		switch {
		case f&(1<<n) == 0:
		case n < len(failNames):
			names = append(names, failNames[n])
		default:
			names = append(names, fmt.Sprintf("bit %d", n))
		}
	}
	return strings.Join(names, ", ")
}

// statusInfo is PKIStatusInfo (RFC 9810 section 5.2.3).
type statusInfo struct {
	status int
	fail   failInfo
	words  []string // the CA's own
}

func (s *statusInfo) read(from *cryptobyte.String) error {
	var info cryptobyte.String
	if !from.ReadASN1(&info, asn1.SEQUENCE) || !info.ReadASN1Integer(&s.status) {
		return malformed("PKIStatusInfo")
	}
	var err error
	if info.PeekASN1Tag(asn1.SEQUENCE) {
		if s.words, err = readFreeText(&info); err != nil {
			return err
		}
	}
	if !info.Empty() {
		var bits encodingasn1.BitString
		if !info.ReadASN1BitString(&bits) || bits.BitLength > 32 || !info.Empty() {
			return malformed("failInfo")
		}
		for n := range bits.BitLength {
			s.fail |= failInfo(bits.At(n)) << n //nolint:gosec // At is 0 or 1
		}
	}
	return nil
}

// maxTexts is the most of an answer's texts that are kept.
const maxTexts = 8

// readFreeText reads PKIFreeText: a list of UTF8String.
func readFreeText(from *cryptobyte.String) ([]string, error) {
	var list, text cryptobyte.String
	if !from.ReadASN1(&list, asn1.SEQUENCE) {
		return nil, malformed("PKIFreeText")
	}
	var texts []string
	for !list.Empty() {
		if !list.ReadASN1(&text, asn1.UTF8String) {
			return nil, malformed("PKIFreeText")
		}
		if len(texts) < maxTexts {
			texts = append(texts, httpcall.Clean(string(text)))
		}
	}
	return texts, nil
}

// String is fit for a log line.
func (s statusInfo) String() string {
	text := fmt.Sprintf("status %d", s.status)
	if s.status == rejection {
		text = "rejection"
	}
	if s.fail != 0 {
		text += " (" + s.fail.String() + ")"
	}
	if len(s.words) > 0 {
		text += ": " + strings.Join(s.words, "; ")
	}
	return httpcall.Clean(text)
}

// outcome is what the answer to a request to revoke amounts to. The error is *ca.Error.
func (s statusInfo) outcome(op string) (ca.Answer, error) {
	if s.status != rejection && s.fail != 0 {
		return ca.Answer{}, httpcall.Unreadable(op, fmt.Errorf("%s is no rejection, and fails all the same", s))
	}
	switch s.status {
	case accepted, grantedWithMods, revocationNotification:
		return ca.Answer{Outcome: ca.Revoked}, nil
	case waiting, revocationWarning:
		return ca.Answer{Outcome: ca.Pending}, nil
	case rejection:
		if s.fail == certRevoked {
			return ca.Answer{Outcome: ca.AlreadyRevoked}, nil
		}
		return ca.Answer{}, &ca.Error{Kind: s.kind(), Op: op, Words: s.String()}
	}
	return ca.Answer{}, httpcall.Unreadable(op, fmt.Errorf("%s means nothing for a revocation", s))
}

// failure is what an error message amounts to. It may say that the certificate is
// revoked already, or that the CA needs time (RFC 9810 section 5.3.22), and never that
// something was done.
func (s statusInfo) failure(op string) (ca.Answer, error) {
	if s.status != rejection && s.status != waiting {
		return ca.Answer{}, httpcall.Unreadable(op, fmt.Errorf("an error message of %s", s))
	}
	return s.outcome(op)
}

// kind is what a rejection means for the next try. If it gives several grounds, the
// one that leaves the most open counts.
func (s statusInfo) kind() ca.Kind {
	switch {
	case s.fail&systemFailure != 0:
		return ca.Ambiguous // seen of one that had revoked all the same
	case s.fail&(systemUnavail|transactionIDInUse) != 0:
		return ca.Unavailable
	case s.fail&certRevoked != 0:
		return ca.Ambiguous // revoked already, and something else too
	case s.fail&denials != 0:
		return ca.Denied
	case s.fail&badCertID != 0:
		return ca.NotFound
	}
	return ca.Unsupported
}

// errWrongBody: it is protected, and no answer to what was asked.
var errWrongBody = errors.New("it is an answer to something else")
