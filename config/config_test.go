package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// inFolder runs a test in an empty folder, so that no config.yaml is found, and
// returns flags as a program has them.
func inFolder(t *testing.T) *pflag.FlagSet {
	t.Helper()
	t.Chdir(t.TempDir())
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Flags(flags)
	return flags
}

func TestLoadDefaults(t *testing.T) {
	c, err := Load(inFolder(t))
	require.NoError(t, err)
	require.Equal(t, Default(), c)
}

func TestLoadOrder(t *testing.T) {
	flags := inFolder(t)
	file := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(file, []byte("task_queue: from-file\nlock:\n  deadline: 5m\nlog:\n  level: warn\n"), 0o600))
	t.Setenv(FileVariable, file)
	t.Setenv("MOBILEID_LOCK_DEADLINE", "7m")
	t.Setenv("MOBILEID_LOG_LEVEL", "error")
	t.Setenv("MOBILEID_GET_KEY_TYPES", "EC-P-256,RSA-3072")
	require.NoError(t, flags.Parse([]string{"--log.level", "debug"}))

	c, err := Load(flags)
	require.NoError(t, err)
	require.Equal(t, "from-file", c.TaskQueue, "the file is over the default")
	require.Equal(t, 7*time.Minute, c.Lock.Deadline, "a variable is over the file")
	require.Equal(t, "debug", c.Log.Level, "a flag is over a variable")
	require.Equal(t, []string{"EC-P-256", "RSA-3072"}, c.Get.KeyTypes, "a variable holds a list with commas")
}

func TestLoadFillsCA(t *testing.T) {
	flags := inFolder(t)
	require.NoError(t, os.WriteFile("config.yaml", []byte(`
cas:
  - {name: devca, driver: devca, issuer_file: ca.pem, url: "https://localhost:1", certificate_file: c, key_file: k, server_ca_file: s}
`), 0o600))
	c, err := Load(flags)
	require.NoError(t, err)
	require.Equal(t, 10*time.Second, c.CAs[0].CallTimeout)
	require.Equal(t, 4, c.CAs[0].Concurrency)
	wait, err := c.CAs[0].ProofWaitDuration()
	require.NoError(t, err)
	require.Negative(t, wait)
}

func TestLoadReportsAllFaultsAtOnce(t *testing.T) {
	flags := inFolder(t)
	require.NoError(t, os.WriteFile("config.yaml", []byte(`
store: {driver: oracle}
lock: {deadline: 0s, reason: certificateHold, overdue: [15m, 5m]}
telemetry: {otlp_endpoint: "collector:4318", sample_ratio: 2}
search_attributes: {user: hashed}
get: {enabled: true, ca: d, authentication: false, signature: false, recover_encryption: true, key_types: [RSA-1024], years: 0, user_id: name, workflow_id: secret, scan_wait: 0s, qr: fax}
messaging: {url: "http://host", callback_address: "127.0.0.1:0", callback_user: "a:b"}
worker: {profile_address: "0.0.0.0:6060", serves: cas}
mail: {driver: smtp, address: mail.example.com, security: none, username: u, server_ca_file: s, timeout: 0s, reply_to: nobody, contact: " ", self_service: "https://id.example.com/lock?id=1"}
cas:
  - {name: a, driver: devca, url: "not a url", proof_wait: soon}
  - {name: a, driver: nobody}
  - {name: b, driver: stepca, token_file: t}
  - {name: c, driver: vault}
  - {name: d, driver: ejbca, mount: m, signing_key_file: k, rate_limit: -1, reasons: [{from: privilegeWithdrawn, to: gone}, {from: superseded, to: unspecified}, {from: superseded, to: unspecified}]}
  - {name: e, driver: cmrest, token_file: t, signing_certificate_file: s, serial_format: octal}
  - {name: f, issuer_file: f, task_queue: zone}
  - {name: g, driver: cmp, url: "http://x", server_ca_file: s, provisioner: p}
  - {name: h, driver: cmp, url: "http://x", certificate_file: c, key_file: k, secret_file: s, crl_url: "http://x"}
  - {name: i, driver: cmp, url: "http://x", reference: r, mac: md5, ocsp_url: "http://x"}
  - {name: j, driver: ejbca, secret_file: s, responder_file: r}
`), 0o600))
	_, err := Load(flags)
	for _, fault := range []string{
		"store.driver", "lock.deadline", "lock.reason", "lock.overdue must grow", "telemetry.otlp_endpoint", "telemetry.sample_ratio", "search_attributes.hash_key_file", "worker.profile_address",
		"mail.address", "mail.from is missing", "mail.username must be empty", "mail.password_file", "mail.server_ca_file", "mail.timeout", "mail.reply_to", "mail.contact", "mail.self_service",
		"cas[0].url", "cas[0].issuer_file", "cas[0].proof_wait", "cas[1].driver", "cas[1].name",
		"cas[2].provisioner", "cas[2].crl_url", "cas[2].token_file is not a setting of driver stepca", "cas[3].token_file", "cas[4].issuer_dn", "cas[4].mount is not a setting of driver ejbca",
		"cas[4].rate_limit", `cas[4].reasons has "gone"`, "cas[4].reasons maps superseded twice", "worker.serves is cas",
		"cas[4].signing_key_file is not a setting of driver ejbca",
		"cas[5].issuer_dn", "cas[5].certificate_file", "cas[5].token_file is not a setting of driver cmrest", "cas[5].signing_key_file is missing", "cas[5].serial_format",
		"cas[7].certificate_file", "cas[7].key_file", "cas[7].crl_url or ocsp_url", "cas[7].server_ca_file is for an https URL", "cas[7].provisioner is not a setting of driver cmp",
		"cas[8].secret_file cannot be together with certificate_file", "cas[9].secret_file is missing", "cas[9].mac",
		"cas[10].secret_file is not a setting of driver ejbca", "cas[10].responder_file is not a setting of driver ejbca",
	} {
		require.ErrorContains(t, err, fault)
	}
	for _, fault := range []string{
		"get.ca has driver ejbca", "get asks for no certificate", "get.recover_encryption", "get.key_types", "get.years", "get.user_id",
		"get.workflow_id", "get.scan_wait", "get.qr", "messaging.url", "messaging.client_id", "messaging.api_key_file", "messaging.attestation_file",
		"messaging.callback_user must not hold a colon", "messaging.callback_certificate_file",
	} {
		require.ErrorContains(t, err, fault)
	}
	require.NotContains(t, err.Error(), "cas[6]", "workers in the zone of its task queue reach it")
}

func TestLoadTakesCMP(t *testing.T) {
	for name, section := range map[string]string{
		"by certificate, over http": `url: "http://x", certificate_file: c, key_file: k, responder_file: r, crl_url: "http://x"`,
		"by secret, over https":     `url: "https://x", secret_file: s, reference: r, mac: pbmac1, server_ca_file: t, ocsp_url: "http://x"`,
	} {
		t.Run(name, func(t *testing.T) {
			flags := inFolder(t)
			require.NoError(t, os.WriteFile("config.yaml", []byte("cas:\n  - {name: a, driver: cmp, issuer_file: i, "+section+"}\n"), 0o600))
			_, err := Load(flags)
			require.NoError(t, err)
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		file, variable, value, fault string
	}{
		"an unknown key":      {file: "lokc: {deadline: 1h}", fault: "lokc"},
		"an unknown variable": {variable: "MOBILEID_STOER_DSN", value: "x", fault: "MOBILEID_STOER_DSN"},
		"no duration":         {variable: "MOBILEID_LOCK_DEADLINE", value: "soon", fault: "deadline"},
		"no number":           {variable: "MOBILEID_WORKER_CACHE", value: "many", fault: "cache"},
		"no YAML":             {file: "a: b: c", fault: "config.yaml"},
		"a missing file":      {variable: FileVariable, value: "nowhere.yaml", fault: "nowhere.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			flags := inFolder(t)
			if test.file != "" {
				require.NoError(t, os.WriteFile("config.yaml", []byte(test.file), 0o600))
			}
			if test.variable != "" {
				t.Setenv(test.variable, test.value)
			}
			_, err := Load(flags)
			require.ErrorContains(t, err, test.fault)
		})
	}
}

func TestKeyFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new", "key")
	made, err := MakeKey(file)
	require.NoError(t, err)
	require.True(t, made)
	first, err := ReadKey("audit.key_file", file)
	require.NoError(t, err)
	require.Len(t, first, keyBytes)

	made, err = MakeKey(file)
	require.NoError(t, err)
	require.False(t, made, "a key that is there is kept")
	again, err := ReadKey("audit.key_file", file)
	require.NoError(t, err)
	require.Equal(t, first, again)

	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestReadKeyNeverShowsContent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte("hunter2hunter2"), 0o600))
	_, err := ReadKey("audit.key_file", file)
	require.ErrorContains(t, err, "audit.key_file")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestStoreDSNFromFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dsn")
	require.NoError(t, os.WriteFile(file, []byte("postgres://user:secret@host/db\n"), 0o600))
	dsn, err := Store{Driver: "postgres", DSNFile: file}.StoreDSN()
	require.NoError(t, err)
	require.Equal(t, "postgres://user:secret@host/db", dsn)
	_, err = Store{DSNFile: file + "x"}.StoreDSN()
	require.ErrorContains(t, err, "store.dsn_file")
}
