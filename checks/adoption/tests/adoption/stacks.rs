//! The same program leaves the same trail, whatever other layers its subscriber has.

use std::collections::BTreeMap;

use testkit::Postgres;
use testkit::child::{child, child_processes, command};
use testkit::trail::{Folder, PATIENCE};
use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_audit::{Adopt, Audit};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{fmt, registry};

use super::{http, rig, sqlx};

child_processes!(globally_alone, globally_with_a_log, globally_with_a_tracer);

/// Makes a subscriber.
type Stack = fn(&Audit) -> Dispatch;

fn alone(audit: &Audit) -> Dispatch {
    registry().with(audit.layer()).into()
}

fn with_a_log(audit: &Audit) -> Dispatch {
    let log = fmt::layer().with_writer(std::io::sink);
    let log = log.with_filter(LevelFilter::TRACE);
    registry().with(log).with(audit.layer()).into()
}

fn with_a_log_of_warnings(audit: &Audit) -> Dispatch {
    let log = fmt::layer().with_writer(std::io::sink);
    let log = log.with_filter(LevelFilter::WARN);
    registry().with(audit.layer()).with(log).into()
}

fn with_a_tracer(audit: &Audit) -> Dispatch {
    use opentelemetry::trace::TracerProvider as _;
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let tracer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    registry().with(tracer).with(audit.layer()).into()
}

/// Requests, an agent with a tool, and statements, in a program that tags next to nothing.
fn run(database: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let layer = tower_http::trace::TraceLayer::new_for_http();
    runtime.block_on(http::ask(http::router().layer(layer), &http::PATHS));
    runtime.block_on(rig::ask(rig::current, database));
    runtime.block_on(sqlx::current(database));
    // A span that only some of the layers want.
    tracing::info_span!("connection").in_scope(|| {
        tracing::info_span!("HTTP request", http.request.method = "GET", url.path = "/");
    });
}

fn audit(postgres: &str, spool: &Folder) -> Audit {
    Audit::builder()
        .postgres(postgres)
        .spool(&spool.0)
        .service_name("test")
        .adopt(Adopt::gen_ai().whole_messages())
        .adopt(Adopt::http())
        .adopt(Adopt::sqlx().every_statement())
        .start()
        .unwrap()
}

fn globally(stack: Stack) {
    let url = std::env::var("AUDIT_DATABASE_URL").unwrap();
    let folder = std::env::var_os("AUDIT_SPOOL_DIR").unwrap();
    let audit = audit(&url, &Folder(folder.into()));
    tracing::dispatcher::set_global_default(stack(&audit)).unwrap();
    run(&url);
    audit.flush_blocking(PATIENCE).unwrap();
}

fn globally_alone() {
    globally(alone);
}

fn globally_with_a_log() {
    globally(with_a_log);
}

fn globally_with_a_tracer() {
    globally(with_a_tracer);
}

/// Returns all rows without ids and times, and how often each is there.
fn trail_of(postgres: &Postgres) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for table in testkit::trail::record_tables(postgres) {
        let rows = postgres.psql(&format!(
            "SELECT '{table} ' || (to_jsonb(t) - '{{id,parent_id,request_id,trace_id,span_id,parent_span_id,writer_id,seq,
                 salt,created_at,started_at,finished_at,duration_ms,latency_ms}}'::text[]
                 || jsonb_build_object('metadata', metadata - 'statements', 'has_parent', parent_id IS NOT NULL,
                                       'has_request', request_id IS NOT NULL))::text
             FROM audit.{table} t"
        ));
        for row in rows.lines() {
            *all.entry(row.to_owned()).or_default() += 1;
        }
    }
    all
}

#[test]
fn adopted_records_are_the_same_whatever_other_layers_there_are() {
    let mut expected = None;
    let mut compare = |name: &str, postgres: &Postgres| {
        let trail = trail_of(postgres);
        assert!(trail.len() > 15, "{name}: {trail:#?}");
        assert_eq!(
            expected.get_or_insert_with(|| trail.clone()),
            &trail,
            "{name}"
        );
    };
    let scoped: [(_, Stack); 4] = [
        ("alone", alone),
        ("with a log", with_a_log),
        ("with a log of warnings", with_a_log_of_warnings),
        ("with a tracer", with_a_tracer),
    ];
    for (name, stack) in scoped {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let audit = audit(&postgres.url(), &spool);
        let database = postgres.url();
        tracing::dispatcher::with_default(&stack(&audit), || run(&database));
        audit.flush_blocking(PATIENCE).unwrap();
        compare(name, &postgres);
    }
    for (name, process) in [
        ("globally alone", child!(globally_alone)),
        ("globally with a log", child!(globally_with_a_log)),
        ("globally with a tracer", child!(globally_with_a_tracer)),
    ] {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let status = command(process, &postgres, &spool).status().unwrap();
        assert!(status.success(), "{name}");
        compare(name, &postgres);
    }
}
