package pages

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// atOnce is how many streams are opened at once.
const atOnce = 16

// streams are open event streams.
type streams struct {
	stop    context.CancelFunc
	reading sync.WaitGroup
	seen    atomic.Int64
	gone    atomic.Int64
	closing atomic.Bool
}

// openAll opens the event stream of each visitor's progress page, and returns when each
// has sent where the lock stands.
func openAll(ctx context.Context, base string, visitors []*Visitor) (*streams, error) {
	s := &streams{}
	ctx, s.stop = context.WithCancel(ctx)
	var opening errgroup.Group
	opening.SetLimit(atOnce)
	for _, v := range visitors {
		opening.Go(func() error {
			response, err := v.do(ctx, http.MethodGet, base+v.progress()+"/events", nil, http.StatusOK)
			if err != nil {
				return fmt.Errorf("open an event stream: %w", err)
			}
			lines := bufio.NewScanner(response.Body)
			for lines.Scan() && lines.Text() != "event: progress" {
			}
			s.reading.Go(func() {
				defer response.Body.Close() //nolint:errcheck // it ends here
				for lines.Scan() {
					if lines.Text() == "event: progress" {
						s.seen.Add(1)
					}
				}
				if !s.closing.Load() {
					s.gone.Add(1)
				}
			})
			return nil
		})
	}
	if err := opening.Wait(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// events counts what came since all were open.
func (s *streams) events() int { return int(s.seen.Load()) }

// ended counts the streams that the server has ended.
func (s *streams) ended() int { return int(s.gone.Load()) }

func (s *streams) close() {
	s.closing.Store(true)
	s.stop()
	s.reading.Wait()
}
