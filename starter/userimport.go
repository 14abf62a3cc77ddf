package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"mobileid"
	"mobileid/activities/ca/configured"
	"mobileid/activities/identitymanager"
	"mobileid/config"
)

const (
	// maxImportLine is the longest line of an import: a user with dozens of certificates.
	maxImportLine = 1 << 20
	// maxImportFaults is how many faults are shown.
	maxImportFaults = 100
)

// importedUser is a line of an import.
type importedUser struct {
	ID        string             `json:"id"`
	Name      string             `json:"name"`
	Emails    []string           `json:"emails"`
	Roles     []string           `json:"roles"`  // left out: that of Self-Service
	Active    *bool              `json:"active"` // left out: yes
	MobileIDs []importedMobileID `json:"mobileIds"`
}

type importedMobileID struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Certificates []string `json:"certificates"` // PEM
}

// importLine is a line that can be imported.
type importLine struct {
	number    int
	user      mobileid.User
	emails    []string
	mobileIDs []mobileid.MobileID
}

func (p *program) userImportCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Bring in users, with mobile IDs and certificates that exist elsewhere",
		Long: `Import reads a file with a JSON object a line:

  {"id": "anna", "name": "Anna Andersson", "emails": ["anna@example.com"],
   "roles": ["` + mobileid.SelfServiceRole + `"], "active": true,
   "mobileIds": [{"id": "mid-1001", "name": "Anna's phone", "certificates": ["-----BEGIN CERTIFICATE-----\n..."]}]}

in one line. All but the id may be left out; without "roles" a user has the one of
Self-Service. A mobile ID becomes active, its certificates valid. Each must have been
issued by a CA of cas, or nobody could ever revoke it.

The whole file is checked first, and if a line is at fault, each is named with its
field, and nothing is written. What is there already is kept as it is, so an import
that was cut off is run again; a mobile ID that is there with another owner or other
certificates is a fault. Prints a line for each of them.

` + exitCodesHelp,
		Args: cobra.ExactArgs(1),
		RunE: p.onStore(func(ctx context.Context, store *identitymanager.Store, c config.Config, args []string) error {
			i := &userImport{program: p, store: store, dryRun: dryRun}
			if err := i.issuers(c); err != nil {
				return err
			}
			return i.run(ctx, args[0])
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check, and print what would be done")
	return cmd
}

// userImport is one import.
type userImport struct {
	*program
	store  *identitymanager.Store
	known  func(mobileid.CertificateID) bool // a configured CA has issued it
	dryRun bool
}

func (i *userImport) issuers(c config.Config) error {
	authorities, err := configured.Authorities(c.CAs)
	if err != nil {
		return err
	}
	i.known = func(id mobileid.CertificateID) bool {
		_, known := authorities.For(id)
		return known
	}
	return nil
}

// run goes over the file twice: only what is whole is written.
func (i *userImport) run(ctx context.Context, name string) error {
	file, err := os.Open(name) //nolint:gosec // the operator's own
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	defer func() { _ = file.Close() }()
	if err := i.check(ctx, file); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return i.each(file, func(line importLine, err error) error {
		if err != nil {
			return fmt.Errorf("line %d: %w", line.number, err)
		}
		if err := i.write(ctx, line); err != nil {
			return fmt.Errorf("line %d: %w; run it again to go on", line.number, err)
		}
		return nil
	})
}

// check finds all that is at fault.
func (i *userImport) check(ctx context.Context, file io.Reader) error {
	faults := 0
	fault := func(line int, err error) {
		if faults++; faults <= maxImportFaults {
			fmt.Fprintf(i.err, "line %d: %s\n", line, err)
		}
	}
	seen := map[string]int{} // what must stand once, and the line where it does
	err := i.each(file, func(line importLine, err error) error {
		if err != nil {
			fault(line.number, err)
			return nil
		}
		once := func(kind, field, key string) {
			if first, twice := seen[kind+key]; twice {
				fault(line.number, mobileid.InvalidRequest(field, fmt.Sprintf("stands in line %d already", first)))
				return
			}
			seen[kind+key] = line.number
		}
		once("user ", "id", line.user.ID)
		for n, m := range line.mobileIDs {
			field := fmt.Sprintf("mobileIds[%d]", n)
			once("mobile ID ", field+".id", m.ID)
			for k, c := range m.Certificates {
				once("certificate ", fmt.Sprintf("%s.certificates[%d]", field, k), fmt.Sprint(c.CertificateID))
			}
			_, problem, err := i.there(ctx, m)
			if err != nil {
				return err
			}
			if problem != "" {
				fault(line.number, mobileid.InvalidRequest(field+".id", problem))
			}
		}
		return nil
	})
	if err == nil && faults > 0 {
		err = fmt.Errorf("%w: %d fault(s) in the file; nothing was written", errUsage, faults)
	}
	return err
}

// there reports whether the mobile ID is in the store, and in what it differs.
func (i *userImport) there(ctx context.Context, m mobileid.MobileID) (there bool, problem string, err error) {
	have, err := i.store.MobileID(ctx, m.ID)
	switch {
	case errors.Is(err, mobileid.ErrMobileIDNotFound):
		return false, "", nil
	case err != nil:
		return false, "", err
	case have.Owner.ID != m.Owner.ID:
		return true, "is another user's already", nil
	}
	for _, c := range m.Certificates {
		if !slices.ContainsFunc(have.Certificates, func(h mobileid.Certificate) bool { return h.CertificateID == c.CertificateID }) {
			return true, "is there already, without certificate " + c.CertificateID.String(), nil
		}
	}
	return true, "", nil
}

// each calls act for each line that is not empty, with what is at fault with it.
func (i *userImport) each(file io.Reader, act func(importLine, error) error) error {
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxImportLine)
	number := 0
	for lines.Scan() {
		number++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		line, err := i.parse(text)
		line.number = number
		if err := act(line, err); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("%w: line %d has more than %d bytes; nothing was written", errUsage, number+1, maxImportLine)
	}
	return lines.Err()
}

// parse reads a line. Its error names the field.
func (i *userImport) parse(text []byte) (line importLine, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	in := importedUser{Roles: []string{mobileid.SelfServiceRole}}
	if err := decoder.Decode(&in); err != nil {
		return line, fmt.Errorf("it is not one JSON object of an import: %w", err)
	}
	if decoder.More() {
		return line, errors.New("it is not one JSON object of an import: more follows it")
	}
	line.user = mobileid.User{ID: in.ID, Name: in.Name, Roles: in.Roles, Active: in.Active == nil || *in.Active}
	line.emails = in.Emails
	if err := checkPerson(line.user, in.Emails); err != nil {
		return line, err
	}
	for n, m := range in.MobileIDs {
		field := fmt.Sprintf("mobileIds[%d]", n)
		if err := mobileid.CheckID(field+".id", m.ID); err != nil {
			return line, err
		}
		if unprintable(m.Name) || len(m.Name) > maxUserID {
			return line, mobileid.InvalidRequest(field+".name", fmt.Sprintf("holds characters that cannot be shown, or more than %d bytes", maxUserID))
		}
		made := mobileid.MobileID{ID: m.ID, Name: m.Name, Owner: line.user, State: mobileid.Active}
		for k, text := range m.Certificates {
			c, err := i.certificate(text)
			if err != nil {
				return line, mobileid.InvalidRequest(fmt.Sprintf("%s.certificates[%d]", field, k), err.Error())
			}
			made.Certificates = append(made.Certificates, c)
		}
		line.mobileIDs = append(line.mobileIDs, made)
	}
	return line, nil
}

func (i *userImport) certificate(text string) (mobileid.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return mobileid.Certificate{}, errors.New("is not one certificate in PEM")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return mobileid.Certificate{}, fmt.Errorf("is no certificate: %w", err)
	}
	c, err := mobileid.NewCertificate(parsed, mobileid.CertificateValid)
	if err != nil {
		return c, err
	}
	if !i.known(c.CertificateID) {
		return c, fmt.Errorf("was issued by %q, which is none of cas", c.IssuerDN)
	}
	return c, nil
}

// What an import did with a user or a mobile ID.
const (
	importCreated = "created"
	importWould   = "would be created"
	importKept    = "kept"
)

// imported is what became of a line.
type imported struct {
	Line      int                `json:"line"`
	User      string             `json:"user"`
	Result    string             `json:"result"`
	MobileIDs []importedMobileIn `json:"mobileIds"`
}

type importedMobileIn struct {
	ID     string `json:"id"`
	Result string `json:"result"`
}

// write writes what is not there yet, and says so.
func (i *userImport) write(ctx context.Context, line importLine) error {
	done := imported{Line: line.number, User: line.user.ID, MobileIDs: []importedMobileIn{}}
	_, err := i.store.User(ctx, line.user.ID)
	missing := errors.Is(err, identitymanager.ErrUserNotFound)
	if err != nil && !missing {
		return err
	}
	done.Result, err = i.create(missing, func() error { return i.store.CreateUser(ctx, line.user, mainEmail(line.emails)...) })
	if err != nil {
		return err
	}
	for _, m := range line.mobileIDs {
		there, problem, err := i.there(ctx, m)
		if err == nil && problem != "" {
			err = fmt.Errorf("mobile ID %s %s by now", m.ID, problem)
		}
		if err != nil {
			return err
		}
		result, err := i.create(!there, func() error { return i.store.CreateMobileID(ctx, m) })
		if err != nil {
			return err
		}
		done.MobileIDs = append(done.MobileIDs, importedMobileIn{m.ID, result})
	}
	return i.say(done)
}

func (i *userImport) create(missing bool, act func() error) (result string, err error) {
	switch {
	case !missing:
		return importKept, nil
	case i.dryRun:
		return importWould, nil
	}
	return importCreated, act()
}

func (i *userImport) say(done imported) error {
	if i.json {
		return json.NewEncoder(i.out).Encode(done)
	}
	fmt.Fprintf(i.out, "%d\tuser %s\t%s\n", done.Line, done.User, done.Result)
	for _, m := range done.MobileIDs {
		fmt.Fprintf(i.out, "%d\tmobile ID %s\t%s\n", done.Line, m.ID, m.Result)
	}
	return nil
}
