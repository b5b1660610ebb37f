//! What is known of the database before a statement, followed statement by statement.

use std::collections::{BTreeMap, BTreeSet};

use super::script::Unit;
use super::{body, read};
use crate::catalog::{
    Catalog, Column, Constraint, ConstraintKind, Index, Leaf, QName, RelKind, Table,
};
use crate::plan::forms::{constraint_name, created};
use crate::plan::work::constrained_domain;
use crate::sql::RelName;
use crate::sql::ddl::{
    Action, AlterOp, AlterOpKind, ColumnDef, ConstraintDef, NameChange, table_elements,
};
use crate::sql::lex::{TokenKind, ident_value, lex_code};

/// Rows of a table whose number is not known.
const UNKNOWN: i64 = -1;

/// The database as far as it is known: from a server or a snapshot, from the files before, and
/// from the statements before in the same file.
#[derive(Debug, Clone)]
pub struct World {
    catalog: Catalog,
    /// The catalog was loaded: sizes are known, and what it does not have does not exist.
    loaded: Option<Box<Catalog>>,
    /// Tables made in this file.
    fresh: BTreeSet<QName>,
    /// Other objects made in this file: functions, views, types, indexes, by name.
    objects: BTreeSet<String>,
    /// Types made in this file.
    types: BTreeSet<String>,
    /// Columns made in this file.
    columns: BTreeSet<(QName, String)>,
    /// Indexes dropped in this file.
    dropped: BTreeSet<String>,
    /// Functions that some file made, and whether they are volatile.
    functions: BTreeMap<String, bool>,
    /// Tables of which nothing but the name is known, with what the files say of them.
    partial: BTreeSet<QName>,
    /// A lock timeout is set.
    pub(super) lock_timeout: bool,
    /// The session's time zone is UTC by the file.
    pub(super) utc: bool,
}

impl World {
    /// A world of which nothing is known.
    pub fn unknown(major: u32) -> Self {
        Self::of(
            Catalog {
                version: major * 10_000,
                database: String::new(),
                role: String::new(),
                search_path: vec!["public".to_owned()],
                tables: BTreeMap::new(),
                relations: BTreeMap::new(),
                constrained_domains: BTreeSet::new(),
            },
            None,
        )
    }

    /// The world of a catalog that was loaded.
    pub fn known(mut catalog: Catalog, major: Option<u32>) -> Self {
        if let Some(major) = major {
            catalog.version = major * 10_000;
        }
        let loaded = Some(Box::new(catalog.clone()));
        Self::of(catalog, loaded)
    }

    fn of(catalog: Catalog, loaded: Option<Box<Catalog>>) -> Self {
        Self {
            catalog,
            loaded,
            fresh: BTreeSet::new(),
            objects: BTreeSet::new(),
            types: BTreeSet::new(),
            columns: BTreeSet::new(),
            dropped: BTreeSet::new(),
            functions: BTreeMap::new(),
            partial: BTreeSet::new(),
            lock_timeout: false,
            utc: false,
        }
    }

    /// What is known, as a catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Major version of the server.
    pub fn major(&self) -> u32 {
        self.catalog.major()
    }

    /// Begins another file: what the last one made is in use now, its settings are gone. Where
    /// the catalog was loaded, it is what counts; of the files only the tables that it does not
    /// have are kept.
    pub fn next_file(&mut self) {
        if let Some(loaded) = &self.loaded {
            let mut catalog = (**loaded).clone();
            for (name, table) in std::mem::take(&mut self.catalog.tables) {
                catalog.tables.entry(name).or_insert(table);
            }
            self.catalog = catalog;
        } else {
            self.catalog.search_path = vec!["public".to_owned()];
        }
        // How many rows are in it by the time of the next file is not known.
        for name in std::mem::take(&mut self.fresh) {
            let there = self
                .loaded
                .as_ref()
                .is_some_and(|l| l.tables.contains_key(&name));
            if let Some(table) = self.catalog.tables.get_mut(&name).filter(|_| !there) {
                table.rows = UNKNOWN;
                self.partial.insert(name);
            }
        }
        self.objects.clear();
        self.types.clear();
        self.columns.clear();
        self.dropped.clear();
        self.lock_timeout = false;
        self.utc = false;
    }

    /// The table, as far as anything is known of it.
    pub fn table(&self, name: &RelName) -> Option<&Table> {
        self.catalog.table(name.schema.as_deref(), &name.name)
    }

    /// True for a table that this file made: nobody uses it.
    pub fn is_fresh(&self, name: &RelName) -> bool {
        match self.table(name) {
            Some(table) => self.fresh.contains(&table.name),
            None => self.objects.contains(&name.name),
        }
    }

    /// True for an object other than a table that this file made.
    pub fn made(&self, name: &str) -> bool {
        self.objects.contains(name)
    }

    /// True for a type that this file made.
    pub fn made_type(&self, name: &str) -> bool {
        self.types.contains(name)
    }

    /// True for a column that this file added.
    pub(super) fn is_fresh_column(&self, table: &RelName, column: &str) -> bool {
        let key = (self.qname(table), column.to_owned());
        self.columns.contains(&key)
    }

    /// Whether a function is volatile, where a file made it.
    pub(super) fn is_volatile(&self, function: &str) -> Option<bool> {
        self.functions.get(function).copied()
    }

    /// True for an index that this file dropped.
    pub(super) fn dropped(&self, index: &str) -> bool {
        self.dropped.contains(index)
    }

    /// Rows and bytes, where the catalog tells.
    pub fn size(&self, name: &RelName) -> Option<(i64, i64)> {
        let table = self.table(name)?;
        (table.rows != UNKNOWN && self.loaded.is_some() && !self.fresh.contains(&table.name))
            .then_some((table.rows, table.bytes))
    }

    /// The index of this name was made in this file, or is on a table that was.
    pub fn is_fresh_index(&self, name: &RelName) -> bool {
        self.objects.contains(&name.name)
            || self
                .catalog
                .index(name.schema.as_deref(), &name.name)
                .is_some_and(|(table, _)| self.fresh.contains(&table.name))
    }

    fn qname(&self, name: &RelName) -> QName {
        if let Some(table) = self.table(name) {
            return table.name.clone();
        }
        let created = created(&self.catalog, name);
        QName::new(
            created.schema.unwrap_or_else(|| "public".to_owned()),
            created.name,
        )
    }

    /// Makes the tables that the statement is about known by name, if they are not.
    pub(super) fn meet(&mut self, action: &Action) {
        for name in tables_of(action) {
            if self.table(name).is_none()
                && !self.objects.contains(&name.name)
                && name.name != body::DYNAMIC
            {
                let qname = self.qname(name);
                self.partial.insert(qname.clone());
                self.catalog
                    .tables
                    .insert(qname.clone(), blank(qname, UNKNOWN));
            }
        }
    }

    /// Takes in what a statement changes.
    pub(super) fn follow(&mut self, unit: &Unit) {
        let sql = unit.sql.as_str();
        match &unit.action {
            Action::CreateTable {
                name,
                if_not_exists,
                ..
            } if !*if_not_exists || self.table(name).is_none() => {
                self.create_table(name, &unit.action, sql);
            }
            Action::DropTable { names, .. } => {
                for name in names {
                    let qname = self.qname(name);
                    self.catalog.tables.remove(&qname);
                    self.fresh.remove(&qname);
                    self.partial.remove(&qname);
                }
            }
            Action::AlterTable { name, ops, .. } => self.alter_table(name, ops, sql),
            Action::CreateIndex { .. } => self.create_index(&unit.action, sql),
            Action::DropIndex { names, .. } => {
                for name in names {
                    self.objects.remove(&name.name);
                    self.dropped.insert(name.name.clone());
                    for table in self.catalog.tables.values_mut() {
                        table.indexes.retain(|i| i.name != name.name);
                    }
                }
            }
            Action::CreateView { name, .. } | Action::CreateSequence { name, .. } => {
                self.objects.insert(name.name.clone());
            }
            Action::CreateFunction { name, .. } => {
                self.objects.insert(name.name.clone());
                let volatile = !read::has(sql, "immutable") && !read::has(sql, "stable");
                self.functions.insert(name.name.clone(), volatile);
            }
            Action::CreateTrigger { name, .. } => {
                self.objects.insert(name.clone());
            }
            Action::CreateType { name } => {
                self.objects.insert(name.name.clone());
                self.types.insert(name.name.clone());
            }
            Action::CreateDomain { name } => {
                self.objects.insert(name.name.clone());
                self.types.insert(name.name.clone());
                if read::has(sql, "check") || read::has(sql, "not null") {
                    let qname = self.qname(name);
                    self.catalog.constrained_domains.insert(qname);
                }
            }
            Action::AlterDomain { name, scans, .. } if *scans => {
                let qname = self.qname(name);
                self.catalog.constrained_domains.insert(qname);
            }
            Action::AlterType {
                name,
                change: NameChange::Rename { to },
                ..
            } => {
                if self.types.remove(&name.name) {
                    self.types.insert(to.clone());
                }
                let old = name.to_string();
                let columns = self
                    .catalog
                    .tables
                    .values_mut()
                    .flat_map(|t| &mut t.columns);
                for column in columns.filter(|c| c.type_name == old || c.type_name == name.name) {
                    column.type_name.clone_from(to);
                }
            }
            Action::Set | Action::Select { .. } => self.setting(sql),
            _ => {}
        }
    }

    fn setting(&mut self, sql: &str) {
        let Some(setting) = read::setting(sql) else {
            return;
        };
        match setting.name.as_str() {
            "lock_timeout" => {
                let off = |v: &String| {
                    v.trim_start_matches('0')
                        .trim_matches(char::is_alphabetic)
                        .trim()
                        .is_empty()
                };
                self.lock_timeout = setting.values.first().is_some_and(|v| !off(v));
            }
            "timezone" => {
                self.utc = setting.values.first().is_some_and(|v| {
                    matches!(
                        v.to_ascii_lowercase().as_str(),
                        "utc" | "gmt" | "0" | "etc/utc" | "zulu"
                    )
                });
            }
            "search_path" => {
                let path: Vec<String> = setting
                    .values
                    .into_iter()
                    .filter(|v| v != "$user" && v != "pg_catalog")
                    .collect();
                if !path.is_empty() {
                    self.catalog.search_path = path;
                }
            }
            _ => {}
        }
    }

    fn create_table(&mut self, name: &RelName, action: &Action, sql: &str) {
        let qname = {
            let created = created(&self.catalog, name);
            QName::new(
                created.schema.unwrap_or_else(|| "public".to_owned()),
                created.name,
            )
        };
        let mut table = blank(qname.clone(), 0);
        if let Action::CreateTable {
            partition_of,
            inherits,
            like,
            ..
        } = action
        {
            table.partition_of = partition_of.as_ref().map(|p| self.qname(p));
            for other in partition_of.iter().chain(inherits).chain(like) {
                if let Some(other) = self.table(other) {
                    table.columns.extend(other.columns.iter().cloned());
                }
            }
        }
        let elements = table_elements(sql);
        if elements.partitioned {
            table.kind = RelKind::Partitioned;
            table.leaves.clear();
        }
        for column in &elements.columns {
            add_column(&mut table, column, &self.catalog);
        }
        for constraint in &elements.constraints {
            add_constraint(&mut table, constraint, sql, &self.catalog);
        }
        self.partial.remove(&qname);
        self.catalog.tables.insert(qname.clone(), table);
        self.fresh.insert(qname);
    }

    fn create_index(&mut self, action: &Action, sql: &str) {
        let Action::CreateIndex {
            name,
            table,
            unique,
            ..
        } = action
        else {
            return;
        };
        if let Some(name) = name {
            self.objects.insert(name.name.clone());
        }
        let qname = self.qname(table);
        let Some(table) = self.catalog.tables.get_mut(&qname) else {
            return;
        };
        let columns = key_columns(sql);
        let name = match name {
            Some(name) => name.name.clone(),
            None => constraint_name(table, &columns, "idx"),
        };
        table.indexes.retain(|i| i.name != name);
        table.indexes.push(index(name, sql, columns, *unique));
    }

    fn alter_table(&mut self, name: &RelName, ops: &[AlterOp], sql: &str) {
        let qname = self.qname(name);
        let Some(mut table) = self.catalog.tables.remove(&qname) else {
            return;
        };
        let mut moved: Option<QName> = None;
        for op in ops {
            match &op.kind {
                AlterOpKind::RenameTable { to } => {
                    moved = Some(QName::new(qname.schema.as_str(), to.as_str()));
                }
                AlterOpKind::SetSchema { to } => {
                    moved = Some(QName::new(to.as_str(), qname.name.as_str()));
                }
                AlterOpKind::AttachPartition { partition, .. } => {
                    let partition = self.qname(partition);
                    if let Some(p) = self.catalog.tables.get_mut(&partition) {
                        p.partition_of = Some(qname.clone());
                    }
                    table.kind = RelKind::Partitioned;
                }
                AlterOpKind::DetachPartition { partition, .. } => {
                    let partition = self.qname(partition);
                    if let Some(p) = self.catalog.tables.get_mut(&partition) {
                        p.partition_of = None;
                    }
                }
                kind => {
                    match kind {
                        AlterOpKind::AddColumn(def) => {
                            self.columns.insert((qname.clone(), def.name.clone()));
                        }
                        AlterOpKind::RenameColumn { to, .. } => {
                            self.columns.insert((qname.clone(), to.clone()));
                        }
                        _ => {}
                    }
                    alter(&mut table, kind, sql, &self.catalog);
                }
            }
        }
        let to = moved.unwrap_or_else(|| qname.clone());
        if to != qname {
            for set in [&mut self.fresh, &mut self.partial] {
                if set.remove(&qname) {
                    set.insert(to.clone());
                }
            }
            table.name = to.clone();
            for other in self.catalog.tables.values_mut() {
                for constraint in &mut other.constraints {
                    if constraint.references.as_ref() == Some(&qname) {
                        constraint.references = Some(to.clone());
                    }
                }
            }
        }
        self.catalog.tables.insert(to, table);
    }
}

/// The tables that a statement names as tables.
pub(super) fn tables_of(action: &Action) -> Vec<&RelName> {
    match action {
        Action::AlterTable { name, ops, .. } => {
            let mut all = vec![name];
            for op in ops {
                match &op.kind {
                    AlterOpKind::AddColumn(def) => {
                        all.extend(def.constraints.iter().filter_map(|c| c.references.as_ref()));
                    }
                    AlterOpKind::AddConstraint(def) => all.extend(&def.references),
                    AlterOpKind::AttachPartition { partition, .. }
                    | AlterOpKind::DetachPartition { partition, .. } => all.push(partition),
                    _ => {}
                }
            }
            all
        }
        Action::CreateTable {
            partition_of,
            references,
            inherits,
            ..
        } => partition_of
            .iter()
            .chain(references)
            .chain(inherits)
            .collect(),
        Action::DropTable { names, .. } => names.iter().collect(),
        Action::Truncate { tables, .. }
        | Action::LockTable { tables, .. }
        | Action::Vacuum { tables, .. } => tables.iter().collect(),
        Action::CreateIndex { table, .. }
        | Action::CreateTrigger { table, .. }
        | Action::DropOnTable { table, .. }
        | Action::AlterOnTable { table, .. }
        | Action::CreatePolicy { table, .. }
        | Action::CreateRule { table, .. }
        | Action::Insert { table }
        | Action::Update { table }
        | Action::Delete { table }
        | Action::Merge { table }
        | Action::Copy {
            table: Some(table), ..
        }
        | Action::Cluster { table: Some(table) } => vec![table],
        _ => Vec::new(),
    }
}

/// A table of which only the name is known.
fn blank(name: QName, rows: i64) -> Table {
    Table {
        oid: 0,
        kind: RelKind::Table,
        owner: String::new(),
        owned: true,
        rows,
        bytes: 0,
        row_security: false,
        inherited: false,
        partition_of: None,
        comment: None,
        columns: Vec::new(),
        indexes: Vec::new(),
        constraints: Vec::new(),
        referenced_by: Vec::new(),
        triggers: Vec::new(),
        leaves: vec![Leaf {
            oid: 0,
            name: name.clone(),
            kind: RelKind::Table,
            access_method: "heap".to_owned(),
            blocks: 0,
            rows,
        }],
        dependents: BTreeMap::new(),
        name,
    }
}

/// The key of CREATE INDEX: columns by name, an expression as an empty text.
fn key_columns(sql: &str) -> Vec<String> {
    let tokens = lex_code(sql);
    let open = tokens
        .iter()
        .position(|t| t.kind == TokenKind::LParen)
        .unwrap_or(tokens.len());
    let mut columns = Vec::new();
    let mut depth = 0_usize;
    let mut starts = true;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && token.kind == TokenKind::Comma {
            starts = true;
        } else if starts && i > open {
            starts = false;
            let calls = tokens
                .get(i + 1)
                .is_some_and(|t| t.kind == TokenKind::LParen);
            let name = if calls {
                None
            } else {
                ident_value(*token, sql)
            };
            columns.push(name.unwrap_or_default());
        }
    }
    columns
}

fn index(name: String, definition: &str, columns: Vec<String>, unique: bool) -> Index {
    Index {
        name,
        definition: definition.to_owned(),
        unique,
        primary: false,
        valid: true,
        columns,
        constraint: false,
        bytes: 0,
    }
}

fn add_column(table: &mut Table, def: &ColumnDef, catalog: &Catalog) {
    if table.column(&def.name).is_some() {
        return;
    }
    let serial = match def.type_text.to_ascii_lowercase().as_str() {
        "serial" | "serial4" => Some("integer"),
        "bigserial" | "serial8" => Some("bigint"),
        "smallserial" | "serial2" => Some("smallint"),
        _ => None,
    };
    let primary = def.has(ConstraintKind::PrimaryKey);
    table.columns.push(Column {
        name: def.name.clone(),
        type_name: serial.map_or_else(|| def.type_text.clone(), str::to_owned),
        not_null: def.not_null || primary || serial.is_some() || def.identity,
        default: def.default.clone(),
        generated: def.generated.is_some(),
        identity: def.identity.then(|| "ALWAYS".to_owned()),
        has_equality: true,
        comment: None,
    });
    let columns = vec![def.name.clone()];
    for inline in &def.constraints {
        let suffix = match inline.kind {
            ConstraintKind::PrimaryKey => "pkey",
            ConstraintKind::Unique => "key",
            ConstraintKind::ForeignKey => "fkey",
            _ => "check",
        };
        let of: &[String] = if primary && inline.kind == ConstraintKind::PrimaryKey {
            &[]
        } else {
            &columns
        };
        let name = inline
            .name
            .clone()
            .unwrap_or_else(|| constraint_name(table, of, suffix));
        push_constraint(
            table,
            Constraint {
                name,
                kind: inline.kind,
                definition: String::new(),
                validated: true,
                columns: columns.clone(),
                references: inline.references.as_ref().map(|r| resolve(catalog, r)),
            },
        );
    }
}

/// Adds a constraint, and the index of a key.
fn push_constraint(table: &mut Table, constraint: Constraint) {
    if matches!(
        constraint.kind,
        ConstraintKind::PrimaryKey | ConstraintKind::Unique
    ) && table.index(&constraint.name).is_none()
    {
        table.indexes.push(Index {
            primary: constraint.kind == ConstraintKind::PrimaryKey,
            constraint: true,
            ..index(
                constraint.name.clone(),
                "",
                constraint.columns.clone(),
                true,
            )
        });
    }
    table.constraints.push(constraint);
}

fn resolve(catalog: &Catalog, name: &RelName) -> QName {
    if let Some(table) = catalog.table(name.schema.as_deref(), &name.name) {
        return table.name.clone();
    }
    let created = created(catalog, name);
    QName::new(
        created.schema.unwrap_or_else(|| "public".to_owned()),
        created.name,
    )
}

fn add_constraint(table: &mut Table, def: &ConstraintDef, sql: &str, catalog: &Catalog) {
    let suffix = match def.kind {
        ConstraintKind::PrimaryKey => "pkey",
        ConstraintKind::Unique => "key",
        ConstraintKind::ForeignKey => "fkey",
        ConstraintKind::NotNull => "not_null",
        ConstraintKind::Exclusion => "excl",
        _ => "check",
    };
    let columns = match &def.using_index {
        Some(index) => table
            .index(index)
            .map_or_else(Vec::new, |i| i.columns.clone()),
        None => def.columns.clone(),
    };
    let named: &[String] = if def.kind == ConstraintKind::PrimaryKey {
        &[]
    } else {
        &columns
    };
    let name = def
        .name
        .clone()
        .unwrap_or_else(|| constraint_name(table, named, suffix));
    if def.kind == ConstraintKind::PrimaryKey
        || def.kind == ConstraintKind::NotNull && !def.not_valid
    {
        for column in &mut table.columns {
            if columns.contains(&column.name) {
                column.not_null = true;
            }
        }
    }
    let definition = sql
        .get(def.body.start..def.body.end)
        .unwrap_or_default()
        .to_owned();
    push_constraint(
        table,
        Constraint {
            name,
            kind: def.kind,
            // As the catalog has it: what says NOT VALID is not in what is compared.
            definition: definition
                .trim_end_matches(|c: char| c.is_whitespace())
                .trim_end_matches("NOT VALID")
                .trim_end_matches("not valid")
                .to_owned(),
            validated: !def.not_valid,
            columns,
            references: def.references.as_ref().map(|r| resolve(catalog, r)),
        },
    );
}

/// What a sub-command changes in its own table.
fn alter(table: &mut Table, op: &AlterOpKind, sql: &str, catalog: &Catalog) {
    match op {
        AlterOpKind::AddColumn(def) => add_column(table, def, catalog),
        AlterOpKind::DropColumn { name, .. } => {
            table.columns.retain(|c| c.name != *name);
            table.indexes.retain(|i| !i.columns.contains(name));
            table.constraints.retain(|c| !c.columns.contains(name));
        }
        AlterOpKind::SetNotNull { column } => set_column(table, column, |c| c.not_null = true),
        AlterOpKind::DropNotNull { column } => set_column(table, column, |c| c.not_null = false),
        AlterOpKind::SetDefault { column, expr } => {
            set_column(table, column, |c| c.default = Some(expr.clone()));
        }
        AlterOpKind::DropDefault { column } => set_column(table, column, |c| c.default = None),
        AlterOpKind::SetType {
            column, type_text, ..
        } => {
            // Of a column that was not known, from here on the type is.
            if table.column(column).is_none() {
                table.columns.push(Column {
                    name: column.clone(),
                    type_name: type_text.clone(),
                    not_null: false,
                    default: None,
                    generated: false,
                    identity: None,
                    has_equality: true,
                    comment: None,
                });
            }
            set_column(table, column, |c| c.type_name.clone_from(type_text));
        }
        AlterOpKind::AddConstraint(def) => add_constraint(table, def, sql, catalog),
        AlterOpKind::DropConstraint { name, .. } => {
            table.constraints.retain(|c| c.name != *name);
            table.indexes.retain(|i| !(i.constraint && i.name == *name));
        }
        AlterOpKind::ValidateConstraint { name } => {
            let mut not_null = None;
            for constraint in table.constraints.iter_mut().filter(|c| c.name == *name) {
                constraint.validated = true;
                if constraint.kind == ConstraintKind::NotNull {
                    not_null = constraint.columns.first().cloned();
                }
            }
            if let Some(column) = not_null {
                set_column(table, &column, |c| c.not_null = true);
            }
        }
        AlterOpKind::RenameColumn { from, to } => {
            set_column(table, from, |c| c.name.clone_from(to));
            let lists = table
                .indexes
                .iter_mut()
                .map(|i| &mut i.columns)
                .chain(table.constraints.iter_mut().map(|c| &mut c.columns));
            for name in lists.flatten().filter(|c| *c == from) {
                name.clone_from(to);
            }
        }
        AlterOpKind::RenameConstraint { from, to } => {
            for constraint in table.constraints.iter_mut().filter(|c| c.name == *from) {
                constraint.name.clone_from(to);
            }
            for index in table.indexes.iter_mut().filter(|i| i.name == *from) {
                index.name.clone_from(to);
            }
        }
        _ => {}
    }
}

fn set_column(table: &mut Table, name: &str, change: impl FnOnce(&mut Column)) {
    if let Some(column) = table.columns.iter_mut().find(|c| c.name == name) {
        change(column);
    }
}

/// True where the type is a domain with constraints, as far as is known.
pub(super) fn is_constrained(world: &World, type_text: &str) -> bool {
    constrained_domain(type_text, &world.catalog)
}
