//! `[lint]` of the configuration.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::FailOn;
use crate::lint::{Level, Runner, rules};

/// `[lint]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", try_from = "Raw")]
pub(in crate::cli) struct LintConfig {
    pub(super) fail_on: Option<FailOn>,
    pub(super) pg_version: Option<u32>,
    pub(super) runner: Option<Runner>,
    pub(super) small_table_rows: Option<i64>,
    pub(super) levels: BTreeMap<&'static str, Level>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    fail_on: Option<FailOn>,
    pg_version: Option<u32>,
    runner: Option<String>,
    small_table_rows: Option<i64>,
    #[serde(default)]
    disable: Vec<String>,
    #[serde(default)]
    severity: BTreeMap<String, String>,
}

impl TryFrom<Raw> for LintConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let mut levels = BTreeMap::new();
        for name in &raw.disable {
            levels.insert(rule(name)?, Level::Off);
        }
        for (name, level) in &raw.severity {
            levels.insert(rule(name)?, level.parse()?);
        }
        if let Some(version) = raw.pg_version
            && !(14..=18).contains(&version)
        {
            return Err(format!("pg-version {version} is not one of 14 to 18"));
        }
        Ok(Self {
            fail_on: raw.fail_on,
            pg_version: raw.pg_version,
            runner: raw.runner.as_deref().map(super::runner).transpose()?,
            small_table_rows: raw.small_table_rows.map(|rows| rows.max(0)),
            levels,
        })
    }
}

fn rule(name: &str) -> Result<&'static str, String> {
    rules::named(name)
        .map(|r| r.slug)
        .ok_or_else(|| format!("there is no rule `{name}`; {}", rules::suggestion(name)))
}

/// `RULE=LEVEL` of the command line.
pub(super) fn setting(text: &str) -> Result<(&'static str, Level), String> {
    let (name, level) = text
        .split_once('=')
        .ok_or_else(|| "write RULE=LEVEL, such as drop-table=note".to_owned())?;
    Ok((rule(name)?, level.parse()?))
}
