package crlpush_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/crlpush"
	"mobileid/activities/identitymanager"
)

const (
	valid   = mobileid.CertificateValid
	issued  = mobileid.CertificateIssued
	onHold  = mobileid.CertificateOnHold
	expired = mobileid.CertificateExpired
	revoked = mobileid.CertificateRevoked
)

type states = map[int64]mobileid.CertificateState

// Complete and delta CRLs bring what the CA did: revoked, on hold, and off it again.
func TestTakeCompleteAndDelta(t *testing.T) {
	eachDatabase(t, func(t *testing.T, p *place) {
		p.mobileID("mid-1", states{11: valid, 12: valid, 13: issued, 14: expired, 15: valid})
		p.mobileID("mid-2", states{21: valid})
		taken := p.take(list{number: 5, reasons: map[int64]int{11: 1, 12: 6, 13: 6, 14: 1, 99: 1}})
		require.Equal(t, crlpush.Taken{CA: "cm", Number: "5", Entries: 5, Revoked: 1, OnHold: 1}, taken)
		require.Equal(t, states{11: revoked, 12: onHold, 13: issued, 14: expired, 15: valid}, p.states("mid-1"))
		require.Equal(t, states{21: valid}, p.states("mid-2"))
		m, err := p.store.MobileID(t.Context(), "mid-1")
		require.NoError(t, err)
		require.Equal(t, mobileid.Active, m.State, "nobody has pressed Next")
		require.Equal(t, []mobileid.Event{mobileid.EventRevoked, mobileid.EventOnHold}, p.events("mid-1"))
		require.Empty(t, p.events("mid-2"))
		trail, err := p.store.AuditTrail(t.Context(), "mid-1")
		require.NoError(t, err)
		record := trail[0].Record
		require.Equal(t, crlpush.Process, record.Process.Name)
		require.Equal(t, "cm", record.CA)
		require.Equal(t, mobileid.KeyCompromise, record.Certificates[0].ReasonAtCA)
		require.Equal(t, mobileid.OutcomeAlreadyRevoked, record.Certificates[0].Outcome)
		require.Equal(t, mobileid.ProofFromCRL, record.Certificates[0].Proof[0].Source)
		require.Equal(t, "5", record.Certificates[0].Proof[0].Number)

		taken = p.take(list{number: 7, base: 5, reasons: map[int64]int{12: 8, 15: 6, 13: 4, 11: 8}})
		require.Equal(t, crlpush.Taken{CA: "cm", Number: "7", Delta: true, Entries: 4, Revoked: 1, OnHold: 1, Released: 1}, taken)
		require.Equal(t, states{11: revoked, 12: valid, 13: revoked, 14: expired, 15: onHold}, p.states("mid-1"), "revoked is final")

		require.Zero(t, p.take(list{number: 8, base: 7}).Released, "a delta CRL says nothing of what it does not list")
		require.Equal(t, onHold, p.states("mid-1")[15])

		// A complete one says by leaving it out that it is not on hold any more.
		taken = p.take(list{number: 9, reasons: map[int64]int{11: 1, 13: 4}})
		require.Equal(t, 1, taken.Released)
		require.Equal(t, states{11: revoked, 12: valid, 13: revoked, 14: expired, 15: valid}, p.states("mid-1"))
		p.events("mid-1")
	})
}

// What is on hold because an operator has deactivated it is none of a CRL's business.
func TestTakeLeavesDeactivated(t *testing.T) {
	eachDatabase(t, func(t *testing.T, p *place) {
		p.mobileID("mid-1", states{11: valid, 12: valid})
		require.NoError(t, p.store.Deactivate(t.Context(), "mid-1"))
		require.Zero(t, p.take(list{number: 1}).Released)
		require.Zero(t, p.take(list{number: 2, base: 1, reasons: map[int64]int{11: 8}}).Released)
		require.Equal(t, states{11: onHold, 12: onHold}, p.states("mid-1"))
		require.Equal(t, 1, p.take(list{number: 3, base: 1, reasons: map[int64]int{11: 5}}).Revoked)
		require.NoError(t, p.store.Reactivate(t.Context(), "mid-1"))
		require.Equal(t, states{11: revoked, 12: valid}, p.states("mid-1"))
	})
}

// Nothing in a CRL undoes a lock.
func TestTakeUndoesNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, p *place) {
		p.mobileID("mid-1", states{11: valid, 12: valid})
		p.take(list{number: 1, reasons: map[int64]int{11: 6, 12: 6}})
		_, err := p.store.Lock(t.Context(), lockOrder("mid-1"))
		require.NoError(t, err)
		p.take(list{number: 2, base: 1, reasons: map[int64]int{11: 8}})
		p.take(list{number: 3})
		m, err := p.store.MobileID(t.Context(), "mid-1")
		require.NoError(t, err)
		require.Equal(t, mobileid.Locked, m.State)
		require.Equal(t, states{11: onHold, 12: onHold}, p.states("mid-1"))
		p.take(list{number: 4, reasons: map[int64]int{11: 1, 12: 1}})
		p.take(list{number: 5})
		require.Equal(t, states{11: revoked, 12: revoked}, p.states("mid-1"))
	})
}

// The same CRL can come twice, and after a restart; an older one cannot, whatever it is.
func TestTakeNumbers(t *testing.T) {
	eachDatabase(t, func(t *testing.T, p *place) {
		p.mobileID("mid-1", states{11: valid, 12: valid, 13: valid})
		base := &identitymanager.CRLBaseError{}
		stale := &identitymanager.StaleCRLError{}
		refuse := func(l list, as any) {
			t.Helper()
			before := p.states("mid-1")
			_, err := p.receiver.Take(t.Context(), p.issuer.sign(t, l))
			require.ErrorAs(t, err, as)
			require.Equal(t, before, p.states("mid-1"))
		}
		refuse(list{number: 9, base: 8, reasons: map[int64]int{11: 1}}, &base)
		require.Empty(t, base.Have)
		fifth := list{number: 0x105, reasons: map[int64]int{11: 6}, thisUpdate: time.Now().Add(-2 * time.Minute)}
		p.take(fifth)
		require.Equal(t, crlpush.Taken{CA: "cm", Number: "105", Entries: 1}, p.take(fifth), "there is nothing left to do")
		p.receiver = p.newReceiver() // restarted
		refuse(list{number: 0x104, reasons: map[int64]int{11: 1}}, &stale)
		require.Equal(t, "105", stale.Seen)
		refuse(list{number: 0x9}, &stale)
		older := fifth
		older.thisUpdate = fifth.thisUpdate.Add(-time.Minute)
		refuse(older, &stale)
		refuse(list{number: 0x108, base: 0x106, reasons: map[int64]int{11: 1}}, &base)
		require.Equal(t, "105", base.Have)
		require.Equal(t, 1, p.take(list{number: 0x106, base: 0x105, reasons: map[int64]int{12: 1}}).Revoked)
		require.Equal(t, 1, p.take(list{number: 0x108, base: 0x106, reasons: map[int64]int{13: 1}}).Revoked)
	})
}

// One that was left in the middle is no base, until it comes again.
func TestTakeLeftInTheMiddle(t *testing.T) {
	eachDatabase(t, func(t *testing.T, p *place) {
		p.mobileID("mid-1", states{11: valid, 12: valid})
		p.take(list{number: 1})
		crl, err := p.cas.ReadPushed(p.issuer.sign(t, list{number: 2}), time.Now())
		require.NoError(t, err)
		require.NoError(t, p.store.BeginCRL(t.Context(), identitymanager.CRLMark{
			Issuer: mobileid.HashName(p.issuer.cert.RawSubject), AKI: hexKey(p.issuer.cert), Number: crl.Number, ThisUpdate: crl.ThisUpdate,
		}))
		_, err = p.receiver.Take(t.Context(), p.issuer.sign(t, list{number: 3, base: 2, reasons: map[int64]int{11: 1}}))
		base := &identitymanager.CRLBaseError{}
		require.ErrorAs(t, err, &base)
		require.Equal(t, 1, p.take(list{number: 2, reasons: map[int64]int{12: 1}}).Revoked)
		require.Equal(t, 1, p.take(list{number: 3, base: 2, reasons: map[int64]int{11: 1}}).Revoked)
	})
}

// A CRL of one distribution point says something of the certificates that name it, and is
// numbered for itself.
func TestTakePartial(t *testing.T) {
	p := sqlitePlace(t)
	const here, there = "http://crl.example.com/1.crl", "http://crl.example.com/2.crl"
	p.mobileID("mid-1", states{11: valid}, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{here} })
	p.mobileID("mid-2", states{21: valid}, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{there} })
	reasons := map[int64]int{11: 1, 21: 1}
	require.Equal(t, 1, p.take(list{number: 9, reasons: reasons, extensions: point(t, here)}).Revoked)
	require.Equal(t, states{21: valid}, p.states("mid-2"))
	require.Equal(t, 1, p.take(list{number: 2, reasons: reasons, extensions: point(t, there)}).Revoked)
	require.Equal(t, states{21: revoked}, p.states("mid-2"))
}

// point is an IssuingDistributionPoint.
func point(t testing.TB, url string) []pkix.Extension {
	t.Helper()
	type name struct {
		Full []asn1.RawValue `asn1:"optional,tag:0"`
	}
	value, err := asn1.Marshal(struct {
		Name name `asn1:"optional,tag:0"`
	}{name{[]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(url)}}}})
	require.NoError(t, err)
	return []pkix.Extension{{Id: oidIDP, Critical: true, Value: value}}
}

// What is not believed changes nothing, and says why.
func TestTakeRefused(t *testing.T) {
	p := sqlitePlace(t)
	p.mobileID("mid-1", states{11: valid})
	other, twin := newIssuer(t, "Another CA"), newIssuer(t, "Issuing CA")
	good := map[int64]int{11: 1}
	flag := func(tag int) []pkix.Extension {
		value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte{0xff}}})
		require.NoError(t, err)
		return []pkix.Extension{{Id: oidIDP, Critical: true, Value: value}}
	}
	whole := p.issuer.sign(t, list{number: 1, reasons: good})
	altered := append([]byte(nil), whole...)
	altered[len(altered)-1] ^= 1
	for name, test := range map[string]struct {
		document []byte
		problem  ca.PushProblem
	}{
		"nothing":           {nil, ca.PushMalformed},
		"garbage":           {[]byte("<html>not found</html>"), ca.PushMalformed},
		"PEM of else":       {[]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), ca.PushMalformed},
		"cut off":           {whole[:len(whole)-3], ca.PushMalformed},
		"with a tail":       {append(append([]byte(nil), whole...), 0), ca.PushMalformed},
		"unknown issuer":    {other.sign(t, list{number: 1, reasons: good}), ca.PushUnknownIssuer},
		"bad signature":     {altered, ca.PushBadSignature},
		"another key":       {twin.sign(t, list{number: 1, reasons: good}), ca.PushBadSignature},
		"expired":           {p.issuer.sign(t, list{number: 1, reasons: good, thisUpdate: time.Now().Add(-2 * time.Hour), nextUpdate: time.Now().Add(-time.Hour)}), ca.PushExpired},
		"of the future":     {p.issuer.sign(t, list{number: 1, reasons: good, thisUpdate: time.Now().Add(30 * time.Minute)}), ca.PushEarly},
		"indirect":          {p.issuer.sign(t, list{number: 1, reasons: good, extensions: flag(4)}), ca.PushNotAccepted},
		"of CAs":            {p.issuer.sign(t, list{number: 1, reasons: good, extensions: flag(2)}), ca.PushNotAccepted},
		"of attributes":     {p.issuer.sign(t, list{number: 1, reasons: good, extensions: flag(5)}), ca.PushNotAccepted},
		"base after itself": {p.issuer.sign(t, list{number: 1, base: 2, reasons: good}), ca.PushNotAccepted},
		"unknown extension": {p.issuer.sign(t, list{number: 1, reasons: good, extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}}), ca.PushNotAccepted},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.receiver.Take(t.Context(), test.document)
			var refused *ca.PushError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, test.problem, refused.Problem, err)
			require.Equal(t, states{11: valid}, p.states("mid-1"))
		})
	}
	require.Equal(t, 1, p.take(list{number: 1, reasons: good}).Revoked, "what was refused has used up no number")
}

func lockOrder(id string) mobileid.LockOrder {
	return mobileid.LockOrder{
		MobileID: id, Owner: "anna", RequestedAt: time.Now(),
		Process: mobileid.Process{Name: "MobileIDSelfServiceProcLock", WorkflowID: "lock/" + id, RunID: "run"},
	}
}

// lock is what a lock does in Identity Manager, around its CA's revoking.
func (p *place) lock(id string) error {
	receipt, err := p.store.Lock(p.t.Context(), lockOrder(id))
	if err != nil || len(receipt.Certificates) == 0 {
		return err
	}
	order := mobileid.RevocationOrder{MobileID: id, CA: "cm", Process: lockOrder(id).Process}
	for _, c := range receipt.Certificates {
		order.Certificates = append(order.Certificates, mobileid.CertificateResult{
			CertificateID: c.CertificateID, NotAfter: c.NotAfter, CA: "cm", StatusAtCA: mobileid.StatusRevoked, Outcome: mobileid.OutcomeRevoked,
			RevokedAt: time.Now(), Proof: []mobileid.Proof{{Source: mobileid.ProofFromCA, At: time.Now(), SHA256: "00"}},
		})
	}
	_, err = p.store.RecordRevocations(p.t.Context(), order)
	return err
}

// A CRL beside a lock: whichever comes first, all ends as the lock wants it, and the
// audit is whole.
func TestTakeBesideALock(t *testing.T) {
	eachDatabase(t, func(t *testing.T, p *place) {
		all := states{11: valid, 12: valid}
		end := func(id string) {
			t.Helper()
			m, err := p.store.MobileID(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, mobileid.Locked, m.State)
			for serial, state := range p.states(id) {
				require.Equal(t, revoked, state, serial)
			}
			require.Contains(t, p.events(id), mobileid.EventLocked)
		}
		p.mobileID("push-first", all)
		p.take(list{number: 1, reasons: map[int64]int{11: 1, 12: 6}})
		require.NoError(t, p.lock("push-first"))
		end("push-first")

		p.mobileID("lock-first", states{21: valid, 22: valid})
		require.NoError(t, p.lock("lock-first"))
		p.take(list{number: 2, reasons: map[int64]int{11: 1, 12: 1, 21: 1, 22: 1}})
		end("lock-first")

		const rounds = 8
		for n := range int64(rounds) {
			id := "both-" + string(rune('a'+n))
			one, two := 100+2*n, 101+2*n
			p.mobileID(id, states{one: valid, two: valid})
			crl := p.issuer.sign(t, list{number: 10 + n, reasons: map[int64]int{one: 1, two: 6}})
			var group sync.WaitGroup
			var lockErr, takeErr error
			group.Go(func() { lockErr = p.lock(id) })
			group.Go(func() { _, takeErr = p.receiver.Take(t.Context(), crl) })
			group.Wait()
			require.NoError(t, lockErr)
			require.NoError(t, takeErr)
			end(id)
		}
	})
}
