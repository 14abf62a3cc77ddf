package devcatest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// withheld are the CRLs that are read in the place of newer ones, until these are due.
type withheld struct {
	mu  sync.Mutex
	due func() bool // nil: nothing is withheld
	old map[string]*httptest.ResponseRecorder
}

// until keeps what a site serves as its CRLs now.
func (w *withheld) until(due func() bool, public http.Handler) {
	old := map[string]*httptest.ResponseRecorder{}
	for _, path := range []string{"/crl.der", "/crl.pem"} {
		old[path] = httptest.NewRecorder()
		public.ServeHTTP(old[path], httptest.NewRequest(http.MethodGet, path, nil))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due, w.old = due, old
}

// wrap serves a site, but for the CRLs that are withheld.
func (w *withheld) wrap(public http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		old := w.take(r.URL.Path)
		if old == nil {
			public.ServeHTTP(rw, r)
			return
		}
		for name, values := range old.Header() {
			rw.Header()[name] = values
		}
		rw.WriteHeader(old.Code)
		_, _ = rw.Write(old.Body.Bytes())
	})
}

// take returns the old CRL that is served under a path, or nil. What was due once is
// published for good: a CRL does not go back.
func (w *withheld) take(path string) *httptest.ResponseRecorder {
	if !strings.HasPrefix(path, "/crl.") {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.due == nil {
		return nil
	}
	if w.due() {
		w.due, w.old = nil, nil
		return nil
	}
	return w.old[path]
}
