//! Findings that are known already.
//!
//! A finding is known again by its rule, its file, the words of its statement and its number
//! among those that are the same in all that: by nothing that moves when lines are put before it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Finding;
use crate::sql::lex::{Token, lex_code};
use crate::sql::{Source, Span};

/// The format of a baseline file.
const FORMAT: u32 = 1;

/// A finding of a baseline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// See [`fingerprints`].
    pub fingerprint: String,
    /// For the reader.
    pub rule: String,
    /// For the reader.
    pub file: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    format: u32,
    findings: Vec<Known>,
}

/// Words of a statement that tell it from others.
const WORDS: usize = 5_000;

/// Sets the fingerprints of all findings of a file; `path` is the file's name within its project.
pub fn fingerprints(findings: &mut [Finding], path: &str, source: &Source) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut last: Option<(Span, Vec<Token>)> = None;
    for finding in findings {
        let span = finding.statement;
        let text = source.text().get(span.start..span.end).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(finding.rule.id);
        hash.update([0]);
        hash.update(path.replace('\\', "/"));
        let tokens = match last.take().filter(|(of, _)| *of == span) {
            Some((_, tokens)) => tokens,
            None => lex_code(text),
        };
        for token in tokens.iter().take(WORDS) {
            hash.update([0]);
            hash.update(token.text(text));
        }
        last = Some((span, tokens));
        let base = hex(&hash.finalize()[..16]);
        let number = seen.entry(base.clone()).or_default();
        finding.fingerprint = if *number == 0 {
            base
        } else {
            format!("{base}-{number}")
        };
        *number += 1;
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "{byte:02x}");
        all
    })
}

/// The text of a baseline file.
pub fn write(mut known: Vec<Known>) -> String {
    known.sort_by(|a, b| {
        (&a.file, &a.rule, &a.fingerprint).cmp(&(&b.file, &b.rule, &b.fingerprint))
    });
    let file = File {
        format: FORMAT,
        findings: known,
    };
    serde_json::to_string_pretty(&file).unwrap_or_default() + "\n"
}

/// The fingerprints of a baseline file.
///
/// # Errors
/// Text that is no baseline file, as a phrase for people.
pub fn read(text: &str) -> Result<BTreeSet<String>, String> {
    let file: File =
        serde_json::from_str(text).map_err(|e| format!("it is not a baseline: {e}"))?;
    if file.format != FORMAT {
        return Err(format!(
            "it is of format {}, and this version reads {FORMAT}",
            file.format
        ));
    }
    Ok(file.findings.into_iter().map(|k| k.fingerprint).collect())
}
