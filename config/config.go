// Package config holds the settings of all programs in one typed struct.
//
// A setting comes from, first one wins: a flag (--store.dsn), a variable
// (MOBILEID_STORE_DSN), the file (config.yaml, or what --config or
// MOBILEID_CONFIG names), the default. Every fault is reported, all at once.
//
// Secrets are never settings themselves: a setting names the file that holds
// one. How to reach Temporal is not ours to say: see [Temporal].
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

const (
	envPrefix = "MOBILEID"

	// FileVariable names the configuration file.
	FileVariable = "MOBILEID_CONFIG"

	// FileFlag is the flag that names the configuration file.
	FileFlag = "config"

	defaultFile = "config.yaml"
)

// Config is the settings of all programs. The doc tags are the comments of
// config.yaml and the usage of the flags.
type Config struct {
	TaskQueue        string           `mapstructure:"task_queue" doc:"Temporal task queue of the processes"`
	Store            Store            `mapstructure:"store" doc:"Identity Manager's store"`
	Audit            Audit            `mapstructure:"audit" doc:"The audit chain"`
	Lock             Lock             `mapstructure:"lock" doc:"Lock mobile ID"`
	SearchAttributes SearchAttributes `mapstructure:"search_attributes" doc:"What Temporal shows and finds without opening a payload; never encrypted"`
	CAs              []CA             `mapstructure:"cas" doc:"The certificate authorities; a certificate goes to the one that issued it"`
	Get              Get              `mapstructure:"get" doc:"Get mobile ID"`
	Messaging        Messaging        `mapstructure:"messaging" doc:"Smart ID Messaging, by which Get mobile ID reaches phones"`
	Mail             Mail             `mapstructure:"mail" doc:"Mails to the owners of mobile IDs"`
	Reconciliation   Reconciliation   `mapstructure:"reconciliation" doc:"What finds and finishes mobile IDs that a process has left between two states"`
	CRLPush          CRLPush          `mapstructure:"crl_push" doc:"Where CAs bring their CRLs by themselves, as in the original; off by default"`
	Worker           Worker           `mapstructure:"worker" doc:"The worker program"`
	Telemetry        Telemetry        `mapstructure:"telemetry" doc:"Traces; metrics are at worker.health_address"`
	Serve            Serve            `mapstructure:"serve" doc:"Self-Service, 'starter serve': the pages for the owners of mobile IDs"`
	Log              Log              `mapstructure:"log" doc:"Logs, on standard error"`
	Encryption       Encryption       `mapstructure:"encryption" doc:"Encryption of what histories hold; the same for workers, starter and backends"`
	CodecServer      CodecServer      `mapstructure:"codec_server" doc:"The codec server, 'starter codec serve'"`
}

// Store says where Identity Manager's data lies.
type Store struct {
	Driver  string `mapstructure:"driver" doc:"sqlite or postgres"`
	DSN     string `mapstructure:"dsn" doc:"sqlite: the file; postgres: a URL without a password (postgres://user@host/database)"`
	DSNFile string `mapstructure:"dsn_file" doc:"a file with the dsn, for a URL that has a password; takes the place of dsn"`
}

// Audit says under which key the audit records are chained.
type Audit struct {
	KeyFile         string        `mapstructure:"key_file" doc:"file with the HMAC key, 64 hex digits, kept outside the database; 'starter setup' makes one if it is missing"`
	CheckpointDir   string        `mapstructure:"checkpoint_dir" doc:"folder, outside the database, where the worker writes the heads of all audit chains; empty: none"`
	CheckpointEvery time.Duration `mapstructure:"checkpoint_every" doc:"how old the last checkpoint may get"`
}

// Lock is what applies to every lock that starts from now on.
type Lock struct {
	Deadline time.Duration `mapstructure:"deadline" doc:"how long a lock waits for Next or Cancel"`
	Reason   string        `mapstructure:"reason" doc:"RFC 5280 reason where nobody gives one"`
	Overdue  []string      `mapstructure:"overdue" doc:"how long after Next a lock that is not finished counts as overdue, one step after the other"`
	Notify   bool          `mapstructure:"notify" doc:"mail the owner, at every address, when a lock is requested and when it is finished"`

	OverdueMail  []string      `mapstructure:"overdue_mail" doc:"addresses of operators, who are mailed once per lock and step of overdue; empty: nobody is. Needs search attributes"`
	OverdueEvery time.Duration `mapstructure:"overdue_every" doc:"how often overdue locks are looked for, by a schedule that 'starter setup' writes if there is an address"`
}

// Reconciliation says when what was left unfinished is looked for.
type Reconciliation struct {
	Every  time.Duration `mapstructure:"every" doc:"how often, by a schedule that 'starter setup' writes; 0: only by 'starter reconcile'"`
	MinAge time.Duration `mapstructure:"min_age" doc:"how long ago a mobile ID must have been registered to count as left behind by its Get"`
}

// SearchAttributes says what is shown in search attributes.
type SearchAttributes struct {
	Enabled     bool   `mapstructure:"enabled" doc:"set them; 'starter setup' registers them first"`
	User        string `mapstructure:"user" doc:"the owner: plain, hashed or off"`
	HashKeyFile string `mapstructure:"hash_key_file" doc:"file with the key for hashed, 64 hex digits"`
}

// CA is one certificate authority.
type CA struct {
	Name            string        `mapstructure:"name" doc:"how results and logs call it"`
	Driver          string        `mapstructure:"driver" doc:"cmp, cmrest, devca, ejbca, stepca or vault; empty: workers of its task queue alone reach the CA, and this one needs only name, issuer_file, ocsp_url and crl_url"`
	IssuerFile      string        `mapstructure:"issuer_file" doc:"PEM file with the CA's certificate"`
	URL             string        `mapstructure:"url" doc:"where the driver reaches the CA; https, and for cmp http too, because its messages protect themselves"`
	CertificateFile string        `mapstructure:"certificate_file" doc:"PEM file with the client certificate (devca, ejbca; cmrest: of an officer; vault, where it asks for one); cmp: of the RA that signs, unless there is a secret"`
	KeyFile         string        `mapstructure:"key_file" doc:"PEM file with the key of that certificate; stepca: of the provisioner, EC P-256"`
	ServerCAFile    string        `mapstructure:"server_ca_file" doc:"PEM file with the CA of the server's TLS certificate; stepca: its root; cmp, cmrest, ejbca, vault: empty is the system's trust store"`
	IssuerDN        string        `mapstructure:"issuer_dn" doc:"ejbca: subject DN of the CA as EJBCA shows it (GET /v1/ca); cmrest: as CM shows it (issuer in GET /certificates)"`
	SigningCertFile string        `mapstructure:"signing_certificate_file" doc:"cmrest: PEM file with the certificate of the officer who signs requests; empty: certificate_file"`
	SigningKeyFile  string        `mapstructure:"signing_key_file" doc:"cmrest: PEM file with the key of signing_certificate_file, ECDSA or RSA"`
	SerialFormat    string        `mapstructure:"serial_format" doc:"cmrest: how CM writes serial numbers, hex or decimal; empty: hex"`
	Provisioner     string        `mapstructure:"provisioner" doc:"stepca: name of the JWK provisioner"`
	TokenFile       string        `mapstructure:"token_file" doc:"vault: file with the token, read for each request"`
	Mount           string        `mapstructure:"mount" doc:"vault: of the PKI engine; empty: pki"`
	Namespace       string        `mapstructure:"namespace" doc:"vault: Enterprise's or OpenBao's; empty: none"`
	SecretFile      string        `mapstructure:"secret_file" doc:"cmp: file with the shared secret, in the place of certificate and key"`
	Reference       string        `mapstructure:"reference" doc:"cmp: by which the CA finds the secret"`
	MAC             string        `mapstructure:"mac" doc:"cmp: of requests with a secret, pbm or pbmac1; empty: pbm"`
	ResponderFile   string        `mapstructure:"responder_file" doc:"cmp: PEM file with certificates that may sign answers, beside the CA's own"`
	OCSPURL         string        `mapstructure:"ocsp_url" doc:"OCSP responder that others ask; empty: none"`
	CRLURL          string        `mapstructure:"crl_url" doc:"CRL that others read; empty: none"`
	Reasons         []ReasonMap   `mapstructure:"reasons" doc:"what is sent in the place of a reason, for example {from: privilegeWithdrawn, to: cessationOfOperation}"`
	TaskQueue       string        `mapstructure:"task_queue" doc:"task queue of the worker that reaches the CA; empty: the processes' own"`
	RateLimit       float64       `mapstructure:"rate_limit" doc:"calls a second from each worker; 0: no limit"`
	CallTimeout     time.Duration `mapstructure:"call_timeout" doc:"of one call"`
	Concurrency     int           `mapstructure:"concurrency" doc:"certificates of one lock at once"`
	ProofWait       string        `mapstructure:"proof_wait" doc:"how long a lock waits until others see the revocation: a duration, 0 for not at all, or crl for until the next CRL is due"`
	ApprovalWait    time.Duration `mapstructure:"approval_wait" doc:"how long a request may wait for an approval at the CA"`
}

// ReasonMap sends a CA another reason than the lock's.
type ReasonMap struct {
	From string `mapstructure:"from"`
	To   string `mapstructure:"to"`
}

// What a worker serves.
const (
	// ServesProcesses is the processes' task queue, with every activity.
	ServesProcesses = "processes"
	// ServesCAs is the task queues of the CAs, with the activity that speaks to a CA.
	ServesCAs = "cas"
	// ServesBoth is both.
	ServesBoth = "both"
)

// Mail says how mails go out, and what they say about whom to ask.
type Mail struct {
	Driver       string        `mapstructure:"driver" doc:"files (a file per mail, for development) or smtp"`
	Folder       string        `mapstructure:"folder" doc:"files: where they lie"`
	Address      string        `mapstructure:"address" doc:"smtp: host:port of the mail server"`
	Security     string        `mapstructure:"security" doc:"smtp: starttls (usually port 587), tls (usually port 465) or none; a server that cannot do it gets no mail"`
	Username     string        `mapstructure:"username" doc:"smtp: empty: the server asks for none; never with security none"`
	PasswordFile string        `mapstructure:"password_file" doc:"smtp: file with the password, read for each mail"`
	ServerCAFile string        `mapstructure:"server_ca_file" doc:"smtp: PEM file with the CA of the server's TLS certificate; empty: the system's trust store"`
	Timeout      time.Duration `mapstructure:"timeout" doc:"smtp: of one mail; one that is too short sends twice"`
	From         string        `mapstructure:"from" doc:"address, or Name <address>; files: may be empty"`
	ReplyTo      string        `mapstructure:"reply_to" doc:"the same, for answers; empty: none"`
	Contact      string        `mapstructure:"contact" doc:"whom to ask, and where: what people read who did not do it themselves; may have several lines"`
	SelfService  string        `mapstructure:"self_service" doc:"address of Self-Service, for people to type, http or https without a query; empty: not shown"`
}

// Worker is how the worker program runs.
type Worker struct {
	Serves         string        `mapstructure:"serves" doc:"processes; cas: the task queues of the CAs alone, without a store, in a CA's network zone; or both"`
	HealthAddress  string        `mapstructure:"health_address" doc:"address of /healthz, /readyz and /metrics; empty: none"`
	ProfileAddress string        `mapstructure:"profile_address" doc:"loopback address of Go's profiles, /debug/pprof/; empty: none"`
	StopTimeout    time.Duration `mapstructure:"stop_timeout" doc:"how long running activities may take to end after SIGTERM"`
	Cache          int           `mapstructure:"cache" doc:"processes kept in memory between their tasks, some 70 KiB each; others are replayed from their history when something happens"`
	Activities     int           `mapstructure:"activities" doc:"activities at once"`
}

// Log is how programs log.
type Log struct {
	Level  string `mapstructure:"level" doc:"debug, info, warn or error"`
	Format string `mapstructure:"format" doc:"text or json"`
}

// Default returns the settings of a development run.
func Default() Config {
	return Config{
		TaskQueue:        "mobile-id",
		Store:            Store{Driver: "sqlite", DSN: ".dev/im.db"},
		Audit:            Audit{KeyFile: ".dev/audit.key", CheckpointDir: ".dev/checkpoints", CheckpointEvery: 24 * time.Hour},
		Lock:             Lock{Deadline: 2 * time.Hour, Reason: "unspecified", Notify: true, Overdue: []string{"15m", "4h", "12h", "24h"}, OverdueMail: []string{}, OverdueEvery: 5 * time.Minute},
		SearchAttributes: SearchAttributes{Enabled: true, User: "plain"},
		Get:              defaultGet(),
		Messaging:        Messaging{CallTimeout: 10 * time.Second},
		Reconciliation:   Reconciliation{Every: time.Hour, MinAge: 24 * time.Hour},
		CRLPush:          defaultCRLPush(),
		Mail: Mail{
			Driver:   "files",
			Folder:   ".dev/mail",
			Security: "starttls",
			Timeout:  time.Minute,
			Contact:  "Contact the service desk of your organisation.",
		},
		Worker: Worker{
			Serves:        ServesProcesses,
			HealthAddress: "127.0.0.1:8081",
			StopTimeout:   30 * time.Second,
			Cache:         2_000,
			Activities:    200,
		},
		Log:         Log{Level: "info", Format: "text"},
		CodecServer: defaultCodecServer(),
		Telemetry:   Telemetry{SampleRatio: 1},
		Serve:       defaultServe(),
	}
}

// fillDefaults fills what a CA's section leaves out.
func (c *CA) fillDefaults() {
	if c.CallTimeout == 0 {
		c.CallTimeout = 10 * time.Second
	}
	if c.Concurrency == 0 {
		c.Concurrency = 4
	}
	if c.ProofWait == "" {
		c.ProofWait = ProofWaitCRL
	}
	if c.ApprovalWait == 0 {
		c.ApprovalWait = 24 * time.Hour
	}
}

// Flags adds a flag for the file and one for every setting that is no list of sections.
func Flags(flags *pflag.FlagSet) {
	flags.String(FileFlag, "", "configuration file (default "+defaultFile+" if it is there, or $"+FileVariable+")")
	for _, s := range settings(reflect.ValueOf(Default()), "") {
		if s.sections() {
			continue
		}
		// As text, so that a malformed one is reported with all other faults.
		flags.String(s.key, "", s.doc+defaultText(s))
		_ = flags.MarkHidden(s.key)
	}
}

func defaultText(s setting) string {
	if s.value.IsZero() {
		return ""
	}
	if list, ok := s.value.Interface().([]string); ok && len(list) == 0 {
		return ""
	} else if ok {
		return fmt.Sprintf(" (default %s)", strings.Join(list, ","))
	}
	return fmt.Sprintf(" (default %v)", s.value.Interface())
}

// Load reads the settings. It returns a *Faults with every fault at once.
func Load(flags *pflag.FlagSet) (Config, error) {
	v := viper.New()
	v.SetEnvPrefix(envPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AllowEmptyEnv(true)
	v.AutomaticEnv()
	known := map[string]bool{FileVariable: true}
	for _, s := range settings(reflect.ValueOf(Default()), "") {
		if s.sections() {
			continue
		}
		v.SetDefault(s.key, s.value.Interface())
		known[variable(s.key)] = true
		if flags == nil {
			continue
		}
		if flag := flags.Lookup(s.key); flag != nil && flag.Changed {
			v.Set(s.key, flag.Value.String())
		}
	}
	var faults Faults
	if err := readFile(v, flags); err != nil {
		faults.add("", err.Error())
		return Config{}, &faults
	}
	for _, name := range unknownVariables(known) {
		faults.add(name, "is not a setting")
	}
	var c Config
	err := v.Unmarshal(&c, func(d *mapstructure.DecoderConfig) {
		d.ErrorUnused = true
		d.DecodeHook = mapstructure.ComposeDecodeHookFunc(mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(","))
	})
	for _, fault := range leaves(err) {
		faults.add("", fault.Error())
	}
	for i := range c.CAs {
		c.CAs[i].fillDefaults()
	}
	if err == nil {
		c.check(&faults)
	}
	if len(faults.list) > 0 {
		return c, &faults
	}
	return c, nil
}

// readFile reads the named file, or the default one if it is there.
func readFile(v *viper.Viper, flags *pflag.FlagSet) error {
	file := os.Getenv(FileVariable)
	if flags != nil {
		if flag := flags.Lookup(FileFlag); flag != nil && flag.Changed {
			file = flag.Value.String()
		}
	}
	named := file != ""
	if !named {
		file = defaultFile
	}
	v.SetConfigFile(file)
	v.SetConfigType("yaml")
	err := v.ReadInConfig()
	if !named && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration file %s: %w", file, err)
	}
	return nil
}

func variable(key string) string {
	return envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// unknownVariables finds variables that look like ours and are not: most likely
// a spelling mistake that would otherwise go unnoticed.
func unknownVariables(known map[string]bool) []string {
	var unknown []string
	for _, assignment := range os.Environ() {
		name, _, _ := strings.Cut(assignment, "=")
		if strings.HasPrefix(name, envPrefix+"_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
	}
	return all
}

// setting is one key with its default and its comment.
type setting struct {
	key   string
	doc   string
	value reflect.Value
}

// sections reports whether the setting is a list of sections, which the file alone
// can hold.
func (s setting) sections() bool {
	return s.value.Kind() == reflect.Slice && s.value.Type().Elem().Kind() == reflect.Struct
}

// settings lists the keys of a struct in order. Lists stay whole.
func settings(v reflect.Value, prefix string) []setting {
	var list []setting
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := prefix + field.Tag.Get("mapstructure")
		if field.Type.Kind() == reflect.Struct {
			list = append(list, settings(v.Field(i), key+".")...)
			continue
		}
		list = append(list, setting{key: key, doc: field.Tag.Get("doc"), value: v.Field(i)})
	}
	return list
}
