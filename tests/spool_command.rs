//! `tracing-audit spool`: a log that its program left is listed, shown and drained without it.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod support;

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use support::child::{command, is_child, kill, say_ready_and_wait_to_be_killed, start_until_ready};
use support::trail::{Folder, PATIENCE};
use support::{Postgres, wait_until};
use tracing::info_span;
use tracing_audit::Audit;
use tracing_subscriber::prelude::*;

const RECORDS: u64 = 300;
const SECRET: &str = "sesame";

/// Leaves records in the local log that Postgres has not had.
fn child() -> ! {
    let audit = Audit::builder()
        .postgres(std::env::var("AUDIT_DATABASE_URL").unwrap())
        .spool(std::env::var_os("AUDIT_SPOOL_DIR").unwrap())
        .service_name("child")
        .batch(100_000, Duration::from_mins(1))
        .start()
        .unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    for _ in 0..RECORDS {
        info_span!("audit.event", action_type = SECRET);
    }
    wait_until("the log holds all", PATIENCE, || {
        let stats = audit.stats();
        stats.queue_size().0 == 0 && stats.spool_bytes() > RECORDS * 90
    });
    say_ready_and_wait_to_be_killed()
}

fn spool(arguments: &[&str], folder: &Folder, url: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .arg("spool")
        .args(arguments)
        .arg(&folder.0)
        .env("AUDIT_DATABASE_URL", url)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn a_log_without_its_program_is_listed_and_drained_once_and_one_in_use_is_left() {
    if is_child() {
        child();
    }
    let test = "a_log_without_its_program_is_listed_and_drained_once_and_one_in_use_is_left";
    let postgres = Postgres::start();
    let url = postgres.url();
    tracing_audit::migrate(&url).unwrap();
    let folder = Folder::new();
    let child = start_until_ready(&mut command(test, &postgres, &folder));

    let listed = spool(&["list", "--json"], &folder, "");
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    let logs = json(&listed);
    assert_eq!(logs[0]["state"], "in_use");
    if cfg!(target_os = "linux") {
        assert_eq!(logs[0]["pid"], child.id());
    }
    let drained = spool(&["drain", "--json"], &folder, &url);
    assert_eq!(drained.status.code(), Some(1), "{drained:?}");
    assert_eq!(json(&drained)[0]["outcome"], "in_use");
    kill(child);

    for arguments in [&["list", "--json"][..], &["list"]] {
        let listed = spool(arguments, &folder, "");
        assert_eq!(listed.status.code(), Some(0), "{listed:?}");
        assert!(!String::from_utf8_lossy(&listed.stdout).contains(SECRET));
    }
    let names = folder.names();
    let log = &json(&spool(&["list", "--json"], &folder, ""))[0];
    assert_eq!(log["state"], "free");
    assert_eq!(log["for_postgres"], RECORDS);
    assert_eq!(log["records"]["events"], RECORDS);
    assert_eq!(log["service_name"], "child");
    assert!(log["oldest"].is_string(), "{log}");
    assert_eq!(names, folder.names(), "looking changes nothing");

    // Nobody answers there: it says so, and keeps all.
    let closed = "postgres://nobody@127.0.0.1:1/none";
    let drained = spool(&["drain", "--json"], &folder, closed);
    assert_eq!(drained.status.code(), Some(1), "{drained:?}");
    let why = json(&drained)[0]["why"].to_string();
    assert!(
        why.contains("127.0.0.1:1") && why.contains("refused"),
        "{why}"
    );
    assert_eq!(names, folder.names());

    let drained = spool(&["drain", "--json"], &folder, &url);
    assert_eq!(drained.status.code(), Some(0), "{drained:?}");
    let outcome = &json(&drained)[0];
    assert_eq!(outcome["outcome"], "removed");
    assert_eq!(outcome["records"], RECORDS);
    assert_eq!(folder.names(), [""; 0], "no folder of its own is left");
    assert_eq!(
        postgres
            .psql("SELECT count(*), count(DISTINCT id) FROM audit.events")
            .trim(),
        format!("{RECORDS}|{RECORDS}")
    );
    let listed = spool(&["list"], &folder, "");
    assert_eq!(listed.status.code(), Some(1), "{listed:?}");
}

#[test]
fn a_folder_that_is_not_there_and_a_damaged_log_are_said() {
    let folder = Folder::new();
    let missing = spool(&["list"], &folder, "");
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    let name = "0190a5a5-0000-7000-8000-000000000000";
    let log = folder.0.join(name);
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(log.join("lock"), "").unwrap();
    std::fs::write(log.join("spool.redb"), "this is no log").unwrap();
    let listed = json(&spool(&["list", "--json"], &folder, ""));
    assert_eq!(listed[0]["is_damaged"], true, "{listed}");
    assert_eq!(listed[0]["writer_id"], name);
    let drained = spool(
        &["drain", "--json"],
        &folder,
        "postgres://nobody@127.0.0.1:1/none",
    );
    assert_eq!(drained.status.code(), Some(1), "{drained:?}");
    assert!(log.exists(), "what cannot be read stays");
}
