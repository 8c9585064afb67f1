//! What a span costs the thread that opens and closes it. See `benches/README.md`.
//!
//! Every figure comes from a process of its own, as an application would be: one subscriber, set globally, and no
//! other that the callsites would have to ask. This program starts itself anew for each case in each round.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrace::collector::{Config, SpanContext};
use fastrace::local::LocalSpan;
use sqlx_core::connection::LogSettings;
use sqlx_core::logger::QueryLogger;
use sqlx_core::sql_str::SqlSafeStr as _;
use testkit::Postgres;
use testkit::benches;
use testkit::benches::peers::{self, Another, CountLines, Discard, OfRequests};
use testkit::benches::traffic::{self, DATASOURCE, QUESTIONS, REQUESTS, USER};
use testkit::benches::watch::Watch;
use tracing_audit::{Adopt, Audit};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::prelude::*;

/// What takes the spans.
#[derive(Clone, Copy, Debug)]
enum Stack {
    Registry,
    Audit,
    /// The same, with everything adopted that can be.
    Adopting,
    /// The same, with the export to a collector beside Postgres.
    #[cfg(feature = "otlp")]
    Exporting,
    OpenTelemetry,
    /// A layer that wants every span and does nothing with it.
    Another,
    AnotherAudit,
    /// That layer with a filter of its own, alone and beside one without.
    Filtered,
    AnotherFiltered,
    /// A line of JSON for each span, which a thread of its own writes into a file.
    Json,
    Fastrace,
}

/// What is done over and over.
#[derive(Clone, Copy, Debug)]
enum Work {
    Audited,
    /// The same, with pauses rather than flushes between the bursts: the pipeline works meanwhile.
    AuditedBusy,
    /// The same outside of any request, with its tenant on itself.
    Alone,
    /// An audited span whose SQL is recorded later as well.
    SqlLater,
    /// An audited span whose SQL is a value that is shown (`%sql`), and the same recorded later.
    SqlShown,
    SqlShownLater,
    /// A question to a model with its answer of 2 kB, and the same with the answer recorded later.
    Answer,
    AnswerLater,
    NotAudited,
    Context,
    FastraceSpan,
    FastraceLocal,
    /// A call of a model, with the fields that rig declares.
    ModelCall,
    /// A request, as tower-http traces it.
    Request,
    /// A query run, with what sqlx does when a statement has ended.
    Statement,
    /// An audited span in four others.
    Nested,
    /// The same, while logins of other requests are recorded.
    NestedAmidLogins,
}

/// A line of a table: what it is called, what is measured on how many threads, and the line of the same table that it
/// is compared with.
type Line = (&'static str, Stack, Work, u32, Option<usize>);

/// The second line of each is tracing-audit, which the ratios are to.
const TABLES: &[(&str, &[Line])] = &[
    (
        "audited span, 1 thread",
        &[
            (BARE, Stack::Registry, Work::Audited, 1, None),
            (OURS, Stack::Audit, Work::Audited, 1, Some(0)),
            (OTEL, Stack::OpenTelemetry, Work::Audited, 1, Some(0)),
            (JSON, Stack::Json, Work::Audited, 1, Some(0)),
            (
                "fastrace Span",
                Stack::Fastrace,
                Work::FastraceSpan,
                1,
                None,
            ),
            (
                "fastrace LocalSpan",
                Stack::Fastrace,
                Work::FastraceLocal,
                1,
                None,
            ),
        ],
    ),
    (
        "audited span, 1 thread, pipeline at work",
        &[
            (BARE, Stack::Registry, Work::AuditedBusy, 1, None),
            (OURS, Stack::Audit, Work::AuditedBusy, 1, Some(0)),
        ],
    ),
    (
        "audited span, 4 threads",
        &[
            (BARE, Stack::Registry, Work::Audited, 4, None),
            (OURS, Stack::Audit, Work::Audited, 4, Some(0)),
            (OTEL, Stack::OpenTelemetry, Work::Audited, 4, Some(0)),
            (
                "fastrace Span",
                Stack::Fastrace,
                Work::FastraceSpan,
                4,
                None,
            ),
        ],
    ),
    (
        "span that is not audited, 1 thread",
        &[
            (BARE, Stack::Registry, Work::NotAudited, 1, None),
            (OURS, Stack::Audit, Work::NotAudited, 1, Some(0)),
            (OTEL, Stack::OpenTelemetry, Work::NotAudited, 1, Some(0)),
            (
                "Registry + another",
                Stack::Another,
                Work::NotAudited,
                1,
                None,
            ),
            (
                "Registry + another + tracing-audit",
                Stack::AnotherAudit,
                Work::NotAudited,
                1,
                Some(3),
            ),
            (
                "Registry + another + one with a filter",
                Stack::AnotherFiltered,
                Work::NotAudited,
                1,
                Some(3),
            ),
        ],
    ),
    (
        "span that only carries context, 1 thread",
        &[
            (BARE, Stack::Registry, Work::Context, 1, None),
            (OURS, Stack::Audit, Work::Context, 1, Some(0)),
            (OTEL, Stack::OpenTelemetry, Work::Context, 1, Some(0)),
            (
                "Registry + another with a filter",
                Stack::Filtered,
                Work::Context,
                1,
                Some(0),
            ),
        ],
    ),
    (
        "audited span without a request, 1 thread",
        &[
            (OURS, Stack::Audit, Work::Audited, 1, None),
            (ALONE, Stack::Audit, Work::Alone, 1, Some(0)),
            (BARE, Stack::Registry, Work::Alone, 1, None),
            (OTEL, Stack::OpenTelemetry, Work::Alone, 1, None),
        ],
    ),
    (
        "SQL recorded later, 1 thread",
        &[
            (AT_START, Stack::Audit, Work::Audited, 1, None),
            (LATER, Stack::Audit, Work::SqlLater, 1, Some(0)),
            (BARE, Stack::Registry, Work::SqlLater, 1, None),
            (OTEL, Stack::OpenTelemetry, Work::SqlLater, 1, None),
        ],
    ),
    (
        "SQL recorded later as a value that is shown, 1 thread",
        &[
            (AT_START, Stack::Audit, Work::SqlShown, 1, None),
            (LATER, Stack::Audit, Work::SqlShownLater, 1, Some(0)),
            (BARE, Stack::Registry, Work::SqlShownLater, 1, None),
            (OTEL, Stack::OpenTelemetry, Work::SqlShownLater, 1, None),
        ],
    ),
    (
        "model's answer of 2 kB recorded later, 1 thread",
        &[
            (AT_START, Stack::Audit, Work::Answer, 1, None),
            (LATER, Stack::Audit, Work::AnswerLater, 1, Some(0)),
            (BARE, Stack::Registry, Work::AnswerLater, 1, None),
            (OTEL, Stack::OpenTelemetry, Work::AnswerLater, 1, None),
        ],
    ),
    (
        "audited span, 1 thread, with and without adoption",
        &[
            (OURS, Stack::Audit, Work::Audited, 1, None),
            (ADOPTING, Stack::Adopting, Work::Audited, 1, Some(0)),
        ],
    ),
    (
        "call of a model as rig traces it, 1 thread",
        &[
            (OURS, Stack::Audit, Work::ModelCall, 1, None),
            (ADOPTING, Stack::Adopting, Work::ModelCall, 1, Some(0)),
            (OTEL, Stack::OpenTelemetry, Work::ModelCall, 1, Some(0)),
        ],
    ),
    (
        "request as tower-http traces it, 1 thread",
        &[
            (OURS, Stack::Audit, Work::Request, 1, None),
            (ADOPTING, Stack::Adopting, Work::Request, 1, Some(0)),
            (OTEL, Stack::OpenTelemetry, Work::Request, 1, Some(0)),
        ],
    ),
    (
        "query run with a statement by sqlx, 1 thread",
        &[
            (OURS, Stack::Audit, Work::Statement, 1, None),
            (ADOPTING, Stack::Adopting, Work::Statement, 1, Some(0)),
            (OTEL, Stack::OpenTelemetry, Work::Statement, 1, Some(0)),
        ],
    ),
    (
        "audited span in four others, 1 thread",
        &[
            (OURS, Stack::Audit, Work::Nested, 1, None),
            (
                "the same, amid logins of other requests",
                Stack::Audit,
                Work::NestedAmidLogins,
                1,
                Some(0),
            ),
        ],
    ),
    #[cfg(feature = "otlp")]
    (
        "audited span, 1 thread, with and without export",
        &[
            (BARE, Stack::Registry, Work::Audited, 1, None),
            (OURS, Stack::Audit, Work::Audited, 1, Some(0)),
            (EXPORTING, Stack::Exporting, Work::Audited, 1, Some(0)),
        ],
    ),
    #[cfg(feature = "otlp")]
    (
        "the same, pipeline at work",
        &[
            (BARE, Stack::Registry, Work::AuditedBusy, 1, None),
            (OURS, Stack::Audit, Work::AuditedBusy, 1, Some(0)),
            (EXPORTING, Stack::Exporting, Work::AuditedBusy, 1, Some(0)),
        ],
    ),
];

/// Local spans of fastrace in a request.
const LOCAL_SPANS: u32 = 20;

const BARE: &str = "Registry";
const OURS: &str = "Registry + tracing-audit";
const ALONE: &str = "Registry + tracing-audit, without a request";
const AT_START: &str = "Registry + tracing-audit, said at the start";
const LATER: &str = "Registry + tracing-audit, recorded later";
const ADOPTING: &str = "Registry + tracing-audit, adopting";
#[cfg(feature = "otlp")]
const EXPORTING: &str = "Registry + tracing-audit, exporting";
const OTEL: &str = "Registry + tracing-opentelemetry";
const JSON: &str = "Registry + JSON by tracing-appender";

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, child, table, line, url, spool] = &arguments[..]
        && child == "--child"
    {
        let index = |text: &str| text.parse::<usize>().expect("the parent gives an index");
        println!("{}", run(&TABLES[index(table)].1[index(line)], url, spool));
        return;
    }
    let postgres = Postgres::start();
    let spool = benches::Folder::new();
    // Of this process, so that the work of a collector is not that of the program measured.
    #[cfg(feature = "otlp")]
    let collector = testkit::collector::Collector::start(testkit::collector::Protocol::Grpc);
    #[cfg(feature = "otlp")]
    collector.behave(testkit::collector::Behaviour::Forget);
    let cases: Vec<_> = (0..TABLES.len())
        .flat_map(|table| (0..TABLES[table].1.len()).map(move |line| (table, line)))
        .collect();
    let figures = benches::alternate(&cases, |(table, line)| {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
        child.args([
            "--child",
            &table.to_string(),
            &line.to_string(),
            &postgres.url(),
        ]);
        #[cfg(feature = "otlp")]
        child.env(COLLECTOR, collector.url());
        let output = child.arg(&spool.0).stderr(Stdio::inherit()).output();
        let output = output.expect("this program can be started again");
        assert!(output.status.success(), "{child:?}: {}", output.status);
        let figure = String::from_utf8_lossy(&output.stdout);
        figure.trim().parse().expect("a child prints its figure")
    });
    println!(
        "\nAn audited span has 10 fields, 3 recorded later, {} bytes, and is inside a request span.",
        traffic::value_bytes()
    );
    let mut figures = figures.into_iter();
    let ours: Vec<_> = TABLES
        .iter()
        .map(|(title, lines)| {
            let figures: Vec<_> = figures.by_ref().take(lines.len()).collect();
            if *title == TABLES[0].0 {
                write_figures(lines, &figures);
            }
            print(title, lines, &figures)
        })
        .collect();
    println!(
        "\nadded by tracing-audit, where 1 thread is 1: pipeline at work {:.2}, 4 threads {:.2}",
        ours[1] / ours[0],
        ours[2] / ours[0]
    );
}

/// Keeps what is added to the bare Registry; of what has none, the whole span.
fn write_figures(lines: &[Line], figures: &[Vec<f64>]) {
    let kept: Vec<_> = lines
        .iter()
        .zip(figures)
        .skip(1)
        .map(|((name, .., base), these)| match base {
            Some(base) => {
                let added = benches::paired(these, &figures[*base], |this, that| this - that);
                (name.trim_start_matches("Registry + "), added)
            }
            None => (*name, benches::median(these)),
        })
        .collect();
    benches::write_figures("hot_path", &kept);
}

/// Prints a table, and returns what tracing-audit adds.
fn print(title: &str, lines: &[Line], figures: &[Vec<f64>]) -> f64 {
    let added = |line: usize, base: usize| {
        benches::paired(&figures[line], &figures[base], |line, base| line - base)
    };
    let ours = added(1, 0);
    let head = [
        "ns per span",
        "quartiles",
        "ns added",
        "% added",
        "whole / ours",
        "added / ours",
    ];
    println!();
    benches::row(title, &head.map(str::to_owned));
    for (index, (label, .., base)) in lines.iter().enumerate() {
        let ratio =
            |to: usize| benches::paired(&figures[index], &figures[to], |this, that| this / that);
        let mut cells = vec![String::new(); head.len()];
        cells[0] = format!("{:.0}", benches::median(&figures[index]));
        cells[1] = benches::quartiles(&figures[index]);
        if let Some(base) = *base {
            cells[2] = format!("{:+.0}", added(index, base));
            cells[3] = format!("{:+.1}", 100.0 * (ratio(base) - 1.0));
        }
        // To a figure that is nothing but noise there is no ratio.
        if ours > 10.0 {
            cells[4] = format!("{:.2}", ratio(1));
            cells[5] = base.map_or_else(String::new, |base| {
                format!("{:.1}", added(index, base) / ours)
            });
        }
        benches::row(label, &cells);
    }
    ours
}

/// The variable with the URL of the collector.
#[cfg(feature = "otlp")]
const COLLECTOR: &str = "TRACING_AUDIT_BENCH_COLLECTOR";

/// How long a process is up before it is measured. tracing-audit needs less to find out about the processor's counter;
/// fastrace does before `main`.
const UP_FOR: Duration = Duration::from_millis(700);

/// Measures a line once, in a process that does nothing else: nanoseconds per span, the median of some bursts. They
/// are short, so that no queue overflows (fastrace's takes 10,240 messages of a thread, four for a span), and what takes
/// the spans is flushed after each.
fn run((_, stack, work, threads, _): &Line, url: &str, spool: &str) -> f64 {
    let (bursts, spans) = match work {
        Work::AuditedBusy => (120, 200),
        _ if *threads > 1 => (10, 2_000),
        _ => (15, 2_000),
    };
    let (flush, finish) = install(*stack, url, spool);
    // As a service that has been up for a while: by then each has found out how to read its clock.
    std::thread::sleep(UP_FOR);
    let barrier = Barrier::new(*threads as usize + 1);
    let took = Mutex::new(Duration::ZERO);
    let mut figures = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..*threads {
            scope.spawn(|| {
                for _ in 0..bursts {
                    barrier.wait();
                    let burst = burst(*work, spans, *threads > 1);
                    *took.lock().unwrap_or_else(PoisonError::into_inner) += burst;
                    barrier.wait();
                }
            });
        }
        for _ in 0..bursts {
            barrier.wait();
            barrier.wait();
            let took = std::mem::take(&mut *took.lock().unwrap_or_else(PoisonError::into_inner));
            figures.push(took.as_secs_f64() * 1e9 / f64::from(spans * threads));
            match work {
                Work::AuditedBusy => std::thread::sleep(Duration::from_millis(4)),
                _ => flush(),
            }
        }
    });
    flush();
    // The first tenth of a burst is not timed.
    finish((bursts * threads * (spans + spans / 10)) as usize);
    benches::median(&figures[bursts as usize / 5..])
}

/// Opens and closes so many spans, and says how long that took: by the clock or, where threads share the cores, in
/// time on a core.
fn burst(work: Work, spans: u32, on_core: bool) -> Duration {
    let request = || traffic::request(REQUESTS[0]).entered();
    let within = |act: fn(usize)| {
        let _request = request();
        timed(spans, on_core, act)
    };
    let root = || {
        fastrace::Span::root("request", SpanContext::random())
            .with_properties(|| [("request_id", REQUESTS[0]), ("tenant_id", traffic::TENANT)])
    };
    match work {
        Work::Audited | Work::AuditedBusy => within(traffic::query_run),
        Work::Alone => timed(spans, on_core, traffic::query_run_alone),
        Work::SqlLater => within(traffic::query_run_sql_later),
        Work::SqlShown => within(traffic::query_run_sql_shown),
        Work::SqlShownLater => within(traffic::query_run_sql_shown_later),
        Work::Answer => within(traffic::prompt_run),
        Work::AnswerLater => within(traffic::prompt_run_answer_later),
        Work::NotAudited => within(traffic::render),
        Work::Context => {
            let context = |n: usize| drop(traffic::request(REQUESTS[n % REQUESTS.len()]).entered());
            timed(spans, on_core, context)
        }
        Work::ModelCall => within(traffic::model_call),
        Work::Request => timed(spans, on_core, traffic::http_request),
        Work::Statement => within(statement),
        Work::Nested => nested(spans, on_core),
        Work::NestedAmidLogins => {
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let request = traffic::request(REQUESTS[1]).entered();
                        tracing_audit::context().user(USER);
                        drop(request);
                        std::thread::sleep(Duration::from_micros(100));
                    }
                });
                let took = nested(spans, on_core);
                is_over.store(true, Ordering::Relaxed);
                took
            })
        }
        Work::FastraceSpan => {
            let root = root();
            let _local = root.set_local_parent();
            timed(spans, on_core, fastrace_span)
        }
        Work::FastraceLocal => {
            // Local spans are handed over together, when their request's guard is dropped.
            timed(spans / LOCAL_SPANS, on_core, |request| {
                let root = root();
                let _local = root.set_local_parent();
                let first = request * LOCAL_SPANS as usize;
                (first..first + LOCAL_SPANS as usize).for_each(fastrace_local);
            })
        }
    }
}

fn nested(spans: u32, on_core: bool) -> Duration {
    let around = REQUESTS.map(|id| traffic::request(id).entered());
    let took = timed(spans, on_core, traffic::query_run);
    around.into_iter().rev().for_each(drop);
    took
}

/// A query run that says no SQL, and what sqlx does when a statement has ended in it.
fn statement(n: usize) {
    let asked = &QUESTIONS[n % QUESTIONS.len()];
    let _run = tracing::info_span!("audit.query_run", question_text = asked.question).entered();
    let mut logger = QueryLogger::new(asked.sql.into_sql_str(), LogSettings::default());
    logger.increment_rows_returned();
}

fn timed(spans: u32, on_core: bool, span: impl Fn(usize)) -> Duration {
    (0..spans as usize / 10).for_each(&span);
    let (on_core, clock) = (on_core.then(Watch::start), Instant::now());
    (0..spans as usize).for_each(&span);
    let passed = clock.elapsed();
    on_core.map_or(passed, |watch| watch.elapsed())
}

/// The audited span's fields as fastrace takes them: owned text, except for what is in the source.
fn begin_properties(n: usize) -> [(&'static str, String); 7] {
    let asked = &QUESTIONS[n % QUESTIONS.len()];
    [
        ("question_text", asked.question),
        ("sql_text", asked.sql),
        ("sql_summary", asked.summary),
        ("datasource_id", DATASOURCE),
        ("user_id", USER),
        ("user_role", "analyst"),
        ("dialect", "postgresql"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
}

fn fastrace_span(n: usize) {
    let span = fastrace::Span::enter_with_local_parent("audit.query_run")
        .with_properties(|| begin_properties(n));
    span.add_property(|| ("row_count", n.to_string()));
    span.add_property(|| ("bytes_read", (n * 64).to_string()));
    span.add_property(|| ("status", "succeeded"));
}

fn fastrace_local(n: usize) {
    let _span = LocalSpan::enter_with_local_parent("audit.query_run")
        .with_properties(|| begin_properties(n));
    LocalSpan::add_property(|| ("row_count", n.to_string()));
    LocalSpan::add_property(|| ("bytes_read", (n * 64).to_string()));
    LocalSpan::add_property(|| ("status", "succeeded"));
}

/// Flushes what takes the spans.
type Flush = Box<dyn Fn()>;

/// Fails when of so many spans some were lost.
type Finish = Box<dyn FnOnce(usize)>;

/// Sets what takes the spans of this process.
fn install(stack: Stack, url: &str, spool: &str) -> (Flush, Finish) {
    let builder = || Audit::builder().postgres(url).spool(spool);
    let start = || builder().start().expect("the pipeline starts");
    let nothing: (Flush, Finish) = (Box::new(|| ()), Box::new(|_| ()));
    match stack {
        Stack::Registry => tracing_subscriber::registry().init(),
        Stack::Another => tracing_subscriber::registry().with(Another).init(),
        Stack::Filtered => tracing_subscriber::registry()
            .with(Another.with_filter(OfRequests))
            .init(),
        Stack::AnotherFiltered => tracing_subscriber::registry()
            .with(Another)
            .with(Another.with_filter(OfRequests))
            .init(),
        Stack::Audit => {
            let audit = start();
            tracing_subscriber::registry().with(audit.layer()).init();
            return of_audit(audit);
        }
        Stack::Adopting => {
            let builder = builder()
                .adopt(Adopt::gen_ai())
                .adopt(Adopt::http())
                .adopt(Adopt::sqlx());
            let audit = builder.start().expect("the pipeline starts");
            tracing_subscriber::registry().with(audit.layer()).init();
            return of_audit(audit);
        }
        #[cfg(feature = "otlp")]
        Stack::Exporting => {
            let url = std::env::var(COLLECTOR).expect("the parent names a collector");
            let otlp = tracing_audit::Otlp::new(url)
                .with_protocol(tracing_audit::OtlpProtocol::Grpc)
                // Sooner than by default, so that it is at work while spans are timed.
                .delay(Duration::from_millis(100));
            let audit = builder().otlp(otlp).start().expect("the pipeline starts");
            tracing_subscriber::registry().with(audit.layer()).init();
            return of_audit(audit);
        }
        Stack::AnotherAudit => {
            let audit = start();
            tracing_subscriber::registry()
                .with(Another)
                .with(audit.layer())
                .init();
            return of_audit(audit);
        }
        Stack::OpenTelemetry => {
            let (provider, tracer) = peers::opentelemetry();
            let layer = tracing_opentelemetry::layer().with_tracer(tracer);
            tracing_subscriber::registry().with(layer).init();
            return (
                Box::new(move || provider.force_flush().expect("the spans are exported")),
                Box::new(has_taken),
            );
        }
        Stack::Json => {
            let file = fs::File::create(Path::new(spool).join("spans.json"));
            let file = file.expect("the folder can be written");
            let (writer, guard) = tracing_appender::non_blocking(CountLines(file));
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .with_span_events(FmtSpan::CLOSE)
                .with_writer(writer);
            tracing_subscriber::registry().with(layer).init();
            let flush = move || {
                let _ = &guard;
                // Its thread cannot be asked.
                let mut before = usize::MAX;
                while std::mem::replace(&mut before, peers::taken()) != peers::taken() {
                    std::thread::sleep(Duration::from_millis(10));
                }
            };
            return (Box::new(flush), Box::new(has_taken));
        }
        Stack::Fastrace => {
            fastrace::set_reporter(Discard, Config::default());
            return (Box::new(fastrace::flush), Box::new(has_taken));
        }
    }
    nothing
}

fn of_audit(audit: Audit) -> (Flush, Finish) {
    let handle = audit.clone();
    let flush = move || {
        audit
            .flush_blocking(Duration::from_mins(1))
            .expect("the records are committed");
    };
    let finish = move |_| {
        benches::assert_all_committed(&handle);
        #[cfg(feature = "otlp")]
        if let Some(export) = handle.stats().export() {
            assert!(
                export.exported() > 0 && export.refused() == 0,
                "{:?}",
                handle.stats()
            );
        }
    };
    (Box::new(flush), Box::new(finish))
}

fn has_taken(spans: usize) {
    let taken = peers::taken();
    assert!(taken >= spans, "{taken} of {spans} spans were taken");
}
