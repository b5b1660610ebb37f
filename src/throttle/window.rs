//! Hours of the day in which chunks may run.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, Utc};
use chrono::{MappedLocalTime, TimeZone};
use chrono_tz::Tz;

/// `22:00-06:00 Europe/Berlin`: from a time of day to another, perhaps over midnight, in a zone.
///
/// Where clocks change, a time that does not exist is the moment of the change, and of a time that
/// there is twice the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: NaiveTime,
    to: NaiveTime,
    zone: Zone,
}

/// A fixed offset from UTC, or a zone of the IANA database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zone {
    Fixed(FixedOffset),
    Named(Tz),
}

impl Zone {
    fn local(self, at: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Fixed(offset) => at.with_timezone(&offset).naive_local(),
            Self::Named(zone) => at.with_timezone(&zone).naive_local(),
        }
    }

    /// The moment at which a clock there shows this time.
    fn moment(self, local: NaiveDateTime) -> DateTime<Utc> {
        fn earliest(zone: &impl TimeZone, local: NaiveDateTime) -> Option<DateTime<Utc>> {
            match zone.from_local_datetime(&local) {
                MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => {
                    Some(at.to_utc())
                }
                MappedLocalTime::None => None,
            }
        }
        // Clocks are put forward by whole minutes, once by a day (Samoa, 2011).
        for minutes in 0..=24 * 60 {
            let local = local + TimeDelta::minutes(minutes);
            let found = match self {
                Self::Fixed(offset) => earliest(&offset, local),
                Self::Named(zone) => earliest(&zone, local),
            };
            if let Some(at) = found {
                return at;
            }
        }
        local.and_utc()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(offset) if offset.local_minus_utc() == 0 => f.write_str("UTC"),
            Self::Fixed(offset) => offset.fmt(f),
            Self::Named(zone) => f.write_str(zone.name()),
        }
    }
}

impl Window {
    /// From when to when it is open that opens on this day; nothing where clocks skip all of it.
    fn of_day(&self, day: NaiveDate) -> std::ops::Range<DateTime<Utc>> {
        let last = if self.from < self.to {
            day
        } else {
            day.succ_opt().unwrap_or(day)
        };
        self.zone.moment(day.and_time(self.from))..self.zone.moment(last.and_time(self.to))
    }

    /// True where chunks may run.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        let today = self.zone.local(now).date();
        // The second night of a clock that is put back may belong to the day before.
        [today.pred_opt(), Some(today)]
            .into_iter()
            .flatten()
            .any(|day| self.of_day(day).contains(&now))
    }

    /// When it opens next, for people: `2026-11-23 22:00 Europe/Berlin`.
    pub fn opens(&self, now: DateTime<Utc>) -> String {
        let today = self.zone.local(now).date();
        let next = today
            .iter_days()
            .take(4)
            .map(|day| self.of_day(day))
            .find(|open| open.start > now && !open.is_empty());
        match next {
            Some(open) => {
                let local = self.zone.local(open.start);
                format!("{} {}", local.format("%Y-%m-%d %H:%M"), self.zone)
            }
            None => format!("{} {}", self.from.format("%H:%M"), self.zone),
        }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a window such as 22:00-06:00 or 22:00-06:00 Europe/Berlin");
        let (hours, zone) = text.split_once(' ').unwrap_or((text, "UTC"));
        let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
        let time = |t: &str| NaiveTime::parse_from_str(t.trim(), "%H:%M").map_err(|_| wrong());
        let zone = match zone.trim() {
            "UTC" | "Z" => Zone::Fixed(Utc.fix()),
            offset if offset.starts_with(['+', '-']) => {
                let sample = format!("2000-01-01T00:00:00{offset}");
                let sample = DateTime::parse_from_rfc3339(&sample).map_err(|_| wrong())?;
                Zone::Fixed(*sample.offset())
            }
            name => Zone::Named(name.parse().map_err(|_| {
                format!(
                    "{name:?} is no time zone: write an offset such as +02:00, or a name of the \
                     IANA database such as Europe/Berlin"
                )
            })?),
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
    use proptest::prelude::*;

    use super::*;

    fn at(hour: u32, minute: u32) -> DateTime<Utc> {
        utc(2026, 11, 23, hour, minute)
    }

    fn utc(year: i32, month: u32, day: u32, hour: u32, minute: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(year, month, day, hour, minute, 0)
            .single()
            .expect("a valid time")
    }

    fn window(text: &str) -> Window {
        text.parse().expect(text)
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        let night = window("22:00-06:00");
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
        let window = window("09:00-10:00 +02:00");
        assert!(window.is_open(at(7, 15)) && !window.is_open(at(9, 15)));
        assert_eq!(window.opens(at(6, 0)), "2026-11-23 09:00 +02:00");
        assert_eq!(window.opens(at(9, 0)), "2026-11-24 09:00 +02:00");
    }

    #[test]
    fn a_zone_has_summer_and_winter() {
        let night = window("22:00-06:00 Europe/Berlin");
        // Winter: UTC+1.
        assert!(!night.is_open(utc(2026, 1, 10, 20, 59)) && night.is_open(utc(2026, 1, 10, 21, 0)));
        assert!(night.is_open(utc(2026, 1, 11, 4, 59)) && !night.is_open(utc(2026, 1, 11, 5, 0)));
        // Summer: UTC+2.
        assert!(!night.is_open(utc(2026, 7, 10, 19, 59)) && night.is_open(utc(2026, 7, 10, 20, 0)));
        assert!(night.is_open(utc(2026, 7, 11, 3, 59)) && !night.is_open(utc(2026, 7, 11, 4, 0)));
        assert_eq!(
            night.opens(utc(2026, 7, 11, 4, 0)),
            "2026-07-11 22:00 Europe/Berlin"
        );
        assert_eq!(night.to_string(), "22:00-06:00 Europe/Berlin");
    }

    /// Minutes for which it is open within a day from a moment on.
    fn minutes(window: Window, from: DateTime<Utc>) -> i64 {
        (0..24 * 60)
            .filter(|n| window.is_open(from + TimeDelta::minutes(*n)))
            .count() as i64
    }

    #[test]
    fn clocks_that_are_put_forward() {
        // Berlin, 29 March 2026: 02:00 is 03:00, at 01:00 UTC.
        let eve = utc(2026, 3, 28, 12, 0);
        assert_eq!(minutes(window("22:00-06:00 Europe/Berlin"), eve), 7 * 60);
        let inside = window("02:15-02:45 Europe/Berlin");
        assert_eq!(minutes(inside, eve), 0, "the hour does not exist");
        assert_eq!(inside.opens(eve), "2026-03-30 02:15 Europe/Berlin");
        let from_inside = window("02:30-04:00 Europe/Berlin");
        assert_eq!(minutes(from_inside, eve), 60, "from the change on");
        assert!(from_inside.is_open(utc(2026, 3, 29, 1, 0)));
    }

    #[test]
    fn clocks_that_are_put_back() {
        // Berlin, 25 October 2026: 03:00 is 02:00, at 01:00 UTC.
        let eve = utc(2026, 10, 24, 12, 0);
        assert_eq!(minutes(window("23:00-06:00 Europe/Berlin"), eve), 8 * 60);
        assert_eq!(
            minutes(window("02:15-02:45 Europe/Berlin"), eve),
            30,
            "once, not twice"
        );
        let until = window("22:00-02:30 Europe/Berlin");
        assert!(until.is_open(utc(2026, 10, 25, 0, 29)));
        assert!(!until.is_open(utc(2026, 10, 25, 0, 31)));
        assert!(
            !until.is_open(utc(2026, 10, 25, 1, 10)),
            "closed at the first 02:30"
        );
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
            "09:00-10:00 +2",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    proptest! {
        /// In every zone and at every time: when it is told to open, it is open, and was not
        /// before.
        #[test]
        fn it_opens_when_it_says(from in 0_u32..1440, length in 1_u32..1439, zone in 0_usize..chrono_tz::TZ_VARIANTS.len(), now in 1_600_000_000_i64..2_000_000_000) {
            let clock = |m: u32| format!("{:02}:{:02}", m % 1440 / 60, m % 60);
            let zone = chrono_tz::TZ_VARIANTS[zone];
            let window = window(&format!("{}-{} {}", clock(from), clock(from + length), zone.name()));
            let now = DateTime::from_timestamp(now, 0).expect("in range");
            prop_assert_eq!(window.to_string().parse::<Window>(), Ok(window));
            let today = window.zone.local(now).date();
            let next = today.iter_days().take(4).map(|d| window.of_day(d)).find(|o| o.start > now && !o.is_empty()).expect("it opens");
            prop_assert!(window.is_open(next.start));
            prop_assert!(window.is_open(next.end - TimeDelta::seconds(1)));
            let open = next.end - next.start;
            prop_assert!((open - TimeDelta::minutes(length.into())).abs() <= TimeDelta::hours(24));
        }
    }
}
