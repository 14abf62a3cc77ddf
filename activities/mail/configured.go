package mail

import (
	"fmt"
	netmail "net/mail"

	"mobileid/config"
)

// developmentFrom is whom files come from where nobody is configured.
var developmentFrom = netmail.Address{Name: "Mobile ID", Address: "mobile-id@localhost"}

// Configured makes the sender that the configuration of the programs names.
func Configured(c config.Mail) (Sender, error) {
	from, replyTo := developmentFrom, (*netmail.Address)(nil)
	if c.From != "" {
		parsed, err := netmail.ParseAddress(c.From)
		if err != nil {
			return nil, fmt.Errorf("mail.from: %w", err)
		}
		from = *parsed
	}
	if c.ReplyTo != "" {
		parsed, err := netmail.ParseAddress(c.ReplyTo)
		if err != nil {
			return nil, fmt.Errorf("mail.reply_to: %w", err)
		}
		replyTo = parsed
	}
	switch c.Driver {
	case "files":
		sender, err := NewFiles(c.Folder, from, replyTo)
		if err != nil {
			return nil, fmt.Errorf("mail: %w", err)
		}
		return sender, nil
	case "smtp":
		sender, err := NewSMTP(SMTPOptions{
			Address:      c.Address,
			Security:     Security(c.Security),
			Username:     c.Username,
			PasswordFile: c.PasswordFile,
			ServerCAFile: c.ServerCAFile,
			Timeout:      c.Timeout,
			From:         from,
			ReplyTo:      replyTo,
		})
		if err != nil {
			return nil, fmt.Errorf("mail: %w", err)
		}
		return sender, nil
	}
	return nil, fmt.Errorf("mail.driver %q is not built in", c.Driver)
}

// ConfiguredComposer makes the composer that the configuration of the programs names.
func ConfiguredComposer(c config.Mail) Composer {
	return Composer{Contact: c.Contact, SelfService: c.SelfService}
}
