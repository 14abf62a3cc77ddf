// Package cluster tests the whole system as it runs in production: Temporal's server
// v1.32.0 on PostgreSQL, its schema made by its own SQL tool, Identity Manager's data in
// another database of the same PostgreSQL server, and more than one worker. It is what
// 'make cluster' starts. The package holds nothing but tests.
//
// What is not as in production: all services of Temporal run in one process, everything
// is on one machine, and the CA is devca.
package cluster
