package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// maxHealthAnswer bounds what is read of an answer, in bytes; only its status counts.
const maxHealthAnswer = 64 << 10

// healthcheckCommand is for containers: their image has no shell and no other client
// of HTTP. It needs no configuration.
func (p *program) healthcheckCommand() *cobra.Command {
	var caFile string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "healthcheck URL",
		Short: "Ask one of our programs whether it is well, as containers do",
		Long: `Healthcheck gets a URL, for example http://127.0.0.1:8081/readyz, and fails unless
the answer is 200. It follows no redirect and uses no proxy.`,
		Args: cobra.ExactArgs(1),
		// In the place of the root's: a trace for each check tells nobody anything.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := url.Parse(args[0])
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return fmt.Errorf("%w: URL must be an http or https URL", errUsage)
			}
			trust, err := healthTrust(caFile)
			if err != nil {
				return err
			}
			client := http.Client{
				Timeout:       timeout,
				Transport:     &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}
			request, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, u.String(), nil)
			if err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			response, err := client.Do(request)
			if err != nil {
				return err
			}
			defer func() { _ = response.Body.Close() }()
			answer, err := io.ReadAll(io.LimitReader(response.Body, maxHealthAnswer))
			if err != nil {
				return err
			}
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answers %s: %.300q", u.Redacted(), response.Status, answer)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&caFile, "ca", "", "PEM file with what vouches for an https URL (default: the system's trust store)")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long the answer may take")
	return cmd
}

// healthTrust trusts what a PEM file holds and nothing else, or the system if there is none.
func healthTrust(caFile string) (*tls.Config, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return trust, nil
	}
	text, err := os.ReadFile(caFile) //nolint:gosec // the file is what the caller named
	if err != nil {
		return nil, fmt.Errorf("read --ca: %w", err)
	}
	trust.RootCAs = x509.NewCertPool()
	if !trust.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%w: --ca %s holds no certificate", errUsage, caFile)
	}
	return trust, nil
}
