//! The bill: what each feature adds to a span, on the thread that closes it, and to a record, on the pipeline's threads.
//! See `benches/README.md`.
//!
//! As in `hot_path`, each figure comes from a process of its own with one subscriber, which this program starts.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::Postgres;
use testkit::benches;
use testkit::benches::traffic::{self, REQUESTS};
use testkit::benches::watch::pipeline_time;
use testkit::collector::{Behaviour, Collector, Protocol};
use tracing_audit::redact::Redaction;
use tracing_audit::{Adopt, Audit, Builder, Durability, Kind, Otlp, OtlpProtocol, Seal};
use tracing_subscriber::prelude::*;

/// Spans of a burst: few, so that no queue overflows.
const SPANS: u32 = 2_000;

/// How long spans are closed before any is counted.
const WARM_UP: Duration = Duration::from_millis(600);

/// The variable with the URL of the collector.
const COLLECTOR: &str = "TRACING_AUDIT_BENCH_COLLECTOR";

/// The variable with the folder in which checkpoints are published.
const FOLDER: &str = "TRACING_AUDIT_BENCH_FOLDER";

/// The key in the documentation of Go's `golang.org/x/mod/sumdb/note`, which everybody has.
const KEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

/// What is switched on or off in a case.
type Switch = fn(Builder) -> Builder;

/// The first is what the others are compared with.
const CASES: [(&str, Switch); 8] = [
    ("as it comes", |builder| builder),
    ("without hashes for a ledger", |builder| {
        builder.hash_batches(false)
    }),
    ("sealed, a checkpoint every 500 ms", |builder| {
        let folder = std::env::var(FOLDER).expect("the parent names a folder");
        builder.seal(Seal::new(KEY).anchor_folder(folder))
    }),
    ("adopting all that it can", |builder| {
        let builder = builder.adopt(Adopt::gen_ai()).adopt(Adopt::http());
        builder.adopt(Adopt::sqlx())
    }),
    ("redacting secrets and personal values", |builder| {
        builder.redact(Redaction::default().secrets().personal())
    }),
    ("exporting over gRPC", |builder| {
        let url = std::env::var(COLLECTOR).expect("the parent names a collector");
        let otlp = Otlp::new(url).with_protocol(OtlpProtocol::Grpc);
        // Sooner than by default, so that it is at work while spans are timed.
        builder.otlp(otlp.delay(Duration::from_millis(100)))
    }),
    ("each record required", |builder| {
        builder.durability(Kind::QueryRun, Durability::Required)
    }),
    ("best effort", |builder| {
        builder.durability(Kind::QueryRun, Durability::BestEffort)
    }),
];

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, child, case, url, spool] = &arguments[..]
        && child == "--child"
    {
        let (span, record) = run(case.parse().ok(), url, Path::new(spool));
        println!("{span} {record}");
        return;
    }
    let postgres = Postgres::start();
    let spool = benches::Folder::new();
    let collector = Collector::start(Protocol::Grpc);
    collector.behave(Behaviour::Forget);
    // The bare Registry, and then each case.
    let cases: Vec<_> = std::iter::once(None)
        .chain((0..CASES.len()).map(Some))
        .collect();
    let of_records = RefCell::new(vec![Vec::new(); CASES.len()]);
    let of_spans = benches::alternate(&cases, |case| {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
        let number = case.map_or_else(|| String::from("none"), |case| case.to_string());
        child.args(["--child", &number, &postgres.url()]);
        child
            .env(COLLECTOR, collector.url())
            .env(FOLDER, spool.0.join("checkpoints"));
        let output = child.arg(spool.0.join("spool")).stderr(Stdio::inherit());
        let output = output.output().expect("this program can be started again");
        assert!(output.status.success(), "{child:?}: {}", output.status);
        let figures = String::from_utf8_lossy(&output.stdout);
        let figures = figures.split_whitespace().map(str::parse::<f64>);
        let figures: Vec<_> = figures.map(|figure| figure.expect("a figure")).collect();
        if let Some(case) = *case {
            of_records.borrow_mut()[case].push(figures[1]);
        }
        figures[0]
    });
    print(&of_spans, &of_records.into_inner());
}

fn print(of_spans: &[Vec<f64>], of_records: &[Vec<f64>]) {
    let (bare, of_spans) = of_spans.split_first().expect("the bare Registry is there");
    println!(
        "\nA span has 10 fields, 3 recorded later, {} bytes; the bare Registry takes {:.0} ns. Differences are to the first line.",
        traffic::value_bytes(),
        benches::median(bare)
    );
    let head = [
        "ns added",
        "difference",
        "quartiles",
        "us a record",
        "difference",
        "quartiles",
    ];
    benches::row("tracing-audit", &head.map(str::to_owned));
    for (index, (name, _)) in CASES.iter().enumerate() {
        let (span, record) = (&of_spans[index], &of_records[index]);
        let added = benches::paired(span, bare, |span, bare| span - bare);
        let differs = |these: &[f64], first: &[f64]| {
            benches::paired(these, first, |this, first| this - first)
        };
        let cells = [
            format!("{added:.0}"),
            format!("{:+.0}", differs(span, &of_spans[0])),
            benches::quartiles(span),
            format!("{:.2}", benches::median(record)),
            format!("{:+.2}", differs(record, &of_records[0])),
            benches::fine_quartiles(record),
        ];
        benches::row(name, &cells);
    }
}

/// Measures a case once, in a process that does nothing else: nanoseconds of a span, the median of some bursts, and
/// microseconds of the pipeline's threads for each record.
fn run(case: Option<usize>, url: &str, spool: &Path) -> (f64, f64) {
    let bursts = if benches::is_short() { 5 } else { 25 };
    let Some(case) = case else {
        tracing_subscriber::registry().init();
        return (median_of(bursts, || ()), 0.0);
    };
    let builder = Audit::builder().postgres(url).spool(spool);
    let audit = (CASES[case].1)(builder).start();
    let audit = audit.expect("the pipeline starts");
    tracing_subscriber::registry().with(audit.layer()).init();
    let flush = || {
        audit
            .flush_blocking(Duration::from_mins(1))
            .expect("the records are committed");
    };
    // The threads that only begin something have ended by then.
    let begun = Instant::now();
    while begun.elapsed() < WARM_UP {
        burst();
        flush();
    }
    let before = pipeline_time();
    let span = median_of(bursts, flush);
    let took = pipeline_time()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));
    benches::assert_all_committed(&audit);
    let record = took.unwrap_or_default().as_secs_f64() * 1e6 / f64::from(bursts * SPANS);
    (span, record)
}

fn median_of(bursts: u32, flush: impl Fn()) -> f64 {
    let figures: Vec<_> = (0..bursts)
        .map(|_| {
            let took = burst();
            flush();
            took.as_secs_f64() * 1e9 / f64::from(SPANS)
        })
        .collect();
    benches::median(&figures[bursts as usize / 5..])
}

fn burst() -> Duration {
    let _request = traffic::request(REQUESTS[0]).entered();
    let begun = Instant::now();
    (0..SPANS as usize).for_each(traffic::query_run);
    begun.elapsed()
}
