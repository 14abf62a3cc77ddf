package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"mobileid"
	"mobileid/activities/messaging"
	"mobileid/activities/messaging/phone"
	"mobileid/starter/client"
	"mobileid/workflows"
)

// The cast of the dashboard way: Eva has lost her phone, and gets a mobile ID on
// another one.
const (
	eva      = "eva"
	evasName = "Eva Ek"
	evas     = "mid-1004"

	// grantFor is how long Eva may take.
	grantFor = time.Hour
)

// dashboard is what its scenes hand on to each other.
type dashboard struct {
	lost  tls.Certificate // for authentication, with its key: on the phone that is lost
	fresh string          // the id of the new mobile ID
	phone *phone.Profile  // what the new phone has of it
}

// dashboardScenes are one story: from an active mobile ID on a lost phone to one on
// another phone, by the way of the dashboard, where a lock goes on to Get.
func (d *Demo) dashboardScenes() []scene {
	return []scene{
		{"Eva logs in with her mobile ID " + evas, func(ctx context.Context) (string, error) {
			return d.mustLogin(ctx, d.dashboard.lost)
		}},
		{"Eva has lost her phone. She locks " + evas + " on the dashboard, to get a new one, and presses Next", d.lockToGet},
		{"Whoever has the lost phone tries to log in", func(ctx context.Context) (string, error) {
			return d.mustNotLogin(ctx, d.dashboard.lost, errNotGood)
		}},
		{"Eva presses Next, and scans with her new phone what the terminal shows", d.getOnNewPhone},
		{"Eva signs with her new phone", d.sign},
		{"Eva logs in with her new phone", func(ctx context.Context) (string, error) {
			with, err := d.onPhone(ctx, authentication)
			if err != nil {
				return "", err
			}
			return d.mustLogin(ctx, with)
		}},
		{"Eva tries to log in with the certificate that is for signatures", func(ctx context.Context) (string, error) {
			with, err := d.onPhone(ctx, signature)
			if err != nil {
				return "", err
			}
			return d.mustNotLogin(ctx, with, errNotForLogin)
		}},
	}
}

// lockToGet locks Eva's mobile ID and sees that Get waits for her, and that it did
// not begin before the three end states stood.
func (d *Demo) lockToGet(ctx context.Context) (string, error) {
	if _, err := d.Store.PutGrant(ctx, eva, "the dashboard of the demo", grantFor); err != nil {
		return "", err
	}
	caller, options := d.Locks.User(eva), client.LockOptions{ThenGet: true}
	if _, err := caller.Start(ctx, evas, options); err != nil {
		return "", err
	}
	if _, err := caller.Next(ctx, evas, options); err != nil {
		return "", err
	}
	lock, err := caller.WaitClosed(ctx, evas, nil)
	if err != nil {
		return "", err
	}
	if lock.Outcome != workflows.OutcomeLocked || lock.Get == nil {
		return "", fmt.Errorf("the outcome is %q, and Get is %v", lock.Outcome, lock.Get)
	}
	if err := d.checkMobileID(ctx, evas, wanted(true)); err != nil {
		return "", err
	}
	get, err := d.Gets.User(eva, "").Wait(ctx, nil, func(s client.GetStatus) bool {
		return s.Phase == workflows.AwaitingConfirmation || s.Phase == workflows.Closed
	})
	if err != nil {
		return "", err
	}
	if get.Phase == workflows.Closed || get.Lock == nil || get.Lock.WorkflowID != lock.WorkflowID {
		return "", fmt.Errorf("get is %s, and comes from %v", get.Phase, get.Lock)
	}
	return fmt.Sprintf("locked, revoked in Identity Manager, revoked at the CA; visible to others %s after Next. Get mobile ID waits for her",
		took(lock.RequestedAt, lock.VisibleAt)), nil
}

// getOnNewPhone draws the QR code, has a phone scan it, and follows until the new
// mobile ID is active.
func (d *Demo) getOnNewPhone(ctx context.Context) (string, error) {
	applicant := d.Gets.User(eva, "")
	status, err := applicant.Next(ctx)
	if err != nil {
		return "", err
	}
	if status.Phase != workflows.AwaitingPhone {
		return "", fmt.Errorf("get does not wait for a phone, it is %q", status.Phase)
	}
	provisioning, err := d.Store.ProvisioningOf(ctx, eva)
	if err != nil {
		return "", err
	}
	code, err := messaging.QRText(provisioning.URI)
	if err != nil {
		return "", err
	}
	if d.Terminal {
		code = messaging.InColours(code)
	}
	var screen bytes.Buffer // what the terminal shows, and nothing else
	fmt.Fprintf(io.MultiWriter(d.Out, &screen), "\n%s\n", indent(code))
	if d.dashboard.phone, err = d.scan(ctx, &screen); err != nil {
		return "", err
	}
	done, err := applicant.WaitClosed(ctx, nil)
	if err != nil {
		return "", err
	}
	if done.Outcome != workflows.OutcomeActive {
		return "", outcomeError(done)
	}
	d.dashboard.fresh = done.MobileID
	return fmt.Sprintf("%s is active %s after Next", done.MobileID, took(done.RequestedAt, done.ActivatedAt)), nil
}

// outcomeError is a Get that did not end with a mobile ID.
func outcomeError(s client.GetStatus) error {
	if s.Failure != nil {
		return fmt.Errorf("the outcome is %q: %w", s.Outcome, s.Failure)
	}
	return fmt.Errorf("the outcome is %q", s.Outcome)
}

func indent(text string) string {
	const margin = "   "
	return margin + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+margin) + "\n"
}

// phones is the folder of what phones have.
func (d *Demo) phones() string { return filepath.Join(d.Stack.Dir, "phone") }

// scan shows a screen to a phone, which is a process of its own, and returns what it
// has in the end.
func (d *Demo) scan(ctx context.Context, screen io.Reader) (*phone.Profile, error) {
	command := d.Stack.Command(ctx, "phone", "scan", "-", "--output", "json",
		"--dir", d.phones(), "--messaging", filepath.Join(d.Stack.Dir, "messaging"))
	var answer, shown bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = screen, &answer, &shown
	err := command.Run()
	for line := range strings.Lines(shown.String()) {
		fmt.Fprint(d.Out, "   phone: ", line)
	}
	if err != nil {
		return nil, fmt.Errorf("the phone: %w: %s", err, answer.String())
	}
	var has struct {
		Profile string `json:"profile"`
	}
	if err := json.Unmarshal(answer.Bytes(), &has); err != nil {
		return nil, fmt.Errorf("the phone's answer: %w", err)
	}
	return phone.Open(filepath.Join(d.phones(), has.Profile))
}

// onPhone returns a key of the new phone with its certificate, and checks that
// Identity Manager has that one for the new mobile ID.
func (d *Demo) onPhone(ctx context.Context, keyID string) (tls.Certificate, error) {
	with, err := d.dashboard.phone.TLSCertificate(keyID)
	if err != nil {
		return tls.Certificate{}, err
	}
	m, err := d.Store.MobileID(ctx, d.dashboard.fresh)
	if err != nil {
		return tls.Certificate{}, err
	}
	for _, c := range m.Certificates {
		if bytes.Equal(c.DER, with.Leaf.Raw) {
			return with, nil
		}
	}
	return tls.Certificate{}, fmt.Errorf("%s has no certificate with serial number %x", m.ID, with.Leaf.SerialNumber)
}

// sign has the phone sign, and verifies with the certificate alone.
func (d *Demo) sign(ctx context.Context) (string, error) {
	with, err := d.onPhone(ctx, signature)
	if err != nil {
		return "", err
	}
	document := make([]byte, 1<<10)
	rand.Read(document) // never fails
	signed, err := d.dashboard.phone.Sign(signature, document)
	if err != nil {
		return "", err
	}
	if err := d.verify(with.Leaf, document, signed); err != nil {
		return "", err
	}
	return "the signature verifies with the new certificate " + shownSerial(with.Leaf), nil
}

// verify checks a signature with a certificate of devca that is for signatures.
func (d *Demo) verify(certificate *x509.Certificate, document, signed []byte) error {
	algorithm := x509.SHA256WithRSA
	if certificate.PublicKeyAlgorithm == x509.ECDSA {
		algorithm = x509.ECDSAWithSHA256
	}
	if err := certificate.CheckSignatureFrom(d.issuer); err != nil {
		return fmt.Errorf("the certificate is not of devca: %w", err)
	}
	if certificate.KeyUsage&x509.KeyUsageContentCommitment == 0 {
		return errors.New("the certificate is not for signatures")
	}
	return certificate.CheckSignature(algorithm, document, signed)
}

func shownSerial(certificate *x509.Certificate) string {
	serial, err := mobileid.FormatSerial(certificate.SerialNumber)
	if err != nil {
		return "without a serial number"
	}
	return ending(serial)
}

// mustLogin logs Eva in.
func (d *Demo) mustLogin(ctx context.Context, with tls.Certificate) (string, error) {
	service, err := newDoor(d.issuer)
	if err != nil {
		return "", err
	}
	userID, err := service.login(ctx, with)
	if err != nil {
		return "", err
	}
	if userID != eva {
		return "", fmt.Errorf("it is %q who is logged in", userID)
	}
	return fmt.Sprintf("%s is let in by TLS 1.3 with certificate %s, which is good by OCSP", userID, shownSerial(with.Leaf)), nil
}

// mustNotLogin sees that a login is refused in a certain way.
func (d *Demo) mustNotLogin(ctx context.Context, with tls.Certificate, why error) (string, error) {
	service, err := newDoor(d.issuer)
	if err != nil {
		return "", err
	}
	userID, err := service.login(ctx, with)
	switch {
	case err == nil:
		return "", fmt.Errorf("%q is logged in", userID)
	case !errors.Is(err, why):
		return "", fmt.Errorf("it is refused for another reason: %w", err)
	}
	return "refused: " + err.Error(), nil
}
