package identitymanager

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// expectNoSecrets sees that none is left anywhere.
func expectNoSecrets(t *testing.T, s *Store) {
	t.Helper()
	everything := fmt.Sprint(dump(t, s))
	require.NotContains(t, everything, "hunter")
	require.NotContains(t, everything, "104 117 110 116 101 114", "hunter, as bytes are printed")
}

func TestProvisioning(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		id := register(t, s, "anna")
		_, err := s.Provisioning(t.Context(), id)
		require.ErrorIs(t, err, mobileid.ErrNoProvisioning)
		p := provisioning(id, "anna", "c-1")
		require.NoError(t, s.PutProvisioning(t.Context(), p))
		expectNothingWritten(t, s, func() {
			db.clock.advance(time.Minute)
			require.NoError(t, s.PutProvisioning(t.Context(), p))
		})
		has := func(want mobileid.Provisioning) {
			have, err := s.Provisioning(t.Context(), id)
			require.NoError(t, err)
			require.True(t, want == have, "the same in every field")
			have, err = s.ProvisioningOf(t.Context(), "anna")
			require.NoError(t, err)
			require.True(t, want == have)
		}
		has(p)
		for _, user := range []string{"otto", "nobody", "", "anna\x00"} {
			_, err := s.ProvisioningOf(t.Context(), user)
			require.ErrorIs(t, err, mobileid.ErrNoProvisioning, "%q", user)
		}
		for _, other := range []string{"mid-1", "", "mid 1"} {
			_, err := s.Provisioning(t.Context(), other)
			require.ErrorIs(t, err, mobileid.ErrNoProvisioning, "%q", other)
		}

		// New secrets under the same command, and then another command.
		p.Nonce, p.URI = "other nonce", "other URI"
		require.NoError(t, s.PutProvisioning(t.Context(), p))
		has(p)
		p.CommandID, p.ExpiresAt = "c-2", p.ExpiresAt.Add(time.Minute)
		require.NoError(t, s.PutProvisioning(t.Context(), p))
		has(p)
		expectNothingWritten(t, s, func() {
			isOrderError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-1")))
		})

		require.NoError(t, s.ChangeOwner(t.Context(), id, "otto"))
		for _, user := range []string{"anna", "otto"} {
			_, err = s.ProvisioningOf(t.Context(), user)
			require.ErrorIs(t, err, mobileid.ErrNoProvisioning, "nobody scans what was meant for another user")
		}
	})
}

func TestPutProvisioningRefuses(t *testing.T) {
	state := func(state mobileid.State) func(*testing.T, *Store, *mobileid.Provisioning) {
		return func(t *testing.T, s *Store, p *mobileid.Provisioning) {
			p.MobileID = "mid-1"
			create(t, s, p.MobileID, state)
		}
	}
	field := func(change func(*mobileid.Provisioning)) func(*testing.T, *Store, *mobileid.Provisioning) {
		return func(_ *testing.T, _ *Store, p *mobileid.Provisioning) { change(p) }
	}
	tests := map[string]struct {
		change   func(*testing.T, *Store, *mobileid.Provisioning)
		conflict string
		names    string
	}{
		"active":       {change: state(mobileid.Active), conflict: "is active by now"},
		"inactive":     {change: state(mobileid.Inactive), conflict: "is inactive by now"},
		"locked":       {change: state(mobileid.Locked), conflict: "is locked by now"},
		"gone":         {change: field(func(p *mobileid.Provisioning) { p.MobileID = "mid-1" }), conflict: "is gone"},
		"another user": {change: field(func(p *mobileid.Provisioning) { p.UserID = "otto" }), conflict: "belongs to another user"},
		"command of another mobile ID": {change: func(t *testing.T, s *Store, p *mobileid.Provisioning) {
			require.NoError(t, s.PutProvisioning(t.Context(), provisioning(register(t, s, "otto"), "otto", p.CommandID)))
		}, conflict: "uses the id of another command"},
		"answered command of another process": {change: func(t *testing.T, s *Store, p *mobileid.Provisioning) {
			require.NoError(t, s.PutProvisioning(t.Context(), *p))
			_, err := s.Deliver(t.Context(), p.CommandID, KindProvision, nil)
			require.NoError(t, err)
			p.WorkflowID = "other"
		}, conflict: "uses the id of another command"},
		"command of another kind": {change: func(t *testing.T, s *Store, p *mobileid.Provisioning) {
			require.NoError(t, s.PutCommand(t.Context(), certificateCommand(p.MobileID, p.CommandID)))
		}, conflict: "uses the id of another command"},
		"malformed mobile ID": {change: field(func(p *mobileid.Provisioning) { p.MobileID = "mid 1" }), names: "mobileId"},
		"no user":             {change: field(func(p *mobileid.Provisioning) { p.UserID = "" }), names: "userId"},
		"no workflow":         {change: field(func(p *mobileid.Provisioning) { p.WorkflowID = "" }), names: "workflowId"},
		"no command":          {change: field(func(p *mobileid.Provisioning) { p.CommandID = "" }), names: "commandId"},
		"no nonce":            {change: field(func(p *mobileid.Provisioning) { p.Nonce = "" }), names: "nonce"},
		"no URI":              {change: field(func(p *mobileid.Provisioning) { p.URI = "" }), names: "uri"},
		"nonce with NUL":      {change: field(func(p *mobileid.Provisioning) { p.Nonce += "\x00" }), names: "nonce"},
		"URI not UTF-8":       {change: field(func(p *mobileid.Provisioning) { p.URI += "\xff" }), names: "uri"},
		"no expiry":           {change: field(func(p *mobileid.Provisioning) { p.ExpiresAt = time.Time{} }), names: "expiresAt"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				p := provisioning(register(t, s, "anna"), "anna", "c-1")
				test.change(t, s, &p)
				expectNothingWritten(t, s, func() {
					err := s.PutProvisioning(t.Context(), p)
					require.Error(t, err)
					require.NotContains(t, err.Error(), "hunter")
					if test.conflict != "" {
						isConflict(t, err, test.conflict)
						return
					}
					require.ErrorIs(t, err, mobileid.ErrInvalidRequest)
					require.ErrorContains(t, err, fmt.Sprintf("%q", test.names))
				})
			})
		})
	}
}

// Once expired it is gone, for everybody who asks.
func TestProvisioningExpires(t *testing.T) {
	asks := map[string]func(*testing.T, *Store, string) error{
		"the process": func(t *testing.T, s *Store, id string) error {
			_, err := s.Provisioning(t.Context(), id)
			return err
		},
		"the user": func(t *testing.T, s *Store, _ string) error {
			_, err := s.ProvisioningOf(t.Context(), "anna")
			return err
		},
		"the clean-up": func(t *testing.T, s *Store, _ string) error {
			n, err := s.ForgetExpiredSecrets(t.Context())
			require.NoError(t, err)
			if n == 0 {
				return nil
			}
			require.Equal(t, 1, n)
			return mobileid.ErrNoProvisioning
		},
	}
	for name, ask := range asks {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, db database) {
				id := register(t, s, "anna")
				require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-1")))
				db.clock.advance(5*time.Minute - time.Microsecond)
				require.NoError(t, ask(t, s, id))
				require.Contains(t, fmt.Sprint(dump(t, s)), "hunter")
				db.clock.advance(time.Microsecond)
				require.ErrorIs(t, ask(t, s, id), mobileid.ErrNoProvisioning)
				expectNoSecrets(t, s)
				expectNothingWritten(t, s, func() {
					n, err := s.ForgetExpiredSecrets(t.Context())
					require.NoError(t, err)
					require.Zero(t, n)
				})
			})
		})
	}
}

// A worker that was down when the phone answered in time can still check the
// answer; but nobody can scan any more.
func TestAnsweredProvisioningIsKeptForTheProcess(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		id := register(t, s, "anna")
		p := provisioning(id, "anna", "c-1")
		require.NoError(t, s.PutProvisioning(t.Context(), p))
		_, err := s.Deliver(t.Context(), "c-1", KindProvision, []byte(secretAnswer))
		require.NoError(t, err)

		db.clock.advance(5*time.Minute + answerGrace - time.Microsecond)
		_, err = s.ProvisioningOf(t.Context(), "anna")
		require.ErrorIs(t, err, mobileid.ErrNoProvisioning)
		n, err := s.ForgetExpiredSecrets(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
		have, err := s.Provisioning(t.Context(), id)
		require.NoError(t, err)
		require.True(t, p == have)
		body, err := s.Answer(t.Context(), "c-1")
		require.NoError(t, err)
		require.Equal(t, secretAnswer, string(body))
		fresh := p
		fresh.Nonce, fresh.URI = "other nonce", "other URI"
		expectNothingWritten(t, s, func() {
			require.NoError(t, s.PutProvisioning(t.Context(), fresh), "what the phone has answered is what is checked")
		})

		db.clock.advance(time.Microsecond)
		n, err = s.ForgetExpiredSecrets(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = s.Provisioning(t.Context(), id)
		require.ErrorIs(t, err, mobileid.ErrNoProvisioning)
		_, err = s.Answer(t.Context(), "c-1")
		require.ErrorIs(t, err, mobileid.ErrNoAnswer)
		expectNoSecrets(t, s)
	})
}

func TestForgetSecrets(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		id := readyToActivate(t, s)
		require.NoError(t, s.PutCommand(t.Context(), certificateCommand(id, "c-2")))
		_, err := s.Deliver(t.Context(), "c-2", KindCertificate, []byte(secretAnswer))
		require.NoError(t, err)
		ottos := register(t, s, "otto")
		require.NoError(t, s.PutProvisioning(t.Context(), provisioning(ottos, "otto", "c-3")))

		require.NoError(t, s.ForgetSecrets(t.Context(), id))

		_, err = s.Provisioning(t.Context(), id)
		require.ErrorIs(t, err, mobileid.ErrNoProvisioning)
		for _, command := range []string{"c-1", "c-2"} {
			_, err = s.Answer(t.Context(), command)
			require.ErrorIs(t, err, mobileid.ErrNoAnswer)
		}
		_, err = s.Provisioning(t.Context(), ottos)
		require.NoError(t, err, "only its own")
		expectNothingWritten(t, s, func() {
			require.NoError(t, s.ForgetSecrets(t.Context(), id))
			require.NoError(t, s.ForgetSecrets(t.Context(), "mid-1"))
			require.ErrorIs(t, s.ForgetSecrets(t.Context(), "mid 1"), mobileid.ErrInvalidRequest)
		})
		require.NoError(t, s.ForgetSecrets(t.Context(), ottos))
		expectNoSecrets(t, s)
	})
}

// The version before deletes a mobile ID without knowing of secrets.
func TestSecretsGoWithTheMobileID(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		id := readyToActivate(t, s)
		require.NoError(t, s.DeleteMobileID(t.Context(), id))
		expectNoSecrets(t, s)
		delivery, err := s.Deliver(t.Context(), "c-1", KindProvision, nil)
		require.NoError(t, err)
		require.Equal(t, Delivery{Outcome: DeliveryUnknown}, delivery)
		report, err := s.VerifyAudit(t.Context(), "", nil, nil)
		require.NoError(t, err)
		require.Empty(t, report.Faults)
	})
}

func TestProvisioningIsNotPrinted(t *testing.T) {
	p := provisioning("mid-1", "anna", "c-1")
	outer := struct {
		Provisioning *mobileid.Provisioning
		List         []mobileid.Provisioning
		Map          map[string]any
	}{&p, []mobileid.Provisioning{p}, map[string]any{"p": p, "q": &p}}
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		texts = append(texts, fmt.Sprintf(verb, p), fmt.Sprintf(verb, &p), fmt.Sprintf(verb, outer), fmt.Sprintf(verb, []any{p}))
	}
	encoded, err := json.Marshal(outer)
	require.NoError(t, err)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "p", p, "q", &p)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "p", p, "q", &p)
	texts = append(texts, string(encoded), log.String(), p.String(), p.GoString(), fmt.Errorf("%v", p).Error())
	for _, text := range texts {
		require.NotContains(t, text, "hunter")
		require.NotContains(t, text, fmt.Sprintf("%x", "hunter"))
	}
	require.Contains(t, log.String(), "mid-1")
}

// Whatever goes wrong, and whatever is recorded, repeats no secret.
func TestNoSecretIsTold(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		id := register(t, s, "anna")
		p := provisioning(id, "anna", "c-1")
		calls := map[string]func(*Store) error{
			"PutProvisioning": func(s *Store) error { return s.PutProvisioning(t.Context(), p) },
			"Provisioning": func(s *Store) error {
				_, err := s.Provisioning(t.Context(), id)
				return err
			},
			"ProvisioningOf": func(s *Store) error {
				_, err := s.ProvisioningOf(t.Context(), "anna")
				return err
			},
			"Deliver": func(s *Store) error {
				_, err := s.Deliver(t.Context(), "c-1", KindProvision, []byte(secretAnswer))
				return err
			},
			"Answer": func(s *Store) error {
				_, err := s.Answer(t.Context(), "c-1")
				return err
			},
			"ForgetSecrets": func(s *Store) error { return s.ForgetSecrets(t.Context(), id) },
			"ForgetExpiredSecrets": func(s *Store) error {
				_, err := s.ForgetExpiredSecrets(t.Context())
				return err
			},
		}
		fails := func(s *Store) {
			for name, call := range calls {
				err := call(s)
				require.Error(t, err, name)
				require.NotContains(t, fmt.Sprintf("%s %+v %#v", err, err, err), "hunter", name)
			}
		}
		closed, err := Open(t.Context(), db.Options)
		require.NoError(t, err)
		require.NoError(t, closed.Close())
		fails(closed)

		require.NoError(t, s.PutProvisioning(t.Context(), p))
		_, err = s.Deliver(t.Context(), "c-1", KindProvision, bytes.Repeat([]byte(secretAnswer), 10_000))
		require.ErrorIs(t, err, mobileid.ErrInvalidRequest)
		require.NotContains(t, err.Error(), "hunter")
		_, err = s.Deliver(t.Context(), "c-1", KindProvision, []byte(secretAnswer))
		require.NoError(t, err)
		_, err = s.RecordIssued(t.Context(), issue(id, "run-1", "a1"))
		require.NoError(t, err)
		_, err = s.Activate(t.Context(), activation(id, "anna", "run-1"))
		require.NoError(t, err)
		for _, record := range dump(t, s)["audit"] {
			require.NotContains(t, record, "hunter")
		}
		expectNoSecrets(t, s)

		// The database itself complains, of values that it was given.
		change(t, s, `DROP TABLE messages; DROP TABLE provisionings; CREATE TABLE messages (command_id integer CHECK (command_id > 5));
			CREATE TABLE provisionings (mobile_id integer, nonce integer, uri integer)`)
		fails(s)
	})
}
