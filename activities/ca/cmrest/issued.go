package cmrest

import (
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // the search is by this hash; what it finds is compared key by key
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

// maxOfKey is how many certificates with one key identifier are looked at. A key has
// one, and a few if it was asked for at the same time.
const maxOfKey = 20

// Issued implements [ca.Issuer]. It searches by the key identifier, downloads what is
// found, and returns what is for the key and signed by the configured issuer: the one
// that was valid first comes first. Revoked and expired ones are among them.
//
// The key identifier is that of RFC 5280 section 4.2.1.2, method 1: the SHA-1 of the
// public key's bits, searched for in lower-case hex. That CM makes its identifiers so,
// takes them so in a search, and shows a certificate as soon as it is issued was not
// verified with the product. Where one of them is not so, nothing is found, and a repeat
// of IssueOnce has a second certificate issued: TestLiveIssue shows it.
//
// Whose a certificate is, its signature says; the search is not by issuer. By the issuer
// DN, one that CM shows under another name than the configured one would be left out,
// issued again, and could not be revoked: it is an error.
func (d *Driver) Issued(ctx context.Context, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	const op = "look for what was issued for a key"
	if err := d.canCheck(op); err != nil {
		return nil, err
	}
	id, err := keyIdentifier(csr)
	if err != nil {
		return nil, &ca.Error{Kind: ca.Unsupported, Op: op, Err: fmt.Errorf("pkcs10: %w", err)}
	}
	var hits []entry
	if _, err := d.search(ctx, op, url.Values{"subjectKeyIdentifier": {id}}, func(one entry) error {
		switch {
		case !goodCertID(one.CertID):
			return badCertID(op, one)
		case len(hits) == maxOfKey:
			return &ca.Error{Kind: ca.Unsupported, Op: op, Words: fmt.Sprintf("the search finds more than %d certificates of one key", maxOfKey)}
		}
		hits = append(hits, one)
		return nil
	}); err != nil {
		return nil, err
	}
	var issued []*x509.Certificate
	for _, hit := range hits {
		certs, err := d.download(ctx, op, hit)
		if err != nil {
			return nil, err
		}
		for _, cert := range certs {
			switch {
			case !isFor(cert, csr) || d.checkIssuer(cert) != nil:
			case hit.Issuer != d.issuerDN:
				return nil, &ca.Error{Kind: ca.Unsupported, Op: op, Words: httpcall.Clean(fmt.Sprintf(
					"CM shows a certificate of this CA, certid %s, under the issuer %q: compare issuer DN", hit.CertID, hit.Issuer))}
			case !slices.ContainsFunc(issued, cert.Equal):
				issued = append(issued, cert)
			}
		}
	}
	slices.SortFunc(issued, func(a, b *x509.Certificate) int {
		return cmp.Or(a.NotBefore.Compare(b.NotBefore), a.SerialNumber.Cmp(b.SerialNumber))
	})
	return issued, nil
}

// download reads the certificate of a search. The gateway may send its chain, too: what
// is returned has the serial number that the search has shown. Without one the answer is
// an error, and not a certificate less: what was issued would be issued once more.
func (d *Driver) download(ctx context.Context, op string, hit entry) ([]*x509.Certificate, error) {
	reply, err := d.fetch(ctx, op, pkixCert, nil, "certificates", url.PathEscape(hit.CertID), "download")
	if err != nil {
		return nil, err
	}
	certs, err := readCertificates(op, reply, hit.CertID)
	if err != nil {
		return nil, err
	}
	certs = slices.DeleteFunc(certs, func(cert *x509.Certificate) bool { return !d.serials.is(hit.Serial, cert.SerialNumber) })
	if len(certs) == 0 {
		return nil, httpcall.Unreadable(op, fmt.Errorf(
			"certid %q: it holds no certificate of the serial number %q, which the search has shown: compare serial format", hit.CertID, hit.Serial))
	}
	return certs, nil
}

// keyIdentifier is that of the request's key, in hex.
func keyIdentifier(csr *x509.CertificateRequest) (string, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	rest, err := asn1.Unmarshal(csr.RawSubjectPublicKeyInfo, &info)
	if err != nil {
		return "", err
	}
	if len(rest) > 0 {
		return "", errors.New("something follows its public key")
	}
	sum := sha1.Sum(info.Key.Bytes) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:]), nil
}
