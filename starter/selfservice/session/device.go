package session

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"time"

	"mobileid/starter/selfservice/seal"
)

const (
	// deviceTime is how long a browser is known after a sign-in.
	deviceTime = 180 * 24 * time.Hour

	deviceBytes        = 16
	secureDeviceCookie = "__Host-mobileid-device"
	plainDeviceCookie  = "mobileid-device"
)

// Devices know the browsers in which a user has signed in by password before, so that
// tries elsewhere do not keep the user out of them (OWASP, Slow Down Online Guessing
// Attacks with Device Cookies). The cookie is sealed for its user, and says nothing of
// who that is. It lets nobody in: it has tries of its own, that is all.
type Devices struct {
	sealer *seal.Sealer
	secure bool
}

// NewDevices makes Devices. The key is that of all seals; secure means that people come
// by TLS.
func NewDevices(key []byte, secure bool, clock func() time.Time) (*Devices, error) {
	sealer, err := seal.New(key, "device", clock)
	if err != nil {
		return nil, err
	}
	return &Devices{sealer: sealer, secure: secure}, nil
}

// Of is the name of the browser that a request comes from, if the user has signed in with
// it before; else it is empty.
func (d *Devices) Of(r *http.Request, userID string) string {
	cookie, err := r.Cookie(d.name())
	if err != nil {
		return ""
	}
	var name string
	if d.sealer.Open(cookie.Value, &name, userID) != nil {
		return ""
	}
	return name
}

// Remember makes the browser known, because the user has signed in with it.
func (d *Devices) Remember(w http.ResponseWriter, r *http.Request, userID string) error {
	name := d.Of(r, userID)
	if name == "" {
		random := make([]byte, deviceBytes)
		_, _ = rand.Read(random) // never fails
		name = base64.RawURLEncoding.EncodeToString(random)
	}
	value, err := d.sealer.Seal(name, deviceTime, userID)
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever people come by TLS
		Name: d.name(), Value: value, Path: "/", MaxAge: int(deviceTime.Seconds()),
		Secure: d.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return nil
}

func (d *Devices) name() string {
	if d.secure {
		return secureDeviceCookie
	}
	return plainDeviceCookie
}
