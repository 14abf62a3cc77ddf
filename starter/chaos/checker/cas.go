package checker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
	"golang.org/x/sync/errgroup"
)

// revocation is what a CRL and OCSP say of a certificate.
type revocation struct {
	at     time.Time
	reason int
	byOCSP string // good, revoked, unknown; empty: not asked
}

const certificateHold = 6

// maxAnswer is more than a CRL of a hundred thousand certificates has, in bytes.
const maxAnswer = 32 << 20

// NameOf names a CA as the store does: by the SHA-256 of its name, in lower-case hex.
func NameOf(issuer *x509.Certificate) string {
	name := sha256.Sum256(issuer.RawSubject)
	return hex.EncodeToString(name[:])
}

func (c *check) readCAs(ctx context.Context) error {
	c.crls = map[string]map[string]revocation{}
	for _, ca := range c.CAs {
		crl, err := readCRL(ctx, ca)
		if err != nil {
			return fmt.Errorf("CRL of %s: %w", ca.Name, err)
		}
		c.crls[NameOf(ca.Issuer)] = crl
		c.report.Revoked += len(crl)
		if ca.OCSPURL == "" {
			continue
		}
		if err := c.askOCSP(ctx, ca); err != nil {
			return fmt.Errorf("OCSP of %s: %w", ca.Name, err)
		}
	}
	return nil
}

func readCRL(ctx context.Context, ca CA) (map[string]revocation, error) {
	der, err := get(ctx, http.MethodGet, ca.CRLURL, "", nil)
	if err != nil {
		return nil, err
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if err := crl.CheckSignatureFrom(ca.Issuer); err != nil {
		return nil, err
	}
	revoked := map[string]revocation{}
	for _, entry := range crl.RevokedCertificateEntries {
		revoked[entry.SerialNumber.Text(16)] = revocation{at: entry.RevocationTime, reason: entry.ReasonCode}
	}
	return revoked, nil
}

// askOCSP asks for each certificate of a CA.
func (c *check) askOCSP(ctx context.Context, ca CA) error {
	issuer := NameOf(ca.Issuer)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	var mu sync.Mutex
	for key, x := range c.certificates {
		if key.issuer != issuer {
			continue
		}
		group.Go(func() error {
			said, err := askOne(ctx, ca, x.parsed)
			if err != nil {
				return fmt.Errorf("certificate %s: %w", x.serial, err)
			}
			mu.Lock()
			defer mu.Unlock()
			r, listed := c.crls[issuer][x.serial]
			c.report.OCSP++
			if listed {
				r.byOCSP = said
				c.crls[issuer][x.serial] = r
			} else if said == statusRevoked {
				c.wrong(AheadOfCA, x.serial, "OCSP says revoked, and the CRL does not list it")
			}
			return nil
		})
	}
	return group.Wait()
}

func askOne(ctx context.Context, ca CA, certificate *x509.Certificate) (string, error) {
	body, err := ocsp.CreateRequest(certificate, ca.Issuer, nil)
	if err != nil {
		return "", err
	}
	der, err := get(ctx, http.MethodPost, ca.OCSPURL, "application/ocsp-request", body)
	if err != nil {
		return "", err
	}
	answer, err := ocsp.ParseResponseForCert(der, certificate, ca.Issuer)
	if err != nil {
		return "", err
	}
	switch answer.Status {
	case ocsp.Good:
		return "good", nil
	case ocsp.Revoked:
		return statusRevoked, nil
	}
	return "unknown", nil
}

func get(ctx context.Context, method, url, kind string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxAnswer))
}

// revocationOf is what the CA of a certificate says of it.
func (c *check) revocationOf(key certificateKey) (revocation, bool) {
	r, listed := c.crls[key.issuer][key.serial]
	return r, listed && r.reason != certificateHold
}

// issued lists the serial numbers that devca's journal says were issued.
func issued(file string) ([]string, error) {
	f, err := os.Open(file) //nolint:gosec // of the CA that is looked at
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	var serials []string
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		// Checksum, time, what was done, serial number, and more.
		fields := strings.SplitN(scanner.Text(), " ", 5)
		if len(fields) == 5 && strings.HasPrefix(fields[2], "issue") {
			serials = append(serials, strings.TrimLeft(fields[3], "0"))
		}
	}
	return serials, scanner.Err()
}
