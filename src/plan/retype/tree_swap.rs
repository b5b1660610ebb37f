//! The swap of a partitioned table: as [`super::swap`], with each index of the root and its parts
//! handed over together, and with what partitions have of their own.

use super::definition::index_tail;
use super::dress::{Side, Swapped};
use super::swap::rename_constraint;
use super::tree::Kind;
use super::tree_keys;
use crate::catalog::ConstraintKind;
use crate::sql::quote::{dollar, ident, literal};

impl<'d> Swapped<'d> {
    /// From the old type to the new one.
    pub(super) fn tree_there(self) -> Vec<String> {
        let mut sql = vec![self.lock_sql()];
        for (_, own) in self.nodes() {
            sql.extend(self.guarded(own, &own.let_own_go()));
        }
        for key in self.constraints(ConstraintKind::ForeignKey) {
            let aid = self.aid(Side::New, &key.name);
            sql.push(tree_keys::replace(&self.table.name, &key.name, &aid, None));
        }
        for check in self.constraints(ConstraintKind::Check) {
            sql.push(format!(
                "{} DROP CONSTRAINT {}",
                self.head(),
                ident(&check.name)
            ));
        }
        sql.extend(self.let_keys_go());
        for index in self.rooted() {
            let aid = self.aid(Side::New, &index.name);
            sql.extend(self.tree(index).replace(&index.name, &aid, None));
        }
        sql.extend(self.drop_statistics());
        sql.extend(self.columns_there());
        sql.extend(self.keys(Side::New));
        sql.extend(self.take_own_place(Side::New));
        sql.push(self.tree_index_columns());
        sql
    }

    /// From the new type to the old one.
    pub(super) fn tree_back(self) -> Vec<String> {
        let mut sql = vec![self.lock_sql()];
        for (_, own) in self.nodes() {
            sql.extend(self.guarded(own, &own.set_own_aside()));
        }
        for key in self.constraints(ConstraintKind::ForeignKey) {
            let (new, old) = (
                self.aid(Side::New, &key.name),
                self.aid(Side::Old, &key.name),
            );
            let table = &self.table.name;
            sql.push(tree_keys::replace(table, &key.name, &old, Some(&new)));
        }
        for check in self.constraints(ConstraintKind::Check) {
            let aid = self.aid(Side::New, &check.name);
            sql.push(rename_constraint(&self.head(), &check.name, &aid));
        }
        sql.extend(self.let_keys_go());
        for index in self.rooted() {
            let (new, old) = (
                self.aid(Side::New, &index.name),
                self.aid(Side::Old, &index.name),
            );
            sql.extend(self.tree(index).replace(&index.name, &old, Some(&new)));
        }
        sql.extend(self.leave_statistics());
        sql.extend(self.columns_back());
        sql.extend(self.keys(Side::Old));
        sql.extend(self.take_own_place(Side::Old));
        sql.push(self.tree_index_columns());
        sql
    }

    /// Indexes but the primary key's.
    fn rooted(self) -> impl Iterator<Item = &'d super::question::IndexForm> {
        let all = self.answer.indexes.iter();
        all.filter(move |index| self.kind_of(index) != Kind::Primary)
    }

    fn let_keys_go(self) -> Vec<String> {
        self.constraints(ConstraintKind::PrimaryKey)
            .filter_map(|key| self.answer.indexes.iter().find(|i| i.name == key.name))
            .flat_map(|index| self.tree(index).let_key_go(&index.name))
            .collect()
    }

    /// The columns have their names by now.
    fn keys(self, side: Side) -> Vec<String> {
        self.constraints(ConstraintKind::PrimaryKey)
            .filter_map(|key| self.answer.indexes.iter().find(|i| i.name == key.name))
            .flat_map(|index| {
                let tail = index_tail(&index.definition.text).unwrap_or_default();
                let parts = self.parts(side, index);
                self.tree(index).make_key(&index.name, tail, &parts)
            })
            .collect()
    }

    /// Drops what a partition alone has on the old column.
    fn let_own_go(self) -> Vec<String> {
        let head = self.head();
        let mut sql = self.drop_definitions();
        for retype in self.columns {
            if self.has_not_null(retype) {
                let column = ident(&retype.column);
                sql.push(format!("{head} ALTER COLUMN {column} DROP NOT NULL"));
            }
        }
        sql
    }

    fn has_not_null(self, retype: &super::Retype) -> bool {
        let column = self.table.column(&retype.column);
        column.is_some_and(|c| c.not_null) || self.not_null_names(Side::New, retype).is_some()
    }

    /// Gives what a partition alone has on the new column its names of before contract.
    fn set_own_aside(self) -> Vec<String> {
        let head = self.head();
        let mut sql = Vec::new();
        for key in self.constraints(ConstraintKind::PrimaryKey) {
            sql.push(format!("{head} DROP CONSTRAINT {}", ident(&key.name)));
        }
        for kind in [
            ConstraintKind::ForeignKey,
            ConstraintKind::Check,
            ConstraintKind::Unique,
        ] {
            for constraint in self.constraints(kind) {
                let aid = self.aid(Side::New, &constraint.name);
                sql.push(rename_constraint(&head, &constraint.name, &aid));
            }
        }
        for index in self.plain_indexes() {
            sql.push(format!(
                "ALTER INDEX {} RENAME TO {}",
                self.index_name(&index.name),
                ident(&self.aid(Side::New, &index.name))
            ));
        }
        sql.extend(self.leave_statistics());
        for retype in self.columns {
            if let Some((name, aid)) = self.not_null_names(Side::New, retype) {
                sql.push(rename_constraint(&head, &name, &aid));
            }
        }
        sql
    }

    /// CHECKs of the root, and what partitions have of their own.
    fn take_own_place(self, side: Side) -> Vec<String> {
        let mut sql = Vec::new();
        for check in self.constraints(ConstraintKind::Check) {
            let aid = self.aid(side, &check.name);
            sql.push(rename_constraint(&self.head(), &aid, &check.name));
        }
        sql.extend(self.take_statistics(side));
        for (node, own) in self.nodes() {
            let mut all = own.take_place(side);
            for retype in self.columns {
                if let Some((name, aid)) = own.not_null_names(side, retype) {
                    all.push(rename_constraint(&own.head(), &aid, &name));
                }
            }
            all.extend(Self::own_defaults(node, side));
            sql.extend(self.guarded(own, &all));
        }
        sql
    }

    /// From 18 NOT NULL of a partition may be its own beside the root's, as PRIMARY KEY USING INDEX
    /// makes it, and stays when the root's goes.
    pub(super) fn tree_not_null(self, retype: &super::Retype) -> Option<String> {
        let body = format!(
            "
DECLARE
  pgshift_part record;
BEGIN
  FOR pgshift_part IN
    SELECT t.relid
    FROM pg_partition_tree({}) t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relid AND a.attname = {} AND a.attnotnull
    ORDER BY t.level
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', pgshift_part.relid, {});
  END LOOP;
END
",
            self.regclass(),
            literal(&retype.column),
            literal(&retype.column),
        );
        self.is_tree().then(|| format!("DO {}", dollar(&body)))
    }

    /// Gives the columns of every index of the tree the names of the table's columns.
    fn tree_index_columns(self) -> String {
        let names: Vec<String> = self
            .columns
            .iter()
            .flat_map(|r| [&r.column, &r.shadow, &r.old])
            .map(|name| literal(name))
            .collect();
        let body = format!(
            "
DECLARE
  pgshift_name record;
BEGIN
  FOR pgshift_name IN
    SELECT i.attrelid, i.attname AS name, a.attname AS now
    FROM pg_partition_tree({table}) t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relid AND a.attname IN ({names})
    JOIN pg_catalog.pg_index x ON x.indrelid = t.relid
    JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) ON k.attnum = a.attnum
    JOIN pg_catalog.pg_attribute i ON i.attrelid = x.indexrelid AND i.attnum = k.place
    WHERE i.attname IN ({names}) AND i.attname <> a.attname
    ORDER BY t.level
  LOOP
    -- Renaming that of a partitioned index has renamed those of its parts.
    CONTINUE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_attribute i
      WHERE i.attrelid = pgshift_name.attrelid AND i.attname = pgshift_name.name)
      OR EXISTS (SELECT FROM pg_catalog.pg_attribute i
      WHERE i.attrelid = pgshift_name.attrelid AND i.attname = pgshift_name.now);
    EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', pgshift_name.attrelid::regclass,
      pgshift_name.name, pgshift_name.now);
  END LOOP;
END
",
            table = self.regclass(),
            names = names.join(", "),
        );
        format!("DO {}", dollar(&body))
    }
}
