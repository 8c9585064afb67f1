//! Small plots, drawn on the server: bars of counts, with failures on top.
//!
//! A plot is a picture of numbers that are told in words as well, so that it is readable without
//! being seen.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::page::time;
use super::range::{Range, utc};
use crate::text::grouped;

/// The height of a plot, in units of its own.
const HEIGHT: u64 = 40;

/// The width of a bar with the gap after it, and without.
const PITCH: usize = 10;
const WIDTH: usize = 8;

/// The counts of a bar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) records: u64,
    /// How many of them failed.
    pub(super) failed: u64,
}

/// Draws a large plot, each bar with its numbers, and the numbers as a table.
pub(super) fn plot(what: &str, bars: &[Bar], range: &Range) -> Markup {
    html! {
        figure {
            (picture("plot", bars, &said(what, bars, range)))
            figcaption {
                span { (time(&utc(range.from_ms))) }
                span { "each bar " (range.step()) ", the highest " (number(highest(bars))) }
                span { (time(&utc(range.to_ms))) }
            }
        }
        details {
            summary { "The plot in numbers" }
            div.scroll { table {
                thead { tr { th { "Since" } th.number { "Records" } th.number { "Failed" } } }
                tbody {
                    @for (at, bar) in bars.iter().enumerate() {
                        tr { td { (time(&utc(range.begin_of(at)))) } td.number { (number(bar.records)) } td.number { (number(bar.failed)) } }
                    }
                }
            } }
        }
    }
}

/// Draws a plot for the cell of a table.
pub(super) fn spark(bars: &[Bar], range: &Range) -> Markup {
    picture("spark", bars, &said("", bars, range))
}

fn picture(class: &str, bars: &[Bar], said: &str) -> Markup {
    let highest = highest(bars).max(1);
    let (mut good, mut bad) = (String::new(), String::new());
    for (at, bar) in bars.iter().enumerate().filter(|(_, bar)| bar.records > 0) {
        let x = at * PITCH;
        // What there is can be seen, however few.
        let height = scaled(bar.records, highest).max(1);
        let failed = match bar.failed {
            0 => 0,
            failed => scaled(failed, highest).max(1),
        };
        let y = HEIGHT - height;
        if height > failed {
            let _ = write!(good, "M{x} {HEIGHT}v-{}h{WIDTH}v{0}z", height - failed);
        }
        if failed > 0 {
            let _ = write!(bad, "M{x} {y}v{failed}h{WIDTH}v-{failed}z");
        }
    }
    html! {
        svg class=(class) viewBox={ "0 0 " (bars.len() * PITCH) " " (HEIGHT) } preserveAspectRatio="none" role="img" {
            title { (said) }
            path.bar d=(good) {}
            @if !bad.is_empty() { path.bar.bad d=(bad) {} }
        }
    }
}

/// Returns what a plot shows, in words.
fn said(what: &str, bars: &[Bar], range: &Range) -> String {
    let records: u64 = bars.iter().map(|bar| bar.records).sum();
    let failed: u64 = bars.iter().map(|bar| bar.failed).sum();
    let most = bars
        .iter()
        .enumerate()
        .max_by_key(|(at, bar)| (bar.records, usize::MAX - at));
    let mut said = format!(
        "{what}{}{} records, {} failed",
        if what.is_empty() { "" } else { ": " },
        number(records),
        number(failed)
    );
    if let Some((at, bar)) = most.filter(|(_, bar)| bar.records > 0) {
        let _ = write!(
            said,
            "; most, {}, in {} from {} UTC",
            number(bar.records),
            range.step(),
            &utc(range.begin_of(at))[..16]
        );
    }
    said
}

fn highest(bars: &[Bar]) -> u64 {
    bars.iter().map(|bar| bar.records).max().unwrap_or(0)
}

fn scaled(count: u64, highest: u64) -> u64 {
    let height = u128::from(count) * u128::from(HEIGHT) / u128::from(highest);
    u64::try_from(height).unwrap_or(HEIGHT)
}

/// Shows a number with its thousands separated.
pub(super) fn number(count: u64) -> String {
    grouped(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Bounds;
    use crate::serve::range::id_at;

    #[test]
    fn bars_are_as_high_as_they_count_and_failures_are_on_top() {
        let bounds = Bounds {
            from: Some(id_at(0)),
            to: Some(id_at(4_000)),
        };
        let range = Range::new(bounds, false);
        let bar = |records, failed| Bar { records, failed };
        let bars = [bar(20, 5), bar(0, 0), bar(40, 0), bar(1_000_000, 1)];
        let html = spark(&bars[..3], &range).into_string();
        assert!(
            html.contains("d=\"M0 40v-15h8v15zM20 40v-40h8v40z\""),
            "{html}"
        );
        assert!(html.contains("d=\"M0 20v5h8v-5z\""), "{html}");
        assert!(
            html.contains("60 records, 5 failed; most, 40, in 1s from 1970-01-01 00:00 UTC"),
            "{html}"
        );
        // What there is can be seen beside a million, and a failure among them.
        let html = spark(&bars, &range).into_string();
        assert!(html.contains("M30 0v1h8v-1z"), "{html}");
        assert!(html.contains("M20 40v-1h8v1z"), "{html}");
    }

    #[test]
    fn plot_of_nothing_is_one() {
        let range = Range {
            from_ms: 0,
            to_ms: 0,
            step_ms: 1_000,
        };
        let html = plot("Activity", &[Bar::default()], &range).into_string();
        assert!(html.contains("Activity: 0 records, 0 failed"), "{html}");
    }
}
