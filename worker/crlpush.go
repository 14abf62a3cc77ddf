package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"

	"mobileid/activities/ca"
	"mobileid/activities/crlpush"
	"mobileid/activities/identitymanager"
	"mobileid/config"
)

// crlPush makes the site to which CAs bring CRLs, over TLS. It asks for a client
// certificate; whether that lets the sender in is for the receiver to say.
func crlPush(log *zap.Logger, c config.CRLPush, store *identitymanager.Store, cas *ca.Authorities) (*crlpush.Receiver, *tls.Config, error) {
	options := crlpush.Options{
		ClientNames: c.ClientNames, User: c.User, Tenant: c.Tenant, MaxBytes: c.MaxBytes, Logger: slog.New(zapslog.NewHandler(log.Core())),
	}
	var err error
	if c.User != "" {
		password, _, err := config.ReadSecret("crl_push.password_file", c.PasswordFile)
		if err != nil {
			return nil, nil, err
		}
		options.Password = strings.TrimSpace(string(password))
	}
	if c.ClientCAFile != "" {
		if options.Roots, err = readPool(c.ClientCAFile); err != nil {
			return nil, nil, fmt.Errorf("crl_push.client_ca_file: %w", err)
		}
	}
	receiver, err := crlpush.New(store, cas, options)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := tls.LoadX509KeyPair(c.CertificateFile, c.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("crl_push.certificate_file: %w", err)
	}
	return receiver, &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, ClientCAs: options.Roots,
	}, nil
}

func readPool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("holds no PEM certificate")
	}
	return pool, nil
}
