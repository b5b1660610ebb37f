//! A table whose column gets another type, and everything that stands on it: as features that can
//! be left out one by one.

use std::fmt::Write as _;

use super::names::ident;
use super::types::Conversion;

/// The roles that rights are given to: made by [`ROLES`].
pub(super) const READER: &str = "\"retype reader\"";
pub(super) const WRITER: &str = "\"Retype \"\"Writer\"\"\"";

/// Makes them where they are not there yet; roles belong to the server, not to a database.
pub(super) const ROLES: &str = r#"
DO $$ BEGIN CREATE ROLE "retype reader"; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
DO $$ BEGIN CREATE ROLE "Retype ""Writer"""; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
"#;

/// One thing that a table has, on its own.
#[derive(Debug, Clone)]
pub(super) struct Feature {
    /// What it is, for people; of one kind there may be several.
    pub(super) kind: &'static str,
    /// What it is made by.
    pub(super) make: Make,
    /// Features that must be there before.
    pub(super) needs: Vec<usize>,
    /// What references the column by it: table and column, which `cascade=true` takes along.
    pub(super) follows: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(super) enum Make {
    /// A column of CREATE TABLE.
    Column(Column),
    /// Statements.
    Sql(String),
    /// Statements, and ALTER TYPE refuses while this is there: in a direct run it comes after.
    Late(String),
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) definition: String,
    /// Its value in row `g`.
    pub(super) value: String,
}

/// The table, its rows, and what is to become of it.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) conversion: Conversion,
    /// Schemas, functions and tables that features use.
    pub(super) setup: String,
    /// Qualified and quoted.
    pub(super) table: String,
    /// The column that changes, quoted.
    pub(super) column: String,
    pub(super) rows: u32,
    /// Whether what references the column changes its type too.
    pub(super) cascade: bool,
    /// How it is divided.
    pub(super) partitions: Option<Partitions>,
    /// How many columns go from the front to the end: the one that changes is made first.
    pub(super) rotate: usize,
    pub(super) features: Vec<Feature>,
    /// Which features are there.
    pub(super) on: Vec<bool>,
}

/// A partitioned table.
#[derive(Debug, Clone)]
pub(super) struct Partitions {
    /// What follows PARTITION BY.
    pub(super) by: String,
    /// The feature of the column in it, which cannot be left out.
    pub(super) key: usize,
    /// What makes the partitions.
    pub(super) statements: Vec<String>,
}

/// How the database is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Build {
    /// As it was before.
    Before,
    /// By ALTER TABLE … ALTER COLUMN … TYPE.
    Direct,
}

impl Case {
    /// The author's statement.
    fn alter(&self) -> String {
        let Conversion { to, using, .. } = self.conversion;
        let (table, column) = (&self.table, &self.column);
        let mut sql = format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE {to}");
        if !using.is_empty() {
            let _ = write!(sql, " USING {}", using.replace("{c}", column));
        }
        sql
    }

    /// The migration.
    pub(super) fn migration(&self) -> String {
        let (table, column) = (&self.table, &self.column);
        let mut file = String::new();
        if self.cascade {
            file += "-- pgshift: option cascade=true\n";
        }
        let reverse = self.conversion.reverse.replace("{c}", column);
        if !reverse.is_empty() {
            file += "-- pgshift: expand\n";
        }
        let _ = writeln!(file, "{};", self.alter());
        if !reverse.is_empty() {
            let _ = writeln!(
                file,
                "-- pgshift: reverse\nUPDATE {table} SET {column} = {reverse};"
            );
        }
        file
    }

    /// The statements that do the same directly.
    fn direct(&self) -> Vec<String> {
        let mut all = vec![self.alter()];
        if self.cascade {
            let to = self.conversion.to;
            for (table, column) in self.there().flat_map(|feature| &feature.follows) {
                all.push(format!(
                    "ALTER TABLE {table} ALTER COLUMN {column} TYPE {to}"
                ));
            }
        }
        all
    }

    fn there(&self) -> impl DoubleEndedIterator<Item = &Feature> {
        let all = self.features.iter().zip(&self.on);
        all.filter(|(_, on)| **on).map(|(feature, _)| feature)
    }

    /// The columns of its table that are there, in order.
    fn columns(&self) -> impl DoubleEndedIterator<Item = &Column> {
        self.there().filter_map(|feature| match &feature.make {
            Make::Column(column) => Some(column),
            _ => None,
        })
    }

    /// What builds it, each on its own and with the kind of its feature, if it is of one.
    /// `backwards`: the columns in the other order.
    pub(super) fn statements(
        &self,
        build: Build,
        backwards: bool,
    ) -> Vec<(Option<&'static str>, String)> {
        let mut columns: Vec<&Column> = self.columns().collect();
        let rotate = self.rotate % columns.len();
        columns.rotate_left(rotate);
        if backwards {
            columns.reverse();
        }
        let definitions: Vec<String> = columns
            .iter()
            .map(|c| format!("{} {}", ident(&c.name), c.definition))
            .collect();
        let mut all = vec![
            (None, self.setup.clone()),
            (
                None,
                format!(
                    "CREATE TABLE {} (\n    {}\n){}",
                    self.table,
                    definitions.join(",\n    "),
                    self.partitions
                        .as_ref()
                        .map_or(String::new(), |p| format!(" PARTITION BY {}", p.by))
                ),
            ),
        ];
        let partitions = self.partitions.iter().flat_map(|p| &p.statements);
        all.extend(partitions.map(|sql| (None, sql.clone())));
        all.push((None, self.insert(1, self.rows)));
        for feature in self.there() {
            if let Make::Sql(text) = &feature.make {
                all.push((Some(feature.kind), text.clone()));
            }
        }
        if build == Build::Direct {
            all.extend(self.direct().into_iter().map(|sql| (None, sql)));
        }
        for feature in self.there() {
            if let Make::Late(text) = &feature.make {
                all.push((Some(feature.kind), text.clone()));
            }
        }
        all
    }

    /// An INSERT of the rows `from` to `to`, all columns.
    fn insert(&self, from: u32, to: u32) -> String {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for column in self.columns() {
            names.push(ident(&column.name));
            values.push(column.value.as_str());
        }
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM generate_series({from}, {to}) g",
            self.table,
            names.join(", "),
            values.join(", ")
        )
    }

    /// Statements of an application, which must do the same to both.
    pub(super) fn uses(&self) -> Vec<String> {
        let table = &self.table;
        let column = &self.column;
        let mut uses = vec![
            // A new row by the column's default, sequence or identity, and one with a value.
            format!("INSERT INTO {table} DEFAULT VALUES"),
            self.insert(100_001, 100_002),
            format!("UPDATE {table} SET {column} = DEFAULT WHERE {column} IS NULL"),
        ];
        let others: Vec<&Column> = self
            .columns()
            .filter(|c| ident(&c.name) != *column)
            .collect();
        if let Some(first) = others.first() {
            let names: Vec<String> = others.iter().map(|c| ident(&c.name)).collect();
            let values: Vec<&str> = others.iter().map(|c| c.value.as_str()).collect();
            uses.push(format!(
                "INSERT INTO {table} ({}) SELECT {} FROM generate_series(100003, 100004) g",
                names.join(", "),
                values.join(", ")
            ));
            let name = ident(&first.name);
            uses.push(format!("UPDATE {table} SET {name} = {name}"));
        }
        // Foreign keys act, or refuse.
        let value = |g: u32| self.conversion.value.replace("{g}", &g.to_string());
        let same = |g: u32| {
            let (value, from) = (value(g), self.conversion.from);
            let using = self.conversion.using;
            if using.is_empty() {
                let to = self
                    .conversion
                    .to
                    .split(" COLLATE")
                    .next()
                    .unwrap_or_default();
                format!("{column}::text = ({value})::{to}::text")
            } else {
                let read = using.replace("{c}", &format!("({value})::{from}"));
                format!("{column}::text = ({read})::text")
            }
        };
        uses.push(format!("DELETE FROM {table} WHERE {}", same(3)));
        uses.push(format!(
            "UPDATE {table} SET {column} = (SELECT {column} FROM {table} LIMIT 0) WHERE {}",
            same(4)
        ));
        uses.push(format!("TRUNCATE {table} CASCADE"));
        uses
    }

    /// The kinds of what is there.
    pub(super) fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> = self.there().map(|feature| feature.kind).collect();
        kinds.extend(self.cascade.then_some("cascade"));
        kinds.extend(self.partitions.is_some().then_some("partitions"));
        kinds
    }

    /// The same without this feature and those that need it; `None` where it is not there or
    /// cannot go.
    pub(super) fn without(&self, feature: usize) -> Option<Self> {
        // The first is the column that changes.
        let key = self.partitions.as_ref().map(|p| p.key);
        if feature == 0 || key == Some(feature) || !self.on[feature] {
            return None;
        }
        let mut less = self.clone();
        less.on[feature] = false;
        for later in feature + 1..less.features.len() {
            if less.features[later].needs.iter().any(|n| !less.on[*n]) {
                less.on[later] = false;
            }
        }
        Some(less)
    }

    /// What a failing test prints.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "-- PGSHIFT_TEST_SEED={}, {} to {}\n",
            self.seed, self.conversion.from, self.conversion.to
        );
        for (kind, sql) in self.statements(Build::Before, false) {
            if let Some(kind) = kind {
                let _ = writeln!(text, "-- {kind}");
            }
            let _ = writeln!(text, "{sql};");
        }
        let _ = writeln!(text, "-- migration\n{}", self.migration());
        text
    }
}
