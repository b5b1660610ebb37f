//! The way back of what makes and drops indexes.

use super::{Context, Inverse, InverseStep, give_revert, sql};
use crate::catalog::RelKind;
use crate::plan::forms::{concurrently, existing, table};
use crate::sql::RelName;
use crate::sql::ddl::Action;

impl Context<'_> {
    pub(super) fn create_index(self, action: &Action) -> Inverse {
        let Action::CreateIndex {
            name,
            table: on,
            if_not_exists,
            ..
        } = action
        else {
            return Inverse::Nothing;
        };
        let Some(name) = name else {
            return give_revert(
                "the server chooses the name of an index that has none; name the index",
            );
        };
        // An index is in the schema of its table; CREATE INDEX takes no schema.
        let on = existing(self.before, on);
        let schema = on
            .schema
            .clone()
            .or_else(|| self.before.search_path.first().cloned());
        let index = RelName {
            schema,
            name: name.name.clone(),
        };
        if *if_not_exists && self.is_there(&index) {
            return Inverse::Nothing;
        }
        let partitioned = table(self.before, &on).is_some_and(|t| t.kind == RelKind::Partitioned);
        if partitioned {
            // The index of a partitioned table has no CONCURRENTLY.
            sql(format!("DROP INDEX {}", index.sql()))
        } else {
            let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {}", index.sql());
            Inverse::Sql(vec![InverseStep {
                on: Some(on),
                ..InverseStep::concurrent(drop)
            }])
        }
    }

    pub(super) fn drop_index(self, name: &RelName, if_exists: bool) -> Inverse {
        let Some((table, index)) = self.before.index(name.schema.as_deref(), &name.name) else {
            return if if_exists && !self.is_there(name) {
                Inverse::Nothing
            } else {
                give_revert(format!("the definition of the index {name} is not known"))
            };
        };
        match concurrently(&index.definition) {
            Some(definition) if table.kind != RelKind::Partitioned => {
                Inverse::Sql(vec![InverseStep::concurrent(definition)])
            }
            _ => give_revert(format!(
                "the index {name} of a partitioned table cannot be built again CONCURRENTLY"
            )),
        }
    }
}
