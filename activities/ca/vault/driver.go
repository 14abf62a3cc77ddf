// Package vault revokes certificates at the PKI secrets engine of HashiCorp Vault
// and of OpenBao, whose wire format is the same.
//
// Facts, from the source of hashicorp/vault v1.14.8 and v1.21.4
// (builtin/logical/pki) and from running the engine; those of OpenBao from its
// source v2.4.4 alone:
//
//   - POST /v1/<mount>/revoke with serial_number, in pairs of digits with colons (bare
//     hex is not found), or with the certificate itself, which also works where the
//     engine keeps none (no_store) or did not issue it.
//   - The engine tells its certificates apart by serial number alone, whichever issuer of
//     the mount they are of, and names the certificate where it is asked for its status.
//     So the status is read before each request.
//   - The engine knows no reasons. A field for one is ignored, the CRL carries none, and
//     OCSP says unspecified; so the record of a lock says that the CA has none.
//   - A second request is answered as the first, with the original time.
//   - For an expired certificate the answer is 200 (older versions: 204) with a warning
//     and no data: nothing was done.
//   - With auto_rebuild the CRL follows later; OCSP is right at once.
//   - There is no hold, and no undoing.
package vault

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/httpcall"
)

const defaultMount = "pki"

// Options say where the engine is and who asks.
type Options struct {
	URL            string        // https, of Vault, without a path
	Mount          string        // of the engine; default "pki"
	Namespace      string        // of Vault Enterprise or OpenBao; empty: none
	TokenFile      string        // file with the token, read for each request, so that it can be renewed
	ServerCAFile   string        // PEM file; empty: the trust store of the system
	ClientCertFile string        // PEM file, where the listener asks for one
	ClientKeyFile  string        // PEM file
	Timeout        time.Duration // of one request; default 10 s
}

// Driver is a [ca.Driver] for Vault's PKI engine.
type Driver struct {
	mount     *url.URL
	namespace string
	tokenFile string
	client    *httpcall.Client
}

var _ ca.Driver = (*Driver)(nil)

var mountForm = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)

// New returns a driver. It reads the files, and reports all faults of the options
// at once; it does not connect.
func New(options Options) (*Driver, error) {
	if options.Mount == "" {
		options.Mount = defaultMount
	}
	base, urlErr := httpcall.BaseURL(options.URL)
	var mountErr error
	if !mountForm.MatchString(options.Mount) {
		mountErr = fmt.Errorf("mount %q is not a path", options.Mount)
	}
	_, tokenErr := readToken(options.TokenFile)
	client, clientErr := httpcall.New(httpcall.Options{
		ClientCertFile: options.ClientCertFile, ClientKeyFile: options.ClientKeyFile, ServerCAFile: options.ServerCAFile, Timeout: options.Timeout,
	})
	if err := errors.Join(urlErr, mountErr, tokenErr, clientErr); err != nil {
		return nil, err
	}
	return &Driver{mount: base.JoinPath("v1", options.Mount), namespace: options.Namespace, tokenFile: options.TokenFile, client: client}, nil
}

// readToken never tells what stands in the file.
func readToken(file string) (string, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("token: %s holds no token", file)
	}
	return token, nil
}

// Client returns what carries the driver's requests.
func (d *Driver) Client() *httpcall.Client { return d.client }

// Credentials implements [ca.Credentialed].
func (d *Driver) Credentials() []*x509.Certificate {
	return []*x509.Certificate{d.client.ClientCertificate()}
}

// Capabilities implements [ca.Driver].
func (*Driver) Capabilities() ca.Capabilities {
	return ca.Capabilities{HasStatus: true, TakesDER: true}
}

// envelope is every answer of Vault in JSON.
type envelope struct {
	Data     json.RawMessage `json:"data"`
	Warnings []string        `json:"warnings"`
	Errors   []string        `json:"errors"`
}

// Revoke implements [ca.Driver]. The reason stays here.
func (d *Driver) Revoke(ctx context.Context, cert ca.Certificate, reason mobileid.Reason) (ca.Answer, error) {
	op := "revoke " + cert.String()
	if reason != "" && !reason.Final() {
		return ca.Answer{}, &ca.Error{Kind: ca.BadReason, Op: op, Words: fmt.Sprintf("%q does not revoke for good", string(reason))}
	}
	serial, err := colons(cert)
	if err != nil {
		return ca.Answer{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	// Several issuers may share a mount, and by serial number alone the engine would
	// revoke the certificate of another. Reading first costs one request, and it also
	// tells whether the engine keeps the certificate.
	known, err := d.Status(ctx, cert)
	if err != nil {
		return ca.Answer{}, err
	}
	body := map[string]string{"serial_number": serial}
	if known.Status == mobileid.StatusUnknown && len(cert.DER) > 0 {
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.DER}))
		if err := sameCertificate(text, cert); err != nil {
			return ca.Answer{}, &ca.Error{Kind: ca.Unsupported, Op: op, Words: "the certificate at hand", Err: err}
		}
		body = map[string]string{"certificate": text}
	}
	return d.revoke(ctx, op, cert, body)
}

func (d *Driver) revoke(ctx context.Context, op string, cert ca.Certificate, body map[string]string) (ca.Answer, error) {
	reply, err := d.do(ctx, op, http.MethodPost, "revoke", body)
	if err != nil {
		return ca.Answer{}, err
	}
	switch reply.Code {
	case http.StatusNoContent:
		return ca.Answer{Outcome: ca.ExpiredNotRevoked}, nil
	case http.StatusOK:
		return revoked(op, reply, cert)
	}
	return ca.Answer{}, failure(op, reply, body["serial_number"])
}

// revoked reads a 200.
func revoked(op string, reply httpcall.Reply, cert ca.Certificate) (ca.Answer, error) {
	var answer envelope
	if err := reply.JSON(op, &answer); err != nil {
		return ca.Answer{}, err
	}
	var data *struct {
		State string `json:"state"`
		Time  int64  `json:"revocation_time"`
	}
	if err := json.Unmarshal(answer.Data, &data); err != nil {
		return ca.Answer{}, httpcall.Unreadable(op, err)
	}
	switch {
	case data != nil && data.State == "revoked" && data.Time > 0:
		return ca.Answer{Outcome: ca.Revoked, RevokedAt: time.Unix(data.Time, 0).UTC()}, nil
	case data == nil && len(answer.Warnings) > 0 && !cert.NotAfter.IsZero() && cert.NotAfter.Before(time.Now()):
		return ca.Answer{Outcome: ca.ExpiredNotRevoked}, nil
	}
	return ca.Answer{}, httpcall.Unreadable(op, fmt.Errorf("it does not say revoked: %s", strings.Join(answer.Warnings, "; ")))
}

// failure translates an answer that is not the one hoped for. serial is the one
// that was sent, empty if none was. Where the engine has no code of its own, its words
// decide, and the caller reads the status before it believes them.
func failure(op string, reply httpcall.Reply, serial string) *ca.Error {
	var answer envelope
	_ = json.Unmarshal(reply.Body, &answer) // what is no error body has no words
	words := strings.Join(answer.Errors, "; ")
	e := reply.Failure(op, words)
	switch {
	case reply.Code == http.StatusNotFound:
		e.Kind = ca.Unsupported // no such mount: the address is wrong
	case reply.Code == http.StatusTemporaryRedirect:
		e.Kind = ca.Unavailable // a standby that cannot forward, as during a fail-over
	case reply.Code == http.StatusBadRequest && serial != "" && strings.HasPrefix(words, "certificate with serial "+serial+" not found"):
		e.Kind = ca.NotFound
	case reply.Code == http.StatusInternalServerError && strings.HasPrefix(words, "unable to verify signature on presented cert from any present issuer"):
		e.Kind = ca.NotFound // the mount has no such issuer, and no second try gives it one
	}
	return e
}

// Status implements [ca.Driver]. The engine names the certificate that it speaks of,
// and it is that one or none; the connection is what vouches for the answer.
func (d *Driver) Status(ctx context.Context, cert ca.Certificate) (ca.Evidence, error) {
	op := "read status of " + cert.String()
	serial, err := colons(cert)
	if err != nil {
		return ca.Evidence{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	asked := time.Now()
	reply, err := d.do(ctx, op, http.MethodGet, "cert/"+serial, nil)
	if err != nil {
		return ca.Evidence{}, err
	}
	var answer envelope
	if reply.Code == http.StatusNotFound && json.Unmarshal(reply.Body, &answer) == nil && answer.Errors != nil && len(answer.Errors) == 0 {
		return ca.Evidence{Status: mobileid.StatusUnknown, Proof: reply.Proof(asked)}, nil
	}
	if reply.Code != http.StatusOK {
		return ca.Evidence{}, failure(op, reply, "")
	}
	return d.evidence(op, reply, cert, asked)
}

func (d *Driver) evidence(op string, reply httpcall.Reply, cert ca.Certificate, asked time.Time) (ca.Evidence, error) {
	var answer struct {
		Data struct {
			Certificate string `json:"certificate"`
			Time        *int64 `json:"revocation_time"` // 0: not revoked
		} `json:"data"`
	}
	if err := reply.JSON(op, &answer); err != nil {
		return ca.Evidence{}, err
	}
	err := sameCertificate(answer.Data.Certificate, cert)
	if errors.Is(err, errAnother) {
		return ca.Evidence{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err} // and so it will stay
	}
	if err == nil && (answer.Data.Time == nil || *answer.Data.Time < 0) {
		err = errors.New("it does not say whether the certificate is revoked")
	}
	if err != nil {
		return ca.Evidence{}, httpcall.Unreadable(op, err)
	}
	evidence := ca.Evidence{Status: mobileid.StatusGood, Proof: reply.Proof(asked)}
	if *answer.Data.Time > 0 {
		evidence.Status = mobileid.StatusRevoked
		evidence.RevokedAt = time.Unix(*answer.Data.Time, 0).UTC()
	}
	return evidence, nil
}

// Check sees that the engine answers, and that the token may do what Revoke does.
func (d *Driver) Check(ctx context.Context) error {
	const op = "check Vault"
	path := strings.TrimPrefix(d.mount.Path, "/v1/") + "/revoke"
	reply, err := d.send(ctx, op, http.MethodPost, d.root().JoinPath("v1", "sys", "capabilities-self"), map[string]any{"paths": []string{path}})
	if err != nil {
		return err
	}
	if reply.Code != http.StatusOK {
		return failure(op, reply, "")
	}
	var answer struct {
		Data struct {
			Capabilities []string `json:"capabilities"`
		} `json:"data"`
	}
	if err := reply.JSON(op, &answer); err != nil {
		return err
	}
	for _, capability := range answer.Data.Capabilities {
		if capability == "root" || capability == "update" {
			return nil
		}
	}
	return &ca.Error{Kind: ca.Denied, Op: op, Words: "the token has no update capability on " + path}
}

func (d *Driver) root() *url.URL {
	root := *d.mount
	root.Path = ""
	return &root
}

// do sends one request to the engine and reads its whole answer.
func (d *Driver) do(ctx context.Context, op, method, path string, body any) (httpcall.Reply, error) {
	return d.send(ctx, op, method, d.mount.JoinPath(path), body)
}

func (d *Driver) send(ctx context.Context, op, method string, target *url.URL, body any) (httpcall.Reply, error) {
	token, err := readToken(d.tokenFile)
	if err != nil {
		// Nothing is sent, and whoever renews the token may be just writing it.
		return httpcall.Reply{}, &ca.Error{Kind: ca.Unavailable, Op: op, Err: err}
	}
	var content []byte
	if body != nil {
		if content, err = json.Marshal(body); err != nil {
			return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(content))
	if err != nil {
		return httpcall.Reply{}, &ca.Error{Kind: ca.Unsupported, Op: op, Err: err}
	}
	request.Header.Set("X-Vault-Token", token)
	request.Header.Set("X-Vault-Request", "true")
	if d.namespace != "" {
		request.Header.Set("X-Vault-Namespace", d.namespace)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return d.client.Do(ctx, op, request)
}
