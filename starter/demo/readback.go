package demo

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/crypto/ocsp"

	"mobileid"
)

// Words for the status of a certificate, the same for the CRL and for OCSP.
const (
	good    = "good"
	revoked = "revoked"
)

// ReadBack reads the end states where they count and shows them in a table. It
// returns every difference to what must be.
func (d *Demo) ReadBack(ctx context.Context) error {
	list, number, err := d.readCRL()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\nRead back from the store, from CRL number %s, and by OCSP:\n\n", number)
	w := tabwriter.NewWriter(d.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  MOBILE ID\tOWNER\tSTATE\tCERTIFICATE\tIN IM\tCRL\tOCSP\t")
	var different []error
	for _, p := range people {
		all, err := d.Store.MobileIDsOf(ctx, p.id)
		if err != nil {
			return err
		}
		// The one of before comes first.
		slices.SortStableFunc(all, func(a, b mobileid.MobileID) int {
			return rank(p, b) - rank(p, a)
		})
		different = append(different, p.checkNumber(len(all)))
		for _, m := range all {
			want := wanted(p.locked && m.ID == p.mobileID)
			different = append(different, want.checkState(m))
			for _, c := range m.Certificates {
				seen, err := d.look(ctx, c, list)
				if err != nil {
					return err
				}
				mark := "✓"
				if err := want.check(m, c, seen); err != nil {
					mark = "DIFFERS"
					different = append(different, err)
				}
				fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shownID(m.ID), m.Owner.ID, m.State, ending(c.Serial), c.State, seen.inCRL, seen.byOCSP, mark)
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return errors.Join(different...)
}

// rank is higher for the mobile ID that a person had in the beginning.
func rank(p person, m mobileid.MobileID) int {
	if m.ID == p.mobileID {
		return 1
	}
	return 0
}

func (p person) checkNumber(n int) error {
	want := 1
	if p.gotAnother {
		want = 2
	}
	if n != want {
		return fmt.Errorf("%s has mobile IDs: %d, must be: %d", p.id, n, want)
	}
	return nil
}

// ending is the end of a serial number, by which people compare them.
func ending(serial string) string {
	const keep = 8
	if len(serial) <= keep {
		return serial
	}
	return "…" + serial[len(serial)-keep:]
}

// shownID is the id of a mobile ID, without the middle of a long one.
func shownID(id string) string {
	prefix, random, found := strings.Cut(id, "-")
	if !found {
		return id
	}
	return prefix + "-" + ending(random)
}

// endStates are what must be read back.
type endStates struct {
	state       mobileid.State
	certificate mobileid.CertificateState
	published   string
}

func wanted(locked bool) endStates {
	if locked {
		return endStates{mobileid.Locked, mobileid.CertificateRevoked, revoked}
	}
	return endStates{mobileid.Active, mobileid.CertificateValid, good}
}

// checkState returns what is wrong with a mobile ID as such.
func (want endStates) checkState(m mobileid.MobileID) error {
	var errs []error
	if m.State != want.state {
		errs = append(errs, fmt.Errorf("%s is %s, must be %s", m.ID, m.State, want.state))
	}
	if len(m.Certificates) != len(profiles) {
		errs = append(errs, fmt.Errorf("%s has certificates: %d, must be: %d", m.ID, len(m.Certificates), len(profiles)))
	}
	return errors.Join(errs...)
}

// check returns what is wrong with a certificate.
func (want endStates) check(m mobileid.MobileID, c mobileid.Certificate, seen sighting) error {
	if c.State == want.certificate && seen.inCRL == want.published && seen.byOCSP == want.published {
		return nil
	}
	return fmt.Errorf("certificate %s of %s: %s in IM, %s in the CRL, %s by OCSP; must be %s and %s",
		c.Serial, m.ID, c.State, seen.inCRL, seen.byOCSP, want.certificate, want.published)
}

// sighting is what others see of a certificate.
type sighting struct{ inCRL, byOCSP string }

func (d *Demo) look(ctx context.Context, c mobileid.Certificate, list map[string]bool) (sighting, error) {
	certificate, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return sighting{}, err
	}
	seen := sighting{inCRL: good}
	if list[certificate.SerialNumber.String()] {
		seen.inCRL = revoked
	}
	seen.byOCSP, err = askOCSP(ctx, certificate, d.issuer)
	return seen, err
}

// CheckLocked reads the three end states of a mobile ID back from the store, the CRL
// and OCSP. The error is every difference.
func (d *Demo) CheckLocked(ctx context.Context, id string) error {
	return d.checkMobileID(ctx, id, wanted(true))
}

// CheckActive is CheckLocked for one that nobody has touched.
func (d *Demo) CheckActive(ctx context.Context, id string) error {
	return d.checkMobileID(ctx, id, wanted(false))
}

// checkMobileID reads the end states of one mobile ID, and returns every
// difference.
func (d *Demo) checkMobileID(ctx context.Context, id string, want endStates) error {
	list, _, err := d.readCRL()
	if err != nil {
		return err
	}
	m, err := d.Store.MobileID(ctx, id)
	if err != nil {
		return err
	}
	errs := []error{want.checkState(m)}
	for _, c := range m.Certificates {
		seen, err := d.look(ctx, c, list)
		if err == nil {
			err = want.check(m, c, seen)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// readCRL reads the CRL that devca has published in its folder, the one that
// openssl would be given.
func (d *Demo) readCRL() (list map[string]bool, number string, err error) {
	file := filepath.Join(d.Stack.Dir, "ca", "crl.pem")
	text, err := os.ReadFile(file) //nolint:gosec // devca's folder
	if err != nil {
		return nil, "", err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, "", fmt.Errorf("%s holds no PEM", file)
	}
	crl, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, "", err
	}
	if err := crl.CheckSignatureFrom(d.issuer); err != nil {
		return nil, "", err
	}
	list = map[string]bool{}
	for _, entry := range crl.RevokedCertificateEntries {
		list[entry.SerialNumber.String()] = true
	}
	return list, crl.Number.String(), nil
}

// askOCSP asks the responder that the certificate itself names. It shares no code
// with package ca, whose work it looks at.
func askOCSP(ctx context.Context, certificate, issuer *x509.Certificate) (string, error) {
	if len(certificate.OCSPServer) == 0 {
		return "", errors.New("the certificate names no OCSP responder")
	}
	body, err := ocsp.CreateRequest(certificate, issuer, nil)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, certificate.OCSPServer[0], bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/ocsp-request")
	httpClient := &http.Client{Timeout: 10 * time.Second}
	response, err := httpClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", err
	}
	parsed, err := ocsp.ParseResponseForCert(answer, certificate, issuer)
	if err != nil {
		return "", err
	}
	if now := time.Now(); !parsed.NextUpdate.IsZero() && now.After(parsed.NextUpdate) {
		return "", fmt.Errorf("the OCSP answer was good until %s", parsed.NextUpdate.UTC().Format(time.RFC3339))
	}
	switch parsed.Status {
	case ocsp.Good:
		return good, nil
	case ocsp.Revoked:
		return revoked, nil
	}
	return "unknown", nil
}
