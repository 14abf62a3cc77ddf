package chromium

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"slices"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// Picture is the page as a small PNG for documents: what a phone of some size shows of
// it, in UTC.
func (w *Window) Picture(path string) []byte {
	w.T.Helper()
	const width, height = 400, 900
	w.Do(emulation.SetTimezoneOverride("UTC"), emulation.SetDeviceMetricsOverride(width, height, 1, true))
	w.GoTo(path)
	return w.Capture()
}

// Capture is what the window shows now as a small PNG for documents.
func (w *Window) Capture() []byte {
	w.T.Helper()
	var picture []byte
	w.Do(chromedp.CaptureScreenshot(&picture))
	decoded, err := png.Decode(bytes.NewReader(picture))
	require.NoError(w.T, err)
	small := image.NewPaletted(decoded.Bounds(), frequent(decoded))
	draw.Draw(small, small.Bounds(), decoded, decoded.Bounds().Min, draw.Src)
	var b bytes.Buffer
	require.NoError(w.T, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, small))
	return b.Bytes()
}

// frequent are the colours that a picture has most of. A palette of them is enough for
// text, and makes a picture a third as large.
func frequent(picture image.Image) color.Palette {
	const most = 64
	count := map[color.Color]int{}
	for y := picture.Bounds().Min.Y; y < picture.Bounds().Max.Y; y++ {
		for x := picture.Bounds().Min.X; x < picture.Bounds().Max.X; x++ {
			count[picture.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int {
		ra, ga, ba, _ := a.RGBA()
		rb, gb, bb, _ := b.RGBA()
		return cmp.Or(count[b]-count[a], cmp.Compare(ra, rb), cmp.Compare(ga, gb), cmp.Compare(ba, bb))
	})
	return colours[:min(most, len(colours))]
}
