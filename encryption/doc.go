// Package encryption encrypts what goes into Temporal, so that neither its database
// nor who reads along there sees whom a process is about.
//
// Every payload is encrypted by AES-256-GCM, in the wire format of Tink, under the
// primary key of a [Keyset]: inputs and results of processes, of activities and of
// their local forms; signals, updates and queries with their answers; heartbeats; the
// summaries and current details that people read in the Web UI; and messages and
// stack traces of failures. Which key it was stands beside the payload, and is bound
// to it: altered or under another payload's metadata, it is refused. Payloads that are
// not encrypted pass as they are, so histories from before go on, and tctl and the Web
// UI, which encrypt nothing, can still start processes and send messages.
//
// What Temporal must read itself stays in clear: workflow, run and activity ids, the
// names of processes, activities, messages and task queues, search attributes, the
// types of failures, update ids, times, the identities of workers and clients, and
// the words by which a query that fails is answered, which are kept nowhere. By
// contract the workflow id of a lock carries the mobile ID's; how the user stands in
// search attributes and in the id of a Get is configured (plain, hashed, or off).
//
// Encryption is no proof of origin: a payload can be moved to another process of the
// same keyset by whoever can write to the namespace, which is operator power anyway.
//
// # Rotation
//
// A keyset is a file with its keys in clear, as tink calls it: whoever reads it reads
// all histories, and whoever loses it has lost them. It is for its owner alone, and
// its place is where other secrets are. It has one primary key, under which is
// encrypted, and any number of others, which decode. All processes read it again when
// it changes. The order matters: a key is added everywhere first (workers, backends,
// codec server, wherever starter runs), and only then made primary, or somebody meets
// payloads that he cannot decode. A key stays in the file for as long as histories
// from its time are kept. The keyset file of another Tink program can be used if its
// keys are for AEAD and have Tink's output prefix.
package encryption
