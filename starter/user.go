package main

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/config"
)

// maxUsers is how many users are listed at once.
const maxUsers = 1000

func (p *program) userCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Look after the users of the store",
		Long: `User looks after the people who can have mobile IDs. The store is where the
processes look for them: whoever keeps people elsewhere brings them here with
'user add' or 'user import'.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.userAddCommand(), p.userImportCommand(), p.userShowCommand(), p.userListCommand(),
		p.userActiveCommand("disable", "Keep a user from signing in, locking and getting; sessions end, mobile IDs stay as they are", false),
		p.userActiveCommand("enable", "Let a disabled user in again", true), p.userGrantCommand())
	return cmd
}

// oneUser is the argument of most commands.
func oneUser(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: give one USER", errUsage)
	}
	return checkUserID("USER", args[0])
}

// onStore makes a command that works on the store.
func (p *program) onStore(act func(ctx context.Context, store *identitymanager.Store, c config.Config, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		store, c, err := p.openStore(cmd.Context())
		if err != nil {
			return err
		}
		defer func() { _ = store.Close() }()
		return act(cmd.Context(), store, c, args)
	}
}

func (p *program) userAddCommand() *cobra.Command {
	user := mobileid.User{Active: true}
	var emails []string
	var password bool
	cmd := &cobra.Command{
		Use:   "add USER",
		Short: "Create a user; one who is there already is refused and stays as they are",
		Args:  oneUser,
		RunE: p.onStore(func(ctx context.Context, store *identitymanager.Store, _ config.Config, args []string) error {
			user.ID = args[0]
			user.Roles = slices.DeleteFunc(user.Roles, func(role string) bool { return role == "" })
			if err := checkPerson(user, emails); err != nil {
				return err
			}
			hash := ""
			if password {
				var err error
				if hash, err = p.readPasswordHash(); err != nil {
					return err
				}
			}
			if err := store.CreateUser(ctx, user, mainEmail(emails)...); err != nil {
				return err
			}
			if !password {
				return nil
			}
			return store.PutPassword(ctx, user.ID, hash)
		}),
	}
	cmd.Flags().StringVar(&user.Name, "name", "", "for people to read, for example \"Anna Andersson\"")
	cmd.Flags().StringArrayVar(&emails, "email", nil, "address for mails, the main one first; can be repeated")
	cmd.Flags().StringArrayVar(&user.Roles, "role", []string{mobileid.SelfServiceRole}, "can be repeated; empty: none")
	cmd.Flags().BoolVar(&password, "password", false, "read a password for Self-Service, as 'starter password' does")
	return cmd
}

// mainEmail is the addresses as the store takes them: an empty main one says that there
// is none.
func mainEmail(emails []string) []string {
	if len(emails) == 0 {
		return []string{""}
	}
	return emails
}

// maxUserID is the longest id of a user, in bytes: that of the messages of a lock.
const maxUserID = 256

func checkUserID(field, id string) error {
	switch {
	case id == "":
		return mobileid.InvalidRequest(field, "is missing")
	case len(id) > maxUserID:
		return mobileid.InvalidRequest(field, fmt.Sprintf("has more than %d bytes", maxUserID))
	case unprintable(id) || strings.TrimSpace(id) != id:
		return mobileid.InvalidRequest(field, "holds characters that cannot be shown, or begins or ends with a blank")
	}
	return nil
}

func unprintable(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// checkPerson refuses, naming the field, what mails and pages could not show.
func checkPerson(user mobileid.User, emails []string) error {
	if err := checkUserID("id", user.ID); err != nil {
		return err
	}
	if unprintable(user.Name) || len(user.Name) > maxUserID {
		return mobileid.InvalidRequest("name", fmt.Sprintf("holds characters that cannot be shown, or more than %d bytes", maxUserID))
	}
	for i, email := range emails {
		if address, err := mail.ParseAddress(email); err != nil || address.Address != email {
			return mobileid.InvalidRequest(fmt.Sprintf("emails[%d]", i), "is no mail address")
		}
		if slices.Contains(emails[:i], email) {
			return mobileid.InvalidRequest(fmt.Sprintf("emails[%d]", i), "is given twice")
		}
	}
	for i, role := range user.Roles {
		if role == "" || unprintable(role) || strings.TrimSpace(role) != role {
			return mobileid.InvalidRequest(fmt.Sprintf("roles[%d]", i), "is no name of a role")
		}
	}
	return nil
}

func (p *program) userActiveCommand(name, short string, active bool) *cobra.Command {
	return &cobra.Command{
		Use: name + " USER", Short: short, Args: oneUser,
		RunE: p.onStore(func(ctx context.Context, store *identitymanager.Store, _ config.Config, args []string) error {
			return store.SetUserActive(ctx, args[0], active)
		}),
	}
}

func (p *program) userGrantCommand() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   "grant USER",
		Short: "Let a user get one new mobile ID, within get.grant_for",
		Long: `Grant lets a user get one new mobile ID, without starting its process: any backend may.
It takes the place of an earlier one that is not used. The audit has who gave it, as the
first record of the new mobile ID.`,
		Args: oneUser,
		RunE: p.onStore(func(ctx context.Context, store *identitymanager.Store, c config.Config, args []string) error {
			if by == "" {
				return fmt.Errorf("%w: --by is missing: who lets them?", errUsage)
			}
			grant, err := store.PutGrant(ctx, args[0], "operator "+by, c.Get.GrantFor)
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(map[string]any{"mobileId": grant.MobileID, "expiresAt": grant.ExpiresAt})
			}
			fmt.Fprintf(p.out, "%s may get %s until %s\n", grant.UserID, grant.MobileID, when(grant.ExpiresAt))
			return nil
		}),
	}
	cmd.Flags().StringVar(&by, "by", "", "who gives it, for the audit")
	return cmd
}

// listedUser is a user as the commands show one.
type listedUser struct {
	ID        string           `json:"id"`
	Name      string           `json:"name"`
	Active    bool             `json:"active"`
	Roles     []string         `json:"roles"`
	Emails    []string         `json:"emails,omitempty"`
	MobileIDs []listedMobileID `json:"mobileIds,omitempty"`
}

type listedMobileID struct {
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	State        mobileid.State `json:"state"`
	Certificates int            `json:"certificates"`
	Open         int            `json:"open"` // neither revoked nor expired
}

func newListedUser(u mobileid.User) listedUser {
	return listedUser{ID: u.ID, Name: u.Name, Active: u.Active, Roles: append([]string{}, u.Roles...)}
}

func (p *program) userShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show USER", Short: "Show a user, with addresses and mobile IDs", Args: oneUser,
		RunE: p.onStore(func(ctx context.Context, store *identitymanager.Store, _ config.Config, args []string) error {
			if _, err := store.User(ctx, args[0]); err != nil {
				return err
			}
			a, err := store.Applicant(ctx, args[0])
			if err != nil {
				return err
			}
			shown := newListedUser(a.User)
			shown.Emails = a.Emails
			for _, m := range a.MobileIDs {
				shown.MobileIDs = append(shown.MobileIDs, listedMobileID{ID: m.ID, Name: m.Name, State: m.State, Certificates: len(m.Certificates), Open: len(m.Open())})
			}
			if p.json {
				return p.printJSON(shown)
			}
			return p.printUser(shown)
		}),
	}
}

func (p *program) printUser(u listedUser) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "user\t%s\nname\t%s\nactive\t%s\nroles\t%s\naddresses\t%s\n",
		u.ID, dash(u.Name), yesOrNo(u.Active), dash(strings.Join(u.Roles, ", ")), dash(strings.Join(u.Emails, ", ")))
	if len(u.MobileIDs) > 0 {
		fmt.Fprintln(w, "\nMOBILE ID\tSTATE\tCERTIFICATES\tNOT REVOKED\tNAME")
	}
	for _, m := range u.MobileIDs {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", m.ID, m.State, m.Certificates, m.Open, dash(m.Name))
	}
	return w.Flush()
}

func (p *program) userListCommand() *cobra.Command {
	var after string
	cmd := &cobra.Command{
		Use: "list", Short: fmt.Sprintf("List users by id, %d at a time", maxUsers), Args: cobra.NoArgs,
		RunE: p.onStore(func(ctx context.Context, store *identitymanager.Store, _ config.Config, _ []string) error {
			users, err := store.Users(ctx, after, maxUsers)
			if err != nil {
				return err
			}
			if p.json {
				list := []listedUser{}
				for _, u := range users {
					list = append(list, newListedUser(u))
				}
				return p.printJSON(list)
			}
			w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "USER\tACTIVE\tROLES\tNAME")
			for _, u := range users {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", u.ID, yesOrNo(u.Active), dash(strings.Join(u.Roles, ", ")), dash(u.Name))
			}
			if err := w.Flush(); err != nil || len(users) < maxUsers {
				return err
			}
			_, err = fmt.Fprintf(p.out, "There may be more: --after %s\n", shellWord(users[len(users)-1].ID))
			return err
		}),
	}
	cmd.Flags().StringVar(&after, "after", "", "begin behind this user")
	return cmd
}
