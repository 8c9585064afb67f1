//! What a span costs the thread that opens and closes it, in countable units: allocations and
//! system calls.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Stdio};

use testkit::child::{child, child_processes, command, say, wrapped};
use testkit::trail::{PATIENCE, Trail};
use tracing::field::Empty;
use tracing::info_span;
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

child_processes!(closes_spans_in_bursts);

/// The bursts of spans that the child closes.
const BURSTS: usize = 5;

/// A request with a run inside, as in an application: ten fields, three of them recorded later.
fn request(n: u64) {
    let request = info_span!("request", request_id = "7a1f0c9e-52b3-4d68-a0e7-c4d91b38f256", tenant_id = %"t").entered();
    let run = info_span!(
        "audit.query_run",
        question_text = "Which customers in Norway ordered more than ten times last year?",
        sql_text = "SELECT customer_id FROM customers WHERE country = 'Norway' GROUP BY 1 HAVING count(*) > 10",
        sql_summary = "SELECT customers",
        user_id = "ana.petrova@example.com",
        user_role = ?"analyst",
        dialect = "postgresql",
        row_count = Empty,
        bytes_read = Empty,
        status = Empty,
    )
    .entered();
    run.record("row_count", n);
    run.record("bytes_read", n * 64);
    run.record("status", "succeeded");
    drop(run);
    drop(request);
}

/// Runs enough requests for the queue to have spare buffers and for every pool to be filled, and
/// then commits all their records: nothing remains to be created for the first time.
fn warm_up(audit: &Audit) {
    for _ in 0..3 {
        (0..2_000).for_each(request);
        audit.flush_blocking(PATIENCE).unwrap();
    }
}

#[test]
fn a_span_allocates_nothing() {
    let trail = Trail::start();
    let subscriber = tracing_subscriber::registry().with(trail.audit.layer());
    tracing::subscriber::with_default(subscriber, || {
        warm_up(&trail.audit);
        let before = trail.audit.stats().accepted();
        let allocated = allocation_counter::measure(|| (0..1_000).for_each(request));
        assert_eq!(trail.audit.stats().accepted() - before, 1_000);
        // Fewer than one per hundred spans: buffers of the queue that the worker has not returned
        // yet.
        assert!(allocated.count_total < 10, "{allocated:?}");
    });
}

/// Checks the counting of [`a_span_allocates_nothing`] on code that does allocate.
#[test]
fn allocation_counter_counts_an_allocation() {
    let allocated = allocation_counter::measure(|| drop(vec![1_u8; 10]));
    assert_eq!(allocated.count_total, 1);
}

fn closes_spans_in_bursts() {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    warm_up(&audit);
    for _ in 0..BURSTS {
        say("begun");
        (0..1_000).for_each(request);
        say("ended");
        audit.flush_blocking(PATIENCE).unwrap();
    }
    assert_eq!(audit.stats().accepted(), 6_000 + 1_000 * BURSTS as u64);
    audit.shutdown_blocking(PATIENCE);
}

/// Requires `strace`.
#[test]
#[ignore = "needs strace; run in CI"]
fn a_span_makes_no_system_call() {
    let trail = Trail::start();
    let child = command(
        child!(closes_spans_in_bursts),
        &trail.postgres,
        &trail.spool,
    );
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/stderr"]);
    let output = wrapped(strace, &child)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("strace is there");
    let calls = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{calls}");
    // The main thread and the workers are other threads.
    let says = |line: &str, word: &str| line.contains(&format!("write(1, \"{word}\\n\""));
    let begun = calls.lines().find(|line| says(line, "begun")).unwrap();
    let thread = begun.split_whitespace().next().unwrap();
    let of_thread: Vec<_> = calls
        .lines()
        .filter(|line| line.split_whitespace().next() == Some(thread))
        // The end of a call that was already reported.
        .filter(|line| !line.contains(" resumed>"))
        .collect();
    let bursts: Vec<_> = of_thread
        .split(|line| says(line, "begun"))
        .skip(1)
        .map(|calls| {
            let until = calls.iter().position(|line| says(line, "ended")).unwrap();
            &calls[..until]
        })
        .collect();
    assert_eq!(bursts.len(), BURSTS);
    // If a worker is suspended while it holds a lock, the thread has to wait for it.
    let quiet = bursts.iter().filter(|calls| calls.is_empty()).count();
    assert!(quiet >= BURSTS - 1, "{bursts:#?}");
}
