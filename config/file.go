package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Commented returns config.yaml with every key, its comment and its default, all
// commented out: what is not set has its default.
func Commented() string {
	var b strings.Builder
	b.WriteString(`# Settings of the worker and of starter. Every key is here, with its default; remove the # to change one.
# A flag (--store.dsn) comes before a variable (MOBILEID_STORE_DSN), and that before this file.
# How to reach Temporal is not set here: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and the like, as for the temporal program.
`)
	comment(&b, reflect.ValueOf(Default()), "")
	return b.String()
}

func comment(b *strings.Builder, v reflect.Value, indent string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if indent == "" {
			b.WriteString("\n")
		}
		key, doc := field.Tag.Get("mapstructure"), field.Tag.Get("doc")
		switch {
		case field.Type.Kind() == reflect.Struct:
			fmt.Fprintf(b, "# %s.\n#%s%s:\n", strings.TrimSuffix(doc, "."), indent, key)
			comment(b, v.Field(i), indent+"  ")
		case setting{value: v.Field(i)}.sections():
			fmt.Fprintf(b, "# %s.\n#%s%s:\n", strings.TrimSuffix(doc, "."), indent, key)
			var ca CA
			ca.fillDefaults()
			commentList(b, reflect.ValueOf(ca), indent+"  ")
		default:
			fmt.Fprintf(b, "#%s%s: %s # %s\n", indent, key, yamlValue(v.Field(i)), doc)
		}
	}
}

// commentList shows one element of a list, with what is filled in if left out.
func commentList(b *strings.Builder, element reflect.Value, indent string) {
	lead := indent + "- "
	for i := range element.NumField() {
		field := element.Type().Field(i)
		fmt.Fprintf(b, "#%s%s: %s # %s\n", lead, field.Tag.Get("mapstructure"), yamlValue(element.Field(i)), field.Tag.Get("doc"))
		lead = indent + "  "
	}
}

func yamlValue(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		return d.String()
	}
	if list, ok := v.Interface().([]string); ok {
		return fmt.Sprintf("[%s]", strings.Join(list, ", "))
	}
	if v.Kind() == reflect.Slice {
		return "[]"
	}
	if v.Kind() == reflect.String {
		return fmt.Sprintf("%q", v.String())
	}
	return fmt.Sprint(v.Interface())
}
