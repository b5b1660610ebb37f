//! The catalog as a file, for commands that do not reach the database.
//!
//! `{"format": 1, "catalog": {…}}`: the keys are the fields of [`Catalog`]; tables are a list.

use serde::{Deserialize, Serialize};

use super::Catalog;

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File<C> {
    format: u32,
    catalog: C,
}

/// The text of a snapshot.
///
/// # Errors
/// None in practice: a catalog is plain data.
pub fn write(catalog: &Catalog) -> Result<String, String> {
    let file = File {
        format: FORMAT,
        catalog,
    };
    serde_json::to_string_pretty(&file).map_err(|e| e.to_string())
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// Text that is no snapshot, or one of another format; as a phrase for people.
pub fn read(text: &str) -> Result<Catalog, String> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let format: Format =
        serde_json::from_str(text).map_err(|e| format!("it is not a snapshot: {e}"))?;
    if format.format != FORMAT {
        return Err(format!(
            "it is of format {}, and this version reads {FORMAT}",
            format.format
        ));
    }
    let file: File<Catalog> =
        serde_json::from_str(text).map_err(|e| format!("it is not a snapshot: {e}"))?;
    Ok(file.catalog)
}

/// Tables as a list: each has its name in it.
pub(super) mod tables {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::catalog::{QName, Table};

    pub(in crate::catalog) fn serialize<S: Serializer>(
        tables: &BTreeMap<QName, Table>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(tables.values())
    }

    pub(in crate::catalog) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<QName, Table>, D::Error> {
        let all: Vec<Table> = Vec::deserialize(from)?;
        Ok(all.into_iter().map(|t| (t.name.clone(), t)).collect())
    }
}

/// Relations as a list of `{"name": …, "kind": …}`.
pub(super) mod relations {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::catalog::{QName, RelKind};

    #[derive(Serialize, Deserialize)]
    struct Relation {
        name: QName,
        kind: RelKind,
    }

    pub(in crate::catalog) fn serialize<S: Serializer>(
        relations: &BTreeMap<QName, RelKind>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(relations.iter().map(|(name, kind)| Relation {
            name: name.clone(),
            kind: *kind,
        }))
    }

    pub(in crate::catalog) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<QName, RelKind>, D::Error> {
        let all: Vec<Relation> = Vec::deserialize(from)?;
        Ok(all.into_iter().map(|r| (r.name, r.kind)).collect())
    }
}

/// What belongs to names, as a list of `{"name": …, "value": …}`.
pub(super) mod named {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::catalog::QName;

    #[derive(Serialize, Deserialize)]
    struct Named<T> {
        name: QName,
        value: T,
    }

    pub(in crate::catalog) fn serialize<T: Serialize, S: Serializer>(
        all: &BTreeMap<QName, T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(all.iter().map(|(name, value)| Named {
            name: name.clone(),
            value,
        }))
    }

    pub(in crate::catalog) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<QName, T>, D::Error> {
        let all: Vec<Named<T>> = Vec::deserialize(from)?;
        Ok(all.into_iter().map(|n| (n.name, n.value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Function, QName, View};
    use crate::plan::testing::catalog;

    #[test]
    fn what_is_written_is_read() {
        let mut catalog = catalog(15);
        let name = |name| QName::new("public", name);
        let recreate = vec!["CREATE VIEW v AS SELECT 1".to_owned()];
        catalog.views.insert(name("v"), View { recreate });
        let function = Function {
            arguments: "x integer".to_owned(),
            definition: "CREATE FUNCTION f(x integer) …".to_owned(),
        };
        catalog.functions.insert(name("f"), vec![function]);
        let text = write(&catalog).expect("plain data");
        assert_eq!(read(&text), Ok(catalog));
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        assert!(read("{}").is_err());
        assert!(read("[1]").is_err());
        let other = read("{\"format\": 9, \"catalog\": {}}").expect_err("of another format");
        assert!(other.contains('9'), "{other}");
    }
}
