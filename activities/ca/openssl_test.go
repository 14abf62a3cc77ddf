package ca_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
)

// opensslCA is a CA of the openssl program, in a folder: others' code signs the CRL
// and the answers of OCSP.
type opensslCA struct {
	folder  string
	program string
}

const opensslConfig = `
[ca]
default_ca = files
[files]
database = index.txt
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
crlnumber = crlnumber
serial = serial
default_md = sha256
default_crl_days = 1
policy = anything
crl_extensions = crl
[anything]
commonName = supplied
[crl]
authorityKeyIdentifier = keyid:always
[user]
authorityKeyIdentifier = keyid:always
[responder]
extendedKeyUsage = critical, OCSPSigning
authorityKeyIdentifier = keyid:always
noCheck = yes
[issuer]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
`

// newOpensslCA makes one whose keys are of an algorithm, as options of genpkey.
func newOpensslCA(t *testing.T, algorithm ...string) *opensslCA {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed, so nobody else can be asked")
	}
	c := &opensslCA{folder: t.TempDir(), program: program}
	for name, content := range map[string][]byte{"openssl.cnf": []byte(opensslConfig), "index.txt": nil, "crlnumber": []byte("0A\n"), "serial": []byte("01\n")} {
		require.NoError(t, os.WriteFile(filepath.Join(c.folder, name), content, 0o600))
	}
	for _, name := range []string{"ca", "responder", "user"} {
		c.run(t, append([]string{"genpkey", "-out", name + ".key"}, algorithm...)...)
	}
	c.run(t, "req", "-new", "-x509", "-key", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=OpenSSL CA", "-config", "openssl.cnf", "-extensions", "issuer", "-section", "req")
	c.issue(t, "responder", "responder", "f0")
	return c
}

func (c *opensslCA) run(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.program, args...)
	cmd.Dir = c.folder
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "openssl %v: %s", args, output)
	return output
}

// issue issues a certificate with a serial number, into the file of that name.
func (c *opensslCA) issue(t *testing.T, name, key, serial string) *x509.Certificate {
	t.Helper()
	if len(serial)%2 == 1 {
		serial = "0" + serial
	}
	require.NoError(t, os.WriteFile(filepath.Join(c.folder, "serial"), []byte(serial+"\n"), 0o600))
	c.run(t, "req", "-new", "-key", key+".key", "-out", "request.pem", "-subj", "/CN="+name, "-config", "openssl.cnf", "-section", "req")
	c.run(t, "ca", "-batch", "-config", "openssl.cnf", "-in", "request.pem", "-out", name+".pem", "-days", "20", "-extensions", key, "-notext")
	return c.certificate(t, name+".pem")
}

func (c *opensslCA) certificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.folder, name))
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

// ocsp lets the openssl program answer requests, signed by the key of that name. It
// takes them from a file, because its own server listens on every interface.
func (c *opensslCA) ocsp(t *testing.T, signer string) *http.Client {
	return &http.Client{Transport: catest.Handler(func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(c.folder, "request.der"), request, 0o600))
		c.run(t, "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", signer+".pem", "-rkey", signer+".key",
			"-reqin", "request.der", "-respout", "response.der", "-nmin", "5")
		response, err := os.ReadFile(filepath.Join(c.folder, "response.der"))
		require.NoError(t, err)
		w.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = w.Write(response)
	})}
}

// crl publishes what the openssl program signs now.
func (c *opensslCA) crl(t *testing.T) *http.Client {
	return &http.Client{Transport: catest.Handler(func(w http.ResponseWriter, _ *http.Request) {
		c.run(t, "ca", "-config", "openssl.cnf", "-gencrl", "-out", "crl.pem")
		c.run(t, "crl", "-in", "crl.pem", "-outform", "DER", "-out", "crl.der")
		list, err := os.ReadFile(filepath.Join(c.folder, "crl.der"))
		require.NoError(t, err)
		_, _ = w.Write(list)
	})}
}

// TestOpenSSLsAnswers reads CRLs and OCSP answers that others' code has made.
func TestOpenSSLsAnswers(t *testing.T) {
	for name, algorithm := range map[string][]string{
		"RSA":   {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		"P-256": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"P-384": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newOpensslCA(t, algorithm...)
			issuer := c.certificate(t, "ca.pem")
			for n, row := range []struct {
				reason mobileid.Reason // "": not revoked
				status mobileid.Status
			}{
				{"", mobileid.StatusGood},
				{mobileid.Unspecified, mobileid.StatusRevoked},
				{mobileid.KeyCompromise, mobileid.StatusRevoked},
				{mobileid.Superseded, mobileid.StatusRevoked},
				{mobileid.CertificateHold, mobileid.StatusOnHold},
			} {
				serial := fmt.Sprintf("%x", 0xabc+n)
				cert := c.issue(t, serial, "user", serial)
				if row.reason != "" {
					c.run(t, "ca", "-config", "openssl.cnf", "-revoke", serial+".pem", "-crl_reason", string(row.reason))
				}
				sources := map[string]ca.Source{}
				var err error
				for _, signer := range []string{"ca", "responder"} {
					sources["OCSP signed by "+signer], err = ca.NewOCSP("http://ocsp.example/", issuer, c.ocsp(t, signer), time.Now)
					require.NoError(t, err)
				}
				sources["CRL"], err = ca.NewCRL("http://crl.example/", issuer, c.crl(t), time.Now)
				require.NoError(t, err)
				for what, source := range sources {
					evidence, err := source.Check(t.Context(), catest.Name(t, cert))
					require.NoError(t, err, "%s, %q", what, row.reason)
					require.Equal(t, row.status, evidence.Status, "%s, %q", what, row.reason)
					if row.reason == mobileid.KeyCompromise || row.reason == mobileid.Superseded {
						require.Equal(t, row.reason, evidence.Reason, what)
					}
					if row.status == mobileid.StatusRevoked {
						require.WithinDuration(t, time.Now(), evidence.RevokedAt, time.Minute, what)
					}
				}
			}
			stranger := newOpensslCA(t, algorithm...)
			forged, err := ca.NewOCSP("http://ocsp.example/", issuer, stranger.ocsp(t, "ca"), time.Now)
			require.NoError(t, err)
			_, err = forged.Check(t.Context(), catest.Name(t, c.certificate(t, "abd.pem")))
			require.Error(t, err, "signed by another CA of the same name")
		})
	}
}
