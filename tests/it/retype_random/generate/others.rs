//! Triggers, policies, rules, generated columns, functions and views: most of them are what ALTER
//! TYPE refuses to have on a column.

use super::super::case::{READER, WRITER};
use super::Generator;

impl Generator {
    pub(super) fn triggers(&mut self) {
        let (table, column) = self.here();
        let on = format!("ON {table} FOR EACH ROW");
        let cast = match self.case.conversion.from {
            "text" => "",
            _ => "::text",
        };
        for (kind, when, late) in [
            ("trigger", format!("BEFORE INSERT OR UPDATE {on}"), false),
            ("trigger of deletes", format!("AFTER DELETE {on}"), false),
            (
                "trigger of inserts",
                format!("AFTER INSERT {on} WHEN (true)"),
                false,
            ),
            (
                "constraint trigger",
                format!("AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"),
                false,
            ),
            (
                "trigger of a column",
                format!("AFTER UPDATE OF {column} {on}"),
                true,
            ),
            (
                "trigger when",
                // The cast of a text to text is not kept.
                format!(
                    "AFTER UPDATE {on} WHEN (OLD.{column}{cast} IS DISTINCT FROM NEW.{column}{cast})"
                ),
                true,
            ),
        ] {
            if !self.chance() || (late && !self.late) {
                continue;
            }
            let name = self.name("on_orders");
            let (constraint, function) = match kind {
                "constraint trigger" => ("CONSTRAINT ", "loud"),
                "trigger" => ("", "quiet"),
                _ => ("", "loud"),
            };
            let sql =
                format!("CREATE {constraint}TRIGGER {name} {when} EXECUTE FUNCTION {function}()");
            let trigger = if late {
                self.late(kind, &[], sql)
            } else {
                self.sql(kind, &[], sql)
            };
            let more = |g: &mut Self, kind, sql| {
                if late {
                    g.late(kind, &[trigger], sql)
                } else {
                    g.sql(kind, &[trigger], sql)
                }
            };
            if self.chance() {
                let text = self.text();
                more(
                    self,
                    "trigger comment",
                    format!("COMMENT ON TRIGGER {name} ON {table} IS {text}"),
                );
            }
            if self.chance() {
                let state = self.pick(&["DISABLE", "ENABLE ALWAYS", "ENABLE REPLICA"]);
                more(
                    self,
                    "trigger state",
                    format!("ALTER TABLE {table} {state} TRIGGER {name}"),
                );
            }
        }
        self.policies();
        if self.seldom("rule") {
            let name = self.name("also");
            let sql = format!("CREATE RULE {name} AS ON DELETE TO {table} DO ALSO NOTIFY gone");
            self.sql("rule", &[], sql);
        }
        if self.seldom("generated column")
            && let Some(expression) = self.expression()
        {
            let name = self.name("computed");
            let not_null = if self.nullable { "" } else { " NOT NULL" };
            let not_null = self.pick(&["", not_null]);
            let collate = self.pick(&["", " COLLATE \"C\""]);
            let sql = format!(
                "ALTER TABLE {table} ADD COLUMN {name} text{collate} GENERATED ALWAYS AS (({expression})::text) STORED{not_null}"
            );
            if self.late {
                let generated = self.late("generated column", &[], sql);
                self.on_generated(generated, &name);
            }
        }
        if self.chance()
            && let Some((feature, other)) = self.other.clone()
        {
            let name = self.name("computed");
            let sql = format!(
                "ALTER TABLE {table} ADD COLUMN {name} bigint GENERATED ALWAYS AS ({other} * 2) STORED"
            );
            self.sql("generated column of others", &[feature], sql);
        }
        if self.chance() {
            let name = self.qualified("count_of");
            let sql = format!(
                "CREATE FUNCTION {name}() RETURNS bigint STABLE BEGIN ATOMIC SELECT count({column}) FROM {table}; END"
            );
            if self.late && self.chance() {
                self.late("function with a body", &[], sql);
            }
        }
    }

    /// What a generated column has of its own.
    fn on_generated(&mut self, generated: usize, name: &str) {
        let (table, _) = self.here();
        let index = self.name("of_computed");
        let check = self.name("computed_check");
        let (one, two) = (self.text(), self.text());
        let schema = self.schema.clone();
        for (kind, sql) in [
            (
                "generated column index",
                format!(
                    "CREATE INDEX {index} ON {table} (lower({name})); COMMENT ON INDEX {schema}.{index} IS {one}"
                ),
            ),
            (
                "generated column check",
                format!("ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({name} <> 'never')"),
            ),
            (
                "generated column comment",
                format!("COMMENT ON COLUMN {table}.{name} IS {two}"),
            ),
            (
                "generated column grant",
                format!("GRANT SELECT ({name}) ON {table} TO {READER} WITH GRANT OPTION"),
            ),
            (
                "generated column settings",
                format!(
                    "ALTER TABLE {table} ALTER COLUMN {name} SET STATISTICS 77, ALTER COLUMN {name} SET STORAGE EXTERNAL, ALTER COLUMN {name} SET (n_distinct = 5)"
                ),
            ),
        ] {
            if self.chance() {
                self.late(kind, &[generated], sql);
            }
        }
    }

    fn policies(&mut self) {
        let (table, _) = self.here();
        if !self.chance() {
            return;
        }
        let forced = self.pick(&["", "; ALTER TABLE {t} FORCE ROW LEVEL SECURITY"]);
        let forced = forced.replace("{t}", &table);
        self.sql(
            "row security",
            &[],
            format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY{forced}"),
        );
        for (kind, form, late) in [
            ("policy", "FOR SELECT TO {reader} USING ({cond})", true),
            (
                "policy restrictive",
                "AS RESTRICTIVE FOR ALL TO {writer}, {reader} USING ({cond}) WITH CHECK ({cond})",
                true,
            ),
            ("policy of others", "TO PUBLIC USING (true)", false),
        ] {
            if !self.chance() || (late && !self.late) {
                continue;
            }
            let name = self.name("who");
            let form = form.replace("{reader}", READER).replace("{writer}", WRITER);
            let form = form.replace("{cond}", &self.condition_of_late());
            let sql = format!("CREATE POLICY {name} ON {table} {form}");
            let text = self.text();
            let comment = format!("COMMENT ON POLICY {name} ON {table} IS {text}");
            if late {
                let policy = self.late(kind, &[], sql);
                if self.chance() {
                    self.late("policy comment", &[policy], comment);
                }
            } else {
                self.sql(kind, &[], sql);
            }
        }
    }

    pub(super) fn views(&mut self) {
        if !self.late {
            return;
        }
        let (table, column) = self.here();
        let mut below: Option<(usize, String)> = None;
        let options: &[(&'static str, &str)] = &[
            ("view", ""),
            ("view security barrier", " WITH (security_barrier)"),
            ("view check option", ""),
            ("view security invoker", " WITH (security_invoker = true)"),
        ];
        for (kind, with) in options {
            if !self.chance() || (*kind == "view security invoker" && self.major < 15) {
                continue;
            }
            let name = self.qualified("orders_view");
            let shown = self.name("code");
            let condition = self.condition_of_late();
            let check = if *kind == "view check option" {
                " WITH LOCAL CHECK OPTION"
            } else {
                ""
            };
            let mut list = vec![format!("{column} AS {shown}")];
            let mut needs = vec![];
            if let Some((feature, note)) = self.note.clone() {
                needs.push(feature);
                list.push(note);
            }
            if self.rng.bool()
                && let Some(expression) = self.expression()
            {
                let name = self.name("computed");
                list.push(format!("{expression} AS {name}"));
            }
            let list = list.join(", ");
            let view = self.late(
                kind,
                &needs,
                format!("CREATE VIEW {name}{with} AS SELECT {list} FROM {table} WHERE {condition}{check}"),
            );
            let default = self.pick(self.case.conversion.defaults);
            for (kind, sql) in [
                (
                    "view grant",
                    format!("GRANT SELECT, INSERT ON {name} TO {READER} WITH GRANT OPTION"),
                ),
                (
                    "view column grant",
                    format!("GRANT UPDATE ({shown}) ON {name} TO {READER}"),
                ),
                (
                    "view owner",
                    format!(
                        "GRANT SELECT ON {table} TO {WRITER}; ALTER VIEW {name} OWNER TO {WRITER}"
                    ),
                ),
                (
                    "view column default",
                    format!("ALTER VIEW {name} ALTER COLUMN {shown} SET DEFAULT {default}"),
                ),
                (
                    "view trigger",
                    format!(
                        "CREATE TRIGGER instead INSTEAD OF DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION quiet()"
                    ),
                ),
            ] {
                if self.chance() && !sql.ends_with("DEFAULT NULL") {
                    self.late(kind, &[view], sql);
                }
            }
            if self.chance() {
                let (one, two) = (self.text(), self.text());
                let sql = format!(
                    "COMMENT ON VIEW {name} IS {one}; COMMENT ON COLUMN {name}.{shown} IS {two}"
                );
                self.late("view comment", &[view], sql);
            }
            if let Some((feature, under)) = &below
                && *kind != "view check option"
                && self.rng.bool()
            {
                let above = self.qualified("orders_view_above");
                let sql = format!("CREATE VIEW {above} AS SELECT * FROM {under}");
                let above_view = self.late("view on a view", &[*feature], sql);
                if self.rng.bool() {
                    let sql = format!("GRANT SELECT ON {above} TO {READER}");
                    self.late("grant on a view on a view", &[above_view], sql);
                }
                if self.rng.bool() {
                    let top = self.qualified("orders_view_top");
                    let sql = format!(
                        "CREATE VIEW {top} AS SELECT a.*, b.{shown} AS again FROM {above} a, {name} b"
                    );
                    self.late("view on views", &[above_view, view], sql);
                }
            }
            below = Some((view, name));
        }
        if self.seldom("materialized view") {
            self.materialized(below);
        }
        self.of_both();
    }

    /// Views over the table and what references it, of which both columns may change together.
    fn of_both(&mut self) {
        let (table, column) = self.here();
        let followed: Vec<(usize, String, String)> = (0..)
            .zip(&self.case.features)
            .flat_map(|(place, feature)| {
                let all = feature.follows.iter();
                all.map(move |(of, by)| (place, of.clone(), by.clone()))
            })
            .collect();
        for (feature, of, by) in followed {
            for (kind, keyword) in [
                ("view of both", "VIEW"),
                ("materialized view of both", "MATERIALIZED VIEW"),
            ] {
                if !self.chance() {
                    continue;
                }
                let name = self.qualified("orders_of_both");
                let (one, other) = (self.name("one"), self.name("other"));
                let view = self.late(
                    kind,
                    &[feature],
                    format!(
                        "CREATE {keyword} {name} AS SELECT a.{column} AS {one}, b.{by} AS {other} \
                         FROM {table} a JOIN {of} b ON b.{by} = a.{column}"
                    ),
                );
                if self.chance() {
                    let above = self.qualified("orders_above_both");
                    let sql = format!("CREATE VIEW {above} AS SELECT {other} FROM {name}");
                    self.late("view on a view of both", &[view], sql);
                }
            }
        }
    }

    fn materialized(&mut self, below: Option<(usize, String)>) {
        let (table, column) = self.here();
        let name = self.qualified("orders_summary");
        let shown = self.name("code");
        let (needs, from) = match below {
            Some((view, under)) if self.rng.bool() => {
                (vec![view], format!("count(*) AS {shown} FROM {under}"))
            }
            _ => (vec![], format!("{column} AS {shown} FROM {table}")),
        };
        let with = self.pick(&["", " WITH (fillfactor = 80)"]);
        let data = self.pick(&["", "", " WITH NO DATA"]);
        let view = self.late(
            "materialized view",
            &needs,
            format!("CREATE MATERIALIZED VIEW {name}{with} AS SELECT {from}{data}"),
        );
        let json = !self.case.conversion.ordered;
        for (kind, sql) in [
            (
                "materialized view index",
                format!("CREATE UNIQUE INDEX ON {name} ({shown})"),
            ),
            (
                "materialized view grant",
                format!("GRANT SELECT ON {name} TO {READER}"),
            ),
            (
                "materialized view statistics target",
                format!("ALTER MATERIALIZED VIEW {name} ALTER COLUMN {shown} SET STATISTICS 12"),
            ),
            (
                "materialized view comment",
                format!("COMMENT ON MATERIALIZED VIEW {name} IS 'kept'"),
            ),
        ] {
            if self.chance() && !(json && kind.ends_with("index")) {
                self.late(kind, &[view], sql);
            }
        }
    }
}
