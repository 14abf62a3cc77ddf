// Package notify sends the mails that lie in Identity Manager's outbox.
//
// Any number of senders work side by side, in one process or in several. Each takes a
// notice under a lease, writes the letter, hands it over, and notes what came of it:
//
//   - sent: the notice is done, and its content deleted;
//   - a fault that another try can cure: it is tried again, later each time, for five
//     days (RFC 5321 section 4.5.4.1 asks for at least four or five);
//   - a fault that none can cure, or five days of the other kind: it is given up, and
//     stays in the outbox for an operator;
//   - a code that nobody can scan any more: it is dropped.
//
// A mail goes out once, with one exception: who dies, or loses the database, after the
// mail server's last answer and before it is noted leaves a notice that the next sender
// takes for unsent. The second mail has the Message-ID of the first. The same holds for
// an answer that got lost ([mail.Ambiguous]).
//
// Logs name notices and mobile IDs, and no person and no address.
package notify
