//! Materialized views that read a column whose type changes. Computing one under the lock would
//! take as long as its query, so before the swap another one is made beside it, of the other
//! column, and filled while everybody works; the swap puts it in the place of the old one. What
//! such a view reads (other views) is made beside too, or it would stay with the old column.
//!
//! Their definitions are the server's own text of the old ones: in one short transaction columns
//! and views have the names that they have after the swap, the text is run, and all names are given
//! back; what was made keeps to the columns, whatever they are called.

use std::collections::BTreeSet;

use super::super::definition::{index_tail, with_tablespace};
use super::super::dress::Side;
use super::super::swap::rename;
use super::joint::{Joint, share_lock_timeout};
use crate::catalog::QName;
use crate::catalog::dependents::{Dependent, DependentKind, Stored};
use crate::catalog::details::{Definition, DefinitionKind};
use crate::lock::LockMode;
use crate::plan::build::lock_on;
use crate::plan::step::{Phase, Step, Undo};
use crate::sql::quote::{derived_name, dollar, ident, literal, qname};

/// The places of those that are made beside: materialized views, and what they read of the others.
pub(in crate::plan::retype) fn made_beside(dependents: &[Dependent]) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    let mut next: Vec<usize> = dependents
        .iter()
        .enumerate()
        .filter(|(_, d)| d.kind == DependentKind::MaterializedView)
        .map(|(place, _)| place)
        .collect();
    while let Some(place) = next.pop() {
        let Some(dependent) = dependents.get(place) else {
            continue;
        };
        if all.insert(place) {
            next.extend(&dependent.reads);
        }
    }
    all
}

/// `ALTER [MATERIALIZED] VIEW name RENAME TO now`.
fn rename_view(dependent: &Dependent, name: &QName, now: &str) -> String {
    format!(
        "ALTER {} {} RENAME TO {}",
        keyword(dependent),
        qname(name),
        ident(now)
    )
}

fn keyword(dependent: &Dependent) -> &'static str {
    match dependent.kind {
        DependentKind::MaterializedView => "MATERIALIZED VIEW",
        _ => "VIEW",
    }
}

fn is_comment(sql: &str) -> bool {
    sql.starts_with("COMMENT ON MATERIALIZED VIEW ")
}

impl Joint<'_> {
    /// Those that are made beside, each with its name.
    fn beside(&self) -> Vec<(&Dependent, &QName)> {
        made_beside(&self.dependents)
            .into_iter()
            .filter_map(|place| {
                let dependent = self.dependents.get(place)?;
                Some((dependent, dependent.relation.as_ref()?))
            })
            .collect()
    }

    fn materialized(&self) -> Vec<(&Dependent, &QName, &Stored)> {
        let all = self.beside().into_iter();
        all.filter_map(|(d, name)| Some((d, name, d.stored.as_ref()?)))
            .collect()
    }

    /// The name of what stands beside another, or of that while the first is made.
    fn beside_aid(&self, side: &str, of: &QName, name: &str) -> QName {
        let migration = self.tables.first().map_or("", |t| t.migration);
        let key = format!("{migration} {of} {name} {side}");
        QName::new(of.schema.as_str(), derived_name("_pgshift_", name, &key))
    }

    fn stand_in(&self, side: Side, of: &QName, name: &str) -> QName {
        let side = match side {
            Side::New => "beside new",
            Side::Old => "beside old",
        };
        self.beside_aid(side, of, name)
    }

    /// The columns get the names that they have after the swap to this side, or back.
    fn names_of(&self, side: Side, back: bool) -> Vec<String> {
        let mut all = Vec::new();
        for table in &self.tables {
            let head = table.head();
            for retype in table.columns {
                let (away, takes) = match side {
                    Side::New => (&retype.old, &retype.shadow),
                    Side::Old => (&retype.shadow, &retype.old),
                };
                let column = &retype.column;
                if back {
                    all.push(rename(&head, column, takes));
                    all.push(rename(&head, away, column));
                } else {
                    all.push(rename(&head, column, away));
                    all.push(rename(&head, takes, column));
                }
            }
        }
        all
    }

    /// Indexes and statistics of a materialized view, under names of our own.
    fn parts_beside(&self, side: Side, view: &QName, stored: &Stored) -> Vec<String> {
        let mut sql = Vec::new();
        let mut statistics = stored.statistics.iter();
        for part in &stored.definitions {
            if part.kind == DefinitionKind::Index {
                sql.extend(self.index_beside(side, view, part));
            } else if let Some(details) = statistics.next() {
                let aid = qname(&self.stand_in(side, &details.name, &part.name));
                sql.push(format!(
                    "CREATE STATISTICS {aid}{} FROM {}",
                    part.text,
                    qname(view)
                ));
                if let Some(target) = details.target {
                    sql.push(format!("ALTER STATISTICS {aid} SET STATISTICS {target}"));
                }
                if let Some(comment) = &part.comment {
                    sql.push(format!(
                        "COMMENT ON STATISTICS {aid} IS {}",
                        literal(comment)
                    ));
                }
                if let Some(owner) = &details.owner {
                    sql.push(format!("ALTER STATISTICS {aid} OWNER TO {}", ident(owner)));
                }
            }
        }
        sql
    }

    fn index_beside(&self, side: Side, view: &QName, index: &Definition) -> Vec<String> {
        let Some(tail) = index_tail(&index.text) else {
            return Vec::new();
        };
        let aid = self.stand_in(side, view, &index.name);
        let unique = if index.text.starts_with("CREATE UNIQUE") {
            "UNIQUE "
        } else {
            ""
        };
        let mut sql = vec![format!(
            "CREATE {unique}INDEX {} ON {} {}",
            ident(&aid.name),
            qname(view),
            with_tablespace(tail, index.tablespace.as_deref())
        )];
        if let Some(comment) = &index.comment {
            sql.push(format!(
                "COMMENT ON INDEX {} IS {}",
                qname(&aid),
                literal(comment)
            ));
        }
        if index.clustered {
            sql.push(format!(
                "ALTER MATERIALIZED VIEW {} CLUSTER ON {}",
                qname(view),
                ident(&aid.name)
            ));
        }
        sql
    }

    /// Makes them, and fills them: the last steps before a swap to this side.
    pub(in crate::plan::retype) fn make_beside(&self, side: Side, exactly: bool) -> Vec<Step> {
        let all = self.beside();
        if all.is_empty() {
            return Vec::new();
        }
        let aside = |name: &QName| self.beside_aid("aside", name, &name.name);
        let stand_in = |name: &QName| self.stand_in(side, name, &name.name);
        let mut sql = vec![share_lock_timeout(all.len() + self.tables.len() - 1)];
        for (dependent, name) in all.iter().rev() {
            sql.push(rename_view(dependent, name, &aside(name).name));
        }
        sql.push(self.lock_sql());
        sql.extend(self.names_of(side, false));
        for (dependent, name) in &all {
            sql.extend(dependent.create.iter().cloned());
            if let Some(stored) = &dependent.stored {
                sql.extend(self.parts_beside(side, name, stored));
            }
        }
        sql.extend(self.names_of(side, true));
        for (dependent, name) in &all {
            sql.push(rename_view(dependent, name, &stand_in(name).name));
            sql.push(rename_view(dependent, &aside(name), &name.name));
        }
        let phase = match side {
            Side::New => Phase::Contract,
            Side::Old => Phase::Revert,
        };
        let whats: Vec<&str> = all.iter().map(|(d, _)| d.what.as_str()).collect();
        let mut locks: Vec<_> = all
            .iter()
            .rev()
            .map(|(_, name)| lock_on(name, LockMode::AccessExclusive))
            .collect();
        locks.extend(self.locks(LockMode::AccessExclusive));
        let mut make = Step::sql(
            phase,
            format!(
                "make materialized views of {} beside the old ones, empty",
                self.names()
            ),
            sql,
        )
        .line(self.line())
        .locks(locks)
        .relies_on(self.relies(exactly))
        .note(format!(
            "beside, of the other column, with owner, rights, indexes, comments and options: {}; \
             the lock does not last longer with their sizes",
            whats.join("; ")
        ));
        if side == Side::New {
            let gone = all.iter().rev().map(|(dependent, name)| {
                let name = qname(&stand_in(name));
                format!("DROP {} IF EXISTS {name}", keyword(dependent))
            });
            let undo = Step::sql(
                Phase::Revert,
                format!("drop materialized views beside those of {}", self.names()),
                gone.collect(),
            );
            make = make.undo(Undo::steps(vec![undo]));
        }
        vec![make, self.fill_beside(side, phase)]
    }

    fn fill_beside(&self, side: Side, phase: Phase) -> Step {
        let all = self.materialized();
        let whats: Vec<&str> = all.iter().map(|(d, ..)| d.what.as_str()).collect();
        let mut step = Step::sql(
            phase,
            format!(
                "fill the materialized views of {} that stand beside",
                self.names()
            ),
            self.renew_beside(side),
        )
        .line(self.line())
        .locks(self.locks(LockMode::AccessShare).collect())
        .note(format!(
            "{}: as REFRESH does, with its query and its time, beside the one that everybody reads; \
             from the swap on they show what this finds, as after a REFRESH (one without data stays \
             so)",
            whats.join("; ")
        ));
        step.estimate.bytes = Some(all.iter().map(|(.., stored)| stored.bytes).sum());
        step.estimate.basis =
            Some("size of the materialized views; their queries decide the time".to_owned());
        step
    }

    /// The pairs of stand-in and view, as rows of VALUES.
    fn pairs(&self, side: Side, last_first: bool) -> Option<String> {
        let mut pairs: Vec<String> = self
            .materialized()
            .into_iter()
            .enumerate()
            .map(|(place, (_, name, _))| {
                format!(
                    "({place}, {}, {})",
                    literal(&qname(&self.stand_in(side, name, &name.name))),
                    literal(&qname(name))
                )
            })
            .collect();
        if last_first {
            pairs.reverse();
        }
        (!pairs.is_empty()).then(|| pairs.join(", "))
    }

    /// Fills what was never filled, or before the last REFRESH of the old one.
    ///
    /// Every form of REFRESH writes the view's row of `pg_class` anew (`SetMatViewPopulatedState`),
    /// and VACUUM and ANALYZE do not, so its xmin tells them apart. It is read before the query's
    /// snapshot is taken, and kept as the stand-in's comment.
    pub(in crate::plan::retype) fn renew_beside(&self, side: Side) -> Vec<String> {
        let Some(pairs) = self.pairs(side, false) else {
            return Vec::new();
        };
        let body = format!(
            "\nDECLARE\n  pgshift_view record;\nBEGIN\n  FOR pgshift_view IN\n    \
             SELECT n.beside, c.relispopulated AS filled, {STATE} AS state, \
             obj_description(n.beside::regclass, 'pg_class') AS of\n    \
             FROM (VALUES {pairs}) AS n(place, beside, name)\n    \
             JOIN pg_catalog.pg_class c ON c.oid = n.name::regclass\n    ORDER BY n.place\n  LOOP\n    \
             CONTINUE WHEN pgshift_view.of IS NOT DISTINCT FROM pgshift_view.state;\n    \
             IF pgshift_view.filled THEN\n      \
             EXECUTE 'REFRESH MATERIALIZED VIEW ' || pgshift_view.beside;\n      \
             EXECUTE 'ANALYZE ' || pgshift_view.beside;\n    ELSE\n      \
             EXECUTE 'REFRESH MATERIALIZED VIEW ' || pgshift_view.beside || ' WITH NO DATA';\n    \
             END IF;\n    \
             EXECUTE format('COMMENT ON MATERIALIZED VIEW %s IS %L', pgshift_view.beside, \
             pgshift_view.state);\n  END LOOP;\nEND\n"
        );
        vec![format!("DO {}", dollar(&body))]
    }

    /// Ends the try, as if a lock were not had, where one was refreshed since its stand-in was
    /// filled. The comment of the old one is set to what it is for the sake of its lock, which keeps
    /// REFRESH out; LOCK TABLE takes no materialized views.
    pub(in crate::plan::retype) fn check_beside(&self, side: Side) -> Vec<String> {
        let Some(pairs) = self.pairs(side, true) else {
            return Vec::new();
        };
        let body = format!(
            "\nDECLARE\n  pgshift_view record;\nBEGIN\n  FOR pgshift_view IN\n    \
             SELECT * FROM (VALUES {pairs}) AS n(place, beside, name)\n  LOOP\n    \
             EXECUTE format('COMMENT ON MATERIALIZED VIEW %s IS %L', pgshift_view.name, \
             obj_description(pgshift_view.name::regclass, 'pg_class'));\n    \
             IF (SELECT {STATE} FROM pg_catalog.pg_class c \
             WHERE c.oid = pgshift_view.name::regclass)\n        \
             IS DISTINCT FROM obj_description(pgshift_view.beside::regclass, 'pg_class') THEN\n      \
             RAISE EXCEPTION 'materialized view % was refreshed meanwhile', pgshift_view.name\n        \
             USING ERRCODE = 'lock_not_available';\n    END IF;\n  END LOOP;\nEND\n"
        );
        vec![format!("DO {}", dollar(&body))]
    }

    /// What takes the place of a dependent that the swap dropped.
    pub(super) fn take_over(&self, side: Side, dependent: &Dependent) -> Option<Vec<String>> {
        let own = |(other, _): &(&Dependent, &QName)| std::ptr::eq(*other, dependent);
        let (_, name) = self.beside().into_iter().find(own)?;
        let stand_in = self.stand_in(side, name, &name.name);
        let mut sql = vec![rename_view(dependent, &stand_in, &name.name)];
        let Some(stored) = &dependent.stored else {
            return Some(sql);
        };
        let comment = dependent.create.iter().find(|sql| is_comment(sql));
        sql.push(
            comment
                .cloned()
                .unwrap_or_else(|| format!("COMMENT ON MATERIALIZED VIEW {} IS NULL", qname(name))),
        );
        let mut statistics = stored.statistics.iter();
        for part in &stored.definitions {
            let (kind, of) = if part.kind == DefinitionKind::Index {
                ("INDEX", name)
            } else {
                let Some(details) = statistics.next() else {
                    continue;
                };
                ("STATISTICS", &details.name)
            };
            sql.push(format!(
                "ALTER {kind} {} RENAME TO {}",
                qname(&self.stand_in(side, of, &part.name)),
                ident(&part.name)
            ));
        }
        Some(sql)
    }
}

/// What every REFRESH changes.
const STATE: &str = "format('%s %s %s', c.oid, c.xmin, c.relfilenode)";
