//! Statements about an index of a partitioned table and its parts. They look the partitions up when
//! they run: some may be made or detached between the plan and the swap.

use super::definition::deferrable;
use crate::catalog::{Constraint, QName, Table};
use crate::sql::lex::{TokenKind, is_keyword, lex_code};
use crate::sql::quote::{dollar, ident, literal, qname};

/// The size up to which the index of a partition made meanwhile is built at once: some
/// milliseconds of work.
pub(super) const SMALL: &str = "8 MB";

/// What an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No constraint owns it.
    Plain,
    /// UNIQUE does.
    Unique,
    /// PRIMARY KEY does.
    Primary,
}

/// An index of a partitioned table.
pub(super) struct Tree<'d> {
    pub(super) table: &'d QName,
    pub(super) kind: Kind,
    pub(super) unique: bool,
    pub(super) constraint: Option<&'d Constraint>,
    pub(super) tablespace: Option<&'d str>,
}

/// `UNIQUE NULLS NOT DISTINCT (a) INCLUDE (b) WITH (…) DEFERRABLE` of
/// `USING btree (a) INCLUDE (b) NULLS NOT DISTINCT WITH (…)`.
fn key(word: &str, tail: &str, tablespace: Option<&str>, deferrable: &str) -> String {
    let tokens = lex_code(tail);
    let mut depth = 0_usize;
    let (mut from, mut nulls, mut with) = (0, None, None);
    for token in &tokens {
        match token.kind {
            TokenKind::LParen => {
                if from == 0 {
                    from = token.span.start;
                }
                depth += 1;
            }
            TokenKind::RParen => depth = depth.saturating_sub(1),
            _ if depth == 0 && is_keyword(*token, tail, "NULLS") => nulls = Some(token.span.start),
            _ if depth == 0 && is_keyword(*token, tail, "WITH") => with = Some(token.span.start),
            _ => {}
        }
    }
    let columns = tail[from..nulls.or(with).unwrap_or(tail.len())].trim_end();
    let mut out = word.to_owned();
    for part in [
        nulls.map_or("", |_| "NULLS NOT DISTINCT"),
        columns,
        with.map_or("", |at| tail[at..].trim_end()),
    ] {
        if !part.is_empty() {
            out.push(' ');
            out.push_str(part);
        }
    }
    if let Some(tablespace) = tablespace {
        out.push_str(" USING INDEX TABLESPACE ");
        out.push_str(&ident(tablespace));
    }
    if !deferrable.is_empty() {
        out.push(' ');
        out.push_str(deferrable);
    }
    out
}

pub(super) fn block(declare: &str, body: &str) -> String {
    let body = format!("\nDECLARE\n{declare}BEGIN\n{body}END\n");
    format!("DO {}", dollar(&body))
}

/// The index and its parts, as (oid, relation, name, schema), the root's first.
const DOWN: &str = "
      WITH RECURSIVE down(oid, level) AS (
        SELECT {root}, 0
        UNION ALL
        SELECT h.inhrelid, down.level + 1 FROM down JOIN pg_catalog.pg_inherits h ON h.inhparent = down.oid)
      SELECT c.oid, x.indrelid, c.relname AS name, n.nspname AS schema, down.level,
        x.indisclustered AS clustered, x.indisreplident AS identity,
        obj_description(c.oid, 'pg_class') AS comment,
        (SELECT jsonb_object_agg(a.attnum, a.attstattarget) FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND a.attstattarget >= 0) AS targets,
        (SELECT obj_description(k.oid, 'pg_constraint') FROM pg_catalog.pg_constraint k
         WHERE k.conindid = c.oid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u')) AS about
      FROM down
      JOIN pg_catalog.pg_index x ON x.indexrelid = down.oid
      JOIN pg_catalog.pg_class c ON c.oid = down.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      ORDER BY down.level";

/// A setting of the transaction that keeps what the parts of an index had from one statement to
/// the next, and the same of the primary key.
const HAD: &str = "pgshift.had";
const KEY: &str = "pgshift.key";

impl Tree<'_> {
    fn index(&self, name: &str) -> String {
        format!("{}.{}", ident(&self.table.schema), ident(name))
    }

    fn oid(&self, name: &str) -> String {
        format!("{}::regclass", literal(&self.index(name)))
    }

    fn head(&self, only: &str) -> String {
        format!("ALTER TABLE {only}{}", qname(self.table))
    }

    fn deferrable(&self) -> &str {
        self.constraint.map_or("", |c| deferrable(&c.definition))
    }

    fn word(&self) -> &'static str {
        match self.kind {
            Kind::Primary => "PRIMARY KEY",
            _ => "UNIQUE",
        }
    }

    fn key(&self, tail: &str) -> String {
        key(self.word(), tail, self.tablespace, self.deferrable())
    }

    fn create(&self) -> &'static str {
        if self.unique {
            "CREATE UNIQUE INDEX"
        } else {
            "CREATE INDEX"
        }
    }

    /// The root's entry.
    pub(super) fn entry(&self, table: &Table, aid: &str, tail: &str) -> String {
        let aid = ident(aid);
        if self.kind == Kind::Plain {
            let tail = super::definition::with_tablespace(tail, self.tablespace);
            format!(
                "{} {aid} ON ONLY {} {tail}",
                self.create(),
                qname(&table.name)
            )
        } else {
            format!(
                "{} ADD CONSTRAINT {aid} {}",
                self.head("ONLY "),
                self.key(tail)
            )
        }
    }

    /// Drops it with all its parts.
    pub(super) fn drop(&self, aid: &str) -> String {
        if self.kind == Kind::Plain {
            format!("DROP INDEX IF EXISTS {}", self.index(aid))
        } else {
            format!("{} DROP CONSTRAINT IF EXISTS {}", self.head(""), ident(aid))
        }
    }

    /// Attaches the parts to the root's entry `name`, level by level; makes those of partitions
    /// that have none. `names`: an SQL expression of relation → name as jsonb, for the parts.
    pub(super) fn grow(
        &self,
        name: &str,
        tail: &str,
        parts: &[(&QName, String)],
        names: Option<&str>,
    ) -> String {
        let root = self.oid(name);
        let known = if parts.is_empty() {
            "(NULL::text, NULL::text, NULL::text)".to_owned()
        } else {
            let rows: Vec<String> = parts
                .iter()
                .map(|(table, aid)| {
                    let (schema, part) = (literal(&table.schema), literal(&table.name));
                    format!("({schema}, {part}, {})", literal(aid))
                })
                .collect();
            rows.join(",\n        ")
        };
        let keyed = self.kind != Kind::Plain;
        let inner = if keyed {
            format!(
                "EXECUTE format('ALTER TABLE ONLY %I.%I ADD CONSTRAINT %I %s', \
                 pgshift_part.schema, pgshift_part.name, pgshift_name, {});",
                literal(&self.key(tail))
            )
        } else {
            format!(
                "EXECUTE format({}, pgshift_part.aid, pgshift_part.schema, pgshift_part.name, {});",
                literal(&format!("{} %I ON ONLY %I.%I %s", self.create())),
                literal(tail)
            )
        };
        let using = if keyed {
            let deferrable = self.deferrable();
            let space = if deferrable.is_empty() { "" } else { " " };
            let add = format!(
                "ALTER TABLE %I.%I ADD CONSTRAINT %I {} USING INDEX %I{space}{deferrable}",
                self.word()
            );
            format!(
                "\n        EXECUTE format({}, pgshift_part.schema, pgshift_part.name, \
                 pgshift_name, pgshift_part.aid);",
                literal(&add)
            )
        } else {
            String::new()
        };
        let named = names.map_or("pgshift_part.aid".to_owned(), |names| {
            format!(
                "coalesce({names} -> pgshift_part.relid::oid::text ->> 'name', pgshift_part.aid)"
            )
        });
        let body = format!(
            "  pgshift_tree := jsonb_build_object({table}::oid::text, {root}::oid);
  FOR pgshift_part IN
    SELECT t.relid, t.parentrelid, t.isleaf, n.nspname AS schema, c.relname AS name,
      coalesce(k.aid, '_pgshift_' || ({root}::oid) || '_' || c.oid) AS aid,
      pg_relation_size(c.oid) AS bytes
    FROM pg_partition_tree({table}) t
    JOIN pg_catalog.pg_class c ON c.oid = t.relid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN (VALUES
        {known}) AS k(schema, part, aid)
      ON k.schema = n.nspname AND k.part = c.relname
    WHERE t.level > 0
    ORDER BY t.level
  LOOP
    SELECT x.indexrelid INTO pgshift_index
      FROM pg_catalog.pg_inherits h
      JOIN pg_catalog.pg_index x ON x.indexrelid = h.inhrelid
      WHERE h.inhparent = (pgshift_tree ->> pgshift_part.parentrelid::oid::text)::oid
        AND x.indrelid = pgshift_part.relid;
    IF pgshift_index IS NULL THEN
      pgshift_name := {named};
      IF NOT pgshift_part.isleaf THEN
        IF to_regclass(format('%I.%I', pgshift_part.schema, pgshift_name)) IS NULL THEN
          {inner}
        END IF;
      ELSE
        IF to_regclass(format('%I.%I', pgshift_part.schema, pgshift_part.aid)) IS NULL THEN
          IF pgshift_part.bytes > pg_size_bytes({small}) THEN
            RAISE EXCEPTION 'partition %.% was made after the plan and has no index for the new column',
              pgshift_part.schema, pgshift_part.name
              USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = format({create_beside}, pgshift_part.aid, pgshift_part.schema,
                  pgshift_part.name, {tail});
          END IF;
          EXECUTE format({create}, pgshift_part.aid, pgshift_part.schema,
            pgshift_part.name, {tail});
        END IF;{using}
      END IF;
      EXECUTE format('ALTER INDEX %s ATTACH PARTITION %I.%I',
        (pgshift_tree ->> pgshift_part.parentrelid::oid::text)::oid::regclass,
        pgshift_part.schema, pgshift_name);
      pgshift_index := to_regclass(format('%I.%I', pgshift_part.schema, pgshift_name));
    END IF;
    pgshift_tree := pgshift_tree || jsonb_build_object(pgshift_part.relid::oid::text, pgshift_index);
  END LOOP;
",
            table = format_args!("{}::regclass", literal(&qname(self.table))),
            small = literal(SMALL),
            create = literal(&format!("{} %I ON %I.%I %s", self.create())),
            create_beside = literal(&format!(
                "{} CONCURRENTLY %I ON %I.%I %s; then go on",
                self.create()
            )),
            tail = literal(tail),
        );
        block(
            "  pgshift_part record;\n  pgshift_tree jsonb;\n  pgshift_index oid;\n  pgshift_name \
             text;\n",
            &body,
        )
    }

    /// Keeps what the parts of the primary key are called, and drops it.
    pub(super) fn let_key_go(&self, name: &str) -> Vec<String> {
        let down = DOWN.replace("{root}", &format!("{}::oid", self.oid(name)));
        vec![
            format!(
                "SELECT set_config({}, jsonb_object_agg(d.indrelid::text, to_jsonb(d))::text, \
                 true) FROM ({down}) AS d",
                literal(KEY)
            ),
            format!("{} DROP CONSTRAINT {}", self.head(""), ident(name)),
        ]
    }

    /// Makes the primary key again of parts that are there, with the names that it had.
    pub(super) fn make_key(
        &self,
        name: &str,
        tail: &str,
        parts: &[(&QName, String)],
    ) -> Vec<String> {
        let had = format!("current_setting({})::jsonb", literal(KEY));
        vec![
            format!(
                "{} ADD CONSTRAINT {} {}",
                self.head("ONLY "),
                ident(name),
                self.key(tail)
            ),
            self.grow(name, tail, parts, Some(&format!("({had})"))),
            self.finish(name, &had, false),
        ]
    }

    /// The index `incoming` takes the place and the names of the index `outgoing`, which is
    /// dropped or gets the name `kept`.
    pub(super) fn replace(
        &self,
        outgoing: &str,
        incoming: &str,
        kept: Option<&str>,
    ) -> Vec<String> {
        let down = DOWN.replace("{root}", &format!("{}::oid", self.oid(outgoing)));
        let mut sql = vec![format!(
            "SELECT set_config({}, jsonb_object_agg(d.indrelid::text, to_jsonb(d))::text, \
             true) FROM ({down}) AS d",
            literal(HAD)
        )];
        match kept {
            None => sql.push(self.drop(outgoing)),
            Some(kept) => {
                let body = format!(
                    "  FOR pgshift_part IN {down}\n  LOOP
    EXECUTE format('ALTER INDEX %I.%I RENAME TO %I', pgshift_part.schema, pgshift_part.name,
      CASE pgshift_part.level WHEN 0 THEN {} ELSE '_pgshift_' || pgshift_part.oid END);
  END LOOP;\n",
                    literal(kept)
                );
                sql.push(block("  pgshift_part record;\n", &body));
            }
        }
        let had = format!("current_setting({})::jsonb", literal(HAD));
        sql.push(self.finish(incoming, &had, true));
        sql
    }

    /// Names, comments and roles of the parts that were there before.
    fn finish(&self, name: &str, had: &str, rename: bool) -> String {
        let down = DOWN.replace("{root}", &format!("{}::oid", self.oid(name)));
        let rename = if rename {
            "
    IF pgshift_part.name <> pgshift_had ->> 'name' THEN
      EXECUTE format('ALTER INDEX %I.%I RENAME TO %I', pgshift_part.schema, pgshift_part.name,
        pgshift_had ->> 'name');
    END IF;"
        } else {
            ""
        };
        let body = format!(
            "  FOR pgshift_part IN {down}\n  LOOP
    pgshift_had := ({had}) -> pgshift_part.indrelid::text;
    CONTINUE WHEN pgshift_had IS NULL;{rename}
    IF pgshift_had ->> 'comment' IS NOT NULL THEN
      EXECUTE format('COMMENT ON INDEX %s IS %L', pgshift_part.oid::regclass,
        pgshift_had ->> 'comment');
    END IF;
    FOR pgshift_target IN
      SELECT t.key, t.value FROM jsonb_each_text(nullif(pgshift_had -> 'targets', 'null')) t
    LOOP
      EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s',
        pgshift_part.oid::regclass, pgshift_target.key, pgshift_target.value);
    END LOOP;
    IF pgshift_had ->> 'about' IS NOT NULL THEN
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', pgshift_had ->> 'name',
        pgshift_part.indrelid::regclass, pgshift_had ->> 'about');
    END IF;
    IF (pgshift_had ->> 'clustered')::boolean THEN
      EXECUTE format('ALTER TABLE %s CLUSTER ON %I', pgshift_part.indrelid::regclass,
        pgshift_had ->> 'name');
    END IF;
    IF (pgshift_had ->> 'identity')::boolean THEN
      EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY USING INDEX %I',
        pgshift_part.indrelid::regclass, pgshift_had ->> 'name');
    END IF;
  END LOOP;
"
        );
        block(
            "  pgshift_part record;\n  pgshift_target record;\n  pgshift_had jsonb;\n",
            &body,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn a_key_of_an_index() {
        assert_eq!(
            key(
                "UNIQUE",
                "USING btree (\"WITH\", b) INCLUDE (c) NULLS NOT DISTINCT WITH (fillfactor='70')",
                Some("fast disk"),
                "DEFERRABLE"
            ),
            "UNIQUE NULLS NOT DISTINCT (\"WITH\", b) INCLUDE (c) WITH (fillfactor='70') USING INDEX \
             TABLESPACE \"fast disk\" DEFERRABLE"
        );
        assert_eq!(
            key("PRIMARY KEY", "USING btree (a, b)", None, ""),
            "PRIMARY KEY (a, b)"
        );
    }
}
