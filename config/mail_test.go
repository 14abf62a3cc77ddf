package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func faultsOf(change func(*Mail)) []string {
	m := Default().Mail
	change(&m)
	var f Faults
	m.check(&f)
	return f.list
}

func smtp(m *Mail) {
	m.Driver, m.Address, m.From = "smtp", "mail.example.com:587", "Mobile ID <mobile-id@example.com>"
}

func TestMailTaken(t *testing.T) {
	for name, change := range map[string]func(*Mail){
		"files":                        func(*Mail) {},
		"smtp":                         smtp,
		"smtp with a password":         func(m *Mail) { smtp(m); m.Username, m.PasswordFile = "u", "p" },
		"smtp without protection":      func(m *Mail) { smtp(m); m.Security = "none" },
		"an IPv6 address":              func(m *Mail) { smtp(m); m.Address = "[::1]:25" },
		"a contact with several lines": func(m *Mail) { m.Contact = "Service desk\n+46 8 123 45 67\n" },
		"Self-Service":                 func(m *Mail) { m.SelfService = "https://id.example.com/selfservice" },
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, faultsOf(change)) })
	}
}

func TestMailFaults(t *testing.T) {
	for _, row := range []struct {
		name, fault string
		change      func(*Mail)
	}{
		{"another driver", "mail.driver", func(m *Mail) { m.Driver = "pigeon" }},
		{"no folder", "mail.folder", func(m *Mail) { m.Folder = "" }},
		{"no port", "mail.address", func(m *Mail) { smtp(m); m.Address = "mail.example.com" }},
		{"no host", "mail.address", func(m *Mail) { smtp(m); m.Address = ":25" }},
		{"nobody", "mail.from", func(m *Mail) { smtp(m); m.From = "" }},
		{"from two", "mail.from", func(m *Mail) { m.From = "a@example.com, b@example.com" }},
		{"from with a header", "mail.from", func(m *Mail) { m.From = "a@example.com\r\nBcc: b@example.com" }},
		{"answers to nobody", "mail.reply_to", func(m *Mail) { m.ReplyTo = "nobody" }},
		{"another security", "mail.security", func(m *Mail) { smtp(m); m.Security = "ssl" }},
		{"a user without a password", "mail.password_file", func(m *Mail) { smtp(m); m.Username = "u" }},
		{"a password without a user", "mail.username", func(m *Mail) { smtp(m); m.PasswordFile = "p" }},
		{"a password in the clear", "mail.username", func(m *Mail) { smtp(m); m.Security, m.Username, m.PasswordFile = "none", "u", "p" }},
		{"trust without TLS", "mail.server_ca_file", func(m *Mail) { smtp(m); m.Security, m.ServerCAFile = "none", "s" }},
		{"no time", "mail.timeout", func(m *Mail) { smtp(m); m.Timeout = 0 }},
		{"no contact", "mail.contact", func(m *Mail) { m.Contact = "\n" }},
		{"an endless contact", "mail.contact", func(m *Mail) { m.Contact = strings.Repeat("a", 1001) }},
		{"a contact with escapes", "mail.contact", func(m *Mail) { m.Contact = "call \x1b[2J" }},
		{"Self-Service with a query", "mail.self_service", func(m *Mail) { m.SelfService = "https://id.example.com/?lock=1" }},
		{"Self-Service with a fragment", "mail.self_service", func(m *Mail) { m.SelfService = "https://id.example.com/#lock" }},
		{"Self-Service with a user", "mail.self_service", func(m *Mail) { m.SelfService = "https://u:p@id.example.com/" }},
		{"Self-Service that is a program", "mail.self_service", func(m *Mail) { m.SelfService = "javascript:alert(1)" }},
	} {
		t.Run(row.name, func(t *testing.T) {
			faults := faultsOf(row.change)
			require.Len(t, faults, 1)
			require.Contains(t, faults[0], row.fault+" ")
			require.NotContains(t, faults[0], "u:p@")
		})
	}
}
