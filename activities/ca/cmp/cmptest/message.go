package cmptest

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// The structures of RFC 9810 and RFC 4211 for encoding/asn1. The driver reads and
// writes with another library, so that no mistake is made twice.

type pkiMessage struct {
	Header     asn1.RawValue
	Body       asn1.RawValue
	Protection asn1.BitString  `asn1:"explicit,optional,tag:0"`
	ExtraCerts []asn1.RawValue `asn1:"explicit,optional,tag:1"`
}

type pkiHeader struct {
	PVNO          int
	Sender        asn1.RawValue
	Recipient     asn1.RawValue
	MessageTime   time.Time                `asn1:"generalized,explicit,optional,tag:0"`
	ProtectionAlg pkix.AlgorithmIdentifier `asn1:"explicit,optional,tag:1"`
	SenderKID     []byte                   `asn1:"explicit,optional,tag:2"`
	RecipKID      []byte                   `asn1:"explicit,optional,tag:3"`
	TransactionID []byte                   `asn1:"explicit,optional,tag:4"`
	SenderNonce   []byte                   `asn1:"explicit,optional,tag:5"`
	RecipNonce    []byte                   `asn1:"explicit,optional,tag:6"`
	FreeText      []asn1.RawValue          `asn1:"explicit,optional,tag:7"`
	GeneralInfo   []asn1.RawValue          `asn1:"explicit,optional,tag:8"`
}

type protectedPart struct{ Header, Body asn1.RawValue }

type revDetails struct {
	CertDetails     asn1.RawValue
	CRLEntryDetails []pkix.Extension `asn1:"optional"`
}

type pkiStatusInfo struct {
	Status   int
	Words    []asn1.RawValue `asn1:"optional"`
	FailInfo asn1.BitString  `asn1:"optional"`
}

type certID struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

type revRepContent struct {
	Status   []pkiStatusInfo
	RevCerts []certID `asn1:"explicit,optional,tag:0"`
}

type errorMsgContent struct {
	Status pkiStatusInfo
	Code   int             `asn1:"optional"`
	Words  []asn1.RawValue `asn1:"optional"`
}

// The bodies by their tags.
const (
	bodyRR    = 11
	BodyRP    = 12 // revocation response
	bodyGenM  = 21
	BodyGenP  = 22 // general response
	BodyError = 23 // error message
)

// exactly decodes all of the bytes.
func exactly(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		err = errors.New("bytes follow")
	}
	return err
}

// directoryName is a GeneralName with a Name.
func directoryName(name []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}
}

// nameOf returns the Name in a GeneralName, and nil if it is another one.
func nameOf(general asn1.RawValue) []byte {
	if general.Class != asn1.ClassContextSpecific || general.Tag != 4 || !general.IsCompound {
		return nil
	}
	return general.Bytes
}

// wanted is what a revocation request asks for.
type wanted struct {
	serial *big.Int
	issuer []byte // the Name as it came
	reason int
}

var oidReasonCode = asn1.ObjectIdentifier{2, 5, 29, 21}

// readRevocationRequest takes one certificate, named by serial number and issuer alone,
// and no CRL entry extension but the reason.
func readRevocationRequest(content []byte) (w wanted, err error) {
	var list []revDetails
	if err := exactly(content, &list); err != nil {
		return w, err
	}
	if len(list) != 1 {
		return w, fmt.Errorf("%d certificates", len(list))
	}
	template := list[0].CertDetails
	if template.Class != asn1.ClassUniversal || template.Tag != asn1.TagSequence || !template.IsCompound {
		return w, errors.New("certDetails is no CertTemplate")
	}
	var serial, issuer asn1.RawValue
	rest, err := asn1.Unmarshal(template.Bytes, &serial)
	if err != nil {
		return w, err
	}
	if err := exactly(rest, &issuer); err != nil {
		return w, fmt.Errorf("CertTemplate: %w", err)
	}
	if serial.Class != asn1.ClassContextSpecific || serial.Tag != 1 || serial.IsCompound ||
		issuer.Class != asn1.ClassContextSpecific || issuer.Tag != 3 || !issuer.IsCompound {
		return w, errors.New("CertTemplate is not serialNumber and issuer")
	}
	number, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagInteger, Bytes: serial.Bytes})
	if err != nil {
		return w, err
	}
	if err := exactly(number, &w.serial); err != nil {
		return w, fmt.Errorf("serialNumber: %w", err)
	}
	w.issuer = issuer.Bytes
	for _, extension := range list[0].CRLEntryDetails {
		var reason asn1.Enumerated
		if !extension.Id.Equal(oidReasonCode) || extension.Critical {
			return w, fmt.Errorf("the CRL entry extension %s is not expected", extension.Id)
		}
		if err := exactly(extension.Value, &reason); err != nil {
			return w, fmt.Errorf("reasonCode: %w", err)
		}
		if reason == 0 {
			return w, errors.New("reason 0 is said by leaving it out")
		}
		w.reason = int(reason)
	}
	return w, nil
}

// Status is one PKIStatusInfo.
type Status struct {
	Status int
	Words  []string
	Fail   []int // bits of failInfo by their numbers
}

func (s Status) encode() pkiStatusInfo {
	info := pkiStatusInfo{Status: s.Status, Words: texts(s.Words)}
	if len(s.Fail) > 0 {
		info.FailInfo = bits(s.Fail)
	}
	return info
}

// bits is a named bit list: its last bit is set.
func bits(numbers []int) asn1.BitString {
	last := 0
	for _, n := range numbers {
		last = max(last, n)
	}
	list := asn1.BitString{Bytes: make([]byte, last/8+1), BitLength: last + 1}
	for _, n := range numbers {
		list.Bytes[n/8] |= 0x80 >> (n % 8)
	}
	return list
}

func texts(words []string) []asn1.RawValue {
	var list []asn1.RawValue
	for _, text := range words {
		list = append(list, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(text)})
	}
	return list
}
