package devca_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
)

// TestOpenSSLAgrees lets another implementation read the certificates, the CRL
// and the OCSP answers.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed, so nobody else can be asked")
	}
	c := devcatest.Start(t)
	caFile := filepath.Join(c.Dir, devca.CAFile)
	crlFile := filepath.Join(c.Dir, devca.CRLFile)
	entries := 0
	for _, row := range []struct {
		name   string
		serial string
		reason mobileid.Reason
		crl    string // what openssl verify says
		ocsp   []string
	}{
		{"good", "", "", "OK", []string{": good"}},
		{"revoked", "", mobileid.KeyCompromise, "certificate revoked", []string{": revoked", "Reason: keyCompromise"}},
		{"revoked for no reason", "", mobileid.Unspecified, "certificate revoked", []string{": revoked"}},
		{"on hold", "", mobileid.CertificateHold, "certificate revoked", []string{": revoked", "Reason: certificateHold"}},
		{"one byte", "1", mobileid.Superseded, "certificate revoked", []string{": revoked", "Reason: superseded"}},
		{"high bit", "ff00000000000000000000", mobileid.Superseded, "certificate revoked", []string{": revoked"}},
		{"leading zero nibble", "abc", mobileid.Superseded, "certificate revoked", []string{": revoked"}},
		{"good beside them", "ab", "", "OK", []string{": good"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var cert *x509.Certificate
			if row.serial == "" {
				cert, _ = c.Issue(t, "Anna")
			} else {
				cert = c.IssueSerial(t, "Anna", row.serial)
			}
			file := filepath.Join(t.TempDir(), "cert.pem")
			require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600))
			if row.reason != "" {
				_, err := c.Server.Revoke(t.Context(), cert.SerialNumber, row.reason)
				require.NoError(t, err)
				entries++
			}
			require.Eventually(t, func() bool {
				return len(readCRL(t, c.Dir).RevokedCertificateEntries) == entries
			}, deadline, 5*time.Millisecond)

			said, _ := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-crl_check", "-CAfile", caFile, "-CRLfile", crlFile, file).CombinedOutput()
			require.Contains(t, string(said), row.crl)
			for _, digest := range []string{"-sha1", "-sha256"} {
				said, err := exec.CommandContext(t.Context(), openssl, "ocsp", "-issuer", caFile, digest, "-cert", file,
					"-url", c.OCSPURL(), "-CAfile", caFile).CombinedOutput()
				require.NoError(t, err, string(said))
				require.Contains(t, string(said), "Response verify OK")
				for _, words := range row.ocsp {
					require.Contains(t, string(said), words)
				}
			}
		})
	}
}
