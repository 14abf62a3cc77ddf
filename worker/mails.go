package main

import (
	"log/slog"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"

	"mobileid/activities/identitymanager"
	"mobileid/activities/mail"
	"mobileid/activities/notify"
	"mobileid/config"
)

// mailMargin is for what a try does beside the mail server's part.
const mailMargin = 10 * time.Second

// newMails makes what sends the mails of the outbox. Each worker with a store does.
func newMails(log *zap.Logger, c config.Config, store *identitymanager.Store) (*notify.Sender, error) {
	sender, err := mail.Configured(c.Mail)
	if err != nil {
		return nil, err
	}
	if c.Mail.Driver == "files" {
		log.Warn("Mails are written to files, for development: nobody gets them", zap.String("folder", c.Mail.Folder))
	}
	return notify.New(store, notify.Options{
		Mail:     sender,
		Composer: mail.ConfiguredComposer(c.Mail),
		Logger:   slog.New(zapslog.NewHandler(log.Core())),
		Try:      c.Mail.Timeout + mailMargin,
		Grace:    c.Worker.StopTimeout,
	}), nil
}
