package mobileid

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The names and numbers of RFC 5280 section 5.3.1, written down independently.
func TestReasonsOfRFC5280(t *testing.T) {
	for name, code := range map[string]int{
		"unspecified": 0, "keyCompromise": 1, "cACompromise": 2, "affiliationChanged": 3, "superseded": 4,
		"cessationOfOperation": 5, "certificateHold": 6, "removeFromCRL": 8, "privilegeWithdrawn": 9, "aACompromise": 10,
	} {
		got, known := Reason(name).Code()
		require.True(t, known, name)
		require.Equal(t, code, got, name)
		reason, err := ReasonFromCode(code)
		require.NoError(t, err)
		require.Equal(t, Reason(name), reason)
		require.Equal(t, name != "certificateHold" && name != "removeFromCRL", reason.Final(), name)
	}
	for _, code := range []int{-1, 7, 11} {
		_, err := ReasonFromCode(code)
		require.Error(t, err, "%d", code)
	}
	require.False(t, Reason("").Final())
}

func TestCheckLockReason(t *testing.T) {
	for _, test := range []struct {
		name     string
		reason   Reason
		user     bool
		operator bool
	}{
		{"none: the configured default", "", true, true},
		{"unspecified", Unspecified, true, true},
		{"keyCompromise", KeyCompromise, true, true},
		{"superseded", Superseded, true, true},
		{"cessationOfOperation", CessationOfOperation, true, true},
		{"affiliationChanged", AffiliationChanged, true, true},
		{"the issuer's judgement", PrivilegeWithdrawn, false, true},
		{"a hold is not final", CertificateHold, false, false},
		{"lifts a hold", RemoveFromCRL, false, false},
		{"not for an end user", CACompromise, false, false},
		{"for attribute authorities", AACompromise, false, false},
		{"another spelling", "KEY_COMPROMISE", false, false},
		{"not a reason", "lost my phone", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for operator, allowed := range map[bool]bool{false: test.user, true: test.operator} {
				err := CheckLockReason(test.reason, operator)
				if allowed {
					require.NoError(t, err)
					continue
				}
				require.ErrorIs(t, err, ErrInvalidRequest)
				var refusal *Refusal
				require.ErrorAs(t, err, &refusal)
				require.Equal(t, "reason", refusal.Field)
			}
		})
	}
}
