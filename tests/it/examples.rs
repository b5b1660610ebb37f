//! Every example of `migrations-examples/`: there, back, there, on, back, purge.

use std::path::{Path, PathBuf};

use crate::lifecycle::{Life, Project};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations-examples")
}

/// Reads an example: its setup, the id of its migration and the migration.
pub(crate) fn read(name: &str) -> (String, String, String) {
    let text = |path: &Path| {
        std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let folder = folder().join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("migrations"))
        .expect("migrations/")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(files.len(), 1, "one migration in {name}");
    let file = files.remove(0);
    let id = file
        .file_stem()
        .expect("a stem")
        .to_string_lossy()
        .into_owned();
    (text(&folder.join("setup.sql")), id, text(&file))
}

/// Compares the plan with the one on record, without what depends on the machine.
pub(crate) async fn plan_is_as_reviewed(project: &Project, name: &str) {
    let plan = project.command("plan", &[]).await.expect(0).stdout;
    // PostgreSQL 18 has NOT NULL constraints that can be NOT VALID: other steps.
    let major: i32 = project
        .db
        .one("SELECT current_setting('server_version_num')::int / 10000")
        .await;
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("examples");
    settings.set_omit_expression(true);
    if major >= 18 && plan.contains("_not_null") {
        settings.set_snapshot_suffix("pg18");
    }
    settings.add_filter(r"(?m)^( {5}cost ) .*\n(?: {15}.*\n)*", "$1 …\n");
    // What it writes and needs of the disk depends on the server's sizes and on the time of a row.
    settings.add_filter(r"(?m)^ {5}(?:writes|disk) .*\n(?: {15}.*\n)*", "");
    settings.add_filter(r"(?m)^Until READY, estimated\n(?: .*\n)+\n", "");
    // Before 15 a view cannot run as its user: its rights are made to be the table's alone.
    if major < 15 && plan.contains("CREATE VIEW") && plan.contains("DO $pgshift$") {
        settings.set_snapshot_suffix("pg14");
    }
    settings.add_filter(r" WITH \(security_invoker = true\)", "");
    settings.bind(|| insta::assert_snapshot!(name, plan));
}

async fn live(name: &str, life: Life<'_>) {
    let (setup, id, migration) = read(name);
    let project = Project::with_id(name, &id, &setup, &migration).await;
    plan_is_as_reviewed(&project, name).await;
    Life {
        setup: &setup,
        migration: &migration,
        ..life
    }
    .live_in(&project)
    .await;
}

#[tokio::test]
async fn money_to_cents() {
    live(
        "money-to-cents",
        Life {
            ready: &["SELECT count(*) = 5000 FROM orders WHERE total_cents = round(total * 100)"],
            complete: &[
                "SELECT sum(total_cents) = 1712842500 FROM orders",
                "NOT EXISTS (SELECT FROM pg_attribute
                     WHERE attrelid = 'orders'::regclass AND attname = 'total')",
            ],
            new_version: Some((
                "INSERT INTO orders (customer_id, total_cents) VALUES (7, 1234);
                 UPDATE orders SET total_cents = 99 WHERE id = 1",
                "INSERT INTO orders (customer_id, total_cents) VALUES (7, 4321);
                 UPDATE orders SET total_cents = 77 WHERE id = 2;
                 UPDATE orders SET status = 'sent' WHERE id = 3",
                &[
                    "SELECT array_agg(total ORDER BY id) = '{12.34,43.21}' FROM orders
                     WHERE id NOT IN (SELECT generate_series(1, 5000))",
                    "SELECT array_agg(total ORDER BY id) = '{0.99,0.77,4.11}' FROM orders
                     WHERE id <= 3",
                ],
            )),
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn split_name() {
    live(
        "split-name",
        Life {
            ready: &[
                "SELECT count(*) = 300 FROM users
                 WHERE first_name = 'Madonna' AND last_name IS NULL",
                "SELECT bool_and(concat_ws(' ', first_name, last_name) = name) FROM users",
                "SELECT last_name = 'van Beethoven' FROM users WHERE id = 7",
            ],
            complete: &["SELECT count(*) = 3000 FROM users WHERE first_name IS NOT NULL"],
            new_version: Some((
                "INSERT INTO users (email, first_name, last_name)
                     VALUES ('grace@example.com', 'Grace', 'Hopper');
                 UPDATE users SET last_name = 'King' WHERE id = 1",
                "INSERT INTO users (email, first_name) VALUES ('cher@example.com', 'Cher');
                 UPDATE users SET first_name = 'Augusta' WHERE id = 2",
                &[
                    "SELECT array_agg(name ORDER BY name) = '{Cher,Grace Hopper}' FROM users
                     WHERE id > 3000",
                    "SELECT name = 'Ada King' FROM users WHERE id = 1",
                    "SELECT name = 'Augusta Lovelace 2' FROM users WHERE id = 2",
                ],
            )),
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn not_null_column() {
    live(
        "not-null-column",
        Life {
            ready: &["SELECT count(*) = 3000 FROM invoices WHERE due_on = issued_on + terms"],
            complete: &["SELECT attnotnull FROM pg_attribute
                         WHERE attrelid = 'invoices'::regclass AND attname = 'due_on'"],
            // Without a reverse section too the new version may write what it likes.
            new_version: Some((
                "INSERT INTO invoices (issued_on, amount, due_on)
                     VALUES ('2026-01-01', 1, '2026-12-31');
                 UPDATE invoices SET due_on = '2026-12-31' WHERE id = 1",
                "UPDATE invoices SET due_on = '2027-12-31' WHERE id = 2",
                &["SELECT count(*) = 3001 FROM invoices"],
            )),
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn backfill_from_table() {
    let same = "SELECT bool_and(o.country IS NOT DISTINCT FROM c.country) FROM orders o
                LEFT JOIN customers c ON c.id = o.customer_id";
    live(
        "backfill-from-table",
        Life {
            ready: &[same],
            complete: &[
                same,
                "SELECT count(*) = 60 FROM orders WHERE country IS NULL",
            ],
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn public_uuid() {
    live(
        "public-uuid",
        Life {
            ready: &["SELECT count(DISTINCT public_id) = 3000 FROM customers"],
            complete: &["SELECT attnotnull AND atthasdef FROM pg_attribute
                         WHERE attrelid = 'customers'::regclass AND attname = 'public_id'"],
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn normalise_text() {
    live(
        "normalise-text",
        Life {
            ready: &[
                "SELECT count(*) = 3000 FROM users WHERE email = 'user' || id || '@example.com'",
            ],
            lost: &["overwritten values are not kept"],
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn batched_delete() {
    live(
        "batched-delete",
        Life {
            ready: &["SELECT count(*) = 1077 AND min(expires_at) >= '2026-01-01' FROM sessions"],
            lost: &["deleted rows are not kept"],
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn drop_column() {
    live(
        "drop-column",
        Life {
            complete: &["NOT EXISTS (SELECT FROM pg_attribute
                         WHERE attrelid = 'users'::regclass AND attname = 'legacy_token')"],
            lost: &["rows inserted after contract have no value in legacy_token"],
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn drop_table() {
    live(
        "drop-table",
        Life {
            complete: &["to_regclass('audit_2019') IS NULL"],
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn plain_file() {
    live(
        "plain-file",
        Life {
            ready: &[
                "SELECT indisvalid FROM pg_index WHERE indexrelid = 'products_name'::regclass",
                "SELECT convalidated FROM pg_constraint WHERE conname = 'products_price_positive'",
            ],
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn merge_columns() {
    live(
        "merge-columns",
        Life {
            ready: &["SELECT bool_and(phone = country || ' ' || number) FROM contacts"],
            complete: &["SELECT count(*) = 3000 FROM contacts WHERE phone LIKE '+4_ _______'"],
            new_version: Some((
                "INSERT INTO contacts (phone) VALUES ('+1 555 0100');
                 UPDATE contacts SET phone = '+43 7' WHERE id = 1",
                "INSERT INTO contacts (phone) VALUES ('+1 555 0101');
                 UPDATE contacts SET phone = '+41 8' WHERE id = 2",
                &[
                    "SELECT array_agg(country || '/' || number ORDER BY number)
                         = '{+1/555 0100,+1/555 0101}' FROM contacts WHERE id > 3000",
                    "SELECT array_agg(country || '/' || number ORDER BY id) = '{+43/7,+41/8}'
                     FROM contacts WHERE id <= 2",
                ],
            )),
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn move_column() {
    let same = "SELECT bool_and(p.bio IS NOT DISTINCT FROM u.bio)
                FROM profiles p JOIN users u ON u.id = p.user_id";
    live(
        "move-column",
        Life {
            ready: &[
                same,
                "SELECT count(*) = 2000 FROM profiles WHERE bio IS NOT NULL",
            ],
            complete: &["SELECT count(*) = 2000 FROM profiles WHERE bio LIKE 'I am number %'"],
            new_version: Some((
                "UPDATE profiles SET bio = 'new' WHERE user_id = 1;
                 UPDATE users SET bio = 'old' WHERE id = 2;
                 UPDATE profiles SET bio = NULL WHERE user_id = 4;
                 INSERT INTO users (name, bio) VALUES ('old', 'by the old version');
                 INSERT INTO profiles (user_id) SELECT max(id) FROM users;
                 INSERT INTO users (name) VALUES ('new');
                 INSERT INTO profiles (user_id, bio) SELECT max(id), 'by the new' FROM users;
                 DO $$ BEGIN
                     ASSERT (SELECT bool_and(p.bio IS NOT DISTINCT FROM u.bio)
                             FROM profiles p JOIN users u ON u.id = p.user_id);
                     ASSERT (SELECT count(*) = 1 FROM profiles WHERE bio = 'by the old version');
                 END $$",
                "UPDATE profiles SET color = 'red' WHERE user_id = 1",
                &[
                    "SELECT array_agg(bio ORDER BY id) = '{new,old,NULL,NULL}' FROM users
                     WHERE id <= 4",
                    "SELECT count(*) = 2 FROM users WHERE bio LIKE 'by the %'",
                ],
            )),
            lost: &["rows inserted after contract have no value in bio"],
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn rename_column() {
    live(
        "rename-column",
        Life {
            ready: &["SELECT count(*) = 3000 FROM orders WHERE amount = total"],
            complete: &[
                "SELECT sum(amount) = 6167055 * 1.0 FROM orders",
                "SELECT count(*) = 2271 FROM large_orders",
            ],
            new_version: Some((
                "INSERT INTO orders (amount) VALUES (12.34);
                 INSERT INTO orders (total) VALUES (23.45);
                 UPDATE orders SET amount = 99 WHERE id = 1;
                 UPDATE orders SET total = 98 WHERE id = 2;
                 DO $$ BEGIN ASSERT (SELECT bool_and(amount = total) FROM orders); END $$",
                "INSERT INTO orders (amount) VALUES (43.21);
                 UPDATE orders SET amount = 77 WHERE id = 3;
                 UPDATE orders SET status = 'sent' WHERE id = 4",
                &[
                    "SELECT array_agg(total ORDER BY total) = '{12.34,23.45,43.21}' FROM orders
                     WHERE id > 3000",
                    "SELECT array_agg(total ORDER BY id) = '{99.00,98.00,77.00,5.48}' FROM orders
                     WHERE id <= 4",
                ],
            )),
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn rename_table() {
    live(
        "rename-table",
        Life {
            ready: &[
                "SELECT (SELECT count(*) FROM orders) = (SELECT count(*) FROM sales)",
                "SELECT is_insertable_into = 'YES' FROM information_schema.tables
                 WHERE table_name = 'orders'",
            ],
            complete: &["SELECT to_regclass('orders') IS NULL AND count(*) = 1000 FROM sales"],
            new_version: Some((
                "INSERT INTO sales (id, code) VALUES (2000, 'new');
                 INSERT INTO orders (id, code) VALUES (2001, 'old');
                 UPDATE orders SET total = 7 WHERE code = 'new';
                 DELETE FROM orders WHERE id = 2001",
                "INSERT INTO sales (id, code) VALUES (2002, 'late')",
                &[
                    "SELECT array_agg(code || total ORDER BY id) = '{new7.00,late0.00}' FROM orders
                   WHERE id >= 2000",
                ],
            )),
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn required_column() {
    live(
        "required-column",
        Life {
            ready: &[
                "SELECT bool_and(full_name = first_name || ' ' || last_name) FROM people",
                "SELECT attnotnull FROM pg_attribute
                 WHERE attrelid = 'people'::regclass AND attname = 'full_name'",
            ],
            new_version: Some((
                "INSERT INTO people (first_name, last_name) VALUES ('Grace', 'Hopper');
                 UPDATE people SET last_name = 'King' WHERE id = 1;
                 DO $$ BEGIN
                     ASSERT (SELECT bool_and(full_name = first_name || ' ' || last_name)
                             FROM people);
                 END $$",
                "INSERT INTO people (first_name, last_name, full_name) VALUES ('a', 'b', 'c')",
                &["SELECT count(*) = 3002 FROM people"],
            )),
            ..Life::default()
        },
    )
    .await;
}

/// A new folder must have a test here, and a row in the index.
#[test]
fn every_example_is_tested_and_listed() {
    let tests = include_str!("examples.rs");
    let index = std::fs::read_to_string(folder().join("README.md")).expect("the index");
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).expect("the folder") {
        let entry = entry.expect("an entry");
        if !entry.file_type().expect("a type").is_dir() {
            continue;
        }
        count += 1;
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(
            tests.contains(&format!("\"{name}\",")),
            "{name} has no test"
        );
        assert!(
            index.contains(&format!("| [{name}]({name}) |")),
            "{name} is not in the index"
        );
    }
    assert!(count >= 8);
}

#[tokio::test]
async fn bigint_key() {
    live(
        "bigint-key",
        Life {
            ready: &["SELECT count(*) = 3000 FROM events"],
            complete: &[
                "SELECT count(*) = 2 FROM pg_attribute WHERE attrelid = 'events'::regclass
                     AND attname IN ('id', 'user_id') AND atttypid = 'bigint'::regtype",
                "SELECT data_type = 'bigint'::regtype FROM pg_sequences
                     WHERE sequencename = 'events_id_seq'",
            ],
            new_version: Some((
                "INSERT INTO events (kind, user_id) VALUES ('old', 7)",
                "INSERT INTO events (kind, user_id) VALUES ('new', 8)",
                &[
                    "SELECT array_agg(id || kind ORDER BY id) = '{3001old,3002new}' FROM events
                     WHERE id > 3000",
                ],
            )),
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn uuid_key() {
    live(
        "uuid-key",
        Life {
            traffic: Some(|n| match n % 3 {
                0 => format!("INSERT INTO accounts (email) VALUES ('{n}@example.com')"),
                1 => format!(
                    "UPDATE accounts SET email = '{n}@x.org' WHERE id = {}",
                    n % 3000
                ),
                _ => format!(
                    "INSERT INTO accounts (id, email) VALUES ({}, 'x')",
                    100_000 + n
                ),
            }),
            complete: &[
                "SELECT count(*) = 0 FROM accounts a LEFT JOIN account_ids m ON m.uuid = a.id
                 WHERE m.uuid IS NULL",
                "SELECT count(*) = 3000 FROM accounts a JOIN account_ids m ON m.uuid = a.id
                 WHERE m.id <= 3000",
            ],
            new_version: Some((
                "INSERT INTO accounts (email) VALUES ('old')",
                "INSERT INTO accounts (email) VALUES ('new');
                 INSERT INTO accounts (id, email)
                     VALUES ('11111111-1111-4111-8111-111111111111', 'own')",
                &[
                    "SELECT count(DISTINCT id) = 3 AND min(id) > 3000 FROM accounts
                     WHERE email IN ('old', 'new', 'own')",
                ],
            )),
            ..Life::default()
        },
    )
    .await;
}

#[tokio::test]
async fn referenced_key() {
    live(
        "referenced-key",
        Life {
            ready: &["SELECT count(*) = 2000 FROM orders JOIN lines ON order_id = id"],
            complete: &[
                "SELECT count(*) = 3 FROM pg_attribute WHERE (attrelid, attname) IN
                     (('orders'::regclass, 'id'), ('lines'::regclass, 'order_id'),
                      ('shipments'::regclass, 'order_id')) AND atttypid = 'bigint'::regtype",
                "SELECT count(*) = 2 FROM pg_constraint WHERE contype = 'f' AND convalidated
                     AND connamespace = 'public'::regnamespace",
            ],
            new_version: Some((
                "DELETE FROM orders WHERE id = 1",
                "INSERT INTO orders (total) VALUES (9);
                 INSERT INTO lines (order_id, line, amount) VALUES (2001, 1, 9);
                 INSERT INTO shipments (order_id, line) VALUES (2001, 1), (2000, 1);
                 DELETE FROM orders WHERE id = 3",
                &[
                    "SELECT count(*) = 999 + 1 - 1 + 1 FROM shipments",
                    "SELECT count(*) = 1999 + 1 - 1 FROM lines JOIN orders ON id = order_id",
                ],
            )),
            ..Life::default()
        },
    )
    .await;
}
