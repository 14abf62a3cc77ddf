// Package streams is what event streams have in common: how many are open at once, of all
// and of one, and when they look at what they show.
package streams

import "sync"

// each is how many one user can have open at once, in all browsers and by the API.
const each = 6

// User names a user, to open and close streams for.
func User(id string) string { return "user " + id }

// Limit counts the open event streams.
type Limit struct {
	most    int
	refused func()

	mu    sync.Mutex
	all   int
	their map[string]int
}

// New makes a Limit of most streams at once. refused, if not nil, is told of each one that
// was too many.
func New(most int, refused func()) *Limit {
	if refused == nil {
		refused = func() {}
	}
	return &Limit{most: most, refused: refused, their: map[string]int{}}
}

// Count is how many are open.
func (l *Limit) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// Open counts one more for who, unless there are too many.
func (l *Limit) Open(who string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.most || l.their[who] >= each {
		l.refused()
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
