//! A range of time that figures are about, cut into equal parts for the bars of a plot.

use std::fmt::Write as _;
use std::time::Duration;

use maud::{Markup, html};
use sqlx::types::Uuid;

use super::answer::Refusal;
use super::page::{notice, time, visible};
use super::viewer::{Access, Viewer};
use crate::filter::{Bounds, Filter, encode};
use crate::text::grouped;

/// The ranges that a page offers, the shortest first.
const RANGES: [&str; 5] = ["1h", "6h", "24h", "7d", "30d"];

/// The range of a page that nothing is asked of.
const DEFAULT: &str = "24h";

/// How long counting may take before the page says how far it came.
const TIME: Duration = Duration::from_millis(200);

/// How long it may take if the reader asks to count on.
const LONG_TIME: Duration = Duration::from_secs(10);

/// The most bars of a plot.
const MOST_BARS: u64 = 48;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How long a bar may be, in milliseconds.
const STEPS: [u64; 13] = [
    1_000,
    10_000,
    MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    HOUR,
    6 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    30 * DAY,
    91 * DAY,
    365 * DAY,
];

/// What the address of a page of figures asks for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Which records are counted; there is always a `since`.
    pub(super) filter: Filter,
    pub(super) sort: Option<String>,
    pub(super) is_long: bool,
}

impl Asked {
    /// Reads the query of an address. `range` is another word for `since`.
    pub(super) fn read(query: &str) -> Result<Self, Refusal> {
        let mut asked = Self {
            filter: Filter::default(),
            sort: None,
            is_long: false,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.trim();
            match &*name {
                _ if value.is_empty() => {}
                "long" => asked.is_long = true,
                "sort" => asked.sort = Some(value.to_owned()),
                "range" => asked.filter.add("since", value)?,
                name => asked.filter.add(name, value)?,
            }
        }
        if asked.filter.since.is_none() {
            asked.filter.since = Some(DEFAULT.to_owned());
        }
        Ok(asked)
    }

    /// How long counting may take.
    pub(super) fn time(&self) -> Duration {
        if self.is_long { LONG_TIME } else { TIME }
    }

    /// Returns the address of the same page, on which counting may take longer.
    fn longer(&self, at: &str) -> String {
        format!(
            "{}&long=yes",
            address(at, &self.filter, self.sort.as_deref())
        )
    }

    /// The range and the tenant, as links and as a form without which no script is needed.
    pub(super) fn form(&self, at: &str, viewer: &Viewer) -> Markup {
        let sort = self.sort.as_deref();
        let is_any_tenant = matches!(
            viewer.access,
            Access::Auditor | Access::Login { tenant: None }
        );
        let filter = &self.filter;
        // What the form has no field for is kept.
        let kept = filter.values().into_iter();
        let kept = kept.filter(|(name, _)| {
            !(matches!(*name, "since" | "until") || is_any_tenant && *name == "tenant")
        });
        html! {
            nav.ranges aria-label="Range of time" {
                @for range in RANGES {
                    @let is_this = filter.since.as_deref() == Some(range) && filter.until.is_none();
                    a href=(address(at, &self.of_range(range), sort)) aria-current=[is_this.then_some("true")] { "last " (range) }
                }
            }
            form.filters method="get" action=(at) aria-label="Range of time" {
                label { "Since (24h, 2026-01-31)" input name="since" value=[filter.since.as_deref()] size="14"; }
                label { "Until" input name="until" value=[filter.until.as_deref()] size="14"; }
                @if is_any_tenant {
                    label { "Tenant" input name="tenant" value=[filter.tenant.as_deref()] size="14"; }
                }
                @for (name, value) in kept { input type="hidden" name=(name) value=(value); }
                @if let Some(sort) = sort { input type="hidden" name="sort" value=(sort); }
                button.main type="submit" { "Count" }
            }
            @let others: Vec<_> = filter.values().into_iter().filter(|(name, _)| !matches!(*name, "since" | "until")).collect();
            @if !others.is_empty() {
                p.soft { "Only of "
                    @for (at, (name, value)) in others.into_iter().enumerate() {
                        @if at > 0 { ", " }
                        (name) " " strong { (visible(value)) }
                    }
                    "."
                }
            }
        }
    }

    /// Returns the filter for another range.
    fn of_range(&self, range: &str) -> Filter {
        Filter {
            since: Some(range.to_owned()),
            until: None,
            ..self.filter.clone()
        }
    }

    /// Says what was counted, and if that is not all, what the reader can do.
    pub(super) fn told(
        &self,
        at: &str,
        viewer: &Viewer,
        counted: &Counted,
        records: i64,
    ) -> Markup {
        let is_bound_to_none = viewer.access == Access::Login { tenant: None };
        let range = &counted.range;
        let shorter = self.shorter(range.to_ms - range.from_ms);
        html! {
            @if counted.is_crowded {
                p.notice role="status" {
                    "More than a hundred thousand names or errors had one and the same moment, which no ordinary program does: not all of them are counted."
                }
            }
            @if let Some(reached) = counted.cut_at_ms {
                p.notice role="status" {
                    "Counting was cut short: these are the figures of "
                    (grouped(records)) " records since " (time(&utc(reached))) ", not of the whole range. "
                    @if !self.is_long {
                        a href=(self.longer(at)) { "Count for 10 seconds" }
                        @if shorter.is_some() { ", or of " }
                    } @else if shorter.is_some() {
                        "Count a shorter range: "
                    }
                    @if let Some(shorter) = shorter {
                        a href=(address(at, &self.of_range(shorter), self.sort.as_deref())) { "the last " (shorter) }
                        " alone"
                    }
                    "."
                }
            } @else if records == 0 {
                (notice("There is no such record in this range of time."))
                @if is_bound_to_none {
                    p { "If your login reads one tenant's records, log out, and name the tenant when you log in." }
                }
            }
        }
    }

    /// Returns the longest range that is offered and shorter than this.
    fn shorter(&self, ms: u64) -> Option<&'static str> {
        let length = |range: &str| {
            let parsed = humantime::parse_duration(range).unwrap_or_default();
            u64::try_from(parsed.as_millis()).unwrap_or(u64::MAX)
        };
        let mut shorter = RANGES.into_iter().rev();
        // One more than the last hour of a range that ends at the next full bar.
        shorter.find(|range| length(range) * 5 / 4 < ms && self.filter.until.is_none())
    }
}

/// Returns the address of a page with this filter and order.
pub(super) fn address(at: &str, filter: &Filter, sort: Option<&str>) -> String {
    let mut address = format!("{at}?{}", filter.query());
    if let Some(sort) = sort {
        let _ = write!(address, "&sort={}", encode(sort));
    }
    address
}

/// What was counted.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) range: Range,
    /// If the time was over: since when records were counted.
    pub(super) cut_at_ms: Option<u64>,
    /// Whether some records were left out, since too many names or errors had the same moment.
    pub(super) is_crowded: bool,
}

/// A range of time, in milliseconds since 1970: from the first on, and before the second.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the unit")]
pub(super) struct Range {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    /// How long a bar is.
    pub(super) step_ms: u64,
}

impl Range {
    /// Returns the range between two ids. One that ends now ends with the bar of now: a writer's clock
    /// may be a little ahead.
    pub(super) fn new(bounds: Bounds, is_until_now: bool) -> Self {
        let from_ms = bounds.from.map_or(0, ms_of);
        let to_ms = bounds.to.map_or(from_ms, ms_of).max(from_ms);
        let wanted = (to_ms - from_ms).div_ceil(MOST_BARS);
        let step = STEPS.into_iter().find(|step| *step >= wanted);
        let mut range = Self {
            from_ms,
            to_ms,
            step_ms: step.unwrap_or(wanted),
        };
        if is_until_now {
            range.to_ms = range.begin_of(range.bars());
        }
        range
    }

    /// Returns how many bars there are. The first begins with the range, and each other where the clock
    /// strikes.
    pub(super) fn bars(&self) -> usize {
        let bars = self.to_ms.div_ceil(self.step_ms) - self.from_ms / self.step_ms;
        usize::try_from(bars).unwrap_or(usize::MAX)
    }

    /// Returns when a bar begins.
    pub(super) fn begin_of(&self, bar: usize) -> u64 {
        let bar = u64::try_from(bar).unwrap_or(u64::MAX);
        let struck = (self.from_ms / self.step_ms).saturating_add(bar);
        struck.saturating_mul(self.step_ms).max(self.from_ms)
    }

    /// Returns the least id of each bar.
    pub(super) fn edges(&self) -> Vec<Uuid> {
        let bars = 0..self.bars();
        bars.map(|bar| id_at(self.begin_of(bar))).collect()
    }

    /// Returns how long a bar is, in words.
    pub(super) fn step(&self) -> String {
        humantime::format_duration(Duration::from_millis(self.step_ms)).to_string()
    }
}

/// Returns the least id of a time.
pub(super) fn id_at(ms: u64) -> Uuid {
    Uuid::from_u128(u128::from(ms) << 80)
}

/// Returns the time in an id.
pub(super) fn ms_of(id: Uuid) -> u64 {
    u64::try_from(id.as_u128() >> 80).unwrap_or(u64::MAX)
}

/// Returns a time as it is shown, in UTC.
pub(super) fn utc(ms: u64) -> String {
    // The last time that has four digits for its year.
    let ms = ms.min(253_402_300_799_999);
    let at = std::time::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(at)
        .to_string()
        .trim_end_matches('Z')
        .replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from_ms: u64, to_ms: u64, is_until_now: bool) -> Range {
        let bounds = Bounds {
            from: Some(id_at(from_ms)),
            to: Some(id_at(to_ms)),
        };
        Range::new(bounds, is_until_now)
    }

    #[test]
    fn bars_begin_with_the_range_and_where_the_clock_strikes() {
        let at = 1_700_000_000_000;
        let day = range(at, at + DAY, true);
        assert_eq!(day.step_ms, HOUR);
        assert_eq!(day.bars(), 25);
        assert_eq!(day.begin_of(0), at);
        assert_eq!(day.begin_of(1) % HOUR, 0);
        assert_eq!(day.to_ms % HOUR, 0);
        assert!(day.to_ms >= at + DAY && day.to_ms < at + DAY + HOUR);
        let edges = day.edges();
        assert_eq!(edges.len(), 25);
        assert!(edges.is_sorted());
        assert_eq!(range(at, at + 7 * DAY, false).step_ms, 6 * HOUR);
        assert_eq!(range(at, at + 7 * DAY, false).to_ms, at + 7 * DAY);
    }

    #[test]
    fn no_range_is_too_long_too_short_or_backwards() {
        let all = range(0, (1 << 48) - 1, false);
        assert!(all.bars() <= 49, "{}", all.bars());
        let instant = range(5, 5, false);
        assert_eq!((instant.bars(), instant.to_ms), (1, 5));
        assert!(instant.edges().len() == 1);
        let backwards = range(100_000, 5, false);
        assert_eq!(backwards.to_ms, backwards.from_ms);
        assert_eq!(utc((1 << 48) - 1), "9999-12-31 23:59:59.999");
    }
}
