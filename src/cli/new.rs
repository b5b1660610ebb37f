//! `pgshift new`

use clap::Args;
use serde_json::json;

use super::context::{App, now};
use super::exit::Exit;
use crate::error::{Error, Result};
use crate::migration::check_id;

/// Write a new migration file with today's date, which sorts after all that are there.
#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// What it does, such as `orders_total_cents`
    name: String,
}

const TEMPLATE: &str = "\
-- What this changes and why.

-- pgshift: expand
-- ALTER TABLE orders ADD COLUMN total_cents bigint;

-- pgshift: backfill
-- UPDATE orders SET total_cents = round(total * 100)::bigint;

-- pgshift: reverse
-- UPDATE orders SET total = total_cents / 100.0;

-- pgshift: contract
-- ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL;
-- ALTER TABLE orders DROP COLUMN total;
";

pub(super) fn run(app: &App, args: &NewArgs) -> Result<Exit> {
    let dir = app.migrations_dir();
    let present: Vec<String> = std::fs::read_dir(&dir)
        .map_err(|e| {
            Error::usage(format!(
                "the migrations folder {} cannot be read: {e}",
                dir.display()
            ))
            .hint("`pgshift init` makes it; --migrations names another one")
        })?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    let id = next_id(&now().format("%Y%m%d").to_string(), &args.name, &present);
    check_id(&id).map_err(|d| Error::usage(d.to_string()))?;
    let path = dir.join(format!("{id}.sql"));
    // Never over a file that is there.
    let mut file = std::fs::File::create_new(&path)
        .map_err(|e| Error::usage(format!("{}: {e}", path.display())))?;
    std::io::Write::write_all(&mut file, TEMPLATE.as_bytes())
        .map_err(|e| Error::usage(format!("{}: {e}", path.display())))?;
    let shown = path.display().to_string();
    app.print(&format!("{shown}\n"), &json!({ "id": id, "path": shown }))?;
    Ok(Exit::Success)
}

/// `20261123_name`, or with a number after the date where another file of the day sorts later.
fn next_id(date: &str, name: &str, present: &[String]) -> String {
    let plain = format!("{date}_{name}");
    let last = present.iter().filter(|p| p.starts_with(date)).max();
    if last.is_none_or(|last| *last < plain) {
        return plain;
    }
    // A letter sorts after every digit, so `z01` comes after `20261123_anything`.
    (1..=99)
        .map(|n| format!("{date}_z{n:02}_{name}"))
        .find(|id| last.is_none_or(|last| last < id))
        .unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_sorts_last() {
        let mut present: Vec<String> = vec!["20261122_zzz".into()];
        for name in ["users", "orders", "accounts", "orders"] {
            let id = next_id("20261123", name, &present);
            assert!(present.iter().all(|p| *p < id), "{id} {present:?}");
            present.push(id);
        }
    }
}
