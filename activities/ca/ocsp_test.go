package ca

import (
	"context"
	"crypto"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"mobileid"
)

// testSingle is a SingleResponse to make.
type testSingle struct {
	issuer     pair
	hash       objectID
	serial     *big.Int
	status     asn1.Tag
	revokedAt  time.Time
	reason     int
	thisUpdate time.Time
	nextUpdate time.Time
	extensions []testExtension
}

// testOCSP is an OCSP answer to make.
type testOCSP struct {
	singles    []testSingle
	signer     pair
	byKey      bool
	algorithm  objectID
	certs      []*x509.Certificate
	producedAt time.Time
	extensions []testExtension
	damage     bool
}

func addTime(b *cryptobyte.Builder, at time.Time) { b.AddASN1GeneralizedTime(at) }

func (a testOCSP) marshal(t testing.TB) []byte {
	t.Helper()
	hashes := map[objectID]crypto.Hash{oidSHA1: crypto.SHA1, oidSHA256: crypto.SHA256, oidSHA384: crypto.SHA384, oidSHA512: crypto.SHA512}
	var data cryptobyte.Builder
	sequence(&data, func(b *cryptobyte.Builder) {
		if a.byKey {
			bits, err := publicKeyBits(a.signer.cert)
			require.NoError(t, err)
			sum := sha1.Sum(bits)
			b.AddASN1(explicitTag(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(sum[:]) })
		} else {
			element(b, explicitTag(1), a.signer.cert.RawSubject)
		}
		addTime(b, a.producedAt)
		sequence(b, func(b *cryptobyte.Builder) {
			for _, s := range a.singles {
				key, err := publicKeyBits(s.issuer.cert)
				require.NoError(t, err)
				nameHash, keyHash := make([]byte, 20), make([]byte, 20)
				if hash, ok := hashes[s.hash]; ok {
					nameHash, keyHash = digest(hash, s.issuer.cert.RawSubject), digest(hash, key)
				}
				sequence(b, func(b *cryptobyte.Builder) {
					sequence(b, func(b *cryptobyte.Builder) {
						addAlgorithm(b, s.hash)
						b.AddASN1OctetString(nameHash)
						b.AddASN1OctetString(keyHash)
						b.AddASN1BigInt(s.serial)
					})
					b.AddASN1(s.status, func(b *cryptobyte.Builder) {
						if s.status != tagRevoked {
							return
						}
						addTime(b, s.revokedAt)
						if s.reason != noReason {
							b.AddASN1(explicitTag(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(s.reason)) })
						}
					})
					addTime(b, s.thisUpdate)
					if !s.nextUpdate.IsZero() {
						b.AddASN1(explicitTag(0), func(b *cryptobyte.Builder) { addTime(b, s.nextUpdate) })
					}
					if s.extensions != nil {
						b.AddASN1(explicitTag(1), func(b *cryptobyte.Builder) { addExtensions(b, s.extensions) })
					}
				})
			}
		})
		if a.extensions != nil {
			b.AddASN1(explicitTag(1), func(b *cryptobyte.Builder) { addExtensions(b, a.extensions) })
		}
	})
	tbs := data.BytesOrPanic()
	signature := sign(t, a.signer.key, a.algorithm, tbs)
	if a.damage {
		signature = sign(t, a.signer.key, a.algorithm, append([]byte{1}, tbs...))
	}
	var basic cryptobyte.Builder
	sequence(&basic, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		addAlgorithm(b, a.algorithm)
		b.AddASN1BitString(signature)
		if a.certs != nil {
			b.AddASN1(explicitTag(0), func(b *cryptobyte.Builder) {
				sequence(b, func(b *cryptobyte.Builder) {
					for _, c := range a.certs {
						b.AddBytes(c.Raw)
					}
				})
			})
		}
	})
	var out cryptobyte.Builder
	sequence(&out, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0)
		b.AddASN1(explicitTag(0), func(b *cryptobyte.Builder) {
			sequence(b, func(b *cryptobyte.Builder) {
				element(b, asn1.OBJECT_IDENTIFIER, []byte(oidBasicResponse))
				b.AddASN1OctetString(basic.BytesOrPanic())
			})
		})
	})
	return out.BytesOrPanic()
}

// revokedAnswer is a proper answer, signed by the CA, that lists the user
// certificate as revoked an hour before noon. change may spoil it.
func revokedAnswer(issuer pair, change func(*testOCSP)) testOCSP {
	a := testOCSP{
		signer:     issuer,
		algorithm:  ecdsaSHA2,
		producedAt: noon.Add(-time.Minute),
		singles: []testSingle{{
			issuer: issuer, hash: oidSHA1, serial: big.NewInt(userSerial),
			status: tagRevoked, revokedAt: noon.Add(-time.Hour), reason: 1,
			thisUpdate: noon.Add(-time.Minute), nextUpdate: noon.Add(time.Hour),
		}},
	}
	if change != nil {
		change(&a)
	}
	return a
}

func newTestOCSP(t testing.TB, issuer pair, client *http.Client) *OCSP {
	t.Helper()
	o, err := NewOCSP(testURL, issuer.cert, client, clockAt(noon))
	require.NoError(t, err)
	return o
}

func TestOCSPSaysWhatAProperAnswerProves(t *testing.T) {
	issuer := newCA(t, "CA")
	responder := newResponder(t, issuer, nil)
	delegate := func(a *testOCSP) { a.signer, a.certs = responder, []*x509.Certificate{responder.cert} }
	for name, test := range map[string]struct {
		change func(*testOCSP)
		status mobileid.Status
		reason mobileid.Reason
	}{
		"signed by the CA":                    {nil, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"responder named by key":              {func(a *testOCSP) { a.byKey = true }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"delegated responder":                 {delegate, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"delegated responder by key":          {func(a *testOCSP) { delegate(a); a.byKey = true }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"embedded CA certificate":             {func(a *testOCSP) { a.certs = []*x509.Certificate{issuer.cert} }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"CA certificate before the responder": {func(a *testOCSP) { delegate(a); a.certs = []*x509.Certificate{issuer.cert, responder.cert} }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"certificate id by SHA-256":           {func(a *testOCSP) { a.singles[0].hash = oidSHA256 }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"certificate id by SHA-512":           {func(a *testOCSP) { a.singles[0].hash = oidSHA512 }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"no reason":                           {func(a *testOCSP) { a.singles[0].reason = noReason }, mobileid.StatusRevoked, ""},
		"undefined reason 7":                  {func(a *testOCSP) { a.singles[0].reason = 7 }, mobileid.StatusRevoked, ""},
		"certificateHold":                     {func(a *testOCSP) { a.singles[0].reason = 6 }, mobileid.StatusOnHold, mobileid.CertificateHold},
		"stale certificateHold":               {func(a *testOCSP) { a.singles[0].reason = 6; a.singles[0].nextUpdate = noon.Add(-time.Second) }, mobileid.StatusUnknown, mobileid.CertificateHold},
		"removeFromCRL":                       {func(a *testOCSP) { a.singles[0].reason = 8 }, mobileid.StatusUnknown, mobileid.RemoveFromCRL},
		"stale revocation is proof":           {func(a *testOCSP) { a.singles[0].nextUpdate = noon.Add(-time.Second) }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"good":                                {func(a *testOCSP) { a.singles[0].status = tagGood }, mobileid.StatusGood, ""},
		"good without nextUpdate":             {func(a *testOCSP) { a.singles[0].status = tagGood; a.singles[0].nextUpdate = time.Time{} }, mobileid.StatusGood, ""},
		"stale good says nothing":             {func(a *testOCSP) { a.singles[0].status = tagGood; a.singles[0].nextUpdate = noon.Add(-time.Second) }, mobileid.StatusUnknown, ""},
		"thisUpdate within the tolerance":     {func(a *testOCSP) { a.singles[0].thisUpdate = noon.Add(4 * time.Minute) }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"two singles, ours second": {func(a *testOCSP) {
			other := a.singles[0]
			other.serial, other.status = big.NewInt(0x2f), tagGood
			a.singles = []testSingle{other, a.singles[0]}
		}, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"uncritical extension": {func(a *testOCSP) {
			a.singles[0].extensions = []testExtension{{id: unknownCritical.id, value: []byte{5, 0}}}
		}, mobileid.StatusRevoked, mobileid.KeyCompromise},
	} {
		t.Run(name, func(t *testing.T) {
			o := newTestOCSP(t, issuer, serving(revokedAnswer(issuer, test.change).marshal(t)))
			evidence, err := o.Check(t.Context(), userOf(issuer))
			require.NoError(t, err)
			require.Equal(t, test.status, evidence.Status)
			require.Equal(t, test.reason, evidence.Reason)
			require.Equal(t, mobileid.ProofFromOCSP, evidence.Proof.Source)
			require.Len(t, evidence.Proof.SHA256, 64)
			if test.status == mobileid.StatusRevoked {
				require.Equal(t, noon.Add(-time.Hour), evidence.RevokedAt)
			}
		})
	}
}

func TestOCSPRefusesWhatProvesNothing(t *testing.T) {
	issuer := newCA(t, "CA")
	sameName := newCA(t, "CA")
	other := newCA(t, "Other CA")
	renamed := *issuer.cert // another CA that shares the key
	renamed.RawSubject = other.cert.RawSubject
	signedWith := func(signer pair) func(*testOCSP) {
		return func(a *testOCSP) { a.signer, a.certs = signer, []*x509.Certificate{signer.cert} }
	}
	responder := func(issuer pair, change func(*x509.Certificate)) func(*testOCSP) {
		return signedWith(newResponder(t, issuer, change))
	}
	nonce := mustMarshal(t, []byte("not the one that was sent"))
	for name, test := range map[string]struct {
		change func(*testOCSP)
		kind   Kind
		words  string
	}{
		"user certificate of the same CA": {responder(issuer, func(c *x509.Certificate) {
			c.Subject, c.ExtKeyUsage = pkix.Name{CommonName: "Anna"}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), Unsupported, "id-kp-OCSPSigning"},
		"responder without extended key usage":    {responder(issuer, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), Unsupported, "id-kp-OCSPSigning"},
		"responder with anyExtendedKeyUsage only": {responder(issuer, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), Unsupported, "id-kp-OCSPSigning"},
		"responder not for signing":               {responder(issuer, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), Unsupported, "not for signing"},
		"responder expired now":                   {responder(issuer, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }), Unsupported, "not valid at"},
		"responder not valid yet":                 {responder(issuer, func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Hour) }), Unsupported, "not valid at"},
		"responder not valid when it answered": {func(a *testOCSP) {
			responder(issuer, func(c *x509.Certificate) { c.NotBefore = noon.Add(-time.Hour) })(a)
			a.producedAt = noon.Add(-2 * time.Hour)
		}, Unsupported, "not valid at"},
		"responder with an unknown critical extension": {responder(issuer, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), Unsupported, "critical"},
		"responder of another CA":                   {responder(other, nil), Unsupported, "another issuer"},
		"responder of another CA of the same name":  {responder(sameName, nil), Unsupported, "not issued by the CA"},
		"another CA of the same name":               {signedWith(sameName), Unsupported, ""},
		"responder whose certificate is left out":   {func(a *testOCSP) { responder(issuer, nil)(a); a.certs = nil }, Unsupported, "not signed by the CA"},
		"responder's certificate of somebody else":  {func(a *testOCSP) { responder(issuer, nil)(a); a.signer = pair{a.signer.cert, other.key} }, Unsupported, "not signed by the CA"},
		"signature over something else":             {func(a *testOCSP) { a.damage = true }, Unsupported, "not signed by the CA"},
		"signed with SHA-1":                         {func(a *testOCSP) { a.algorithm = ecdsaSHA1 }, Unsupported, "SHA-1"},
		"unknown signature algorithm":               {func(a *testOCSP) { a.algorithm = "\x2a\x03\x04" }, Unsupported, "unknown algorithm"},
		"same serial of another issuer":             {func(a *testOCSP) { a.singles[0].issuer = other }, Unsupported, "another certificate"},
		"same serial of an issuer of the same key":  {func(a *testOCSP) { a.singles[0].issuer = pair{&renamed, issuer.key} }, Unsupported, "another certificate"},
		"same serial of an issuer of the same name": {func(a *testOCSP) { a.singles[0].issuer = sameName }, Unsupported, "another certificate"},
		"unknown hash algorithm":                    {func(a *testOCSP) { a.singles[0].hash = "\x2a\x03\x04" }, Unsupported, "another certificate"},
		"good for another serial":                   {func(a *testOCSP) { a.singles[0].serial, a.singles[0].status = big.NewInt(0x2f), tagGood }, Unsupported, "another certificate"},
		"no single at all":                          {func(a *testOCSP) { a.singles = nil }, Unsupported, "another certificate"},
		"two singles for the certificate":           {func(a *testOCSP) { a.singles = append(a.singles, a.singles[0]) }, Unsupported, "more than one thing"},
		"responder does not know it":                {func(a *testOCSP) { a.singles[0].status = tagUnknown }, Unsupported, "does not know"},
		"no status":                                 {func(a *testOCSP) { a.singles[0].status = asn1.OCTET_STRING }, Unavailable, "status"},
		"future thisUpdate":                         {func(a *testOCSP) { a.singles[0].thisUpdate = noon.Add(6 * time.Minute) }, Unavailable, "future"},
		"future producedAt":                         {func(a *testOCSP) { a.producedAt = noon.Add(6 * time.Minute) }, Unavailable, "future"},
		"nextUpdate before thisUpdate":              {func(a *testOCSP) { a.singles[0].nextUpdate = noon.Add(-2 * time.Minute) }, Unavailable, "before"},
		"unknown critical extension":                {func(a *testOCSP) { a.extensions = []testExtension{unknownCritical} }, Unsupported, "critical"},
		"unknown critical extension of the single":  {func(a *testOCSP) { a.singles[0].extensions = []testExtension{unknownCritical} }, Unsupported, "critical"},
		"another nonce":                             {func(a *testOCSP) { a.extensions = []testExtension{{id: oidNonce, value: nonce}} }, Unsupported, "nonce"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newTestOCSP(t, issuer, serving(revokedAnswer(issuer, test.change).marshal(t)))
			evidence, err := o.Check(t.Context(), userOf(issuer))
			require.Contains(t, requireKind(t, test.kind, err).Error(), test.words)
			require.Equal(t, mobileid.StatusUnknown, evidence.Status)
		})
	}
}

func TestOCSPErrorsAreNeverGood(t *testing.T) {
	issuer := newCA(t, "CA")
	answer := func(code int, body string, header ...string) roundTrip {
		return func(*http.Request) (*http.Response, error) { return httpAnswer(code, []byte(body), header...), nil }
	}
	cut := revokedAnswer(issuer, nil).marshal(t)
	for name, test := range map[string]struct {
		server roundTrip
		kind   Kind
		wait   time.Duration
	}{
		"malformedRequest":         {answer(200, string(ocsp.MalformedRequestErrorResponse)), Unsupported, 0},
		"internalError":            {answer(200, string(ocsp.InternalErrorErrorResponse)), Unavailable, 0},
		"tryLater":                 {answer(200, string(ocsp.TryLaterErrorResponse)), Unavailable, 0},
		"sigRequired":              {answer(200, string(ocsp.SigRequredErrorResponse)), Unsupported, 0},
		"unauthorized":             {answer(200, string(ocsp.UnauthorizedErrorResponse)), Unsupported, 0},
		"a proxy's page":           {answer(200, "<html>back soon</html>"), Unavailable, 0},
		"nothing":                  {answer(200, ""), Unavailable, 0},
		"cut answer":               {answer(200, string(cut[:len(cut)-9])), Unavailable, 0},
		"bytes after the answer":   {answer(200, string(cut)+"\x00"), Unavailable, 0},
		"more than 1 MiB":          {answer(200, string(make([]byte, maxOCSPBytes+1))), Unsupported, 0},
		"HTTP 503 with a wait":     {answer(503, "", "Retry-After", "120"), Unavailable, 2 * time.Minute},
		"HTTP 429 with a date":     {answer(429, "", "Retry-After", noon.Add(time.Minute).Format(http.TimeFormat)), Unavailable, time.Minute},
		"HTTP 403":                 {answer(403, ""), Unsupported, 0},
		"redirect to another host": {answer(307, "", "Location", "http://inside.example/"), Unsupported, 0},
		"redirect without end":     {answer(307, "", "Location", testURL), Unsupported, 0},
		"no connection":            {func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }, Unavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := newTestOCSP(t, issuer, &http.Client{Transport: test.server})
			evidence, err := o.Check(t.Context(), userOf(issuer))
			require.Equal(t, test.wait, requireKind(t, test.kind, err).RetryAfter)
			require.Equal(t, mobileid.StatusUnknown, evidence.Status)
		})
	}
}

func TestOCSPRefusesACertificateOfAnotherCA(t *testing.T) {
	issuer := newCA(t, "CA")
	o := newTestOCSP(t, issuer, &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return nil, errors.New("was asked")
	})})
	for name, cert := range map[string]Certificate{
		"another name": userOf(newCA(t, "Other CA")),
		"another key":  userOf(newCA(t, "CA")),
		"no serial":    {CertificateID: mobileid.CertificateID{Issuer: mobileid.HashName(issuer.cert.RawSubject)}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := o.Check(t.Context(), cert)
			require.NotContains(t, requireKind(t, Unsupported, err).Error(), "was asked")
		})
	}
}

// The request is read, and the answer made, by another implementation, which
// dates it by the system's clock; so here all goes by that.
func TestOCSPAgainstAnotherImplementation(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	issuer := newCA(t, "CA")
	responder := newResponder(t, issuer, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(time.Hour) })
	for _, text := range []string{"1", "7f", "80", "ff", "100", "ffffffffffffffffffffffffffffffffffffffff", "123456789012"} {
		t.Run(text, func(t *testing.T) {
			serial, ok := new(big.Int).SetString(text, 16)
			require.True(t, ok)
			client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				require.Equal(t, "application/ocsp-request", r.Header.Get("Content-Type"))
				body, err := io.ReadAll(r.Body)
				require.NoError(t, err)
				request, err := ocsp.ParseRequest(body)
				require.NoError(t, err)
				require.Equal(t, serial, request.SerialNumber)
				der, err := ocsp.CreateResponse(issuer.cert, responder.cert, ocsp.Response{
					Status: ocsp.Revoked, SerialNumber: request.SerialNumber, IssuerHash: request.HashAlgorithm,
					ThisUpdate: now, NextUpdate: now.Add(time.Hour), RevokedAt: now, RevocationReason: ocsp.Superseded,
					Certificate: responder.cert,
				}, responder.key)
				require.NoError(t, err)
				return httpAnswer(http.StatusOK, der), nil
			})}
			o, err := NewOCSP(testURL, issuer.cert, client, nil)
			require.NoError(t, err)
			evidence, err := o.Check(t.Context(), certificateOf(issuer, serial))
			require.NoError(t, err)
			require.Equal(t, mobileid.StatusRevoked, evidence.Status)
			require.Equal(t, mobileid.Superseded, evidence.Reason)
			require.Equal(t, now, evidence.RevokedAt)
		})
	}
}

func TestOCSPNonceThatComesBackIsAccepted(t *testing.T) {
	issuer := newCA(t, "CA")
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		nonce := body[len(body)-nonceBytes-2:]
		require.Equal(t, []byte{0x04, nonceBytes}, nonce[:2])
		return httpAnswer(http.StatusOK, revokedAnswer(issuer, func(a *testOCSP) {
			a.extensions = []testExtension{{id: oidNonce, value: nonce}}
		}).marshal(t)), nil
	})}
	evidence, err := newTestOCSP(t, issuer, client).Check(t.Context(), userOf(issuer))
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusRevoked, evidence.Status)
}

func TestSourcesHaveASafeClientOfTheirOwn(t *testing.T) {
	issuer := newCA(t, "CA")
	o, err := NewOCSP(testURL, issuer.cert, nil, nil)
	require.NoError(t, err)
	require.Equal(t, defaultRequestTimeout, o.client.Timeout)
	require.NotNil(t, o.client.CheckRedirect)
	c, err := NewCRL(testURL, issuer.cert, nil, nil)
	require.NoError(t, err)
	require.Equal(t, crlTimeout, c.client.Timeout)
	require.NotNil(t, c.client.CheckRedirect)
}

func TestNewOCSPRefuses(t *testing.T) {
	issuer := newCA(t, "CA")
	user := certify(t, x509.Certificate{Subject: pkix.Name{CommonName: "Anna"}}, &issuer)
	client := NewHTTPClient(time.Second)
	for name, make := range map[string]func() (*OCSP, error){
		"no issuer":        func() (*OCSP, error) { return NewOCSP(testURL, nil, client, nil) },
		"a user as issuer": func() (*OCSP, error) { return NewOCSP(testURL, user.cert, client, nil) },
		"no URL":           func() (*OCSP, error) { return NewOCSP("", issuer.cert, client, nil) },
		"a file":           func() (*OCSP, error) { return NewOCSP("file:///etc/hosts", issuer.cert, client, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := make()
			require.Error(t, err)
		})
	}
}

func FuzzOCSPResponse(f *testing.F) {
	issuer := newCA(f, "CA")
	responder := newResponder(f, issuer, nil)
	o := newTestOCSP(f, issuer, NewHTTPClient(time.Second))
	f.Add(revokedAnswer(issuer, nil).marshal(f))
	f.Add(revokedAnswer(issuer, func(a *testOCSP) { a.signer, a.certs = responder, []*x509.Certificate{responder.cert} }).marshal(f))
	f.Add(revokedAnswer(issuer, func(a *testOCSP) { a.extensions = []testExtension{unknownCritical} }).marshal(f))
	f.Add(ocsp.TryLaterErrorResponse)
	f.Fuzz(func(t *testing.T, der []byte) {
		evidence, kind, err := o.judge(der, big.NewInt(userSerial), nil)
		if err != nil {
			require.NotEmpty(t, kind)
			require.Equal(t, mobileid.StatusUnknown, evidence.Status)
		}
	})
}

func BenchmarkOCSPCheck(b *testing.B) {
	issuer := newCA(b, "CA")
	responder := newResponder(b, issuer, nil)
	o := newTestOCSP(b, issuer, serving(revokedAnswer(issuer, func(a *testOCSP) {
		a.signer, a.certs = responder, []*x509.Certificate{responder.cert}
	}).marshal(b)))
	for b.Loop() {
		if _, err := o.Check(context.Background(), userOf(issuer)); err != nil {
			b.Fatal(err)
		}
	}
}
