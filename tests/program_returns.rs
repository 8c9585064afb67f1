//! What is in the trail when a program's own `main` has ended. The program is this one, run as a
//! child: it has no test harness, and therefore a `main` of its own.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::sync::OnceLock;
use std::time::Duration;

use testkit::child::{main_command, say, wait_to_be_killed};
use testkit::trail::{Folder, PATIENCE, once_each, pipeline, record_and_wait_until_stored};
use testkit::{Postgres, wait_until};
use tracing::info_span;
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

const TEST: &str = "spans_closed_before_main_ends_are_committed_once";

const SPANS: u32 = 200;

/// How `main` ends, with its exit code, and whether the last handle was dropped.
const WAYS: [(&str, i32, bool); 6] = [
    ("returns", 0, true),
    ("returns an error", 1, true),
    ("panics", 101, true),
    ("returns beside threads that go on", 0, true),
    ("returns with a handle in a static", 0, false),
    ("returns with a handle in another thread", 0, false),
];

fn main() -> Result<(), String> {
    if let Some(way) = testkit::child::name() {
        return program(&way);
    }
    // The options that `cargo test` and nextest pass to a harness.
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    if has("--list") {
        if !has("--ignored") {
            say(&format!("{TEST}: test"));
        }
        return Ok(());
    }
    let mut filters = arguments
        .iter()
        .filter(|word| !word.starts_with('-'))
        .peekable();
    if filters.peek().is_none() || filters.any(|filter| TEST.contains(&**filter)) {
        let postgres = Postgres::start();
        for way in WAYS {
            check(&postgres, way);
        }
        say(&format!("test {TEST} ... ok"));
    }
    Ok(())
}

/// The child.
fn program(way: &str) -> Result<(), String> {
    static AUDIT: OnceLock<Audit> = OnceLock::new();
    let audit = Audit::builder()
        .postgres(std::env::var("AUDIT_DATABASE_URL").unwrap())
        .spool(std::env::var_os("AUDIT_SPOOL_DIR").unwrap())
        .service_name(way)
        .batch(100_000, Duration::from_mins(1))
        .start()
        .unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    for n in 0..SPANS {
        info_span!("audit.event", action_type = "closed", n);
    }
    let in_the_log = || {
        record_and_wait_until_stored(&audit, "stored");
    };
    let _run = info_span!("audit.query_run", sql_text = "main").entered();
    match way {
        "returns" => {}
        "returns an error" => return Err(String::from("on purpose")),
        "panics" => panic!("on purpose"),
        "returns beside threads that go on" => {
            for _ in 0..2 {
                std::thread::spawn(|| {
                    loop {
                        info_span!("audit.prompt_run", rendered_prompt = "of a thread");
                    }
                });
            }
        }
        "returns with a handle in a static" => {
            AUDIT.set(audit.clone()).unwrap();
            in_the_log();
        }
        "returns with a handle in another thread" => {
            let audit = audit.clone();
            std::thread::spawn(move || {
                let _audit = audit;
                wait_to_be_killed()
            });
            in_the_log();
        }
        _ => unreachable!("{way}"),
    }
    Ok(())
}

fn check(postgres: &Postgres, (way, code, is_dropped): (&str, i32, bool)) {
    let spool = Folder::new();
    let mut child = main_command(way, postgres, &spool).spawn().unwrap();
    let mut status = None;
    wait_until(&format!("the program that {way} ends"), PATIENCE, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(code), "{way}");
    assert_eq!(spool.names().is_empty(), is_dropped, "{way}");
    if !is_dropped {
        let next = pipeline(postgres, &spool, |builder| builder);
        wait_until("what was left is drained", PATIENCE, || {
            spool.names().len() == 1
        });
        drop(next);
        assert_eq!(spool.names(), Vec::<String>::new(), "{way}");
    }
    once_each(postgres);
    let of = |what: &str| postgres.psql(&format!("SELECT {what} WHERE service_name = '{way}'"));
    let closed = of("count(*) FILTER (WHERE action_type = 'closed') FROM audit.events");
    assert_eq!(closed.trim(), SPANS.to_string(), "{way}");
    let run = of("status, error_code FROM audit.query_runs");
    let outcome = match way {
        "panics" => "failed|panic",
        _ if is_dropped => "unknown|",
        // It ended a moment before the program did: the log may have it as open, or not at all.
        _ => return,
    };
    assert_eq!(run.trim(), outcome, "{way}");
}
