package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"mobileid"
)

type testEntry struct {
	serial     *big.Int
	reason     int
	extensions []testExtension
}

// testCRL is a CRL to make.
type testCRL struct {
	signer     pair
	issuer     []byte
	algorithm  objectID
	inner      objectID // the algorithm in the signed part
	number     *big.Int // nil: none
	thisUpdate time.Time
	nextUpdate time.Time
	entries    []testEntry
	extensions []testExtension
	damage     bool
}

func addUTCTime(b *cryptobyte.Builder, at time.Time) {
	element(b, asn1.UTCTime, []byte(at.UTC().Format("060102150405Z")))
}

func (c testCRL) marshal(t testing.TB) []byte {
	t.Helper()
	var tbs cryptobyte.Builder
	sequence(&tbs, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		addAlgorithm(b, c.inner)
		b.AddBytes(c.issuer)
		addUTCTime(b, c.thisUpdate)
		if !c.nextUpdate.IsZero() {
			addUTCTime(b, c.nextUpdate)
		}
		if len(c.entries) > 0 {
			sequence(b, func(b *cryptobyte.Builder) {
				for _, e := range c.entries {
					sequence(b, func(b *cryptobyte.Builder) {
						b.AddASN1BigInt(e.serial)
						addUTCTime(b, noon.Add(-time.Hour))
						list := e.extensions
						if e.reason != noReason {
							list = append(list, testExtension{id: oidReasonCode, value: []byte{byte(asn1.ENUM), 1, byte(e.reason)}})
						}
						if len(list) > 0 {
							addExtensions(b, list)
						}
					})
				}
			})
		}
		list := c.extensions
		if c.number != nil {
			var number cryptobyte.Builder
			number.AddASN1BigInt(c.number)
			list = append([]testExtension{{id: oidCRLNumber, value: number.BytesOrPanic()}}, list...)
		}
		if len(list) > 0 {
			b.AddASN1(explicitTag(0), func(b *cryptobyte.Builder) { addExtensions(b, list) })
		}
	})
	signed := tbs.BytesOrPanic()
	signature := sign(t, c.signer.key, c.algorithm, signed)
	if c.damage {
		signature = sign(t, c.signer.key, c.algorithm, append([]byte{1}, signed...))
	}
	var out cryptobyte.Builder
	sequence(&out, func(b *cryptobyte.Builder) {
		b.AddBytes(signed)
		addAlgorithm(b, c.algorithm)
		b.AddASN1BitString(signature)
	})
	return out.BytesOrPanic()
}

// revokedCRL is a proper CRL with number 0x1a that lists the user certificate.
// change may spoil it.
func revokedCRL(issuer pair, change func(*testCRL)) testCRL {
	c := testCRL{
		signer:     issuer,
		issuer:     issuer.cert.RawSubject,
		algorithm:  ecdsaSHA2,
		inner:      ecdsaSHA2,
		number:     big.NewInt(0x1a),
		thisUpdate: noon.Add(-time.Minute),
		nextUpdate: noon.Add(time.Hour),
		entries:    []testEntry{{serial: big.NewInt(userSerial), reason: 1}},
	}
	if change != nil {
		change(&c)
	}
	return c
}

// issuingPoint makes an IssuingDistributionPoint of a point's names and flags.
func issuingPoint(names [][]byte, tail ...[]byte) testExtension {
	var b cryptobyte.Builder
	sequence(&b, func(b *cryptobyte.Builder) {
		if names != nil {
			b.AddASN1(explicitTag(0), func(b *cryptobyte.Builder) {
				b.AddASN1(explicitTag(0), func(b *cryptobyte.Builder) {
					for _, n := range names {
						b.AddBytes(n)
					}
				})
			})
		}
		for _, t := range tail {
			b.AddBytes(t)
		}
	})
	return testExtension{id: oidIssuingPoint, critical: true, value: b.BytesOrPanic()}
}

func flag(n byte) []byte { return []byte{0x80 | n, 1, 0xff} }

func uri(text string) [][]byte { return [][]byte{[]byte(uriName(text))} }

func with(list ...testExtension) func(*testCRL) {
	return func(c *testCRL) { c.extensions = append(c.extensions, list...) }
}

func newTestCRL(t testing.TB, issuer pair, client *http.Client) *CRL {
	t.Helper()
	c, err := NewCRL(testURL, issuer.cert, client, clockAt(noon))
	require.NoError(t, err)
	return c
}

func TestCRLSaysWhatAProperListProves(t *testing.T) {
	issuer := newCA(t, "CA")
	absent := func(c *testCRL) { c.entries[0].serial = big.NewInt(0x2f) }
	reason := func(code int) func(*testCRL) { return func(c *testCRL) { c.entries[0].reason = code } }
	stale := func(c *testCRL) { c.nextUpdate = noon.Add(-time.Second) }
	reasons := issuingPoint(nil, []byte{0x83, 2, 6, 0x40})
	both := func(changes ...func(*testCRL)) func(*testCRL) {
		return func(c *testCRL) {
			for _, change := range changes {
				change(c)
			}
		}
	}
	for name, test := range map[string]struct {
		change func(*testCRL)
		status mobileid.Status
		reason mobileid.Reason
	}{
		"listed":                               {nil, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"listed without a reason":              {reason(noReason), mobileid.StatusRevoked, mobileid.Unspecified},
		"listed for the undefined reason 7":    {reason(7), mobileid.StatusRevoked, ""},
		"on hold":                              {reason(6), mobileid.StatusOnHold, mobileid.CertificateHold},
		"on hold in a stale CRL":               {both(reason(6), stale), mobileid.StatusUnknown, mobileid.CertificateHold},
		"removeFromCRL":                        {reason(8), mobileid.StatusUnknown, mobileid.RemoveFromCRL},
		"listed in a stale CRL":                {stale, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"absent":                               {absent, mobileid.StatusGood, ""},
		"absent from an empty CRL":             {func(c *testCRL) { c.entries = nil }, mobileid.StatusGood, ""},
		"absent from a stale CRL":              {both(absent, stale), mobileid.StatusUnknown, ""},
		"absent from a CRL without nextUpdate": {both(absent, func(c *testCRL) { c.nextUpdate = time.Time{} }), mobileid.StatusUnknown, ""},
		"user certificates only":               {with(issuingPoint(nil, flag(1))), mobileid.StatusRevoked, mobileid.KeyCompromise},
		"absent, user certificates only":       {both(absent, with(issuingPoint(nil, flag(1)))), mobileid.StatusGood, ""},
		"some reasons, listed":                 {with(reasons), mobileid.StatusRevoked, mobileid.KeyCompromise},
		"some reasons, absent":                 {both(absent, with(reasons)), mobileid.StatusUnknown, ""},
		"the configured distribution point":    {with(issuingPoint(uri(testURL))), mobileid.StatusRevoked, mobileid.KeyCompromise},
		"one of its distribution points":       {with(issuingPoint(append(uri("ldap://x/"), uri(testURL)...))), mobileid.StatusRevoked, mobileid.KeyCompromise},
		"thisUpdate within the tolerance":      {func(c *testCRL) { c.thisUpdate = noon.Add(4 * time.Minute) }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"invalidity date, critical":            {func(c *testCRL) { c.entries[0].extensions = []testExtension{{oidInvalidityDate, true, []byte("x")}} }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"twice, hold last":                     {func(c *testCRL) { c.entries = append(c.entries, testEntry{serial: big.NewInt(userSerial), reason: 6}) }, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"twice, hold first": {func(c *testCRL) {
			c.entries = append([]testEntry{{serial: big.NewInt(userSerial), reason: 6}}, c.entries...)
		}, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"beside serials that nobody can have": {func(c *testCRL) {
			c.entries = append(c.entries, testEntry{serial: big.NewInt(-5), reason: 1}, testEntry{serial: new(big.Int).Lsh(big.NewInt(1), 200), reason: 1})
		}, mobileid.StatusRevoked, mobileid.KeyCompromise},
		"explicit false flags":                   {with(issuingPoint(nil, []byte{0x82, 1, 0}, []byte{0x84, 1, 0})), mobileid.StatusRevoked, mobileid.KeyCompromise},
		"beside an unknown uncritical extension": {with(testExtension{id: unknownCritical.id, value: []byte{5, 0}}), mobileid.StatusRevoked, mobileid.KeyCompromise},
	} {
		t.Run(name, func(t *testing.T) {
			der := revokedCRL(issuer, test.change).marshal(t)
			for form, document := range map[string][]byte{
				"DER": der,
				"PEM": pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}),
			} {
				c := newTestCRL(t, issuer, serving(document))
				evidence, err := c.Check(t.Context(), userOf(issuer))
				require.NoError(t, err, form)
				require.Equal(t, test.status, evidence.Status, form)
				require.Equal(t, test.reason, evidence.Reason, form)
				require.Equal(t, "1a", evidence.Proof.Number)
				require.Equal(t, mobileid.HashName(der), evidence.Proof.SHA256, "the hash is that of the DER, as %s", form)
			}
		})
	}
}

func TestCRLRefusesWhatProvesNothing(t *testing.T) {
	issuer := newCA(t, "CA")
	sameName := newCA(t, "CA")
	other := newCA(t, "Other CA")
	entryExtension := func(e testExtension) func(*testCRL) {
		return func(c *testCRL) { c.entries = append(c.entries, testEntry{big.NewInt(0x2f), 1, []testExtension{e}}) }
	}
	for name, test := range map[string]struct {
		change func(*testCRL)
		kind   Kind
		words  string
	}{
		"another issuer":                   {func(c *testCRL) { c.signer, c.issuer = other, other.cert.RawSubject }, Unsupported, "another issuer"},
		"another issuer of the same name":  {func(c *testCRL) { c.signer = sameName }, Unsupported, "not signed by the CA"},
		"our signature, another name":      {func(c *testCRL) { c.issuer = other.cert.RawSubject }, Unsupported, "another issuer"},
		"signature over something else":    {func(c *testCRL) { c.damage = true }, Unsupported, "not signed by the CA"},
		"signed with SHA-1":                {func(c *testCRL) { c.algorithm, c.inner = ecdsaSHA1, ecdsaSHA1 }, Unsupported, "SHA-1"},
		"two signature algorithms":         {func(c *testCRL) { c.inner = ecdsaSHA1 }, Unsupported, "two signature algorithms"},
		"CA certificates only":             {with(issuingPoint(nil, flag(2))), Unsupported, "CA certificates only"},
		"attribute certificates only":      {with(issuingPoint(nil, flag(5))), Unsupported, "attribute certificates only"},
		"another distribution point":       {with(issuingPoint(uri(testURL + "/2"))), Unsupported, "another distribution point"},
		"a point that is no URL":           {with(issuingPoint([][]byte{append([]byte{0xa4, byte(len(issuer.cert.RawSubject))}, issuer.cert.RawSubject...)})), Unsupported, "another distribution point"},
		"a delta CRL":                      {with(testExtension{oidDeltaCRLIndicator, true, []byte{2, 1, 1}}), Unsupported, "delta"},
		"an indirect CRL":                  {with(issuingPoint(nil, flag(4))), Unsupported, "indirect"},
		"an entry of another issuer":       {entryExtension(testExtension{oidCertificateIssuer, true, []byte{0x30, 0}}), Unsupported, "indirect"},
		"unknown critical extension":       {with(unknownCritical), Unsupported, "critical"},
		"unknown critical entry extension": {entryExtension(unknownCritical), Unsupported, "critical"},
		"an extension twice":               {with(issuingPoint(nil), issuingPoint(nil)), Unsupported, "twice"},
		"no number":                        {func(c *testCRL) { c.number = nil }, Unsupported, "no number"},
		"a negative number":                {func(c *testCRL) { c.number = big.NewInt(-1) }, Unavailable, "number"},
		"future thisUpdate":                {func(c *testCRL) { c.thisUpdate = noon.Add(6 * time.Minute) }, Unavailable, "future"},
		"a scope that cannot be read":      {with(testExtension{oidIssuingPoint, true, []byte{0x30, 3, 0x82, 1, 7}}), Unavailable, "scope"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCRL(t, issuer, serving(revokedCRL(issuer, test.change).marshal(t)))
			evidence, err := c.Check(t.Context(), userOf(issuer))
			require.Contains(t, requireKind(t, test.kind, err).Error(), test.words)
			require.Equal(t, mobileid.StatusUnknown, evidence.Status)
		})
	}
}

func TestCRLThatCannotBeRead(t *testing.T) {
	issuer := newCA(t, "CA")
	der := revokedCRL(issuer, nil).marshal(t)
	for name, document := range map[string]string{
		"nothing":               "",
		"a proxy's page":        "<html>back soon</html>",
		"cut":                   string(der[:len(der)-5]),
		"bytes after it":        string(der) + "\x00",
		"PEM of something else": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.cert.Raw})),
		"PEM that is cut":       "-----BEGIN X509 CRL-----\nMII",
		"a certificate":         string(issuer.cert.Raw),
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCRL(t, issuer, serving([]byte(document)))
			evidence, err := c.Check(t.Context(), userOf(issuer))
			requireKind(t, Unavailable, err)
			require.Equal(t, mobileid.StatusUnknown, evidence.Status)
			require.True(t, c.NextUpdate().IsZero())
		})
	}
}

func TestCRLNeedsAnIssuerThatMaySignIt(t *testing.T) {
	issuer := certify(t, x509.Certificate{
		Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	c := newTestCRL(t, issuer, serving(revokedCRL(issuer, nil).marshal(t)))
	_, err := c.Check(t.Context(), userOf(issuer))
	require.ErrorContains(t, err, "cRLSign")
}

// The distribution points in the certificate count before the configured URL.
func TestCRLDistributionPointOfTheCertificate(t *testing.T) {
	issuer := newCA(t, "CA")
	const own = "http://pki.example/partition-7"
	user := certify(t, x509.Certificate{
		SerialNumber: big.NewInt(userSerial), Subject: pkix.Name{CommonName: "Anna"}, CRLDistributionPoints: []string{own},
	}, &issuer)
	cert := userOf(issuer)
	cert.DER = user.cert.Raw
	for name, test := range map[string]struct {
		point string
		ok    bool
	}{
		"the certificate's":    {own, true},
		"the configured alone": {testURL, false},
		"neither":              {own + "0", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCRL(t, issuer, serving(revokedCRL(issuer, with(issuingPoint(uri(test.point)))).marshal(t)))
			evidence, err := c.Check(t.Context(), cert)
			require.Equal(t, test.ok, err == nil, "%v", err)
			require.Equal(t, test.ok, evidence.Status == mobileid.StatusRevoked)
		})
	}
}

func TestCRLSerialExtremes(t *testing.T) {
	issuer := newCA(t, "CA")
	texts := []string{"1", "f", "7f", "80", "ff", "100", "abc", "7fffffffffffffffffffffffffffffffffffffff", "ffffffffffffffffffffffffffffffffffffffff", "123456789012"}
	for i, text := range texts {
		t.Run(text, func(t *testing.T) {
			serial, err := mobileid.ParseSerial(text)
			require.NoError(t, err)
			der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
				Number: big.NewInt(1), ThisUpdate: noon, NextUpdate: noon.Add(time.Hour),
				RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: serial, RevocationTime: noon, ReasonCode: 4}},
			}, issuer.cert, issuer.key)
			require.NoError(t, err)
			c := newTestCRL(t, issuer, serving(der))
			for k, asked := range texts {
				other, err := mobileid.ParseSerial(asked)
				require.NoError(t, err)
				evidence, err := c.Check(t.Context(), certificateOf(issuer, other))
				require.NoError(t, err)
				require.Equal(t, i == k, evidence.Status == mobileid.StatusRevoked, asked)
			}
		})
	}
}

// The bytes of a negative number are those of a positive one without its leading
// zero.
func TestCRLNegativeSerialIsNobodys(t *testing.T) {
	issuer := newCA(t, "CA")
	c := newTestCRL(t, issuer, serving(revokedCRL(issuer, func(c *testCRL) {
		c.entries = []testEntry{{serial: big.NewInt(-31), reason: 1}}
	}).marshal(t)))
	evidence, err := c.Check(t.Context(), certificateOf(issuer, big.NewInt(256-31)))
	require.NoError(t, err)
	require.Equal(t, mobileid.StatusGood, evidence.Status)
}

// crlServer is a server of one CRL at a time that knows conditional requests.
type crlServer struct {
	mu        sync.Mutex
	document  []byte
	etag      string
	code      int
	downloads atomic.Int32
	unchanged atomic.Int32
	abandoned atomic.Int32
	hold      chan struct{} // if set, every answer waits for it
}

func (s *crlServer) serve(document []byte, etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.document, s.etag, s.code = document, etag, http.StatusOK
}

func (s *crlServer) fail(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = code
}

func (s *crlServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-r.Context().Done():
			s.abandoned.Add(1)
			return nil, r.Context().Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.code != http.StatusOK:
		return httpAnswer(s.code, nil), nil
	case s.etag != "" && r.Header.Get("If-None-Match") == s.etag && r.Header.Get("If-Modified-Since") != "":
		s.unchanged.Add(1)
		return httpAnswer(http.StatusNotModified, nil), nil
	}
	s.downloads.Add(1)
	return httpAnswer(http.StatusOK, s.document, "ETag", s.etag, "Last-Modified", noon.Format(http.TimeFormat)), nil
}

func numbered(t *testing.T, issuer pair, number int64, listed bool) []byte {
	return revokedCRL(issuer, func(c *testCRL) {
		c.number = big.NewInt(number)
		if !listed {
			c.entries = nil
		}
	}).marshal(t)
}

func TestCRLIsReadAgainOnlyIfItChanged(t *testing.T) {
	issuer := newCA(t, "CA")
	server := &crlServer{}
	c := newTestCRL(t, issuer, &http.Client{Transport: server})
	check := func() Evidence {
		evidence, err := c.Check(t.Context(), userOf(issuer))
		require.NoError(t, err)
		return evidence
	}
	require.True(t, c.NextUpdate().IsZero())
	server.serve(numbered(t, issuer, 1, false), `"1"`)
	require.Equal(t, mobileid.StatusGood, check().Status)
	first := c.current
	require.Equal(t, mobileid.StatusGood, check().Status)
	require.EqualValues(t, 1, server.downloads.Load())
	require.EqualValues(t, 1, server.unchanged.Load())
	require.Same(t, first, c.current)
	require.Equal(t, noon.Add(time.Hour), c.NextUpdate())

	server.serve(numbered(t, issuer, 2, true), `"2"`)
	require.Equal(t, mobileid.StatusRevoked, check().Status)
	require.EqualValues(t, 2, server.downloads.Load())
}

func TestCRLNumberNeverGoesBack(t *testing.T) {
	issuer := newCA(t, "CA")
	server := &crlServer{}
	c := newTestCRL(t, issuer, &http.Client{Transport: server})
	older, newer := numbered(t, issuer, 0x10, false), numbered(t, issuer, 0x11, false)
	server.serve(newer, `"11"`)
	_, err := c.Check(t.Context(), userOf(issuer))
	require.NoError(t, err)

	server.serve(older, `"10"`)
	for range 2 { // the second time as well: nothing of the older one was kept
		evidence, err := c.Check(t.Context(), userOf(issuer))
		requireKind(t, Unavailable, err)
		var number *NumberError
		require.ErrorAs(t, err, &number)
		require.Equal(t, "the CRL has number 10, after 11 was seen", number.Error())
		require.Equal(t, mobileid.StatusUnknown, evidence.Status)
	}
	server.serve(newer, `"11"`)
	evidence, err := c.Check(t.Context(), userOf(issuer))
	require.NoError(t, err)
	require.Equal(t, "11", evidence.Proof.Number)

	resigned := revokedCRL(issuer, func(c *testCRL) { c.number = big.NewInt(0x11); c.thisUpdate = noon.Add(-time.Hour) }).marshal(t)
	server.serve(resigned, `"11b"`)
	_, err = c.Check(t.Context(), userOf(issuer))
	var number *NumberError
	require.ErrorAs(t, err, &number, "one of the same number and an earlier thisUpdate is older too")
}

func TestCRLThatListedItStaysProof(t *testing.T) {
	issuer := newCA(t, "CA")
	server := &crlServer{}
	c := newTestCRL(t, issuer, &http.Client{Transport: server})
	server.serve(numbered(t, issuer, 2, true), `"2"`)
	_, err := c.Check(t.Context(), userOf(issuer))
	require.NoError(t, err)
	for name, spoil := range map[string]func(){
		"server down": func() { server.fail(http.StatusBadGateway) },
		"older CRL":   func() { server.serve(numbered(t, issuer, 1, false), `"1"`) },
		"garbage":     func() { server.serve([]byte("garbage"), `"g"`) },
	} {
		t.Run(name, func(t *testing.T) {
			spoil()
			evidence, err := c.Check(t.Context(), userOf(issuer))
			require.NoError(t, err)
			require.Equal(t, mobileid.StatusRevoked, evidence.Status)
			evidence, err = c.Check(t.Context(), certificateOf(issuer, big.NewInt(0x2f)))
			require.Error(t, err, "that another is not listed is not known any more")
			require.Equal(t, mobileid.StatusUnknown, evidence.Status)
		})
	}
}

func TestCRLNotModifiedBeforeAnyWasRead(t *testing.T) {
	issuer := newCA(t, "CA")
	server := &crlServer{code: http.StatusNotModified}
	c := newTestCRL(t, issuer, &http.Client{Transport: server})
	_, err := c.Check(t.Context(), userOf(issuer))
	requireKind(t, Unsupported, err)
}

func TestCRLHundredChecksOneDownload(t *testing.T) {
	issuer := newCA(t, "CA")
	server := &crlServer{hold: make(chan struct{})}
	server.serve(numbered(t, issuer, 1, true), `"1"`)
	c := newTestCRL(t, issuer, &http.Client{Transport: server})

	// The one that starts the download gives up; the others get it all the same.
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Check(impatient, userOf(issuer))
	require.ErrorIs(t, err, context.Canceled)
	requireKind(t, Unavailable, err)

	const callers = 100
	var ready, group sync.WaitGroup
	var revoked atomic.Int32
	ready.Add(callers)
	for range callers {
		group.Go(func() {
			ready.Done()
			evidence, err := c.Check(context.Background(), userOf(issuer))
			if err == nil && evidence.Status == mobileid.StatusRevoked {
				revoked.Add(1)
			}
		})
	}
	ready.Wait()
	close(server.hold)
	group.Wait()
	require.EqualValues(t, callers, revoked.Load())
	require.EqualValues(t, 1, server.downloads.Load())
	require.Zero(t, server.abandoned.Load())
}

// endless is a body without end that counts what was read of it.
type endless struct{ read atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.read.Add(int64(len(p)))
	return len(p), nil
}

func TestCRLOversize(t *testing.T) {
	issuer := newCA(t, "CA")
	for name, length := range map[string]int64{"announced": maxCRLBytes + 1, "not announced": -1} {
		t.Run(name, func(t *testing.T) {
			body := &endless{}
			client := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, ContentLength: length, Body: io.NopCloser(body)}, nil
			})}
			_, err := newTestCRL(t, issuer, client).Check(t.Context(), userOf(issuer))
			require.Contains(t, requireKind(t, Unsupported, err).Error(), "more than 67108864 bytes")
			if length > 0 {
				require.Zero(t, body.read.Load())
			}
			require.LessOrEqual(t, body.read.Load(), int64(maxCRLBytes+1))
		})
	}
}

func TestCRLServerErrors(t *testing.T) {
	issuer := newCA(t, "CA")
	for code, kind := range map[int]Kind{500: Unavailable, 503: Unavailable, 429: Unavailable, 408: Unavailable, 404: Unsupported, 403: Unsupported, 204: Unsupported} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			c := newTestCRL(t, issuer, &http.Client{Transport: &crlServer{code: code}})
			_, err := c.Check(t.Context(), userOf(issuer))
			require.True(t, strings.Contains(requireKind(t, kind, err).Words, "HTTP"))
		})
	}
	broken := errors.New("reset")
	c := newTestCRL(t, issuer, &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, broken })})
	_, err := c.Check(t.Context(), userOf(issuer))
	requireKind(t, Unavailable, err)
	require.ErrorIs(t, err, broken)
}

func FuzzCRL(f *testing.F) {
	issuer := newCA(f, "CA")
	f.Add(revokedCRL(issuer, nil).marshal(f))
	f.Add(revokedCRL(issuer, with(issuingPoint(uri(testURL), flag(1)))).marshal(f))
	f.Add(revokedCRL(issuer, with(unknownCritical)).marshal(f))
	f.Add([]byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, document []byte) {
		der, err := decodeCRL(document)
		if err != nil {
			return
		}
		// Entries and scope are read here without a signature, which no fuzzer finds.
		parsed, err := parseCRL(der)
		if err != nil {
			return
		}
		parsed.scope.covers(Certificate{}, testURL)
		entries, err := indexEntries(parsed.revoked)
		if err == nil {
			require.LessOrEqual(t, len(entries), len(document))
		}
	})
}

// bigCRL lists n certificates with 20-byte serials.
func bigCRL(b *testing.B, issuer pair, n int) []byte {
	b.Helper()
	c := revokedCRL(issuer, nil)
	high := new(big.Int).Lsh(big.NewInt(1), 158)
	for i := range n - 1 {
		c.entries = append(c.entries, testEntry{serial: new(big.Int).Add(high, big.NewInt(int64(i))), reason: 1})
	}
	return c.marshal(b)
}

func BenchmarkCRL(b *testing.B) {
	issuer := newCA(b, "CA")
	for _, n := range []int{1e3, 1e4, 1e5, 1e6} {
		der := bigCRL(b, issuer, n)
		if len(der) > maxCRLBytes {
			b.Fatalf("%d entries take %d bytes", n, len(der))
		}
		b.Run(fmt.Sprintf("read/%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(der)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := newRevocationList(der, issuer.cert); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("check/%d", n), func(b *testing.B) {
			server := &crlServer{}
			server.serve(der, `"1"`)
			c := newTestCRL(b, issuer, &http.Client{Transport: server})
			cert := userOf(issuer)
			if _, err := c.Check(context.Background(), cert); err != nil { // the download
				b.Fatal(err)
			}
			for b.Loop() {
				if e, err := c.Check(context.Background(), cert); err != nil || e.Status != mobileid.StatusRevoked {
					b.Fatal(e, err)
				}
			}
		})
		b.Run(fmt.Sprintf("lookup/%d", n), func(b *testing.B) {
			list, err := newRevocationList(der, issuer.cert)
			if err != nil {
				b.Fatal(err)
			}
			key, err := newSerialKey(userOf(issuer).Serial)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if list.evidence(key, noon).Status != mobileid.StatusRevoked {
					b.Fatal("not found")
				}
			}
		})
	}
}
