package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"time"
)

// door is a service that people log in to with the certificate of their mobile ID.
// It listens on the loopback interface, speaks TLS 1.3 alone, and lets nobody in
// whose certificate is not good by OCSP at that moment; also if the responder says
// nothing.
type door struct {
	issuer *x509.Certificate // whose certificates open the door
	own    tls.Certificate   // its own, by which the client knows it
}

// errNotGood is a certificate that has been good: revoked, as a rule.
var errNotGood = errors.New("the certificate is not good")

// errNotForLogin is a certificate that is for something else (RFC 5280 section
// 4.2.1.12).
var errNotForLogin = errors.New("the certificate is not for TLS client authentication")

const (
	loginTimeout = 20 * time.Second
	maxGreeting  = 1 << 10 // bytes
	doorValidity = time.Hour
)

func newDoor(issuer *x509.Certificate) (*door, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "the door"},
		NotBefore:    time.Now().Add(-doorValidity),
		NotAfter:     time.Now().Add(doorValidity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &door{issuer: issuer, own: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}, nil
}

// login knocks with a certificate and its key, and returns the user id by which the
// door greets who is let in. The error is the door's own, because the alert that the
// client gets does not say why; see errNotGood and errNotForLogin.
func (d *door) login(ctx context.Context, with tls.Certificate) (userID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = listener.Close() }()
	outside, err := (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return "", err
	}
	defer func() { _ = outside.Close() }()
	served := make(chan error, 1)
	go func() { served <- d.serve(ctx, listener) }()
	userID, err = d.knock(ctx, outside, with)
	_ = outside.Close() // so that the door does not wait for more
	if refused := <-served; refused != nil {
		return "", refused
	}
	return userID, err
}

// serve greets one client.
func (d *door) serve(ctx context.Context, listener net.Listener) error {
	inside, err := listener.Accept()
	if err != nil {
		return err
	}
	defer func() { _ = inside.Close() }()
	trust := x509.NewCertPool()
	trust.AddCert(d.issuer)
	connection := tls.Server(inside, &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{d.own},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              trust,
		SessionTicketsDisabled: true,
		VerifyConnection:       func(state tls.ConnectionState) error { return d.admit(ctx, state.PeerCertificates[0]) },
	})
	if err := connection.HandshakeContext(ctx); err != nil {
		if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage {
			return errNotForLogin
		}
		return err
	}
	if err := connection.SetDeadline(deadline(ctx)); err != nil {
		return err
	}
	if _, err := io.WriteString(connection, connection.ConnectionState().PeerCertificates[0].Subject.SerialNumber); err != nil {
		return err
	}
	return connection.Close()
}

// admit decides about a certificate whose chain and dates are checked already.
func (d *door) admit(ctx context.Context, certificate *x509.Certificate) error {
	// TLS in Go takes a certificate without the extension to be for everything.
	if !slices.Contains(certificate.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return errNotForLogin
	}
	status, err := askOCSP(ctx, certificate, d.issuer)
	if err != nil {
		return fmt.Errorf("nobody says that the certificate is good: %w", err)
	}
	if status != good {
		return fmt.Errorf("%w: it is %s by OCSP", errNotGood, status)
	}
	return nil
}

// knock is the client's side.
func (d *door) knock(ctx context.Context, outside net.Conn, with tls.Certificate) (string, error) {
	trust := x509.NewCertPool()
	trust.AddCert(d.own.Leaf)
	connection := tls.Client(outside, &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: "127.0.0.1",
		RootCAs:    trust,
		// Whatever the door asks for: it is the door's part to refuse.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &with, nil },
	})
	if err := connection.HandshakeContext(ctx); err != nil {
		return "", err
	}
	if err := connection.SetDeadline(deadline(ctx)); err != nil {
		return "", err
	}
	greeting, err := io.ReadAll(io.LimitReader(connection, maxGreeting))
	return string(greeting), err
}

// deadline is when a context ends, if it does.
func deadline(ctx context.Context) time.Time {
	at, _ := ctx.Deadline()
	return at
}
