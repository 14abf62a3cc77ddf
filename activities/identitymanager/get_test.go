package identitymanager

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func getProcess(run string) mobileid.Process {
	return mobileid.Process{Name: "MobileIDSelfServiceProcGet", WorkflowID: "MobileIDSelfServiceProcGet/anna", RunID: run}
}

// grant lets a user get a mobile ID, and returns its id.
func grant(t testing.TB, s *Store, userID string) string {
	t.Helper()
	granted, err := s.PutGrant(t.Context(), userID, "portal", time.Hour)
	require.NoError(t, err)
	return granted.MobileID
}

func registration(id, userID, run string) mobileid.RegistrationOrder {
	return mobileid.RegistrationOrder{
		MobileID:    id,
		UserID:      userID,
		Name:        "MobileID of " + userID,
		Process:     getProcess(run),
		Decision:    mobileid.Decision{UserID: userID, By: userID},
		RequestedAt: start.Add(-time.Minute),
	}
}

// register grants a user a mobile ID and registers it.
func register(t testing.TB, s *Store, userID string) string {
	t.Helper()
	id := grant(t, s, userID)
	_, err := s.Register(t.Context(), registration(id, userID, "run-1"))
	require.NoError(t, err)
	return id
}

func issue(id, run string, serials ...string) mobileid.IssueOrder {
	order := mobileid.IssueOrder{MobileID: id, Process: getProcess(run), Decision: mobileid.Decision{UserID: "anna"}, CA: "issuing"}
	for _, serial := range serials {
		order.Certificates = append(order.Certificates, certificate(serial, mobileid.CertificateIssued))
	}
	return order
}

func activation(id, userID, run string) mobileid.ActivationOrder {
	return mobileid.ActivationOrder{MobileID: id, UserID: userID, Process: getProcess(run), Decision: mobileid.Decision{UserID: userID}}
}

func abandonment(id, run string) mobileid.AbandonOrder {
	return mobileid.AbandonOrder{
		MobileID: id,
		Process:  getProcess(run),
		Decision: mobileid.Decision{By: "operator"},
		Failure:  &mobileid.Failure{Type: mobileid.FailurePhoneSilent, Message: "the phone did not answer in time"},
	}
}

// Words that must not be seen outside their columns.
const (
	secretNonce  = "n0nce-hunter2"
	secretURI    = "personal://provision?token=hunter3"
	secretAnswer = `{"nonce":"n0nce-hunter2","csr":"hunter4"}`
)

func provisioning(id, userID, command string) mobileid.Provisioning {
	return mobileid.Provisioning{
		MobileID: id, UserID: userID, WorkflowID: "MobileIDSelfServiceProcGet/" + userID,
		Nonce: secretNonce, URI: secretURI, ExpiresAt: microseconds(start.Add(5 * time.Minute)), CommandID: command,
	}
}

func certificateCommand(id, command string) mobileid.Command {
	return mobileid.Command{CommandID: command, MobileID: id, WorkflowID: "MobileIDSelfServiceProcGet/anna", Kind: KindCertificate, ExpiresAt: start.Add(5 * time.Minute)}
}

// isConflict expects a conflict that says so.
func isConflict(t *testing.T, err error, problem string) {
	t.Helper()
	var conflict *mobileid.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Contains(t, conflict.Problem, problem)
}

// expectNothingWritten runs fn and sees that it changed nothing.
func expectNothingWritten(t *testing.T, s *Store, fn func()) {
	t.Helper()
	before := dump(t, s)
	fn()
	require.Equal(t, before, dump(t, s), "nothing is written")
}

// A whole life: Get, and then the lock.
func TestGetThenLock(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		id := register(t, s, "anna")
		require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-1")))
		_, err := s.Deliver(t.Context(), "c-1", KindProvision, []byte(secretAnswer))
		require.NoError(t, err)
		_, err = s.RecordIssued(t.Context(), issue(id, "run-1", "a1"))
		require.NoError(t, err)
		_, err = s.RecordIssued(t.Context(), issue(id, "run-1", "a2"))
		require.NoError(t, err)
		require.NoError(t, s.PutCommand(t.Context(), certificateCommand(id, "c-2")))
		_, err = s.Deliver(t.Context(), "c-2", KindCertificate, []byte("{}"))
		require.NoError(t, err)
		_, err = s.Activate(t.Context(), activation(id, "anna", "run-1"))
		require.NoError(t, err)
		receipt, err := s.Lock(t.Context(), order(id, "run-2"))
		require.NoError(t, err)
		require.Equal(t, []string{"a1", "a2"}, serials(receipt.Certificates))
		verify(t, s, id, mobileid.EventGranted, mobileid.EventRegistered, mobileid.EventIssued, mobileid.EventIssued,
			mobileid.EventActivated, mobileid.EventLocked)
		report, err := s.VerifyAudit(t.Context(), "", nil, nil)
		require.NoError(t, err)
		require.Empty(t, report.Faults)
	})
}

// Everything at once, again and again, in every order: the order in which
// transactions take rows lets none of them deadlock.
func TestNoDeadlock(t *testing.T) {
	const workers, steps = 16, 40
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, db database) {
		var deadlocks atomic.Int64
		stores := []*Store{s, db.open(t)}
		for _, store := range stores {
			transient := store.dialect.transient
			store.dialect.transient = func(err error) bool {
				if postgresCode(err) == deadlockDetected {
					deadlocks.Add(1)
				}
				return transient(err)
			}
		}
		users := []string{"anna", "otto"}
		ids := []string{register(t, s, "anna"), register(t, s, "otto")}
		create(t, s, "mid-old", mobileid.Active)
		ids = append(ids, "mid-old")
		ctx := t.Context()
		together(t, workers, func(worker int) error {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			store := stores[worker%2]
			for step := range steps {
				id, user := ids[random.IntN(len(ids))], users[random.IntN(len(users))]
				run := fmt.Sprintf("run-%d-%d", worker, step)
				var err error
				// What is refused does not matter here.
				switch random.IntN(13) {
				case 0:
					var granted mobileid.Grant
					if granted, err = store.PutGrant(ctx, user, "portal", time.Hour); err == nil {
						_, err = store.Register(ctx, registration(granted.MobileID, user, run))
					}
				case 1:
					err = store.PutUser(ctx, mobileid.User{ID: user, Active: true, Roles: []string{mobileid.SelfServiceRole}}, "", "x@example.com")
				case 2:
					err = store.ChangeOwner(ctx, id, user)
				case 3:
					_, err = store.RecordIssued(ctx, issue(id, run, fmt.Sprintf("%x", 1+worker*steps+step)))
				case 4:
					err = store.PutProvisioning(ctx, provisioning(id, user, run))
				case 5:
					_, err = store.Deliver(ctx, run, KindProvision, nil)
				case 6:
					_, err = store.ForgetExpiredSecrets(ctx)
				case 7, 8:
					_, err = store.Activate(ctx, activation(id, user, run))
				case 9:
					_, err = store.Applicant(ctx, user)
				case 10:
					if step > steps/2 {
						_, err = store.Lock(ctx, order(id, run))
					}
				case 11:
					serial := fmt.Sprintf("%x", 1+random.IntN(workers*steps))
					_, err = store.RecordRevocations(ctx, revocation(id, run, revoked(serial)))
				case 12:
					var n Notice
					var found bool
					if n, found, err = store.ClaimNotice(ctx, time.Minute); found {
						_, err = store.NoticeIsSent(ctx, n)
					}
				}
				if err != nil && store.tryAgain(err) {
					return err
				}
			}
			return nil
		})
		require.Zero(t, deadlocks.Load())
		report, err := s.VerifyAudit(ctx, "", nil, nil)
		require.NoError(t, err)
		require.Empty(t, report.Faults)
	})
}

// Whoever comes first: the new mobile ID is there if and only if the old one was
// locked by then.
func TestRegisterAndLockAtOnce(t *testing.T) {
	const pairs = 20
	eachStore(t, func(t *testing.T, s *Store, db database) {
		other := db.open(t)
		var users, grants, old [pairs]string
		for i := range pairs {
			users[i], old[i] = fmt.Sprintf("user-%d", i), fmt.Sprintf("old-%d", i)
			putUsers(t, s, users[i])
			m := mobileid.MobileID{ID: old[i], Owner: mobileid.User{ID: users[i]}, State: mobileid.Active}
			require.NoError(t, s.CreateMobileID(t.Context(), m))
			grants[i] = grant(t, s, users[i])
		}
		var refused [pairs]bool
		together(t, 2*pairs, func(n int) error {
			i := n / 2
			if n%2 == 0 {
				o := order(old[i], "run-1")
				o.Owner = users[i]
				_, err := s.Lock(t.Context(), o)
				return err
			}
			_, err := other.Register(t.Context(), registration(grants[i], users[i], "run-1"))
			if errors.Is(err, mobileid.ErrMobileIDActive) {
				refused[i] = true
				return nil
			}
			return err
		})
		for i := range pairs {
			verify(t, s, old[i], mobileid.EventLocked)
			a, err := s.Applicant(t.Context(), users[i])
			require.NoError(t, err)
			if refused[i] {
				require.Len(t, a.MobileIDs, 1)
				require.NotNil(t, a.Grant, "it can be used after the lock")
				verify(t, s, grants[i], mobileid.EventGranted)
				continue
			}
			require.Len(t, a.MobileIDs, 2)
			require.Nil(t, a.Grant)
			verify(t, s, grants[i], mobileid.EventGranted, mobileid.EventRegistered)
		}
	})
}

// A lock does not take a registered mobile ID over, and an abandoned one is not
// activated: whoever comes first, there is one end, and everybody is told it.
func TestActivateAndItsOppositesAtOnce(t *testing.T) {
	const trios = 20
	eachStore(t, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t), db.open(t)}
		var users, ids [trios]string
		for i := range trios {
			users[i] = fmt.Sprintf("user-%d", i)
			putUsers(t, s, users[i])
			ids[i] = register(t, s, users[i])
			_, err := s.RecordIssued(t.Context(), issue(ids[i], "run-1", fmt.Sprintf("a%x", i)))
			require.NoError(t, err)
		}
		var done [trios][3]bool
		together(t, 3*trios, func(n int) (err error) {
			i, what := n/3, n%3
			switch what {
			case 0:
				_, err = stores[what].Activate(t.Context(), activation(ids[i], users[i], "run-1"))
			case 1:
				_, err = stores[what].Abandon(t.Context(), abandonment(ids[i], "run-1"))
			case 2:
				o := order(ids[i], "run-2")
				o.Owner = users[i]
				_, err = stores[what].Lock(t.Context(), o)
			}
			done[i][what] = err == nil
			var conflict *mobileid.ConflictError
			if errors.As(err, &conflict) {
				return nil
			}
			return err
		})
		for i := range trios {
			m, err := s.MobileID(t.Context(), ids[i])
			require.NoError(t, err)
			activated, abandoned, locked := done[i][0], done[i][1], done[i][2]
			events := []mobileid.Event{mobileid.EventGranted, mobileid.EventRegistered, mobileid.EventIssued}
			certificate := mobileid.CertificateIssued
			if activated {
				events, certificate = append(events, mobileid.EventActivated), mobileid.CertificateValid
			}
			require.Equal(t, certificate, m.Certificates[0].State)
			state := mobileid.Active
			if abandoned || locked {
				state = mobileid.Locked
			}
			require.Equal(t, state, m.State)
			require.True(t, activated || abandoned)
			switch trail := verify(t, s, ids[i]); {
			case activated && locked && abandoned: // the lock came between, and is final
				verify(t, s, ids[i], append(events, mobileid.EventLocked, mobileid.EventAbandoned)...)
			case activated && locked:
				verify(t, s, ids[i], append(events, mobileid.EventLocked)...)
			case activated:
				verify(t, s, ids[i], events...)
			case locked:
				verify(t, s, ids[i], append(events, mobileid.EventAbandoned, mobileid.EventResumed)...)
			default:
				verify(t, s, ids[i], append(events, mobileid.EventAbandoned)...)
				require.Len(t, trail, 4)
			}
		}
	})
}
