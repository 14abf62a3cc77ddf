package pages

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"mobileid/starter/selfservice/session"
	"mobileid/starter/selfservice/streams"
)

const (
	// streamTick is how often it is looked whether a beat or a look is due.
	streamTick = time.Second
	// streamBeat is how often a line is sent although nothing changes, so that no proxy
	// closes the connection, and a browser that is gone is noticed.
	streamBeat = 20 * time.Second
	// streamTime is how long one stream lasts. The browser opens the next one by itself,
	// and is looked at again: who it is, and how many it has.
	streamTime = 10 * time.Minute
	// streamLook is how often it is looked whether the session still stands.
	streamLook = 10 * time.Second
	// streamWrite is how long a write may take.
	streamWrite = 10 * time.Second
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
	out := http.NewResponseController(v.w)
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no") // proxies are not to collect
	send := func(text string) bool {
		_ = out.SetWriteDeadline(time.Now().Add(streamWrite))
		_, err := v.w.Write([]byte(text))
		return err == nil && out.Flush() == nil
	}
	if !send("retry: 5000\n\n") {
		return
	}
	ticker := time.NewTicker(streamTick)
	defer ticker.Stop()
	end := time.NewTimer(streamTime)
	defer end.Stop()
	var last, lastLine string
	lastSent, lastLook := time.Now(), time.Now()
	for {
		if time.Since(lastLook) >= streamLook {
			lastLook = time.Now()
			if _, err := p.Sessions.Of(v.r); errors.Is(err, session.ErrNone) {
				send(event("over", "")) // signed out, or timed out: the page says so
				return
			}
		}
		look, recorded := false, false
		select {
		case <-following.Recorded():
			look, recorded = true, true
		case <-following.Due():
			look = true
		case <-ticker.C:
		case <-end.C:
			return
		case <-v.ctx().Done():
			return
		case <-p.Stopping:
			return
		}
		var text, line string
		var over, changed bool
		if look {
			following.Look(v.ctx(), recorded, func() { text, line, over, changed = p.changes(read, &last, &lastLine) })
		}
		if changed {
			if !send(event("progress", text) + line) {
				return
			}
			lastSent = time.Now()
			if over {
				send(event("over", ""))
				return
			}
		}
		if time.Since(lastSent) >= streamBeat {
			if !send(": still here\n\n") {
				return
			}
			lastSent = time.Now()
		}
	}
}

// changes reads the part of the page, and says whether it differs from the last one. A
// part that cannot be read now is left as it was.
func (p *Pages) changes(read func() (fragment, error), last, lastLine *string) (text, line string, over, changed bool) {
	f, err := read()
	if err != nil {
		return "", "", false, false
	}
	if f.template != "" {
		var b bytes.Buffer
		if err := p.render.fragment(&b, f.template, f.page); err != nil {
			return "", "", false, false
		}
		text = b.String()
	}
	changed = text != *last || f.over
	if f.line != "" && f.line != *lastLine {
		line = event("heading", f.heading) + event("line", f.line)
	}
	*last, *lastLine = text, f.line
	return text, line, f.over, changed
}

// event writes one event.
func event(name, data string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "event: %s\n", name)
	for line := range strings.SplitSeq(data, "\n") {
		fmt.Fprintf(&b, "data: %s\n", line)
	}
	b.WriteString("\n")
	return b.String()
}
