-- Mails that are due. The version before goes on working beside it: it writes and reads none. Table notifications of
-- migration 2 was never used, and stays empty.

-- +goose Up
-- No foreign key to mobile_ids: what happened is told whatever becomes of the mobile ID. A row stays when its mail is sent or
-- dropped, without address and facts, so that the mail is known not to be due again. due_at is when it may be tried, and
-- while claim is set, until when nobody else may.
CREATE TABLE outbox (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    kind       TEXT    NOT NULL CHECK (kind IN ('lockRequested', 'lockFinished', 'getFinished', 'getFailed', 'getQR')),
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

CREATE INDEX outbox_due ON outbox (due_at) WHERE state = 'pending';
CREATE INDEX outbox_open ON outbox (created_at) WHERE state IN ('pending', 'failed');
CREATE INDEX outbox_by_mobile_id ON outbox (mobile_id, kind);
