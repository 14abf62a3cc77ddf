package mobileid

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckID(t *testing.T) {
	for _, id := range []string{"m", "mid-1001", "A.b_c-9", strings.Repeat("x", 128), ".."} {
		require.NoError(t, CheckID("mobileId", id), id)
	}
	for name, id := range map[string]string{
		"empty": "", "too long": strings.Repeat("x", 129), "slash": "a/b", "path trick": "../etc/passwd", "space": "a b",
		"percent": "a%2fb", "NUL": "a\x00", "non-ASCII": "é", "newline": "a\n", "quote": `a"`,
	} {
		err := CheckID("mobileId", id)
		require.ErrorIs(t, err, ErrInvalidRequest, name)
		require.ErrorContains(t, err, "mobileId", name)
	}
}

func TestAdmitLock(t *testing.T) {
	anna := User{ID: "anna", Active: true, Roles: []string{SelfServiceRole}}
	revoked := []Certificate{{State: CertificateRevoked}, {State: CertificateExpired}}
	open := []Certificate{{State: CertificateRevoked}, {State: CertificateIssued}}
	for _, test := range []struct {
		name     string
		m        MobileID
		user     string
		operator bool
		resume   bool
		want     *Refusal
	}{
		{name: "own and active", m: MobileID{Owner: anna, State: Active}, user: "anna"},
		{name: "somebody else's", m: MobileID{Owner: anna, State: Active}, user: "bob", want: NotFound()},
		{name: "somebody else's, and locked", m: MobileID{Owner: anna, State: Locked}, user: "bob", want: NotFound()},
		{name: "inactive", m: MobileID{Owner: anna, State: Inactive}, user: "anna", want: NotActive(Inactive)},
		{name: "registered", m: MobileID{Owner: anna, State: Registered}, user: "anna", want: NotActive(Registered)},
		{name: "locked, nothing left", m: MobileID{Owner: anna, State: Locked, Certificates: revoked}, user: "anna", want: NotActive(Locked)},
		{name: "locked, a certificate open", m: MobileID{Owner: anna, State: Locked, Certificates: open}, user: "anna"},
		{name: "locked, a certificate open, user gone inactive", m: MobileID{Owner: User{ID: "anna"}, State: Locked, Certificates: open}, user: "anna"},
		{name: "user not active", m: MobileID{Owner: User{ID: "anna", Roles: anna.Roles}, State: Active}, user: "anna", want: ErrNotEntitled},
		{name: "user without the role", m: MobileID{Owner: User{ID: "anna", Active: true}, State: Active}, user: "anna", want: ErrNotEntitled},
		{name: "operator, user not active", m: MobileID{Owner: User{ID: "anna"}, State: Active}, user: "anna", operator: true},
		{name: "operator, another owner", m: MobileID{Owner: anna, State: Active}, user: "bob", operator: true, want: NotFound()},
		{name: "resume of a locked one", m: MobileID{Owner: anna, State: Locked, Certificates: revoked}, user: "anna", resume: true},
		{name: "resume of an active one", m: MobileID{Owner: anna, State: Active}, user: "anna", resume: true, want: ErrInvalidRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := AdmitLock(test.m, test.user, test.operator, test.resume)
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, test.want)
			var got *Refusal
			require.True(t, errors.As(err, &got))
			require.Equal(t, test.want.State, got.State)
		})
	}
}

func TestRefusalsDoNotLeak(t *testing.T) {
	unknown := NotFound()
	notOwn := AdmitLock(MobileID{ID: "mid-1", Owner: User{ID: "anna"}, State: Locked}, "bob", false, false)
	require.Equal(t, unknown, notOwn, "not the user's own and unknown look the same")
	require.NotErrorIs(t, unknown, ErrNotEntitled)
	require.NotErrorIs(t, unknown, errors.New("x"))
}
