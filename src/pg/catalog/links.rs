//! How relations are tied to each other.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::super::read::{failed, get};
use super::Wanted;
use crate::catalog::{Link, LinkKind, QName, reach};
use crate::error::Result;

/// All ties between what users made. By oid, each object with its class, since a table and a type
/// may have the same oid. Foreign keys that partitions have because of their parents are not of
/// their own (`conparentid`). Partitioned indexes are only steps on the way (`index`).
const EDGES: &str = "
    SELECT 'pg_class'::regclass::oid AS from_class, i.inhrelid AS from_oid,
           'pg_class'::regclass::oid AS to_class, i.inhparent AS to_oid,
           CASE WHEN c.relkind IN ('i', 'I') THEN 'index_partition'
                WHEN NOT c.relispartition THEN 'inherits'
                WHEN p.partdefid = c.oid THEN 'default_partition'
                ELSE 'partition' END AS kind,
           NULL::int2[] AS attnums
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    LEFT JOIN pg_partitioned_table p ON p.partrelid = i.inhparent
    UNION ALL
    SELECT 'pg_class'::regclass, k.conrelid, 'pg_class'::regclass, k.confrelid, 'foreign_key',
           k.confkey
    FROM pg_constraint k
    WHERE k.contype = 'f' AND k.conparentid = 0
    UNION ALL
    SELECT 'pg_class'::regclass, r.ev_class, 'pg_class'::regclass, d.refobjid, 'reads',
           array_agg(d.refobjsubid::int2) FILTER (WHERE d.refobjsubid > 0)
    FROM pg_depend d
    JOIN pg_rewrite r ON r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid <> r.ev_class
    GROUP BY r.ev_class, d.refobjid
    UNION ALL
    SELECT d.classid, d.objid, d.refclassid, d.refobjid, 'owned_by', ARRAY[d.refobjsubid::int2]
    FROM pg_depend d
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    UNION ALL
    SELECT 'pg_class'::regclass, f.adrelid, d.refclassid, d.refobjid, 'default', ARRAY[f.adnum]
    FROM pg_depend d
    JOIN pg_attrdef f ON f.oid = d.objid
    JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, 'pg_type'::regclass, c.reloftype, 'of_type', NULL
    FROM pg_class c
    WHERE c.reloftype <> 0
    UNION ALL
    SELECT 'pg_class'::regclass, a.attrelid, 'pg_type'::regclass,
           CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END,
           'column', array_agg(a.attnum)
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid AND t.oid >= 16384
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm', 'f')
    WHERE a.attnum > 0 AND NOT a.attisdropped
    GROUP BY 2, 4
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, 'pg_type'::regclass, t.typbasetype, 'domain_over', NULL
    FROM pg_type t
    WHERE t.typtype = 'd' AND t.typbasetype >= 16384
    UNION ALL
    SELECT 'pg_publication'::regclass, p.prpubid, 'pg_class'::regclass, p.prrelid, 'publishes', NULL
    FROM pg_publication_rel p
    UNION ALL
    SELECT 'pg_class'::regclass, x.indrelid, 'pg_class'::regclass, x.indexrelid, 'index', NULL
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid AND i.relkind = 'I'";

/// The wanted names, as objects.
const SEEDS: &str = "
WITH path AS MATERIALIZED (
    SELECT n.oid, n.nspname, u.position
    FROM pg_namespace n
    LEFT JOIN unnest(current_schemas(true)) WITH ORDINALITY AS u(nspname, position)
           ON u.nspname = n.nspname)
    SELECT 'pg_class'::regclass::oid AS class, coalesce(x.indrelid, c.oid) AS oid
    FROM unnest($1::text[], $2::text[]) AS w(schema, name)
    JOIN pg_class c ON c.relname = w.name
    JOIN path ON path.oid = c.relnamespace
             AND (path.nspname = w.schema OR (w.schema IS NULL AND path.position IS NOT NULL))
    LEFT JOIN pg_index x ON x.indexrelid = c.oid
    UNION
    SELECT 'pg_class'::regclass, c.oid
    FROM unnest($1::text[], $2::text[]) AS w(schema, name)
    JOIN pg_class c ON c.relname = w.name AND c.relkind = 'I'
    UNION
    SELECT 'pg_type'::regclass, t.oid
    FROM unnest($1::text[], $2::text[]) AS w(schema, name)
    JOIN pg_type t ON t.typname = w.name
    JOIN path ON path.oid = t.typnamespace
             AND (path.nspname = w.schema OR (w.schema IS NULL AND path.position IS NOT NULL))
    UNION
    SELECT 'pg_publication'::regclass, p.oid
    FROM unnest($1::text[], $2::text[]) AS w(schema, name)
    JOIN pg_publication p ON p.pubname = w.name";

/// Names of both ends of ties, and of the columns that they are about.
const NAMES: &str = "
WITH named AS MATERIALIZED (
    SELECT 'pg_class'::regclass::oid AS class, c.oid, n.nspname::text AS schema, c.relname::text AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, n.nspname::text, t.typname::text
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    UNION ALL
    SELECT 'pg_publication'::regclass, p.oid, '', p.pubname::text FROM pg_publication p)
SELECT f.schema AS from_schema, f.name AS from_name, t.schema AS to_schema, t.name AS to_name,
       e.kind,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attnum = ANY (e.attnums)
               AND a.attrelid = CASE WHEN e.kind IN ('column', 'default') THEN e.from_oid
                                     ELSE e.to_oid END
             ORDER BY a.attnum) AS columns
FROM (SELECT from_class, from_oid, to_class, to_oid, kind, attnums::int2[] AS attnums
      FROM unnest($1::oid[], $2::oid[], $3::oid[], $4::oid[], $5::text[], $6::text[])
          AS u(from_class, from_oid, to_class, to_oid, kind, attnums)) AS e
JOIN named f ON f.class = e.from_class AND f.oid = e.from_oid
JOIN named t ON t.class = e.to_class AND t.oid = e.to_oid
ORDER BY 1, 2, 3, 4, 5";

fn kind(text: &str) -> LinkKind {
    match text {
        "partition" => LinkKind::Partition,
        "default_partition" => LinkKind::DefaultPartition,
        "inherits" => LinkKind::Inherits,
        "index_partition" => LinkKind::IndexPartition,
        "foreign_key" => LinkKind::ForeignKey,
        "owned_by" => LinkKind::OwnedBy,
        "default" => LinkKind::Default,
        "of_type" => LinkKind::OfType,
        "column" => LinkKind::Column,
        "domain_over" => LinkKind::DomainOver,
        "publishes" => LinkKind::Publishes,
        _ => LinkKind::Reads,
    }
}

/// The ties that the wanted names reach. The way along them is looked for here and not in SQL: a
/// recursive query reads all ties again for each step of the way, and a way may be as long as there
/// are tables.
pub(super) async fn links(client: &Client, wanted: &[Wanted]) -> Result<Vec<Link>> {
    let failed = |e| failed("cannot read what the relations are tied to", e);
    let schemas: Vec<Option<&str>> = wanted.iter().map(|w| w.schema.as_deref()).collect();
    let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
    let wanted: [(&(dyn ToSql + Sync), Type); 2] =
        [(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)];
    let (seeds, edges) = tokio::try_join!(
        biased;
        client.query_typed(SEEDS, &wanted),
        client.query_typed(EDGES, &[]),
    )
    .map_err(failed)?;
    let seeds = seeds
        .iter()
        .map(|row| Ok((get(row, "class")?, get(row, "oid")?)))
        .collect::<Result<Vec<Node>>>()?;
    let edges = edges.iter().map(edge).collect::<Result<Vec<Edge>>>()?;
    let ways: Vec<_> = edges.iter().flat_map(Edge::ways).collect();
    let reached = reach(seeds, &ways);
    let met = |e: &&Edge| e.kind != INDEX && reached.contains(&e.from) && reached.contains(&e.to);
    let edges: Vec<&Edge> = edges.iter().filter(met).collect();
    if edges.is_empty() {
        return Ok(Vec::new());
    }
    let each = |part: fn(&Edge) -> u32| edges.iter().map(|e| part(e)).collect::<Vec<u32>>();
    let (from_class, from) = (each(|e| e.from.0), each(|e| e.from.1));
    let (to_class, to) = (each(|e| e.to.0), each(|e| e.to.1));
    let kinds: Vec<&str> = edges.iter().map(|e| e.kind.as_str()).collect();
    let columns: Vec<Option<String>> = edges.iter().map(|e| e.columns()).collect();
    let ends: [(&(dyn ToSql + Sync), Type); 6] = [
        (&from_class, Type::OID_ARRAY),
        (&from, Type::OID_ARRAY),
        (&to_class, Type::OID_ARRAY),
        (&to, Type::OID_ARRAY),
        (&kinds, Type::TEXT_ARRAY),
        (&columns, Type::TEXT_ARRAY),
    ];
    client
        .query_typed(NAMES, &ends)
        .await
        .map_err(failed)?
        .iter()
        .map(link)
        .collect()
}

/// Catalog and oid.
type Node = (u32, u32);

/// A partitioned index of a table: no tie of its own.
const INDEX: &str = "index";

struct Edge {
    from: Node,
    to: Node,
    kind: String,
    attnums: Option<Vec<i16>>,
}

impl Edge {
    /// The ways that it opens. A type leads to its tables, not a table to the types that it uses:
    /// an extension's type would tie all tables together. So with publications.
    fn ways(&self) -> impl Iterator<Item = (Node, Node)> {
        let forth = (self.kind != "column").then_some((self.from, self.to));
        let back = !["publishes", INDEX].contains(&self.kind.as_str());
        forth
            .into_iter()
            .chain(back.then_some((self.to, self.from)))
    }

    /// As the text of an array.
    fn columns(&self) -> Option<String> {
        let numbers: Vec<_> = self.attnums.as_ref()?.iter().map(i16::to_string).collect();
        Some(format!("{{{}}}", numbers.join(",")))
    }
}

fn edge(row: &Row) -> Result<Edge> {
    Ok(Edge {
        from: (get(row, "from_class")?, get(row, "from_oid")?),
        to: (get(row, "to_class")?, get(row, "to_oid")?),
        kind: get(row, "kind")?,
        attnums: get(row, "attnums")?,
    })
}

fn link(row: &Row) -> Result<Link> {
    let end = |schema: &str, name: &str| -> Result<QName> {
        Ok(QName::new(
            get::<String>(row, schema)?,
            get::<String>(row, name)?,
        ))
    };
    Ok(Link {
        from: end("from_schema", "from_name")?,
        to: end("to_schema", "to_name")?,
        kind: kind(&get::<String>(row, "kind")?),
        columns: get(row, "columns")?,
    })
}
