package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Reference returns docs/configuration.md: every setting with its type, default,
// variable and meaning, a table per section.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Settings

Made from the struct in ` + "`config/`" + ` by ` + "`UPDATE_CONFIG=1 go test ./config`" + `; a test fails when it is out of date.

A setting comes from, first one wins: a flag of the same name (` + "`--store.dsn`" + `), a variable (` + "`MOBILEID_STORE_DSN`" + `), the file
(` + "`config.yaml`" + `, or what ` + "`--config`" + ` or ` + "`MOBILEID_CONFIG`" + ` names), the default. All faults are reported at once, and names that are
none. A duration is written like ` + "`90s`, `15m` or `24h`" + `, a list in a variable or a flag with commas. Secrets are never settings: a setting
names the file that holds one.

How to reach Temporal is not set here: ` + "`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_TLS_*`, `TEMPORAL_API_KEY`" + ` and the like, or a
profile in a TOML file, as the ` + "`temporal`" + ` program reads them. ` + "`" + DeploymentNameVariable + "` and `" + BuildIDVariable + "`" + ` give a worker a version.
`)
	root := reflect.ValueOf(Default())
	writeTable(&b, "", "At the top", "", root, true)
	referSections(&b, root, "")
	return b.String()
}

// referSections writes the sections of a struct, and those within them.
func referSections(b *strings.Builder, v reflect.Value, prefix string) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		key, doc := prefix+field.Tag.Get("mapstructure"), field.Tag.Get("doc")
		switch {
		case field.Type.Kind() == reflect.Struct:
			writeTable(b, key+".", "`"+key+"`", doc, value, true)
			referSections(b, value, key+".")
		case setting{value: value}.sections() && prefix == "":
			var ca CA
			ca.fillDefaults()
			writeTable(b, key+"[].", "`"+key+"`, a list", doc+". In the file alone; defaults are those of an element that leaves the key out", reflect.ValueOf(ca), false)
		}
	}
}

// writeTable writes the settings that stand in a section itself.
func writeTable(b *strings.Builder, prefix, title, doc string, v reflect.Value, variables bool) {
	fmt.Fprintf(b, "\n## %s\n", title)
	if doc != "" {
		fmt.Fprintf(b, "\n%s.\n", strings.TrimSuffix(doc, "."))
	}
	if variables {
		b.WriteString("\n| key | type | default | variable | meaning |\n|---|---|---|---|---|\n")
	} else {
		b.WriteString("\n| key | type | default | meaning |\n|---|---|---|---|\n")
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Type.Kind() == reflect.Struct || variables && (setting{value: v.Field(i)}).sections() {
			continue
		}
		key := prefix + field.Tag.Get("mapstructure")
		cells := []string{"`" + key + "`", typeName(v.Field(i)), defaultCell(v.Field(i))}
		if variables {
			cells = append(cells, "`"+variable(key)+"`")
		}
		cells = append(cells, strings.ReplaceAll(field.Tag.Get("doc"), "|", `\|`))
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
}

// typeName is the type of a setting as people say it.
func typeName(v reflect.Value) string {
	if v.Type() == reflect.TypeFor[time.Duration]() {
		return "duration"
	}
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "whole number"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			return "list of sections"
		}
		return "list of text"
	}
	return "text"
}

func defaultCell(v reflect.Value) string {
	if v.Kind() == reflect.String && v.String() == "" || v.Kind() == reflect.Slice && v.Len() == 0 {
		return "empty"
	}
	if v.Kind() == reflect.String {
		return "`" + strings.ReplaceAll(v.String(), "|", `\|`) + "`"
	}
	text := yamlValue(v)
	if v.Type() == reflect.TypeFor[time.Duration]() { // 2h0m0s is 2h
		if short, whole := strings.CutSuffix(text, "m0s"); whole {
			text = short + "m"
		}
		if short, whole := strings.CutSuffix(text, "h0m"); whole {
			text = short + "h"
		}
	}
	return "`" + strings.Trim(text, "[]") + "`"
}
