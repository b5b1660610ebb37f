//! Everything else that runs in a transaction.

use super::super::{Case, Coarse, Group, case, group};

const SHOP: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text, email varchar(50) UNIQUE);
INSERT INTO users SELECT n, 'u' || n, 'e' || n FROM generate_series(1, 200) n;
CREATE TABLE orders (id serial PRIMARY KEY, user_id int NOT NULL CONSTRAINT orders_user REFERENCES users,
    total numeric(10,2), state text DEFAULT 'new');
INSERT INTO orders (user_id, total) SELECT n, n FROM generate_series(1, 200) n;
CREATE INDEX orders_state ON orders (state);
CREATE TABLE items (order_id int CONSTRAINT items_order REFERENCES orders, k int);
INSERT INTO items SELECT n, n FROM generate_series(1, 200) n;
CREATE TABLE alone (id int, a text);
INSERT INTO alone SELECT n, 'a' FROM generate_series(1, 200) n;
CREATE INDEX alone_id ON alone (id);
ALTER TABLE alone CLUSTER ON alone_id;
CREATE VIEW big AS SELECT id, total FROM orders WHERE total > 100;
CREATE VIEW bigger AS SELECT id FROM big WHERE total > 150;
CREATE MATERIALIZED VIEW totals AS SELECT user_id, sum(total) AS total FROM orders GROUP BY 1;
CREATE UNIQUE INDEX totals_user ON totals (user_id);
CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
CREATE RULE quiet AS ON DELETE TO items DO INSTEAD NOTHING;
CREATE POLICY mine ON orders USING (true);
CREATE SEQUENCE loose;
CREATE STATISTICS alone_stats ON id, a FROM alone;
CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER own BEFORE UPDATE ON alone FOR EACH ROW EXECUTE FUNCTION trig();
CREATE FUNCTION plain() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION used() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE uses (a int DEFAULT used());
CREATE SEQUENCE used_seq;
CREATE TABLE seq_user (a int DEFAULT nextval('used_seq'));
";

const TYPED: &str = "
CREATE TYPE state AS ENUM ('new', 'done');
CREATE TYPE unused AS ENUM ('a');
CREATE TYPE pair AS (a int, b text);
CREATE TYPE lonely AS (a int);
CREATE DOMAIN small AS int CHECK (VALUE < 1000);
CREATE DOMAIN smaller AS small;
ALTER DOMAIN small ADD CONSTRAINT later CHECK (VALUE < 900) NOT VALID;
CREATE DOMAIN free AS int;
CREATE TABLE typed OF pair;
INSERT INTO typed SELECT n, 'x' FROM generate_series(1, 200) n;
CREATE TABLE t (s state, d small, d2 smaller, other int);
INSERT INTO t SELECT 'new', n, n, n FROM generate_series(1, 200) n;
CREATE TABLE second (d small);
INSERT INTO second SELECT n FROM generate_series(1, 200) n;
CREATE TABLE has_pair (p pair);
";

pub(in super::super) const OTHERS: &[Group] = &[
    group(SHOP, SHOP_CASES),
    group(SHOP, DATA),
    group(TYPED, TYPE_CASES),
    group(
        "CREATE TABLE t (id int); CREATE TABLE u (id int); CREATE PUBLICATION pub FOR TABLE t;
         CREATE PUBLICATION none; CREATE TABLE kid () INHERITS (u);",
        &[
            case("CREATE PUBLICATION p2 FOR TABLE t, u"),
            case("ALTER PUBLICATION none ADD TABLE t"),
            case("ALTER PUBLICATION pub DROP TABLE t"),
            case("ALTER PUBLICATION pub SET TABLE u"),
            case("ALTER PUBLICATION pub SET (publish = 'insert')"),
            case("ALTER PUBLICATION pub RENAME TO x"),
            case("DROP PUBLICATION pub"),
            case("CREATE PUBLICATION p2 FOR ALL TABLES"),
            case("CREATE PUBLICATION p3 FOR TABLES IN SCHEMA public").from(15),
        ],
    ),
    group(
        "CREATE SCHEMA doomed; CREATE TABLE t (id int PRIMARY KEY);
         CREATE TABLE doomed.x (id int REFERENCES t);",
        &[
            case("DROP SCHEMA doomed CASCADE")
                .coarse(&[Coarse::Unknown("what is in a schema is not loaded")]),
            case("ALTER SCHEMA doomed RENAME TO x"),
            case("CREATE SCHEMA fresh"),
        ],
    ),
];

const GRANTED: &str = "ACCESS SHARE of GRANT (18): it waits for ACCESS EXCLUSIVE alone";
const GRANT: &[Coarse] = &[Coarse::Unsaid("orders", GRANTED)];
const OWNED_BY: &[Coarse] = &[Coarse::Unsaid(
    "alone",
    "ACCESS SHARE of OWNED BY: it waits for ACCESS EXCLUSIVE alone",
)];

const SHOP_CASES: &[Case] = &[
    case("CREATE TABLE fresh (id int PRIMARY KEY, a text)"),
    case("CREATE TABLE IF NOT EXISTS orders (id int)"),
    case("CREATE TABLE fresh (id int REFERENCES users)"),
    case("CREATE TABLE fresh (id int, FOREIGN KEY (id) REFERENCES users, FOREIGN KEY (id) REFERENCES orders)"),
    case("CREATE TABLE fresh (LIKE orders INCLUDING ALL)"),
    case("CREATE TABLE fresh AS SELECT * FROM orders"),
    case("CREATE TABLE fresh AS SELECT * FROM big"),
    case("CREATE TABLE fresh AS SELECT o.id FROM orders o, users u JOIN items i ON i.k = u.id WHERE o.id = u.id"),
    case("SELECT * INTO fresh FROM users"),
    case("CREATE TEMPORARY TABLE fresh (id int)"),
    case("CREATE TABLE fresh (id int) PARTITION BY RANGE (id)"),
    case("CREATE INDEX ON alone (a)"),
    case("CREATE INDEX IF NOT EXISTS alone_id ON alone (a)"),
    case("CREATE UNIQUE INDEX ON orders (user_id)"),
    case("CREATE INDEX ON totals (total)"),
    case("DROP INDEX alone_id"),
    case("DROP INDEX IF EXISTS nothing"),
    case("ALTER INDEX alone_id RENAME TO x"),
    case("ALTER INDEX alone_id SET (fillfactor = 50)"),
    case("ALTER INDEX alone_id RESET (fillfactor)"),
    case("ALTER INDEX alone_id SET TABLESPACE pg_default"),
    case("ALTER INDEX orders_state DEPENDS ON EXTENSION citext"),
    case("REINDEX INDEX alone_id"),
    case("REINDEX TABLE alone"),
    case("REINDEX TABLE totals"),
    case("CLUSTER alone"),
    case("CLUSTER alone USING alone_id"),
    case("CLUSTER totals USING totals_user"),
    case("ANALYZE alone"),
    case("ANALYZE alone (id), users"),
    case("TRUNCATE alone"),
    case("TRUNCATE orders CASCADE"),
    case("TRUNCATE orders, items RESTART IDENTITY"),
    case("TRUNCATE users CASCADE"),
    case("DROP TABLE alone"),
    case("DROP TABLE items"),
    case("DROP TABLE orders CASCADE"),
    case("DROP TABLE users CASCADE"),
    case("DROP TABLE items, alone"),
    case("DROP TABLE IF EXISTS nothing"),
    case("DROP VIEW bigger"),
    case("DROP VIEW big CASCADE"),
    case("DROP MATERIALIZED VIEW totals"),
    case("DROP SEQUENCE loose"),
    case("DROP SEQUENCE orders_id_seq CASCADE"),
    case("DROP SEQUENCE used_seq CASCADE"),
    case("DROP FUNCTION plain()"),
    case("DROP FUNCTION trig() CASCADE")
        .coarse(&[Coarse::Unknown("what uses a function is not loaded")]),
    case("DROP FUNCTION used() CASCADE")
        .coarse(&[Coarse::Unknown("what uses a function is not loaded")]),
    case("CREATE TRIGGER t AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch()"),
    case("CREATE OR REPLACE TRIGGER touched AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch()"),
    case("CREATE CONSTRAINT TRIGGER t AFTER INSERT ON orders FROM users FOR EACH ROW EXECUTE FUNCTION touch()")
        .coarse(&[Coarse::Unsaid("users", "ACCESS SHARE of FROM: it waits for ACCESS EXCLUSIVE alone")]),
    case("DROP TRIGGER touched ON orders"),
    case("DROP TRIGGER IF EXISTS nothing ON orders"),
    case("ALTER TRIGGER touched ON orders RENAME TO x"),
    case("CREATE RULE r AS ON UPDATE TO alone DO INSTEAD NOTHING"),
    case("CREATE RULE r AS ON INSERT TO alone DO ALSO INSERT INTO items VALUES (1, 1)").coarse(&[
        Coarse::Unsaid("items", "what the statements of a rule write is not read"),
    ]),
    case("DROP RULE quiet ON items"),
    case("ALTER RULE quiet ON items RENAME TO x"),
    case("CREATE POLICY p ON alone USING (true)"),
    case("CREATE POLICY p ON alone USING (id IN (SELECT id FROM users))"),
    case("ALTER POLICY mine ON orders USING (false)"),
    case("ALTER POLICY mine ON orders RENAME TO x"),
    case("DROP POLICY mine ON orders"),
    case("CREATE VIEW v AS SELECT * FROM orders"),
    case("CREATE VIEW v AS SELECT id FROM big"),
    case("CREATE OR REPLACE VIEW bigger AS SELECT id FROM big WHERE total > 180"),
    case("CREATE OR REPLACE VIEW big AS SELECT id, total FROM orders WHERE total > 10"),
    case("CREATE MATERIALIZED VIEW m AS SELECT * FROM orders"),
    case("REFRESH MATERIALIZED VIEW totals"),
    case("REFRESH MATERIALIZED VIEW CONCURRENTLY totals"),
    case("REFRESH MATERIALIZED VIEW totals WITH NO DATA").coarse(&[
        Coarse::Work("WITH NO DATA is not read"),
        Coarse::Lock("orders", "WITH NO DATA is not read"),
    ]),
    case("ALTER VIEW big RENAME TO x"),
    case("ALTER VIEW big ALTER total SET DEFAULT 1"),
    case("ALTER VIEW big SET (security_barrier)"),
    case("ALTER VIEW big OWNER TO pg_monitor"),
    case("ALTER VIEW big SET SCHEMA public"),
    case("ALTER MATERIALIZED VIEW totals RENAME TO x"),
    case("ALTER MATERIALIZED VIEW totals RENAME COLUMN total TO x"),
    case("ALTER MATERIALIZED VIEW totals SET (fillfactor = 50)"),
    case("ALTER MATERIALIZED VIEW totals CLUSTER ON totals_user"),
    case("ALTER MATERIALIZED VIEW totals OWNER TO pg_monitor"),
    case("CREATE SEQUENCE s"),
    case("CREATE SEQUENCE s OWNED BY alone.id").coarse(OWNED_BY),
    case("ALTER SEQUENCE loose INCREMENT 5"),
    case("ALTER SEQUENCE loose RESTART"),
    case("ALTER SEQUENCE loose OWNED BY alone.id").coarse(OWNED_BY),
    case("ALTER SEQUENCE loose OWNED BY NONE"),
    case("ALTER SEQUENCE loose RENAME TO x"),
    case("ALTER SEQUENCE loose OWNER TO pg_monitor"),
    case("ALTER SEQUENCE loose SET SCHEMA public"),
    case("ALTER SEQUENCE loose SET UNLOGGED").from(15),
    case("COMMENT ON TABLE orders IS 'x'"),
    case("COMMENT ON COLUMN orders.total IS 'x'"),
    case("COMMENT ON VIEW big IS 'x'"),
    case("COMMENT ON MATERIALIZED VIEW totals IS 'x'"),
    case("COMMENT ON SEQUENCE loose IS 'x'"),
    case("COMMENT ON INDEX alone_id IS 'x'"),
    case("COMMENT ON CONSTRAINT orders_user ON orders IS 'x'"),
    case("COMMENT ON TRIGGER touched ON orders IS 'x'"),
    case("COMMENT ON POLICY mine ON orders IS 'x'"),
    case("COMMENT ON RULE quiet ON items IS 'x'"),
    case("COMMENT ON STATISTICS alone_stats IS 'x'"),
    case("COMMENT ON FUNCTION plain() IS 'x'"),
    case("GRANT SELECT ON orders TO pg_monitor").coarse_from(18, GRANT),
    case("GRANT SELECT (total) ON orders TO pg_monitor").coarse_from(18, GRANT),
    case("GRANT USAGE ON SEQUENCE loose TO pg_monitor")
        .coarse_from(18, &[Coarse::Unsaid("loose", GRANTED)]),
    case("GRANT SELECT ON ALL TABLES IN SCHEMA public TO pg_monitor"),
    case("REVOKE ALL ON orders FROM pg_monitor").coarse_from(18, GRANT),
    case("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor"),
    case("CREATE STATISTICS st ON user_id, total FROM orders"),
    case("ALTER STATISTICS alone_stats SET STATISTICS 100"),
    case("ALTER STATISTICS alone_stats RENAME TO x"),
    case("DROP STATISTICS alone_stats")
        .coarse(&[Coarse::Unknown("the table of extended statistics is not in their name")]),
    case("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    case("CREATE OR REPLACE FUNCTION plain() RETURNS int LANGUAGE sql AS 'SELECT 2'"),
    case("ALTER FUNCTION plain() RENAME TO x"),
    case("CREATE EXTENSION pgcrypto"),
    case("ALTER EXTENSION citext SET SCHEMA pg_catalog").to(13),
    case("ALTER EXTENSION citext UPDATE"),
    case("ALTER EXTENSION citext ADD TABLE alone"),
    case("CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION touch()").to(13),
    case("DO 'BEGIN END'").coarse(&[Coarse::Unknown("code is not read")]),
    case("SET LOCAL statement_timeout = '1s'"),
    case("SET CONSTRAINTS ALL DEFERRED"),
    case("CREATE ROLE truth_role"),
    case("ALTER TABLE big RENAME TO x"),
    case("ALTER TABLE loose RENAME TO x"),
    case("ALTER TABLE alone_id RENAME TO x"),
    case("ALTER TABLE totals RENAME TO x"),
];

const DATA: &[Case] = &[
    case("SELECT * FROM orders"),
    case("SELECT 1"),
    case("SELECT * FROM bigger"),
    case("SELECT count(*) FROM orders JOIN users ON users.id = user_id"),
    case("SELECT * FROM users WHERE EXISTS (SELECT FROM orders WHERE user_id = users.id)"),
    case("WITH x AS (SELECT * FROM orders) SELECT * FROM x"),
    case("SELECT * FROM orders FOR UPDATE"),
    case("SELECT * FROM orders, users FOR SHARE OF orders"),
    case("TABLE orders"),
    case("VALUES (1)"),
    case("EXPLAIN SELECT * FROM orders"),
    case("EXPLAIN ANALYZE UPDATE orders SET total = 1"),
    case("INSERT INTO alone VALUES (1, 'x')"),
    case("INSERT INTO items SELECT 1, id FROM users"),
    case("INSERT INTO items VALUES (1, 1)"),
    case("INSERT INTO orders (user_id) VALUES (1)"),
    case("UPDATE alone SET a = 'b'"),
    case("UPDATE orders SET user_id = 2"),
    case("UPDATE orders SET total = u.id FROM users u WHERE u.id = user_id"),
    case("UPDATE orders SET total = (SELECT max(id) FROM users)"),
    case("DELETE FROM alone"),
    case("DELETE FROM alone USING users WHERE users.id = alone.id"),
    case("DELETE FROM orders WHERE id > 1000"),
    case("WITH gone AS (DELETE FROM alone RETURNING *) INSERT INTO items SELECT 1, id FROM gone"),
    case("MERGE INTO alone a USING users u ON a.id = u.id WHEN MATCHED THEN UPDATE SET a = u.name")
        .from(15),
    case("MERGE INTO alone a USING users u ON a.id = u.id WHEN NOT MATCHED THEN DO NOTHING")
        .from(15),
    case("LOCK alone"),
    case("LOCK TABLE alone, users IN ROW EXCLUSIVE MODE NOWAIT"),
    case("LOCK big IN SHARE MODE"),
    case("COPY (SELECT * FROM orders) TO '/dev/null'"),
    case("COPY orders TO '/dev/null'"),
    case("COPY alone FROM '/dev/null'"),
    case("SELECT nextval('loose')").coarse(&[Coarse::Unknown(
        "functions that change something are not read",
    )]),
];

const ATTRIBUTE: &[Coarse] = &[Coarse::Work("what is done to an attribute is not read")];

const TYPE_CASES: &[Case] = &[
    case("CREATE TYPE fresh AS ENUM ('a')"),
    case("CREATE TYPE fresh AS (a int)"),
    case("ALTER TYPE state ADD VALUE 'lost'"),
    case("ALTER TYPE state RENAME VALUE 'new' TO 'fresh'"),
    case("ALTER TYPE state RENAME TO x"),
    case("ALTER TYPE state OWNER TO pg_monitor"),
    case("ALTER TYPE pair RENAME TO x"),
    case("ALTER TYPE pair ADD ATTRIBUTE c int CASCADE").coarse(ATTRIBUTE),
    case("ALTER TYPE pair DROP ATTRIBUTE b CASCADE").coarse(ATTRIBUTE),
    case("ALTER TYPE lonely ADD ATTRIBUTE c int"),
    case("ALTER TYPE lonely ALTER ATTRIBUTE a TYPE bigint"),
    case("ALTER TYPE pair RENAME ATTRIBUTE a TO x CASCADE").coarse(ATTRIBUTE),
    case("DROP TYPE unused"),
    case("DROP TYPE state CASCADE"),
    case("DROP TYPE pair CASCADE"),
    case("DROP DOMAIN small CASCADE"),
    case("CREATE DOMAIN fresh AS int"),
    case("ALTER DOMAIN small ADD CHECK (VALUE > 0)"),
    case("ALTER DOMAIN small ADD CHECK (VALUE > 0) NOT VALID"),
    case("ALTER DOMAIN small VALIDATE CONSTRAINT later"),
    case("ALTER DOMAIN small SET NOT NULL"),
    case("ALTER DOMAIN small DROP NOT NULL"),
    case("ALTER DOMAIN small SET DEFAULT 1"),
    case("ALTER DOMAIN small DROP CONSTRAINT later"),
    case("ALTER DOMAIN small RENAME CONSTRAINT later TO x"),
    case("ALTER DOMAIN small RENAME TO x"),
    case("ALTER DOMAIN free ADD CHECK (VALUE > 0)"),
];
