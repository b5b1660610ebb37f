//! Makes cases from seeds.

mod keys;
mod others;
mod partitions;
mod table;

use std::fmt::Write as _;

use fastrand::Rng;

use super::case::{Case, Column, Feature, Make, Partitions};
use super::names::{Names, ident, literal};
use super::types::{CONVERSIONS, Conversion};

/// How many features cases have, as the chance of each.
const DENSITIES: &[f32] = &[0.02, 0.04, 0.08, 0.15, 0.3];

/// What is refused, as the documentation says: one is enough to refuse a table, so few have one.
const SELDOM: &[&str] = &["rule", "inbound foreign key disabled"];
/// The same of partitioned tables.
const SELDOM_OF_A_TREE: &[&str] = &["generated column"];

/// The case of a seed on a server of this major version. `density`: the chance of each feature,
/// then with few rows.
pub(super) fn case(seed: u64, major: u32, density: Option<f32>) -> Case {
    let mut rng = Rng::with_seed(seed);
    let rows = if density.is_some() {
        3
    } else {
        [0, 1, 30, 30, 30, 300, 3_000][rng.usize(..7)]
    };
    let density = density.unwrap_or_else(|| DENSITIES[rng.usize(..DENSITIES.len())]);
    let conversion = conversion(&mut rng);
    let mut names = Names::new([0.0, 0.5, 1.0][rng.usize(..3)]);
    let schema = if rng.u8(..4) == 0 {
        // Schema `pgshift` is the state's, and those of `pg_` are the server's.
        loop {
            let name = names.name(&mut rng, "app");
            if !name.starts_with("pg") {
                break ident(&name);
            }
        }
    } else {
        "public".to_owned()
    };
    let table = format!("{schema}.{}", ident(&names.name(&mut rng, "orders")));
    let target = names.name(&mut rng, "code");
    // Of most integers that become wider people say: it is the key.
    let nullable = rng.u8(..4) < if conversion.sequence { 1 } else { 2 };
    let partitioned = rng.u8(..4) == 0;
    let cascade = conversion.referred && conversion.using.is_empty() && rng.u8(..3) == 0;
    let value = conversion.value.replace("{g}", "g");
    let value = if nullable {
        format!("CASE WHEN g % 6 <> 5 THEN {value} END")
    } else {
        value
    };
    let mut generator = Generator {
        major,
        density,
        late: density >= 0.5 || rng.u8(..3) == 0,
        names,
        schema,
        nullable,
        other: None,
        id: None,
        note: None,
        unique: Vec::new(),
        unique_several: Vec::new(),
        primary: None,
        parts: Vec::new(),
        leaf: String::new(),
        sequence: None,
        case: Case {
            seed,
            conversion,
            setup: String::new(),
            table,
            column: ident(&target),
            rows,
            cascade,
            partitions: None,
            rotate: rng.usize(..4),
            features: Vec::new(),
            on: Vec::new(),
        },
        rng,
    };
    generator.setup();
    generator.add(
        "the column",
        &[],
        Make::Column(Column {
            name: target,
            definition: conversion.from.to_owned(),
            value,
        }),
    );
    generator.columns(partitioned);
    generator.facets();
    generator.keys();
    generator.foreign_keys();
    generator.indexes();
    generator.table();
    generator.triggers();
    generator.views();
    generator.leaves();
    let mut case = generator.case;
    case.on = vec![true; case.features.len()];
    case
}

fn conversion(rng: &mut Rng) -> Conversion {
    let all: u32 = CONVERSIONS.iter().map(|c| c.weight).sum();
    let mut at = rng.u32(..all);
    for conversion in CONVERSIONS {
        if at < conversion.weight {
            return *conversion;
        }
        at -= conversion.weight;
    }
    unreachable!("the weights add up")
}

struct Generator {
    rng: Rng,
    major: u32,
    density: f32,
    /// Whether there may be something that ALTER TYPE refuses to have on the column.
    late: bool,
    names: Names,
    /// Quoted.
    schema: String,
    /// The column that changes has nulls.
    nullable: bool,
    /// Other columns, quoted, with their feature: an integer, a unique integer, a text.
    other: Option<(usize, String)>,
    id: Option<(usize, String)>,
    note: Option<(usize, String)>,
    /// What makes the column unique, so that foreign keys may refer to it.
    unique: Vec<usize>,
    /// The same of the column together with `other`.
    unique_several: Vec<usize>,
    primary: Option<usize>,
    /// Qualified partitions that have rows themselves.
    parts: Vec<String>,
    /// A leaf of the partitioned table that was made last, of those that reference this one.
    leaf: String,
    /// What gives the column its numbers: identity, serial or a default.
    sequence: Option<usize>,
    case: Case,
}

impl Generator {
    fn add(&mut self, kind: &'static str, needs: &[usize], make: Make) -> usize {
        self.case.features.push(Feature {
            kind,
            make,
            needs: needs.to_vec(),
            follows: Vec::new(),
        });
        self.case.features.len() - 1
    }

    fn sql(&mut self, kind: &'static str, needs: &[usize], sql: String) -> usize {
        self.add(kind, needs, Make::Sql(sql))
    }

    fn late(&mut self, kind: &'static str, needs: &[usize], sql: String) -> usize {
        self.add(kind, needs, Make::Late(sql))
    }

    fn chance(&mut self) -> bool {
        self.rng.f32() < self.density
    }

    /// As [`Generator::chance`], of a kind that is refused more seldom.
    fn seldom(&mut self, kind: &str) -> bool {
        let refused =
            SELDOM.contains(&kind) || (self.partitioned() && SELDOM_OF_A_TREE.contains(&kind));
        self.chance() && (self.density >= 0.5 || !refused || self.rng.u8(..12) == 0)
    }

    fn partitioned(&self) -> bool {
        self.case.partitions.is_some()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())]
    }

    /// A name, quoted, that may have to be so.
    fn name(&mut self, plain: &str) -> String {
        ident(&self.names.name(&mut self.rng, plain))
    }

    /// A name in the table's schema.
    fn qualified(&mut self, plain: &str) -> String {
        let name = self.name(plain);
        format!("{}.{name}", self.schema)
    }

    /// Any text, quoted.
    fn text(&mut self) -> String {
        let text = self.names.name(&mut self.rng, "what it is for");
        literal(&text)
    }

    /// The table and the column.
    fn here(&self) -> (String, String) {
        (self.case.table.clone(), self.case.column.clone())
    }

    /// A condition on the column; of another column with it, if `others`.
    fn condition(&mut self) -> String {
        let condition = self.pick(self.case.conversion.conditions);
        condition.replace("{c}", &self.case.column)
    }

    /// A condition for what is made after the direct statement: without lists, of which the server
    /// writes other casts where the column has the new type already.
    fn condition_of_late(&mut self) -> String {
        loop {
            let condition = self.condition();
            if !condition.contains(" IN (") {
                break condition;
            }
        }
    }

    /// An expression on the column, if there is one for the type.
    fn expression(&mut self) -> Option<String> {
        if self.case.conversion.expressions.is_empty() {
            return None;
        }
        let expression = self.pick(self.case.conversion.expressions);
        Some(expression.replace("{c}", &self.case.column))
    }

    fn setup(&mut self) {
        let schema = &self.schema;
        let mut sql = super::case::ROLES.to_owned();
        if schema != "public" {
            // Else which of several foreign keys fails first, of which the owner may not look there,
            // would be seen.
            let _ = writeln!(
                sql,
                "CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO PUBLIC;"
            );
        }
        // What is written into `heard` says that a trigger fired.
        sql += "CREATE TABLE heard (what text);
CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END';
CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.heard VALUES (TG_OP || TG_NAME); RETURN NULL; END';\n";
        self.case.setup = sql;
    }

    fn columns(&mut self, partitioned: bool) {
        let column = |g: &mut Self, kind, plain, definition: &str, value: &str| {
            let name = g.names.name(&mut g.rng, plain);
            let quoted = ident(&name);
            let feature = g.add(
                kind,
                &[],
                Make::Column(Column {
                    name,
                    definition: definition.to_owned(),
                    value: value.to_owned(),
                }),
            );
            (feature, quoted)
        };
        let likely = |g: &mut Self| g.density >= 1.0 || g.rng.u8(..5) > 0;
        if likely(self) || partitioned {
            let default = self.pick(&["", " DEFAULT 7", " NOT NULL DEFAULT 7"]);
            let definition = format!("integer{default}");
            self.other = Some(column(self, "column other", "other", &definition, "g % 10"));
        }
        if likely(self) {
            let definition = self.pick(&[
                "bigint NOT NULL",
                "bigint GENERATED BY DEFAULT AS IDENTITY (START 500000)",
                "serial",
                // The same in both databases.
                "uuid NOT NULL DEFAULT md5('new')::uuid",
            ]);
            let value = if definition.starts_with("uuid") {
                "md5(g::text)::uuid"
            } else {
                "g"
            };
            self.id = Some(column(self, "column id", "id", definition, value));
        }
        if likely(self) {
            let value = "CASE WHEN g % 3 > 0 THEN 'note ' || g END";
            self.note = Some(column(self, "column note", "note", "text", value));
        }
        for (kind, definition, value) in [
            ("column jsonb", "jsonb", "jsonb_build_object('n', g)"),
            (
                "column timestamptz",
                "timestamptz(3)",
                "timestamptz '2024-01-01 00:00Z' + g * interval '1 day'",
            ),
            (
                "column numeric",
                "numeric(12,2) NOT NULL DEFAULT 0",
                "g / 4.0",
            ),
            ("column array", "text[]", "ARRAY[g::text, NULL]"),
            ("column collated", "varchar(20) COLLATE \"C\"", "'x' || g"),
        ] {
            if self.chance() {
                column(self, kind, "more", definition, value);
            }
        }
        if partitioned {
            self.partitions();
        }
        if self.chance() {
            // A dropped column: numbers are not positions.
            let (table, _) = self.here();
            let gone = self.name("gone");
            self.sql(
                "dropped column",
                &[],
                format!("ALTER TABLE {table} ADD COLUMN {gone} int; ALTER TABLE {table} DROP COLUMN {gone}"),
            );
        }
    }
}
