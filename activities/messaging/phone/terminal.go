package phone

import (
	"bufio"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"regexp"
	"strings"
)

// Limits of what is read from a terminal: all of it in bytes, and a row of a code in
// modules: the largest code (ISO/IEC 18004, version 40) with its quiet zone.
const (
	maxScreen  = 1 << 20
	maxModules = 177 + 2*quietZone
	minModules = 21 + 2*quietZone // version 1
	quietZone  = 4
)

// ReadTerminal reads the content of the first QR code that a terminal shows, for
// [Scan]: drawn light on dark, two rows of the code in a line of half blocks, with
// anything around it. It returns as soon as the code is complete and another line
// follows, whoever goes on writing. The error does not quote it.
func ReadTerminal(r io.Reader) (string, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxScreen))
	var code [][]cell
	for more := true; more; {
		more = lines.Scan()
		line := codeLine(lines.Text())
		if len(code) > 0 && len(line) != len(code[0]) && 2*len(code) > minModules {
			if content, err := decode(draw(code)); err == nil {
				return content, nil
			}
		}
		if len(code) > 0 && len(line) != len(code[0]) || 2*len(code) > maxModules {
			code = nil
		}
		if len(line) > 0 {
			code = append(code, line)
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("read QR code: %w", err)
	}
	return "", errors.New("read QR code: there is none in the text")
}

// colours are the sequences by which a terminal changes them (ECMA-48, SGR).
var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// cell is the place of a character: whether its upper and its lower half are lit.
type cell [2]bool

// characters are those of a code.
var characters = map[rune]cell{' ': {}, '▀': {true, false}, '▄': {false, true}, '█': {true, true}}

// codeLine returns the cells of a line of a code, without what is around it. Any
// other line has none.
func codeLine(line string) []cell {
	// The quiet zone is lit, so that no blanks at the ends belong to the code.
	line = strings.TrimSpace(colours.ReplaceAllString(line, ""))
	var cells []cell
	for _, r := range line {
		c, ours := characters[r]
		if !ours || len(cells) == maxModules {
			return nil
		}
		cells = append(cells, c)
	}
	return cells
}

// draw makes the picture that the lines show.
func draw(lines [][]cell) image.Image {
	const side = 4 // of a module, in pixels
	picture := image.NewGray(image.Rect(0, 0, len(lines[0])*side, 2*len(lines)*side))
	for y, line := range lines {
		for x, c := range line {
			for half, lit := range c {
				if !lit {
					continue
				}
				for i := range side * side {
					picture.SetGray(x*side+i%side, (2*y+half)*side+i/side, color.Gray{Y: 255})
				}
			}
		}
	}
	return picture
}
