-- What operators are mailed about, the CRLs that CAs bring, and how far comparisons came. The version before goes on working
-- beside it: it leaves a mail of a kind that it does not know to the later one.

-- +goose Up
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check
    CHECK (kind IN ('lockRequested', 'lockFinished', 'getFinished', 'getFailed', 'getQR', 'lockOverdue'));

-- That operators were told of a lock which is longer under way than a threshold, in milliseconds. A row stays for as long as its lock
-- may be under way.
CREATE TABLE overdue_warnings (
    mobile_id    text COLLATE "C" NOT NULL,
    requested_at timestamptz      NOT NULL,
    threshold    bigint           NOT NULL CHECK (threshold > 0),
    warned_at    timestamptz      NOT NULL,
    PRIMARY KEY (mobile_id, requested_at, threshold)
);

CREATE INDEX overdue_warnings_by_time ON overdue_warnings (warned_at);

-- The last CRL that each CA brought, by scope: numbers are hex of one length, so that they sort. complete is the number up to which
-- all changes are taken over, which a delta CRL can build on.
CREATE TABLE crls (
    issuer      text COLLATE "C" NOT NULL CHECK (issuer <> ''),
    aki         text COLLATE "C" NOT NULL,
    scope       text COLLATE "C" NOT NULL,
    number      text COLLATE "C" NOT NULL CHECK (length(number) = 40),
    this_update timestamptz      NOT NULL,
    complete    text COLLATE "C" NOT NULL CHECK (length(complete) IN (0, 40)),
    received_at timestamptz      NOT NULL,
    PRIMARY KEY (issuer, aki, scope)
);

-- Where a comparison that looks at a part each time goes on.
CREATE TABLE comparisons (
    ca     text COLLATE "C" NOT NULL PRIMARY KEY CHECK (ca <> ''),
    aki    text COLLATE "C" NOT NULL,
    serial text COLLATE "C" NOT NULL,
    at     timestamptz      NOT NULL
);
