//! Tests what the trail claims about a run's end and about what a record names: without evidence,
//! nothing counts as a success or as another tenant's.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Future, pending};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::trail::{PATIENCE, Trail};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span, instrument};
use tracing_audit::{
    AuditFutureExt as _, AuditSpanExt as _, CommitError, Durability, Event, Kind, QueryRun,
};
use tracing_subscriber::prelude::*;

/// A host's timeout. Nothing here ends by itself, so it may be as short as possible.
const SHORT: Duration = Duration::from_millis(1);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

fn run(sql: &'static str) -> Span {
    info_span!(
        "audit.query_run",
        sql_text = sql,
        row_count = Empty,
        status = Empty,
        error_code = Empty,
        error_message = Empty
    )
}

type Run = std::pin::Pin<Box<dyn Future<Output = Result<(), String>>>>;

fn poll(run: &mut Run) -> std::task::Poll<Result<(), String>> {
    let waker = std::task::Waker::noop();
    run.as_mut()
        .poll(&mut std::task::Context::from_waker(waker))
}

/// Returns what the trail says of each run, by its SQL.
fn outcomes(trail: &Trail) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut outcomes: Vec<_> = trail
        .rows(Kind::QueryRun)
        .iter()
        .map(|row| (text(&row["sql_text"]), text(&row["status"])))
        .collect();
    outcomes.sort();
    outcomes
}

#[track_caller]
fn assert_outcomes(trail: &Trail, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(sql, status)| ((*sql).to_owned(), (*status).to_owned()))
        .collect();
    assert_eq!(outcomes(trail), expected);
}

/// Records the number of rows so far, and never ends.
async fn goes_on() -> Result<(), String> {
    Span::current().record("row_count", 3);
    pending().await
}

/// Records the number of rows when it is dropped, after the drop was noticed.
struct SaysWhatThereIs;

impl Drop for SaysWhatThereIs {
    fn drop(&mut self) {
        Span::current().record("row_count", 3);
    }
}

#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(sql_text = "g failed", row_count),
    err
)]
async fn fails() -> Result<(), String> {
    Span::current().record("row_count", 3);
    tokio::task::yield_now().await;
    Err("went wrong".to_owned())
}

#[test]
fn a_run_that_is_dropped_after_a_partial_result_is_cancelled_whoever_drops_it() {
    let trail = Trail::start();
    trail.scoped(|| {
        runtime().block_on(async {
            let _ = tokio::time::timeout(SHORT, goes_on().audited(run("a timeout"))).await;
            tokio::select! {
                _ = goes_on().audited(run("b select")) => {}
                () = tokio::time::sleep(SHORT) => {}
            }
        });
        let runtime = runtime();
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async {
            let aborted = tokio::task::spawn_local(goes_on().audited(run("c abort")));
            tokio::task::spawn_local(goes_on().audited(run("d shutdown of the runtime")));
            tokio::time::sleep(SHORT).await;
            aborted.abort();
            assert!(aborted.await.unwrap_err().is_cancelled());
        });
        drop(tasks);
        drop(runtime);
        let says = async {
            let _says = SaysWhatThereIs;
            pending::<Result<(), String>>().await
        };
        self::runtime().block_on(async {
            let _ = tokio::time::timeout(SHORT, says.audited(run("e in a destructor"))).await;
        });
    });
    assert_outcomes(
        &trail,
        &[
            ("a timeout", "cancelled"),
            ("b select", "cancelled"),
            ("c abort", "cancelled"),
            ("d shutdown of the runtime", "cancelled"),
            ("e in a destructor", "cancelled"),
        ],
    );
    assert_eq!(trail.rows(Kind::QueryRun)[0]["row_count"], 3);
}

#[test]
fn what_was_seen_of_an_end_outranks_a_drop_and_a_result_does_not() {
    let trail = Trail::start();
    trail.scoped(|| {
        let status = async |word: &'static str| {
            Span::current().record("status", word);
            goes_on().await
        };
        for (sql, word) in [("a said failed", "failed"), ("b said ok", "ok")] {
            let mut said: Run = Box::pin(status(word).audited(run(sql)));
            assert!(poll(&mut said).is_pending());
        }
        // One attempt inside times out; the run itself ends.
        let retries = async {
            let attempt = goes_on().audited(run("c attempt"));
            let _ = tokio::time::timeout(SHORT, attempt).await;
            Ok::<_, Infallible>(())
        };
        runtime()
            .block_on(retries.audited(run("d retries")))
            .unwrap();
        let panics = async {
            Span::current().record("row_count", 3);
            tokio::task::yield_now().await;
            std::panic::resume_unwind(Box::new("on purpose"));
            #[allow(unreachable_code)]
            Ok::<(), String>(())
        };
        let joined = tokio::task::LocalSet::new().block_on(&runtime(), async {
            tokio::task::spawn_local(panics.audited(run("e panic"))).await
        });
        assert!(joined.unwrap_err().is_panic());
        // Dropped because another future panics.
        let beside = async {
            let mut dropped: Run = Box::pin(goes_on().audited(run("f beside a panic")));
            assert!(poll(&mut dropped).is_pending());
            std::panic::resume_unwind(Box::new("on purpose"));
        };
        let joined = tokio::task::LocalSet::new()
            .block_on(&runtime(), async { tokio::task::spawn_local(beside).await });
        assert!(joined.is_err());
        runtime().block_on(fails()).unwrap_err();
        let span = run("h ok, then dropped");
        runtime()
            .block_on(std::future::ready(Ok::<_, String>(())).audited(span.clone()))
            .unwrap();
        drop(goes_on().audited(span));
    });
    assert_outcomes(
        &trail,
        &[
            ("a said failed", "failed"),
            ("b said ok", "succeeded"),
            ("c attempt", "cancelled"),
            ("d retries", "succeeded"),
            ("e panic", "failed"),
            ("f beside a panic", "cancelled"),
            ("g failed", "failed"),
            ("h ok, then dropped", "succeeded"),
        ],
    );
}

#[test]
fn a_result_beside_an_error_is_no_success() {
    let trail = Trail::start();
    trail.scoped(|| {
        let partial = |sql, field, value: &str| {
            let span = run(sql);
            span.record("row_count", 3);
            span.record(field, value);
        };
        partial("a code", "error_code", "57014");
        partial("b message", "error_message", "canceling statement");
        partial("c success", "error_code", "00000");
        partial("d empty", "error_message", "");
        let span = run("e none");
        span.record("row_count", 3);
        span.record("error_code", tracing::field::debug(None::<&str>));
        drop(span);
        let dropped = goes_on().audited(run("f dropped")).instrument(Span::none());
        runtime().block_on(async {
            let _ = tokio::time::timeout(SHORT, dropped).await;
        });
    });
    let partial = QueryRun::new("g without a span").row_count(3);
    trail.audit.record(partial.error_message("broke")).unwrap();
    assert_outcomes(
        &trail,
        &[
            ("a code", "failed"),
            ("b message", "failed"),
            ("c success", "succeeded"),
            ("d empty", "succeeded"),
            ("e none", "succeeded"),
            ("f dropped", "cancelled"),
            ("g without a span", "failed"),
        ],
    );
}

#[test]
fn an_ok_with_a_result_inside_is_no_success_and_its_err_is_a_failure() {
    let trail = Trail::start();
    trail.scoped(|| {
        let partial = async |result: Result<u8, String>| {
            Span::current().record("row_count", 3);
            result
        };
        let failed = || Err("went wrong".to_owned());
        runtime().block_on(async {
            let outside = tokio::time::timeout(PATIENCE, partial(failed()));
            let _ = outside.audited(run("a outside")).await;
            let inside = partial(failed()).audited(run("b inside"));
            let _ = tokio::time::timeout(PATIENCE, inside).await;
            let late = tokio::time::timeout(SHORT, goes_on());
            let _ = late.audited(run("c late")).await;
            let said = run("d said");
            said.record("status", "ok");
            let task = async { Ok::<_, Infallible>(partial(Ok(1)).await) };
            let _ = task.audited(said).await;
            let list = async { Ok::<_, Infallible>(vec![partial(failed()).await]) };
            let _ = list.audited(run("e list")).await;
            let option = async { Ok::<_, Infallible>(Some(partial(failed()).await)) };
            let _ = option.audited(run("f option")).await;
            let tuple = async { Ok::<_, Infallible>((1, Box::new(partial(failed()).await))) };
            let _ = tuple.audited(run("g tuple")).await;
            let deeper =
                async { Ok::<_, Infallible>(Some(Ok::<_, String>(partial(failed()).await))) };
            let _ = deeper.audited(run("h deeper")).await;
            let plain = async { Ok::<_, Infallible>(vec![Some("Err(")]) };
            let _ = plain.audited(run("i plain")).await;
        });
    });
    assert_outcomes(
        &trail,
        &[
            ("a outside", "unknown"),
            ("b inside", "failed"),
            ("c late", "failed"),
            ("d said", "succeeded"),
            ("e list", "unknown"),
            ("f option", "unknown"),
            ("g tuple", "unknown"),
            ("h deeper", "unknown"),
            ("i plain", "succeeded"),
        ],
    );
}

#[instrument(name = "audit.query_run", skip_all, fields(sql_text = sql), ret)]
fn returns<T>(sql: &str, value: T) -> T
where
    T: Debug,
{
    value
}

#[instrument(name = "audit.query_run", skip_all, fields(sql_text = sql), ret, err)]
fn returns_or_fails<T: Debug>(sql: &str, value: Result<T, String>) -> Result<T, String> {
    value
}

/// Its Debug panics, or writes for as long as it is allowed to.
struct Odd(bool);

impl Debug for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        assert!(self.0, "on purpose");
        loop {
            f.write_str("Er")?;
        }
    }
}

#[derive(Debug)]
#[allow(dead_code, reason = "read by its Debug")]
struct MyErr(u8);

#[test]
fn what_a_function_returns_is_a_success_unless_it_is_an_err() {
    let trail = Trail::start();
    trail.scoped(|| {
        returns("a number", 1);
        returns("b ok", Ok::<_, String>("Err(")).unwrap();
        returns("c err", Err::<u8, _>("went wrong")).unwrap_err();
        returns("d ok with err", Ok::<_, String>(Err::<u8, _>("went wrong")))
            .unwrap()
            .unwrap_err();
        returns("e text", "Err(");
        returns("f panics", Odd(false));
        returns("g never ends", Odd(true));
        let failed = || Err::<u8, _>("went wrong");
        let _ = returns("k option", Some(failed()));
        let _ = returns("l ready", std::task::Poll::Ready(failed()));
        let _ = returns("m tuple", (1, failed()));
        returns("n list", vec![Ok(1), failed()]);
        let _ = returns("o deeper", Ok::<_, String>(Some(failed()))).unwrap();
        returns("p names", ("Err(", "\"Err(", "a \\", MyErr(1), '"'));
        let _ = returns("q after a character", ('"', failed()));
        returns_or_fails("h ok", Ok(1)).unwrap();
        returns_or_fails::<u8>("i err", Err("went wrong".to_owned())).unwrap_err();
        returns_or_fails("j ok with err", Ok(Err::<u8, _>("went wrong")))
            .unwrap()
            .unwrap_err();
    });
    assert_outcomes(
        &trail,
        &[
            ("a number", "succeeded"),
            ("b ok", "succeeded"),
            ("c err", "failed"),
            ("d ok with err", "unknown"),
            ("e text", "succeeded"),
            ("f panics", "succeeded"),
            ("g never ends", "succeeded"),
            ("h ok", "succeeded"),
            ("i err", "failed"),
            ("j ok with err", "failed"),
            ("k option", "unknown"),
            ("l ready", "unknown"),
            ("m tuple", "unknown"),
            ("n list", "unknown"),
            ("o deeper", "unknown"),
            ("p names", "succeeded"),
            ("q after a character", "unknown"),
        ],
    );
    let message = "SELECT error_message FROM audit.query_runs WHERE sql_text = 'c err'";
    assert_eq!(trail.postgres.psql(message).trim(), "Err(\"went wrong\")");
}

#[test]
fn a_status_that_a_debug_wrote_is_read_and_one_that_is_none_is_not_said() {
    #[derive(Debug)]
    #[allow(dead_code, reason = "read by their Debug")]
    enum Mine {
        Failed,
    }
    let trail = Trail::start();
    trail.scoped(|| {
        let said = |sql, status: &dyn Debug| {
            let span = run(sql);
            span.record("row_count", 3);
            span.record("status", tracing::field::debug(status));
        };
        said("a option", &Some("rejected"));
        said("b quoted", &"rejected");
        said("c variant", &Mine::Failed);
        said("d none", &None::<&str>);
        said("e another word", &Some("on hold"));
    });
    assert_outcomes(
        &trail,
        &[
            ("a option", "rejected"),
            ("b quoted", "rejected"),
            ("c variant", "failed"),
            ("d none", "succeeded"),
            ("e another word", "unknown"),
        ],
    );
}

/// Key types that applications have.
#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct TenantId<T>(T);

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct UserId<T>(T);

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct Key<T> {
    id: T,
}

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
enum Owner {
    Internal(&'static str),
    External(&'static str),
    Nobody(Option<&'static str>),
}

/// A person's name, which its Display writes in parts.
struct InParts(&'static str, &'static str);

impl std::fmt::Display for InParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({})", self.0, self.1)
    }
}

/// A name whose Display ignores the width.
struct Name(&'static str);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

#[test]
fn what_display_writes_is_the_key_whatever_it_looks_like() {
    let trail = Trail::start();
    let names = [
        "Acme(Norway)",
        "Beta(Norway)",
        "(acme)",
        "ns::tenant(c)",
        "urn:tenant(7)",
        "TenantId(acme)",
        "TenantId(\"acme\")",
        "TenantId { id: acme }",
        "TenantId(\n    acme,\n)",
        "Some(acme)",
        "Some(\"acme\")",
        "\"acme\"",
        "None",
        "TenantId(None)",
        "Err(\"acme\")",
        "Ok(acme)",
    ];
    trail.scoped(|| {
        let enclosing = info_span!(
            "request",
            tenant_id = "outside",
            user_id = "outside",
            user_role = "outside",
            request_id = "outside"
        );
        let _inside = enclosing.enter();
        for name in names {
            info_span!(
                "audit.event",
                action_type = name,
                target_type = "str",
                tenant_id = %name,
                user_id = %name,
                user_role = %name,
                request_id = %name,
                target_id = %name,
            );
            if name == "None" {
                continue;
            }
            let own = Name(name);
            info_span!(
                "audit.event",
                action_type = name,
                target_type = "own",
                tenant_id = %own,
                user_id = %own,
                user_role = %own,
                request_id = format_args!("{own}"),
                target_id = %own,
            );
        }
        info_span!("audit.event", action_type = "Acme(Norway)", tenant_id = %InParts("Acme", "Norway"), user_id = %InParts("Acme", "Norway"), user_role = %InParts("Acme", "Norway"), request_id = "Acme(Norway)", target_id = ?Name("Acme(Norway)"));
    });
    let rows = trail.rows(Kind::Event);
    assert_eq!(rows.len(), 2 * names.len());
    let sql = "SELECT count(*) FROM audit.events WHERE tenant_id IS DISTINCT FROM audit.tenant_uuid(action_type)";
    assert_eq!(trail.postgres.psql(sql).trim(), "0");
    for row in &rows {
        let name = &row["action_type"];
        for field in ["user_id", "user_role", "request_id", "target_id"] {
            assert_eq!(&row[field], name, "{field} {row}");
        }
        assert_eq!(&row["metadata"]["tenant_key"], name);
    }
}

#[test]
fn a_name_inside_a_struct_is_not_looked_into_and_variants_are_keys_of_their_own() {
    let trail = Trail::start();
    let failed: Result<&str, &str> = Err("acme");
    trail.scoped(|| {
        let enclosing = info_span!("request", tenant_id = "outside", user_id = "outside");
        let _inside = enclosing.enter();
        info_span!("audit.event", action_type = "1", tenant_id = ?TenantId(Name("Acme(acme)")));
        info_span!("audit.event", action_type = "2", tenant_id = ?TenantId(Name("\"acme\"")));
        info_span!("audit.event", action_type = "3", tenant_id = ?Owner::Internal("acme"));
        info_span!("audit.event", action_type = "4", tenant_id = ?Owner::External("acme"));
        info_span!("audit.event", action_type = "5", tenant_id = ?failed, user_id = ?failed);
        info_span!("audit.event", action_type = "6", tenant_id = ?Ok::<_, ()>("acme"));
        info_span!("audit.event", action_type = "7", tenant_id = ?Owner::Nobody(None));
        info_span!(
            "audit.event",
            action_type = "8",
            tenant_id = &b"acme\xff"[..]
        );
        info_span!("audit.event", action_type = "9", tenant_id = "acme\0");
    });
    let mut rows = trail.rows(Kind::Event);
    rows.sort_by_key(|row| row["action_type"].to_string());
    let keys: Vec<_> = rows
        .iter()
        .map(|row| row["metadata"]["tenant_key"].as_str().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "TenantId(Acme(acme))",
            "TenantId(\"acme\")",
            "Internal(\"acme\")",
            "External(\"acme\")",
            "Err(\"acme\")",
            "acme",
            "Nobody(None)",
            "acme\u{fffd}",
            "acme\u{fffd}",
        ]
    );
    let has_tenant: Vec<_> = rows.iter().map(|row| !row["tenant_id"].is_null()).collect();
    assert_eq!(
        has_tenant,
        [true, true, true, true, false, true, true, false, false]
    );
    for (row, (key, is_doubtful)) in rows.iter().zip(
        keys.iter()
            .zip([true, true, true, true, true, false, true, true, true]),
    ) {
        let problems = row["problems"].as_array().unwrap().iter();
        let said = problems.filter(|problem| {
            let problem = problem.as_str().unwrap();
            problem.starts_with("tenant_id: ") && !problem.contains("differs")
        });
        assert_eq!(said.count(), usize::from(is_doubtful), "{key} {row}");
    }
    assert_eq!(rows[4]["user_id"], "Err(\"acme\")");
}

#[test]
fn a_key_that_a_debug_wrote_is_the_key_and_no_other_tenant() {
    let uuid = uuid::Uuid::from_u128(0x6f3b_8a52_7c1d_4e9a_9b0e_2f4d_5c6b_7a81);
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!("audit.event", action_type = "1", tenant_id = "acme");
        info_span!("audit.event", action_type = "2", tenant_id = ?TenantId("acme"));
        info_span!("audit.event", action_type = "3", tenant_id = ?Some(TenantId(Key { id: "acme" })));
        info_span!("audit.event", action_type = "4", tenant_id = ?Key { id: "ac\"me\\\n" });
        info_span!("audit.event", action_type = "5", tenant_id = ?TenantId(uuid));
        info_span!("audit.event", action_type = "6", tenant_id = ?TenantId(None::<u8>));
        info_span!("audit.event", action_type = "7", tenant_id = ?TenantId(("acme", "eu")));
        info_span!("audit.event", action_type = "8", tenant_id = format!("{:?}", TenantId("acme")));
    });
    let mut rows = trail.rows(Kind::Event);
    rows.sort_by_key(|row| row["action_type"].to_string());
    let sql = |key: &str| {
        let query = format!("SELECT audit.tenant_uuid({key})");
        json!(trail.postgres.psql(&query).trim())
    };
    let acme = (sql("'acme'"), json!("acme"), json!([]));
    let doubt = json!([
        "tenant_id: looks like a Debug text, kept as it is: record the key itself, as text or with %"
    ]);
    let expected = [
        acme.clone(),
        acme.clone(),
        acme,
        (sql(r#"E'ac"me\\\n'"#), json!("ac\"me\\\n"), json!([])),
        (json!(uuid), Value::Null, json!([])),
        (Value::Null, Value::Null, json!([])),
        (
            sql(r#"'TenantId(("acme", "eu"))'"#),
            json!(r#"TenantId(("acme", "eu"))"#),
            doubt.clone(),
        ),
        (
            sql(r#"'TenantId("acme")'"#),
            json!(r#"TenantId("acme")"#),
            doubt,
        ),
    ];
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(expected) {
        let tenant = row["tenant_id"].clone();
        let key = row["metadata"]["tenant_key"].clone();
        assert_eq!((tenant, key, row["problems"].clone()), expected, "{row}");
    }
}

#[test]
fn other_keys_that_a_debug_wrote_are_read_and_what_a_variant_says_is_kept() {
    #[derive(Debug)]
    #[allow(dead_code, reason = "read by their Debug")]
    enum Failure {
        Timeout(u8),
    }
    let uuid = uuid::Uuid::from_u128(0x6f3b_8a52_7c1d_4e9a_9b0e_2f4d_5c6b_7a81);
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!(
            "audit.query_run",
            user_id = ?UserId(42),
            request_id = ?TenantId(uuid),
            conversation_id = ?Key { id: Some("c") },
            agent_id = ?TenantId(uuid),
            llm_session_id = ?Key { id: uuid },
            datasource_id = ?TenantId(TenantId(uuid)),
            user_role = ?Some("analyst"),
            error_code = ?Failure::Timeout(30),
            row_count = ?TenantId(5),
            sql_text = "first",
        );
        info_span!("audit.query_run", sql_text = "other", user_id = ?("a", "b"), agent_id = ?TenantId("junk"));
    });
    let mut rows = trail.rows(Kind::QueryRun);
    rows.sort_by_key(|row| row["sql_text"].to_string());
    let row = &rows[0];
    let uuid = uuid.to_string();
    for (field, expected) in [
        ("user_id", "42"),
        ("request_id", &uuid),
        ("conversation_id", "c"),
        ("agent_id", &uuid),
        ("llm_session_id", &uuid),
        ("datasource_id", &uuid),
        ("user_role", "analyst"),
        ("error_code", "Timeout(30)"),
    ] {
        assert_eq!(row[field], expected, "{field}");
    }
    assert_eq!(row["row_count"], 5);
    assert_eq!(row["trace_id"], uuid.replace('-', ""));
    assert_eq!(row["problems"], json!([]));
    assert_eq!(rows[1]["user_id"], r#"("a", "b")"#);
    assert_eq!(rows[1]["metadata"]["agent_id"], r#"TenantId("junk")"#);
    assert_eq!(rows[1]["problems"].as_array().unwrap().len(), 2);
}

#[test]
fn of_a_record_that_is_not_required_committed_says_so_at_once() {
    let trail = Trail::start_with(|builder| builder.durability(Kind::Event, Durability::Required));
    let at_once = |id, expected: CommitError| {
        let begun = Instant::now();
        let answer = trail.audit.committed_blocking(id, PATIENCE);
        assert_eq!(answer, Err(expected));
        // It did not wait.
        assert!(begun.elapsed() < PATIENCE / 2);
    };
    trail.scoped(|| {
        let span = run("open");
        let id = span.audit_id().unwrap();
        at_once(id, CommitError::NotRequired);
        drop(span);
        at_once(id, CommitError::NotRequired);
        trail.audit.flush_blocking(PATIENCE).unwrap();
        at_once(id, CommitError::NotRequired);
    });
    let then = std::time::SystemTime::now();
    let dated = QueryRun::new("dated").started_at(then);
    at_once(trail.audit.record(dated).unwrap(), CommitError::NotRequired);
    at_once(uuid::Uuid::nil(), CommitError::NoRecord);
    at_once(uuid::Uuid::new_v4(), CommitError::NoRecord);
    let required = trail.audit.record(Event::new("e")).unwrap();
    trail.audit.committed_blocking(required, PATIENCE).unwrap();
    trail.audit.shutdown_blocking(PATIENCE);
    at_once(
        uuid::Uuid::from_u128(required.as_u128() & !0xf | 1),
        CommitError::NotRequired,
    );
}

#[test]
fn keys_and_a_status_have_room_in_a_record_that_is_full() {
    // Room for all of them: a slow disk drops none.
    let trail = Trail::start_with(|builder| builder.queue_limits(65_536, 256 << 20));
    let big = "x".repeat(1 << 20);
    let full = |sql: &'static str| {
        info_span!(
            "audit.query_run",
            sql_text = sql,
            a = &*big,
            b = &*big,
            c = &*big,
            d = &*big,
            row_count = Empty,
            status = Empty,
            error_code = Empty,
            error_message = Empty
        )
    };
    trail.scoped(|| {
        let enclosing = info_span!(
            "request",
            tenant_id = "acme",
            user_id = "ann",
            request_id = "r-acme"
        );
        let _inside = enclosing.enter();
        info_span!(
            "audit.event",
            a = &*big,
            b = &*big,
            c = &*big,
            d = &*big,
            tenant_id = "beta",
            user_id = "bob",
            request_id = "r-beta"
        );
        info_span!(
            "audit.event", a = &*big, b = &*big, c = &*big, d = &*big,
            tenant_id = %"beta", user_id = ?"bob", request_id = %"r-beta"
        );
        tracing::info!(
            target: "audit.event", a = &*big, b = &*big, c = &*big, d = &*big,
            tenant_id = "beta", user_id = "bob", request_id = "r-beta"
        );
        for (sql, status) in [("a", "failed"), ("b", "rejected"), ("c", "cancelled")] {
            let span = full(sql);
            span.record("status", status);
            span.record("row_count", 3);
        }
        full("d")
            .record("row_count", 3)
            .record("error_code", "57014");
        full("e")
            .record("row_count", 3)
            .record("error_message", &*big);
        full("f").record("row_count", 3);
        let span = run("g");
        for name in ["v", "w", "x", "y", "z"] {
            span.gather(name).push(&big);
        }
        span.record("row_count", 3);
        span.record("status", "failed");
    });
    for row in trail.rows(Kind::Event) {
        let keys = ["tenant_key", "user_id", "request_id"].map(|key| {
            let column = &row[key];
            let key = if column.is_null() {
                &row["metadata"][key]
            } else {
                column
            };
            key.as_str().unwrap_or_default().to_owned()
        });
        assert_eq!(keys, ["beta", "bob", "r-beta"]);
    }
    assert_outcomes(
        &trail,
        &[
            ("a", "failed"),
            ("b", "rejected"),
            ("c", "cancelled"),
            ("d", "failed"),
            ("e", "failed"),
            ("f", "succeeded"),
            ("g", "failed"),
        ],
    );
    let message = "SELECT octet_length(error_message) FROM audit.query_runs WHERE sql_text = 'e'";
    assert_eq!(trail.postgres.psql(message).trim(), "1024");
}

#[test]
fn whatever_is_said_first_a_small_record_keeps_how_it_ended() {
    let limits = tracing_audit::Limits::default()
        .with_field_bytes(65_536)
        .with_record_bytes(65_536);
    let trail = Trail::start_with(|builder| builder.limits(limits));
    let answer = "x".repeat(100_000);
    let ended = |name: &'static str, field, value: &str| {
        let span = info_span!(
            "audit.prompt_run",
            model_name = name,
            output_token_count = Empty,
            status = Empty,
            error_code = Empty
        );
        span.gather("response_text").push(&answer);
        span.record("output_token_count", 20_000);
        span.record(field, value);
    };
    trail.scoped(|| {
        ended("a", "status", "failed");
        ended("b", "status", "cancelled");
        ended("c", "error_code", "content_filter");
    });
    let builder = tracing_audit::PromptRun::new("p").model_name("d");
    let builder = builder.response_text(answer.clone()).output_token_count(1);
    let failed = builder
        .tenant_id("beta")
        .status(tracing_audit::Status::Failed);
    trail.audit.record(failed).unwrap();
    let mut rows = trail.rows(Kind::PromptRun);
    rows.sort_by_key(|row| row["model_name"].to_string());
    let said: Vec<_> = rows
        .iter()
        .map(|row| json!([row["status"], row["output_token_count"]]))
        .collect();
    assert_eq!(
        said,
        [
            json!(["failed", 20_000]),
            json!(["cancelled", 20_000]),
            json!(["failed", 20_000]),
            json!(["failed", 1]),
        ]
    );
    assert_eq!(rows[3]["metadata"]["tenant_key"], "beta");
}

/// Writes something, then panics or fails.
struct Breaks(&'static str, bool);

impl Debug for Breaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)?;
        assert!(self.1, "on purpose");
        Err(std::fmt::Error)
    }
}

#[test]
fn what_was_said_of_a_failure_and_has_no_value_is_no_success() {
    #[derive(Debug)]
    #[allow(dead_code, reason = "read by their Debug")]
    enum Outcome {
        Failed(Option<&'static str>),
        Cancelled { reason: Option<&'static str> },
    }
    let trail = Trail::start();
    trail.scoped(|| {
        let said = |sql, field, value: &dyn Debug| {
            let span = run(sql);
            span.record("row_count", 3);
            span.record(field, tracing::field::debug(value));
        };
        said("a", "status", &Outcome::Failed(None));
        said("b", "status", &Outcome::Cancelled { reason: None });
        said("c", "status", &Err::<u8, _>(None::<u8>));
        said("d", "error_code", &Outcome::Failed(None));
        said("e", "error_message", &Outcome::Failed(None));
        said("f", "error_message", &Breaks("", true));
        said("g", "error_message", &Breaks("", false));
        said("h", "status", &Breaks("ok", true));
        said("i", "row_count", &Err::<u8, _>("boom"));
        said("j", "row_count", &Some(None::<u8>));
        said("k", "row_count", &Some(4));
        let enclosing = info_span!("request", user_role = "analyst");
        let _inside = enclosing.enter();
        info_span!("audit.event", user_role = ?Outcome::Failed(None));
    });
    assert_outcomes(
        &trail,
        &[
            ("a", "unknown"),
            ("b", "unknown"),
            ("c", "unknown"),
            ("d", "failed"),
            ("e", "failed"),
            ("f", "failed"),
            ("g", "failed"),
            ("h", "unknown"),
            ("i", "unknown"),
            ("j", "unknown"),
            ("k", "succeeded"),
        ],
    );
    assert_eq!(trail.row(Kind::Event)["user_role"], "Failed(None)");
    let answers = "SELECT metadata->>'status' FROM audit.query_runs WHERE sql_text IN ('a', 'c') ORDER BY sql_text";
    assert_eq!(
        trail.postgres.psql(answers).trim(),
        "Failed(None)\nErr(None)"
    );
}

/// Runs a closure while the thread is unwinding.
struct AmidPanic<F: FnMut()>(F);

impl<F: FnMut()> Drop for AmidPanic<F> {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        (self.0)();
    }
}

fn amid_panic(run: impl FnMut()) {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _amid = AmidPanic(run);
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(caught.is_err());
}

#[test]
fn a_panic_counts_whatever_panicked_before_and_a_result_beside_anothers_panic_is_none() {
    let trail = Trail::start();
    trail.scoped(|| {
        let panics = || {
            let caught = std::panic::catch_unwind(|| {
                Span::current().record("row_count", 2);
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            assert!(caught.is_err());
        };
        let instrumented = |span: Span| {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                span.in_scope(|| std::panic::resume_unwind(Box::new("on purpose")));
            }));
            assert!(caught.is_err());
        };
        let span = run("a entered before");
        amid_panic(|| span.in_scope(|| ()));
        span.record("row_count", 2);
        instrumented(span);
        amid_panic(|| {
            run("b within a destructor").in_scope(|| {
                Span::current().record("row_count", 2);
            });
        });
        let mut span = Some(run("c dropped beside"));
        amid_panic(|| {
            let span = span.take().unwrap();
            span.in_scope(|| {
                Span::current().record("row_count", 2);
            });
        });
        amid_panic(|| run("d caught in a destructor").in_scope(panics));
        amid_panic(|| {
            let span = run("e said in a destructor");
            span.record("status", "ok");
        });
        run("f caught inside").in_scope(panics);
    });
    assert_outcomes(
        &trail,
        &[
            ("a entered before", "failed"),
            ("b within a destructor", "unknown"),
            ("c dropped beside", "unknown"),
            ("d caught in a destructor", "unknown"),
            ("e said in a destructor", "succeeded"),
            ("f caught inside", "succeeded"),
        ],
    );
}

/// Two functions at one place in the source.
macro_rules! outer_and_inner {
    () => {
        #[instrument(name = "audit.query_run", fields(sql_text = "outer"))]
        fn outer() {
            let _ = inner(false);
            let _ = inner(true);
        }
        #[instrument(ret, err)]
        fn inner(fails: bool) -> Result<u8, String> {
            if fails {
                Err("inner".to_owned())
            } else {
                Ok(1)
            }
        }
    };
}
outer_and_inner!();

#[test]
fn what_another_function_of_the_same_macro_returns_is_none_of_the_runs_outcomes() {
    let trail = Trail::start();
    let subscriber = tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::sink));
    tracing::subscriber::with_default(subscriber, outer);
    let row = trail.row(Kind::QueryRun);
    assert_eq!(
        (&row["status"], &row["error_message"]),
        (&json!("unknown"), &Value::Null)
    );
}

/// An error with a cause.
#[derive(Debug)]
struct Loading(std::io::Error);

impl std::fmt::Display for Loading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("loading")?;
        if f.alternate() {
            write!(f, ": {}", self.0)
        } else {
            Ok(())
        }
    }
}

impl std::error::Error for Loading {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn an_error_says_why_it_came_about() {
    let trail = Trail::start();
    let loading = || Loading(std::io::Error::other("no route to host"));
    trail.scoped(|| {
        let failed = std::future::ready(Err::<u8, _>(loading()));
        runtime().block_on(failed.audited(run("a"))).unwrap_err();
        let error = loading();
        let error: &(dyn std::error::Error + 'static) = &error;
        run("b").record("error_message", error);
        run("c").record(
            "status",
            tracing::field::debug(std::io::ErrorKind::TimedOut),
        );
        let taken_back = run("d");
        taken_back.record("status", "failed");
        taken_back.record("status", tracing::field::debug(None::<&str>));
        taken_back.record("row_count", 3);
    });
    let mut rows = trail.rows(Kind::QueryRun);
    rows.sort_by_key(|row| row["sql_text"].to_string());
    for row in &rows[..2] {
        assert_eq!(row["error_message"], "loading: no route to host", "{row}");
    }
    assert_eq!(
        (&rows[2]["status"], &rows[2]["error_code"]),
        (&json!("failed"), &json!("timeout"))
    );
    assert_eq!(rows[3]["status"], "failed");
}

#[test]
fn each_of_two_layers_keeps_of_an_error_what_its_own_limits_say() {
    let limits = tracing_audit::Limits::default().with_field_bytes(256);
    for is_small_first in [true, false] {
        let (large, small) = (
            Trail::start(),
            Trail::start_with(|builder| builder.limits(limits)),
        );
        let (first, second) = if is_small_first {
            (&small, &large)
        } else {
            (&large, &small)
        };
        let subscriber = tracing_subscriber::registry()
            .with(first.audit.layer())
            .with(second.audit.layer());
        tracing::subscriber::with_default(subscriber, || {
            let failed = std::future::ready(Err::<u8, _>("e".repeat(700)));
            runtime().block_on(failed.audited(run("a"))).unwrap_err();
        });
        for (trail, bytes, problems) in [(&large, 700, 0), (&small, 256, 1)] {
            let row = trail.row(Kind::QueryRun);
            assert_eq!(row["error_message"].as_str().unwrap().len(), bytes);
            assert_eq!(row["problems"].as_array().unwrap().len(), problems, "{row}");
        }
    }
}

#[test]
fn what_is_known_of_a_runs_end_stays_though_its_span_is_open_at_the_shutdown() {
    let trail =
        Trail::start_with(|builder| builder.durability(Kind::QueryRun, Durability::Required));
    let ids = trail.scoped(|| {
        let held: Vec<_> = [
            "a err",
            "b ok",
            "c dropped",
            "d said",
            "e partial",
            "f said at the beginning",
            "g stored",
            "h code",
        ]
        .map(run)
        .into();
        held[5].record("sql_text", "f goes on");
        // So that the local log already has them.
        for _ in 0..3 {
            trail.audit.record(Event::new("after")).unwrap();
            trail.audit.flush_blocking(PATIENCE).unwrap();
        }
        let ended = |at: usize, result: Result<(), String>| {
            let _ = runtime().block_on(std::future::ready(result).audited(held[at].clone()));
        };
        ended(0, Err("boom".to_owned()));
        ended(1, Ok(()));
        drop(goes_on().audited(held[2].clone()));
        held[3].record("status", "failed");
        held[4].record("row_count", 3);
        held[6].record("status", tracing::field::display("rejected"));
        held[7].record("error_code", "57014");
        ended(7, Err("canceled".to_owned()));
        let ids: Vec<_> = held.iter().map(|span| span.audit_id().unwrap()).collect();
        trail.audit.shutdown_blocking(PATIENCE);
        ids
    });
    let rows = testkit::trail::rows(&trail.postgres, Kind::QueryRun);
    let mut said: Vec<_> = rows
        .iter()
        .map(|row| {
            json!([
                row["sql_text"],
                row["status"],
                row["error_code"],
                row["error_message"]
            ])
        })
        .collect();
    said.sort_by_key(Value::to_string);
    assert_eq!(
        said,
        [
            json!(["a err", "failed", "shut_down", "boom"]),
            json!(["b ok", "succeeded", "shut_down", null]),
            json!(["c dropped", "cancelled", "shut_down", null]),
            json!(["d said", "failed", "shut_down", null]),
            json!(["e partial", "unknown", "shut_down", null]),
            json!(["f goes on", "unknown", "shut_down", null]),
            json!(["g stored", "rejected", "shut_down", null]),
            json!(["h code", "failed", "57014", "canceled"]),
        ]
    );
    // They are there when asked for later.
    for id in ids {
        trail.audit.committed_blocking(id, PATIENCE).unwrap();
    }
}

#[test]
fn an_id_that_is_no_records_is_told_from_one_that_is_not_required_whatever_is() {
    let trail = Trail::start();
    let committed = |id| trail.audit.committed_blocking(id, PATIENCE);
    assert_eq!(committed(uuid::Uuid::nil()), Err(CommitError::NoRecord));
    assert_eq!(committed(uuid::Uuid::new_v4()), Err(CommitError::NoRecord));
    let id = trail.audit.record(Event::new("e")).unwrap();
    assert_eq!(committed(id), Err(CommitError::NotRequired));
}
