//! The ledger under everything at once: real processes that are killed, a real Postgres that is restarted, restored and
//! cut off, disks that fail. Never two roots at one size, never a false alarm, and nothing that is missed.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod dumps;
mod faults;
mod load;
mod mutations;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use testkit::trail::{Folder, PATIENCE, count};
use testkit::{Postgres, wait_until};
use tracing_audit::__program::ledger::checkpoint::{self, Verified};
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::ledger::tiles::{Bundle, Tile, decode_bundle, decode_tile};
use tracing_audit::__program::ledger::tree::{self, Hash};

const ORIGIN: &str = "example.com/trail";

/// A server with the tables of the trail, and a log.
struct Setting {
    // Dropped first: what writes to the folders ends before they are removed.
    postgres: Postgres,
    log: Log,
}

/// The key of a log, and a place for folders.
struct Log {
    scratch: Folder,
    vkey: Vkey,
}

impl Deref for Setting {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

impl Setting {
    fn start() -> Self {
        let postgres = Postgres::start();
        let scratch = Folder::new();
        fs::create_dir_all(&scratch.0).unwrap();
        let output = program(&postgres.url())
            .args(["key", "new", "--name", ORIGIN])
            .arg(scratch.0.join("key"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let vkey = Vkey::parse(std::str::from_utf8(&output.stdout).unwrap().trim()).unwrap();
        postgres.psql("CREATE ROLE sealer LOGIN");
        let migrated = program(&postgres.url())
            .args(["migrate", "--sealer-login", "sealer"])
            .status();
        assert!(migrated.unwrap().success());
        let log = Log { scratch, vkey };
        Self { postgres, log }
    }

    #[track_caller]
    fn once(&self, anchors: &[&Path]) {
        let output = self
            .seal(&self.postgres.url(), anchors)
            .arg("--once")
            .output();
        assert_success(&output.unwrap());
    }

    fn batches(&self) -> u64 {
        count(&self.postgres, "batches")
    }

    /// Waits until a folder has all batches, and fails unless all that is there belongs to one log.
    #[track_caller]
    fn wait_until_published(&self, folder: &Path) {
        let batches = self.batches();
        let what = format!("{} has {batches} batches", folder.display());
        wait_until(&what, PATIENCE, || self.size(folder) >= batches);
        self.assert_consistent(folder);
    }

    /// Fails unless the tiles and entries are those of the checkpoint, and the ledger has each batch once.
    #[track_caller]
    fn assert_consistent(&self, folder: &Path) {
        let Some(found) = self.checkpoint(folder) else {
            return;
        };
        let head = found.checkpoint.head;
        let mut hashes = Vec::new();
        for index in 0..head.size.div_ceil(256) {
            let bundle = Bundle::of_size(index, head.size).unwrap();
            let bytes = fs::read(folder.join(bundle.to_string())).unwrap();
            let entries = decode_bundle(&bytes, bundle.width).unwrap();
            hashes.extend(entries.into_iter().map(tree::leaf_hash));
        }
        assert_eq!(tree::root(&hashes), head.root, "the root of the entries");
        for level in 0.. {
            if hashes.is_empty() {
                break;
            }
            for (index, expected) in (0..).zip(hashes.chunks(256)) {
                let tile = Tile::of_size(level, index, head.size).unwrap();
                let bytes = fs::read(folder.join(tile.to_string())).unwrap();
                assert_eq!(decode_tile(&bytes, tile.width).unwrap(), expected, "{tile}");
            }
            hashes = hashes.chunks_exact(256).map(tree::root).collect();
        }
        let ledger = self.postgres.psql(&format!(
            "SELECT count(*), count(DISTINCT (writer_id, first_seq)), min(index), max(index) + 1 FROM audit.ledger WHERE index < {}",
            head.size
        ));
        let expected = format!("{0}|{0}|0|{0}", head.size);
        assert!(head.size == 0 || ledger.trim() == expected, "{ledger}");
    }

    /// Adds batches of a new writer, whose rows are not there.
    fn add_batches(&self, number: u32) {
        self.postgres.psql(&format!(
            "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, root, fingerprints)
             SELECT w.id, n, n, '{{\"events\": 1}}', 0, w.id, w.id, 'test', sha256(w.id::text::bytea), '\\x0000000000000000'
             FROM (SELECT gen_random_uuid() AS id OFFSET 0) w, generate_series(1, {number}) n"
        ));
    }
}

impl Log {
    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    fn words(&self, anchors: &[&Path]) -> Vec<String> {
        let mut words = vec![String::from("seal"), String::from("--json")];
        let mut path = |option: &str, path: &Path| {
            words.extend([option.to_owned(), path.display().to_string()]);
        };
        path("--key", &self.folder("key"));
        for anchor in anchors {
            path("--anchor", anchor);
        }
        words
    }

    /// Returns the command that seals in a database, as a login that may do nothing else.
    fn seal(&self, url: &str, anchors: &[&Path]) -> Command {
        let mut command = program(&url.replace("//postgres@", "//sealer@"));
        command.args(self.words(anchors));
        command
    }

    /// Verifies a database with the checkpoint of a folder.
    fn verify(&self, url: &str, folder: &Path, more: &[&str]) -> Verification {
        let output = program(url)
            .args(["verify", "--json", "--key", &self.vkey.to_string()])
            .arg("--checkpoint")
            .arg(folder)
            .args(more)
            .output();
        Verification(output.unwrap())
    }

    /// Returns what a folder's checkpoint states; `None` if there is none.
    fn checkpoint(&self, folder: &Path) -> Option<Verified> {
        let note = fs::read(folder.join("checkpoint")).ok()?;
        Some(checkpoint::verify(&note, &self.vkey, &[]).unwrap())
    }

    fn size(&self, folder: &Path) -> u64 {
        self.checkpoint(folder)
            .map_or(0, |found| found.checkpoint.head.size)
    }
}

/// How a verification ended.
struct Verification(Output);

impl Verification {
    fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    #[track_caller]
    fn all(&self) -> Value {
        serde_json::from_slice(&self.0.stdout).unwrap_or_else(|_| panic!("{}", self.stderr()))
    }

    #[track_caller]
    fn kinds(&self) -> BTreeSet<String> {
        let all = self.all();
        let findings = all["findings"].as_array().unwrap().iter();
        findings
            .map(|finding| finding["kind"].as_str().unwrap().to_owned())
            .collect()
    }

    #[track_caller]
    fn assert_clean(&self) -> Value {
        let all = self.all();
        assert_eq!(all["findings"], Value::Array(Vec::new()));
        assert_eq!(self.code(), Some(0));
        all
    }
}

/// Every root that was signed, by its size.
#[derive(Default)]
struct Signed {
    roots: BTreeMap<u64, Hash>,
    notes: u64,
}

impl Signed {
    /// Adds a signed checkpoint. Fails if another root was signed for its size.
    #[track_caller]
    fn add(&mut self, note: &[u8], vkey: &Vkey) {
        let head = checkpoint::verify(note, vkey, &[]).unwrap().checkpoint.head;
        let known = *self.roots.entry(head.size).or_insert(head.root);
        assert_eq!(known, head.root, "two roots at size {}", head.size);
        self.notes += 1;
    }

    /// Adds all whole checkpoints of what was printed.
    #[track_caller]
    fn add_printed(&mut self, text: &str, vkey: &Vkey) {
        let lines: Vec<&str> = text.lines().collect();
        let begins = (0..lines.len()).filter(|at| lines[*at] == ORIGIN);
        for at in begins {
            // What printed it may have been killed in the middle.
            let Some(note) = lines.get(at..at + 7).filter(|note| note[6].is_empty()) else {
                continue;
            };
            let note = format!("{}\n", note[..6].join("\n"));
            self.add(note.as_bytes(), vkey);
        }
    }

    /// Adds the checkpoints that a folder and the database have.
    #[track_caller]
    fn look(&mut self, setting: &Setting, folder: &Path) {
        let of_folder = fs::read(folder.join("checkpoint")).ok();
        let of_table = setting.postgres.psql("SELECT note FROM audit.checkpoint");
        let of_table = (!of_table.is_empty()).then(|| of_table.into_bytes());
        for note in [of_folder, of_table].into_iter().flatten() {
            self.add(&note, &setting.vkey);
        }
    }
}

fn program(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command.env("AUDIT_DATABASE_URL", url);
    command
}

#[track_caller]
fn assert_success(output: &Output) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

/// Whether a message says that the server was stopped.
fn is_lost_server(message: &str) -> bool {
    [
        "cannot reach Postgres",
        "cannot connect",
        "error communicating",
        "terminating connection",
        "unexpected end of file",
        "expected to read",
        "Connection reset",
        "Connection refused",
        "the database system is",
    ]
    .iter()
    .any(|text| message.contains(text))
}
