//! What the manifest says of the ledger, and proofs.

use std::fs;
use std::process::Command;

use super::{Setting, stderr};

/// A trail, and the key of its log.
fn with_key() -> (Setting, String) {
    let setting = Setting::empty();
    let key = setting.path("key");
    let made = Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .args(["key", "new", "--name", "example.com/trail"])
        .arg(&key)
        .output()
        .unwrap();
    let vkey = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    (setting, vkey)
}

#[test]
fn manifest_says_what_is_sealed_and_proofs_prove_it() {
    let (setting, vkey) = with_key();
    // Events that the database records itself are whole batches.
    for name in ["one", "two"] {
        setting.export("jsonl", name, &["--text", "a case"]);
    }
    let key = setting.path("key");
    let seal = ["seal", "--once", "--key", key.to_str().unwrap()];
    setting.succeed(&seal);
    let reads = [
        "--where",
        "reads=yes&family=audit.read",
        "--until",
        "2100-01-01",
    ];
    setting.export("jsonl", "open.jsonl", &reads);
    let manifest = setting.manifest("open.jsonl");
    let ledger = &manifest["ledger"];
    // The beginning of this export is recorded, and not sealed yet.
    assert_eq!(ledger["all_sealed"], false, "{manifest}");
    assert_eq!(ledger["records_not_sealed"], 1);
    assert_eq!(ledger["first_not_sealed"], manifest["events"]["begun"]);
    let note = setting.postgres.psql("SELECT note FROM audit.checkpoint");
    assert_eq!(
        ledger["checkpoint"].as_str().unwrap().trim_end(),
        note.trim_end()
    );

    setting.succeed(&seal);
    let now = setting.postgres.psql("SELECT now()");
    let words = [
        "--where",
        "reads=yes&family=audit.read",
        "--until",
        &now,
        "--proofs",
        "--key",
        &vkey,
    ];
    let path = setting.path("proven.jsonl");
    let all = [
        "export",
        "--format",
        "jsonl",
        "-o",
        path.to_str().unwrap(),
        "--purpose",
        "proof",
    ];
    let exported = setting
        .command(&[&all[..], &words].concat())
        .output()
        .unwrap();
    assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
    let manifest = setting.manifest("proven.jsonl");
    assert_eq!(manifest["ledger"]["all_sealed"], true, "{manifest}");
    let count = manifest["records"].as_u64().unwrap();
    assert_eq!(count, 6);
    assert_eq!(manifest["proofs"]["proofs"], count);
    let proofs = setting.path("proven.jsonl.proofs");
    let checked = setting.succeed(&["check-proof", proofs.to_str().unwrap(), "--key", &vkey]);
    let told = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(told.matches("is as it was recorded").count() as u64, count);

    // One that was changed proves nothing.
    let text = fs::read_to_string(&proofs).unwrap();
    fs::write(&proofs, text.replacen("\nindex ", "\nindex 1", 1)).unwrap();
    let checked = setting
        .command(&["check-proof", proofs.to_str().unwrap(), "--key", &vkey])
        .output();
    assert_eq!(checked.unwrap().status.code(), Some(1));
}

#[test]
fn proofs_that_cannot_be_made_leave_no_file() {
    let (setting, vkey) = with_key();
    let path = setting.path("a.jsonl");
    let words = [
        "export",
        "--format",
        "jsonl",
        "-o",
        path.to_str().unwrap(),
        "--purpose",
        "proof",
        "--proofs",
        "--key",
        &vkey,
    ];
    let exported = setting.command(&words).output().unwrap();
    assert_eq!(exported.status.code(), Some(2));
    assert!(
        stderr(&exported).contains("the trail has no checkpoint"),
        "{}",
        stderr(&exported)
    );
    assert_eq!(setting.names(), ["key"]);

    // One of them is not sealed yet: that of the export itself.
    let key = setting.path("key");
    setting.succeed(&["seal", "--once", "--key", key.to_str().unwrap()]);
    let words = [&words[..], &["--where", "reads=yes"]].concat();
    let exported = setting.command(&words).output().unwrap();
    assert_eq!(exported.status.code(), Some(2));
    let told = stderr(&exported);
    assert!(
        told.contains("is not covered by the checkpoint yet"),
        "{told}"
    );
    assert_eq!(setting.names(), ["key"]);
}
