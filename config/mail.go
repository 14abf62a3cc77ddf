package config

import (
	"net"
	"net/mail"
	"net/url"
	"strings"
	"unicode"
)

// maxContact is the longest contact text, in bytes: it stands in every mail.
const maxContact = 1000

func (m Mail) check(f *Faults) {
	oneOf(f, "mail.driver", m.Driver, "files", "smtp")
	switch m.Driver {
	case "files":
		required(f, "mail.folder", m.Folder)
	case "smtp":
		m.checkSMTP(f)
	}
	mailbox(f, "mail.from", m.From)
	mailbox(f, "mail.reply_to", m.ReplyTo)
	if strings.TrimSpace(m.Contact) == "" {
		f.add("mail.contact", "is missing: people must learn whom to tell that they did not do it")
	}
	if len(m.Contact) > maxContact || strings.ContainsFunc(m.Contact, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
		f.add("mail.contact", "must be a text of at most 1000 bytes without control characters")
	}
	// A query could do something, a fragment could too: people would be told to open it.
	if u, err := url.Parse(m.SelfService); m.SelfService != "" &&
		(err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.ContainsAny(m.SelfService, "?# \n")) {
		f.add("mail.self_service", "must be an http or https URL without user, query and fragment")
	}
}

func (m Mail) checkSMTP(f *Faults) {
	if host, port, err := net.SplitHostPort(m.Address); err != nil || host == "" || port == "" {
		f.add("mail.address", "must be host:port")
	}
	required(f, "mail.from", m.From)
	oneOf(f, "mail.security", m.Security, "starttls", "tls", "none")
	if m.Username != "" && m.PasswordFile == "" {
		f.add("mail.password_file", "is missing: mail.username needs one")
	}
	if m.Username == "" && m.PasswordFile != "" {
		f.add("mail.username", "is missing: mail.password_file is of no use without")
	}
	if m.Security == "none" {
		if m.Username != "" {
			f.add("mail.username", "must be empty with security none: the password would be read on the way")
		}
		if m.ServerCAFile != "" {
			f.add("mail.server_ca_file", "is of no use with security none")
		}
	}
	positive(f, "mail.timeout", m.Timeout)
}

// mailbox checks an address that may be left out. The parser takes no line ends.
func mailbox(f *Faults, key, text string) {
	if text == "" {
		return
	}
	if _, err := mail.ParseAddress(text); err != nil {
		f.add(key, "must be an address, or Name <address>")
	}
}
