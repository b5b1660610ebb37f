//! From the bytes of a file to text that reads as SQL, byte for byte at the same places.

use crate::sql::lex::{TokenKind, lex};
use crate::sql::{Diagnostic, Span};

/// The bytes of a file as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// UTF-8.
    Text(String),
    /// Of another encoding, which is said, and read as well as it can be.
    Other {
        /// The text.
        text: String,
        /// Its encoding, for people.
        encoding: &'static str,
    },
    /// Not text.
    Binary,
}

/// Reads bytes as text. UTF-16 is known by its byte order mark; what is not UTF-8 and has no zero
/// byte is taken for Latin-1, in which every byte is a character.
pub fn decode(bytes: &[u8]) -> Decoded {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|b| unit([b[0], b[1]])).collect();
        Decoded::Other {
            text: String::from_utf16_lossy(&units),
            encoding: "UTF-16",
        }
    };
    match bytes {
        [0xFF, 0xFE, rest @ ..] => return utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => return utf16(rest, u16::from_be_bytes),
        _ => {}
    }
    if bytes.contains(&0) {
        return Decoded::Binary;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Decoded::Text(text.to_owned()),
        Err(_) => Decoded::Other {
            text: bytes.iter().map(|&b| char::from(b)).collect(),
            encoding: "not UTF-8 (read as Latin-1)",
        },
    }
}

/// A text in which everything that is not SQL is blanked or replaced by a name, without moving
/// anything.
pub(super) struct Masked {
    pub(super) text: String,
    /// The commands of psql in it.
    pub(super) commands: Option<Diagnostic>,
}

/// Takes out meta-commands of psql and the data of COPY, and fills placeholders (`${name}`,
/// `{{ name }}`, `:name`) with names.
pub(super) fn masked(text: &str) -> Masked {
    let mut bytes = text.as_bytes().to_vec();
    blank_copy_data(text, &mut bytes);
    let tokens = lex(text_of(&bytes));
    let mut commands: Vec<(Span, String)> = Vec::new();
    let mut brackets = 0_usize;
    let mut filled_to = 0;
    let mut edits: Vec<(Span, Vec<u8>)> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        if token.span.start < filled_to {
            continue;
        }
        match token.kind {
            TokenKind::LBracket => brackets += 1,
            TokenKind::RBracket => brackets = brackets.saturating_sub(1),
            TokenKind::PsqlCommand => {
                let written = token.text(text);
                let word = written.split_whitespace().next().unwrap_or("\\");
                let mut blank = vec![b' '; written.len()];
                // `\gexec` and its kin end a statement.
                if word.starts_with("\\g") {
                    blank[0] = b';';
                }
                commands.push((
                    Span::new(token.span.start, token.span.start + word.len()),
                    word.to_owned(),
                ));
                edits.push((token.span, blank));
            }
            TokenKind::Stray => {
                if let Some(span) = placeholder(text, token.span.start) {
                    let name = text.as_bytes()[span.start..span.end]
                        .iter()
                        .map(|b| if b.is_ascii_alphanumeric() { *b } else { b'_' })
                        .collect();
                    edits.push((span, name));
                    filled_to = span.end;
                }
            }
            TokenKind::Operator if brackets == 0 && token.text(text) == ":" => {
                let next = tokens.get(i + 1).filter(|n| {
                    n.span.start == token.span.end
                        && matches!(
                            n.kind,
                            TokenKind::Word | TokenKind::String | TokenKind::QuotedIdent
                        )
                });
                if next.is_some() {
                    edits.push((token.span, vec![b' ']));
                }
            }
            _ => {}
        }
    }
    for (span, replacement) in edits {
        bytes[span.start..span.end].copy_from_slice(&replacement);
    }
    let commands = commands.first().map(|(span, _)| {
        let mut names: Vec<&str> = commands.iter().map(|(_, c)| c.as_str()).collect();
        names.dedup();
        let shown = names[..names.len().min(5)].join(", ");
        let included = names
            .iter()
            .any(|n| matches!(*n, "\\i" | "\\ir" | "\\include" | "\\include_relative"));
        Diagnostic::new(*span, format!("commands of psql are left out: {shown}")).help(
            if included {
                "the files that it includes are not read; lint them too"
            } else {
                "only SQL is judged"
            },
        )
    });
    Masked {
        text: text_of(&bytes).to_owned(),
        commands,
    }
}

/// Only whole characters are replaced, by ASCII.
fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// `${…}`, `{{…}}` or `{…}` on one line, from its first byte.
fn placeholder(text: &str, start: usize) -> Option<Span> {
    let rest = &text[start..];
    let closer = if rest.starts_with("{{") {
        "}}"
    } else if rest.starts_with("${") || rest.starts_with('{') {
        "}"
    } else {
        return None;
    };
    let mut limit = rest.len().min(120);
    while !rest.is_char_boundary(limit) {
        limit -= 1;
    }
    let end = rest[..limit].find(closer)? + closer.len();
    (!rest[..end].contains('\n')).then(|| Span::new(start, start + end))
}

/// The lines between `COPY … FROM stdin;` and `\.`, blanked with the terminator.
fn blank_copy_data(text: &str, bytes: &mut [u8]) {
    let mut data: Option<usize> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let here = at;
        at += line.len();
        if let Some(start) = data {
            if line.trim_end() == "\\." {
                for byte in &mut bytes[start..at] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                data = None;
            }
        } else if line.trim_end().ends_with(';') && contains_ignore_case(line, "from stdin") {
            data = Some(here + line.len());
            // The words too: without data, STDIN is nothing that runs.
            if let Some(i) = find_ignore_case(line, "stdin") {
                bytes[here + i..here + i + 5].copy_from_slice(b"''   ");
            }
        }
    }
}

fn find_ignore_case(text: &str, needle: &str) -> Option<usize> {
    text.as_bytes()
        .windows(needle.len())
        .position(|w| w.eq_ignore_ascii_case(needle.as_bytes()))
}

fn contains_ignore_case(text: &str, needle: &str) -> bool {
    find_ignore_case(text, needle).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_sql_is_taken_out_in_place() {
        for (text, expected) in [
            ("\\set x 1\nSELECT 1;", "        \nSELECT 1;"),
            ("SELECT 1 \\gexec\nSELECT 2", "SELECT 1 ;     \nSELECT 2"),
            ("ALTER TABLE ${s}.t", "ALTER TABLE __s_.t"),
            ("ALTER TABLE {{ s }}.t", "ALTER TABLE ___s___.t"),
            ("SELECT :'x', a[1:n], b::int", "SELECT  'x', a[1:n], b::int"),
            (
                "COPY t FROM stdin;\n1\t'x\n\\.\nSELECT 1;",
                "COPY t FROM ''   ;\n    \n  \nSELECT 1;",
            ),
        ] {
            assert_eq!(masked(text).text, expected, "{text}");
        }
        let said = masked("\\i a.sql\n\\echo x\n").commands.expect("commands");
        assert_eq!(said.message, "commands of psql are left out: \\i, \\echo");
    }

    #[test]
    fn encodings() {
        assert_eq!(decode(b"SELECT 1"), Decoded::Text("SELECT 1".into()));
        assert_eq!(decode(b"SELECT \0"), Decoded::Binary);
        let utf16 = [0xFF, 0xFE, b'a', 0, b'b', 0];
        assert!(matches!(decode(&utf16), Decoded::Other { text, .. } if text == "ab"));
        assert!(matches!(decode(b"caf\xe9"), Decoded::Other { text, .. } if text == "caf\u{e9}"));
    }

    proptest! {
        #[test]
        fn nothing_moves(text in "(\\$\\{|\\}|\\{|:|'|[a-z\u{e9} ]|\\n|\\\\[a-z]|;|COPY t FROM stdin;\\n|\\\\\\.\\n){0,40}") {
            let masked = masked(&text);
            prop_assert_eq!(masked.text.len(), text.len());
            let breaks = |t: &str| t.match_indices('\n').map(|(i, _)| i).collect::<Vec<_>>();
            prop_assert_eq!(breaks(&masked.text), breaks(&text));
        }
    }
}
