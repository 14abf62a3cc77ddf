package cmrest_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/ca"
	"mobileid/activities/ca/catest"
	"mobileid/activities/ca/cmrest"
	"mobileid/activities/ca/cmrest/cmresttest"
)

// ask is a request for a new certificate of the key.
func ask(csr *x509.CertificateRequest) ca.IssueRequest {
	return ca.IssueRequest{CSR: csr, Procedure: cmresttest.Procedure, NotAfter: time.Now().AddDate(2, 0, 0)}
}

// certificateFor issues for the key of a request, without any fake.
func certificateFor(t testing.TB, issuer *catest.Issuer, csr *x509.CertificateRequest, serial int64) *x509.Certificate {
	t.Helper()
	cert, err := cmresttest.SignFor(issuer, csr, big.NewInt(serial), time.Now().Add(time.Hour))
	require.NoError(t, err)
	return cert
}

// parsed is a PKCS #10 request with the key.
func parsed(t testing.TB, key any) *x509.CertificateRequest {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(cmresttest.WriteRequest(t, key, "Anna"))
	require.NoError(t, err)
	return csr
}

// What goes over the wire: a search by the key identifier, a download, and nothing else.
func TestIssuedWire(t *testing.T) {
	issuer, csr := catest.NewIssuer(t, someName), catest.NewCSR(t, "Anna")
	cert := certificateFor(t, issuer, csr, 0x1f)
	var seen []string
	d := issuing(t, issuer.Certificate, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Accept"))
		if strings.HasSuffix(r.URL.Path, "/download") {
			_, _ = w.Write(cert.Raw)
			return
		}
		_, _ = w.Write([]byte(listOf(active)))
	})
	found, err := d.IssueOnce(t.Context(), ask(csr))
	require.NoError(t, err)
	require.True(t, found.Equal(cert))
	require.Equal(t, []string{
		"GET /pgwy/api/certificates?searchLimit=100&searchOffset=0&subjectKeyIdentifier=" + hex.EncodeToString(cert.SubjectKeyId) + " application/json",
		"GET /pgwy/api/certificates/7%2Fa/download application/pkix-cert",
	}, seen)
}

// The SHA-1 of the key's bits: of an RSA key, of its PKCS #1 form.
func TestKeyIdentifier(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	want := sha1.Sum(x509.MarshalPKCS1PublicKey(&key.PublicKey))
	searched := ""
	d := issuing(t, catest.NewIssuer(t, someName).Certificate, func(w http.ResponseWriter, r *http.Request) {
		searched = r.URL.Query().Get("subjectKeyIdentifier")
		_, _ = w.Write([]byte(listOf()))
	})
	found, err := d.Issued(t.Context(), parsed(t, key))
	require.NoError(t, err)
	require.Empty(t, found)
	require.Equal(t, hex.EncodeToString(want[:]), searched)
}

// The certificate ends when it was asked to.
func TestIssueOnceUntil(t *testing.T) {
	fake := cmresttest.Start(t, someName)
	request := ask(catest.NewCSR(t, "Anna"))
	cert, err := newDriver(t, fake.Driver(fake.Officer)).IssueOnce(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, request.NotAfter.UTC().Truncate(time.Second), cert.NotAfter)
}

// Copies of other CAs' certificates for the same key lie in CM, one even under the
// issuer's very name. None of them is what was issued.
func TestHitOfAnotherIssuerIsLeftOut(t *testing.T) {
	fake, csr := cmresttest.Start(t, someName), catest.NewCSR(t, "Anna")
	d := newDriver(t, fake.Driver(fake.Officer))
	foreign, twin := catest.NewIssuer(t, pkix.Name{CommonName: "Foreign CA"}), catest.NewIssuer(t, someName)
	fake.Import(certificateFor(t, foreign, csr, 7), "CN=Foreign CA")
	fake.Import(certificateFor(t, twin, csr, 8), fake.DN)
	found, err := d.Issued(t.Context(), csr)
	require.NoError(t, err)
	require.Empty(t, found)
	cert, err := d.IssueOnce(t.Context(), ask(csr))
	require.NoError(t, err)
	require.NoError(t, cert.CheckSignatureFrom(fake.Certificate))
	found, err = d.Issued(t.Context(), csr)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.True(t, found[0].Equal(cert))
}

// A certificate for another key with the same identifier, which a requester may have
// chosen, is not the one of this key.
func TestHitForAnotherKeyIsLeftOut(t *testing.T) {
	fake, csr := cmresttest.Start(t, someName), catest.NewCSR(t, "Anna")
	mine := certificateFor(t, fake.Issuer, csr, 7)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(8), SubjectKeyId: mine.SubjectKeyId, NotBefore: mine.NotBefore, NotAfter: mine.NotAfter,
	}, fake.Certificate, &newKey(t).PublicKey, fake.Key)
	require.NoError(t, err)
	other, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	fake.Import(other, fake.DN)
	d := newDriver(t, fake.Driver(fake.Officer))
	found, err := d.Issued(t.Context(), csr)
	require.NoError(t, err)
	require.Empty(t, found)
	fake.Import(mine, fake.DN)
	found, err = d.Issued(t.Context(), csr)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.True(t, found[0].Equal(mine))
}

// A configured name that CM does not show would have every try issue one more: it stops
// before that.
func TestIssuedUnderAnotherName(t *testing.T) {
	fake, csr := cmresttest.Start(t, someName), catest.NewCSR(t, "Anna")
	options := fake.Driver(fake.Officer)
	options.IssuerDN = "cn=Some CA"
	d := newDriver(t, options)
	_, err := d.IssueOnce(t.Context(), ask(csr))
	require.NoError(t, err)
	_, err = d.IssueOnce(t.Context(), ask(csr))
	require.Equal(t, ca.Unsupported, kindOf(t, err))
	require.ErrorContains(t, err, "compare issuer DN")
	require.Len(t, fake.Signed(), 1, "no second one is asked for")
}

// Issued several times, as two calls at once can do: all are found, whatever is shown at
// once, each once, and the first of them is the one of the key.
func TestIssuedPaging(t *testing.T) {
	for _, shown := range []int{1, 2, 500} {
		t.Run(fmt.Sprint(shown), func(t *testing.T) {
			fake, csr := cmresttest.Start(t, someName), catest.NewCSR(t, "Anna")
			fake.Show(shown)
			d := newDriver(t, fake.Driver(fake.Officer))
			var want []*x509.Certificate
			for serial := range int64(5) {
				want = append(want, certificateFor(t, fake.Issuer, csr, 0x50+serial))
			}
			// Within one second it is the serial number that counts.
			slices.SortStableFunc(want, func(a, b *x509.Certificate) int { return a.NotBefore.Compare(b.NotBefore) })
			for _, at := range []int{3, 1, 0, 3, 4, 2} {
				fake.Import(want[at], fake.DN)
			}
			found, err := d.Issued(t.Context(), csr)
			require.NoError(t, err)
			require.Len(t, found, len(want))
			for at, cert := range found {
				require.True(t, cert.Equal(want[at]), "%d is %s", at, cert.SerialNumber)
			}
			cert, err := d.IssueOnce(t.Context(), ask(csr))
			require.NoError(t, err)
			require.True(t, cert.Equal(want[0]))
			require.Empty(t, fake.Signed(), "nothing is asked for")
		})
	}
}

// The first is the one that was valid first, not the one of the lowest serial number.
func TestIssuedInOrder(t *testing.T) {
	fake, csr := cmresttest.Start(t, someName), catest.NewCSR(t, "Anna")
	for serial, hours := range map[int64]time.Duration{1: 2, 2: 3, 3: 1} {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(serial), SubjectKeyId: certificateFor(t, fake.Issuer, csr, 9).SubjectKeyId,
			NotBefore: time.Now().Add(-hours * time.Hour), NotAfter: time.Now().Add(time.Hour),
		}, fake.Certificate, csr.PublicKey, fake.Key)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		fake.Import(cert, fake.DN)
	}
	found, err := newDriver(t, fake.Driver(fake.Officer)).Issued(t.Context(), csr)
	require.NoError(t, err)
	var serials []int64
	for _, cert := range found {
		serials = append(serials, cert.SerialNumber.Int64())
	}
	require.Equal(t, []int64{2, 1, 3}, serials)
}

// A revoked certificate is still the one of its key.
func TestIssueOnceAfterRevocation(t *testing.T) {
	fake, csr := cmresttest.Start(t, someName), catest.NewCSR(t, "Anna")
	d := newDriver(t, fake.Driver(fake.Officer))
	first, err := d.IssueOnce(t.Context(), ask(csr))
	require.NoError(t, err)
	_, err = d.Revoke(t.Context(), catest.Name(t, first), mobileid.CessationOfOperation)
	require.NoError(t, err)
	again, err := d.IssueOnce(t.Context(), ask(csr))
	require.NoError(t, err)
	require.True(t, again.Equal(first))
}

// More certificates of one key than can be: the gateway does not search by it.
func TestIssuedIsBounded(t *testing.T) {
	entries := func(n int) (list []string) {
		for at := range n {
			list = append(list, strings.Replace(active, "7/a", fmt.Sprint(at), 1))
		}
		return list
	}
	issuer, csr := catest.NewIssuer(t, someName), catest.NewCSR(t, "Anna")
	cert := certificateFor(t, issuer, csr, 0x1f)
	for _, row := range []struct {
		name                string
		list                string
		searches, downloads int
		words               string // empty: found
	}{
		{"as many as can be", listOf(entries(20)...), 1, 20, ""},
		{"one more", listOf(entries(21)...), 1, 0, "more than 20"},
		{"one for ever", `{"error":0,"searchHits":1000,"certificates":[` + active + `]}`, 20, 0, "finds 1000"},
		{"all of CM", `{"error":0,"searchHits":100000,"certificates":[` + active + `]}`, 1, 0, "finds 100000"},
	} {
		t.Run(row.name, func(t *testing.T) {
			searches, downloads := 0, 0
			d := issuing(t, issuer.Certificate, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/download") {
					downloads++
					_, _ = w.Write(cert.Raw)
					return
				}
				searches++
				_, _ = w.Write([]byte(row.list))
			})
			found, err := d.Issued(t.Context(), csr)
			require.Equal(t, row.searches, searches)
			require.Equal(t, row.downloads, downloads)
			if row.words == "" {
				require.NoError(t, err)
				require.Len(t, found, 1)
				return
			}
			require.Equal(t, ca.Unsupported, kindOf(t, err))
			require.ErrorContains(t, err, row.words)
		})
	}
}

// Where the search or a download cannot be believed, it is not said that there is
// nothing: nothing is asked for, and the next try may do better.
func TestIssueOnceIsNotAsked(t *testing.T) {
	issuer, csr := catest.NewIssuer(t, someName), catest.NewCSR(t, "Anna")
	good, other := certificateFor(t, issuer, csr, 0x1f), certificateFor(t, issuer, catest.NewCSR(t, "Berta"), 0x2f)
	for _, row := range []struct {
		name     string
		list     string
		code     int
		download []byte
		issued   ca.Kind // of Issued
		once     ca.Kind // of IssueOnce
		words    string
	}{
		{"a download that is another certificate", listOf(active), 200, other.Raw, ca.Ambiguous, ca.Unavailable, "compare serial format"},
		{"a download that is the CA's certificate", listOf(active), 200, issuer.Certificate.Raw, ca.Ambiguous, ca.Unavailable, "serial number"},
		{"another way to write serial numbers", listOf(strings.Replace(active, "001F", "31", 1)), 200, good.Raw, ca.Ambiguous, ca.Unavailable, `"31"`},
		{"garbage", listOf(active), 200, []byte("<html>"), ca.Ambiguous, ca.Unavailable, "neither"},
		{"nothing", listOf(active), 200, nil, ca.Ambiguous, ca.Unavailable, "neither"},
		{"cut short", listOf(active), 200, good.Raw[:100], ca.Ambiguous, ca.Unavailable, "7/a"},
		{"too much", listOf(active), 200, bytes.Repeat([]byte("0"), 100_000), ca.Ambiguous, ca.Unavailable, "too large"},
		{"success without a certificate", listOf(active), 200, []byte(`{"error":0}`), ca.Ambiguous, ca.Unavailable, "no certificate"},
		{"an error with HTTP 200", listOf(active), 200, []byte(`{"error":-18,"msg":"no CM"}`), ca.Ambiguous, ca.Unavailable, "no CM"},
		{"no right to it", listOf(active), 200, []byte(`{"error":-15,"msg":"role"}`), ca.Denied, ca.Denied, "role"},
		{"a failure with a certificate", listOf(active), 500, good.Raw, ca.Ambiguous, ca.Unavailable, "HTTP 500"},
		{"not found, by Tomcat", listOf(active), 404, []byte("<html>"), ca.Unsupported, ca.Unsupported, "HTTP 404"},
		{"a certid that leads elsewhere", listOf(strings.Replace(active, "7/a", "..", 1)), 200, good.Raw, ca.Ambiguous, ca.Unavailable, "certid"},
		{"a search without a number", `{"error":0,"certificates":[]}`, 200, good.Raw, ca.Ambiguous, ca.Unavailable, "how many"},
		{"a search that shows fewer", `{"error":0,"searchHits":1,"certificates":[]}`, 200, good.Raw, ca.Ambiguous, ca.Unavailable, "shows only 0"},
		{"a search without the right", `{"error":-15,"msg":"role"}`, 200, good.Raw, ca.Denied, ca.Denied, "role"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := issuing(t, issuer.Certificate, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case isIssue(r):
					t.Error("one more is asked for")
				case strings.HasSuffix(r.URL.Path, "/download"):
					w.WriteHeader(row.code)
					_, _ = w.Write(row.download)
				default:
					_, _ = w.Write([]byte(row.list))
				}
			})
			found, err := d.Issued(t.Context(), csr)
			require.Empty(t, found)
			require.Equal(t, row.issued, kindOf(t, err), "%v", err)
			require.ErrorContains(t, err, row.words)
			_, err = d.IssueOnce(t.Context(), ask(csr))
			require.Equal(t, row.once, kindOf(t, err), "%v", err)
		})
	}
}

// A gateway that does not heed Accept sends the chain along, in the form it likes; the
// certificate is the one of the serial number that was shown, even where the CA has the
// same.
func TestDownloadForms(t *testing.T) {
	issuer, csr := catest.NewIssuer(t, someName), catest.NewCSR(t, "Anna")
	number := issuer.Certificate.SerialNumber.Int64()
	cert := certificateFor(t, issuer, csr, number)
	chain, err := pkcs7.DegenerateCertificate(slices.Concat(issuer.Certificate.Raw, cert.Raw))
	require.NoError(t, err)
	for name, body := range map[string][]byte{
		"DER": cert.Raw, "PEM": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		"PKCS #7": chain, "PKCS #7 as PEM": pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: chain}),
	} {
		t.Run(name, func(t *testing.T) {
			d := issuing(t, issuer.Certificate, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/download") {
					_, _ = w.Write(body)
					return
				}
				_, _ = w.Write([]byte(listOf(strings.Replace(active, "001F", fmt.Sprintf("%02X", number), 1))))
			})
			found, err := d.Issued(t.Context(), csr)
			require.NoError(t, err)
			require.Len(t, found, 1)
			require.True(t, found[0].Equal(cert))
		})
	}
}

// Without an issuer to check by, and without a key, nothing is sent.
func TestIssuedNeeds(t *testing.T) {
	refuse := func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }
	issuer, csr := catest.NewIssuer(t, someName).Certificate, catest.NewCSR(t, "Anna")
	for name, row := range map[string]struct {
		issuer *x509.Certificate
		csr    *x509.CertificateRequest
		words  string
	}{
		"no issuer": {nil, csr, "issuer"},
		"no key":    {issuer, &x509.CertificateRequest{}, "pkcs10"},
		"more than a key": {issuer, &x509.CertificateRequest{
			RawSubjectPublicKeyInfo: append(slices.Clone(csr.RawSubjectPublicKeyInfo), 0),
		}, "pkcs10"},
	} {
		t.Run(name, func(t *testing.T) {
			d := issuing(t, row.issuer, refuse)
			_, err := d.Issued(t.Context(), row.csr)
			require.Equal(t, ca.Unsupported, kindOf(t, err))
			require.ErrorContains(t, err, row.words)
			_, err = d.IssueOnce(t.Context(), ask(row.csr))
			require.Equal(t, ca.Unsupported, kindOf(t, err))
		})
	}
}

// A CM that writes decimal numbers.
func TestIssuedDecimal(t *testing.T) {
	fake, csr := cmresttest.Start(t, someName), catest.NewCSR(t, "Anna")
	fake.Write(cmrest.Decimal)
	d := newDriver(t, fake.Driver(fake.Officer))
	cert, err := d.IssueOnce(t.Context(), ask(csr))
	require.NoError(t, err)
	found, err := d.Issued(t.Context(), csr)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.True(t, found[0].Equal(cert))
}

// FuzzDownload feeds what is found and what is downloaded: whatever comes back was
// signed by the issuer, for the key.
func FuzzDownload(f *testing.F) {
	issuer, key := catest.NewIssuer(f, someName), newKey(f)
	csr := parsed(f, key)
	good, other := certificateFor(f, issuer, csr, 0x1f), certificateFor(f, issuer, parsed(f, newKey(f)), 0x1f)
	chain, err := pkcs7.DegenerateCertificate(slices.Concat(other.Raw, good.Raw, issuer.Certificate.Raw))
	require.NoError(f, err)
	for _, seed := range [][]byte{good.Raw, other.Raw, chain, pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: chain}), []byte(`{"error":-1}`), nil} {
		f.Add(200, listOf(active), seed)
		f.Add(404, listOf(active, revoked), seed)
		f.Add(200, listOf(), seed)
	}
	var code int
	var list string
	var body []byte
	downloads := 0
	d := issuing(f, issuer.Certificate, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/download") {
			_, _ = w.Write([]byte(list))
			return
		}
		downloads++
		w.WriteHeader(code)
		_, _ = w.Write(body)
	})
	f.Fuzz(func(t *testing.T, c int, l string, b []byte) {
		if c < 200 || c > 599 {
			return
		}
		code, list, body, downloads = c, l, b, 0
		found, err := d.Issued(t.Context(), csr)
		require.LessOrEqual(t, downloads, 20)
		if err != nil {
			var e *ca.Error
			require.ErrorAs(t, err, &e)
			require.Empty(t, found)
			return
		}
		require.True(t, downloads == 0 || c < 300)
		for _, cert := range found {
			require.True(t, key.PublicKey.Equal(cert.PublicKey))
			require.Equal(t, good.RawTBSCertificate, cert.RawTBSCertificate, "nobody else can have signed one")
		}
	})
}
