package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"mobileid/config"
)

// What cannot send is noticed when the worker starts, and so is what sends to nobody.
func TestNewMails(t *testing.T) {
	c := config.Default()
	c.Mail.Folder = filepath.Join(t.TempDir(), "mail")
	core, logs := observer.New(zap.WarnLevel)
	sender, err := newMails(zap.New(core), c, nil)
	require.NoError(t, err)
	require.NotNil(t, sender)
	require.DirExists(t, c.Mail.Folder)
	require.Equal(t, 1, logs.FilterMessageSnippet("nobody gets them").Len())

	c.Mail.Driver, c.Mail.Address, c.Mail.From = "smtp", "127.0.0.1:25", "mobile-id@example.org"
	_, err = newMails(zap.New(core), c, nil)
	require.NoError(t, err)
	require.Equal(t, 1, logs.Len())
	c.Mail.ServerCAFile = filepath.Join(t.TempDir(), "missing.pem")
	_, err = newMails(zap.New(core), c, nil)
	require.ErrorContains(t, err, "server CA")
}
