package ca

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// watcher notes the calls that it is told of, and marks their contexts.
type watcher struct {
	mu    sync.Mutex
	begun int
	seen  []string
}

type marked struct{}

func (w *watcher) Calling(ctx context.Context, ca string, call Call) (context.Context, func(string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun++
	return context.WithValue(ctx, marked{}, call), func(class string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, fmt.Sprintf("%s %s %s", ca, call, class))
	}
}

func TestObserver(t *testing.T) {
	done := answers(Answer{Outcome: Revoked, RevokedAt: revocationDate})
	for name, test := range map[string]struct {
		answers []answerStep
		status  []statusStep
		ocsp    *fakeSource
		seen    []string
	}{
		"revoked":                       {done, status(says(mobileid.StatusRevoked)), source(says(mobileid.StatusRevoked)), []string{"ca ocsp revoked", "ca revoke Revoked", "ca status revoked"}},
		"no connection":                 {answerFails(Unavailable), nil, source(says(mobileid.StatusGood)), []string{"ca revoke CAUnavailable"}},
		"cut, and OCSP is down":         {answerFails(Ambiguous), status(says(mobileid.StatusGood)), failing(errDown), []string{"ca ocsp CAUnavailable", "ca revoke CAAmbiguous", "ca status good"}},
		"nobody waits any longer":       {[]answerStep{{err: context.Canceled}}, status(says(mobileid.StatusGood)), source(says(mobileid.StatusGood)), []string{"ca ocsp good", "ca revoke Canceled", "ca status good"}},
		"a failure nobody classified":   {[]answerStep{{err: fmt.Errorf("odd")}}, status(says(mobileid.StatusGood)), source(says(mobileid.StatusGood)), []string{"ca ocsp good", "ca revoke CAAmbiguous", "ca status good"}},
		"denied, and so is the reading": {answerFails(Denied), statusFails(errDenied), source(says(mobileid.StatusGood)), []string{"ca ocsp good", "ca revoke CADenied", "ca status CADenied"}},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := newCA(t, "CA")
			w := &watcher{}
			driver := &fakeDriver{answers: test.answers, statuses: test.status, capabilities: Capabilities{HasStatus: true}}
			a := &Authority{Name: "ca", Issuer: issuer.cert, Driver: driver, OCSP: test.ocsp, Now: clockAt(noon), Observer: w}
			_, _ = a.Revoke(t.Context(), userOf(issuer), mobileid.Superseded, false, noon)
			slices.Sort(w.seen)
			require.Equal(t, test.seen, w.seen)
			require.Len(t, w.seen, w.begun, "each call ends once")
		})
	}
}

// The call is made with the observer's context, so that what happens in it belongs to
// the same trace.
func TestObserversContextIsUsed(t *testing.T) {
	issuer := newCA(t, "CA")
	var got any
	a := &Authority{Name: "ca", Issuer: issuer.cert, Observer: &watcher{}, OCSP: sourceFunc(func(ctx context.Context) { got = ctx.Value(marked{}) })}
	_, _ = a.Prove(t.Context(), userOf(issuer), noon)
	require.Equal(t, CallOCSP, got)
}

type sourceFunc func(ctx context.Context)

func (f sourceFunc) Check(ctx context.Context, _ Certificate) (Evidence, error) {
	f(ctx)
	return says(mobileid.StatusGood), nil
}
