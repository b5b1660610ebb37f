//! The way back of triggers, policies and rules.

use super::{Context, Inverse, InverseStep, give_revert, sql};
use crate::plan::forms::table;
use crate::sql::{RelName, quote};

impl Context<'_> {
    pub(super) fn drop_on_table(self, object: &str, name: &str, table: &RelName) -> Inverse {
        sql(format!(
            "DROP {object} {} ON {}",
            quote::ident(name),
            self.existing(table)
        ))
    }

    pub(super) fn create_trigger(self, name: &str, on: &RelName, or_replace: bool) -> Inverse {
        if or_replace {
            let Some(table) = table(self.before, on) else {
                return give_revert(format!(
                    "what the trigger {name} was before CREATE OR REPLACE is not known"
                ));
            };
            if let Some(trigger) = table.triggers.iter().find(|t| t.name == name) {
                // The definition has no OR REPLACE; two statements would leave a gap.
                return sql(trigger
                    .definition
                    .replacen("CREATE ", "CREATE OR REPLACE ", 1));
            }
        }
        self.drop_on_table("TRIGGER", name, on)
    }

    pub(super) fn dropped_on_table(
        self,
        object: &str,
        name: &str,
        on: &RelName,
        if_exists: bool,
    ) -> Inverse {
        let found = table(self.before, on);
        if object != "TRIGGER" || found.is_none() {
            return give_revert(format!(
                "the definition of the {} {name} is not kept",
                object.to_lowercase()
            ));
        }
        let trigger = found.and_then(|t| t.triggers.iter().find(|t| t.name == name));
        match trigger {
            Some(trigger) if trigger.enabled => sql(trigger.definition.as_str()),
            Some(trigger) => Inverse::Sql(vec![
                InverseStep::new(trigger.definition.as_str()),
                InverseStep::new(format!(
                    "ALTER TABLE {} DISABLE TRIGGER {}",
                    self.existing(on),
                    quote::ident(name)
                )),
            ]),
            None if if_exists => Inverse::Nothing,
            None => give_revert(format!("the trigger {name} is not known")),
        }
    }
}
