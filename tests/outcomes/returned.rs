//! What a function returned, and what a `Debug` wrote of it.

use std::convert::Infallible;
use std::fmt::Debug;

use super::{SHORT, assert_outcomes, goes_on, run, runtime};
use serde_json::{Value, json};
use testkit::trail::{PATIENCE, Trail};
use tracing::{Span, info_span, instrument};
use tracing_audit::{AuditFutureExt as _, Kind};
use tracing_subscriber::prelude::*;

#[test]
fn ok_around_an_err_is_not_a_success() {
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
fn returned_value_is_a_success_unless_it_contains_an_err() {
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
fn status_recorded_by_debug_is_parsed_and_none_is_ignored() {
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
fn failure_recorded_without_a_value_is_not_a_success() {
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
fn return_value_of_a_nested_instrumented_function_does_not_set_the_runs_status() {
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
