package messaging

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"
)

// CallbackPath is where callbacks come to, below the callback URL that is
// registered with messaging.
const CallbackPath = "/rest/callback/"

// Delivery is what became of a callback in an [Inbox].
type Delivery string

// The deliveries. All of them are the end of the callback for messaging.
const (
	New       Delivery = "new"       // somebody waited for it
	Duplicate Delivery = "duplicate" // it was delivered before
	Late      Delivery = "late"      // nobody waits for it any more
	Unknown   Delivery = "unknown"   // nobody sent such a command
)

// Inbox takes callbacks to whom they belong. It returns when the callback can not
// be lost any more, and is called again for the same one after an error.
type Inbox interface {
	Deliver(ctx context.Context, callback Callback) (Delivery, error)
}

// Defaults of ReceiverOptions.
const (
	defaultRate    = 50
	defaultBurst   = 100
	deliverTimeout = 10 * time.Second
	// retryAfter is what a caller that has to come again is asked to wait, in seconds.
	retryAfter = 5
)

// ReceiverOptions say who may call back.
type ReceiverOptions struct {
	// User and the password in PasswordFile are callbackBasicAuth in the
	// configuration of messaging.
	User         string
	PasswordFile string
	// Rate is how many callbacks a second are taken, Burst how many at once;
	// default 50 and 100. As many requests with wrong credentials are answered,
	// counted apart, so that strangers do not keep messaging out.
	Rate   float64
	Burst  int
	Logger *slog.Logger // default none
}

// Receiver is the HTTP handler for callbacks:
//
//	POST /rest/callback/provision, POST /rest/callback/certificate
//
// 200 when the callback is taken, whether anybody waited for it or not; 400 for one
// that cannot be read, 401, 404, 405, 413, 415, 429; and 503 when the inbox failed,
// so that messaging tries again. It must be served with TLS, because of the
// password and of what callbacks hold.
type Receiver struct {
	inbox     Inbox
	user      [sha256.Size]byte
	password  [sha256.Size]byte
	callbacks *rate.Limiter
	strangers *rate.Limiter
	log       *slog.Logger
	mux       *http.ServeMux
}

// NewReceiver returns a receiver. It reports all faults of the options at once.
func NewReceiver(inbox Inbox, options ReceiverOptions) (*Receiver, error) {
	var faults []error
	if inbox == nil {
		faults = append(faults, errors.New("there is no inbox"))
	}
	if options.User == "" {
		faults = append(faults, errors.New("user: it is empty"))
	}
	password, err := ReadSecret(options.PasswordFile)
	if err != nil {
		faults = append(faults, fmt.Errorf("password: %w", err))
	}
	if options.Rate < 0 || options.Burst < 0 {
		faults = append(faults, errors.New("rate: it is negative"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("messaging callbacks: %w", err)
	}
	if options.Rate == 0 {
		options.Rate = defaultRate
	}
	if options.Burst == 0 {
		options.Burst = defaultBurst
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{
		inbox: inbox, user: sha256.Sum256([]byte(options.User)), password: sha256.Sum256([]byte(password)),
		callbacks: rate.NewLimiter(rate.Limit(options.Rate), options.Burst),
		strangers: rate.NewLimiter(rate.Limit(options.Rate), options.Burst),
		log:       options.Logger,
		mux:       http.NewServeMux(),
	}
	for _, kind := range []CommandKind{KindProvision, KindCertificate} {
		r.mux.HandleFunc("POST "+CallbackPath+string(kind), func(w http.ResponseWriter, request *http.Request) {
			r.serve(w, request, kind)
		})
	}
	return r, nil
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mux.ServeHTTP(w, request)
}

func (r *Receiver) serve(w http.ResponseWriter, request *http.Request, kind CommandKind) {
	if !r.authentic(request) {
		if !r.strangers.Allow() {
			refuse(w, http.StatusTooManyRequests)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="messaging"`)
		refuse(w, http.StatusUnauthorized)
		return
	}
	if !r.callbacks.Allow() {
		refuse(w, http.StatusTooManyRequests)
		return
	}
	if media, _, err := mime.ParseMediaType(request.Header.Get("Content-Type")); err != nil || media != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, MaxBody))
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		refuse(w, status)
		return
	}
	callback, err := ParseCallback(string(kind), body)
	if err != nil {
		r.log.Warn("messaging callback cannot be read", "kind", kind, "error", err)
		refuse(w, http.StatusBadRequest)
		return
	}
	r.deliver(request.Context(), w, callback)
}

// authentic compares the credentials in constant time, whatever their lengths, and
// both of them, whichever is wrong.
func (r *Receiver) authentic(request *http.Request) bool {
	user, password, _ := request.BasicAuth()
	u, p := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(u[:], r.user[:])&subtle.ConstantTimeCompare(p[:], r.password[:]) == 1
}

func (r *Receiver) deliver(ctx context.Context, w http.ResponseWriter, callback Callback) {
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	log := r.log.With("kind", callback.Kind, "command", callback.CommandID, "outcome", callback.Outcome)
	delivery, err := r.inbox.Deliver(ctx, callback)
	switch {
	case err != nil:
		// The inbox's words are its own; it must not quote the callback.
		log.Error("messaging callback not delivered; messaging is asked to come again", "error", err)
		refuse(w, http.StatusServiceUnavailable)
		return
	case delivery == New:
		log.Info("messaging callback delivered")
	default:
		log.Warn("messaging callback for nobody", "delivery", delivery)
	}
	w.WriteHeader(http.StatusOK)
}

func refuse(w http.ResponseWriter, status int) {
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	http.Error(w, http.StatusText(status), status)
}
