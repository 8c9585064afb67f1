//! The key of a log is replaced: the log goes on, and what the old key has signed is as good as it was.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use serde_json::Value;
use testkit::trail::{Folder, PATIENCE, Trail, count, pipeline};
use testkit::{Postgres, wait_until};
use tracing_audit::__program::ledger::checkpoint::{self, Checkpoint, Verified};
use tracing_audit::__program::ledger::key::{Algorithm, MemoryKey, Vkey};
use tracing_audit::__program::ledger::paths::Head;
use tracing_audit::{Event, Seal};

const ORIGIN: &str = "example.com/trail";

/// A trail, two keys of its log, and an anchor.
struct Setting {
    trail: Trail,
    scratch: Folder,
    old: Vkey,
    new: Vkey,
}

impl Setting {
    fn start() -> Self {
        let trail = Trail::start();
        let scratch = Folder::new();
        fs::create_dir_all(&scratch.0).unwrap();
        let [old, new] = ["old", "new"].map(|file| new_key(&scratch.0.join(file), ORIGIN));
        assert_ne!(old, new);
        Self {
            trail,
            scratch,
            old,
            new,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    fn anchor(&self) -> PathBuf {
        self.path("anchor")
    }

    /// Adds a batch of records.
    fn record(&self, records: u32) {
        for n in 0..records {
            self.trail
                .audit
                .record(Event::new("order_viewed").target("order", n.to_string()))
                .unwrap();
        }
        self.trail.audit.flush_blocking(PATIENCE).unwrap();
    }

    fn seal(&self, key: &str, old_keys: &[&Vkey]) -> Command {
        let mut command = program(&self.trail.postgres);
        command
            .args(["seal", "--interval", "20ms", "--json", "--key"])
            .arg(self.path(key))
            .arg("--anchor")
            .arg(self.anchor());
        for key in old_keys {
            command.arg("--old-key").arg(key.to_string());
        }
        command
    }

    /// Starts a sealer, whose messages go to a file.
    fn sealer(&self, key: &str, old_keys: &[&Vkey]) -> Sealer {
        let log = self.path(&format!("{key}.log"));
        let mut command = self.seal(key, old_keys);
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        Sealer { child, log }
    }

    fn once(&self, key: &str, old_keys: &[&Vkey]) -> Output {
        self.seal(key, old_keys).arg("--once").output().unwrap()
    }

    /// Returns what the anchor's checkpoint states, if it is by this key.
    fn published_by(&self, key: &Vkey) -> Option<Verified> {
        let note = fs::read(self.anchor().join("checkpoint")).ok()?;
        checkpoint::verify(&note, key, &[]).ok()
    }

    fn wait_until_published_by(&self, key: &Vkey) {
        let batches = count(&self.trail.postgres, "batches");
        wait_until("the key has signed all batches", PATIENCE, || {
            self.published_by(key)
                .is_some_and(|found| found.checkpoint.head.size >= batches)
        });
    }

    /// Verifies the trail, by a checkpoint.
    fn verify(&self, keys: &[&Vkey], checkpoint: &Path, more: &[&str]) -> Value {
        let mut command = program(&self.trail.postgres);
        command.args(["verify", "--json", "--checkpoint"]);
        let output = with_keys(command.arg(checkpoint).args(more), keys);
        let said = String::from_utf8_lossy(&output.stdout);
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{output:?}"));
        let is_clean = said["findings"] == Value::Array(Vec::new());
        assert_eq!(output.status.code(), Some(i32::from(!is_clean)), "{said}");
        said
    }

    #[track_caller]
    fn assert_clean(&self, keys: &[&Vkey], checkpoint: &Path, more: &[&str]) -> Value {
        let said = self.verify(keys, checkpoint, more);
        assert_eq!(said["findings"], Value::Array(Vec::new()), "{said}");
        said
    }

    /// Fails unless the checkpoint is refused, and the keys that should have signed it are named.
    #[track_caller]
    fn assert_unsigned(&self, keys: &[&Vkey], checkpoint: &Path) {
        let said = self.verify(keys, checkpoint, &[]);
        assert_eq!(said["findings"][0]["kind"], "signature_invalid", "{said}");
        for key in keys {
            let detail = said["findings"][0]["detail"].as_str().unwrap();
            assert!(detail.contains(&key.name_and_id()), "{detail}");
        }
    }

    fn prove(&self, id: &str, keys: &[&Vkey]) -> Output {
        with_keys(program(&self.trail.postgres).args(["prove", id]), keys)
    }

    /// Returns the id of the newest event.
    fn newest_id(&self) -> String {
        let id = "SELECT id FROM audit.events ORDER BY seq DESC LIMIT 1";
        self.trail.postgres.psql(id).trim().to_owned()
    }
}

/// A sealer, which is killed on drop.
struct Sealer {
    child: Child,
    log: PathBuf,
}

impl Sealer {
    fn has_told(&self, event: &str, text: &str) -> bool {
        let told = fs::read_to_string(&self.log).unwrap();
        told.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .any(|line| line["event"] == event && line["message"].as_str().unwrap().contains(text))
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(postgres: &Postgres) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command.env("AUDIT_DATABASE_URL", postgres.url());
    command
}

fn with_keys(command: &mut Command, keys: &[&Vkey]) -> Output {
    for key in keys {
        command.arg("--key").arg(key.to_string());
    }
    command.output().unwrap()
}

fn new_key(file: &Path, name: &str) -> Vkey {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    let output = command
        .args(["key", "new", "--name", name])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Vkey::parse(std::str::from_utf8(&output.stdout).unwrap().trim()).unwrap()
}

fn check_proof(file: &Path, keys: &[&Vkey]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    with_keys(command.arg("check-proof").arg(file), keys)
}

/// Fails unless the program ended with this code and said this.
#[track_caller]
fn assert_refused(output: &Output, code: i32, said: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(stderr.contains(said), "{stderr}");
}

#[test]
fn log_goes_on_while_its_key_is_replaced() {
    let setting = Setting::start();
    let (old, new) = (&setting.old, &setting.new);
    let anchor = setting.anchor();
    let old_sealer = setting.sealer("old", &[]);
    for _ in 0..3 {
        setting.record(40);
    }
    setting.wait_until_published_by(old);
    let before = setting.path("before");
    fs::copy(anchor.join("checkpoint"), &before).unwrap();
    let proof = setting.path("proof");
    let made = setting.prove(&setting.newest_id(), &[old]);
    assert!(made.status.success(), "{made:?}");
    fs::write(&proof, made.stdout).unwrap();

    // Both at once, while records come.
    let new_sealer = setting.sealer("new", &[old]);
    for _ in 0..3 {
        setting.record(40);
        setting.wait_until_published_by(new);
    }
    wait_until("the old one is told of the other key", PATIENCE, || {
        old_sealer.has_told("anchor_failed", "name that as an old key")
    });
    assert!(!new_sealer.has_told("anchor_failed", ""));
    assert!(!new_sealer.has_told("failed", ""));
    drop(old_sealer);
    setting.record(40);
    setting.wait_until_published_by(new);

    let older = ["--older", before.to_str().unwrap(), "--max-age", "1h"];
    let said = setting.assert_clean(&[new, old], &anchor, &older);
    assert_eq!(said["key"], new.name_and_id().as_str(), "{said}");
    assert_eq!(said["notes"], Value::Array(Vec::new()), "{said}");
    assert!(said["rows"].as_u64().unwrap() >= 280, "{said}");
    setting.assert_clean(&[new], &anchor, &["--max-age", "1h"]);
    setting.assert_unsigned(&[old], &anchor);
    setting.assert_unsigned(&[new], &before);

    // A proof is by the key that signed its checkpoint.
    assert!(check_proof(&proof, &[old]).status.success());
    assert!(check_proof(&proof, &[new, old]).status.success());
    assert_refused(&check_proof(&proof, &[new]), 1, &new.name_and_id());
    // The newest one that the database has is by the new key once the old one signs no more.
    let made = setting.prove(&setting.newest_id(), &[old, new]);
    assert!(made.status.success(), "{made:?}");
    fs::write(&proof, made.stdout).unwrap();
    assert!(check_proof(&proof, &[new]).status.success());
    assert_refused(&check_proof(&proof, &[old]), 1, &old.name_and_id());
    let refused = setting.prove(&setting.newest_id(), &[old]);
    assert_refused(&refused, 2, &old.name_and_id());
}

#[test]
fn checkpoint_by_an_older_key_is_told() {
    let setting = Setting::start();
    let (old, new) = (&setting.old, &setting.new);
    setting.record(10);
    assert!(setting.once("old", &[]).status.success());
    let said = setting.assert_clean(&[new, old], &setting.anchor(), &["--max-age", "1h"]);
    assert_eq!(said["key"], old.name_and_id().as_str(), "{said}");
    let note = said["notes"][0].as_str().unwrap();
    assert!(note.contains("older key"), "{note}");
    let said = setting.assert_clean(&[old, new], &setting.anchor(), &[]);
    assert_eq!(said["notes"], Value::Array(Vec::new()), "{said}");
}

#[test]
fn checkpoint_of_a_key_that_is_not_named_stays() {
    let setting = Setting::start();
    setting.record(10);
    assert!(setting.once("old", &[]).status.success());
    let signed = setting.published_by(&setting.old).unwrap();
    let refused = setting.once("new", &[]);
    assert_refused(&refused, 1, "name that as an old key");
    assert_refused(&refused, 1, &setting.new.name_and_id());
    assert_eq!(setting.published_by(&setting.old).unwrap(), signed);
    // At once, although nothing has come since.
    let sealed = setting.once("new", &[&setting.old]);
    assert!(sealed.status.success(), "{sealed:?}");
    let by_new = setting.published_by(&setting.new).unwrap();
    assert_eq!(by_new.checkpoint, signed.checkpoint);
}

#[test]
fn key_of_another_log_is_refused() {
    let setting = Setting::start();
    setting.record(10);
    let other = new_key(&setting.path("other"), "example.com/other");
    let why = "all keys of a log have its name";
    assert_refused(&setting.once("new", &[&other]), 2, why);
    let witness = setting.old.with_algorithm(Algorithm::CosignatureV1);
    assert_refused(&setting.once("new", &[&witness]), 2, "key of a witness");
    let both = [&setting.new, &other];
    assert_refused(&setting.prove(&setting.newest_id(), &both), 2, why);
    assert_refused(&check_proof(&setting.path("none"), &both), 2, why);
    let mut verify = program(&setting.trail.postgres);
    assert_refused(&with_keys(verify.arg("verify"), &both), 2, why);
    let mut verify = program(&setting.trail.postgres);
    verify.args(["verify", "--witness-key", &setting.old.to_string()]);
    let why = "is a log's, not a witness's";
    assert_refused(&with_keys(&mut verify, &[&setting.new]), 2, why);
    assert!(!setting.anchor().exists());
}

#[test]
fn program_goes_on_with_a_new_key() {
    let setting = Setting::start();
    setting.record(10);
    assert!(setting.once("old", &[]).status.success());
    let spool = Folder::new();
    let key = fs::read_to_string(setting.path("new")).unwrap();
    let seal = Seal::new(key)
        .old_key(setting.old.to_string())
        .anchor_folder(setting.anchor());
    let _audit = pipeline(&setting.trail.postgres, &spool, |builder| {
        builder.seal(seal)
    });
    setting.wait_until_published_by(&setting.new);
    setting.assert_clean(&[&setting.new], &setting.anchor(), &[]);
}

#[test]
fn log_that_is_not_what_the_old_key_signed_is_refused() {
    let setting = Setting::start();
    setting.record(10);
    assert!(setting.once("old", &[]).status.success());
    let text = fs::read_to_string(setting.path("old")).unwrap();
    let key = MemoryKey::parse(&text).unwrap();
    let head = setting.published_by(&setting.old).unwrap().checkpoint.head;
    let other = Checkpoint {
        origin: ORIGIN.to_owned(),
        head: Head {
            root: [7; 32],
            ..head
        },
    };
    let forged = checkpoint::sign(&other, &key, 1).unwrap().to_string();
    fs::write(setting.anchor().join("checkpoint"), &forged).unwrap();
    let refused = setting.once("new", &[&setting.old]);
    assert_refused(&refused, 2, "are not those of the signed checkpoint");
    let left = fs::read_to_string(setting.anchor().join("checkpoint")).unwrap();
    assert_eq!(left, forged);
}
