//! Records that one process leaves and another exports.

use std::fs::File;
use std::time::Duration;

use super::{
    PROTOCOLS, arrived, assert_all_exported, assert_left_is_exported, assert_on_time, export,
    exporting, record, rows, shut_down, start,
};
use testkit::child::{
    child, child_processes, kill, say, say_ready_and_wait_to_be_killed, start_until_ready,
};
use testkit::collector::{Behaviour, Collector, Protocol};
use testkit::trail::{Folder, PATIENCE, pipeline};
use testkit::{Postgres, Stop, otlp_to, wait_until};
use tonic::Code;
use tracing_audit::{Audit, Otlp};

child_processes!(
    stores_1_000_events_for_the_export_and_waits,
    records_and_flushes_until_killed,
    lives_half_a_second,
    stores_300_events_without_an_export_and_waits,
);

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

fn lives_half_a_second() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    record(&audit, 1);
    // The time that it lives; it waits for nothing.
    std::thread::sleep(Duration::from_millis(500));
    audit.shutdown_blocking(PATIENCE);
    std::process::exit(0)
}

#[test]
fn orphaned_log_is_exported_by_processes_that_live_half_a_second() {
    for protocol in PROTOCOLS {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let mut collector = Collector::absent(protocol);
        kill(start_until_ready(&mut exporting(
            child!(stores_1_000_events_for_the_export_and_waits),
            &postgres,
            &spool,
            &collector,
        )));
        collector.start_again();
        collector.behave(Behaviour::Slow(Duration::from_millis(300)));
        for _ in 0..6 {
            let mut short = exporting(child!(lives_half_a_second), &postgres, &spool, &collector)
                .spawn()
                .unwrap();
            assert!(short.wait().unwrap().success());
        }
        assert_eq!(folders(&spool), Vec::<String>::new(), "{protocol:?}");
        assert_eq!(rows(&postgres).len(), 1_006);
        assert_eq!(arrived(&collector), rows(&postgres));
        assert_eq!(collector.spans().len(), 1_006, "each arrives once");
    }
}

fn stores_300_events_without_an_export_and_waits() -> ! {
    let audit = tracing_audit::Audit::builder()
        .postgres(std::env::var("AUDIT_DATABASE_URL").unwrap())
        .spool(std::env::var("AUDIT_SPOOL_DIR").unwrap())
        .service_name("child")
        .batch(100_000, Duration::from_mins(1))
        .start()
        .unwrap();
    record(&audit, 299);
    testkit::trail::record_and_wait_until_stored(&audit, "last");
    say_ready_and_wait_to_be_killed()
}

#[test]
fn log_of_a_process_without_an_export_is_exported_by_one_that_has_it() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let collector = Collector::start(Protocol::Http);
    kill(start_until_ready(&mut testkit::child::command(
        child!(stores_300_events_without_an_export_and_waits),
        &postgres,
        &spool,
    )));
    let next = pipeline(&postgres, &spool, |builder| {
        builder.otlp(otlp_to!(collector))
    });
    assert_left_is_exported(&next, &spool, 300);
    assert_eq!(rows(&postgres).len(), 300);
    assert_eq!(arrived(&collector), rows(&postgres));
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
