// Package devca is a small certificate authority for development and tests, and
// the [ca.Driver] that speaks to it.
//
// It is for development only. Its keys lie unencrypted on disk, whoever holds
// its client certificate may issue and revoke anything, nobody checks who asks,
// and there is no audit. What it is good for: a CA that is there without
// installing anything, that behaves at its edges as real ones should (a second
// revocation says so and changes nothing, a hold is not a revocation, the CRL
// follows later than the answer), and whose word survives kill -9, so that a
// process which relies on it can be tested for real.
//
// # Parts
//
// A [Server] owns one folder. [Server.Public] answers anybody by plain HTTP: the
// CA certificate, the CRL (RFC 5280 section 5) and OCSP (RFC 6960), none of
// which needs TLS because they are signed. [Server.API] issues and revokes, and
// needs a client certificate of the transport trust, which is not the trust of
// the certificates that it issues. [Run] puts a server on two ports. A [Driver]
// is a client of the API.
//
// A revocation is on disk before it is answered, and OCSP and the API know it at
// once. The CRL follows in the background, at most one per CRLInterval.
//
// # The folder
//
//	ca.pem, ca.key          the certificate and key that sign certificates, CRLs and OCSP responders
//	crl.pem                 the newest CRL, replaced atomically; the CRL number is read back from it
//	journal                 every certificate and revocation, see below
//	tls-ca.pem, tls-ca.key  the transport trust
//	tls.pem, tls.key        what the API shows to its callers
//	client.pem, client.key  what callers show to the API, made for them at first start
//	addresses.json          where Run listens
//	lock                    held by the one process that owns the folder
//
// Keys are PKCS #8 in PEM, mode 0600. The key of the OCSP responder stays in
// memory and is replaced by a new one at each start.
//
// # The journal
//
// The first line is "devca-journal 1". Each further line is one record of five
// fields with one space between them:
//
//	9a3b12cd 2026-01-02T15:04:05Z issue 4f1c... MIIB...
//	5d1a9c3e 2026-01-02T16:00:00Z revoke 4f1c... keyCompromise
//
// These are a checksum, the time of the record in UTC, what happened ("issue",
// "revoke" or "release"), the serial number in lower-case hex, and an argument:
// the certificate as base64 DER, the RFC 5280 name of the reason, or "-". The
// checksum is a CRC-32C in hex over the rest of the line, continued from the
// checksum of the line before, so that a lost or moved line shows as well as a
// changed one. It guards against damage, not against forgers.
//
// A record is written and synced before its request is answered; requests that
// come together share one sync. A last line without its line feed was cut short
// by a crash, was therefore never answered, and is cut off at start. Any other
// damage is an error that names the line.
package devca
