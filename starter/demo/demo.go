// Package demo shows the lock on real parts: it makes users with mobile IDs and
// real certificates, runs scenes with the client library, and then reads the end
// states back from where they count: the store, the CRL and the OCSP responder,
// never from a workflow's result.
//
// A phone is there, too: a process that has nothing but what stands on the terminal.
// Its signatures and its logins are checked by code that knows nothing of it.
package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mobileid"
	"mobileid/activities/ca/devca"
	"mobileid/activities/identitymanager"
	"mobileid/starter/client"
	"mobileid/starter/selfservice/session"
	"mobileid/starter/stack"
)

// Demo is the scenes and what they play on.
type Demo struct {
	Out   io.Writer
	Stack *stack.Stack
	Store *identitymanager.Store
	Locks *client.Client
	Gets  *client.Gets
	// Terminal reports that Out is a terminal, which can show colours.
	Terminal bool

	driver    *devca.Driver
	issuer    *x509.Certificate
	scenes    int // that were begun
	dashboard dashboard
}

// person is a user of the demo with one mobile ID, and what is expected of it
// in the end: that it is locked, and that the person has got another one.
type person struct {
	id, name, mobileID string
	locked, gotAnother bool
}

// The cast. Carl is the bystander whom nobody touches.
var people = []person{
	{id: "anna", name: "Anna Andersson", mobileID: "mid-1001", locked: true},
	{id: "bert", name: "Bert Berg", mobileID: "mid-1002"},
	{id: "carl", name: "Carl Carlsson", mobileID: "mid-1003"},
	{id: eva, name: evasName, mobileID: evas, locked: true, gotAnother: true},
}

// The profiles of devca, by which the keys of a phone are called, too.
const (
	authentication = "authentication"
	signature      = "signature"
)

// profiles are the certificates of each mobile ID.
var profiles = []string{authentication, signature}

const validDays = 730

// Prepare makes the users, their mobile IDs, and their certificates, issued by
// devca for keys made here, as a phone would make them.
func (d *Demo) Prepare(ctx context.Context) error {
	ca := filepath.Join(d.Stack.Dir, "ca")
	var err error
	d.driver, err = devca.NewDriver(devca.DriverOptions{
		URL:            d.Stack.CA.APIURL,
		ClientCertFile: filepath.Join(ca, "client.pem"),
		ClientKeyFile:  filepath.Join(ca, "client.key"),
		ServerCAFile:   filepath.Join(ca, "tls-ca.pem"),
		Timeout:        10 * time.Second,
	})
	if err != nil {
		return err
	}
	if d.issuer, err = readPEM(filepath.Join(ca, "ca.pem")); err != nil {
		return err
	}
	for _, p := range people {
		if err := d.prepare(ctx, p); err != nil {
			return fmt.Errorf("prepare %s: %w", p.mobileID, err)
		}
	}
	return nil
}

func (d *Demo) prepare(ctx context.Context, p person) error {
	user := mobileid.User{ID: p.id, Name: p.name, Active: true, Roles: []string{mobileid.SelfServiceRole}}
	if err := d.Store.PutUser(ctx, user, p.id+"@example.com"); err != nil {
		return err
	}
	m := mobileid.MobileID{ID: p.mobileID, Name: "MobileID " + p.name, Owner: user, State: mobileid.Active}
	for _, profile := range profiles {
		issued, err := d.issue(ctx, p, profile)
		if err != nil {
			return err
		}
		if p.id == eva && profile == authentication {
			d.dashboard.lost = issued
		}
		kept, err := mobileid.NewCertificate(issued.Leaf, mobileid.CertificateValid)
		if err != nil {
			return err
		}
		m.Certificates = append(m.Certificates, kept)
	}
	return d.Store.CreateMobileID(ctx, m)
}

// Add makes one more user of Self-Service with a mobile ID, after Prepare.
func (d *Demo) Add(ctx context.Context, userID, name, mobileID string) error {
	return errors.Join(d.AddMobileID(ctx, userID, name, mobileID), d.putPassword(ctx, userID))
}

// AddMobileID makes one more mobile ID, after Prepare, and its owner if there is none,
// who has no password.
func (d *Demo) AddMobileID(ctx context.Context, userID, name, mobileID string) error {
	if err := d.prepare(ctx, person{id: userID, name: name, mobileID: mobileID}); err != nil {
		return fmt.Errorf("add %s: %w", mobileID, err)
	}
	return nil
}

// Password is the password of all users of the demo, at Self-Service.
const Password = "only for the demo"

// PutPasswords gives the users their passwords.
func (d *Demo) PutPasswords(ctx context.Context) error {
	for _, p := range people {
		if err := d.putPassword(ctx, p.id); err != nil {
			return err
		}
	}
	return nil
}

func (d *Demo) putPassword(ctx context.Context, userID string) error {
	hash, err := session.HashPassword(Password)
	if err != nil {
		return err
	}
	return d.Store.PutPassword(ctx, userID, hash)
}

// issue has one certificate issued for a new key, and leaves it in the folder
// certificates.
func (d *Demo) issue(ctx context.Context, p person, profile string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: p.name, SerialNumber: p.id},
	}, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	certificate, err := d.driver.Issue(ctx, csr, profile, validDays)
	if err != nil {
		return tls.Certificate{}, err
	}
	folder := filepath.Join(d.Stack.Dir, "certificates")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return tls.Certificate{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	return tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate},
		os.WriteFile(filepath.Join(folder, p.mobileID+"-"+profile+".pem"), text, 0o600)
}

// Play runs the scenes, and returns all that was not as it must be.
func (d *Demo) Play(ctx context.Context) error {
	var failed []error
	for _, s := range d.lockScenes() {
		failed = append(failed, d.perform(ctx, s))
	}
	for _, s := range d.dashboardScenes() {
		if err := d.perform(ctx, s); err != nil {
			// It leaves the next one nothing to go on with.
			failed = append(failed, err)
			break
		}
	}
	return errors.Join(failed...)
}

func readPEM(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file) //nolint:gosec // devca's folder
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", file)
	}
	return x509.ParseCertificate(block.Bytes)
}

// CheckYourself prints the commands with which the end states can be checked
// without this program.
func (d *Demo) CheckYourself() {
	dir := d.Stack.Dir
	lines := []string{"sqlite3 " + filepath.Join(dir, "im.db") + " 'SELECT id, state FROM mobile_ids'"}
	files := []string{
		filepath.Join(dir, "certificates", "mid-1001-authentication.pem"),
		filepath.Join(dir, "certificates", "mid-1003-authentication.pem"),
		filepath.Join(dir, "certificates", evas+"-authentication.pem"),
	}
	if phone := d.dashboard.phone; phone != nil {
		for _, keyID := range phone.KeyIDs() {
			files = append(files, filepath.Join(d.phones(), phone.ID, keyID+".pem"))
		}
	}
	for _, file := range files {
		lines = append(lines, fmt.Sprintf("openssl verify -crl_check -CAfile %s/ca/ca.pem -CRLfile %s/ca/crl.pem %s", dir, dir, file))
	}
	fmt.Fprintf(d.Out, "\nCheck it yourself:\n  %s\n", strings.Join(lines, "\n  "))
}
