package api

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
)

// What is read from a body was there, in the spelling that is documented, once.
func FuzzBody(f *testing.F) {
	for _, text := range []string{`{}`, `{"confirmed":true,"reason":"superseded"}`, `{"Confirmed":true}`, `{"confirmed":true,"confirmed":false}`,
		`{"confirmed":null}`, `{"confirmed":1e999}`, `[]`, `{}{}`, `{"\ud800":1}`, `{"a":{"a":{}}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var confirmed bool
		var reason mobileid.Reason
		into := map[string]any{"confirmed": &confirmed, "reason": &reason}
		err := strict(text, into)
		if err != nil {
			var refusal *mobileid.Refusal
			require.True(t, errors.As(err, &refusal), "%T: %v", err, err)
			require.NotEmpty(t, refusal.Message)
			require.LessOrEqual(t, len(refusal.Field), maxField)
			return
		}
		require.True(t, !confirmed || into["confirmed"] == nil, "it is set, and was not there")
		require.True(t, reason == "" || into["reason"] == nil)
	})
}
