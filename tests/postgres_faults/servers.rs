//! Servers that take nothing.

use std::time::Duration;

use super::{
    SAY_SQLSTATES, assert_three_times, flush, leaf, record_three, set, start_with, wait_for_health,
};
use testkit::child::{alone, child, child_processes};
use testkit::heard::hear;
use testkit::trail::{Folder, PATIENCE, balanced, count, pipeline};
use testkit::{ADMINISTRATOR, Postgres, wait_until};
use tracing_audit::{Audit, Event, Health, Kind, QueryRun};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

child_processes!(
    logs_a_fault_that_an_administrator_must_mend,
    sets_its_subscriber_after_a_fault,
);

/// Returns text that Postgres cannot compress.
fn noise(len: usize, seed: u64) -> String {
    let mut state = seed | 1;
    let mut next = || {
        // Xorshift; G. Marsaglia, "Xorshift RNGs".
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(33 + (state % 94) as u8)
    };
    (0..len).map(|_| next()).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn records_wait_while_the_servers_disk_is_full_and_are_then_committed() {
    let (postgres, spool) = (Postgres::start_with(&[SAY_SQLSTATES]), Folder::new());
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.when_full(tracing_audit::WhenFull::Wait(Duration::from_secs(10)))
    });
    audit.record(QueryRun::new("first")).unwrap();
    flush(&audit);
    // More than a segment of the write-ahead log, 16 MiB, and not a whole number of blocks:
    // Postgres takes a short write for a full disk (53100). From 16 on it allocates the space
    // before it writes, and treats the failure as an internal error (XX000).
    postgres.limit_file_size("17000001");
    postgres.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tracing-audit'");
    for seed in 1..=24 {
        audit.record(QueryRun::new(noise(1 << 20, seed))).unwrap();
    }
    wait_until("the disk is full", PATIENCE, || {
        postgres
            .log()
            .contains(" tracing-audit ERROR:  could not extend file")
    });
    wait_for_health(&audit, Health::Retrying);
    assert!(audit.stats().pending() > 0);
    assert_eq!(count(&postgres, "dead_letters"), 0);
    postgres.limit_file_size("unlimited");
    wait_until("all is written", PATIENCE, || audit.stats().pending() == 0);
    assert_eq!(count(&postgres, "query_runs"), 25);
    let whole = "SELECT count(*) FROM audit.query_runs WHERE length(sql_text) = 1048576";
    assert_eq!(postgres.psql(whole), "24");
    assert_eq!(audit.stats().dead_lettered(), 0);
    balanced(&audit, &postgres);
}

#[test]
fn records_wait_on_open_connections_while_the_server_is_read_only() {
    let trail = start_with(&[SAY_SQLSTATES]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    for times in 2..5 {
        set(postgres, "default_transaction_read_only = on");
        record_three(audit);
        audit.flush_blocking(Duration::ZERO).unwrap_err();
        wait_for_health(audit, Health::Retrying);
        assert!(postgres.log().contains("25006 tracing-audit ERROR"));
        set(postgres, "default_transaction_read_only = off");
        flush(audit);
        assert_three_times(times, audit, postgres);
    }
}

#[test]
fn records_wait_while_all_connections_are_in_use() {
    let trail = start_with(&[SAY_SQLSTATES, "max_connections=8"]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    postgres.psql("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'tracing-audit'");
    let mut others = Vec::new();
    let refused = loop {
        match postgres.try_session(ADMINISTRATOR) {
            Ok(session) => others.push(session),
            Err(refused) => break refused,
        }
    };
    assert!(refused.contains("53300"), "{refused}");
    record_three(audit);
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    // The first refusal is the test's own; when the pipeline's second is logged, it has handled its
    // first.
    wait_until("it has tried twice", PATIENCE, || {
        postgres.log().matches("53300 ").count() >= 3
    });
    assert_eq!(audit.stats().health(), Health::Retrying);
    drop(others);
    flush(audit);
    assert_three_times(2, audit, postgres);
}

#[test]
fn records_are_held_from_the_revocation_of_rights_until_they_are_granted_again() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql("CREATE ROLE app LOGIN IN ROLE audit_writer");
    let url = postgres.url().replace("postgres@", "app@");
    let audit = pipeline(&postgres, &spool, |builder| builder.postgres(url));
    record_three(&audit);
    flush(&audit);
    let of_leaf = format!("INSERT ON {}", leaf(&postgres, Kind::Event));
    for (times, right) in (2..).zip([
        &*of_leaf,
        "EXECUTE ON FUNCTION audit.add_batch",
        "EXECUTE ON FUNCTION audit.ensure_partition",
        "EXECUTE ON FUNCTION audit.writer_position",
    ]) {
        postgres.psql(&format!("REVOKE {right} FROM audit_writer"));
        // So that it has to ask for its position.
        postgres.psql(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'app'",
        );
        record_three(&audit);
        wait_for_health(&audit, Health::Holding);
        assert_eq!(audit.stats().pending(), 3, "{right}");
        postgres.psql(&format!("GRANT {right} TO audit_writer"));
        wait_for_health(&audit, Health::Healthy);
        flush(&audit);
        assert_three_times(times, &audit, &postgres);
    }
}

fn logs_a_fault_that_an_administrator_must_mend() {
    let trail = start_with(&[SAY_SQLSTATES]);
    let (writer, heard) = hear();
    let log = tracing_subscriber::fmt::layer().with_writer(writer);
    tracing_subscriber::registry()
        .with(trail.audit.layer())
        .with(log.with_filter(LevelFilter::INFO))
        .init();
    record_three(&trail.audit);
    flush(&trail.audit);
    let leaf = leaf(&trail.postgres, Kind::Event);
    let add = format!(
        "ALTER TABLE audit.events ADD COLUMN theirs text NOT NULL DEFAULT ''; ALTER TABLE {leaf} ALTER COLUMN theirs DROP DEFAULT"
    );
    trail.postgres.psql(&add);
    record_three(&trail.audit);
    trail.audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_until("it is tried again and again", PATIENCE, || {
        let log = trail.postgres.log();
        log.matches("23502 tracing-audit ERROR").count() >= 5
    });
    trail.postgres.psql(&format!(
        "ALTER TABLE {leaf} ALTER COLUMN theirs SET DEFAULT ''"
    ));
    flush(&trail.audit);
    let said: Vec<_> = std::iter::from_fn(|| heard.recv_timeout(PATIENCE).ok())
        .take_while(|said| !said.contains("takes records again"))
        .filter(|said| said.contains("does not take records"))
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn rows_that_a_trigger_leaves_out_hold_the_batch_and_are_never_called_committed() {
    let trail = start_with(&[]);
    let (audit, postgres) = (&trail.audit, &trail.postgres);
    record_three(audit);
    flush(audit);
    postgres.psql(
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER leave_out BEFORE INSERT ON audit.events FOR EACH ROW
         WHEN (NEW.action_type = 'e') EXECUTE FUNCTION leave_out()",
    );
    record_three(audit);
    audit.record(Event::new("other")).unwrap();
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    wait_for_health(audit, Health::Holding);
    let stats = audit.stats();
    assert_eq!((stats.committed(), stats.pending()), (3, 4));
    let fault = stats.fault().unwrap();
    assert!(
        fault.contains("1 of 2 rows of a batch for audit.events") && fault.contains("doctor"),
        "{fault}"
    );
    assert_eq!(count(postgres, "query_runs"), 1, "nothing of the batch");
    postgres.psql("DROP TRIGGER leave_out ON audit.events");
    audit.record(Event::new("another")).unwrap();
    flush(audit);
    assert_eq!(count(postgres, "events"), 4);
    assert_eq!(audit.stats().health(), Health::Healthy);
    balanced(audit, postgres);
}

#[test]
fn fault_that_needs_an_administrator_is_logged_once_despite_retries() {
    let child = alone(child!(logs_a_fault_that_an_administrator_must_mend))
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

fn sets_its_subscriber_after_a_fault() {
    let spool = Folder::new();
    let audit = Audit::builder()
        .postgres("postgres://nobody@127.0.0.1:1/nowhere")
        .spool(&spool.0)
        .drop_timeout(Duration::ZERO)
        .start()
        .unwrap();
    wait_until("Postgres is not reached", PATIENCE, || {
        audit.stats().fault().is_some()
    });
    let (writer, heard) = hear();
    let log = tracing_subscriber::fmt::layer().with_writer(writer);
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(log.with_filter(LevelFilter::INFO))
        .init();
    let said: Vec<_> = std::iter::from_fn(|| heard.recv_timeout(PATIENCE).ok())
        .take(2)
        .collect();
    let start = format!(
        "writing to Postgres at 127.0.0.1:1/nowhere as nobody, local log in {}, tracing-audit {}",
        spool.0.display(),
        env!("CARGO_PKG_VERSION")
    );
    let is_said = |words: &str| said.iter().any(|line| line.contains(words));
    assert!(is_said(&start), "{start} in {said:?}");
    assert!(
        is_said("cannot reach Postgres at 127.0.0.1:1/nowhere"),
        "{said:?}"
    );
}

#[test]
fn destination_and_fault_are_logged_when_the_subscriber_is_installed_after_start() {
    let child = alone(child!(sets_its_subscriber_after_a_fault))
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}
