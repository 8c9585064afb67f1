//! The program is killed at random moments, in half of the rounds the server too, and nothing
//! closed more than a moment before is lost or duplicated.
//!
//! `TRACING_AUDIT_KILL_ROUNDS=100 TRACING_AUDIT_KILL_GRACE_MS=50 cargo test --test kills` runs a
//! hundred rounds, with "a moment" being 50 ms; the defaults are a few rounds and one second, since
//! the worker may have to wait on a busy machine.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::child::{child, child_processes, command};
use testkit::trail::{Folder, PATIENCE, pipeline};
use testkit::{Postgres, Stop, wait_until};
use tracing::info_span;
use tracing_audit::AuditSpanExt;
use tracing_subscriber::prelude::*;

child_processes!(closes_spans_until_killed);

/// How many spans each of the child's threads closes per second.
const SPANS_A_SECOND: u32 = 1_250;
const THREADS: u32 = 4;

/// Returns a setting, or its default.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn micros() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_micros()
}

/// Closes spans until it is killed, and prints when each was closed; each thread leaves one span
/// open for good, and keeps another open while it closes a hundred.
fn closes_spans_until_killed() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    let said = Mutex::new(std::io::stdout());
    let say = |what: &str, id: uuid::Uuid| {
        // In one write, so that only the last line can be incomplete.
        let line = format!("\n{what} {id} {}\n", micros());
        said.lock().unwrap().write_all(line.as_bytes()).unwrap();
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let forever = info_span!("audit.prompt_run", rendered_prompt = "forever");
                say("begun", forever.audit_id().unwrap());
                let begun = Instant::now();
                let mut closed = 0_u32;
                loop {
                    let long = info_span!("audit.prompt_run", rendered_prompt = "long");
                    let id = long.audit_id().unwrap();
                    say("begun", id);
                    for _ in 0..100 {
                        let span = info_span!("audit.query_run", sql_text = "SELECT 1", n = closed);
                        let id = span.audit_id().unwrap();
                        drop(span);
                        say("closed", id);
                        closed += 1;
                        let due = begun + Duration::from_secs(1) * closed / SPANS_A_SECOND;
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                    drop(long);
                    say("ended", id);
                }
            });
        }
    });
    unreachable!("the threads go on until the process is killed");
}

#[test]
fn closed_spans_are_committed_once_and_open_runs_get_a_row_after_random_kills() {
    let rounds = setting("TRACING_AUDIT_KILL_ROUNDS", 4);
    // What was closed or begun this long before the kill must be there.
    let grace = Duration::from_millis(setting("TRACING_AUDIT_KILL_GRACE_MS", 1_000));
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    let (mut closed_in_all, mut open_in_all) = (0_u64, 0_u64);
    for round in 0..rounds {
        let mut child = command(child!(closes_spans_until_killed), &postgres, &spool)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Any moment in the life of a batch, from the first records on.
        let moment = grace + Duration::from_millis(250 + round * 7_919 % 900);
        let (mut seen, mut killed_at) = (Vec::new(), None);
        let mut until = None;
        for line in lines.map_while(Result::ok) {
            let mut words = line.split(' ');
            let (Some(what), Some(id), Some(at), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let (Ok(id), Ok(at)) = (id.parse::<uuid::Uuid>(), at.parse::<u128>()) else {
                continue;
            };
            seen.push((what.to_owned(), id, at));
            let until = *until.get_or_insert_with(|| Instant::now() + moment);
            if killed_at.is_none() && Instant::now() >= until {
                if round % 2 == 1 {
                    postgres.stop(Stop::Immediate);
                }
                killed_at = Some(micros());
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let killed_at = killed_at.unwrap();
        if round % 2 == 1 {
            postgres.start_again();
        }
        // No manual step: the next process finds the orphaned log.
        let audit = pipeline(&postgres, &spool, |builder| builder);
        wait_until("what was left is drained", PATIENCE, || {
            spool.names().len() == 1
        });
        drop(audit);
        // Ids are ordered by start time.
        let first = seen.iter().map(|(_, id, _)| *id).min().unwrap();
        let rows = postgres.psql(&format!(
            "SELECT id, coalesce(error_code, ''), count(*) FROM \
             (SELECT id, error_code FROM audit.query_runs UNION ALL SELECT id, error_code FROM audit.prompt_runs) r \
             WHERE id >= '{first}' GROUP BY 1, 2",
        ));
        let mut there = HashMap::new();
        for row in rows.lines() {
            let mut columns = row.split('|');
            let id: uuid::Uuid = columns.next().unwrap().parse().unwrap();
            let code = columns.next().unwrap().to_owned();
            assert_eq!(columns.next(), Some("1"), "{id} is there once");
            assert_eq!(there.insert(id, code), None, "{id} is there once");
        }
        let ended: HashSet<_> = seen
            .iter()
            .filter(|(what, ..)| what == "ended")
            .map(|(_, id, _)| *id)
            .collect();
        for (what, id, at) in &seen {
            // A span ends before its thread prints so.
            let is_sure = *at + grace.as_micros() < killed_at;
            let code = there.get(id).map(String::as_str);
            match what.as_str() {
                "closed" | "ended" if is_sure => {
                    assert_eq!(code, Some(""), "round {round}: {what} {id}");
                    closed_in_all += 1;
                }
                "begun" if is_sure && !ended.contains(id) => {
                    // It may have ended without printing so.
                    assert!(
                        matches!(code, Some("process_lost" | "")),
                        "round {round}: {what} {id}: {code:?}"
                    );
                    open_in_all += u64::from(code == Some("process_lost"));
                }
                _ => {}
            }
        }
    }
    assert!(closed_in_all > rounds * 100, "{closed_in_all}");
    assert!(open_in_all > 0);
}
