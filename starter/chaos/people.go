package chaos

import (
	"context"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"mobileid"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/stepca"
	"mobileid/activities/identitymanager"
	"mobileid/starter/selfservice/session"
)

var curve = elliptic.P256()

// validDays is how long the certificates of the run are valid.
const validDays = 30

// person is a user with one active mobile ID, in the beginning, and what is done
// with it.
type person struct {
	number           int
	userID, mobileID string
	story            story
}

// seeder makes people.
type seeder struct {
	store *identitymanager.Store
	devca *devca.Driver
	step  *stepca.Driver
	csr   []byte
	hash  string // of the password of those who use pages
}

func newSeeder(p *place, store *identitymanager.Store) (*seeder, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	s := &seeder{store: store}
	if s.csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "chaos@example.com"}, EmailAddresses: []string{"chaos@example.com"},
	}, key); err != nil {
		return nil, err
	}
	ca := filepath.Join(p.stack.Dir, "ca")
	if s.devca, err = devca.NewDriver(devca.DriverOptions{
		URL: p.stack.CA.APIURL, ClientCertFile: filepath.Join(ca, "client.pem"), ClientKeyFile: filepath.Join(ca, "client.key"),
		ServerCAFile: filepath.Join(ca, "tls-ca.pem"),
	}); err != nil {
		return nil, err
	}
	if s.hash, err = session.HashPassword(pagePassword); err != nil {
		return nil, err
	}
	s.step, err = stepca.New(p.step.Driver())
	return s, err
}

// stepEvery says how many people have one certificate of step-ca: one in that many.
const stepEvery = 5

// make makes all of them, each with two certificates.
func (s *seeder) make(ctx context.Context, people []person) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for _, p := range people {
		group.Go(func() error {
			if err := s.one(ctx, p); err != nil {
				return fmt.Errorf("make %s: %w", p.mobileID, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (s *seeder) one(ctx context.Context, p person) error {
	user := mobileid.User{ID: p.userID, Name: p.userID, Active: true, Roles: []string{mobileid.SelfServiceRole}}
	if err := s.store.PutUser(ctx, user, p.userID+"@example.com"); err != nil {
		return err
	}
	if p.story == lockByPages {
		if err := s.store.PutPassword(ctx, p.userID, s.hash); err != nil {
			return err
		}
	}
	m := mobileid.MobileID{ID: p.mobileID, Name: p.mobileID, Owner: user, State: mobileid.Active}
	for n := range 2 {
		issued, err := s.issue(ctx, n == 1 && p.number%stepEvery == 0)
		if err != nil {
			return err
		}
		kept, err := mobileid.NewCertificate(issued, mobileid.CertificateValid)
		if err != nil {
			return err
		}
		m.Certificates = append(m.Certificates, kept)
	}
	return s.store.CreateMobileID(ctx, m)
}

func (s *seeder) issue(ctx context.Context, byStepCA bool) (*x509.Certificate, error) {
	if byStepCA {
		return s.step.Issue(ctx, s.csr)
	}
	return s.devca.Issue(ctx, s.csr, string(devca.ProfileAuthentication), validDays)
}
