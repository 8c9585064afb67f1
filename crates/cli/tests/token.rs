//! `seal --key-pkcs11`: the key is in a token of `SoftHSM`, which `.ci/run` installs.
#![cfg(feature = "pkcs11")]
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use serde_json::Value;
use testkit::trail::{Folder, PATIENCE, Trail, count};
use testkit::wait_until;
use tracing_audit::__program::ledger::checkpoint::{self, Verified};
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::Event;

const ORIGIN: &str = "example.com/trail";
const PIN: &str = "471147114711";
const OBJECT: &str = "pkcs11:token=audit;object=trail";

/// A trail, and a folder with tokens.
struct Setting {
    trail: Trail,
    scratch: Folder,
}

impl Setting {
    /// Starts with a token that has no key yet.
    fn start() -> Self {
        let setting = Self {
            trail: Trail::start(),
            scratch: Folder::new(),
        };
        fs::create_dir_all(&setting.scratch.0).unwrap();
        let config = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\n",
            setting.path("tokens").display()
        );
        fs::write(setting.path("softhsm2.conf"), config).unwrap();
        setting.write_pin("pin", PIN);
        setting.init_token("audit", PIN);
        setting
    }

    /// Starts with a key in the token.
    fn with_key() -> (Self, Vkey) {
        let setting = Self::start();
        let vkey = vkey_of(&setting.key("new", &setting.uri("pin")));
        (setting, vkey)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    fn write_pin(&self, name: &str, pin: &str) {
        fs::write(self.path(name), format!("{pin}\n")).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn init_token(&self, label: &str, pin: &str) {
        fs::create_dir_all(self.path("tokens")).unwrap();
        let output = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--so-pin", "12345678"])
            .args(["--label", label, "--pin", pin])
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Takes all tokens away, or brings them back.
    fn move_tokens(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn uri(&self, pin: &str) -> String {
        uri(OBJECT, Some(&self.path(pin)))
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
        command
            .env("AUDIT_DATABASE_URL", self.trail.postgres.url())
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        command
    }

    /// Makes or shows the key.
    fn key(&self, command: &str, uri: &str) -> Output {
        let arguments = ["key", command, "--name", ORIGIN, "--key-pkcs11", uri];
        self.program().args(arguments).output().unwrap()
    }

    /// Returns the command that seals with the key in the token.
    fn seal(&self, uri: &str) -> Command {
        let mut command = self.program();
        command
            .args(["seal", "--interval", "20ms", "--json"])
            .args(["--key-pkcs11", uri, "--key-name", ORIGIN, "--anchor"])
            .arg(self.path("anchor"));
        command
    }

    fn once(&self, uri: &str) -> Output {
        self.seal(uri).arg("--once").output().unwrap()
    }

    fn sealer(&self) -> Sealer {
        let log = self.path("log");
        let stderr = File::create(&log).unwrap();
        let child = self.seal(&self.uri("pin")).stderr(stderr).spawn().unwrap();
        Sealer { child, log }
    }

    fn record(&self) {
        for _ in 0..10 {
            self.trail.audit.record(Event::new("recorded")).unwrap();
        }
        self.trail.audit.flush_blocking(PATIENCE).unwrap();
    }

    fn published(&self, vkey: &Vkey) -> Option<Verified> {
        let note = fs::read(self.path("anchor/checkpoint")).ok()?;
        checkpoint::verify(&note, vkey, &[]).ok()
    }

    fn wait_until_published(&self, vkey: &Vkey) {
        let batches = count(&self.trail.postgres, "batches");
        wait_until("all batches are published", PATIENCE, || {
            self.published(vkey)
                .is_some_and(|found| found.checkpoint.head.size >= batches)
        });
    }

    /// Waits until what is committed by now is in the database's log.
    fn wait_until_in_ledger(&self) {
        let batches = count(&self.trail.postgres, "batches");
        wait_until("all batches are in the log", PATIENCE, || {
            count(&self.trail.postgres, "ledger") >= batches
        });
    }

    #[track_caller]
    fn assert_clean(&self, keys: &[&Vkey]) {
        let mut command = self.program();
        command.args(["verify", "--max-age", "1h", "--checkpoint"]);
        command.arg(self.path("anchor"));
        for key in keys {
            command.arg("--key").arg(key.to_string());
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("nothing was changed"), "{said}");
        assert!(said.contains(&keys[0].name_and_id()), "{said}");
    }
}

/// A sealer, which is killed on drop.
struct Sealer {
    child: Child,
    log: PathBuf,
}

impl Sealer {
    fn told(&self) -> Vec<Value> {
        let told = fs::read_to_string(&self.log).unwrap();
        let lines = told.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn has_told(&self, event: &str, text: &str) -> bool {
        let is = |line: &Value| {
            line["event"] == event && line["message"].as_str().unwrap().contains(text)
        };
        self.told().iter().any(is)
    }

    /// Fails if two roots were signed of one size, or if the PIN was told.
    #[track_caller]
    fn assert_one_root_for_each_size(&self) {
        let mut roots = BTreeMap::new();
        for line in self.told() {
            assert!(!line.to_string().contains(PIN), "{line}");
            if line["event"] == "signed" {
                let size = line["size"].as_u64().unwrap();
                let message = line["message"].as_str().unwrap().to_owned();
                assert_eq!(roots.entry(size).or_insert(message.clone()), &message);
            }
        }
        assert!(roots.len() > 1, "{roots:?}");
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the path of `SoftHSM`'s library.
fn module() -> &'static str {
    let paths = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/lib/pkcs11/libsofthsm2.so",
    ];
    let mut paths = paths.into_iter();
    paths.find(|path| Path::new(path).exists()).unwrap()
}

fn uri(object: &str, pin: Option<&Path>) -> String {
    let pin = pin.map(|path| format!("&pin-source=file:{}", path.display()));
    let (module, pin) = (module(), pin.unwrap_or_default());
    format!("{object}?module-path={module}{pin}")
}

#[track_caller]
fn vkey_of(output: &Output) -> Vkey {
    assert!(output.status.success(), "{output:?}");
    Vkey::parse(std::str::from_utf8(&output.stdout).unwrap().trim()).unwrap()
}

/// Fails unless the program ended with 2, said this, and did not tell the PIN.
#[track_caller]
fn assert_refused(output: &Output, said: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr.contains(said), "{stderr}");
    assert!(!format!("{output:?}").contains(PIN), "{output:?}");
}

#[test]
#[ignore = "needs SoftHSM"]
fn key_is_made_and_signs_in_the_token() {
    let (setting, vkey) = Setting::with_key();
    assert_eq!(vkey.name(), ORIGIN);
    // Without the PIN too: it is public.
    assert_eq!(vkey_of(&setting.key("show", &setting.uri("pin"))), vkey);
    assert_eq!(vkey_of(&setting.key("show", &uri(OBJECT, None))), vkey);
    assert_refused(&setting.key("new", &setting.uri("pin")), "already");

    setting.record();
    let sealed = setting.once(&setting.uri("pin"));
    assert!(sealed.status.success(), "{sealed:?}");
    setting.assert_clean(&[&vkey]);
    // With the PIN from the environment.
    setting.record();
    let mut seal = setting.seal(&uri(OBJECT, None));
    seal.args(["--once", "--pin-env", "TOKEN_PIN"]);
    let sealed = seal.env("TOKEN_PIN", PIN).output().unwrap();
    assert!(sealed.status.success(), "{sealed:?}");
    setting.wait_until_published(&vkey);

    let id = "SELECT id FROM audit.events LIMIT 1";
    let id = setting.trail.postgres.psql(id);
    let key = vkey.to_string();
    let mut prove = setting.program();
    let proof = prove.args(["prove", id.trim(), "--key", &key]);
    let proof = proof.output().unwrap();
    assert!(proof.status.success(), "{proof:?}");
    fs::write(setting.path("proof"), proof.stdout).unwrap();
    let mut check = setting.program();
    let check = check.arg("check-proof").arg(setting.path("proof"));
    assert!(check.args(["--key", &key]).status().unwrap().success());
}

#[test]
#[ignore = "needs SoftHSM"]
fn token_that_was_away_signs_again() {
    let (setting, vkey) = Setting::with_key();
    setting.record();
    let sealer = setting.sealer();
    setting.wait_until_published(&vkey);
    for round in 1..=3 {
        let failures = |sealer: &Sealer| {
            let told = sealer.told();
            told.iter().filter(|line| line["event"] == "failed").count()
        };
        setting.move_tokens("tokens", "elsewhere");
        wait_until("it is told that the token is away", PATIENCE, || {
            failures(&sealer) >= round
        });
        // What is recorded meanwhile is sealed in the database, and signed later.
        setting.record();
        setting.wait_until_in_ledger();
        let before = setting.published(&vkey).unwrap().checkpoint.head.size;
        assert!(before < count(&setting.trail.postgres, "batches"));
        setting.move_tokens("elsewhere", "tokens");
        setting.wait_until_published(&vkey);
    }
    assert!(sealer.has_told("failed", OBJECT), "{:?}", sealer.told());
    assert!(!sealer.has_told("anchor_failed", ""));
    sealer.assert_one_root_for_each_size();
    setting.assert_clean(&[&vkey]);
}

#[test]
#[ignore = "needs SoftHSM"]
fn pin_that_is_refused_is_not_tried_again() {
    let (setting, vkey) = Setting::with_key();
    setting.write_pin("wrong", "999999");
    let refused = setting.once(&setting.uri("wrong"));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("refused the PIN"), "{said}");
    assert!(!said.contains("999999"), "{said}");

    setting.record();
    let sealer = setting.sealer();
    setting.wait_until_published(&vkey);
    // Another token of the same name is there, with another PIN.
    setting.move_tokens("tokens", "elsewhere");
    setting.init_token("audit", "999999");
    wait_until("the PIN is refused", PATIENCE, || {
        sealer.has_told("failed", "refused the PIN")
    });
    // And now the one whose PIN is right. It is tried by nobody but a new process.
    setting.move_tokens("tokens", "other");
    setting.move_tokens("elsewhere", "tokens");
    let signed = setting.published(&vkey).unwrap();
    for _ in 0..3 {
        // Each time it begins anew, and would sign.
        setting.record();
        setting.wait_until_in_ledger();
    }
    assert_eq!(setting.published(&vkey).unwrap(), signed);
    drop(sealer);
    let _sealer = setting.sealer();
    setting.wait_until_published(&vkey);
    setting.assert_clean(&[&vkey]);
}

#[test]
#[ignore = "needs SoftHSM"]
fn key_of_a_file_is_replaced_by_one_in_a_token() {
    let (setting, new) = Setting::with_key();
    let mut made = setting.program();
    made.args(["key", "new", "--name", ORIGIN]);
    let old = vkey_of(&made.arg(setting.path("file")).output().unwrap());
    let mut shown = setting.program();
    shown.args(["key", "show"]).arg(setting.path("file"));
    assert_eq!(vkey_of(&shown.output().unwrap()), old);
    setting.record();
    let mut seal = setting.program();
    seal.args(["seal", "--once", "--key"])
        .arg(setting.path("file"));
    seal.arg("--anchor").arg(setting.path("anchor"));
    let sealed = seal.output().unwrap();
    assert!(sealed.status.success(), "{sealed:?}");
    setting.assert_clean(&[&old]);

    setting.record();
    let mut seal = setting.seal(&setting.uri("pin"));
    seal.args(["--once", "--old-key", &old.to_string()]);
    let sealed = seal.output().unwrap();
    assert!(sealed.status.success(), "{sealed:?}");
    setting.wait_until_published(&new);
    setting.assert_clean(&[&new, &old]);
    setting.assert_clean(&[&new]);
}

#[test]
#[ignore = "needs SoftHSM"]
fn what_is_not_there_is_named() {
    let (setting, _) = Setting::with_key();
    let pin = setting.path("pin");
    let once = |object: &str| setting.once(&uri(object, Some(&pin)));
    let refused = once("pkcs11:token=other;object=trail");
    assert_refused(&refused, "no token pkcs11:token=other;object=trail");
    let refused = once("pkcs11:token=audit;object=other");
    assert_refused(&refused, "no public Ed25519 key");
    assert_refused(&setting.once(&uri(OBJECT, None)), "asks for a PIN");
    let refused = setting.once(&format!("{OBJECT}?module-path=/none.so"));
    assert_refused(&refused, "/none.so cannot be loaded");
    let mut seal = setting.seal(&uri(OBJECT, None));
    let refused = seal.args(["--pin-env", "NOT_SET"]).output().unwrap();
    assert_refused(&refused, "NOT_SET");
    // A PIN on the command line is not repeated.
    let seen = format!("{}&pin-value={PIN}", uri(OBJECT, None));
    assert_refused(&setting.once(&seen), "pin-source");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    assert_refused(&once(OBJECT), "chmod 600");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    setting.init_token("audit", PIN);
    assert_refused(&once(OBJECT), "more than one token");
    let mut seal = setting.program();
    seal.args(["seal", "--once", "--key-pkcs11", &setting.uri("pin")]);
    assert_refused(&seal.output().unwrap(), "--key-name");
}
