//! Where the layer stands among per-layer filters, which tracing-subscriber numbers and whose answers
//! it keeps on the thread: the records are the same in every arrangement.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use testkit::Postgres;
use testkit::child::{child, child_processes, command};
use testkit::trail::{Folder, PATIENCE, Trail, assert_law};
use tracing::field::{Empty, display};
use tracing::{Dispatch, Metadata, Span, Subscriber, debug_span, info, info_span, trace_span};
use tracing_audit::{Audit, AuditLayer, DropCause, Kind};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, dynamic_filter_fn, filter_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, registry, reload};

use super::context::{PanicsAtClose, of_a_number_that_was_not_given_back};
use super::of;

child_processes!(records_below_a_global_subscriber);

/// A host's layer that wants every span.
struct Another;

impl<S: Subscriber> Layer<S> for Another {}

/// A host's layer that wants none but warnings.
fn log<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let log = fmt::layer().with_writer(std::io::sink);
    log.with_filter(LevelFilter::WARN)
}

fn is_no_step(metadata: &Metadata<'_>) -> bool {
    metadata.name() != "step"
}

/// Runs what a request does: audited spans, with spans and events of other layers before, between and
/// inside them.
fn request(id: &str) {
    let _request = debug_span!("request", request_id = id).entered();
    let step = info_span!("step", n = Empty).entered();
    step.record("n", 1);
    let run = info_span!(
        "audit.query_run",
        question_text = "outer",
        sql_text = Empty,
        sql_summary = Empty,
        row_count = Empty,
    );
    run.follows_from(&*step);
    run.in_scope(|| {
        let step = info_span!("step", n = Empty);
        step.in_scope(|| {
            // An answer that nothing follows.
            let _ = tracing::enabled!(tracing::Level::TRACE);
            info!("not to be recorded");
            info!(target: "audit.event", action_type = "inside");
            info_span!("audit.prompt_run").in_scope(|| ());
        });
        step.record("n", 2);
    });
    run.record("sql_text", "SELECT 1");
    run.record("sql_summary", display("SELECT"));
    run.record("row_count", 2);
    let dispatch = tracing::dispatcher::get_default(Dispatch::clone);
    let close = move || tracing::dispatcher::with_default(&dispatch, || drop(run));
    std::thread::spawn(close).join().unwrap();
    let panics = || {
        let panics = info_span!("audit.query_run", question_text = "panics");
        let step = info_span!(parent: &panics, "step");
        panics.in_scope(|| step.in_scope(|| resume_unwind(Box::new("on purpose"))))
    };
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
}

/// What there is of a request: each record's name, what it says, and the record that it lies in.
const OF_REQUEST: [&str; 4] = [
    "inside: unknown in outer",
    "outer: succeeded SELECT 1 SELECT 2 in -",
    "panics: failed panic in -",
    "prompt: unknown in outer",
];

/// Returns what there is of a request.
fn found(postgres: &Postgres, id: &str) -> Vec<String> {
    let rows = postgres.psql(&format!(
        "WITH t AS (
           SELECT question_text AS name, concat_ws(' ', status, error_code, sql_text, sql_summary, row_count) AS said, id, parent_id, request_id FROM audit.query_runs
           UNION ALL SELECT 'prompt', status::text, id, parent_id, request_id FROM audit.prompt_runs
           UNION ALL SELECT action_type, status::text, id, parent_id, request_id FROM audit.events)
         SELECT t.name || ': ' || t.said || ' in ' || coalesce(p.name, '-') FROM t LEFT JOIN t p ON p.id = t.parent_id
         WHERE t.request_id = '{id}' ORDER BY 1"
    ));
    rows.lines().map(str::to_owned).collect()
}

/// Runs a request below each subscriber, and fails unless its records are there as often as is said.
#[track_caller]
fn is_recorded_below(audit: &Audit, postgres: &Postgres, all: Vec<(&str, usize, Dispatch)>) {
    let mut runs = Vec::new();
    for (id, times, subscriber) in all {
        tracing::dispatcher::with_default(&subscriber, || request(id));
        runs.push((id, times));
    }
    audit.flush_blocking(PATIENCE).unwrap();
    for (id, times) in runs {
        let expected: Vec<_> = OF_REQUEST
            .iter()
            .flat_map(|record| std::iter::repeat_n(*record, times))
            .collect();
        assert_eq!(found(postgres, id), expected, "{id}");
    }
    assert_law(audit);
    assert_eq!(audit.stats().dropped(), 0);
}

#[test]
fn request_is_recorded_wherever_the_layer_stands() {
    let trail = Trail::start();
    let ours = || trail.audit.layer::<Registry>();
    let (reloadable, _handle) = reload::Layer::new(ours());
    let (optional, _also) = reload::Layer::new(Some(ours()));
    let all: Vec<(_, _, Dispatch)> = vec![
        ("alone", 1, registry().with(ours()).into()),
        ("boxed", 1, registry().with(ours().boxed()).into()),
        ("optional", 1, registry().with(Some(ours())).into()),
        ("listed", 1, registry().with(vec![ours()]).into()),
        (
            "two",
            2,
            registry().with(ours()).with(trail.audit.layer()).into(),
        ),
        (
            "two in a list",
            2,
            registry().with(vec![ours(), ours()]).into(),
        ),
        (
            "two in one",
            2,
            registry().with(ours().and_then(ours())).into(),
        ),
        (
            "in one with",
            1,
            registry().with(ours().and_then(Another)).into(),
        ),
        (
            "in one after",
            1,
            registry().with(Another.and_then(ours())).into(),
        ),
        (
            "in one filtered",
            1,
            registry().with(ours().and_then(log())).into(),
        ),
        ("beside", 1, registry().with(ours()).with(Another).into()),
        (
            "after",
            1,
            registry().with(Another).with(trail.audit.layer()).into(),
        ),
        (
            "beside none",
            1,
            registry().with(ours()).with(None::<AuditLayer<_>>).into(),
        ),
        (
            "before a filter",
            1,
            registry().with(ours()).with(log()).into(),
        ),
        (
            "after a filter",
            1,
            registry().with(log()).with(trail.audit.layer()).into(),
        ),
        (
            "between",
            1,
            registry()
                .with(log())
                .with(trail.audit.layer())
                .with(Another)
                .into(),
        ),
        ("reloadable", 1, registry().with(reloadable).into()),
        (
            "reloadable option",
            1,
            registry().with(optional).with(Another).into(),
        ),
    ];
    is_recorded_below(&trail.audit, &trail.postgres, all);
}

#[test]
fn request_is_recorded_by_a_layer_with_a_filter_that_lets_its_spans_through() {
    let trail = Trail::start();
    let ours = || trail.audit.layer::<Registry>();
    let filter = || filter_fn(is_no_step);
    let dynamic = dynamic_filter_fn(|metadata, _| is_no_step(metadata));
    let (reloadable, _handle) = reload::Layer::new(LevelFilter::DEBUG);
    let all: Vec<(_, _, Dispatch)> = vec![
        (
            "level",
            1,
            registry()
                .with(ours().with_filter(LevelFilter::DEBUG))
                .into(),
        ),
        (
            "function",
            1,
            registry()
                .with(ours().with_filter(filter()))
                .with(Another)
                .into(),
        ),
        (
            "dynamic",
            1,
            registry()
                .with(ours().with_filter(dynamic))
                .with(Another)
                .into(),
        ),
        (
            "reloadable",
            1,
            registry()
                .with(ours().with_filter(reloadable))
                .with(Another)
                .into(),
        ),
        (
            "joined",
            1,
            registry()
                .with(ours().with_filter(filter().and(LevelFilter::DEBUG)))
                .into(),
        ),
        (
            "environment",
            1,
            registry()
                .with(ours().with_filter(EnvFilter::new("debug")))
                .into(),
        ),
        (
            "option",
            1,
            registry()
                .with(Some(ours()).with_filter(filter()))
                .with(log())
                .into(),
        ),
        (
            "one of two",
            2,
            registry()
                .with(ours().and_then(ours().with_filter(filter())))
                .into(),
        ),
        (
            "both of two",
            2,
            registry()
                .with(ours().and_then(ours()).with_filter(filter()))
                .into(),
        ),
        (
            "in two",
            1,
            registry()
                .with(ours().with_filter(filter()).with_filter(LevelFilter::DEBUG))
                .into(),
        ),
    ];
    is_recorded_below(&trail.audit, &trail.postgres, all);
}

#[test]
fn request_is_recorded_beside_a_filter_of_the_whole_subscriber_that_lets_its_spans_through() {
    let trail = Trail::start();
    let ours = || trail.audit.layer::<Registry>();
    let all: Vec<(_, _, Dispatch)> = vec![
        (
            "whole",
            1,
            registry().with(ours()).with(EnvFilter::new("debug")).into(),
        ),
        (
            "whole before",
            1,
            registry()
                .with(LevelFilter::DEBUG)
                .with(trail.audit.layer())
                .with(Another)
                .into(),
        ),
        (
            "whole but a step",
            1,
            registry()
                .with(ours())
                .with(filter_fn(is_no_step))
                .with(Another)
                .into(),
        ),
        (
            "whole by fields",
            1,
            registry()
                .with(ours())
                .with(Another)
                .with(EnvFilter::new("warn,[request{request_id}]=debug"))
                .into(),
        ),
    ];
    is_recorded_below(&trail.audit, &trail.postgres, all);
}

fn records_below_a_global_subscriber() {
    let audit = tracing_audit::from_env().unwrap();
    registry()
        .with(log())
        .with(audit.layer())
        .with(Another)
        .init();
    request("global");
    // A thread's own subscriber, which has the same numbers for its spans.
    let own = registry().with(audit.layer());
    let (before, run) = (
        debug_span!("request", request_id = "both").entered(),
        run("global"),
    );
    tracing::subscriber::with_default(own, || {
        request("own");
        // Neither subscriber sees what the other's spans are told.
        run.in_scope(|| run.record("row_count", 1));
    });
    drop((run, before));
    audit.shutdown_blocking(PATIENCE);
}

fn run(name: &str) -> Span {
    info_span!("audit.query_run", question_text = name, row_count = Empty)
}

#[test]
fn request_is_recorded_below_a_global_subscriber_and_one_of_the_thread_beside_it() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let child = command(child!(records_below_a_global_subscriber), &postgres, &spool).output();
    let child = child.unwrap();
    assert!(child.status.success(), "{child:?}");
    for id in ["global", "own"] {
        assert_eq!(found(&postgres, id), OF_REQUEST);
    }
    assert_eq!(found(&postgres, "both"), ["global: succeeded 1 in -"]);
}

#[test]
fn filter_around_the_layer_hides_what_it_disables_for_a_spans_whole_life() {
    let trail = Trail::start();
    let is_on = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&is_on);
    let filter = dynamic_filter_fn(move |_, _| switch.load(Ordering::Relaxed));
    let layer = trail.audit.layer().with_filter(filter);
    tracing::subscriber::with_default(registry().with(layer).with(Another), || {
        let seen = run("seen");
        is_on.store(false, Ordering::Relaxed);
        let unseen = run("unseen");
        seen.in_scope(|| {
            seen.record("row_count", 1);
            info!(target: "audit.event", action_type = "unseen");
        });
        drop(seen);
        is_on.store(true, Ordering::Relaxed);
        unseen.in_scope(|| {
            unseen.record("row_count", 1);
            // Its parent is not there for the layer.
            run("inside");
        });
        drop(unseen);
    });
    let rows = trail.rows(Kind::QueryRun);
    let rows: Vec<_> = rows
        .iter()
        .map(|row| of(row, &["question_text", "row_count", "parent_id"]))
        .collect();
    let row =
        |name, count: Value| json!({"question_text": name, "row_count": count, "parent_id": null});
    assert_eq!(rows, [row("seen", json!(1)), row("inside", Value::Null)]);
    assert_eq!(trail.audit.stats().accepted(), 2);
}

/// Spans of two subscribers have the same numbers.
#[test]
fn span_of_another_subscriber_with_the_same_number_is_another_span() {
    let trail = Trail::start();
    let [first, second]: [Dispatch; 2] =
        [(), ()].map(|()| registry().with(trail.audit.layer()).with(Another).into());
    let unaudited: Dispatch = registry().with(Another).into();
    let within = |subscriber: &Dispatch, name: &str| {
        tracing::dispatcher::with_default(subscriber, || run(name))
    };
    let (one, two, other) = (
        within(&first, "one"),
        within(&second, "two"),
        within(&unaudited, "other"),
    );
    assert!(one.id().is_some());
    assert_eq!((one.id(), one.id()), (two.id(), other.id()));
    // Below one subscriber, the spans of all.
    tracing::dispatcher::with_default(&first, || {
        two.in_scope(|| two.record("row_count", 2));
        other.in_scope(|| other.record("row_count", 3));
        drop((two, other));
    });
    one.record("row_count", 1);
    drop(one);
    let rows = trail.rows(Kind::QueryRun);
    let rows: Vec<_> = rows
        .iter()
        .map(|row| of(row, &["question_text", "row_count"]))
        .collect();
    let row = |name, count| json!({"question_text": name, "row_count": count});
    assert_eq!(rows, [row("two", 2), row("one", 1)]);
}

#[test]
fn unaudited_span_with_the_number_of_one_whose_close_was_missed_makes_no_record() {
    let trail = Trail::start();
    let layer = PanicsAtClose.and_then(trail.audit.layer());
    tracing::subscriber::with_default(registry().with(layer), || {
        let hosts_own = of_a_number_that_was_not_given_back();
        assert_eq!(trail.audit.stats().dropped_by(DropCause::EndUnseen), 1);
        hosts_own.record("n", 1);
        hosts_own.in_scope(|| ());
        let panics = || hosts_own.in_scope(|| resume_unwind(Box::new("on purpose")));
        catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
        drop(hosts_own);
        run("after");
    });
    assert_eq!(trail.row(Kind::QueryRun)["question_text"], "after");
    // The loss may be told of by now.
    let mut rows = trail.rows(Kind::Event);
    rows.retain(|row| row["action_type"] != "audit.gap");
    assert_eq!(rows, Vec::<Value>::new());
    let stats = trail.audit.stats();
    assert_eq!(
        (stats.dropped(), stats.dropped_by(DropCause::EndUnseen)),
        (1, 1)
    );
    assert_law(&trail.audit);
}

/// A layer whose filter tracing-subscriber does not notice would have it ask at each such span.
#[test]
fn callsite_that_no_layer_wants_is_disabled_for_good() {
    let trail = Trail::start();
    let ours = || trail.audit.layer::<Registry>();
    let all: [(_, Dispatch); 5] = [
        ("alone", registry().with(ours()).into()),
        (
            "two",
            registry().with(ours()).with(trail.audit.layer()).into(),
        ),
        ("boxed", registry().with(ours().boxed()).into()),
        ("listed", registry().with(vec![Some(ours())]).into()),
        ("in one", registry().with(ours().and_then(log())).into()),
    ];
    let unwanted = tracing::subscriber::with_default(registry(), || trace_span!("unwanted"));
    let wanted = tracing::subscriber::with_default(registry(), || run("wanted"));
    for (arrangement, subscriber) in all {
        let interest = |span: &Span| subscriber.register_callsite(span.metadata().unwrap());
        assert!(interest(&unwanted).is_never(), "{arrangement}");
        assert!(interest(&wanted).is_sometimes(), "{arrangement}");
        assert!(
            subscriber.is::<AuditLayer<Registry>>() || arrangement == "two",
            "{arrangement}"
        );
    }
}
