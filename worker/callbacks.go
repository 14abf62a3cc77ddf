package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging"
	"mobileid/config"
	"mobileid/workflows"
)

// inbox keeps what messaging tells in Identity Manager's store, and tells the waiting
// process that there is something. Any worker can take a callback.
type inbox struct {
	store    *identitymanager.Store
	temporal client.Client
}

var deliveries = map[identitymanager.DeliveryOutcome]messaging.Delivery{
	identitymanager.DeliveryNew:       messaging.New,
	identitymanager.DeliveryDuplicate: messaging.Duplicate,
	identitymanager.DeliveryLate:      messaging.Late,
	identitymanager.DeliveryUnknown:   messaging.Unknown,
}

// Deliver implements [messaging.Inbox]. The process is told once more of what came
// before: the worker that took it may have died in between. What it is told holds
// the id of the command alone.
func (i inbox) Deliver(ctx context.Context, callback messaging.Callback) (messaging.Delivery, error) {
	body, err := callback.Encode()
	if err != nil {
		return "", err
	}
	command := callback.CommandID
	delivery, err := i.store.Deliver(ctx, command, string(callback.Kind), body)
	if err == nil && delivery.Outcome == identitymanager.DeliveryUnknown {
		if command, err = i.meant(ctx, callback); command != "" {
			delivery, err = i.store.Deliver(ctx, command, string(callback.Kind), body)
		}
	}
	if err != nil {
		return "", err
	}
	// That the time is over may come when the secrets are deleted for the same reason:
	// there is nothing to keep then, and still nothing to wait for.
	over := delivery.Outcome == identitymanager.DeliveryLate && callback.Outcome == messaging.TimedOut
	if over || delivery.Outcome == identitymanager.DeliveryNew || delivery.Outcome == identitymanager.DeliveryDuplicate {
		err := i.temporal.SignalWorkflow(ctx, delivery.WorkflowID, "", workflows.Answered, workflows.AnsweredMessage{CommandID: command})
		var closed *serviceerror.NotFound
		if err != nil && !errors.As(err, &closed) {
			return "", fmt.Errorf("tell the process: %w", err)
		}
	}
	return deliveries[delivery.Outcome], nil
}

// errTooEarly asks messaging to come again.
var errTooEarly = errors.New("the command is not written down yet")

// meant returns the command that a phone's answer about certificates is for, although
// it names one that nobody knows; empty if there is none. Messaging makes up the id of
// a command, so a phone may be quicker than the worker that has to note it, and a
// worker may die before it does: then another one sends the certificates again, and
// the phone has answered already.
func (i inbox) meant(ctx context.Context, callback messaging.Callback) (string, error) {
	if callback.Kind != messaging.KindCertificate || callback.Outcome == messaging.TimedOut || mobileid.CheckID("externalId", callback.ExternalID) != nil {
		return "", nil
	}
	m, err := i.store.MobileID(ctx, callback.ExternalID)
	if errors.Is(err, mobileid.ErrMobileIDNotFound) || err == nil && m.State != mobileid.Registered {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	known, err := i.store.Installation(ctx, m.ID)
	if errors.Is(err, mobileid.ErrNoCommand) {
		return "", errTooEarly
	}
	return known.CommandID, err
}

// callbacks makes the site that takes callbacks, over TLS.
func callbacks(log *zap.Logger, c config.Messaging, inbox messaging.Inbox) (*messaging.Receiver, *tls.Config, error) {
	receiver, err := messaging.NewReceiver(inbox, messaging.ReceiverOptions{
		User: c.CallbackUser, PasswordFile: c.CallbackPasswordFile, Logger: slog.New(zapslog.NewHandler(log.Core())),
	})
	if err != nil {
		return nil, nil, err
	}
	certificate, err := tls.LoadX509KeyPair(c.CallbackCertificateFile, c.CallbackKeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("messaging.callback_certificate_file: %w", err)
	}
	return receiver, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}, nil
}

// forgetEvery is how often a worker looks for secrets that have expired.
const forgetEvery = time.Minute

// forgetSecrets deletes the secrets of provisionings that nobody has used, until ctx
// ends. The processes forget what they have used themselves.
func forgetSecrets(ctx context.Context, log *zap.Logger, store *identitymanager.Store) {
	look := time.NewTicker(forgetEvery)
	defer look.Stop()
	for {
		if _, err := store.ForgetExpiredSecrets(ctx); err != nil && ctx.Err() == nil {
			log.Error("Expired secrets are not deleted yet", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// listenTLS listens with or without TLS.
func listenTLS(address string, config *tls.Config) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil || config == nil {
		return listener, err
	}
	return tls.NewListener(listener, config), nil
}
