package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Place is where something was measured.
type Place struct {
	Server     string            `json:"server"`     // of Temporal, and what it stores in
	Store      string            `json:"store"`      // of Identity Manager
	Durability map[string]string `json:"durability"` // the settings in force
}

// Print writes it in three lines.
func (p Place) Print(out io.Writer) {
	var settings []string
	for what, how := range p.Durability {
		settings = append(settings, what+": "+how)
	}
	slices.Sort(settings)
	fmt.Fprintf(out, "\nTemporal: %s\nIdentity Manager: %s\nDurability: %s\n", p.Server, p.Store, strings.Join(settings, "; "))
}
