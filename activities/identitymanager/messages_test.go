package identitymanager

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestDeliver(t *testing.T) {
	provision, confirm := KindProvision, KindCertificate
	deliver := func(command string) func(*testing.T, *Store, database, string) {
		return func(t *testing.T, s *Store, _ database, _ string) {
			kind := provision
			if command == "c-2" {
				kind = confirm
			}
			_, err := s.Deliver(t.Context(), command, kind, []byte("first"))
			require.NoError(t, err)
		}
	}
	wait := func(d time.Duration) func(*testing.T, *Store, database, string) {
		return func(_ *testing.T, _ *Store, db database, _ string) { db.clock.advance(d) }
	}
	tests := map[string]struct {
		before        func(*testing.T, *Store, database, string)
		command, kind string
		outcome       DeliveryOutcome
	}{
		"the first answer":               {nil, "c-1", provision, DeliveryNew},
		"the confirmation":               {nil, "c-2", confirm, DeliveryNew},
		"the confirmation after it":      {deliver("c-1"), "c-2", confirm, DeliveryNew},
		"again":                          {deliver("c-1"), "c-1", provision, DeliveryDuplicate},
		"the confirmation again":         {deliver("c-2"), "c-2", confirm, DeliveryDuplicate},
		"unknown command":                {nil, "c-9", provision, DeliveryUnknown},
		"no command":                     {nil, "", provision, DeliveryUnknown},
		"what is no id":                  {nil, "c-1\x00", provision, DeliveryUnknown},
		"what is no text":                {nil, "c-1\xff", provision, DeliveryUnknown},
		"wrong kind":                     {nil, "c-1", confirm, DeliveryUnknown},
		"wrong kind, the other way":      {nil, "c-2", provision, DeliveryUnknown},
		"no kind":                        {nil, "c-1", "", DeliveryUnknown},
		"just expired":                   {wait(5 * time.Minute), "c-1", provision, DeliveryNew},
		"at the end of the grace":        {wait(5*time.Minute + answerGrace - time.Microsecond), "c-2", confirm, DeliveryNew},
		"long expired":                   {wait(5*time.Minute + answerGrace), "c-1", provision, DeliveryLate},
		"the confirmation, long expired": {wait(5*time.Minute + answerGrace), "c-2", confirm, DeliveryLate},
		"expired, and the secrets are deleted": {func(t *testing.T, s *Store, db database, _ string) {
			db.clock.advance(5 * time.Minute)
			n, err := s.ForgetExpiredSecrets(t.Context())
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}, "c-1", provision, DeliveryLate},
		"replaced by another command": {func(t *testing.T, s *Store, _ database, id string) {
			require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-3")))
		}, "c-1", provision, DeliveryLate},
		"answered, then replaced by another command": {func(t *testing.T, s *Store, db database, id string) {
			deliver("c-1")(t, s, db, id)
			require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-3")))
			_, err := s.Answer(t.Context(), "c-1")
			require.ErrorIs(t, err, mobileid.ErrNoAnswer)
		}, "c-1", provision, DeliveryLate},
		"the confirmation, with the provisioning replaced": {func(t *testing.T, s *Store, _ database, id string) {
			require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-3")))
		}, "c-2", confirm, DeliveryNew},
		"the confirmation, with the secrets forgotten": {func(t *testing.T, s *Store, _ database, id string) {
			require.NoError(t, s.ForgetSecrets(t.Context(), id))
		}, "c-2", confirm, DeliveryNew},
		"with the secrets forgotten": {func(t *testing.T, s *Store, _ database, id string) {
			require.NoError(t, s.ForgetSecrets(t.Context(), id))
		}, "c-1", provision, DeliveryLate},
		"again, with the secrets forgotten": {func(t *testing.T, s *Store, db database, id string) {
			deliver("c-1")(t, s, db, id)
			require.NoError(t, s.ForgetSecrets(t.Context(), id))
		}, "c-1", provision, DeliveryDuplicate},
		"the mobile ID is active": {func(t *testing.T, s *Store, _ database, id string) {
			_, err := s.RecordIssued(t.Context(), issue(id, "run-1", "a1"))
			require.NoError(t, err)
			_, err = s.Activate(t.Context(), activation(id, "anna", "run-1"))
			require.NoError(t, err)
		}, "c-2", confirm, DeliveryLate},
		"the mobile ID is abandoned": {func(t *testing.T, s *Store, _ database, id string) {
			_, err := s.Abandon(t.Context(), abandonment(id, "run-1"))
			require.NoError(t, err)
		}, "c-1", provision, DeliveryLate},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, db database) {
				id := register(t, s, "anna")
				require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-1")))
				require.NoError(t, s.PutCommand(t.Context(), certificateCommand(id, "c-2")))
				if test.before != nil {
					test.before(t, s, db, id)
				}
				before := dump(t, s)

				delivery, err := s.Deliver(t.Context(), test.command, test.kind, []byte("second"))

				require.NoError(t, err)
				want := Delivery{Outcome: test.outcome, WorkflowID: "MobileIDSelfServiceProcGet/anna"}
				if test.outcome == DeliveryUnknown {
					want.WorkflowID = ""
				}
				require.Equal(t, want, delivery)
				if test.outcome != DeliveryNew {
					require.Equal(t, before, dump(t, s), "nothing is written")
					return
				}
				body, err := s.Answer(t.Context(), test.command)
				require.NoError(t, err)
				require.Equal(t, "second", string(body))
			})
		})
	}
}

func TestAnswerRoundTrip(t *testing.T) {
	bodies := map[string][]byte{
		"nothing":         nil,
		"empty":           {},
		"every byte":      {0, 0xff, '\'', 0x80, '"', '\\'},
		"the largest":     bytes.Repeat([]byte{0xfe}, MaxAnswerBytes),
		"one byte larger": bytes.Repeat([]byte{0xfe}, MaxAnswerBytes+1),
	}
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		id := register(t, s, "anna")
		for name, body := range bodies {
			t.Run(name, func(t *testing.T) {
				require.NoError(t, s.PutCommand(t.Context(), certificateCommand(id, name)))
				_, err := s.Answer(t.Context(), name)
				require.ErrorIs(t, err, mobileid.ErrNoAnswer)
				_, err = s.Deliver(t.Context(), name, KindCertificate, body)
				if len(body) > MaxAnswerBytes {
					require.ErrorIs(t, err, mobileid.ErrInvalidRequest)
					_, err = s.Answer(t.Context(), name)
					require.ErrorIs(t, err, mobileid.ErrNoAnswer)
					return
				}
				require.NoError(t, err)
				have, err := s.Answer(t.Context(), name)
				require.NoError(t, err)
				require.Equal(t, string(body), string(have))
			})
		}
		for _, command := range []string{"c-9", "", "x\x00", "x\xff"} {
			_, err := s.Answer(t.Context(), command)
			require.ErrorIs(t, err, mobileid.ErrNoAnswer)
		}
	})
}

// A callback that is repeated at once is taken in once.
func TestManyDeliveriesAtOnce(t *testing.T) {
	const calls = 20
	eachStore(t, func(t *testing.T, s *Store, db database) {
		stores := []*Store{s, db.open(t)}
		id := register(t, s, "anna")
		require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-1")))
		var taken atomic.Int64
		together(t, calls, func(i int) error {
			delivery, err := stores[i%2].Deliver(t.Context(), "c-1", KindProvision, fmt.Append(nil, i))
			if delivery.Outcome == DeliveryNew {
				taken.Store(int64(i))
			} else if err == nil && delivery.Outcome != DeliveryDuplicate {
				return fmt.Errorf("outcome %s", delivery.Outcome)
			}
			return err
		})
		body, err := s.Answer(t.Context(), "c-1")
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(taken.Load()), string(body))
	})
}

// Whoever comes first, no answer outlives what ends the creation.
func TestDeliverAndAbandonAtOnce(t *testing.T) {
	const pairs = 20
	eachStore(t, func(t *testing.T, s *Store, db database) {
		other := db.open(t)
		var ids [pairs]string
		for i := range pairs {
			user := fmt.Sprintf("user-%d", i)
			putUsers(t, s, user)
			ids[i] = register(t, s, user)
			require.NoError(t, s.PutProvisioning(t.Context(), provisioning(ids[i], user, ids[i])))
		}
		together(t, 2*pairs, func(n int) error {
			i := n / 2
			if n%2 == 0 {
				_, err := s.Abandon(t.Context(), abandonment(ids[i], "run-1"))
				return err
			}
			_, err := other.Deliver(t.Context(), ids[i], KindProvision, []byte(secretAnswer))
			return err
		})
		expectNoSecrets(t, s)
	})
}

func TestPutCommand(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		id := register(t, s, "anna")
		c := certificateCommand(id, "c-1")
		require.NoError(t, s.PutCommand(t.Context(), c))
		expectNothingWritten(t, s, func() { require.NoError(t, s.PutCommand(t.Context(), c)) })
		_, err := s.Deliver(t.Context(), "c-1", KindCertificate, []byte("x"))
		require.NoError(t, err)
		c.ExpiresAt = c.ExpiresAt.Add(time.Hour)
		require.NoError(t, s.PutCommand(t.Context(), c))
		body, err := s.Answer(t.Context(), "c-1")
		require.NoError(t, err)
		require.Equal(t, "x", string(body), "a repeat keeps the answer")
	})
}

func TestInstallation(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		id := register(t, s, "anna")
		require.NoError(t, s.PutProvisioning(t.Context(), provisioning(id, "anna", "c-1")))
		for _, none := range []string{id, "mid-unknown", "", "mid\x00"} {
			_, err := s.Installation(t.Context(), none)
			require.ErrorIs(t, err, mobileid.ErrNoCommand, "%q", none)
		}
		first, second := certificateCommand(id, "c-3"), certificateCommand(id, "c-2")
		second.ExpiresAt = second.ExpiresAt.Add(time.Second)
		for _, c := range []mobileid.Command{first, second} {
			require.NoError(t, s.PutCommand(t.Context(), c))
			c.ExpiresAt = microseconds(c.ExpiresAt)
			known, err := s.Installation(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, c, known, "the newest")
		}
	})
}

func TestPutCommandRefuses(t *testing.T) {
	tests := map[string]struct {
		change   func(*testing.T, *Store, *mobileid.Command)
		conflict string
		names    string
	}{
		"gone": {change: func(_ *testing.T, _ *Store, c *mobileid.Command) { c.MobileID = "mid-1" }, conflict: "is gone"},
		"active": {change: func(t *testing.T, s *Store, c *mobileid.Command) {
			c.MobileID = "mid-1"
			create(t, s, c.MobileID, mobileid.Active)
		}, conflict: "is active by now"},
		"another process": {change: func(t *testing.T, s *Store, c *mobileid.Command) {
			require.NoError(t, s.PutCommand(t.Context(), *c))
			c.WorkflowID = "other"
		}, conflict: "uses the id of another command"},
		"another mobile ID": {change: func(t *testing.T, s *Store, c *mobileid.Command) {
			require.NoError(t, s.PutCommand(t.Context(), *c))
			c.MobileID = register(t, s, "otto")
		}, conflict: "uses the id of another command"},
		"another kind": {change: func(t *testing.T, s *Store, c *mobileid.Command) {
			require.NoError(t, s.PutProvisioning(t.Context(), provisioning(c.MobileID, "anna", c.CommandID)))
		}, conflict: "uses the id of another command"},
		"provision":    {change: func(_ *testing.T, _ *Store, c *mobileid.Command) { c.Kind = KindProvision }, names: "kind"},
		"no kind":      {change: func(_ *testing.T, _ *Store, c *mobileid.Command) { c.Kind = "" }, names: "kind"},
		"no id":        {change: func(_ *testing.T, _ *Store, c *mobileid.Command) { c.CommandID = "" }, names: "commandId"},
		"no workflow":  {change: func(_ *testing.T, _ *Store, c *mobileid.Command) { c.WorkflowID = "" }, names: "workflowId"},
		"no mobile ID": {change: func(_ *testing.T, _ *Store, c *mobileid.Command) { c.MobileID = "" }, names: "mobileId"},
		"no expiry":    {change: func(_ *testing.T, _ *Store, c *mobileid.Command) { c.ExpiresAt = time.Time{} }, names: "expiresAt"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				c := certificateCommand(register(t, s, "anna"), "c-"+strings.ReplaceAll(name, " ", "-"))
				test.change(t, s, &c)
				expectNothingWritten(t, s, func() {
					err := s.PutCommand(t.Context(), c)
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
