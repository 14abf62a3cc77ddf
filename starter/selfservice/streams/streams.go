// Package streams limits how many event streams are open at once, of all and of one.
package streams

import "sync"

// each is how many one session, or one user of the API, can have open at once.
const each = 6

// Limit counts the open event streams.
type Limit struct {
	most int

	mu    sync.Mutex
	all   int
	their map[string]int
}

// New makes a Limit of most streams at once.
func New(most int) *Limit { return &Limit{most: most, their: map[string]int{}} }

// Open counts one more for who, unless there are too many.
func (l *Limit) Open(who string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.most || l.their[who] >= each {
		return false
	}
	l.all++
	l.their[who]++
	return true
}

// Close counts one less.
func (l *Limit) Close(who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.their[who]--; l.their[who] == 0 {
		delete(l.their, who)
	}
}
