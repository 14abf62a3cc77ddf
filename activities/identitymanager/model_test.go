package identitymanager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mobileid"
	"mobileid/proptest"
)

// The store against a model of it: everything that processes, operators and other
// programs do to mobile IDs, in random order, one after the other and at once. After
// each step the store holds what the model holds, and at the end the audit is whole.
//
// What was done at once must have been done in some order: the model looks for one in
// which every answer and the state at the end come out as they did.
func TestStoreIsLikeItsModel(t *testing.T) {
	checks := map[string]string{SQLite: "25", Postgres: "3"}
	eachStore(t, func(t *testing.T, s *Store, db database) {
		proptest.Checks(t, checks[s.dialect.name])
		stores := []*Store{s, db.open(t)}
		cases := 0
		rapid.Check(t, func(rt *rapid.T) {
			cases++
			m := newMachine(t, rt, stores, fmt.Sprintf("case-%d", cases))
			rt.Repeat(map[string]func(*rapid.T){
				"":        m.compare,
				"one":     func(rt *rapid.T) { m.together(rt, 1) },
				"get":     m.get,
				"several": func(rt *rapid.T) { m.together(rt, rapid.IntRange(2, 4).Draw(rt, "callers")) },
			})
			m.requireAudit(rt)
		})
		report, err := s.VerifyAudit(t.Context(), "", nil, nil)
		require.NoError(t, err)
		require.Empty(t, report.Faults)
	})
}

// modelMobileID is what the model knows of a mobile ID.
type modelMobileID struct {
	owner        string
	state        mobileid.State // empty: granted only
	requestedAt  time.Time      // of the lock that stands
	certificates map[string]mobileid.CertificateState
	events       []mobileid.Event
	once         map[string]mobileid.State // what a process has done once; of a lock, the state before
}

func (m *modelMobileID) open() []string {
	var open []string
	for serial, state := range m.certificates {
		if !state.Final() {
			open = append(open, serial)
		}
	}
	slices.Sort(open)
	return open
}

func (m *modelMobileID) live() bool {
	return m.state == mobileid.Active || m.state == mobileid.Registered || m.state != "" && len(m.open()) > 0
}

// world is what the model knows of all.
type world struct {
	mobileIDs map[string]*modelMobileID
	entitled  map[string]bool   // users
	grants    map[string]string // the open one of each user
}

func (w *world) clone() *world {
	c := &world{mobileIDs: map[string]*modelMobileID{}, entitled: maps.Clone(w.entitled), grants: maps.Clone(w.grants)}
	for id, m := range w.mobileIDs {
		copied := *m
		copied.certificates, copied.once, copied.events = maps.Clone(m.certificates), maps.Clone(m.once), slices.Clone(m.events)
		c.mobileIDs[id] = &copied
	}
	return c
}

// live reports whether a user has a mobile ID that stands in the way of another.
func (w *world) live(user, but string) bool {
	for id, m := range w.mobileIDs {
		if id != but && m.owner == user && m.live() {
			return true
		}
	}
	return false
}

// answer is what a caller is told, as far as the model foretells it.
type answer struct {
	kind    string         // ok, or the kind of the error
	granted string         // the new mobile ID of a grant
	from    mobileid.State // of a lock
	asked   time.Time      // of a lock
	open    string         // serials, of a lock
}

// The kinds of answers.
const (
	ok          = "ok"
	conflict    = "conflict"
	transition  = "transition"
	notFound    = "not found"
	notEntitled = "not entitled"
	hasOne      = "has an active one"
)

func kindOf(err error) string {
	var atOdds *mobileid.ConflictError
	var noWay *mobileid.TransitionError
	switch {
	case err == nil:
		return ok
	case errors.As(err, &atOdds):
		return conflict
	case errors.As(err, &noWay):
		return transition
	case errors.Is(err, mobileid.ErrMobileIDNotFound):
		return notFound
	case errors.Is(err, mobileid.ErrNotEntitled):
		return notEntitled
	case errors.Is(err, mobileid.ErrMobileIDActive):
		return hasOne
	}
	return err.Error()
}

// operation is one call, with what it does to the model. To add another writer, for
// example one that takes over what a CRL lists, add a case to [machine.draw].
type operation struct {
	name  string
	call  func(ctx context.Context, s *Store) answer
	model func(w *world, seen answer) answer
}

// machine drives stores and model side by side.
type machine struct {
	t       *testing.T
	stores  []*Store
	world   *world
	users   []string
	ids     []string
	runs    []string
	serials int
	prefix  string
}

func newMachine(t *testing.T, rt *rapid.T, stores []*Store, prefix string) *machine {
	m := &machine{t: t, stores: stores, prefix: prefix, runs: []string{"run-1", "run-2", "run-3"},
		world: &world{mobileIDs: map[string]*modelMobileID{}, entitled: map[string]bool{}, grants: map[string]string{}}}
	for _, user := range []string{"anna", "otto"} {
		user = prefix + "-" + user
		m.users = append(m.users, user)
		putUsers(t, stores[0], user)
		m.world.entitled[user] = true
	}
	m.createOld(rt, prefix+"-old")
	return m
}

// createOld makes a mobile ID that somebody has from before, with any certificates.
func (m *machine) createOld(rt *rapid.T, id string) {
	old := mobileid.MobileID{ID: id, Owner: mobileid.User{ID: m.users[0]}, State: mobileid.Active}
	known := &modelMobileID{owner: m.users[0], state: mobileid.Active, certificates: map[string]mobileid.CertificateState{}, once: map[string]mobileid.State{}}
	states := []mobileid.CertificateState{mobileid.CertificateValid, mobileid.CertificateOnHold, mobileid.CertificateRevoked, mobileid.CertificateExpired}
	for _, state := range rapid.SliceOfN(rapid.SampledFrom(states), 0, 3).Draw(rt, "certificates of the old one") {
		serial := m.serial()
		old.Certificates = append(old.Certificates, certificate(serial, state))
		known.certificates[serial] = state
	}
	require.NoError(rt, m.stores[0].CreateMobileID(m.t.Context(), old))
	m.ids = append(m.ids, id)
	m.world.mobileIDs[id] = known
	if rapid.Bool().Draw(rt, "the old one is inactive") {
		require.Equal(rt, ok, deactivateOperation(id).call(m.t.Context(), m.stores[0]).kind)
		deactivateOperation(id).model(m.world, answer{})
	}
}

// serial is one that no other certificate of the store has.
func (m *machine) serial() string {
	m.serials++
	var number, item int
	_, _ = fmt.Sscanf(m.prefix, "case-%d", &number)
	item = m.serials
	return fmt.Sprintf("1%06x%04x", number, item)
}

// draw makes one operation up.
func (m *machine) draw(rt *rapid.T) operation {
	id := rapid.SampledFrom(m.ids).Draw(rt, "mobile ID")
	user := rapid.SampledFrom(m.users).Draw(rt, "user")
	run := rapid.SampledFrom(m.runs).Draw(rt, "run")
	owner := m.world.mobileIDs[id].owner
	if rapid.IntRange(0, 3).Draw(rt, "whose") > 0 {
		user = owner
	}
	switch what := rapid.SampledFrom([]string{"grant", "register", "register", "issue", "issue", "activate", "activate", "abandon", "lock",
		"operator's lock", "deactivate", "reactivate", "revoke", "revoke", "entitle"}).Draw(rt, "what"); what {
	case "grant":
		return grantOperation(user)
	case "register":
		return registerOperation(id, user, run)
	case "issue":
		return issueOperation(id, run, m.serial())
	case "activate":
		return activateOperation(id, user, run)
	case "abandon":
		return abandonOperation(id, run)
	case "lock":
		return lockOperation(id, user, process(run), mobileid.Decision{UserID: user})
	case "operator's lock":
		byOperator := mobileid.Process{Name: "MobileIDProcLockForOperator", WorkflowID: "MobileIDSelfServiceProcLock/" + id, RunID: run}
		return lockOperation(id, owner, byOperator, mobileid.Decision{By: "olof"})
	case "deactivate":
		return deactivateOperation(id)
	case "reactivate":
		return reactivateOperation(id)
	case "revoke":
		known := slices.Sorted(maps.Keys(m.world.mobileIDs[id].certificates))
		return revokeOperation(id, run, rapid.SampledFrom(append(known, "ffff")).Draw(rt, "serial"))
	default:
		return entitleOperation(user, rapid.Bool().Draw(rt, "entitled"))
	}
}

// get is what a whole Get does, which random steps seldom come to the end of.
func (m *machine) get(rt *rapid.T) {
	user := rapid.SampledFrom(m.users).Draw(rt, "user")
	m.perform(rt, grantOperation(user))
	id := m.ids[len(m.ids)-1]
	m.perform(rt, registerOperation(id, user, m.runs[0]))
	m.perform(rt, issueOperation(id, m.runs[0], m.serial()))
	m.perform(rt, activateOperation(id, user, m.runs[0]))
}

// together does some things at once.
func (m *machine) together(rt *rapid.T, n int) {
	operations := make([]operation, n)
	for i := range operations {
		operations[i] = m.draw(rt)
		if n > 1 && i > 0 && rapid.IntRange(0, 3).Draw(rt, "the same again") == 0 {
			operations[i] = operations[0]
		}
	}
	m.perform(rt, operations...)
}

func (m *machine) perform(rt *rapid.T, operations ...operation) {
	n := len(operations)
	answers := make([]answer, n)
	together(m.t, n, func(i int) error {
		answers[i] = operations[i].call(m.t.Context(), m.stores[i%len(m.stores)])
		return nil
	})
	for i, a := range answers {
		rt.Logf("%s: %+v", operations[i].name, a)
		if a.granted != "" {
			m.ids = append(m.ids, a.granted)
		}
	}
	after := m.explain(rt, operations, answers)
	m.requireOneWay(rt, after)
	m.world = after
}

// explain finds an order in which the model gives the same answers, and is like the
// store at the end.
func (m *machine) explain(rt *rapid.T, operations []operation, answers []answer) *world {
	stored := m.read(rt)
	var why []string
	for order := range permutations(len(operations)) {
		w := m.world.clone()
		matches := true
		for _, i := range order {
			if told := operations[i].model(w, answers[i]); told != answers[i] {
				why = append(why, fmt.Sprintf("%v: %s should be answered %+v", order, operations[i].name, told))
				matches = false
				break
			}
		}
		if !matches {
			continue
		}
		if expected := w.String(); expected != stored {
			why = append(why, fmt.Sprintf("%v: the store should hold\n%s\nand holds\n%s", order, expected, stored))
			continue
		}
		return w
	}
	require.Fail(rt, "no order of what was done explains the answers and the state", strings.Join(why, "\n"))
	return nil
}

// permutations yields the orders of n things.
func permutations(n int) func(yield func([]int) bool) {
	return func(yield func([]int) bool) {
		var extend func(order []int) bool
		extend = func(order []int) bool {
			if len(order) == n {
				return yield(slices.Clone(order))
			}
			for i := range n {
				if !slices.Contains(order, i) && !extend(append(order, i)) {
					return false
				}
			}
			return true
		}
		extend(nil)
	}
}

// requireOneWay checks what no step may do: final states stay, and nobody has two
// active mobile IDs.
func (m *machine) requireOneWay(rt *rapid.T, after *world) {
	active := map[string]string{}
	for id, now := range after.mobileIDs {
		if before := m.world.mobileIDs[id]; before != nil {
			require.True(rt, !before.state.Final() || now.state == before.state, "%s is %s, and was %s", id, now.state, before.state)
			for serial, state := range before.certificates {
				require.True(rt, !state.Final() || now.certificates[serial] == state, "%s of %s", serial, id)
			}
		}
		if now.state == mobileid.Active {
			require.Empty(rt, active[now.owner], "%s has two active mobile IDs", now.owner)
			active[now.owner] = id
		}
	}
}

// compare checks that the store holds what the model holds.
func (m *machine) compare(rt *rapid.T) { require.Equal(rt, m.world.String(), m.read(rt)) }

// String is all of it, in the form in which read returns what the store holds.
func (w *world) String() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(w.mobileIDs)) {
		m := w.mobileIDs[id]
		fmt.Fprintf(&b, "%s: %q %v %v\n", id, m.state, m.certificates, m.events)
	}
	for _, user := range slices.Sorted(maps.Keys(w.entitled)) {
		fmt.Fprintf(&b, "%s: %v, may get %q\n", user, w.entitled[user], w.grants[user])
	}
	return b.String()
}

func (m *machine) read(rt *rapid.T) string {
	seen := &world{mobileIDs: map[string]*modelMobileID{}, entitled: map[string]bool{}, grants: map[string]string{}}
	for _, id := range m.ids {
		trail, err := m.stores[0].AuditTrail(m.t.Context(), id)
		require.NoError(rt, err)
		read := &modelMobileID{certificates: map[string]mobileid.CertificateState{}}
		for _, r := range trail {
			read.events = append(read.events, r.Record.Event)
		}
		seen.mobileIDs[id] = read
	}
	for _, user := range m.users {
		a, err := m.stores[1].Applicant(m.t.Context(), user)
		require.NoError(rt, err)
		seen.entitled[user] = a.User.Active
		if a.Grant != nil {
			seen.grants[user] = a.Grant.MobileID
		}
		for _, stored := range a.MobileIDs {
			read := seen.mobileIDs[stored.ID]
			require.NotNil(rt, read, "%s is in the store, and nobody was granted it", stored.ID)
			read.state = stored.State
			for _, c := range stored.Certificates {
				read.certificates[c.Serial] = c.State
			}
		}
	}
	return seen.String()
}

func (m *machine) requireAudit(rt *rapid.T) {
	for _, id := range m.ids {
		report, err := m.stores[0].VerifyAudit(m.t.Context(), id, nil, nil)
		require.NoError(rt, err)
		require.Empty(rt, report.Faults)
	}
}
