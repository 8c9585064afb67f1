//! Where the local log is by default, and what is logged about it.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};

use testkit::child::{alone, child, child_processes, say};
use testkit::trail::Folder;
use tracing_subscriber::prelude::*;

child_processes!(logs_where_its_log_is);

/// Runs the child process without a setting for the folder of its log.
fn run(temporary: &Path, vars: &[(&str, &str)]) -> Output {
    let mut command: Command = alone(child!(logs_where_its_log_is));
    for name in [
        "AUDIT_SPOOL_DIR",
        "STATE_DIRECTORY",
        "XDG_STATE_HOME",
        "HOME",
    ] {
        command.env_remove(name);
    }
    command
        .env("AUDIT_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
        .env("AUDIT_SERVICE_NAME", "svc")
        .env("TMPDIR", temporary)
        .envs(vars.iter().copied())
        .output()
        .unwrap()
}

/// Starts a pipeline before there is a subscriber, as programs do, and collects what is logged
/// within a moment.
fn logs_where_its_log_is() {
    let (writer, heard) = testkit::heard::hear();
    let audit = tracing_audit::Audit::builder()
        .postgres("postgres://nobody@127.0.0.1:1/none")
        .service_name("svc");
    let audit = match std::env::var_os("AUDIT_SPOOL_DIR") {
        Some(folder) => audit.spool(folder),
        None => audit,
    };
    let audit = audit.start().unwrap();
    tracing_subscriber::registry()
        .with(audit.layer())
        .with(
            tracing_subscriber::fmt::layer()
                .with_writer(writer)
                .with_ansi(false),
        )
        .init();
    // The line that Postgres is down always comes; lines about the folder come before it, or soon
    // after.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while let Ok(line) =
        heard.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now()))
    {
        say(line.trim_end());
        if line.contains("the local log is in") {
            break;
        }
    }
    audit.shutdown_blocking(std::time::Duration::ZERO);
}

#[test]
fn log_without_a_home_folder_is_in_a_private_temporary_folder_and_reported_once() {
    let temporary = Folder::new();
    fs::create_dir(&temporary.0).unwrap();
    fs::set_permissions(&temporary.0, fs::Permissions::from_mode(0o1777)).unwrap();
    let us = fs::metadata(&temporary.0).unwrap().uid();
    // Another user was here first.
    let taken = temporary.0.join(format!("tracing-audit-{us}"));
    fs::create_dir(&taken).unwrap();
    fs::set_permissions(&taken, fs::Permissions::from_mode(0o777)).unwrap();
    let old = temporary.0.join("tracing-audit");
    fs::create_dir(&old).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o777)).unwrap();
    let done = run(&temporary.0, &[]);
    let said = String::from_utf8(done.stdout).unwrap();
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.contains("the local log is in"))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("AUDIT_SPOOL_DIR"),
        "{said}"
    );
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 0);
    assert_eq!(
        fs::read_dir(temporary.0.join("tracing-audit"))
            .unwrap()
            .count(),
        0
    );
    let ours = fs::read_dir(&temporary.0)
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with(&format!("tracing-audit-{us}-"))
        })
        .unwrap();
    assert_eq!(ours.metadata().unwrap().mode() & 0o777, 0o700);
    assert!(lines[0].contains(&*ours.path().to_string_lossy()), "{said}");
}

#[test]
fn world_writable_volume_causes_a_warning_and_group_writable_volume_does_not() {
    let temporary = Folder::new();
    fs::create_dir(&temporary.0).unwrap();
    for (rights, is_said) in [(0o2770, false), (0o777, true)] {
        let volume = temporary.0.join("volume");
        fs::create_dir_all(&volume).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(rights)).unwrap();
        let done = run(
            &temporary.0,
            &[("AUDIT_SPOOL_DIR", volume.to_str().unwrap())],
        );
        assert!(done.status.success());
        let said = String::from_utf8(done.stdout).unwrap();
        assert_eq!(
            said.contains("others can move or remove"),
            is_said,
            "{said}"
        );
    }
}
