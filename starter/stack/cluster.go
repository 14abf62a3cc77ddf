package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"mobileid/starter/stack/postgres"
)

// Cluster is Temporal's production server on PostgreSQL, all of its services in
// one process, with a private PostgreSQL server.
type Cluster struct {
	Server  string // the program of go.temporal.io/server/cmd/server
	SQLTool string // the program of go.temporal.io/server/cmd/tools/sql
}

const (
	temporalDatabase   = "temporal"
	visibilityDatabase = "temporal_visibility"
	imDatabase         = "mobileid"

	// historyShards is what a small production cluster has; it cannot be changed later.
	historyShards = 4
	retention     = 72 * time.Hour
)

func (s *Stack) startCluster(ctx context.Context) error {
	var err error
	if s.postgres, err = postgres.Start(); err != nil { //nolint:contextcheck // it outlives the start
		return err
	}
	if err := s.postgres.CreateDatabase(ctx, imDatabase); err != nil {
		return err
	}
	for database, schema := range map[string]string{temporalDatabase: "postgresql/v12/temporal", visibilityDatabase: "postgresql/v12/visibility"} {
		if err := s.makeSchema(ctx, database, schema); err != nil {
			return err
		}
	}
	config, err := s.writeClusterConfig()
	if err != nil {
		return err
	}
	p, err := s.spawn("temporal", s.options.Cluster.Server, []string{"--config-file", config, "--allow-no-auth", "start"}, nil)
	if err != nil {
		return err
	}
	return p.await(ctx, func(ctx context.Context) bool { return s.registerNamespace(ctx) == nil })
}

// Databases are the URLs of all databases in the private PostgreSQL server, by name;
// none if there is no such server.
func (s *Stack) Databases() map[string]string {
	if s.postgres == nil {
		return nil
	}
	urls := map[string]string{}
	for _, name := range []string{imDatabase, temporalDatabase, visibilityDatabase} {
		urls[name] = s.postgres.URL(name)
	}
	return urls
}

// PostgresLog is the log of the private PostgreSQL server; empty if there is none.
func (s *Stack) PostgresLog() string {
	if s.postgres == nil {
		return ""
	}
	return s.postgres.Log()
}

// makeSchema makes a database of Temporal with its SQL tool.
func (s *Stack) makeSchema(ctx context.Context, database, schema string) error {
	host, port, _ := strings.Cut(s.postgres.Address(), ":")
	for _, args := range [][]string{{"create-database"}, {"setup-schema", "--version", "0.0"}, {"update-schema", "--schema-name", schema}} {
		common := []string{"--plugin", "postgres12_pgx", "--endpoint", host, "--port", port, "--user", s.postgres.User(), "--database", database}
		output, err := exec.CommandContext(ctx, s.options.Cluster.SQLTool, append(common, args...)...).CombinedOutput() //nolint:gosec // the program that the caller names
		if err != nil {
			return fmt.Errorf("temporal-sql-tool %s of %s: %w\n%s", args[0], database, err, output)
		}
	}
	return nil
}

// writeClusterConfig writes the server's configuration. JSON is YAML.
func (s *Stack) writeClusterConfig() (string, error) {
	ports, err := lowPorts(8)
	if err != nil {
		return "", err
	}
	s.TemporalAddress = "127.0.0.1:" + ports[0]
	store, err := s.via("postgres", s.postgres.Address())
	if err != nil {
		return "", err
	}
	sql := func(database string) map[string]any {
		return map[string]any{"sql": map[string]any{
			"pluginName": "postgres12_pgx", "databaseName": database, "connectAddr": store, "connectProtocol": "tcp",
			"user": s.postgres.User(), "password": "", "maxConns": 40, "maxIdleConns": 40, "maxConnLifetime": "1h",
		}}
	}
	services := map[string]any{}
	for i, service := range []string{"frontend", "history", "matching", "worker"} {
		services[service] = map[string]any{"rpc": map[string]any{
			"grpcPort": json.Number(ports[2*i]), "membershipPort": json.Number(ports[2*i+1]), "bindOnIP": "127.0.0.1",
		}}
	}
	text, err := json.MarshalIndent(map[string]any{
		"log": map[string]any{"stdout": true, "level": "error"},
		"persistence": map[string]any{
			"numHistoryShards": historyShards, "defaultStore": "default", "visibilityStore": "visibility",
			"datastores": map[string]any{"default": sql(temporalDatabase), "visibility": sql(visibilityDatabase)},
		},
		"global":   map[string]any{"membership": map[string]any{"maxJoinDuration": "30s", "broadcastAddress": "127.0.0.1"}},
		"services": services,
		"clusterMetadata": map[string]any{
			"enableGlobalNamespace": false, "failoverVersionIncrement": 10, "masterClusterName": "active", "currentClusterName": "active",
			"clusterInformation": map[string]any{"active": map[string]any{
				"enabled": true, "initialFailoverVersion": 1, "rpcName": "frontend", "rpcAddress": s.TemporalAddress,
			}},
		},
		"publicClient":        map[string]any{"hostPort": s.TemporalAddress},
		"dcRedirectionPolicy": map[string]any{"policy": "noop"},
	}, "", "  ")
	if err != nil {
		return "", err
	}
	file := filepath.Join(s.Dir, "temporal-server.yaml")
	return file, os.WriteFile(file, append(text, '\n'), 0o600)
}

// lowPorts finds free ports that fit into 15 bits: Temporal keeps those of its
// services in PostgreSQL as int2. The system gives out higher ones.
func lowPorts(n int) ([]string, error) {
	const lowest, highest, tries = 15_000, 1<<15 - 1, 1000
	var ports []string
	for range tries {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.N(highest-lowest))) //nolint:gosec // spreads, protects nothing
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }() // all at the end, so that none is found twice
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("no free ports below 32768")
}

// registerNamespace makes the namespace "default", and returns nil once it can be
// used.
func (s *Stack) registerNamespace(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	namespaces, err := client.NewNamespaceClient(client.Options{HostPort: s.TemporalAddress})
	if err != nil {
		return err
	}
	defer namespaces.Close()
	err = namespaces.Register(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: client.DefaultNamespace, WorkflowExecutionRetentionPeriod: durationpb.New(retention),
	})
	var exists *serviceerror.NamespaceAlreadyExists
	if err != nil && !errors.As(err, &exists) {
		return err
	}
	// Its services learn of a namespace at intervals; until then they refuse it.
	temporal, err := client.DialContext(ctx, client.Options{HostPort: s.TemporalAddress})
	if err != nil {
		return err
	}
	defer temporal.Close()
	_, err = temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1})
	return err
}

// Database is the PostgreSQL server of a Cluster, and the URL of Identity Manager's
// database there. It is nil without a Cluster.
func (s *Stack) Database() (server *postgres.Server, url string) {
	if s.postgres == nil {
		return nil, ""
	}
	return s.postgres, s.postgres.URL(imDatabase)
}

// Describe says which Temporal runs, and how durable its data and those of Identity
// Manager are.
func (s *Stack) Describe() (server string, durability map[string]string) {
	if s.postgres == nil {
		return "development server of the temporal program, SQLite", map[string]string{
			"Temporal (SQLite)":         "as the development server sets it",
			"Identity Manager (SQLite)": "journal_mode=WAL, synchronous=FULL",
			"devca":                     "fsync before each answer",
		}
	}
	return "production server on PostgreSQL, all services in one process", map[string]string{
		"PostgreSQL": "fsync=on, synchronous_commit=on, full_page_writes=on",
		"devca":      "fsync before each answer",
	}
}
