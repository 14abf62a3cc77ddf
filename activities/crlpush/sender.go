package crlpush

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"net/http"
	"slices"
	"time"
)

// senders says who may bring CRLs. Which CA a CRL is of, its signature says: a sender
// that is let in can bring those of any configured CA, and forge none.
type senders struct {
	roots *x509.CertPool // nil: no client certificate lets anybody in
	names []string       // of those; empty: every one of the roots'
	basic bool
	user  [sha256.Size]byte
	pass  [sha256.Size]byte
	now   func() time.Time
}

// authentic reports whether a request comes from a sender, by its client certificate, or
// else by HTTP Basic.
func (s senders) authentic(r *http.Request) bool {
	return s.byCertificate(r) || s.byPassword(r)
}

// byCertificate checks the certificate for whose key TLS has asked. It is checked here
// and not by TLS, so that a wrong one has an answer that says so, and a sender with
// another one can use its password.
func (s senders) byCertificate(r *http.Request) bool {
	if s.roots == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return false
	}
	leaf, others := r.TLS.PeerCertificates[0], x509.NewCertPool()
	for _, c := range r.TLS.PeerCertificates[1:] {
		others.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.roots, Intermediates: others, CurrentTime: s.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return false
	}
	return len(s.names) == 0 || slices.Contains(s.names, leaf.Subject.CommonName) ||
		slices.ContainsFunc(leaf.DNSNames, func(name string) bool { return slices.Contains(s.names, name) })
}

// byPassword compares in constant time, whatever the lengths, and both of them,
// whichever is wrong.
func (s senders) byPassword(r *http.Request) bool {
	user, password, given := r.BasicAuth()
	u, p := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))
	right := subtle.ConstantTimeCompare(u[:], s.user[:])&subtle.ConstantTimeCompare(p[:], s.pass[:]) == 1
	return right && given && s.basic
}
