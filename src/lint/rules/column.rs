//! Rules about columns.

use super::column_type::CHANGE_TYPE;
use super::constraint::locks_parents;
use crate::catalog::ConstraintKind;
use crate::lint::context::Cx;
use crate::lint::{Rule, Severity, world};
use crate::lock::LockMode;
use crate::migration::SectionKind;
use crate::plan::work::{Volatility, volatility};
use crate::sql::RelName;
use crate::sql::ddl::{AlterOp, AlterOpKind, ColumnDef, Generated};

static VOLATILE_DEFAULT: Rule = Rule {
    id: "PS301",
    slug: "add-column-volatile-default",
    severity: Severity::Error,
    since: 14,
    summary: "A new column with a volatile default rewrites the table.",
    why: "A constant default is kept in the catalog, and costs nothing; one that may differ from \
          row to row is computed for each: the table and its indexes are written anew under ACCESS \
          EXCLUSIVE.",
    safe: "ADD COLUMN without the default, then ALTER COLUMN … SET DEFAULT, and fill the old rows \
           in batches",
    bad: "ALTER TABLE orders ADD COLUMN token uuid DEFAULT gen_random_uuid();",
    good: "ALTER TABLE orders ADD COLUMN token uuid;\n\
           ALTER TABLE orders ALTER COLUMN token SET DEFAULT gen_random_uuid();",
};

static SERIAL: Rule = Rule {
    id: "PS302",
    slug: "add-column-serial",
    severity: Severity::Error,
    since: 14,
    summary: "A new serial or identity column rewrites the table.",
    why: "Every row gets a number from the sequence: the table and its indexes are written anew \
          under ACCESS EXCLUSIVE.",
    safe: "ADD COLUMN … bigint, CREATE SEQUENCE, SET DEFAULT nextval(…), and fill the old rows in \
           batches",
    bad: "ALTER TABLE orders ADD COLUMN number bigserial;",
    good: "ALTER TABLE orders ADD COLUMN number bigint;\n\
           CREATE SEQUENCE orders_number OWNED BY orders.number;\n\
           ALTER TABLE orders ALTER COLUMN number SET DEFAULT nextval('orders_number');",
};

static GENERATED_STORED: Rule = Rule {
    id: "PS303",
    slug: "add-column-generated-stored",
    severity: Severity::Error,
    since: 14,
    summary: "A new stored generated column rewrites the table.",
    why: "It is computed for every row: the table and its indexes are written anew under ACCESS \
          EXCLUSIVE.",
    safe: "add a plain column that the application or a trigger fills, and fill the old rows in \
           batches",
    bad: "ALTER TABLE orders ADD COLUMN cents bigint GENERATED ALWAYS AS (total * 100) STORED;",
    good: "ALTER TABLE orders ADD COLUMN cents bigint;",
};

static CONSTRAINED_DOMAIN: Rule = Rule {
    id: "PS304",
    slug: "add-column-constrained-domain",
    severity: Severity::Error,
    since: 14,
    summary: "A new column of a domain with constraints rewrites the table.",
    why: "The server checks the domain's constraints by writing every row anew, under ACCESS \
          EXCLUSIVE, even where the column is null everywhere.",
    safe: "give the column the base type of the domain, and its CHECK to the table: NOT VALID, \
           then VALIDATE CONSTRAINT",
    bad: "CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');\n\
          ALTER TABLE orders ADD COLUMN contact email;",
    good: "ALTER TABLE orders ADD COLUMN contact text;",
};

static NOT_NULL_NO_DEFAULT: Rule = Rule {
    id: "PS305",
    slug: "add-column-not-null",
    severity: Severity::Error,
    since: 14,
    summary: "A new column is NOT NULL without a default.",
    why: "It fails where the table has rows, after reading under ACCESS EXCLUSIVE; and where it \
          has none, every INSERT of an application that does not know the column fails from then \
          on.",
    safe: "give a constant DEFAULT, or add the column nullable, fill it in batches, and make it \
           NOT NULL when every application writes it",
    bad: "ALTER TABLE orders ADD COLUMN region text NOT NULL;",
    good: "ALTER TABLE orders ADD COLUMN region text NOT NULL DEFAULT 'eu';",
};

static COLUMN_CONSTRAINT: Rule = Rule {
    id: "PS306",
    slug: "add-column-constraint",
    severity: Severity::Error,
    since: 14,
    summary: "A constraint within ADD COLUMN is checked under the lock.",
    why: "CHECK, and REFERENCES with a default, read every row, UNIQUE and PRIMARY KEY build an \
          index, all under the ACCESS EXCLUSIVE that ADD COLUMN holds. On their own they need not \
          block.",
    safe: "ADD COLUMN first; then the constraint on its own: NOT VALID and VALIDATE, or a \
           concurrent unique index and USING INDEX",
    bad: "ALTER TABLE orders ADD COLUMN code text UNIQUE;",
    good: "ALTER TABLE orders ADD COLUMN code text;\n\
           CREATE UNIQUE INDEX CONCURRENTLY orders_code_key ON orders (code);\n\
           ALTER TABLE orders ADD CONSTRAINT orders_code_key UNIQUE USING INDEX orders_code_key;",
};

static DROP_COLUMN: Rule = Rule {
    id: "PS308",
    slug: "drop-column",
    severity: Severity::Warning,
    since: 14,
    summary: "Dropping a column breaks applications that still use it, and loses its data.",
    why: "While the new version of the application is rolled out the old one still reads and \
          writes the column (ORMs name every column they know). What was in it is gone.",
    safe: "first deploy a version that does not use the column, then drop it",
    bad: "ALTER TABLE orders DROP COLUMN total;",
    good: "-- pgshift: allow drop-column reason=\"not read since release 41\"\n\
           ALTER TABLE orders DROP COLUMN total;",
};

static RENAME_COLUMN: Rule = Rule {
    id: "PS309",
    slug: "rename-column",
    severity: Severity::Error,
    since: 14,
    summary: "Renaming a column breaks every running application.",
    why: "From the commit on the old version fails, and before it the new one would: no order of \
          deployment works.",
    safe: "add a column of the new name, keep both in step, move the readers, then drop the old \
           one",
    bad: "ALTER TABLE orders RENAME COLUMN total TO amount;",
    good: "ALTER TABLE orders ADD COLUMN amount numeric;",
};

static DROP_NOT_NULL: Rule = Rule {
    id: "PS310",
    slug: "drop-not-null",
    severity: Severity::Note,
    since: 14,
    summary: "A column that could not be null can be from now on.",
    why: "Readers that were written for NOT NULL, also those outside of the application, meet null.",
    safe: "make sure that every reader takes null before any writer writes it",
    bad: "ALTER TABLE orders ALTER COLUMN email DROP NOT NULL;",
    good: "ALTER TABLE orders ALTER COLUMN email SET DEFAULT '';",
};

static JSON_COLUMN: Rule = Rule {
    id: "PS311",
    slug: "add-json-column",
    severity: Severity::Note,
    since: 14,
    summary: "A column of type json breaks queries that compare whole rows.",
    why: "json has no equality: SELECT DISTINCT, UNION and GROUP BY over all columns of the table \
          fail from then on. jsonb has one.",
    safe: "use jsonb",
    bad: "ALTER TABLE orders ADD COLUMN extra json;",
    good: "ALTER TABLE orders ADD COLUMN extra jsonb;",
};

static SET_EXPRESSION: Rule = Rule {
    id: "PS312",
    slug: "set-expression",
    severity: Severity::Error,
    since: 17,
    summary: "A new expression of a generated column rewrites the table.",
    why: "A stored generated column is computed again for every row, under ACCESS EXCLUSIVE.",
    safe: "add a new column beside it that the application or a trigger fills, and swap them",
    bad: "ALTER TABLE orders ALTER COLUMN cents SET EXPRESSION AS (total * 1000);",
    good: "ALTER TABLE orders ADD COLUMN mills bigint;",
};

pub(super) static RULES: [&Rule; 12] = [
    &VOLATILE_DEFAULT,
    &SERIAL,
    &GENERATED_STORED,
    &CONSTRAINED_DOMAIN,
    &NOT_NULL_NO_DEFAULT,
    &COLUMN_CONSTRAINT,
    &CHANGE_TYPE,
    &DROP_COLUMN,
    &RENAME_COLUMN,
    &DROP_NOT_NULL,
    &JSON_COLUMN,
    &SET_EXPRESSION,
];

pub(super) fn check(cx: &mut Cx<'_>) {
    let ops: Vec<_> = cx.ops().collect();
    for (name, op) in ops {
        match &op.kind {
            AlterOpKind::AddColumn(def) => add(cx, name, op, def),
            AlterOpKind::DropColumn { name: column, .. } => drop(cx, name, op, column),
            AlterOpKind::RenameColumn { from, to } if !cx.world.is_fresh_column(name, from) => {
                let mut finding = cx
                    .found(
                        &RENAME_COLUMN,
                        op.span,
                        format!(
                            "running applications read and write {}.{from}; from the commit on it \
                             is {to}",
                            cx.named(name)
                        ),
                    )
                    .label("the old version fails after it, the new one before it");
                if cx.pgshift() && cx.unit.section != SectionKind::Contract {
                    finding = finding
                        .severity(Severity::Note)
                        .help("pgshift lets both names work until contract");
                    finding.planned = true;
                }
                cx.report(finding);
            }
            AlterOpKind::DropNotNull { column } => {
                let was = cx.table(name).and_then(|t| t.column(column));
                if was.is_none_or(|c| c.not_null) {
                    let finding = cx.found(
                        &DROP_NOT_NULL,
                        op.span,
                        format!(
                            "readers of {}.{column} can meet null from now on",
                            cx.named(name)
                        ),
                    );
                    cx.report(finding);
                }
            }
            AlterOpKind::SetExpression { column } if cx.heavy(name) => {
                let finding = cx
                    .found(
                        &SET_EXPRESSION,
                        op.span,
                        format!(
                            "where {column} is stored, every row of {}{} is written anew",
                            cx.named(name),
                            cx.facts(name)
                        ),
                    )
                    .on(cx, name, LockMode::AccessExclusive);
                let finding = cx.with_safe_form(finding);
                cx.report(finding);
            }
            _ => {}
        }
    }
}

fn drop(cx: &mut Cx<'_>, name: &RelName, op: &AlterOp, column: &str) {
    if cx.unit.section == SectionKind::Contract || cx.world.is_fresh_column(name, column) {
        return;
    }
    let mut finding = cx
        .found(
            &DROP_COLUMN,
            op.span,
            format!(
                "running applications may still use {}.{column}, and its data is lost",
                cx.named(name)
            ),
        )
        .label("gone from the commit on");
    if cx.pgshift() && cx.unit.section == SectionKind::Plain {
        finding = finding
            .severity(Severity::Note)
            .help("pgshift drops it at contract, and keeps it aside until purge");
        finding.planned = true;
    }
    cx.report(finding);
}

fn add(cx: &mut Cx<'_>, name: &RelName, op: &AlterOp, def: &ColumnDef) {
    let there = cx
        .table(name)
        .is_some_and(|t| t.column(&def.name).is_some());
    if def.if_not_exists && there {
        return;
    }
    if def.type_text.eq_ignore_ascii_case("json") {
        let finding = cx.found(
            &JSON_COLUMN,
            op.span,
            format!(
                "json has no equality: SELECT DISTINCT and UNION over all columns of {} fail",
                cx.named(name)
            ),
        );
        cx.report(finding);
    }
    if !cx.heavy(name) {
        not_null(cx, name, op, def);
        parents(cx, def);
        return;
    }
    if let Some((rule, why)) = rewrites(cx, def) {
        let severity = match def.default.as_deref().map(volatility) {
            Some(Volatility::Unknown(function))
                if rule == &VOLATILE_DEFAULT && cx.world.is_volatile(&function).is_none() =>
            {
                Severity::Warning
            }
            _ => rule.severity,
        };
        let finding = cx
            .found(
                rule,
                op.span,
                format!(
                    "{why}: every row of {}{} is written anew",
                    cx.named(name),
                    cx.facts(name)
                ),
            )
            .severity(severity)
            .on(cx, name, LockMode::AccessExclusive);
        let finding = cx.with_safe_form(finding);
        cx.report(finding);
        parents(cx, def);
        return;
    }
    not_null(cx, name, op, def);
    let default = def.default.is_some();
    let mut checked = false;
    for inline in &def.constraints {
        let (kind, what) = match inline.kind {
            ConstraintKind::Check => ("CHECK", "every row is read"),
            ConstraintKind::Unique => ("UNIQUE", "an index is built"),
            ConstraintKind::PrimaryKey => ("PRIMARY KEY", "an index is built"),
            ConstraintKind::ForeignKey if default => ("REFERENCES", "every row is looked up"),
            _ => continue,
        };
        checked |= inline.kind == ConstraintKind::ForeignKey;
        let finding = cx
            .found(
                &COLUMN_CONSTRAINT,
                inline.span,
                format!(
                    "{kind} within ADD COLUMN: {what} while reads and writes of {}{} wait",
                    cx.named(name),
                    cx.facts(name)
                ),
            )
            .on(cx, name, LockMode::AccessExclusive);
        let finding = cx.with_safe_form(finding);
        cx.report(finding);
    }
    if !checked {
        parents(cx, def);
    }
}

/// The rule by which the new column rewrites the table, and why.
fn rewrites(cx: &Cx<'_>, def: &ColumnDef) -> Option<(&'static Rule, String)> {
    let column = &def.name;
    if matches!(def.generated, Some((Generated::Stored, _))) {
        return Some((
            &GENERATED_STORED,
            format!("the generated column {column} is stored"),
        ));
    }
    if def.identity || def.is_serial() {
        return Some((&SERIAL, format!("{column} takes a number from a sequence")));
    }
    if world::is_constrained(cx.world, &def.type_text) {
        return Some((
            &CONSTRAINED_DOMAIN,
            format!("{} is a domain with constraints", def.type_text),
        ));
    }
    match volatility(def.default.as_deref()?) {
        Volatility::Safe => None,
        Volatility::Volatile(function) => Some((
            &VOLATILE_DEFAULT,
            format!("the default of {column} calls {function}(), which is volatile"),
        )),
        Volatility::Unknown(function) => match cx.world.is_volatile(&function) {
            Some(false) => None,
            Some(true) => Some((
                &VOLATILE_DEFAULT,
                format!("the default of {column} calls {function}(), which is volatile"),
            )),
            None => Some((
                &VOLATILE_DEFAULT,
                format!("where {function}() in the default of {column} is volatile"),
            )),
        },
    }
}

fn not_null(cx: &mut Cx<'_>, name: &RelName, op: &AlterOp, def: &ColumnDef) {
    let filled =
        def.default.is_some() || def.generated.is_some() || def.identity || def.is_serial();
    let primary = def.has(ConstraintKind::PrimaryKey);
    let empty = cx.world.size(name).is_some_and(|(rows, _)| rows == 0);
    if !def.not_null && !primary || filled || empty {
        return;
    }
    let finding = cx
        .found(
            &NOT_NULL_NO_DEFAULT,
            op.span,
            format!(
                "{} is NOT NULL and has no default: this fails where {}{} has rows",
                def.name,
                cx.named(name),
                cx.facts(name)
            ),
        )
        .on(cx, name, LockMode::AccessExclusive);
    let finding = cx.with_safe_form(finding);
    cx.report(finding);
}

fn parents(cx: &mut Cx<'_>, def: &ColumnDef) {
    let parents: Vec<RelName> = def
        .constraints
        .iter()
        .filter_map(|c| c.references.clone())
        .collect();
    locks_parents(cx, &parents, "the foreign key of the new column");
}
