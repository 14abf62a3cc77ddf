-- What Self-Service needs to sign people in. The version before goes on working beside it: no table of its own changes.

-- +goose Up
-- The id is the hash of the token in the cookie, so that nobody who reads this table can take a session over.
CREATE TABLE sessions (
    id         TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 64),
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    method     TEXT NOT NULL CHECK (method <> ''),
    created_at TEXT NOT NULL,
    seen_at    TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE passwords (
    user_id    TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    hash       TEXT NOT NULL CHECK (hash <> ''),
    changed_at TEXT NOT NULL
) STRICT;

-- How often signing in was tried, by user and by address, both hashed. The row starts anew when its time is over.
CREATE TABLE sign_in_tries (
    key   TEXT    NOT NULL PRIMARY KEY CHECK (key <> ''),
    tries INTEGER NOT NULL CHECK (tries > 0),
    since TEXT    NOT NULL
) STRICT;

CREATE INDEX sign_in_tries_by_time ON sign_in_tries (since);
