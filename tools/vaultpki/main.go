// Vault-pki is the PKI secrets engine of HashiCorp Vault (MPL-2.0) behind a small
// HTTPS server, for tests of the driver: the same paths, headers, JSON and HTTP
// status codes as Vault has, one mount "pki", one token, and all data in memory.
//
// It listens on loopback, prints its address as the only line, and ends when its
// standard input does.
//
//	vault-pki -cert tls.pem -key tls.key -token TOKEN
package main

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

const (
	mount   = "/v1/pki/"
	maxBody = 1 << 20
	longest = 20 * 365 * 24 * time.Hour
)

func main() {
	certFile := flag.String("cert", "", "PEM file with the server's certificate")
	keyFile := flag.String("key", "", "PEM file with its key")
	token := flag.String("token", "", "the token that is let in")
	flag.Parse()
	if err := run(*certFile, *keyFile, *token); err != nil {
		log.Fatal(err)
	}
}

func run(certFile, keyFile, token string) error {
	ctx := context.Background()
	storage := &logical.InmemStorage{}
	backend, err := pki.Factory(ctx, &logical.BackendConfig{
		Logger:      hclog.NewNullLogger(),
		StorageView: storage,
		BackendUUID: "vault-pki",
		System: &logical.StaticSystemView{
			DefaultLeaseTTLVal: longest, MaxLeaseTTLVal: longest,
			LocalMountVal: true, ReplicationStateVal: consts.ReplicationPerformanceDisabled,
		},
	})
	if err != nil {
		return err
	}
	if err := backend.Initialize(ctx, &logical.InitializationRequest{Storage: storage}); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("https://" + listener.Addr().String())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	server := &http.Server{
		Handler: handler{backend, storage, token}, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
	}
	return server.ServeTLS(listener, certFile, keyFile)
}

type handler struct {
	backend logical.Backend
	storage logical.Storage
	token   string
}

// open are the paths that Vault answers without a token, as the engine says.
func (h handler) open(path string) bool {
	for _, pattern := range h.backend.SpecialPaths().Unauthenticated {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(path, prefix) || pattern == path {
			return true
		}
		if matches(pattern, path) {
			return true
		}
	}
	return false
}

// matches compares with a pattern in which + stands for one segment.
func matches(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != "+" && want[i] != got[i] {
			return false
		}
	}
	return true
}

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, mount)
	if !ok {
		fail(w, http.StatusNotFound, "no handler for route \""+strings.TrimPrefix(r.URL.Path, "/v1/")+"\". route entry not found.")
		return
	}
	if !h.open(path) && subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Vault-Token")), []byte(h.token)) != 1 {
		fail(w, http.StatusForbidden, "permission denied")
		return
	}
	request := &logical.Request{
		Path: path, Storage: h.storage, MountPoint: "pki/", ClientToken: r.Header.Get("X-Vault-Token"), Data: map[string]any{},
		HTTPRequest: r, Connection: &logical.Connection{RemoteAddr: "127.0.0.1"},
	}
	switch r.Method {
	case http.MethodGet:
		request.Operation = logical.ReadOperation
		for name, values := range r.URL.Query() {
			request.Data[name] = values[0]
		}
	case "LIST":
		request.Operation = logical.ListOperation
	case http.MethodPost, http.MethodPut:
		request.Operation = logical.UpdateOperation
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if r.Header.Get("Content-Type") != "application/ocsp-request" {
			if err := json.NewDecoder(r.Body).Decode(&request.Data); err != nil && !errors.Is(err, io.EOF) {
				fail(w, http.StatusBadRequest, "failed to parse JSON input: "+err.Error())
				return
			}
		}
	default:
		fail(w, http.StatusMethodNotAllowed)
		return
	}
	answer(w, request, h.handle(r.Context(), request))
}

type outcome struct {
	response *logical.Response
	err      error
}

func (h handler) handle(ctx context.Context, request *logical.Request) outcome {
	response, err := h.backend.HandleRequest(ctx, request)
	return outcome{response, err}
}

// answer writes what Vault's HTTP layer makes of an engine's answer.
func answer(w http.ResponseWriter, request *logical.Request, o outcome) {
	if code, err := logical.RespondErrorCommon(request, o.response, o.err); err != nil || code != 0 {
		if code == 0 {
			code = http.StatusInternalServerError
		}
		var warnings []string
		if o.response != nil {
			warnings = o.response.Warnings
		}
		failWith(w, code, warnings, err)
		return
	}
	if o.response == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if kind, raw := o.response.Data[logical.HTTPContentType].(string); raw {
		code, ok := o.response.Data[logical.HTTPStatusCode].(int)
		if !ok {
			code = http.StatusOK
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		switch body := o.response.Data[logical.HTTPRawBody].(type) {
		case []byte:
			_, _ = w.Write(body)
		case string:
			_, _ = io.WriteString(w, body)
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	data := o.response.Data
	if len(data) == 0 {
		data = nil
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"request_id": "", "lease_id": "", "renewable": false, "lease_duration": 0, "data": data, "wrap_info": nil,
		"warnings": o.response.Warnings, "auth": nil,
	})
}

func fail(w http.ResponseWriter, code int, messages ...string) {
	var errs error
	for _, m := range messages {
		errs = errors.Join(errs, errors.New(m))
	}
	failWith(w, code, nil, errs)
}

func failWith(w http.ResponseWriter, code int, warnings []string, err error) {
	messages := []string{}
	if err != nil {
		messages = append(messages, err.Error())
	}
	body := map[string]any{"errors": messages}
	if len(warnings) > 0 {
		body["warnings"] = warnings
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
