package devca

import (
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
)

func TestChangesOfACertificate(t *testing.T) {
	first := time.Unix(1_700_000_000, 0)
	good := certificate{}
	held := certificate{revoked: true, reason: holdCode, revokedAt: first.Unix()}
	dead := certificate{revoked: true, reason: 4, revokedAt: first.Unix()}
	later := first.Add(time.Hour)

	for _, row := range []struct {
		name     string
		from     certificate
		op       operation
		argument string
		want     certificate
		err      error
	}{
		{"good is revoked", good, opRevoke, "keyCompromise", certificate{revoked: true, reason: 1, revokedAt: later.Unix()}, nil},
		{"good is revoked for no reason", good, opRevoke, "unspecified", certificate{revoked: true, revokedAt: later.Unix()}, nil},
		{"good is put on hold", good, opRevoke, "certificateHold", certificate{revoked: true, reason: holdCode, revokedAt: later.Unix()}, nil},
		{"good cannot be released", good, opRelease, "-", good, ErrNotOnHold},
		{"hold becomes final with its own date", held, opRevoke, "superseded", certificate{revoked: true, reason: 4, revokedAt: later.Unix()}, nil},
		{"hold becomes final for no reason", held, opRevoke, "unspecified", certificate{revoked: true, revokedAt: later.Unix()}, nil},
		{"hold on hold changes nothing", held, opRevoke, "certificateHold", held, nil},
		{"hold is released", held, opRelease, "-", good, nil},
		{"final stays with its reason", dead, opRevoke, "keyCompromise", dead, ErrAlreadyRevoked},
		{"final stays for the same reason", dead, opRevoke, "superseded", dead, ErrAlreadyRevoked},
		{"final does not become a hold", dead, opRevoke, "certificateHold", dead, ErrAlreadyRevoked},
		{"final is not released", dead, opRelease, "-", dead, ErrNotOnHold},
		{"removeFromCRL is no revocation", held, opRevoke, "removeFromCRL", held, ErrBadReason},
		{"an unknown reason", good, opRevoke, "KeyCompromise", good, ErrBadReason},
		{"an empty reason", good, opRevoke, "", good, ErrBadReason},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := record{at: later, op: row.op, argument: row.argument}.change(row.from)
			require.ErrorIs(t, err, row.err)
			require.Equal(t, row.want, got)
		})
	}
}

func TestStatusOfACertificate(t *testing.T) {
	at := time.Unix(1_700_000_000, 0).UTC()
	serial, _ := serialOf(big.NewInt(0x1f))
	for _, row := range []struct {
		name string
		from certificate
		want CertificateStatus
	}{
		{"good", certificate{}, CertificateStatus{Serial: "1f", Status: mobileid.StatusGood, At: at}},
		{"on hold", certificate{revoked: true, reason: holdCode, revokedAt: at.Unix()},
			CertificateStatus{Serial: "1f", Status: mobileid.StatusOnHold, Reason: mobileid.CertificateHold, RevokedAt: at, At: at}},
		{"revoked", certificate{revoked: true, reason: 10, revokedAt: at.Unix()},
			CertificateStatus{Serial: "1f", Status: mobileid.StatusRevoked, Reason: mobileid.AACompromise, RevokedAt: at, At: at}},
	} {
		t.Run(row.name, func(t *testing.T) {
			require.Equal(t, row.want, row.from.status(serial, at))
		})
	}
}

func TestHoldCode(t *testing.T) {
	code, known := mobileid.CertificateHold.Code()
	require.True(t, known)
	require.EqualValues(t, holdCode, code)
}

func TestSerialOf(t *testing.T) {
	longest := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 160), big.NewInt(1))
	for _, row := range []struct {
		name string
		in   *big.Int
		ok   bool
		text string
	}{
		{"nothing", nil, false, ""},
		{"zero", big.NewInt(0), false, ""},
		{"negative", big.NewInt(-1), false, ""},
		{"one", big.NewInt(1), true, "1"},
		{"high bit", big.NewInt(0x80), true, "80"},
		{"leading zero nibble", big.NewInt(0xabc), true, "abc"},
		{"20 bytes, all bits set", longest, true, longest.Text(16)},
		{"21 bytes", new(big.Int).Add(longest, big.NewInt(1)), false, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			serial, ok := serialOf(row.in)
			require.Equal(t, row.ok, ok)
			if ok {
				require.Equal(t, row.text, serial.String())
				require.Zero(t, serial.integer().Cmp(row.in))
			}
		})
	}
}
