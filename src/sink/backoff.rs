//! Pauses that grow while attempts fail.

use std::time::Duration;

/// The pause before the next attempt: it doubles with each failure, up to the longest one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Returns the pause after a failure, and doubles the next one.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// Returns to the first pause, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Skips to the longest pause, for a failure that only an operator can fix.
    pub(crate) fn go_to_longest(&mut self) {
        self.next = self.longest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_the_maximum_and_resets_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let pauses = std::iter::repeat_with(|| backoff.next_pause().as_secs());
        assert_eq!(pauses.take(5).collect::<Vec<_>>(), [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next_pause(), Duration::from_secs(1));
        backoff.go_to_longest();
        assert_eq!(backoff.next_pause(), Duration::from_secs(5));
    }
}
