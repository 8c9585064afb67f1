//! Messages to the host's log about the delivery to Postgres.

use std::borrow::Cow;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::database::Servers;
use crate::error::causes;
use crate::report;

/// How often rows in default partitions are reported.
const ALARM_EVERY: Duration = Duration::from_hours(1);

/// How often a lasting fault of Postgres is reported again.
const SAID_AGAIN_EVERY: Duration = Duration::from_mins(5);

/// How many causes are remembered when they alternate.
const CAUSES: usize = 8;

/// What was already reported, so that it is not reported too often.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// The faults reported since Postgres last accepted records, and when.
    faults: Vec<(String, Instant)>,
    is_plain_said: bool,
    /// When rows in default partitions were last reported.
    alarmed: Option<Instant>,
}

impl Notices {
    /// Reports what is wrong with Postgres: when it begins or its cause changes, and again while it
    /// lasts.
    pub(super) fn fault(&mut self, fault: &str, kept: &'static str) {
        let now = Instant::now();
        self.faults
            .retain(|(_, at)| now.duration_since(*at) < SAID_AGAIN_EVERY);
        if self.faults.iter().any(|(said, _)| said == fault) {
            return;
        }
        if self.faults.len() >= CAUSES {
            self.faults.remove(0);
        }
        self.faults.push((fault.to_owned(), now));
        let fault = fault.to_owned();
        report::say(move || {
            tracing::warn!(target: "tracing_audit", "audit trail: {fault}{kept}");
        });
    }

    /// Forgets the faults once Postgres accepts records: the next one is news.
    pub(super) fn forget_faults(&mut self) {
        self.faults.clear();
    }

    /// Warns once that the traffic can be read on the network, since this build has no TLS.
    pub(super) fn plain_connection(&mut self, servers: &Servers) {
        if self.is_plain_said || !servers.is_plain_for_want_of_tls() {
            return;
        }
        self.is_plain_said = true;
        let place = servers.place();
        report::say(move || {
            tracing::warn!(
                target: "tracing_audit",
                "audit trail: the connection to Postgres at {place} is not encrypted: this build has no TLS; enable feature \
                 tls-ring, tls-aws-lc-rs or tls-native of tracing-audit, or set sslmode=disable"
            );
        });
    }

    /// Reports that rows are in default partitions, if that is news.
    pub(super) fn rows_in_default_partition(&mut self, rows: u64) {
        let now = Instant::now();
        if self
            .alarmed
            .is_some_and(|at| now.duration_since(at) < ALARM_EVERY)
        {
            return;
        }
        self.alarmed = Some(now);
        report::say(move || {
            tracing::error!(
                target: "tracing_audit",
                rows,
                "audit trail: rows went to a default partition, because their time is far ahead of the server's or more than a year old. Check the clock; `tracing-audit settle` moves them to partitions of their own"
            );
        });
    }
}

pub(super) fn postgres_is_back() {
    report::say(|| {
        tracing::info!(target: "tracing_audit", "audit trail: Postgres takes records again");
    });
}

pub(super) fn records_were_refused(records: usize) {
    report::say(move || {
        tracing::error!(
            target: "tracing_audit",
            records,
            "audit trail: Postgres refused records; they are in audit.dead_letters"
        );
    });
}

pub(super) fn partitions_wait(cause: Cow<'static, str>) {
    report::say(move || {
        tracing::warn!(
            target: "tracing_audit",
            %cause,
            "audit trail: cannot create partitions ahead of time; trying again"
        );
    });
}

pub(super) fn left_records_are_refused(writer: Uuid, cause: Cow<'static, str>) {
    report::say(move || {
        tracing::warn!(
            target: "tracing_audit",
            %writer,
            %cause,
            "audit trail: cannot write the records that another process left; they are kept"
        );
    });
}

pub(super) fn left_records_are_not_exported(records: u64) {
    report::say(move || {
        tracing::warn!(
            target: "tracing_audit",
            records,
            "audit trail: another process left records to export, but this process has no export: they are in Postgres only"
        );
    });
}

pub(super) fn log_cannot_be_read(folder: PathBuf, is_damaged: bool, error: &(dyn Error + 'static)) {
    let error = causes(error);
    report::say(move || {
        tracing::error!(
            target: "tracing_audit",
            folder = %folder.display(),
            is_damaged,
            error,
            "audit trail: cannot read a local log that another process left; a damaged log is set aside, any other is kept"
        );
    });
}
