package activities

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// Who would wait for a mail that cannot come is told so before Next.
func TestUserWithoutAddressGetsNoCodeByMail(t *testing.T) {
	reachable := mobileid.Applicant{Emails: []string{"anna@example.com"}}
	require.NoError(t, GetSettings{}.reachable(mobileid.Applicant{}), "the page shows it")
	require.NoError(t, GetSettings{QRByEmail: true}.reachable(reachable))
	require.ErrorIs(t, GetSettings{QRByEmail: true}.reachable(mobileid.Applicant{}), mobileid.ErrNotEntitled)
}
