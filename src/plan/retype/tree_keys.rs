//! Statements about a foreign key of a partitioned table and those of its partitions. They look the
//! partitions up when they run: some may be made or detached between the plan and the swap.

use super::tree::{SMALL, block};
use crate::catalog::details::KeyPart;
use crate::catalog::{QName, RelKind, Table};
use crate::plan::forms::NOT_NULL_CONSTRAINTS;
use crate::sql::quote::{ident, literal, qname};

/// Said of the step that adds the table's own.
pub(super) const TAKES_OVER: &str =
    "takes over those of the partitions, which are valid: no row is read";

/// The foreign keys of this table are made leaf by leaf: up to 17 none of a partitioned table can be
/// NOT VALID.
pub(super) fn by_leaves(table: &Table, major: u32) -> bool {
    table.kind == RelKind::Partitioned && major < NOT_NULL_CONSTRAINTS
}

fn regclass(table: &QName) -> String {
    format!("{}::regclass", literal(&qname(table)))
}

/// The key of a table and those of its partitions, as (oid, conrelid, name, level, comment), the
/// table's first. One to a partitioned table has rows of its own for the partitions of that one.
fn down(table: &QName, name: &str) -> String {
    format!(
        "
    WITH RECURSIVE down(oid, level) AS (
      SELECT k.oid, 0 FROM pg_catalog.pg_constraint k
      WHERE k.conrelid = {} AND k.conname = {}
      UNION ALL
      SELECT k.oid, down.level + 1
      FROM down
      JOIN pg_catalog.pg_constraint p ON p.oid = down.oid
      JOIN pg_catalog.pg_constraint k ON k.conparentid = p.oid AND k.conrelid <> p.conrelid)
    SELECT k.oid, k.conrelid, k.conname AS name, down.level,
      obj_description(k.oid, 'pg_constraint') AS comment
    FROM down JOIN pg_catalog.pg_constraint k ON k.oid = down.oid
    ORDER BY down.level",
        regclass(table),
        literal(name)
    )
}

/// The foreign key `incoming` takes the place and the names of `outgoing`, which is dropped or gets
/// the name `kept`, in the table and in each partition.
pub(super) fn replace(table: &QName, outgoing: &str, incoming: &str, kept: Option<&str>) -> String {
    let down = |name: &str| down(table, name);
    let out = match kept {
        None => format!(
            "  ALTER TABLE {} DROP CONSTRAINT {};\n",
            qname(table),
            ident(outgoing)
        ),
        Some(kept) => format!(
            "  FOR pgshift_key IN {}\n  LOOP
    EXECUTE format('ALTER TABLE ONLY %s RENAME CONSTRAINT %I TO %I',
      pgshift_key.conrelid::regclass, pgshift_key.name,
      CASE pgshift_key.level WHEN 0 THEN {} ELSE '_pgshift_' || pgshift_key.oid END);
  END LOOP;\n",
            down(outgoing),
            literal(kept)
        ),
    };
    let body = format!(
        "  SELECT coalesce(jsonb_object_agg(d.conrelid::text, to_jsonb(d)), '{{}}') INTO pgshift_all
    FROM ({outgoing}) AS d;
{out}  FOR pgshift_key IN {incoming}\n  LOOP
    pgshift_had := pgshift_all -> pgshift_key.conrelid::text;
    CONTINUE WHEN pgshift_had IS NULL;
    IF pgshift_key.name <> pgshift_had ->> 'name' THEN
      EXECUTE format('ALTER TABLE ONLY %s RENAME CONSTRAINT %I TO %I',
        pgshift_key.conrelid::regclass, pgshift_key.name, pgshift_had ->> 'name');
    END IF;
    IF pgshift_had ->> 'comment' IS NOT NULL THEN
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', pgshift_had ->> 'name',
        pgshift_key.conrelid::regclass, pgshift_had ->> 'comment');
    END IF;
  END LOOP;
",
        outgoing = down(outgoing),
        incoming = down(incoming),
    );
    block(
        "  pgshift_key record;\n  pgshift_all jsonb;\n  pgshift_had jsonb;\n",
        &body,
    )
}

/// A foreign key of a partitioned table, by its columns.
pub(super) struct TreeKey<'d> {
    /// The table.
    pub(super) table: &'d QName,
    /// The table that it references.
    pub(super) to: &'d QName,
    /// Its columns.
    pub(super) own: Vec<String>,
    /// Those that it references.
    pub(super) theirs: Vec<String>,
}

/// The columns of a key `k` are these.
fn has_columns(relation: &str, numbers: &str, names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
    format!(
        "ARRAY(SELECT a.attname::text FROM unnest({numbers}) WITH ORDINALITY AS x(attnum, place)
          JOIN pg_catalog.pg_attribute a ON a.attrelid = {relation} AND a.attnum = x.attnum
          ORDER BY x.place) = ARRAY[{}]",
        names.join(", ")
    )
}

/// Parts as rows of VALUES.
fn rows(parts: &[KeyPart]) -> String {
    if parts.is_empty() {
        return "(NULL::text, NULL::text, NULL::text, NULL::text)".to_owned();
    }
    let rows: Vec<String> = parts
        .iter()
        .map(|part| {
            let comment = part.comment.as_deref().map_or("NULL".to_owned(), literal);
            format!(
                "({}, {}, {}, {comment})",
                literal(&part.table.schema),
                literal(&part.table.name),
                literal(&part.name)
            )
        })
        .collect();
    rows.join(",\n        ")
}

impl TreeKey<'_> {
    fn is_this(&self) -> String {
        format!(
            "k.contype = 'f' AND k.confrelid = {} AND {}
        AND {}",
            regclass(self.to),
            has_columns("k.conrelid", "k.conkey", &self.own),
            has_columns("k.confrelid", "k.confkey", &self.theirs)
        )
    }

    /// The table's own, which takes over those of the leaves without reading a row: the server
    /// attaches what says the same and is valid (`tryAttachPartitionForeignKey`). A partition that
    /// was made after the plan, and has none or one that is not valid, is read: it may only be small.
    pub(super) fn take_over(&self, name: &str, definition: &str) -> Vec<String> {
        let body = format!(
            "  FOR pgshift_part IN
    SELECT n.nspname AS schema, c.relname AS name, k.conname AS key,
      pg_relation_size(c.oid) > pg_size_bytes({small}) AS large
    FROM pg_partition_tree({table}) t
    JOIN pg_catalog.pg_class c ON c.oid = t.relid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid
      AND {is_this}
    WHERE t.isleaf AND k.convalidated IS NOT TRUE
  LOOP
    IF pgshift_part.large THEN
      RAISE EXCEPTION 'partition %.% was made after the plan: its foreign key to the new column is not valid',
        pgshift_part.schema, pgshift_part.name
        USING ERRCODE = 'object_not_in_prerequisite_state',
          HINT = CASE WHEN pgshift_part.key IS NULL THEN
            format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s NOT VALID; then, by itself, ',
              pgshift_part.schema, pgshift_part.name, {name}, {definition}) ELSE '' END
            || format('ALTER TABLE %I.%I VALIDATE CONSTRAINT %I; then go on', pgshift_part.schema,
              pgshift_part.name, coalesce(pgshift_part.key, {name}));
    ELSIF pgshift_part.key IS NOT NULL THEN
      EXECUTE format('ALTER TABLE %I.%I VALIDATE CONSTRAINT %I', pgshift_part.schema,
        pgshift_part.name, pgshift_part.key);
    END IF;
  END LOOP;
",
            table = regclass(self.table),
            small = literal(SMALL),
            is_this = self.is_this(),
            name = literal(name),
            definition = literal(definition),
        );
        vec![
            block("  pgshift_part record;\n", &body),
            format!(
                "ALTER TABLE {} ADD CONSTRAINT {} {definition}",
                qname(self.table),
                ident(name)
            ),
        ]
    }

    /// Those of all leaves, NOT VALID, by the names that they had.
    pub(super) fn add_to_leaves(&self, name: &str, definition: &str, parts: &[KeyPart]) -> String {
        let body = format!(
            "  FOR pgshift_part IN
    SELECT n.nspname AS schema, c.relname AS name, coalesce(h.key, {name}) AS key, h.comment
    FROM pg_partition_tree({table}) t
    JOIN pg_catalog.pg_class c ON c.oid = t.relid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN (VALUES
        {rows}) AS h(schema, part, key, comment) ON h.schema = n.nspname AND h.part = c.relname
    WHERE t.isleaf
    ORDER BY t.level
  LOOP
    EXECUTE format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s NOT VALID', pgshift_part.schema,
      pgshift_part.name, pgshift_part.key, {definition});
    IF pgshift_part.comment IS NOT NULL THEN
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %I.%I IS %L', pgshift_part.key,
        pgshift_part.schema, pgshift_part.name, pgshift_part.comment);
    END IF;
  END LOOP;
",
            name = literal(name),
            table = regclass(self.table),
            rows = rows(parts),
            definition = literal(definition),
        );
        block("  pgshift_part record;\n", &body)
    }

    /// Drops it where it is: at the table, or at leaves where the table has not taken those over.
    pub(super) fn drop(&self) -> String {
        drop_each(&format!(
            "k.conparentid = 0 AND {}
        AND k.conrelid IN (SELECT t.relid FROM pg_partition_tree({}) t)",
            self.is_this(),
            regclass(self.table)
        ))
    }

    /// A partition that was detached has both keys for itself: there too `incoming` takes the place
    /// of the one of these columns.
    pub(super) fn replace_detached(&self, incoming: &str) -> String {
        let body = format!(
            "  FOR pgshift_key IN
    SELECT k.conrelid::regclass AS name, k.conname AS outgoing
    FROM pg_catalog.pg_constraint i
    JOIN pg_catalog.pg_constraint k ON k.conrelid = i.conrelid AND k.oid <> i.oid
    WHERE i.contype = 'f' AND i.confrelid = {to} AND i.conname = {incoming}
      AND i.conparentid = 0 AND i.conrelid <> {table} AND k.conparentid = 0
      AND {is_this}
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', pgshift_key.name, pgshift_key.outgoing);
    EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', pgshift_key.name, {incoming},
      pgshift_key.outgoing);
  END LOOP;
",
            to = regclass(self.to),
            table = regclass(self.table),
            incoming = literal(incoming),
            is_this = self.is_this(),
        );
        block("  pgshift_key record;\n", &body)
    }
}

/// Drops the keys of this name that reference a table, wherever they are by now: at the table, at
/// leaves, and at partitions that were detached.
pub(super) fn drop_all(to: &QName, name: &str) -> String {
    drop_each(&format!(
        "k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = {} AND k.conname = {}",
        regclass(to),
        literal(name)
    ))
}

fn drop_each(which: &str) -> String {
    let body = format!(
        "  FOR pgshift_key IN
    SELECT k.conrelid::regclass AS name, k.conname AS key
    FROM pg_catalog.pg_constraint k
    WHERE {which}
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', pgshift_key.name, pgshift_key.key);
  END LOOP;
"
    );
    block("  pgshift_key record;\n", &body)
}

/// Gives the keys of partitions the names and comments that they had, where these say more than the
/// table's own.
pub(super) fn name_parts(table: &QName, name: &str, parts: &[KeyPart]) -> Option<String> {
    let own = |part: &KeyPart| part.name != name || part.comment.is_some();
    if !parts.iter().any(|part| part.table != *table && own(part)) {
        return None;
    }
    let body = format!(
        "  FOR pgshift_key IN
    SELECT d.conrelid::regclass AS name, d.name AS key, h.key AS now, h.comment
    FROM ({down}) AS d
    JOIN pg_catalog.pg_class c ON c.oid = d.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN (VALUES
        {rows}) AS h(schema, part, key, comment) ON h.schema = n.nspname AND h.part = c.relname
    WHERE d.level > 0
  LOOP
    IF pgshift_key.key <> pgshift_key.now THEN
      EXECUTE format('ALTER TABLE ONLY %s RENAME CONSTRAINT %I TO %I', pgshift_key.name,
        pgshift_key.key, pgshift_key.now);
    END IF;
    IF pgshift_key.comment IS NOT NULL THEN
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', pgshift_key.now, pgshift_key.name,
        pgshift_key.comment);
    END IF;
  END LOOP;
",
        down = down(table, name),
        rows = rows(parts),
    );
    Some(block("  pgshift_key record;\n", &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key<'d>(table: &'d QName, to: &'d QName) -> TreeKey<'d> {
        TreeKey {
            table,
            to,
            own: vec!["a".into(), "it's".into()],
            theirs: vec!["b".into(), "c".into()],
        }
    }

    #[test]
    fn names_of_partitions_only_where_they_say_more() {
        let table = QName::new("public", "t");
        let part = |of: &str, name: &str, comment: Option<&str>| KeyPart {
            table: QName::new("public", of),
            name: name.into(),
            comment: comment.map(str::to_owned),
        };
        let root = part("t", "k", Some("the table's own"));
        let named = |part| name_parts(&table, "k", &[root.clone(), part]);
        assert!(named(part("t_1", "k", None)).is_none());
        let sql = named(part("t_1", "k_1", None)).expect("another name");
        assert!(sql.contains("('public', 't_1', 'k_1', NULL)"), "{sql}");
        let sql = named(part("t_1", "k", Some("it's"))).expect("a comment");
        assert!(sql.contains("('public', 't_1', 'k', 'it''s')"), "{sql}");
    }

    #[test]
    fn a_large_partition_is_not_read_under_the_lock() {
        let (table, to) = (QName::new("public", "t"), QName::new("public", "o"));
        let sql = key(&table, &to).take_over("k", "FOREIGN KEY (a) REFERENCES o(b)");
        assert_eq!(
            sql[1],
            "ALTER TABLE \"public\".\"t\" ADD CONSTRAINT \"k\" FOREIGN KEY (a) REFERENCES o(b)"
        );
        for words in [
            "pg_size_bytes('8 MB')",
            "k.convalidated IS NOT TRUE",
            "= ARRAY['a', 'it''s']",
            "= ARRAY['b', 'c']",
        ] {
            assert!(sql[0].contains(words), "{words} is not in {}", sql[0]);
        }
    }
}
