package pages

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Where a sign-in goes on to is a page of ours: a link to the sign-in cannot lead
// anybody away.
func FuzzOwnPath(f *testing.F) {
	for _, path := range []string{"/", "/mobile-ids/mid-1?x=1", "//evil.example", `/\evil.example`, "https://evil.example", "/%2fevil.example", "/\t/evil.example",
		"javascript:alert(1)", "", "/a\r\nSet-Cookie: x=1", "/..//evil.example"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		own := ownPath(path)
		require.True(t, own == "" || strings.HasPrefix(own, "/"), "%q", own)
		// Browsers drop tabs and line ends, and take a backslash for a slash.
		seen := strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(own)
		require.False(t, strings.HasPrefix(seen, "//"), "%q", own)
		target, err := url.Parse(own)
		require.NoError(t, err, "%q", own)
		require.Empty(t, target.Host)
		require.Empty(t, target.Scheme)
	})
}
