//! Who a request is by, recorded with `tracing_audit::context()` wherever the login is checked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use testkit::Postgres;
use testkit::child::{child, child_processes, command};
use testkit::trail::{Folder, PATIENCE, Trail};
use tracing::instrument::WithSubscriber as _;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Instrument as _, Span, info_span, instrument};
use tracing_audit::{Audit, AuditSpanExt as _, Context, Event, Kind, context};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{fmt, registry};

child_processes!(
    serves_with_the_audit_layer_alone,
    serves_with_a_log,
    serves_with_a_log_of_warnings,
    serves_with_a_tracer,
);

/// How subscribers differ beside the audit layer.
const STACKS: [fn(&Audit) -> Dispatch; 4] =
    [alone, with_a_log, with_a_log_of_warnings, with_a_tracer];

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

fn query(sql_text: &str) {
    let _query = info_span!("audit.query_run", sql_text, status = "ok").entered();
}

/// A login as people write it: its own argument has the name of an inherited field.
#[instrument]
fn login(user_id: &str) {
    context().user(user_id).tenant("acme");
    query("in the login");
}

#[instrument]
fn handler() {
    query("before");
    checked();
    query("after");
}

#[instrument(skip_all)]
fn checked() {
    login("alice");
}

/// A service with a login, deep inside spans of its own.
fn serve() {
    info_span!("request", request_id = "plain").in_scope(handler);

    // A span in between, which was open before the login.
    info_span!("request", request_id = "nested").in_scope(|| {
        info_span!("route", conversation_id = "c").in_scope(|| {
            let run = info_span!(
                "audit.prompt_run",
                rendered_prompt = "around",
                status = "ok"
            );
            run.in_scope(|| {
                handler();
                tracing::info!(name: "audit.event", action_type = "instant");
            });
        });
    });

    // Two requests in one span of a worker: nothing of the one is on the other.
    info_span!("worker", user_role = "batch").in_scope(|| {
        info_span!("item", request_id = "one").in_scope(|| {
            context().user("bob").set("plan", "gold");
            query("of one");
        });
        info_span!("item", request_id = "two").in_scope(|| query("of two"));
        // Without a request id.
        info_span!("item", tenant_id = "t").in_scope(|| {
            context().user("carol");
            query("of three");
        });
        query("of the worker");
    });

    // A request's id that is known later, and a second user.
    let late = info_span!("request", request_id = tracing::field::Empty);
    late.in_scope(|| {
        info_span!("inner", conversation_id = "d").in_scope(|| {
            late.record("request_id", "late");
            context().user("first");
            query("first");
        });
        context().user("second");
        query("second");
    });

    // No span at all, and spans that are none of the trail's.
    context().user("nobody");
    query("outside");
    info_span!("of the host").in_scope(|| {
        assert!(!context().is_recorded());
        context().user("nobody");
        query("within the host's");
    });

    // An audited span alone.
    info_span!("audit.query_run", sql_text = "alone", status = "ok").in_scope(|| {
        assert!(context().is_recorded());
        context().user("dora");
        query("in it");
    });
}

/// Returns what is to be the same, whatever other layers there are.
fn trail_of(postgres: &Postgres) -> Vec<Value> {
    let rows = postgres.psql(
        "SELECT jsonb_build_object('what', what, 'request', request_id, 'user', user_id, 'role', user_role, 'status', status, 'metadata', metadata,
                'tenant', tenant_id, 'conversation', conversation_id, 'problems', problems) FROM (
             SELECT sql_text AS what, id, request_id, user_id, user_role, status, metadata, tenant_id, conversation_id, problems FROM audit.query_runs
             UNION ALL SELECT rendered_prompt, id, request_id, user_id, user_role, status, metadata, tenant_id, conversation_id, problems FROM audit.prompt_runs
             UNION ALL SELECT action_type, id, request_id, user_id, user_role, status, metadata, tenant_id, conversation_id, problems FROM audit.events) t
         ORDER BY request_id, what",
    );
    rows.lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect()
}

/// Returns what the rows say of one request: what was done, and by whom.
fn of_request(rows: &[Value], request: &Value) -> Vec<(String, Value)> {
    rows.iter()
        .filter(|row| row["request"] == *request)
        .map(|row| {
            (
                row["what"].as_str().unwrap().to_owned(),
                row["user"].clone(),
            )
        })
        .collect()
}

fn by(said: &[(&str, Option<&str>)]) -> Vec<(String, Value)> {
    said.iter()
        .map(|(what, user)| ((*what).to_owned(), json!(user)))
        .collect()
}

#[track_caller]
fn is_as_it_must_be(rows: &[Value]) {
    let of = |request: Value| of_request(rows, &request);
    let alice = Some("alice");
    let of_handler = [("after", alice), ("before", None), ("in the login", alice)];
    assert_eq!(of(json!("plain")), by(&of_handler));
    let nested = [
        ("after", alice),
        ("around", alice),
        ("before", None),
        ("in the login", alice),
        ("instant", alice),
    ];
    assert_eq!(of(json!("nested")), by(&nested));
    assert_eq!(of(json!("one")), by(&[("of one", Some("bob"))]));
    assert_eq!(of(json!("two")), by(&[("of two", None)]));
    let late = [("first", Some("first")), ("second", Some("second"))];
    assert_eq!(of(json!("late")), by(&late));
    let without = [
        ("alone", Some("dora")),
        ("in it", Some("dora")),
        ("of the worker", None),
        ("of three", Some("carol")),
        ("outside", None),
        ("within the host's", None),
    ];
    assert_eq!(of(Value::Null), by(&without));
    for row in rows {
        let metadata = match row["request"].as_str() {
            Some("one") => json!({"plan": "gold"}),
            _ if row["tenant"].is_null() => json!({}),
            _ => json!({"tenant_key": if row["what"] == "of three" { "t" } else { "acme" }}),
        };
        assert_eq!(row["metadata"], metadata, "{row}");
        assert_eq!(row["problems"], json!([]), "{row}");
    }
}

#[test]
fn user_reaches_the_request_whatever_other_layers_a_scoped_subscriber_has() {
    for stack in STACKS {
        let trail = Trail::start();
        tracing::dispatcher::with_default(&stack(&trail.audit), serve);
        trail.audit.flush_blocking(PATIENCE).unwrap();
        is_as_it_must_be(&trail_of(&trail.postgres));
    }
}

fn serve_globally(stack: fn(&Audit) -> Dispatch) {
    let audit = tracing_audit::from_env().unwrap();
    tracing::dispatcher::set_global_default(stack(&audit)).unwrap();
    serve();
    audit.flush_blocking(PATIENCE).unwrap();
}

fn serves_with_the_audit_layer_alone() {
    serve_globally(alone);
}

fn serves_with_a_log() {
    serve_globally(with_a_log);
}

fn serves_with_a_log_of_warnings() {
    serve_globally(with_a_log_of_warnings);
}

fn serves_with_a_tracer() {
    serve_globally(with_a_tracer);
}

#[test]
fn user_reaches_the_request_whatever_other_layers_a_global_subscriber_has() {
    for process in [
        child!(serves_with_the_audit_layer_alone),
        child!(serves_with_a_log),
        child!(serves_with_a_log_of_warnings),
        child!(serves_with_a_tracer),
    ] {
        let (postgres, spool) = (Postgres::start(), Folder::new());
        let status = command(process, &postgres, &spool).status().unwrap();
        assert!(status.success());
        is_as_it_must_be(&trail_of(&postgres));
    }
}

#[test]
fn later_value_replaces_the_earlier_one_also_inside_spans_between() {
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!("request", request_id = "r").in_scope(|| {
            context().user("anonymous");
            info_span!("handler", conversation_id = "c").in_scope(|| {
                query("1");
                context().user("alice");
                query("2");
            });
            query("3");
            login("bob");
            query("4");
        });
        // The argument of an instrumented function is what the client claims.
        info_span!("request", request_id = "claimed").in_scope(|| claims("admin"));
        info_span!("request", request_id = "run").in_scope(|| {
            context().user("anonymous").tenant("default");
            let run = info_span!(
                "audit.prompt_run",
                rendered_prompt = "around",
                status = "ok"
            );
            run.in_scope(|| {
                context().user("alice").tenant("acme");
                query("inside");
            });
        });
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let rows = trail_of(&trail.postgres);
    let (alice, bob) = (Some("alice"), Some("bob"));
    assert_eq!(
        of_request(&rows, &json!("r")),
        by(&[
            ("1", Some("anonymous")),
            ("2", alice),
            ("3", alice),
            ("4", bob),
            ("in the login", bob)
        ])
    );
    assert_eq!(
        of_request(&rows, &json!("claimed")),
        by(&[("proven", alice)])
    );
    let of_run = of_request(&rows, &json!("run"));
    assert_eq!(of_run, by(&[("around", alice), ("inside", alice)]));
    for row in rows {
        assert_eq!(row["problems"], json!([]), "{row}");
    }
}

#[instrument]
fn claims(user_id: &str) {
    context().user("alice");
    query("proven");
}

#[test]
fn request_id_that_is_replaced_stays_that_of_the_whole_request() {
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!("request", request_id = "made here").in_scope(|| {
            info_span!("handler", conversation_id = "c").in_scope(|| {
                context().set("request_id", "the client's");
                context().user("alice");
                query("inside");
                assert_eq!(context().request_id().as_deref(), Some("the client's"));
            });
            query("outside");
        });
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let rows = trail_of(&trail.postgres);
    let alice = Some("alice");
    assert_eq!(
        of_request(&rows, &json!("the client's")),
        by(&[("inside", alice), ("outside", alice)])
    );
}

#[test]
fn user_of_one_run_does_not_reach_the_next_where_no_request_has_an_id() {
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!("process", user_role = "service").in_scope(|| {
            info_span!("audit.event", action_type = "one").in_scope(|| {
                context().user("alice").tenant("acme");
            });
            info_span!("audit.event", action_type = "two").in_scope(|| ());
        });
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let rows = trail_of(&trail.postgres);
    assert_eq!(
        of_request(&rows, &Value::Null),
        by(&[("one", Some("alice")), ("two", None)])
    );
}

#[test]
fn user_recorded_in_a_task_reaches_its_request_alone() {
    let trail = Trail::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    trail.scoped(|| {
        let dispatch = tracing::dispatcher::get_default(Dispatch::clone);
        runtime.block_on(async {
            let tasks = (0..20).map(|n| {
                let request = info_span!("request", request_id = format!("r-{n}"));
                let task = async move {
                    tokio::task::yield_now().await;
                    context().user(format_args!("u-{n}"));
                    tokio::task::yield_now().await;
                    query("of a task");
                };
                let task = task.instrument(request);
                tokio::spawn(tracing::instrument::WithSubscriber::with_subscriber(
                    task,
                    dispatch.clone(),
                ))
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        });
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let rows = trail_of(&trail.postgres);
    assert_eq!(rows.len(), 20);
    for row in rows {
        let request = row["request"].as_str().unwrap();
        assert_eq!(row["user"], request.replace("r-", "u-"));
    }
}

#[test]
fn record_made_by_a_call_has_the_user_that_was_recorded_on_the_request() {
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!("request", request_id = "r").in_scope(|| {
            info_span!("inner", conversation_id = "c").in_scope(|| {
                tracing::Span::current().audit_context().user("alice");
                trail.audit.record(Event::new("called")).unwrap();
                assert_eq!(context().request_id().as_deref(), Some("r"));
            });
        });
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let rows = trail_of(&trail.postgres);
    assert_eq!(
        of_request(&rows, &json!("r")),
        by(&[("called", Some("alice"))])
    );
}

/// A value whose formatting fails, in a way.
struct Bad(fn(&mut std::fmt::Formatter<'_>) -> std::fmt::Result);

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (self.0)(f)
    }
}

#[test]
fn formatting_that_fails_panics_or_never_ends_affects_its_value_alone() {
    let trail = Trail::start();
    let bad = [
        Bad(|_| Err(std::fmt::Error)),
        Bad(|_| panic!("in the host's Display")),
        Bad(|f| {
            loop {
                f.write_str("without end ")?;
            }
        }),
    ];
    trail.scoped(|| {
        info_span!("request", request_id = "r").in_scope(|| {
            info_span!("handler", conversation_id = "c").in_scope(|| {
                context().user("alice").tenant("acme");
                for bad in &bad {
                    context().set("bad", bad).tenant(bad);
                    query("with a bad value");
                }
                context().set("bad", "good").tenant("acme");
                query("without");
            });
        });
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let rows = trail_of(&trail.postgres);
    assert_eq!(rows.len(), 4);
    let acme = trail.postgres.psql("SELECT audit.tenant_uuid('acme')");
    for row in rows {
        assert_eq!(row["user"], "alice", "{row}");
        let is_good = row["what"] == "without";
        assert_eq!(row["tenant"] == *acme.trim(), is_good, "{row}");
        assert_eq!(row["problems"] == json!([]), is_good, "{row}");
    }
}

#[test]
fn values_of_the_hosts_own_are_bounded_and_a_lost_one_is_named() {
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!("request", request_id = "r").in_scope(|| {
            for n in 0..1_000 {
                context().set("count", n);
            }
            context().set("long", "x".repeat(10_000));
            context().set("nul\0", "a\0b");
            query("few");
            for n in 0..100 {
                context().set(&format!("name{n:04}{}", "y".repeat(5_000)), n);
            }
            context().set("count", "the last").user("alice");
            query("many");
        });
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let rows = trail_of(&trail.postgres);
    assert_eq!(rows.len(), 2);
    let few = &rows[0];
    assert_eq!(few["metadata"]["count"], "999");
    assert_eq!(few["metadata"]["long"].as_str().unwrap().len(), 1024);
    assert!(
        few["problems"].to_string().contains("long: truncated"),
        "{few}"
    );
    let many = &rows[1];
    assert_eq!(
        (&many["metadata"]["count"], &many["user"]),
        (&json!("the last"), &json!("alice"))
    );
    assert!(many["metadata"].to_string().len() < 40_000);
    assert!(
        many["problems"].to_string().contains("context: dropped"),
        "{many}"
    );
}

#[test]
fn user_recorded_on_the_requests_span_reaches_what_begins_later_inside_a_span_between() {
    let trail = Trail::start();
    trail.scoped(|| {
        let request = info_span!("request", request_id = "r", user_id = tracing::field::Empty);
        request.in_scope(|| {
            info_span!("handler", conversation_id = "c").in_scope(|| {
                request.record("user_id", "alice");
                query("of a span");
                tracing::info!(name: "audit.event", action_type = "of an event");
                trail.audit.record(Event::new("of a call")).unwrap();
            });
        });
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let rows = trail_of(&trail.postgres);
    let alice = Some("alice");
    assert_eq!(
        of_request(&rows, &json!("r")),
        by(&[
            ("of a call", alice),
            ("of a span", alice),
            ("of an event", alice)
        ])
    );
}

#[test]
fn records_of_a_request_whose_id_is_known_late_are_of_one_trace() {
    let trail = Trail::start();
    trail.scoped(|| {
        let request = info_span!("request", request_id = tracing::field::Empty);
        request.in_scope(|| {
            info_span!("audit.event", action_type = "outer").in_scope(|| {
                info_span!("between", conversation_id = "c").in_scope(|| {
                    let inner = info_span!("audit.event", action_type = "inner");
                    context().user("alice");
                    request.record("request_id", "r");
                    info_span!("audit.event", action_type = "sibling").in_scope(|| ());
                    drop(inner);
                });
            });
        });
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let said = trail.postgres.psql(
        "SELECT count(*), count(DISTINCT trace_id), count(DISTINCT request_id), count(DISTINCT parent_id), count(parent_id) FROM audit.events",
    );
    assert_eq!(said.trim(), "3|1|1|1|2");
}

/// What runs outside of the request's spans: in a task, in a thread, from a queue after the request
/// has ended, and for nobody.
fn work_elsewhere() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (queue, work) = std::sync::mpsc::channel::<Context>();
    info_span!("request", request_id = "r-1").in_scope(|| {
        let run = info_span!("audit.query_run", sql_text = "around", status = "ok");
        let _run = run.enter();
        context().user("alice").set("plan", "gold");
        let here = Context::capture();
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let task = async { query("in a task") }.instrument(here.span());
        runtime
            .block_on(runtime.spawn(task.with_subscriber(dispatch.clone())))
            .unwrap();
        let in_a_thread = here.clone();
        let thread = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                in_a_thread.in_scope(|| query("in a thread"));
            });
        });
        thread.join().unwrap();
        queue.send(here).unwrap();
        // It does not reach what was captured.
        context().user("bob");
    });
    // Within another request.
    info_span!("request", request_id = "r-2", user_id = "carol").in_scope(|| {
        let captured = work.recv().unwrap();
        captured.in_scope(|| {
            query("from a queue");
            assert_eq!(context().request_id().as_deref(), Some("r-1"));
            // A span in between looks around again once a value is late.
            info_span!("inner", user_role = "analyst").in_scope(|| {
                context().set("conversation_id", "c");
                info_span!("innermost", user_role = "analyst")
                    .in_scope(|| query("in a conversation"));
            });
        });
        query("of the other");
        Context::job("cleanup").in_scope(|| {
            context().user("scheduler");
            query("of a job");
        });
    });
    Context::capture().in_scope(|| query("of nobody"));
}

fn assert_work_elsewhere(postgres: &Postgres) {
    let rows = postgres.psql(
        "SELECT concat_ws('|', sql_text, CASE WHEN request_id LIKE 'cleanup-%' THEN 'a job' ELSE request_id END,
             user_id, conversation_id, metadata->>'plan',
             CASE WHEN parent_id = (SELECT id FROM audit.query_runs WHERE sql_text = 'around') THEN 'inside' END,
             CASE WHEN trace_id = (SELECT trace_id FROM audit.query_runs WHERE sql_text = 'around') THEN 'its trace' END)
         FROM audit.query_runs ORDER BY 1",
    );
    let rows: Vec<_> = rows.lines().collect();
    assert_eq!(
        rows,
        [
            "around|r-1|bob|gold|its trace",
            "from a queue|r-1|alice|gold|inside|its trace",
            "in a conversation|r-1|alice|c|gold|inside|its trace",
            "in a task|r-1|alice|gold|inside|its trace",
            "in a thread|r-1|alice|gold|inside|its trace",
            "of a job|a job|scheduler",
            "of nobody",
            "of the other|r-2|carol",
        ]
    );
}

#[test]
fn captured_context_goes_to_tasks_threads_and_queues_whatever_other_layers_there_are() {
    for stack in STACKS {
        let trail = Trail::start();
        tracing::dispatcher::with_default(&stack(&trail.audit), work_elsewhere);
        trail.audit.flush_blocking(PATIENCE).unwrap();
        assert_work_elsewhere(&trail.postgres);
    }
}

/// A layer that asks for the context of a span while it holds the span's extensions.
struct Asks(Arc<OnceLock<Span>>);

impl<S> tracing_subscriber::Layer<S> for Asks
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fn on_event(&self, _: &tracing::Event<'_>, ctx: tracing_subscriber::layer::Context<'_, S>) {
        let span = ctx.lookup_current().unwrap();
        let mut extensions = span.extensions_mut();
        let request = self.0.get().unwrap().audit_context();
        extensions.replace(request.request_id());
        request.user("alice");
    }
}

#[test]
fn layer_of_the_host_that_holds_a_spans_extensions_can_ask_for_the_context() {
    let trail = Trail::start();
    let asked = Arc::new(OnceLock::new());
    let asks = Asks(Arc::clone(&asked));
    let subscriber = registry().with(trail.audit.layer()).with(asks);
    tracing::subscriber::with_default(subscriber, || {
        let request = info_span!("request", request_id = "r-1");
        asked.set(request.clone()).unwrap();
        request.in_scope(|| {
            tracing::info!("asked");
            query("by alice");
        });
    });
    assert_eq!(trail.row(Kind::QueryRun)["user_id"], "alice");
}

#[test]
fn record_that_ended_before_the_login_learns_the_user_of_its_request() {
    let trail = Trail::start();
    trail.scoped(|| {
        let request = info_span!("audit.event", action_type = "request", request_id = "r");
        request.in_scope(|| {
            query("before");
            checked();
            query("after");
        });
        // The same id alone proves nothing.
        let stranger = info_span!("other", request_id = "r");
        stranger.in_scope(|| query("of a stranger"));
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let written = trail.postgres.psql(
        "SELECT concat_ws(' ', what, user_id, '/', learned_user_id) FROM audit.request_trail('r') ORDER BY what",
    );
    let written: Vec<&str> = written.lines().collect();
    assert_eq!(
        written,
        [
            "after alice /",
            "before / alice",
            "in the login alice /",
            "of a stranger /",
            "request alice /"
        ]
    );
}
