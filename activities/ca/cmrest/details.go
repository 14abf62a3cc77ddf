package cmrest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

// reasons by CM's words, without spaces and in lower case. Those that CM does not take
// from this API may still have been given by another way.
var reasons = map[string]mobileid.Reason{
	"unspecified":          mobileid.Unspecified,
	"keycompromise":        mobileid.KeyCompromise,
	"cacompromise":         mobileid.CACompromise,
	"affiliationchanged":   mobileid.AffiliationChanged,
	"superseded":           mobileid.Superseded,
	"cessationofoperation": mobileid.CessationOfOperation,
	"certificatehold":      mobileid.CertificateHold,
	"privilegewithdrawn":   mobileid.PrivilegeWithdrawn,
	"aacompromise":         mobileid.AACompromise,
}

// entry is a certificate in an answer.
type entry struct {
	CertID         string          `json:"certid"`
	Status         string          `json:"status"` // active or revoked
	Reason         string          `json:"reason"` // in words
	RevocationTime json.RawMessage `json:"revocationtime"`
	Serial         string          `json:"certificateserialnumber"`
	Issuer         string          `json:"issuer"`
}

// details reads the status of the certificate with the certid.
func (d *Driver) details(ctx context.Context, op string, cert ca.Certificate, certID string) (ca.Evidence, error) {
	serial, err := cert.SerialNumber()
	if err != nil {
		return ca.Evidence{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	asked := time.Now()
	var body struct {
		Certificate entry `json:"certificate"`
	}
	reply, err := d.get(ctx, op, nil, &body, "certificates", url.PathEscape(certID), "details")
	if err != nil {
		return ca.Evidence{}, err
	}
	one := body.Certificate
	if one.CertID != certID || !d.serials.is(one.Serial, serial) || one.Issuer != d.issuerDN {
		return ca.Evidence{}, httpcall.Unreadable(op, fmt.Errorf("it is about certid %q, serial number %q of %q", one.CertID, one.Serial, one.Issuer))
	}
	evidence, err := one.evidence()
	if err != nil {
		return ca.Evidence{}, httpcall.Unreadable(op, err)
	}
	evidence.Proof = reply.Proof(asked)
	return evidence, nil
}

// evidence is what the entry says, without a proof. What it does not say in known
// words is an error: an unknown reason could be a hold by another name.
func (e entry) evidence() (ca.Evidence, error) {
	switch e.Status {
	case "active":
		return ca.Evidence{Status: mobileid.StatusGood}, nil
	case "revoked":
	default:
		return ca.Evidence{}, fmt.Errorf("its status is %q", e.Status)
	}
	reason, known := reasons[strings.ToLower(strings.ReplaceAll(e.Reason, " ", ""))]
	if !known {
		return ca.Evidence{}, fmt.Errorf("it is revoked for the reason %q", e.Reason)
	}
	at, err := readTime(e.RevocationTime)
	if err != nil {
		return ca.Evidence{}, fmt.Errorf("its revocationtime: %w", err)
	}
	evidence := ca.Evidence{Status: mobileid.StatusRevoked, Reason: reason, RevokedAt: at}
	if reason == mobileid.CertificateHold {
		evidence.Status = mobileid.StatusOnHold
	}
	return evidence, nil
}

// The dates that can be a revocation's.
var (
	earliest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// readTime reads a time as a number, of seconds or milliseconds since 1970, or as ISO
// 8601 text, which is UTC unless it says otherwise. The API's description has both, and
// no unit; from 1990 to 2200 the number tells.
func readTime(raw json.RawMessage) (time.Time, error) {
	text := strings.Trim(string(raw), `"`)
	if text == "" || text == "null" {
		return time.Time{}, errors.New("none is given")
	}
	possible := func(at time.Time) bool { return !at.Before(earliest) && at.Before(latest) }
	if number, err := strconv.ParseInt(text, 10, 64); err == nil {
		for _, at := range []time.Time{time.Unix(number, 0), time.UnixMilli(number)} {
			if possible(at) {
				return at.UTC(), nil
			}
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05"} {
		if at, err := time.Parse(layout, text); err == nil && possible(at) {
			return at.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is none", httpcall.Clean(text))
}
