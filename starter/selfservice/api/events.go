package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"mobileid/starter/selfservice/streams"
)

const (
	streamTick  = time.Second      // how often it is looked whether a beat or a look is due
	streamBeat  = 20 * time.Second // how often a line is sent although nothing changes
	streamLook  = 10 * time.Second // how often it is looked whether the user may still look
	streamTime  = 10 * time.Minute // how long one stream lasts, at most as long as the token
	streamWrite = 10 * time.Second // how long a write may take
)

// stream sends what read reads whenever that changes, as server-sent events of a name,
// and "over" when nothing more is to come. A stream that ends without "over" is to be
// opened again. following says when to look.
func (c *call) stream(name string, following *streams.Follower, read func() (view any, over bool, err error)) {
	defer following.Stop()
	a := c.api
	who := streams.User(c.user())
	if !a.Streams.Open(who) {
		c.w.Header().Set("Retry-After", "60")
		Refuse(c.w, http.StatusServiceUnavailable, "too many event streams are open")
		return
	}
	defer a.Streams.Close(who)
	out := http.NewResponseController(c.w)
	c.w.Header().Set("Content-Type", "text/event-stream")
	c.w.Header().Set("X-Accel-Buffering", "no") // proxies are not to collect
	send := func(text string) bool {
		_ = out.SetWriteDeadline(time.Now().Add(streamWrite))
		_, err := c.w.Write([]byte(text))
		return err == nil && out.Flush() == nil
	}
	if !send("retry: 5000\n\n") {
		return
	}
	ticker := time.NewTicker(streamTick)
	defer ticker.Stop()
	end := time.NewTimer(min(streamTime, time.Until(c.caller.Until)))
	defer end.Stop()
	var last []byte
	sent, looked := time.Now(), time.Now()
	for {
		if time.Since(looked) >= streamLook {
			looked = time.Now()
			if a.Desk.Entitled(c.ctx(), c.user()) != nil {
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
		case <-c.ctx().Done():
			return
		case <-a.Stopping:
			return
		}
		// What cannot be read now is left as it was.
		var now []byte
		var over bool
		if look {
			following.Look(c.ctx(), recorded, func() {
				var view any
				var err error
				if view, over, err = read(); err == nil {
					now, _ = json.Marshal(view) // has nothing that cannot be written
				}
			})
		}
		if now != nil && !bytes.Equal(now, last) {
			if !send("event: " + name + "\ndata: " + string(now) + "\n\n") {
				return
			}
			last, sent = now, time.Now()
		}
		if now != nil && over {
			send("event: over\ndata:\n\n")
			return
		}
		if time.Since(sent) >= streamBeat {
			if !send(": still here\n\n") {
				return
			}
			sent = time.Now()
		}
	}
}
