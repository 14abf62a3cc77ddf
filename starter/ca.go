package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mobileid/activities/ca"
	"mobileid/activities/ca/configured"
)

// errCA means that a configured CA needs somebody's attention.
var errCA = errors.New("not all is well with the CAs")

func (p *program) caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Look after the configured CAs",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "See whether each CA is reached, lets us in, and publishes",
		Long: `Check looks at every configured CA and changes nothing: whether it is reached,
whether it accepts the credentials and how long their certificate lasts (it warns
from 30 days), how old the CRL is, whether OCSP answers, and when the CA's own
certificate ends. The worker does the
same when it starts.

Exit codes:
  0  all is well
  1  something needs attention
  2  usage: the command line or the configuration is wrong`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.config()
			if err != nil {
				return err
			}
			authorities, err := configured.Authorities(c.CAs)
			if err != nil {
				return err
			}
			return p.printHealth(authorities.Health(cmd.Context()))
		},
	})
	return cmd
}

func (p *program) printHealth(all []ca.Health) error {
	var unwell error
	for _, h := range all {
		if len(h.Warnings) > 0 {
			unwell = errCA
		}
	}
	if p.json {
		return errors.Join(p.printJSON(all), unwell)
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CA\tREACHED\tCREDENTIALS UNTIL\tOCSP\tCRL\tCRL OF\tNEXT CRL\tCA UNTIL")
	for _, h := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.CA, wellOrNot(h.Driver), when(h.Until), wellOrNot(h.OCSP), wellOrNot(h.CRL),
			when(crlAt(h)), when(crlNext(h)), when(h.CAUntil))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, h := range all {
		for _, warning := range h.Warnings {
			fmt.Fprintf(p.out, "\n%s: %s\n", h.CA, warning)
		}
	}
	return unwell
}

func wellOrNot(part *ca.Part) string {
	switch {
	case part == nil:
		return "-"
	case part.OK:
		return "yes"
	}
	return "NO"
}

func crlAt(h ca.Health) (at time.Time) {
	if h.CRL != nil {
		at = h.CRL.At
	}
	return at
}

func crlNext(h ca.Health) (next time.Time) {
	if h.CRL != nil {
		next = h.CRL.Next
	}
	return next
}
