package streams

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	// tick is how often it is looked whether a beat or a look is due.
	tick = time.Second
	// beat is how often a line is sent although nothing changes, so that no proxy closes
	// the connection, and a reader that is gone is noticed.
	beat = 20 * time.Second
	// longest is how long one stream lasts. A browser opens the next one by itself, and is
	// looked at again: who it is, and how many it has.
	longest = 10 * time.Minute
	// lookAtReader is how often it is looked whether the reader may still read.
	lookAtReader = 10 * time.Second
	// writing is how long a write may take.
	writing = 10 * time.Second
)

// Stream is one stream of server-sent events. All fields but Until are needed.
type Stream struct {
	Following *Follower
	Stopping  <-chan struct{} // closed when the server stops
	Until     time.Time       // ends it before its time; zero: does not
	// May says whether the reader may still read, and if not, what is sent last.
	May func() (ok bool, last string)
	// Read returns the events of what is new, "" if nothing is or can be read now, and
	// whether that is all: "over" is sent then.
	Read func() (events string, over bool)
}

// Serve sends a stream, until its end, the reader's or the server's. A stream that ends
// without "over" is to be opened again.
func (s Stream) Serve(ctx context.Context, w http.ResponseWriter) {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // proxies are not to collect
	send := func(text string) bool {
		_ = out.SetWriteDeadline(time.Now().Add(writing))
		_, err := w.Write([]byte(text))
		return err == nil && out.Flush() == nil
	}
	if !send("retry: 5000\n\n") {
		return
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	lasts := longest
	if !s.Until.IsZero() {
		lasts = min(lasts, time.Until(s.Until))
	}
	end := time.NewTimer(lasts)
	defer end.Stop()
	sent, asked := time.Now(), time.Now()
	for {
		if time.Since(asked) >= lookAtReader {
			asked = time.Now()
			if ok, last := s.May(); !ok {
				send(last)
				return
			}
		}
		look, recorded := false, false
		select {
		case <-s.Following.Recorded():
			look, recorded = true, true
		case <-s.Following.Due():
			look = true
		case <-ticker.C:
		case <-end.C:
			return
		case <-ctx.Done():
			return
		case <-s.Stopping:
			return
		}
		var events string
		var over bool
		if look {
			s.Following.Look(ctx, recorded, func() { events, over = s.Read() })
		}
		if over {
			events += Over
		}
		if events == "" && time.Since(sent) >= beat {
			events = ": still here\n\n"
		}
		if events != "" {
			if !send(events) || over {
				return
			}
			sent = time.Now()
		}
	}
}

// Over is the event that nothing follows.
var Over = Event("over", "")

// Event writes one event.
func Event(name, data string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "event: %s\n", name)
	for line := range strings.SplitSeq(data, "\n") {
		fmt.Fprintf(&b, "data: %s\n", line)
	}
	b.WriteString("\n")
	return b.String()
}
