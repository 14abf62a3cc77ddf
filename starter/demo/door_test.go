package demo

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// of has a certificate issued to a user, with its key.
func of(t *testing.T, ca *devcatest.CA, userID string, request devca.IssueRequest) tls.Certificate {
	t.Helper()
	key := newKey(t)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "Somebody", SerialNumber: userID},
	}, key)
	require.NoError(t, err)
	request.CSR = csr
	if request.Profile == "" {
		request.Profile = devca.ProfileAuthentication
	}
	if request.Validity == 0 {
		request.Validity = 24 * time.Hour
	}
	certificate, err := ca.Server.Issue(t.Context(), request)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}
}

func revoke(t *testing.T, ca *devcatest.CA, with tls.Certificate, reason mobileid.Reason) tls.Certificate {
	t.Helper()
	_, err := ca.Server.Revoke(t.Context(), with.Leaf.SerialNumber, reason)
	require.NoError(t, err)
	return with
}

// The door opens to a good certificate for login and its key, and to nothing else.
func TestDoor(t *testing.T) {
	ca, other := devcatest.Start(t), devcatest.Start(t)
	silent := devcatest.Start(t, func(o *devca.Options) { o.PublicURL = "http://127.0.0.1:1" })
	stolen := of(t, ca, eva, devca.IssueRequest{})
	stolen.PrivateKey = newKey(t)
	for _, row := range []struct {
		name   string
		issuer *devcatest.CA
		with   tls.Certificate
		is     error
		says   string
	}{
		{"good", ca, of(t, ca, eva, devca.IssueRequest{}), nil, ""},
		{"revoked", ca, revoke(t, ca, of(t, ca, eva, devca.IssueRequest{}), mobileid.CessationOfOperation), errNotGood, "revoked by OCSP"},
		{"on hold", ca, revoke(t, ca, of(t, ca, eva, devca.IssueRequest{}), mobileid.CertificateHold), errNotGood, "revoked by OCSP"},
		{"for signatures", ca, of(t, ca, eva, devca.IssueRequest{Profile: devca.ProfileSignature}), errNotForLogin, ""},
		{"expired", ca, of(t, ca, eva, devca.IssueRequest{NotBefore: time.Now().Add(-2 * time.Hour), Validity: time.Hour}), nil, "expired"},
		{"of another CA", ca, of(t, other, eva, devca.IssueRequest{}), nil, "unknown authority"},
		{"with another key", ca, stolen, nil, "invalid signature by the client certificate"},
		{"no certificate", ca, tls.Certificate{}, nil, "didn't provide a certificate"},
		{"while the responder is away", silent, of(t, silent, eva, devca.IssueRequest{}), nil, "nobody says that the certificate is good"},
	} {
		t.Run(row.name, func(t *testing.T) {
			door, err := newDoor(row.issuer.Certificate())
			require.NoError(t, err)
			userID, err := door.login(t.Context(), row.with)
			if row.is == nil && row.says == "" {
				require.NoError(t, err)
				require.Equal(t, eva, userID)
				return
			}
			require.Empty(t, userID)
			require.ErrorContains(t, err, row.says)
			if row.is != nil {
				require.ErrorIs(t, err, row.is)
			}
		})
	}
}

// A certificate that does not say what it is for is for nothing here.
func TestDoorWantsThePurposeSaid(t *testing.T) {
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		}
	}
	issuerKey, key := newKey(t), newKey(t)
	issuer := template(1, "CA")
	issuer.IsCA, issuer.BasicConstraintsValid, issuer.KeyUsage = true, true, x509.KeyUsageCertSign
	parse := func(der []byte, err error) *x509.Certificate {
		require.NoError(t, err)
		certificate, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return certificate
	}
	issuer = parse(x509.CreateCertificate(rand.Reader, issuer, issuer, issuerKey.Public(), issuerKey))
	leaf := parse(x509.CreateCertificate(rand.Reader, template(2, "Eva"), issuer, key.Public(), issuerKey))
	door, err := newDoor(issuer)
	require.NoError(t, err)
	_, err = door.login(t.Context(), tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf})
	require.ErrorIs(t, err, errNotForLogin)
}

// The claims about logins and signatures fail when they are not so.
func TestClaims(t *testing.T) {
	ca := devcatest.Start(t)
	d := &Demo{issuer: ca.Certificate()}
	active, carls := of(t, ca, eva, devca.IssueRequest{}), of(t, ca, "carl", devca.IssueRequest{})
	lost := revoke(t, ca, of(t, ca, eva, devca.IssueRequest{}), mobileid.CessationOfOperation)
	signing := of(t, ca, eva, devca.IssueRequest{Profile: devca.ProfileSignature})
	document := []byte("a bus pass")
	sign := func(with tls.Certificate) []byte {
		key, ok := with.PrivateKey.(*ecdsa.PrivateKey)
		require.True(t, ok)
		signed, err := key.Sign(rand.Reader, digest(document), crypto.SHA256)
		require.NoError(t, err)
		return signed
	}
	login := func(with tls.Certificate) func(context.Context) error {
		return func(ctx context.Context) error { _, err := d.mustLogin(ctx, with); return err }
	}
	noLogin := func(with tls.Certificate, why error) func(context.Context) error {
		return func(ctx context.Context) error { _, err := d.mustNotLogin(ctx, with, why); return err }
	}
	verify := func(certificate *x509.Certificate, document, signed []byte) func(context.Context) error {
		return func(context.Context) error { return d.verify(certificate, document, signed) }
	}
	for _, row := range []struct {
		name  string
		claim func(context.Context) error
		says  string // empty: it is so
	}{
		{"a good certificate logs in", login(active), ""},
		{"a revoked one does, it is claimed", login(lost), "not good"},
		{"somebody else's does, it is claimed", login(carls), `it is "carl" who is logged in`},
		{"a revoked one does not log in", noLogin(lost, errNotGood), ""},
		{"a good one does not, it is claimed", noLogin(active, errNotGood), `"eva" is logged in`},
		{"a revoked one does not for its purpose, it is claimed", noLogin(lost, errNotForLogin), "for another reason"},
		{"a signature verifies", verify(signing.Leaf, document, sign(signing)), ""},
		{"of another key, it is claimed", verify(signing.Leaf, document, sign(active)), "ECDSA verification failure"},
		{"of another document, it is claimed", verify(signing.Leaf, []byte("a train ticket"), sign(signing)), "ECDSA verification failure"},
		{"with a certificate for logins, it is claimed", verify(active.Leaf, document, sign(active)), "not for signatures"},
		{"with another CA's, it is claimed", verify(of(t, devcatest.Start(t), eva, devca.IssueRequest{}).Leaf, document, nil), "not of devca"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := row.claim(t.Context())
			if row.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, row.says)
		})
	}
}

func digest(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}
