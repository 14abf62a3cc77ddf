package devca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
	"mobileid/starter/stack/port"
)

// kindOf returns the kind of a driver's error, which must be an *ca.Error.
func kindOf(t *testing.T, err error) ca.Kind {
	t.Helper()
	var e *ca.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

func TestDriverRevokesAndReadsBack(t *testing.T) {
	c := devcatest.Start(t)
	d := c.Driver(t)
	require.Equal(t, ca.Capabilities{CarriesReason: true, HasStatus: true}, d.Capabilities())
	cert, _ := c.Issue(t, "Anna")
	name := devcatest.Name(t, cert)

	before, err := d.Status(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusGood, before.Status)

	answer, err := d.Revoke(t.Context(), name, mobileid.KeyCompromise)
	require.NoError(t, err)
	require.Equal(t, ca.Revoked, answer.Outcome)

	after, err := d.Status(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusRevoked, after.Status)
	require.Equal(t, mobileid.KeyCompromise, after.Reason)
	require.Equal(t, answer.RevokedAt, after.RevokedAt)
	require.Equal(t, mobileid.ProofFromCA, after.Proof.Source)
	require.False(t, after.Proof.At.Before(after.RevokedAt))
	require.Len(t, after.Proof.SHA256, 2*sha256.Size)

	again, err := d.Revoke(t.Context(), name, mobileid.Superseded)
	require.NoError(t, err)
	require.Equal(t, ca.Answer{Outcome: ca.AlreadyRevoked, RevokedAt: answer.RevokedAt}, again)
	require.Equal(t, mobileid.KeyCompromise, c.Status(t, cert).Reason)
	require.Equal(t, 2, c.Revokes(name.Serial))
}

// TestProofIsOfTheBytes checks the digest against an answer read another way.
func TestProofIsOfTheBytes(t *testing.T) {
	at := time.Now().Truncate(time.Second)
	c := devcatest.Start(t, func(o *devca.Options) { o.Clock = func() time.Time { return at } })
	cert, _ := c.Issue(t, "Anna")
	c.Hold(t, cert)
	name := devcatest.Name(t, cert)
	evidence, err := c.Driver(t).Status(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusOnHold, evidence.Status)
	require.Equal(t, mobileid.CertificateHold, evidence.Reason)

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.APIURL+"/v1/certificates/"+name.Serial, nil)
	require.NoError(t, err)
	response, err := apiClient(t, c, clientPair(t, c, "client")).Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	sum := sha256.Sum256(body)
	require.Equal(t, hex.EncodeToString(sum[:]), evidence.Proof.SHA256)
	require.True(t, at.Equal(evidence.Proof.At))
}

func TestDriverRevokesForGood(t *testing.T) {
	c := devcatest.Start(t)
	d := c.Driver(t)
	held, _ := c.Issue(t, "Anna")
	c.Hold(t, held)
	fresh, _ := c.Issue(t, "Anna")
	expired := c.IssueExpired(t, "Anna")
	unknown := devcatest.Name(t, fresh)
	unknown.Serial = "abcdef"
	strange := devcatest.Name(t, fresh)
	strange.Serial = "../" + strange.Serial
	empty := devcatest.Name(t, fresh)
	empty.Serial = ""

	for _, row := range []struct {
		name   string
		cert   ca.Certificate
		reason mobileid.Reason
		want   ca.Outcome
		kind   ca.Kind
		at     mobileid.Reason // at the CA afterwards
	}{
		{"hold becomes final", devcatest.Name(t, held), mobileid.Superseded, ca.Revoked, "", mobileid.Superseded},
		{"a hold is not for good", devcatest.Name(t, fresh), mobileid.CertificateHold, "", ca.BadReason, ""},
		{"removeFromCRL is not for good", devcatest.Name(t, fresh), mobileid.RemoveFromCRL, "", ca.BadReason, ""},
		{"a reason that is none", devcatest.Name(t, fresh), "stolen", "", ca.BadReason, ""},
		{"no reason is unspecified", devcatest.Name(t, fresh), "", ca.Revoked, "", mobileid.Unspecified},
		{"expired", devcatest.Name(t, expired), mobileid.Superseded, ca.Revoked, "", mobileid.Superseded},
		{"unknown", unknown, mobileid.Superseded, "", ca.NotFound, ""},
		{"serial that is none", strange, mobileid.Superseded, "", ca.Unsupported, ""},
		{"no serial", empty, mobileid.Superseded, "", ca.Unsupported, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer, err := d.Revoke(t.Context(), row.cert, row.reason)
			if row.kind != "" {
				require.Equal(t, row.kind, kindOf(t, err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.want, answer.Outcome)
			evidence, err := d.Status(t.Context(), row.cert)
			require.NoError(t, err)
			require.Equal(t, row.at, evidence.Reason)
		})
	}
	evidence, err := d.Status(t.Context(), unknown)
	require.NoError(t, err, "what the CA does not know is no error")
	require.Equal(t, mobileid.StatusUnknown, evidence.Status)
	_, err = d.Status(t.Context(), strange)
	require.Equal(t, ca.Unsupported, kindOf(t, err))
}

func TestDriverSerialExtremes(t *testing.T) {
	c := devcatest.Start(t)
	d := c.Driver(t)
	serials := []string{"1", "7f", "80", "ff", "abc", "1234", "10", "100", "ff000000000000000000000000000000000001", "7fffffffffffffffffffffffffffffffffffffff"}
	for _, serial := range serials {
		c.IssueSerial(t, "Anna", serial)
	}
	bystander := c.IssueSerial(t, "Anna", "8")
	for _, serial := range serials {
		t.Run(serial, func(t *testing.T) {
			name := ca.Certificate{CertificateID: mobileid.CertificateID{Serial: serial}}
			answer, err := d.Revoke(t.Context(), name, mobileid.Superseded)
			require.NoError(t, err)
			require.Equal(t, ca.Revoked, answer.Outcome)
			evidence, err := d.Status(t.Context(), name)
			require.NoError(t, err)
			require.Equal(t, mobileid.StatusRevoked, evidence.Status)
		})
	}
	require.Equal(t, mobileid.StatusGood, c.Status(t, bystander).Status)
}

// giveUp is the time-out of one request where nobody answers: long enough for a busy
// machine to have written it.
const giveUp = 2 * time.Second

// TestDriverFaults orders one fault a row, for a request to revoke and for one to
// read the status.
func TestDriverFaults(t *testing.T) {
	c := devcatest.Start(t)
	driver := func(timeout time.Duration) *devca.Driver {
		options := c.DriverOptions()
		options.Timeout = timeout
		d, err := devca.NewDriver(options)
		require.NoError(t, err)
		t.Cleanup(d.Close)
		return d
	}
	patient, hasty := driver(deadline), driver(giveUp)

	for _, row := range []struct {
		name    string
		fault   devcatest.Fault
		revoke  ca.Kind
		status  ca.Kind
		revoked bool // what the CA did with the request to revoke
		after   time.Duration
	}{
		{"400", devcatest.Refuse(400, 0), ca.Unsupported, ca.Unsupported, false, 0},
		{"400 about the reason", devcatest.RefuseReason(), ca.BadReason, ca.BadReason, false, 0},
		{"401", devcatest.Refuse(401, 0), ca.Denied, ca.Denied, false, 0},
		{"403", devcatest.Refuse(403, 0), ca.Denied, ca.Denied, false, 0},
		{"404 that is not from the CA", devcatest.Refuse(404, 0), ca.NotFound, ca.Unsupported, false, 0},
		{"405", devcatest.Refuse(405, 0), ca.Unsupported, ca.Unsupported, false, 0},
		{"408", devcatest.Refuse(408, 0), ca.Ambiguous, ca.Ambiguous, false, 0},
		{"418", devcatest.Refuse(418, 0), ca.Unsupported, ca.Unsupported, false, 0},
		{"429", devcatest.Refuse(429, 0), ca.Unavailable, ca.Unavailable, false, 0},
		{"429 for a while", devcatest.Refuse(429, 7*time.Second), ca.Unavailable, ca.Unavailable, false, 7 * time.Second},
		{"503 for a while", devcatest.Refuse(503, time.Minute), ca.Unavailable, ca.Unavailable, false, time.Minute},
		{"500", devcatest.Refuse(500, 0), ca.Ambiguous, ca.Ambiguous, false, 0},
		{"502", devcatest.Refuse(502, 0), ca.Ambiguous, ca.Ambiguous, false, 0},
		{"504", devcatest.Refuse(504, 0), ca.Ambiguous, ca.Ambiguous, false, 0},
		{"202 is no revocation", devcatest.Refuse(202, 0), ca.Ambiguous, ca.Ambiguous, false, 0},
		{"a redirect is not followed", devcatest.Refuse(307, 0), ca.Unsupported, ca.Unsupported, false, 0},
		{"409 without a status", devcatest.Refuse(409, 0), ca.Ambiguous, ca.Unsupported, false, 0},
		{"cut before it is served", devcatest.CutBefore(), ca.Ambiguous, ca.Ambiguous, false, 0},
		{"cut after it is served", devcatest.CutAfter(), ca.Ambiguous, ca.Ambiguous, true, 0},
		{"hangs before it is served", devcatest.Hang(), ca.Ambiguous, ca.Ambiguous, false, 0},
		{"hangs after it is served", devcatest.HangAfter(), ca.Ambiguous, ca.Ambiguous, true, 0},
		{"garbage", devcatest.Garbage(), ca.Ambiguous, ca.Ambiguous, true, 0},
		{"too long an answer", devcatest.Flood(), ca.Ambiguous, ca.Ambiguous, true, 0},
		{"about another certificate", devcatest.LieAboutAnother(), ca.Ambiguous, ca.Ambiguous, false, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			c.Heal()
			cert, _ := c.Issue(t, "Anna")
			name := devcatest.Name(t, cert)
			c.Break(row.fault)
			d := patient
			if strings.HasPrefix(row.name, "hangs") {
				d = hasty
			}

			_, err := d.Status(t.Context(), name)
			require.Equal(t, row.status, kindOf(t, err))
			require.Equal(t, 0, c.Revokes(name.Serial))

			_, err = d.Revoke(t.Context(), name, mobileid.KeyCompromise)
			require.Equal(t, row.revoke, kindOf(t, err))
			var e *ca.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, row.after, e.RetryAfter)
			require.Contains(t, e.Op, name.Serial)
			require.Equal(t, 1, c.Revokes(name.Serial), "the driver does not retry by itself")
			if row.revoked {
				// The CA may still be at it when the driver has given up.
				require.Eventually(t, func() bool { return c.Status(t, cert).Status == mobileid.StatusRevoked }, deadline, time.Millisecond)
			} else {
				require.NotEqual(t, mobileid.StatusRevoked, c.Status(t, cert).Status)
			}

			// Whatever happened, the next try ends well.
			c.Heal()
			answer, err := patient.Revoke(t.Context(), name, mobileid.KeyCompromise)
			require.NoError(t, err)
			if row.revoked {
				require.Equal(t, ca.AlreadyRevoked, answer.Outcome)
			} else {
				require.Equal(t, ca.Revoked, answer.Outcome)
			}
		})
	}
}

func TestLieIsFoundByTheStatus(t *testing.T) {
	c := devcatest.Start(t)
	d := c.Driver(t)
	cert, _ := c.Issue(t, "Anna")
	c.Break(devcatest.Lie())
	answer, err := d.Revoke(t.Context(), devcatest.Name(t, cert), mobileid.Superseded)
	require.NoError(t, err)
	require.Equal(t, ca.Revoked, answer.Outcome, "an answer is not proof")
	evidence, err := d.Status(t.Context(), devcatest.Name(t, cert))
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusGood, evidence.Status)
}

func TestFaultsAreForWhatTheySay(t *testing.T) {
	c := devcatest.Start(t)
	d := c.Driver(t)
	cert, _ := c.Issue(t, "Anna")
	name := devcatest.Name(t, cert)
	c.Break(devcatest.Refuse(503, 0).Only(devcatest.RevokeRequest).Once())
	_, err := d.Status(t.Context(), name)
	require.NoError(t, err)
	_, err = d.Revoke(t.Context(), name, mobileid.Superseded)
	require.Equal(t, ca.Unavailable, kindOf(t, err))
	_, err = d.Revoke(t.Context(), name, mobileid.Superseded)
	require.NoError(t, err)
	require.Equal(t, 2, c.Revokes(name.Serial))
}

// TestDriverCannotConnect has only failures before a request is written.
func TestDriverCannotConnect(t *testing.T) {
	c := devcatest.Start(t)
	other := devcatest.Start(t)
	cert, _ := c.Issue(t, "Anna")
	name := devcatest.Name(t, cert)
	free, err := port.Reserve()
	require.NoError(t, err)
	nobody := "https://127.0.0.1:" + free
	silent := listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	hangsUp := listen(t, func(conn net.Conn) { _ = conn.Close() })
	plain := listen(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n"); _ = conn.Close() })

	for _, row := range []struct {
		name   string
		change func(*devca.DriverOptions)
		want   ca.Kind
	}{
		{"nobody listens", func(o *devca.DriverOptions) { o.URL = nobody }, ca.Unavailable},
		{"no such host", func(o *devca.DriverOptions) { o.URL = "https://no-such-host.invalid:1" }, ca.Unavailable},
		{"another host's certificate", func(o *devca.DriverOptions) { o.URL = strings.Replace(o.URL, "127.0.0.1", "127.0.0.2", 1) }, ca.Unavailable},
		{"a CA of another trust", func(o *devca.DriverOptions) { o.ServerCAFile = other.DriverOptions().ServerCAFile }, ca.Unavailable},
		{"silent at the handshake", func(o *devca.DriverOptions) { o.URL, o.Timeout = silent, giveUp }, ca.Unavailable},
		{"hangs up at the handshake", func(o *devca.DriverOptions) { o.URL = hangsUp }, ca.Unavailable},
		{"speaks no TLS", func(o *devca.DriverOptions) { o.URL = plain }, ca.Unavailable},
		{"client certificate of another CA", func(o *devca.DriverOptions) {
			o.ClientCertFile, o.ClientKeyFile = other.DriverOptions().ClientCertFile, other.DriverOptions().ClientKeyFile
		}, ca.Denied},
	} {
		t.Run(row.name, func(t *testing.T) {
			options := c.DriverOptions()
			options.Timeout = deadline
			row.change(&options)
			d, err := devca.NewDriver(options)
			require.NoError(t, err)
			t.Cleanup(d.Close)
			_, err = d.Revoke(t.Context(), name, mobileid.Superseded)
			require.Equal(t, row.want, kindOf(t, err), err)
			_, err = d.Status(t.Context(), name)
			require.Equal(t, row.want, kindOf(t, err), err)
		})
	}
	require.Equal(t, 0, c.Revokes(name.Serial))
	require.Equal(t, mobileid.StatusGood, c.Status(t, cert).Status)
}

// listen answers connections with handle until the end of the test.
func listen(t *testing.T, handle func(net.Conn)) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				handle(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	return "https://" + listener.Addr().String()
}

func TestDriverHonoursTheContext(t *testing.T) {
	c := devcatest.Start(t)
	d := c.Driver(t)
	cert, _ := c.Issue(t, "Anna")
	name := devcatest.Name(t, cert)

	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.Revoke(over, name, mobileid.Superseded)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, ca.Unavailable, kindOf(t, err))

	_, err = d.Status(t.Context(), name) // leaves a connection to use again
	require.NoError(t, err)
	c.Break(devcatest.Hang())
	running, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ended := make(chan error, 1)
	go func() {
		_, failure := d.Revoke(running, name, mobileid.Superseded)
		ended <- failure
	}()
	require.Eventually(t, func() bool { return c.Revokes(name.Serial) == 1 }, deadline, time.Millisecond)
	cancel()
	err = <-ended
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, ca.Ambiguous, kindOf(t, err))
}

func TestTwoDriversAtOnce(t *testing.T) {
	c := devcatest.Start(t)
	cert, _ := c.Issue(t, "Anna")
	name := devcatest.Name(t, cert)
	drivers := []*devca.Driver{c.Driver(t), c.Driver(t)}
	outcomes := make(chan ca.Outcome, 16)
	for i := range cap(outcomes) {
		go func() {
			answer, err := drivers[i%2].Revoke(context.Background(), name, mobileid.Superseded)
			if err != nil {
				answer.Outcome = ca.Outcome(err.Error())
			}
			outcomes <- answer.Outcome
		}()
	}
	count := map[ca.Outcome]int{}
	for range cap(outcomes) {
		count[<-outcomes]++
	}
	require.Equal(t, map[ca.Outcome]int{ca.Revoked: 1, ca.AlreadyRevoked: cap(outcomes) - 1}, count)
	require.Equal(t, cap(outcomes), c.Revokes(name.Serial))
}

func TestDriverIssues(t *testing.T) {
	c := devcatest.Start(t)
	d := c.Driver(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr := devcatest.CSR(t, key, "Anna")
	cert, err := d.Issue(t.Context(), csr, "signature", 730)
	require.NoError(t, err)
	require.NoError(t, cert.CheckSignatureFrom(c.Certificate()))
	require.True(t, key.PublicKey.Equal(cert.PublicKey))
	require.Equal(t, 730*24*time.Hour, cert.NotAfter.Sub(cert.NotBefore))
	require.Equal(t, []string{c.OCSPURL()}, cert.OCSPServer)
	require.Equal(t, []string{c.CRLURL()}, cert.CRLDistributionPoints)

	for _, row := range []struct {
		name    string
		csr     []byte
		profile string
		days    int
		fault   *devcatest.Fault
		want    ca.Kind
	}{
		{"no request", nil, "signature", 1, nil, ca.Unsupported},
		{"no such profile", csr, "root", 1, nil, ca.Unsupported},
		{"no days", csr, "signature", 0, nil, ca.Unsupported},
		{"CA is down", csr, "signature", 1, new(devcatest.Refuse(503, 0)), ca.Unavailable},
		{"garbage", csr, "signature", 1, new(devcatest.Garbage()), ca.Ambiguous},
		{"cut", csr, "signature", 1, new(devcatest.CutAfter()), ca.Ambiguous},
	} {
		t.Run(row.name, func(t *testing.T) {
			c.Heal()
			if row.fault != nil {
				c.Break(*row.fault)
			}
			_, err := d.Issue(t.Context(), row.csr, row.profile, row.days)
			require.Equal(t, row.want, kindOf(t, err))
		})
	}
}

func TestDriverOptions(t *testing.T) {
	c := devcatest.Start(t)
	secret, err := os.ReadFile(filepath.Join(c.Dir, devca.ClientKeyFile))
	require.NoError(t, err)
	for _, row := range []struct {
		name   string
		change func(*devca.DriverOptions)
	}{
		{"no URL", func(o *devca.DriverOptions) { o.URL = "" }},
		{"plain HTTP", func(o *devca.DriverOptions) { o.URL = "http://127.0.0.1:1" }},
		{"negative time-out", func(o *devca.DriverOptions) { o.Timeout = -1 }},
		{"no certificate", func(o *devca.DriverOptions) { o.ClientCertFile = "" }},
		{"key of another", func(o *devca.DriverOptions) { o.ClientKeyFile = filepath.Join(c.Dir, "tls.key") }},
		{"key in the place of the trust", func(o *devca.DriverOptions) { o.ServerCAFile = o.ClientKeyFile }},
	} {
		t.Run(row.name, func(t *testing.T) {
			options := c.DriverOptions()
			row.change(&options)
			_, fault := devca.NewDriver(options)
			require.Error(t, fault)
			for _, line := range strings.Split(strings.TrimSpace(string(secret)), "\n")[1:] {
				require.NotContains(t, fault.Error(), line)
			}
		})
	}
	_, err = devca.NewDriver(devca.DriverOptions{})
	require.ErrorContains(t, err, "https")
	require.ErrorContains(t, err, "client certificate")
	require.ErrorContains(t, err, "server CA", "all faults are told at once")
}
