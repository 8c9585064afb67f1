//! Reads times where no Postgres does: the forms that the messages ask for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::types::Uuid;

use super::names::day_of_date;
use crate::filter::{Bounds, Filter, FilterError};

const DAY_MS: u64 = 86_400_000;

/// The begin of year 10000.
const END_MS: u64 = 253_402_300_800_000;

/// Reads the times of a filter, as its ids.
pub(crate) fn bounds(filter: &Filter) -> Result<Bounds, FilterError> {
    let id = |name: &'static str, said: &Option<String>| match said {
        Some(said) => {
            let ms = humantime::parse_duration(said).map_or_else(|_| timestamp(said), ago);
            ms.map(id_at).map(Some).ok_or(FilterError::Time(name))
        }
        None => Ok(None),
    };
    Ok(Bounds {
        from: id("since", &filter.since)?,
        to: id("until", &filter.until)?,
    })
}

/// Returns the least id of a time, in milliseconds since 1970.
pub(crate) fn id_at(ms: u64) -> Uuid {
    Uuid::from_u128(u128::from(ms) << 80)
}

/// Returns the time so long ago, in milliseconds since 1970.
pub(crate) fn ago(ago: Duration) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(now.saturating_sub(ago).as_millis()).ok()
}

/// Reads a time from 1970 to 9999, as 2026-01-31 or 2026-01-31T12:00:00.5+01:00, in milliseconds since 1970; without a zone it is UTC.
pub(crate) fn timestamp(said: &str) -> Option<u64> {
    let said = said.trim();
    let day = i64::from(day_of_date(said.get(..10)?)?);
    let rest = said.get(10..)?;
    let (of_day, zone) = match rest.strip_prefix(['T', 't', ' ']) {
        Some(rest) => {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '.')));
            let (time, zone) = rest.split_at(end.unwrap_or(rest.len()));
            (of_day(time)?, zone)
        }
        None => (0, rest),
    };
    let day_ms = day.checked_mul(i64::try_from(DAY_MS).ok()?)?;
    let ms = day_ms
        .checked_add(of_day)?
        .checked_sub(zone_ms(zone.trim())?)?;
    u64::try_from(ms).ok().filter(|ms| *ms < END_MS)
}

/// Reads 12:00, 12:00:00 or 12:00:00.5.
fn of_day(said: &str) -> Option<i64> {
    let mut parts = said.split(':');
    let two = |part: Option<&str>, below: i64| {
        let part = part.filter(|part| part.len() == 2)?;
        part.parse::<i64>().ok().filter(|number| *number < below)
    };
    let (hours, minutes) = (two(parts.next(), 24)?, two(parts.next(), 60)?);
    let (seconds, ms) = match parts.next() {
        Some(seconds) => {
            let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
            let is_fraction = (1..=9).contains(&fraction.len())
                && fraction.bytes().all(|byte| byte.is_ascii_digit());
            let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
            let ms = digits.parse::<i64>().ok().filter(|_| is_fraction)?;
            (two(Some(seconds), 60)?, ms)
        }
        None => (0, 0),
    };
    let is_end = parts.next().is_none();
    is_end.then_some(((hours * 60 + minutes) * 60 + seconds) * 1_000 + ms)
}

/// Reads Z, +01, +01:30 or +0130.
fn zone_ms(said: &str) -> Option<i64> {
    if matches!(said, "" | "Z" | "z" | "UTC") {
        return Some(0);
    }
    let digits: String = said.get(1..)?.chars().filter(|c| *c != ':').collect();
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse::<i64>().ok().filter(|_| is_number)?;
    let minutes = match digits.len() {
        2 => number * 60,
        4 => number / 100 * 60 + number % 100,
        _ => return None,
    };
    let sign = match said.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    (minutes < 16 * 60).then_some(sign * minutes * 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_postgres_reads_them() {
        for (said, ms) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01T00:00:00.0019Z", Some(1)),
            ("2026-03-14", Some(1_773_446_400_000)),
            ("2026-03-14T12:30Z", Some(1_773_491_400_000)),
            ("2026-03-14 12:30:00+01:30", Some(1_773_486_000_000)),
            ("2026-03-14 12:30:00-0130", Some(1_773_496_800_000)),
            ("2026-03-14 12:30:00 +01", Some(1_773_487_800_000)),
            ("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999)),
            ("9999-12-31T23:59:59.999-01", None),
            ("1969-12-31", None),
            ("1970-01-01+01", None),
            ("2026-02-29", None),
            ("2026-03-14T24:01", None),
            ("2026-03-14T1:00", None),
            ("2026-03-14T12:00:00.", None),
            ("2026-03-14 Mars/Olympus", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(timestamp(said), ms, "{said}");
        }
    }
}
