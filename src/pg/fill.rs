//! Reads what [`crate::fill`] needs to know of the tables of a database.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Row};

use super::error::from_pg;
use super::read::get;
use crate::catalog::QName;
use crate::error::Result;
use crate::fill::{Column, ForeignKey, Table, Type, TypeKind};

/// Tables that people made, without partitions (they are filled through the whole), those of
/// extensions, and pgshift's own.
const TABLES: &str = "
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.condeferrable
               AND k.contype IN ('u', 'p', 'x')) AS deferrable_key,
       ARRAY(SELECT a.attname::text FROM pg_attribute a, pg_constraint k
             WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey)
               AND k.oid = (SELECT f.oid FROM pg_constraint f WHERE f.conrelid = c.oid
                            AND f.condeferrable AND f.contype IN ('u', 'p')
                            ORDER BY f.conname LIMIT 1)
             ORDER BY a.attnum) AS deferrable_columns,
       ARRAY(SELECT pg_get_partition_constraintdef(t.relid)
             FROM pg_partition_tree(c.oid) AS t
             WHERE c.relkind = 'p' AND t.isleaf) AS partitions
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname !~ '^(pg_toast|pgshift(_check)?$)'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\"";

const COLUMNS: &str = "
SELECT a.attrelid, a.attname::text AS name, a.atttypid, a.atttypmod,
       format_type(a.atttypid, a.atttypmod) AS declared, a.attnotnull AS not_null,
       a.attgenerated <> '' OR a.attidentity <> ''
           OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%', false) AS by_server,
       d.oid IS NOT NULL AS has_default
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

const CHECKS: &str = "
SELECT conrelid, contypid, conname::text AS name, pg_get_expr(conbin, conrelid) AS condition
FROM pg_constraint
WHERE contype = 'c' AND (conrelid = ANY ($1::oid[]) OR contypid <> 0)
ORDER BY conrelid, conname";

const KEYS: &str = "
SELECT k.conrelid, n.nspname::text AS schema, c.relname::text AS name,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS x(n, p)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.n
             ORDER BY x.p) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS x(n, p)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = x.n
             ORDER BY x.p) AS refs
FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.conrelid = ANY ($1::oid[])
  AND NOT EXISTS (SELECT FROM pg_constraint p
                  WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
ORDER BY k.conrelid, k.conname";

const TYPES: &str = "
SELECT t.oid, t.typname::text AS name, format_type(t.oid, NULL) AS sql, t.typtype::text AS kind,
       t.typbasetype AS base, t.typtypmod AS modifier, t.typnotnull AS not_null,
       CASE WHEN t.typcategory = 'A' AND t.typlen = -1 THEN t.typelem ELSE 0 END::oid AS element,
       ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid
             ORDER BY enumsortorder) AS labels,
       ARRAY(SELECT a.atttypid FROM pg_attribute a
             WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0
               AND NOT a.attisdropped ORDER BY a.attnum)::oid[] AS fields,
       coalesce((SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid), 0)::oid AS bound,
       coalesce((SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid), 0)::oid
           AS range_of
FROM pg_type t";

struct RawType {
    name: String,
    sql: String,
    kind: String,
    base: u32,
    modifier: i32,
    not_null: bool,
    element: u32,
    labels: Vec<String>,
    fields: Vec<u32>,
    bound: u32,
    range_of: u32,
}

/// The types of a server by oid.
struct Types {
    all: BTreeMap<u32, RawType>,
    /// Conditions of domains.
    checks: BTreeMap<u32, Vec<String>>,
}

/// A domain's layers taken off.
struct Bare {
    oid: u32,
    modifier: i32,
    not_null: bool,
    checks: Vec<String>,
}

impl Types {
    fn bare(&self, oid: u32, modifier: i32) -> Bare {
        let mut bare = Bare {
            oid,
            modifier,
            not_null: false,
            checks: Vec::new(),
        };
        while let Some(domain) = self.all.get(&bare.oid).filter(|t| t.kind == "d") {
            bare.not_null |= domain.not_null;
            bare.checks
                .extend(self.checks.get(&bare.oid).into_iter().flatten().cloned());
            bare.modifier = domain.modifier;
            bare.oid = domain.base;
        }
        bare
    }

    fn of(&self, oid: u32, sql: Option<&str>, depth: u8) -> Type {
        let oid = self.bare(oid, -1).oid;
        let unknown = || Type {
            name: String::new(),
            sql: sql.unwrap_or_default().to_owned(),
            kind: TypeKind::Base,
        };
        let Some(raw) = self.all.get(&oid).filter(|_| depth < 6) else {
            return unknown();
        };
        let inner = |oid: u32| Box::new(self.of(oid, None, depth + 1));
        let kind = match raw.kind.as_str() {
            "e" => TypeKind::Enum(raw.labels.clone()),
            "c" => TypeKind::Composite(
                raw.fields
                    .iter()
                    .map(|f| self.of(*f, None, depth + 1))
                    .collect(),
            ),
            "r" => TypeKind::Range(inner(raw.bound)),
            "m" => TypeKind::Multirange(inner(raw.range_of)),
            _ if raw.element != 0 => TypeKind::Array(inner(raw.element)),
            _ => TypeKind::Base,
        };
        Type {
            name: raw.name.clone(),
            sql: sql.unwrap_or(&raw.sql).to_owned(),
            kind,
        }
    }
}

/// Reads them in one read-only transaction of its own, with qualified names.
///
/// # Errors
/// What the server or the connection gave.
pub async fn read(client: &Client) -> Result<Vec<Table>> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = ''";
    client.batch_execute(begin).await.map_err(from_pg)?;
    let read = tables(client).await;
    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    read
}

async fn tables(client: &Client) -> Result<Vec<Table>> {
    let rows = client.query(TABLES, &[]).await.map_err(from_pg)?;
    let mut oids: Vec<u32> = Vec::new();
    let mut tables = Vec::new();
    for row in &rows {
        let kind: String = get(row, "kind")?;
        let partitions: Vec<Option<String>> = get(row, "partitions")?;
        let partitions: Vec<String> = partitions.into_iter().flatten().collect();
        let refused = match kind.as_str() {
            "f" => Some("it is a foreign table".to_owned()),
            "p" if partitions.is_empty() => Some("it has no partitions".to_owned()),
            _ => None,
        };
        let name = name(row)?;
        let some = format!(
            "SELECT EXISTS (SELECT FROM {})",
            crate::sql::quote::qname(&name)
        );
        let has_rows = kind != "f"
            && client
                .query_one(&some, &[])
                .await
                .map_err(from_pg)?
                .get::<_, bool>(0);
        oids.push(get(row, "oid")?);
        tables.push(Table {
            name,
            refused,
            has_rows,
            columns: Vec::new(),
            checks: Vec::new(),
            partitions,
            deferrable_key: get(row, "deferrable_key")?,
            deferrable_columns: get(row, "deferrable_columns")?,
            foreign_keys: Vec::new(),
        });
    }
    let place = |oid: u32| oids.iter().position(|o| *o == oid);

    let mut domain_checks: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for row in &client.query(CHECKS, &[&oids]).await.map_err(from_pg)? {
        let Some(condition) = get::<Option<String>>(row, "condition")? else {
            continue;
        };
        if let Some(at) = place(get(row, "conrelid")?) {
            tables[at].checks.push((get(row, "name")?, condition));
        } else {
            let domain = get(row, "contypid")?;
            domain_checks.entry(domain).or_default().push(condition);
        }
    }
    let types = types(client, domain_checks).await?;
    for row in &client.query(COLUMNS, &[&oids]).await.map_err(from_pg)? {
        let (oid, modifier): (u32, i32) = (get(row, "atttypid")?, get(row, "atttypmod")?);
        let bare = types.bare(oid, modifier);
        let sql = client
            .query_one(
                "SELECT format_type($1::oid, $2::int)",
                &[&bare.oid, &bare.modifier],
            )
            .await
            .map_err(from_pg)?
            .get::<_, String>(0);
        let Some(at) = place(get(row, "attrelid")?) else {
            continue;
        };
        tables[at].columns.push(Column {
            name: get(row, "name")?,
            declared: get(row, "declared")?,
            value: types.of(bare.oid, Some(&sql), 0),
            domain_checks: bare.checks,
            not_null: get::<bool>(row, "not_null")? || bare.not_null,
            by_server: get(row, "by_server")?,
            has_default: get(row, "has_default")?,
        });
    }
    for row in &client.query(KEYS, &[&oids]).await.map_err(from_pg)? {
        if let Some(at) = place(get(row, "conrelid")?) {
            tables[at].foreign_keys.push(ForeignKey {
                columns: get(row, "columns")?,
                table: name(row)?,
                references: get(row, "refs")?,
            });
        }
    }
    Ok(tables)
}

fn name(row: &Row) -> Result<QName> {
    Ok(QName::new(
        get::<String>(row, "schema")?,
        get::<String>(row, "name")?,
    ))
}

async fn types(client: &Client, checks: BTreeMap<u32, Vec<String>>) -> Result<Types> {
    let mut all = BTreeMap::new();
    for row in &client.query(TYPES, &[]).await.map_err(from_pg)? {
        let raw = RawType {
            name: get(row, "name")?,
            sql: get(row, "sql")?,
            kind: get(row, "kind")?,
            base: get(row, "base")?,
            modifier: get(row, "modifier")?,
            not_null: get(row, "not_null")?,
            element: get(row, "element")?,
            labels: get(row, "labels")?,
            fields: get(row, "fields")?,
            bound: get(row, "bound")?,
            range_of: get(row, "range_of")?,
        };
        all.insert(get(row, "oid")?, raw);
    }
    Ok(Types { all, checks })
}
