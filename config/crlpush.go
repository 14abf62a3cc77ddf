package config

import (
	"net"
	"strings"
)

// CRLPush is where CAs bring their CRLs by themselves.
type CRLPush struct {
	Address         string   `mapstructure:"address" doc:"where the worker takes them, over TLS, at /ws/certificate/crl; empty: nowhere"`
	CertificateFile string   `mapstructure:"certificate_file" doc:"PEM file with the certificate of its TLS"`
	KeyFile         string   `mapstructure:"key_file" doc:"PEM file with its key"`
	ClientCAFile    string   `mapstructure:"client_ca_file" doc:"PEM file with the CAs of the client certificates that let senders in; empty: none does"`
	ClientNames     []string `mapstructure:"client_names" doc:"common or DNS names of these certificates; empty: every one that the CAs have issued for TLS clients"`
	User            string   `mapstructure:"user" doc:"user name of senders without a client certificate (HTTP Basic); empty: none is let in"`
	PasswordFile    string   `mapstructure:"password_file" doc:"file with their password"`
	Tenant          string   `mapstructure:"tenant" doc:"the tenantId that senders must name; empty: it is not looked at"`
	MaxBytes        int64    `mapstructure:"max_bytes" doc:"of one CRL; some 40 bytes an entry"`
}

func defaultCRLPush() CRLPush { return CRLPush{ClientNames: []string{}, MaxBytes: 16 << 20} }

// maxCRL bounds crl_push.max_bytes: one CRL is in memory at a time, with its index.
const maxCRL = 256 << 20

func (p CRLPush) check(f *Faults) {
	if p.Address == "" {
		return
	}
	if _, _, err := net.SplitHostPort(p.Address); err != nil {
		f.add("crl_push.address", "must be host:port")
	}
	required(f, "crl_push.certificate_file", p.CertificateFile)
	required(f, "crl_push.key_file", p.KeyFile)
	if p.ClientCAFile == "" && p.User == "" {
		f.add("crl_push.client_ca_file", "is missing, and so is crl_push.user: nobody could bring a CRL")
	}
	if len(p.ClientNames) > 0 {
		required(f, "crl_push.client_ca_file", p.ClientCAFile)
	}
	if p.User != "" {
		required(f, "crl_push.password_file", p.PasswordFile)
	}
	if strings.Contains(p.User, ":") {
		f.add("crl_push.user", "must not hold a colon (RFC 7617 section 2)")
	}
	if p.MaxBytes < 1<<10 || p.MaxBytes > maxCRL {
		f.add("crl_push.max_bytes", "must be 1024 to 268435456")
	}
}
