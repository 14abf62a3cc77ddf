package phone

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/device"
)

// Misbehaviour is a way in which the phone is not what it should be.
type Misbehaviour string

// The misbehaviours.
const (
	WellBehaved      Misbehaviour = ""
	WrongNonce       Misbehaviour = "wrong-nonce"
	ForeignKey       Misbehaviour = "foreign-attestation" // signs with an attestation key of its own making
	ForeignSubject   Misbehaviour = "foreign-csr"         // a request for somebody else
	BrokenRequest    Misbehaviour = "broken-csr"          // a request whose signature does not fit
	WeakKey          Misbehaviour = "weak-key"            // smaller than asked
	SameKey          Misbehaviour = "same-key"            // one key in all requests
	Template         Misbehaviour = "template"            // returns the templates as they came
	AnswerTwice      Misbehaviour = "answer-twice"        // sends each answer twice
	Silent           Misbehaviour = "silent"              // fetches, and never answers
	RefuseKeys       Misbehaviour = "refuse"              // the person taps No
	RefuseInstalling Misbehaviour = "refuse-install"      // the person taps No when the certificates come
)

// Misbehaviours are all of them.
var Misbehaviours = []Misbehaviour{
	WrongNonce, ForeignKey, ForeignSubject, BrokenRequest, WeakKey, SameKey, Template, AnswerTwice, Silent, RefuseKeys, RefuseInstalling,
}

// ErrRefused reports that the person refused, as the misbehaviours RefuseKeys and
// RefuseInstalling have it, or that what came cannot be installed.
var ErrRefused = errors.New("the phone refused")

// ErrSilent reports that the phone did not answer, as the misbehaviour has it.
var ErrSilent = errors.New("the phone does not answer")

// Options are how the phone works.
type Options struct {
	// Dir is where profiles are kept, one folder each, for the owner alone.
	Dir string
	// AttestationKeyFile is the JWK that makes the phone a phone: attestation.jwk in
	// the folder of the embedded server.
	AttestationKeyFile string
	// ServerCAFile is a PEM file with what vouches for messaging: tls.pem there.
	ServerCAFile string
	// Show is called with what a person would see; default nothing.
	Show func(line string)
	// Poll is the pause between two looks for a command; default 500 ms.
	Poll time.Duration
	// Misbehave is what goes wrong; default nothing.
	Misbehave Misbehaviour
}

// Scan does what a person does who scans a QR code: it answers the command behind
// the content, and waits until the certificates have come and are kept. It goes on
// over faults of the network until ctx ends. Its errors do not hold the content.
func Scan(ctx context.Context, content string, options Options) (*Profile, error) {
	if options.Show == nil {
		options.Show = func(string) {}
	}
	if options.Poll <= 0 {
		options.Poll = 500 * time.Millisecond
	}
	target, err := device.ParseContent(content)
	if err != nil {
		return nil, err
	}
	attestation, err := readAttestationKey(options.AttestationKeyFile)
	if err != nil {
		return nil, err
	}
	line, err := newLine(target, options)
	if err != nil {
		return nil, err
	}
	defer line.close()
	s := &scan{Options: options, line: line, attestation: attestation}

	profile, err := s.provision(ctx)
	if err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	if err := s.install(ctx, profile); err != nil {
		return nil, fmt.Errorf("install certificates: %w", err)
	}
	return profile, nil
}

// scan is one use of the phone.
type scan struct {
	Options
	line        *line
	attestation attestationKey
}

// provision answers the provision command, and keeps the keys before it does.
func (s *scan) provision(ctx context.Context) (*Profile, error) {
	fetched, err := s.line.wait(ctx, messaging.KindProvision)
	if err != nil {
		return nil, err
	}
	asked, err := messaging.ParseProvision(fetched.Body)
	if err != nil {
		return nil, err
	}
	s.Show(fmt.Sprintf("%s wants to set up %q for %s", asked.ServerName, asked.ProfileName, asked.UserID))
	for _, key := range asked.Keys {
		s.Show(fmt.Sprintf("  a key %q for %s, %s", key.KeyID, key.Usage, key.Types[0]))
	}
	switch s.Misbehave {
	case Silent:
		s.Show("no answer")
		return nil, ErrSilent
	case RefuseKeys:
		return nil, s.refuse(ctx, fetched, "the person refused")
	}
	profile, statement, err := s.makeProfile(asked)
	if err != nil {
		return nil, err
	}
	if err := profile.save(s.Dir); err != nil {
		return nil, err
	}
	payload, err := statement.Encode()
	if err != nil {
		return nil, err
	}
	key := s.attestation
	if s.Misbehave == ForeignKey {
		if key, err = foreignKey(s.attestation); err != nil {
			return nil, err
		}
	}
	jws, err := key.sign(payload)
	if err != nil {
		return nil, err
	}
	s.Show("keys are made, and the requests are sent")
	return profile, s.answer(ctx, device.Answer{
		CommandID: fetched.CommandID, Outcome: messaging.Answered, ProfileID: profile.ID, JWS: jws,
	})
}

// install takes the certificates, keeps them, and only then says so.
func (s *scan) install(ctx context.Context, profile *Profile) error {
	fetched, err := s.line.wait(ctx, messaging.KindCertificate)
	if err != nil {
		return err
	}
	if s.Misbehave == RefuseInstalling {
		return s.refuse(ctx, fetched, "the person refused the certificates")
	}
	delivered, err := messaging.ParseCertificates(fetched.Body)
	if err == nil {
		err = profile.install(delivered)
	}
	if err != nil {
		return s.refuse(ctx, fetched, err.Error())
	}
	if err := profile.save(s.Dir); err != nil {
		return err
	}
	answer := device.Answer{CommandID: fetched.CommandID, Outcome: messaging.Answered, ProfileID: profile.ID}
	for _, chain := range delivered.Chains {
		answer.Installed = append(answer.Installed, chain.KeyID)
	}
	s.Show("certificates installed for " + strings.Join(answer.Installed, ", "))
	return s.answer(ctx, answer)
}

func (s *scan) refuse(ctx context.Context, fetched device.Command, reason string) error {
	s.Show("refused: " + reason)
	err := s.answer(ctx, device.Answer{CommandID: fetched.CommandID, Outcome: messaging.Refused, Reason: reason})
	return errors.Join(fmt.Errorf("%w: %s", ErrRefused, reason), err)
}

func (s *scan) answer(ctx context.Context, answer device.Answer) error {
	times := 1
	if s.Misbehave == AnswerTwice {
		times = 2
	}
	for range times {
		if err := s.line.answer(ctx, answer); err != nil {
			return err
		}
	}
	return nil
}
