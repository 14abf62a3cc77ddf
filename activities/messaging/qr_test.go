package messaging_test

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid/activities/messaging"
	"mobileid/activities/messaging/device"
	"mobileid/activities/messaging/phone"
)

var uri = device.Content("https://messaging.example.com:20400/hermod/rest/ms/482ae2ba-3847-4fc8-bb98-73a3f2f809ca")

func TestQRIsReadByThePhone(t *testing.T) {
	for _, row := range []struct{ name, uri string }{
		{"an uri", uri},
		{"one that a reader of photographs misses", device.Content("https://127.0.0.1:20400/hermod/rest/ms/6ace08a6-8787-4435-b2a5-68a3c386b260")},
	} {
		t.Run(row.name, func(t *testing.T) {
			picture, err := messaging.QR(row.uri)
			require.NoError(t, err)
			content, err := phone.ReadPNG(bytes.NewReader(picture))
			require.NoError(t, err)
			require.Equal(t, row.uri, content)
		})
	}
}

// zbar reads a picture by a decoder that has nothing in common with this project.
func zbar(t *testing.T, picture []byte) string {
	t.Helper()
	zbarimg, err := exec.LookPath("zbarimg")
	if err != nil {
		t.Skip("zbarimg (Debian: zbar-tools) is not installed, so nobody else can be asked")
	}
	out, err := exec.CommandContext(t.Context(), zbarimg, "--quiet", "--raw", file(t, "qr.png", string(picture))).Output()
	require.NoError(t, err)
	return string(out)
}

func TestQRIsReadByZBar(t *testing.T) {
	for _, row := range []struct{ name, uri string }{
		{"an uri", uri},
		{"the longest", uri + strings.Repeat("x", 1024-len(uri))},
	} {
		t.Run(row.name, func(t *testing.T) {
			picture, err := messaging.QR(row.uri)
			require.NoError(t, err)
			require.Equal(t, row.uri+"\n", zbar(t, picture))
			text, err := messaging.QRText(row.uri)
			require.NoError(t, err)
			require.Equal(t, row.uri+"\n", zbar(t, onTerminal(t, text)), "the drawing for a terminal")
		})
	}
}

// TestQRTextIsReadByThePhone shows a phone what a terminal shows.
func TestQRTextIsReadByThePhone(t *testing.T) {
	text, err := messaging.QRText(uri)
	require.NoError(t, err)
	lines := strings.SplitAfter(text, "\n")
	around := func(margin string) string {
		return "Scan this:\n\n" + margin + strings.Join(lines[:len(lines)-1], margin) + "\nThe phone is waited for ...\n"
	}
	short := strings.Join(lines[:len(lines)/2], "")
	for _, row := range []struct{ name, screen string }{
		{"alone", text},
		{"without the end of the last line", strings.TrimSuffix(text, "\n")},
		{"among other words", around("")},
		{"with a margin", around("    ")},
		{"in colours", messaging.InColours(text)},
		{"in colours and with a margin", "words\n  " + strings.ReplaceAll(messaging.InColours(text), "\n", "\n  ")},
		{"with carriage returns", strings.ReplaceAll(text, "\n", "\r\n")},
		{"after one that is cut short", short + "\n" + text},
	} {
		t.Run(row.name, func(t *testing.T) {
			content, err := phone.ReadTerminal(strings.NewReader(row.screen))
			require.NoError(t, err)
			require.Equal(t, uri, content)
		})
	}
}

// A terminal goes on for as long as whoever writes to it.
func TestTerminalIsReadUpToTheCode(t *testing.T) {
	text, err := messaging.QRText(uri)
	require.NoError(t, err)
	screen, writer := io.Pipe()
	defer screen.Close()
	go func() { _, _ = io.WriteString(writer, text+"\n") }()
	content, err := phone.ReadTerminal(screen)
	require.NoError(t, err)
	require.Equal(t, uri, content)
}

// A photograph of a terminal is as good as its characters.
func TestPhotographedQRTextIsReadByThePhone(t *testing.T) {
	text, err := messaging.QRText(uri)
	require.NoError(t, err)
	content, err := phone.ReadPNG(bytes.NewReader(onTerminal(t, text)))
	require.NoError(t, err)
	require.Equal(t, uri, content)
}

// onTerminal draws the characters as a dark terminal does, as a PNG.
func onTerminal(t *testing.T, text string) []byte {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	const side = 4
	width := len([]rune(lines[0]))
	picture := image.NewGray(image.Rect(0, 0, width*side, len(lines)*2*side))
	for y, line := range lines {
		for x, r := range []rune(line) {
			// The lit half of a cell is light on a dark terminal.
			for half, light := range []bool{r == '█' || r == '▀', r == '█' || r == '▄'} {
				for i := range side * side {
					if light {
						picture.Set(x*side+i%side, (y*2+half)*side+i/side, color.White)
					}
				}
			}
		}
	}
	var encoded bytes.Buffer
	require.NoError(t, png.Encode(&encoded, picture))
	return encoded.Bytes()
}

func TestQRRefuses(t *testing.T) {
	for _, uri := range []string{"", strings.Repeat("x", 1025)} {
		_, err := messaging.QR(uri)
		require.ErrorContains(t, err, "1 to 1024 bytes")
		_, err = messaging.QRText(uri)
		require.ErrorContains(t, err, "1 to 1024 bytes")
	}
}
