package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"mobileid/encryption"
	"mobileid/encryption/codecserver"
)

func (p *program) codecCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "codec",
		Short: "Decode encrypted payloads for the Web UI and CLIs, and look after the keys",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.codecServeCommand(), p.keysetCommand())
	return cmd
}

func (p *program) codecServeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the codec server",
		Long: `Serve runs the codec server: Temporal's Web UI, the temporal program and tctl have
payloads decoded there. It holds the keys to all histories, so it asks for the
token in codec_server.token_file:

  temporal workflow show -w ID --codec-endpoint URL --codec-auth "Bearer $(cat FILE)"
  tctl --codec_endpoint URL --codec_auth "Bearer $(cat FILE)" workflow show -w ID

Queries and messages of temporal go through it, too, and need codec_server.encode.
For the Web UI, set TEMPORAL_CODEC_ENDPOINT there and codec_server.origins here.
The Web UI cannot send this token: put a proxy before the server that has people
sign in and adds it, or run it on a loopback address without codec_server.token_file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.config()
			if err != nil {
				return err
			}
			if c.Encryption.KeysetFile == "" {
				return fmt.Errorf("%w: encryption.keyset_file is missing: nothing is encrypted here", errUsage)
			}
			log := c.Log.Logger()
			defer func() { _ = log.Sync() }()
			keyset, err := encryption.Configured(c.Encryption, func(err error) {
				log.Error("Changed keyset file is of no use; the keys from before stay in use", zap.Error(err))
			})
			if err != nil {
				return err
			}
			server, err := codecserver.New(c.CodecServer, keyset, log)
			if err != nil {
				return err
			}
			listener, url, err := server.Listen(cmd.Context())
			if err != nil {
				return err
			}
			if p.json {
				err = p.printJSON(map[string]string{"url": url})
			} else {
				_, err = fmt.Fprintln(p.out, "codec server at", url)
			}
			if err != nil {
				return errors.Join(err, listener.Close())
			}
			return server.Serve(cmd.Context(), listener)
		},
	}
}

func (p *program) keysetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keyset",
		Short: "Make, rotate and list the keys of encryption.keyset_file",
		Long: `The keyset file has the keys that payloads are encrypted under, in clear: it is for
its owner alone. Lost keys take the histories with them, so keep a copy.

To rotate: 'rotate' adds a key. Bring the file to every worker, backend, codec
server and starter, each reads it by itself within a second. Then 'promote' the
key, and bring the file there again. Keep old keys for as long as histories from
their time are kept. Where all read one and the same file, 'rotate --promote-after 5s'
does the whole.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var ifMissing bool
	var promoteAfter time.Duration
	create := &cobra.Command{
		Use: "create", Short: "Make the file with one new key; one that is there is kept", Args: cobra.NoArgs,
		RunE: p.onKeyset(func(_ context.Context, file string, _ []string) error {
			_, err := encryption.Create(file)
			if ifMissing && errors.Is(err, fs.ErrExist) {
				return nil
			}
			return err
		}),
	}
	create.Flags().BoolVar(&ifMissing, "if-missing", false, "a file that is there is no error")
	rotate := &cobra.Command{
		Use: "rotate", Short: "Add a new key, which decodes, and is not encrypted under yet", Args: cobra.NoArgs,
		RunE: p.onKeyset(func(ctx context.Context, file string, _ []string) error { return rotateKeyset(ctx, file, promoteAfter) }),
	}
	rotate.Flags().DurationVar(&promoteAfter, "promote-after", 0,
		"and encrypt under it after so long, 2s at least: only where all workers, backends and codec servers read this very file")
	cmd.AddCommand(
		create,
		rotate,
		&cobra.Command{
			Use: "promote KEY_ID", Short: "Encrypt under this key from now on, which all must have by now", Args: cobra.ExactArgs(1),
			RunE: p.onKeyset(func(_ context.Context, file string, args []string) error {
				id, err := strconv.ParseUint(args[0], 10, 32)
				if err != nil {
					return fmt.Errorf("%w: KEY_ID must be a number that 'starter codec keyset list' shows", errUsage)
				}
				return encryption.Promote(file, uint32(id))
			}),
		},
		&cobra.Command{
			Use: "list", Short: "List the keys, oldest first, without what is secret of them", Args: cobra.NoArgs,
			RunE: p.onKeyset(func(context.Context, string, []string) error { return nil }),
		},
	)
	return cmd
}

// minPromoteAfter is how long a new key waits at least: a program looks at its file
// once a second, and one that is busy a little later.
const minPromoteAfter = 2 * time.Second

// rotateKeyset adds a key, and promotes it after a while unless that is zero.
func rotateKeyset(ctx context.Context, file string, promoteAfter time.Duration) error {
	if promoteAfter != 0 && promoteAfter < minPromoteAfter {
		return fmt.Errorf("%w: --promote-after is %s, must be at least %s: until all have read the file", errUsage, promoteAfter, minPromoteAfter)
	}
	added, err := encryption.Add(file)
	if err != nil || promoteAfter == 0 {
		return err
	}
	select {
	case <-time.After(promoteAfter):
		return encryption.Promote(file, added.ID)
	case <-ctx.Done():
		return fmt.Errorf("key %d is added, and nothing is encrypted under it; go on with 'starter codec keyset promote %[1]d': %w", added.ID, ctx.Err())
	}
}

// onKeyset makes a command that works on the keyset file and then lists its keys.
func (p *program) onKeyset(act func(ctx context.Context, file string, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := p.config()
		if err != nil {
			return err
		}
		file := c.Encryption.KeysetFile
		if file == "" {
			return fmt.Errorf("%w: encryption.keyset_file is missing: which file?", errUsage)
		}
		if err := act(cmd.Context(), file, args); err != nil {
			return err
		}
		keys, err := encryption.List(file)
		if err != nil {
			return err
		}
		if p.json {
			return p.printJSON(keys)
		}
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "KEY\tTYPE\tENCRYPTS\tDECODES")
		for _, key := range keys {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", key.ID, key.Type, yesOrNo(key.Primary), yesOrNo(key.Enabled))
		}
		return w.Flush()
	}
}

func yesOrNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
