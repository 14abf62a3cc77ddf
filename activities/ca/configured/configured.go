// Package configured makes the CAs of a configuration. It is the one place that
// knows the drivers.
package configured

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/time/rate"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/cmp"
	"mobileid/activities/ca/cmrest"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/ejbca"
	"mobileid/activities/ca/stepca"
	"mobileid/activities/ca/vault"
	"mobileid/config"
)

// Authorities makes the configured CAs. Every fault is reported, all at once.
func Authorities(configured []config.CA) (*ca.Authorities, error) {
	var list []*ca.Authority
	var faults []error
	for _, c := range configured {
		authority, err := authority(c)
		if err != nil {
			faults = append(faults, fmt.Errorf("CA %s: %w", c.Name, err))
			continue
		}
		list = append(list, authority)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return ca.NewAuthorities(list)
}

func authority(c config.CA) (*ca.Authority, error) {
	issuer, err := readCertificate(c.IssuerFile)
	if err != nil {
		return nil, fmt.Errorf("issuer_file: %w", err)
	}
	driver, err := driver(c, issuer)
	if err != nil {
		return nil, err
	}
	wait, err := c.ProofWaitDuration()
	if err != nil {
		return nil, err
	}
	a := &ca.Authority{
		Name:           c.Name,
		Issuer:         issuer,
		Driver:         driver,
		RequestTimeout: c.CallTimeout,
		Concurrency:    c.Concurrency,
		TaskQueue:      c.TaskQueue,
		Reasons:        reasons(c.Reasons),
		ProofWait:      wait,
		ApprovalWait:   c.ApprovalWait,
	}
	if c.RateLimit > 0 {
		// What was not used within a second is lost, so a burst is a second's worth.
		a.Limit = rate.NewLimiter(rate.Limit(c.RateLimit), max(1, int(c.RateLimit)))
	}
	if c.OCSPURL != "" {
		if a.OCSP, err = ca.NewOCSP(c.OCSPURL, issuer, ca.NewHTTPClient(c.CallTimeout), time.Now); err != nil {
			return nil, fmt.Errorf("ocsp_url: %w", err)
		}
	}
	if c.CRLURL != "" {
		if a.CRL, err = ca.NewCRL(c.CRLURL, issuer, ca.NewHTTPClient(c.CallTimeout), time.Now); err != nil {
			return nil, fmt.Errorf("crl_url: %w", err)
		}
	}
	return a, nil
}

func reasons(list []config.ReasonMap) map[mobileid.Reason]mobileid.Reason {
	reasons := make(map[mobileid.Reason]mobileid.Reason, len(list))
	for _, m := range list {
		reasons[mobileid.Reason(m.From)] = mobileid.Reason(m.To)
	}
	return reasons
}

// driver returns nil for a CA that other workers reach.
func driver(c config.CA, issuer *x509.Certificate) (ca.Driver, error) {
	switch c.Driver {
	case "":
		return nil, nil //nolint:nilnil // see ca.Authority.Driver
	case "cmrest":
		return cmrest.New(cmrest.Options{
			URL:             c.URL,
			IssuerDN:        c.IssuerDN,
			SerialFormat:    cmrest.SerialFormat(c.SerialFormat),
			Issuer:          issuer,
			ClientCertFile:  c.CertificateFile,
			ClientKeyFile:   c.KeyFile,
			SigningCertFile: c.SigningCertFile,
			SigningKeyFile:  c.SigningKeyFile,
			ServerCAFile:    c.ServerCAFile,
			Timeout:         c.CallTimeout,
		})
	case "cmp":
		return cmp.New(cmp.Options{
			URL:           c.URL,
			IssuerFile:    c.IssuerFile,
			CertFile:      c.CertificateFile,
			KeyFile:       c.KeyFile,
			SecretFile:    c.SecretFile,
			Reference:     c.Reference,
			MAC:           c.MAC,
			ResponderFile: c.ResponderFile,
			ServerCAFile:  c.ServerCAFile,
			Timeout:       c.CallTimeout,
		})
	case "devca":
		return devca.NewDriver(devca.DriverOptions{
			URL:            c.URL,
			ClientCertFile: c.CertificateFile,
			ClientKeyFile:  c.KeyFile,
			ServerCAFile:   c.ServerCAFile,
			Timeout:        c.CallTimeout,
		})
	case "ejbca":
		return ejbca.New(ejbca.Options{
			URL:            c.URL,
			IssuerDN:       c.IssuerDN,
			ClientCertFile: c.CertificateFile,
			ClientKeyFile:  c.KeyFile,
			ServerCAFile:   c.ServerCAFile,
			Timeout:        c.CallTimeout,
		})
	case "stepca":
		return stepca.New(stepca.Options{
			URL:          c.URL,
			ServerCAFile: c.ServerCAFile,
			Provisioner:  c.Provisioner,
			KeyFile:      c.KeyFile,
			Timeout:      c.CallTimeout,
		})
	case "vault":
		return vault.New(vault.Options{
			URL:            c.URL,
			Mount:          c.Mount,
			Namespace:      c.Namespace,
			TokenFile:      c.TokenFile,
			ServerCAFile:   c.ServerCAFile,
			ClientCertFile: c.CertificateFile,
			ClientKeyFile:  c.KeyFile,
			Timeout:        c.CallTimeout,
		})
	}
	return nil, fmt.Errorf("driver %q is not built in", c.Driver)
}

func readCertificate(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file is what the operator configured
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return x509.ParseCertificate(block.Bytes)
}
