//! What the trail keeps of an error.

use std::fmt::Debug;

use super::{run, runtime};
use serde_json::json;
use testkit::trail::Trail;
use tracing_audit::{AuditFutureExt as _, Kind};
use tracing_subscriber::prelude::*;

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
fn error_message_includes_the_error_sources() {
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
fn each_layer_truncates_an_error_by_its_own_limits() {
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
