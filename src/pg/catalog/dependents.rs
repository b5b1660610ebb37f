//! What depends on columns of a table, as the statements that drop it and make it again.

mod sql;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::super::read::{failed, get};
use crate::catalog::dependents::{
    Dependent, DependentKind, Obstacle, Part, PartKind, StatisticsDetails, Stored,
};
use crate::catalog::details::DefinitionKind;
use crate::catalog::{QName, Table};
use crate::error::Result;
use sql::{
    FOUND, FUNCTION, GENERATED, MATERIALIZED_VIEW, PARTS, POLICY, PUBLICATION, READS, REHEARSALS,
    RULE, STATISTICS, STORED, TRIGGER, VIEW,
};

type Param<'a> = (&'a (dyn ToSql + Sync), Type);

async fn query(client: &Client, sql: &str, of: &[Param<'_>]) -> Result<Vec<Row>> {
    client
        .query_typed(sql, of)
        .await
        .map_err(|e| failed("cannot read what depends on a column", e))
}

/// Sets the search path of this transaction; the one before.
async fn search_path(client: &Client, path: &str) -> Result<String> {
    let rows = query(
        client,
        "SELECT p.before, set_config('search_path', $1, true)
         FROM (SELECT current_setting('search_path') AS before) AS p",
        &[(&path, Type::TEXT)],
    )
    .await?;
    rows.first()
        .map_or(Ok(String::new()), |row| get(row, "before"))
}

fn kind_of(row: &Row) -> Result<DependentKind> {
    let class: String = get(row, "class")?;
    let relation: Option<String> = get(row, "kind")?;
    let rule_on: Option<String> = get(row, "rule_on")?;
    Ok(
        match (class.as_str(), relation.as_deref(), rule_on.as_deref()) {
            ("pg_class", Some("v"), _) => DependentKind::View,
            ("pg_class", Some("m"), _) => DependentKind::MaterializedView,
            ("pg_rewrite", _, Some("v")) => DependentKind::ViewRule,
            ("pg_trigger", ..) => DependentKind::Trigger,
            ("pg_policy", ..) => DependentKind::Policy,
            ("pg_publication_rel", ..) => DependentKind::Publication,
            ("pg_proc", ..) => DependentKind::Function,
            ("pg_attrdef", Some("v" | "s"), _) => DependentKind::Generated,
            _ => DependentKind::Other,
        },
    )
}

/// What depends on these columns of a table, and on that, in an order in which it can be made; the
/// caller's transaction keeps its search path.
///
/// # Errors
/// What the server or the connection gave.
pub async fn dependents(client: &Client, table: u32, columns: &[&str]) -> Result<Vec<Dependent>> {
    // Names are qualified where nothing is in the search path.
    let before = search_path(client, "").await?;
    let mut all = Vec::new();
    let of: [Param<'_>; 2] = [(&table, Type::OID), (&columns, Type::TEXT_ARRAY)];
    let found = query(client, FOUND, &of).await?;
    for row in &found {
        all.push(dependent(client, row, columns).await?);
    }
    if all.iter().any(|d| d.stored.is_some()) {
        reads(client, &found, &mut all).await?;
    }
    search_path(client, &before).await?;
    Ok(all)
}

async fn reads(client: &Client, found: &[Row], all: &mut [Dependent]) -> Result<()> {
    let column = |name: &str| -> Result<Vec<u32>> { found.iter().map(|r| get(r, name)).collect() };
    let (classes, oids) = (column("classid")?, column("oid")?);
    let of: [Param<'_>; 2] = [(&classes, Type::OID_ARRAY), (&oids, Type::OID_ARRAY)];
    for row in &query(client, READS, &of).await? {
        let (reader, read): (i64, i64) = (get(row, "reader")?, get(row, "read")?);
        let place = |n: i64| usize::try_from(n - 1).unwrap_or(usize::MAX);
        if let Some(reader) = all.get_mut(place(reader)) {
            reader.reads.push(place(read));
        }
    }
    Ok(())
}

/// The same of a table by its name; none where it is gone.
///
/// # Errors
/// What the server or the connection gave.
pub async fn of_table(client: &Client, table: &QName, columns: &[&str]) -> Result<Vec<Dependent>> {
    let rows = query(
        client,
        "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = $2",
        &[(&table.schema, Type::TEXT), (&table.name, Type::TEXT)],
    )
    .await?;
    match rows.first() {
        Some(row) => dependents(client, get(row, "oid")?, columns).await,
        None => Ok(Vec::new()),
    }
}

/// What columns of a table have of their own; none where the table is gone.
///
/// # Errors
/// What the server or the connection gave.
pub async fn parts(client: &Client, table: &QName, columns: &[&str]) -> Result<Vec<Part>> {
    let before = search_path(client, "").await?;
    let of: [Param<'_>; 3] = [
        (&table.schema, Type::TEXT),
        (&table.name, Type::TEXT),
        (&columns, Type::TEXT_ARRAY),
    ];
    let rows = query(client, PARTS, &of).await?;
    search_path(client, &before).await?;
    let part = |row: &Row| -> Result<Part> {
        let kind: String = get(row, "kind")?;
        Ok(Part {
            kind: match kind.as_str() {
                "object" => PartKind::Object,
                "key" => PartKind::Key,
                "default" => PartKind::Default,
                _ => PartKind::Setting,
            },
            what: get(row, "what")?,
            value: get(row, "value")?,
        })
    };
    rows.iter().map(part).collect()
}

async fn dependent(client: &Client, found: &Row, columns: &[&str]) -> Result<Dependent> {
    let oid: u32 = get(found, "oid")?;
    let mut dependent = Dependent {
        kind: kind_of(found)?,
        oid,
        what: get(found, "what")?,
        depth: get(found, "depth")?,
        relation: None,
        column: get(found, "generated")?,
        drop: String::new(),
        create: Vec::new(),
        obstacles: Vec::new(),
        reads: Vec::new(),
        stored: None,
    };
    let sql = match dependent.kind {
        DependentKind::View => VIEW,
        DependentKind::ViewRule => RULE,
        DependentKind::Trigger => TRIGGER,
        DependentKind::Policy => POLICY,
        DependentKind::Publication => PUBLICATION,
        DependentKind::Function => FUNCTION,
        DependentKind::MaterializedView => MATERIALIZED_VIEW,
        DependentKind::Generated if get(found, "added_again")? => STORED,
        DependentKind::Generated => GENERATED,
        DependentKind::Other => return Ok(dependent),
    };
    let mut of: Vec<Param<'_>> = vec![(&oid, Type::OID)];
    if sql == STORED {
        of.push((&columns, Type::TEXT_ARRAY));
    }
    let rows = query(client, sql, &of).await?;
    let Some(row) = rows.first() else {
        dependent.kind = DependentKind::Other;
        return Ok(dependent);
    };
    let schema: Option<String> = get(row, "schema")?;
    dependent.relation = match schema {
        Some(schema) => Some(QName::new(schema, get::<String>(row, "name")?)),
        None => None,
    };
    if dependent.kind == DependentKind::MaterializedView {
        let mut definitions = super::details::definitions(client, oid).await?;
        definitions.retain(|d| d.kind != DefinitionKind::Constraint);
        dependent.stored = Some(Stored {
            definitions,
            statistics: statistics(client, oid).await?,
            bytes: get(row, "bytes")?,
        });
    }
    dependent.drop = get(row, "drop")?;
    dependent.create = get(row, "create")?;
    let owned: bool = get(row, "owned")?;
    let creates: bool = get(row, "creates")?;
    let fixed = dependent.kind == DependentKind::Generated && get(row, "fixed")?;
    for (there, obstacle) in [
        (!owned, Obstacle::Owner),
        (!creates, Obstacle::Schema),
        (fixed, Obstacle::Fixed),
        (get(found, "extension")?, Obstacle::Extension),
        (get(found, "labelled")?, Obstacle::Label),
        (get(row, "temporary")?, Obstacle::Temporary),
        (get(row, "passed_on")?, Obstacle::PassedOn),
        (get(found, "circle")?, Obstacle::Circle),
    ] {
        if there {
            dependent.obstacles.push(obstacle);
        }
    }
    Ok(dependent)
}

/// What makes objects again as temporary ones, in their order, over temporary tables that have
/// the names of the real ones; each with the place of its object. Those that it cannot be said of are left
/// out. `path` is the search path that it is to be run with.
///
/// # Errors
/// What the server or the connection gave.
pub async fn rehearsals(
    client: &Client,
    tables: &[&Table],
    dependents: &[Dependent],
    path: &str,
) -> Result<Vec<(usize, String)>> {
    let before = search_path(client, path).await?;
    let mut all = Vec::new();
    for (place, dependent) in dependents.iter().enumerate() {
        let Some((_, sql)) = REHEARSALS.iter().find(|(kind, _)| *kind == dependent.kind) else {
            continue;
        };
        // Of a trigger or a policy, the table that has it.
        let own = tables
            .iter()
            .find(|t| Some(&t.name) == dependent.relation.as_ref());
        let table = own.or(tables.first()).map_or(0, |t| t.oid);
        let of: [Param<'_>; 2] = [(&dependent.oid, Type::OID), (&table, Type::OID)];
        for row in &query(client, sql, &of).await? {
            let text: Option<String> = row.try_get(0).map_err(|e| failed("a definition", e))?;
            all.extend(text.map(|text| (place, text)));
        }
    }
    search_path(client, &before).await?;
    Ok(all)
}

/// Columns in which whole rows of a table are stored, of other tables and of materialized views.
const ROWS_STORED: &str = "
SELECT pg_describe_object('pg_class'::regclass, a.attrelid, a.attnum) AS what
FROM pg_type t
JOIN pg_attribute a ON a.atttypid IN (t.oid, t.typarray) AND NOT a.attisdropped
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm')
WHERE t.typrelid = $1
ORDER BY 1";

/// Where whole rows of a table are stored, for people.
///
/// # Errors
/// What the server or the connection gave.
pub async fn rows_stored(client: &Client, table: u32) -> Result<Vec<String>> {
    let rows = query(client, ROWS_STORED, &[(&table, Type::OID)]).await?;
    rows.iter().map(|row| get(row, "what")).collect()
}

/// Extended statistics of a table, in the order of their making.
///
/// # Errors
/// What the server or the connection gave.
pub async fn statistics(client: &Client, table: u32) -> Result<Vec<StatisticsDetails>> {
    query(client, STATISTICS, &[(&table, Type::OID)])
        .await?
        .iter()
        .map(|row| {
            Ok(StatisticsDetails {
                name: QName::new(get::<String>(row, "schema")?, get::<String>(row, "name")?),
                owner: get(row, "owner")?,
                target: get(row, "target")?,
            })
        })
        .collect()
}
