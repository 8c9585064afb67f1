//! Attempts to log in: guessing is slow, and nobody keeps others from logging in.
//!
//! An attempt counts as failed until it has succeeded, so that many at once are as slow as one after
//! another. It waits before it takes a place among those that are tried, and of the attempts that
//! wait there are only so many from one source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many logins are tried at once.
const MOST_AT_ONCE: usize = 4;

/// How many attempts wait at once, from one source and in all; of more, each is refused.
const MOST_OF_SOURCE: u32 = 8;
const MOST_WAITING: u32 = 2_000;

/// How long the second attempt is delayed; each one after it, twice as long as the one before.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(15);

/// How long a failure counts.
const REMEMBERED: Duration = Duration::from_mins(15);

/// The most sources whose failures are remembered.
const MOST_REMEMBERED: usize = 10_000;

/// Where attempts come from: each source is slowed on its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Address(IpAddr),
    Login(String),
}

/// The attempts of late.
#[derive(Debug)]
pub(super) struct Attempts {
    at_once: Semaphore,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// How often a source failed, and when last.
    failed: HashMap<Source, (u32, Instant)>,
    /// How many attempts of a source wait.
    waiting: HashMap<Source, u32>,
    all_waiting: u32,
}

/// An attempt under way.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    attempts: &'a Attempts,
    sources: Vec<Source>,
    delay: Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            at_once: Semaphore::new(MOST_AT_ONCE),
            counts: Mutex::default(),
        }
    }
}

impl Attempts {
    /// Begins an attempt; `None` if too many wait already.
    pub(super) fn begin(&self, sources: Vec<Source>) -> Option<Attempt<'_>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = sources.iter().any(|source| {
            counts
                .waiting
                .get(source)
                .is_some_and(|n| *n >= MOST_OF_SOURCE)
        });
        if is_full || counts.all_waiting >= MOST_WAITING {
            return None;
        }
        if counts.failed.len() >= MOST_REMEMBERED {
            counts
                .failed
                .retain(|_, (_, last)| last.elapsed() < REMEMBERED);
        }
        if counts.failed.len() >= MOST_REMEMBERED {
            counts.failed.clear();
        }
        let mut most = 0;
        counts.all_waiting += 1;
        for source in &sources {
            *counts.waiting.entry(source.clone()).or_default() += 1;
            let (times, last) = counts
                .failed
                .entry(source.clone())
                .or_insert((0, Instant::now()));
            if last.elapsed() >= REMEMBERED {
                *times = 0;
            }
            most = most.max(*times);
            *times = times.saturating_add(1);
            *last = Instant::now();
        }
        let delay = match most {
            0 => Duration::ZERO,
            times => FIRST_DELAY
                .saturating_mul(1 << (times - 1).min(10))
                .min(MAX_DELAY),
        };
        Some(Attempt {
            attempts: self,
            sources,
            delay,
        })
    }
}

impl Attempts {
    /// Somebody from these sources is let in: what failed before is forgotten.
    pub(super) fn forget(&self, sources: &[Source]) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for source in sources {
            counts.failed.remove(source);
        }
    }
}

impl Attempt<'_> {
    /// Waits as long as it is delayed, and for a place among those that are tried.
    pub(super) async fn wait(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::sleep(self.delay).await;
        self.attempts.at_once.acquire().await.ok()
    }

    /// The login was right: what failed before is forgotten.
    pub(super) fn succeeded(&self) {
        self.attempts.forget(&self.sources);
    }

    /// Nobody knows whether it was right, since the database is away: it does not count.
    pub(super) fn is_undecided(&self) {
        let mut counts = self
            .attempts
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for source in &self.sources {
            if let Some((times, _)) = counts.failed.get_mut(source) {
                *times = times.saturating_sub(1);
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut counts = self
            .attempts
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counts.all_waiting = counts.all_waiting.saturating_sub(1);
        for source in &self.sources {
            if let Some(waiting) = counts.waiting.get_mut(source) {
                *waiting -= 1;
                if *waiting == 0 {
                    counts.waiting.remove(source);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(name: &str) -> Vec<Source> {
        vec![Source::Login(name.to_owned())]
    }

    #[test]
    fn attempts_at_once_are_slowed_as_if_one_came_after_another() {
        let attempts = Attempts::default();
        let all: Vec<_> = (0..5)
            .map(|_| attempts.begin(login("ana")).unwrap())
            .collect();
        let delays: Vec<u128> = all
            .iter()
            .map(|attempt| attempt.delay.as_millis())
            .collect();
        assert_eq!(delays, [0, 500, 1_000, 2_000, 4_000]);
        // Another login is not slowed by it.
        assert_eq!(attempts.begin(login("bo")).unwrap().delay, Duration::ZERO);
        all[0].succeeded();
        drop(all);
        assert_eq!(attempts.begin(login("ana")).unwrap().delay, Duration::ZERO);
    }

    #[test]
    fn one_source_takes_only_so_many_places() {
        let attempts = Attempts::default();
        let all: Vec<_> = (0..MOST_OF_SOURCE)
            .map(|_| attempts.begin(login("ana")).unwrap())
            .collect();
        assert!(attempts.begin(login("ana")).is_none());
        assert!(attempts.begin(login("bo")).is_some());
        drop(all);
        assert!(attempts.begin(login("ana")).is_some());
    }
}
