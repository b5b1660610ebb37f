//! Indexes, statistics, rights, comments, options: what a table carries along.

use super::super::case::{READER, WRITER};
use super::Generator;

impl Generator {
    pub(super) fn indexes(&mut self) {
        let (table, column) = self.here();
        let conversion = self.case.conversion;
        let ordered: &[(&'static str, &str)] = &[
            ("index", "({c})"),
            ("index descending", "({c} DESC NULLS LAST)"),
            ("index nulls first", "USING btree ({c} NULLS FIRST)"),
            (
                "index fillfactor",
                "({c}) WITH (fillfactor = 55, deduplicate_items = off)",
            ),
            ("index brin", "USING brin ({c}) WITH (pages_per_range = 4)"),
            ("index hash", "USING hash ({c})"),
            ("index partial", "({c}) WHERE {cond}"),
            ("index on another where", "({o}) WHERE {cond}"),
            ("index of several", "({o}, {c} DESC)"),
            ("index include", "({o}) INCLUDE ({c})"),
            ("unique index", "({c})"),
            ("unique index of several", "({c}, {o})"),
            ("unique index partial", "({c}) WHERE {cond}"),
        ];
        let text: &[(&'static str, &str)] = &[
            ("index collation", "({c} COLLATE \"C\")"),
            ("index operator class", "({c} text_pattern_ops)"),
        ];
        let any: &[(&'static str, &str)] = &[
            ("index expression", "({expr})"),
            ("index expression of several", "({o}, {expr}) WHERE {cond}"),
            ("index on others", "({o} DESC)"),
        ];
        let text = if conversion.text
            && conversion.to != "bytea"
            && conversion.to != "integer"
            && !conversion.from.starts_with("char")
        {
            text
        } else {
            &[]
        };
        let ordered = if conversion.ordered { ordered } else { &[] };
        for (kind, form) in ordered.iter().chain(text).chain(any) {
            let alone = matches!(*kind, "unique index" | "unique index partial");
            if !self.chance() || (alone && self.partitioned()) {
                continue;
            }
            let mut needs = vec![];
            let mut form = (*form).replace("{c}", &column);
            if form.contains("{o}") {
                let Some((feature, other)) = self.other.clone() else {
                    continue;
                };
                needs.push(feature);
                form = form.replace("{o}", &other);
            }
            if form.contains("{expr}") {
                let Some(expression) = self.expression() else {
                    continue;
                };
                form = form.replace("{expr}", &format!("({expression})"));
            }
            form = form.replace("{cond}", &self.condition());
            let unique = if kind.starts_with("unique") {
                "UNIQUE "
            } else {
                ""
            };
            let name = self.name("by_code");
            let named = unique.is_empty() && self.rng.u8(..4) == 0;
            let shown = if named {
                String::new()
            } else {
                format!("{name} ")
            };
            let index = self.sql(
                kind,
                &needs,
                format!("CREATE {unique}INDEX {shown}ON {table} {form}"),
            );
            if *kind == "unique index" {
                self.unique.push(index);
            }
            if named {
                continue;
            }
            let qualified = format!("{}.{name}", self.schema);
            if self.chance() {
                let text = self.text();
                let sql = format!("COMMENT ON INDEX {qualified} IS {text}");
                self.sql("index comment", &[index], sql);
            }
            if *kind == "index expression" && self.chance() {
                let sql = format!("ALTER INDEX {qualified} ALTER COLUMN 1 SET STATISTICS 77");
                self.sql("index statistics target", &[index], sql);
            }
            let plain = !self.partitioned();
            if matches!(*kind, "index" | "index descending") && plain && self.chance() {
                let sql = format!("ALTER TABLE {table} CLUSTER ON {name}");
                self.sql("cluster on", &[index], sql);
            }
        }
    }

    pub(super) fn table(&mut self) {
        let (table, column) = self.here();
        for (kind, change) in [
            (
                "table options",
                "SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.3)",
            ),
            ("toast options", "SET (toast.autovacuum_enabled = off)"),
        ] {
            if self.chance() && !self.partitioned() {
                self.sql(kind, &[], format!("ALTER TABLE {table} {change}"));
            }
        }
        if self.chance() {
            let text = self.text();
            self.sql(
                "table comment",
                &[],
                format!("COMMENT ON TABLE {table} IS {text}"),
            );
        }
        if self.chance() {
            let sql = format!("ALTER TABLE {table} OWNER TO {WRITER}");
            // A superuser runs the migration: only some cases have another owner.
            if self.chance() {
                self.sql("owner", &[], sql);
            }
        }
        for (kind, grant) in [
            (
                "table grant",
                format!("SELECT, INSERT ON {table} TO {READER}"),
            ),
            (
                "table grant with option",
                format!("UPDATE ON {table} TO {WRITER} WITH GRANT OPTION"),
            ),
            (
                "column grant",
                format!("SELECT ({column}), UPDATE ({column}) ON {table} TO {READER}"),
            ),
            (
                "column grant with option",
                format!(
                    "REFERENCES ({column}), INSERT ({column}) ON {table} TO {WRITER} WITH GRANT OPTION"
                ),
            ),
            (
                "public grant",
                format!("SELECT ({column}) ON {table} TO PUBLIC"),
            ),
        ] {
            if self.chance() {
                self.sql(kind, &[], format!("GRANT {grant}"));
            }
        }
        self.statistics();
        let full = self.replica_identity();
        self.publications(full);
    }

    fn statistics(&mut self) {
        let (table, column) = self.here();
        let Some((feature, other)) = self.other.clone() else {
            return;
        };
        if self.case.conversion.ordered && self.chance() {
            let name = self.qualified("orders_stx");
            let kinds = self.pick(&["", " (ndistinct)", " (dependencies, mcv)"]);
            let statistics = self.sql(
                "extended statistics",
                &[feature],
                format!("CREATE STATISTICS {name}{kinds} ON {column}, {other} FROM {table}"),
            );
            if self.chance() {
                let text = self.text();
                let sql = format!("COMMENT ON STATISTICS {name} IS {text}");
                self.sql("extended statistics comment", &[statistics], sql);
            }
            if self.chance() {
                let sql = format!("ALTER STATISTICS {name} SET STATISTICS 50");
                self.sql("extended statistics target", &[statistics], sql);
            }
        }
        if self.chance()
            && let Some(expression) = self.expression()
        {
            let name = self.qualified("orders_stx");
            let sql = format!("CREATE STATISTICS {name} ON ({expression}), {other} FROM {table}");
            self.sql("extended statistics of an expression", &[feature], sql);
        }
    }

    /// True where it is FULL.
    fn replica_identity(&mut self) -> bool {
        let (table, column) = self.here();
        if !self.chance() {
            return false;
        }
        let alter = format!("ALTER TABLE {table} REPLICA IDENTITY");
        let what = self.rng.u8(..4);
        if what == 0 {
            self.sql("replica identity full", &[], format!("{alter} FULL"));
        } else if what > 1 && !self.nullable && !self.partitioned() && self.case.conversion.ordered
        {
            let name = self.name("identity_of_orders");
            self.sql(
                "replica identity by an index",
                &[],
                format!(
                    "ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL; \
                     CREATE UNIQUE INDEX {name} ON {table} ({column}); {alter} USING INDEX {name}"
                ),
            );
        }
        what == 0
    }

    fn publications(&mut self, full: bool) {
        let (table, column) = self.here();
        let Some(primary) = self.primary else {
            return;
        };
        let (only, also) = if self.partitioned() {
            (
                " WITH (publish_via_partition_root)",
                ", publish_via_partition_root",
            )
        } else {
            ("", "")
        };
        if self.chance() {
            let name = self.name("everything");
            let publication = self.sql(
                "publication",
                &[primary],
                format!("CREATE PUBLICATION {name} FOR TABLE {table}"),
            );
            if self.chance() {
                let text = self.text();
                let sql = format!("COMMENT ON PUBLICATION {name} IS {text}");
                self.sql("publication comment", &[publication], sql);
            }
        }
        if self.major < 15 || !self.late {
            return;
        }
        // A list of columns must have those of the replica identity.
        if self.chance() && !full {
            let mut needs = vec![primary];
            let mut columns = vec![column.clone()];
            for (feature, name) in [&self.id, &self.other].into_iter().flatten() {
                needs.push(*feature);
                columns.push(name.clone());
            }
            let name = self.name("some_columns");
            let columns = columns.join(", ");
            self.late(
                "publication of columns",
                &needs,
                format!("CREATE PUBLICATION {name} FOR TABLE {table} ({columns}){only}"),
            );
        }
        if self.chance() {
            let name = self.name("some_rows");
            self.late(
                "publication of rows",
                &[primary],
                format!(
                    "CREATE PUBLICATION {name} FOR TABLE {table} WHERE ({column} IS NOT NULL) WITH (publish = 'insert'{also})"
                ),
            );
        }
    }
}
