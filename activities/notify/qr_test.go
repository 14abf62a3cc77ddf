package notify_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mobileid"
	"mobileid/activities/identitymanager"
	"mobileid/activities/messaging/phone"
)

const secretURI = "com.nexusgroup.plugout:///?url=https%3A%2F%2Fhost%3A20400%2Fhermod%2Frest%2Fms%2Fsecret-1"

// provision brings a Get of anna to where the code can be scanned.
func provision(t testing.TB, s *identitymanager.Store, wait time.Duration) string {
	t.Helper()
	grant, err := s.PutGrant(t.Context(), "anna", "portal", time.Hour)
	require.NoError(t, err)
	process := mobileid.Process{Name: "MobileIDSelfServiceProcGet", WorkflowID: "MobileIDSelfServiceProcGet/anna", RunID: "run-1"}
	_, err = s.Register(t.Context(), mobileid.RegistrationOrder{
		MobileID: grant.MobileID, UserID: "anna", Name: "MobileID anna", Process: process, RequestedAt: time.Now(),
	})
	require.NoError(t, err)
	require.NoError(t, s.PutProvisioning(t.Context(), mobileid.Provisioning{
		MobileID: grant.MobileID, UserID: "anna", WorkflowID: process.WorkflowID, CommandID: "command-1",
		Nonce: "nonce", URI: secretURI, ExpiresAt: time.Now().Add(wait),
	}))
	return grant.MobileID
}

// picture finds the image of a mail.
func picture(t testing.TB, content []byte) []byte {
	t.Helper()
	message, err := netmail.ReadMessage(bytes.NewReader(content))
	require.NoError(t, err)
	found := imageIn(t, message.Header.Get("Content-Type"), message.Body)
	require.NotEmpty(t, found)
	return found
}

func imageIn(t testing.TB, kind string, body io.Reader) []byte {
	t.Helper()
	_, parameters, err := mime.ParseMediaType(kind)
	require.NoError(t, err)
	parts := multipart.NewReader(body, parameters["boundary"])
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		require.NoError(t, err)
		switch inner := part.Header.Get("Content-Type"); {
		case strings.HasPrefix(inner, "multipart/"):
			if found := imageIn(t, inner, part); found != nil {
				return found
			}
		case strings.HasPrefix(inner, "image/png"):
			require.Equal(t, "base64", part.Header.Get("Content-Transfer-Encoding"))
			found, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, part))
			require.NoError(t, err)
			return found
		}
	}
}

// The code comes to the main address, as a picture that a phone reads.
func TestCodeIsSent(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *identitymanager.Store, _ identitymanager.Options) {
		server, log := startServer(t), &logged{}
		run(t, s, patient(server.sender(t), log.logger()))
		provision(t, s, time.Hour)
		awaitEmpty(t, s)
		mails := server.mails()
		requireEachOnce(t, mails, 1)
		require.Equal(t, "anna@example.com", mails[0].to)
		code, err := phone.ReadPNG(bytes.NewReader(picture(t, mails[0].content)))
		require.NoError(t, err)
		require.Equal(t, secretURI, code)
		require.NotContains(t, string(mails[0].content), "secret-1", "it stands in the picture alone")
		require.NotContains(t, log.String(), "secret-1")
	})
}

// A code that is used, or over, by the time the server is there again is not sent.
func TestCodeThatIsOfNoUseIsDropped(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, s *identitymanager.Store, id string){
		"answered": func(t *testing.T, s *identitymanager.Store, _ string) {
			_, err := s.Deliver(t.Context(), "command-1", identitymanager.KindProvision, []byte("{}"))
			require.NoError(t, err)
		},
		"deleted": func(t *testing.T, s *identitymanager.Store, id string) {
			require.NoError(t, s.ForgetSecrets(t.Context(), id))
		},
		"another one": func(t *testing.T, s *identitymanager.Store, id string) {
			require.NoError(t, s.PutProvisioning(t.Context(), mobileid.Provisioning{
				MobileID: id, UserID: "anna", WorkflowID: "x", CommandID: "command-2", Nonce: "nonce", URI: "com.nexusgroup.plugout:///?url=other", ExpiresAt: time.Now().Add(time.Hour),
			}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, s *identitymanager.Store, _ identitymanager.Options) {
				server, log := startServer(t), &logged{}
				id := provision(t, s, time.Hour)
				spoil(t, s, id)
				run(t, s, patient(server.sender(t), log.logger()))
				awaitEmpty(t, s)
				require.Contains(t, log.String(), "Mail is dropped")
				for _, m := range server.mails() {
					code, err := phone.ReadPNG(bytes.NewReader(picture(t, m.content)))
					require.NoError(t, err)
					require.NotEqual(t, secretURI, code)
				}
			})
		})
	}
}
