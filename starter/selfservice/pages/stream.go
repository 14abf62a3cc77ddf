package pages

import (
	"bytes"
	"errors"
	"net/http"

	"mobileid/starter/selfservice/session"
	"mobileid/starter/selfservice/streams"
)

// fragment is the part of a page that changes.
type fragment struct {
	template string
	page     any
	heading  string
	line     string // for the live region
	over     bool   // the page is to be loaded anew, and no more events will come
}

// stream sends the part of a page that changes, whenever it has changed, as server-sent
// events: "progress" with the new part, "heading" and "line" with what to say of it, and
// "over". following says when to look.
func (p *Pages) stream(v *visit, following *streams.Follower, read func() (fragment, error)) {
	defer following.Stop()
	who := streams.User(v.user()) // and not the session: one user can have many
	if !p.Streams.Open(who) {
		v.w.Header().Set("Retry-After", "60")
		http.Error(v.w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	defer p.Streams.Close(who)
	var last, lastLine string
	streams.Stream{
		Following: following, Stopping: p.Stopping,
		May: func() (bool, string) {
			_, err := p.Sessions.Of(v.r)
			return !errors.Is(err, session.ErrNone), streams.Over // signed out, or timed out: the page says so
		},
		Read: func() (string, bool) { return p.changes(read, &last, &lastLine) },
	}.Serve(v.ctx(), v.w)
}

// changes reads the part of the page, and returns the events of what differs from the
// last one. A part that cannot be read now is left as it was.
func (p *Pages) changes(read func() (fragment, error), last, lastLine *string) (events string, over bool) {
	f, err := read()
	if err != nil {
		return "", false
	}
	var text string
	if f.template != "" {
		var b bytes.Buffer
		if err := p.render.fragment(&b, f.template, f.page); err != nil {
			return "", false
		}
		text = b.String()
	}
	if text != *last || f.over {
		events = streams.Event("progress", text)
		if f.line != "" && f.line != *lastLine {
			events += streams.Event("heading", f.heading) + streams.Event("line", f.line)
		}
	}
	*last, *lastLine = text, f.line
	return events, f.over
}
