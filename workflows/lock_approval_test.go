package workflows_test

import (
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/ejbca"
	"mobileid/activities/ca/ejbca/ejbcatest"
	starter "mobileid/starter/client"
	"mobileid/workflows"
)

// EJBCA says "good" while a request waits for an approval. Neither a retry nor another
// run of the process sends a second one (contract rule 7).
func TestApprovalIsAskedForOnce(t *testing.T) {
	i := installStopped(t)
	fake := ejbcatest.Start(t, pkix.Name{CommonName: "CA with approvals"})
	decide := fake.Approve(t)
	driver, err := ejbca.New(fake.Driver(fake.Officer))
	require.NoError(t, err)
	t.Cleanup(driver.Client().CloseIdleConnections)
	counted := &gatedDriver{Driver: driver}
	i.startWorker(&ca.Authority{
		Name: "ejbca", Issuer: fake.Certificate, Driver: counted, RequestTimeout: 5 * time.Second, Concurrency: 1, ApprovalWait: time.Hour,
	})
	id := i.mobileID(1)
	issued := fake.Issue(t, catest.IssueRequest{})
	certificate, err := mobileid.NewCertificate(issued, mobileid.CertificateValid)
	require.NoError(t, err)
	require.NoError(t, i.store.AddCertificates(t.Context(), id, certificate))

	waits := func(s starter.Status) bool {
		return len(s.Steps) == 1 && strings.Contains(s.Steps[0].LastError, string(ca.PendingApproval))
	}
	_, err = i.anna().Lock(t.Context(), id, starter.LockOptions{})
	require.NoError(t, err)
	first := i.waitFor(id, waits)
	i.fillHistory(id)
	answer, err := i.anna().Retry(t.Context(), id)
	require.NoError(t, err)
	require.True(t, answer.Retried, answer.Why)
	i.waitFor(id, func(s starter.Status) bool { return s.RunID != first.RunID && waits(s) })

	i.keep("approval", id, first.RunID)

	decide(t, issued, true)
	result, err := i.execution(id)
	require.NoError(t, err)
	require.Equal(t, workflows.OutcomeLocked, result.Outcome)
	require.Equal(t, 1, counted.requests[certificate.Serial])
	for _, c := range i.read(id).Certificates {
		require.Equal(t, mobileid.CertificateRevoked, c.State)
	}
}
