//! Monthly leaf partitions, created before they are needed.
//!
//! `audit.ensure_partition` creates a leaf, gives it a `CHECK` on its time (by which Postgres
//! prunes), and then attaches it, which takes no lock on the table that keeps readers out. A month
//! that is far ahead goes to the default partition: a wrong clock creates no partitions, and its
//! rows are kept, counted and reported.

use crate::vocabulary::Table;

const US_PER_DAY: i64 = 86_400_000_000;

/// A calendar month, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Month {
    year: i64,
    /// From 1 to 12.
    month: i64,
}

impl Month {
    /// Returns the month of a time in microseconds since 1970.
    pub(crate) fn of_us(us: i64) -> Self {
        // The civil calendar from a count of days; H. Hinnant, "chrono-Compatible Low-Level
        // Date Algorithms", civil_from_days.
        let days = us.div_euclid(US_PER_DAY) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
        }
    }

    /// Returns its number, counted from the year 0.
    #[cfg(all(feature = "__program", feature = "ledger"))]
    pub(crate) fn number(self) -> u32 {
        u32::try_from(self.year * 12 + self.month - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn next(self) -> Self {
        if self.month == 12 {
            Self {
                year: self.year + 1,
                month: 1,
            }
        } else {
            Self {
                month: self.month + 1,
                ..self
            }
        }
    }

    /// Returns its first moment, as Postgres reads it.
    fn first_moment(self) -> String {
        format!("{:04}-{:02}-01 00:00:00+00", self.year, self.month)
    }
}

/// Returns whether this is the default partition of a table.
pub(crate) fn is_default(partition: &str) -> bool {
    partition.ends_with("_default")
}

/// Returns the statement that creates a leaf unless it exists, and returns the name of the
/// partition to write to. It fails if a table of that name is not a partition (any more): rows in
/// it would be in no one's trail.
pub(crate) fn ensure(table: Table, month: Month) -> String {
    format!(
        "SELECT audit.ensure_partition('{}', '{}')",
        table.name(),
        month.first_moment()
    )
}

/// Returns the statements that create this month's and the next month's leaves of every table, each
/// in a transaction of its own.
///
/// Attaching a leaf locks the default partition against everybody, for a moment. It waits for every
/// open transaction that has read the table, such as `pg_dump`, and new readers wait behind it. The
/// lock timeout is therefore short, and shorter than the `deadlock_timeout`, so that no other
/// session is the victim of a deadlock.
pub(crate) fn ensure_ahead(now_us: i64) -> String {
    let month = Month::of_us(now_us);
    let ensure_one = |month, table| {
        let ensure = ensure(table, month);
        format!("BEGIN; SET LOCAL lock_timeout = '500ms'; {ensure}; COMMIT")
    };
    [month, month.next()]
        .into_iter()
        .flat_map(|month| Table::ALL.map(|table| ensure_one(month, table)))
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_map_to_utc_calendar_months() {
        let of = |seconds: i64| Month::of_us(seconds * 1_000_000);
        assert_eq!(
            of(0),
            Month {
                year: 1970,
                month: 1
            }
        );
        assert_eq!(
            of(951_782_400),
            Month {
                year: 2000,
                month: 2
            }
        );
        assert_eq!(
            of(951_868_799),
            Month {
                year: 2000,
                month: 2
            }
        );
        assert_eq!(
            of(951_868_800),
            Month {
                year: 2000,
                month: 3
            }
        );
        assert_eq!(
            of(1_767_225_599),
            Month {
                year: 2025,
                month: 12
            }
        );
        assert_eq!(
            of(1_767_225_600),
            Month {
                year: 2026,
                month: 1
            }
        );
        assert_eq!(of(1_767_225_599).next(), of(1_767_225_600));
        assert_eq!(
            Month::of_us(crate::record::id::MAX_US),
            Month {
                year: 9999,
                month: 12
            }
        );
        assert_eq!(of(1_767_225_600).first_moment(), "2026-01-01 00:00:00+00");
    }
}
