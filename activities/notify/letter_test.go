package notify

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// The owner is told in a sentence why a Get failed, whatever the reason.
func TestEveryFailureHasASentence(t *testing.T) {
	for _, failure := range []mobileid.FailureType{
		mobileid.FailureCancelled, mobileid.FailurePhoneSilent, mobileid.FailurePhoneRefused, mobileid.FailureBadSignature,
		mobileid.FailureWrongNonce, mobileid.FailureBadRequest, mobileid.FailureCARefused, mobileid.FailureMessagingRefused,
		mobileid.FailureNotEntitled, mobileid.FailureMobileIDActive, mobileid.FailureConflict,
	} {
		require.Regexp(t, `^[A-Z].*\.$`, problems[failure], failure)
	}
}
