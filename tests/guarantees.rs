//! What the trail reports about records it could not keep, about runs that never ended, and about
//! required records.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::child::{
    ChildProcess, child, child_processes, command, kill, say, say_ready_and_wait_to_be_killed,
    start_until_ready, wait_for_word, wait_to_be_killed, wrapped,
};
use testkit::heard::hear;
use testkit::trail::{Folder, PATIENCE, Trail, assert_law, once_each, pipeline, rows};
use testkit::{Postgres, Stop, wait_until};
use tracing::info_span;
use tracing_audit::{
    Audit, AuditSpanExt, Builder, CommitError, DropCause, Durability, Event, Health, Kind,
    PromptRun, QueryRun, RecordError, WhenFull,
};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

child_processes!(
    keeps_two_runs_in_flight_until_killed,
    records_once_after_being_idle,
    confirms_a_required_record_and_waits,
    #[cfg(target_os = "linux")]
    records_on_a_full_disk_and_after,
    #[cfg(target_os = "linux")]
    records_before_and_after_the_disk_fills_up,
    #[cfg(target_os = "linux")]
    starts_on_a_full_disk_and_records,
    #[cfg(target_os = "linux")]
    shuts_down_on_a_full_disk_with_an_open_run,
    #[cfg(target_os = "linux")]
    commits_from_memory_with_a_run_in_flight,
    #[cfg(target_os = "linux")]
    shuts_down_with_a_run_in_flight_while_the_disk_refuses,
    #[cfg(target_os = "linux")]
    fills_its_memory_without_disk_and_postgres,
    stores_1_000_events_and_waits,
    starts_beside_a_log_of_a_newer_version,
    hides_audit_spans_by_a_filter,
    filters_only_another_layer,
    #[cfg(feature = "init")]
    calls_init_twice,
);

fn gaps(postgres: &Postgres) -> Vec<Value> {
    rows(postgres, Kind::Event)
        .into_iter()
        .filter(|row| row["action_type"] == "audit.gap")
        .collect()
}

// Drops -----------------------------------------------------------------------

#[test]
fn a_run_of_drops_has_one_row_that_tells_how_many_of_which_kinds_and_why() {
    let trail =
        Trail::start_with(|builder| builder.queue_limits(8, 64 * 1024).when_full(WhenFull::Drop));
    let mut dropped = [0_u64; 3];
    // Faster than the worker takes them.
    while dropped.iter().sum::<u64>() < 100 {
        let results = [
            trail.audit.record(QueryRun::new("SELECT 1")),
            trail.audit.record(PromptRun::new("p")),
            trail.audit.record(Event::new("e")),
        ];
        for (count, result) in dropped.iter_mut().zip(results) {
            *count += u64::from(result == Err(RecordError::QueueFull));
        }
    }
    wait_until("the gap is told", PATIENCE, || {
        trail.audit.flush_blocking(PATIENCE).unwrap();
        !gaps(&trail.postgres).is_empty()
    });
    let gaps = gaps(&trail.postgres);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap = &gaps[0];
    assert_eq!(gap["error_code"], "queue_full");
    assert_eq!(gap["status"], "failed");
    assert_eq!(
        gap["metadata"],
        json!({
            "records": dropped.iter().sum::<u64>(),
            "query_runs": dropped[0], "prompt_runs": dropped[1], "events": dropped[2],
        })
    );
    assert!(gap["latency_ms"].as_u64().is_some());
    let stats = trail.audit.stats();
    assert_eq!(
        stats.dropped_by(DropCause::QueueFull),
        dropped.iter().sum::<u64>()
    );
    assert_eq!(stats.committed() + stats.dropped(), stats.accepted());
    assert_law(&trail.audit);
}

#[test]
fn what_is_closed_after_the_shutdown_is_counted() {
    let trail = Trail::start();
    let span = trail.scoped(|| info_span!("audit.event", action_type = "late"));
    trail.audit.shutdown_blocking(PATIENCE);
    drop(span);
    assert_eq!(
        trail.audit.record(Event::new("later")),
        Err(RecordError::ShutDown)
    );
    let stats = trail.audit.stats();
    assert_eq!(stats.dropped_by(DropCause::ShutDown), 2);
    assert_law(&trail.audit);
}

/// A pipeline whose queue is no longer emptied, with best-effort events.
fn blocked(postgres: &Postgres, spool: &Folder, configure: fn(Builder) -> Builder) -> Audit {
    let audit = pipeline(postgres, spool, |builder| {
        configure(builder)
            .durability(Kind::Event, Durability::BestEffort)
            .spool_quota_bytes(1)
            .queue_limits(8, 64 * 1024)
            .drop_timeout(Duration::ZERO)
    });
    audit.record(Event::new("fills the local log")).unwrap();
    wait_until("nothing is taken any more", PATIENCE, || {
        audit.stats().health() == Health::SpoolBlocked
    });
    audit
}

#[test]
fn a_kind_of_best_effort_is_not_waited_for() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    let wait = Duration::from_secs(10);
    let audit = blocked(&postgres, &spool, |builder| {
        builder.when_full(WhenFull::Wait(Duration::from_secs(10)))
    });
    let began = Instant::now();
    let mut refused = 0;
    while refused < 10_000 {
        refused += u32::from(audit.record(Event::new("e")) == Err(RecordError::QueueFull));
    }
    assert!(began.elapsed() < wait, "had one of them waited");
    assert_eq!(
        audit.stats().dropped_by(DropCause::QueueFull),
        u64::from(refused)
    );
    assert_law(&audit);
}

#[test]
fn a_kind_that_is_not_of_best_effort_is_waited_for_but_not_for_long() {
    let mut postgres = Postgres::start();
    postgres.stop(Stop::Fast);
    let configures: [fn(Builder) -> Builder; 2] = [
        |builder| builder,
        |builder| builder.durability(Kind::QueryRun, Durability::Required),
    ];
    for configure in configures {
        let spool = Folder::new();
        let audit = blocked(&postgres, &spool, configure);
        while audit.record(Event::new("e")).is_ok() {}
        let began = Instant::now();
        let refused = audit.record(QueryRun::new("SELECT 1"));
        let waited = began.elapsed();
        assert_eq!(refused, Err(RecordError::QueueFull));
        // A second by default; a busy machine takes longer.
        assert!(
            (Duration::from_secs(1)..PATIENCE).contains(&waited),
            "{waited:?}"
        );
        assert_eq!(audit.stats().dropped_by(DropCause::QueueFull), 2);
        assert_law(&audit);
    }
}

// Runs in flight ----------------------------------------------------------------

fn keeps_two_runs_in_flight_until_killed() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    let _request = info_span!("request", request_id = "r-1", tenant_id = "acme").entered();
    let query = info_span!("audit.query_run", sql_text = "SELECT 1", row_count = 7_u64);
    let _prompt = info_span!("audit.prompt_run", rendered_prompt = "p", status = "ok");
    // An event is not tracked by default, and this query has ended.
    let _event = info_span!("audit.event", action_type = "open");
    drop(info_span!("audit.query_run", sql_text = "ended"));
    drop(query.clone());
    // Both are stored by the time that a later record is committed.
    for _ in 0..3 {
        audit.record(Event::new("after")).unwrap();
        audit.flush_blocking(PATIENCE).unwrap();
    }
    say(&format!("{} ready", query.audit_id().unwrap()));
    wait_to_be_killed()
}

#[test]
fn a_run_that_was_in_flight_when_its_process_was_killed_has_a_row() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let mut child = command(
        child!(keeps_two_runs_in_flight_until_killed),
        &postgres,
        &spool,
    )
    .spawn()
    .unwrap();
    let said = wait_for_word(&mut child, "ready");
    let id = said.split(' ').nth_back(1).unwrap();
    kill(child);
    assert_eq!(rows(&postgres, Kind::PromptRun).len(), 0);
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("what was left is there", PATIENCE, || {
        spool.names().len() == 1
    });
    let queries = rows(&postgres, Kind::QueryRun);
    let prompts = rows(&postgres, Kind::PromptRun);
    assert_eq!((queries.len(), prompts.len()), (2, 1));
    let lost = queries
        .iter()
        .find(|row| row["sql_text"] == "SELECT 1")
        .unwrap();
    assert_eq!(lost["id"], id);
    assert_eq!(lost["request_id"], "r-1");
    assert_eq!(lost["row_count"], 7);
    assert_eq!(lost["service_name"], "child");
    for row in [lost, &prompts[0]] {
        assert_eq!(row["status"], "unknown");
        assert_eq!(row["error_code"], "process_lost");
        assert_eq!(row["finished_at"], Value::Null);
        assert_eq!(row["duration_ms"], Value::Null);
        assert_ne!(row["tenant_id"], Value::Null);
    }
    let ended = queries
        .iter()
        .find(|row| row["sql_text"] == "ended")
        .unwrap();
    assert_eq!(ended["error_code"], Value::Null);
    assert_eq!(
        rows(&postgres, Kind::Event)
            .iter()
            .filter(|row| row["action_type"] == "open")
            .count(),
        0
    );
    drop(audit);
}

#[test]
fn runs_that_are_open_at_the_shutdown_have_their_rows() {
    let trail = Trail::start();
    trail.scoped(|| {
        let _stored = info_span!("audit.query_run", sql_text = "stored");
        for _ in 0..3 {
            trail.audit.record(Event::new("after")).unwrap();
            trail.audit.flush_blocking(PATIENCE).unwrap();
        }
        let _young = info_span!("audit.query_run", sql_text = "young");
        let report = trail.audit.shutdown_blocking(PATIENCE);
        assert_eq!((report.spooled, report.dropped), (0, 0), "{report:?}");
    });
    let queries = rows(&trail.postgres, Kind::QueryRun);
    assert_eq!(queries.len(), 2);
    for row in queries {
        assert_eq!(
            (&row["status"], &row["error_code"]),
            (&json!("unknown"), &json!("shut_down"))
        );
    }
    assert_law(&trail.audit);
    assert_eq!(trail.spool.names(), Vec::<String>::new());
}

#[test]
fn a_run_that_ends_after_the_shutdown_is_counted_once_in_its_row_or_as_dropped() {
    let trail = Trail::start_with(|builder| {
        builder
            .runs_in_flight(Kind::PromptRun, false)
            .durability(Kind::QueryRun, Durability::Required)
    });
    trail.scoped(|| {
        let stored = info_span!("audit.query_run", sql_text = "stored");
        for _ in 0..3 {
            trail.audit.record(Event::new("after")).unwrap();
            trail.audit.flush_blocking(PATIENCE).unwrap();
        }
        let young = info_span!("audit.query_run", sql_text = "young");
        let id = young.audit_id().unwrap();
        // Nobody asks for it: the only row about it is its own.
        let unseen = info_span!("audit.prompt_run", rendered_prompt = "unseen");
        let report = trail.audit.shutdown_blocking(PATIENCE);
        assert_eq!((report.committed, report.dropped), (5, 0), "{report:?}");
        drop((stored, young));
        assert_eq!(trail.audit.stats().dropped(), 0, "both have their rows");
        // A caller that asks is told so.
        assert_eq!(trail.audit.committed_blocking(id, PATIENCE), Ok(()));
        drop(unseen);
    });
    let stats = trail.audit.stats();
    assert_eq!((stats.accepted(), stats.committed()), (6, 5), "{stats:?}");
    assert_eq!(stats.dropped_by(DropCause::ShutDown), 1, "{stats:?}");
    assert_law(&trail.audit);
    assert_eq!(rows(&trail.postgres, Kind::QueryRun).len(), 2);
    assert_eq!(rows(&trail.postgres, Kind::PromptRun).len(), 0);
}

#[test]
fn which_kinds_are_tracked_can_be_chosen() {
    let trail = Trail::start_with(|builder| {
        builder
            .runs_in_flight(Kind::QueryRun, false)
            .runs_in_flight(Kind::Event, true)
    });
    trail.scoped(|| {
        let _query = info_span!("audit.query_run", sql_text = "not tracked");
        let _event = info_span!("audit.event", action_type = "tracked");
        trail.audit.shutdown_blocking(PATIENCE);
    });
    assert_eq!(rows(&trail.postgres, Kind::QueryRun).len(), 0);
    assert_eq!(rows(&trail.postgres, Kind::Event).len(), 1);
}

#[test]
fn a_run_that_ends_is_never_taken_for_lost_however_long_it_took() {
    let trail = Trail::start();
    trail.scoped(|| {
        for n in 0..200_u64 {
            let span = info_span!("audit.query_run", sql_text = "SELECT 1", n);
            if n % 20 == 0 {
                trail.audit.flush_blocking(PATIENCE).unwrap();
            }
            drop(span);
        }
    });
    trail.audit.shutdown_blocking(PATIENCE);
    let lost = trail
        .postgres
        .psql("SELECT count(*), count(error_code), count(DISTINCT id) FROM audit.query_runs");
    assert_eq!(lost.trim(), "200|0|200");
}

fn records_once_after_being_idle() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    // Longer than the worker takes to become idle.
    std::thread::sleep(Duration::from_secs(2));
    audit.record(Event::new("after a while")).unwrap();
    // 100 ms by default; a busy machine may delay the worker.
    std::thread::sleep(Duration::from_secs(1));
    say_ready_and_wait_to_be_killed()
}

#[test]
fn what_an_idle_program_closes_is_in_the_local_log_a_moment_later() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    kill(start_until_ready(&mut command(
        child!(records_once_after_being_idle),
        &postgres,
        &spool,
    )));
    postgres.start_again();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("what was left is drained", PATIENCE, || {
        spool.names().len() == 1
    });
    assert_eq!(rows(&postgres, Kind::Event).len(), 1);
    drop(audit);
}

// Records that are required -------------------------------------------------------

fn required(trail: impl FnOnce(tracing_audit::Builder) -> tracing_audit::Builder) -> Trail {
    Trail::start_with(|builder| trail(builder.durability(Kind::Event, Durability::Required)))
}

#[test]
fn committed_answers_when_the_row_is_there() {
    let trail = required(|builder| builder.batch(5_000, Duration::from_mins(1)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for n in 0..20 {
        // Before the batch is due: it is sent early for whoever waits.
        let id = trail.audit.record(Event::new(format!("e{n}"))).unwrap();
        if n % 2 == 0 {
            trail.audit.committed_blocking(id, PATIENCE).unwrap();
        } else {
            runtime
                .block_on(trail.audit.committed(id, PATIENCE))
                .unwrap();
        }
        let there = trail.postgres.psql(&format!(
            "SELECT count(*) FROM audit.events WHERE id = '{id}'"
        ));
        assert_eq!(there.trim(), "1");
    }
}

#[test]
fn committed_waits_for_the_span_to_close() {
    let trail = required(|builder| builder);
    trail.scoped(|| {
        let span = info_span!("audit.event", action_type = "open");
        let id = span.audit_id().unwrap();
        let open = trail
            .audit
            .committed_blocking(id, Duration::from_millis(50));
        assert!(matches!(open, Err(CommitError::Timeout { .. })), "{open:?}");
        drop(span);
        trail.audit.committed_blocking(id, PATIENCE).unwrap();
    });
}

#[test]
fn committed_says_why_a_record_is_not() {
    let mut trail =
        required(|builder| builder.queue_limits(8, 64 * 1024).when_full(WhenFull::Drop));
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    trail.postgres.psql(
        "ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type NOT LIKE 'poison%')",
    );
    let poison = trail.audit.record(Event::new("poison")).unwrap();
    let fine = trail.audit.record(Event::new("fine")).unwrap();
    assert_eq!(
        trail.audit.committed_blocking(poison, PATIENCE),
        Err(CommitError::DeadLettered)
    );
    trail.audit.committed_blocking(fine, PATIENCE).unwrap();
    trail.postgres.stop(Stop::Immediate);
    let kept = trail.audit.record(Event::new("kept")).unwrap();
    let away = trail
        .audit
        .committed_blocking(kept, Duration::from_millis(200));
    assert!(matches!(away, Err(CommitError::Timeout { .. })), "{away:?}");
    trail.postgres.start_again();
    trail.audit.committed_blocking(kept, PATIENCE).unwrap();
    // A span that finds the queue full has no other way to report it.
    let dropped = trail.scoped(|| {
        loop {
            let span = info_span!("audit.event", action_type = "many");
            let id = span.audit_id().unwrap();
            let before = trail.audit.stats().dropped();
            drop(span);
            if trail.audit.stats().dropped() > before {
                break id;
            }
        }
    });
    assert_eq!(
        trail.audit.committed_blocking(dropped, PATIENCE),
        Err(CommitError::Dropped)
    );
    let audit = trail.audit.clone();
    audit.shutdown_blocking(PATIENCE);
    // An id of the same kind that no record has.
    let unknown = uuid::Uuid::from_u128(fine.as_u128() ^ (1 << 20));
    let later = audit.committed_blocking(unknown, PATIENCE);
    assert_eq!(later, Err(CommitError::ShutDown));
    assert_eq!(audit.committed_blocking(fine, PATIENCE), Ok(()));
    let of_others = Trail::start();
    assert_eq!(
        of_others.audit.committed_blocking(fine, PATIENCE),
        Err(CommitError::NotRequired)
    );
}

fn confirms_a_required_record_and_waits() -> ! {
    let audit = Audit::builder()
        .postgres(std::env::var("AUDIT_DATABASE_URL").unwrap())
        .spool(std::env::var_os("AUDIT_SPOOL_DIR").unwrap())
        .durability(Kind::Event, Durability::Required)
        .start()
        .unwrap();
    let id = audit.record(Event::new("confirmed")).unwrap();
    audit.committed_blocking(id, PATIENCE).unwrap();
    say_ready_and_wait_to_be_killed()
}

#[test]
fn a_record_that_was_confirmed_survives_whatever_kills_the_program_and_the_server() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    let child = start_until_ready(&mut command(
        child!(confirms_a_required_record_and_waits),
        &postgres,
        &spool,
    ));
    postgres.stop(Stop::Immediate);
    kill(child);
    postgres.start_again();
    assert_eq!(rows(&postgres, Kind::Event).len(), 1);
}

// The local log --------------------------------------------------------------------

/// Runs the child under a file size limit, which stands in for a full disk: it can be reached, and
/// lifted, without privileges.
#[cfg(target_os = "linux")]
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
#[cfg(target_os = "linux")]
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

#[cfg(target_os = "linux")]
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

#[cfg(target_os = "linux")]
#[test]
fn while_the_disk_takes_nothing_records_go_to_postgres_from_memory() {
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

#[cfg(target_os = "linux")]
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

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_holds_back_neither_what_it_holds_nor_what_comes_after() {
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

#[cfg(target_os = "linux")]
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

#[cfg(target_os = "linux")]
#[test]
fn a_program_starts_while_the_disk_takes_no_local_log_and_has_one_when_it_does() {
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

#[cfg(target_os = "linux")]
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

#[cfg(target_os = "linux")]
#[test]
fn runs_that_are_open_at_the_shutdown_have_their_rows_even_if_the_disk_takes_nothing() {
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

#[cfg(target_os = "linux")]
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

#[cfg(target_os = "linux")]
#[test]
fn a_run_in_flight_has_its_row_even_if_postgres_knows_more_of_its_process_than_the_disk() {
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

#[cfg(target_os = "linux")]
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

#[cfg(target_os = "linux")]
#[test]
fn runs_that_end_with_the_program_are_counted_once_however_often_the_disk_refuses_them() {
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

#[cfg(target_os = "linux")]
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

#[cfg(target_os = "linux")]
#[test]
fn without_disk_and_postgres_records_are_in_memory_up_to_a_bound_then_counted() {
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

fn stores_1_000_events_and_waits() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    for _ in 0..1_000 {
        audit.record(Event::new("x")).unwrap();
    }
    wait_until("the spool holds all", PATIENCE, || {
        audit.stats().queue_size().0 == 0 && audit.stats().spool_bytes() > 1_000 * 90
    });
    say_ready_and_wait_to_be_killed()
}

#[test]
fn a_damaged_log_is_set_aside_whole_told_in_the_trail_and_the_program_goes_on() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    let child = start_until_ready(&mut command(
        child!(stores_1_000_events_and_waits),
        &postgres,
        &spool,
    ));
    kill(child);
    let name = spool.names().remove(0);
    let file = spool.0.join(&name).join("spool.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    // All over the file, so that every part that is read is damaged.
    for byte in bytes.iter_mut().skip(64).step_by(97) {
        *byte ^= 0xff;
    }
    std::fs::write(&file, &bytes).unwrap();
    postgres.start_again();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    audit.record(Event::new("next")).unwrap();
    wait_until("it is told", PATIENCE, || {
        audit.flush_blocking(PATIENCE).unwrap();
        gaps(&postgres).len() == 1
    });
    let aside = format!("damaged-{name}");
    assert_eq!(gaps(&postgres)[0]["metadata"], json!({ "folder": aside }));
    assert_eq!(gaps(&postgres)[0]["error_code"], "local_log_damaged");
    let kept = std::fs::read(spool.0.join(&aside).join("spool.redb")).unwrap();
    assert!(kept == bytes, "it is as it was");
    assert_law(&audit);
    // Only once: the next process leaves it alone.
    drop(audit);
    drop(pipeline(&postgres, &spool, |builder| builder));
    assert_eq!(gaps(&postgres).len(), 1);
    assert_eq!(spool.names(), [aside]);
}

#[test]
fn one_changed_byte_in_a_log_that_was_closed_is_no_wrong_row() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    let audit = pipeline(&postgres, &spool, |builder| builder);
    for _ in 0..10 {
        audit.record(Event::new("was.written")).unwrap();
    }
    audit.shutdown_blocking(Duration::ZERO);
    drop(audit);
    let name = spool.names().remove(0);
    let file = spool.0.join(&name).join("spool.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let words = b"was.written";
    let at = (0..bytes.len())
        .rfind(|at| bytes[*at..].starts_with(words))
        .unwrap();
    bytes[at] = b'h';
    std::fs::write(&file, &bytes).unwrap();
    postgres.start_again();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    audit.record(Event::new("next")).unwrap();
    wait_until("it is told", PATIENCE, || {
        audit.flush_blocking(PATIENCE).unwrap();
        gaps(&postgres).len() == 1
    });
    assert_eq!(rows(&postgres, Kind::Event).len(), 2);
    assert!(spool.names().contains(&format!("damaged-{name}")));
}

fn starts_beside_a_log_of_a_newer_version() {
    let (said, heard) = hear();
    let log = tracing_subscriber::fmt::layer().with_writer(said);
    tracing_subscriber::registry()
        .with(log.with_filter(LevelFilter::ERROR))
        .init();
    let audit = tracing_audit::from_env().unwrap();
    let told = heard.recv_timeout(PATIENCE).unwrap();
    assert!(told.contains("has version 2"), "{told}");
    audit.record(Event::new("next")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().health(), Health::Healthy);
    drop(audit);
    assert!(heard.try_recv().is_err());
}

#[test]
fn a_log_of_a_newer_version_is_left_alone_told_once_and_the_program_goes_on() {
    let (mut postgres, spool) = (Postgres::start(), Folder::new());
    postgres.stop(Stop::Fast);
    let audit = pipeline(&postgres, &spool, |builder| builder);
    for _ in 0..10 {
        audit.record(Event::new("of a newer version")).unwrap();
    }
    audit.shutdown_blocking(Duration::ZERO);
    drop(audit);
    postgres.start_again();
    let names = spool.names();
    let set_version = |version: u32| {
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let file = spool.0.join(&names[0]).join("spool.redb");
        let transaction = redb::Database::open(file).unwrap().begin_write().unwrap();
        let mut table = transaction.open_table(meta).unwrap();
        table
            .insert("version", version.to_le_bytes().as_slice())
            .unwrap();
        drop(table);
        transaction.commit().unwrap();
    };
    set_version(2);
    let child = command(
        child!(starts_beside_a_log_of_a_newer_version),
        &postgres,
        &spool,
    )
    .output()
    .unwrap();
    assert!(child.status.success(), "{child:?}");
    assert_eq!(spool.names(), names);
    assert_eq!(rows(&postgres, Kind::Event).len(), 1);
    // No record is lost to a version that can read the log, however little room there is by now.
    set_version(1);
    let audit = pipeline(&postgres, &spool, |builder| builder.spool_quota_bytes(1));
    wait_until("it is drained", PATIENCE, || spool.names().len() == 1);
    audit.record(Event::new("with little room")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(rows(&postgres, Kind::Event).len(), 12);
}

// Filters --------------------------------------------------------------------------

fn hides_audit_spans_by_a_filter() {
    let audit = tracing_audit::from_env().unwrap();
    let (writer, heard) = hear();
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(tracing_subscriber::fmt::layer().with_writer(writer))
        .with(LevelFilter::WARN)
        .init();
    info_span!("audit.query_run", sql_text = "hidden").in_scope(|| ());
    wait_until("it is noticed", PATIENCE, || audit.stats().is_hidden());
    let said = heard.recv_timeout(PATIENCE).unwrap();
    assert!(said.contains("hides audit spans"), "{said}");
    assert_eq!(audit.stats().accepted(), 0);
}

#[test]
fn a_filter_of_the_whole_subscriber_that_hides_audit_spans_is_noticed() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let child = command(child!(hides_audit_spans_by_a_filter), &postgres, &spool)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

fn filters_only_another_layer() {
    let audit = tracing_audit::from_env().unwrap();
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(tracing_subscriber::fmt::layer().with_filter(LevelFilter::ERROR))
        .init();
    // Longer than the check takes.
    let until = std::time::Instant::now() + Duration::from_secs(3);
    wait_until("the time is over", PATIENCE, || {
        std::time::Instant::now() >= until
    });
    assert!(!audit.stats().is_hidden());
    info_span!("audit.query_run", sql_text = "seen").in_scope(|| ());
    assert_eq!(audit.stats().accepted(), 1);
}

#[test]
fn filters_on_other_layers_raise_no_alarm() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let child = command(child!(filters_only_another_layer), &postgres, &spool)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

#[cfg(feature = "init")]
fn calls_init_twice() {
    let audit = tracing_audit::init().unwrap();
    info_span!("audit.query_run", sql_text = "seen").in_scope(|| ());
    tracing::info!("not to be seen");
    tracing::error!("to be seen");
    audit.flush_blocking(PATIENCE).unwrap();
    let again = tracing_audit::init();
    assert!(
        matches!(again, Err(tracing_audit::BuildError::Subscriber)),
        "{again:?}"
    );
}

#[cfg(feature = "init")]
#[test]
fn init_sets_a_subscriber_whose_filter_hides_nothing_from_the_trail() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let child = command(child!(calls_init_twice), &postgres, &spool)
        .env("RUST_LOG", "error")
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let log = String::from_utf8(child.stderr).unwrap();
    assert!(
        log.contains("to be seen") && !log.contains("not to be seen"),
        "{log}"
    );
    assert_eq!(rows(&postgres, Kind::QueryRun).len(), 1);
}
