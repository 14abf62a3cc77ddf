package checker

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// line is one of a journal.
type line struct {
	At       time.Time       `json:"at"`
	Moment   string          `json:"moment"`
	Call     string          `json:"call"`
	MobileID string          `json:"mobileId"`
	UserID   string          `json:"userId"`
	CA       string          `json:"ca"`
	Serial   string          `json:"serial"`
	Answer   json.RawMessage `json:"answer"`
	Refusal  string          `json:"refusal"`
	Error    string          `json:"error"`

	began time.Time // of an answer: when it was last asked for
}

// told is what clients asked about a mobile ID.
type told struct {
	asked  map[string]time.Time // calls that were made, whatever came of them, and when last
	stored bool                 // a Next was said to be stored
}

// The calls that say Next, for a mobile ID that is there.
var nextCalls = []string{"next", "get-lock"}

func (t *told) askedNext() bool {
	if t == nil {
		return false
	}
	for _, call := range nextCalls {
		if _, ok := t.asked[call]; ok {
			return true
		}
	}
	return false
}

// status is what of an answer is compared.
type status struct {
	Outcome      string    `json:"outcome"`
	MobileID     string    `json:"mobileId"`
	LockedAt     time.Time `json:"lockedAt"`
	RequestedAt  time.Time `json:"requestedAt"`
	Revoked      bool      `json:"revoked"`
	Stored       bool      `json:"stored"`
	Certificates []result  `json:"certificates"`
	Audit        mark      `json:"audit"`
	Phase        string    `json:"phase"`
}

// result is what is said of one certificate.
type result struct {
	Issuer     string    `json:"issuer"`
	Serial     string    `json:"serial"`
	StateInIM  string    `json:"stateInIm"`
	StatusAtCA string    `json:"statusAtCa"`
	Outcome    string    `json:"outcome"`
	RevokedAt  time.Time `json:"revokedAt"`
	Proof      []struct {
		Source string `json:"source"`
		SHA256 string `json:"sha256"`
	} `json:"proof"`
}

func readLines(file string, each func(line) error) error {
	f, err := os.Open(file) //nolint:gosec // of the run that is looked at
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 4<<20)
	for n := 1; scanner.Scan(); n++ {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			return fmt.Errorf("%s, line %d: %w", file, n, err)
		}
		if err := each(l); err != nil {
			return err
		}
	}
	return scanner.Err()
}

func (c *check) readTold(context.Context) error {
	c.told = map[string]*told{}
	return readLines(c.ClientsFile, func(l line) error {
		t, ok := c.told[l.MobileID]
		if !ok {
			t = &told{asked: map[string]time.Time{}}
			c.told[l.MobileID] = t
		}
		if l.Moment == "before" {
			t.asked[l.Call] = l.At
		}
		l.began = t.asked[l.Call]
		var answer status
		if l.Call == "next" && json.Unmarshal(l.Answer, &answer) == nil && answer.Stored {
			t.stored = true
		}
		if l.Moment == "after" {
			c.answers = append(c.answers, l)
			c.report.Told++
		}
		return nil
	})
}

func (c *check) readRequests(context.Context) error {
	c.requests = map[certificateKey]time.Time{}
	issuers := map[string]string{}
	for _, ca := range c.CAs {
		issuers[ca.Name] = NameOf(ca.Issuer)
	}
	return readLines(c.RequestsFile, func(l line) error {
		key := certificateKey{issuers[l.CA], l.Serial}
		if first, ok := c.requests[key]; l.Moment == "before" && (!ok || l.At.Before(first)) {
			c.requests[key] = l.At
		}
		return nil
	})
}
