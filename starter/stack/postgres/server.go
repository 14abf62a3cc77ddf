// Package postgres runs a private PostgreSQL server from the programs that are
// installed, with durable settings (fsync on). It ends when this process does,
// however this one ends; then its data are removed.
//
// PostgreSQL refuses to run as root: then it runs as user postgres, or nobody.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience is how long the server may take to start or to recover.
const patience = 60 * time.Second

// superuser is the name of the role that URL names.
const superuser = "postgres"

// Server is a running PostgreSQL server.
type Server struct {
	programs string              // folder of initdb and postgres
	settings []string            // beside the usual ones
	dir      string              // everything that the server writes
	port     string              // on loopback, for programs that know no sockets
	account  *syscall.Credential // whom the server runs as; nil: as this process
	lifeline io.Closer           // closing it, or the end of this process, ends the server

	mu      sync.Mutex // over what follows
	process *exec.Cmd
	exited  chan struct{}
}

// ErrMissing means that PostgreSQL is not installed.
var ErrMissing = errors.New("PostgreSQL is not installed: no initdb and postgres on the PATH or in /usr/lib/postgresql/*/bin")

// Start makes a new server, with empty databases, and returns when it accepts
// connections. The error is ErrMissing if the programs are not installed.
func Start() (*Server, error) { return StartIn("") }

// StartIn is Start with everything that the server writes in a folder below parent,
// which the server's account must be able to reach, and with further settings, each
// as name=value.
func StartIn(parent string, settings ...string) (*Server, error) {
	programs, err := findPrograms()
	if err != nil {
		return nil, err
	}
	return newServer(programs, parent, settings)
}

// Installed reports that the programs are there.
func Installed() bool {
	_, err := findPrograms()
	return err == nil
}

// CreateDatabase creates an empty database: see URL.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.admin(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
}

// DropDatabase removes a database, and ends the connections that use it.
func (s *Server) DropDatabase(ctx context.Context, name string) error {
	return s.admin(ctx, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
}

// Kill ends the server as a power cut would: with SIGKILL. Whatever runs in any
// database breaks off. It must be followed by Restart.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.process.Process.Kill(); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	<-s.exited
	return nil
}

// Stop ends the server in order: it breaks off what runs in any database, and writes
// everything. It must be followed by Restart.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A fast shutdown: see "Shutting Down the Server" in PostgreSQL's manual.
	if err := s.process.Process.Signal(syscall.SIGINT); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	<-s.exited
	return nil
}

// Signal sends a signal to each of the server's processes, the first one first: to
// hold them all (SIGSTOP), and to let them go on (SIGCONT).
func (s *Server) Signal(signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pid := s.process.Process.Pid
	if err := s.process.Process.Signal(signal); err != nil {
		return err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(string(children)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		if err := syscall.Kill(child, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// Program is the path of one of PostgreSQL's client programs, such as pg_dump, of the
// release of the server.
func (s *Server) Program(name string) string { return filepath.Join(s.programs, name) }

// Restart starts the server again after Kill or Stop, under the same URLs, and returns
// when it has recovered.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run()
}

// Revive starts the server again if it has ended by itself, or is about to, as one does
// that has found no space on its disk. A server that runs is left alone.
func (s *Server) Revive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for s.admin(ctx, "SELECT 1") != nil {
		select {
		case <-s.exited:
			return s.run()
		default:
		}
		if !wait(ctx) {
			return errors.New("the server neither answers nor ends")
		}
	}
	return nil
}

// Process is the server's first process, the parent of all others.
func (s *Server) Process() *os.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.Process
}

// Close ends the server and removes its data.
func (s *Server) Close() error {
	err := s.lifeline.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	<-s.exited
	return err
}

// findPrograms returns the folder of PostgreSQL's server programs. Debian keeps
// them off the PATH.
func findPrograms() (string, error) {
	var folders []string
	if found, err := exec.LookPath("initdb"); err == nil {
		// A link leads to where the other programs are.
		if real, err := filepath.EvalSymlinks(found); err == nil {
			folders = append(folders, filepath.Dir(real))
		}
	}
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.SortFunc(installed, func(a, b string) int { return release(b) - release(a) })
	for _, folder := range append(folders, installed...) {
		if isFile(filepath.Join(folder, "initdb")) && isFile(filepath.Join(folder, "postgres")) {
			return folder, nil
		}
	}
	return "", ErrMissing
}

// release is the major release that a folder .../<release>/bin names.
func release(folder string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
	if err != nil {
		return 0
	}
	return n
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func newServer(programs, parent string, settings []string) (*Server, error) {
	s := &Server{programs: programs, settings: settings}
	var err error
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	if s.account, err = unprivileged(); err != nil {
		return nil, err
	}
	// The path of a socket may have about 100 characters, so that a folder deep down
	// would not do.
	if s.dir, err = os.MkdirTemp(parent, "postgres-"); err != nil {
		return nil, err
	}
	if s.account != nil {
		if err := os.Chown(s.dir, int(s.account.Uid), int(s.account.Gid)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(s.dir))
		}
	}
	// What is done later is durable; making the empty cluster need not be.
	initdb := s.command(filepath.Join(programs, "initdb"), "--pgdata="+s.data(), "--username="+superuser,
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if said, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w\n%s", err, said), os.RemoveAll(s.dir))
	}
	if err := s.guard(); err != nil {
		return nil, errors.Join(fmt.Errorf("guard: %w", err), os.RemoveAll(s.dir))
	}
	if err := s.run(); err != nil {
		return nil, errors.Join(err, s.lifeline.Close())
	}
	return s, nil
}

// unprivileged returns whom the server runs as: nil unless this process runs as root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else
	}
	for _, name := range []string{"postgres", "nobody"} {
		ids, err := accountIDs(name)
		if err == nil {
			return ids, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
}

// freePort asks the system for a port that nobody uses.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, errors.Join(err, listener.Close())
}

// Address is where the server listens on loopback, as host:port, without a
// password: for programs that know no sockets.
func (s *Server) Address() string { return "127.0.0.1:" + s.port }

// User is the role that may do everything.
func (*Server) User() string { return superuser }

// command prepares a program of the server. It gets a process group of its own,
// so that an interrupt from the terminal reaches this process alone, which ends in
// order and lets the guard do its part.
func (s *Server) command(program string, args ...string) *exec.Cmd {
	command := exec.Command(program, args...) //nolint:gosec // the programs that findPrograms found
	command.Dir = s.dir
	command.Env = append(os.Environ(), "LC_ALL=C")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: s.account, Setpgid: true}
	return command
}

// guardScript waits for the end of its input, which is the end of this
// process, even if that was killed. Then it ends the server without delay, waits
// until it is gone, and removes the data.
const guardScript = `
cat >/dev/null
if [ -s "$1/data/postmaster.pid" ]; then
	pid=$(head -n 1 "$1/data/postmaster.pid")
	kill -QUIT "$pid" 2>/dev/null
	while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
fi
cd /
rm -rf "$1"
`

// guard starts the process that ends the server when this one ends.
func (s *Server) guard() error {
	guard := s.command("/bin/sh", "-c", guardScript, "guard", s.dir)
	lifeline, err := guard.StdinPipe()
	if err != nil {
		return err
	}
	s.lifeline = lifeline
	return guard.Start()
}

// run starts the server and returns when it accepts connections. After a kill
// the processes of the last run need a moment to notice, and until then a new
// server refuses to start; so it is tried again.
func (s *Server) run() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := s.runOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !wait(ctx) {
			return err
		}
	}
}

func (s *Server) runOnce(ctx context.Context) error {
	log, err := os.OpenFile(s.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the server has its own handle
	args := []string{
		"-D", s.data(),
		"-c", "listen_addresses=127.0.0.1", "-c", "port=" + s.port, "-c", "unix_socket_directories=" + s.dir,
		"-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "full_page_writes=on",
		"-c", "max_connections=300", "-c", "shared_buffers=64MB",
	}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	process := s.command(filepath.Join(s.programs, "postgres"), args...)
	process.Stdout, process.Stderr = log, log
	if err := process.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = process.Wait() // how it ended stands in the log
	}()
	for {
		err := s.admin(ctx, "SELECT 1")
		if err == nil {
			s.process, s.exited = process, exited
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("the server ended: %s", s.lastWords())
		default:
		}
		if !wait(ctx) {
			_ = process.Process.Kill() // it may have ended by itself
			<-exited
			return fmt.Errorf("the server does not answer: %w", err)
		}
	}
}

// wait gives the server a moment, or returns false if ctx ends.
func wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(20 * time.Millisecond):
		return true
	}
}

// lastWords is the end of the server's log.
func (s *Server) lastWords() string {
	const enough = 1000
	text, err := os.ReadFile(s.Log())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-enough):]))
}

// admin runs a statement in the database that every server has.
func (s *Server) admin(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// Log is the file that the server logs to.
func (s *Server) Log() string { return filepath.Join(s.dir, "log") }

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// URL is where a database is, by the server's socket: it needs no port that
// somebody else could take meanwhile.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(superuser),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {s.dir}, "port": {s.port}, "sslmode": {"disable"}}.Encode(),
	}
	return u.String()
}
