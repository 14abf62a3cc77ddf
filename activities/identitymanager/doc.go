// Package identitymanager is Identity Manager as a SQL store: users, mobile IDs,
// their certificates, and the audit. It runs on SQLite and on PostgreSQL, with
// the same SQL.
//
// Everything that changes a mobile ID on behalf of a process writes its audit
// record in the same transaction, and does so once per process: a repeat changes
// nothing and answers the same.
//
// # Concurrency
//
// Any number of processes may use one database. On PostgreSQL a transaction
// takes what it needs always in this order:
//
//  1. the user's row, if it decides whether the user may have another mobile ID
//     (PutGrant, Register, Activate, Reactivate) or changes the user (PutUser),
//  2. the head of the mobile ID's audit chain, if it appends to it,
//  3. the mobile ID's row,
//  4. what hangs on the mobile ID: its certificates, grant, provisioning and
//     messages, which nobody changes who has neither 1 nor 3,
//  5. rows of the outbox. Who takes one to send it takes nothing else.
//
// No transaction takes the rows of two users, or of two mobile IDs. So two transactions on one mobile ID, and
// two decisions about one user, run one after the other, and cannot deadlock. The
// user's row is taken FOR NO KEY UPDATE: a transaction that has a mobile ID's row
// and writes who owns it refers to the user, which FOR UPDATE would keep waiting,
// against the order. A lock does not take the user's row, so that nothing that a
// user does elsewhere delays it.
//
// SQLite has one writer at a time anyway. What the database nevertheless gives up
// (a serialization failure, a deadlock, a busy file) is tried again here a few
// times.
//
// # One-time secrets
//
// Table provisionings holds what a phone needs to take a mobile ID, and messages
// what it answered. They are deleted when the mobile ID becomes active or locked,
// in the same transaction, or by ForgetSecrets before, or when they expire. No
// error, audit record or text of a value repeats them.
//
// # Outbox
//
// Table outbox holds the mails that are due, a row per address. A row is written in
// the transaction of what it tells of, so that neither is there without the other.
// Any number of senders take rows to send them: see [Store.ClaimNotice]. A sender that
// dies loses nothing, because its claim ends with its lease. The mail goes out once,
// unless the sender dies, or loses the database, between the mail server's answer and
// [Store.NoticeIsSent]: then it goes out again, under the same Message-ID.
//
// What is sent or dropped keeps its row, without address and content.
//
// # Audit chain
//
// The records of one mobile ID form a chain. They are numbered 1, 2, 3, ...
// without gaps, and each carries a MAC over itself and the MAC before it, under
// a key that is not in the database. Who can write to the database but does not
// have the key can therefore neither alter nor remove nor insert a record
// unnoticed; only records cut off at the end need the head of the chain, kept
// elsewhere, to be noticed: see [Store.VerifyAudit] and [Store.Checkpoint].
//
// The MAC of record n of a mobile ID is, in lower-case hex,
//
//	HMAC-SHA256(key, field(domain) field(mac n-1) field(mobile ID) field(number) field(record))
//
// where field(x) is the length of x in bytes, as a big-endian unsigned 64-bit
// integer, followed by x, and
//
//   - domain is the ASCII text "mobileid/audit/v1",
//   - mac n-1 is the MAC of the record before as it is written, 64 lower-case hex
//     digits, or nothing for the first record,
//   - mobile ID is its id,
//   - number is n as a big-endian unsigned 64-bit integer,
//   - record is column audit.record as it stands, in UTF-8, byte by byte. It is
//     the JSON of a mobileid.Record, and is never formatted anew.
//
// [MAC] computes it. Table audit_heads holds the number and MAC of the last
// record of each chain.
package identitymanager
