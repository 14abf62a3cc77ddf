package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mobileid/activities/messaging/embedded"
	"mobileid/activities/messaging/phone"
)

func (p *program) phoneCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "phone",
		Short: "A phone simulator for the embedded messaging server",
		Long: `Phone stands for a phone with the app where there is none: in development and in
tests. It speaks to 'starter messaging' alone.

  starter get --user anna --qr-file qr.png    in one terminal, and in another one
  starter phone scan qr.png
  openssl x509 -noout -text -in .dev/phone/PROFILE/authentication.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.phoneScanCommand())
	return cmd
}

func (p *program) phoneScanCommand() *cobra.Command {
	var dir, messagingDir, misbehave string
	cmd := &cobra.Command{
		Use:   "scan PNG | - | CONTENT",
		Short: "Scan a QR code, make keys, and take the certificates",
		Long: `Scan does what a person does with the app: it reads the QR code, shows what it is
asked, makes the keys, sends what it has signed, waits for the certificates, and
proves with a signature that it holds the keys.

The code is a PNG file; or -, which reads what 'starter get' shows in a terminal,
for example pasted; or the content of the code as it is, which others on this
machine can see then.

Of each profile its folder has the keys and the certificates: KEY.key as PKCS #8,
KEY.pem with the chain.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wrong := phone.Misbehaviour(misbehave)
			if wrong != phone.WellBehaved && !slices.Contains(phone.Misbehaviours, wrong) {
				return fmt.Errorf("%w: --misbehave is none of %v", errUsage, phone.Misbehaviours)
			}
			content, err := p.readCode(args[0])
			if err != nil {
				return err
			}
			profile, err := phone.Scan(cmd.Context(), content, phone.Options{
				Dir:                dir,
				AttestationKeyFile: filepath.Join(messagingDir, embedded.AttestationKeyFile),
				ServerCAFile:       filepath.Join(messagingDir, embedded.ServerCAFile),
				Misbehave:          wrong,
				Poll:               100 * time.Millisecond,
				Show:               func(line string) { fmt.Fprintln(p.err, line) },
			})
			if err != nil {
				return err
			}
			return p.printProfile(dir, profile)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".dev/phone", "folder of the phone's profiles")
	cmd.Flags().StringVar(&messagingDir, "messaging", ".dev/messaging", "folder of the embedded messaging server")
	cmd.Flags().StringVar(&misbehave, "misbehave", "", fmt.Sprintf("be one of %v", phone.Misbehaviours))
	return cmd
}

// readCode takes the content of a QR code from a terminal, from a picture, or as it
// is.
func (p *program) readCode(argument string) (string, error) {
	switch {
	case argument == "-":
		return phone.ReadTerminal(p.in)
	case !strings.HasSuffix(strings.ToLower(argument), ".png"):
		return argument, nil
	}
	picture, err := os.ReadFile(argument) //nolint:gosec // named on the command line
	if err != nil {
		return "", err
	}
	return phone.ReadPNG(bytes.NewReader(picture))
}

// shownProfile is what scan answers.
type shownProfile struct {
	Profile string     `json:"profile"`
	Name    string     `json:"name"`
	Folder  string     `json:"folder"`
	Keys    []shownKey `json:"keys"`
}

type shownKey struct {
	ID       string    `json:"id"`
	Serial   string    `json:"serial"` // lower-case hex
	NotAfter time.Time `json:"notAfter"`
	Proven   bool      `json:"proven"` // a signature of the key verifies with the certificate
}

func (p *program) printProfile(dir string, profile *phone.Profile) error {
	shown := shownProfile{Profile: profile.ID, Name: profile.Name, Folder: filepath.Join(dir, profile.ID)}
	for _, id := range profile.KeyIDs() {
		certificate, err := profile.Certificate(id)
		if err != nil {
			return err
		}
		challenge := make([]byte, 32)
		rand.Read(challenge) // never fails
		if err := profile.Prove(id, challenge); err != nil {
			return fmt.Errorf("key %s: %w", id, err)
		}
		shown.Keys = append(shown.Keys, shownKey{ID: id, Serial: certificate.SerialNumber.Text(16), NotAfter: certificate.NotAfter.UTC(), Proven: true})
	}
	if len(shown.Keys) == 0 {
		return errors.New("the profile has no keys")
	}
	if p.json {
		return p.printJSON(shown)
	}
	fmt.Fprintf(p.out, "The phone has %q (profile %s).\n", shown.Name, shown.Profile)
	for _, key := range shown.Keys {
		fmt.Fprintf(p.out, "  %-15s serial %s, until %s; it holds the key\n", key.ID, key.Serial, when(key.NotAfter))
	}
	return nil
}
