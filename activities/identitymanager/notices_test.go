package identitymanager

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// everyNotice is what a store writes that writes all.
var everyNotice = Notices{Lock: true, Get: true, QR: true}

// eachNoticing is eachStore, with a store that writes notices. Anna has two addresses.
func eachNoticing(t *testing.T, notices Notices, test func(t *testing.T, s *Store, db database)) {
	eachDatabase(t, func(t *testing.T, db database) {
		db.Notices = notices
		s := db.open(t)
		require.NoError(t, s.Migrate(t.Context()))
		putUsers(t, s)
		user := mobileid.User{ID: "anna", Name: "Anna", Active: true, Roles: []string{mobileid.SelfServiceRole}}
		require.NoError(t, s.PutUser(t.Context(), user, "anna@example.com", "anna@example.com", "a@example.org"))
		test(t, s, db)
	})
}

// kept is a row of the outbox.
type kept struct {
	id      string
	kind    NoticeKind
	address string
	state   NoticeState
	due     time.Time
	facts   NoticeFacts
}

func (k kept) String() string { return fmt.Sprintf("%s to %s", k.kind, k.address) }

// outbox reads the notices of a mobile ID, by kind and address.
func outbox(t testing.TB, s *Store, id string) []kept {
	t.Helper()
	const query = `SELECT id, kind, address, state, due_at, facts FROM outbox WHERE mobile_id = $1 ORDER BY kind, address`
	all, err := collect(t.Context(), s.read, func(rows *sql.Rows) (kept, error) {
		var k kept
		var facts string
		err := rows.Scan(&k.id, &k.kind, &k.address, &k.state, timestamp{&k.due}, &facts)
		if err == nil && facts != "" {
			err = json.Unmarshal([]byte(facts), &k.facts)
		}
		return k, err
	}, query, id)
	require.NoError(t, err)
	return all
}

// requireNotices expects exactly these, in the order of outbox.
func requireNotices(t testing.TB, s *Store, id string, want ...string) []kept {
	t.Helper()
	all := outbox(t, s, id)
	found := []string{}
	for _, k := range all {
		found = append(found, k.String())
	}
	require.ElementsMatch(t, want, found)
	return all
}

func shown(serial string) mobileid.CertificateResult {
	return mobileid.CertificateResult{CertificateID: mobileid.CertificateID{Serial: serial}, NotAfter: certificate(serial, "valid").NotAfter}
}

var (
	lockRequested = []string{"lockRequested to a@example.org", "lockRequested to anna@example.com"}
	lockFinished  = []string{"lockFinished to a@example.org", "lockFinished to anna@example.com"}
)

func TestNoticesOfALock(t *testing.T) {
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, db database) {
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
		lock := order("mid-1", "run-1")
		_, err := s.Lock(t.Context(), lock)
		require.NoError(t, err)
		requested := requireNotices(t, s, "mid-1", lockRequested...)
		for _, k := range requested {
			require.Equal(t, NoticePending, k.state)
			require.Equal(t, microseconds(start), k.due, "at once")
			require.Equal(t, NoticeFacts{
				UserName: "Anna", MobileName: "Phone", WorkflowID: lock.Process.WorkflowID, ByOwner: true, Reason: mobileid.Superseded,
				RequestedAt: microseconds(lock.RequestedAt), LockedAt: microseconds(start),
				Certificates: []mobileid.CertificateResult{shown("a1"), shown("a2"), shown("a3")},
			}, k.facts)
		}
		expectNothingWritten(t, s, func() {
			_, err := s.Lock(t.Context(), lock)
			require.NoError(t, err)
		})
		_, err = s.Lock(t.Context(), order("mid-1", "run-2"))
		require.NoError(t, err)
		require.Equal(t, requested, outbox(t, s, "mid-1"), "who takes a lock over asks nothing anew")

		seen := revoked("a2")
		seen.VisibleAt = seen.RevokedAt.Add(time.Minute)
		_, err = s.RecordRevocations(t.Context(), revocation("mid-1", "run-2", revoked("a1"), seen))
		require.NoError(t, err)
		require.Equal(t, requested, outbox(t, s, "mid-1"), "one is open still")
		db.clock.advance(time.Hour)
		last := revoked("a3")
		last.RevokedAt = last.RevokedAt.Add(time.Second)
		_, err = s.RecordRevocations(t.Context(), revocation("mid-1", "run-2", last))
		require.NoError(t, err)
		all := requireNotices(t, s, "mid-1", append(lockRequested, lockFinished...)...)
		a1, a2, a3 := shown("a1"), shown("a2"), shown("a3")
		for _, c := range []*mobileid.CertificateResult{&a1, &a2, &a3} {
			c.Outcome, c.RevokedAt = mobileid.OutcomeRevoked, seen.RevokedAt
		}
		a2.VisibleAt, a3.RevokedAt = seen.VisibleAt, last.RevokedAt
		require.Equal(t, NoticeFacts{
			UserName: "Anna", MobileName: "Phone", WorkflowID: lock.Process.WorkflowID, ByOwner: true, Reason: mobileid.Superseded,
			RequestedAt: microseconds(lock.RequestedAt), LockedAt: microseconds(start), RevokedAt: last.RevokedAt,
			Certificates: []mobileid.CertificateResult{a1, a2, a3},
		}, all[0].facts, "decided by who locked, and not by who finished it; visible only if all are")
		require.Equal(t, microseconds(start.Add(time.Hour+visibleGrace)), all[0].due)

		// Others see it: both mails go at once, and say so.
		visible := func(run string, certificates ...mobileid.CertificateResult) {
			t.Helper()
			_, err := s.Record(t.Context(), mobileid.Record{
				MobileID: "mid-1", Event: mobileid.EventVisible, Process: process(run), CA: "issuing", Certificates: certificates,
			})
			require.NoError(t, err)
		}
		first, third := revoked("a1"), last
		first.VisibleAt, third.VisibleAt = seen.VisibleAt.Add(time.Second), seen.VisibleAt.Add(time.Minute)
		visible("run-2", first)
		require.Equal(t, all, outbox(t, s, "mid-1"), "the third one is not visible")
		db.clock.advance(time.Second)
		visible("run-2", third)
		all = requireNotices(t, s, "mid-1", append(lockRequested, lockFinished...)...)
		for _, k := range all[:2] {
			require.Equal(t, NoticeLockFinished, k.kind)
			require.Equal(t, third.VisibleAt, k.facts.VisibleAt)
			require.Equal(t, last.RevokedAt, k.facts.RevokedAt)
			require.Len(t, k.facts.Certificates, 3)
			require.Equal(t, microseconds(start.Add(time.Hour+time.Second)), k.due)
		}
		_, found, err := s.ClaimNotice(t.Context(), time.Nanosecond)
		require.NoError(t, err)
		require.True(t, found)

		// Whatever is looked at again, or turns up later: it was told.
		all = outbox(t, s, "mid-1")
		visible("run-3", third)
		_, err = s.RecordRevocations(t.Context(), revocation("mid-1", "run-3", revoked("a1"), last))
		require.NoError(t, err)
		require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "anna", Name: "Anna"}, "new@example.com"))
		require.NoError(t, s.AddCertificates(t.Context(), "mid-1", certificate("a6", "issued")))
		_, err = s.RecordRevocations(t.Context(), revocation("mid-1", "run-4", revoked("a6")))
		require.NoError(t, err)
		require.Equal(t, all, outbox(t, s, "mid-1"))
	})
}

// What nobody has to revoke is finished at once.
func TestNoticesOfALockWithoutCertificates(t *testing.T) {
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active, certificate("a4", "expired"))
		_, err := s.Lock(t.Context(), order("mid-1", "run-1"))
		require.NoError(t, err)
		for _, k := range requireNotices(t, s, "mid-1", append(lockRequested, lockFinished...)...) {
			require.Empty(t, k.facts.Certificates)
			require.True(t, k.facts.RevokedAt.IsZero())
		}
	})
}

func TestNoticesThatAreNotWanted(t *testing.T) {
	for name, test := range map[string]struct {
		notices Notices
		want    []string
	}{
		"none":            {Notices{}, nil},
		"of locks alone":  {Notices{Lock: true}, append(lockRequested, lockFinished...)},
		"of Gets alone":   {Notices{Get: true}, nil},
		"the codes alone": {Notices{QR: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			eachNoticing(t, test.notices, func(t *testing.T, s *Store, _ database) {
				create(t, s, "mid-1", mobileid.Active, certificate("b1", "valid"))
				_, err := s.Lock(t.Context(), order("mid-1", "run-1"))
				require.NoError(t, err)
				_, err = s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", revoked("b1")))
				require.NoError(t, err)
				requireNotices(t, s, "mid-1", test.want...)

				id := readyToActivate(t, s)
				_, err = s.Activate(t.Context(), activation(id, "anna", "run-1"))
				require.NoError(t, err)
				want := []string{}
				if test.notices.QR {
					want = append(want, "getQR to anna@example.com")
				}
				if test.notices.Get {
					want = append(want, "getFinished to a@example.org", "getFinished to anna@example.com")
				}
				requireNotices(t, s, id, want...)
			})
		})
	}
}

// A user without an address is locked all the same.
func TestNoticesToNobody(t *testing.T) {
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, _ database) {
		require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "anna"}, ""))
		create(t, s, "mid-1", mobileid.Active)
		_, err := s.Lock(t.Context(), order("mid-1", "run-1"))
		require.NoError(t, err)
		requireNotices(t, s, "mid-1")
	})
}

// Who decided is told as it is recorded, and the owner only where nobody else is named.
func TestNoticesSayWhoDecided(t *testing.T) {
	for name, test := range map[string]struct {
		decision mobileid.Decision
		owner    bool
	}{
		"the owner":                  {mobileid.Decision{UserID: "anna"}, true},
		"the owner, named twice":     {mobileid.Decision{UserID: "anna", By: "anna"}, true},
		"an operator":                {mobileid.Decision{By: "otto"}, false},
		"an operator, for the owner": {mobileid.Decision{UserID: "anna", By: "otto"}, false},
		"an operator of the owner's name, not signed in as the owner": {mobileid.Decision{By: "anna"}, false},
		"a script": {mobileid.Decision{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.owner, byOwner(test.decision, "anna"))
			db := sqliteDatabase(t)
			db.Notices = everyNotice
			s := db.open(t)
			require.NoError(t, s.Migrate(t.Context()))
			putUsers(t, s)
			create(t, s, "mid-1", mobileid.Active, certificate("a1", "valid"))
			o := order("mid-1", "run-1")
			o.Decision = test.decision
			_, err := s.Lock(t.Context(), o)
			require.NoError(t, err)
			_, err = s.RecordRevocations(t.Context(), revocation("mid-1", "run-1", revoked("a1")))
			require.NoError(t, err)
			for _, k := range requireNotices(t, s, "mid-1", "lockRequested to anna@example.com", "lockFinished to anna@example.com") {
				require.Equal(t, test.owner, k.facts.ByOwner)
			}
		})
	}
}

// The last certificates of two CAs are revoked at the same moment.
func TestLockIsFinishedOnce(t *testing.T) {
	const locks = 20
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t)}
		for i := range locks {
			id := fmt.Sprintf("mid-%d", i)
			create(t, s, id, mobileid.Active, certificate(fmt.Sprintf("a%x", i), "valid"), certificate(fmt.Sprintf("b%x", i), "valid"))
			_, err := s.Lock(t.Context(), order(id, "run-1"))
			require.NoError(t, err)
		}
		together(t, 2*locks, func(n int) error {
			serial := fmt.Sprintf("%c%x", "ab"[n%2], n/2)
			_, err := stores[n%2].RecordRevocations(t.Context(), revocation(fmt.Sprintf("mid-%d", n/2), "run-1", revoked(serial)))
			return err
		})
		for i := range locks {
			all := requireNotices(t, s, fmt.Sprintf("mid-%d", i), append(lockRequested, lockFinished...)...)
			require.Len(t, all[0].facts.Certificates, 2)
		}
	})
}

// Neither the event nor the word of it is there without the other.
func TestNoticeAndEventTogether(t *testing.T) {
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active, certificate("a1", "valid"))
		change(t, s, `ALTER TABLE outbox RENAME TO away`)
		_, err := s.Lock(t.Context(), order("mid-1", "run-1"))
		require.ErrorContains(t, err, "outbox")
		change(t, s, `ALTER TABLE away RENAME TO outbox`)
		m, err := s.MobileID(t.Context(), "mid-1")
		require.NoError(t, err)
		require.Equal(t, mobileid.Active, m.State)
		requireNotices(t, s, "mid-1")

		o := order("mid-1", "run-1")
		o.Owner = "otto"
		expectNothingWritten(t, s, func() {
			_, err := s.Lock(t.Context(), o)
			isConflict(t, err, "belongs to another user by now")
		})
	})
}

func TestNoticeOfAGet(t *testing.T) {
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, db database) {
		id := readyToActivate(t, s)
		require.NoError(t, s.AddCertificates(t.Context(), id, certificate("a3", mobileid.CertificateRevoked)))
		db.clock.advance(time.Minute)
		o := activation(id, "anna", "run-1")
		_, err := s.Activate(t.Context(), o)
		require.NoError(t, err)
		want := []string{"getFinished to a@example.org", "getFinished to anna@example.com", "getQR to anna@example.com"}
		all := requireNotices(t, s, id, want...)
		require.Equal(t, NoticeFacts{
			UserName: "Anna", MobileName: "MobileID of anna", WorkflowID: o.Process.WorkflowID, ByOwner: true,
			RequestedAt: microseconds(start.Add(-time.Minute)), EndedAt: microseconds(start.Add(time.Minute)),
			ValidUntil:   certificate("a1", "valid").NotAfter,
			Certificates: []mobileid.CertificateResult{shown("a1"), shown("a2")},
		}, all[0].facts)
		_, err = s.Activate(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, all, outbox(t, s, id))
	})
}

// The word of a failed Get waits a little for what was issued to be revoked, so that it
// can say so, and says so only then.
func TestNoticeOfAFailedGet(t *testing.T) {
	failed := []string{"getFailed to a@example.org", "getFailed to anna@example.com"}
	prepare := func(t *testing.T, s *Store, serials ...string) string {
		id := register(t, s, "anna")
		if len(serials) > 0 {
			_, err := s.RecordIssued(t.Context(), issue(id, "run-1", serials...))
			require.NoError(t, err)
		}
		_, err := s.Abandon(t.Context(), abandonment(id, "run-1"))
		require.NoError(t, err)
		return id
	}
	revoke := func(t *testing.T, s *Store, id string, serials ...string) {
		_, err := s.Lock(t.Context(), order(id, "run-2"))
		require.NoError(t, err)
		for _, serial := range serials {
			_, err = s.RecordRevocations(t.Context(), revocation(id, "run-2", revoked(serial)))
			require.NoError(t, err)
		}
	}
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, db database) {
		nothing := prepare(t, s)
		for _, k := range requireNotices(t, s, nothing, failed...) {
			require.Equal(t, NoticeFacts{
				UserName: "Anna", MobileName: "MobileID of anna", WorkflowID: getProcess("").WorkflowID,
				RequestedAt: microseconds(start.Add(-time.Minute)), EndedAt: microseconds(start),
				Failure: mobileid.FailurePhoneSilent, CleanedUp: true,
			}, k.facts)
			require.Equal(t, microseconds(start), k.due)
		}

		waiting := prepare(t, s, "a1", "a2")
		for _, k := range requireNotices(t, s, waiting, failed...) {
			require.False(t, k.facts.CleanedUp)
			require.Equal(t, microseconds(start.Add(cleanUpGrace)), k.due)
		}
		db.clock.advance(time.Second)
		revoke(t, s, waiting, "a1")
		require.False(t, outbox(t, s, waiting)[0].facts.CleanedUp)
		revoke(t, s, waiting, "a2")
		for _, k := range requireNotices(t, s, waiting, failed...) {
			require.True(t, k.facts.CleanedUp)
			require.Equal(t, microseconds(start.Add(time.Second)), k.due, "nothing is left to wait for")
		}

		// The CA is down: the user learns of the failure first, and is not told twice.
		late := prepare(t, s, "b1")
		change(t, s, `UPDATE outbox SET state = 'sent', ended_at = created_at, address = '', facts = '' WHERE mobile_id <> '`+late+`'`)
		db.clock.advance(cleanUpGrace)
		tried := make([]Notice, 2)
		for i := range tried {
			var found bool
			tried[i], found = claim(t, s)
			require.True(t, found)
			require.False(t, tried[i].Facts.CleanedUp)
		}
		for _, n := range tried {
			own, err := s.RetryNotice(t.Context(), n, s.now(), "down")
			yes(t, own, err)
		}
		before := outbox(t, s, late)
		revoke(t, s, late, "b1")
		require.Equal(t, before, outbox(t, s, late), "each try says the same")
	})
}

// Whether there was a mobile ID before is told from those that a Get gave up.
// A Get that ends after Next, and before it has a mobile ID, is told of as well.
func TestNoticeOfAGetGivenUp(t *testing.T) {
	requested := microseconds(start.Add(-time.Minute))
	exit := func(id string, event mobileid.Event, refusal *mobileid.Refusal) mobileid.Record {
		return mobileid.Record{
			MobileID: id, Event: event, At: microseconds(start), Process: registration(id, "anna", "run-1").Process, Decision: mobileid.Decision{UserID: "anna"},
			RequestedAt: requested, Owner: "anna", Refusal: refusal,
		}
	}
	active := &mobileid.Refusal{Type: mobileid.TypeMobileIDActive, Message: "the old one could not be locked"}
	for _, row := range []struct {
		name   string
		record func(id string) mobileid.Record
		tells  mobileid.FailureType // empty: nobody is told
	}{
		{"cancelled", func(id string) mobileid.Record { return exit(id, mobileid.EventCancelled, nil) }, mobileid.FailureCancelled},
		{"failed", func(id string) mobileid.Record { return exit(id, mobileid.EventRefused, active) }, mobileid.FailureMobileIDActive},
		{"before Next", func(id string) mobileid.Record {
			r := exit(id, mobileid.EventCancelled, nil)
			r.RequestedAt, r.Owner = time.Time{}, ""
			return r
		}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			eachNoticing(t, everyNotice, func(t *testing.T, s *Store, _ database) {
				create(t, s, "mid-old", mobileid.Locked)
				id := grant(t, s, "anna")
				record := row.record(id)
				for range 2 { // a repeat tells nobody again
					_, err := s.Record(t.Context(), record)
					require.NoError(t, err)
				}
				if row.tells == "" {
					requireNotices(t, s, id)
					return
				}
				all := requireNotices(t, s, id, "getFailed to a@example.org", "getFailed to anna@example.com")
				require.Equal(t, NoticeFacts{
					UserName: "Anna", WorkflowID: record.Process.WorkflowID, ByOwner: true, RequestedAt: requested, EndedAt: record.At,
					Failure: row.tells, NothingMade: true, OldLocked: true,
				}, all[0].facts)
				report, err := s.VerifyAudit(t.Context(), "", nil, nil)
				require.NoError(t, err)
				require.Empty(t, report.Faults)
			})
		})
	}
}

func TestNoticeOfAFailedGetTellsOfTheOldOne(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(t *testing.T, s *Store)
		locked  bool
	}{
		"none before":        {func(*testing.T, *Store) {}, false},
		"one that is locked": {func(t *testing.T, s *Store) { create(t, s, "mid-1", mobileid.Locked) }, true},
		"one that never came up": {func(t *testing.T, s *Store) {
			_, _ = s.Abandon(t.Context(), abandonment(register(t, s, "anna"), "run-0"))
		}, false},
		"another one's": {func(t *testing.T, s *Store) {
			create(t, s, "mid-1", mobileid.Locked)
			require.NoError(t, s.ChangeOwner(t.Context(), "mid-1", "otto"))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			eachNoticing(t, everyNotice, func(t *testing.T, s *Store, _ database) {
				test.prepare(t, s)
				id := register(t, s, "anna")
				_, err := s.Abandon(t.Context(), abandonment(id, "run-1"))
				require.NoError(t, err)
				require.Equal(t, test.locked, outbox(t, s, id)[0].facts.OldLocked)

				if test.locked {
					id = register(t, s, "anna")
					create(t, s, "mid-2", mobileid.Inactive)
					_, err = s.Abandon(t.Context(), abandonment(id, "run-1"))
					require.NoError(t, err)
					require.False(t, outbox(t, s, id)[0].facts.OldLocked, "the user has one")
				}
			})
		})
	}
}

// The code goes to the main address alone, and is in the outbox at no time.
func TestNoticeOfTheCode(t *testing.T) {
	eachNoticing(t, everyNotice, func(t *testing.T, s *Store, db database) {
		id := register(t, s, "anna")
		p := provisioning(id, "anna", "c-1")
		require.NoError(t, s.PutProvisioning(t.Context(), p))
		require.NoError(t, s.PutProvisioning(t.Context(), p))
		first := requireNotices(t, s, id, "getQR to anna@example.com")
		require.NotContains(t, strings.Join(dump(t, s)["outbox"], "\n"), "hunter")
		require.Equal(t, "c-1", first[0].facts.CommandID)
		found, err := s.Scannable(t.Context(), id, "c-1")
		require.NoError(t, err)
		require.Equal(t, p, found)

		// Another try of the process has another code.
		require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-2")))
		requireNotices(t, s, id, "getQR to anna@example.com", "getQR to anna@example.com")
		none := func(command string) {
			t.Helper()
			_, err := s.Scannable(t.Context(), id, command)
			require.ErrorIs(t, err, mobileid.ErrNoProvisioning)
		}
		none("c-1")
		_, err = s.Scannable(t.Context(), id, "c-2")
		require.NoError(t, err)
		_, err = s.Deliver(t.Context(), "c-2", KindProvision, []byte(secretAnswer))
		require.NoError(t, err)
		none("c-2")

		require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-3")))
		db.clock.advance(5 * time.Minute)
		none("c-3")
		require.NotContains(t, fmt.Sprint(dump(t, s)["provisionings"]), "hunter", "and it is deleted")
	})
}
