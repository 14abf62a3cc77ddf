package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mobileid/activities/messaging/embedded"
)

func (p *program) messagingCommand() *cobra.Command {
	var options embedded.RunOptions
	cmd := &cobra.Command{
		Use:   "messaging",
		Short: "Run the embedded messaging server (never for production)",
		Long: fmt.Sprintf(`Messaging is a small Smart ID Messaging for development: the product's REST API as
far as it is documented, and a phone's side for 'starter phone'. Its secrets lie
unencrypted in its folder. Never use it in production.

'starter run' and 'starter demo' start one. A worker that uses another one needs, in
its section messaging, the address that is printed as url, and from the folder

  client_id               %s
  api_key_file            %s
  server_ca_file          %s
  callback_user           %s
  callback_password_file  %s
  attestation_file        %s

--callback-url is the worker's callback_address, as an URL.`,
			embedded.ClientID, embedded.APIKeyFile, embedded.ServerCAFile, embedded.CallbackUser, embedded.CallbackPasswordFile, embedded.AttestationKeysFile),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return embedded.Run(cmd.Context(), options, func(a embedded.Addresses) {
				if p.json {
					_ = p.printJSON(a)
					return
				}
				fmt.Fprintf(p.out, "messaging, for development only\n  API and phones  %s\n", a.URL)
			})
		},
	}
	cmd.Flags().StringVar(&options.Dir, "dir", ".dev/messaging", "its folder; one process owns it")
	cmd.Flags().StringVar(&options.Address, "address", "127.0.0.1:0", "where it is served, over TLS")
	cmd.Flags().StringSliceVar(&options.Server.ServerNames, "name", nil, "further names in its certificate, which the worker's callback_address may share")
	cmd.Flags().StringVar(&options.Server.CallbackURL, "callback-url", "", "where it calls back (default: where it did last)")
	cmd.Flags().StringVar(&options.Server.CallbackCAFile, "callback-ca", "", "PEM file with what vouches for that (default: the system's trust store)")
	return cmd
}
