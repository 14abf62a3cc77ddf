package ca_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid/activities/ca"
	"mobileid/activities/ca/devca"
	"mobileid/activities/ca/devca/devcatest"
)

// health is of a real devca with both public sources, seen at a time.
func health(t *testing.T, at time.Time, change func(*devcatest.CA, *devca.DriverOptions)) ca.Health {
	t.Helper()
	c := devcatest.Start(t)
	options := c.DriverOptions()
	ocspURL, crlURL := c.OCSPURL(), c.CRLURL()
	if change != nil {
		change(c, &options)
	}
	driver, err := devca.NewDriver(options)
	require.NoError(t, err)
	t.Cleanup(driver.Close)
	ocsp, err := ca.NewOCSP(ocspURL, c.Certificate(), nil, time.Now)
	require.NoError(t, err)
	crl, err := ca.NewCRL(crlURL, c.Certificate(), nil, time.Now)
	require.NoError(t, err)
	a := &ca.Authority{Name: "devca", Issuer: c.Certificate(), Driver: driver, OCSP: ocsp, CRL: crl, Now: func() time.Time { return at }}
	all, err := ca.NewAuthorities([]*ca.Authority{a})
	require.NoError(t, err)
	return all.Health(t.Context())[0]
}

func TestHealth(t *testing.T) {
	now := time.Now()
	well := health(t, now, nil)
	require.Empty(t, well.Warnings)
	require.True(t, well.Driver.OK)
	require.True(t, well.OCSP.OK)
	require.True(t, well.CRL.OK)
	require.False(t, well.CRL.At.IsZero())
	require.NotEmpty(t, well.CRL.CRL)
	require.True(t, well.Until.After(now.Add(30*24*time.Hour)))

	for _, row := range []struct {
		name   string
		at     time.Time
		change func(*devcatest.CA, *devca.DriverOptions)
		says   []string
	}{
		{"the CA is down", now, func(c *devcatest.CA, _ *devca.DriverOptions) { c.Break(devcatest.Refuse(503, 0)) }, []string{"driver: ", "CAUnavailable"}},
		{"not let in", now, func(_ *devcatest.CA, o *devca.DriverOptions) {
			other := devcatest.Start(t).DriverOptions()
			o.ClientCertFile, o.ClientKeyFile = other.ClientCertFile, other.ClientKeyFile
		}, []string{"driver: ", "CADenied"}},
		{"credentials end soon", well.Until.Add(-10 * 24 * time.Hour), nil, []string{"credentials: the certificate ends at", "in 10 days"}},
		{"credentials have ended", well.Until.Add(time.Hour), nil, []string{"credentials: the certificate has ended"}},
		{"CRL out of date", now.Add(3 * time.Hour), nil, []string{"CRL: it is out of date since"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := health(t, row.at, row.change)
			require.NotEmpty(t, h.Warnings)
			for _, words := range row.says {
				require.Contains(t, strings.Join(h.Warnings, "\n"), words)
			}
		})
	}
}
