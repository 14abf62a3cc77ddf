package phone

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/device"
)

const (
	requestTimeout = 10 * time.Second
	// maxCommand is the longest command that is read, in bytes: the body of one with
	// what is around it.
	maxCommand = messaging.MaxBody + 4<<10
)

// ErrGone reports that messaging does not know the address of the QR code, or takes
// no answer to the command any more.
var ErrGone = errors.New("the command is not there, or its time is over")

// line is the phone's way to messaging. Its errors do not hold the address, which
// is a secret.
type line struct {
	target *url.URL
	client *http.Client
	poll   time.Duration
}

func newLine(target *url.URL, options Options) (*line, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if options.ServerCAFile != "" {
		text, err := os.ReadFile(options.ServerCAFile)
		if err != nil {
			return nil, fmt.Errorf("server CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("server CA: %s holds no PEM certificate", options.ServerCAFile)
		}
	}
	return &line{target: target, poll: options.Poll, client: &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, IdleConnTimeout: time.Minute},
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (l *line) close() { l.client.CloseIdleConnections() }

// wait looks for a command of a kind until there is one.
func (l *line) wait(ctx context.Context, kind messaging.CommandKind) (device.Command, error) {
	var command device.Command
	err := l.retry(ctx, func() (bool, error) {
		status, body, err := l.do(ctx, http.MethodGet, nil)
		if err != nil || status == http.StatusNoContent {
			return false, err
		}
		if status != http.StatusOK {
			return false, statusError(status)
		}
		if json.Unmarshal(body, &command) != nil {
			return true, errors.New("the command cannot be read")
		}
		// Another kind is the answered one before, which is about to go.
		return command.Kind == kind, nil
	})
	return command, err
}

// answer sends an answer until messaging has it.
func (l *line) answer(ctx context.Context, answer device.Answer) error {
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return l.retry(ctx, func() (bool, error) {
		status, _, err := l.do(ctx, http.MethodPost, body)
		if err == nil && status != http.StatusOK {
			err = statusError(status)
		}
		return err == nil, err
	})
}

// final is an error that no retry cures.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

func statusError(status int) error {
	switch {
	case status == http.StatusNotFound, status == http.StatusConflict:
		return final{ErrGone}
	case status >= 500, status == http.StatusTooManyRequests:
		return fmt.Errorf("messaging answered HTTP %d", status)
	default:
		return final{fmt.Errorf("messaging answered HTTP %d", status)}
	}
}

// retry tries until it is done, ctx ends, or the error is final.
func (l *line) retry(ctx context.Context, try func() (done bool, err error)) error {
	for {
		done, err := try()
		if lasting := (final{}); done || errors.As(err, &lasting) {
			return err
		}
		timer := time.NewTimer(l.poll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
	}
}

func (l *line) do(ctx context.Context, method string, body []byte) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, l.target.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, errors.New("the address is not a URL")
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := l.client.Do(request)
	if err != nil {
		return 0, nil, withoutURL(err)
	}
	defer response.Body.Close() //nolint:errcheck // read to its end, or given up: nothing depends on it
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxCommand+1))
	if err != nil {
		return 0, nil, withoutURL(err)
	}
	if len(answer) > maxCommand {
		return 0, nil, final{errors.New("the command is too long")}
	}
	return response.StatusCode, answer, nil
}

// withoutURL takes the address out of an error of the transport.
func withoutURL(err error) error {
	var full *url.Error
	if errors.As(err, &full) {
		err = full.Err
	}
	return fmt.Errorf("reach messaging: %w", err)
}
