//! A catalog for tests, built by hand.

use std::collections::BTreeMap;

use crate::catalog::{
    Catalog, Column, Constraint, ConstraintKind, Index, Leaf, QName, RelKind, Table, Trigger,
};

/// A nullable column without default.
pub(crate) fn column(name: &str, type_name: &str) -> Column {
    Column {
        name: name.into(),
        type_name: type_name.into(),
        not_null: false,
        default: None,
        generated: false,
        is_virtual: false,
        identity: None,
        has_equality: true,
        comment: None,
        settings: crate::catalog::ColumnSettings::default(),
    }
}

/// A column that is NOT NULL.
pub(crate) fn not_null(name: &str, type_name: &str) -> Column {
    Column {
        not_null: true,
        ..column(name, type_name)
    }
}

/// A valid btree index.
pub(crate) fn index(table: &str, name: &str, columns: &[&str], unique: bool) -> Index {
    Index {
        name: name.into(),
        definition: format!(
            "CREATE {}INDEX {name} ON public.{table} USING btree ({})",
            if unique { "UNIQUE " } else { "" },
            columns.join(", ")
        ),
        unique,
        primary: false,
        valid: true,
        columns: columns.iter().map(|&c| c.to_owned()).collect(),
        constraint: false,
        bytes: 8192,
    }
}

/// A validated constraint.
pub(crate) fn constraint(
    name: &str,
    kind: ConstraintKind,
    columns: &[&str],
    definition: &str,
) -> Constraint {
    Constraint {
        name: name.into(),
        kind,
        definition: definition.into(),
        validated: true,
        columns: columns.iter().map(|&c| c.to_owned()).collect(),
        references: None,
    }
}

/// A table of a million rows in `public` with a primary key on its first column.
pub(crate) fn table(name: &str, columns: Vec<Column>) -> Table {
    let qname = QName::new("public", name);
    let pkey = format!("{name}_pkey");
    let id = columns[0].name.clone();
    Table {
        oid: 16_384,
        name: qname.clone(),
        kind: RelKind::Table,
        owner: "app".into(),
        owned: true,
        rows: 1_000_000,
        bytes: 100_000_000,
        row_security: false,
        inherited: false,
        partition_of: None,
        partitioning: crate::catalog::Partitioning::default(),
        settings: crate::catalog::TableSettings::default(),
        comment: None,
        columns,
        indexes: vec![Index {
            primary: true,
            constraint: true,
            ..index(name, &pkey, &[&id], true)
        }],
        constraints: vec![constraint(
            &pkey,
            ConstraintKind::PrimaryKey,
            &[&id],
            &format!("PRIMARY KEY ({id})"),
        )],
        referenced_by: Vec::new(),
        triggers: Vec::new(),
        leaves: vec![Leaf {
            oid: 16_384,
            name: qname,
            kind: RelKind::Table,
            access_method: "heap".into(),
            blocks: 12_000,
            rows: 1_000_000,
        }],
        dependents: BTreeMap::new(),
        grants: Vec::new(),
        mentions: Vec::new(),
    }
}

/// `public.orders` with one of everything, `public.users` that it references, the partitioned
/// `public.events` with a leaf, and `public.empty`.
pub(crate) fn catalog(major: u32) -> Catalog {
    let mut orders = table(
        "orders",
        vec![
            not_null("id", "bigint"),
            not_null("user_id", "bigint"),
            column("total", "numeric(10,2)"),
            column("email", "character varying(100)"),
            Column {
                default: Some("'none'::character varying".into()),
                comment: Some("it's a note".into()),
                ..column("note", "character varying(10)")
            },
        ],
    );
    orders.comment = Some("What was sold".into());
    orders
        .indexes
        .push(index("orders", "orders_email_idx", &["email"], true));
    orders
        .indexes
        .push(index("orders", "orders_total_idx", &["total"], true));
    orders.indexes.push(Index {
        constraint: true,
        ..index("orders", "orders_note_key", &["note"], true)
    });
    orders.constraints.push(constraint(
        "orders_note_key",
        ConstraintKind::Unique,
        &["note"],
        "UNIQUE (note) DEFERRABLE INITIALLY DEFERRED",
    ));
    orders.constraints.push(constraint(
        "orders_email_check",
        ConstraintKind::Check,
        &["email"],
        "CHECK ((email IS NOT NULL))",
    ));
    orders.constraints.push(Constraint {
        validated: false,
        ..constraint(
            "orders_total_check",
            ConstraintKind::Check,
            &["total"],
            "CHECK ((total >= (0)::numeric)) NOT VALID",
        )
    });
    orders.constraints.push(Constraint {
        references: Some(QName::new("public", "users")),
        ..constraint(
            "orders_user_id_fkey",
            ConstraintKind::ForeignKey,
            &["user_id"],
            "FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
        )
    });
    orders.triggers.push(Trigger {
        name: "audit".into(),
        definition: "CREATE TRIGGER audit AFTER UPDATE ON public.orders FOR EACH ROW EXECUTE \
                     FUNCTION audit('a')"
            .into(),
        before: false,
        row: true,
        on_insert: false,
        on_update: true,
        on_delete: false,
        enabled: true,
    });

    let mut users = table(
        "users",
        vec![not_null("id", "bigint"), column("name", "text")],
    );
    users.referenced_by = vec![(QName::new("public", "orders"), "orders_user_id_fkey".into())];

    let mut events = table(
        "events",
        vec![not_null("id", "bigint"), column("at", "date")],
    );
    events.kind = RelKind::Partitioned;
    events.leaves[0].name = QName::new("public", "events_1");
    events
        .indexes
        .push(index("events", "events_at_idx", &["at"], false));
    let mut events_1 = table(
        "events_1",
        vec![not_null("id", "bigint"), column("at", "date")],
    );
    events_1.partition_of = Some(QName::new("public", "events"));

    let mut empty = table("empty", vec![not_null("id", "bigint")]);
    empty.rows = 0;

    let tables = [orders, users, events, events_1, empty];
    Catalog {
        version: major * 10_000 + 4,
        database: "shop".into(),
        role: "app".into(),
        search_path: vec!["app".into(), "public".into()],
        tables: tables.into_iter().map(|t| (t.name.clone(), t)).collect(),
        relations: [
            (QName::new("public", "report"), RelKind::View),
            (QName::new("public", "daily"), RelKind::MaterializedView),
            (QName::new("public", "orders_id_seq"), RelKind::Sequence),
        ]
        .into(),
        constrained_domains: [QName::new("public", "positive")].into(),
        views: BTreeMap::new(),
        functions: BTreeMap::new(),
        domains: Vec::new(),
        links: None,
        objects: Vec::new(),
        default_rights: Vec::new(),
        utc: false,
        places: crate::catalog::Places::default(),
    }
}
