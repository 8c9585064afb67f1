//! A misbehaving collector costs no record and delays nothing: during the fault Postgres gets the
//! trail, and afterwards every span has arrived at least once, or is counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use testkit::child::{
    ChildProcess, child, child_processes, command, kill, say, say_ready_and_wait_to_be_killed,
    start_until_ready, wait_for_parent,
};
use testkit::collector::{Behaviour, Collector, Exported, Protocol, Tls};
use testkit::otlp_to;
use testkit::trail::{Folder, PATIENCE, Trail, pipeline};
use testkit::{Postgres, Stop, wait_until};
use tonic::Code;
use tracing_audit::{Audit, BuildError, Event, ExportStats, Otlp, OtlpProtocol, QueryRun};

child_processes!(
    exports_until_its_input_ends,
    stores_1_000_events_for_the_export_and_waits,
    records_and_flushes_until_killed,
);

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

#[test]
fn collector_that_starts_late_receives_earlier_records() {
    for protocol in PROTOCOLS {
        let mut collector = Collector::absent(protocol);
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 1_000);
        assert_on_time(&trail.audit, &trail.postgres, 1_000);
        assert_held(&trail.audit, 1_000);
        collector.start_again();
        assert_all_exported(&trail, &collector, 1_000);
    }
}

#[test]
fn collector_killed_mid_stream_receives_every_span_after_its_restart() {
    const THREADS: usize = 4;
    const KILLS: usize = 3;
    const PORTION: usize = 300;
    const RECORDS: usize = KILLS * 2 * THREADS * PORTION;
    for protocol in PROTOCOLS {
        let mut collector = Collector::start(protocol);
        // Many small requests, so that some are in flight whenever it is killed.
        let trail = start(otlp_to!(collector).payload_bytes(16 * 1024));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (go_on, portions) = mpsc::channel();
                    let audit = &trail.audit;
                    scope.spawn(move || {
                        for () in portions {
                            record(audit, PORTION);
                        }
                    });
                    go_on
                })
                .collect();
            let record_on = || threads.iter().for_each(|thread| thread.send(()).unwrap());
            for _ in 0..KILLS {
                let before = collector.different();
                record_on();
                wait_until("spans are coming", PATIENCE, || {
                    collector.different() > before
                });
                collector.stop();
                // In case it had accepted everything by then.
                record_on();
                wait_until("the export has noticed", PATIENCE, || {
                    trail.audit.stats().export().unwrap().is_failing()
                });
                trail.audit.flush_blocking(PATIENCE).unwrap();
                collector.start_again();
            }
        });
        assert_on_time(&trail.audit, &trail.postgres, RECORDS);
        assert_all_exported(&trail, &collector, RECORDS);
    }
}

#[test]
fn temporarily_unavailable_collector_receives_every_span() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(protocol);
        collector.behave(Behaviour::Refuse {
            grpc: Code::Unavailable,
            http: 503,
            after: None,
        });
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 1_000);
        assert_on_time(&trail.audit, &trail.postgres, 1_000);
        wait_until("it is tried again and again", PATIENCE, || {
            collector.requests() >= 3
        });
        assert_held(&trail.audit, 1_000);
        collector.behave(Behaviour::Take);
        assert_all_exported(&trail, &collector, 1_000);
    }
}

#[test]
fn export_waits_for_the_retry_delay_that_the_collector_requests() {
    // Longer than the client's own pauses.
    let after = Duration::from_secs(2);
    for protocol in PROTOCOLS {
        for (grpc, http) in [(Code::Unavailable, 503), (Code::ResourceExhausted, 429)] {
            let collector = Collector::start(protocol);
            collector.behave(Behaviour::Refuse {
                grpc,
                http,
                after: Some(after),
            });
            let trail = start(otlp_to!(collector));
            record(&trail.audit, 100);
            assert_on_time(&trail.audit, &trail.postgres, 100);
            wait_until("it is tried again", PATIENCE, || collector.requests() >= 2);
            assert_held(&trail.audit, 100);
            let refused = collector.requests();
            collector.behave(Behaviour::Take);
            assert_all_exported(&trail, &collector, 100);
            for request in collector.request_times()[..=refused].windows(2) {
                let waited = request[1] - request[0];
                assert!(waited >= after, "{waited:?} after {http}");
            }
        }
    }
}

#[test]
fn every_span_is_exported_after_requests_time_out_for_a_while() {
    for protocol in PROTOCOLS {
        // One that does not accept the requests it leaves unanswered, and one that does.
        for late in [Behaviour::Slow(FOREVER), Behaviour::Late(FOREVER)] {
            let collector = Collector::start(protocol);
            collector.behave(late);
            let trail = start(otlp_to!(collector).timeout(Duration::from_millis(500)));
            record(&trail.audit, 1_000);
            assert_on_time(&trail.audit, &trail.postgres, 1_000);
            // Often enough for the client to retry with smaller requests.
            wait_until("it is tried again and again", PATIENCE, || {
                collector.requests() >= 3
            });
            assert_held(&trail.audit, 1_000);
            collector.behave(Behaviour::Take);
            assert_all_exported(&trail, &collector, 1_000);
        }
    }
}

#[test]
fn every_span_is_exported_in_smaller_requests_when_large_ones_are_refused() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(protocol);
        collector.behave(Behaviour::AtMost(8 * 1024));
        // Long enough for all records to be sent at once.
        let trail = start(otlp_to!(collector).delay(Duration::from_secs(1)));
        record(&trail.audit, 1_000);
        assert_on_time(&trail.audit, &trail.postgres, 1_000);
        assert_all_exported(&trail, &collector, 1_000);
        assert!(collector.largest() > 8 * 1024, "it was not put to the test");
        assert_eq!(collector.spans().len(), 1_000, "nothing comes twice");
    }
}

#[test]
fn span_too_large_for_a_request_is_counted_and_the_others_are_exported() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(protocol);
        collector.behave(Behaviour::AtMost(8 * 1024));
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 50);
        let large = QueryRun::new(format!("SELECT {}", vec!["a_column"; 1_500].join(", ")));
        trail.audit.record(large).unwrap();
        record(&trail.audit, 50);
        assert_on_time(&trail.audit, &trail.postgres, 101);
        let export = dealt_with(&trail.audit, 101);
        assert_eq!((export.exported(), export.refused()), (100, 1));
        assert_eq!(arrived(&collector).len(), 100);
    }
}

#[test]
fn permanently_refused_span_is_counted_and_the_others_are_exported() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(protocol);
        collector.behave(Behaviour::NotNamed("unwanted"));
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 300);
        trail.audit.record(Event::new("unwanted")).unwrap();
        record(&trail.audit, 300);
        assert_on_time(&trail.audit, &trail.postgres, 601);
        let export = dealt_with(&trail.audit, 601);
        assert_eq!((export.exported(), export.refused()), (600, 1));
        assert!(!export.is_failing(), "it takes spans");
        let spans = collector.spans();
        assert_eq!(spans.len(), 600, "nothing comes twice");
        assert!(spans.iter().all(|span| span.span.name == "asked"));
    }
}

#[test]
fn partial_success_counts_the_refused_spans_without_a_retry() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(protocol);
        let trail = start(otlp_to!(collector));
        let mut refused = 0;
        let mut records = 0;
        // One span per request; more than the request has; none, which is only a warning.
        for said in [1, 1_000, 0] {
            collector.behave(Behaviour::Partial(said));
            let requests = collector.requests();
            record(&trail.audit, 100);
            records += 100;
            assert_on_time(&trail.audit, &trail.postgres, records);
            let export = dealt_with(&trail.audit, records);
            refused += match said {
                1 => collector.requests() - requests,
                0 => 0,
                _ => 100,
            };
            assert_eq!(export.refused(), refused as u64);
        }
        // A retry would have arrived before later records.
        assert_eq!(collector.spans().len(), records, "nothing comes twice");
    }
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

fn exports_until_its_input_ends() {
    let audit = tracing_audit::from_env().unwrap();
    record(&audit, 100);
    audit.flush_blocking(PATIENCE).unwrap();
    wait_for_parent();
    shut_down(&audit, 100);
}

#[test]
fn spans_are_kept_without_the_required_header_and_exported_with_it() {
    for protocol in PROTOCOLS {
        for by_environment in [false, true] {
            let collector = Collector::start(protocol);
            collector.behave(Behaviour::Header("x-api-key", "open, sesame"));
            let trail = start(otlp_to!(collector));
            record(&trail.audit, 300);
            assert_on_time(&trail.audit, &trail.postgres, 300);
            assert_held(&trail.audit, 300);
            shut_down(&trail.audit, 300);
            assert_eq!(collector.spans().len(), 0);
            assert_eq!(trail.spool.names().len(), 1, "it stays for the next");
            if by_environment {
                let mut child = start_until_ready(
                    exporting(
                        child!(exports_until_its_input_ends),
                        &trail.postgres,
                        &trail.spool,
                        &collector,
                    )
                    .env("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=open%2C%20sesame")
                    .stdin(Stdio::piped()),
                );
                collector.wait_for(400);
                wait_until("the folder that was left is removed", PATIENCE, || {
                    trail.spool.names().len() == 1
                });
                drop(child.stdin.take());
                assert!(child.wait().unwrap().success());
            } else {
                let otlp = otlp_to!(collector).header("X-Api-Key", "open, sesame");
                let next = pipeline(&trail.postgres, &trail.spool, |builder| builder.otlp(otlp));
                record(&next, 100);
                assert_on_time(&next, &trail.postgres, 400);
                assert_left_is_exported(&next, &trail.spool, 400);
                shut_down(&next, 100);
            }
            assert_eq!(trail.spool.names(), Vec::<String>::new());
            assert_eq!(arrived(&collector), rows(&trail.postgres));
        }
    }
}

#[test]
fn spans_are_kept_until_the_collectors_certificate_authority_is_trusted() {
    for protocol in PROTOCOLS {
        let tls = Tls::private();
        let authority = tls.authority.clone();
        let collector = Collector::with_tls(protocol, tls);
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 300);
        assert_on_time(&trail.audit, &trail.postgres, 300);
        assert_held(&trail.audit, 300);
        shut_down(&trail.audit, 300);
        assert_eq!(collector.requests(), 0, "not even a header got out");
        assert_eq!(trail.spool.names().len(), 1, "it stays for the next");
        let otlp = otlp_to!(collector).ca_certificate(authority);
        let next = pipeline(&trail.postgres, &trail.spool, |builder| builder.otlp(otlp));
        record(&next, 100);
        assert_on_time(&next, &trail.postgres, 400);
        assert_left_is_exported(&next, &trail.spool, 400);
        assert_eq!(arrived(&collector), rows(&trail.postgres));
    }
}

/// Records events of about 1 KiB each in the local log.
fn record_large(audit: &Audit, count: usize) {
    for _ in 0..count {
        let event = Event::new("asked").metadata("text", "x".repeat(1_000));
        audit.record(event).unwrap();
    }
}

/// Returns the number in an attribute.
fn number(span: &Exported, attribute: &str) -> usize {
    span.attribute(attribute).parse().unwrap()
}

/// Waits until the collector was told of exactly this many discarded records; returns the spans
/// that say so.
fn wait_until_told(collector: &Collector, given_up: u64) -> Vec<Exported> {
    let gaps = || {
        let mut spans = collector.spans();
        spans.retain(|span| span.span.name == "audit.gap");
        spans
    };
    let told = |gap: &Exported| number(gap, "audit.gap.records") as u64;
    wait_until("the collector is told", PATIENCE, || {
        gaps().iter().map(told).sum::<u64>() >= given_up
    });
    let gaps = gaps();
    assert_eq!(gaps.iter().map(told).sum::<u64>(), given_up);
    gaps
}

#[test]
fn records_over_the_export_quota_are_discarded_counted_and_reported_as_gaps() {
    const PORTION: usize = 500;
    const RECORDS: usize = 8 * PORTION;
    const QUOTA: u64 = 256 * 1024;
    let mut collector = Collector::absent(Protocol::Grpc);
    // The minimum, so that there are many requests and much to count.
    let otlp = otlp_to!(collector).payload_bytes(1024);
    let trail = start(otlp.quota_bytes(QUOTA));
    for portion in 1..=8 {
        record_large(&trail.audit, PORTION);
        assert_on_time(&trail.audit, &trail.postgres, portion * PORTION);
        export(&trail.audit, portion * PORTION);
    }
    wait_until("the oldest are given up", PATIENCE, || {
        let is_within_quota = trail.audit.stats().spool_bytes() <= QUOTA;
        is_within_quota && export(&trail.audit, RECORDS).given_up() > 0
    });
    collector.start_again();
    // Without a pause: at any moment each record is counted once.
    let deadline = Instant::now() + PATIENCE;
    while export(&trail.audit, RECORDS).pending() > 0 {
        assert!(Instant::now() < deadline, "the export has dealt with all");
    }
    let export = export(&trail.audit, RECORDS);
    let given_up = usize::try_from(export.given_up()).unwrap();
    assert_eq!((export.refused(), export.by_host()), (0, 0));
    assert!(export.exported() > 0, "{export:?}");

    let gaps = wait_until_told(&collector, export.given_up());
    let first = gaps.iter().map(|gap| number(gap, "audit.gap.first_seq"));
    let last = gaps.iter().map(|gap| number(gap, "audit.gap.last_seq"));
    assert_eq!((first.min(), last.max()), (Some(1), Some(given_up)));
    // The oldest were discarded, and no later ones.
    let seqs: BTreeSet<_> = collector
        .spans()
        .iter()
        .filter(|span| span.span.name != "audit.gap")
        .map(|span| number(span, "audit.record.seq"))
        .collect();
    assert!(seqs.into_iter().eq(given_up + 1..=RECORDS));
    assert_eq!(
        rows(&trail.postgres).len(),
        RECORDS,
        "Postgres has them all"
    );
    shut_down(&trail.audit, RECORDS);
    assert_eq!(trail.spool.names(), Vec::<String>::new());
}

#[test]
fn records_discarded_for_a_slow_collector_are_counted_once() {
    const PORTION: usize = 100;
    let collector = Collector::start(Protocol::Grpc);
    collector.behave(Behaviour::Slow(Duration::from_millis(10)));
    let otlp = otlp_to!(collector).payload_bytes(1024);
    let trail = start(otlp.quota_bytes(64 * 1024));
    let mut records = 0;
    // For a while, records arrive, are exported and are discarded all at once.
    let deadline = Instant::now() + PATIENCE;
    while collector.different() < 100 || export(&trail.audit, records).given_up() < 1_000 {
        assert!(Instant::now() < deadline, "records are given up");
        record_large(&trail.audit, PORTION);
        records += PORTION;
        assert_on_time(&trail.audit, &trail.postgres, records);
    }
    collector.behave(Behaviour::Take);
    let export = dealt_with(&trail.audit, records);
    assert_eq!(arrived(&collector).len() as u64, export.exported());
    wait_until_told(&collector, export.given_up());
    shut_down(&trail.audit, records);
    assert_eq!(trail.spool.names(), Vec::<String>::new());
}

#[test]
fn records_discarded_beside_an_orphaned_log_are_reported_for_the_live_process() {
    let mut collector = Collector::absent(Protocol::Grpc);
    let trail = start(otlp_to!(collector));
    record(&trail.audit, 300);
    shut_down(&trail.audit, 300);
    let otlp = otlp_to!(collector).payload_bytes(1024);
    let next = pipeline(&trail.postgres, &trail.spool, |builder| {
        builder
            .otlp(otlp.quota_bytes(256 * 1024))
            .service_name("next")
    });
    // It has no records of its own yet: it is exporting the orphaned ones.
    wait_until("the export has noticed", PATIENCE, || {
        export(&next, 0).is_failing()
    });
    record_large(&next, 2_000);
    assert_on_time(&next, &trail.postgres, 2_300);
    // Discarded or still waiting, depending on how fast the machine is.
    assert_eq!(export(&next, 2_000).exported(), 0);
    collector.start_again();
    wait_until("the folder that was left is removed", PATIENCE, || {
        trail.spool.names().len() == 1
    });
    let export = dealt_with(&next, 2_300);
    assert!(export.given_up() > 0, "{export:?}");
    assert_eq!(arrived(&collector).len() as u64, export.exported());
    for gap in wait_until_told(&collector, export.given_up()) {
        assert_eq!(gap.resource["service.name"], "next");
    }
}

#[test]
fn a_shutdown_does_not_wait_for_an_absent_collector_and_the_next_process_exports_the_rest() {
    for protocol in PROTOCOLS {
        let mut collector = Collector::start(protocol);
        let trail = start(otlp_to!(collector));
        record(&trail.audit, 300);
        assert_on_time(&trail.audit, &trail.postgres, 300);
        assert_all_exported(&trail, &collector, 300);
        collector.stop();
        record(&trail.audit, 300);
        shut_down(&trail.audit, 600);
        assert_eq!(rows(&trail.postgres).len(), 600);
        assert_eq!(export(&trail.audit, 600).pending(), 300);
        assert_eq!(trail.spool.names().len(), 1, "it stays for the next");

        collector.start_again();
        let next = pipeline(&trail.postgres, &trail.spool, |builder| {
            builder.otlp(otlp_to!(collector))
        });
        assert_left_is_exported(&next, &trail.spool, 300);
        assert_eq!(arrived(&collector), rows(&trail.postgres));
        shut_down(&next, 0);
        assert_eq!(trail.spool.names(), Vec::<String>::new());
    }
}

fn stores_1_000_events_for_the_export_and_waits() -> ! {
    let var = |name| std::env::var(name).unwrap();
    let audit = Audit::builder()
        .postgres(var("AUDIT_DATABASE_URL"))
        .spool(var("AUDIT_SPOOL_DIR"))
        .service_name("child")
        .otlp(Otlp::from_env().unwrap())
        // Records that no flush waits for stay in the log.
        .batch(100_000, Duration::from_mins(1))
        .start()
        .unwrap();
    record(&audit, 500);
    audit.flush_blocking(PATIENCE).unwrap();
    record(&audit, 500);
    wait_until("the log holds all", PATIENCE, || {
        audit.stats().export().unwrap().pending() == 1_000
    });
    say_ready_and_wait_to_be_killed()
}

#[test]
fn orphaned_log_is_committed_and_exported_by_the_next_process() {
    for protocol in PROTOCOLS {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let mut collector = Collector::absent(protocol);
        kill(start_until_ready(&mut exporting(
            child!(stores_1_000_events_for_the_export_and_waits),
            &postgres,
            &spool,
            &collector,
        )));
        let committed = rows(&postgres).len();
        assert!(committed >= 500, "Postgres was on time");
        assert_eq!(spool.names().len(), 1);

        collector.start_again();
        let next = pipeline(&postgres, &spool, |builder| {
            builder.otlp(otlp_to!(collector))
        });
        assert_left_is_exported(&next, &spool, 1_000);
        assert_eq!(rows(&postgres).len(), 1_000);
        assert_eq!(next.stats().adopted(), 1_000 - committed as u64);
        assert_eq!(arrived(&collector), rows(&postgres));
        let writer = postgres.psql("SELECT DISTINCT writer_id FROM audit.events");
        for span in collector.spans() {
            assert_eq!(span.resource["service.name"], "child");
            assert_eq!(span.resource["service.instance.id"], writer.trim());
        }
    }
}

/// Returns the folders of processes. A process that is killed while it checks who owns a folder
/// leaves an empty file beside them.
fn folders(spool: &Folder) -> Vec<String> {
    let mut names = spool.names();
    names.retain(|name| !name.starts_with('.'));
    names
}

fn records_and_flushes_until_killed() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    say("ready");
    loop {
        record(&audit, 100);
        audit.flush_blocking(PATIENCE).unwrap();
    }
}

#[test]
fn exported_spans_match_the_rows_in_postgres_after_random_kills() {
    for protocol in PROTOCOLS {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let collector = Collector::start(protocol);
        for _ in 0..3 {
            let before = collector.different();
            let running = start_until_ready(&mut exporting(
                child!(records_and_flushes_until_killed),
                &postgres,
                &spool,
                &collector,
            ));
            wait_until("it is exporting", PATIENCE, || {
                collector.different() > before + 500
            });
            kill(running);
        }
        let next = pipeline(&postgres, &spool, |builder| {
            builder.otlp(otlp_to!(collector))
        });
        wait_until("the folders that were left are removed", PATIENCE, || {
            folders(&spool).len() == 1
        });
        shut_down(&next, 0);
        assert_eq!(folders(&spool), Vec::<String>::new());
        assert_eq!(arrived(&collector), rows(&postgres));
    }
}

#[test]
fn process_without_export_drains_and_removes_logs_of_exporting_processes() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    let collector = Collector::absent(Protocol::Grpc);
    let exporting = |postgres: &Postgres| {
        pipeline(postgres, &spool, |builder| {
            builder.otlp(otlp_to!(collector))
        })
    };
    // One whose records are in Postgres, and one whose records are not.
    let first = exporting(&postgres);
    record(&first, 200);
    shut_down(&first, 200);
    postgres.stop(Stop::Fast);
    let second = exporting(&postgres);
    record(&second, 300);
    let report = second.shutdown_blocking(Duration::ZERO);
    assert_eq!((report.committed, report.spooled), (0, 300));
    assert_eq!(spool.names().len(), 2);

    postgres.start_again();
    let plain = pipeline(&postgres, &spool, |builder| builder);
    wait_until("both folders are drained and removed", PATIENCE, || {
        spool.names().len() == 1
    });
    assert_eq!(rows(&postgres).len(), 500);
    assert_eq!(plain.stats().adopted(), 300);
    assert_eq!(plain.stats().export(), None);
    shut_down(&plain, 0);
    assert_eq!(spool.names(), Vec::<String>::new());
}

#[test]
fn hanging_collector_delays_neither_flush_nor_shutdown() {
    for protocol in PROTOCOLS {
        // One accepts requests and never answers; the other does not even speak the protocol.
        for is_mute in [false, true] {
            let mut collector = Collector::absent(protocol);
            let mute = is_mute.then(|| collector.mute());
            if !is_mute {
                collector.start_again();
                collector.behave(Behaviour::Slow(FOREVER));
            }
            let trail = start(otlp_to!(collector));
            for portion in 1..=3 {
                record(&trail.audit, 200);
                assert_on_time(&trail.audit, &trail.postgres, portion * 200);
                assert_eq!(export(&trail.audit, portion * 200).exported(), 0);
            }
            record(&trail.audit, 200);
            shut_down(&trail.audit, 800);
            assert_eq!(rows(&trail.postgres).len(), 800);
            assert_eq!(export(&trail.audit, 800).pending(), 800);
            assert_eq!(trail.spool.names().len(), 1, "it stays for the next");

            drop(mute);
            collector.stop();
            collector.behave(Behaviour::Take);
            collector.start_again();
            let next = pipeline(&trail.postgres, &trail.spool, |builder| {
                builder.otlp(otlp_to!(collector))
            });
            assert_left_is_exported(&next, &trail.spool, 800);
            assert_eq!(arrived(&collector), rows(&trail.postgres));
        }
    }
}

#[test]
fn a_log_that_another_process_holds_is_tried_again_until_it_is_exported() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    let collector = Collector::start(Protocol::Grpc);
    collector.behave(Behaviour::Refuse {
        grpc: Code::Unavailable,
        http: 503,
        after: None,
    });
    postgres.stop(Stop::Fast);
    let exporting = || {
        pipeline(&postgres, &spool, |builder| {
            builder.otlp(otlp_to!(collector))
        })
    };
    let first = exporting();
    record(&first, 300);
    let report = first.shutdown_blocking(Duration::ZERO);
    assert_eq!((report.committed, report.spooled), (0, 300));
    let folder = spool.0.join(folders(&spool).pop().unwrap());

    // Its export tries its own record, and nothing else, until the collector accepts it.
    let next = exporting();
    record(&next, 1);
    wait_until("the export is busy", PATIENCE, || {
        next.stats().export().unwrap().is_failing()
    });
    postgres.start_again();
    wait_until("Postgres has what was left", PATIENCE, || {
        next.stats().adopted() == 300
    });
    let lock = File::open(folder.join("lock")).unwrap();
    wait_until("the log is left to the export", PATIENCE, || {
        lock.try_lock().is_ok()
    });
    collector.behave(Behaviour::Take);
    let has_exported = |records: u64| {
        wait_until("own records are exported", PATIENCE, || {
            next.stats().export().unwrap().exported() == records
        });
    };
    has_exported(1);
    // Between these two requests, the export has tried to take the log over.
    record(&next, 1);
    has_exported(2);
    assert!(folder.exists());
    lock.unlock().unwrap();
    assert_left_is_exported(&next, &spool, 302);
    assert_eq!(arrived(&collector), rows(&postgres));
}

#[test]
fn an_export_that_cannot_start_is_an_error_and_no_panic_in_a_runtime() {
    let folder = Folder::new();
    std::fs::write(&folder.0, "not a folder").unwrap();
    let start = |otlp: Otlp, spool: &Path| {
        Audit::builder()
            .postgres("postgres://nobody@127.0.0.1:1/nowhere")
            .otlp(otlp)
            .spool(spool)
            .start()
            .unwrap_err()
    };
    let otlp = || Otlp::new("https://127.0.0.1:1");
    let broken = |protocol| {
        otlp()
            .with_protocol(protocol)
            .client_certificate("no certificate", "no key")
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let error = start(otlp(), &folder.0);
        assert!(matches!(error, BuildError::Spool { .. }), "{error:?}");
        for protocol in [OtlpProtocol::Grpc, OtlpProtocol::HttpProtobuf] {
            let error = start(broken(protocol), &Folder::new().0);
            assert!(matches!(error, BuildError::Otlp { .. }), "{error:?}");
        }
    });
    std::fs::remove_file(&folder.0).unwrap();
}
