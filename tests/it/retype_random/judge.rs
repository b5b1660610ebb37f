//! Whether two databases are the same: everything that a user can see of the schema, and all rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgshift::catalog::shape::Shape;

use crate::support::Db;

/// A database as it is at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) shape: Shape,
    /// The rows of each table and materialized view as texts, sorted, its columns in the order of
    /// their names; the state of each sequence.
    rows: BTreeMap<String, Vec<String>>,
}

/// Relations with rows: name, kind, columns in the order of their names.
const RELATIONS: &str = "
SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text,
       ARRAY(SELECT quote_ident(attname) FROM pg_attribute
             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
             ORDER BY attname COLLATE \"C\")
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'S') AND c.relispopulated
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname !~ '^(pg_(toast|temp)|pgshift$)'";

impl Picture {
    pub(super) async fn take(db: &Db) -> Self {
        let client = db.client().await;
        let shape = pgshift::pg::shape::read(&client).await.expect("the schema");
        let mut rows = BTreeMap::new();
        for relation in client.query(RELATIONS, &[]).await.expect(RELATIONS) {
            let (name, kind, columns): (String, String, Vec<String>) =
                (relation.get(0), relation.get(1), relation.get(2));
            let sql = if kind == "S" {
                format!("SELECT concat_ws(' ', last_value, is_called) FROM {name}")
            } else {
                let values: Vec<String> = columns
                    .iter()
                    .map(|c| format!("coalesce(t.{c}::text, '<null>')"))
                    .chain(["''".to_owned()])
                    .collect();
                format!(
                    "SELECT concat_ws(' | ', {}) COLLATE \"C\" FROM {name} t ORDER BY 1",
                    values.join(", ")
                )
            };
            let found = client.query(&sql, &[]).await.expect("the rows");
            let found = found.iter().map(|row| row.get(0)).collect();
            rows.insert(format!("{name} ({})", columns.join(", ")), found);
        }
        Self { shape, rows }
    }

    /// The rows, by relation.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&String, &Vec<String>)> {
        self.rows.iter()
    }

    /// What is different in `other`, a line each; the order of a table's columns counts if
    /// `ordered`.
    pub(super) fn differences(&self, other: &Self, ordered: bool) -> Vec<String> {
        let (one, two) = (facts(&self.shape, ordered), facts(&other.shape, ordered));
        let mut found = Vec::new();
        let names: std::collections::BTreeSet<&String> =
            one.keys().chain(two.keys()).copied().collect();
        for name in names {
            let (was, is) = (one.get(name), two.get(name));
            if was != is {
                found.push(format!(
                    "{name}:\n    expected {was:?}\n    found    {is:?}"
                ));
            }
        }
        let names: std::collections::BTreeSet<&String> =
            self.rows.keys().chain(other.rows.keys()).collect();
        for name in names {
            match (self.rows.get(name), other.rows.get(name)) {
                (Some(was), Some(is)) if was != is => {
                    let missing: Vec<_> = was.iter().filter(|r| !is.contains(r)).take(3).collect();
                    let new: Vec<_> = is.iter().filter(|r| !was.contains(r)).take(3).collect();
                    let mut text = format!("{} rows of {name}, expected {}:", is.len(), was.len());
                    let _ = write!(text, "\n    expected {missing:?}\n    found    {new:?}");
                    found.push(text);
                }
                (Some(_), Some(_)) => {}
                (was, _) => found.push(format!("rows of {name} are there: {}", was.is_none())),
            }
        }
        found
    }
}

/// The facts that count.
fn facts(shape: &Shape, ordered: bool) -> BTreeMap<&String, &String> {
    let all = shape.facts();
    all.iter()
        .filter(|(name, _)| {
            ordered
                || !name
                    .strip_suffix(" columns")
                    .and_then(|table| all.get(table))
                    .is_some_and(|fact| {
                        fact.starts_with("table ") || fact.starts_with("partitioned table ")
                    })
        })
        .collect()
}

/// What direct ALTER TYPE loses and need not be lost: where the other way keeps it as it was
/// before, that is no difference.
pub(super) fn kept(
    before: &Picture,
    difference: &str,
    expected: &Picture,
    found: &Picture,
) -> bool {
    const LOST: &[&str] = &[" index ", "statistics "];
    let Some((name, _)) = difference.split_once(":\n") else {
        return false;
    };
    // The sequence of a serial column grows with the column; ALTER TYPE leaves it as it was.
    if name.ends_with(" values") {
        let of = |picture: &Picture| {
            let fact = picture.shape.facts().get(name).cloned().unwrap_or_default();
            let after = fact
                .split_once(" start ")
                .map(|(_, after)| after.to_owned());
            let after = after.unwrap_or_default();
            let (start, rest) = after.split_once(" max ").unwrap_or_default();
            let (_, rest) = rest.split_once(' ').unwrap_or_default();
            (start.to_owned(), rest.to_owned())
        };
        return of(before) == of(found);
    }
    // Options of a TOAST table, which the direct statement drops with the last column that needs it.
    let toast = |picture: &Picture| {
        let fact = picture.shape.facts().get(name)?;
        let (rest, options) = fact.split_once(" toast with ")?;
        Some((rest.to_owned(), options.to_owned()))
    };
    if let (Some((_, was)), Some((rest, is))) = (toast(before), toast(found))
        && was == is
        && expected.shape.facts().get(name) == Some(&rest)
    {
        return true;
    }
    // Statistics targets of an index's expressions.
    let targets = |picture: &Picture| {
        let fact = picture.shape.facts().get(name)?;
        let (rest, targets) = fact.split_once(" statistics ")?;
        Some((rest.to_owned(), targets.to_owned()))
    };
    if let (Some((_, was)), Some((rest, is))) = (targets(before), targets(found))
        && was == is
        && expected.shape.facts().get(name) == Some(&rest)
    {
        return true;
    }
    if is_part_of_another_name(before, name, expected, found) {
        return true;
    }
    // The parts of an index get its comment by it, too.
    let there = before.shape.facts().contains_key(name) || name.contains(" comment on index ");
    LOST.iter().any(|lost| name.contains(lost))
        && there
        && before.shape.facts().get(name) == found.shape.facts().get(name)
}

/// ALTER TYPE makes the part of an index or of a foreign key anew under the name that the server
/// gives; the other way keeps it.
fn is_part_of_another_name(
    before: &Picture,
    name: &str,
    expected: &Picture,
    found: &Picture,
) -> bool {
    let tail = |fact: &String| {
        if fact.starts_with("FOREIGN KEY ") {
            return Some(fact.clone());
        }
        let (_, tail) = fact.split_once(" USING ")?;
        Some(tail.split(" WITH (").next().unwrap_or(tail).to_owned())
    };
    let part = [" index ", " constraint "]
        .into_iter()
        .find_map(|kind| Some((name.split_once(kind)?.0, kind)));
    let Some((table, kind)) = part else {
        return false;
    };
    let on_table = format!("{table}{kind}");
    let Some(fact) = expected.shape.facts().get(name) else {
        // The same as seen from the name that was kept.
        let fact = found.shape.facts().get(name);
        return fact.is_some_and(|fact| fact.starts_with("FOREIGN KEY "))
            && before.shape.facts().get(name) == fact
            && expected.shape.facts().iter().any(|(other, is)| {
                other.starts_with(&on_table)
                    && Some(is) == fact
                    && !found.shape.facts().contains_key(other)
            });
    };
    found.shape.facts().iter().any(|(other, is)| {
        other.starts_with(&on_table)
            && before.shape.facts().get(other) == Some(is)
            && !expected.shape.facts().contains_key(other)
            && tail(is) == tail(fact)
    })
}
