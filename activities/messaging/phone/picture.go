package phone

import (
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// Limits of a picture: its file in bytes, its sides in pixels.
const (
	maxPicture = 8 << 20
	maxSide    = 4096
)

// ReadPNG reads the content of the QR code on a picture, for [Scan]. The error does
// not quote it.
func ReadPNG(r io.ReadSeeker) (string, error) {
	size, err := png.DecodeConfig(io.LimitReader(r, maxPicture))
	if err != nil {
		return "", fmt.Errorf("read QR code: %w", err)
	}
	if size.Width > maxSide || size.Height > maxSide {
		return "", fmt.Errorf("read QR code: the picture is larger than %d pixels", maxSide)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("read QR code: %w", err)
	}
	picture, err := png.Decode(io.LimitReader(r, maxPicture))
	if err != nil {
		return "", fmt.Errorf("read QR code: %w", err)
	}
	return decode(picture)
}

func decode(picture image.Image) (string, error) {
	bitmap, err := gozxing.NewBinaryBitmapFromImage(picture)
	if err != nil {
		return "", errors.New("read QR code: the picture cannot be used")
	}
	// The first way is for photographs. It misses some 3 in 100 codes that are drawn
	// and not photographed, which the second reads.
	for _, hints := range []map[gozxing.DecodeHintType]any{nil, {gozxing.DecodeHintType_PURE_BARCODE: true}} {
		if result, err := qrcode.NewQRCodeReader().Decode(bitmap, hints); err == nil {
			return result.GetText(), nil
		}
	}
	return "", errors.New("read QR code: there is none on the picture")
}
