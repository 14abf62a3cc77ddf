package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"mobileid/activities/identitymanager"
)

// Argon2id as RFC 9106 section 4 recommends where memory is limited: 64 MiB, three
// passes, four lanes, a salt of 128 bits and a tag of 256.
const (
	argonMemory  = 64 * 1024 // KiB
	argonPasses  = 3
	argonLanes   = 4
	argonSalt    = 16
	argonTag     = 32
	maxMemory    = 256 * 1024 // of hashes that came from elsewhere
	maxPasses    = 16
	minPassword  = 12
	maxPassword  = 1024
	hashesAtOnce = 2 // a hash takes 64 MiB and all of a core
)

const (
	// TryWindow is the time in which tries to sign in are counted.
	TryWindow = 15 * time.Minute

	// triesOfUser and triesFromAddress are how many count in it. Many people can have
	// one address, so those that succeed do not count there.
	triesOfUser      = 10
	triesFromAddress = 60
)

// Errors of signing in by password.
var (
	// ErrWrong means that user and password do not belong together, whatever of the
	// two is wrong, or that the user may not sign in.
	ErrWrong = errors.New("user name or password is wrong")
	// ErrTooMany means that it was tried too often, and not looked at.
	ErrTooMany = errors.New("too many tries to sign in")
)

// Passwords signs the store's users in by their passwords.
type Passwords struct {
	// Tried, if not nil, is told how each try has ended.
	Tried func(err error)

	store *identitymanager.Store
	slots chan struct{}
	decoy string
}

// NewPasswords makes Passwords.
func NewPasswords(store *identitymanager.Store) (*Passwords, error) {
	// Nobody knows the password of the decoy, which is measured against where there is
	// none, so that the time does not tell who has one.
	unknown := make([]byte, argonTag)
	_, _ = rand.Read(unknown)
	decoy, err := HashPassword(hex.EncodeToString(unknown))
	if err != nil {
		return nil, err
	}
	return &Passwords{store: store, slots: make(chan struct{}, hashesAtOnce), decoy: decoy}, nil
}

// SignIn checks a password. The address is where the request came from, and device its
// browser, if the user has signed in with it before.
//
// A try counts for the device, until one succeeds. Without a device, or when it has had its
// tries, it counts for the address and, until one succeeds, for the user. So whoever tries
// passwords, of a user or from an address, keeps out all browsers but those that are known.
func (p *Passwords) SignIn(ctx context.Context, userID, password, address, device string) (err error) {
	if p.Tried != nil {
		defer func() { p.Tried(err) }()
	}
	counted, from := tryKey("device", device), tryKey("address", Network(address))
	known := device != ""
	if known {
		many, err := p.tooMany(ctx, counted, triesOfUser)
		if err != nil {
			return err
		}
		known = !many
	}
	if !known {
		counted = tryKey("user", userID)
		if many, err := p.tooMany(ctx, from, triesFromAddress); many || err != nil {
			return cmp.Or(err, ErrTooMany)
		}
		if many, err := p.tooMany(ctx, counted, triesOfUser); many || err != nil {
			return cmp.Or(err, ErrTooMany)
		}
	}
	kept, err := p.store.PasswordHash(ctx, userID)
	if err != nil {
		return err
	}
	right, err := p.verify(ctx, kept, password)
	if err != nil {
		return err
	}
	if !right {
		return ErrWrong
	}
	if !known {
		if err := p.store.TakeBackTry(ctx, from); err != nil {
			return err
		}
	}
	return p.store.ForgetTries(ctx, counted)
}

// tooMany counts a try, and reports whether there were too many.
func (p *Passwords) tooMany(ctx context.Context, key string, most int) (bool, error) {
	tries, err := p.store.CountTry(ctx, key, TryWindow)
	return tries > most, err
}

// verify takes its turn and measures a password against a hash, or against the decoy
// where there is none.
func (p *Passwords) verify(ctx context.Context, kept, password string) (bool, error) {
	if len(password) > maxPassword {
		password = ""
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if kept == "" {
		_, err := fits(p.decoy, password)
		return false, err
	}
	return fits(kept, password)
}

// tryKey is the key under which tries are counted: hashed, because it is about people.
func tryKey(kind, value string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + value))
	return kind + ":" + hex.EncodeToString(sum[:])
}

// Network is what counts of an address: all of IPv4, and of IPv6 the /64 that one
// customer has.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ip = ip.Unmap()
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ip.String()
	}
	return prefix.String()
}

// HashPassword returns the hash of a new password, in the text form of the Password
// Hashing Competition. A password that is too short or too long is refused; what else
// is asked of one is left to those who give them out.
func HashPassword(password string) (string, error) {
	if len(password) < minPassword || len(password) > maxPassword {
		return "", fmt.Errorf("a password must have %d to %d bytes", minPassword, maxPassword)
	}
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // never fails
	tag := argon2.IDKey([]byte(password), salt, argonPasses, argonMemory, argonLanes, argonTag)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(tag)), nil
}

// fits measures a password against a hash. Its errors are about the hash, and do not
// repeat it.
func fits(kept, password string) (bool, error) {
	errHash := errors.New("the stored hash of a password is not one of argon2id")
	parts := strings.Split(kept, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return false, errHash
	}
	var memory, passes uint32
	var lanes uint8
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes); n != 3 || err != nil ||
		memory < 8 || memory > maxMemory || passes < 1 || passes > maxPasses || lanes < 1 {
		return false, errHash
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	tag, tagErr := base64.RawStdEncoding.DecodeString(parts[5])
	if saltErr != nil || tagErr != nil || len(salt) < 8 || len(tag) < argonSalt || len(tag) > 64 {
		return false, errHash
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, lanes, uint32(len(tag))) //nolint:gosec // at most 64
	return subtle.ConstantTimeCompare(got, tag) == 1, nil
}
