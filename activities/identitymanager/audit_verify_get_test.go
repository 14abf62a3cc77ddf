package identitymanager

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// A mobile ID whose Get failed, and whose revocation a lock finished, is whole; so
// is one that never came into being, and one that was deleted before it did.
func TestVerifyAuditOfGetThatEndsInEveryWay(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		abandoned := register(t, s, "anna")
		_, err := s.Abandon(t.Context(), abandonment(abandoned, "run-1"))
		require.NoError(t, err)
		_, err = s.Lock(t.Context(), order(abandoned, "run-2"))
		require.NoError(t, err)
		verify(t, s, abandoned, mobileid.EventGranted, mobileid.EventRegistered, mobileid.EventAbandoned, mobileid.EventResumed)

		deleted := register(t, s, "anna")
		require.NoError(t, s.DeleteMobileID(t.Context(), deleted))
		verify(t, s, deleted, mobileid.EventGranted, mobileid.EventRegistered)

		inactive := readyToActivate(t, s)
		_, err = s.Activate(t.Context(), activation(inactive, "anna", "run-1"))
		require.NoError(t, err)
		require.NoError(t, s.Deactivate(t.Context(), inactive))
		verify(t, s, inactive)
		require.NoError(t, s.Reactivate(t.Context(), inactive))
		verify(t, s, inactive)

		grant(t, s, "otto")
		create(t, s, "mid-1", mobileid.Registered)
		create(t, s, "mid-2", mobileid.Active)
		_, err = s.Record(t.Context(), refusal("mid-2", "run-1"))
		require.NoError(t, err)
		_, err = s.Record(t.Context(), refusal(mobileid.ApplicantChain("otto"), "run-1"))
		require.NoError(t, err)
		report, err := s.VerifyAudit(t.Context(), "", nil, nil)
		require.NoError(t, err)
		require.Empty(t, report.Faults)
	})
}

// In the statements ACTIVE has the records granted, registered, issued, activated;
// FAILED granted, registered, issued, abandoned; OPEN granted alone; and NEW
// granted and registered.
func TestVerifyAuditFindsInGet(t *testing.T) {
	setBack := func(id, number string) string {
		return `DELETE FROM audit WHERE mobile_id = '` + id + `' AND number > ` + number + `;
			UPDATE audit_heads SET number = ` + number + `, mac = (SELECT mac FROM audit WHERE mobile_id = '` + id + `' AND number = ` + number + `) WHERE mobile_id = '` + id + `'`
	}
	tests := map[string]struct {
		statements string
		without    []string // what is found with the database alone
		with       []string // and with a checkpoint from before
	}{
		"nothing":                   {`UPDATE audit SET record = record`, nil, nil},
		"granted: by altered":       {`UPDATE audit SET record = replace(record, 'portal', 'nobody') WHERE mobile_id = 'OPEN'`, []string{"OPEN altered"}, nil},
		"registered: owner altered": {`UPDATE audit SET record = replace(record, '"owner":"anna"', '"owner":"otto"') WHERE mobile_id = 'ACTIVE' AND number = 2`, []string{"ACTIVE altered"}, nil},
		"issued: CA altered":        {`UPDATE audit SET record = replace(record, '"ca":"issuing"', '"ca":"other"') WHERE mobile_id = 'ACTIVE' AND number = 3`, []string{"ACTIVE altered"}, nil},
		"activated: serial altered": {`UPDATE audit SET record = replace(record, '"serial":"a1"', '"serial":"a9"') WHERE mobile_id = 'ACTIVE' AND number = 4`, []string{"ACTIVE altered"}, nil},
		"abandoned: why altered":    {`UPDATE audit SET record = replace(record, 'PhoneDidNotAnswer', 'Cancelled') WHERE mobile_id = 'FAILED' AND number = 4`, []string{"FAILED altered"}, nil},

		"granted removed":    {`DELETE FROM audit WHERE mobile_id = 'ACTIVE' AND number = 1`, []string{"ACTIVE removed"}, nil},
		"registered removed": {`DELETE FROM audit WHERE mobile_id = 'ACTIVE' AND number = 2`, []string{"ACTIVE removed", "ACTIVE cutOff"}, nil},
		"issued removed":     {`DELETE FROM audit WHERE mobile_id = 'FAILED' AND number = 3`, []string{"FAILED removed"}, nil},
		"grant's only record removed": {`DELETE FROM audit WHERE mobile_id = 'OPEN'; DELETE FROM audit_heads WHERE mobile_id = 'OPEN'`,
			[]string{"OPEN removed"}, []string{"OPEN removed", "OPEN removed"}},
		"whole chain removed, with its grant": {`DELETE FROM audit WHERE mobile_id = 'FAILED'; DELETE FROM audit_heads WHERE mobile_id = 'FAILED'; DELETE FROM grants WHERE mobile_id = 'FAILED'`,
			[]string{"FAILED removed"}, []string{"FAILED removed", "FAILED removed"}},
		"whole chain removed, with mobile ID and grant": {`DELETE FROM certificates WHERE mobile_id = 'ACTIVE'; DELETE FROM mobile_ids WHERE id = 'ACTIVE';
			DELETE FROM audit WHERE mobile_id = 'ACTIVE'; DELETE FROM audit_heads WHERE mobile_id = 'ACTIVE'; DELETE FROM grants WHERE mobile_id = 'ACTIVE'`,
			nil, []string{"ACTIVE removed"}},

		"activated inserted": {`INSERT INTO audit SELECT 'NEW', 3, record, mac, 'x' FROM audit WHERE mobile_id = 'ACTIVE' AND number = 4`,
			[]string{"NEW inserted", "NEW altered"}, nil},
		"activated inserted, head moved": {`INSERT INTO audit SELECT 'NEW', 3, replace(record, 'ACTIVE', 'NEW'), mac, 'x' FROM audit WHERE mobile_id = 'ACTIVE' AND number = 4;
			UPDATE audit_heads SET number = 3, mac = (SELECT mac FROM audit WHERE mobile_id = 'NEW' AND number = 3) WHERE mobile_id = 'NEW';
			UPDATE mobile_ids SET state = 'active' WHERE id = 'NEW'`, []string{"NEW altered"}, nil},
		"abandoned inserted": {`INSERT INTO audit SELECT mobile_id, 5, record, mac, 'x' FROM audit WHERE mobile_id = 'FAILED' AND number = 4`,
			[]string{"FAILED inserted"}, nil},
		"registered twice": {`INSERT INTO audit SELECT mobile_id, 5, record, mac, 'x' FROM audit WHERE mobile_id = 'FAILED' AND number = 2;
			UPDATE audit_heads SET number = 5, mac = (SELECT mac FROM audit WHERE mobile_id = 'FAILED' AND number = 5) WHERE mobile_id = 'FAILED'`,
			[]string{"FAILED altered"}, nil},

		"activated cut off": {`DELETE FROM audit WHERE mobile_id = 'ACTIVE' AND number = 4`,
			[]string{"ACTIVE cutOff", "ACTIVE cutOff"}, []string{"ACTIVE cutOff", "ACTIVE cutOff", "ACTIVE cutOff"}},
		"activated cut off, head set back": {setBack("ACTIVE", "3"),
			[]string{"ACTIVE cutOff"}, []string{"ACTIVE cutOff", "ACTIVE cutOff"}},
		"activated cut off, head and state set back": {setBack("ACTIVE", "3") + `; UPDATE mobile_ids SET state = 'registered' WHERE id = 'ACTIVE'`,
			nil, []string{"ACTIVE cutOff"}},
		"abandoned cut off, head set back": {setBack("FAILED", "3"),
			[]string{"FAILED cutOff"}, []string{"FAILED cutOff", "FAILED cutOff"}},
		"abandoned cut off, head set back, nobody locked it": {setBack("FAILED", "3") + `; UPDATE mobile_ids SET lock_run_id = NULL WHERE id = 'FAILED'`,
			[]string{"FAILED cutOff"}, []string{"FAILED cutOff", "FAILED cutOff"}},
		"registered cut off, head set back": {setBack("NEW", "1"),
			[]string{"NEW cutOff"}, []string{"NEW cutOff", "NEW cutOff"}},
		"registered cut off, with the mobile ID": {setBack("NEW", "1") + `; DELETE FROM mobile_ids WHERE id = 'NEW'`,
			nil, []string{"NEW cutOff"}},

		"abandoned, made active":       {`UPDATE mobile_ids SET state = 'active', locked_at = NULL WHERE id = 'FAILED'`, []string{"FAILED altered", "FAILED cutOff"}, nil},
		"abandoned, made registered":   {`UPDATE mobile_ids SET state = 'registered', locked_at = NULL WHERE id = 'FAILED'`, []string{"FAILED altered"}, nil},
		"abandoned by another process": {`UPDATE mobile_ids SET lock_run_id = 'run-9' WHERE id = 'FAILED'`, []string{"FAILED cutOff"}, nil},
		"activated, made registered":   {`UPDATE mobile_ids SET state = 'registered' WHERE id = 'ACTIVE'`, []string{"ACTIVE altered"}, nil},
		"registered, made active":      {`UPDATE mobile_ids SET state = 'active' WHERE id = 'NEW'`, []string{"NEW cutOff"}, nil},
		"registered, made inactive":    {`UPDATE mobile_ids SET state = 'inactive' WHERE id = 'NEW'`, []string{"NEW cutOff"}, nil},
		"registered, made locked":      {`UPDATE mobile_ids SET state = 'locked', locked_at = created_at WHERE id = 'NEW'`, []string{"NEW cutOff"}, nil},
		"activated, made locked":       {`UPDATE mobile_ids SET state = 'locked', locked_at = created_at WHERE id = 'ACTIVE'`, []string{"ACTIVE cutOff"}, nil},
		"granted, and there without having been registered": {`INSERT INTO mobile_ids (id, owner, name, state, created_at) SELECT 'OPEN', owner, name, 'active', created_at FROM mobile_ids WHERE id = 'ACTIVE'`,
			[]string{"OPEN cutOff"}, nil},
		"locked, made active": {`UPDATE mobile_ids SET state = 'active', locked_at = NULL, lock_run_id = NULL WHERE id = 'mid-1'`, []string{"mid-1 altered"}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				named := fourGets(t, s)
				dir := t.TempDir()
				_, err := s.Checkpoint(t.Context(), dir)
				require.NoError(t, err)
				checkpoints, err := s.ReadCheckpoints(dir)
				require.NoError(t, err)
				allowAuditChanges(t, s)
				change(t, s, strings.NewReplacer(named...).Replace(test.statements))

				found := func(marks map[string]mobileid.AuditMark) []string {
					report, err := s.VerifyAudit(t.Context(), "", marks, nil)
					require.NoError(t, err)
					list := kinds(report)
					for i := 0; i < len(named); i += 2 {
						for n := range list {
							list[n] = strings.Replace(list[n], named[i+1], named[i], 1)
						}
					}
					return list
				}
				require.ElementsMatch(t, test.without, found(nil))
				if test.with == nil {
					test.with = test.without
				}
				require.ElementsMatch(t, test.with, found(checkpoints.Marks))
			})
		})
	}
}

// fourGets makes mobile IDs that Get brought to different places, and returns their
// names with their ids.
func fourGets(t *testing.T, s *Store) []string {
	t.Helper()
	putUsers(t, s, "emma", "olga")
	failed := register(t, s, "emma")
	_, err := s.RecordIssued(t.Context(), issue(failed, "run-1", "f1"))
	require.NoError(t, err)
	_, err = s.Abandon(t.Context(), abandonment(failed, "run-1"))
	require.NoError(t, err)
	active := readyToActivate(t, s)
	_, err = s.Activate(t.Context(), activation(active, "anna", "run-1"))
	require.NoError(t, err)
	create(t, s, "mid-1", mobileid.Locked)
	return []string{"ACTIVE", active, "FAILED", failed, "OPEN", grant(t, s, "olga"), "NEW", register(t, s, "otto")}
}
