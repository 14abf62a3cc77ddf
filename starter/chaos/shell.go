package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"mobileid"
	"mobileid/starter/client"
)

// byShell is Next on the command line. It is given up when a person would have, and
// asked again.
func (c *crowd) byShell(p person) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		command := c.shell(ctx, "lock", p.mobileID, "--user", p.userID, "--yes", "--no-wait", "-o", "json")
		command.WaitDelay = time.Second
		var said, wrong bytes.Buffer
		command.Stdout, command.Stderr = &said, &wrong
		err := command.Run()
		var answer struct {
			client.Status
			Answer *mobileid.Refusal `json:"refusal"`
		}
		// The last object that it has said is its answer.
		for decoder := json.NewDecoder(&said); ; {
			var next json.RawMessage
			if decoder.Decode(&next) != nil {
				break
			}
			answer.Answer = nil
			_ = json.Unmarshal(next, &answer) // what is no answer has none of its fields
		}
		switch {
		case answer.Answer != nil:
			return nil, answer.Answer
		case err != nil:
			return nil, fmt.Errorf("starter lock: %w: %s", err, wrong.String())
		}
		return answer.Status, nil
	}
}
