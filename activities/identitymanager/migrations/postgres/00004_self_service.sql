-- What Self-Service needs to sign people in. The version before goes on working beside it: no table of its own changes.

-- +goose Up
-- The id is the hash of the token in the cookie, so that nobody who reads this table can take a session over.
CREATE TABLE sessions (
    id         text COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(id) = 64),
    user_id    text COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    method     text             NOT NULL CHECK (method <> ''),
    created_at timestamptz      NOT NULL,
    seen_at    timestamptz      NOT NULL,
    expires_at timestamptz      NOT NULL
);

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE passwords (
    user_id    text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    hash       text             NOT NULL CHECK (hash <> ''),
    changed_at timestamptz      NOT NULL
);

-- How often signing in was tried, by user and by address, both hashed. The row starts anew when its time is over.
CREATE TABLE sign_in_tries (
    key   text COLLATE "C" NOT NULL PRIMARY KEY CHECK (key <> ''),
    tries bigint           NOT NULL CHECK (tries > 0),
    since timestamptz      NOT NULL
);

CREATE INDEX sign_in_tries_by_time ON sign_in_tries (since);
