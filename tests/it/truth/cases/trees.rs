//! Partitions and inheritance.

use super::super::{Case, Coarse, Group, case, group};

const PARTS: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'x' FROM generate_series(1, 300) n;
CREATE TABLE parts (k int NOT NULL, v text, w varchar(10), u int,
    CONSTRAINT parts_v CHECK (v <> ''), CONSTRAINT parts_pk PRIMARY KEY (k),
    CONSTRAINT parts_u FOREIGN KEY (u) REFERENCES users) PARTITION BY RANGE (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (k);
CREATE TABLE parts_2a PARTITION OF parts_2 FOR VALUES FROM (100) TO (150);
CREATE TABLE parts_2b PARTITION OF parts_2 FOR VALUES FROM (150) TO (200);
CREATE INDEX parts_w ON parts (w);
INSERT INTO parts SELECT n, 'v', 'w', n FROM generate_series(1, 199) n;
CREATE TABLE refs (k int CONSTRAINT refs_k REFERENCES parts);
INSERT INTO refs SELECT n FROM generate_series(1, 199) n;
CREATE TABLE lone (LIKE parts INCLUDING INDEXES INCLUDING CONSTRAINTS);
INSERT INTO lone SELECT n, 'v', 'w', n FROM generate_series(200, 250) n;
CREATE TABLE proven (LIKE lone INCLUDING INDEXES INCLUDING CONSTRAINTS,
    CHECK (k IS NOT NULL AND k >= 200 AND k < 300), FOREIGN KEY (u) REFERENCES users);
INSERT INTO proven SELECT * FROM lone;
CREATE TABLE bare (k int NOT NULL, v text, w varchar(10), u int, CONSTRAINT parts_v CHECK (v <> ''));
INSERT INTO bare SELECT * FROM lone;
CREATE TABLE empty (LIKE lone INCLUDING INDEXES INCLUDING CONSTRAINTS);
CREATE INDEX parts_v_only ON ONLY parts (v);
CREATE INDEX parts_1_v ON parts_1 (v);
CREATE TRIGGER touched BEFORE UPDATE ON parts FOR EACH ROW EXECUTE FUNCTION touch();
CREATE VIEW seen AS SELECT k FROM parts;
";

const DEFAULTS: &str = "
CREATE TABLE d (k int NOT NULL, v text) PARTITION BY LIST (k);
CREATE TABLE d_1 PARTITION OF d FOR VALUES IN (1);
CREATE TABLE d_rest PARTITION OF d DEFAULT;
INSERT INTO d SELECT n, 'v' FROM generate_series(3, 200) n;
INSERT INTO d SELECT 1, 'v' FROM generate_series(3, 200) n;
CREATE TABLE two (k int NOT NULL, v text, CHECK (k IS NOT NULL AND k = 2));
INSERT INTO two SELECT 2, 'v' FROM generate_series(1, 200);
CREATE TABLE e (k int NOT NULL, v text) PARTITION BY LIST (k);
CREATE TABLE e_1 PARTITION OF e FOR VALUES IN (1);
CREATE TABLE e_rest PARTITION OF e (CONSTRAINT not2 CHECK (k IS NOT NULL AND k <> 2)) DEFAULT;
INSERT INTO e SELECT n, 'v' FROM generate_series(3, 200) n;
";

const INHERITED: &str = "
CREATE TABLE base (id int, name text, v varchar(10), CONSTRAINT base_id CHECK (id > 0));
CREATE TABLE child (extra int) INHERITS (base);
CREATE TABLE grandchild (more int) INHERITS (child);
INSERT INTO base SELECT n, 'x', 'v' FROM generate_series(1, 200) n;
INSERT INTO child SELECT n, 'x', 'v', n FROM generate_series(1, 200) n;
INSERT INTO grandchild SELECT n, 'x', 'v', n, n FROM generate_series(1, 200) n;
ALTER TABLE base ADD CONSTRAINT later CHECK (id < 1000) NOT VALID;
CREATE TABLE lone (id int NOT NULL, name text, v varchar(10), CONSTRAINT base_id CHECK (id > 0),
    CONSTRAINT later CHECK (id < 1000));
INSERT INTO lone SELECT n, 'x', 'v' FROM generate_series(1, 200) n;
CREATE INDEX base_name ON base (name);
";

pub(in super::super) const TREES: &[Group] = &[
    group(PARTS, PART_CASES),
    group(
        "CREATE TABLE users (id int PRIMARY KEY);
         CREATE TABLE parts (k int, u int REFERENCES users) PARTITION BY RANGE (k);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
         CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (k);
         CREATE TABLE parts_2a PARTITION OF parts_2 FOR VALUES FROM (100) TO (150);
         CREATE TABLE fits (k int NOT NULL, u int);
         CREATE TABLE proven (k int NOT NULL, u int, CHECK (k >= 200 AND k < 300));
         INSERT INTO users SELECT generate_series(1, 250);
         INSERT INTO parts SELECT n, n FROM generate_series(1, 149) n;
         INSERT INTO fits SELECT n, n FROM generate_series(200, 249) n;
         INSERT INTO proven SELECT n, n FROM generate_series(200, 249) n;",
        &[
            case("ALTER TABLE parts DETACH PARTITION parts_1"),
            case("ALTER TABLE parts DETACH PARTITION parts_2"),
            case("ALTER TABLE parts_2 DETACH PARTITION parts_2a"),
            case("ALTER TABLE parts ATTACH PARTITION fits FOR VALUES FROM (200) TO (300)"),
            case("CREATE TABLE parts_2c PARTITION OF parts_2 FOR VALUES FROM (150) TO (200)"),
            case("DROP TABLE parts_1"),
            case("DROP TABLE parts_2"),
            case("DROP TABLE parts_2a"),
            case("DROP TABLE parts"),
            case("TRUNCATE users CASCADE"),
            case("ALTER TABLE parts ADD CONSTRAINT n CHECK (k > 0)"),
        ],
    ),
    group(
        "CREATE TABLE parts (k int NOT NULL) PARTITION BY RANGE (k);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
         CREATE TABLE fits (k int NOT NULL);
         CREATE TABLE other (k int NOT NULL, CHECK (0 < 1));
         CREATE TABLE proven (k int NOT NULL, CHECK (k >= 200 AND k < 300));
         INSERT INTO fits SELECT generate_series(200, 249);
         INSERT INTO other SELECT generate_series(200, 249);
         INSERT INTO proven SELECT generate_series(200, 249);",
        &[
            case("ALTER TABLE parts ATTACH PARTITION fits FOR VALUES FROM (200) TO (300)"),
            case("ALTER TABLE parts ATTACH PARTITION other FOR VALUES FROM (200) TO (300)"),
            case("ALTER TABLE parts ATTACH PARTITION proven FOR VALUES FROM (200) TO (300)"),
        ],
    ),
    group(DEFAULTS, DEFAULT_CASES),
    group(INHERITED, INHERITED_CASES),
];

const ONLY: &str = "ONLY of a statement that is about rows is not read";
const ROUTED: &str = "the rows tell which partitions they go to";
const CHILDREN: &[Coarse] = &[
    Coarse::Lock("child", ONLY),
    Coarse::Lock("grandchild", ONLY),
];
const PARTITIONS: &[Coarse] = &[
    Coarse::Lock("parts_1", ONLY),
    Coarse::Lock("parts_2", ONLY),
    Coarse::Lock("parts_2a", ONLY),
    Coarse::Lock("parts_2b", ONLY),
];

const PART_CASES: &[Case] = &[
    case("ALTER TABLE parts ADD COLUMN n int"),
    case("ALTER TABLE parts ADD COLUMN n int DEFAULT volatile_one()"),
    case("ALTER TABLE parts ADD COLUMN n int UNIQUE DEFAULT 1").to(13),
    case("ALTER TABLE parts DROP COLUMN w"),
    case("ALTER TABLE parts DROP COLUMN u"),
    case("ALTER TABLE parts ALTER v SET NOT NULL"),
    case("ALTER TABLE parts ALTER v SET DEFAULT 'x'"),
    case("ALTER TABLE ONLY parts ALTER v SET DEFAULT 'x'"),
    case("ALTER TABLE parts ALTER w TYPE varchar(20)"),
    case("ALTER TABLE parts ALTER w TYPE text"),
    case("ALTER TABLE parts ALTER u TYPE bigint"),
    case("ALTER TABLE parts ALTER v SET STATISTICS 10"),
    case("ALTER TABLE parts ALTER v SET STORAGE EXTERNAL"),
    case("ALTER TABLE parts ADD CHECK (k >= 0)"),
    case("ALTER TABLE parts ADD CHECK (k >= 0) NOT VALID"),
    case("ALTER TABLE parts ADD FOREIGN KEY (k) REFERENCES users"),
    case("ALTER TABLE parts_1 ADD FOREIGN KEY (k) REFERENCES users"),
    case("ALTER TABLE users ADD FOREIGN KEY (id) REFERENCES parts NOT VALID"),
    case("ALTER TABLE parts ADD UNIQUE (k, w)"),
    case("ALTER TABLE parts DROP CONSTRAINT parts_v"),
    case("ALTER TABLE parts DROP CONSTRAINT parts_u"),
    case("ALTER TABLE parts DROP CONSTRAINT parts_pk CASCADE"),
    case("ALTER TABLE refs DROP CONSTRAINT refs_k"),
    case("ALTER TABLE parts RENAME TO p"),
    case("ALTER TABLE parts RENAME COLUMN v TO x"),
    case("ALTER TABLE parts RENAME CONSTRAINT parts_v TO x"),
    case("ALTER TABLE parts SET SCHEMA public"),
    case("ALTER TABLE parts OWNER TO pg_monitor"),
    case("ALTER TABLE parts DISABLE TRIGGER touched"),
    case("ALTER TABLE ONLY parts DISABLE TRIGGER touched"),
    case("ALTER TABLE parts ENABLE ROW LEVEL SECURITY"),
    case("ALTER TABLE parts REPLICA IDENTITY FULL"),
    case("ALTER TABLE parts SET TABLESPACE pg_default"),
    case("ALTER TABLE parts_1 SET (fillfactor = 50)"),
    case("ALTER TABLE parts_1 ALTER v SET NOT NULL"),
    case("ALTER TABLE parts_1 ADD CHECK (k >= 0)"),
    case("ALTER TABLE parts_1 RENAME TO p1"),
    case("ALTER TABLE parts ATTACH PARTITION lone FOR VALUES FROM (200) TO (300)"),
    case("ALTER TABLE parts ATTACH PARTITION proven FOR VALUES FROM (200) TO (300)"),
    case("ALTER TABLE parts ATTACH PARTITION bare FOR VALUES FROM (200) TO (300)"),
    case("ALTER TABLE parts ATTACH PARTITION empty FOR VALUES FROM (200) TO (300)"),
    case("CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (300) TO (400)"),
    case(
        "CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (300) TO (400) PARTITION BY RANGE (k)",
    ),
    case("CREATE TABLE parts_2c PARTITION OF parts_2 FOR VALUES FROM (300) TO (400)").to(13),
    case("CREATE TABLE fresh (k int REFERENCES parts)"),
    case("CREATE INDEX ON parts (v)"),
    case("CREATE INDEX ON ONLY parts (v)"),
    case("CREATE INDEX ON parts_1 (v, k)"),
    case("CREATE UNIQUE INDEX ON parts (k, v)"),
    case("ALTER INDEX parts_v_only ATTACH PARTITION parts_1_v"),
    case("ALTER INDEX parts_w RENAME TO x"),
    case("DROP INDEX parts_w"),
    case("DROP INDEX parts_v_only"),
    case("DROP TABLE refs"),
    case("DROP TABLE parts CASCADE"),
    case("TRUNCATE parts CASCADE"),
    case("TRUNCATE parts_1, refs"),
    case("TRUNCATE refs"),
    case("CREATE TRIGGER t BEFORE INSERT ON parts FOR EACH ROW EXECUTE FUNCTION touch()"),
    case("CREATE TRIGGER t AFTER INSERT ON parts EXECUTE FUNCTION touch()"),
    case("DROP TRIGGER touched ON parts"),
    case("ALTER TRIGGER touched ON parts RENAME TO t"),
    case("LOCK parts IN SHARE MODE"),
    case("LOCK ONLY parts IN SHARE MODE").coarse(PARTITIONS),
    case("ANALYZE parts"),
    case("ANALYZE parts_1"),
    case("UPDATE parts SET w = 'x'"),
    case("UPDATE parts_1 SET w = 'x'"),
    case("DELETE FROM refs"),
    case("INSERT INTO parts VALUES (199, 'v', 'w', 1) ON CONFLICT DO NOTHING").coarse(&[
        Coarse::Lock("parts_1", ROUTED),
        Coarse::Lock("parts_2a", ROUTED),
        Coarse::Lock("users", "a row in conflict is not inserted"),
    ]),
    case("COMMENT ON TABLE parts IS 'x'"),
    case("CREATE STATISTICS st ON k, v FROM parts"),
    case("CREATE VIEW w AS SELECT * FROM parts"),
    case("DROP VIEW seen"),
    case("GRANT SELECT ON parts TO pg_monitor").coarse_from(
        18,
        &[Coarse::Unsaid(
            "parts",
            "ACCESS SHARE of GRANT (18): it waits for ACCESS EXCLUSIVE alone",
        )],
    ),
];

const DEFAULT_CASES: &[Case] = &[
    case("CREATE TABLE d_2 PARTITION OF d FOR VALUES IN (2)"),
    case("CREATE TABLE e_2 PARTITION OF e FOR VALUES IN (2)"),
    case("ALTER TABLE d ATTACH PARTITION two FOR VALUES IN (2)"),
    case("ALTER TABLE e ATTACH PARTITION two FOR VALUES IN (2)"),
    case("ALTER TABLE d DETACH PARTITION d_1"),
    case("ALTER TABLE d DETACH PARTITION d_rest"),
    case("DROP TABLE d_1"),
    case("DROP TABLE d_rest"),
    case("ALTER TABLE d ADD COLUMN n int"),
];

const INHERITED_CASES: &[Case] = &[
    case("ALTER TABLE base ADD COLUMN n int"),
    case("ALTER TABLE base ADD COLUMN n int NOT NULL DEFAULT volatile_one()"),
    case("ALTER TABLE base DROP COLUMN name"),
    case("ALTER TABLE ONLY base DROP COLUMN name"),
    case("ALTER TABLE base ALTER v TYPE varchar(20)"),
    case("ALTER TABLE base ALTER v TYPE varchar(5)"),
    case("ALTER TABLE base ALTER name SET NOT NULL"),
    case("ALTER TABLE base ALTER name SET DEFAULT 'y'"),
    case("ALTER TABLE base ADD CHECK (id < 2000)"),
    case("ALTER TABLE base ADD CHECK (id < 2000) NO INHERIT"),
    case("ALTER TABLE base ADD UNIQUE (id)"),
    case("ALTER TABLE base VALIDATE CONSTRAINT later"),
    case("ALTER TABLE base DROP CONSTRAINT base_id"),
    case("ALTER TABLE base RENAME COLUMN name TO x"),
    case("ALTER TABLE base RENAME TO x"),
    case("ALTER TABLE base SET (fillfactor = 50)"),
    case("ALTER TABLE base OWNER TO pg_monitor"),
    case("ALTER TABLE base SET UNLOGGED"),
    case("ALTER TABLE child NO INHERIT base"),
    case("ALTER TABLE lone INHERIT base"),
    case("ALTER TABLE lone INHERIT child").to(13),
    case("ALTER TABLE base DISABLE TRIGGER ALL"),
    case("ALTER TABLE base ENABLE ROW LEVEL SECURITY"),
    case("CREATE TABLE c2 () INHERITS (base)"),
    case("CREATE INDEX ON base (id)"),
    case("DROP TABLE child CASCADE"),
    case("DROP TABLE base CASCADE"),
    case("DROP TABLE grandchild"),
    case("TRUNCATE base"),
    case("TRUNCATE ONLY base").coarse(CHILDREN),
    case("ANALYZE base"),
    case("LOCK base"),
    case("UPDATE base SET name = 'y'"),
    case("UPDATE ONLY base SET name = 'y'").coarse(CHILDREN),
    case("CREATE TRIGGER t BEFORE INSERT ON base FOR EACH ROW EXECUTE FUNCTION touch()"),
];
