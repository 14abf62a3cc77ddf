package session

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHashPassword(t *testing.T) {
	hash, err := HashPassword("correct horse battery")
	require.NoError(t, err)
	require.Regexp(t, `^\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, hash)
	again, err := HashPassword("correct horse battery")
	require.NoError(t, err)
	require.NotEqual(t, hash, again, "each has a salt of its own")
	for _, password := range []string{"", "elevenbytes", strings.Repeat("a", 1025)} {
		_, err := HashPassword(password)
		require.ErrorContains(t, err, "12 to 1024 bytes")
	}
	right, err := fits(hash, "correct horse battery")
	require.NoError(t, err)
	require.True(t, right)
	for _, wrong := range []string{"", "correct horse batterx", "correct horse battery\x00"} {
		right, err := fits(hash, wrong)
		require.NoError(t, err)
		require.False(t, right)
	}
}

func TestHashesThatAreNone(t *testing.T) {
	tag := strings.Repeat("A", 43)
	for name, hash := range map[string]string{
		"nothing":       "",
		"another kind":  "$2b$10$abcdefghijklmnopqrstuv",
		"argon2i":       "$argon2i$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$" + tag,
		"another one":   "$argon2id$v=16$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$" + tag,
		"endless":       "$argon2id$v=19$m=4294967295,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$" + tag,
		"slow":          "$argon2id$v=19$m=65536,t=4000000000,p=4$AAAAAAAAAAAAAAAAAAAAAA$" + tag,
		"no passes":     "$argon2id$v=19$m=65536,t=0,p=4$AAAAAAAAAAAAAAAAAAAAAA$" + tag,
		"no lanes":      "$argon2id$v=19$m=65536,t=3,p=0$AAAAAAAAAAAAAAAAAAAAAA$" + tag,
		"a short salt":  "$argon2id$v=19$m=65536,t=3,p=4$AAAA$" + tag,
		"a short tag":   "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAA",
		"not base64":    "$argon2id$v=19$m=65536,t=3,p=4$????????????????$" + tag,
		"more than six": "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$" + tag + "$x",
	} {
		t.Run(name, func(t *testing.T) {
			right, err := fits(hash, "password")
			require.Error(t, err)
			require.False(t, right)
			require.NotContains(t, err.Error(), tag)
		})
	}
}

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1":                 "192.0.2.1",
		"::ffff:192.0.2.1":          "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":      "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff:ffff::1": "2001:db8:1:2::/64",
		"fe80::1%eth0":              "fe80::/64",
		"unknown":                   "unknown",
		"192.0.2.1, 198.51.100.1":   "192.0.2.1, 198.51.100.1",
	} {
		require.Equal(t, want, Network(address), address)
	}
}
