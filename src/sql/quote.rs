//! Quoting of names and values for SQL text.
//!
//! A zero byte can be neither in an identifier nor in a string of PostgreSQL; it is passed on as
//! it is and the server refuses the statement. Names from the catalog never have one, and
//! migration files with one are refused when they are read.

use sha2::{Digest, Sha256};

use super::lex::{MAX_IDENT, floor_char_boundary};
use crate::catalog::QName;

/// A name as an identifier. Always quoted: what needs quotes differs between versions, and an
/// identifier of the catalog is case-exact.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A value as a string constant, as `quote_literal` writes it: with a backslash in it, the
/// `E'…'` form, which does not depend on `standard_conforming_strings`.
pub fn literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if value.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// A text between dollar quotes whose tag it does not have, for bodies of functions and DO blocks:
/// `$pgshift$…$pgshift$`.
pub fn dollar(body: &str) -> String {
    let mut n = 0_usize;
    loop {
        let tag = match n {
            0 => "$pgshift$".to_owned(),
            n => format!("$pgshift{n}$"),
        };
        // Its end may make a tag together with ours.
        let closed = format!("{body}{tag}");
        if closed.find(&tag) == Some(body.len()) {
            return format!("{tag}{closed}");
        }
        n += 1;
    }
}

/// `"schema"."name"`.
pub fn qname(name: &QName) -> String {
    format!("{}.{}", ident(&name.schema), ident(&name.name))
}

/// A name of our own for something that belongs to `base`: `prefix`, as much of `base` as fits,
/// `_`, and eight hexadecimal digits of the SHA-256 of `key`; at most 63 bytes in all, so the
/// server never cuts it.
///
/// Stable: the same arguments give the same name in every version of pgshift. `prefix` is kept
/// whole up to 54 bytes.
pub fn derived_name(prefix: &str, base: &str, key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let suffix = format!(
        "_{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3]
    );
    let mut name = format!("{prefix}{base}");
    name.truncate(floor_char_boundary(&name, MAX_IDENT - suffix.len()));
    name + &suffix
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::lex::{TokenKind, ident_value, lex};

    #[test]
    fn quotes() {
        assert_eq!(ident("a"), "\"a\"");
        assert_eq!(ident("A\"b"), "\"A\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
        assert_eq!(qname(&QName::new("S", "t.u")), "\"S\".\"t.u\"");
    }

    #[test]
    fn dollar_quotes_are_not_in_the_text() {
        assert_eq!(dollar(" a "), "$pgshift$ a $pgshift$");
        assert_eq!(dollar("$pgshift$"), "$pgshift1$$pgshift$$pgshift1$");
        assert_eq!(dollar("x$pgshift"), "$pgshift1$x$pgshift$pgshift1$");
    }

    #[test]
    fn derived_names_are_stable_and_differ_by_key() {
        assert_eq!(
            derived_name("pgshift_", "orders", "abc"),
            "pgshift_orders_ba7816bf"
        );
        assert_ne!(derived_name("p_", "t", "a"), derived_name("p_", "t", "b"));
        let long = "é".repeat(60);
        assert_eq!(
            derived_name("p_", &long, "abc"),
            format!("p_{}_ba7816bf", "é".repeat(26))
        );
    }

    /// The value of a string token as `literal` writes it.
    fn value(token: &str) -> String {
        match token.strip_prefix('E') {
            Some(rest) => rest[1..rest.len() - 1]
                .replace("''", "'")
                .replace("\\\\", "\\"),
            None => token[1..token.len() - 1].replace("''", "'"),
        }
    }

    proptest! {
        #[test]
        fn a_quoted_name_is_one_token_of_that_name(name in "[^\0]{1,15}") {
            let quoted = ident(&name);
            let tokens = lex(&quoted);
            prop_assert_eq!(tokens.len(), 1);
            prop_assert_eq!(tokens[0].kind, TokenKind::QuotedIdent);
            prop_assert_eq!(ident_value(tokens[0], &quoted), Some(name));
        }

        #[test]
        fn a_quoted_value_is_one_token_of_that_value(text in "(.|['\\\\\n]){0,20}") {
            let quoted = literal(&text);
            let tokens = lex(&quoted);
            prop_assert_eq!(tokens.len(), 1);
            prop_assert_eq!(tokens[0].kind, TokenKind::String);
            prop_assert_eq!(value(&quoted), text);
        }

        #[test]
        fn a_dollar_quoted_text_is_one_token(body in "(.|\\$|\\$pgshift|\\$pgshift1?\\$|\\$\\$){0,12}") {
            let quoted = dollar(&body);
            let tokens = lex(&quoted);
            prop_assert_eq!(tokens.len(), 1);
            prop_assert_eq!(tokens[0].kind, TokenKind::DollarString);
        }

        #[test]
        fn derived_names_fit(prefix in ".{0,20}", base in ".{0,80}", key in ".{0,20}") {
            let name = derived_name(&prefix, &base, &key);
            prop_assert!(name.len() <= MAX_IDENT);
            let suffix = name.rsplit('_').next().unwrap_or("");
            prop_assert!(suffix.len() == 8 && suffix.bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }
}
