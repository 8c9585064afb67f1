//! Forks, and programs that the program starts.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::{
    AT_ONCE, IN_LOG, assert_committed_by_itself, drain_what_is_left, start, start_with, trail, work,
};
use fork::{Fork, Signal, fork, signal_process};
use serde_json::json;
use testkit::Postgres;
use testkit::child::{
    child, child_processes, command, kill, say, start_until_ready, wait_for_parent, wait_for_word,
    wait_to_be_killed,
};
use testkit::trail::{Folder, PATIENCE, count, pipeline};
use tracing::info_span;
use tracing_audit::{Audit, CommitError, Event, FlushError, PromptRun, RecordError};

child_processes!(
    uses_its_handle_in_a_fork,
    forks_and_waits_to_be_killed,
    starts_a_program_and_waits_to_be_killed,
    starts_pipelines_in_forks,
);

/// Everything a forked process may try with the handle from its parent. Every thread but its own is
/// gone.
fn use_what_was_forked(audit: Audit) {
    let id = audit.record(Event::new("forked")).unwrap();
    // More than the queue holds, and nothing empties it.
    for n in 0..2_000 {
        info_span!("audit.event", action_type = "forked", n);
        info_span!("audit.query_run", sql_text = "forked", n);
    }
    assert_eq!(
        audit.record(Event::new("forked")),
        Err(RecordError::ShutDown)
    );
    assert_eq!(audit.flush_blocking(PATIENCE), Err(FlushError::ShutDown));
    let late = audit.committed_blocking(id, PATIENCE);
    assert_eq!(late, Err(CommitError::ShutDown));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        assert_eq!(audit.flush(PATIENCE).await, Err(FlushError::ShutDown));
        let late = audit.committed(id, PATIENCE).await;
        assert_eq!(late, Err(CommitError::ShutDown));
        audit.shutdown(PATIENCE).await;
    });
    audit.shutdown_blocking(PATIENCE);
    drop(audit);
}

/// Forks; the forked process runs the closure and exits, with 0 only if it did not panic.
fn in_a_fork(run: impl FnOnce()) -> i32 {
    match fork().unwrap() {
        Fork::Parent(forked) => forked,
        Fork::Child => {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            std::process::exit(i32::from(ran.is_err()));
        }
    }
}

fn assert_succeeds(forked: i32) {
    assert_eq!(fork::waitpid(forked).unwrap(), 0, "what was forked");
}

fn uses_its_handle_in_a_fork() -> ! {
    let audit = start_with(|builder| builder.queue_limits(1_000, 1 << 20));
    let open = work(&audit);
    let began = Instant::now();
    // Only taken in the forked process's memory, where it is the last handle.
    let mut audit = Some(audit);
    assert_succeeds(in_a_fork(|| use_what_was_forked(audit.take().unwrap())));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    for n in 0..100 {
        info_span!("audit.event", action_type = "after the fork", n);
    }
    drop(open);
    drop(audit);
    std::process::exit(0)
}

#[test]
fn forked_process_neither_hangs_nor_duplicates_its_parents_records() {
    assert_committed_by_itself(
        child!(uses_its_handle_in_a_fork),
        |status| status.success(),
        (
            json!({"committed": 3, "in the log": IN_LOG, "after the fork": 100}),
            json!({"open": "unknown "}),
        ),
    );
}

fn forks_and_waits_to_be_killed() -> ! {
    let audit = start();
    let _open = work(&audit);
    in_a_fork(wait_for_parent);
    wait_to_be_killed()
}

#[test]
fn log_of_a_killed_parent_is_drained_once_after_its_forked_process_ends() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut command = command(child!(forks_and_waits_to_be_killed), &postgres, &spool);
    let mut child = start_until_ready(command.stdin(Stdio::piped()));
    let (stdin, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
    kill(child);
    let next = pipeline(&postgres, &spool, |builder| builder);
    next.record(PromptRun::new("next")).unwrap();
    next.flush_blocking(PATIENCE).unwrap();
    drop(next);
    assert_eq!(count(&postgres, "prompt_runs"), 1);
    assert_eq!(
        spool.names().len(),
        1,
        "the lock is the forked process' too"
    );
    assert_eq!(trail(&postgres), (json!({"committed": 3}), json!({})));
    // It ends when its input does; no other process holds its output.
    drop(stdin);
    std::io::Read::read_to_end(&mut stdout, &mut Vec::new()).unwrap();
    drain_what_is_left(&postgres, &spool);
}

fn starts_a_program_and_waits_to_be_killed() -> ! {
    let audit = start();
    let _open = work(&audit);
    #[allow(clippy::zombie_processes, reason = "this process ends first")]
    let started = Command::new("sleep").arg("120").spawn().unwrap();
    say(&format!("{} ready", started.id()));
    wait_to_be_killed()
}

#[test]
fn program_started_by_a_killed_process_does_not_keep_its_log_locked() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = command(
        child!(starts_a_program_and_waits_to_be_killed),
        &postgres,
        &spool,
    )
    .spawn()
    .unwrap();
    let said = wait_for_word(&mut child, "ready");
    let started: i32 = said.split(' ').nth_back(1).unwrap().parse().unwrap();
    kill(child);
    drain_what_is_left(&postgres, &spool);
    // Fails if it is no longer alive.
    signal_process(started.try_into().unwrap(), Signal::TERM).unwrap();
}

fn starts_pipelines_in_forks() -> ! {
    let audit = start();
    // This thread has made ids.
    info_span!("audit.event", action_type = "before the fork");
    let forked: Vec<_> = (0..4)
        .map(|_| {
            in_a_fork(|| {
                let own = tracing_audit::from_env().unwrap();
                for _ in 0..100 {
                    own.record(Event::new("forked")).unwrap();
                }
                own.flush_blocking(PATIENCE).unwrap();
            })
        })
        .collect();
    forked.into_iter().for_each(assert_succeeds);
    drop(audit);
    std::process::exit(0)
}

#[test]
fn forked_processes_with_their_own_pipelines_never_generate_the_same_id() {
    let postgres = assert_committed_by_itself(
        child!(starts_pipelines_in_forks),
        |status| status.success(),
        (json!({"before the fork": 1, "forked": 400}), json!({})),
    );
    // The random part of the ids, whatever their time.
    let random = postgres.psql("SELECT count(DISTINCT right(id::text, 12)) FROM audit.events");
    assert_eq!(random.trim(), "401");
}
