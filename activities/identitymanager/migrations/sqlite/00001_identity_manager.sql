-- Times are UTC text with microseconds, 2006-01-02T15:04:05.000000Z, so that they sort as they read.

-- +goose Up
CREATE TABLE users (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    name       TEXT    NOT NULL,
    email      TEXT    NOT NULL,
    active     INTEGER NOT NULL CHECK (active IN (0, 1)),
    created_at TEXT    NOT NULL
) STRICT;

CREATE TABLE user_roles (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role    TEXT NOT NULL CHECK (role <> ''),
    PRIMARY KEY (user_id, role)
) STRICT, WITHOUT ROWID;

CREATE TABLE mobile_ids (
    id               TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
    owner            TEXT NOT NULL REFERENCES users (id),
    name             TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('registered', 'active', 'inactive', 'locked')),
    requested_at     TEXT,
    locked_at        TEXT,
    lock_process     TEXT,
    lock_workflow_id TEXT,
    lock_run_id      TEXT,
    lock_reason      TEXT,
    created_at       TEXT NOT NULL,
    CHECK ((state = 'locked') = (locked_at IS NOT NULL))
) STRICT;

CREATE INDEX mobile_ids_by_owner ON mobile_ids (owner, id);

CREATE TABLE certificates (
    issuer     TEXT NOT NULL CHECK (issuer <> ''),
    aki        TEXT NOT NULL,
    serial     TEXT NOT NULL CHECK (serial <> ''),
    mobile_id  TEXT NOT NULL REFERENCES mobile_ids (id),
    state      TEXT NOT NULL CHECK (state IN ('issued', 'valid', 'onHold', 'expired', 'revoked')),
    issuer_dn  TEXT NOT NULL,
    not_before TEXT NOT NULL,
    not_after  TEXT NOT NULL,
    der        BLOB,
    revoked_at TEXT,
    reason     TEXT,
    created_at TEXT NOT NULL,
    PRIMARY KEY (issuer, aki, serial)
) STRICT;

CREATE INDEX certificates_by_mobile_id ON certificates (mobile_id, issuer, aki, serial);

-- No foreign key: refusals for mobile IDs that do not exist are recorded too.
CREATE TABLE audit (
    mobile_id   TEXT    NOT NULL,
    number      INTEGER NOT NULL CHECK (number > 0),
    record      TEXT    NOT NULL,
    mac         TEXT    NOT NULL,
    idempotency TEXT    NOT NULL,
    PRIMARY KEY (mobile_id, number),
    UNIQUE (mobile_id, idempotency)
) STRICT;

CREATE TABLE audit_heads (
    mobile_id TEXT    NOT NULL PRIMARY KEY,
    number    INTEGER NOT NULL CHECK (number >= 0),
    mac       TEXT    NOT NULL
) STRICT;

-- The store has no statement that would do any of this. The triggers stop other programs, and mistakes to come.

-- +goose StatementBegin
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER locked_is_final BEFORE UPDATE OF state ON mobile_ids
WHEN OLD.state = 'locked' AND NEW.state <> 'locked'
BEGIN
    SELECT RAISE(ABORT, 'locked is final');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER expired_and_revoked_are_final BEFORE UPDATE OF state ON certificates
WHEN OLD.state IN ('expired', 'revoked') AND NEW.state <> OLD.state
BEGIN
    SELECT RAISE(ABORT, 'expired and revoked are final');
END;
-- +goose StatementEnd
