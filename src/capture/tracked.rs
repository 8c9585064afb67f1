//! Which runs are tracked while they are in flight.

use super::span::SpanState;
use crate::vocabulary::Kind;

/// Which runs get a row if their process dies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracked {
    pub(crate) kinds: [bool; Kind::ALL.len()],
    /// Events that are runs: requests, and adopted spans.
    pub(crate) events_that_are_runs: bool,
}

impl Tracked {
    /// Returns whether any run is tracked.
    pub(crate) fn is_any(self) -> bool {
        self.events_that_are_runs || self.kinds.contains(&true)
    }

    /// Returns whether this one is.
    pub(super) fn has(self, state: &SpanState) -> bool {
        state.kind.is_some_and(|kind| {
            self.kinds[kind.index()]
                || self.events_that_are_runs && kind == Kind::Event && state.is_run()
        })
    }
}
