//! A file is whole or not there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use testkit::proxy::{Proxy, Way};
use testkit::{Stop, wait_until};

use super::{PATIENCE, Setting, command, names, stderr};

/// Sixty megabytes of records.
const MUCH: &str = "
    SELECT audit.ensure_partition('query_runs', now());
    INSERT INTO audit.query_runs (id, question_text, status, started_at, writer_id, seq, salt)
    SELECT overlay(audit.id_at(now())::text PLACING '7000-8000-' || lpad(n::text, 12, '0') FROM 15)::uuid,
        repeat('0123456789', 10000), 'succeeded', now(), '00000000-0000-7000-8000-00000000000a', n, ''
    FROM generate_series(1, 600) AS n";

/// Starts an export to a file of this name.
fn start(setting: &Setting, url: &str, name: &str) -> Child {
    let path = setting.path(name);
    let words = ["export", "--format", "csv", "--purpose", "test", "-o"];
    command(url, &words)
        .arg(path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the end of an export that fails; returns what it told.
#[track_caller]
fn end_of(mut child: Child) -> String {
    let mut told = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{told}");
    told
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
}

/// Waits until some of the file is written.
fn wait_for_part(setting: &Setting, name: &str) {
    let part = setting.path(&format!("{name}.part"));
    wait_until("some of it is written", PATIENCE, || {
        fs::metadata(&part).is_ok_and(|part| part.len() > 0)
    });
}

#[test]
fn file_is_not_overwritten_unless_it_is_said() {
    let setting = Setting::start();
    let export = |words: &[&str]| {
        let path = setting.path("a.csv");
        let all = [
            "export",
            "--format",
            "csv",
            "--purpose",
            "test",
            "-o",
            path.to_str().unwrap(),
        ];
        setting
            .command(&[&all[..], words].concat())
            .output()
            .unwrap()
    };
    fs::write(setting.path("a.csv"), "mine").unwrap();
    let refused = export(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("a.csv exists"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(fs::read(setting.path("a.csv")).unwrap(), b"mine");
    assert_eq!(export(&["--force"]).status.code(), Some(0));
    assert_eq!(setting.names(), ["a.csv", "a.csv.manifest.json"]);
    // A manifest is not lost either.
    fs::remove_file(setting.path("a.csv")).unwrap();
    assert!(stderr(&export(&[])).contains("a.csv.manifest.json exists"));
    fs::remove_file(setting.path("a.csv.manifest.json")).unwrap();
    // What a killed export has left, or a link that leads elsewhere.
    std::os::unix::fs::symlink(setting.path("elsewhere"), setting.path("a.csv.part")).unwrap();
    assert!(stderr(&export(&[])).contains("a.csv.part exists"));
    assert_eq!(export(&["--force"]).status.code(), Some(0));
    assert_eq!(setting.names(), ["a.csv", "a.csv.manifest.json"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(setting.path("a.csv")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    // One event for the beginning and one for the end, for each that was not refused.
    assert_eq!(setting.recorded().len(), 4);
}

#[test]
fn place_that_cannot_be_written_is_told_before_anything_is_recorded() {
    let setting = Setting::start();
    fs::create_dir(setting.path("folder")).unwrap();
    for name in ["nowhere/a.csv", "folder", "folder/../a\0b"] {
        if name.contains('\0') {
            continue;
        }
        let told = end_of(start(&setting, &setting.postgres.url(), name));
        assert!(
            told.contains("cannot write") || told.contains("exists"),
            "{told}"
        );
    }
    // Root may write everywhere but here.
    let path = Path::new("/proc/export.csv");
    let words = [
        "export",
        "--format",
        "csv",
        "--purpose",
        "test",
        "-o",
        path.to_str().unwrap(),
    ];
    let refused = setting.command(&words).output().unwrap();
    assert!(
        stderr(&refused).contains("cannot write /proc/export.csv"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(setting.recorded().len(), 0);
    assert_eq!(setting.names(), ["folder"]);
}

#[test]
fn nothing_is_kept_when_postgres_is_lost() {
    let mut setting = Setting::empty();
    setting.postgres.psql(MUCH);
    let proxy = Proxy::start(setting.postgres.port());
    proxy.cut_after(Way::ToClient, 5_000_000);
    let told = end_of(start(
        &setting,
        &format!("{}?sslmode=disable", proxy.url()),
        "cut.csv",
    ));
    assert!(told.contains("cannot read the audit trail"), "{told}");
    assert_eq!(setting.names(), [""; 0]);

    // It waits in the middle, and the server goes.
    proxy.watch();
    let child = start(
        &setting,
        &format!("{}?sslmode=disable", proxy.url()),
        "killed.csv",
    );
    wait_for_part(&setting, "killed.csv");
    proxy.swallow(true);
    setting.postgres.stop(Stop::Immediate);
    proxy.cut();
    let told = end_of(child);
    assert!(told.contains("cannot read the audit trail"), "{told}");
    assert_eq!(setting.names(), [""; 0]);
}

#[test]
fn nothing_is_kept_of_an_interrupted_export() {
    let setting = Setting::empty();
    setting.postgres.psql(MUCH);
    let proxy = Proxy::start(setting.postgres.port());
    proxy.watch();
    let child = start(
        &setting,
        &format!("{}?sslmode=disable", proxy.url()),
        "a.csv",
    );
    wait_for_part(&setting, "a.csv");
    proxy.swallow(true);
    interrupt(&child);
    let told = end_of(child);
    assert!(
        told.contains("interrupted: the export is not whole"),
        "{told}"
    );
    assert_eq!(setting.names(), [""; 0]);
    assert_eq!(setting.recorded().len(), 1);

    // Whoever reads the output takes none.
    let words = ["export", "--format", "csv", "--purpose", "test", "-o", "-"];
    let mut child = setting.command(&words);
    let mut child = child
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 5];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"kind,");
    interrupt(&child);
    assert!(end_of(child).contains("interrupted"));
}

#[test]
fn nothing_is_kept_that_the_disk_has_no_room_for() {
    let setting = Setting::empty();
    setting.postgres.psql(MUCH);
    let disk = setting.path("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(&disk)
        .status();
    if mounted.is_ok_and(|status| status.success()) {
        let told = end_of(start(&setting, &setting.postgres.url(), "disk/a.csv"));
        let left = names(&disk);
        let unmounted = Command::new("umount").arg(&disk).status();
        assert!(unmounted.unwrap().success());
        assert!(
            told.contains("No space left on device")
                && told.contains("nothing that was written is kept"),
            "{told}"
        );
        assert_eq!(left, [""; 0]);
    } else {
        let _ = writeln!(
            std::io::stderr(),
            "nothing can be mounted here: the limit of files stands for a full disk"
        );
    }
    // A limit of the process does the same.
    let words = ["export", "--format", "csv", "--purpose", "test", "-o"];
    let export = command(&setting.postgres.url(), &words);
    let mut limited = Command::new("prlimit");
    limited.args(["--fsize=1000000:", "env", "--ignore-signal=XFSZ"]);
    let child = testkit::child::wrapped(limited, &export);
    let mut child = child;
    let child = child
        .arg(setting.path("b.csv"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let told = end_of(child);
    assert!(told.contains("File too large"), "{told}");
    assert_eq!(setting.names(), ["disk"]);
}

#[test]
fn nothing_is_written_that_cannot_be_recorded() {
    let setting = Setting::start();
    setting.postgres.psql("CREATE ROLE auditor LOGIN");
    setting.succeed(&["migrate", "--auditor-login", "auditor"]);
    setting.postgres.psql("REVOKE EXECUTE ON FUNCTION audit.record_reading(text, text, uuid, jsonb) FROM audit_auditor");
    let url = setting.postgres.url_as("auditor");
    let told = end_of(start(&setting, &url, "a.csv"));
    assert!(
        told.contains("cannot record the reading, so nothing was read"),
        "{told}"
    );
    let words = ["export", "--format", "csv", "--purpose", "test", "-o", "-"];
    let output = command(&url, &words).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stdout, b"");
    assert_eq!(setting.names(), [""; 0]);
}

#[test]
fn output_has_the_bytes_of_a_file_and_a_manifest_if_one_is_named() {
    let setting = Setting::start();
    let file = setting.export("csv", "a.csv", &["--user", "ana"]);
    let manifest = setting.path("m.json");
    let words = [
        "export",
        "--format",
        "csv",
        "--purpose",
        "test",
        "--user",
        "ana",
        "-o",
        "-",
    ];
    let output = setting.succeed(&words);
    assert!(output.stdout == file);
    let all = [&words[..], &["--manifest", manifest.to_str().unwrap()]].concat();
    setting.succeed(&all);
    let told: serde_json::Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    assert_eq!(told["sha256"], setting.manifest("a.csv")["sha256"]);
    // Half of it, and the exit code says so.
    let mut child = setting.command(&[
        "export",
        "--format",
        "jsonl",
        "--purpose",
        "test",
        "-o",
        "-",
    ]);
    let mut child = child
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(end_of(child).contains("cannot write the output"));
}
