// Package messaging speaks to Nexus Smart ID Messaging ("Hermod"), which carries
// commands to the Smart ID app on a person's phone and the app's answers back.
//
// Facts, from the product's documentation (doc.nexusgroup.com, pages
// "smart-id-messaging-api-overview", "example-smart-id-mobile-app-provisioning"
// and "example-smart-id-mobile-app-certificate-provisioni"). None was run against
// the product: the tests run against package embedded, which was written from the
// same facts.
//
//   - A command is POST <base>/rest/command/<kind> with the header X-Api-Key, which
//     is base64(id:key). Its answer has an id, and for provision the uri that the
//     person's QR code carries.
//   - The outcome comes later, as POST <callback URL>/rest/callback/<kind> with
//     Basic credentials, and so does the news that nobody answered in time. One
//     callback URL is registered for each API key.
//   - A key request carries a PKCS #10 with the right subject and a throw-away key.
//     The phone makes its own key, puts it in, signs, and returns the request.
//   - The phone signs its answer as a JWS with its attestation key.
//
// Assumptions, because no documentation of it could be read. Each stands in one
// file, for both directions, and is replaced there:
//
//   - the body of a callback and what the JWS holds: callback.go
//   - the body of the certificate command: certificate.go
//   - the words for an elliptic curve in a key request: keytype.go
//
// # Secrets
//
// The nonce, the uri with the bid in it, and therefore the QR code and the JWS,
// open a mobile ID to whoever holds them until it is delivered. They are in
// [Provision], [Accepted] and [Callback], which print without them; they are in
// no error and no log line of this package. Where else they go is the caller's
// responsibility.
package messaging
