package demo

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// Whatever differs from the end states that must be is told.
func TestEndStates(t *testing.T) {
	certificates := make([]mobileid.Certificate, len(profiles))
	for _, row := range []struct {
		name   string
		locked bool
		m      mobileid.MobileID
		c      mobileid.CertificateState
		seen   sighting
		says   string // empty: as it must be
	}{
		{"locked", true, mobileid.MobileID{State: mobileid.Locked, Certificates: certificates}, mobileid.CertificateRevoked, sighting{revoked, revoked}, ""},
		{"active still", true, mobileid.MobileID{State: mobileid.Active, Certificates: certificates}, mobileid.CertificateRevoked, sighting{revoked, revoked}, "is active, must be locked"},
		{"valid in IM", true, mobileid.MobileID{State: mobileid.Locked, Certificates: certificates}, mobileid.CertificateValid, sighting{revoked, revoked}, "valid in IM"},
		{"not in the CRL", true, mobileid.MobileID{State: mobileid.Locked, Certificates: certificates}, mobileid.CertificateRevoked, sighting{good, revoked}, "good in the CRL"},
		{"good by OCSP", true, mobileid.MobileID{State: mobileid.Locked, Certificates: certificates}, mobileid.CertificateRevoked, sighting{revoked, good}, "good by OCSP"},
		{"active", false, mobileid.MobileID{State: mobileid.Active, Certificates: certificates}, mobileid.CertificateValid, sighting{good, good}, ""},
		{"not active yet", false, mobileid.MobileID{State: mobileid.Registered, Certificates: certificates}, mobileid.CertificateValid, sighting{good, good}, "is registered, must be active"},
		{"unknown by OCSP", false, mobileid.MobileID{State: mobileid.Active, Certificates: certificates}, mobileid.CertificateValid, sighting{good, "unknown"}, "unknown by OCSP"},
		{"one certificate alone", false, mobileid.MobileID{State: mobileid.Active, Certificates: certificates[:1]}, mobileid.CertificateValid, sighting{good, good}, "has certificates: 1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			want := wanted(row.locked)
			err := want.checkState(row.m)
			if err == nil {
				err = want.check(row.m, mobileid.Certificate{State: row.c}, row.seen)
			}
			if row.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, row.says)
		})
	}
}

func TestNumberOfMobileIDs(t *testing.T) {
	for _, row := range []struct {
		name string
		p    person
		n    int
		fits bool
	}{
		{"one", person{}, 1, true},
		{"one too many", person{}, 2, false},
		{"the old and the new one", person{gotAnother: true}, 2, true},
		{"no new one", person{gotAnother: true}, 1, false},
		{"two new ones", person{gotAnother: true}, 3, false},
	} {
		t.Run(row.name, func(t *testing.T) { require.Equal(t, row.fits, row.p.checkNumber(row.n) == nil) })
	}
}
