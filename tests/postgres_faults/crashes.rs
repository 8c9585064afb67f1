//! Servers that die.

use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::{assert_three_times, by_flush, flush, record_three, set, start_with, wait_for_health};
use testkit::proxy::Proxy;
use testkit::trail::{Folder, PATIENCE, pipeline};
use testkit::{Postgres, Stop, wait_until};
use tracing_audit::Health;

#[test]
fn batch_is_committed_once_when_the_server_crashes_during_its_commit() {
    let mut trail = start_with(&[]);
    record_three(&trail.audit);
    flush(&trail.audit);
    for times in 2..5 {
        // COMMIT is complete locally, and waits for a standby that does not exist.
        set(&trail.postgres, "synchronous_standby_names = 'nobody'");
        record_three(&trail.audit);
        trail.audit.flush_blocking(Duration::ZERO).unwrap_err();
        let waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND wait_event = 'SyncRep'";
        wait_until("COMMIT waits", PATIENCE, || {
            !trail.postgres.psql(waiting).is_empty()
        });
        trail
            .postgres
            .psql("ALTER SYSTEM RESET synchronous_standby_names");
        if times == 2 {
            // The server restarts itself if one of its processes is killed.
            let pid = trail.postgres.psql(waiting);
            let killed = Command::new("kill").args(["-KILL", &pid]).status();
            assert!(killed.unwrap().success());
            wait_until("the server is there again", PATIENCE, || {
                trail.postgres.try_psql("SELECT 1").is_ok()
            });
        } else {
            trail.postgres.stop(Stop::Immediate);
            trail.postgres.start_again();
        }
        flush(&trail.audit);
        assert_three_times(times, &trail.audit, &trail.postgres);
    }
}

#[test]
fn batch_is_committed_once_when_its_commit_outlives_the_connection() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let proxy = Proxy::start(postgres.port());
    let audit = pipeline(&postgres, &spool, |builder| {
        by_flush(builder).postgres(proxy.url())
    });
    record_three(&audit);
    flush(&audit);
    for times in 2..4 {
        // COMMIT is complete locally, and waits for a standby that does not exist.
        set(&postgres, "synchronous_standby_names = 'nobody'");
        record_three(&audit);
        audit.flush_blocking(Duration::ZERO).unwrap_err();
        let waiting = |event: &str| {
            let count = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND {event}"
            );
            postgres.psql(&count) == "1"
        };
        wait_until("COMMIT waits", PATIENCE, || {
            waiting("wait_event = 'SyncRep'")
        });
        // The server does not check the connection while it waits.
        proxy.cut();
        wait_until("the next attempt waits for that", PATIENCE, || {
            waiting("wait_event_type = 'Lock' AND query LIKE 'SELECT audit.add_batch%'")
        });
        postgres.psql("ALTER SYSTEM RESET synchronous_standby_names");
        postgres.psql("SELECT pg_reload_conf()");
        flush(&audit);
        assert_three_times(times, &audit, &postgres);
    }
}

#[test]
fn a_failover_to_a_standby_loses_nothing_and_raises_no_alarm() {
    let (mut primary, spool) = (Postgres::start_with(&["log_connections=on"]), Folder::new());
    let proxy = Proxy::start(primary.port());
    let audit = pipeline(&primary, &spool, |builder| {
        builder
            .postgres(proxy.url())
            .batch(20, Duration::from_millis(1))
    });
    record_three(&audit);
    flush(&audit);
    let standby = primary.start_standby();
    set(&primary, "synchronous_standby_names = '*'");
    wait_until("the standby follows", PATIENCE, || {
        primary.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
    });
    let (stop, stopped) = channel::<()>();
    let recorded = std::thread::scope(|scope| {
        // A batch is in flight at all times.
        let recording = scope.spawn(|| {
            let stopped = stopped;
            let mut recorded = 0;
            while stopped.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                record_three(&audit);
                recorded += 1;
            }
            recorded
        });
        let before = audit.stats().batches();
        wait_until("batches are being written", PATIENCE, || {
            audit.stats().batches() > before + 5
        });
        // From here on the standby shows less than it has.
        standby.psql("SELECT pg_wal_replay_pause()");
        let before = audit.stats().batches();
        wait_until("batches are being written", PATIENCE, || {
            audit.stats().batches() > before + 5
        });
        let committed = audit.stats().committed();
        proxy.point_to(standby.port());
        proxy.cut();
        wait_for_health(&audit, Health::Retrying);
        wait_until("the standby was asked again and again", PATIENCE, || {
            let now = audit.stats().committed();
            assert!(now >= committed, "{committed} were committed, now {now}");
            standby
                .log()
                .matches("application_name=tracing-audit")
                .count()
                >= 4
        });
        primary.stop(Stop::Immediate);
        standby.psql("SELECT pg_promote(true, 60)");
        wait_for_health(&audit, Health::Healthy);
        drop(stop);
        recording.join().unwrap()
    });
    flush(&audit);
    assert_three_times(1 + recorded, &audit, &standby);
}
