//! A person's query.

use std::fmt::Write as _;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Row};

use super::custom::{Custom, Named};
use super::{Ask, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::pg::error::from_pg;
use crate::sql::{Diagnostic, Source, Span};
use crate::throttle::{Bound, Reading, Sample, Unit};

pub(super) struct Sql {
    pub(super) named: Named,
    pub(super) query: String,
    pub(super) bound: Bound,
}

impl Custom for Sql {
    const PLACE: Place = Place::Own;

    fn named(&self) -> &Named {
        &self.named
    }

    fn ask<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let client = ask.client()?;
            let timeout = self.named.pace.timeout.as_millis().max(1);
            let begin = format!(
                "BEGIN READ ONLY; SET LOCAL statement_timeout = '{timeout}ms'; \
                 SET LOCAL lock_timeout = '{timeout}ms'"
            );
            client.batch_execute(&begin).await.map_err(from_pg)?;
            let answer = self.answer(client).await;
            client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
            Ok(vec![match answer? {
                Ok(value) => Sample::new(&*self.named.name, value, Unit::Number)
                    .bound(Some(self.bound))
                    .into(),
                Err(why) => Reading::Blind {
                    signal: self.named.name.clone(),
                    why: why.to_owned(),
                },
            }])
        }
        .boxed()
    }
}

impl Sql {
    /// The number, or why there is none now. An error is a query that can never give one.
    async fn answer(&self, client: &Client) -> Result<Result<f64, &'static str>> {
        // The extended protocol takes one statement: nothing can end the READ ONLY transaction.
        let statement = client
            .prepare(&self.query)
            .await
            .map_err(|e| self.at_its_place(from_pg_with_place(e)))?;
        let [column] = statement.columns() else {
            return Err(self.wrong(format!(
                "the query gives {} columns, and one number is wanted",
                statement.columns().len()
            )));
        };
        if !Number::accepts(column.type_()) {
            return Err(self
                .wrong(format!(
                    "the query gives a value of type {}, and a number is wanted",
                    column.type_()
                ))
                .hint("cast it: numeric, any integer, float, or an interval (taken in seconds)"));
        }
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
        let rows = client
            .query_raw(&statement, parameters)
            .await
            .map_err(|e| self.at_its_place(from_pg_with_place(e)))?;
        let mut rows = pin!(rows);
        let mut next = async || -> Result<Option<Row>> {
            rows.try_next()
                .await
                .map_err(|e| self.at_its_place(from_pg_with_place(e)))
        };
        let Some(row) = next().await? else {
            return Ok(Err("the query gives no row"));
        };
        if next().await?.is_some() {
            return Ok(Err("the query gives more than one row"));
        }
        let value: Option<Number> = row
            .try_get(0)
            .map_err(|e| Error::internal(format!("signal {}: {e}", self.named.name)))?;
        Ok(value.map(|n| n.0).ok_or("the query gives NULL"))
    }

    fn wrong(&self, message: String) -> Error {
        let source = Source::new(format!("signal {}", self.named.name), &*self.query);
        let all = Span::new(0, self.query.len());
        Error::at(&source, vec![Diagnostic::new(all, message)])
    }

    /// Points into the query where the server does.
    fn at_its_place(&self, (error, place): (Error, Option<u32>)) -> Error {
        if error.kind() != ErrorKind::Usage {
            return error;
        }
        let source = Source::new(format!("signal {}", self.named.name), &*self.query);
        let start = place.map_or(0, |place| byte_of(&self.query, place));
        let rest = &self.query[start..];
        let word = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(rest.len(), |end| {
                end.max(rest.chars().next().map_or(0, char::len_utf8))
            });
        let end = if place.is_some() {
            start + word
        } else {
            self.query.len()
        };
        let diagnostic = Diagnostic::new(Span::new(start, end), error.message());
        error.with_places(&source, vec![diagnostic])
    }
}

/// The byte of the `place`-th character, from 1 on.
fn byte_of(text: &str, place: u32) -> usize {
    text.char_indices()
        .nth(place.saturating_sub(1) as usize)
        .map_or(text.len(), |(byte, _)| byte)
}

fn from_pg_with_place(error: tokio_postgres::Error) -> (Error, Option<u32>) {
    use tokio_postgres::error::ErrorPosition;
    let place = error.as_db_error().and_then(|db| match db.position() {
        Some(ErrorPosition::Original(place)) => Some(*place),
        _ => None,
    });
    (from_pg(error), place)
}

/// Anything that is a number; an interval is its seconds, counted as `extract(epoch …)` does.
struct Number(f64);

impl Number {
    fn accepts(ty: &Type) -> bool {
        [
            Type::INT2,
            Type::INT4,
            Type::INT8,
            Type::OID,
            Type::FLOAT4,
            Type::FLOAT8,
            Type::NUMERIC,
            Type::INTERVAL,
        ]
        .contains(ty)
    }
}

impl<'a> FromSql<'a> for Number {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(match *ty {
            Type::INT2 => i16::from_sql(ty, raw)?.into(),
            Type::INT4 => i32::from_sql(ty, raw)?.into(),
            Type::INT8 => i64::from_sql(ty, raw)? as f64,
            Type::OID => u32::from_sql(ty, raw)?.into(),
            Type::FLOAT4 => f32::from_sql(ty, raw)?.into(),
            Type::FLOAT8 => f64::from_sql(ty, raw)?,
            Type::NUMERIC => numeric(raw).ok_or("a numeric of unknown form")?,
            Type::INTERVAL => interval(raw).ok_or("an interval of unknown form")?,
            _ => return Err("not a number".into()),
        }))
    }

    fn accepts(ty: &Type) -> bool {
        Self::accepts(ty)
    }
}

fn i16_at(raw: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(raw.get(at..at + 2)?.try_into().ok()?))
}

/// The binary form of `numeric` (`numeric_send`): number of digits, weight, sign, scale, and the
/// digits to base 10000.
fn numeric(raw: &[u8]) -> Option<f64> {
    let digits = usize::try_from(i16_at(raw, 0)?).ok()?;
    let weight = i32::from(i16_at(raw, 2)?);
    let sign = match i16_at(raw, 4)?.cast_unsigned() {
        0x0000 => 1.0,
        0x4000 => -1.0,
        0xD000 => return Some(f64::INFINITY),
        0xF000 => return Some(f64::NEG_INFINITY),
        _ => return Some(f64::NAN),
    };
    // By way of its text, which is rounded once.
    let mut text = String::from("0");
    for n in 0..digits {
        let _ = write!(text, "{:04}", i16_at(raw, 8 + 2 * n)?);
    }
    let exponent = 4 * (weight + 1 - i32::try_from(digits).ok()?);
    format!("{text}e{exponent}")
        .parse::<f64>()
        .ok()
        .map(|n| sign * n)
}

/// The binary form of `interval` (`interval_send`): microseconds, days, months.
fn interval(raw: &[u8]) -> Option<f64> {
    let micros = i64::from_be_bytes(raw.get(..8)?.try_into().ok()?);
    let days = i32::from_be_bytes(raw.get(8..12)?.try_into().ok()?);
    let months = i32::from_be_bytes(raw.get(12..16)?.try_into().ok()?);
    let days = f64::from(months / 12) * 365.25 + f64::from(months % 12) * 30.0 + f64::from(days);
    Some(micros as f64 / 1e6 + days * 86_400.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[i16]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_be_bytes()).collect()
    }

    #[test]
    fn numerics_are_read() {
        for (raw, value) in [
            (words(&[0, 0, 0, 0]), 0.0),
            (words(&[1, 0, 0, 0, 42]), 42.0),
            (words(&[2, 0, 0x4000, 2, 3, 2500]), -3.25),
            (words(&[1, 1, 0, 0, 7]), 70_000.0),
            (words(&[1, -1, 0, 4, 5]), 0.0005),
            (words(&[0, 0, 0xD000_u16.cast_signed(), 0]), f64::INFINITY),
        ] {
            assert_eq!(
                numeric(&raw).map(f64::to_bits),
                Some(value.to_bits()),
                "{value}"
            );
        }
        assert!(numeric(&words(&[0, 0, 0xC000_u16.cast_signed(), 0])).is_some_and(f64::is_nan));
        assert_eq!(numeric(&[0, 9]), None);
    }

    #[test]
    fn intervals_are_seconds() {
        let mut raw = 1_500_000_i64.to_be_bytes().to_vec();
        raw.extend(1_i32.to_be_bytes());
        raw.extend(13_i32.to_be_bytes());
        let day = 86_400.0;
        assert_eq!(
            interval(&raw).map(f64::to_bits),
            Some((1.5_f64 + day * (1.0 + 365.25 + 30.0)).to_bits())
        );
    }

    #[test]
    fn a_place_counts_characters() {
        assert_eq!(byte_of("ab", 1), 0);
        assert_eq!(byte_of("äb", 2), 2);
        assert_eq!(byte_of("a", 9), 1);
    }
}
