-- Identifiers compare byte by byte (COLLATE "C"), so that the order of certificates does not depend on the database's locale.

-- +goose Up
CREATE TABLE users (
    id         text COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    name       text             NOT NULL,
    email      text             NOT NULL,
    active     boolean          NOT NULL,
    created_at timestamptz      NOT NULL
);

CREATE TABLE user_roles (
    user_id text COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role    text COLLATE "C" NOT NULL CHECK (role <> ''),
    PRIMARY KEY (user_id, role)
);

CREATE TABLE mobile_ids (
    id               text COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    owner            text COLLATE "C" NOT NULL REFERENCES users (id),
    name             text             NOT NULL,
    state            text             NOT NULL CHECK (state IN ('registered', 'active', 'inactive', 'locked')),
    requested_at     timestamptz,
    locked_at        timestamptz,
    lock_process     text,
    lock_workflow_id text,
    lock_run_id      text,
    lock_reason      text,
    created_at       timestamptz      NOT NULL,
    CHECK ((state = 'locked') = (locked_at IS NOT NULL))
);

CREATE INDEX mobile_ids_by_owner ON mobile_ids (owner, id);

CREATE TABLE certificates (
    issuer     text COLLATE "C" NOT NULL CHECK (issuer <> ''),
    aki        text COLLATE "C" NOT NULL,
    serial     text COLLATE "C" NOT NULL CHECK (serial <> ''),
    mobile_id  text COLLATE "C" NOT NULL REFERENCES mobile_ids (id),
    state      text             NOT NULL CHECK (state IN ('issued', 'valid', 'onHold', 'expired', 'revoked')),
    issuer_dn  text             NOT NULL,
    not_before timestamptz      NOT NULL,
    not_after  timestamptz      NOT NULL,
    der        bytea,
    revoked_at timestamptz,
    reason     text,
    created_at timestamptz      NOT NULL,
    PRIMARY KEY (issuer, aki, serial)
);

CREATE INDEX certificates_by_mobile_id ON certificates (mobile_id, issuer, aki, serial);

-- No foreign key: refusals for mobile IDs that do not exist are recorded too.
CREATE TABLE audit (
    mobile_id   text COLLATE "C" NOT NULL,
    number      bigint           NOT NULL CHECK (number > 0),
    record      text             NOT NULL,
    mac         text             NOT NULL,
    idempotency text COLLATE "C" NOT NULL,
    PRIMARY KEY (mobile_id, number),
    UNIQUE (mobile_id, idempotency)
);

CREATE TABLE audit_heads (
    mobile_id text COLLATE "C" NOT NULL PRIMARY KEY,
    number    bigint           NOT NULL CHECK (number >= 0),
    mac       text             NOT NULL
);

-- The store has no statement that would do any of this. The triggers stop other programs, and mistakes to come.

-- +goose StatementBegin
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append-only';
END
$$;
-- +goose StatementEnd

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- +goose StatementBegin
CREATE FUNCTION state_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is final', OLD.state;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER locked_is_final BEFORE UPDATE OF state ON mobile_ids
    FOR EACH ROW WHEN (OLD.state = 'locked' AND NEW.state <> 'locked')
    EXECUTE FUNCTION state_is_final();

CREATE TRIGGER expired_and_revoked_are_final BEFORE UPDATE OF state ON certificates
    FOR EACH ROW WHEN (OLD.state IN ('expired', 'revoked') AND NEW.state <> OLD.state)
    EXECUTE FUNCTION state_is_final();
