//! Small pure helpers that all reports share: numbers, colours, wrapping, tables, and texts of
//! others made safe to show.

use std::fmt::Write as _;
use std::time::Duration;

use crate::event::Lost;

use anstyle::{AnsiColor, Style as Ansi};

/// Width in columns that prose is wrapped at. SQL is shown as it is.
pub const WIDTH: usize = 100;

/// How a human report looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// With ANSI colours.
    pub color: bool,
    /// With what is left out for brevity.
    pub verbose: bool,
}

impl Style {
    fn paint(self, style: Ansi, text: &str) -> String {
        if self.color {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// As it is.
    pub fn plain(self, text: &str) -> String {
        text.to_owned()
    }

    /// For headings.
    pub fn bold(self, text: &str) -> String {
        self.paint(Ansi::new().bold(), text)
    }

    /// For what matters less.
    pub fn dim(self, text: &str) -> String {
        self.paint(Ansi::new().dimmed(), text)
    }

    /// For what is well.
    pub fn good(self, text: &str) -> String {
        self.paint(AnsiColor::Green.on_default().bold(), text)
    }

    /// For what a person should look at.
    pub fn warn(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }

    /// For what is wrong or final.
    pub fn bad(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }
}

/// `1,234,567`
pub fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::new();
    if n < 0 {
        text.push('-');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`: the noun must form its plural with an s.
pub fn counted(n: i64, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {noun}{s}", count(n))
}

/// `1.5 MiB`
pub fn bytes(n: i64) -> String {
    bytesize::ByteSize(u64::try_from(n).unwrap_or(0)).to_string()
}

/// A duration in as much detail as its size deserves: `830ms`, `2s 500ms`, `1m 23s`, `2h 5m`.
pub fn duration(d: Duration) -> String {
    let ms = u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let unit = match ms {
        0..1_000 => 1,
        1_000..10_000 => 100,
        10_000..3_600_000 => 1_000,
        3_600_000..172_800_000 => 60_000,
        _ => 3_600_000,
    };
    let rounded = ms.saturating_add(unit / 2) / unit * unit;
    humantime::format_duration(Duration::from_millis(rounded)).to_string()
}

/// [`duration`] of milliseconds.
pub fn millis(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

/// Time lost by cause, the longest first: `duty 31s, replica_lag 12s`. Less than 50 ms is nothing;
/// empty where nothing else is there.
pub fn lost(lost: &Lost) -> String {
    let mut all: Vec<_> = lost.iter().filter(|(_, ms)| **ms >= 50).collect();
    all.sort_by_key(|(_, ms)| std::cmp::Reverse(**ms));
    let shown: Vec<String> = all
        .iter()
        .map(|(cause, ms)| format!("{} {}", line(cause), tenths(**ms)))
        .collect();
    shown.join(", ")
}

/// `0.4s`, from ten seconds on as [`duration`].
fn tenths(ms: u64) -> String {
    if ms < 10_000 {
        format!("{:.1}s", ms as f64 / 1000.0)
    } else {
        millis(ms)
    }
}

/// [`duration`] of seconds; `None` where it is no time.
pub fn seconds(s: f64) -> Option<String> {
    Duration::try_from_secs_f64(s).ok().map(duration)
}

/// `45.2%`, never 100 before all is done.
pub fn percent(fraction: f64) -> String {
    let permille = if fraction >= 1.0 {
        1000
    } else if fraction > 0.0 {
        ((fraction * 1000.0).floor() as u16).min(999)
    } else {
        0
    };
    format!("{}.{}%", permille / 10, permille % 10)
}

/// Rows a second: `12,345 rows/s`, below ten with one decimal.
pub fn rate(rows: f64) -> String {
    if rows.is_finite() && rows >= 10.0 {
        format!("{} rows/s", count(rows.round() as i64))
    } else {
        format!(
            "{:.1} rows/s",
            if rows.is_finite() { rows.max(0.0) } else { 0.0 }
        )
    }
}

/// One line that is safe to show: white space folded, control characters escaped. Texts of the
/// server and of other sessions may contain anything, terminal sequences too.
pub fn line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !safe.is_empty() {
            safe.push(' ');
        }
        push_visible(&mut safe, word);
    }
    safe
}

/// A text of several lines that is safe to show: as it is, but for control characters other than
/// tab and newline.
pub fn lines(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for (n, line) in text.lines().enumerate() {
        if n > 0 {
            safe.push('\n');
        }
        push_visible(&mut safe, line);
    }
    safe
}

/// A character that a terminal may obey, or that makes a line read differently from what it is (a
/// direction override).
pub fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_visible(safe: &mut String, text: &str) {
    for c in text.chars() {
        if c != '\t' && is_unsafe(c) {
            let _ = write!(safe, "{}", c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
}

/// Puts `***` in place of passwords: in URLs (`scheme://user:password@…`) and after `password=`.
pub fn redact(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let url = rest.find("://").map(|i| (i, i + 3));
        let key = find_password(rest);
        let Some((start, after, is_url)) = (match (url, key) {
            (Some((u, end)), Some((k, _))) if u < k => Some((u, end, true)),
            (Some((u, end)), None) => Some((u, end, true)),
            (_, Some((k, end))) => Some((k, end, false)),
            (None, None) => None,
        }) else {
            safe.push_str(rest);
            return safe;
        };
        let _ = start;
        safe.push_str(&rest[..after]);
        rest = &rest[after..];
        if is_url {
            let token = token_of(rest, &['"', '\'', '`']);
            // A password may itself contain `/`, `@` and `:`; what lies between the first colon
            // and the last @ is never shown.
            if let Some(at) = token.rfind('@')
                && let Some(colon) = token[..at].find(':')
            {
                safe.push_str(&token[..=colon]);
                safe.push_str("***");
                rest = &rest[at..];
            }
        } else {
            let secret = match rest.chars().next() {
                Some(quote @ ('\'' | '"')) => {
                    rest[1..].find(quote).map_or(rest.len(), |end| end + 2)
                }
                _ => token_of(rest, &['&', '"', '\'', '`', ',', ';', ')']).len(),
            };
            if secret > 0 {
                safe.push_str("***");
            }
            rest = &rest[secret..];
        }
    }
}

fn token_of<'a>(text: &'a str, ends: &[char]) -> &'a str {
    let end = text
        .find(|c: char| c.is_whitespace() || ends.contains(&c))
        .unwrap_or(text.len());
    &text[..end]
}

/// The first `password=`, in any case: its start and end.
fn find_password(text: &str) -> Option<(usize, usize)> {
    const KEY: &str = "password=";
    let at = text
        .as_bytes()
        .windows(KEY.len())
        .position(|w| w.eq_ignore_ascii_case(KEY.as_bytes()))?;
    Some((at, at + KEY.len()))
}

/// Words of `text`; a command in backticks is one word, so that it can be copied.
fn words(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest.find(|c: char| {
            quoted ^= c == '`';
            c.is_whitespace() && !quoted
        });
        // A backtick without its end quotes nothing.
        let end = end
            .or_else(|| rest.find(char::is_whitespace).filter(|_| quoted))
            .unwrap_or(rest.len());
        all.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    all
}

/// Words of `text` in lines of at most `width` characters; a longer word has a line of its own.
/// A command in backticks is kept together.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut current = String::new();
    let mut used = 0;
    for word in words(text) {
        let long = word.chars().count();
        if used > 0 && used + 1 + long > width {
            all.push(std::mem::take(&mut current));
            used = 0;
        }
        if used > 0 {
            current.push(' ');
            used += 1;
        }
        current.push_str(word);
        used += long;
    }
    if used > 0 || all.is_empty() {
        all.push(current);
    }
    all
}

/// `text` wrapped at [`WIDTH`] after a first line that begins with `lead`; further lines are
/// indented by as many characters.
pub fn hanging(lead: &str, text: &str) -> String {
    let indent = lead.chars().count();
    let mut block = String::new();
    for (n, part) in wrap(text, WIDTH.saturating_sub(indent).max(20))
        .iter()
        .enumerate()
    {
        let before = if n == 0 {
            lead.to_owned()
        } else {
            " ".repeat(indent)
        };
        let _ = writeln!(block, "{}", format!("{before}{part}").trim_end());
    }
    block
}

/// A table with a heading; columns as wide as their widest cell, two blanks between them.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width_of = |n: usize| {
        rows.iter()
            .filter_map(|row| row.get(n))
            .map(|cell| cell.chars().count())
            .chain([heading.get(n).map_or(0, |h| h.chars().count())])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width_of).collect();
    let mut text = String::new();
    let mut push = |cells: &mut dyn Iterator<Item = &str>| {
        let mut row = String::new();
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(row, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", row.trim_end());
    };
    push(&mut heading.iter().copied());
    for row in rows {
        push(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(-1_234_567), "-1,234,567");
        assert_eq!(count(i64::MIN), "-9,223,372,036,854,775,808");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(2000, "row"), "2,000 rows");
        assert_eq!(bytes(1536 * 1024), "1.5 MiB");
        assert_eq!(bytes(-1), "0 B");
        assert_eq!(rate(12345.4), "12,345 rows/s");
        assert_eq!(rate(f64::NAN), "0.0 rows/s");
    }

    #[test]
    fn durations_keep_the_detail_that_matters() {
        assert_eq!(seconds(0.0).as_deref(), Some("0s"));
        assert_eq!(seconds(0.83).as_deref(), Some("830ms"));
        assert_eq!(seconds(2.46).as_deref(), Some("2s 500ms"));
        assert_eq!(seconds(83.4).as_deref(), Some("1m 23s"));
        assert_eq!(seconds(7_529.0).as_deref(), Some("2h 5m"));
        assert_eq!(seconds(-1.0), None);
        assert_eq!(seconds(f64::INFINITY), None);
        let _ = duration(Duration::MAX);
    }

    #[test]
    fn a_percentage_is_whole_only_when_all_is_done() {
        assert_eq!(percent(0.0), "0.0%");
        assert_eq!(percent(0.4529), "45.2%");
        assert_eq!(percent(0.999_99), "99.9%");
        assert_eq!(percent(1.0), "100.0%");
        assert_eq!(percent(f64::NAN), "0.0%");
    }

    #[test]
    fn texts_of_others_cannot_steer_the_terminal() {
        assert_eq!(line("a\n\tb \u{1b}[2Jc"), "a b \\u{1b}[2Jc");
        assert_eq!(lines("a\r\n\tb\u{7}\n"), "a\n\tb\\u{7}");
        assert_eq!(line("x\u{202e}y"), "x\\u{202e}y");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(
            redact("no postgres://app:s3c/r@t@db:5432/x, nor 'host=h PASSWORD='a b' user=u'"),
            "no postgres://app:***@db:5432/x, nor 'host=h PASSWORD=*** user=u'"
        );
        assert_eq!(
            redact("postgres://db/x?user=a&password=b&sslmode=require"),
            "postgres://db/x?user=a&password=***&sslmode=require"
        );
        assert_eq!(
            redact("postgres://app@db:5432/x"),
            "postgres://app@db:5432/x"
        );
        assert_eq!(redact("password= and ://"), "password= and ://");
    }

    #[test]
    fn prose_is_wrapped_with_a_hanging_indent() {
        let text = hanging("   note  ", &"word ".repeat(40));
        assert!(text.lines().count() > 1);
        assert!(text.lines().all(|l| l.chars().count() <= WIDTH));
        assert!(text.lines().skip(1).all(|l| l.starts_with("         word")));
        assert_eq!(hanging("x ", ""), "x\n");
        assert_eq!(
            wrap("run `pgshift resume 1`, or it's `one", 10),
            ["run", "`pgshift resume 1`,", "or it's", "`one"]
        );
    }

    #[test]
    fn a_table_aligns() {
        let rows = [
            vec!["a".into(), "long cell".into()],
            vec!["bcd".into(), "é".into()],
        ];
        assert_eq!(
            table(&["ID", "WHAT"], &rows),
            "ID   WHAT\na    long cell\nbcd  é\n"
        );
    }

    proptest! {
        #[test]
        fn a_password_in_a_url_never_survives(
            password in "[A-Za-z0-9@:/?#%!]{8,20}", before in "\\PC{0,20}", after in "[a-z ]{0,10}",
        ) {
            prop_assume!(!before.contains(&password) && !after.contains(&password));
            let text = format!("{before} postgres://u:{password}@h/db {after}");
            let safe = redact(&text);
            prop_assert!(!safe.contains(&password), "{}", safe);
        }

        #[test]
        fn wrapping_loses_no_word(text in "\\PC{0,200}", width in 1usize..120) {
            let joined = wrap(&text, width).join(" ");
            prop_assert_eq!(
                joined.split_whitespace().collect::<Vec<_>>(),
                text.split_whitespace().collect::<Vec<_>>()
            );
        }

        #[test]
        fn lines_have_no_control_characters(text in ".{0,100}") {
            prop_assert!(!line(&text).chars().any(char::is_control));
        }
    }
}
