package checker

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What stands in a receipt of Self-Service, as text.
var (
	paperRecord      = regexp.MustCompile(`(?m)^Audit record ([0-9]+), MAC ([0-9a-f]{64})$`)
	paperCertificate = regexp.MustCompile(`(?m)^Certificate ([0-9a-f]+)$`)
	paperRevoked     = regexp.MustCompile(`(?m)^  Revoked  (.+)$`)
	paperLocked      = regexp.MustCompile(`(?m)^Blocked in this service +(.+)$`)
)

// paperMustBeTrue compares the receipt that an owner keeps with what is.
func (c *check) paperMustBeTrue(l line) {
	var text string
	if err := json.Unmarshal(l.Answer, &text); err != nil {
		c.wrong(Receipt, l.MobileID, "the receipt is no text: %v", err)
		return
	}
	m, ok := c.mobileIDs[l.MobileID]
	if !ok || m.state != stateLocked || m.lockedAt == nil {
		c.wrong(Receipt, l.MobileID, "there is a receipt, and it is not locked")
		return
	}
	if found := paperRecord.FindStringSubmatch(text); found == nil || !slices.ContainsFunc(m.records, func(r *record) bool {
		return strconv.FormatInt(r.Number, 10) == found[1] && r.MAC == found[2]
	}) {
		c.wrong(Receipt, l.MobileID, "the receipt names a record that is not there")
	}
	if found := paperLocked.FindStringSubmatch(text); found == nil || found[1] != paper(*m.lockedAt) {
		c.wrong(Receipt, l.MobileID, "the receipt says locked %v, and it was %s", found, paper(*m.lockedAt))
	}
	places := paperCertificate.FindAllStringSubmatchIndex(text, -1)
	if len(places) != len(m.certificates) {
		c.wrong(Receipt, l.MobileID, "the receipt has %d certificates, and the mobile ID %d", len(places), len(m.certificates))
	}
	for _, place := range places {
		serial := text[place[2]:place[3]]
		at := slices.IndexFunc(m.certificates, func(x *certificate) bool { return x.serial == serial })
		if at < 0 {
			c.wrong(Receipt, l.MobileID, "the receipt names certificate %s, which it does not have", serial)
			continue
		}
		r, listed := c.revocationOf(m.certificates[at].certificateKey)
		said := paperRevoked.FindStringSubmatch(text[place[0]:])
		if !listed || said == nil || said[1] != paper(r.at) {
			c.wrong(Receipt, l.MobileID, "the receipt says certificate %s was revoked %v, and the CRL says %s", serial, said, paper(r.at))
		}
		if !strings.Contains(text[place[0]:], "  Proof    ") {
			c.wrong(Receipt, l.MobileID, "the receipt has no proof of certificate %s", serial)
		}
	}
}

// paper is a time as a receipt writes it.
func paper(at time.Time) string { return at.UTC().Format(time.RFC3339) }
