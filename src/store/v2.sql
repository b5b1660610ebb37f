-- State schema of pgshift, version 2: the log's head, verifies that can be gone on with.

-- The newest entry of the log, written with it. Entries cut off the end are missed by it; and the
-- next entry follows the head, so that the gap stays.
CREATE TABLE pgshift.event_head (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq  bigint  NOT NULL,
    hash text    NOT NULL
) WITH (fillfactor = 10);

-- No entry while the head is read, to the end of this transaction.
SELECT pg_advisory_xact_lock(1885827169, 1);
INSERT INTO pgshift.event_head (seq, hash)
SELECT coalesce(max(seq), 0),
       coalesce((SELECT hash FROM pgshift.event ORDER BY seq DESC LIMIT 1), '')
FROM pgshift.event;

CREATE OR REPLACE FUNCTION pgshift.append_event(
    p_migration_id text, p_run_id bigint, p_actor text, p_kind text, p_detail jsonb
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last   record;
    v_seq  bigint;
    v_hash text;
    v_at   timestamptz := clock_timestamp();
BEGIN
    -- One writer at a time, to the end of its transaction: the chain has no forks and no gaps.
    PERFORM pg_advisory_xact_lock(1885827169, 1);
    SELECT e.seq, e.hash INTO last FROM pgshift.event e ORDER BY e.seq DESC LIMIT 1;
    v_seq := coalesce(last.seq, 0);
    v_hash := coalesce(last.hash, '');
    -- The head, not the last entry, is followed: what was cut off stays missing. An entry that
    -- was put after the head must not stop a run.
    SELECT h.seq, h.hash INTO last FROM pgshift.event_head h;
    IF FOUND THEN
        v_seq := greatest(v_seq, last.seq);
        v_hash := last.hash;
    END IF;
    v_seq := v_seq + 1;
    v_hash := pgshift.event_hash(v_hash, v_seq, v_at, p_migration_id, p_run_id, p_actor, p_kind,
                                 p_detail);
    INSERT INTO pgshift.event (seq, at, migration_id, run_id, actor, kind, detail, hash)
    VALUES (v_seq, v_at, p_migration_id, p_run_id, p_actor, p_kind, p_detail, v_hash);
    -- A head that somebody removed is not made anew: that would hide it.
    UPDATE pgshift.event_head SET seq = v_seq, hash = v_hash;
    RETURN v_seq;
END
$$;

-- One row a verify: of a step, or by itself (run_id is null).
CREATE TABLE pgshift.verification (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id text        NOT NULL REFERENCES pgshift.migration (id) ON DELETE CASCADE,
    run_id       bigint      REFERENCES pgshift.run (id) ON DELETE CASCADE,
    ordinal      integer     NOT NULL,
    spec         jsonb       NOT NULL,
    done         boolean     NOT NULL DEFAULT false,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz
);
CREATE INDEX verification_migration ON pgshift.verification (migration_id);

-- Its progress: one row a relation, updated in the transaction that read the range. `guard` names
-- the sync trigger that keeps the rows right that were read: another guard, another scan.
CREATE TABLE pgshift.verify_range (
    verification_id bigint  NOT NULL REFERENCES pgshift.verification (id) ON DELETE CASCADE,
    relation        oid     NOT NULL,
    schema_name     text    NOT NULL,
    table_name      text    NOT NULL,
    filenode        oid,
    guard           text    NOT NULL,
    blocks          bigint  NOT NULL,
    next            bigint  NOT NULL DEFAULT 0,
    done            boolean NOT NULL DEFAULT false,
    wrong           bigint  NOT NULL DEFAULT 0,
    ranges          bigint  NOT NULL DEFAULT 0,
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (verification_id, relation)
) WITH (fillfactor = 50);

-- Rows that it found wrong, by key (texts of the primary key's columns; an empty array without
-- one) and by place. No other value of theirs is kept.
CREATE TABLE pgshift.wrong_row (
    verification_id bigint  NOT NULL,
    relation        oid     NOT NULL,
    tid             text    NOT NULL,
    key             jsonb   NOT NULL,
    state           text    NOT NULL DEFAULT 'wrong',
    PRIMARY KEY (verification_id, relation, tid),
    FOREIGN KEY (verification_id, relation)
        REFERENCES pgshift.verify_range (verification_id, relation) ON DELETE CASCADE
);

INSERT INTO pgshift.schema_version (version) VALUES (2);
