//! Filters that hide audit spans, which is noticed, and filters that do not.

use std::time::Duration;

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
