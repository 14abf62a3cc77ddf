package devca

import (
	"context"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPrefill(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Prefill(dir, 1, 10))
	require.NoError(t, Prefill(dir, 11, 20), "more beside them")
	require.Error(t, Prefill(dir, 30, 1), "taken")

	s := open(t, dir, Options{CRLInterval: time.Hour, CRLValidity: 3 * time.Hour})
	require.Len(t, published(t, s).RevokedCertificateEntries, 30)
	_, err := s.Status(context.Background(), big.NewInt(31))
	require.ErrorIs(t, err, ErrUnknownSerial)
	require.ErrorIs(t, Prefill(dir, 31, 1), ErrInUse)
}
