# Licences of what worker and starter are built from

Written by `make licences`. `make lint-licences` fails if it is out of date, or if a licence is none of those that the
Makefile lists.

| package | version | licence |
|---|---|---|
{{range . -}}
| {{.Name}} | {{.Version}} | {{.LicenseName}} |
{{end}}