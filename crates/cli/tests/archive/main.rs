//! `tracing-audit archive`: the built program against a real Postgres and real folders, with what attackers and accidents
//! leave in rows, and do to files.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod changes;
mod encrypted;
mod finding;
mod kills;
mod later;
mod moves;
mod removal;
mod restoring;
mod searching;
mod stories;
mod tenants;
mod writing;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use testkit::Postgres;
use testkit::trail::{Folder, TRIGGERS_OFF};

const ORIGIN: &str = "example.com/trail";

/// A day that is over for as long as this is tested, and the one after it.
const DAY: &str = "2026-03-14";
const NEXT_DAY: &str = "2026-03-15";

/// Adds batches of past days, as the database makes them: of a writer that no program is.
const FILL: &str = include_str!("fill.sql");

/// A server with the tables of the trail, its log's key, and a place for folders.
struct Setting {
    // Dropped first: what writes to the folders ends before they are removed.
    postgres: Postgres,
    scratch: Folder,
    vkey: String,
}

impl Setting {
    fn start() -> Self {
        Self::on(Postgres::start())
    }

    /// Makes the trail on a server.
    fn on(postgres: Postgres) -> Self {
        let scratch = Folder::new();
        fs::create_dir_all(&scratch.0).unwrap();
        let key = program(&postgres.url())
            .args(["key", "new", "--name", ORIGIN])
            .arg(scratch.0.join("key"))
            .output()
            .unwrap();
        assert!(key.status.success(), "{key:?}");
        postgres.psql("CREATE ROLE sealer LOGIN; CREATE ROLE auditor LOGIN");
        let migrated = program(&postgres.url())
            .args([
                "migrate",
                "--sealer-login",
                "sealer",
                "--auditor-login",
                "auditor",
            ])
            .status();
        assert!(migrated.unwrap().success());
        postgres.psql(FILL);
        Self {
            postgres,
            scratch,
            vkey: String::from_utf8(key.stdout).unwrap().trim().to_owned(),
        }
    }

    /// Adds a batch of so many rows of all kinds, with hostile values, which begin at a time.
    fn fill(&self, at: &str, rows: u32) {
        self.postgres.psql(&format!("CALL fill('{at}+00', {rows})"));
    }

    fn seal(&self) {
        let sealed = program(&self.login("sealer"))
            .args(["seal", "--once", "--key"])
            .arg(self.scratch.0.join("key"))
            .output()
            .unwrap();
        assert!(sealed.status.success(), "{sealed:?}");
    }

    fn login(&self, login: &str) -> String {
        self.postgres
            .url()
            .replace("//postgres@", &format!("//{login}@"))
    }

    fn folder(&self) -> PathBuf {
        self.scratch.0.join("archive")
    }

    /// Returns the command that archives, as an auditor.
    fn command(&self, more: &[&str]) -> Command {
        let mut command = program(&self.login("auditor"));
        command
            .args(["archive", "--copy", "--json", "--key"])
            .arg(self.scratch.0.join("key"))
            .arg("--to")
            .arg(self.folder())
            .args(more);
        command
    }

    /// Archives, and returns what was told of the sets and the days.
    #[track_caller]
    fn archive(&self) -> Vec<Value> {
        let output = self.command(&[]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        told(&output)
    }

    /// Has the trail know of no archive, as if what was written since had been interrupted.
    fn forget_archives(&self) {
        self.postgres.psql(TRIGGERS_OFF);
        self.postgres.psql("DELETE FROM audit.archives");
    }

    fn verify(&self, more: &[&str]) -> Verification {
        let output = Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
            .args(["archive", "verify", "--json", "--key", &self.vkey])
            .args(more)
            .arg(self.folder())
            .output();
        Verification(output.unwrap())
    }

    /// Returns how many rows of a table are of a day.
    fn count(&self, table: &str, day: &str) -> u64 {
        let count = self.postgres.psql(&format!(
            "SELECT count(*) FROM audit.{table} WHERE audit.day_of(id) = '{day}'::date - '1970-01-01'"
        ));
        count.trim().parse().unwrap()
    }
}

/// How a verification ended.
struct Verification(Output);

impl Verification {
    #[track_caller]
    fn all(&self) -> Value {
        serde_json::from_slice(&self.0.stdout).unwrap_or_else(|_| panic!("{}", stderr(&self.0)))
    }

    /// Fails unless nothing was found; returns how many rows were read.
    #[track_caller]
    fn assert_clean(&self) -> u64 {
        let all = self.all();
        assert_eq!(all["findings"], Value::Array(Vec::new()));
        assert_eq!(self.0.status.code(), Some(0));
        all["rows"].as_u64().unwrap()
    }

    /// Returns the kinds and objects of what was found.
    #[track_caller]
    fn found(&self) -> Vec<(String, String)> {
        assert_eq!(self.0.status.code(), Some(1), "{}", stderr(&self.0));
        let all = self.all();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let findings = all["findings"].as_array().unwrap().iter();
        findings
            .map(|finding| (text(&finding["kind"]), text(&finding["object"])))
            .collect()
    }
}

fn program(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command.env("AUDIT_DATABASE_URL", url);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn told(output: &Output) -> Vec<Value> {
    let told = serde_json::from_slice(&output.stdout);
    told.unwrap_or_else(|_| panic!("{}", stderr(output)))
}

/// Returns the folder of a day of a table.
fn day_folder(table: &str, day: &str) -> String {
    format!("kind={table}/month={}/day={day}", &day[..7])
}

/// Returns the names of all files below a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder_below) = folders.pop() {
        for entry in fs::read_dir(folder_below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                found.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
