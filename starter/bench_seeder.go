package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"mobileid"
	"mobileid/activities/ca/devca"
	"mobileid/activities/identitymanager"
	"mobileid/starter/stack"
)

// seeder makes mobile IDs with certificates of devca.
type seeder struct {
	store  *identitymanager.Store
	driver *devca.Driver
	csr    []byte
	made   atomic.Int64
}

func newSeeder(ctx context.Context, s *stack.Stack, store *identitymanager.Store) (*seeder, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: benchOwner}}, key)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.Dir, "ca")
	driver, err := devca.NewDriver(devca.DriverOptions{
		URL: s.CA.APIURL, ClientCertFile: filepath.Join(dir, "client.pem"), ClientKeyFile: filepath.Join(dir, "client.key"),
		ServerCAFile: filepath.Join(dir, "tls-ca.pem"),
	})
	if err != nil {
		return nil, err
	}
	owner := mobileid.User{ID: benchOwner, Name: "Bench", Active: true, Roles: []string{mobileid.SelfServiceRole}}
	return &seeder{store: store, driver: driver, csr: csr}, store.PutUser(ctx, owner, "bench@example.com")
}

// mobileIDs makes n active ones with two certificates each. Those that are only to
// wait share the shape of a certificate that was issued, with serial numbers of
// their own.
func (s *seeder) mobileIDs(ctx context.Context, n int, waiting bool) ([]string, error) {
	sample, err := s.driver.Issue(ctx, s.csr, string(devca.ProfileAuthentication), 365)
	if err != nil {
		return nil, err
	}
	ids := make([]string, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range ids {
		number := s.made.Add(1)
		ids[i] = fmt.Sprintf("bench-%d", number)
		group.Go(func() error {
			var two []*x509.Certificate
			for c := range 2 {
				certificate, err := s.certificate(ctx, sample, waiting, number<<8|int64(c))
				if err != nil {
					return err
				}
				two = append(two, certificate)
			}
			return s.create(ctx, ids[i], benchOwner, two...)
		})
	}
	return ids, group.Wait()
}

// create makes an active mobile ID.
func (s *seeder) create(ctx context.Context, id, owner string, certificates ...*x509.Certificate) error {
	m := mobileid.MobileID{ID: id, Name: id, Owner: mobileid.User{ID: owner}, State: mobileid.Active}
	for _, certificate := range certificates {
		kept, err := mobileid.NewCertificate(certificate, mobileid.CertificateValid)
		if err != nil {
			return err
		}
		m.Certificates = append(m.Certificates, kept)
	}
	return s.store.CreateMobileID(ctx, m)
}

func (s *seeder) certificate(ctx context.Context, sample *x509.Certificate, waiting bool, serial int64) (*x509.Certificate, error) {
	if waiting {
		other := *sample
		other.SerialNumber = big.NewInt(serial)
		return &other, nil
	}
	return s.driver.Issue(ctx, s.csr, string(devca.ProfileAuthentication), 365)
}
