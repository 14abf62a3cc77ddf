package pages

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/starter/selfservice/browser/chromium"
)

// pictures are those of the README: states with made-up people, at a made-up noon, so
// that a picture changes with its page alone.
var pictures = map[string]string{
	"dashboard.png": "dashboard, one mobile ID",
	"lock.png":      "lock",
	"progress.png":  "progress, locked, CA away",
	"get.png":       "get progress, a code on the page",
}

// The pictures are there, and small. UPDATE_PICTURES=1 takes them anew.
func TestPictures(t *testing.T) {
	folder := filepath.Join("..", "..", "..", "docs", "pictures")
	if os.Getenv("UPDATE_PICTURES") != "" {
		all := states()
		w := chromium.Start(t).Open(t, gallery(t, all).URL)
		require.NoError(t, os.MkdirAll(folder, 0o755))
		for file, name := range pictures {
			require.Contains(t, all, name)
			require.NoError(t, os.WriteFile(filepath.Join(folder, file), w.Picture(at(name)), 0o644))
		}
	}
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	require.NoError(t, err)
	for file := range pictures {
		picture, err := os.ReadFile(filepath.Join(folder, file))
		require.NoError(t, err)
		require.Less(t, len(picture), 60<<10, file)
		_, err = png.Decode(bytes.NewReader(picture))
		require.NoError(t, err, file)
		require.Contains(t, string(readme), "](docs/pictures/"+file+")")
	}
}
