// Package embedded is a small Smart ID Messaging server for development and tests.
//
// It is for development only. Its secrets lie unencrypted on disk, it knows one
// client, and it trusts any phone that holds a bid. What it is good for: a
// messaging server that is there without installing anything, that has the
// product's REST API as far as it is documented (see package messaging, and what is
// assumed there), and whose word survives kill -9, so that a process which relies
// on it can be tested for real.
//
// # Parts
//
// A [Server] owns one folder. [Server.Handler] serves, below /hermod:
//
//	POST /rest/command/provision    the product's API, with X-Api-Key
//	POST /rest/command/certificate  likewise
//	GET  /rest/ms/{bid}             the phone's side, see package device
//	POST /rest/ms/{bid}             likewise
//	PUT  /util/callback-url         ours: {"callbackUrl"}, with X-Api-Key
//
// A command lives for its lifespan; that the timeout is ignored is a simplification.
// What became of it goes to the callback URL with Basic credentials, over and over
// with growing pauses, until 2xx or until the callback is too old. A second answer
// of a phone to the same command goes there, too: the receiver has to tell.
//
// # The folder
//
//	tls.pem, tls.key     what the server shows; tls.pem is also the trust for it
//	api.key              key of the client "mobileid"
//	callback.password    password of the user "hermod" at the callback URL
//	attestation.jwk      the key with which the phone simulator signs
//	attestation.jwks     its public half, the trust for answers
//	messages.db          SQLite: commands and callbacks
//	addresses.json       where Run listens
//	lock                 held by the one process that owns the folder
//
// A command and an answer are on disk before they are acknowledged. Both are
// forgotten some time after the command's end (Options.Retention).
package embedded
