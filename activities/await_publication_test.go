package activities

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"mobileid"
	"mobileid/activities/ca"
)

// publicSource is an OCSP responder or a CRL that always says the same.
type publicSource struct {
	evidence ca.Evidence
	err      error
}

func (s publicSource) Check(context.Context, ca.Certificate) (ca.Evidence, error) {
	return s.evidence, s.err
}

func (publicSource) NextUpdate() time.Time { return time.Time{} }

// revokedDriver is a CA at which everything was revoked at a time.
type revokedDriver struct{ at time.Time }

func (revokedDriver) Capabilities() ca.Capabilities { return ca.Capabilities{HasStatus: true} }

func (revokedDriver) Revoke(context.Context, ca.Certificate, mobileid.Reason) (ca.Answer, error) {
	return ca.Answer{Outcome: ca.AlreadyRevoked}, nil
}

func (d revokedDriver) Status(context.Context, ca.Certificate) (ca.Evidence, error) {
	return ca.Evidence{Status: mobileid.StatusRevoked, RevokedAt: d.at, Proof: mobileid.Proof{At: time.Now(), SHA256: "5a"}}, nil
}

// Contract rule 11: the wait for the publication ends when others see it, or with its
// time, and not with what a source says. The words stay for the operator.
func TestAwaitPublicationWaitsOutWhatSourcesSay(t *testing.T) {
	issuer := newIssuer(t)
	id := mobileid.CertificateID{Issuer: mobileid.HashName(issuer.RawSubject), Serial: "abc"}
	revokedAt := time.Now().Add(-6 * time.Minute)
	good := publicSource{evidence: ca.Evidence{Status: mobileid.StatusGood, Proof: mobileid.Proof{At: time.Now(), SHA256: "5a"}}}
	forbidden := publicSource{err: &ca.Error{Kind: ca.Unsupported, Op: "read CRL", Words: "HTTP 403 Forbidden"}}
	for name, test := range map[string]struct {
		authority ca.Authority
		kind      string
		words     string
	}{
		"OCSP lags":                               {ca.Authority{Driver: revokedDriver{revokedAt}, OCSP: good}, string(ca.Contradiction), "ocsp says good at"},
		"the CRL of a CA elsewhere lags":          {ca.Authority{TaskQueue: "zone", CRL: good}, string(ca.Contradiction), "crl says good at"},
		"the CRL of a CA elsewhere is forbidden":  {ca.Authority{TaskQueue: "zone", CRL: forbidden}, string(ca.Unsupported), "HTTP 403 Forbidden"},
		"the CRL is forbidden, and the CA proves": {ca.Authority{Driver: revokedDriver{revokedAt}, CRL: forbidden}, TypeNotVisible, "1 of 1 revocations of ca are not published yet: read CRL: CAUnsupported: HTTP 403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			authority := test.authority
			authority.Name, authority.Issuer = "ca", issuer
			authorities, err := ca.NewAuthorities([]*ca.Authority{&authority})
			require.NoError(t, err)
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestActivityEnvironment()
			(&Activities{CAs: authorities, IM: keptIM{kept: &mobileid.MobileID{State: mobileid.Locked}}}).Register(env)
			_, err = env.ExecuteActivity(AwaitPublicationName, AwaitPublicationInput{
				CA: CAPolicy{Name: "ca"}, MobileID: "mid-1",
				Certificates: []mobileid.CertificateResult{{CertificateID: id, CA: "ca", RevokedAt: revokedAt, NotAfter: time.Now().Add(time.Hour)}},
			})
			var application *temporal.ApplicationError
			require.ErrorAs(t, err, &application)
			require.False(t, application.NonRetryable())
			require.Equal(t, test.kind, application.Type())
			require.ErrorContains(t, err, test.words)
		})
	}
}

// While a lock waits for the publication a backup may be restored. Nothing is recorded
// then of a lock that the store has forgotten.
func TestAwaitPublicationSeesThatTheStoreWasSetBack(t *testing.T) {
	issuer := newIssuer(t)
	authorities, err := ca.NewAuthorities([]*ca.Authority{{Name: "ca", Issuer: issuer, Driver: revokedDriver{time.Now()}}})
	require.NoError(t, err)
	in := AwaitPublicationInput{CA: CAPolicy{Name: "ca"}, MobileID: "mid-1", Certificates: []mobileid.CertificateResult{{CA: "ca"}}}
	for name, kept := range map[string]*mobileid.MobileID{
		"to before it was made":  nil,
		"to before the lock":     {State: mobileid.Active},
		"to before a revocation": {State: mobileid.Locked, Certificates: []mobileid.Certificate{{State: mobileid.CertificateValid}}},
	} {
		t.Run(name, func(t *testing.T) {
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestActivityEnvironment()
			(&Activities{CAs: authorities, IM: keptIM{kept: kept}}).Register(env)
			value, err := env.ExecuteActivity(AwaitPublicationName, in)
			require.NoError(t, err)
			var result AwaitPublicationResult
			require.NoError(t, value.Get(&result))
			require.Equal(t, AwaitPublicationResult{Certificates: in.Certificates, SetBack: true}, result)
		})
	}
}
