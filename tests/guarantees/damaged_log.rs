//! A local log that cannot be read: damaged, or of a newer version.

use std::time::Duration;

use super::gaps;
use serde_json::json;
use testkit::child::{
    child, child_processes, command, kill, say_ready_and_wait_to_be_killed, start_until_ready,
};
use testkit::heard::hear;
use testkit::trail::{Folder, PATIENCE, assert_law, pipeline, record_and_wait_until_stored, rows};
use testkit::{Postgres, Stop, wait_until};
use tracing_audit::{Event, Health, Kind};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

child_processes!(
    stores_1_000_events_and_waits,
    starts_beside_a_log_of_a_newer_version,
);

fn stores_1_000_events_and_waits() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    for _ in 1..1_000 {
        audit.record(Event::new("x")).unwrap();
    }
    record_and_wait_until_stored(&audit, "x");
    say_ready_and_wait_to_be_killed()
}

#[test]
fn damaged_log_is_set_aside_and_recorded_in_the_trail_and_the_program_continues() {
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
fn changed_byte_in_a_closed_log_never_becomes_a_wrong_row() {
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
fn log_of_a_newer_version_is_left_alone_and_reported_once() {
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
