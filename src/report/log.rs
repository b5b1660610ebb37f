//! The append-only log for people and for programs.

use std::fmt::Write as _;

use chrono::SecondsFormat;

use crate::event::Event;
use crate::report::progress::describe;
use crate::report::text::{Style, line};

pub use crate::store::LogEntry as Entry;

/// What happened, in words; an event that this version does not know, as it was written.
pub fn what(entry: &Entry) -> String {
    serde_json::from_value::<Event>(entry.detail.clone())
        .ok()
        .and_then(|event| describe(&event))
        .unwrap_or_else(|| format!("{} {}", line(&entry.kind), line(&entry.detail.to_string())))
}

/// Entries for people, one a line: time, migration, who, what.
pub fn human(entries: &[Entry], style: Style) -> String {
    let mut text = String::new();
    for entry in entries {
        let at = entry.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let migration = entry.migration.as_deref().map(line).unwrap_or_default();
        let who = format!("[{}]", line(&entry.actor));
        let colon = if migration.is_empty() { "" } else { ": " };
        let _ = writeln!(
            text,
            "{} {}{colon}{} {}",
            style.dim(&at),
            style.bold(&migration),
            what(entry),
            style.dim(&who),
        );
    }
    text
}

/// Entries for programs: one object a line, so that a log can be followed.
pub fn json(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        // Plain data: it can always be written.
        if let Ok(row) = serde_json::to_string(entry) {
            text.push_str(&row);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use chrono::TimeZone;
    use serde_json::json;

    fn entries() -> Vec<Entry> {
        let entry = |seq, migration: Option<&str>, kind: &str, detail| Entry {
            seq,
            at: Utc
                .with_ymd_and_hms(2026, 11, 23, 10, 0, seq as u32)
                .single()
                .expect("a time"),
            migration: migration.map(str::to_owned),
            run: migration.map(|_| 1),
            actor: "deploy@ci pid 7".into(),
            kind: kind.into(),
            detail,
        };
        vec![
            entry(
                1,
                Some("1_orders"),
                "run_started",
                json!({"event": "run_started", "kind": "apply", "epoch": 1, "resumed": false}),
            ),
            entry(
                2,
                Some("1_orders"),
                "from_the_future",
                json!({"event": "from_the_future", "x": "\u{1b}[2J"}),
            ),
            entry(3, None, "schema_upgraded", json!({"to": 2})),
        ]
    }

    #[test]
    fn entries_in_words_and_unknown_ones_as_written() {
        insta::assert_snapshot!(human(&entries(), Style::default()), @r#"
        2026-11-23T10:00:01Z 1_orders: apply started (epoch 1) [deploy@ci pid 7]
        2026-11-23T10:00:02Z 1_orders: from_the_future {"event":"from_the_future","x":"\u001b[2J"} [deploy@ci pid 7]
        2026-11-23T10:00:03Z schema_upgraded {"to":2} [deploy@ci pid 7]
        "#);
    }

    #[test]
    fn json_is_one_object_a_line_and_reads_back() {
        let text = json(&entries());
        let read: Vec<Entry> = text
            .lines()
            .map(|row| serde_json::from_str(row).expect("an entry"))
            .collect();
        assert_eq!(read, entries());
    }
}
