// Package mail tells people by mail what happens to their mobile IDs: the words of
// each message, and the two ways to send one: [SMTP], and [Files] for development.
//
// A message is sent once per process, kind and address. A process that does not know
// whether its last try got through sends the same [Message] again: its Message-ID is
// made from these three ([Message.ID]), so that mail systems which drop repeats
// recognise it. Those that do not deliver it twice. [Files] drops repeats itself.
//
// Errors are [*Error]: its Failure says whether another try helps.
//
// Sources: RFC 5321 (SMTP; replies in section 4.2, who is responsible for a message in
// 4.2.5 and 6.1), RFC 3207 (STARTTLS), RFC 4954 and 4616 (AUTH, PLAIN), RFC 8314
// (implicit TLS), RFC 6531 (addresses beyond ASCII), RFC 5322 and 2045-2047 (the
// message), RFC 2387 and 2392 (the image in it), RFC 3834 (Auto-Submitted). The tests
// run against go-smtp, a server in Go; none was run against Exchange, Postfix or a
// provider of mail.
//
// No message has a link. Whoever gets one learns whom to call, and may be told where
// Self-Service is; nothing is locked, unlocked or confirmed by opening an address.
package mail
