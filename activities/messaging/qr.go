package messaging

import (
	"fmt"
	"strings"

	"github.com/skip2/go-qrcode"
)

// qrSize is the width of the picture, in pixels: large enough for a phone's camera
// with the longest uri.
const qrSize = 512

// QR draws an uri as a QR code. The picture is as secret as the uri.
func QR(uri string) (png []byte, err error) {
	code, err := newQR(uri, qrcode.Medium)
	if err != nil {
		return nil, err
	}
	return code.PNG(qrSize)
}

// QRText draws an uri for a terminal with a dark background, two rows of the code
// a line, and with the least correction of errors, which keeps it small: nothing
// spoils a code on a screen. It is as secret as the uri.
func QRText(uri string) (string, error) {
	code, err := newQR(uri, qrcode.Low)
	if err != nil {
		return "", err
	}
	return code.ToSmallString(false), nil
}

// InColours returns the text of QRText for terminals of any colours: in white on
// black, by sequences of ECMA-48 (SGR). Many a reader does not take a code whose dark
// and light are exchanged.
func InColours(text string) string {
	var coloured strings.Builder
	for line := range strings.Lines(text) {
		coloured.WriteString("\x1b[97;40m" + strings.TrimSuffix(line, "\n") + "\x1b[0m\n")
	}
	return coloured.String()
}

func newQR(uri string, correction qrcode.RecoveryLevel) (*qrcode.QRCode, error) {
	if uri == "" || len(uri) > maxURI {
		return nil, fmt.Errorf("draw QR code: the uri must have 1 to %d bytes", maxURI)
	}
	return qrcode.New(uri, correction)
}
