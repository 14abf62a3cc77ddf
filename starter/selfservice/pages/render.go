package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode"

	"mobileid"
)

//go:embed templates
var templates embed.FS

//go:embed assets
var assets embed.FS

// view is what the frame of every page shows.
type view struct {
	Name     string // of the user
	SignedIn bool
	Entitled bool
	Contact  string
	Template string  // of the page
	Limits   *limits // nil: nobody is signed in
	At       string  // the address
	Page     any
}

// Under reports whether the page stands below a part of the menu.
func (v view) Under(part string) bool { return strings.HasPrefix(v.At, part+"/") }

// renderer renders pages from the embedded templates.
type renderer struct {
	pages  map[string]*template.Template
	parts  *template.Template
	plain  *texttemplate.Template
	assets http.Handler
}

func newRenderer() (*renderer, error) {
	links, handler, err := publishAssets()
	if err != nil {
		return nil, err
	}
	functions := template.FuncMap{
		"asset":     func(name string) string { return links[name] },
		"day":       func(t time.Time) string { return t.UTC().Format("2 January 2006") },
		"clock":     func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05") + " UTC" },
		"stamp":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"short":     short,
		"outcome":   outcome,
		"notNeeded": notNeeded,
		"source":    source,
		"lockFirst": lockFirstAddress,
	}
	r := &renderer{pages: map[string]*template.Template{}, assets: handler}
	r.parts, err = template.New("parts").Funcs(functions).ParseFS(templates, "templates/frame.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	files, err := fs.Glob(templates, "templates/page-*.html")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		page, err := r.parts.Clone()
		if err == nil {
			page, err = page.ParseFS(templates, file)
		}
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(path.Base(file), "page-"), ".html")
		r.pages[name] = page
	}
	r.plain, err = texttemplate.New("receipt.txt").Funcs(texttemplate.FuncMap{
		"stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"line":  oneLine, "outcome": outcome, "notNeeded": notNeeded, "source": source,
	}).ParseFS(templates, "templates/receipt.txt")
	return r, err
}

// page renders a page into memory first, so that a fault does not leave half of one.
func (r *renderer) page(w http.ResponseWriter, code int, name string, v view) {
	var b bytes.Buffer
	if err := r.pages[name].ExecuteTemplate(&b, "frame", v); err != nil {
		http.Error(w, "this page is broken", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // nobody is left to tell
}

// fragment renders the part of a page that changes.
func (r *renderer) fragment(w io.Writer, name string, page any) error {
	return r.parts.ExecuteTemplate(w, name+"-part", page)
}

// text renders the receipt as plain text.
func (r *renderer) text(w io.Writer, page receiptPage) {
	_ = r.plain.ExecuteTemplate(w, "receipt.txt", page) // nobody is left to tell
}

// publishAssets serves style and script under names that change with their content, so
// that browsers can keep them for good.
func publishAssets() (links map[string]string, handler http.Handler, err error) {
	links = map[string]string{}
	contents := map[string][]byte{}
	files, err := assets.ReadDir("assets")
	if err != nil {
		return nil, nil, err
	}
	for _, file := range files {
		content, err := assets.ReadFile("assets/" + file.Name())
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(content)
		link := "/assets/" + hex.EncodeToString(sum[:8]) + "/" + file.Name()
		links[file.Name()], contents[link] = link, content
	}
	return links, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, ok := contents[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, bytes.NewReader(content))
	}), nil
}

// short keeps the end of a long serial number, by which people compare them.
func short(serial string) string {
	const keep = 8
	if len(serial) <= keep {
		return serial
	}
	return "…" + serial[len(serial)-keep:]
}

// outcome says in words what became of a certificate.
func outcome(c mobileid.CertificateResult) string {
	switch {
	case c.CannotRevoke != "" && !c.StateInIM.Final():
		return "needs help"
	case c.Outcome == mobileid.OutcomeExpiredNotRevoked:
		return "expired"
	case c.Outcome == mobileid.OutcomeAlreadyRevoked && c.StateInIM.Final():
		return "was revoked before"
	case c.StateInIM.Final():
		return "revoked"
	}
	return "not revoked yet"
}

// source says in words who a proof is by.
func source(s mobileid.ProofSource) string {
	switch s {
	case mobileid.ProofFromCA:
		return "the certificate authority"
	case mobileid.ProofFromOCSP:
		return "OCSP"
	case mobileid.ProofFromCRL:
		return "CRL"
	}
	return string(s)
}

// oneLine keeps text from outside from making lines of its own.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
}
