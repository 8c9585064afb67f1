//! One process: from its `main` to a span that costs what the hundredth does, and its end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use testkit::Postgres;
use testkit::benches::peers::Another;
use testkit::benches::{self, traffic};
use testkit::collector::{Collector, Protocol};
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many spans are timed from the first on.
const SPANS: usize = 200;

/// What each process prints: milliseconds until the layer is there, until a span cost what the hundredth does, and
/// of the shutdown; microseconds of the first, the second, the tenth and the hundredth span.
const FIGURES: usize = 7;

/// What takes the spans of a process, and whether there are any.
const CASES: [(&str, &str); 5] = [
    ("registry", "the bare Registry"),
    ("audit", "tracing-audit"),
    ("audit-unused", "tracing-audit, no span"),
    ("otel", "tracing-opentelemetry, OTLP"),
    ("otel-unused", "tracing-opentelemetry, no span"),
];

pub(crate) fn run() {
    let postgres = Postgres::start_with(&["shared_buffers=128MB"]);
    let collector = Collector::start(Protocol::Http);
    let spool = benches::Folder::new();
    let folder = spool.0.to_string_lossy();
    // The first of all makes the tables.
    measure("audit", &postgres.url(), &folder);
    let mut figures = vec![Vec::new(); CASES.len()];
    benches::alternate(&[0, 1, 2, 3, 4], |&index| {
        let (host, _) = CASES[index];
        let url = if host.starts_with("otel") {
            format!("{}/v1/traces", collector.url())
        } else {
            postgres.url()
        };
        let measured = measure(host, &url, &folder);
        figures[index].push(measured);
        measured[0]
    });
    let of = |index: usize, figure: usize| {
        figures[index]
            .iter()
            .map(|figures: &[f64; FIGURES]| figures[figure])
            .collect::<Vec<_>>()
    };
    println!();
    let columns = [
        "layer, ms",
        "settled, ms",
        "quartiles",
        "shutdown, ms",
        "quartiles",
    ];
    benches::row("a process, from its main", &columns.map(str::to_owned));
    for (index, (host, name)) in CASES.iter().enumerate() {
        let (settled, stopped) = (of(index, 1), of(index, 2));
        let mut cells = vec![
            format!("{:.2}", benches::median(&of(index, 0))),
            format!("{:.2}", benches::median(&settled)),
            benches::fine_quartiles(&settled),
            format!("{:.2}", benches::median(&stopped)),
            benches::fine_quartiles(&stopped),
        ];
        if host.ends_with("unused") {
            cells[1..3].fill(String::new());
        }
        benches::row(name, &cells);
    }
    println!();
    let columns = ["first, µs", "second", "tenth", "hundredth"];
    benches::row("its spans", &columns.map(str::to_owned));
    for index in [0, 1, 3] {
        let cells =
            [3, 4, 5, 6].map(|figure| format!("{:.1}", benches::median(&of(index, figure))));
        benches::row(CASES[index].1, &cells);
    }
    benches::write_figures(
        "processes",
        &[
            (
                "ms until a span costs what the hundredth does",
                benches::median(&of(1, 1)),
            ),
            (
                "ms of an idle program's shutdown",
                benches::median(&of(1, 2)),
            ),
        ],
    );
}

/// Lets a process live; returns what it has measured.
fn measure(host: &str, url: &str, spool: &str) -> [f64; FIGURES] {
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
    child
        .args(["--life", host, url, spool])
        .stderr(Stdio::inherit());
    let output = child.output().expect("this program can be started again");
    assert!(output.status.success(), "{child:?}: {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<_> = said
        .split_whitespace()
        .map(|figure| figure.parse().expect("a child prints its figures"))
        .collect();
    figures.try_into().expect("a child prints its figures")
}

/// What has to live as long as spans come.
enum Installed {
    Registry,
    Audit(Audit),
    OpenTelemetry(SdkTracerProvider),
}

impl Installed {
    fn new(host: &str, url: &str, spool: &str) -> Self {
        let registry = tracing_subscriber::registry().with(Another);
        if host.starts_with("audit") {
            let audit = Audit::builder().postgres(url).spool(spool).start();
            let audit = audit.expect("the pipeline starts");
            registry.with(audit.layer()).init();
            return Self::Audit(audit);
        }
        if host.starts_with("otel") {
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_http()
                .with_endpoint(url)
                .build()
                .expect("the exporter can be made");
            let provider = SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .build();
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
            registry.with(layer).init();
            return Self::OpenTelemetry(provider);
        }
        registry.init();
        Self::Registry
    }

    fn flush(&self) {
        match self {
            Self::Registry => {}
            Self::Audit(audit) => {
                audit.flush_blocking(PATIENCE).expect("all is committed");
            }
            Self::OpenTelemetry(provider) => provider.force_flush().expect("all is exported"),
        }
    }

    fn stop(self) {
        match self {
            Self::Registry => {}
            // As at the end of a `main`.
            Self::Audit(audit) => drop(audit),
            Self::OpenTelemetry(provider) => provider.shutdown().expect("it stops"),
        }
    }
}

/// Is a process that has just begun.
pub(crate) fn live(begun: Instant, host: &str, url: &str, spool: &str) {
    let installed = Installed::new(host, url, spool);
    let layer = begun.elapsed();
    let mut took = vec![Duration::ZERO; SPANS];
    let mut settled = Duration::ZERO;
    if !host.ends_with("unused") {
        let mut closed = vec![Duration::ZERO; SPANS];
        {
            let _request = traffic::request(traffic::REQUESTS[0]).entered();
            for n in 0..SPANS {
                let opened = Instant::now();
                traffic::query_run(n);
                took[n] = opened.elapsed();
                closed[n] = begun.elapsed();
            }
        }
        let hundredth = hundredth(&took);
        let first = took.iter().position(|took| *took <= hundredth);
        settled = closed[first.expect("one of them is no slower than their median")];
        installed.flush();
    }
    // For as long that the pipeline looks seldom for records.
    std::thread::sleep(Duration::from_millis(if benches::is_short() {
        100
    } else {
        1_500
    }));
    let stopping = Instant::now();
    installed.stop();
    let stopped = stopping.elapsed();
    let millis = |took: Duration| took.as_secs_f64() * 1e3;
    let micros = |took: Duration| took.as_secs_f64() * 1e6;
    let figures: [f64; FIGURES] = [
        millis(layer),
        millis(settled),
        millis(stopped),
        micros(took[0]),
        micros(took[1]),
        micros(took[9]),
        micros(hundredth(&took)),
    ];
    println!("{}", figures.map(|figure| figure.to_string()).join(" "));
}

/// The median of the spans around the hundredth.
fn hundredth(took: &[Duration]) -> Duration {
    let mut around = took[90..110].to_vec();
    around.sort_unstable();
    around[10]
}
