//! What was counted of users, agents or models, slice by slice, and put in order.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::plot::Bar;
use super::range::Range;

/// The most names whose figures are kept.
pub(super) const MOST_NAMES: usize = 5_000;

/// What was counted of a name and a bar: name, bar, records, failures, the last start in milliseconds,
/// durations, tokens in and out, another name.
pub(super) type Part = (
    Option<String>,
    i32,
    i64,
    i64,
    i64,
    Option<Vec<i32>>,
    Option<i64>,
    Option<i64>,
    Option<String>,
);

/// The figures of a name.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) total: Bar,
    pub(super) bars: Vec<Bar>,
    pub(super) last_ms: u64,
    /// In milliseconds; sorted when all are there.
    took: Vec<i32>,
    pub(super) tokens_in: Option<u64>,
    pub(super) tokens_out: Option<u64>,
    pub(super) also: Option<String>,
}

impl Figures {
    fn add(&mut self, part: Part, bar: usize, bars: usize, end_ms: u64) {
        let (_, _, records, failed, last, took, tokens_in, tokens_out, also) = part;
        let counted = bar_of(records, failed);
        self.bars.resize(bars, Bar::default());
        if let Some(bar) = self.bars.get_mut(bar) {
            add(bar, counted);
        }
        add(&mut self.total, counted);
        // A row that was forged may begin at another time than its id says.
        let last = u64::try_from(last).unwrap_or(0).min(end_ms);
        self.last_ms = self.last_ms.max(last);
        self.took.extend(took.unwrap_or_default());
        for (sum, more) in [
            (&mut self.tokens_in, tokens_in),
            (&mut self.tokens_out, tokens_out),
        ] {
            if let Some(more) = more {
                let more = u64::try_from(more).unwrap_or(0);
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        }
        self.also = self.also.take().or(also);
    }

    /// Returns the least duration that so many of a hundred do not exceed.
    pub(super) fn percentile(&self, percent: usize) -> Option<i32> {
        let place = (self.took.len() * percent).div_ceil(100).max(1) - 1;
        self.took.get(place).copied()
    }

    /// Returns how many of ten thousand failed.
    pub(super) fn share(&self) -> u64 {
        let share = u128::from(self.total.failed) * 10_000 / u128::from(self.total.records.max(1));
        u64::try_from(share).unwrap_or(10_000)
    }
}

fn bar_of(records: i64, failed: i64) -> Bar {
    let whole = |count| u64::try_from(count).unwrap_or(0);
    Bar {
        records: whole(records),
        failed: whole(failed),
    }
}

fn add(bar: &mut Bar, more: Bar) {
    bar.records += more.records;
    bar.failed += more.failed;
}

/// All figures of a page.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) all: Bar,
    pub(super) bars: Vec<Bar>,
    by_name: HashMap<Option<String>, Figures>,
    /// Of names beyond those that are kept.
    pub(super) others: Bar,
}

impl Totals {
    pub(super) fn new(bars: usize) -> Self {
        Self {
            all: Bar::default(),
            bars: vec![Bar::default(); bars],
            by_name: HashMap::new(),
            others: Bar::default(),
        }
    }

    pub(super) fn add(&mut self, mut part: Part, range: &Range) {
        let bar = usize::try_from(part.1).unwrap_or(0);
        let bars = self.bars.len();
        let more = bar_of(part.2, part.3);
        add(&mut self.all, more);
        if let Some(bar) = self.bars.get_mut(bar) {
            add(bar, more);
        }
        let is_full = self.by_name.len() >= MOST_NAMES;
        let figures = match self.by_name.entry(part.0.take()) {
            Entry::Vacant(_) if is_full => return add(&mut self.others, more),
            Entry::Vacant(entry) => entry.insert(Figures::default()),
            Entry::Occupied(entry) => entry.into_mut(),
        };
        figures.add(part, bar, bars, range.begin_of(bar + 1));
    }

    /// Returns the figures in the order that is asked for.
    pub(super) fn sorted(self, sort: Sort) -> Vec<(Option<String>, Figures)> {
        let mut all: Vec<_> = self.by_name.into_iter().collect();
        for (_, figures) in &mut all {
            figures.took.sort_unstable();
        }
        all.sort_by(|(left, a), (right, b)| {
            let by_value = match sort {
                Sort::Name => left.cmp(right),
                Sort::Records => b.total.records.cmp(&a.total.records),
                Sort::Failed => b.total.failed.cmp(&a.total.failed),
                Sort::Share => b.share().cmp(&a.share()),
                Sort::P95 => b.percentile(95).cmp(&a.percentile(95)),
                Sort::P99 => b.percentile(99).cmp(&a.percentile(99)),
                Sort::TokensIn => b.tokens_in.cmp(&a.tokens_in),
                Sort::TokensOut => b.tokens_out.cmp(&a.tokens_out),
                Sort::Last => b.last_ms.cmp(&a.last_ms),
            };
            by_value
                .then(Reverse(a.total.records).cmp(&Reverse(b.total.records)))
                .then(left.cmp(right))
        });
        all
    }
}

/// What the rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    Records,
    Failed,
    Share,
    P95,
    P99,
    TokensIn,
    TokensOut,
    Last,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_the_least_that_so_many_do_not_exceed() {
        let of = |took: Vec<i32>| Figures {
            took,
            ..Figures::default()
        };
        assert_eq!(of(vec![]).percentile(95), None);
        assert_eq!(of(vec![7]).percentile(95), Some(7));
        let hundred = of((1..=100).collect());
        assert_eq!(hundred.percentile(95), Some(95));
        assert_eq!(hundred.percentile(99), Some(99));
        assert_eq!(of((1..=101).collect()).percentile(95), Some(96));
    }

    #[test]
    fn names_beyond_those_kept_are_counted_as_others() {
        let range = Range {
            from_ms: 0,
            to_ms: 1_000,
            step_ms: 1_000,
        };
        let mut totals = Totals::new(1);
        for number in 0..MOST_NAMES + 3 {
            let part = (Some(number.to_string()), 0, 2, 1, 5, None, None, None, None);
            totals.add(part, &range);
        }
        let part = (
            Some(String::from("0")),
            0,
            1,
            0,
            7,
            Some(vec![3]),
            None,
            None,
            None,
        );
        totals.add(part, &range);
        assert_eq!(
            totals.others,
            Bar {
                records: 6,
                failed: 3
            }
        );
        assert_eq!(
            totals.all.records,
            2 * (u64::try_from(MOST_NAMES).unwrap() + 3) + 1
        );
        let rows = totals.sorted(Sort::Records);
        assert_eq!(rows.len(), MOST_NAMES);
        assert_eq!(
            rows[0].1.total,
            Bar {
                records: 3,
                failed: 1
            }
        );
        assert_eq!(rows[0].1.last_ms, 7);
    }
}
