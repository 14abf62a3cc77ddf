package notify

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	netmail "net/mail"
	"sync"
	"time"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/activities/mail"
)

const (
	// giveUpAfter is how long a mail is tried (RFC 5321 section 4.5.4.1).
	giveUpAfter = 5 * 24 * time.Hour
	// noteWait is how long the database may take to note what became of a mail.
	noteWait  = 30 * time.Second
	notePause = 500 * time.Millisecond
	// settleMargin is what is left of a lease when a try is ended, to note what came
	// of it, and for clocks that differ.
	settleMargin = time.Minute
	// faultPause is how long to wait after the database failed.
	faultPause = 10 * time.Second
)

// Options say how a Sender works. Zero durations mean the given ones.
type Options struct {
	Mail     mail.Sender
	Composer mail.Composer
	Logger   *slog.Logger
	// Try is how long one try may take: longer than the sender's own timeout. 2m.
	Try time.Duration
	// Grace is how long a mail that is being sent may take to end after the context
	// of Run has ended. 10s.
	Grace time.Duration
	// Look is how often to look for mails. 1s.
	Look time.Duration
	// FirstPause is before the second try; each one after is twice as long, up to
	// LongestPause. 5s and 15m.
	FirstPause, LongestPause time.Duration
	// AtOnce is how many mails are sent at once. 2, so that a server that is slow with
	// one does not keep all others waiting.
	AtOnce int
	// Lease is how long nobody else tries a mail. Try and a minute.
	Lease time.Duration
}

// Sender sends what lies in an outbox.
type Sender struct {
	outbox  *identitymanager.Store
	options Options
	log     *slog.Logger
}

// New returns a sender, which does nothing before Run.
func New(outbox *identitymanager.Store, options Options) *Sender {
	options.Try = cmp.Or(options.Try, 2*time.Minute)
	options.Grace = cmp.Or(options.Grace, 10*time.Second)
	options.Look = cmp.Or(options.Look, time.Second)
	options.FirstPause = cmp.Or(options.FirstPause, 5*time.Second)
	options.LongestPause = cmp.Or(options.LongestPause, 15*time.Minute)
	options.AtOnce = cmp.Or(options.AtOnce, 2)
	options.Lease = cmp.Or(options.Lease, options.Try+settleMargin)
	log := options.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Sender{outbox: outbox, options: options, log: log}
}

// Run sends until ctx ends, and then lets the mails end that are being sent.
func (s *Sender) Run(ctx context.Context) {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(s.options.Grace, stop) })()
	var senders sync.WaitGroup
	for range s.options.AtOnce {
		senders.Go(func() { s.work(ctx, sending) })
	}
	senders.Wait()
}

// work sends one mail after the other, until ctx ends. The last one may go on until
// sending ends.
func (s *Sender) work(ctx, sending context.Context) {
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		pause := time.Duration(0)
		switch found, err := s.sendNext(ctx, sending); {
		case err != nil && ctx.Err() == nil:
			s.log.Error("Outbox cannot be used now", "error", err)
			pause = faultPause
		case !found:
			pause = s.options.Look
		}
		look.Reset(pause)
	}
}

// sendNext takes care of a mail that is due, and returns false if there is none.
func (s *Sender) sendNext(ctx, sending context.Context) (bool, error) {
	n, found, err := s.outbox.ClaimNotice(ctx, s.options.Lease)
	if err != nil || !found {
		return false, err
	}
	trying, cancel := context.WithTimeout(sending, s.options.Try)
	defer cancel()
	err = s.send(trying, n)
	// What came of it is noted even if the sender is to stop.
	noting, stop := context.WithTimeout(context.WithoutCancel(sending), noteWait)
	defer stop()
	return true, s.note(noting, n, err)
}

// send writes and hands over one mail.
func (s *Sender) send(ctx context.Context, n identitymanager.Notice) error {
	letter, err := s.letter(ctx, n)
	if err != nil {
		return err
	}
	message, err := s.options.Composer.Compose(n.ID, netmail.Address{Name: n.Facts.UserName, Address: n.Address}, letter)
	if err != nil {
		return err
	}
	return s.options.Mail.Send(ctx, message)
}

// note keeps what came of a try.
func (s *Sender) note(ctx context.Context, n identitymanager.Notice, tried error) error {
	log := s.log.With("notice", n.ID, "kind", string(n.Kind), "mobileId", n.MobileID, "try", n.Attempts)
	var keep func() (bool, error)
	switch {
	case tried == nil:
		log.Info("Mail is sent")
		keep = func() (bool, error) { return s.outbox.NoticeIsSent(ctx, n) }
	case errors.Is(tried, mobileid.ErrNoProvisioning):
		const why = "the QR code in it cannot be scanned any more"
		log.Warn("Mail is dropped: " + why)
		keep = func() (bool, error) { return s.outbox.DropNotice(ctx, n, why) }
	case !mail.Retry(tried) || time.Since(n.CreatedAt) > giveUpAfter:
		log.Error("Mail is given up; see 'starter mails'", "error", tried)
		keep = func() (bool, error) { return s.outbox.FailNotice(ctx, n, tried.Error()) }
	default:
		at := time.Now().Add(s.pause(n.Attempts, tried))
		log.Warn("Mail is not sent yet", "nextTry", at.UTC(), "error", tried)
		keep = func() (bool, error) { return s.outbox.RetryNotice(ctx, n, at, tried.Error()) }
	}
	// A database that is away for a moment must not make a mail go out twice.
	own, err := keep()
	for err != nil && wait(ctx, notePause) {
		own, err = keep()
	}
	if err == nil && !own {
		log.Warn("Another sender has taken the mail meanwhile: this one took longer than its lease")
	}
	return err
}

// wait returns false if ctx ends first.
func wait(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// pause is how long to wait after the given try failed.
func (s *Sender) pause(attempt int, tried error) time.Duration {
	pause := s.options.FirstPause
	for range attempt - 1 {
		if pause >= s.options.LongestPause {
			break
		}
		pause *= 2
	}
	pause = min(pause, s.options.LongestPause)
	var e *mail.Error
	if errors.As(tried, &e) {
		pause = max(pause, e.RetryAfter)
	}
	return pause
}
