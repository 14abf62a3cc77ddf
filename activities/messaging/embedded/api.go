package embedded

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/device"
)

// BasePath is what stands before all paths, as with the product.
const BasePath = "/hermod"

// anyPhone is where a provision command goes: to whoever reads the QR code.
const anyPhone = "@tmp"

// Handler returns the whole interface. It must be served with TLS, see
// [Server.TLSConfig].
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("POST "+BasePath+"/rest/command/provision", s.forClient(s.serveProvision))
	mux.HandleFunc("POST "+BasePath+"/rest/command/certificate", s.forClient(s.serveCertificate))
	mux.HandleFunc("PUT "+BasePath+callbackURLPath, s.forClient(s.serveCallbackURL))
	mux.HandleFunc("GET "+BasePath+"/rest/ms/{bid}", s.serveFetch)
	mux.HandleFunc("POST "+BasePath+"/rest/ms/{bid}", s.serveAnswer)
	return mux
}

// forClient lets the client of the API in, and reads its request.
func (s *Server) forClient(next func(http.ResponseWriter, *http.Request, []byte)) http.HandlerFunc {
	want := sha256.Sum256([]byte(s.identity.apiKey))
	return func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("X-Api-Key")))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			writeError(w, http.StatusUnauthorized, "the API key is not known")
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, messaging.MaxBody))
		if err != nil {
			writeError(w, bodyStatus(err), "the body cannot be read")
			return
		}
		next(w, r, body)
	}
}

func bodyStatus(err error) int {
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

func (s *Server) serveProvision(w http.ResponseWriter, r *http.Request, body []byte) {
	asked, err := messaging.ParseProvision(body)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	c := command{
		id: uuid.NewString(), externalID: asked.ExternalID, bid: uuid.NewString(), kind: messaging.KindProvision,
		body: body, deadline: time.Now().Add(asked.Lifespan),
	}
	s.accept(w, r, c, messaging.Destination{
		To: anyPhone, BID: c.bid, URI: device.Content(s.options.PublicURL + "/rest/ms/" + c.bid),
	})
}

func (s *Server) serveCertificate(w http.ResponseWriter, r *http.Request, body []byte) {
	asked, err := messaging.ParseCertificates(body)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	bid, err := s.store.bidOf(r.Context(), asked.ProfileID)
	if errors.Is(err, errUnknown) {
		writeError(w, http.StatusNotFound, "no phone has this profile")
		return
	}
	if err != nil {
		s.fail(w, "find a profile", err)
		return
	}
	s.accept(w, r, command{
		id: uuid.NewString(), externalID: asked.ExternalID, bid: bid, kind: messaging.KindCertificate,
		body: body, deadline: time.Now().Add(asked.Lifespan),
	}, messaging.Destination{To: asked.ProfileID}) // the phone knows where to ask
}

// accept keeps a command, and then says so.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, c command, to messaging.Destination) {
	err := s.store.add(r.Context(), c)
	if errors.Is(err, errFull) {
		w.Header().Set("Retry-After", "5")
		writeError(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	if err != nil {
		s.fail(w, "keep a command", err)
		return
	}
	signal(s.added)
	s.options.Logger.Info("a command is taken", "command", c.id, "kind", c.kind)
	answer, err := messaging.Accepted{CommandID: c.id, Destinations: []messaging.Destination{to}}.Encode()
	if err != nil {
		s.fail(w, "answer a command", err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) serveCallbackURL(w http.ResponseWriter, r *http.Request, body []byte) {
	var asked callbackURLBody
	if json.Unmarshal(body, &asked) != nil {
		writeError(w, http.StatusBadRequest, "the body is not JSON of the expected shape")
		return
	}
	if err := checkCallbackURL(asked.CallbackURL); err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	if err := s.store.setCallbackURL(r.Context(), asked.CallbackURL, time.Now()); err != nil {
		s.fail(w, "set the callback URL", err)
		return
	}
	signal(s.answered)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) serveFetch(w http.ResponseWriter, r *http.Request) {
	next, err := s.store.next(r.Context(), r.PathValue("bid"), time.Now())
	if errors.Is(err, errUnknown) {
		writeError(w, http.StatusNotFound, "there is no such address")
		return
	}
	if err != nil {
		s.fail(w, "find a command for a phone", err)
		return
	}
	if next == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	body, err := json.Marshal(next)
	if err != nil {
		s.fail(w, "hand out a command", err)
		return
	}
	writeJSON(w, http.StatusOK, body)
}

func (s *Server) serveAnswer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, messaging.MaxBody))
	if err != nil {
		writeError(w, bodyStatus(err), "the body cannot be read")
		return
	}
	var answer device.Answer
	if json.Unmarshal(body, &answer) != nil || answer.Outcome == messaging.TimedOut {
		writeError(w, http.StatusBadRequest, "the body is not JSON of the expected shape")
		return
	}
	err = s.store.answer(r.Context(), r.PathValue("bid"), answer, time.Now())
	malformed := new(messaging.CallbackError)
	switch {
	case errors.Is(err, errUnknown):
		writeError(w, http.StatusNotFound, "there is no such command at this address")
	case errors.Is(err, errNoMore), errors.Is(err, errConflict):
		writeError(w, http.StatusConflict, err.Error())
	case errors.As(err, &malformed):
		writeError(w, http.StatusBadRequest, err.Error())
	case err != nil:
		s.fail(w, "keep an answer", err)
	default:
		signal(s.answered)
		s.options.Logger.Info("a phone answered", "command", answer.CommandID, "outcome", answer.Outcome)
		w.WriteHeader(http.StatusOK)
	}
}

// fail answers that the outcome is not known.
func (s *Server) fail(w http.ResponseWriter, doing string, err error) {
	s.options.Logger.Error("cannot "+doing, "error", err)
	writeError(w, http.StatusInternalServerError, "cannot "+doing)
}

func writeError(w http.ResponseWriter, status int, message string) {
	body, err := json.Marshal(map[string]string{"message": message})
	if err != nil {
		w.WriteHeader(status)
		return
	}
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone asks again
}
