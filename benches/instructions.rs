//! How many instructions a span costs the thread that opens and closes it, counted by Valgrind: unlike times, the same on
//! a busy machine. `scripts/instructions` runs it and holds the counts against `benches/instructions.txt`. See
//! `benches/README.md`.
//!
//! Each case is a process of its own. What is done by other threads is not counted, nor what is done once: a case is
//! warmed up before. There is no Postgres, so records stay in the queue and the spool.
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]
#![allow(missing_docs, reason = "of what the macros make")]

use std::hint::black_box;
use std::time::Duration;

use gungraun::{library_benchmark, library_benchmark_group, main};
use testkit::benches;
use testkit::benches::peers::Another;
use testkit::benches::traffic::{
    prompt_run, prompt_run_answer_later, query_run, query_run_alone, query_run_sql_later,
    query_run_sql_shown, query_run_sql_shown_later, render, request,
};
use tracing::info_span;
use tracing::span::EnteredSpan;
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

/// Spans that are counted, as `scripts/instructions` knows; so many go before. All of them fit into the queue.
const SPANS: usize = 5_000;

/// What takes the spans, and what is entered around them. Dropped in this order.
struct Ready {
    _inside: Vec<EnteredSpan>,
    _audit: Option<Audit>,
    _spool: Option<benches::Folder>,
    work: fn(usize),
}

fn registry(work: fn(usize)) -> Ready {
    tracing_subscriber::registry().init();
    warmed_up(None, vec![entered_request()], work)
}

fn another(work: fn(usize)) -> Ready {
    tracing_subscriber::registry().with(Another).init();
    warmed_up(None, vec![entered_request()], work)
}

fn audit(work: fn(usize)) -> Ready {
    audit_in(|| vec![entered_request()], work)
}

fn audit_alone(work: fn(usize)) -> Ready {
    audit_in(Vec::new, work)
}

fn audit_in(around: fn() -> Vec<EnteredSpan>, work: fn(usize)) -> Ready {
    let pipeline = pipeline();
    let layer = pipeline.0.layer();
    tracing_subscriber::registry().with(layer).init();
    warmed_up(Some(pipeline), around(), work)
}

fn another_audit(work: fn(usize)) -> Ready {
    let pipeline = pipeline();
    let layer = pipeline.0.layer();
    tracing_subscriber::registry()
        .with(Another)
        .with(layer)
        .init();
    warmed_up(Some(pipeline), vec![entered_request()], work)
}

/// Within a request within which a span is audited.
fn audit_inside(work: fn(usize)) -> Ready {
    let around = || {
        let request = entered_request();
        let event = info_span!("audit.event", action_type = "report.made").entered();
        vec![event, request]
    };
    audit_in(around, work)
}

fn entered_request() -> EnteredSpan {
    request("7a1f0c9e-52b3-4d68-a0e7-c4d91b38f256").entered()
}

fn pipeline() -> (Audit, benches::Folder) {
    let spool = benches::Folder::new();
    let audit = Audit::builder()
        .postgres("postgres://nobody@127.0.0.1:1/nothing")
        .spool(&spool.0)
        .drop_timeout(Duration::ZERO)
        .start()
        .expect("the pipeline starts");
    (audit, spool)
}

fn warmed_up(
    pipeline: Option<(Audit, benches::Folder)>,
    inside: Vec<EnteredSpan>,
    work: fn(usize),
) -> Ready {
    (0..SPANS).for_each(work);
    let (audit, spool) = pipeline.unzip();
    Ready {
        _inside: inside,
        _audit: audit,
        _spool: spool,
        work,
    }
}

/// A span that only carries context.
fn context(_: usize) {
    drop(entered_request());
}

#[library_benchmark]
#[bench::registry(args = (query_run), setup = registry)]
#[bench::audit(args = (query_run), setup = audit)]
#[bench::audit_within_audited(args = (query_run), setup = audit_inside)]
#[bench::audit_alone(args = (query_run_alone), setup = audit_alone)]
#[bench::registry_sql_later(args = (query_run_sql_later), setup = registry)]
#[bench::audit_sql_later(args = (query_run_sql_later), setup = audit)]
#[bench::audit_sql_shown(args = (query_run_sql_shown), setup = audit)]
#[bench::audit_sql_shown_later(args = (query_run_sql_shown_later), setup = audit)]
#[bench::audit_answer(args = (prompt_run), setup = audit)]
#[bench::audit_answer_later(args = (prompt_run_answer_later), setup = audit)]
#[bench::registry_context(args = (context), setup = registry)]
#[bench::audit_context(args = (context), setup = audit)]
#[bench::registry_another_not_audited(args = (render), setup = another)]
#[bench::audit_another_not_audited(args = (render), setup = another_audit)]
fn span(ready: Ready) -> Ready {
    let work = black_box(ready.work);
    (0..SPANS).for_each(work);
    ready
}

library_benchmark_group!(name = instructions, benchmarks = span);
main!(library_benchmark_groups = instructions);
