package workflows_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
	"mobileid/activities/crlpush"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// push brings the newest CRL of the CA, as it would itself.
func (i *installation) push() crlpush.Taken {
	i.t.Helper()
	cas, err := ca.NewAuthorities([]*ca.Authority{i.authority()})
	require.NoError(i.t, err)
	receiver, err := crlpush.New(i.store, cas, crlpush.Options{User: "cm", Password: "a password that is long"})
	require.NoError(i.t, err)
	document, err := os.ReadFile(filepath.Join(i.ca.Dir, devca.CRLFile))
	require.NoError(i.t, err)
	taken, err := receiver.Take(i.t.Context(), document)
	require.NoError(i.t, err)
	return taken
}

// The CA's own CRL comes while a lock has revoked there and not noted it here yet: the
// lock finds its work done, and finishes.
func TestCRLComesWhileALockRuns(t *testing.T) {
	i := install(t)
	id := i.mobileID(2)
	i.im.gate(func(_ context.Context, method string) error {
		if method == "RecordRevocations" {
			return errGated
		}
		return nil
	})
	_, err := i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	for _, c := range i.read(id).Certificates {
		require.Eventually(t, func() bool { return i.statusAtCA(c) == mobileid.StatusRevoked }, limit, 50*time.Millisecond)
	}
	revoked := 0
	require.Eventually(t, func() bool { // the CRL follows in a moment
		revoked += i.push().Revoked
		return revoked == 2
	}, limit, 50*time.Millisecond)
	i.im.gate(nil)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	require.NotEmpty(t, result.Certificates[0].Proof)
	i.requireLocked(id)
	require.Zero(t, i.push().Revoked)
}

// The CRL comes before anybody presses Next: the mobile ID stays active, and its lock has
// nothing left to do but to lock it.
func TestCRLComesBeforeALock(t *testing.T) {
	i := install(t)
	id := i.mobileID(1)
	serial, err := i.read(id).Certificates[0].SerialNumber()
	require.NoError(t, err)
	_, err = i.ca.Server.Revoke(t.Context(), serial, mobileid.KeyCompromise)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return i.push().Revoked == 1 }, limit, 50*time.Millisecond)
	m := i.read(id)
	require.Equal(t, mobileid.Active, m.State)
	require.Equal(t, mobileid.CertificateRevoked, m.Certificates[0].State)
	_, err = i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	i.requireLocked(id)
}
