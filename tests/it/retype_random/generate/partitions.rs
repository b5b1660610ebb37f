//! Partitioned tables: how they are divided, and what a partition has of its own; those that
//! reference the table.

use super::super::case::READER;
use super::{Generator, Partitions};

/// The kind of a key, of a table that is partitioned.
pub(super) fn of_divided(kind: &'static str, divided: bool) -> &'static str {
    match kind {
        _ if !divided => kind,
        "inbound foreign key" => "inbound foreign key of a partitioned table",
        "inbound foreign key not valid" => "inbound foreign key of a partitioned table not valid",
        _ => "inbound foreign key of several of a partitioned table",
    }
}

impl Generator {
    /// By the other column, of which the values are 0 to 9, 7 and null.
    pub(super) fn partitions(&mut self) {
        let Some((key, by)) = self.other.clone() else {
            return;
        };
        let table = self.case.table.clone();
        let part = |g: &mut Self, bounds: &str| {
            let name = g.qualified("orders_part");
            g.parts.push(name.clone());
            format!("CREATE TABLE {name} PARTITION OF {table} {bounds}")
        };
        let mut statements = Vec::new();
        let method = self.pick(&["LIST", "RANGE", "HASH"]);
        match method {
            "LIST" => {
                statements.push(part(self, "FOR VALUES IN (0, 1, 2, 3)"));
                statements.push(part(self, "FOR VALUES IN (4, 5, NULL)"));
                statements.push(part(self, "DEFAULT"));
            }
            "RANGE" => {
                statements.push(part(self, "FOR VALUES FROM (MINVALUE) TO (2)"));
                statements.push(part(self, "DEFAULT"));
            }
            _ => {
                for remainder in 0..2 {
                    let bounds = format!("FOR VALUES WITH (MODULUS 2, REMAINDER {remainder})");
                    statements.push(part(self, &bounds));
                }
            }
        }
        if method == "RANGE" && self.rng.bool() {
            // A level more.
            let middle = self.qualified("orders_middle");
            statements.push(format!(
                "CREATE TABLE {middle} PARTITION OF {table} FOR VALUES FROM (2) TO (7) \
                 PARTITION BY LIST ({by})"
            ));
            for bounds in ["FOR VALUES IN (2, 3)", "DEFAULT"] {
                let name = self.qualified("orders_part");
                statements.push(format!(
                    "CREATE TABLE {name} PARTITION OF {middle} {bounds}"
                ));
                self.parts.push(name);
            }
        }
        if method == "RANGE" && self.rng.bool() {
            // Other numbers of columns.
            let name = self.qualified("orders_part");
            statements.push(format!(
                "CREATE TABLE {name} (gone integer, LIKE {table}); \
                 ALTER TABLE {name} DROP COLUMN gone; \
                 ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM (7) TO (9)"
            ));
            self.parts.push(name);
        }
        self.case.partitions = Some(Partitions {
            by: format!("{method} ({by})"),
            key,
            statements,
        });
    }

    /// Whether the table that references is partitioned. With SET DEFAULT that is refused, so it is
    /// rare.
    pub(super) fn divides(&mut self, action: &str) -> bool {
        let refused = action.contains("SET DEFAULT") && !self.partitioned();
        self.rng.u8(..3) == 0 && (!refused || self.rng.u8(..12) == 0)
    }

    /// Makes a table that references, divided by an integer column or not.
    pub(super) fn child(&mut self, child: &str, columns: &str, by: &str, divided: bool) -> String {
        let create = format!("CREATE TABLE {child} ({columns})");
        self.leaf.clear();
        if !divided {
            return create;
        }
        let (middle, low) = (self.qualified("lines_middle"), self.qualified("lines_part"));
        let (high, rest) = (self.qualified("lines_part"), self.qualified("lines_part"));
        self.leaf.clone_from(&high);
        format!(
            "{create} PARTITION BY RANGE ({by});
CREATE TABLE {middle} PARTITION OF {child} FOR VALUES FROM (MINVALUE) TO (6) PARTITION BY LIST ({by});
CREATE TABLE {low} PARTITION OF {middle} FOR VALUES IN (0, 1, 2, 3);
CREATE TABLE {high} PARTITION OF {middle} DEFAULT;
CREATE TABLE {rest} PARTITION OF {child} DEFAULT"
        )
    }

    /// A leaf has the key before its table has, sometimes: then by another name.
    pub(super) fn of_a_leaf(&mut self, divided: bool, key: &str) -> String {
        let name = self.name("leaf_has_order");
        if !divided || self.rng.bool() {
            return String::new();
        }
        format!("ALTER TABLE {} ADD CONSTRAINT {name} {key};\n", self.leaf)
    }

    /// What a partition has of its own.
    pub(super) fn leaves(&mut self) {
        if !self.partitioned() {
            return;
        }
        let (table, column) = self.here();
        // By itself, or as a part of the primary key.
        let mut kinds = self.case.features.iter().map(|feature| feature.kind);
        let not_null = kinds.any(|kind| matches!(kind, "not null" | "primary key of several"));
        let default = self.pick(self.case.conversion.defaults);
        for kind in [
            "partition index",
            "partition unique",
            "partition check",
            "partition default",
            "partition comment",
            "partition grant",
            "partition statistics target",
            "partition statistics",
            "partition not null",
            "partition of the whole indexed alike",
        ] {
            if !self.chance() {
                continue;
            }
            let all = self.parts.clone();
            let part = all[self.rng.usize(..all.len())].clone();
            let name = self.name("of_part");
            let ordered = self.case.conversion.ordered;
            let other = self.other.clone().map_or(String::new(), |(_, other)| other);
            let condition = self.condition();
            let text = self.text();
            let alter = format!("ALTER TABLE {part} ALTER COLUMN {column}");
            let sql = match kind {
                "partition index" if ordered => {
                    format!(
                        "CREATE INDEX {name} ON {part} ({column} DESC, {other}) WHERE {condition}"
                    )
                }
                "partition unique" if ordered => {
                    format!("ALTER TABLE {part} ADD CONSTRAINT {name} UNIQUE ({column}, {other})")
                }
                "partition check" => {
                    format!("ALTER TABLE {part} ADD CONSTRAINT {name} CHECK ({condition})")
                }
                // A default is the sequence's where there is one.
                "partition default" if self.sequence.is_none() => {
                    format!("{alter} SET DEFAULT {default}")
                }
                "partition comment" => format!("COMMENT ON COLUMN {part}.{column} IS {text}"),
                "partition grant" => format!("GRANT SELECT ({column}) ON {part} TO {READER}"),
                "partition statistics target" => format!("{alter} SET STATISTICS 77"),
                "partition statistics" if ordered => {
                    let name = self.qualified("part_stx");
                    format!("CREATE STATISTICS {name} ON {column}, {other} FROM {part}")
                }
                "partition not null" if !self.nullable && !not_null => {
                    format!("{alter} SET NOT NULL")
                }
                "partition of the whole indexed alike" if ordered => {
                    format!(
                        "CREATE INDEX {name} ON {part} ({column}, {other}); \
                         CREATE INDEX ON {table} ({column}, {other})"
                    )
                }
                _ => continue,
            };
            self.sql(kind, &[], sql);
        }
    }
}
