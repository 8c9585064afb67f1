//! Copies of the local log.

use std::process::Command;

use super::{Earlier, agrees, commit, empty_log, gaps, named, not_once, required, writer};
use testkit::child::{child, child_processes, command, kill, say, start_until_ready};
use testkit::trail::{Folder, PATIENCE, Trail, count, pipeline, record_and_wait_until_stored};
use testkit::{ADMINISTRATOR, Postgres, wait_until};
use tracing::info_span;
use tracing_audit::{Audit, Event, Health};
use tracing_subscriber::prelude::*;

child_processes!(leaves_a_run_and_records);

fn copy(folder: &Folder) -> Folder {
    let copy = Folder::new();
    let copied = Command::new("cp")
        .arg("-a")
        .args([&folder.0, &copy.0])
        .status();
    assert!(copied.unwrap().success());
    copy
}

/// Puts an open run into the local log: noticed at one check, and stored at the next.
fn store_open_run(audit: &Audit) -> tracing::Span {
    let run = info_span!("audit.query_run", sql_text = "SELECT 1");
    for n in 0..3 {
        commit(audit, [format!("look{n}")]);
    }
    empty_log(audit);
    run
}

/// Runs a program on a copy of another's log, where it ends the other's run.
fn end_in_copy(trail: &Trail) {
    let spool = copy(&trail.spool);
    let second = pipeline(&trail.postgres, &spool, |builder| builder);
    wait_until("the copy is taken over", PATIENCE, || {
        count(&trail.postgres, "query_runs") == 1
    });
    drop(second);
}

#[test]
fn batch_sent_by_a_copy_of_the_log_is_not_mistaken_for_an_own_batch() {
    let trail = Trail::start_with(required);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    let subscriber = tracing_subscriber::registry().with(audit.layer());
    let _default = tracing::subscriber::set_default(subscriber);
    let run = store_open_run(audit);
    end_in_copy(&trail);
    let old = postgres.psql("SELECT writer_id FROM audit.query_runs");
    // As long as the copy's batch.
    let lost = audit.record(Event::new("lost0")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    audit.committed_blocking(lost, PATIENCE).unwrap();
    assert_eq!(not_once(postgres, "lost", 1), "");
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(gaps(postgres), format!("position_not_ours|{old}|4|4|0"));
    agrees(audit, postgres);
    assert_eq!(audit.stats().health(), Health::Inconsistent);
    drop(run);
}

#[test]
fn run_already_ended_by_a_copy_of_the_log_becomes_a_dead_letter() {
    let trail = Trail::start();
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    let subscriber = tracing_subscriber::registry().with(audit.layer());
    let _default = tracing::subscriber::set_default(subscriber);
    let run = store_open_run(audit);
    end_in_copy(&trail);
    // The same number, kind and id as the copy's.
    drop(run);
    audit.flush_blocking(PATIENCE).unwrap();
    wait_until("the trail says so", PATIENCE, || !gaps(postgres).is_empty());
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(
        postgres.psql(
            "SELECT r.error_code, d.sqlstate FROM audit.query_runs r JOIN audit.dead_letters d ON d.record_id = r.id"
        ),
        "process_lost|23505"
    );
    assert_eq!(audit.stats().dead_lettered(), 1);
    agrees(audit, postgres);
}

/// Puts an open run into the log, then records while Postgres is down, until it is killed.
fn leaves_a_run_and_records() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    let _run = store_open_run(&audit);
    say("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).unwrap();
    for action in named("left", 2) {
        audit.record(Event::new(action)).unwrap();
    }
    record_and_wait_until_stored(&audit, "left2");
    say("left");
    loop {
        std::thread::park();
    }
}

#[test]
fn records_added_after_a_copy_of_the_log_was_drained_are_committed() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = start_until_ready(
        command(child!(leaves_a_run_and_records), &postgres, &spool)
            .stdin(std::process::Stdio::piped()),
    );
    let old = writer(&postgres);
    let copied = copy(&spool);
    let mut earlier = Earlier(postgres.session_in("postgres", ADMINISTRATOR));
    earlier.alone();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    testkit::child::wait_for_word(&mut child, "left");
    kill(child);
    earlier.run("ALTER DATABASE audit ALLOW_CONNECTIONS true");
    for folder in [&copied, &spool] {
        let next = pipeline(&postgres, folder, |builder| builder);
        wait_until("the log is removed", PATIENCE, || folder.names().len() == 1);
        let _ = next.shutdown_blocking(PATIENCE);
    }
    assert_eq!(not_once(&postgres, "look", 3), "");
    assert_eq!(not_once(&postgres, "left", 3), "");
    assert_eq!(gaps(&postgres), format!("position_not_ours|{old}|4|4|0"));
}
