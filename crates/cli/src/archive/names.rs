//! The names of an archive's objects. Frozen, version 1.
//!
//! `kind=events/month=2026-09/day=2026-09-14/0001-00000.parquet` is the first file of the first set of a day's events;
//! beside it are `_0001.batches` and `_0001.manifest`, which engines that read folders of Parquet leave alone. Files of one tenant
//! each are in folders of that day, as `tenant=11111111-1111-4111-8111-111111111111/0001-00000.parquet`.

use std::fmt;

use sqlx::types::Uuid;
use tracing_audit::__program::Table;

use crate::export::values::date;

/// The greatest number of a set.
pub(crate) const MOST_SETS: u32 = 99_999;

/// The greatest number of a file.
pub(crate) const MOST_FILES: u32 = 99_999;

/// What begins the name of a tenant's folder.
const TENANT: &str = "tenant=";

/// The tenant of rows without one, as Hive names it: `DuckDB` and Spark read it as NULL.
const NO_TENANT: &str = "__HIVE_DEFAULT_PARTITION__";

/// A day of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DayOf {
    pub(crate) table: Table,
    /// Counted from 1970-01-01.
    pub(crate) day: u32,
}

impl DayOf {
    /// Returns the folder of its objects.
    pub(crate) fn folder(self) -> String {
        let day = date_text(self.day);
        let month = &day[..7];
        format!("kind={}/month={month}/day={day}/", self.table.name())
    }

    /// Returns the name of an object.
    pub(crate) fn name(self, set: u32, part: Part) -> String {
        let folder = self.folder();
        match part {
            Part::File(Within::Day, number) => format!("{folder}{set:04}-{number:05}.parquet"),
            Part::File(Within::Tenant(tenant), number) => {
                let tenant = tenant.map_or(NO_TENANT.to_owned(), |tenant| tenant.to_string());
                format!("{folder}{TENANT}{tenant}/{set:04}-{number:05}.parquet")
            }
            Part::Batches => format!("{folder}_{set:04}.batches"),
            Part::Manifest => format!("{folder}_{set:04}.manifest"),
        }
    }
}

impl fmt::Display for DayOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.table.name(), date_text(self.day))
    }
}

/// Where in the folder of its day a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Within {
    /// Directly in it.
    Day,
    /// In the folder of the one tenant that its rows are of.
    Tenant(Option<Uuid>),
}

/// What an object is of its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// Files of a set are numbered from 0 on, wherever they are.
    File(Within, u32),
    Batches,
    Manifest,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) of: DayOf,
    pub(crate) set: u32,
    pub(crate) part: Part,
}

impl Object {
    /// Reads a name; `None`: no object of an archive has it.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('/');
        let table = Table::of_name(parts.next()?.strip_prefix("kind=")?)?;
        parts.next()?;
        let day = day_of_date(parts.next()?.strip_prefix("day=")?)?;
        let mut file = parts.next()?;
        let mut within = Within::Day;
        if let Some(tenant) = file.strip_prefix(TENANT) {
            let is_none = tenant == NO_TENANT;
            within = Within::Tenant((!is_none).then(|| tenant.parse()).transpose().ok()?);
            file = parts.next()?;
        }
        let (set, part) = if let Some(set) = file.strip_suffix(".manifest") {
            (set.strip_prefix('_')?, Part::Manifest)
        } else if let Some(set) = file.strip_suffix(".batches") {
            (set.strip_prefix('_')?, Part::Batches)
        } else {
            let (set, number) = file.strip_suffix(".parquet")?.split_once('-')?;
            (set, Part::File(within, number.parse().ok()?))
        };
        let object = Self {
            of: DayOf { table, day },
            set: set.parse().ok()?,
            part,
        };
        // There is one name of each.
        (object.name() == name && (1..=MOST_SETS).contains(&object.set)).then_some(object)
    }

    pub(crate) fn name(self) -> String {
        self.of.name(self.set, self.part)
    }
}

/// Returns a day, counted from 1970-01-01, as `2026-09-14`.
pub(crate) fn date_text(day: u32) -> String {
    let (year, month, day) = date(day.into());
    format!("{year:04}-{month:02}-{day:02}")
}

/// Reads a day as [`date_text`] writes it.
pub(crate) fn day_of_date(text: &str) -> Option<u32> {
    let mut parts = text.split('-').map(|part| part.parse::<i64>().ok());
    let wanted = (parts.next()??, parts.next()??, parts.next()??);
    // The greatest day that an id tells.
    let (mut from, mut to) = (0_u32, 1 << 22);
    while from < to {
        let middle = from.midpoint(to);
        if date(middle.into()) < wanted {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    (date_text(from) == text).then_some(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_the_docs() {
        let of = DayOf {
            table: Table::of_name("query_runs").unwrap(),
            day: day_of_date("2026-09-14").unwrap(),
        };
        let folder = "kind=query_runs/month=2026-09/day=2026-09-14/";
        for (part, name) in [
            (Part::File(Within::Day, 7), "0001-00007.parquet"),
            (
                Part::File(Within::Tenant(Some(Uuid::from_u128(0xa7))), 7),
                "tenant=00000000-0000-0000-0000-0000000000a7/0001-00007.parquet",
            ),
            (
                Part::File(Within::Tenant(None), 8),
                "tenant=__HIVE_DEFAULT_PARTITION__/0001-00008.parquet",
            ),
            (Part::Batches, "_0001.batches"),
            (Part::Manifest, "_0001.manifest"),
        ] {
            assert_eq!(of.name(1, part), format!("{folder}{name}"));
        }
        for name in [
            "kind=others/month=2026-09/day=2026-09-14/_0001.manifest",
            "kind=query_runs/month=2026-08/day=2026-09-14/_0001.manifest",
            "kind=query_runs/month=2026-09/day=2026-09-31/_0001.manifest",
            "kind=query_runs/month=2026-09/day=2026-09-14/_1.manifest",
            "kind=query_runs/month=2026-09/day=2026-09-14/_0000.manifest",
            "kind=query_runs/month=2026-09/day=2026-09-14/_0001.manifest/x",
            "kind=query_runs/month=2026-09/day=2026-09-14/0001-7.parquet",
            "kind=query_runs/month=2026-09/day=2026-09-14/+001-00007.parquet",
            "kind=query_runs/month=2026-09/day=2026-09-14/tenant=/0001-00007.parquet",
            "kind=query_runs/month=2026-09/day=2026-09-14/tenant=000000000000000000000000000000a7/0001-00007.parquet",
            "kind=query_runs/month=2026-09/day=2026-09-14/tenant=00000000-0000-0000-0000-0000000000A7/0001-00007.parquet",
            "kind=query_runs/month=2026-09/day=2026-09-14/tenant=00000000-0000-0000-0000-0000000000a7/_0001.manifest",
            "kind=query_runs/month=2026-09/day=2026-09-14/tenant=00000000-0000-0000-0000-0000000000a7",
            "_0001.manifest",
            "",
        ] {
            assert_eq!(Object::parse(name), None, "{name}");
        }
    }

    fn within() -> impl Strategy<Value = Within> {
        prop_oneof![
            Just(Within::Day),
            any::<Option<u128>>().prop_map(|tenant| Within::Tenant(tenant.map(Uuid::from_u128)))
        ]
    }

    proptest! {
        #[test]
        fn name_is_read_as_it_was_written(table in 0_usize..4, day in 0_u32..3_000_000, set in 1..MOST_SETS, part in prop_oneof![(within(), 0..MOST_FILES).prop_map(|(within, number)| Part::File(within, number)), Just(Part::Batches), Just(Part::Manifest)]) {
            let object = Object { of: DayOf { table: Table::ALL[table], day }, set, part };
            prop_assert_eq!(Object::parse(&object.name()), Some(object));
        }

        #[test]
        fn no_name_panics(name in "(kind=events/month=2026-09/day=2026-09-14/)?[-_0-9a-z./]{0,20}") {
            if let Some(object) = Object::parse(&name) {
                prop_assert_eq!(object.name(), name);
            }
        }
    }
}
