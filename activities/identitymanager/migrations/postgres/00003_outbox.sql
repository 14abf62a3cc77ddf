-- Mails that are due. The version before goes on working beside it: it writes and reads none. Table notifications of
-- migration 2 was never used, and stays empty.

-- +goose Up
-- No foreign key to mobile_ids: what happened is told whatever becomes of the mobile ID. A row stays when its mail is sent or
-- dropped, without address and facts, so that the mail is known not to be due again. due_at is when it may be tried, and
-- while claim is set, until when nobody else may.
CREATE TABLE outbox (
    id         text COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    kind       text             NOT NULL CHECK (kind IN ('lockRequested', 'lockFinished', 'getFinished', 'getFailed', 'getQR')),
    mobile_id  text COLLATE "C" NOT NULL,
    address    text             NOT NULL,
    facts      text             NOT NULL,
    state      text             NOT NULL CHECK (state IN ('pending', 'sent', 'dropped', 'failed')),
    created_at timestamptz      NOT NULL,
    due_at     timestamptz      NOT NULL,
    attempts   bigint           NOT NULL CHECK (attempts >= 0),
    claim      text,
    problem    text             NOT NULL,
    ended_at   timestamptz,
    CHECK ((state = 'pending') = (ended_at IS NULL)),
    CHECK (state = 'pending' OR claim IS NULL),
    CHECK (state NOT IN ('sent', 'dropped') OR address = '' AND facts = '')
);

CREATE INDEX outbox_due ON outbox (due_at) WHERE state = 'pending';
CREATE INDEX outbox_open ON outbox (created_at) WHERE state IN ('pending', 'failed');
CREATE INDEX outbox_by_mobile_id ON outbox (mobile_id, kind);
