package cmrest_test

import (
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmrest"
	"mobileid/activities/ca/cmrest/cmresttest"
)

const (
	dn = `CN="Foo, Inc. å", O=A/S`
	// active and others are entries of the certificate someCert.
	active  = `{"certid":"7/a","status":"active","certificateserialnumber":"001F","issuer":"CN=\"Foo, Inc. å\", O=A/S"}`
	revoked = `{"certid":"7/a","status":"revoked","reason":"superseded","revocationtime":"2026-01-02T03:04:05Z","certificateserialnumber":"1f","issuer":"CN=\"Foo, Inc. å\", O=A/S"}`
)

var (
	someName = pkix.Name{CommonName: "Some CA"}
	someCert = ca.Certificate{CertificateID: mobileid.CertificateID{Issuer: "aa", Serial: "1f"}}
	data     = base64.StdEncoding.EncodeToString([]byte("sign this"))
)

func kindOf(t testing.TB, err error) ca.Kind {
	t.Helper()
	var e *ca.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

func listOf(entries ...string) string {
	return fmt.Sprintf(`{"error":0,"msg":"OK","searchHits":%d,"certificates":[%s]}`, len(entries), strings.Join(entries, ","))
}

func detailsOf(entry string) string { return `{"error":0,"msg":"OK","certificate":` + entry + `}` }

// gateway is what a driver's requests are answered with: searches and details by
// what is set, and revocations one after the other.
type gateway struct {
	code                  int // of searches and details
	list, details         string
	answers               []reply
	seen                  []*http.Request
	forms                 []url.Values
	searches, detailsRead int
}

type reply struct {
	code int
	body string
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	g.seen = append(g.seen, r)
	switch {
	case isRevoke(r):
		g.forms = append(g.forms, form(r))
		next := g.answers[0]
		if len(g.answers) > 1 {
			g.answers = g.answers[1:]
		}
		w.WriteHeader(next.code)
		_, _ = w.Write([]byte(next.body))
		return
	case strings.HasSuffix(r.URL.Path, "/details"):
		g.detailsRead++
		w.WriteHeader(max(g.code, 200))
		_, _ = w.Write([]byte(g.details))
	default:
		g.searches++
		w.WriteHeader(max(g.code, 200))
		_, _ = w.Write([]byte(g.list))
	}
}

func (g *gateway) driver(t testing.TB) *cmrest.Driver {
	t.Helper()
	return answering(t, g.serve)
}

// answering is a driver whose requests the test answers, for a CA with quotes, a comma
// and a slash in its name.
func answering(t testing.TB, handle http.HandlerFunc) *cmrest.Driver {
	t.Helper()
	officer := catest.NewCredentials(t, "officer")
	d := newDriver(t, cmrest.Options{URL: "https://localhost:8444/pgwy/api/h/", IssuerDN: dn, ClientCertFile: officer.CertFile, ClientKeyFile: officer.KeyFile})
	d.Client().Transport = catest.Handler(handle)
	return d
}

// What goes over the wire: a search by serial number and name, a form, and the form
// again with a signature.
func TestWire(t *testing.T) {
	g := &gateway{list: listOf(active), answers: []reply{{200, `{"error":-19,"msg":"Sign request and send again","dataToSign":"` + data + `"}`}, {200, `{"error":0}`}}}
	answer, err := g.driver(t).Revoke(t.Context(), someCert, mobileid.PrivilegeWithdrawn)
	require.NoError(t, err)
	require.Equal(t, ca.Revoked, answer.Outcome)
	require.Len(t, g.seen, 3)
	require.Equal(t, "/pgwy/api/h/certificates?certificateSerialNumber=1f&issuer=CN%3D%22Foo%2C+Inc.+%C3%A5%22%2C+O%3DA%2FS&searchLimit=100&searchOffset=0", g.seen[0].URL.RequestURI())
	for i, request := range g.seen[1:] {
		require.Equal(t, http.MethodPost, request.Method)
		require.Equal(t, "/pgwy/api/h/certificates/revoke", request.URL.RequestURI())
		require.Equal(t, "application/x-www-form-urlencoded", request.Header.Get("Content-Type"))
		require.Equal(t, []string{"7/a"}, g.forms[i]["certid"])
		require.Equal(t, []string{"9"}, g.forms[i]["reason"])
	}
	require.Len(t, g.forms[0], 2)
	require.Len(t, g.forms[1], 3)
	require.NotEmpty(t, g.forms[1].Get("signature"))
}

func TestCertIDIsOneSegmentOfThePath(t *testing.T) {
	g := &gateway{list: listOf(active), details: detailsOf(active)}
	_, err := g.driver(t).Status(t.Context(), someCert)
	require.NoError(t, err)
	require.Equal(t, "/pgwy/api/h/certificates/7%2Fa/details", g.seen[1].URL.RequestURI())
}

// HTTP 200 says nothing: what counts is the error number, and whose it is.
func TestAnswers(t *testing.T) {
	one := func(number int) string {
		return fmt.Sprintf(`{"error":0,"errors":[{"certid":"7/a","errorcode":%d,"errormessage":"x","servererrormessage":"CM's words"}]}`, number)
	}
	number := func(n int) string { return fmt.Sprintf(`{"error":%d,"msg":"x"}`, n) }
	for _, row := range []struct {
		name string
		code int
		body string
		kind ca.Kind // empty: revoked
	}{
		{"success", 200, `{"error":0,"msg":"OK"}`, ""},
		{"success, no errors", 200, `{"error":0,"errors":[]}`, ""},
		{"no number", 200, `{"msg":"OK"}`, ca.Ambiguous},
		{"null", 200, `null`, ca.Ambiguous},
		{"a list", 200, `[]`, ca.Ambiguous},
		{"a number as text", 200, `{"error":"0"}`, ca.Ambiguous},
		{"general", 200, number(-1), ca.Ambiguous},
		{"a number that nobody knows", 200, number(-99), ca.Ambiguous},
		{"missing field", 200, number(-7), ca.Unsupported},
		{"encoding", 200, number(-8), ca.Unsupported},
		{"not initialised", 200, number(-12), ca.Unavailable},
		{"bad value", 200, number(-14), ca.Unsupported},
		{"privilege", 200, number(-15), ca.Denied},
		{"bad signature, and none was made", 200, number(-17), ca.Denied},
		{"CM is not reached: before the request or after it", 200, number(-18), ca.Ambiguous},
		{"CM is not reached, whatever HTTP says", 404, number(-18), ca.Ambiguous},
		{"a signature, and of nothing", 200, number(-19), ca.Unsupported},
		{"too many requests", 200, number(-40), ca.Unavailable},
		{"data to sign with a refusal", 200, `{"error":-15,"dataToSign":"` + data + `"}`, ca.Denied},
		{"the certificate's error", 200, one(-15), ca.Denied},
		{"the certificate's error is more than the request's", 200, `{"error":-1,"errors":[{"certid":"7/a","errorcode":-15}]}`, ca.Denied},
		{"an error of another certificate", 200, `{"error":0,"errors":[{"certid":"7/b","errorcode":-15}]}`, ca.Ambiguous},
		{"an error of another certificate beside", 200, `{"error":0,"errors":[{"certid":"7/a","errorcode":-15},{"certid":"7/b","errorcode":-15}]}`, ca.Ambiguous},
		{"an error without a number", 200, `{"error":0,"errors":[{"certid":"7/a"}]}`, ca.Ambiguous},
		{"number over HTTP", 500, number(-15), ca.Denied},
		{"number over HTTP, retried", 400, number(-40), ca.Unavailable},
		{"general, by the gateway itself", 503, number(-1), ca.Ambiguous},
		{"general, a bad request", 400, number(-1), ca.Ambiguous},
		{"general, too many requests", 429, number(-1), ca.Unavailable},
		{"general, not let in", 403, number(-1), ca.Denied},
		{"success over a failure", 500, number(0), ca.Ambiguous},
		{"not found, by the gateway", 404, number(-1), ca.NotFound},
		{"not found, by Tomcat", 404, `<html>`, ca.Unsupported},
		{"not found, by another JSON", 404, `{"status":404}`, ca.Unsupported},
		{"down", 503, ``, ca.Unavailable},
		{"broken", 500, ``, ca.Ambiguous},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := &gateway{list: listOf(active), details: detailsOf(active), answers: []reply{{row.code, row.body}}}
			answer, err := g.driver(t).Revoke(t.Context(), someCert, mobileid.Unspecified)
			require.Len(t, g.forms, 1)
			if row.kind == "" {
				require.NoError(t, err)
				require.Equal(t, ca.Revoked, answer.Outcome)
				return
			}
			require.Equal(t, row.kind, kindOf(t, err), "%v", err)
		})
	}
}

// Before a request to revoke, no failure can have had an effect.
func TestSearchFailsWithoutEffect(t *testing.T) {
	for _, row := range []struct {
		name string
		code int
		body string
		kind ca.Kind
	}{
		{"CM is not reached", 200, `{"error":-18}`, ca.Unavailable},
		{"broken", 500, ``, ca.Unavailable},
		{"garbage", 200, `<html>`, ca.Unavailable},
		{"privilege", 200, `{"error":-15}`, ca.Denied},
		{"a wrong address", 404, `<html>`, ca.Unsupported},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := &gateway{code: row.code, list: row.body}
			_, err := g.driver(t).Revoke(t.Context(), someCert, mobileid.Unspecified)
			require.Equal(t, row.kind, kindOf(t, err))
			require.Empty(t, g.forms)
		})
	}
}

func TestSearch(t *testing.T) {
	entry := func(id, serial, issuer string) string {
		return fmt.Sprintf(`{"certid":%q,"status":"active","certificateserialnumber":%q,"issuer":%q}`, id, serial, issuer)
	}
	for _, row := range []struct {
		name, list string
		kind       ca.Kind // empty: found
		words      string
	}{
		{"one", listOf(entry("7/a", "1f", dn)), "", ""},
		{"one, written otherwise", listOf(entry("7/a", "0x00:1F", dn)), "", ""},
		{"one that is shown twice", listOf(entry("7/a", "1f", dn), entry("7/a", "1f", dn)), "", ""},
		{"one among others", listOf(entry("7/b", "2f", dn), entry("7/a", "1f", dn), entry("7/c", "1f", "CN=Other")), "", ""},
		{"none", listOf(), ca.NotFound, "no such certificate"},
		{"two", listOf(entry("7/a", "1f", dn), entry("7/b", "1f", dn)), ca.Unsupported, "several"},
		{"a foreign copy alone", listOf(entry("7/a", "1f", "CN=Other")), ca.Unsupported, "CN=Other"},
		{"another way to write the issuer", listOf(entry("7/a", "1f", strings.ReplaceAll(dn, ", O=", ",O="))), ca.Unsupported, "compare issuer DN"},
		{"another way to write serial numbers", listOf(entry("7/a", "31", dn)), ca.Unsupported, `\"31\"`},
		{"no certid", listOf(entry("", "1f", dn)), ca.Unavailable, "certid"},
		{"a certid that leads elsewhere", listOf(entry("..", "1f", dn)), ca.Unavailable, "certid"},
		{"a certid for a log", listOf(entry("7\n8", "1f", dn)), ca.Unavailable, "certid"},
		{"more than are shown", `{"error":0,"searchHits":1,"certificates":[]}`, ca.Unavailable, "shows only 0"},
		{"no number of hits", `{"error":0,"certificates":[` + active + `]}`, ca.Unavailable, "how many"},
		{"a negative number of hits", `{"error":0,"searchHits":-1,"certificates":[` + active + `]}`, ca.Unavailable, "how many"},
		{"no search at all", `{"error":0,"searchHits":100000,"certificates":[` + active + `]}`, ca.Unsupported, "100000"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := &gateway{list: row.list, answers: []reply{{200, `{"error":0}`}}}
			_, err := g.driver(t).Revoke(t.Context(), someCert, mobileid.Unspecified)
			if row.kind == "" {
				require.NoError(t, err)
				require.Equal(t, "7/a", g.forms[0].Get("certid"))
				return
			}
			require.Equal(t, row.kind, kindOf(t, err), "%v", err)
			require.Contains(t, strings.ReplaceAll(fmt.Sprintf("%q", err.Error()), `\\`, `\`), row.words)
			require.Empty(t, g.forms, "nothing is sent")
			require.Equal(t, 1, g.searches, "one page is enough to know")
		})
	}
}

// Pages are read to the end: what is wanted, or a second one that is as good, may be on
// the last.
func TestPaging(t *testing.T) {
	for name, last := range map[string]struct {
		entry string
		kind  ca.Kind
	}{
		"found on the last page":       {active, ""},
		"a second one on the last":     {strings.Replace(active, "7/a", "7/b", 1), ca.Unsupported},
		"the same one on the last too": {active, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var offsets []string
			d := answering(t, func(w http.ResponseWriter, r *http.Request) {
				if isRevoke(r) {
					_, _ = w.Write([]byte(`{"error":0}`))
					return
				}
				offset := r.URL.Query().Get("searchOffset")
				offsets = append(offsets, offset)
				entries := map[string]string{"0": active + `,{"certid":"x"}`, "2": `{"certid":"y"}`, "3": last.entry}[offset]
				if name == "found on the last page" {
					entries = strings.Replace(entries, active+",{", `{"certid":"z"},{`, 1)
				}
				_, _ = fmt.Fprintf(w, `{"error":0,"searchHits":4,"certificates":[%s]}`, entries)
			})
			_, err := d.Revoke(t.Context(), someCert, mobileid.Unspecified)
			require.Equal(t, []string{"0", "2", "3"}, offsets)
			if last.kind == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, last.kind, kindOf(t, err))
		})
	}
}

// A gateway that shows one at a time is not followed for ever.
func TestPagingIsBounded(t *testing.T) {
	g := &gateway{list: `{"error":0,"searchHits":1000,"certificates":[` + active + `]}`}
	_, err := g.driver(t).Status(t.Context(), someCert)
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	require.Equal(t, 20, g.searches)
}

// An archive copy of another CA's certificate has the same serial number, and stays as
// it is. One under the very name of the issuer cannot be told apart: neither is revoked.
func TestForeignCopyIsNotRevoked(t *testing.T) {
	fake := cmresttest.Start(t, someName)
	d := newDriver(t, fake.Driver(fake.Officer))
	cert := fake.Issue(t, catest.IssueRequest{Serial: big.NewInt(0x5eafed)})
	foreign := catest.NewIssuer(t, pkix.Name{CommonName: "Foreign CA"}).Sign(t, catest.IssueRequest{Serial: cert.SerialNumber})
	copied := fake.Import(foreign, "CN=Foreign CA")
	_, err := d.Revoke(t.Context(), catest.Name(t, cert), mobileid.Unspecified)
	require.NoError(t, err)
	require.False(t, fake.Revoked(copied))

	twin := fake.Issue(t, catest.IssueRequest{})
	copied = fake.Import(catest.NewIssuer(t, someName).Sign(t, catest.IssueRequest{Serial: twin.SerialNumber}), fake.DN)
	_, err = d.Revoke(t.Context(), catest.Name(t, twin), mobileid.Unspecified)
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	_, err = d.Status(t.Context(), catest.Name(t, twin))
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	require.False(t, fake.Revoked(copied))
}

// A CM that writes decimal numbers: "83" is then not 0x83.
func TestDecimalSerialNumbers(t *testing.T) {
	fake := cmresttest.Start(t, someName)
	fake.Write(cmrest.Decimal)
	d := newDriver(t, fake.Driver(fake.Officer))
	cert, other := fake.Issue(t, catest.IssueRequest{Serial: big.NewInt(83)}), fake.Issue(t, catest.IssueRequest{Serial: big.NewInt(0x83)})
	_, err := d.Revoke(t.Context(), catest.Name(t, cert), mobileid.Superseded)
	require.NoError(t, err)
	evidence, err := d.Status(t.Context(), catest.Name(t, cert))
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusRevoked, evidence.Status)
	evidence, err = d.Status(t.Context(), catest.Name(t, other))
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusGood, evidence.Status)
}

// The officer who signs may be another one than the one of the TLS connection, and it is
// the signing one's roles that count.
func TestSigningOfficer(t *testing.T) {
	fake := cmresttest.Start(t, someName)
	for _, row := range []struct {
		name          string
		connects, may catest.Credentials
		kind          ca.Kind
	}{
		{"may sign", fake.Auditor, fake.Signer, ""},
		{"may not sign", fake.Officer, fake.Auditor, ca.Denied},
	} {
		t.Run(row.name, func(t *testing.T) {
			options := fake.Driver(row.connects)
			options.SigningCertFile, options.SigningKeyFile = row.may.CertFile, row.may.KeyFile
			d := newDriver(t, options)
			credentials := d.Credentials()
			require.Len(t, credentials, 2)
			require.True(t, credentials[0].Equal(row.connects.Certificate))
			require.True(t, credentials[1].Equal(row.may.Certificate))
			_, err := d.Revoke(t.Context(), catest.Name(t, fake.Issue(t, catest.IssueRequest{})), mobileid.Unspecified)
			if row.kind == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, row.kind, kindOf(t, err))
		})
	}
}

// A signature that comes too late is made once more, from new data, and not twice.
func TestOutdatedSignature(t *testing.T) {
	for late, kind := range map[int]ca.Kind{0: "", 1: "", 2: ca.Denied} {
		t.Run(fmt.Sprint(late), func(t *testing.T) {
			fake := cmresttest.Start(t, someName)
			fake.Outdate(late)
			d := newDriver(t, fake.Driver(fake.Officer))
			_, err := d.Revoke(t.Context(), catest.Name(t, fake.Issue(t, catest.IssueRequest{})), mobileid.Unspecified)
			signed := fake.Signed()
			require.Len(t, signed, min(late+1, 2))
			if kind != "" {
				require.Equal(t, kind, kindOf(t, err))
			} else {
				require.NoError(t, err)
			}
			if len(signed) == 2 {
				require.NotEqual(t, signed[0], signed[1])
			}
			for _, signature := range signed {
				require.NotContains(t, fmt.Sprint(err), signature[:40])
			}
		})
	}
}

// Every try signs what its own first answer holds.
func TestNothingSignedIsKept(t *testing.T) {
	fake := cmresttest.Start(t, someName)
	d := newDriver(t, fake.Driver(fake.Officer))
	for range 3 {
		_, err := d.Revoke(t.Context(), catest.Name(t, fake.Issue(t, catest.IssueRequest{})), mobileid.Unspecified)
		require.NoError(t, err)
	}
	require.Len(t, fake.Signed(), 3)
}

// A gateway that never has enough.
func TestAsksForSignatures(t *testing.T) {
	ask := func(number int, data string) reply {
		return reply{200, fmt.Sprintf(`{"error":%d,"msg":"Sign request and send again","dataToSign":%q}`, number, data)}
	}
	bad, ok := reply{200, `{"error":-17,"msg":"bad signature"}`}, reply{200, `{"error":0}`}
	for _, row := range []struct {
		name    string
		answers []reply
		sent    int
		kind    ca.Kind
	}{
		{"for ever", []reply{ask(-19, data)}, 3, ca.Denied},
		{"without an error number", []reply{{200, `{"dataToSign":"` + data + `"}`}, ok}, 2, ""},
		{"with success", []reply{ask(0, data), ok}, 2, ""},
		{"with success, for ever", []reply{ask(0, data)}, 3, ca.Denied},
		{"once more, at once", []reply{ask(-19, data), ask(-17, data), ok}, 3, ""},
		{"refused once", []reply{ask(-19, data), bad, ask(-19, data), ok}, 4, ""},
		{"refused for ever", []reply{ask(-19, data), bad, ask(-19, data), bad}, 4, ca.Denied},
		{"refused, and nothing new", []reply{ask(-19, data), bad}, 3, ca.Denied},
		{"of nothing", []reply{ask(-19, "\n")}, 1, ca.Unsupported},
		{"of no base64", []reply{ask(-19, "***")}, 1, ca.Unavailable},
		{"of too much", []reply{ask(-19, strings.Repeat("AAAA", 30_000))}, 1, ca.Unsupported},
		{"down after it", []reply{ask(-19, data), {503, ""}}, 2, ca.Unavailable},
		{"broken after it", []reply{ask(-19, data), {500, ""}}, 2, ca.Ambiguous},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := &gateway{list: listOf(active), details: detailsOf(active), answers: row.answers}
			answer, err := g.driver(t).Revoke(t.Context(), someCert, mobileid.Unspecified)
			require.Len(t, g.forms, row.sent)
			if row.kind == "" {
				require.NoError(t, err)
				require.Equal(t, ca.Revoked, answer.Outcome)
				return
			}
			require.Equal(t, row.kind, kindOf(t, err), "%v", err)
		})
	}
}

// Revoked by somebody else: before the request it shows in the search, and in between it
// is read back after a failure whose number says nothing.
func TestAlreadyRevoked(t *testing.T) {
	g := &gateway{list: listOf(revoked)}
	answer, err := g.driver(t).Revoke(t.Context(), someCert, mobileid.KeyCompromise)
	require.NoError(t, err)
	require.Equal(t, ca.Answer{Outcome: ca.AlreadyRevoked, RevokedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, answer)
	require.Empty(t, g.forms, "nothing is sent")

	hold := strings.Replace(revoked, "superseded", "certificate hold", 1)
	for _, row := range []struct {
		name, details, body string
		kind                ca.Kind
	}{
		{"revoked, -1", detailsOf(revoked), `{"error":-1}`, ""},
		{"revoked, its own error", detailsOf(revoked), `{"error":-1,"errors":[{"certid":"7/a","errorcode":-14}]}`, ""},
		{"on hold", detailsOf(hold), `{"error":-1}`, ca.Ambiguous},
		{"not revoked", detailsOf(active), `{"error":-14}`, ca.Unsupported},
		{"cannot be read", `{"error":-1}`, `{"error":-14}`, ca.Unsupported},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := &gateway{list: listOf(active), details: row.details, answers: []reply{{200, row.body}}}
			answer, err := g.driver(t).Revoke(t.Context(), someCert, mobileid.Unspecified)
			require.Equal(t, 1, g.detailsRead)
			if row.kind == "" {
				require.NoError(t, err)
				require.Equal(t, ca.AlreadyRevoked, answer.Outcome)
				return
			}
			require.Equal(t, row.kind, kindOf(t, err))
		})
	}
}

// A hold is not a lock: the request goes out all the same.
func TestHoldIsMadeFinal(t *testing.T) {
	fake := cmresttest.Start(t, someName)
	d := newDriver(t, fake.Driver(fake.Officer))
	cert := fake.Issue(t, catest.IssueRequest{})
	fake.Hold(t, cert)
	evidence, err := d.Status(t.Context(), catest.Name(t, cert))
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusOnHold, evidence.Status)
	answer, err := d.Revoke(t.Context(), catest.Name(t, cert), mobileid.KeyCompromise)
	require.NoError(t, err)
	require.Equal(t, ca.Revoked, answer.Outcome)
	evidence, err = d.Status(t.Context(), catest.Name(t, cert))
	require.NoError(t, err)
	require.Equal(t, mobileid.KeyCompromise, evidence.Reason)
}

func TestStatus(t *testing.T) {
	entry := func(replaced ...string) string { return detailsOf(strings.NewReplacer(replaced...).Replace(revoked)) }
	for _, row := range []struct {
		name, details string
		status        mobileid.Status // empty: an error
		reason        mobileid.Reason
	}{
		{"good", detailsOf(active), mobileid.StatusGood, ""},
		{"revoked", entry(), mobileid.StatusRevoked, mobileid.Superseded},
		{"on hold", entry("superseded", "certificate hold"), mobileid.StatusOnHold, mobileid.CertificateHold},
		{"key compromise", entry("superseded", "key compromise"), mobileid.StatusRevoked, mobileid.KeyCompromise},
		{"as in RFC 5280", entry("superseded", "cessationOfOperation"), mobileid.StatusRevoked, mobileid.CessationOfOperation},
		{"a reason of another way", entry("superseded", "CA compromise"), mobileid.StatusRevoked, mobileid.CACompromise},
		{"an unknown reason", entry("superseded", "suspended"), "", ""},
		{"no reason", entry("superseded", ""), "", ""},
		{"an unknown status", entry(`"revoked"`, `"suspended"`), "", ""},
		{"no status", entry(`"revoked"`, `""`), "", ""},
		{"no time", entry("2026-01-02T03:04:05Z", ""), "", ""},
		{"another certid", entry("7/a", "7/b"), "", ""},
		{"another serial", entry(`"1f"`, `"2f"`), "", ""},
		{"another issuer", entry("Foo", "Fooo"), "", ""},
		{"no certificate", `{"error":0}`, "", ""},
		{"an error", `{"error":-18}`, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := &gateway{list: listOf(active), details: row.details}
			evidence, err := g.driver(t).Status(t.Context(), someCert)
			if row.status == "" {
				require.Equal(t, ca.Ambiguous, kindOf(t, err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.status, evidence.Status)
			require.Equal(t, row.reason, evidence.Reason)
			require.NotEmpty(t, evidence.Proof.SHA256)
			require.Equal(t, mobileid.ProofFromCA, evidence.Proof.Source)
		})
	}
}

func TestStatusOfUnknown(t *testing.T) {
	g := &gateway{list: listOf()}
	evidence, err := g.driver(t).Status(t.Context(), someCert)
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusUnknown, evidence.Status)
	require.NotEmpty(t, evidence.Proof.SHA256)
}

func TestRevocationTime(t *testing.T) {
	want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, row := range []struct {
		name, text string
		at         time.Time // zero: an error
	}{
		{"text", `"2026-01-02T03:04:05Z"`, want},
		{"text of another zone", `"2026-01-02T04:04:05+01:00"`, want},
		{"text of another zone, no colon", `"2026-01-02T04:04:05.000+0100"`, want},
		{"text without a zone", `"2026-01-02T03:04:05"`, want},
		{"seconds", `1767323045`, want},
		{"milliseconds", `1767323045000`, want},
		{"seconds as text", `"1767323045"`, want},
		{"microseconds", `1767323045000000`, time.Time{}},
		{"zero", `0`, time.Time{}},
		{"negative", `-1767323045`, time.Time{}},
		{"a fraction", `1767323045.5`, time.Time{}},
		{"null", `null`, time.Time{}},
		{"empty", `""`, time.Time{}},
		{"the year one", `"0001-01-01T00:00:00Z"`, time.Time{}},
		{"words", `"yesterday"`, time.Time{}},
		{"an object", `{"seconds":1767323045}`, time.Time{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := &gateway{list: listOf(active), details: detailsOf(strings.Replace(revoked, `"2026-01-02T03:04:05Z"`, row.text, 1))}
			evidence, err := g.driver(t).Status(t.Context(), someCert)
			if row.at.IsZero() {
				require.Equal(t, ca.Ambiguous, kindOf(t, err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.at, evidence.RevokedAt)
		})
	}
}

func TestCheck(t *testing.T) {
	fake := cmresttest.Start(t, someName)
	require.NoError(t, newDriver(t, fake.Driver(fake.Officer)).Check(t.Context()))
	stranger := newDriver(t, fake.Driver(catest.NewCredentials(t, "stranger")))
	require.Equal(t, ca.Denied, kindOf(t, stranger.Check(t.Context())))
	wrong := fake.Driver(fake.Officer)
	wrong.URL = strings.Replace(wrong.URL, "/pgwy/", "/pgw/", 1)
	require.Equal(t, ca.Unsupported, kindOf(t, newDriver(t, wrong).Check(t.Context())))
	for body, kind := range map[string]ca.Kind{`{"error":-15}`: ca.Denied, `{"error":0}`: ca.Ambiguous, `{"procedures":[]}`: ""} {
		g := &gateway{list: body}
		err := g.driver(t).Check(t.Context())
		require.Equal(t, "/pgwy/api/h/procedures?mediaType=pkcs10", g.seen[0].URL.RequestURI())
		if kind == "" {
			require.NoError(t, err)
			continue
		}
		require.Equal(t, kind, kindOf(t, err))
	}
}

func TestOptions(t *testing.T) {
	_, err := cmrest.New(cmrest.Options{URL: "http://x", SerialFormat: "octal", SigningCertFile: "nowhere", ServerCAFile: "nowhere"})
	for _, fault := range []string{"https", "issuer DN", "serial format", "client certificate", "signing certificate", "server CA"} {
		require.ErrorContains(t, err, fault, "all faults are told at once")
	}
}

// FuzzAnswers feeds the parsers of outside bytes: nothing but a plain success, or a
// status that says so, is a revocation, and nothing panics.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"error":0}`, `{"error":-19,"dataToSign":"` + data + `"}`, `{"error":-1,"errors":[{"certid":"7/a","errorcode":-1}]}`,
		listOf(active), listOf(revoked), detailsOf(active), detailsOf(revoked), `{"error":0,"searchHits":3,"certificates":[{}]}`,
		detailsOf(strings.Replace(revoked, `"2026-01-02T03:04:05Z"`, `1767323045000`, 1)), `[]`, ``, `null`,
	} {
		f.Add(200, seed)
		f.Add(404, seed)
	}
	officer := &gateway{}
	d := officer.driver(f)
	f.Fuzz(func(t *testing.T, code int, body string) {
		if code < 200 || code > 599 {
			return
		}
		*officer = gateway{list: listOf(active), details: detailsOf(active), answers: []reply{{code, body}}}
		if answer, err := d.Revoke(t.Context(), someCert, mobileid.Unspecified); err == nil {
			require.Equal(t, ca.Revoked, answer.Outcome)
			require.Less(t, code, 300)
			require.LessOrEqual(t, len(officer.forms), 4)
		}
		*officer = gateway{list: body, code: code, details: body, answers: []reply{{200, `{"error":0}`}}}
		if answer, err := d.Revoke(t.Context(), someCert, mobileid.Unspecified); err == nil && len(officer.forms) > 0 {
			require.NotEmpty(t, officer.forms[0].Get("certid"))
		} else if err == nil {
			require.False(t, answer.RevokedAt.IsZero())
		}
		*officer = gateway{list: listOf(active), code: code, details: body}
		if code >= 300 {
			return
		}
		if evidence, err := d.Status(t.Context(), someCert); err == nil && evidence.Status == mobileid.StatusRevoked {
			require.True(t, evidence.Reason.Final())
			require.False(t, evidence.RevokedAt.IsZero())
		}
	})
}
