//! Logs whose program was killed.

use super::{Earlier, gaps, not_once, writer};
use testkit::child::{child, child_processes, command, kill, say, start_until_ready};
use testkit::trail::{Folder, PATIENCE, pipeline, record_and_wait_until_stored};
use testkit::{Postgres, wait_until};
use tracing_audit::{Event, Health};

child_processes!(records_until_killed);

/// Records until it is killed.
fn records_until_killed() -> ! {
    let audit = tracing_audit::from_env().unwrap();
    for n in 0..20 {
        audit.record(Event::new(format!("before{n}"))).unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    say("ready");
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).unwrap();
    for n in 0..19 {
        audit.record(Event::new(format!("left{n}"))).unwrap();
    }
    record_and_wait_until_stored(&audit, "left19");
    say("left");
    loop {
        std::thread::park();
    }
}

#[test]
fn orphaned_log_is_committed_again_when_the_database_has_lost_its_writer() {
    let postgres = Postgres::start();
    let spool = Folder::new();
    tracing_audit::migrate(&postgres.url()).unwrap();
    // Before the writer was registered at all.
    let mut earlier = Earlier::take(&postgres);
    let mut child = start_until_ready(
        command(child!(records_until_killed), &postgres, &spool)
            .stdin(std::process::Stdio::piped()),
    );
    let old = writer(&postgres);
    earlier.alone();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    testkit::child::wait_for_word(&mut child, "left");
    kill(child);
    earlier.restore();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    wait_until("the log is taken over", PATIENCE, || {
        audit.stats().adopted() >= 20
    });
    wait_until("the trail says so", PATIENCE, || {
        !gaps(&postgres).is_empty()
    });
    assert_eq!(not_once(&postgres, "left", 20), "");
    assert!(
        gaps(&postgres).starts_with(&format!("database_lost_records|{old}|1|20|")),
        "{}",
        gaps(&postgres)
    );
    assert_eq!(audit.stats().health(), Health::Inconsistent);
    wait_until("the log is removed", PATIENCE, || spool.names().len() == 1);
}
