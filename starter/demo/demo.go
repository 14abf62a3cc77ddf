// Package demo shows the lock on real parts: it makes users with mobile IDs and
// real certificates, runs scenes with the client library, and then reads the end
// states back from where they count: the store, the CRL and the OCSP responder,
// never from a workflow's result.
package demo

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/crypto/ocsp"

	"mobileid"
	"mobileid/activities/ca/devca"
	"mobileid/activities/identitymanager"
	"mobileid/starter/client"
	"mobileid/starter/stack"
	"mobileid/workflows"
)

// Demo is the scenes and what they play on.
type Demo struct {
	Out   io.Writer
	Stack *stack.Stack
	Store *identitymanager.Store
	Locks *client.Client

	driver *devca.Driver
	issuer *x509.Certificate
}

// person is a user of the demo with one mobile ID, and what is expected of it
// in the end.
type person struct {
	id, name, mobileID string
	locked             bool
}

// The cast. Carl is the bystander whom nobody touches.
var people = []person{
	{id: "anna", name: "Anna Andersson", mobileID: "mid-1001", locked: true},
	{id: "bert", name: "Bert Berg", mobileID: "mid-1002"},
	{id: "carl", name: "Carl Carlsson", mobileID: "mid-1003"},
}

// profiles are the certificates of each mobile ID.
var profiles = []string{"authentication", "signature"}

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
		certificate, err := d.issue(ctx, p, profile)
		if err != nil {
			return err
		}
		kept, err := mobileid.NewCertificate(certificate, mobileid.CertificateValid)
		if err != nil {
			return err
		}
		m.Certificates = append(m.Certificates, kept)
	}
	return d.Store.CreateMobileID(ctx, m)
}

// issue has one certificate issued and leaves it in the folder certificates.
func (d *Demo) issue(ctx context.Context, p person, profile string) (*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: p.name, SerialNumber: p.id},
	}, key)
	if err != nil {
		return nil, err
	}
	certificate, err := d.driver.Issue(ctx, csr, profile, validDays)
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(d.Stack.Dir, "certificates")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	return certificate, os.WriteFile(filepath.Join(folder, p.mobileID+"-"+profile+".pem"), text, 0o600)
}

// scene is one thing a user does, and what must come of it.
type scene struct {
	title string
	play  func(ctx context.Context) (string, error)
}

// Play runs the scenes. It goes on after one that fails, and returns all that
// was not as it must be.
func (d *Demo) Play(ctx context.Context) error {
	anna, bert := d.Locks.User("anna"), d.Locks.User("bert")
	scenes := []scene{
		{"Anna locks her mobile ID mid-1001 and presses Next", func(ctx context.Context) (string, error) {
			if _, err := anna.Start(ctx, "mid-1001", client.LockOptions{}); err != nil {
				return "", err
			}
			if _, err := anna.Next(ctx, "mid-1001", client.LockOptions{}); err != nil {
				return "", err
			}
			status, err := anna.WaitClosed(ctx, "mid-1001", nil)
			if err != nil {
				return "", err
			}
			if status.Outcome != workflows.OutcomeLocked {
				return "", fmt.Errorf("the outcome is %q", status.Outcome)
			}
			return "locked " + took(status.RequestedAt, status.LockedAt) + " after Next; visible to others " + took(status.RequestedAt, status.VisibleAt) + " after it", nil
		}},
		{"Anna locks mid-1001 once more", refused(mobileid.ErrMobileIDNotActive, func(ctx context.Context) error {
			_, err := anna.Lock(ctx, "mid-1001", client.LockOptions{})
			return err
		})},
		{"Bert tries to lock Carl's mobile ID mid-1003", refused(mobileid.ErrMobileIDNotFound, func(ctx context.Context) error {
			_, err := bert.Lock(ctx, "mid-1003", client.LockOptions{})
			return err
		})},
		{"Bert tries to lock one that does not exist", refused(mobileid.ErrMobileIDNotFound, func(ctx context.Context) error {
			_, err := bert.Lock(ctx, "mid-9999", client.LockOptions{})
			return err
		})},
		{"Bert starts to lock his own mid-1002 and presses Cancel", func(ctx context.Context) (string, error) {
			if _, err := bert.Start(ctx, "mid-1002", client.LockOptions{}); err != nil {
				return "", err
			}
			status, err := bert.Cancel(ctx, "mid-1002", client.LockOptions{})
			if err != nil {
				return "", err
			}
			if status.Outcome != workflows.OutcomeCancelled {
				return "", fmt.Errorf("the outcome is %q", status.Outcome)
			}
			return "cancelled, nothing was changed", nil
		}},
	}
	var failed []error
	for i, s := range scenes {
		fmt.Fprintf(d.Out, "%d. %s\n", i+1, s.title)
		text, err := s.play(ctx)
		if err != nil {
			failed = append(failed, fmt.Errorf("scene %d, %s: %w", i+1, s.title, err))
			text = "NOT AS IT MUST BE: " + err.Error()
		}
		fmt.Fprintf(d.Out, "   → %s\n", text)
	}
	return errors.Join(failed...)
}

// refused plays a scene that must be refused in a certain way.
func refused(want *mobileid.Refusal, act func(context.Context) error) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		err := act(ctx)
		if !errors.Is(err, want) {
			return "", fmt.Errorf("must be refused as %s, but: %w", want.Type, errOrNone(err))
		}
		return fmt.Sprintf("refused, %s: %s", want.Type, err), nil
	}
}

func errOrNone(err error) error {
	if err == nil {
		return errors.New("it was not refused")
	}
	return err
}

func took(from, to time.Time) string {
	if to.IsZero() {
		return "(not yet)"
	}
	return to.Sub(from).Round(time.Millisecond).String()
}

// ReadBack reads the end states where they count and shows them in a table. It
// returns every difference to what must be.
func (d *Demo) ReadBack(ctx context.Context) error {
	revoked, number, err := d.readCRL()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\nRead back from the store, from CRL number %s, and by OCSP:\n\n", number)
	w := tabwriter.NewWriter(d.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  MOBILE ID\tOWNER\tSTATE\tCERTIFICATE\tIN IM\tCRL\tOCSP\t")
	var different []error
	for _, p := range people {
		m, err := d.Store.MobileID(ctx, p.mobileID)
		if err != nil {
			return err
		}
		want := wanted(p.locked)
		if m.State != want.state {
			different = append(different, fmt.Errorf("%s is %s, must be %s", m.ID, m.State, want.state))
		}
		for _, c := range m.Certificates {
			certificate, err := x509.ParseCertificate(c.DER)
			if err != nil {
				return err
			}
			inCRL := "good"
			if revoked[certificate.SerialNumber.String()] {
				inCRL = "revoked"
			}
			byOCSP, err := d.askOCSP(ctx, certificate)
			if err != nil {
				return err
			}
			mark := "✓"
			if c.State != want.certificate || inCRL != want.published || byOCSP != want.published {
				mark = "DIFFERS"
				different = append(different, fmt.Errorf("certificate %s of %s: %s in IM, %s in the CRL, %s by OCSP; must be %s and %s",
					c.Serial, m.ID, c.State, inCRL, byOCSP, want.certificate, want.published))
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t…%s\t%s\t%s\t%s\t%s\n", m.ID, m.Owner.ID, m.State, c.Serial[max(0, len(c.Serial)-8):], c.State, inCRL, byOCSP, mark)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return errors.Join(different...)
}

// endStates are what must be read back.
type endStates struct {
	state       mobileid.State
	certificate mobileid.CertificateState
	published   string
}

func wanted(locked bool) endStates {
	if locked {
		return endStates{mobileid.Locked, mobileid.CertificateRevoked, "revoked"}
	}
	return endStates{mobileid.Active, mobileid.CertificateValid, "good"}
}

// readCRL reads the CRL that devca has published in its folder, the one that
// openssl would be given.
func (d *Demo) readCRL() (revoked map[string]bool, number string, err error) {
	file := filepath.Join(d.Stack.Dir, "ca", "crl.pem")
	text, err := os.ReadFile(file) //nolint:gosec // devca's folder
	if err != nil {
		return nil, "", err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, "", fmt.Errorf("%s holds no PEM", file)
	}
	crl, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, "", err
	}
	if err := crl.CheckSignatureFrom(d.issuer); err != nil {
		return nil, "", err
	}
	revoked = map[string]bool{}
	for _, entry := range crl.RevokedCertificateEntries {
		revoked[entry.SerialNumber.String()] = true
	}
	return revoked, crl.Number.String(), nil
}

// askOCSP asks the responder that the certificate itself names.
func (d *Demo) askOCSP(ctx context.Context, certificate *x509.Certificate) (string, error) {
	if len(certificate.OCSPServer) == 0 {
		return "", errors.New("the certificate names no OCSP responder")
	}
	body, err := ocsp.CreateRequest(certificate, d.issuer, nil)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, certificate.OCSPServer[0], bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/ocsp-request")
	httpClient := &http.Client{Timeout: 10 * time.Second}
	response, err := httpClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", err
	}
	parsed, err := ocsp.ParseResponseForCert(answer, certificate, d.issuer)
	if err != nil {
		return "", err
	}
	switch parsed.Status {
	case ocsp.Good:
		return "good", nil
	case ocsp.Revoked:
		return "revoked", nil
	}
	return "unknown", nil
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
	lines := []string{
		"sqlite3 " + filepath.Join(dir, "im.db") + " 'SELECT id, state FROM mobile_ids'",
		fmt.Sprintf("openssl verify -crl_check -CAfile %s/ca/ca.pem -CRLfile %s/ca/crl.pem %s/certificates/mid-1001-authentication.pem", dir, dir, dir),
		fmt.Sprintf("openssl verify -crl_check -CAfile %s/ca/ca.pem -CRLfile %s/ca/crl.pem %s/certificates/mid-1003-authentication.pem", dir, dir, dir),
	}
	fmt.Fprintf(d.Out, "\nCheck it yourself:\n  %s\n", strings.Join(lines, "\n  "))
}
