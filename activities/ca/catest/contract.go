package catest

import (
	"cmp"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
)

// Cases returns the names of the contract's cases, in order.
func Cases() []string {
	names := make([]string, len(cases))
	for i, c := range cases {
		names[i] = c.name
	}
	return names
}

// cases are the groups of mistakes of others, each by what is right.
var cases = []struct {
	name string
	run  func(t *testing.T, u *underTest)
}{
	{"revoked, with proof", revokedWithProof},
	{"already revoked is success", alreadyRevoked},
	{"many requests at once", atOnce},
	{"failure after revoking", failureAfterRevoking},
	{"success without revoking", successWithoutRevoking},
	{"answer for another serial", answerForAnother},
	{"CA down, nothing done", down},
	{"waits for approval", approval},
	{"one of many fails", oneOfMany},
	{"a bystander stays good", bystander},
	{"serial numbers of every shape", serials},
	{"two CAs, same serial", sameSerial},
	{"issuer names of every shape", issuerNames},
	{"reason sent is reason read back", reasons},
	{"a CRL that lags", laggingCRL},
	{"wrong credentials", wrongCredentials},
	{"expired certificate", expired},
	{"unknown certificate", unknown},
	{"on hold becomes final", onHold},
}

// underTest is a driver with what a case needs.
type underTest struct {
	Product
	start Start
}

// Run runs the contract. Every case is a subtest; one that the product cannot have
// logs why, after "not applicable: ", and passes.
func Run(t *testing.T, product Product, start Start) {
	known := Cases()
	for name := range product.Without {
		require.Contains(t, known, name, "Product.Without names a case that is none")
	}
	kind := "real"
	if product.Fake {
		kind = "fake"
	}
	t.Logf("driver %s against %s (%s)", product.Driver, product.Name, kind)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if why, ok := product.Without[c.name]; ok {
				t.Logf("not applicable: %s", why)
				return
			}
			c.run(t, &underTest{product, start})
		})
	}
}

func (u *underTest) server(t *testing.T) *Server {
	t.Helper()
	return u.start(t, pkix.Name{CommonName: "Contract CA", Organization: []string{"Example"}, Country: []string{"SE"}})
}

// revoke makes tries until one ends without an error, as a worker does: each after
// the first reads before it asks.
func revoke(t *testing.T, a *ca.Authority, cert *x509.Certificate, reason mobileid.Reason, asked bool) mobileid.CertificateResult {
	t.Helper()
	since := time.Now()
	var result mobileid.CertificateResult
	require.Eventually(t, func() bool {
		var err error
		result, err = a.Revoke(t.Context(), Name(t, cert), reason, asked, since)
		asked = true
		if err != nil {
			require.True(t, ca.Curable(err), "nothing that retrying cannot cure: %v", err)
		}
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	requireProven(t, a, cert, result)
	return result
}

func requireProven(t *testing.T, a *ca.Authority, cert *x509.Certificate, result mobileid.CertificateResult) {
	t.Helper()
	require.Equal(t, mobileid.StatusRevoked, result.StatusAtCA)
	require.NotEmpty(t, result.Proof)
	for _, proof := range result.Proof {
		require.NotEmpty(t, proof.SHA256)
		require.False(t, proof.At.IsZero())
	}
	require.Equal(t, Name(t, cert).CertificateID, result.CertificateID)
	require.Equal(t, mobileid.StatusRevoked, statusOf(t, a, cert))
}

// statusOf is what all the CA's sources say, the gravest of it.
func statusOf(t *testing.T, a *ca.Authority, cert *x509.Certificate) mobileid.Status {
	t.Helper()
	finding, err := a.Prove(t.Context(), Name(t, cert), time.Time{})
	require.NoError(t, err)
	return finding.Status
}

func requireNotRevoked(t *testing.T, a *ca.Authority, cert *x509.Certificate) {
	t.Helper()
	require.NotEqual(t, mobileid.StatusRevoked, statusOf(t, a, cert))
}

func kindOf(t *testing.T, err error) ca.Kind {
	t.Helper()
	var e *ca.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

func revokedWithProof(t *testing.T, u *underTest) {
	s := u.server(t)
	a, cert := s.authority(t), s.issue(t, IssueRequest{})
	requireNotRevoked(t, a, cert)
	before := time.Now()
	result := revoke(t, a, cert, mobileid.Unspecified, false)
	require.Equal(t, mobileid.OutcomeRevoked, result.Outcome)
	require.WithinRange(t, result.RevokedAt, before.Add(-2*time.Second), time.Now().Add(2*time.Second))
	require.Equal(t, 1, s.Faults.Revokes(), "one request")
}

func alreadyRevoked(t *testing.T, u *underTest) {
	s := u.server(t)
	a, cert := s.authority(t), s.issue(t, IssueRequest{})
	first := revoke(t, a, cert, mobileid.Unspecified, false)
	answer, err := s.Driver.Revoke(t.Context(), Name(t, cert), mobileid.Unspecified)
	require.NoError(t, err, "the second request is no failure")
	require.Contains(t, []ca.Outcome{ca.Revoked, ca.AlreadyRevoked}, answer.Outcome)
	second := revoke(t, a, cert, mobileid.Unspecified, false)
	require.Equal(t, first.RevokedAt, second.RevokedAt, "the date stays")
}

func atOnce(t *testing.T, u *underTest) {
	s := u.server(t)
	a, cert := s.authority(t), s.issue(t, IssueRequest{})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { revoke(t, a, cert, mobileid.Unspecified, false) })
	}
	group.Wait()
}

func failureAfterRevoking(t *testing.T, u *underTest) {
	s := u.server(t)
	a := s.authority(t)
	for name, fault := range map[string]fault{
		"cut":     cutAfter,
		"500":     answerAfter(http.StatusInternalServerError, "General failure."),
		"garbage": answerAfter(http.StatusOK, "<html>a proxy's page</html>"),
		"empty":   answerAfter(http.StatusOK, ""),
		"502":     answerAfter(http.StatusBadGateway, "<html>bad gateway</html>"),
	} {
		t.Run(name, func(t *testing.T) {
			cert := s.issue(t, IssueRequest{})
			before := s.Faults.Revokes()
			s.Faults.order(1, fault)
			_, err := s.Driver.Revoke(t.Context(), Name(t, cert), mobileid.Unspecified)
			require.Equal(t, ca.Ambiguous, kindOf(t, err))
			result := revoke(t, a, cert, mobileid.Unspecified, true)
			require.Equal(t, mobileid.OutcomeRevoked, result.Outcome)
			require.Equal(t, before+1, s.Faults.Revokes(), "no second request")
		})
	}
}

func successWithoutRevoking(t *testing.T, u *underTest) {
	s := u.server(t)
	a := s.authority(t)
	other, cert := s.issue(t, IssueRequest{Serial: big.NewInt(0x1234567801)}), s.issue(t, IssueRequest{Serial: big.NewInt(0x1234567802)})
	revoke(t, a, other, mobileid.Unspecified, false)
	var exchange [][2]string
	for _, form := range serialForms {
		exchange = append(exchange, [2]string{form(other.SerialNumber), form(cert.SerialNumber)})
	}
	s.Faults.order(-1, replay(exchange...))
	for range 3 {
		_, err := a.Revoke(t.Context(), Name(t, cert), mobileid.Unspecified, false, time.Now())
		require.Error(t, err, "success without a proof is not success")
		requireNotRevoked(t, a, cert)
	}
	s.Faults.heal()
	revoke(t, a, cert, mobileid.Unspecified, true)
}

// serialForms are the texts of a serial number in the CAs' answers.
var serialForms = []func(*big.Int) string{
	func(n *big.Int) string { return fmt.Sprintf("%x", n) },
	func(n *big.Int) string { return fmt.Sprintf("%X", n) },
	func(n *big.Int) string { return n.String() },
	func(n *big.Int) string {
		pairs := make([]string, 0, 20)
		for _, b := range n.Bytes() {
			pairs = append(pairs, fmt.Sprintf("%02x", b))
		}
		return strings.Join(pairs, ":")
	},
	func(n *big.Int) string { return string(n.Bytes()) },
}

func answerForAnother(t *testing.T, u *underTest) {
	s := u.server(t)
	a := s.authority(t)
	other, cert := s.issue(t, IssueRequest{}), s.issue(t, IssueRequest{})
	revoke(t, a, other, mobileid.Unspecified, false)
	s.Faults.order(1, replay())
	_, err := a.Revoke(t.Context(), Name(t, cert), mobileid.Unspecified, false, time.Now())
	require.Error(t, err)
	requireNotRevoked(t, a, cert)
	revoke(t, a, cert, mobileid.Unspecified, true)
}

func down(t *testing.T, u *underTest) {
	s := u.server(t)
	a := s.authority(t)
	cert := s.issue(t, IssueRequest{})
	for name, row := range map[string]struct {
		fault fault
		kinds []ca.Kind
	}{
		"refused connection": {refused, []ca.Kind{ca.Unavailable}},
		"503":                {answerInstead(http.StatusServiceUnavailable, "down"), []ca.Kind{ca.Unavailable}},
		"429":                {answerInstead(http.StatusTooManyRequests, "slow down"), []ca.Kind{ca.Unavailable}},
		"500":                {answerInstead(http.StatusInternalServerError, "oops"), []ca.Kind{ca.Ambiguous}},
		"garbage":            {answerInstead(http.StatusOK, "<html>a proxy's page</html>"), []ca.Kind{ca.Ambiguous}},
		"a flood":            {answerInstead(http.StatusOK, strings.Repeat(" ", 2<<20)), []ca.Kind{ca.Ambiguous}},
	} {
		t.Run(name, func(t *testing.T) {
			s.Faults.order(-1, row.fault)
			defer s.Faults.heal()
			_, err := s.Driver.Revoke(t.Context(), Name(t, cert), mobileid.Unspecified)
			require.Contains(t, row.kinds, kindOf(t, err))
			require.True(t, ca.Curable(err))
			requireNotRevoked(t, a, cert)
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Driver.Revoke(ended, Name(t, cert), mobileid.Unspecified)
	require.ErrorIs(t, err, context.Canceled, "the context is honoured")
	revoke(t, a, cert, mobileid.Unspecified, true)
}

func approval(t *testing.T, u *underTest) {
	s := u.server(t)
	a := s.authority(t)
	decide := s.Approve(t)
	granted, rejected := s.issue(t, IssueRequest{}), s.issue(t, IssueRequest{})
	for _, cert := range []*x509.Certificate{granted, rejected} {
		before := s.Faults.Revokes()
		_, err := a.Revoke(t.Context(), Name(t, cert), mobileid.Unspecified, false, time.Now())
		require.True(t, ca.IsPending(err), "not done, and not failed: %v", err)
		_, err = a.Poll(t.Context(), Name(t, cert), mobileid.Unspecified, time.Now())
		require.True(t, ca.IsPending(err))
		requireNotRevokedOrPending(t, a, cert)
		require.Equal(t, before+1, s.Faults.Revokes(), "polled by status")
	}
	decide(t, granted, true)
	result, err := a.Poll(t.Context(), Name(t, granted), mobileid.Unspecified, time.Now())
	require.NoError(t, err)
	requireProven(t, a, granted, result)
	decide(t, rejected, false)
	_, err = a.Poll(t.Context(), Name(t, rejected), mobileid.Unspecified, time.Now())
	require.Error(t, err, "a rejected request never ends as done")
	finding, _ := a.Prove(t.Context(), Name(t, rejected), time.Time{})
	require.False(t, finding.Revoked)
}

func requireNotRevokedOrPending(t *testing.T, a *ca.Authority, cert *x509.Certificate) {
	t.Helper()
	finding, err := a.Prove(t.Context(), Name(t, cert), time.Time{})
	require.False(t, finding.Revoked)
	require.True(t, err == nil || ca.IsPending(err))
}

func oneOfMany(t *testing.T, u *underTest) {
	s := u.server(t)
	a := s.authority(t)
	certs := make([]*x509.Certificate, 5)
	for i := range certs {
		certs[i] = s.issue(t, IssueRequest{})
	}
	const failing = 2
	for i, cert := range certs {
		if i == failing {
			s.Faults.order(-1, answerInstead(http.StatusInternalServerError, "oops"))
		}
		_, err := a.Revoke(t.Context(), Name(t, cert), mobileid.Unspecified, false, time.Now())
		s.Faults.heal()
		if i == failing {
			require.True(t, ca.Curable(err))
			continue
		}
		require.NoError(t, err)
	}
	for i, cert := range certs {
		require.Equal(t, i != failing, statusOf(t, a, cert) == mobileid.StatusRevoked)
	}
	before := s.Faults.Revokes()
	for _, cert := range certs {
		revoke(t, a, cert, mobileid.Unspecified, true)
	}
	require.Equal(t, before+1, s.Faults.Revokes(), "the retry asks for the rest alone")
}

func bystander(t *testing.T, u *underTest) {
	s := u.server(t)
	a := s.authority(t)
	cert, other := s.issue(t, IssueRequest{Serial: big.NewInt(0x0123)}), s.issue(t, IssueRequest{Serial: big.NewInt(0x01230)})
	third := s.issue(t, IssueRequest{Serial: big.NewInt(83)}) // 0123, read as octal
	revoke(t, a, cert, mobileid.Unspecified, false)
	requireNotRevoked(t, a, other)
	requireNotRevoked(t, a, third)
}

// oddSerials are the shapes that others got wrong.
func oddSerials() map[string]*big.Int {
	number := func(hex string) *big.Int { n, _ := new(big.Int).SetString(hex, 16); return n }
	return map[string]*big.Int{
		"one byte":            number("7"),
		"leading zero nibble": number("0abcdef"),
		"high bit set":        number("ff00ff"),
		"20 bytes":            number("7fedcba98765432100112233445566778899aabb"),
		"20 bytes, high bit":  number("ffedcba98765432100112233445566778899aabb"),
		"digits only":         number("1234567890"),
		"digits, leading 0":   number("012345"),
		"ends in zeros":       number("ab000000"),
		"like an exponent":    number("12e10"),
	}
}

func serials(t *testing.T, u *underTest) {
	s := u.server(t)
	a := s.authority(t)
	for name, serial := range oddSerials() {
		t.Run(name, func(t *testing.T) {
			near := new(big.Int).Add(serial, big.NewInt(16))
			if near.BitLen() > 160 {
				near.Sub(serial, big.NewInt(16))
			}
			cert, neighbour := s.issue(t, IssueRequest{Serial: serial}), s.issue(t, IssueRequest{Serial: near})
			revoke(t, a, cert, mobileid.Unspecified, false)
			requireNotRevoked(t, a, neighbour)
		})
	}
	t.Run("no serial", func(t *testing.T) {
		for _, text := range []string{"", "../x", "0x1f", "zz", "-1"} {
			cert := Name(t, s.Issuer)
			cert.Issuer, cert.Serial, cert.DER = mobileid.HashName(s.Issuer.RawSubject), text, nil
			_, err := s.Driver.Revoke(t.Context(), cert, mobileid.Unspecified)
			require.Equal(t, ca.Unsupported, kindOf(t, err), "serial %q", text)
		}
	})
}

func sameSerial(t *testing.T, u *underTest) {
	first := u.start(t, pkix.Name{CommonName: "First CA"})
	second := u.start(t, pkix.Name{CommonName: "Second CA"})
	serial := big.NewInt(0x5eafed)
	one, two := first.issue(t, IssueRequest{Serial: serial}), second.issue(t, IssueRequest{Serial: serial})
	revoke(t, first.authority(t), one, mobileid.Unspecified, false)
	requireNotRevoked(t, second.authority(t), two)
	_, err := second.authority(t).Revoke(t.Context(), Name(t, one), mobileid.Unspecified, false, time.Now())
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	require.Zero(t, second.Faults.Revokes(), "a CA is not asked about a certificate of another")
	requireNotRevoked(t, second.authority(t), two)
}

func issuerNames(t *testing.T, u *underTest) {
	for name, issuer := range map[string]pkix.Name{
		"comma":        {CommonName: "Example, Inc. CA", Organization: []string{"Example, Inc."}},
		"slash":        {CommonName: "A/S CA", Organization: []string{"Foo A/S"}},
		"quote":        {CommonName: `The "Best" CA`, Organization: []string{`O'Neil \ Sons`}},
		"non-ASCII":    {CommonName: "Säkerhet Ångström CA 鍵", Organization: []string{"Örebro"}},
		"plus, equals": {CommonName: "a+b=c;d<e>#f%2F?g&h", Organization: []string{" leading and trailing "}},
	} {
		t.Run(name, func(t *testing.T) {
			s := u.start(t, issuer)
			a := s.authority(t)
			cert, other := s.issue(t, IssueRequest{}), s.issue(t, IssueRequest{})
			revoke(t, a, cert, mobileid.Unspecified, false)
			requireNotRevoked(t, a, other)
		})
	}
}

func reasons(t *testing.T, u *underTest) {
	s := u.server(t)
	a := s.authority(t)
	carries := s.Driver.Capabilities().CarriesReason
	all := []mobileid.Reason{
		mobileid.Unspecified, mobileid.KeyCompromise, mobileid.CACompromise, mobileid.AffiliationChanged, mobileid.Superseded,
		mobileid.CessationOfOperation, mobileid.PrivilegeWithdrawn, mobileid.AACompromise,
	}
	for _, reason := range all {
		t.Run(string(reason), func(t *testing.T) {
			taken := reason == mobileid.Unspecified || slices.Contains(u.Reasons, reason)
			require.Equal(t, taken, s.Driver.Capabilities().Takes(reason), "configuration is checked by what the driver says")
			cert := s.issue(t, IssueRequest{})
			if !taken {
				_, err := s.Driver.Revoke(t.Context(), Name(t, cert), reason)
				require.Equal(t, ca.BadReason, kindOf(t, err))
				requireNotRevoked(t, a, cert)
				return
			}
			result := revoke(t, a, cert, reason, false)
			require.Equal(t, reason, result.Reason)
			switch {
			case !carries, reason == mobileid.Unspecified:
				// RFC 5280 section 5.3.1 wants it left out, and not all do. Where the CA has
				// no reason, the record says no other either.
				require.Contains(t, []mobileid.Reason{"", mobileid.Unspecified}, result.ReasonAtCA)
			default:
				require.Equal(t, reason, result.ReasonAtCA)
			}
		})
	}
	for _, reason := range []mobileid.Reason{mobileid.CertificateHold, mobileid.RemoveFromCRL, "stolen"} {
		t.Run("never "+string(reason), func(t *testing.T) {
			cert := s.issue(t, IssueRequest{})
			before := s.Faults.Revokes()
			_, err := s.Driver.Revoke(t.Context(), Name(t, cert), reason)
			require.Equal(t, ca.BadReason, kindOf(t, err))
			require.Equal(t, before, s.Faults.Revokes(), "nothing is sent")
		})
	}
}

// laggingCRL serves a CRL from before the revocation for a while.
func laggingCRL(t *testing.T, u *underTest) {
	s := u.server(t)
	fetch := s.CRL
	if fetch == nil {
		fetch = func(t testing.TB) []byte { return download(t, s.CRLURL) }
	}
	var list atomic.Pointer[[]byte]
	publish := func() { der := fetch(t); list.Store(&der) }
	publish()
	// Under its own URL, because a CRL may name the place that it is for.
	place := &http.Client{Transport: answering(func(r *http.Request) *http.Response {
		return recorded{http.StatusOK, http.Header{}, *list.Load()}.response(r)
	})}
	a := s.authority(t)
	a.OCSP = nil
	crl, err := ca.NewCRL(cmp.Or(s.CRLURL, "http://crl.example/"), s.Issuer, place, time.Now)
	require.NoError(t, err)
	a.CRL = crl
	cert := s.issue(t, IssueRequest{})
	result, err := a.Revoke(t.Context(), Name(t, cert), mobileid.Unspecified, false, time.Now())
	if s.Driver.Capabilities().HasStatus {
		require.NoError(t, err, "it is revoked at the CA")
		require.Empty(t, result.VisibleAt, "and nobody can see it")
	} else {
		require.Error(t, err, "nothing proves it yet")
		require.True(t, ca.Curable(err), "and nothing is wrong with that: %v", err)
	}
	require.Eventually(t, func() bool {
		publish()
		finding, err := a.Prove(t.Context(), Name(t, cert), time.Time{})
		return err == nil && !finding.VisibleAt.IsZero()
	}, 30*time.Second, 50*time.Millisecond)
	require.False(t, revoke(t, a, cert, mobileid.Unspecified, true).VisibleAt.IsZero())
	require.Equal(t, 1, s.Faults.Revokes(), "waiting for a CRL is no reason to ask again")
}

// answering is a transport that asks nobody.
type answering func(*http.Request) *http.Response

// RoundTrip implements http.RoundTripper.
func (a answering) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

func download(t testing.TB, url string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close() //nolint:errcheck // it is read to its end
	require.Equal(t, http.StatusOK, response.StatusCode)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return body
}

func wrongCredentials(t *testing.T, u *underTest) {
	s := u.server(t)
	a, cert := s.authority(t), s.issue(t, IssueRequest{})
	_, err := s.Denied.Revoke(t.Context(), Name(t, cert), mobileid.Unspecified)
	require.Equal(t, ca.Denied, kindOf(t, err))
	requireNotRevoked(t, a, cert)
}

func expired(t *testing.T, u *underTest) {
	s := u.server(t)
	a := s.authority(t)
	cert := s.issue(t, IssueRequest{NotAfter: time.Now().Add(-time.Hour)})
	var result mobileid.CertificateResult
	var err error
	asked := false
	require.Eventually(t, func() bool {
		result, err = a.Revoke(t.Context(), Name(t, cert), mobileid.Unspecified, asked, time.Now())
		asked = true
		return err == nil
	}, 10*time.Second, 50*time.Millisecond, "%v", errors.Unwrap(err))
	require.Equal(t, u.Expired, result.Outcome)
	require.Equal(t, u.Expired == mobileid.OutcomeRevoked, result.StatusAtCA == mobileid.StatusRevoked, "never called revoked if it is not")
}

func unknown(t *testing.T, u *underTest) {
	s := u.server(t)
	a, cert := s.authority(t), s.issue(t, IssueRequest{})
	missing := Name(t, cert)
	missing.Serial = "abcdefabcdef"
	missing.DER = nil
	if s.Driver.Capabilities().HasStatus {
		evidence, err := s.Driver.Status(t.Context(), missing)
		require.NoError(t, err, "what the CA does not know is no error")
		require.Equal(t, mobileid.StatusUnknown, evidence.Status)
	}
	if !s.Driver.Capabilities().NeedsDER {
		_, err := s.Driver.Revoke(t.Context(), missing, mobileid.Unspecified)
		if u.TakesUnknownSerials {
			require.NoError(t, err)
		} else {
			require.Equal(t, ca.NotFound, kindOf(t, err))
		}
	}
	requireNotRevoked(t, a, cert)
}

func onHold(t *testing.T, u *underTest) {
	s := u.server(t)
	a, cert := s.authority(t), s.issue(t, IssueRequest{})
	s.Hold(t, cert)
	require.Equal(t, mobileid.StatusOnHold, statusOf(t, a, cert))
	result := revoke(t, a, cert, mobileid.Superseded, true)
	require.Equal(t, mobileid.OutcomeRevoked, result.Outcome)
}
