//! How a server is reached, what is reported if it is not, and that none of this panics.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

#[cfg(any(
    feature = "tls-ring",
    feature = "tls-aws-lc-rs",
    feature = "tls-native"
))]
mod tls;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tracing_audit::{Audit, BuildError, Event, Health};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

use testkit::heard::hear;
use testkit::proxy::Proxy;
use testkit::trail::{Folder, PATIENCE, Trail, count, once_each};
use testkit::{Postgres, Stop, wait_until};

fn start(url: &str) -> (Audit, Folder) {
    let spool = Folder::new();
    let audit = Audit::builder()
        .postgres(url)
        .spool(&spool.0)
        .start()
        .unwrap();
    (audit, spool)
}

/// Returns what is reported about a server that cannot be reached.
fn fault(url: &str) -> String {
    let (audit, _spool) = start(url);
    audit.record(Event::new("waits")).unwrap();
    wait_until("a fault is known", PATIENCE, || {
        audit.stats().fault().is_some()
    });
    let stats = audit.stats();
    assert_eq!((stats.restarts(), stats.pending()), (0, 1));
    assert!(matches!(stats.health(), Health::Retrying | Health::Holding));
    let fault = String::from(stats.fault().unwrap());
    audit.shutdown_blocking(Duration::ZERO);
    fault
}

#[test]
fn a_database_that_lacks_the_trail_is_named() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE plain LOGIN");
    let said = fault(&postgres.url_as("plain"));
    let place = format!("127.0.0.1:{}/audit: the audit tables", postgres.port());
    assert!(said.contains(&place), "{said}");
    // What is advised can be pasted into a shell.
    postgres.psql("CREATE ROLE \"o'hara 2\" LOGIN");
    let said = fault(&postgres.url_as("o'hara%202"));
    assert!(said.contains(r"--writer-login 'o'\''hara 2'"), "{said}");
}

/// Asserts that a record sent to this URL is committed.
fn assert_commits(url: &str) {
    let (audit, _spool) = start(url);
    audit.record(Event::new("arrives")).unwrap();
    let flushed = audit.flush_blocking(PATIENCE);
    let stats = audit.stats();
    assert!(flushed.is_ok(), "{url}: {:?}", stats.fault());
    assert_eq!((stats.committed(), stats.restarts()), (1, 0), "{url}");
    wait_until("no fault is left", PATIENCE, || {
        audit.stats().fault().is_none()
    });
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Requires passwords for logins.
fn ask_for_passwords(postgres: &Postgres) {
    let hba = postgres.data_dir().join("pg_hba.conf");
    let before = fs::read_to_string(&hba).unwrap();
    let rule = "host all guarded all scram-sha-256\nhostssl all tls_only all trust\n\
                hostnossl all tls_only all reject\n";
    fs::write(&hba, format!("{rule}{before}")).unwrap();
    postgres.psql("SELECT pg_reload_conf()");
}

#[test]
fn connection_fault_names_the_server_the_cause_and_the_remedy() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE guarded LOGIN PASSWORD 'right one'; CREATE ROLE tls_only LOGIN");
    ask_for_passwords(&postgres);
    let port = postgres.port();
    let rejects = || postgres.try_session("tls_only").is_err();
    wait_until("the rules are in force", PATIENCE, rejects);
    for (url, words) in [
        (
            String::from("postgres://app:SECRET@127.0.0.1:1/app"),
            &["127.0.0.1:1/app", "connection refused"][..],
        ),
        (
            String::from("postgres://app:SECRET@no-such-host.invalid:5432/app"),
            &["no-such-host.invalid:5432/app", "cannot be resolved"],
        ),
        (
            String::from("postgres://app:SECRET@/app?host=/no/such/folder"),
            &["/no/such/folder:5432/app", "no such file"],
        ),
        (
            format!("postgres://guarded:SECRET@127.0.0.1:{port}/audit"),
            &[
                "audit",
                "password authentication failed",
                "28P01",
                "check the password",
            ],
        ),
        (
            format!("postgres://postgres:SECRET@127.0.0.1:{port}/nowhere"),
            &["nowhere", "does not exist", "3D000", "make the database"],
        ),
        (
            format!("postgres://tls_only:SECRET@127.0.0.1:{port}/audit?sslmode=disable"),
            &["28000", "TLS"],
        ),
        (
            format!("postgres://postgres:SECRET@127.0.0.1:{port}/audit?options=-c%20jit%3DSECRET"),
            &["22023", "jit"],
        ),
        (
            String::from("postgres://app:SECRET@127.0.0.1:1,[::1]:2/app"),
            &["127.0.0.1:1/app: connection refused", "[::1]:2/app: "],
        ),
    ] {
        let said = fault(&url);
        for word in words {
            assert!(said.contains(word), "{url}: {said}");
        }
        assert!(!said.contains("SECRET"), "{said}");
    }
}

#[test]
fn connection_fault_names_max_connections_when_the_server_is_full() {
    let postgres = Postgres::start_with(&["max_connections=5", "superuser_reserved_connections=1"]);
    postgres.psql("CREATE ROLE app LOGIN");
    let mut sessions = Vec::new();
    while let Ok(session) = postgres.try_session("app") {
        sessions.push(session);
    }
    let said = fault(&postgres.url_as("app"));
    assert!(
        said.contains("53300") && said.contains("max_connections"),
        "{said}"
    );
}

#[test]
fn fault_is_logged_when_it_begins_when_its_cause_changes_and_when_it_ends() {
    let mut postgres = Postgres::start();
    let proxy = Proxy::start(postgres.port());
    let (audit, _spool) = start(&proxy.url());
    let (writer, heard) = hear();
    let log = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_filter(LevelFilter::WARN);
    tracing_subscriber::registry().with(log).init();
    audit.record(Event::new("first")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    postgres.stop(testkit::Stop::Fast);
    proxy.cut();
    audit.record(Event::new("second")).unwrap();
    audit.flush_blocking(Duration::ZERO).unwrap_err();
    // Other tests of this process are heard as well.
    let own = proxy
        .url()
        .replace("postgres://postgres@", "cannot reach Postgres at ");
    let line = loop {
        let line = heard.recv_timeout(PATIENCE).expect("it is said");
        if line.contains(&own) {
            break line;
        }
    };
    assert!(line.contains("retried every 5 s"), "{line}");
    postgres.start_again();
    audit.flush_blocking(PATIENCE).unwrap();
    wait_until("it is over", PATIENCE, || {
        let stats = audit.stats();
        stats.fault().is_none() && stats.health() == Health::Healthy
    });
}

#[test]
fn connection_whose_packets_are_lost_is_closed_within_seconds() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(postgres.port());
    let (audit, _spool) = start(&proxy.url());
    audit.record(Event::new("first")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    proxy.swallow(true);
    audit.record(Event::new("second")).unwrap();
    let began = Instant::now();
    wait_until("it is noticed", Duration::from_secs(30), || {
        audit.stats().health() == Health::Retrying
    });
    let stats = audit.stats();
    let fault = stats.fault().unwrap();
    assert!(fault.contains("no answer"), "{fault}");
    assert!(began.elapsed() < Duration::from_secs(30));
    proxy.swallow(false);
    proxy.cut();
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(postgres.psql("SELECT count(*) FROM audit.events"), "2");
}

#[test]
fn connection_to_a_slow_server_stays_open() {
    let trail = Trail::start();
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    // COMMIT is complete locally, and waits for a standby that does not exist.
    let set = |to: &str| {
        trail.postgres.psql(&format!(
            "ALTER SYSTEM SET synchronous_standby_names = '{to}'"
        ));
        trail.postgres.psql("SELECT pg_reload_conf()");
    };
    set("nobody");
    trail.audit.record(Event::new("second")).unwrap();
    let waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tracing-audit' AND wait_event = 'SyncRep'";
    let mut pid = String::new();
    wait_until("COMMIT waits", PATIENCE, || {
        pid = trail.postgres.psql(waiting);
        !pid.is_empty()
    });
    let looks_at =
        format!("SELECT now() - state_change > '12 s' FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("it was looked at twice", PATIENCE, || {
        trail.postgres.psql(&looks_at) == "t"
    });
    assert_eq!(trail.postgres.psql(waiting), pid, "the same connection");
    set("");
    trail.audit.flush_blocking(PATIENCE).unwrap();
}

/// The processes of a server that hold connections of others than this test.
fn connections(postgres: &Postgres) -> String {
    postgres.psql(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY 1",
    )
}

#[test]
fn connection_is_closed_when_all_is_written_and_opened_for_the_next_batch() {
    let trail = Trail::start_with(|builder| builder.keep_connection(Duration::ZERO));
    for records in 1..=3 {
        trail.audit.record(Event::new("now and then")).unwrap();
        trail.audit.flush_blocking(PATIENCE).unwrap();
        assert_eq!(count(&trail.postgres, "events"), records);
        wait_until("the connection is closed", PATIENCE, || {
            connections(&trail.postgres).is_empty()
        });
    }
    // It is opened once more to ask whether all is still there.
    let report = trail.audit.shutdown_blocking(PATIENCE);
    assert_eq!(
        (report.committed, report.spooled, report.dropped),
        (3, 0, 0)
    );
    assert!(trail.spool.names().is_empty());
    once_each(&trail.postgres);
}

#[test]
fn connection_that_is_not_kept_is_opened_again_after_the_server_was_away() {
    let mut trail = Trail::start_with(|builder| builder.keep_connection(Duration::ZERO));
    trail.audit.record(Event::new("before")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    wait_until("the connection is closed", PATIENCE, || {
        connections(&trail.postgres).is_empty()
    });
    trail.postgres.stop(Stop::Fast);
    trail.audit.record(Event::new("meanwhile")).unwrap();
    wait_until("it is noticed", PATIENCE, || {
        trail.audit.stats().health() == Health::Retrying
    });
    trail.postgres.start_again();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(trail.audit.stats().health(), Health::Healthy);
    assert_eq!(count(&trail.postgres, "events"), 2);
    once_each(&trail.postgres);
}

#[test]
fn batches_that_follow_soon_share_a_connection() {
    let trail = Trail::start();
    let mut held = String::new();
    for _ in 0..3 {
        trail.audit.record(Event::new("often")).unwrap();
        trail.audit.flush_blocking(PATIENCE).unwrap();
        let now = connections(&trail.postgres);
        assert!(held.is_empty() || held == now, "{held}, then {now}");
        assert_eq!(now.lines().count(), 1);
        held = now;
    }
}

#[test]
fn pipeline_connects_to_the_writable_server_among_several() {
    let mut primary = Postgres::start_with(&["wal_level=replica"]);
    let standby = primary.start_standby();
    assert_commits(&format!(
        "postgres://postgres@127.0.0.1:1,127.0.0.1:{},127.0.0.1:{}/audit",
        standby.port(),
        primary.port()
    ));
    assert_eq!(primary.psql("SELECT count(*) FROM audit.events"), "1");
    let said = fault(&format!(
        "postgres://postgres@127.0.0.1:1,127.0.0.1:{}/audit?target_session_attrs=primary",
        standby.port()
    ));
    assert!(
        said.contains("connection refused") && said.contains("read-only"),
        "{said}"
    );
}

#[test]
fn sockets_and_addresses_are_parsed_as_libpq_parses_them() {
    let postgres = Postgres::start();
    let (port, socket) = (postgres.port(), postgres.socket_url());
    assert_commits(&socket);
    let (_, folder) = socket.split_once("?host=").unwrap();
    assert_commits(&format!("postgresql://postgres@/audit?host={folder}"));
    assert_commits(&format!(
        "postgres:///audit?host=nowhere.invalid&hostaddr=127.0.0.1&user=postgres&port={port}"
    ));
    assert_commits(&format!(
        "postgres://postgres@127.0.0.1/audit?port={port}&keepalives=1"
    ));
}

#[test]
fn password_is_read_from_the_passfile() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'pass:word'");
    ask_for_passwords(&postgres);
    let folder = Folder::new();
    fs::create_dir_all(&folder.0).unwrap();
    let file = folder.0.join("pass");
    fs::write(
        &file,
        "# of others\nother:*:*:*:no\n*:*:audit:guarded:pass\\:word\n",
    )
    .unwrap();
    let url = format!(
        "postgres://guarded@127.0.0.1:{}/audit?passfile={}",
        postgres.port(),
        text(&file)
    );
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_commits(&url);
}

#[test]
fn start_refuses_an_invalid_url_without_echoing_its_values() {
    for (url, name) in [
        ("postgres://u:SECRET@h/d?sslmod=SECRET", "sslmode"),
        ("postgres://u@h/d?password=a&SECRET", "parameter 2"),
        (
            "postgres://u:SECRET@h/d?target_session_attrs=standby",
            "target_session_attrs",
        ),
        ("postgres://u:SECRET@h/d?sslmode=SECRET", "sslmode"),
    ] {
        let error = Audit::builder().postgres(url).start().unwrap_err();
        assert!(
            matches!(&error, BuildError::DatabaseParameter { parameter, .. } if parameter == name),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("SECRET"));
        let error = tracing_audit::migrate(url).unwrap_err();
        assert!(!error.to_string().contains("SECRET"), "{error}");
    }
}

#[cfg(not(any(
    feature = "tls-ring",
    feature = "tls-aws-lc-rs",
    feature = "tls-native"
)))]
#[test]
fn start_refuses_a_tls_url_in_a_build_without_tls() {
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("postgres://u:SECRET@h/d?sslmode={mode}");
        let error = Audit::builder().postgres(url).start().unwrap_err();
        assert!(matches!(error, BuildError::NoTls), "{error}");
        assert!(error.to_string().contains("tls-ring"), "{error}");
    }
}
