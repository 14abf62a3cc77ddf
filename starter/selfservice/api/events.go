package api

import (
	"encoding/json"
	"net/http"

	"mobileid/starter/selfservice/streams"
)

// stream sends what read reads whenever that changes, as server-sent events of a name,
// at most as long as the token is good. following says when to look.
func (c *call) stream(name string, following *streams.Follower, read func() (view any, over bool, err error)) {
	defer following.Stop()
	who := streams.User(c.user())
	if !c.api.Streams.Open(who) {
		c.w.Header().Set("Retry-After", "60")
		Refuse(c.w, http.StatusServiceUnavailable, "too many event streams are open")
		return
	}
	defer c.api.Streams.Close(who)
	var last string
	streams.Stream{
		Following: following, Stopping: c.api.Stopping, Until: c.caller.Until,
		May: func() (bool, string) { return c.api.Desk.Entitled(c.ctx(), c.user()) == nil, "" },
		Read: func() (string, bool) {
			view, over, err := read()
			if err != nil {
				return "", false // it is left as it was
			}
			text, _ := json.Marshal(view) // has nothing that cannot be written
			now := streams.Event(name, string(text))
			if now == last {
				return "", over
			}
			last = now
			return now, over
		},
	}.Serve(c.ctx(), c.w)
}
