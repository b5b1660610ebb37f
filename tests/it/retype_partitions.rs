//! ALTER COLUMN … TYPE of partitioned tables: there and back while the application writes, on, and
//! in the end the same catalog as after the direct statement.

use crate::lifecycle::{Project, assert_same};
use crate::retype::Case;

/// Three levels, attached tables with other column numbers, and all that a partition may have of
/// its own.
const EVENTS: &str = "
    CREATE TABLE users (id bigint PRIMARY KEY);
    INSERT INTO users SELECT n FROM generate_series(0, 99) n;
    CREATE TABLE events (id int NOT NULL DEFAULT 5, created date NOT NULL, user_id int
            CONSTRAINT of_user REFERENCES users ON DELETE CASCADE, code int, note text,
        CONSTRAINT events_pkey PRIMARY KEY (id, created),
        CONSTRAINT code_key UNIQUE (code, created) INCLUDE (note),
        CONSTRAINT positive CHECK (code > 0))
        PARTITION BY RANGE (created);
    CREATE INDEX events_user ON events (user_id, created DESC) WITH (fillfactor = 80);
    CREATE INDEX events_expr ON events ((code + id)) WHERE user_id > 3;
    CREATE INDEX events_note ON events (note);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')
        PARTITION BY RANGE (created);
    CREATE TABLE events_1a PARTITION OF events_1 FOR VALUES FROM ('2020-01-01') TO ('2020-07-01');
    CREATE TABLE events_1b PARTITION OF events_1 FOR VALUES FROM ('2020-07-01') TO ('2021-01-01');
    CREATE SCHEMA other;
    CREATE TABLE other.events_2 (gone int, note text, code int, \"own x\" int, created date NOT NULL,
        id int NOT NULL, user_id int, CONSTRAINT positive CHECK (code > 0),
        CONSTRAINT own_check CHECK (code < 100000000),
        CONSTRAINT own_unique UNIQUE (code, id) DEFERRABLE);
    ALTER TABLE other.events_2 DROP COLUMN gone, DROP COLUMN \"own x\",
        ALTER code SET DEFAULT 12, ALTER user_id SET NOT NULL;
    CREATE UNIQUE INDEX \"the Key\" ON other.events_2 (id, created);
    CREATE INDEX own_index ON other.events_2 (code DESC, note) WITH (fillfactor = 60);
    CREATE INDEX other_user ON other.events_2 (user_id, created DESC) WITH (fillfactor = 50);
    ALTER TABLE other.events_2 ADD CONSTRAINT \"the Key\" PRIMARY KEY USING INDEX \"the Key\";
    ALTER TABLE events ATTACH PARTITION other.events_2
        FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
    CREATE TABLE events_rest PARTITION OF events DEFAULT;
    ALTER TABLE other.events_2 CLUSTER ON other_user;
    ALTER TABLE events_1a REPLICA IDENTITY USING INDEX events_1a_pkey;
    ALTER TABLE events ALTER code SET STATISTICS 300;
    ALTER TABLE events_1b ALTER code SET STATISTICS 200, ALTER code SET (n_distinct = -1),
        ALTER id DROP DEFAULT;
    ALTER TABLE events_rest ALTER code SET STATISTICS -1;
    COMMENT ON COLUMN events.code IS 'a code';
    COMMENT ON COLUMN events_1a.code IS 'its code';
    COMMENT ON INDEX events_user IS 'by user';
    COMMENT ON INDEX other.other_user IS 'by user there';
    COMMENT ON INDEX other.own_index IS 'own';
    COMMENT ON CONSTRAINT events_pkey ON events IS 'key';
    COMMENT ON CONSTRAINT \"the Key\" ON other.events_2 IS 'key there';
    COMMENT ON CONSTRAINT code_key ON events IS 'code';
    COMMENT ON CONSTRAINT own_unique ON other.events_2 IS 'own';
    GRANT SELECT (code) ON events TO PUBLIC;
    GRANT UPDATE (code) ON events_1a TO PUBLIC;
    INSERT INTO events (id, created, user_id, code, note)
        SELECT n, '2020-01-01'::date + n % 1100, n % 100, n, 'n' || n
        FROM generate_series(1, 3000) n;";

fn writes(n: u64) -> String {
    let day = n % 1100;
    match n % 5 {
        0 => format!(
            "INSERT INTO events (id, created, user_id, code, note)
             VALUES ({}, '2020-01-01'::date + {day}, {}, {}, 'x')",
            10_000 + n,
            n % 100,
            10_000 + n
        ),
        1 => format!(
            "UPDATE events SET user_id = {} WHERE id = {}",
            n % 100,
            n % 3000
        ),
        2 => format!(
            "UPDATE events SET code = code + 1000000 WHERE id = {}",
            n % 3000
        ),
        // To another partition.
        3 => format!(
            "UPDATE events SET created = '2020-01-01'::date + (created - '2020-01-01' + 400) % 1100
             WHERE id = {}",
            n % 3000
        ),
        _ => format!("DELETE FROM events WHERE id = {}", n % 3000),
    }
}

#[tokio::test]
async fn a_tree_with_everything() {
    Case {
        name: "retype_tree",
        setup: EVENTS,
        file: "ALTER TABLE events ALTER COLUMN id TYPE bigint, ALTER code TYPE bigint,
                   ALTER user_id TYPE bigint;",
        direct: "",
        traffic: writes,
        ready: &["SELECT count(*) > 2000 FROM events"],
        complete: &[
            "SELECT count(*) = 6 FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
             WHERE relname LIKE 'events%' AND relkind IN ('r', 'p') AND attname = 'id'
               AND format_type(atttypid, atttypmod) = 'bigint'",
            "SELECT count(*) = 0 FROM pg_index WHERE NOT indisvalid",
        ],
        after: (
            "INSERT INTO events (id, created, code, note) VALUES (7, '2020-03-03', 999999999, 'new');
             INSERT INTO events (created, user_id, note) VALUES ('2019-03-03', 3, 'by default');
             INSERT INTO other.events_2 (id, created, user_id) VALUES (1, '2021-03-03', 3);
             DELETE FROM events WHERE code = 12",
            &[
                "SELECT count(*) = 1 FROM events WHERE code = 999999999 AND id = 7",
                "SELECT count(*) = 1 FROM events WHERE note = 'by default' AND id = 5",
            ],
        ),
        lost: &[],
    }
    .check()
    .await;
}
