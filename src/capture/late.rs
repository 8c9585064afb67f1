//! Notices that a value was recorded on a span after others had inherited from it.
//!
//! A count of such values tells a span whether it must look at the spans around it again. One count
//! for the whole process would have each login of one request send the spans of all others there. So
//! there are several, and the spans of a request share the one of their outermost span.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// More than the requests that a program works at in the same moment; those beyond it share a count.
const COUNTS: usize = 64;

static LATE: [CachePadded<AtomicU64>; COUNTS] =
    [const { CachePadded::new(AtomicU64::new(0)) }; COUNTS];

/// How many values of its request a span knows of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Late {
    count: u8,
    seen: u64,
}

impl Late {
    /// Begins with a span that none encloses, by its number.
    pub(super) fn of_outermost(number: u64) -> Self {
        let place = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - COUNTS.ilog2());
        let count = u8::try_from(place).unwrap_or(0);
        Self { count, seen: 0 }.now()
    }

    fn counted(self) -> &'static AtomicU64 {
        &LATE[usize::from(self.count) % COUNTS]
    }

    /// Returns what there is to know by now.
    pub(crate) fn now(self) -> Self {
        Self {
            seen: self.counted().load(Ordering::Relaxed),
            ..self
        }
    }

    /// Notes a value that was recorded on one of the request's spans.
    pub(super) fn note(self) {
        self.counted().fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether there is a value that the span may not know of.
    pub(super) fn is_behind(self) -> bool {
        self.seen != self.counted().load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_of_one_request_leaves_the_spans_of_most_others_as_they_are() {
        let spans = (1..=COUNTS as u64).map(|number| Late::of_outermost(number << 7));
        let spans: Vec<_> = spans.collect();
        spans[0].note();
        assert!(spans[0].is_behind());
        assert!(!spans[0].now().is_behind());
        let behind = spans.iter().filter(|span| span.is_behind()).count();
        assert!(behind < COUNTS / 8, "{behind}");
    }
}
