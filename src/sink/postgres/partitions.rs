//! Leaf partitions, created before they are needed.
//!
//! `audit.ensure_partition` creates a leaf for the month, the week or the day that a moment lies in,
//! by the interval that is set for its table, gives it a `CHECK` on its time (by which Postgres
//! prunes), and then attaches it, which takes no lock on the table that keeps readers out. A time
//! that is far ahead goes to the default partition: a wrong clock creates no partitions, and its
//! rows are kept, counted and reported.
//!
//! Rows are kept apart by their days: any partition is made up of days, so nothing here has to know
//! the interval, and what a partition has of a batch are neighbours in the batch's tree.

use crate::vocabulary::Table;

const US_PER_DAY: i64 = 86_400_000_000;

/// A day in UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Day(i64);

impl Day {
    /// Returns the day of a time in microseconds since 1970.
    pub(crate) fn of_us(us: i64) -> Self {
        Self(us.div_euclid(US_PER_DAY))
    }

    /// Returns its number, counted from 1970-01-01.
    #[cfg(all(feature = "__program", feature = "ledger"))]
    pub(crate) fn number(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// Returns its first moment, as Postgres reads it.
    fn first_moment(self) -> String {
        // The civil calendar from a count of days; H. Hinnant, "chrono-Compatible Low-Level
        // Date Algorithms", civil_from_days.
        let days = self.0 + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        format!("{year:04}-{month:02}-{day:02} 00:00:00+00")
    }
}

/// Returns whether this is the default partition of a table.
pub(crate) fn is_default(partition: &str) -> bool {
    partition.ends_with("_default")
}

/// Returns the statement that creates a leaf unless it exists, and returns the name of the
/// partition to write to. It fails if a table of that name is not a partition (any more): rows in
/// it would be in no one's trail.
pub(crate) fn ensure(table: Table, day: Day) -> String {
    format!(
        "SELECT audit.ensure_partition('{}', '{}')",
        table.name(),
        day.first_moment()
    )
}

/// Asks which leaves are lacking, from today until the end of next month, the soonest first: for
/// each the statements that create it, in a transaction of its own.
///
/// Attaching a leaf locks the default partition against everybody, for a moment. It waits for every
/// open transaction that has read the table, such as `pg_dump`, and new readers wait behind it. The
/// lock timeout is therefore short, and shorter than the `deadlock_timeout`, so that no other
/// session is the victim of a deadlock.
pub(crate) const LACKING: &str = "SELECT pg_catalog.format( \
     $$BEGIN; SET LOCAL lock_timeout = '500ms'; SELECT audit.ensure_partition('%s', '%s 00:00:00+00'); COMMIT$$, \
     parent, pg_catalog.to_char(from_time AT TIME ZONE 'UTC', 'YYYY-MM-DD')) \
     FROM audit.lacking_partitions() ORDER BY from_time, parent";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_map_to_days_of_the_utc_calendar() {
        let of = |seconds: i64| Day::of_us(seconds * 1_000_000).first_moment();
        assert_eq!(of(0), "1970-01-01 00:00:00+00");
        assert_eq!(of(951_782_400), "2000-02-29 00:00:00+00");
        assert_eq!(of(951_868_799), "2000-02-29 00:00:00+00");
        assert_eq!(of(951_868_800), "2000-03-01 00:00:00+00");
        assert_eq!(of(1_767_225_599), "2025-12-31 00:00:00+00");
        assert_eq!(of(1_767_225_600), "2026-01-01 00:00:00+00");
        let last = Day::of_us(crate::record::id::MAX_US);
        assert_eq!(last.first_moment(), "9999-12-31 00:00:00+00");
    }
}
