package pages

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/starter/selfservice/desk"
)

// A certificate that had expired is not revoked any more: nobody is to wait for it.
func TestReceiptOfExpiredCertificate(t *testing.T) {
	r, err := newRenderer()
	require.NoError(t, err)
	page := receiptPage{shownID: lost, Reference: "mid-1001/1", Owner: "Anna", Progress: desk.Progress{
		RequestedAt: noon, LockedAt: noon, RevokedAt: noon, VisibleAt: noon, Certificates: []mobileid.CertificateResult{
			{CertificateID: mobileid.CertificateID{Serial: "a1"}, IssuerDN: "CN=CA", Outcome: mobileid.OutcomeExpiredNotRevoked, StateInIM: mobileid.CertificateExpired},
			{
				CertificateID: mobileid.CertificateID{Serial: "a2"}, IssuerDN: "CN=CA", Outcome: mobileid.OutcomeRevoked, StateInIM: mobileid.CertificateRevoked,
				RevokedAt: noon, VisibleAt: noon, Proof: []mobileid.Proof{{Source: mobileid.ProofFromOCSP, At: noon, SHA256: "cd"}},
			},
		},
	}}
	var text strings.Builder
	r.text(&text, page)
	require.Contains(t, text.String(), `
Certificate a1
  Issuer   CN=CA
  State    expired

Certificate a2
  Issuer   CN=CA
  State    revoked
  Revoked  2026-03-02T12:00:00Z
  Visible  2026-03-02T12:00:00Z
  Proof    OCSP, 2026-03-02T12:00:00Z, SHA-256 cd
`)
	w := httptest.NewRecorder()
	r.page(w, http.StatusOK, "receipt", view{Page: page})
	require.Contains(t, w.Body.String(), "expired")
	require.NotContains(t, w.Body.String(), "not yet")
}
