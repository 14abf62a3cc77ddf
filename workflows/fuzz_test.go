package workflows

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"mobileid"
)

// Anybody who may write to the namespace can send any payload.

func payloadOf(encoding string, data []byte) converter.RawValue {
	return converter.NewRawValue(&commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte(encoding)}, Data: data})
}

func addPayloads(f *testing.F, more ...string) {
	f.Helper()
	for _, text := range append(more, ``, `null`, `{`, `[]`, `"{}"`, `{"userId":7}`, `{"userId":"an\u0000na"}`, `{"reason":"certificateHold"}`) {
		f.Add("json/plain", []byte(text))
	}
	f.Add("binary/null", []byte(nil))
	f.Add("binary/plain", []byte{0xff, 0xfe})
	f.Add("binary/encrypted", []byte(`{"mobileId":"mid-1","userId":"anna"}`))
}

// requireNamed checks that a refusal says what is wrong, with what.
func requireNamed(t *testing.T, err error) {
	t.Helper()
	var refusal *mobileid.Refusal
	require.True(t, errors.As(err, &refusal), "%T: %v", err, err)
	require.Equal(t, mobileid.TypeInvalidRequest, refusal.Type)
	require.NotEmpty(t, refusal.Field+refusal.Message)
}

// requireShowable checks what goes into audit, logs and pages.
func requireShowable(t *testing.T, limit int, texts ...string) {
	t.Helper()
	for _, text := range texts {
		require.LessOrEqual(t, len(text), limit)
		require.True(t, utf8.ValidString(text))
		require.False(t, strings.ContainsFunc(text, unicode.IsControl), "%q", text)
	}
}

func FuzzLockRequest(f *testing.F) {
	addPayloads(f, `{"mobileId":"mid-1","userId":"anna","by":"olof","reason":"superseded"}`, `{"mobileId":"../x","userId":"anna"}`,
		`{"mobileId":"mid-1","userId":"anna","continued":{"decision":"next"}}`, `{"mobileId":"mid-1","MOBILEID":"mid-2","userId":"anna"}`)
	f.Fuzz(func(t *testing.T, encoding string, data []byte) {
		for _, operator := range []bool{false, true} {
			request, err := parseLockRequest(payloadOf(encoding, data), operator)
			if err != nil {
				requireNamed(t, err)
				continue
			}
			require.NoError(t, mobileid.CheckID("mobileId", request.MobileID))
			require.NotEmpty(t, request.UserID)
			requireShowable(t, maxUserID, request.UserID, request.By)
			require.NoError(t, mobileid.CheckLockReason(request.Reason, operator))
		}
	})
}

func FuzzGetRequest(f *testing.F) {
	addPayloads(f, `{"userId":"anna","by":"olof"}`, `{"userId":"anna","afterLock":{"workflowId":"x"}}`)
	f.Fuzz(func(t *testing.T, encoding string, data []byte) {
		request, err := parseGetRequest(payloadOf(encoding, data))
		if err != nil {
			requireNamed(t, err)
			return
		}
		require.NotEmpty(t, request.UserID)
		requireShowable(t, maxUserID, request.UserID, request.By)
	})
}

// The same payload as update and as signal: an update is read strictly, a signal
// counts whatever it holds, and never in the name of another user than the update's.
func FuzzMessage(f *testing.F) {
	addPayloads(f, `{"userId":"anna","by":"web","requestId":"r","note":"lost","thenGet":true,"reason":"superseded"}`,
		`"{\"userId\": \"anna\"}"`, `{"userId":"anna","by":[1]}`, `{"userId":"anna","note":"\u0007"}`)
	f.Fuzz(func(t *testing.T, encoding string, data []byte) {
		signal := readMessage(payloadOf(encoding, data))
		requireShowable(t, maxNote, signal.Note)
		requireShowable(t, maxUserID, signal.UserID, signal.By, signal.RequestID)
		require.NoError(t, mobileid.CheckLockReason(signal.Reason, signal.UserID == ""))
		update, err := parseMessage(payloadOf(encoding, data))
		if err != nil {
			requireNamed(t, err)
			return
		}
		require.Equal(t, update, signal)
	})
}
