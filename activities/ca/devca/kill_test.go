package devca_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
)

const deadline = time.Minute

// child is a CA in a process of its own.
type child struct {
	cmd    *exec.Cmd
	driver *devca.Driver
}

func startChild(t *testing.T, dir string) child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return child{cmd: cmd, driver: driverOf(t, dir)}
}

// kill ends the process as a power switch would end it.
func (c child) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Kill())
	_ = c.cmd.Wait() // the error is that it was killed
}

// driverOf returns a driver for the CA that runs on a folder.
func driverOf(t *testing.T, dir string) *devca.Driver {
	t.Helper()
	addresses, err := devca.ReadAddresses(dir)
	require.NoError(t, err)
	driver, err := devca.NewDriver(devca.DriverOptions{
		URL:            addresses.APIURL,
		ClientCertFile: filepath.Join(dir, devca.ClientCertFile),
		ClientKeyFile:  filepath.Join(dir, devca.ClientKeyFile),
		ServerCAFile:   filepath.Join(dir, devca.ServerCAFile),
		Timeout:        deadline,
	})
	require.NoError(t, err)
	t.Cleanup(driver.Close)
	return driver
}

// TestKilledBetweenTwoWrites kills the CA while many revoke, several times over,
// and checks that everything it had answered is still so.
func TestKilledBetweenTwoWrites(t *testing.T) {
	const rounds, certificates, callers = 4, 300, 6
	dir := t.TempDir()
	answered := map[string]time.Time{}
	number := new(big.Int)
	for round := range rounds {
		c := startChild(t, dir)
		names := make(chan ca.Certificate, certificates)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		csr := devcatest.CSR(t, key, "Anna")
		for range certificates {
			cert, refused := c.driver.Issue(context.Background(), csr, string(devca.ProfileSignature), 30)
			require.NoError(t, refused)
			names <- devcatest.Name(t, cert)
		}
		close(names)

		var mu sync.Mutex
		enough := make(chan struct{})
		before := len(answered)
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for name := range names {
					answer, failure := c.driver.Revoke(context.Background(), name, mobileid.KeyCompromise)
					if failure != nil {
						continue // the CA was killed; what became of it is its secret
					}
					mu.Lock()
					answered[name.Serial] = answer.RevokedAt
					if len(answered) == before+5+7*round {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		seen := crlNumber(t, dir)
		c.kill(t)
		all.Wait()
		require.Less(t, len(answered)-before, certificates, "it was to be killed in the middle")

		s, err := devca.Open(dir, devca.Options{})
		require.NoError(t, err)
		for serial, at := range answered {
			n, err := mobileid.ParseSerial(serial)
			require.NoError(t, err)
			status, err := s.Status(context.Background(), n)
			require.NoError(t, err)
			require.Equal(t, mobileid.StatusRevoked, status.Status, "serial %s was answered as revoked", serial)
			require.Equal(t, mobileid.KeyCompromise, status.Reason)
			require.Equal(t, at, status.RevokedAt)
		}
		require.NoError(t, s.Close())
		now := crlNumber(t, dir)
		require.GreaterOrEqual(t, now.Cmp(seen), 0, "the CRL number went back")
		require.Positive(t, now.Cmp(number), "the CRL number did not grow")
		number = now

		list := readCRL(t, dir)
		listed := map[string]bool{}
		for _, entry := range list.RevokedCertificateEntries {
			listed[entry.SerialNumber.Text(16)] = true
		}
		for serial := range answered {
			require.True(t, listed[serial], "the CRL made at start lacks serial %s", serial)
		}
	}
}

func crlNumber(t *testing.T, dir string) *big.Int { return readCRL(t, dir).Number }

func readCRL(t *testing.T, dir string) *x509.RevocationList {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, devca.CRLFile))
	require.NoError(t, err)
	block, _ := pem.Decode(content)
	require.NotNil(t, block)
	list, err := x509.ParseRevocationList(block.Bytes)
	require.NoError(t, err)
	return list
}

// TestRunningCAKeepsItsFolder checks the lock between processes, and that it ends
// with its owner.
func TestRunningCAKeepsItsFolder(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, dir)
	_, err := devca.Open(dir, devca.Options{})
	require.ErrorIs(t, err, devca.ErrInUse)
	require.ErrorContains(t, err, dir)
	c.kill(t)
	s, err := devca.Open(dir, devca.Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
}
