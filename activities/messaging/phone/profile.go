package phone

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"mobileid/activities/messaging"
)

// Profile is what a phone keeps of a mobile ID.
type Profile struct {
	ID         string
	ServerName string
	Name       string
	UserID     string
	keys       map[string]*key
}

// key is a key with its certificates, leaf first; none before they came.
type key struct {
	signer crypto.Signer
	chain  []*x509.Certificate
}

// KeyIDs are the ids of the profile's keys, sorted.
func (p *Profile) KeyIDs() []string { return slices.Sorted(maps.Keys(p.keys)) }

// Certificate returns the certificate for a key.
func (p *Profile) Certificate(keyID string) (*x509.Certificate, error) {
	k, err := p.complete(keyID)
	if err != nil {
		return nil, err
	}
	return k.chain[0], nil
}

// Sign signs the SHA-256 of data: PKCS #1 v1.5 with an RSA key, ASN.1 with an EC
// key. [x509.Certificate.CheckSignature] checks it.
func (p *Profile) Sign(keyID string, data []byte) ([]byte, error) {
	k, err := p.complete(keyID)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return k.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// Prove signs a challenge and sees that the signature verifies with the certificate:
// that the phone holds the key, and the CA has certified this one.
func (p *Profile) Prove(keyID string, challenge []byte) error {
	certificate, err := p.Certificate(keyID)
	if err != nil {
		return err
	}
	signature, err := p.Sign(keyID, challenge)
	if err != nil {
		return err
	}
	algorithm := x509.SHA256WithRSA
	if certificate.PublicKeyAlgorithm == x509.ECDSA {
		algorithm = x509.ECDSAWithSHA256
	}
	return certificate.CheckSignature(algorithm, challenge, signature)
}

// TLSCertificate is a key with its certificates, for a connection that asks for a
// client certificate.
func (p *Profile) TLSCertificate(keyID string) (tls.Certificate, error) {
	k, err := p.complete(keyID)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair := tls.Certificate{PrivateKey: k.signer, Leaf: k.chain[0]}
	for _, cert := range k.chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	return pair, nil
}

func (p *Profile) complete(keyID string) (*key, error) {
	k, known := p.keys[keyID]
	if !known {
		return nil, fmt.Errorf("profile %s has no key %q", p.ID, keyID)
	}
	if len(k.chain) == 0 {
		return nil, fmt.Errorf("profile %s has no certificate for key %s", p.ID, keyID)
	}
	return k, nil
}

// install takes certificates for all keys, or for none.
func (p *Profile) install(delivered messaging.Certificates) error {
	if delivered.ProfileID != p.ID {
		return errors.New("the certificates are for another profile")
	}
	chains := map[string][]*x509.Certificate{}
	for _, chain := range delivered.Chains {
		k, known := p.keys[chain.KeyID]
		if !known {
			return fmt.Errorf("there is no key %q", chain.KeyID)
		}
		for _, der := range chain.Certificates {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return fmt.Errorf("key %s: a certificate cannot be read", chain.KeyID)
			}
			chains[chain.KeyID] = append(chains[chain.KeyID], cert)
		}
		public, ok := k.signer.Public().(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !public.Equal(chains[chain.KeyID][0].PublicKey) {
			return fmt.Errorf("key %s: the certificate is for another key", chain.KeyID)
		}
	}
	if len(chains) != len(p.keys) {
		return fmt.Errorf("there are certificates for %d of %d keys", len(chains), len(p.keys))
	}
	for id, chain := range chains {
		p.keys[id].chain = chain
	}
	return nil
}

const profileFile = "profile.json"

type profileBody struct {
	ID         string   `json:"id"`
	ServerName string   `json:"serverName"`
	Name       string   `json:"name"`
	UserID     string   `json:"userId"`
	Keys       []string `json:"keys"`
}

// save keeps the profile in a folder of its own below dir: profile.json, and for
// each key <key id>.key and, once it came, <key id>.pem with the chain.
func (p *Profile) save(dir string) error {
	dir = filepath.Join(dir, p.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for id, k := range p.keys { // ids are fit for names of files: the command was checked
		der, err := x509.MarshalPKCS8PrivateKey(k.signer)
		if err != nil {
			return err
		}
		if err := replace(filepath.Join(dir, id+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
			return err
		}
		var chain bytes.Buffer
		for _, cert := range k.chain {
			chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
		}
		if chain.Len() == 0 {
			continue
		}
		if err := replace(filepath.Join(dir, id+".pem"), chain.Bytes()); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(profileBody{ID: p.ID, ServerName: p.ServerName, Name: p.Name, UserID: p.UserID, Keys: p.KeyIDs()}, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, profileFile), append(text, '\n'))
}

func replace(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// Open reads the profile that is kept in a folder, the profile's own below
// Options.Dir.
func Open(dir string) (*Profile, error) {
	text, err := os.ReadFile(filepath.Join(dir, profileFile)) //nolint:gosec // the folder is the caller's choice
	if err != nil {
		return nil, err
	}
	var b profileBody
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, profileFile), err)
	}
	p := &Profile{ID: b.ID, ServerName: b.ServerName, Name: b.Name, UserID: b.UserID, keys: map[string]*key{}}
	for _, id := range b.Keys {
		if p.keys[id], err = openKey(filepath.Join(dir, id)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func openKey(path string) (*key, error) {
	text, err := os.ReadFile(path + ".key") //nolint:gosec // a name that save has written
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("read %s.key: it is not PEM", path)
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signer, ok := private.(crypto.Signer)
	if err != nil || !ok {
		return nil, fmt.Errorf("read %s.key: it is not a PKCS #8 key", path)
	}
	k := &key{signer: signer}
	text, err = os.ReadFile(path + ".pem") //nolint:gosec // a name that save has written
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read %s.pem: %w", path, err)
		}
		k.chain = append(k.chain, cert)
	}
	return k, nil
}
