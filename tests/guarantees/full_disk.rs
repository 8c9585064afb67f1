//! A disk that takes nothing, which a file size limit stands in for.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::child::{
    ChildProcess, child, child_processes, command, kill, say, say_ready_and_wait_to_be_killed,
    wait_for_word, wait_to_be_killed, wrapped,
};
use testkit::trail::{Folder, PATIENCE, assert_law, once_each, pipeline, rows};
use testkit::{Postgres, Stop, wait_until};
use tracing::info_span;
use tracing_audit::{Audit, Event, Health, Kind, QueryRun, WhenFull};
use tracing_subscriber::prelude::*;

child_processes!(
    records_on_a_full_disk_and_after,
    records_before_and_after_the_disk_fills_up,
    starts_on_a_full_disk_and_records,
    shuts_down_on_a_full_disk_with_an_open_run,
    commits_from_memory_with_a_run_in_flight,
    shuts_down_with_a_run_in_flight_while_the_disk_refuses,
    fills_its_memory_without_disk_and_postgres,
);

/// Runs the child under a file size limit, which stands in for a full disk: it can be reached, and
/// lifted, without privileges.
fn under_a_limit(process: ChildProcess, blocks: u32, postgres: &Postgres, spool: &Folder) -> Child {
    let mut shell = Command::new("bash");
    shell.args([
        "-c",
        // Writes fail instead of ending the program.
        "trap '' XFSZ; ulimit -S -f \"$1\"; shift; exec \"$@\"",
        "bash",
        &blocks.to_string(),
    ]);
    wrapped(shell, &command(process, postgres, spool))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sets the child's file size limit.
fn set_limit(child: &Child, bytes: &str) {
    let set = Command::new("prlimit")
        .args([
            "--pid",
            &child.id().to_string(),
            &format!("--fsize={bytes}:"),
        ])
        .status()
        .unwrap();
    assert!(set.success());
}

fn records_on_a_full_disk_and_after() {
    let audit = tracing_audit::from_env().unwrap();
    let mut told = 0_u32;
    // Until the log has reached its limit.
    while audit.stats().health() != Health::SpoolBlocked {
        audit.record(QueryRun::new("x".repeat(10_000))).unwrap();
        told += 1;
    }
    for _ in 0..500 {
        audit.record(QueryRun::new("SELECT 1")).unwrap();
        told += 1;
    }
    // Committed records make room, so the log may accept records again by now.
    audit.flush_blocking(PATIENCE).unwrap();
    say(&format!("told {told}"));
    say("full");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    // The limit is lifted: the log accepts records again.
    wait_until("the log takes records again", PATIENCE, || {
        audit.record(QueryRun::new("SELECT 2")).unwrap();
        audit.flush_blocking(PATIENCE).unwrap();
        audit.stats().health() == Health::Healthy
    });
    assert_eq!((audit.stats().dropped(), audit.stats().pending()), (0, 0));
    say("healed");
    audit.shutdown_blocking(PATIENCE);
}

#[test]
fn records_go_to_postgres_from_memory_while_the_disk_is_unwritable() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = under_a_limit(
        child!(records_on_a_full_disk_and_after),
        2_000,
        &postgres,
        &spool,
    );
    wait_for_word(&mut child, "full");
    let written = rows(&postgres, Kind::QueryRun).len();
    assert!(written > 500, "{written}");
    set_limit(&child, "unlimited");
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    wait_for_word(&mut child, "healed");
    assert!(child.wait().unwrap().success());
    assert_eq!(spool.names(), Vec::<String>::new());
    let seqs = postgres.psql(
        "SELECT count(DISTINCT writer_id), min(seq), max(seq) = count(*), count(DISTINCT seq) = count(*) FROM audit.query_runs",
    );
    assert_eq!(seqs.trim(), "1|1|t|t");
}

fn records_before_and_after_the_disk_fills_up() {
    let audit = Audit::builder()
        .postgres(std::env::var("AUDIT_DATABASE_URL").unwrap())
        .spool(std::env::var_os("AUDIT_SPOOL_DIR").unwrap())
        .batch(100_000, Duration::from_hours(1))
        .start()
        .unwrap();
    for _ in 0..200 {
        audit.record(Event::new("on disk")).unwrap();
    }
    wait_until("they are on disk", PATIENCE, || {
        let stats = audit.stats();
        (stats.queue_size().0, stats.pending()) == (0, 200)
    });
    say("stored");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    // No write succeeds any more, and the log cannot be opened again.
    for _ in 0..500 {
        audit.record(Event::new("in memory")).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().health(), Health::SpoolBlocked);
    audit.record(Event::new("the last")).unwrap();
    let report = audit.shutdown_blocking(PATIENCE);
    assert_eq!(
        (report.committed, report.spooled, report.dropped),
        (701, 0, 0)
    );
}

#[test]
fn full_disk_delays_neither_stored_nor_new_records() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = under_a_limit(
        child!(records_before_and_after_the_disk_fills_up),
        1_000_000,
        &postgres,
        &spool,
    );
    wait_for_word(&mut child, "stored");
    set_limit(&child, "1");
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(rows(&postgres, Kind::Event).len(), 701);
    once_each(&postgres);
}

fn starts_on_a_full_disk_and_records() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    wait_until("it is said", PATIENCE, || {
        audit.stats().health() == Health::SpoolBlocked
    });
    for _ in 0..100 {
        audit.record(QueryRun::new("SELECT 1")).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().spool_bytes(), 0);
    say("full");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    wait_until("there is a local log", PATIENCE, || {
        audit.stats().health() == Health::Healthy
    });
    audit.record(QueryRun::new("SELECT 2")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    say("healed");
    audit.record(QueryRun::new("SELECT 3")).unwrap();
    wait_to_be_killed()
}

#[test]
fn program_starts_without_a_local_log_and_opens_one_when_the_disk_works() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = under_a_limit(
        child!(starts_on_a_full_disk_and_records),
        0,
        &postgres,
        &spool,
    );
    wait_for_word(&mut child, "full");
    assert_eq!(rows(&postgres, Kind::QueryRun).len(), 100);
    set_limit(&child, "unlimited");
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    wait_for_word(&mut child, "healed");
    wait_until("the last one is there", PATIENCE, || {
        rows(&postgres, Kind::QueryRun).len() == 102
    });
    kill(child);
    // What remains is taken over like any other process's log.
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("its folder is removed", PATIENCE, || {
        spool.names().len() == 1
    });
    drop(audit);
    once_each(&postgres);
}

fn shuts_down_on_a_full_disk_with_an_open_run() {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    let query = info_span!("audit.query_run", sql_text = "open");
    wait_until("it is said", PATIENCE, || {
        audit.stats().health() == Health::SpoolBlocked
    });
    let report = audit.shutdown_blocking(PATIENCE);
    assert_eq!(
        (report.committed, report.spooled, report.dropped),
        (1, 0, 0)
    );
    drop(query);
    assert_eq!(audit.stats().dropped(), 0, "it has its row");
}

#[test]
fn runs_open_at_shutdown_get_rows_while_the_disk_is_unwritable() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = under_a_limit(
        child!(shuts_down_on_a_full_disk_with_an_open_run),
        0,
        &postgres,
        &spool,
    );
    assert!(child.wait().unwrap().success());
    let runs = rows(&postgres, Kind::QueryRun);
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0]["error_code"], "shut_down");
}

fn commits_from_memory_with_a_run_in_flight() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    let _query = info_span!("audit.query_run", sql_text = "in flight");
    // It is stored by the time that a later record is committed.
    for _ in 0..3 {
        audit.record(Event::new("on disk")).unwrap();
        audit.flush_blocking(PATIENCE).unwrap();
    }
    say("stored");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    // No write succeeds any more.
    for _ in 0..100 {
        audit.record(Event::new("in memory")).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().health(), Health::SpoolBlocked);
    say_ready_and_wait_to_be_killed()
}

#[test]
fn killed_run_in_flight_gets_a_row_when_postgres_is_ahead_of_the_local_log() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = under_a_limit(
        child!(commits_from_memory_with_a_run_in_flight),
        1_000_000,
        &postgres,
        &spool,
    );
    wait_for_word(&mut child, "stored");
    set_limit(&child, "1");
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    wait_for_word(&mut child, "ready");
    kill(child);
    assert_eq!(rows(&postgres, Kind::Event).len(), 103);
    assert_eq!(rows(&postgres, Kind::QueryRun).len(), 0);
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("what was left is there", PATIENCE, || {
        spool.names().len() == 1
    });
    let lost = rows(&postgres, Kind::QueryRun);
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0]["sql_text"], "in flight");
    assert_eq!(lost[0]["error_code"], "process_lost");
    assert_eq!(rows(&postgres, Kind::Event).len(), 103);
    drop(audit);
}

fn shuts_down_with_a_run_in_flight_while_the_disk_refuses() {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    let _query = info_span!("audit.query_run", sql_text = "in flight");
    // It is stored by the time that a later record is committed.
    for _ in 0..3 {
        audit.record(Event::new("on disk")).unwrap();
        audit.flush_blocking(PATIENCE).unwrap();
    }
    let wait_for_line = || std::io::stdin().read_line(&mut String::new()).unwrap();
    say("stored");
    wait_for_line();
    // Postgres is down, so the shutdown waits.
    audit.record(Event::new("pending")).unwrap();
    wait_until("it is on disk", PATIENCE, || {
        audit.stats().queue_size().0 == 0
    });
    say("pending");
    wait_for_line();
    std::thread::scope(|scope| {
        scope.spawn(|| audit.shutdown_blocking(PATIENCE));
        wait_until("the disk refuses", PATIENCE, || {
            audit.stats().health() == Health::SpoolBlocked
        });
        say("refused");
    });
    assert_law(&audit);
    assert_eq!((audit.stats().accepted(), audit.stats().pending()), (5, 0));
}

#[test]
fn runs_open_at_shutdown_are_counted_once_despite_repeated_disk_errors() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = under_a_limit(
        child!(shuts_down_with_a_run_in_flight_while_the_disk_refuses),
        1_000_000,
        &postgres,
        &spool,
    );
    wait_for_word(&mut child, "stored");
    postgres.stop(Stop::Fast);
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    wait_for_word(&mut child, "pending");
    set_limit(&child, "1");
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    wait_for_word(&mut child, "refused");
    set_limit(&child, "unlimited");
    postgres.start_again();
    assert!(child.wait().unwrap().success());
    assert_eq!(
        rows(&postgres, Kind::QueryRun)[0]["error_code"],
        "shut_down"
    );
}

fn fills_its_memory_without_disk_and_postgres() {
    let audit = Audit::builder()
        .postgres(std::env::var("AUDIT_DATABASE_URL").unwrap())
        .spool(std::env::var_os("AUDIT_SPOOL_DIR").unwrap())
        .queue_limits(10_000, 1024 * 1024)
        .when_full(WhenFull::Drop)
        .start()
        .unwrap();
    let fill = |until: &dyn Fn() -> bool| {
        while !until() {
            let _ = audit.record(QueryRun::new("x".repeat(10_000)));
        }
    };
    fill(&|| audit.stats().health() == Health::SpoolBlocked);
    let before = audit.stats().dropped();
    fill(&|| audit.stats().dropped() > before + 100);
    // The disk is tried ten times a second: each attempt could make room for more.
    let until = Instant::now() + Duration::from_secs(3);
    fill(&|| {
        std::thread::sleep(Duration::from_millis(1));
        Instant::now() >= until
    });
    // Up to the limit of 4,000 KiB in the log; 1 MiB each in the queue, in hand and in memory.
    assert!(audit.stats().pending() < 800, "{:?}", audit.stats());
    assert_law(&audit);
    let before = audit.stats();
    let report = audit.shutdown_blocking(Duration::from_millis(100));
    // Records that are only in memory are lost with the process, and reported.
    assert!(report.dropped > before.dropped(), "{report:?}");
    let after = audit.stats();
    assert_eq!(
        after.accepted(),
        report.committed + report.spooled + report.dead_lettered + report.dropped
    );
    say(&format!("spooled {}", report.spooled));
}

#[test]
fn records_over_the_memory_bound_are_counted_as_dropped_without_disk_and_postgres() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    let child = under_a_limit(
        child!(fills_its_memory_without_disk_and_postgres),
        4_000,
        &postgres,
        &spool,
    );
    let output = child.wait_with_output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let spooled = output
        .lines()
        .find_map(|line| line.split_once("spooled "))
        .and_then(|(_, count)| count.trim().parse::<usize>().ok());
    postgres.start_again();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("what was left is there", PATIENCE, || {
        spool.names().len() == 1
    });
    assert_eq!(
        Some(rows(&postgres, Kind::QueryRun).len()),
        spooled,
        "{output}"
    );
    drop(audit);
}
