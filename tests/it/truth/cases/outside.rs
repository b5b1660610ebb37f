//! What the server runs only outside of a transaction block.

use super::super::{Coarse, Group, case, group};

const T: &str = "
CREATE TABLE t (id int PRIMARY KEY, a int);
INSERT INTO t SELECT n, n FROM generate_series(1, 200) n;
CREATE INDEX t_a ON t (a);
";

const P: &str = "
CREATE TABLE p (k int) PARTITION BY RANGE (k);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (100) TO (200);
INSERT INTO p SELECT generate_series(0, 199);
CREATE INDEX p_k ON p (k);
";

const WRITER: &str = "UPDATE t SET a = 1 WHERE id = 1";

pub(in super::super) const OUTSIDE: &[Group] = &[
    group(
        T,
        &[case("CREATE INDEX CONCURRENTLY t_new ON t (a)").held_by(WRITER)],
    ),
    group(
        T,
        &[case("CREATE UNIQUE INDEX CONCURRENTLY t_new ON t (id)").held_by(WRITER)],
    ),
    group(T, &[case("DROP INDEX CONCURRENTLY t_a").held_by(WRITER)]),
    group(T, &[case("REINDEX INDEX CONCURRENTLY t_a").held_by(WRITER)]),
    group(T, &[case("REINDEX TABLE CONCURRENTLY t").held_by(WRITER)]),
    group(
        T,
        &[case("REINDEX (CONCURRENTLY, VERBOSE) TABLE t").held_by(WRITER)],
    ),
    group(
        T,
        &[case("VACUUM t").held_by("LOCK t IN SHARE UPDATE EXCLUSIVE MODE")],
    ),
    group(
        T,
        &[case("VACUUM (ANALYZE) t (a)").held_by("LOCK t IN SHARE UPDATE EXCLUSIVE MODE")],
    ),
    group(T, &[case("VACUUM FULL t").held_by("SELECT FROM t")]),
    group(T, &[case("VACUUM (FULL) t").held_by("SELECT FROM t")]),
    group(
        P,
        &[case("ALTER TABLE p DETACH PARTITION p_1 CONCURRENTLY").held_by("SELECT FROM p_1")],
    ),
    group(
        P,
        &[case("REINDEX TABLE p").held_by("SELECT FROM p_1").coarse(&[
            Coarse::Lock("p_2", ONE_BY_ONE),
            Coarse::Lock("p_2_k_idx", ONE_BY_ONE),
            Coarse::Lock("p", ONE_BY_ONE),
            Coarse::Lock("p_k", ONE_BY_ONE),
        ])],
    ),
];

const ONE_BY_ONE: &str = "each partition has a transaction of its own";
