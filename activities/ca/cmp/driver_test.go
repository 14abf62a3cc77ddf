package cmp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmp"
	"mobileid/activities/ca/cmp/cmptest"
)

var someName = pkix.Name{CommonName: "Some CA"}

func kindOf(t testing.TB, err error) ca.Kind {
	t.Helper()
	var e *ca.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

// credentials of an RA with a key of any kind; with a parent they are issued by it.
func credentials(t testing.TB, public, key any, parent *catest.Issuer) catest.Credentials {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "RA"}, SubjectKeyId: []byte{1, 2, 3},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	above, signer := template, key
	if parent != nil {
		above, signer = parent.Certificate, parent.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, above, public, signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return catest.Credentials{
		Certificate: cert,
		CertFile:    catest.WritePEM(t, "ra.pem", "CERTIFICATE", der),
		KeyFile:     writeKey(t, key),
	}
}

func writeKey(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return catest.WritePEM(t, "key.pem", "PRIVATE KEY", der)
}

func rsaCredentials(t testing.TB) catest.Credentials {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return credentials(t, key.Public(), key, nil)
}

func p384Credentials(t testing.TB) catest.Credentials {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	return credentials(t, key.Public(), key, nil)
}

func issuedCredentials(t testing.TB, issuer *catest.Issuer) catest.Credentials {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return credentials(t, key.Public(), key, issuer)
}

// userOf is a certificate that the CA issued, with its key: anybody has one.
func userOf(t testing.TB, issuer *catest.Issuer) *catest.Issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &catest.Issuer{Certificate: credentials(t, key.Public(), key, issuer).Certificate, Key: key}
}

func TestKeys(t *testing.T) {
	for name, ra := range map[string]catest.Credentials{"RSA": rsaCredentials(t), "P-384": p384Credentials(t)} {
		t.Run(name, func(t *testing.T) {
			fake := cmptest.Start(t, someName)
			fake.Officer = ra
			d := newDriver(t, fake.Driver(ra))
			require.Equal(t, []*x509.Certificate{ra.Certificate}, d.Credentials())
			cert := fake.Issue(t, catest.IssueRequest{})
			answer, err := d.Revoke(t.Context(), catest.Name(t, cert), mobileid.Superseded)
			require.NoError(t, err)
			require.Equal(t, ca.Revoked, answer.Outcome)
			revoked, reason := fake.Revocation(cert)
			require.True(t, revoked)
			require.Equal(t, 4, reason)
		})
	}
}

func status(number int, fail ...int) func(*cmptest.Answer) {
	return func(a *cmptest.Answer) {
		a.Body, a.RevCerts = cmptest.BodyRP, nil
		a.Statuses = []cmptest.Status{{Status: number, Fail: fail}}
	}
}

func errorMessage(number int, fail ...int) func(*cmptest.Answer) {
	return func(a *cmptest.Answer) {
		status(number, fail...)(a)
		a.Body = cmptest.BodyError
	}
}

// unprotected is an answer that anybody can have written.
func unprotected(then func(*cmptest.Answer)) func(*cmptest.Answer) {
	return func(a *cmptest.Answer) {
		then(a)
		a.Unprotected = true
	}
}

// What answers mean, over http and over https. The CA has done nothing but what the
// answer says.
func TestAnswers(t *testing.T) {
	stranger := catest.NewIssuer(t, someName) // of the same name, with another key
	for _, row := range []struct {
		name    string
		change  func(*cmptest.Answer)
		outcome ca.Outcome
		kind    ca.Kind
		tls     ca.Kind // over https, if that is another one
	}{
		{"accepted", status(0), ca.Revoked, "", ""},
		{"granted with modifications", status(1), ca.Revoked, "", ""},
		{"a revocation has occurred", status(5), ca.Revoked, "", ""},
		{"waiting", status(3), ca.Pending, "", ""},
		{"a revocation is imminent", status(4), ca.Pending, "", ""},
		{"key update warning", status(6), "", ca.Ambiguous, ""},
		{"a status that there is not", status(99), "", ca.Ambiguous, ""},
		{"accepted, and failed", status(0, 25), "", ca.Ambiguous, ""},
		{"already revoked", status(2, 10), ca.AlreadyRevoked, "", ""},
		{"already revoked, by HTTP 500", func(a *cmptest.Answer) { status(2, 10)(a); a.Code = 500 }, ca.AlreadyRevoked, "", ""},
		{"already revoked, and failed", status(2, 10, 25), "", ca.Ambiguous, ""},
		{"already revoked, and more", status(2, 2, 10), "", ca.Ambiguous, ""},
		{"unknown certificate", status(2, 4), "", ca.NotFound, ""},
		{"system failure", status(2, 25), "", ca.Ambiguous, ""},
		{"system unavailable", status(2, 24), "", ca.Unavailable, ""},
		{"transaction ID in use", status(2, 21), "", ca.Unavailable, ""},
		{"bad message check", status(2, 1), "", ca.Denied, ""},
		{"not authorised", status(2, 23), "", ca.Denied, ""},
		{"signer not trusted", status(2, 20), "", ca.Denied, ""},
		{"wrong integrity", status(2, 12), "", ca.Denied, ""},
		{"bad request", status(2, 2), "", ca.Unsupported, ""},
		{"rejection without grounds", status(2), "", ca.Unsupported, ""},

		{"error message: already revoked", errorMessage(2, 10), ca.AlreadyRevoked, "", ""},
		{"error message: unknown certificate", errorMessage(2, 4), "", ca.NotFound, ""},
		{"error message: bad request", errorMessage(2, 2), "", ca.Unsupported, ""},
		{"error message: waiting", errorMessage(3), ca.Pending, "", ""},
		{"error message: accepted", errorMessage(0), "", ca.Ambiguous, ""},
		{"error message: a revocation has occurred", errorMessage(5), "", ca.Ambiguous, ""},

		{"error message: with a code and details", func(a *cmptest.Answer) {
			errorMessage(2, 4)(a)
			a.ErrorCode, a.ErrorDetails = 4711, []string{"a", "b"}
		}, "", ca.NotFound, ""},

		{"unprotected success", unprotected(status(0)), "", ca.Ambiguous, ""},
		{"unprotected: already revoked", unprotected(status(2, 10)), "", ca.Ambiguous, ""},
		{"unprotected error: already revoked", unprotected(errorMessage(2, 10)), "", ca.Ambiguous, ""},
		{"unprotected error: unknown certificate", unprotected(errorMessage(2, 4)), "", ca.Ambiguous, ""},
		{"unprotected error: bad request", unprotected(errorMessage(2, 2)), "", ca.Ambiguous, ""},
		{"unprotected error: bad message check", unprotected(errorMessage(2, 1)), "", ca.Ambiguous, ca.Denied},
		{"unprotected error: bad message check, and more", unprotected(errorMessage(2, 1, 25)), "", ca.Ambiguous, ""},
		{"unprotected error: bad message check, of another request", unprotected(func(a *cmptest.Answer) {
			errorMessage(2, 1)(a)
			a.RecipNonce = nil
		}), "", ca.Ambiguous, ""},

		{"wrong transaction ID", func(a *cmptest.Answer) { a.TransactionID = make([]byte, 16) }, "", ca.Ambiguous, ""},
		{"no transaction ID", func(a *cmptest.Answer) { a.TransactionID = nil }, "", ca.Ambiguous, ""},
		{"wrong nonce", func(a *cmptest.Answer) { a.RecipNonce = make([]byte, 16) }, "", ca.Ambiguous, ""},
		{"no nonce", func(a *cmptest.Answer) { a.RecipNonce = nil }, "", ca.Ambiguous, ""},
		{"half a nonce", func(a *cmptest.Answer) { a.RecipNonce = a.RecipNonce[:8] }, "", ca.Ambiguous, ""},
		{"foreign signer of the same name", func(a *cmptest.Answer) { a.Signer = stranger }, "", ca.Ambiguous, ""},
		{"MAC, where there is no secret", func(a *cmptest.Answer) { a.WithSecret = new("guessed") }, "", ca.Ambiguous, ""},
		{"MAC under no secret", func(a *cmptest.Answer) { a.WithSecret = new("") }, "", ca.Ambiguous, ""},
		{"of the newer version", func(a *cmptest.Answer) { a.Version = 3 }, ca.Revoked, "", ""},
		{"of the first version", func(a *cmptest.Answer) { a.Version = 1 }, "", ca.Ambiguous, ""},
		{"two statuses", func(a *cmptest.Answer) { a.Statuses = []cmptest.Status{{}, {}} }, "", ca.Ambiguous, ""},
		{"no status", func(a *cmptest.Answer) { a.Statuses = nil }, "", ca.Ambiguous, ""},
		{"another serial", func(a *cmptest.Answer) { a.RevCerts = []*big.Int{big.NewInt(99)} }, "", ca.Ambiguous, ""},
		{"another serial too", func(a *cmptest.Answer) { a.RevCerts = append(a.RevCerts, big.NewInt(99)) }, "", ca.Ambiguous, ""},
		{"an answer to something else", func(a *cmptest.Answer) { a.Body = cmptest.BodyGenP }, "", ca.Ambiguous, ""},
		{"bytes follow", func(a *cmptest.Answer) { a.Finish = func(der []byte) []byte { return append(der, 0) } }, "", ca.Ambiguous, ""},
		{"cut short", func(a *cmptest.Answer) { a.Finish = func(der []byte) []byte { return der[:len(der)-1] } }, "", ca.Ambiguous, ""},
		{"a flood of words", func(a *cmptest.Answer) {
			a.Statuses = []cmptest.Status{{Status: 2, Fail: []int{2}, Words: slices.Repeat([]string{strings.Repeat("x\n", 100)}, 100)}}
		}, "", ca.Unsupported, ""},
		{"another content type", func(a *cmptest.Answer) { a.ContentType = "text/html" }, "", ca.Ambiguous, ""},
		{"another content type, by HTTP 403", func(a *cmptest.Answer) { a.ContentType, a.Code = "text/html", 403 }, "", ca.Ambiguous, ca.Denied},
		{"content type with a parameter", func(a *cmptest.Answer) { a.ContentType = "Application/PKIXCMP; charset=x" }, ca.Revoked, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			fake := cmptest.Start(t, someName)
			fake.Change = row.change
			options := fake.Driver(fake.Officer)
			for scheme, o := range map[string]cmp.Options{"http": fake.Plain(options), "https": options} {
				kind := row.kind
				if scheme == "https" && row.tls != "" {
					kind = row.tls
				}
				answer, err := newDriver(t, o).Revoke(t.Context(), catest.Name(t, fake.Issue(t, catest.IssueRequest{})), "")
				if kind != "" {
					require.Equal(t, kind, kindOf(t, err), "%s: %v", scheme, err)
					require.Empty(t, answer)
					require.Less(t, len(err.Error()), 1000)
					require.NotContains(t, err.Error(), "\n")
					continue
				}
				require.NoError(t, err, scheme)
				require.Equal(t, row.outcome, answer.Outcome, scheme)
			}
		})
	}
}

// The issuer's certificate is not trusted for those that it issued: users have such
// certificates, and keys for them.
func TestSigners(t *testing.T) {
	fake := cmptest.Start(t, someName)
	user := userOf(t, fake.Issuer)
	fake.Change = func(a *cmptest.Answer) { a.Signer = user }
	options := fake.Driver(fake.Officer)
	revoke := func() error {
		_, err := newDriver(t, options).Revoke(t.Context(), catest.Name(t, fake.Issue(t, catest.IssueRequest{})), "")
		return err
	}
	require.Equal(t, ca.Ambiguous, kindOf(t, revoke()), "a user")
	options.ResponderFile = catest.WritePEM(t, "responder.pem", "CERTIFICATE", user.Certificate.Raw)
	require.NoError(t, revoke(), "a responder, because it is configured")
	fake.Change = nil
	require.NoError(t, revoke(), "and the issuer still")
}

// An answer's MAC costs time before it proves anything, so its iterations are bounded.
func TestMACs(t *testing.T) {
	stranger := catest.NewIssuer(t, someName)
	var fake *cmptest.Fake
	for _, row := range []struct {
		name   string
		change func(*cmptest.Answer)
		words  string // in the error; empty: there is none
	}{
		{"fewest iterations", func(a *cmptest.Answer) { a.Iterations = 100 }, ""},
		{"most iterations", func(a *cmptest.Answer) { a.Iterations = 100_000 }, ""},
		{"signed by the issuer", func(a *cmptest.Answer) { a.Signer = fake.Issuer }, ""},
		{"too many iterations", func(a *cmptest.Answer) { a.Iterations = 100_001 }, "iterationCount 100001"},
		{"too few iterations", func(a *cmptest.Answer) { a.Iterations = 99 }, "iterationCount 99"},
		{"another secret", func(a *cmptest.Answer) { a.WithSecret = new("correct horse") }, "not one of the secret"},
		{"signed by a stranger", func(a *cmptest.Answer) { a.Signer = stranger }, "no signature of the issuer"},
		{"unprotected", unprotected(status(0)), "not protected"},
	} {
		for _, mac := range []string{cmp.PBM, cmp.PBMAC1} {
			t.Run(row.name+" "+mac, func(t *testing.T) {
				fake = cmptest.Start(t, someName)
				fake.Change = row.change
				options := fake.Plain(fake.SecretDriver())
				options.MAC = mac
				d := newDriver(t, options)
				require.Empty(t, d.Credentials())
				answer, err := d.Revoke(t.Context(), catest.Name(t, fake.Issue(t, catest.IssueRequest{})), "")
				if row.words != "" {
					require.Equal(t, ca.Ambiguous, kindOf(t, err))
					require.ErrorContains(t, err, row.words)
					require.NotContains(t, err.Error(), fake.Secret)
					return
				}
				require.NoError(t, err)
				require.Equal(t, ca.Revoked, answer.Outcome)
			})
		}
	}
}

// Each byte of the protected part and of the protection counts. Only extraCerts is
// free, which nothing is believed for.
func TestEveryByteCounts(t *testing.T) {
	fake := cmptest.Start(t, someName)
	d := newDriver(t, fake.Plain(fake.Driver(fake.Officer)))
	cert := catest.Name(t, fake.Issue(t, catest.IssueRequest{}))
	at, within := 0, true
	fake.Change = func(a *cmptest.Answer) {
		status(0)(a)
		a.Finish = func(der []byte) []byte {
			// Signatures are not all of one length.
			if within = at < bytes.Index(der, fake.Certificate.Raw); within {
				der[at] ^= 0x01
			} else {
				der[len(der)-1] ^= 0x01 // the issuer's signature in its certificate
			}
			return der
		}
	}
	for ; ; at++ {
		_, err := d.Revoke(t.Context(), cert, "")
		if !within {
			require.NoError(t, err, "a byte of extraCerts")
			break
		}
		require.Error(t, err, "byte %d", at)
	}
	require.Greater(t, at, 200)
}

// Another CA's certificate is not asked for: the request would name this CA.
func TestAnotherIssuer(t *testing.T) {
	fake, other := cmptest.Start(t, someName), cmptest.Start(t, pkix.Name{CommonName: "Other CA"})
	d := newDriver(t, fake.Driver(fake.Officer))
	faults := catest.NewFaults(d.Client(), func(*http.Request) bool { return true })
	serial := big.NewInt(0x5eafed)
	mine, theirs := fake.Issue(t, catest.IssueRequest{Serial: serial}), other.Issue(t, catest.IssueRequest{Serial: serial})
	_, err := d.Revoke(t.Context(), catest.Name(t, theirs), "")
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	require.Zero(t, faults.Revokes())
	revoked, _ := fake.Revocation(mine)
	require.False(t, revoked)
}

// answering is a driver whose requests the test answers.
func answering(t testing.TB, url string, handle http.HandlerFunc) (*cmp.Driver, ca.Certificate) {
	t.Helper()
	issuer := catest.NewIssuer(t, someName)
	officer := catest.NewCredentials(t, "RA officer")
	d := newDriver(t, cmp.Options{
		URL: url, IssuerFile: catest.WritePEM(t, "issuer.pem", "CERTIFICATE", issuer.Certificate.Raw), CertFile: officer.CertFile, KeyFile: officer.KeyFile,
	})
	d.Client().Transport = catest.Handler(handle)
	return d, catest.Name(t, issuer.Sign(t, catest.IssueRequest{}))
}

// The CA's own words are told, and cannot make lines or floods of a log.
func TestWords(t *testing.T) {
	fake := cmptest.Start(t, someName)
	fake.Change = func(a *cmptest.Answer) {
		a.Body, a.ErrorDetails = cmptest.BodyError, []string{"ask\nthe help desk"}
		a.Statuses = []cmptest.Status{{Status: 2, Fail: []int{2, 31}, Words: []string{"no"}}}
	}
	d := newDriver(t, fake.Driver(fake.Officer))
	cert := catest.Name(t, fake.Issue(t, catest.IssueRequest{}))
	_, err := d.Revoke(t.Context(), cert, "")
	require.ErrorContains(t, err, "rejection (badRequest, bit 31): no; ask the help desk")
	evidence, err := d.Status(t.Context(), cert)
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	require.Equal(t, mobileid.StatusUnknown, evidence.Status)
}

// An HTTP status code counts where nobody on the line can have written it.
func TestHTTP(t *testing.T) {
	for _, row := range []struct {
		name       string
		code       int
		http, tls  ca.Kind
		cmpContent bool
	}{
		{"no such alias", 404, ca.Ambiguous, ca.Unsupported, false},
		{"not authorised", 403, ca.Ambiguous, ca.Denied, false},
		{"not authenticated", 401, ca.Ambiguous, ca.Denied, false},
		{"a redirect", 302, ca.Ambiguous, ca.Unsupported, false},
		{"bad request", 400, ca.Ambiguous, ca.Unsupported, false},
		{"bad request, as if by CMP", 400, ca.Ambiguous, ca.Unsupported, true},
		{"offline", 503, ca.Unavailable, ca.Unavailable, false},
		{"general failure", 500, ca.Ambiguous, ca.Ambiguous, false},
		{"accepted for later", 202, ca.Ambiguous, ca.Ambiguous, false},
		{"nothing", 200, ca.Ambiguous, ca.Ambiguous, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			for url, kind := range map[string]ca.Kind{"http://localhost/cmp": row.http, "https://localhost/cmp": row.tls} {
				d, cert := answering(t, url, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", "http://elsewhere/")
					if row.cmpContent {
						w.Header().Set("Content-Type", "application/pkixcmp")
					}
					w.WriteHeader(row.code)
				})
				_, err := d.Revoke(t.Context(), cert, "")
				require.Equal(t, kind, kindOf(t, err), url)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	refused := errorMessage(2, 2)
	for _, row := range []struct {
		name   string
		change func(*cmptest.Answer)
		kind   ca.Kind
	}{
		{"answered", nil, ""},
		{"refused, under protection", refused, ""},
		{"denied, under protection", errorMessage(2, 23), ca.Denied},
		{"unavailable, under protection", errorMessage(2, 24), ca.Unavailable},
		{"refused as EJBCA does", unprotected(func(a *cmptest.Answer) {
			refused(a)
			a.TransactionID, a.RecipNonce = nil, nil
		}), ca.Unsupported},
		{"another CA's key", func(a *cmptest.Answer) { a.Signer = catest.NewIssuer(t, someName) }, ca.Denied},
		{"an answer to something else", status(0), ca.Ambiguous},
	} {
		t.Run(row.name, func(t *testing.T) {
			fake := cmptest.Start(t, someName)
			fake.Change = row.change
			err := newDriver(t, fake.Driver(fake.Officer)).Check(t.Context())
			if row.kind != "" {
				require.Equal(t, row.kind, kindOf(t, err))
				return
			}
			require.NoError(t, err)
		})
	}
	fake := cmptest.Start(t, someName)
	require.NoError(t, newDriver(t, fake.Plain(fake.SecretDriver())).Check(t.Context()))
	require.Equal(t, ca.Denied, kindOf(t, newDriver(t, fake.Driver(catest.NewCredentials(t, "stranger"))).Check(t.Context())))
	down := fake.Plain(fake.SecretDriver())
	down.URL = "http://127.0.0.1:1/"
	require.Equal(t, ca.Unavailable, kindOf(t, newDriver(t, down).Check(t.Context())))
}

func TestOptions(t *testing.T) {
	fake := cmptest.Start(t, someName)
	for _, row := range []struct {
		name   string
		change func(*cmp.Options)
		faults []string
	}{
		{"all at once", func(o *cmp.Options) {
			*o = cmp.Options{URL: "ldap://x", ServerCAFile: "nowhere", ResponderFile: "nowhere"}
		}, []string{"url", "issuer", "certificate or secret", "responder", "server CA"}},
		{"a user in the url", func(o *cmp.Options) { o.URL = "http://u:hunter2@x" }, []string{"without a user"}},
		{"both", func(o *cmp.Options) { o.Reference = "r" }, []string{"give one of them"}},
		{"no key", func(o *cmp.Options) { o.KeyFile = "" }, []string{"certificate"}},
		{"no reference", func(o *cmp.Options) { *o = fake.SecretDriver(); o.Reference = "" }, []string{"a secret and its reference"}},
		{"an unknown MAC", func(o *cmp.Options) { *o = fake.SecretDriver(); o.MAC = "md5" }, []string{"mac"}},
		{"an empty secret", func(o *cmp.Options) { *o = fake.SecretDriver(); o.SecretFile = cmptest.WriteSecret(t, "") }, []string{"is empty"}},
		{"trust for a url that has none", func(o *cmp.Options) { o.URL = fake.PlainURL }, []string{"not https"}},
		{"no certificate in the file", func(o *cmp.Options) { o.ResponderFile = o.KeyFile }, []string{"responder", "no PEM certificate"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			options := fake.Driver(fake.Officer)
			row.change(&options)
			_, err := cmp.New(options)
			for _, fault := range row.faults {
				require.ErrorContains(t, err, fault)
			}
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	require.NoError(t, err)
	_, err = cmp.New(fake.Driver(credentials(t, key.Public(), key, nil)))
	require.ErrorContains(t, err, "none of RSA, EC P-256 and EC P-384")
}
