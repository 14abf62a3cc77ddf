package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mobileid/activities/ca/devca"
)

func (p *program) devcaCommand() *cobra.Command {
	var options devca.RunOptions
	cmd := &cobra.Command{
		Use:   "devca",
		Short: "Run the development CA (never for production)",
		Long: `Devca is a small CA for development: it issues, revokes, answers OCSP and
publishes a CRL, all for real, with keys that lie unencrypted in its folder.
Never use it in production.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return devca.Run(cmd.Context(), options, func(a devca.Addresses) {
				if p.json {
					_ = p.printJSON(a)
					return
				}
				fmt.Fprintf(p.out, "devca, for development only\n  CRL and OCSP  %s\n  API           %s\n", a.PublicURL, a.APIURL)
			})
		},
	}
	cmd.Flags().StringVar(&options.Dir, "dir", ".dev/ca", "its folder; one process owns it")
	cmd.Flags().StringVar(&options.PublicAddress, "public-address", "127.0.0.1:0", "where CRL and OCSP are served")
	cmd.Flags().StringVar(&options.APIAddress, "api-address", "127.0.0.1:0", "where certificates are issued and revoked, with a client certificate")
	cmd.Flags().DurationVar(&options.Server.CRLInterval, "crl-interval", 0, "shortest time between two CRLs (default 1s)")
	return cmd
}
