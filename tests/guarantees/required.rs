//! Records that are required: `committed()` and what it promises.

use std::time::Duration;

use testkit::child::{
    child, child_processes, command, kill, say_ready_and_wait_to_be_killed, start_until_ready,
};
use testkit::trail::{Folder, PATIENCE, Trail, rows};
use testkit::{Postgres, Stop};
use tracing::info_span;
use tracing_audit::{Audit, AuditSpanExt as _, CommitError, Durability, Event, Kind, WhenFull};

child_processes!(confirms_a_required_record_and_waits);

fn required(trail: impl FnOnce(tracing_audit::Builder) -> tracing_audit::Builder) -> Trail {
    Trail::start_with(|builder| trail(builder.durability(Kind::Event, Durability::Required)))
}

#[test]
fn committed_returns_once_the_row_is_in_postgres() {
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
fn committed_reports_why_a_record_is_not_committed() {
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
fn confirmed_record_survives_a_kill_of_the_program_and_the_server() {
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
