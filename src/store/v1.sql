-- State schema of pgshift, version 1. It lives beside the data, so that a failover cuts both at
-- the same point.
-- An administrator may have made it: then the role needs no CREATE on the database, which IF NOT
-- EXISTS asks for all the same.
DO $$ BEGIN
    IF to_regnamespace('pgshift') IS NULL THEN
        CREATE SCHEMA pgshift;
    END IF;
END $$;
COMMENT ON SCHEMA pgshift IS 'State of pgshift, the migration engine. Do not edit by hand.';

CREATE TABLE pgshift.schema_version (
    version    integer     NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row a migration.
CREATE TABLE pgshift.migration (
    id         text PRIMARY KEY,
    checksum   text        NOT NULL,
    source     text        NOT NULL,
    state      text        NOT NULL,
    plan       jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row a run: an apply, contract, revert or purge, with the steps that it executes.
-- `epoch` is the fence: each takeover and each reconnect raises it, and every chunk and step
-- locks this row FOR SHARE with the epoch that it was started under.
CREATE TABLE pgshift.run (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id text        NOT NULL REFERENCES pgshift.migration (id),
    kind         text        NOT NULL,
    state        text        NOT NULL DEFAULT 'running',
    epoch        bigint      NOT NULL DEFAULT 0,
    steps        jsonb       NOT NULL,
    error        text,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz
);
CREATE UNIQUE INDEX run_one_open_per_migration ON pgshift.run (migration_id)
    WHERE state = 'running';

-- Who executes a run. Apart from `run`, so that heartbeats do not wait for chunks.
CREATE TABLE pgshift.lease (
    run_id       bigint PRIMARY KEY REFERENCES pgshift.run (id) ON DELETE CASCADE,
    epoch        bigint      NOT NULL,
    holder       text        NOT NULL,
    backend_pid  integer     NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    progress     jsonb
);

-- One row a step, written in the step's own transaction where it has one.
CREATE TABLE pgshift.step (
    run_id      bigint      NOT NULL REFERENCES pgshift.run (id) ON DELETE CASCADE,
    ordinal     integer     NOT NULL,
    phase       text        NOT NULL,
    title       text        NOT NULL,
    state       text        NOT NULL,
    attempts    integer     NOT NULL DEFAULT 0,
    waited_ms   bigint      NOT NULL DEFAULT 0,
    error       text,
    result      jsonb,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (run_id, ordinal)
);

-- Progress of a backfill or verify: one row a range, updated in the transaction of the chunk.
-- A ctid range covers the blocks lo..hi of the relation, done below `next`; a keyset range is done
-- up to and including `cursor`.
CREATE TABLE pgshift.checkpoint (
    run_id     bigint      NOT NULL,
    ordinal    integer     NOT NULL,
    range_no   integer     NOT NULL,
    relation   oid         NOT NULL,
    schema_name text       NOT NULL,
    table_name text        NOT NULL,
    strategy   text        NOT NULL,
    filenode   oid,
    lo         bigint      NOT NULL DEFAULT 0,
    hi         bigint      NOT NULL DEFAULT 0,
    next       bigint      NOT NULL DEFAULT 0,
    cursor     text[],
    done       boolean     NOT NULL DEFAULT false,
    rows       bigint      NOT NULL DEFAULT 0,
    chunks     bigint      NOT NULL DEFAULT 0,
    worked_ms  double precision NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, ordinal, range_no),
    FOREIGN KEY (run_id, ordinal) REFERENCES pgshift.step (run_id, ordinal) ON DELETE CASCADE
) WITH (fillfactor = 50);

-- Rows that a backfill could not change.
CREATE TABLE pgshift.failed_row (
    run_id   bigint      NOT NULL REFERENCES pgshift.run (id) ON DELETE CASCADE,
    ordinal  integer     NOT NULL,
    relation text        NOT NULL,
    key      text        NOT NULL,
    sqlstate text        NOT NULL,
    message  text        NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, ordinal, relation, key)
);

-- What a person says to a run: pause, limits. An override may expire.
CREATE TABLE pgshift.override (
    migration_id text        NOT NULL REFERENCES pgshift.migration (id) ON DELETE CASCADE,
    key          text        NOT NULL,
    value        text        NOT NULL,
    set_by       text        NOT NULL,
    set_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz,
    PRIMARY KEY (migration_id, key)
);

-- Append-only log, hash-chained: `hash` covers the row and the hash before it.
CREATE TABLE pgshift.event (
    seq          bigint PRIMARY KEY,
    at           timestamptz NOT NULL,
    migration_id text,
    run_id       bigint,
    actor        text        NOT NULL,
    kind         text        NOT NULL,
    detail       jsonb       NOT NULL,
    hash         text        NOT NULL
);

CREATE FUNCTION pgshift.event_hash(
    previous text, seq bigint, at timestamptz, migration_id text, run_id bigint,
    actor text, kind text, detail jsonb
) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT encode(sha256(convert_to(jsonb_build_array(
        previous, seq, extract(epoch FROM at)::text, migration_id, run_id, actor, kind, detail
    )::text, 'UTF8')), 'hex')
$$;

CREATE FUNCTION pgshift.append_event(
    p_migration_id text, p_run_id bigint, p_actor text, p_kind text, p_detail jsonb
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last   record;
    v_seq  bigint;
    v_at   timestamptz := clock_timestamp();
BEGIN
    -- One writer at a time, to the end of its transaction: the chain has no forks and no gaps.
    PERFORM pg_advisory_xact_lock(1885827169, 1);
    SELECT e.seq, e.hash INTO last FROM pgshift.event e ORDER BY e.seq DESC LIMIT 1;
    v_seq := coalesce(last.seq, 0) + 1;
    INSERT INTO pgshift.event (seq, at, migration_id, run_id, actor, kind, detail, hash)
    VALUES (v_seq, v_at, p_migration_id, p_run_id, p_actor, p_kind, p_detail,
            pgshift.event_hash(coalesce(last.hash, ''), v_seq, v_at, p_migration_id, p_run_id,
                               p_actor, p_kind, p_detail));
    RETURN v_seq;
END
$$;

REVOKE ALL ON FUNCTION pgshift.event_hash(text, bigint, timestamptz, text, bigint, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION pgshift.append_event(text, bigint, text, text, jsonb) FROM PUBLIC;

INSERT INTO pgshift.schema_version (version) VALUES (1);
