//! Hours of the day in which chunks may run.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, FixedOffset, NaiveTime, Offset, Utc};

/// `22:00-06:00 +02:00`: from a time of day to another, perhaps over midnight, at a fixed offset
/// from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: NaiveTime,
    to: NaiveTime,
    zone: FixedOffset,
}

impl Window {
    /// True where chunks may run.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        let time = now.with_timezone(&self.zone).time();
        if self.from <= self.to {
            self.from <= time && time < self.to
        } else {
            time >= self.from || time < self.to
        }
    }

    /// When it opens, for people: `22:00 +02:00`.
    pub fn opens(&self) -> String {
        format!("{} {}", self.from.format("%H:%M"), self.zone)
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a window such as 22:00-06:00 or 22:00-06:00 +02:00");
        let (hours, zone) = text.split_once(' ').unwrap_or((text, "UTC"));
        let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
        let time = |t: &str| NaiveTime::parse_from_str(t.trim(), "%H:%M").map_err(|_| wrong());
        let zone = match zone.trim() {
            "UTC" | "Z" => Utc.fix(),
            offset => {
                let sample = format!("2000-01-01T00:00:00{offset}");
                *DateTime::parse_from_rfc3339(&sample)
                    .map_err(|_| wrong())?
                    .offset()
            }
        };
        let (from, to) = (time(from)?, time(to)?);
        if from == to {
            return Err(format!("{text:?} never opens"));
        }
        Ok(Self { from, to, zone })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{} {}",
            self.from.format("%H:%M"),
            self.to.format("%H:%M"),
            self.zone
        )
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn at(hour: u32, minute: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 23, hour, minute, 0)
            .single()
            .expect("a valid time")
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        let night: Window = "22:00-06:00".parse().expect("valid");
        for (hour, open) in [
            (21, false),
            (22, true),
            (23, true),
            (0, true),
            (5, true),
            (6, false),
            (12, false),
        ] {
            assert_eq!(night.is_open(at(hour, 30)), open, "{hour}");
        }
        assert!(!night.is_open(at(6, 0)) && night.is_open(at(22, 0)));
    }

    #[test]
    fn the_offset_counts() {
        let window: Window = "09:00-10:00 +02:00".parse().expect("valid");
        assert!(window.is_open(at(7, 15)) && !window.is_open(at(9, 15)));
        assert_eq!(window.opens(), "09:00 +02:00");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "22:00",
            "22-06",
            "24:00-01:00",
            "09:00-09:00",
            "09:00-10:00 Mars",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}
