package identitymanager

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func known(list []mobileid.KnownCertificate) []string {
	all := []string{}
	for _, k := range list {
		all = append(all, k.MobileID+" "+k.Serial)
	}
	return all
}

// The certificates of an issuer are found by their state, and those past their notAfter
// are no revoked ones any more.
func TestIssuedBy(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
		other := certificate("a2", mobileid.CertificateRevoked)
		other.Issuer = mobileid.HashName([]byte("other"))
		create(t, s, "mid-2", mobileid.Locked, certificate("b5", mobileid.CertificateRevoked), other)
		issuer := certificate("a1", mobileid.CertificateIssued).Issuer

		open, _, more, err := s.OpenOf(t.Context(), issuer, mobileid.CertificateID{})
		require.NoError(t, err)
		require.False(t, more)
		require.Equal(t, []string{"mid-1 a1", "mid-1 a2", "mid-1 a3"}, known(open))
		require.Equal(t, mobileid.Active, open[0].MobileIDState)
		require.Equal(t, "anna", open[0].Owner)

		revoked, _, _, err := s.RevokedOf(t.Context(), issuer, mobileid.CertificateID{})
		require.NoError(t, err)
		require.Equal(t, []string{"mid-1 a5", "mid-2 b5"}, known(revoked))
		revoked, _, _, err = s.RevokedOf(t.Context(), issuer, revoked[0].CertificateID)
		require.NoError(t, err)
		require.Equal(t, []string{"mid-2 b5"}, known(revoked))
		db.clock.advance(3 * 365 * 24 * time.Hour)
		revoked, _, _, err = s.RevokedOf(t.Context(), issuer, mobileid.CertificateID{})
		require.NoError(t, err)
		require.Empty(t, revoked)
	})
}

// Many are looked at window by window, and none is left out.
func TestIssuedByWindows(t *testing.T) {
	s := sqliteDatabase(t).open(t)
	require.NoError(t, s.Migrate(t.Context()))
	putUsers(t, s)
	const many = issuedWindow + 10
	all := make([]mobileid.Certificate, many)
	for i := range all {
		all[i] = certificate(fmt.Sprintf("%x", i+1), mobileid.CertificateValid)
	}
	create(t, s, "mid-1", mobileid.Active, all...)
	seen, windows := map[string]bool{}, 0
	var after mobileid.CertificateID
	for more := true; more; windows++ {
		var found []mobileid.KnownCertificate
		var err error
		found, after, more, err = s.OpenOf(t.Context(), all[0].Issuer, after)
		require.NoError(t, err)
		for _, k := range found {
			require.False(t, seen[k.Serial])
			seen[k.Serial] = true
		}
	}
	require.Len(t, seen, many)
	require.Equal(t, 2, windows)
}

// Where a comparison goes on is kept.
func TestPlace(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, db database) {
		place := func(s *Store) mobileid.CertificateID {
			t.Helper()
			at, err := s.Place(t.Context(), "cm")
			require.NoError(t, err)
			return at
		}
		require.Zero(t, place(s))
		for _, serial := range []string{"a1", "b2", ""} {
			want := mobileid.CertificateID{AKI: "0102", Serial: serial}
			require.NoError(t, s.SetPlace(t.Context(), "cm", want))
			require.Equal(t, want, place(db.open(t)))
		}
		at, err := s.Place(t.Context(), "another")
		require.NoError(t, err)
		require.Zero(t, at)
	})
}
