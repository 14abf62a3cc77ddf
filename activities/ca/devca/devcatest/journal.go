package devcatest

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Journal returns every certificate that the CA ever issued, as its journal on disk
// has them: those too that nobody has heard of.
func (c *CA) Journal(t testing.TB) []*x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.Dir, "journal"))
	require.NoError(t, err)
	var issued []*x509.Certificate
	for line := range bytes.Lines(text) {
		// Checksum, time, operation, serial number, argument.
		fields := bytes.Fields(line)
		if len(fields) != 5 || !bytes.HasPrefix(fields[2], []byte("issue")) {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(string(fields[4]))
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		issued = append(issued, cert)
	}
	return issued
}
