package cmp_test

import (
	"crypto/rand"
	"math/big"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmp"
	"mobileid/activities/ca/cmp/cmptest"
)

var fuzzSerial = big.NewInt(0x1f)

// startOwn runs a fake with a secret of its own, because fuzzing runs several processes
// that exchange their inputs.
func startOwn(f *testing.F) (*cmptest.Fake, cmp.Options) {
	f.Helper()
	fake := cmptest.Start(f, someName)
	fake.Secret = rand.Text()
	options := fake.Plain(fake.SecretDriver())
	options.SecretFile = cmptest.WriteSecret(f, fake.Secret)
	return fake, options
}

// record lets the fake answer in many ways, to signatures and to both MACs, and returns
// what it sent.
func record(f *testing.F, fake *cmptest.Fake, pbm cmp.Options) (sent [][]byte) {
	f.Helper()
	pbmac1 := pbm
	pbmac1.MAC = cmp.PBMAC1
	for _, change := range []func(*cmptest.Answer){
		func(*cmptest.Answer) {}, status(2, 10), status(3), errorMessage(2, 2), unprotected(errorMessage(2, 1)),
		func(a *cmptest.Answer) {
			a.Statuses = []cmptest.Status{{Status: 2, Fail: []int{0, 26}, Words: []string{"a", "b"}}}
		},
	} {
		fake.Change = func(a *cmptest.Answer) {
			change(a)
			a.Finish = func(der []byte) []byte {
				sent = append(sent, der)
				return der
			}
		}
		for _, options := range []cmp.Options{fake.Plain(fake.Driver(fake.Officer)), pbm, pbmac1} {
			cert := fake.Issue(f, catest.IssueRequest{Serial: fuzzSerial})
			_, _ = newDriver(f, options).Revoke(f.Context(), catest.Name(f, cert), "")
		}
	}
	return sent
}

// FuzzMessages feeds the parsers of outside bytes, past what fuzzing cannot make.
func FuzzMessages(f *testing.F) {
	fake, options := startOwn(f)
	d := newDriver(f, options)
	genuine := map[string]bool{}
	for _, der := range record(f, fake, options) {
		if _, part, _ := d.Read(der, fuzzSerial); part != nil {
			genuine[string(part)] = true
		}
		f.Add(der)
	}
	require.Greater(f, len(genuine), 10)
	f.Fuzz(func(t *testing.T, der []byte) {
		answer, part, err := d.Read(der, fuzzSerial)
		if part != nil {
			require.True(t, genuine[string(part)], "verified, and nobody has protected it")
		}
		if err != nil {
			require.Empty(t, answer)
			return
		}
		require.Contains(t, []ca.Outcome{ca.Revoked, ca.AlreadyRevoked, ca.Pending}, answer.Outcome)
	})
}

// FuzzAnswers feeds whole answers: none of them is bound to the request, so none says
// anything.
func FuzzAnswers(f *testing.F) {
	fake, options := startOwn(f)
	for _, der := range record(f, fake, options) {
		f.Add(200, "application/pkixcmp", der)
		f.Add(500, "application/pkixcmp", der)
	}
	f.Add(200, "text/html", []byte("<html>"))
	var code int
	var media string
	var body []byte
	d, cert := answering(f, "https://localhost/cmp", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		w.WriteHeader(code)
		_, _ = w.Write(body)
	})
	f.Fuzz(func(t *testing.T, c int, m string, b []byte) {
		if c < 200 || c > 599 {
			return
		}
		code, media, body = c, m, b
		answer, err := d.Revoke(t.Context(), cert, "")
		require.Empty(t, answer)
		require.NotContains(t, []ca.Kind{ca.NotFound, ca.BadReason}, kindOf(t, err))
		require.Error(t, d.Check(t.Context()))
	})
}
