package cmrest

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strconv"
	"strings"

	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

const (
	// pageSize is how many hits are asked for at once. The gateway shows 500 at most,
	// unless it is configured otherwise.
	pageSize = 100
	// maxHits and maxPages are how much is looked through. A serial number and an issuer
	// have one hit, and a key has few; many mean that the gateway does not search by them.
	maxHits  = 1000
	maxPages = 20
	// maxCertID is the longest certid that is believed, in bytes.
	maxCertID = 256
)

// SerialFormat is how a serial number is written.
type SerialFormat string

// The formats of serial numbers. As hex, upper case, leading zeros, colons and spaces
// are read, too.
const (
	Hex     SerialFormat = "hex"
	Decimal SerialFormat = "decimal"
)

func (f SerialFormat) check() error {
	if f != Hex && f != Decimal {
		return fmt.Errorf("serial format %q is neither %s nor %s", string(f), Hex, Decimal)
	}
	return nil
}

func (f SerialFormat) format(serial *big.Int) string {
	if f == Decimal {
		return serial.String()
	}
	return serial.Text(16)
}

// is reports whether the text is the serial number.
func (f SerialFormat) is(text string, serial *big.Int) bool {
	const longest = 100 // no serial number has more, in any format
	base := 10
	if f == Hex {
		base = 16
		text = strings.TrimPrefix(strings.NewReplacer(":", "", " ", "").Replace(strings.ToLower(text)), "0x")
	}
	if text == "" || len(text) > longest || strings.Trim(text, "0123456789abcdef") != "" {
		return false
	}
	number, ok := new(big.Int).SetString(text, base)
	return ok && number.Cmp(serial) == 0
}

// list is the answer to a search.
type list struct {
	Hits         *int    `json:"searchHits"` // all, not only those shown
	Certificates []entry `json:"certificates"`
}

// found is the outcome of a search.
type found struct {
	entry *entry // nil: none
	reply httpcall.Reply
}

// find looks the certificate up by serial number and issuer. What matches several
// certificates, or shows only others, is an error: the search or the configuration is
// not what it seems, and neither "unknown" nor any of them is the answer.
func (d *Driver) find(ctx context.Context, op string, cert ca.Certificate) (found, error) {
	serial, err := cert.SerialNumber()
	if err != nil {
		return found{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	query := url.Values{"certificateSerialNumber": {d.serials.format(serial)}, "issuer": {d.issuerDN}}
	var f found
	var other *entry
	f.reply, err = d.search(ctx, op, query, func(one entry) error {
		switch {
		case !d.serials.is(one.Serial, serial) || one.Issuer != d.issuerDN:
			other = &one
		case !goodCertID(one.CertID):
			return badCertID(op, one)
		case f.entry != nil && f.entry.CertID != one.CertID:
			return &ca.Error{Kind: ca.Unsupported, Op: op, Words: fmt.Sprintf(
				"CM has several certificates of this serial number and issuer: certid %s and %s", httpcall.Clean(f.entry.CertID), httpcall.Clean(one.CertID))}
		default:
			f.entry = &one
		}
		return nil
	})
	if err != nil {
		return found{}, err
	}
	if f.entry == nil && other != nil {
		return found{}, &ca.Error{Kind: ca.Unsupported, Op: op, Words: httpcall.Clean(fmt.Sprintf(
			"the search shows others only, for example serial number %q of %q: compare issuer DN and serial format", other.Serial, other.Issuer))}
	}
	return f, nil
}

// search hands on what the query finds, page by page and to the end, and returns the
// last answer. It ends with the first error of each.
func (d *Driver) search(ctx context.Context, op string, query url.Values, each func(entry) error) (httpcall.Reply, error) {
	query.Set("searchLimit", strconv.Itoa(pageSize))
	var reply httpcall.Reply
	for pages, offset, hits := 0, 0, 1; offset < hits; pages++ {
		if pages == maxPages || hits > maxHits {
			return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Words: fmt.Sprintf("the search finds %d certificates", hits)}
		}
		query.Set("searchOffset", strconv.Itoa(offset))
		var page list
		var err error
		if reply, err = d.get(ctx, op, query, &page, "certificates"); err != nil {
			return httpcall.Reply{}, err
		}
		if page.Hits == nil || *page.Hits < 0 {
			return httpcall.Reply{}, httpcall.Unreadable(op, errors.New("it does not say how many certificates it has found"))
		}
		hits = *page.Hits
		if offset < hits && len(page.Certificates) == 0 {
			return httpcall.Reply{}, httpcall.Unreadable(op, fmt.Errorf("it has found %d certificates and shows only %d", hits, offset))
		}
		for _, one := range page.Certificates {
			if err := each(one); err != nil {
				return httpcall.Reply{}, err
			}
		}
		offset += len(page.Certificates)
	}
	return reply, nil
}

func badCertID(op string, one entry) error {
	return httpcall.Unreadable(op, fmt.Errorf("it names the certid %q", one.CertID))
}

// goodCertID reports whether the text can be a segment of a path and a word of a log.
func goodCertID(id string) bool {
	if id == "" || id == "." || id == ".." || len(id) > maxCertID {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
}
