package workflows_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"mobileid"
	"mobileid/activities"
	"mobileid/activities/ca"
	"mobileid/activities/messaging"
)

// getModel is the world outside of a Get: the model of a lock, with a CA that issues too,
// and with messaging and a phone, which answers by the script of its case.
type getModel struct {
	*model
	store  activities.Applicants
	issuer modelIssuer
	old    string // the mobile ID that the user had
	// schedule has something happen later, on the clock of the engine.
	schedule func(after time.Duration, what func())
	answer   func(commandID, kind string, body []byte)
	phone    map[string][]phoneAct // by the kind of the command
	keys     phoneKeys
	// Nothing may be made before Next, and the old one be locked before that is asked for.
	mayMake, mayLockOld bool

	sent    map[string]*sentCommand
	issued  map[string]*x509.Certificate // by the key's SPKI
	secrets []string
}

// phoneAct is what a phone answers to a command, and when.
type phoneAct struct {
	what  string
	after time.Duration
}

// What a phone answers to a command.
const (
	phoneProof    = "proof"
	phoneDeclines = "declines"
	phoneTimesOut = "times out" // messaging says so
	wrongNonce    = "wrong nonce"
	wrongKey      = "wrong attestation key"
	wrongSubject  = "wrong subject"
	halfInstalled = "half of the certificates"
)

// sentCommand is a command that messaging has.
type sentCommand struct {
	kind      string
	provision messaging.Provision
	profileID string
	keys      []string // whose certificates are delivered
	expiresAt time.Time
}

// phoneKeys are made once for all cases, because nothing depends on them.
type phoneKeys struct {
	attestation, foreign jose.JSONWebKey
}

const attestationKeyID = "phones"

func newPhoneKeys(t *testing.T) phoneKeys {
	t.Helper()
	made := func() jose.JSONWebKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		return jose.JSONWebKey{Key: key, KeyID: attestationKeyID, Algorithm: string(jose.ES256)}
	}
	return phoneKeys{attestation: made(), foreign: made()}
}

func (k phoneKeys) trusted() messaging.AttestationKeys {
	return messaging.AttestationKeys{attestationKeyID: k.attestation.Public().Key}
}

// guard notes what is done before it may be.
func (m *getModel) guard(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.mayMake {
		m.violate("%s before Next", what)
	}
}

func (m *getModel) allow(make, lockOld bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mayMake = m.mayMake || make
	m.mayLockOld = m.mayLockOld || lockOld
}

func (m *getModel) oldMayBeLocked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mayLockOld
}

// Lock locks the old one only if that was asked for.
func (m *getModel) Lock(ctx context.Context, order mobileid.LockOrder) (mobileid.LockReceipt, error) {
	m.mu.Lock()
	if order.MobileID == m.old && !m.mayLockOld {
		m.violate("the old mobile ID was locked, and nobody had asked for it: %+v", order)
	}
	m.mu.Unlock()
	return m.model.Lock(ctx, order)
}

// good are the certificates made in this case that are not revoked at the CA.
func (m *getModel) good() []mobileid.CertificateID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var good []mobileid.CertificateID
	for _, cert := range m.issued {
		id := identityOf(cert)
		if m.certificates[id].status != mobileid.StatusRevoked {
			good = append(good, id)
		}
	}
	return good
}

func identityOf(cert *x509.Certificate) mobileid.CertificateID {
	c, err := mobileid.NewCertificate(cert, mobileid.CertificateIssued)
	if err != nil {
		panic(err) // it is made here
	}
	return c.CertificateID
}

// --- Identity Manager

// modelApplicants is the real store, which fails before or after it has done its part.
type modelApplicants struct {
	activities.Applicants
	m *getModel
}

func (a modelApplicants) Applicant(ctx context.Context, userID string) (mobileid.Applicant, error) {
	return faulty(a.m.model, "Applicant", func() (mobileid.Applicant, error) { return a.Applicants.Applicant(ctx, userID) })
}

func (a modelApplicants) Register(ctx context.Context, order mobileid.RegistrationOrder) (mobileid.Receipt, error) {
	a.m.guard("a mobile ID was registered")
	return faulty(a.m.model, "Register", func() (mobileid.Receipt, error) { return a.Applicants.Register(ctx, order) })
}

func (a modelApplicants) PutProvisioning(ctx context.Context, p mobileid.Provisioning) error {
	return a.put("PutProvisioning", p.CommandID, func(expiresAt time.Time) error {
		p.ExpiresAt = expiresAt
		return a.Applicants.PutProvisioning(ctx, p)
	})
}

func (a modelApplicants) PutCommand(ctx context.Context, c mobileid.Command) error {
	return a.put("PutCommand", c.CommandID, func(expiresAt time.Time) error {
		c.ExpiresAt = expiresAt
		return a.Applicants.PutCommand(ctx, c)
	})
}

// put notes a command, to which the phone then answers. Its expiry is by the clock of the
// engine, and not by that of the machine.
func (a modelApplicants) put(method, commandID string, put func(expiresAt time.Time) error) error {
	a.m.mu.Lock()
	expiresAt := a.m.sent[commandID].expiresAt
	a.m.mu.Unlock()
	_, err := faulty(a.m.model, method, func() (struct{}, error) {
		err := put(expiresAt)
		if err == nil {
			a.m.reachPhone(commandID)
		}
		return struct{}{}, err
	})
	return err
}

func (a modelApplicants) Provisioning(ctx context.Context, id string) (mobileid.Provisioning, error) {
	return faulty(a.m.model, "Provisioning", func() (mobileid.Provisioning, error) { return a.Applicants.Provisioning(ctx, id) })
}

func (a modelApplicants) Installation(ctx context.Context, id string) (mobileid.Command, error) {
	return faulty(a.m.model, "Installation", func() (mobileid.Command, error) { return a.Applicants.Installation(ctx, id) })
}

func (a modelApplicants) Answer(ctx context.Context, commandID string) ([]byte, error) {
	return faulty(a.m.model, "Answer", func() ([]byte, error) { return a.Applicants.Answer(ctx, commandID) })
}

func (a modelApplicants) RecordIssued(ctx context.Context, order mobileid.IssueOrder) (mobileid.Receipt, error) {
	a.m.guard("certificates were recorded")
	return faulty(a.m.model, "RecordIssued", func() (mobileid.Receipt, error) { return a.Applicants.RecordIssued(ctx, order) })
}

func (a modelApplicants) Activate(ctx context.Context, order mobileid.ActivationOrder) (mobileid.Receipt, error) {
	a.m.guard("a mobile ID was activated")
	return faulty(a.m.model, "Activate", func() (mobileid.Receipt, error) { return a.Applicants.Activate(ctx, order) })
}

func (a modelApplicants) Abandon(ctx context.Context, order mobileid.AbandonOrder) (mobileid.Receipt, error) {
	a.m.guard("a mobile ID was abandoned")
	return faulty(a.m.model, "Abandon", func() (mobileid.Receipt, error) { return a.Applicants.Abandon(ctx, order) })
}

// awaitNoneLive is AwaitNoneLive, which looks once and does not wait on the clock of the
// machine.
func (m *getModel) awaitNoneLive(ctx context.Context, in activities.AwaitNoneLiveInput) (any, error) {
	applicant, err := modelApplicants{m.store, m}.Applicant(ctx, in.UserID)
	if err != nil {
		return nil, err
	}
	for _, live := range applicant.Live() {
		if in.MobileID == "" || in.MobileID == live.ID {
			return nil, temporal.NewApplicationError("mobile ID "+live.ID+" is live", activities.TypeStillLive)
		}
	}
	return nil, nil
}

// --- the CA, which issues

type modelIssuing struct {
	modelDriver
	m *getModel
}

func (d modelIssuing) IssueOnce(ctx context.Context, request ca.IssueRequest) (*x509.Certificate, error) {
	d.m.guard("a certificate was issued")
	if err := d.m.requireOldFinished(ctx, request.CSR.Subject.SerialNumber); err != nil {
		return nil, err
	}
	failure := func(kind ca.Kind, words string) (*x509.Certificate, error) {
		return nil, &ca.Error{Kind: kind, Op: "issue", Words: words}
	}
	switch fault := d.m.fault("Issue"); fault {
	case "down":
		return failure(ca.Unavailable, fault)
	case "cut before":
		return failure(ca.Ambiguous, fault)
	case "denied":
		return failure(ca.Denied, fault)
	case "cut after":
		d.m.issue(request)
		return failure(ca.Ambiguous, fault)
	case "done late":
		d.m.schedule(issueLate, func() { d.m.issue(request) })
		return failure(ca.Ambiguous, fault)
	}
	return d.m.issue(request), nil
}

// issueLate is less than a call of the CA may take.
const issueLate = 40 * time.Second

// requireOldFinished notes a certificate that is issued while an old mobile ID is live.
func (m *getModel) requireOldFinished(ctx context.Context, userID string) error {
	applicant, err := m.store.Applicant(ctx, userID)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, live := range applicant.Live() {
		if live.State != mobileid.Registered {
			m.violate("a certificate was issued while %s is %s and has %d open certificates", live.ID, live.State, len(live.Open()))
		}
	}
	return nil
}

// issue makes a certificate for a key that has none.
func (m *getModel) issue(request ca.IssueRequest) *x509.Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := string(request.CSR.RawSubjectPublicKeyInfo)
	if cert := m.issued[key]; cert != nil {
		return cert
	}
	id := uuid.New()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id[:]), Subject: request.CSR.Subject,
		NotBefore: m.now().Add(-time.Minute), NotAfter: request.NotAfter,
	}, m.issuer.cert, request.CSR.PublicKey, m.issuer.key)
	if err != nil {
		panic(err) // what it is made of is good
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	m.issued[key] = cert
	known, err := mobileid.NewCertificate(cert, mobileid.CertificateIssued)
	if err != nil {
		panic(err)
	}
	m.know(known, mobileid.StatusGood)
	return cert
}

func (d modelIssuing) Issued(_ context.Context, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	if fault := d.m.fault("Issued"); fault != "" {
		return nil, &ca.Error{Kind: map[string]ca.Kind{"down": ca.Unavailable, "denied": ca.Denied}[fault], Op: "find", Words: fault}
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if cert := d.m.issued[string(csr.RawSubjectPublicKeyInfo)]; cert != nil {
		return []*x509.Certificate{cert}, nil
	}
	return nil, nil
}

// --- messaging

type modelMessenger struct{ m *getModel }

func (p modelMessenger) Provision(_ context.Context, command messaging.Provision) (messaging.Accepted, error) {
	return p.take("provision", &sentCommand{
		kind: string(messaging.KindProvision), provision: command, profileID: "profile", expiresAt: p.m.now().Add(command.Lifespan),
	}, command.Nonce)
}

func (p modelMessenger) Certificates(_ context.Context, command messaging.Certificates) (messaging.Accepted, error) {
	sent := &sentCommand{kind: string(messaging.KindCertificate), profileID: command.ProfileID, expiresAt: p.m.now().Add(command.Lifespan)}
	for _, chain := range command.Chains {
		sent.keys = append(sent.keys, chain.KeyID)
	}
	return p.take("certificates", sent)
}

func (p modelMessenger) take(part string, sent *sentCommand, secrets ...string) (messaging.Accepted, error) {
	p.m.guard("messaging was asked for " + part)
	failure := func(kind messaging.Kind, words string) (messaging.Accepted, error) {
		return messaging.Accepted{}, &messaging.Error{Kind: kind, Op: "send " + part, Words: words}
	}
	fault := p.m.fault("messaging")
	switch fault {
	case "down":
		return failure(messaging.Unavailable, fault)
	case "denied":
		return failure(messaging.Denied, fault)
	}
	id, code := uuid.NewString(), "code-"+uuid.NewString()
	p.m.mu.Lock()
	p.m.sent[id] = sent
	p.m.secrets = append(p.m.secrets, append(secrets, code)...)
	p.m.mu.Unlock()
	if fault == "cut after" {
		return failure(messaging.Ambiguous, fault)
	}
	return messaging.Accepted{CommandID: id, Destinations: []messaging.Destination{{To: "@tmp", BID: "bid", URI: "app://" + code}}}, nil
}

// expiry is when a command expires, on the clock of the engine.
func (m *getModel) expiry(sent *activities.CommandSent, err error) (*activities.CommandSent, error) {
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	sent.ExpiresAt = m.sent[sent.CommandID].expiresAt
	return sent, nil
}

// --- the phone

// reachPhone has the phone answer a command as often as its script says.
func (m *getModel) reachPhone(commandID string) {
	m.mu.Lock()
	sent := m.sent[commandID]
	acts := m.phone[sent.kind]
	m.mu.Unlock()
	for _, act := range acts {
		body, err := m.body(commandID, sent, act.what)
		if err != nil {
			panic(err) // what it is made of is good
		}
		m.schedule(act.after, func() { m.answer(commandID, sent.kind, body) })
	}
}

func (m *getModel) body(commandID string, sent *sentCommand, what string) ([]byte, error) {
	callback := messaging.Callback{Kind: messaging.CommandKind(sent.kind), CommandID: commandID, Outcome: messaging.Answered, ProfileID: sent.profileID}
	switch {
	case what == phoneDeclines:
		callback.Outcome, callback.Reason = messaging.Refused, "declined"
	case what == phoneTimesOut:
		callback.Outcome = messaging.TimedOut
	case sent.kind == string(messaging.KindCertificate):
		callback.Installed = sent.keys
		if what == halfInstalled {
			callback.Installed = sent.keys[:1]
		}
	default:
		var err error
		if callback.JWS, err = m.proof(sent, what); err != nil {
			return nil, err
		}
	}
	return callback.Encode()
}

// proof is what the phone signs when it has made keys.
func (m *getModel) proof(sent *sentCommand, what string) (string, error) {
	said := messaging.Statement{Nonce: sent.provision.Nonce, UserID: sent.provision.UserID, ProfileID: sent.profileID}
	if what == wrongNonce {
		said.Nonce = rand.Text()
	}
	for _, asked := range sent.provision.Keys {
		template, err := x509.ParseCertificateRequest(asked.CSRTemplate)
		if err != nil {
			return "", err
		}
		made := &x509.CertificateRequest{RawSubject: template.RawSubject, ExtraExtensions: template.Extensions}
		if what == wrongSubject {
			made.RawSubject = nil
			made.Subject.CommonName = "Mallory"
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return "", err
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, made, key)
		if err != nil {
			return "", err
		}
		said.Keys = append(said.Keys, messaging.MadeKey{KeyID: asked.KeyID, CSR: csr})
	}
	payload, err := said.Encode()
	if err != nil {
		return "", err
	}
	key := m.keys.attestation
	if what == wrongKey {
		key = m.keys.foreign
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	jws, err := signed.CompactSerialize()
	m.mu.Lock()
	m.secrets = append(m.secrets, jws)
	m.mu.Unlock()
	return jws, err
}

// --- what the engine keeps

// recordingConverter keeps everything that is encoded for a history.
type recordingConverter struct {
	converter.DataConverter
	mu   sync.Mutex
	kept strings.Builder
}

func (r *recordingConverter) keep(p *commonpb.Payload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.kept.Write(p.GetData()) // it never fails
	_ = r.kept.WriteByte('\n')
}

// ToPayload implements [converter.DataConverter].
func (r *recordingConverter) ToPayload(value any) (*commonpb.Payload, error) {
	p, err := r.DataConverter.ToPayload(value)
	r.keep(p)
	return p, err
}

// ToPayloads implements [converter.DataConverter].
func (r *recordingConverter) ToPayloads(values ...any) (*commonpb.Payloads, error) {
	all, err := r.DataConverter.ToPayloads(values...)
	for _, p := range all.GetPayloads() {
		r.keep(p)
	}
	return all, err
}

// found are the secrets that are in what was kept, in a usual encoding.
func (r *recordingConverter) found(secrets []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.kept.String()
	for _, secret := range secrets {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret))} {
			if strings.Contains(kept, form) {
				return errors.New("a history has a secret: " + secret)
			}
		}
	}
	return nil
}
