package embedded

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mobileid/activities/messaging"
)

// The names that are fixed.
const (
	ClientID     = "mobileid" // the one client of the API
	CallbackUser = "hermod"   // the user that the server shows at the callback URL
)

const (
	certificateLifetime = 10 * 365 * 24 * time.Hour
	// backdate lets clients whose clock is behind accept what is new.
	backdate = time.Hour
)

// identity is who the server is, and who its client is.
type identity struct {
	server   tls.Certificate
	apiKey   string // the value of X-Api-Key that is good
	password string // for the callback URL
}

// openIdentity reads the secrets of the folder, and makes those that are missing.
func openIdentity(f folder, serverNames []string, now time.Time) (identity, error) {
	var id identity
	var err error
	names := append([]string{"localhost", "127.0.0.1", "::1"}, serverNames...)
	if id.server, err = openServerCertificate(f, names, now); err != nil {
		return identity{}, err
	}
	if _, err := openSecret(f, APIKeyFile); err != nil {
		return identity{}, err
	}
	if id.apiKey, err = readAPIKey(f); err != nil {
		return identity{}, err
	}
	if id.password, err = openSecret(f, CallbackPasswordFile); err != nil {
		return identity{}, err
	}
	return id, openAttestation(f)
}

// openSecret reads a secret of one line, or makes one.
func openSecret(f folder, name string) (string, error) {
	there, err := f.has(name)
	if err != nil {
		return "", err
	}
	if !there {
		if err := f.write(name, []byte(rand.Text()+"\n")); err != nil {
			return "", err
		}
	}
	return messaging.ReadSecret(f.path(name))
}

// readAPIKey returns the value of X-Api-Key.
func readAPIKey(f folder) (string, error) {
	key, err := messaging.ReadSecret(f.path(APIKeyFile))
	return base64.StdEncoding.EncodeToString([]byte(ClientID + ":" + key)), err
}

// openAttestation makes the pair with which phones vouch for themselves.
func openAttestation(f folder) error {
	private, err := f.has(AttestationKeyFile)
	if err != nil {
		return err
	}
	public, err := f.has(AttestationKeysFile)
	if err != nil || private && public {
		return err
	}
	if public {
		return fmt.Errorf("%s has lost its key: restore %s, or start with an empty folder", f.path(AttestationKeysFile), AttestationKeyFile)
	}
	if !private {
		if err := makeAttestationKey(f); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(f.path(AttestationKeyFile))
	if err != nil {
		return err
	}
	var key jose.JSONWebKey
	if key.UnmarshalJSON(text) != nil {
		return fmt.Errorf("read %s: it is not a JWK", f.path(AttestationKeyFile))
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	if err != nil {
		return err
	}
	return f.write(AttestationKeysFile, append(set, '\n'))
}

func makeAttestationKey(f folder) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	jwk := jose.JSONWebKey{Key: key, Algorithm: string(jose.ES256), Use: "sig"}
	thumbprint, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return err
	}
	jwk.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	text, err := jwk.MarshalJSON()
	if err != nil {
		return err
	}
	return f.write(AttestationKeyFile, append(text, '\n'))
}

// openServerCertificate reads the pair of the server, makes the key if it is
// missing, and the certificate if it does not cover the names or is about to end.
// The certificate is signed by its own key, and is its own trust.
func openServerCertificate(f folder, names []string, now time.Time) (tls.Certificate, error) {
	key, err := openServerKey(f)
	if err != nil {
		return tls.Certificate{}, err
	}
	if pair, err := tls.LoadX509KeyPair(f.path(ServerCAFile), f.path(ServerKeyFile)); err == nil && covers(pair.Leaf, names, now) {
		return pair, nil
	}
	template, err := serverTemplate(names, now)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make %s: %w", ServerCAFile, err)
	}
	if err := f.write(ServerCAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return tls.Certificate{}, err
	}
	return tls.LoadX509KeyPair(f.path(ServerCAFile), f.path(ServerKeyFile))
}

func covers(cert *x509.Certificate, names []string, now time.Time) bool {
	for _, name := range names {
		if cert.VerifyHostname(name) != nil {
			return false
		}
	}
	return now.AddDate(0, 1, 0).Before(cert.NotAfter)
}

func serverTemplate(names []string, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "mobileid embedded messaging"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(certificateLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	return template, nil
}

func openServerKey(f folder) (crypto.Signer, error) {
	there, err := f.has(ServerKeyFile)
	if err != nil {
		return nil, err
	}
	if !there {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return key, f.write(ServerKeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	text, err := os.ReadFile(f.path(ServerKeyFile))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("read " + f.path(ServerKeyFile) + ": it is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("read " + f.path(ServerKeyFile) + ": it is not a PKCS #8 key") // the parser's words may quote what it read
	}
	return signer, nil
}
