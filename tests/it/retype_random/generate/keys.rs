//! What a column is itself, keys, foreign keys and checks.

use super::super::case::READER;
use super::Generator;
use super::partitions::of_divided;

/// What happens to rows that refer to one that goes or changes.
const ACTIONS: &[&str] = &[
    "",
    " ON DELETE CASCADE",
    " ON DELETE SET NULL ON UPDATE CASCADE",
    " ON DELETE RESTRICT ON UPDATE RESTRICT",
    " ON UPDATE SET DEFAULT",
];
const TIMES: &[&str] = &["", "", " DEFERRABLE", " DEFERRABLE INITIALLY DEFERRED"];

impl Generator {
    /// What is said of the column by itself.
    pub(super) fn facets(&mut self) {
        let (table, column) = self.here();
        let alter = format!("ALTER TABLE {table} ALTER COLUMN {column}");
        let conversion = self.case.conversion;
        if !self.nullable && (self.chance() || self.rng.bool()) {
            self.sql("not null", &[], format!("{alter} SET NOT NULL"));
            if conversion.sequence && self.chance() {
                let kind = self.pick(&["ALWAYS", "BY DEFAULT"]);
                let start = self.pick(&[
                    "",
                    " (START 200000)",
                    " (START 200000 INCREMENT 5 CACHE 3 CYCLE)",
                ]);
                // A smallint does not count so far.
                let start = match conversion.from {
                    "smallint" => start.replace("200000", "20000"),
                    _ => start.to_owned(),
                };
                let needs = self.case.features.len() - 1;
                let sql = format!("{alter} ADD GENERATED {kind} AS IDENTITY{start}");
                self.sequence = Some(self.sql("identity", &[needs], sql));
            }
        }
        if self.sequence.is_none() && conversion.sequence && self.chance() {
            let name = self.qualified("code_seq");
            let of = conversion.from;
            let literal = super::literal(&name);
            self.sequence = Some(self.sql(
                "serial",
                &[],
                format!(
                    "CREATE SEQUENCE {name} AS {of} START 30000; ALTER SEQUENCE {name} OWNED BY {table}.{column}; \
                     {alter} SET DEFAULT nextval({literal}); SELECT nextval({literal})"
                ),
            ));
        }
        if self.sequence.is_none() && self.chance() {
            let default = self.pick(conversion.defaults);
            self.sequence =
                Some(self.sql("default", &[], format!("{alter} SET DEFAULT {default}")));
        }
        for (kind, change) in [
            ("column statistics target", "SET STATISTICS 321"),
            (
                "column options",
                "SET (n_distinct = -0.5, n_distinct_inherited = 7)",
            ),
        ] {
            if self.chance() {
                self.sql(kind, &[], format!("{alter} {change}"));
            }
        }
        if conversion.text {
            for (kind, change) in [
                ("column storage", "SET STORAGE EXTERNAL"),
                ("column compression", "SET COMPRESSION pglz"),
            ] {
                if self.chance() {
                    self.sql(kind, &[], format!("{alter} {change}"));
                }
            }
        }
        if self.chance() {
            let text = self.text();
            self.sql(
                "column comment",
                &[],
                format!("COMMENT ON COLUMN {table}.{column} IS {text}"),
            );
        }
        self.checks();
    }

    fn checks(&mut self) {
        let (table, _) = self.here();
        let partitioned = self.partitioned();
        for (kind, suffix) in [
            ("check", ""),
            ("check without a name", ""),
            ("check not valid", " NOT VALID"),
            ("check no inherit", " NO INHERIT"),
        ] {
            if !self.chance() || (partitioned && kind == "check no inherit") {
                continue;
            }
            let name = self.name("code_is_sane");
            let named = if kind == "check without a name" {
                String::new()
            } else {
                format!("CONSTRAINT {name} ")
            };
            let condition = self.condition();
            let check = self.sql(
                kind,
                &[],
                format!("ALTER TABLE {table} ADD {named}CHECK ({condition}){suffix}"),
            );
            if !named.is_empty() && self.chance() {
                let text = self.text();
                let sql = format!("COMMENT ON CONSTRAINT {name} ON {table} IS {text}");
                self.sql("constraint comment", &[check], sql);
            }
        }
        if let Some((feature, other)) = self.other.clone()
            && self.chance()
        {
            let condition = self.condition();
            let sql = format!("ALTER TABLE {table} ADD CHECK ({condition} OR {other} > -1)");
            self.sql("check of several", &[feature], sql);
        }
    }

    pub(super) fn keys(&mut self) {
        let (table, column) = self.here();
        let conversion = self.case.conversion;
        if !conversion.ordered {
            return self.other_primary_key();
        }
        let what = self.rng.u8(..10);
        let partitioned = self.partitioned();
        if !self.nullable && what < 5 && !partitioned {
            let name = self.name("orders_key");
            let form = self.pick(&["", "name", "name with"]);
            let named = if form.is_empty() {
                String::new()
            } else {
                format!("CONSTRAINT {name} ")
            };
            let with = if form == "name with" {
                " WITH (fillfactor = 80)"
            } else {
                ""
            };
            let key = self.sql(
                "primary key",
                &[],
                format!("ALTER TABLE {table} ADD {named}PRIMARY KEY ({column}){with}"),
            );
            self.unique.push(key);
            self.primary = Some(key);
        } else if !self.nullable
            && what < 8
            && let Some((feature, other)) = self.other.clone()
        {
            let columns = if self.rng.bool() {
                format!("{column}, {other}")
            } else {
                format!("{other}, {column}")
            };
            let key = self.sql(
                "primary key of several",
                &[feature],
                format!("ALTER TABLE {table} ADD PRIMARY KEY ({columns})"),
            );
            self.primary = Some(key);
            self.unique_several.push(key);
        } else {
            self.other_primary_key();
        }
        for (kind, form, from) in [
            ("unique", "UNIQUE ({c})", 14),
            (
                "unique deferrable",
                "UNIQUE ({c}) DEFERRABLE INITIALLY DEFERRED",
                14,
            ),
            (
                "unique nulls not distinct",
                "UNIQUE NULLS NOT DISTINCT ({c}, {o})",
                15,
            ),
            ("unique of several", "UNIQUE ({o}, {c})", 14),
            (
                "unique include",
                "UNIQUE ({c}) INCLUDE ({o}) WITH (fillfactor = 60)",
                14,
            ),
        ] {
            if self.major < from
                || !self.chance()
                || (partitioned && !form.contains("({c}, {o})") && !form.contains("({o}, {c})"))
                || (kind == "unique nulls not distinct" && self.nullable)
            {
                continue;
            }
            let (needs, other) = match (form.contains("{o}"), self.other.clone()) {
                (true, Some((feature, other))) => (vec![feature], other),
                (true, None) => continue,
                (false, _) => (vec![], String::new()),
            };
            let name = self.name("code_is_unique");
            let form = form.replace("{c}", &column).replace("{o}", &other);
            let named = if self.rng.bool() {
                format!("CONSTRAINT {name} ")
            } else {
                String::new()
            };
            let key = self.sql(
                kind,
                &needs,
                format!("ALTER TABLE {table} ADD {named}{form}"),
            );
            match kind {
                "unique" => self.unique.push(key),
                "unique of several" => self.unique_several.push(key),
                _ => {}
            }
            if !named.is_empty() && self.chance() {
                let text = self.text();
                let sql = format!("COMMENT ON CONSTRAINT {name} ON {table} IS {text}");
                self.sql("constraint comment", &[key], sql);
            }
        }
        if self.chance() && !partitioned {
            let name = self.name("no_two");
            let condition = self.condition();
            let of = match self.pick(&[0, 1, 2, 3]) {
                0 => String::new(),
                1 => " WITH (fillfactor = 80)".to_owned(),
                2 => format!(" WHERE ({condition})"),
                _ => " DEFERRABLE INITIALLY DEFERRED".to_owned(),
            };
            let mut needs = vec![];
            let mut more = String::new();
            if let Some((feature, other)) = self.other.clone()
                && self.rng.bool()
            {
                needs.push(feature);
                more = format!(", {other} WITH =");
            }
            let sql = format!(
                "ALTER TABLE {table} ADD CONSTRAINT {name} EXCLUDE USING btree ({column} WITH ={more}){of}"
            );
            let exclusion = self.sql("exclusion", &needs, sql);
            if self.chance() {
                let text = self.text();
                let sql = format!("COMMENT ON CONSTRAINT {name} ON {table} IS {text}");
                self.sql("exclusion comment", &[exclusion], sql);
            }
        }
    }

    fn other_primary_key(&mut self) {
        let (table, _) = self.here();
        if let Some((feature, id)) = self.id.clone()
            && self.rng.u8(..10) < 8
        {
            let by = match &self.other {
                Some((_, other)) if self.partitioned() => format!(", {other}"),
                _ => String::new(),
            };
            let sql = format!("ALTER TABLE {table} ADD PRIMARY KEY ({id}{by})");
            self.primary = Some(self.sql("primary key of others", &[feature], sql));
        }
    }

    pub(super) fn foreign_keys(&mut self) {
        let (table, column) = self.here();
        let conversion = self.case.conversion;
        let rows = self.case.rows;
        let from = conversion.from;
        let value = conversion.value.replace("{g}", "g");
        if conversion.refers && conversion.ordered {
            for kind in ["foreign key", "foreign key not valid"] {
                let not_there =
                    kind.ends_with("not valid") && self.partitioned() && self.major < 18;
                if !self.chance() || not_there {
                    continue;
                }
                let parent = self.qualified("parents");
                let id = self.name("id");
                let name = self.name("code_has_parent");
                let (action, time) = (self.pick(ACTIONS), self.pick(TIMES));
                let valid = if kind == "foreign key" {
                    ""
                } else {
                    " NOT VALID"
                };
                // Every second row has no parent where nobody looks.
                let some = if kind == "foreign key" {
                    ""
                } else {
                    " WHERE g % 2 = 0"
                };
                self.sql(
                    kind,
                    &[],
                    format!(
                        "CREATE TABLE {parent} ({id} {from} PRIMARY KEY);
INSERT INTO {parent} SELECT {value} FROM generate_series(1, {rows}) g{some};
ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY ({column}) REFERENCES {parent}{action}{time}{valid}"
                    ),
                );
            }
            if let Some((feature, other)) = self.other.clone()
                && self.chance()
            {
                let parent = self.qualified("pairs");
                let full = self.pick(&["", " MATCH FULL"]);
                // Rows with one null are an error of MATCH FULL.
                let full = if self.nullable { "" } else { full };
                let action = self.pick(ACTIONS);
                self.sql(
                    "foreign key of several",
                    &[feature],
                    format!(
                        "CREATE TABLE {parent} (a integer, b {from}, UNIQUE (b, a));
INSERT INTO {parent} SELECT g % 10, {value} FROM generate_series(1, {rows}) g;
ALTER TABLE {table} ADD FOREIGN KEY ({column}, {other}) REFERENCES {parent} (b, a){full}{action}"
                    ),
                );
            }
        }
        if conversion.referred {
            self.inbound();
        }
    }

    /// Foreign keys of others, and of the table itself, that refer to the column.
    fn inbound(&mut self) {
        let (table, column) = self.here();
        let rows = self.case.rows;
        let from = self.case.conversion.from;
        let value = self.case.conversion.value.replace("{g}", "g");
        let unique = self.unique.clone();
        for kind in [
            "inbound foreign key",
            "inbound foreign key",
            "inbound foreign key not valid",
        ] {
            if unique.is_empty() || !(self.chance() || self.rng.u8(..5) == 0) {
                continue;
            }
            let key = self.pick(&unique);
            let child = self.qualified("lines");
            let refers = self.name("order_code");
            let name = self.name("lines_have_order");
            let (action, time) = (self.pick(ACTIONS), self.pick(TIMES));
            let (valid, wrong) = if kind.ends_with("not valid") {
                (" NOT VALID", 5)
            } else {
                ("", 0)
            };
            let not_null = if self.rng.bool() && !action.contains("SET") {
                " NOT NULL"
            } else {
                ""
            };
            // One of a partitioned table can be NOT VALID from 18 on.
            let divided = (valid.is_empty() || self.major >= 18) && self.divides(action);
            let columns = format!("n integer, {refers} {from}{not_null}");
            let create = self.child(&child, &columns, "n", divided);
            let own = format!("FOREIGN KEY ({refers}) REFERENCES {table} ({column}){action}{time}");
            let alike = self.of_a_leaf(divided && valid.is_empty(), &own);
            let kind = of_divided(kind, divided);
            let inbound = self.sql(
                kind,
                &[key],
                format!(
                    "{create};
INSERT INTO {child} SELECT g, {column} FROM (SELECT {column}, row_number() OVER (ORDER BY {column}) AS g FROM {table}) t
    WHERE g <= 10 AND {column} IS NOT NULL;
INSERT INTO {child} SELECT g, {value} FROM generate_series(50001, 50000 + {wrong}) g;
CREATE INDEX ON {child} ({refers});
{alike}ALTER TABLE {child} ADD CONSTRAINT {name} {own}{valid}"
                ),
            );
            let follower = (child.clone(), refers.clone());
            self.case.features[inbound].follows.push(follower);
            self.referencing(inbound, &child, &refers, divided);
            if self.chance() {
                let text = self.text();
                let sql = format!("COMMENT ON CONSTRAINT {name} ON {child} IS {text}");
                self.sql("inbound constraint comment", &[inbound], sql);
            }
            if self.chance() {
                let sql = format!("ALTER TABLE {child} DISABLE TRIGGER ALL");
                // Rare: it says not to check.
                if self.seldom("inbound foreign key disabled") {
                    self.sql("inbound foreign key disabled", &[inbound], sql);
                }
            }
        }
        let several = self.unique_several.clone();
        if let Some((feature, other)) = self.other.clone()
            && !several.is_empty()
            && (self.chance() || self.rng.u8(..3) == 0)
        {
            let key = self.pick(&several);
            let child = self.qualified("pairs_of_lines");
            let full = self.pick(&["", " MATCH FULL"]);
            let action = self.pick(ACTIONS);
            let divided = self.divides(action);
            let create = self.child(&child, &format!("a {from}, b integer"), "b", divided);
            let own =
                format!("FOREIGN KEY (a, b) REFERENCES {table} ({column}, {other}){full}{action}");
            let alike = self.of_a_leaf(divided, &own);
            let inbound = self.sql(
                of_divided("inbound foreign key of several", divided),
                &[feature, key],
                format!(
                    "{create};
INSERT INTO {child} SELECT {column}, {other} FROM {table} WHERE {column} IS NOT NULL AND {other} IS NOT NULL;
{alike}ALTER TABLE {child} ADD {own}"
                ),
            );
            let follower = (child.clone(), "a".to_owned());
            self.case.features[inbound].follows.push(follower);
            self.referencing(inbound, &child, "a", divided);
        }
        if !unique.is_empty() && (self.chance() || self.rng.u8(..8) == 0) {
            let key = self.pick(&unique);
            let parent = self.name("parent");
            let action = self.pick(&["", " ON DELETE SET NULL", " DEFERRABLE"]);
            let some = if rows > 5 {
                format!("UPDATE {table} SET {parent} = {column} WHERE {column} IS NOT NULL;")
            } else {
                String::new()
            };
            let inbound = self.sql(
                "foreign key to itself",
                &[key],
                format!(
                    "ALTER TABLE {table} ADD COLUMN {parent} {from}; {some}
ALTER TABLE {table} ADD FOREIGN KEY ({parent}) REFERENCES {table} ({column}){action}"
                ),
            );
            let follower = (table.clone(), parent.clone());
            self.case.features[inbound].follows.push(follower);
        }
    }

    /// What stands on a column that references the one that changes: it goes along where the
    /// migration says so.
    fn referencing(&mut self, inbound: usize, child: &str, refers: &str, divided: bool) {
        let from = self.case.conversion.from;
        let (table, column) = self.here();
        let late = self.late;
        for (kind, sql) in [
            (
                "referencing check",
                format!(
                    "ALTER TABLE {child} ADD CHECK ({refers} IS NULL OR {refers}::text <> 'x')"
                ),
            ),
            (
                "referencing comment",
                format!("COMMENT ON COLUMN {child}.{refers} IS 'of an order'"),
            ),
            (
                "referencing grant",
                format!("GRANT SELECT ({refers}) ON {child} TO {READER}"),
            ),
        ] {
            if self.chance() {
                self.sql(kind, &[inbound], sql);
            }
        }
        // A key of a partitioned table would have to have the columns that divide it.
        if !divided && self.chance() {
            let (grandchild, refers_too) = (self.qualified("notes"), self.name("line"));
            let name = self.name("lines_once");
            let unique = self.sql(
                "referenced by what references it",
                &[inbound],
                format!(
                    "CREATE TABLE {grandchild} ({refers_too} {from});
DELETE FROM {child} a USING {child} b WHERE a.{refers} = b.{refers} AND a.ctid > b.ctid;
ALTER TABLE {child} ADD CONSTRAINT {name} UNIQUE ({refers});
INSERT INTO {grandchild} SELECT {refers} FROM {child} WHERE {refers} IS NOT NULL;
ALTER TABLE {grandchild} ADD FOREIGN KEY ({refers_too}) REFERENCES {child} ({refers})"
                ),
            );
            self.case.features[unique]
                .follows
                .push((grandchild, refers_too));
        }
        if late && self.chance() {
            let name = self.qualified("with_lines");
            let sql = format!(
                "CREATE VIEW {name} AS SELECT l.{refers} AS line, o.{column} AS code FROM {child} l \
                 JOIN {table} o ON o.{column} = l.{refers}"
            );
            self.late("view of both", &[inbound], sql);
        }
        if late && self.chance() {
            let name = self.name("on_line");
            let sql = format!(
                "CREATE TRIGGER {name} AFTER UPDATE OF {refers} ON {child} FOR EACH ROW \
                 WHEN (NEW.{refers} IS NOT NULL) EXECUTE FUNCTION loud()"
            );
            self.late("referencing trigger", &[inbound], sql);
        }
    }
}
