-- What operators are mailed about, the CRLs that CAs bring, and how far comparisons came. The version before goes on working
-- beside it: it leaves a mail of a kind that it does not know to the later one.

-- +goose Up
-- SQLite cannot change a CHECK, so the outbox is made anew.
CREATE TABLE outbox_of_now (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    kind       TEXT    NOT NULL CHECK (kind IN ('lockRequested', 'lockFinished', 'getFinished', 'getFailed', 'getQR', 'lockOverdue')),
    mobile_id  TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    facts      TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('pending', 'sent', 'dropped', 'failed')),
    created_at TEXT    NOT NULL,
    due_at     TEXT    NOT NULL,
    attempts   INTEGER NOT NULL CHECK (attempts >= 0),
    claim      TEXT,
    problem    TEXT    NOT NULL,
    ended_at   TEXT,
    CHECK ((state = 'pending') = (ended_at IS NULL)),
    CHECK (state = 'pending' OR claim IS NULL),
    CHECK (state NOT IN ('sent', 'dropped') OR address = '' AND facts = '')
) STRICT;

INSERT INTO outbox_of_now (id, kind, mobile_id, address, facts, state, created_at, due_at, attempts, claim, problem, ended_at)
    SELECT id, kind, mobile_id, address, facts, state, created_at, due_at, attempts, claim, problem, ended_at FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_of_now RENAME TO outbox;

CREATE INDEX outbox_due ON outbox (due_at) WHERE state = 'pending';
CREATE INDEX outbox_open ON outbox (created_at) WHERE state IN ('pending', 'failed');
CREATE INDEX outbox_by_mobile_id ON outbox (mobile_id, kind);

-- That operators were told of a lock which is longer under way than a threshold, in milliseconds. A row stays for as long as its lock
-- may be under way.
CREATE TABLE overdue_warnings (
    mobile_id    TEXT    NOT NULL,
    requested_at TEXT    NOT NULL,
    threshold    INTEGER NOT NULL CHECK (threshold > 0),
    warned_at    TEXT    NOT NULL,
    PRIMARY KEY (mobile_id, requested_at, threshold)
) STRICT, WITHOUT ROWID;

CREATE INDEX overdue_warnings_by_time ON overdue_warnings (warned_at);

-- The last CRL that each CA brought, by scope: numbers are hex of one length, so that they sort. complete is the number up to which
-- all changes are taken over, which a delta CRL can build on.
CREATE TABLE crls (
    issuer      TEXT NOT NULL CHECK (issuer <> ''),
    aki         TEXT NOT NULL,
    scope       TEXT NOT NULL,
    number      TEXT NOT NULL CHECK (length(number) = 40),
    this_update TEXT NOT NULL,
    complete    TEXT NOT NULL CHECK (length(complete) IN (0, 40)),
    received_at TEXT NOT NULL,
    PRIMARY KEY (issuer, aki, scope)
) STRICT, WITHOUT ROWID;

-- Where a comparison that looks at a part each time goes on.
CREATE TABLE comparisons (
    ca     TEXT NOT NULL PRIMARY KEY CHECK (ca <> ''),
    aki    TEXT NOT NULL,
    serial TEXT NOT NULL,
    at     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
