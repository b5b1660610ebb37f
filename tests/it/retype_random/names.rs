//! Names that break what does not quote.

use std::collections::BTreeSet;

use fastrand::Rng;

/// Stems; a number makes each unique.
const STEMS: &[&str] = &[
    "id",
    "orders",
    "total",
    "kind", // plain
    "select",
    "user",
    "table",
    "new",
    "old",
    "default", // keywords, and the rows of a trigger
    "Upper",
    "MiXed Case",
    " leading",
    "trailing ", // case and spaces
    "it's",
    "say \"hi\"",
    "\"",
    "''", // quotes
    "größe",
    "数量",
    "🦀", // beyond ASCII
    "a.b",
    "x;--",
    "/*",
    "$1",
    "$$",
    "%s",
    "%I",
    "{c}",
    ":p",
    "?",
    "back\\slash",
    "new\nline",
    "pgshift",
    "_",
    "1st",
    "null",
    "ctid2",
];

/// Makes each name once.
pub(super) struct Names {
    used: BTreeSet<String>,
    /// The share of names that are hostile.
    hostile: f32,
}

impl Names {
    pub(super) fn new(hostile: f32) -> Self {
        Self {
            used: BTreeSet::new(),
            hostile,
        }
    }

    /// A name, unquoted, of at most 63 bytes. A plain one begins with `plain`.
    pub(super) fn name(&mut self, rng: &mut Rng, plain: &str) -> String {
        let stem = if rng.f32() < self.hostile {
            STEMS[rng.usize(..STEMS.len())]
        } else {
            plain
        };
        // As long as the server takes them, of one or several bytes a character.
        let (long, pad) = match rng.u8(..12) {
            0 if self.hostile > 0.0 => (true, "l"),
            1 if self.hostile > 0.0 => (true, "é"),
            _ => (false, ""),
        };
        for n in 0.. {
            let mut name = if n == 0 {
                stem.to_owned()
            } else {
                format!("{stem}{n}")
            };
            while long && name.len() + pad.len() <= 63 {
                name.push_str(pad);
            }
            if self.used.insert(name.clone()) {
                return name;
            }
        }
        unreachable!("numbers do not end")
    }
}

/// A quoted identifier.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted text.
pub(super) fn literal(text: &str) -> String {
    if text.contains('\\') {
        return format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    }
    format!("'{}'", text.replace('\'', "''"))
}
