//! The counters of the export to OpenTelemetry.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The counters of the export.
#[derive(Debug, Default)]
pub(crate) struct ExportCounters {
    is_on: AtomicU8,
    is_failing: AtomicU8,
    /// Records that are durable in this process' log, and records of orphaned logs that were dealt
    /// with.
    records: AtomicU64,
    exported: AtomicU64,
    by_host: AtomicU64,
    refused: AtomicU64,
    given_up: AtomicU64,
}

impl ExportCounters {
    pub(crate) fn turn_on(&self) {
        self.is_on.store(1, Ordering::Relaxed);
    }

    pub(crate) fn set_failing(&self, is_failing: bool) {
        self.is_failing
            .store(u8::from(is_failing), Ordering::Relaxed);
    }

    /// Counts records that will be counted by one of the other counters; call it before they are.
    pub(crate) fn count_records(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    // ORDERING: Release in the four below, pairs with the Acquire in `stats`: a thread that sees what
    // became of a record sees it counted as a record.
    pub(crate) fn count_exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Release);
    }

    pub(crate) fn count_by_host(&self, records: u64) {
        self.by_host.fetch_add(records, Ordering::Release);
    }

    pub(crate) fn count_refused(&self, spans: u64) {
        self.refused.fetch_add(spans, Ordering::Release);
    }

    pub(crate) fn count_given_up(&self, records: u64) {
        self.given_up.fetch_add(records, Ordering::Release);
    }

    /// Returns how many records were exported, and how many the collector refused.
    pub(crate) fn outcomes(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.exported), read(&self.refused))
    }

    pub(super) fn stats(&self) -> Option<ExportStats> {
        if self.is_on.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // ORDERING: Acquire, pairs with the Release where they are counted: the load below sees at
        // least the records that these came from; the ones not yet counted here are pending.
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (exported, by_host) = (read(&self.exported), read(&self.by_host));
        let (refused, given_up) = (read(&self.refused), read(&self.given_up));
        let records = self.records.load(Ordering::Relaxed);
        Some(ExportStats {
            exported,
            by_host,
            refused,
            given_up,
            pending: records.saturating_sub(exported + by_host + refused + given_up),
            is_failing: self.is_failing.load(Ordering::Relaxed) != 0,
        })
    }
}

/// The outcome of the records on their way to OpenTelemetry; part of [`Stats`](super::Stats). Needs feature
/// `otlp`.
///
/// Each record that reached the local log is in one of `exported`, `by_host`, `refused`, `given_up`
/// and `pending`. Records of orphaned logs are counted as they are dealt with.
///
/// ```
/// # fn show(audit: &tracing_audit::Audit) {
/// if let Some(export) = audit.stats().export() {
///     println!("{} exported, {} pending", export.exported(), export.pending());
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportStats {
    exported: u64,
    by_host: u64,
    refused: u64,
    given_up: u64,
    pending: u64,
    is_failing: bool,
}

impl ExportStats {
    /// Returns how many records' spans the collector has accepted, at least once.
    pub fn exported(&self) -> u64 {
        self.exported
    }

    /// Returns how many records the host's own tracer exports, or are not to be exported.
    pub fn by_host(&self) -> u64 {
        self.by_host
    }

    /// Returns how many records' spans the collector has refused, for their content or their size;
    /// the records are in Postgres.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns how many records were discarded because they exceeded the export's share of the
    /// local log ([`Otlp::quota_bytes`](crate::Otlp::quota_bytes)); the records are in Postgres.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Returns how many records in this process' local log are still to be exported.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Returns whether the last request failed, so that the export waits to retry.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }
}
