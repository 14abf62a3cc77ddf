-- What Get mobile ID needs. The version before goes on working beside it: no table of its own changes, and it can delete a
-- mobile ID although rows of the new tables hang on it.

-- +goose Up
CREATE TABLE user_emails (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email   TEXT NOT NULL CHECK (email <> ''),
    PRIMARY KEY (user_id, email)
) STRICT, WITHOUT ROWID;

-- No foreign key to mobile_ids: the mobile ID comes into being when its grant is used up.
CREATE TABLE grants (
    mobile_id        TEXT NOT NULL PRIMARY KEY CHECK (mobile_id <> ''),
    user_id          TEXT NOT NULL REFERENCES users (id),
    granted_by       TEXT NOT NULL CHECK (granted_by <> ''),
    created_at       TEXT NOT NULL,
    expires_at       TEXT NOT NULL,
    used_at          TEXT,
    used_workflow_id TEXT,
    used_run_id      TEXT,
    CHECK ((used_at IS NULL) = (used_run_id IS NULL))
) STRICT;

CREATE INDEX grants_by_user ON grants (user_id, created_at);

-- One-time secrets. A row is deleted when they are used or expired.
CREATE TABLE provisionings (
    mobile_id   TEXT NOT NULL PRIMARY KEY REFERENCES mobile_ids (id) ON DELETE CASCADE,
    user_id     TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    command_id  TEXT NOT NULL,
    nonce       TEXT NOT NULL,
    uri         TEXT NOT NULL,
    expires_at  TEXT NOT NULL,
    created_at  TEXT NOT NULL
) STRICT;

CREATE INDEX provisionings_by_user ON provisionings (user_id, created_at);
CREATE INDEX provisionings_by_expiry ON provisionings (expires_at);

-- Commands to messaging, and the answer to each. A row stays when its body is deleted, to tell a late answer from an unknown one.
CREATE TABLE messages (
    command_id  TEXT NOT NULL PRIMARY KEY CHECK (command_id <> ''),
    mobile_id   TEXT NOT NULL REFERENCES mobile_ids (id) ON DELETE CASCADE,
    workflow_id TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('provision', 'certificate')),
    expires_at  TEXT NOT NULL,
    voided_at   TEXT,
    body        BLOB,
    received_at TEXT,
    CHECK (body IS NULL OR received_at IS NOT NULL)
) STRICT;

CREATE INDEX messages_by_mobile_id ON messages (mobile_id);
CREATE INDEX messages_with_body ON messages (expires_at) WHERE body IS NOT NULL;

CREATE TABLE notifications (
    key     TEXT NOT NULL PRIMARY KEY CHECK (key <> ''),
    address TEXT NOT NULL,
    sent_at TEXT NOT NULL
) STRICT;
