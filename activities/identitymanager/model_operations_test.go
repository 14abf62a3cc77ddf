package identitymanager

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mobileid"
)

// only is an operation whose answer has a kind alone.
func only(name string, call func(ctx context.Context, s *Store) error, model func(w *world) string) operation {
	return operation{
		name:  name,
		call:  func(ctx context.Context, s *Store) answer { return answer{kind: kindOf(call(ctx, s))} },
		model: func(w *world, _ answer) answer { return answer{kind: model(w)} },
	}
}

// firstTime notes that a process has done something, and reports whether it has not
// before.
func (m *modelMobileID) firstTime(what string) bool {
	_, done := m.once[what]
	if !done {
		m.once[what] = m.state
	}
	return !done
}

// become turns the certificates of one state into another.
func (m *modelMobileID) become(state mobileid.State, from, to mobileid.CertificateState) {
	m.state = state
	for serial, s := range m.certificates {
		if s == from {
			m.certificates[serial] = to
		}
	}
}

func grantOperation(user string) operation {
	return operation{
		name: "grant " + user,
		call: func(ctx context.Context, s *Store) answer {
			granted, err := s.PutGrant(ctx, user, "portal", time.Hour)
			return answer{kind: kindOf(err), granted: granted.MobileID}
		},
		model: func(w *world, seen answer) answer {
			w.grants[user] = seen.granted
			w.mobileIDs[seen.granted] = &modelMobileID{owner: user, events: []mobileid.Event{mobileid.EventGranted},
				certificates: map[string]mobileid.CertificateState{}, once: map[string]mobileid.State{}}
			return answer{kind: ok, granted: seen.granted}
		},
	}
}

func registerOperation(id, user, run string) operation {
	return only(fmt.Sprintf("register %s for %s, %s", id, user, run), func(ctx context.Context, s *Store) error {
		_, err := s.Register(ctx, registration(id, user, run))
		return err
	}, func(w *world) string {
		m := w.mobileIDs[id]
		if _, done := m.once["register "+run]; done {
			return ok
		}
		switch {
		case !w.entitled[user] || w.grants[user] != id:
			return notEntitled
		case w.live(user, ""):
			return hasOne
		}
		m.firstTime("register " + run)
		delete(w.grants, user)
		m.state = mobileid.Registered
		m.events = append(m.events, mobileid.EventRegistered)
		return ok
	})
}

func issueOperation(id, run, serial string) operation {
	return only(fmt.Sprintf("issue %s for %s, %s", serial, id, run), func(ctx context.Context, s *Store) error {
		_, err := s.RecordIssued(ctx, issue(id, run, serial))
		return err
	}, func(w *world) string {
		m := w.mobileIDs[id]
		if _, done := m.once["issue "+serial]; done {
			return ok
		}
		if m.state != mobileid.Registered && m.state != mobileid.Locked {
			return conflict
		}
		m.firstTime("issue " + serial)
		m.certificates[serial] = mobileid.CertificateIssued
		m.events = append(m.events, mobileid.EventIssued)
		return ok
	})
}

func activateOperation(id, user, run string) operation {
	return only(fmt.Sprintf("activate %s for %s, %s", id, user, run), func(ctx context.Context, s *Store) error {
		_, err := s.Activate(ctx, activation(id, user, run))
		return err
	}, func(w *world) string {
		m := w.mobileIDs[id]
		if _, done := m.once["activate "+run]; done {
			return ok
		}
		switch {
		case m.state != mobileid.Registered || m.owner != user:
			return conflict
		case !w.entitled[user]:
			return notEntitled
		case w.live(user, id):
			return hasOne
		}
		issued := false
		for _, state := range m.certificates {
			issued = issued || state == mobileid.CertificateIssued
		}
		if !issued {
			return conflict
		}
		m.firstTime("activate " + run)
		m.become(mobileid.Active, mobileid.CertificateIssued, mobileid.CertificateValid)
		m.events = append(m.events, mobileid.EventActivated)
		return ok
	})
}

func abandonOperation(id, run string) operation {
	return only(fmt.Sprintf("abandon %s, %s", id, run), func(ctx context.Context, s *Store) error {
		_, err := s.Abandon(ctx, abandonment(id, run))
		return err
	}, func(w *world) string {
		m := w.mobileIDs[id]
		if _, done := m.once["abandon "+run]; done {
			return ok
		}
		if m.state != mobileid.Registered && m.state != mobileid.Locked {
			return conflict
		}
		m.firstTime("abandon " + run)
		if m.state == mobileid.Registered {
			m.requestedAt = microseconds(start)
		}
		m.state = mobileid.Locked
		m.events = append(m.events, mobileid.EventAbandoned)
		return ok
	})
}

func lockOperation(id, owner string, process mobileid.Process, decision mobileid.Decision) operation {
	o := order(id, process.RunID)
	o.Owner, o.Process, o.Decision = owner, process, decision
	o.RequestedAt = microseconds(start.Add(-time.Minute * time.Duration(len(process.Name)+int(process.RunID[len(process.RunID)-1]))))
	once := process.WorkflowID + process.RunID
	return operation{
		name: fmt.Sprintf("%s of %s for %s, %s", process.Name, id, owner, process.RunID),
		call: func(ctx context.Context, s *Store) answer {
			receipt, err := s.Lock(ctx, o)
			return answer{kind: kindOf(err), from: receipt.From, asked: receipt.RequestedAt, open: strings.Join(serials(receipt.Certificates), " ")}
		},
		model: func(w *world, _ answer) answer {
			m := w.mobileIDs[id]
			from, done := m.once[once]
			if !done {
				if m.state == "" || m.state == mobileid.Registered || m.owner != owner {
					return answer{kind: conflict}
				}
				from = m.state
				m.firstTime(once)
				event := mobileid.EventResumed
				if m.state != mobileid.Locked {
					event, m.state, m.requestedAt = mobileid.EventLocked, mobileid.Locked, o.RequestedAt
				}
				m.events = append(m.events, event)
			}
			return answer{kind: ok, from: from, asked: m.requestedAt, open: strings.Join(m.open(), " ")}
		},
	}
}

func deactivateOperation(id string) operation {
	return only("deactivate "+id, func(ctx context.Context, s *Store) error { return s.Deactivate(ctx, id) }, func(w *world) string {
		m := w.mobileIDs[id]
		switch {
		case m.state == "":
			return notFound
		case !m.state.CanBecome(mobileid.Inactive):
			return transition
		}
		m.become(mobileid.Inactive, mobileid.CertificateValid, mobileid.CertificateOnHold)
		return ok
	})
}

func reactivateOperation(id string) operation {
	return only("reactivate "+id, func(ctx context.Context, s *Store) error { return s.Reactivate(ctx, id) }, func(w *world) string {
		m := w.mobileIDs[id]
		switch {
		case m.state == "":
			return notFound
		case m.state != mobileid.Inactive:
			return transition
		case w.live(m.owner, id):
			return hasOne
		}
		m.become(mobileid.Active, mobileid.CertificateOnHold, mobileid.CertificateValid)
		return ok
	})
}

func revokeOperation(id, run, serial string) operation {
	return only(fmt.Sprintf("revoke %s of %s, %s", serial, id, run), func(ctx context.Context, s *Store) error {
		_, err := s.RecordRevocations(ctx, revocation(id, run, revoked(serial)))
		return err
	}, func(w *world) string {
		m := w.mobileIDs[id]
		state, known := m.certificates[serial]
		if !known {
			return conflict
		}
		if !m.firstTime("revoke " + serial + " " + run) {
			return ok
		}
		if !state.Final() {
			m.certificates[serial] = mobileid.CertificateRevoked
		}
		m.events = append(m.events, mobileid.EventRevoked)
		return ok
	})
}

func entitleOperation(user string, entitled bool) operation {
	return only(fmt.Sprintf("entitle %s: %v", user, entitled), func(ctx context.Context, s *Store) error {
		return s.PutUser(ctx, mobileid.User{ID: user, Active: entitled, Roles: []string{mobileid.SelfServiceRole}}, user+"@example.com")
	}, func(w *world) string {
		w.entitled[user] = entitled
		return ok
	})
}
