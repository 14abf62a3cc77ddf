package activities

import (
	"context"

	"mobileid"
)

// IdentityManager is what the lock needs of Identity Manager. Every method that
// changes something writes its audit record in the same transaction, and is
// idempotent for one process: a repeat changes nothing and answers the same.
//
// An error that is none of the named ones is a fault of the store and worth a
// retry.
type IdentityManager interface {
	// MobileID reads a mobile ID with its owner and all its certificates. An
	// unknown id is mobileid.ErrMobileIDNotFound.
	MobileID(ctx context.Context, id string) (mobileid.MobileID, error)

	// Lock makes an active, inactive or already locked mobile ID locked, or
	// returns a *mobileid.ConflictError. The receipt lists the certificates that
	// are neither revoked nor expired; with Resume, all of them. Its reason is the one
	// to send: that of the lock that stands.
	Lock(ctx context.Context, order mobileid.LockOrder) (mobileid.LockReceipt, error)

	// RecordRevocations makes certificates revoked, or expired where that is the
	// outcome. It refuses a revocation without a proof, because Identity Manager
	// never says revoked before the CA does.
	RecordRevocations(ctx context.Context, order mobileid.RevocationOrder) (mobileid.RevocationReceipt, error)

	// Record appends to the audit what changed nothing: refused, cancelled,
	// expired, visible.
	Record(ctx context.Context, record mobileid.Record) (mobileid.AuditMark, error)
}
