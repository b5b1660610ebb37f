//! The tables that are backfilled.

/// One kind of table. All are called `orders`, and all get `total_cents`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) key: Key,
    /// Columns of secondary indexes.
    pub(crate) indexes: &'static [&'static str],
    pub(crate) form: Form,
    pub(crate) server: ServerKind,
    /// Its rows are fewer by this factor.
    pub(crate) fewer: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Bigint,
    Uuid,
}

impl Key {
    pub(crate) fn sql_type(self) -> &'static str {
        match self {
            Self::Bigint => "bigint",
            Self::Uuid => "uuid",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Narrow,
    /// With a value of 4 kB out of line.
    Toast,
    /// In eight parts by hash.
    Partitioned,
}

/// How its server is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Usual,
    /// `shared_buffers` of a fourth of the table.
    SmallBuffers,
    /// `max_wal_size` so small that checkpoints follow each other.
    SmallWal,
}

const fn narrow(name: &'static str, about: &'static str) -> Table {
    Table {
        name,
        about,
        key: Key::Bigint,
        indexes: &[],
        form: Form::Narrow,
        server: ServerKind::Usual,
        fewer: 1,
    }
}

/// Every kind, in the order in which they are run.
pub(crate) const TABLES: [Table; 8] = [
    narrow("int0", "A bigint key and no other index."),
    Table {
        indexes: &["customer", "placed"],
        ..narrow(
            "int2",
            "A bigint key and two secondary indexes: one in no order (customer), one in that of the \
             heap (placed).",
        )
    },
    Table {
        indexes: &["customer", "placed", "note", "total", "customer, placed"],
        fewer: 2,
        ..narrow(
            "int5",
            "A bigint key and five secondary indexes; half of the rows.",
        )
    },
    Table {
        key: Key::Uuid,
        ..narrow(
            "uuid",
            "A random uuid as key: the heap is not in the key's order.",
        )
    },
    Table {
        form: Form::Toast,
        fewer: 8,
        ..narrow(
            "toast",
            "With a value of 4 kB out of line in each row, which the backfill does not read; an \
             eighth of the rows.",
        )
    },
    Table {
        form: Form::Partitioned,
        fewer: 2,
        ..narrow(
            "parts",
            "Partitioned by hash of the key, in eight parts; half of the rows.",
        )
    },
    Table {
        server: ServerKind::SmallBuffers,
        fewer: 2,
        ..narrow(
            "big",
            "As `int0`, four times as large as `shared_buffers`; half of the rows.",
        )
    },
    Table {
        server: ServerKind::SmallWal,
        fewer: 2,
        ..narrow(
            "smallwal",
            "As `int0`, with `max_wal_size = 64MB`: checkpoints follow each other; half of the rows.",
        )
    },
];

/// The table beside whose backfill an application works.
pub(crate) const APPLICATION: Table = Table {
    indexes: &["customer"],
    fewer: 2,
    ..narrow(
        "app",
        "A bigint key and one secondary index; half of the rows.",
    )
};

/// The new value.
pub(crate) const EXPRESSION: &str = "round(total * 100)::bigint";

/// Columns before the backfill.
pub(crate) fn columns(table: &Table) -> Vec<&'static str> {
    let mut all = vec!["id", "customer", "total", "note", "placed"];
    if table.form == Form::Toast {
        all.push("doc");
    }
    all
}

/// Statements that make it with this many rows, outside of a transaction.
pub(crate) fn load(table: &Table, rows: u64) -> Vec<String> {
    let partitioned = table.form == Form::Partitioned;
    let doc = table.form == Form::Toast;
    let mut all = vec![format!(
        "CREATE TABLE orders (id {} PRIMARY KEY, customer int NOT NULL, total numeric(12,2), \
         note text, placed timestamptz NOT NULL{}){}",
        table.key.sql_type(),
        if doc { ", doc text" } else { "" },
        if partitioned {
            " PARTITION BY HASH (id)"
        } else {
            ""
        },
    )];
    if doc {
        all.push("ALTER TABLE orders ALTER COLUMN doc SET STORAGE EXTERNAL".to_owned());
    }
    if partitioned {
        all.extend((0..8).map(|n| {
            format!(
                "CREATE TABLE orders_{n} PARTITION OF orders FOR VALUES WITH (MODULUS 8, \
                 REMAINDER {n})"
            )
        }));
    }
    let id = match table.key {
        Key::Bigint => "n",
        Key::Uuid => "md5(n::text)::uuid",
    };
    let value = if doc {
        ", repeat(md5(n::text), 128)"
    } else {
        ""
    };
    all.push(format!(
        "INSERT INTO orders SELECT {id}, 1 + (hashint8(n) & 2147483647) % 100000, \
         (n % 100000) / 7.0, 'order ' || n, \
         timestamptz '2026-01-01' + (n % 3000000) * interval '1 second'{value} \
         FROM generate_series(1::bigint, {rows}) AS n"
    ));
    all.extend(
        table
            .indexes
            .iter()
            .map(|columns| format!("CREATE INDEX ON orders ({columns})")),
    );
    all.push("VACUUM (FREEZE, ANALYZE) orders".to_owned());
    all
}

/// Settings of the server for a table of so many rows, all of those that any kind changes.
pub(crate) fn settings(kind: ServerKind, rows: u64) -> Vec<(&'static str, String)> {
    let usual = |name: &'static str, value: &str| (name, value.to_owned());
    let buffers = match kind {
        // About 80 bytes a row; shared_buffers has a floor of 128 kB.
        ServerKind::SmallBuffers => format!("{}kB", (rows * 80 / 4 / 1024).max(1024)),
        _ => "512MB".to_owned(),
    };
    let (most, least) = match kind {
        ServerKind::SmallWal => ("64MB", "32MB"),
        _ => ("6GB", "3GB"),
    };
    vec![
        ("shared_buffers", buffers),
        usual("max_wal_size", most),
        usual("min_wal_size", least),
    ]
}

#[cfg(test)]
#[allow(dead_code, unused_imports, reason = "run by tests/benches.rs")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = TABLES.iter().map(|t| t.name).collect();
        assert_eq!(names.len(), TABLES.len());
        assert!(!names.contains(APPLICATION.name));
    }

    #[test]
    fn every_kind_sets_the_same_settings() {
        let names = |kind| -> Vec<&str> {
            settings(kind, 1_000_000)
                .iter()
                .map(|(name, _)| *name)
                .collect()
        };
        assert_eq!(names(ServerKind::Usual), names(ServerKind::SmallWal));
        assert_eq!(names(ServerKind::Usual), names(ServerKind::SmallBuffers));
        let small = settings(ServerKind::SmallBuffers, 1_000_000);
        assert_eq!(small[0].1, "19531kB");
    }
}
