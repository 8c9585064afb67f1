//! Filters that hide audit spans, which is noticed, and filters that do not.

use std::time::Duration;

#[cfg(feature = "init")]
use testkit::child::alone;
use testkit::child::{child, child_processes, command};
use testkit::heard::hear;
use testkit::trail::{Folder, PATIENCE};
use testkit::{Postgres, wait_until};
use tracing::info_span;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

child_processes!(
    hides_audit_spans_by_a_filter,
    filters_only_another_layer,
    #[cfg(feature = "init")]
    calls_init_twice,
    #[cfg(feature = "init")]
    has_no_database,
);

fn hides_audit_spans_by_a_filter() {
    let audit = tracing_audit::from_env().unwrap();
    let (writer, heard) = hear();
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(tracing_subscriber::fmt::layer().with_writer(writer))
        .with(LevelFilter::WARN)
        .init();
    info_span!("audit.query_run", sql_text = "hidden").in_scope(|| ());
    wait_until("it is noticed", PATIENCE, || audit.stats().is_hidden());
    let said = heard.recv_timeout(PATIENCE).unwrap();
    assert!(said.contains("hides audit spans"), "{said}");
    assert_eq!(audit.stats().accepted(), 0);
}

#[test]
fn subscriber_wide_filter_that_hides_audit_spans_is_reported() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let child = command(child!(hides_audit_spans_by_a_filter), &postgres, &spool)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

fn filters_only_another_layer() {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(tracing_subscriber::fmt::layer().with_filter(LevelFilter::ERROR))
        .init();
    // Longer than the check takes.
    let until = std::time::Instant::now() + Duration::from_secs(3);
    wait_until("the time is over", PATIENCE, || {
        std::time::Instant::now() >= until
    });
    assert!(!audit.stats().is_hidden());
    info_span!("audit.query_run", sql_text = "seen").in_scope(|| ());
    assert_eq!(audit.stats().accepted(), 1);
}

#[test]
fn filters_on_other_layers_raise_no_alarm() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let child = command(child!(filters_only_another_layer), &postgres, &spool)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

#[cfg(feature = "init")]
fn calls_init_twice() {
    let audit = tracing_audit::init().unwrap();
    info_span!("audit.query_run", sql_text = "seen").in_scope(|| ());
    tracing::info!("not to be seen");
    tracing::error!("to be seen");
    audit.flush_blocking(PATIENCE).unwrap();
    let again = tracing_audit::init();
    assert!(
        matches!(again, Err(tracing_audit::BuildError::Subscriber)),
        "{again:?}"
    );
}

#[cfg(feature = "init")]
#[test]
fn init_installs_a_subscriber_whose_filter_hides_no_audit_spans() {
    use testkit::trail::rows;
    use tracing_audit::Kind;
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let child = command(child!(calls_init_twice), &postgres, &spool)
        .env("RUST_LOG", "error")
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let log = String::from_utf8(child.stderr).unwrap();
    assert!(
        log.contains("to be seen") && !log.contains("not to be seen"),
        "{log}"
    );
    assert_eq!(rows(&postgres, Kind::QueryRun).len(), 1);
}

#[cfg(feature = "init")]
fn has_no_database() {
    let audit = tracing_audit::init().unwrap();
    tracing::warn!("not to be seen");
    info_span!("audit.query_run", sql_text = "kept").in_scope(|| ());
    wait_until("it is noticed", PATIENCE, || {
        audit.stats().fault().is_some()
    });
    // A message is logged on a thread of its own.
    let until = std::time::Instant::now() + Duration::from_secs(1);
    wait_until("a message had the time", PATIENCE, || {
        std::time::Instant::now() >= until
    });
    // A shutdown would wait for the database.
    std::mem::forget(audit);
}

#[cfg(feature = "init")]
#[test]
fn init_logs_faults_of_the_trail_unless_rust_log_says_what_becomes_of_them() {
    for (directives, is_logged) in [
        ("my_app=debug", true),
        ("my_app=debug,[request]=trace", true),
        ("my_app=debug,error", false),
        ("off", false),
        ("my_app=debug,tracing_audit=off", false),
        ("tracing_audit::sink=off,my_app=debug", false),
    ] {
        let spool = Folder::new();
        let child = alone(child!(has_no_database))
            .env("AUDIT_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
            .env("AUDIT_SPOOL_DIR", &spool.0)
            .env("RUST_LOG", directives)
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        let log = String::from_utf8(child.stderr).unwrap();
        assert_eq!(
            log.contains("audit trail: "),
            is_logged,
            "{directives}: {log}"
        );
        assert!(!log.contains("not to be seen"), "{directives}: {log}");
    }
}
