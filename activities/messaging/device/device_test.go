package device_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging/device"
)

const target = "https://localhost:20400/hermod/rest/ms/482ae2ba-3847-4fc8-bb98-73a3f2f809ca"

func TestContent(t *testing.T) {
	content := device.Content(target)
	require.Equal(t, "com.nexusgroup.plugout:///?url=https%3A%2F%2Flocalhost%3A20400%2Fhermod%2Frest%2Fms%2F482ae2ba-3847-4fc8-bb98-73a3f2f809ca", content)
	got, err := device.ParseContent(content)
	require.NoError(t, err)
	require.Equal(t, target, got.String())
}

func TestParseContentRefuses(t *testing.T) {
	for _, row := range []struct{ name, content string }{
		{"empty", ""},
		{"another app", "https://localhost/?url=" + url.QueryEscape(target)},
		{"no url", "com.nexusgroup.plugout:///"},
		{"two urls", device.Content(target) + "&url=x"},
		{"not https", device.Content("http://localhost/secret")},
		{"with a user", device.Content("https://a:secret@localhost/")},
		{"no host", device.Content("https:///secret")},
		{"a broken escape", "com.nexusgroup.plugout:///?url=%zzsecret"},
		{"not a url", device.Content("https://local host/secret")},
		{"long", device.Content("https://localhost/" + strings.Repeat("secret", 1000))},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := device.ParseContent(row.content)
			require.ErrorContains(t, err, "QR code: ")
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func FuzzParseContent(f *testing.F) {
	f.Add(device.Content(target))
	f.Add("com.nexusgroup.plugout:///?url=https://x&extra=1")
	f.Fuzz(func(t *testing.T, content string) {
		got, err := device.ParseContent(content)
		if err != nil {
			return
		}
		require.Equal(t, "https", got.Scheme)
		require.NotEmpty(t, got.Host)
	})
}
