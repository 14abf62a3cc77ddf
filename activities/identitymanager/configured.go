package identitymanager

import (
	"context"
	"fmt"

	"mobileid/config"
)

// Configured opens the store that the configuration of the programs names. change,
// which may be left out, adapts the options.
func Configured(ctx context.Context, c config.Config, change ...func(*Options)) (*Store, error) {
	dsn, err := c.Store.StoreDSN()
	if err != nil {
		return nil, fmt.Errorf("identity manager: %w", err)
	}
	key, err := config.ReadKey("audit.key_file", c.Audit.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("identity manager: %w", err)
	}
	options := Options{
		Driver: c.Store.Driver, DSN: dsn, AuditKey: key,
		Notices: Notices{Lock: c.Lock.Notify, Get: c.Get.Notify, QR: c.Get.QR == config.QRByEmail, Operators: c.Lock.OverdueMail},
	}
	for _, f := range change {
		f(&options)
	}
	return Open(ctx, options)
}
