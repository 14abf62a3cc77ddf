package identitymanager

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestMobileID(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
		m, err := s.MobileID(t.Context(), "mid-1")
		require.NoError(t, err)
		require.Equal(t, mobileid.MobileID{
			ID:           "mid-1",
			Name:         "Phone",
			Owner:        mobileid.User{ID: "anna", Name: "The anna", Active: true, Roles: []string{mobileid.SelfServiceRole}},
			State:        mobileid.Active,
			Certificates: oneOfEach("a"),
		}, m)

		// Users change, and with them what is read.
		require.NoError(t, s.PutUser(t.Context(), mobileid.User{ID: "anna", Name: "Anna B.", Roles: []string{"z", "a", "a"}}, ""))
		m, err = s.MobileID(t.Context(), "mid-1")
		require.NoError(t, err)
		require.Equal(t, mobileid.User{ID: "anna", Name: "Anna B.", Roles: []string{"a", "z"}}, m.Owner)

		for _, id := range []string{"mid-2", "MID-1", "", "mid-1' --", "mid-1\x00"} {
			_, err := s.MobileID(t.Context(), id)
			require.ErrorIs(t, err, mobileid.ErrMobileIDNotFound, "%q", id)
		}
	})
}

// A real certificate comes back byte by byte, and reads the same.
func TestCertificateRoundTrip(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial := new(big.Int).SetBytes(append([]byte{0xff}, make([]byte, 19)...)) // 20 bytes, the top bit set
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Jürgen \"J\" O'Neil, sr.", Organization: []string{"東京"}},
		NotBefore:    time.Date(2030, time.June, 1, 12, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	c, err := mobileid.NewCertificate(parsed, mobileid.CertificateValid)
	require.NoError(t, err)
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active, c)
		m, err := s.MobileID(t.Context(), "mid-1")
		require.NoError(t, err)
		require.Equal(t, []mobileid.Certificate{c}, m.Certificates)
		read, err := m.Certificates[0].SerialNumber()
		require.NoError(t, err)
		require.Zero(t, serial.Cmp(read))
	})
}

func TestCreateMobileIDRefuses(t *testing.T) {
	known := certificate("a2", mobileid.CertificateValid)
	tests := map[string]func(*mobileid.MobileID){
		"no id":                     func(m *mobileid.MobileID) { m.ID = "" },
		"id that exists":            func(m *mobileid.MobileID) { m.ID = "mid-1" },
		"inactive":                  func(m *mobileid.MobileID) { m.State = mobileid.Inactive },
		"locked":                    func(m *mobileid.MobileID) { m.State = mobileid.Locked },
		"no state":                  func(m *mobileid.MobileID) { m.State = "" },
		"unknown owner":             func(m *mobileid.MobileID) { m.Owner.ID = "nobody" },
		"another one's certificate": func(m *mobileid.MobileID) { m.Certificates = []mobileid.Certificate{certificate("b1", "valid"), known} },
		"certificate twice": func(m *mobileid.MobileID) {
			m.Certificates = []mobileid.Certificate{certificate("b1", "valid"), certificate("b1", "issued")}
		},
		"certificate in no known state": func(m *mobileid.MobileID) { m.Certificates = []mobileid.Certificate{certificate("b1", "good")} },
		"serial with a leading zero":    func(m *mobileid.MobileID) { m.Certificates = []mobileid.Certificate{certificate("0b1", "valid")} },
		"serial of 21 bytes": func(m *mobileid.MobileID) {
			m.Certificates = []mobileid.Certificate{certificate(fmt.Sprintf("1%040d", 0), "valid")}
		},
		"certificate without issuer": func(m *mobileid.MobileID) {
			c := certificate("b1", "valid")
			c.Issuer = ""
			m.Certificates = []mobileid.Certificate{c}
		},
		"certificate without notAfter": func(m *mobileid.MobileID) {
			c := certificate("b1", "valid")
			c.NotAfter = time.Time{}
			m.Certificates = []mobileid.Certificate{c}
		},
	}
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active, known)
		before := dump(t, s)
		for name, change := range tests {
			t.Run(name, func(t *testing.T) {
				m := mobileid.MobileID{ID: "mid-2", Owner: mobileid.User{ID: "anna"}, State: mobileid.Active}
				change(&m)
				require.Error(t, s.CreateMobileID(t.Context(), m))
				require.Equal(t, before, dump(t, s))
			})
		}
	})
}

func TestAddCertificates(t *testing.T) {
	tests := map[string]struct {
		state mobileid.State
		add   []mobileid.Certificate
		ok    bool
	}{
		"to a registered one":      {mobileid.Registered, []mobileid.Certificate{certificate("b1", "issued")}, true},
		"to an active one":         {mobileid.Active, []mobileid.Certificate{certificate("b1", "valid"), certificate("b2", "issued")}, true},
		"none":                     {mobileid.Active, nil, true},
		"issued to a locked one":   {mobileid.Locked, []mobileid.Certificate{certificate("b1", "issued")}, true},
		"valid to a locked one":    {mobileid.Locked, []mobileid.Certificate{certificate("b1", "issued"), certificate("b2", "valid")}, false},
		"one that is there":        {mobileid.Active, []mobileid.Certificate{certificate("b1", "valid"), certificate("a1", "valid")}, false},
		"one in no known state":    {mobileid.Active, []mobileid.Certificate{certificate("b1", "good")}, false},
		"to one that is not there": {"", []mobileid.Certificate{certificate("b1", "valid")}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				if test.state != "" {
					create(t, s, "mid-1", test.state, certificate("a1", "valid"))
				}
				before := dump(t, s)
				err := s.AddCertificates(t.Context(), "mid-1", test.add...)
				if !test.ok {
					require.Error(t, err)
					require.Equal(t, before, dump(t, s))
					return
				}
				require.NoError(t, err)
				m, err := s.MobileID(t.Context(), "mid-1")
				require.NoError(t, err)
				require.Equal(t, append([]mobileid.Certificate{certificate("a1", "valid")}, test.add...), m.Certificates)
			})
		})
	}
}

func TestDeactivateAndReactivate(t *testing.T) {
	deactivate, reactivate := (*Store).Deactivate, (*Store).Reactivate
	tests := map[string]struct {
		state   mobileid.State
		do      func(s *Store, t *testing.T) error
		becomes mobileid.State // empty: a TransitionError
		states  []mobileid.CertificateState
	}{
		"deactivate an active one":    {mobileid.Active, on(deactivate), mobileid.Inactive, states("issued", "onHold", "onHold", "expired", "revoked")},
		"reactivate an inactive one":  {mobileid.Inactive, on(reactivate), mobileid.Active, states("issued", "valid", "valid", "expired", "revoked")},
		"deactivate an inactive one":  {state: mobileid.Inactive, do: on(deactivate)},
		"deactivate a registered one": {state: mobileid.Registered, do: on(deactivate)},
		"deactivate a locked one":     {state: mobileid.Locked, do: on(deactivate)},
		"reactivate an active one":    {state: mobileid.Active, do: on(reactivate)},
		"reactivate a registered one": {state: mobileid.Registered, do: on(reactivate)},
		"reactivate a locked one":     {state: mobileid.Locked, do: on(reactivate)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s *Store, _ database) {
				create(t, s, "mid-1", test.state, oneOfEach("a")...)
				before := dump(t, s)
				err := test.do(s, t)
				if test.becomes == "" {
					var transition *mobileid.TransitionError
					require.ErrorAs(t, err, &transition)
					require.Equal(t, string(test.state), transition.From)
					require.Equal(t, before, dump(t, s))
					return
				}
				require.NoError(t, err)
				m, err := s.MobileID(t.Context(), "mid-1")
				require.NoError(t, err)
				require.Equal(t, test.becomes, m.State)
				for i, c := range m.Certificates {
					require.Equal(t, test.states[i], c.State)
				}
			})
		})
	}
}

// An inactive mobile ID without a live certificate is no obstacle to a new one, and so
// must not come back beside it.
func TestReactivateMakesNoSecondActiveMobileID(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Inactive, certificate("a1", mobileid.CertificateRevoked))
		create(t, s, "mid-2", mobileid.Active)
		expectNothingWritten(t, s, func() {
			require.ErrorIs(t, s.Reactivate(t.Context(), "mid-1"), mobileid.ErrMobileIDActive)
		})
	})
}

// on calls a method for mobile ID mid-1.
func on(method func(*Store, context.Context, string) error) func(*Store, *testing.T) error {
	return func(s *Store, t *testing.T) error { return method(s, t.Context(), "mid-1") }
}

func TestUnknownMobileID(t *testing.T) {
	tests := map[string]func(s *Store, t *testing.T) error{
		"deactivate":   on((*Store).Deactivate),
		"reactivate":   on((*Store).Reactivate),
		"delete":       on((*Store).DeleteMobileID),
		"change owner": func(s *Store, t *testing.T) error { return s.ChangeOwner(t.Context(), "mid-1", "otto") },
	}
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		for name, do := range tests {
			t.Run(name, func(t *testing.T) { require.ErrorIs(t, do(s, t), mobileid.ErrMobileIDNotFound) })
		}
	})
}

func TestChangeOwnerToNobody(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active)
		require.ErrorIs(t, s.ChangeOwner(t.Context(), "mid-1", "nobody"), ErrUserNotFound)
	})
}

func TestDeleteMobileID(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		create(t, s, "mid-1", mobileid.Active, oneOfEach("a")...)
		_, err := s.Record(t.Context(), refusal("mid-1", "run-1"))
		require.NoError(t, err)
		require.NoError(t, s.DeleteMobileID(t.Context(), "mid-1"))
		_, err = s.MobileID(t.Context(), "mid-1")
		require.ErrorIs(t, err, mobileid.ErrMobileIDNotFound)
		require.Empty(t, dump(t, s)["certificates"])
		verify(t, s, "mid-1", mobileid.EventRefused)

		create(t, s, "mid-2", mobileid.Locked, oneOfEach("b")...)
		before := dump(t, s)
		var transition *mobileid.TransitionError
		require.ErrorAs(t, s.DeleteMobileID(t.Context(), "mid-2"), &transition)
		require.Equal(t, before, dump(t, s))
	})
}

func TestMobileIDsOfAndList(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		for _, id := range []string{"c", "a", "B", "d"} {
			create(t, s, id, mobileid.Active, certificate(fmt.Sprintf("%x1", id), "valid"), certificate(fmt.Sprintf("%x2", id), "issued"))
		}
		require.NoError(t, s.ChangeOwner(t.Context(), "a", "otto"))

		annas, err := s.MobileIDsOf(t.Context(), "anna")
		require.NoError(t, err)
		require.Equal(t, []string{"B", "c", "d"}, ids(annas))
		require.Equal(t, []string{"631", "632"}, serials(annas[1].Certificates))
		nobodys, err := s.MobileIDsOf(t.Context(), "nobody")
		require.NoError(t, err)
		require.Empty(t, nobodys)

		page, err := s.List(t.Context(), "", 3)
		require.NoError(t, err)
		require.Equal(t, []string{"B", "a", "c"}, ids(page))
		require.Equal(t, "otto", page[1].Owner.ID)
		require.Len(t, page[2].Certificates, 2)
		page, err = s.List(t.Context(), "c", 3)
		require.NoError(t, err)
		require.Equal(t, []string{"d"}, ids(page))
	})
}

// More than one statement asks for.
func TestListOfMany(t *testing.T) {
	const many = 2*maxRowsPerStatement + 1
	eachStore(t, func(t *testing.T, s *Store, _ database) {
		crowd(t, s, many)
		page, err := s.List(t.Context(), "", many+1)
		require.NoError(t, err)
		require.Len(t, page, many)
		for _, m := range page {
			require.Len(t, m.Certificates, 2, m.ID)
			require.Equal(t, strings.Replace(m.ID, "other-", "c", 1)+"d1", m.Certificates[0].Serial)
		}
	})
}

func ids(all []mobileid.MobileID) []string {
	var found []string
	for _, m := range all {
		found = append(found, m.ID)
	}
	return found
}
