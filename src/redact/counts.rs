//! What the redactor did, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a redactor, for each rule by its place in the list of rules.
#[derive(Debug)]
pub(crate) struct Counts {
    rules: Vec<(String, AtomicU64)>,
    passed: AtomicU64,
    stored: AtomicU64,
    failed: AtomicU64,
}

/// What redaction has done since the start; from [`Stats::redaction`](crate::Stats::redaction).
///
/// ```
/// # fn check(stats: &tracing_audit::redact::RedactionStats) {
/// // Each record that is stored has passed the redactor.
/// assert!(stats.stored() <= stats.passed());
/// for (rule, count) in stats.rules() {
///     println!("{rule}: {count}");
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedactionStats {
    rules: Vec<(String, u64)>,
    passed: u64,
    stored: u64,
    failed: u64,
}

impl RedactionStats {
    /// Returns how many values each rule has redacted, for the rules that redacted any.
    pub fn rules(&self) -> impl Iterator<Item = (&str, u64)> {
        self.rules
            .iter()
            .map(|(rule, count)| (rule.as_str(), *count))
    }

    /// Returns how many records have passed the redactor.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Returns how many records the local log has taken: more than have
    /// [passed](Self::passed) would mean a way around the redactor.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Returns how often a redactor panicked. Each time a value was replaced by
    /// `[redaction failed]`.
    pub fn failed(&self) -> u64 {
        self.failed
    }
}

impl Counts {
    pub(super) fn new(rules: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = rules.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self {
            rules: names
                .into_iter()
                .map(|name| (name, AtomicU64::new(0)))
                .collect(),
            passed: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, rule: &str, count: u64) {
        if let Ok(at) = self
            .rules
            .binary_search_by(|(name, _)| name.as_str().cmp(rule))
        {
            self.rules[at].1.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn count_passed(&self, records: u64) {
        self.passed.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn count_stored(&self, records: u64) {
        self.stored.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts at this moment.
    pub(crate) fn take(&self) -> RedactionStats {
        // Stored first: what is stored meanwhile has passed.
        let stored = self.stored.load(Ordering::Relaxed);
        let counted = self
            .rules
            .iter()
            .map(|(name, count)| (name.clone(), count.load(Ordering::Relaxed)));
        RedactionStats {
            rules: counted.filter(|(_, count)| *count > 0).collect(),
            stored,
            passed: self.passed.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}
