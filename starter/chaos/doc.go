// Package chaos runs the real stack under faults: Temporal on PostgreSQL, two workers,
// Self-Service, devca and step-ca, messaging, and Identity Manager on a PostgreSQL and
// a small disk of its own. Real clients lock and get mobile IDs meanwhile. Package
// checker, which shares no code with what it checks, then says whether everything that
// was promised has come true.
//
// The schedule of faults follows from a seed. What the processes make of it does not:
// a seed that failed is likely to fail again, and need not.
//
// Every connection between two processes goes through a proxy (toxiproxy), and every
// request to a CA through a front that can answer wrongly in the CA's place. Processes
// are killed and stopped by signals. Their clocks are off by a build of Go's package
// time: see [BuildShifted]. The disk of Identity Manager is a tmpfs, which needs the
// right to mount.
package chaos
