// Package smallstep runs a private step-ca, Smallstep's certificate authority, from
// the program that is installed: on loopback, with a CRL that is made anew at each
// revocation. It ends when this process does, however this one ends.
package smallstep

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"mobileid/activities/ca/stepca"
)

const (
	// Provisioner is the name of the JWK provisioner.
	Provisioner = "mobileid"

	readyTime = 30 * time.Second
	lifetime  = 10 * 365 * 24 * time.Hour

	rootFile   = "root.pem"
	issuerFile = "ca.pem"
	issuerKey  = "ca.key"
	keyFile    = "provisioner.key"
	configFile = "ca.json"
)

// Server is a CA in a folder of its own.
type Server struct {
	Issuer *x509.Certificate // what signs certificates and the CRL
	Key    *ecdsa.PrivateKey // of Issuer
	URL    string
	CRLURL string

	dir     string
	program string
	cmd     *exec.Cmd
	done    chan struct{}
}

// Driver returns the options of a driver that the CA lets in.
func (s *Server) Driver() stepca.Options {
	return stepca.Options{
		URL: s.URL, ServerCAFile: filepath.Join(s.dir, rootFile), Provisioner: Provisioner, KeyFile: filepath.Join(s.dir, keyFile),
	}
}

// IssuerFile is a PEM file with Issuer.
func (s *Server) IssuerFile() string { return filepath.Join(s.dir, issuerFile) }

// Start makes a CA of the given name in an empty folder and returns when it answers.
func Start(ctx context.Context, program, dir string, name pkix.Name) (*Server, error) {
	s := &Server{dir: dir, program: program}
	if err := s.init(name); err != nil {
		return nil, fmt.Errorf("make step-ca's folder: %w", err)
	}
	return s, s.Restart(ctx)
}

// init writes keys, certificates and configuration. Its own certificate for TLS
// step-ca makes itself.
func (s *Server) init(name pkix.Name) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	rootName := pkix.Name{CommonName: "Root of " + name.CommonName}
	root, err := sign(rootName, 1, &rootKey.PublicKey, nil, rootKey)
	if err != nil {
		return err
	}
	if s.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	if s.Issuer, err = sign(name, 0, &s.Key.PublicKey, root, rootKey); err != nil {
		return err
	}
	provisioner, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	s.URL = "https://127.0.0.1:" + ports[0]
	s.CRLURL = "http://127.0.0.1:" + ports[1] + "/1.0/crl"
	return errors.Join(
		s.writePEM(rootFile, "CERTIFICATE", root.Raw), s.writePEM(issuerFile, "CERTIFICATE", s.Issuer.Raw),
		s.writeKey(issuerKey, s.Key), s.writeKey(keyFile, provisioner),
		s.writeConfig(ports, &provisioner.PublicKey),
	)
}

func (s *Server) writeConfig(ports []string, provisioner *ecdsa.PublicKey) error {
	text, err := json.MarshalIndent(map[string]any{
		"root": filepath.Join(s.dir, rootFile), "crt": filepath.Join(s.dir, issuerFile), "key": filepath.Join(s.dir, issuerKey),
		"address": "127.0.0.1:" + ports[0], "insecureAddress": "127.0.0.1:" + ports[1], "dnsNames": []string{"127.0.0.1", "localhost"},
		// At info level its log would hold the one-time tokens.
		"logger": map[string]any{"format": "text", "level": "error"},
		"db":     map[string]any{"type": "badgerv2", "dataSource": filepath.Join(s.dir, "db")},
		"crl":    map[string]any{"enabled": true, "generateOnRevoke": true, "cacheDuration": "1h", "renewPeriod": "40m", "idpURL": s.CRLURL},
		"authority": map[string]any{
			"claims":       map[string]any{"maxTLSCertDuration": "87600h", "defaultTLSCertDuration": "8760h"},
			"provisioners": []map[string]any{{"type": "JWK", "name": Provisioner, "key": stepca.JWK(provisioner)}},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, configFile), text, 0o600)
}

func (s *Server) writePEM(name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(s.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func (s *Server) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return s.writePEM(name, "PRIVATE KEY", der)
}

// sign makes the certificate of a CA; without a parent it signs itself.
func sign(name pkix.Name, pathLength int, key *ecdsa.PublicKey, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: name, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: pathLength, MaxPathLenZero: pathLength == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Restart starts the process, again after Stop, at the same addresses, and returns
// when it answers.
func (s *Server) Restart(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()                                                 //nolint:errcheck // the process has its own handle
	s.cmd = exec.Command(s.program, filepath.Join(s.dir, configFile)) //nolint:gosec // the program that the caller names
	s.cmd.Env = append(os.Environ(), "STEPPATH="+s.dir)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = dieWithParent()
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // how it ended is told by the process state
		close(s.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for !s.answers(ctx) {
		select {
		case <-s.done:
			text, _ := os.ReadFile(log.Name()) // for the message alone
			return fmt.Errorf("step-ca ended (%s): %s", s.cmd.ProcessState, text)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("step-ca does not answer: %w", ctx.Err()), s.Stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (s *Server) answers(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/health", nil)
	if err != nil {
		return false
	}
	trust := x509.NewCertPool()
	text, err := os.ReadFile(filepath.Join(s.dir, rootFile))
	if err != nil || !trust.AppendCertsFromPEM(text) {
		return false
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport, Timeout: time.Second}).Do(request)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil && response.StatusCode == http.StatusOK
}

// PublishAt has the CRL say that it is published at another address, as it is where
// something stands before the CA, and starts the process anew.
func (s *Server) PublishAt(ctx context.Context, url string) error {
	file := filepath.Join(s.dir, configFile)
	text, err := os.ReadFile(file) //nolint:gosec // our own
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	crl, ok := config["crl"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s has no section crl", file)
	}
	crl["idpURL"] = url
	if text, err = json.MarshalIndent(config, "", "  "); err != nil {
		return err
	}
	return errors.Join(s.Stop(), os.WriteFile(file, text, 0o600), s.Restart(ctx))
}

// Process is the running process.
func (s *Server) Process() *os.Process { return s.cmd.Process }

// Stop ends the process, and keeps the folder.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop step-ca: %w", err)
	}
	<-s.done
	return nil
}

func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all at the end, so that none is found twice
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}
