//! `tracing-audit seal`, and programs that seal their own trail: one log, whatever happens to those who make it.
#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use serde_json::Value;
use testkit::trail::{Folder, PATIENCE, count, pipeline};
use testkit::{Chance, Postgres, Stop, let_run, wait_until};
use tracing_audit::__program::ledger::checkpoint::{self, Verified};
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::ledger::tiles::{Bundle, Tile, decode_bundle, decode_tile};
use tracing_audit::__program::ledger::tree;
use tracing_audit::{Event, Seal};

const ORIGIN: &str = "example.com/trail";

/// A server with the tables of the trail, a key, and a place for folders.
struct Setting {
    // Dropped first: what writes to the folders ends before they are removed.
    postgres: Postgres,
    scratch: Folder,
    vkey: Vkey,
}

impl Setting {
    fn start() -> Self {
        let postgres = Postgres::start();
        let scratch = Folder::new();
        fs::create_dir_all(&scratch.0).unwrap();
        let output = program(&postgres)
            .args(["key", "new", "--name", ORIGIN])
            .arg(scratch.0.join("key"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let vkey = Vkey::parse(std::str::from_utf8(&output.stdout).unwrap().trim()).unwrap();
        postgres.psql("CREATE ROLE sealer LOGIN");
        let migrated = program(&postgres)
            .args(["migrate", "--sealer-login", "sealer"])
            .status();
        assert!(migrated.unwrap().success());
        Self {
            postgres,
            scratch,
            vkey,
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    fn key_text(&self) -> String {
        fs::read_to_string(self.folder("key")).unwrap()
    }

    /// Returns the command that seals, as a login that may do nothing else.
    fn seal(&self, anchors: &[&Path]) -> Command {
        let mut command = program(&self.postgres);
        command
            .args(["seal", "--interval", "20ms", "--json", "--key"])
            .arg(self.folder("key"))
            .env("AUDIT_DATABASE_URL", self.postgres.url_as("sealer"));
        for anchor in anchors {
            command.arg("--anchor").arg(anchor);
        }
        command
    }

    /// Starts a sealer, whose messages are added to a file.
    fn sealer(&self, name: &str, anchors: &[&Path]) -> Sealer {
        let log = self.folder(name);
        let stderr = File::options().create(true).append(true).open(&log);
        let child = self.seal(anchors).stderr(stderr.unwrap()).spawn().unwrap();
        Sealer { child, log }
    }

    fn once(&self, anchors: &[&Path]) -> Output {
        self.seal(anchors).arg("--once").output().unwrap()
    }

    /// Adds batches of a new writer.
    fn add_batches(&self, number: u32) {
        add_batches(&self.postgres, number).unwrap();
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

    /// Waits until a folder has all batches, and fails unless all that is there belongs to one log.
    #[track_caller]
    fn wait_until_published(&self, folder: &Path) {
        let batches = count(&self.postgres, "batches");
        let what = format!("{} has {batches} batches", folder.display());
        wait_until(&what, PATIENCE, || self.size(folder) >= batches);
        self.assert_consistent(folder);
    }

    /// Fails unless the tiles and entries are those of the checkpoint, and the ledger's.
    #[track_caller]
    fn assert_consistent(&self, folder: &Path) {
        let head = self.checkpoint(folder).unwrap().checkpoint.head;
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
        assert_eq!(ledger.trim(), expected, "each batch is sealed once");
    }
}

/// A sealer, which is killed on drop.
struct Sealer {
    child: Child,
    log: PathBuf,
}

impl Sealer {
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns what it told, with what those before it told to the same file.
    fn told(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        // A line may be cut off where one was killed.
        let lines = whole.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn has_told(&self, event: &str, text: &str) -> bool {
        self.told()
            .iter()
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

fn add_batches(postgres: &Postgres, number: u32) -> Result<String, String> {
    postgres.try_psql(&format!(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, root, fingerprints)
         SELECT w.id, n, n, '{{\"events\": 1}}', 0, w.id, w.id, 'test', sha256(w.id::text::bytea), '\\x0000000000000000'
         FROM (SELECT gen_random_uuid() AS id OFFSET 0) w, generate_series(1, {number}) n"
    ))
}

/// Returns the content of each file below a folder, but for those that are replaced.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if name != "checkpoint" && !name.to_str().unwrap().starts_with('.') {
            // A partial tile may go meanwhile.
            found.extend(fs::read(&path).ok().map(|content| (path, content)));
        }
    }
    found
}

#[test]
fn rows_of_a_running_program_are_published() {
    let setting = Setting::start();
    let folder = setting.folder("anchor");
    let _sealer = setting.sealer("log", &[&folder]);
    let spool = Folder::new();
    let audit = pipeline(&setting.postgres, &spool, |builder| builder);
    for _ in 0..3 {
        for _ in 0..100 {
            audit.record(Event::new("recorded")).unwrap();
        }
        audit.flush_blocking(PATIENCE).unwrap();
        setting.wait_until_published(&folder);
    }
    assert!(setting.size(&folder) >= 3);
    let kept = setting.postgres.psql("SELECT origin, size = (SELECT count(*) FROM audit.ledger), note LIKE origin || chr(10) || size || chr(10) || '%' FROM audit.checkpoint");
    assert_eq!(kept.trim(), format!("{ORIGIN}|t|t"));
}

#[test]
fn program_seals_its_own_trail() {
    let setting = Setting::start();
    let folder = setting.folder("anchor");
    let spool = Folder::new();
    let seal = Seal::new(setting.key_text()).anchor_folder(&folder);
    let audit = pipeline(&setting.postgres, &spool, |builder| builder.seal(seal));
    audit.record(Event::new("recorded")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    setting.wait_until_published(&folder);
    audit.shutdown_blocking(PATIENCE);
    let size = setting.size(&folder);
    setting.add_batches(3);
    let output = setting.once(&[&folder]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(setting.size(&folder), size + 3);
    setting.assert_consistent(&folder);
}

#[test]
fn idle_log_is_signed_again() {
    let setting = Setting::start();
    let folder = setting.folder("anchor");
    let _sealer = setting.sealer("log", &[&folder]);
    let signed_at = || {
        setting
            .checkpoint(&folder)
            .map(|found| found.signed_at.unwrap())
    };
    wait_until("the empty log is signed", PATIENCE, || {
        signed_at().is_some()
    });
    let first = signed_at();
    wait_until("it is signed again", PATIENCE, || signed_at() > first);
    assert_eq!(setting.size(&folder), 0);
}

#[test]
fn large_log_is_published_at_once() {
    let setting = Setting::start();
    setting.add_batches(66_000);
    let folder = setting.folder("anchor");
    let output = setting.once(&[&folder]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(setting.size(&folder), 66_000);
    setting.assert_consistent(&folder);
}

#[test]
fn sealers_that_are_killed_at_random_make_one_log() {
    let mut setting = Setting::start();
    let mut chance = Chance::new();
    let folder = setting.folder("anchor");
    let mut sealers = ["one", "other"].map(|name| setting.sealer(name, &[&folder]));
    for round in 0..40 {
        // The server may be stopping.
        let number = u32::try_from(chance.below(60)).unwrap() + 1;
        setting.add_batches(number);
        let_run(chance.below(120));
        let at = usize::try_from(chance.below(2)).unwrap();
        sealers[at].kill();
        if round % 13 == 12 {
            setting.postgres.stop(Stop::Immediate);
            setting.postgres.start_again();
        }
        sealers[at] = setting.sealer(["one", "other"][at], &[&folder]);
    }
    setting.wait_until_published(&folder);
    for sealer in sealers {
        for told in sealer.told() {
            let event = told["event"].as_str().unwrap();
            assert!(event != "anchor_failed" || is_lost_server(&told), "{told}");
            assert!(event != "failed" || is_lost_server(&told), "{told}");
        }
    }
}

/// Whether this says that the server was restarted.
fn is_lost_server(told: &Value) -> bool {
    let message = told["message"].as_str().unwrap();
    [
        "cannot reach Postgres",
        "error communicating",
        "terminating connection",
        "unexpected end of file",
        "expected to read",
        "Connection reset",
        "the database system is",
    ]
    .iter()
    .any(|text| message.contains(text))
}

#[test]
fn sealer_that_is_killed_at_any_step_goes_on_and_alters_no_file() {
    let setting = Setting::start();
    let mut chance = Chance::new();
    let folder = setting.folder("anchor");
    let mut seen: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut last_size = 0;
    for _ in 0..60 {
        setting.add_batches(u32::try_from(chance.below(300)).unwrap() + 1);
        let mut sealer = setting.sealer("log", &[&folder]);
        let_run(chance.below(150));
        sealer.kill();
        assert!(!sealer.has_told("anchor_failed", ""), "{:?}", sealer.told());
        for (path, content) in contents(&folder) {
            let before = seen.entry(path.clone()).or_insert_with(|| content.clone());
            assert!(*before == content, "{} was altered", path.display());
        }
        let size = setting.size(&folder);
        assert!(size >= last_size, "from {last_size} to {size}");
        last_size = size;
        if size > 0 {
            setting.assert_consistent(&folder);
        }
    }
    let _sealer = setting.sealer("log", &[&folder]);
    setting.wait_until_published(&folder);
}

#[test]
fn anchor_that_was_away_is_caught_up_and_delays_no_other() {
    let setting = Setting::start();
    let (near, far) = (setting.folder("near"), setting.folder("mounted/far"));
    let sealer = setting.sealer("log", &[&near, &far]);
    wait_until("the absent anchor is named", PATIENCE, || {
        sealer.has_told("anchor_failed", "mounted/far")
    });
    for _ in 0..5 {
        setting.add_batches(100);
        setting.wait_until_published(&near);
    }
    fs::create_dir(setting.folder("mounted")).unwrap();
    setting.wait_until_published(&far);
    wait_until("it is told that it is back", PATIENCE, || {
        sealer.has_told("published", "again")
    });
    // And away once more.
    fs::rename(setting.folder("mounted"), setting.folder("elsewhere")).unwrap();
    setting.add_batches(100);
    setting.wait_until_published(&near);
    fs::rename(setting.folder("elsewhere"), setting.folder("mounted")).unwrap();
    setting.wait_until_published(&far);
}

#[test]
fn file_with_other_content_is_named_and_left() {
    let setting = Setting::start();
    let folder = setting.folder("anchor");
    fs::create_dir_all(folder.join("tile/0/000.p")).unwrap();
    fs::write(folder.join("tile/0/000.p/5"), "mine").unwrap();
    setting.add_batches(5);
    let output = setting.once(&[&folder]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("tile/0/000.p/5 is there already"), "{told}");
    assert_eq!(fs::read(folder.join("tile/0/000.p/5")).unwrap(), b"mine");
    assert!(!folder.join("checkpoint").exists());
}

#[test]
fn checkpoint_of_another_key_is_named_and_left() {
    let setting = Setting::start();
    let folder = setting.folder("anchor");
    assert!(setting.once(&[&folder]).status.success());
    let before = fs::read(folder.join("checkpoint")).unwrap();
    fs::rename(setting.folder("key"), setting.folder("old key")).unwrap();
    let made = program(&setting.postgres)
        .args(["key", "new", "--name", ORIGIN])
        .arg(setting.folder("key"))
        .status();
    assert!(made.unwrap().success());
    setting.add_batches(1);
    let output = setting.once(&[&folder]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(fs::read(folder.join("checkpoint")).unwrap(), before);
}

#[test]
fn database_that_was_restored_to_an_earlier_state_is_refused() {
    let mut setting = Setting::start();
    let folder = setting.folder("anchor");
    setting.add_batches(10);
    assert!(setting.once(&[&folder]).status.success());
    let (data, backup) = (
        setting.postgres.data_dir(),
        setting.postgres.data_dir().with_extension("old"),
    );
    let copy = |from: &Path, to: &Path| {
        assert!(
            Command::new("cp")
                .arg("-a")
                .args([from, to])
                .status()
                .unwrap()
                .success()
        );
    };
    setting.postgres.stop(Stop::Fast);
    copy(&data, &backup);
    setting.postgres.start_again();
    let mut sealer = setting.sealer("log", &[&folder]);
    setting.add_batches(10);
    setting.wait_until_published(&folder);
    let before = fs::read(folder.join("checkpoint")).unwrap();

    // While it runs: it knows what it has signed.
    setting.postgres.stop(Stop::Fast);
    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    setting.postgres.start_again();
    wait_until("it is refused", PATIENCE, || {
        sealer.has_told("failed", "restored to an earlier state")
    });
    let last = || setting.checkpoint(&folder).unwrap().checkpoint.head;
    let head = last();
    sealer.kill();
    // And by one that is new, by what the anchor has.
    let refused = setting.once(&[&folder]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        told.contains("has 10 entries, but") && told.contains("of 20"),
        "{told}"
    );
    // As well when other batches have come since.
    setting.add_batches(20);
    setting.postgres.psql("SELECT audit.seal()");
    let refused = setting.once(&[&folder]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("first 20 entries"), "{told}");
    assert_eq!(last(), head);
    let size = |note: &[u8]| {
        String::from_utf8(note.to_vec())
            .unwrap()
            .lines()
            .nth(1)
            .map(String::from)
    };
    assert_eq!(size(&before).unwrap(), "20");
}

#[test]
fn key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let setting = Setting::start();
    fs::set_permissions(setting.folder("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let output = setting.once(&[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("chmod 600"), "{told}");
    let output = program(&setting.postgres)
        .args(["seal", "--once", "--stdout", "--key-env", "TRAIL_KEY"])
        .env("TRAIL_KEY", setting.key_text())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let note = String::from_utf8(output.stdout).unwrap();
    let note = note.strip_suffix('\n').unwrap();
    checkpoint::verify(note.as_bytes(), &setting.vkey, &[]).unwrap();
}
