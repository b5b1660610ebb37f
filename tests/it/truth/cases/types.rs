//! ALTER COLUMN … TYPE.

use super::super::{Case, Group, case, group};

const T: &str = "
CREATE TABLE t (
    id int PRIMARY KEY, i int, s smallint, b bigint, v varchar(10), vn varchar, tx text, c char(5),
    n numeric(10,2), nn numeric, ts timestamp, tz timestamptz, ts3 timestamp(3), tm time,
    bi bit(8), vb varbit(8), iv interval, iv3 interval(3), am amount, po positive, ci citext,
    mo mood, ia int[], va varchar(10)[], js json, jb jsonb, inet_ inet, cid cidr, r real, d double precision,
    o oid, x xml, iy interval year, vx varchar(10), tx2 text, tsx timestamp, chk varchar(10) CHECK (chk <> 'z'),
    nx numeric(10,2), vw varchar(10), gen varchar(10), na name, u uuid, bo boolean);
INSERT INTO t (id, i, s, b, v, vn, tx, c, n, nn, ts, tz, ts3, tm, bi, vb, iv, iv3, am, po, ci, mo,
        ia, va, js, jb, inet_, cid, r, d, o, vx, tx2, tsx, chk, nx, vw, gen, na, bo)
    SELECT k, k, k, k, 'v', 'v', 'abc', 'c', k, k, now(), now(), now(), '10:00', B'10101010', B'1',
        '1 day', '1 day', 1, 1, 'ci', 'low', '{1}', '{a}', '{}', '{}', '10.0.0.1', '10.0.0.0/8', 1, 1, 1,
        'x' || k, 't' || k, now(), 'a', k, 'w', 'g', 'n', true
    FROM generate_series(1, 200) k;
CREATE INDEX t_vx ON t (vx);
CREATE INDEX t_tx2 ON t (tx2);
CREATE INDEX t_tsx ON t (tsx);
CREATE INDEX t_nx ON t (nx);
CREATE INDEX t_both ON t (vx, i);
CREATE INDEX t_expr ON t (lower(vn));
CREATE INDEX t_partial ON t (s) WHERE ci <> 'q';
CREATE TABLE ref (id int REFERENCES t, k varchar(5));
INSERT INTO ref SELECT k, 'k' FROM generate_series(1, 200) k;
CREATE TABLE key (k varchar(10) PRIMARY KEY);
INSERT INTO key SELECT n::text FROM generate_series(1, 200) n;
CREATE TABLE refkey (k varchar(10) CONSTRAINT refkey_k REFERENCES key);
INSERT INTO refkey SELECT n::text FROM generate_series(1, 200) n;
CREATE STATISTICS t_stats ON i, s FROM t;
";

pub(in super::super) const TYPES: &[Group] = &[
    group(T, T_CASES).session("SET TimeZone = 'Europe/Berlin'"),
    group(
        "CREATE TABLE t (a timestamp, b timestamptz, x timestamp, y timestamptz);
         INSERT INTO t SELECT now(), now(), now() + n * interval '1 s', now() FROM generate_series(1, 200) n;
         CREATE INDEX t_x ON t (x); CREATE INDEX t_y ON t (y);",
        &[
            case("ALTER TABLE t ALTER a TYPE timestamptz"),
            case("ALTER TABLE t ALTER b TYPE timestamp"),
            case("ALTER TABLE t ALTER x TYPE timestamptz"),
            case("ALTER TABLE t ALTER y TYPE timestamp"),
            case("ALTER TABLE t ALTER a TYPE timestamptz(3)"),
            case("ALTER TABLE t ALTER a TYPE timestamptz USING a AT TIME ZONE 'UTC'"),
        ],
    )
    .session("SET TimeZone = 'UTC'"),
];

const T_CASES: &[Case] = &[
    case("ALTER TABLE t ALTER v TYPE varchar(20)"),
    case("ALTER TABLE t ALTER v TYPE varchar(10)"),
    case("ALTER TABLE t ALTER v TYPE varchar(5)"),
    case("ALTER TABLE t ALTER v TYPE varchar"),
    case("ALTER TABLE t ALTER v TYPE text"),
    case("ALTER TABLE t ALTER v TYPE text COLLATE \"C\""),
    case("ALTER TABLE t ALTER v TYPE varchar(10) COLLATE \"C\""),
    case("ALTER TABLE t ALTER v TYPE varchar(20) COLLATE \"default\""),
    case("ALTER TABLE t ALTER v TYPE char(10)"),
    case("ALTER TABLE t ALTER v TYPE citext"),
    case("ALTER TABLE t ALTER v TYPE text USING v::text"),
    case("ALTER TABLE t ALTER v TYPE text USING lower(v)"),
    case("ALTER TABLE t ALTER v TYPE text USING tx"),
    case("ALTER TABLE t ALTER v SET DATA TYPE varchar(40)"),
    case("ALTER TABLE t ALTER vn TYPE text"),
    case("ALTER TABLE t ALTER vn TYPE varchar(20)"),
    case("ALTER TABLE t ALTER vx TYPE text"),
    case("ALTER TABLE t ALTER vx TYPE varchar(20)"),
    case("ALTER TABLE t ALTER vx TYPE text COLLATE \"C\""),
    case("ALTER TABLE t ALTER vx TYPE citext"),
    case("ALTER TABLE t ALTER tx TYPE varchar"),
    case("ALTER TABLE t ALTER tx TYPE varchar(10)"),
    case("ALTER TABLE t ALTER tx TYPE citext"),
    case("ALTER TABLE t ALTER tx2 TYPE varchar"),
    case("ALTER TABLE t ALTER tx2 TYPE citext"),
    case("ALTER TABLE t ALTER ci TYPE text"),
    case("ALTER TABLE t ALTER c TYPE char(8)"),
    case("ALTER TABLE t ALTER c TYPE char(5)"),
    case("ALTER TABLE t ALTER c TYPE text"),
    case("ALTER TABLE t ALTER c TYPE varchar(5)"),
    case("ALTER TABLE t ALTER na TYPE text"),
    case("ALTER TABLE t ALTER i TYPE bigint"),
    case("ALTER TABLE t ALTER i TYPE int"),
    case("ALTER TABLE t ALTER i TYPE smallint"),
    case("ALTER TABLE t ALTER i TYPE numeric"),
    case("ALTER TABLE t ALTER i TYPE text"),
    case("ALTER TABLE t ALTER i TYPE oid"),
    case("ALTER TABLE t ALTER o TYPE int"),
    case("ALTER TABLE t ALTER i TYPE amount"),
    case("ALTER TABLE t ALTER i TYPE positive"),
    case("ALTER TABLE t ALTER am TYPE int"),
    case("ALTER TABLE t ALTER po TYPE int"),
    case("ALTER TABLE t ALTER am TYPE positive"),
    case("ALTER TABLE t ALTER s TYPE int"),
    case("ALTER TABLE t ALTER b TYPE int"),
    case("ALTER TABLE t ALTER id TYPE bigint"),
    case("ALTER TABLE t ALTER n TYPE numeric(12,2)"),
    case("ALTER TABLE t ALTER n TYPE numeric(8,2)"),
    case("ALTER TABLE t ALTER n TYPE numeric(12,3)"),
    case("ALTER TABLE t ALTER n TYPE numeric"),
    case("ALTER TABLE t ALTER nn TYPE numeric(12,2)"),
    case("ALTER TABLE t ALTER nx TYPE numeric(14,2)"),
    case("ALTER TABLE t ALTER ts TYPE timestamp(3)"),
    case("ALTER TABLE t ALTER ts TYPE timestamp(6)"),
    case("ALTER TABLE t ALTER ts3 TYPE timestamp"),
    case("ALTER TABLE t ALTER ts3 TYPE timestamp(4)"),
    case("ALTER TABLE t ALTER ts TYPE timestamptz"),
    case("ALTER TABLE t ALTER tz TYPE timestamp"),
    case("ALTER TABLE t ALTER ts TYPE date"),
    case("ALTER TABLE t ALTER tm TYPE timetz"),
    case("ALTER TABLE t ALTER tm TYPE time(3)"),
    case("ALTER TABLE t ALTER tsx TYPE timestamptz"),
    case("ALTER TABLE t ALTER bi TYPE bit(8)"),
    case("ALTER TABLE t ALTER bi TYPE bit(9) USING bi::bit(9)"),
    case("ALTER TABLE t ALTER bi TYPE varbit"),
    case("ALTER TABLE t ALTER bi TYPE varbit(8)"),
    case("ALTER TABLE t ALTER vb TYPE varbit(16)"),
    case("ALTER TABLE t ALTER vb TYPE varbit"),
    case("ALTER TABLE t ALTER vb TYPE varbit(4)"),
    case("ALTER TABLE t ALTER iv TYPE interval(3)"),
    case("ALTER TABLE t ALTER iv3 TYPE interval"),
    case("ALTER TABLE t ALTER iv3 TYPE interval(4)"),
    case("ALTER TABLE t ALTER iy TYPE interval"),
    case("ALTER TABLE t ALTER iv TYPE interval day"),
    case("ALTER TABLE t ALTER iv TYPE interval day to second"),
    case("ALTER TABLE t ALTER mo TYPE text"),
    case("ALTER TABLE t ALTER ia TYPE bigint[]"),
    case("ALTER TABLE t ALTER ia TYPE int[]"),
    case("ALTER TABLE t ALTER va TYPE varchar(20)[]"),
    case("ALTER TABLE t ALTER va TYPE text[]"),
    case("ALTER TABLE t ALTER js TYPE jsonb"),
    case("ALTER TABLE t ALTER jb TYPE json"),
    case("ALTER TABLE t ALTER js TYPE text"),
    case("ALTER TABLE t ALTER x TYPE text"),
    case("ALTER TABLE t ALTER cid TYPE inet"),
    case("ALTER TABLE t ALTER inet_ TYPE cidr"),
    case("ALTER TABLE t ALTER cid TYPE text"),
    case("ALTER TABLE t ALTER r TYPE double precision"),
    case("ALTER TABLE t ALTER d TYPE real"),
    case("ALTER TABLE t ALTER bo TYPE int USING bo::int"),
    case("ALTER TABLE t ALTER u TYPE text"),
    case("ALTER TABLE t ALTER chk TYPE varchar(20)"),
    case("ALTER TABLE t ALTER chk TYPE text"),
    case("ALTER TABLE t ALTER v TYPE varchar(20), ALTER n TYPE numeric(12,2)"),
    case("ALTER TABLE t ALTER v TYPE varchar(20), ALTER i TYPE bigint"),
    case("ALTER TABLE key ALTER k TYPE varchar(20)"),
    case("ALTER TABLE key ALTER k TYPE text"),
    case("ALTER TABLE refkey ALTER k TYPE varchar(20)"),
    case("ALTER TABLE refkey ALTER k TYPE text"),
    case("ALTER TABLE ref ALTER id TYPE bigint"),
];
