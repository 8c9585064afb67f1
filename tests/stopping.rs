//! How often a server that refuses or does not answer is contacted, and how long it delays a
//! shutdown.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use testkit::child::{alone, child, child_processes, say, wrapped};
use testkit::proxy::Proxy;
use testkit::trail::{Folder, PATIENCE, pipeline};
use testkit::{Postgres, wait_until};
use tracing_audit::{Audit, BuildError, Event};

#[cfg(target_os = "linux")]
child_processes!(starts_a_pipeline);

/// A server that closes every connection, and the number of connections so far.
fn refusing() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&came);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            drop(client);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let url = format!("postgres://nobody@127.0.0.1:{port}/none?sslmode=disable");
    (url, came)
}

fn start(url: &str) -> (Audit, Folder) {
    let spool = Folder::new();
    let audit = Audit::builder()
        .postgres(url)
        .spool(&spool.0)
        .start()
        .unwrap();
    (audit, spool)
}

#[test]
fn flush_and_shutdown_respect_the_backoff_after_refused_connections() {
    let (url, came) = refusing();
    let (audit, _spool) = start(&url);
    audit.record(Event::new("waits")).unwrap();
    // The first pauses add up to this.
    wait_until("the pauses are long", PATIENCE, || {
        came.load(Ordering::Relaxed) >= 7
    });
    let before = came.load(Ordering::Relaxed);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert!(audit.flush_blocking(Duration::from_millis(10)).is_err());
    }
    let by_flushes = came.load(Ordering::Relaxed) - before;
    audit.shutdown_blocking(Duration::from_secs(2));
    let seconds = began.elapsed().as_secs() + 1;
    let all = came.load(Ordering::Relaxed) - before;
    assert!(by_flushes > 0, "a flush is worth an attempt");
    assert!(all > by_flushes, "a shutdown is worth an attempt");
    // If there are several addresses or ways to try, each attempt opens several connections.
    assert!(all <= 2 * seconds, "{all} within {seconds} s");
}

#[test]
fn shutdown_keeps_its_timeout_when_the_server_stops_answering() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    let proxy = Proxy::start(postgres.port());
    let audit = pipeline(&postgres, &spool, |builder| builder.postgres(proxy.url()));
    audit.record(Event::new("arrives")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    proxy.swallow(true);
    audit.record(Event::new("waits")).unwrap();
    let timeout = Duration::from_secs(1);
    let began = Instant::now();
    let report = audit.shutdown_blocking(timeout);
    let took = began.elapsed();
    assert_eq!((report.committed, report.spooled), (1, 1));
    // Allows for the exchange in flight, and for a busy machine.
    assert!(took < timeout + Duration::from_millis(900), "{took:?}");
    // Nothing is lost.
    let next = pipeline(&postgres, &spool, |builder| builder);
    wait_until("it is taken over", PATIENCE, || next.stats().adopted() == 1);
    drop(next);
    testkit::trail::once_each(&postgres);
}

#[cfg(target_os = "linux")]
fn starts_a_pipeline() {
    let spool = Folder::new();
    let started = Audit::builder()
        .postgres("postgres://nobody@127.0.0.1:1/none")
        .spool(&spool.0)
        .start();
    match started {
        Ok(audit) => {
            audit.shutdown_blocking(Duration::ZERO);
            say("started");
        }
        Err(BuildError::Thread(_) | BuildError::Spool { .. }) => say("refused"),
        Err(error) => panic!("{error:?}"),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn start_with_too_few_file_descriptors_is_an_error_and_no_panic() {
    let mut said = Vec::new();
    // Starting may open about ten of them.
    for files in 7..=24 {
        let mut shell = std::process::Command::new("bash");
        shell
            .args(["-c", "ulimit -n \"$1\"; shift; exec \"$@\"", "bash"])
            .arg(files.to_string());
        let child = alone(child!(starts_a_pipeline));
        let done = wrapped(shell, &child).output().unwrap();
        let words = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{files}: {words}{done:?}");
        said.push(words.contains("started"));
    }
    assert!(!said[0] && said[said.len() - 1], "{said:?}");
}
