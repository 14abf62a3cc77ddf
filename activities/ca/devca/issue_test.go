package devca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIssue(t *testing.T) {
	s := open(t, t.TempDir(), Options{PublicURL: "http://ca.example:8080"})
	key := newKey(t)
	before := time.Now()
	cert, err := s.Issue(context.Background(), IssueRequest{
		CSR:      newCSR(t, key, pkix.Name{CommonName: "Anna Ek", SerialNumber: "anna"}),
		Profile:  ProfileAuthentication,
		Validity: 48 * time.Hour,
	})
	require.NoError(t, err)
	require.NoError(t, cert.CheckSignatureFrom(s.Certificate()))
	require.True(t, samePublicKey(cert.PublicKey, key.Public()))
	require.Equal(t, "Anna Ek", cert.Subject.CommonName)
	require.Equal(t, 160, cert.SerialNumber.BitLen()+1, "20 bytes with a clear top bit")
	require.Equal(t, s.Certificate().SubjectKeyId, cert.AuthorityKeyId)
	require.Len(t, cert.SubjectKeyId, 20)
	require.Equal(t, []string{"http://ca.example:8080/crl.der"}, cert.CRLDistributionPoints)
	require.Equal(t, []string{"http://ca.example:8080/ocsp"}, cert.OCSPServer)
	require.Equal(t, []string{"http://ca.example:8080/ca.der"}, cert.IssuingCertificateURL)
	require.False(t, cert.IsCA)
	require.True(t, cert.BasicConstraintsValid)
	require.True(t, cert.NotBefore.Before(before))
	require.Equal(t, 48*time.Hour, cert.NotAfter.Sub(cert.NotBefore))

	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.NoError(t, err)
}

func TestProfiles(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for _, row := range []struct {
		name     string
		profile  Profile
		key      crypto.Signer
		usage    x509.KeyUsage
		extended []x509.ExtKeyUsage
		unknown  string
	}{
		{"authentication", ProfileAuthentication, newKey(t), x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, ""},
		{"signature", ProfileSignature, newKey(t), x509.KeyUsageContentCommitment, nil, "1.3.6.1.5.5.7.3.36"},
		{"encryption to EC", ProfileEncryption, newKey(t), x509.KeyUsageKeyAgreement, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, ""},
		{"encryption to RSA", ProfileEncryption, rsaKey, x509.KeyUsageKeyEncipherment, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			cert, err := s.Issue(context.Background(), IssueRequest{
				CSR: newCSR(t, row.key, pkix.Name{CommonName: "Anna"}), Profile: row.profile, Validity: time.Hour,
			})
			require.NoError(t, err)
			require.Equal(t, row.usage, cert.KeyUsage)
			require.Equal(t, row.extended, cert.ExtKeyUsage)
			if row.unknown != "" {
				require.Len(t, cert.UnknownExtKeyUsage, 1)
				require.Equal(t, row.unknown, cert.UnknownExtKeyUsage[0].String())
			}
		})
	}
}

func TestRefusedRequests(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	anna := pkix.Name{CommonName: "Anna"}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	require.NoError(t, err)
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	tampered := newCSR(t, newKey(t), anna)
	tampered[len(tampered)-1] ^= 1

	valid := IssueRequest{CSR: newCSR(t, p384, anna), Profile: ProfileSignature, Validity: time.Hour}
	_, err = s.Issue(context.Background(), valid)
	require.NoError(t, err)
	with := func(change func(*IssueRequest)) IssueRequest {
		request := valid
		change(&request)
		return request
	}
	for _, row := range []struct {
		name    string
		request IssueRequest
		words   string
	}{
		{"no request", with(func(r *IssueRequest) { r.CSR = nil }), "PKCS #10"},
		{"signed by another key", with(func(r *IssueRequest) { r.CSR = tampered }), "signature"},
		{"P-521", with(func(r *IssueRequest) { r.CSR = newCSR(t, p521, anna) }), "curve"},
		{"weak RSA", with(func(r *IssueRequest) { r.CSR = newCSR(t, weak, anna) }), "1024 bits"},
		{"Ed25519", with(func(r *IssueRequest) { r.CSR = newCSR(t, ed, anna) }), "neither"},
		{"empty subject", with(func(r *IssueRequest) { r.CSR = newCSR(t, p384, pkix.Name{}) }), "names nobody"},
		{"subject without a person", with(func(r *IssueRequest) { r.CSR = newCSR(t, p384, pkix.Name{Organization: []string{"Nexus"}}) }), "names nobody"},
		{"unknown profile", with(func(r *IssueRequest) { r.Profile = "ca" }), "profile"},
		{"no profile", with(func(r *IssueRequest) { r.Profile = "" }), "profile"},
		{"no validity", with(func(r *IssueRequest) { r.Validity = 0 }), "validity"},
		{"longer than the CA", with(func(r *IssueRequest) { r.Validity = 21 * 365 * 24 * time.Hour }), "notAfter"},
		{"serial zero", with(func(r *IssueRequest) { r.Serial = new(big.Int) }), "serial"},
		{"serial too long", with(func(r *IssueRequest) { r.Serial = new(big.Int).Lsh(big.NewInt(1), 160) }), "serial"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := s.Issue(context.Background(), row.request)
			require.ErrorIs(t, err, ErrBadRequest)
			require.ErrorContains(t, err, row.words)
		})
	}
}

func TestSerialIsNeverUsedTwice(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	issue(t, s, "80")
	require.NoError(t, s.Close())
	s = open(t, dir, Options{})
	_, err = s.Issue(context.Background(), IssueRequest{
		CSR: newCSR(t, newKey(t), pkix.Name{CommonName: "Anna"}), Profile: ProfileSignature, Validity: time.Hour, Serial: integer(t, "80"),
	})
	require.ErrorIs(t, err, ErrSerialTaken)
}

// TestSubjectKeepsItsBytes checks that what is kept is not encoded anew: a name
// in another string type is another name to those who compare bytes.
func TestSubjectKeepsItsBytes(t *testing.T) {
	attributeOf := func(oid asn1.ObjectIdentifier, tag int, value string) attribute {
		return attribute{oid, asn1.RawValue{Tag: tag, Bytes: []byte(value)}}
	}
	commonName := attributeOf(asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.TagUTF8String, "Anna Ek")
	serial := attributeOf(asn1.ObjectIdentifier{2, 5, 4, 5}, asn1.TagPrintableString, "anna")
	email := attributeOf(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, asn1.TagIA5String, "anna@example.com")
	organization := attributeOf(asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.TagUTF8String, "Nexus")
	for _, row := range []struct {
		name     string
		in, want []attributeSET
	}{
		{"all of it", []attributeSET{{commonName}, {serial}, {email}}, []attributeSET{{commonName}, {serial}, {email}}},
		{"without the organization", []attributeSET{{organization}, {commonName}}, []attributeSET{{commonName}}},
		{"out of a set", []attributeSET{{commonName, organization, serial}}, []attributeSET{{commonName, serial}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			in, err := asn1.Marshal(row.in)
			require.NoError(t, err)
			want, err := asn1.Marshal(row.want)
			require.NoError(t, err)
			got, err := personalSubject(in)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}
