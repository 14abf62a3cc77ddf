package mail_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/mail"
	"mobileid/config"
)

func TestConfiguredFiles(t *testing.T) {
	c := config.Default().Mail
	c.Folder = filepath.Join(t.TempDir(), "mail")
	sender, err := mail.Configured(c)
	require.NoError(t, err)
	require.IsType(t, &mail.Files{}, sender)
	letter := mail.LockRequested{About: mail.About{MobileID: "mid-1001"}, Times: mail.Times{RequestedAt: at}, DecidedBy: mail.ByOwner}
	m, err := mail.ConfiguredComposer(c).Compose("run-1", anna, letter)
	require.NoError(t, err)
	require.Contains(t, m.Text, c.Contact)
	require.NoError(t, sender.Send(t.Context(), m))
	header, _, _ := read(t, onlyFile(t, c.Folder))
	require.Equal(t, `"Mobile ID" <mobile-id@localhost>`, header.Get("From"))
}

func TestConfiguredSMTP(t *testing.T) {
	s := startServer(t, serverOptions{})
	c := config.Default().Mail
	c.Driver, c.Address, c.ServerCAFile = "smtp", s.address, s.trust
	c.Username, c.PasswordFile = user, passwordFile(t, password)
	c.From, c.ReplyTo = "Åsa <asa@example.org>", "desk@example.org"
	sender, err := mail.Configured(c)
	require.NoError(t, err)
	require.NoError(t, sender.Send(t.Context(), message()))
	header, _, _ := read(t, s.mails()[0].content)
	require.Equal(t, "Åsa <asa@example.org>", decoded(t, header.Get("From")))
	require.Equal(t, "<desk@example.org>", header.Get("Reply-To"))
	require.True(t, s.mails()[0].signedIn)
}

func TestConfiguredRefuses(t *testing.T) {
	for name, change := range map[string]func(*config.Mail){
		"mail.driver":   func(c *config.Mail) { c.Driver = "pigeon" },
		"mail.from":     func(c *config.Mail) { c.From = "nobody" },
		"mail.reply_to": func(c *config.Mail) { c.ReplyTo = "nobody" },
		"folder":        func(c *config.Mail) { c.Folder = "" },
		"host:port":     func(c *config.Mail) { c.Driver = "smtp" },
	} {
		c := config.Default().Mail
		c.Folder = t.TempDir()
		change(&c)
		sender, err := mail.Configured(c)
		require.ErrorContains(t, err, name)
		require.Nil(t, sender)
	}
}
