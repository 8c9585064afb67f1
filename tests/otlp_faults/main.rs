//! A misbehaving collector costs no record and delays nothing: during the fault Postgres gets the
//! trail, and afterwards every span has arrived at least once, or is counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod collectors;
mod logins;
mod processes;
mod quota;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::child::{ChildProcess, command};
use testkit::collector::{Collector, Exported, Protocol};
use testkit::trail::{Folder, PATIENCE, Trail};
use testkit::{Postgres, wait_until};
use tracing_audit::{Audit, Event, ExportStats, Otlp};

const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

/// Longer than any test takes.
const FOREVER: Duration = Duration::from_hours(1);

fn start(otlp: Otlp) -> Trail {
    Trail::start_with(|builder| builder.otlp(otlp))
}

fn record(audit: &Audit, count: usize) {
    for n in 0..count {
        let event = Event::new("asked").target("question", n.to_string());
        audit.record(event).unwrap();
    }
}

/// Returns the span ids of the rows. Fails if a row is there twice.
fn rows(postgres: &Postgres) -> BTreeSet<String> {
    let ids = postgres.psql(
        "SELECT span_id FROM audit.events UNION ALL SELECT span_id FROM audit.query_runs \
         UNION ALL SELECT span_id FROM audit.prompt_runs",
    );
    let different: BTreeSet<_> = ids.lines().map(str::to_owned).collect();
    assert_eq!(ids.lines().count(), different.len(), "a row comes once");
    different
}

/// Returns the ids of the spans that arrived for rows.
fn arrived(collector: &Collector) -> BTreeSet<String> {
    collector
        .spans()
        .iter()
        .filter(|span| span.span.name != "audit.gap")
        .map(Exported::span_id)
        .collect()
}

/// Fails unless the records are committed during the fault.
fn assert_on_time(audit: &Audit, postgres: &Postgres, records: usize) {
    audit
        .flush_blocking(PATIENCE)
        .expect("Postgres does not wait for the collector");
    assert_eq!(rows(postgres).len(), records);
}

/// Returns the export's counts. Fails unless they count each of this many records once, as they
/// must at any moment. These are the process's own records and those it found and has processed.
#[track_caller]
fn export(audit: &Audit, records: usize) -> ExportStats {
    let export = audit.stats().export().unwrap();
    assert_eq!(
        export.exported()
            + export.refused()
            + export.by_host()
            + export.given_up()
            + export.pending(),
        records as u64,
        "{export:?}"
    );
    export
}

/// Returns the export's counts once it has processed everything.
fn dealt_with(audit: &Audit, records: usize) -> ExportStats {
    wait_until("the export has dealt with all", PATIENCE, || {
        export(audit, records).pending() == 0
    });
    export(audit, records)
}

/// Waits until the export is failing, and fails if any record counts as processed.
fn assert_held(audit: &Audit, records: usize) {
    wait_until("the export has noticed", PATIENCE, || {
        export(audit, records).is_failing()
    });
    assert_eq!(export(audit, records).pending(), records as u64);
}

/// Waits until every record is exported, and fails unless each has arrived.
fn assert_all_exported(trail: &Trail, collector: &Collector, records: usize) {
    let export = dealt_with(&trail.audit, records);
    assert_eq!(export.exported(), records as u64, "{export:?}");
    assert!(!export.is_failing());
    assert_eq!(arrived(collector), rows(&trail.postgres));
}

/// Waits until a process has exported this many records, its own and orphaned ones.
fn assert_left_is_exported(audit: &Audit, spool: &Folder, records: usize) {
    wait_until("the folder that was left is removed", PATIENCE, || {
        spool.names().len() == 1
    });
    assert_eq!(dealt_with(audit, records).exported(), records as u64);
}

/// Shuts a pipeline down, and fails if that waits for the collector.
fn shut_down(audit: &Audit, committed: usize) {
    let began = Instant::now();
    let report = audit.shutdown_blocking(FOREVER);
    assert!(began.elapsed() < PATIENCE, "it waits for nothing");
    assert_eq!(
        (report.committed, report.spooled, report.dropped),
        (committed as u64, 0, 0)
    );
}

/// Like [`command`], with an export that is configured by the environment.
fn exporting(
    process: ChildProcess,
    postgres: &Postgres,
    spool: &Folder,
    collector: &Collector,
) -> Command {
    let protocol = match collector.protocol() {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http/protobuf",
    };
    let mut command = command(process, postgres, spool);
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
    command
}
