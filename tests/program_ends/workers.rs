//! Workers that panic, and what they and their libraries log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{end_of, trail};
use serde_json::json;
use testkit::child::{child, child_processes, command};
use testkit::trail::{Folder, PATIENCE, count};
use testkit::{Postgres, wait_until};
use tracing::info_span;
use tracing_audit::AuditFutureExt as _;
use tracing_subscriber::prelude::*;

child_processes!(makes_its_workers_panic, logs_everything_at_trace);

/// A host's layer that panics at certain events, once at each, on the pipeline's own threads: our
/// libraries log there, and a host's code runs.
struct Panics(Arc<std::sync::Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Panics {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let target = event.metadata().target();
        let thread = std::thread::current();
        let is_worker = thread
            .name()
            .is_some_and(|name| matches!(name, "tracing-audit-postgres" | "tracing-audit-otlp"));
        let mut targets = self.0.lock().unwrap();
        if is_worker && let Some(at) = targets.iter().position(|of| target.starts_with(of)) {
            targets.swap_remove(at);
            drop(targets);
            panic!("of the host's layer, on purpose");
        }
    }
}

fn makes_its_workers_panic() -> ! {
    let targets = std::env::var("PANIC_AT").unwrap();
    let left = Arc::new(std::sync::Mutex::new(
        targets.split(' ').map(String::from).collect(),
    ));
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(Panics(Arc::clone(&left)))
        .init();
    for n in 0..20 {
        info_span!("audit.event", action_type = "recorded", n);
        audit.flush_blocking(PATIENCE).unwrap();
    }
    wait_until("all is exported", PATIENCE, || {
        audit.stats().export().unwrap().pending() == 0
    });
    let export = audit.stats().export().unwrap();
    assert_eq!((export.exported(), export.refused()), (20, 0), "{export:?}");
    assert_eq!(*left.lock().unwrap(), Vec::<String>::new());
    // The other panics were in tasks.
    assert!(audit.stats().restarts() >= 2, "{:?}", audit.stats());
    let report = audit.shutdown_blocking(PATIENCE);
    assert_eq!((report.committed, report.spooled), (20, 0), "{report:?}");
    std::process::exit(0)
}

#[test]
fn panicked_workers_are_restarted_and_lose_no_record_or_span() {
    use testkit::collector::{Collector, Protocol};
    for (protocol, name, targets) in [
        (
            Protocol::Grpc,
            "grpc",
            "tower::buffer::service tower::buffer::worker tonic::transport h2::proto",
        ),
        (
            Protocol::Http,
            "http/protobuf",
            "hyper_util::client::legacy::pool hyper_util::client::legacy::connect",
        ),
    ] {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let collector = Collector::start(protocol);
        tracing_audit::migrate(&postgres.url()).unwrap();
        postgres.psql(
            "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE WARNING 'said by a trigger of the host'; RETURN NEW; END $$;
             CREATE TRIGGER warn BEFORE INSERT ON audit.batches FOR EACH ROW EXECUTE FUNCTION warn()",
        );
        let mut child = command(child!(makes_its_workers_panic), &postgres, &spool)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", name)
            // Milliseconds: the export waits for an answer that was lost with its connection.
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
            .env("PANIC_AT", format!("sqlx::postgres::notice {targets}"))
            .spawn()
            .unwrap();
        assert!(end_of(&mut child, 2 * PATIENCE).success());
        assert_eq!(trail(&postgres), (json!({"recorded": 20}), json!({})));
        assert_eq!(collector.different(), 20);
        assert_eq!(spool.names(), Vec::<String>::new(), "nothing is left");
    }
}

fn logs_everything_at_trace() -> ! {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LINES: AtomicU64 = AtomicU64::new(0);
    struct Counts;
    impl std::io::Write for Counts {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let lines = bytes.split(|byte| *byte == b'\n').skip(1).count();
            LINES.fetch_add(lines as u64, Ordering::Relaxed);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let audit = tracing_audit::from_env().unwrap();
    let log = tracing_subscriber::fmt::layer()
        .with_writer(|| Counts)
        .with_filter(tracing_subscriber::EnvFilter::from_default_env());
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(log)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use sqlx::{Connection as _, Executor as _};
        let url = std::env::var("AUDIT_DATABASE_URL").unwrap();
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        for _ in 0..20 {
            let span = info_span!("audit.query_run", sql_text = "SELECT 1");
            connection.execute("SELECT 1").audited(span).await.unwrap();
            audit.flush(PATIENCE).await.unwrap();
        }
    });
    wait_until("all is exported", PATIENCE, || {
        audit.stats().export().unwrap().pending() == 0
    });
    // If logging about a record were recorded again, this would never end.
    let mut last = (0, Instant::now());
    wait_until("nothing more is said", PATIENCE, || {
        let lines = LINES.load(Ordering::Relaxed);
        if lines != last.0 {
            last = (lines, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(500)
    });
    assert!((100..20 * 1_000).contains(&last.0), "{} lines", last.0);
    assert_eq!(audit.stats().accepted(), 20);
    drop(audit);
    std::process::exit(0)
}

#[test]
fn logging_at_trace_level_is_finite_and_stays_out_of_the_trail() {
    use testkit::collector::{Collector, Protocol};
    for (protocol, name) in [(Protocol::Grpc, "grpc"), (Protocol::Http, "http/protobuf")] {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let collector = Collector::start(protocol);
        let mut child = command(child!(logs_everything_at_trace), &postgres, &spool)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", name)
            .env("RUST_LOG", "trace")
            .spawn()
            .unwrap();
        assert!(end_of(&mut child, PATIENCE).success());
        assert_eq!(
            trail(&postgres),
            (json!({}), json!({"SELECT 1": "succeeded "}))
        );
        assert_eq!(count(&postgres, "query_runs"), 20);
        assert_eq!(spool.names(), Vec::<String>::new(), "nothing is left");
    }
}
