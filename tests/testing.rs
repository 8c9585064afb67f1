//! The trail in memory, as a program's own tests use it.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;

use serde_json::json;
use tracing::instrument::WithSubscriber as _;
use tracing::{Instrument as _, Span, field::Empty, info_span, instrument};
use tracing_audit::testing::{self, Trail};
use tracing_audit::{
    Audit, AuditFutureExt as _, AuditSpanExt as _, Event, Kind, Limits, QueryRun, Status, context,
};
use tracing_subscriber::{fmt, prelude::*, registry};

#[instrument(name = "audit.query_run", skip_all, fields(sql_text = sql, row_count = Empty), err)]
fn run(sql: &str) -> Result<usize, std::fmt::Error> {
    if sql.contains("broken") {
        return Err(std::fmt::Error);
    }
    Span::current().record("row_count", 3);
    Ok(3)
}

/// Returns what a test that fails prints.
fn panics<T>(test: impl FnOnce() -> T) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(test)) else {
        panic!("expected a panic");
    };
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn record_is_there_as_soon_as_its_span_has_closed() {
    let trail = testing::capture();
    let _guard = trail.set_default();
    let request = info_span!("request", request_id = "r-1", tenant_id = "acme").entered();
    assert!(trail.records().is_empty());
    let query = info_span!("audit.query_run", sql_text = "SELECT 1", row_count = Empty);
    let id = query.audit_id().unwrap();
    assert!(trail.records().is_empty());
    assert!(
        trail.story().contains("1 span is still open"),
        "{}",
        trail.story()
    );
    query.record("row_count", 1);
    drop(query);

    let query = trail.query_runs().one();
    assert_eq!(query.id(), id);
    assert_eq!(query.kind(), Kind::QueryRun);
    assert_eq!(query.table_name(), "query_runs");
    assert_eq!(query.sql_text(), Some("SELECT 1"));
    assert_eq!(query.row_count(), Some(1));
    assert_eq!(query.status(), Status::Succeeded);
    assert_eq!(query.request_id(), Some("r-1"));
    assert_eq!(query.tenant_key(), Some("acme"));
    assert_eq!(query.trace_id().len(), 32);
    assert_eq!(query.span_id().len(), 16);
    assert!(query.duration().is_some() && query.started_at().elapsed().is_ok());
    assert_eq!(query.problems(), [""; 0]);
    drop(request);
    assert_eq!(trail.records().len(), 1, "a look takes nothing away");
    assert!(!trail.story().contains("open"), "{}", trail.story());
}

#[test]
fn filters_chain_and_records_are_in_the_order_of_their_beginning() {
    let trail = testing::capture();
    let _guard = trail.set_default();
    for (request, user) in [("r-1", "alice"), ("r-2", "bob")] {
        info_span!("request", request_id = request).in_scope(|| {
            context().user(user).tenant("acme");
            let agent = info_span!("audit.event", action_type = "agent_execution");
            agent.in_scope(|| {
                run("SELECT 1").unwrap();
                run("broken").unwrap_err();
            });
        });
    }
    trail.record(
        QueryRun::new("SELECT 2")
            .tenant_id("other")
            .status(Status::Rejected),
    );

    let of_alice = trail.records().by_user("alice");
    let kinds: Vec<_> = of_alice.iter().map(testing::Record::kind).collect();
    assert_eq!(
        kinds,
        [Kind::Event, Kind::QueryRun, Kind::QueryRun],
        "{of_alice}"
    );
    let agent = of_alice.clone().of_kind(Kind::Event).one();
    let _ = trail.records().inside(&agent).exactly(2);
    assert_eq!(trail.query_runs().by_tenant("acme").len(), 4);
    let acme = agent.tenant_id().unwrap().to_string();
    assert_eq!(trail.records().by_tenant(&acme).len(), 6);
    let failed = trail
        .query_runs()
        .of_request("r-2")
        .with_status(Status::Failed);
    let failed = failed.one();
    assert_eq!(failed.user_id(), Some("bob"));
    assert_eq!(
        failed.parent_id(),
        Some(trail.events().by_user("bob").one().id())
    );
    assert_eq!(
        failed.error_message(),
        Some("an error occurred when formatting an argument")
    );
    assert_eq!(
        trail.query_runs().by_tenant("other").one().sql_text(),
        Some("SELECT 2")
    );
    assert_eq!(trail.events().with_action_type("agent_execution").len(), 2);
    assert!(trail.prompt_runs().is_empty());
    let slow = trail
        .query_runs()
        .matching(|query| query.sql_text() == Some("broken"));
    assert_eq!(slow.into_iter().count(), 2);
}

#[test]
fn values_are_coerced_as_those_of_a_row_with_their_problems() {
    let limits = Limits::default().with_field_bytes(256);
    let trail = Audit::builder()
        .limits(limits)
        .activities(["page_view"])
        .capture();
    let _guard = trail.set_default();
    let text = "ä".repeat(200);
    info_span!(
        "audit.query_run",
        sql_text = text,
        row_count = "many",
        rows_affected = 7_u64,
        agent_id = "no id",
        cached = true,
        metadata = r#"{"plan": "gold"}"#,
        status = "timeout",
        question_text = "a\0b",
    );
    let query = trail.query_runs().one();
    assert_eq!(query.sql_text(), Some(&*"ä".repeat(128)));
    assert_eq!((query.row_count(), query.rows_affected()), (None, Some(7)));
    assert_eq!(
        (query.status(), query.error_code()),
        (Status::Failed, Some("timeout"))
    );
    assert_eq!(query.question_text(), Some("a\u{fffd}b"));
    assert_eq!(
        query.metadata(),
        &json!({"row_count": "many", "agent_id": "no id", "cached": true, "plan": "gold"})
    );
    let problems = query.problems().join("\n");
    for expected in [
        "row_count: not an integer",
        "agent_id: not a UUID",
        "question_text: NUL replaced",
        "sql_text: truncated from 400 bytes, sha256 ",
    ] {
        assert!(problems.contains(expected), "{problems}");
    }
    info_span!("audit.event", action_type = "page_view");
    assert_eq!(trail.events().one().table_name(), "activities");
}

/// Records bind values in each way that there is.
fn bind(trail: &Trail) {
    let _guard = trail.set_default();
    info_span!("audit.query_run", parameters = r#"["Ada", 1.50, 7]"#);
    info_span!("audit.query_run", parameters = ?("Ada", 7));
    info_span!("audit.query_run", parameters = 7, other = "x");
    info_span!("audit.query_run", parameters = "[12345678901234567890123]");
    let late = info_span!("audit.query_run", parameters = Empty);
    late.record("parameters", "Ada");
    drop(late);
    let late = info_span!("audit.query_run", parameters = Empty);
    late.record("parameters", tracing::field::debug(["Ada"]));
    drop(late);
    info_span!("audit.query_run")
        .gather("parameters")
        .push("Ada");
    let long = format!("[\"{}\"]", "x".repeat(20_000));
    info_span!("audit.query_run", parameters = long);
    info_span!("audit.event", parameters = "of an event");
}

#[test]
fn bind_values_are_recorded_only_if_the_builder_says_so() {
    let trail = testing::capture();
    bind(&trail);
    let queries = trail.query_runs().exactly(8);
    for (at, query) in queries.iter().enumerate() {
        let expected = if at == 2 {
            json!({"other": "x"})
        } else {
            json!({})
        };
        assert_eq!(query.metadata(), &expected, "{query}");
        assert_eq!(query.problems(), [""; 0]);
    }
    assert_eq!(
        trail.events().one().metadata(),
        &json!({"parameters": "of an event"})
    );

    let trail = Audit::builder()
        .record_parameters(true)
        .limits(Limits::default())
        .capture();
    bind(&trail);
    let queries = trail.query_runs().exactly(8);
    let kept: Vec<_> = queries
        .iter()
        .map(|query| &query.metadata()["parameters"])
        .collect();
    let long = json!(["x".repeat(20_000)]);
    let expected = [
        &json!(["Ada", 1.5, 7]),
        &json!("(\"Ada\", 7)"),
        &json!(7),
        &json!("[12345678901234567890123]"),
        &json!("Ada"),
        &json!(["Ada"]),
        &json!("Ada"),
        &long,
    ];
    assert_eq!(kept, expected, "{queries}");
}

#[test]
fn record_has_the_values_of_its_row_in_postgres() {
    let postgres = testkit::trail::Trail::start();
    let trail = testing::capture();
    let layers = registry().with(postgres.audit.layer()).with(trail.layer());
    tracing::subscriber::with_default(layers, || {
        info_span!("request", request_id = "r-1", tenant_id = "acme").in_scope(|| {
            let query = info_span!(
                "audit.query_run",
                sql_text = "a\0b",
                row_count = 1.5,
                cached = 1
            );
            query.in_scope(|| _ = context().user("alice"));
            let _failed = run("broken");
            drop(query);
        });
    });
    let mut rows = postgres.rows(Kind::QueryRun);
    rows.sort_by_key(|row| row["sql_text"] == "broken");
    let queries = trail.query_runs().exactly(2);
    for (row, query) in rows.iter().zip(&queries) {
        // Each layer makes a record of its own.
        let differing = [
            ("sql_text", json!(query.sql_text())),
            ("row_count", json!(query.row_count())),
            ("request_id", json!(query.request_id())),
            ("user_id", json!(query.user_id())),
            ("tenant_id", json!(query.tenant_id())),
            ("trace_id", json!(query.trace_id())),
            ("status", json!(query.status().as_str())),
            ("error_code", json!(query.error_code())),
            ("error_message", json!(query.error_message())),
            ("metadata", query.metadata().clone()),
            ("problems", json!(query.problems())),
        ]
        .into_iter()
        .find(|(column, value)| &row[column] != value);
        assert_eq!(differing, None, "{row}\n{query}");
    }
    assert_eq!(queries.iter().next().unwrap().problems().len(), 2);
}

#[test]
fn assertion_that_fails_prints_the_story() {
    let trail = testing::capture();
    let _guard = trail.set_default();
    info_span!("request", request_id = "r-1", user_id = "alice").in_scope(|| {
        info_span!("audit.prompt_run", rendered_prompt = "two\nlines").in_scope(|| {
            run("SELECT 1").unwrap();
        });
    });
    trail.record(Event::new("job.ended").metadata("pages", 7));

    let said = panics(|| trail.query_runs().by_user("bob").one());
    let expected = "expected one record\n\
        found 0 with audit.query_run, user_id = \"bob\"\n\
        of 3 in the trail\n  request r-1\n    prompt run  ";
    assert!(said.starts_with(expected), "{said}");
    for line in [
        "\n        user_id alice\n",
        "\n        rendered_prompt two\\nlines\n",
        "\n      query run  succeeded  ",
        "\n          sql_text SELECT 1\n",
        "\n          row_count 3\n",
        "\n  no request\n    event  unknown  0.0 ms\n",
        "\n        metadata {\"pages\":7}\n",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    let said = panics(|| trail.records().exactly(2));
    assert!(
        said.starts_with("expected 2 records\n  request r-1\n"),
        "{said}"
    );
    assert_eq!(format!("{trail:?}"), trail.story());
    assert_eq!(testing::capture().story(), "no records\n");
}

#[test]
fn records_beyond_the_queue_are_counted_and_asking_panics() {
    let trail = Audit::builder().queue_limits(64, 1 << 20).capture();
    let _guard = trail.set_default();
    let mut recorded = 0;
    while catch_unwind(AssertUnwindSafe(|| trail.record(Event::new("x")))).is_ok() {
        recorded += 1;
        assert!(recorded <= 64);
    }
    info_span!("audit.event", action_type = "late");
    let said = panics(|| trail.records());
    assert!(
        said.starts_with("2 records were dropped: the trail's queue was full."),
        "{said}"
    );
    let story = trail.story();
    assert!(story.ends_with(&format!("{said}\n")), "{story}");
    assert_eq!(story.matches("action_type x").count(), recorded);
}

#[test]
fn looking_in_between_makes_room() {
    let trail = Audit::builder().queue_limits(64, 1 << 20).capture();
    for count in 1..=1_000 {
        trail.record(Event::new("x"));
        if count % 8 == 0 {
            assert_eq!(trail.events().len(), count);
        }
    }
}

#[test]
fn tests_that_run_at_the_same_time_do_not_see_each_others_records() {
    const THREADS: usize = 8;
    const EACH: usize = 500;
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let barrier = &barrier;
            scope.spawn(move || {
                let user = format!("user-{thread}");
                barrier.wait();
                let trail = testing::capture();
                let _guard = trail.set_default();
                for count in 1..=EACH {
                    info_span!("request", request_id = count, user_id = user).in_scope(|| {
                        run("SELECT 1").unwrap();
                    });
                    if count % 100 == 0 {
                        assert_eq!(trail.records().len(), count);
                    }
                }
                let own = trail.query_runs().by_user(&user).exactly(EACH);
                assert!(own.iter().all(|query| query.status() == Status::Succeeded));
                assert_eq!(trail.records().len(), EACH);
            });
        }
    });
}

/// A handler that starts a task of its own.
async fn handle(request: String) {
    let span = info_span!("request", request_id = request);
    async {
        let query = async {
            tokio::task::yield_now().await;
            run("SELECT 1")
        };
        let query = query.in_current_span().with_current_subscriber();
        tokio::spawn(query).await.unwrap().unwrap();
    }
    .instrument(span)
    .await;
}

#[tokio::test]
async fn tokio_test_sees_its_tasks_with_the_guard_of_its_thread() {
    let trail = testing::capture();
    let _guard = trail.set_default();
    handle(String::from("r-1")).await;
    let spawned = tokio::spawn(async { run("SELECT 2") });
    spawned.await.unwrap().unwrap();
    assert_eq!(trail.query_runs().len(), 2);
    assert_eq!(
        trail.query_runs().of_request("r-1").one().row_count(),
        Some(3)
    );

    let span = info_span!("audit.query_run", sql_text = "SELECT pg_sleep(9)");
    drop(std::future::pending::<Result<(), std::fmt::Error>>().audited(span));
    let cancelled = trail.query_runs().with_status(Status::Cancelled).one();
    assert_eq!(cancelled.sql_text(), Some("SELECT pg_sleep(9)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_on_several_threads_write_into_the_trail_of_their_subscriber() {
    let trails: Vec<Trail> = (0..4).map(|_| testing::capture()).collect();
    let mut tasks = Vec::new();
    for (at, trail) in trails.iter().enumerate() {
        let log = fmt::layer().with_writer(std::io::sink);
        let subscriber = registry().with(trail.layer()).with(log);
        let work = async move {
            for count in 0..50 {
                handle(format!("r-{at}-{count}")).await;
            }
        };
        tasks.push(tokio::spawn(work.with_subscriber(subscriber)));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for (at, trail) in trails.iter().enumerate() {
        let queries = trail.query_runs().exactly(50);
        let own = format!("r-{at}-");
        let is_own = |query: &testing::Record| query.request_id().unwrap().starts_with(&own);
        assert!(queries.iter().all(is_own), "{queries}");
    }
}
