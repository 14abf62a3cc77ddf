package mobileid

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStateTransitions(t *testing.T) {
	all := []State{Registered, Active, Inactive, Locked}
	allowed := map[[2]State]bool{
		{Registered, Active}: true, {Registered, Locked}: true,
		{Active, Inactive}: true, {Active, Locked}: true,
		{Inactive, Active}: true, {Inactive, Locked}: true,
	}
	for _, from := range all {
		for _, to := range all {
			require.Equal(t, allowed[[2]State{from, to}], from.CanBecome(to), "%s -> %s", from, to)
		}
	}
	require.True(t, Locked.Final())
	require.False(t, Active.Final())
	require.False(t, State("gone").Valid())
	require.False(t, State("gone").Final(), "an unknown state is not final, it is a fault")
	require.False(t, State("gone").CanBecome(Active))
}

func TestCertificateStateTransitions(t *testing.T) {
	for _, final := range []CertificateState{CertificateExpired, CertificateRevoked} {
		require.True(t, final.Final())
		for _, to := range []CertificateState{CertificateIssued, CertificateValid, CertificateOnHold, CertificateExpired, CertificateRevoked} {
			require.False(t, final.CanBecome(to), "%s -> %s", final, to)
		}
	}
	for _, from := range []CertificateState{CertificateIssued, CertificateValid, CertificateOnHold} {
		require.True(t, from.CanBecome(CertificateRevoked), "%s can be revoked", from)
	}
	require.True(t, CertificateOnHold.CanBecome(CertificateValid))
	require.False(t, CertificateValid.CanBecome(CertificateIssued))
}
