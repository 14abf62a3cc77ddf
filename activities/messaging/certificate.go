package messaging

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
)

// ASSUMPTION. That there is a certificate command at /rest/command/certificate, and
// that the phone installs what it carries, is documented; its body is not in what
// could be read. This one follows the style of the provision command:
//
//	{"commandHeader": {"lifespan", "timeout", "externalId"},
//	 "certCommand": {"userid", "profileid", "certificates": [{"keyid", "certs": [base64 DER, leaf first]}]}}
//
// Everything that knows it stands in this file.

// Certificates delivers certificates to the profile of a phone.
type Certificates struct {
	Header
	UserID    string
	ProfileID string // of the provision callback
	Chains    []Chain
}

// Chain is the certificate for a key with those above it, leaf first, as DER.
type Chain struct {
	KeyID        string
	Certificates [][]byte
}

// maxChain is the longest chain that is sent or taken.
const maxChain = 6

type certificateBody struct {
	Header  headerBody `json:"commandHeader"`
	Command struct {
		UserID    string      `json:"userid"`
		ProfileID string      `json:"profileid"`
		Chains    []chainBody `json:"certificates"`
	} `json:"certCommand"`
}

type chainBody struct {
	KeyID        string   `json:"keyid"`
	Certificates []string `json:"certs"`
}

// body checks the command and puts it on the wire. The error is *Error of kind Invalid.
func (c Certificates) body(op string) ([]byte, error) {
	if err := c.check(op); err != nil {
		return nil, err
	}
	var b certificateBody
	b.Header = c.Header.body()
	b.Command.UserID, b.Command.ProfileID = c.UserID, c.ProfileID
	for _, chain := range c.Chains {
		wire := chainBody{KeyID: chain.KeyID}
		for _, der := range chain.Certificates {
			wire.Certificates = append(wire.Certificates, base64.StdEncoding.EncodeToString(der))
		}
		b.Command.Chains = append(b.Command.Chains, wire)
	}
	return encode(op, b)
}

func (c Certificates) check(op string) error {
	if err := c.Header.check(op); err != nil {
		return err
	}
	if err := checkText(op, "userid", c.UserID); err != nil {
		return err
	}
	if !profileIDs.MatchString(c.ProfileID) {
		return invalid(op, "profileid", "it is missing, or no id")
	}
	if len(c.Chains) == 0 || len(c.Chains) > maxKeys {
		return invalid(op, "certificates", fmt.Sprintf("there are %d; it must be 1 to %d", len(c.Chains), maxKeys))
	}
	seen := map[string]bool{}
	for _, chain := range c.Chains {
		if !keyIDs.MatchString(chain.KeyID) || seen[chain.KeyID] {
			return invalid(op, "keyid", fmt.Sprintf("%q is not a name, or is there twice", clean(chain.KeyID)))
		}
		seen[chain.KeyID] = true
		if len(chain.Certificates) == 0 || len(chain.Certificates) > maxChain {
			return invalid(op, "certs of key "+chain.KeyID, fmt.Sprintf("there must be 1 to %d", maxChain))
		}
		for _, der := range chain.Certificates {
			if _, err := x509.ParseCertificate(der); err != nil {
				return invalid(op, "certs of key "+chain.KeyID, "one is not a certificate")
			}
		}
	}
	return nil
}

// ParseCertificates reads the body of a certificate command, as messaging and a
// phone have to.
func ParseCertificates(body []byte) (Certificates, error) {
	const op = "read certificate command"
	var b certificateBody
	if err := readJSON(body, &b); err != nil {
		return Certificates{}, invalid(op, "", err.Error())
	}
	header, err := b.Header.header()
	if err != nil {
		return Certificates{}, invalid(op, "", err.Error())
	}
	c := Certificates{Header: header, UserID: b.Command.UserID, ProfileID: b.Command.ProfileID}
	for _, wire := range b.Command.Chains {
		chain := Chain{KeyID: wire.KeyID}
		for _, text := range wire.Certificates {
			der, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return Certificates{}, invalid(op, "certs", "one is not base64")
			}
			chain.Certificates = append(chain.Certificates, der)
		}
		c.Chains = append(c.Chains, chain)
	}
	return c, c.check(op)
}
