package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"mobileid"
)

// ProofWaitCRL as a CA's proof_wait waits until its next CRL is due.
const ProofWaitCRL = "crl"

// Faults is every fault of a configuration.
type Faults struct{ list []string }

func (f *Faults) Error() string {
	return fmt.Sprintf("%d fault(s) in the configuration:\n  - %s", len(f.list), strings.Join(f.list, "\n  - "))
}

func (f *Faults) add(key, problem string) {
	if key != "" {
		problem = key + " " + problem
	}
	f.list = append(f.list, problem)
}

// check looks at every setting by itself and at what must fit together.
func (c Config) check(f *Faults) {
	required(f, "task_queue", c.TaskQueue)
	oneOf(f, "store.driver", c.Store.Driver, "sqlite", "postgres")
	if c.Store.DSN == "" && c.Store.DSNFile == "" {
		f.add("store.dsn", "is missing")
	}
	required(f, "audit.key_file", c.Audit.KeyFile)
	positive(f, "audit.checkpoint_every", c.Audit.CheckpointEvery)
	positive(f, "lock.deadline", c.Lock.Deadline)
	if err := mobileid.CheckLockReason(mobileid.Reason(c.Lock.Reason), true); err != nil || c.Lock.Reason == "" {
		f.add("lock.reason", "is not a reason that a lock may send: "+c.Lock.Reason)
	}
	c.checkOverdue(f)
	oneOf(f, "search_attributes.user", c.SearchAttributes.User, "plain", "hashed", "off")
	if c.SearchAttributes.User == "hashed" {
		required(f, "search_attributes.hash_key_file", c.SearchAttributes.HashKeyFile)
	}
	c.Mail.check(f)
	if every := c.Reconciliation.Every; every != 0 && every < time.Minute {
		f.add("reconciliation.every", "must be 0 or at least 1m")
	}
	positive(f, "reconciliation.min_age", c.Reconciliation.MinAge)
	if c.Worker.HealthAddress != "" {
		if _, _, err := net.SplitHostPort(c.Worker.HealthAddress); err != nil {
			f.add("worker.health_address", "must be host:port")
		}
	}
	if c.Worker.ProfileAddress != "" {
		// Profiles show what a process does, to whoever asks.
		host, _, err := net.SplitHostPort(c.Worker.ProfileAddress)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			f.add("worker.profile_address", "must be host:port with a loopback address")
		}
	}
	c.checkGet(f)
	c.Serve.check(f)
	c.CRLPush.check(f)
	oneOf(f, "worker.serves", c.Worker.Serves, ServesProcesses, ServesCAs, ServesBoth)
	if c.Worker.Serves == ServesCAs && len(c.CAQueues()) == 0 {
		f.add("worker.serves", "is cas, but no CA has a driver and a task_queue")
	}
	positive(f, "worker.stop_timeout", c.Worker.StopTimeout)
	if c.Worker.Cache < 0 {
		f.add("worker.cache", "must not be negative")
	}
	if c.Worker.Activities < 1 {
		f.add("worker.activities", "must be at least 1")
	}
	c.Telemetry.check(f)
	oneOf(f, "log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf(f, "log.format", c.Log.Format, "text", "json")
	c.CodecServer.check(f)
	names := map[string]bool{}
	for i, ca := range c.CAs {
		key := fmt.Sprintf("cas[%d]", i)
		ca.check(f, key)
		if names[ca.Name] {
			f.add(key+".name", "is used twice: "+ca.Name)
		}
		names[ca.Name] = true
	}
}

// driverNeeds are the settings without which a driver cannot work, beside those of
// every CA; driverTakes those that it may have.
var (
	driverNeeds = map[string][]string{
		"cmrest": {"issuer_dn", "certificate_file", "key_file"},
		"cmp":    {}, // see checkCMP
		"devca":  {"certificate_file", "key_file", "server_ca_file"},
		"ejbca":  {"issuer_dn", "certificate_file", "key_file"},
		"stepca": {"server_ca_file", "provisioner", "key_file", "crl_url"},
		"vault":  {"token_file"},
	}
	driverTakes = map[string][]string{
		"cmp":    {"certificate_file", "key_file", "server_ca_file", "secret_file", "reference", "mac", "responder_file"},
		"cmrest": {"server_ca_file", "signing_certificate_file", "signing_key_file", "serial_format"},
		"ejbca":  {"server_ca_file"},
		"vault":  {"certificate_file", "key_file", "server_ca_file", "mount", "namespace"},
	}
)

// foreign reports whether a setting is for another driver alone: most likely a
// mistake that would otherwise go unnoticed.
func foreign(driver, key string) bool {
	own := slices.Concat(driverNeeds[driver], driverTakes[driver])
	if len(own) == 0 || slices.Contains(own, key) || key == "ocsp_url" || key == "crl_url" {
		return false
	}
	for other := range driverNeeds {
		if slices.Contains(driverNeeds[other], key) || slices.Contains(driverTakes[other], key) {
			return true
		}
	}
	return false
}

// CAQueues returns the task queues of the CAs that a driver is configured for.
func (c Config) CAQueues() []string {
	queues := map[string]bool{}
	for _, ca := range c.CAs {
		if ca.Driver != "" && ca.TaskQueue != "" {
			queues[ca.TaskQueue] = true
		}
	}
	return slices.Sorted(maps.Keys(queues))
}

func (c CA) check(f *Faults, key string) {
	if err := mobileid.CheckID(key+".name", c.Name); err != nil {
		f.add("", err.Error())
	}
	if c.Driver != "" || c.TaskQueue == "" {
		oneOf(f, key+".driver", c.Driver, slices.Sorted(maps.Keys(driverNeeds))...)
		required(f, key+".url", c.URL)
	}
	required(f, key+".issuer_file", c.IssuerFile)
	for name, address := range map[string]string{"url": c.URL, "ocsp_url": c.OCSPURL, "crl_url": c.CRLURL} {
		if address == "" {
			continue
		}
		if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			f.add(key+"."+name, "must be an http or https URL")
		}
	}
	for _, setting := range settings(reflect.ValueOf(c), "") {
		needs := driverNeeds[c.Driver]
		if slices.Contains(needs, setting.key) {
			required(f, key+"."+setting.key, setting.value.String())
		} else if setting.value.Kind() == reflect.String && setting.value.String() != "" && foreign(c.Driver, setting.key) {
			f.add(key+"."+setting.key, "is not a setting of driver "+c.Driver)
		}
	}
	if c.SigningCertFile != "" {
		required(f, key+".signing_key_file", c.SigningKeyFile)
	}
	if c.SigningKeyFile != "" {
		required(f, key+".signing_certificate_file", c.SigningCertFile)
	}
	if c.SerialFormat != "" {
		oneOf(f, key+".serial_format", c.SerialFormat, "hex", "decimal")
	}
	if c.Driver == "cmp" {
		c.checkCMP(f, key)
	}
	positive(f, key+".call_timeout", c.CallTimeout)
	positive(f, key+".approval_wait", c.ApprovalWait)
	if c.Concurrency < 1 {
		f.add(key+".concurrency", "must be at least 1")
	}
	if c.RateLimit < 0 {
		f.add(key+".rate_limit", "must not be negative")
	}
	c.checkReasons(f, key+".reasons")
	if _, err := c.ProofWaitDuration(); err != nil {
		f.add(key+".proof_wait", err.Error())
	}
}

// checkReasons looks at the names. What a driver takes is known where the CAs are
// made, at the start of every program that has them.
func (c CA) checkReasons(f *Faults, key string) {
	from := map[string]bool{}
	for _, m := range c.Reasons {
		for _, name := range []string{m.From, m.To} {
			if _, known := mobileid.Reason(name).Code(); !known {
				f.add(key, fmt.Sprintf("has %q, which is no reason of RFC 5280", name))
			}
		}
		if from[m.From] {
			f.add(key, "maps "+m.From+" twice")
		}
		from[m.From] = true
	}
}

// checkCMP looks at what driver cmp needs in one of two ways: a certificate or a secret
// to protect its requests, and a CRL or OCSP, because CMP has no status.
func (c CA) checkCMP(f *Faults, key string) {
	bySecret := c.SecretFile != "" || c.Reference != "" || c.MAC != ""
	switch byCertificate := c.CertificateFile != "" || c.KeyFile != ""; {
	case bySecret && byCertificate:
		f.add(key+".secret_file", "cannot be together with certificate_file")
	case bySecret:
		required(f, key+".secret_file", c.SecretFile)
		required(f, key+".reference", c.Reference)
		if c.MAC != "" {
			oneOf(f, key+".mac", c.MAC, "pbm", "pbmac1")
		}
	default:
		required(f, key+".certificate_file", c.CertificateFile)
		required(f, key+".key_file", c.KeyFile)
	}
	if c.CRLURL == "" && c.OCSPURL == "" {
		f.add(key+".crl_url", "or ocsp_url is missing: CMP has no status")
	}
	if c.ServerCAFile != "" && strings.HasPrefix(c.URL, "http:") {
		f.add(key+".server_ca_file", "is for an https URL")
	}
}

// ProofWaitDuration returns proof_wait as a duration, negative for until the
// next CRL is due.
func (c CA) ProofWaitDuration() (time.Duration, error) {
	if c.ProofWait == ProofWaitCRL {
		return -1, nil
	}
	wait, err := time.ParseDuration(c.ProofWait)
	if err != nil || wait < 0 {
		return 0, errors.New("must be a duration, 0, or " + ProofWaitCRL)
	}
	return wait, nil
}

func required(f *Faults, key, value string) {
	if value == "" {
		f.add(key, "is missing")
	}
}

func positive(f *Faults, key string, value time.Duration) {
	if value <= 0 {
		f.add(key, "must be longer than 0")
	}
}

func oneOf(f *Faults, key, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	f.add(key, fmt.Sprintf("is %q, must be one of %s", value, strings.Join(allowed, ", ")))
}
