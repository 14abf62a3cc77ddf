package config

import (
	"net"
	"net/url"
)

// Encryption says under which keys payloads are encrypted.
type Encryption struct {
	KeysetFile string `mapstructure:"keyset_file" doc:"file with the keys, which 'starter codec keyset create' makes; read again when it changes; empty: payloads stand in clear"`
}

// CodecServer is how 'starter codec serve' decodes for the Web UI and for CLIs.
type CodecServer struct {
	Address         string   `mapstructure:"address" doc:"host:port; without a certificate a loopback address alone"`
	CertificateFile string   `mapstructure:"certificate_file" doc:"PEM file with the TLS certificate, and what it takes to check it; empty: plain http"`
	KeyFile         string   `mapstructure:"key_file" doc:"PEM file with the key of that certificate"`
	TokenFile       string   `mapstructure:"token_file" doc:"file with what callers send as 'Authorization: Bearer ...', 16 characters or more, read for each request; empty, on a loopback address alone: nobody is asked"`
	Origins         []string `mapstructure:"origins" doc:"origins of the Web UIs whose pages may call, for example https://temporal.example.com; empty: none, programs alone"`
	Encode          bool     `mapstructure:"encode" doc:"encode, too, so that what the Web UI and CLIs send through it is encrypted, as temporal does with queries; false: decode only"`
	RateLimit       float64  `mapstructure:"rate_limit" doc:"requests a second, of all callers together"`
}

func defaultCodecServer() CodecServer {
	return CodecServer{Address: "127.0.0.1:8085", Origins: []string{}, RateLimit: 200}
}

func (c CodecServer) check(f *Faults) {
	host, _, err := net.SplitHostPort(c.Address)
	switch {
	case err != nil:
		f.add("codec_server.address", "must be host:port")
	case !IsLoopback(host) && c.CertificateFile == "":
		f.add("codec_server.certificate_file", "is missing: without it codec_server.address must be a loopback address")
	case !IsLoopback(host) && c.TokenFile == "":
		f.add("codec_server.token_file", "is missing: without it codec_server.address must be a loopback address")
	}
	if c.CertificateFile != "" {
		required(f, "codec_server.key_file", c.KeyFile)
	}
	if c.KeyFile != "" {
		required(f, "codec_server.certificate_file", c.CertificateFile)
	}
	for _, origin := range c.Origins {
		// The form in which browsers send it, or it would never match.
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || origin != u.Scheme+"://"+u.Host {
			f.add("codec_server.origins", "must hold origins, scheme://host or scheme://host:port, and nothing behind: "+origin)
		}
	}
	if c.RateLimit <= 0 {
		f.add("codec_server.rate_limit", "must be more than 0")
	}
}

// IsLoopback reports whether a host, by name or number, is this machine alone.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
