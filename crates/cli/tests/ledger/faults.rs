//! Every step of sealing fails: before it is done, and when it is done and nobody hears of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use serde_json::Value;
use testkit::child::wrapped;
use testkit::proxy::{Moment, Proxy};
use testkit::trail::PATIENCE;
use testkit::wait_until;

use super::{Setting, Signed, assert_success};

/// A sealer that goes on, and is killed on drop.
struct Sealer {
    child: Child,
    log: PathBuf,
}

impl Sealer {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let stderr = File::create(&log).unwrap();
        let child = command
            .args(["--interval", "20ms"])
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { child, log }
    }

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

/// Returns the URL of the trail behind a proxy that reads the protocol.
fn url(proxy: &Proxy) -> String {
    format!("{}?sslmode=disable", proxy.url())
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn exchange_with_postgres_that_fails_at_any_step_leaves_one_log_that_goes_on() {
    let setting = Setting::start();
    let folder = setting.folder("anchor");
    let proxy = Proxy::start(setting.postgres.port());
    let mut signed = Signed::default();
    let mut sizes = Vec::new();
    for moment in [Moment::Asked, Moment::Answered] {
        let mut failed = 0;
        for round in 0.. {
            setting.add_batches(1);
            proxy.cut_in_round(round, moment);
            let output = setting
                .seal(&url(&proxy), &[&folder])
                .args(["--once", "--stdout"])
                .output()
                .unwrap();
            let is_through = proxy.take_back();
            signed.add_printed(&stdout(&output), &setting.vkey);
            signed.look(&setting, &folder);
            setting.assert_consistent(&folder);
            sizes.push(setting.size(&folder));
            if is_through {
                // It has made good what the one before it has left.
                assert_success(&output);
                assert_eq!(setting.size(&folder), setting.batches());
                break;
            }
            failed += u32::from(!output.status.success());
        }
        assert!(failed > 25, "{moment:?}: {failed} steps failed");
    }
    assert!(sizes.is_sorted(), "{sizes:?}");
    assert!(signed.roots.len() > 10, "{}", signed.roots.len());
}

#[test]
fn sealer_goes_on_by_itself_after_an_exchange_that_failed() {
    let setting = Setting::start();
    let folder = setting.folder("anchor");
    let proxy = Proxy::start(setting.postgres.port());
    let printed = setting.folder("printed");
    let mut command = setting.seal(&url(&proxy), &[&folder]);
    command
        .arg("--stdout")
        .stdout(File::create(&printed).unwrap());
    let _sealer = Sealer::start(&mut command, setting.folder("log"));
    let mut signed = Signed::default();
    for round in (0..60).step_by(5) {
        for moment in [Moment::Asked, Moment::Answered] {
            setting.add_batches(3);
            proxy.cut_in_round(round, moment);
            wait_until("it is cut off", PATIENCE, || !proxy.is_to_cut_in_round());
            setting.add_batches(3);
            setting.wait_until_published(&folder);
            signed.look(&setting, &folder);
        }
    }
    signed.add_printed(&fs::read_to_string(printed).unwrap(), &setting.vkey);
    assert!(signed.roots.len() > 20, "{}", signed.roots.len());
}

#[test]
fn sealer_goes_on_when_a_lock_that_another_held_is_free() {
    let setting = Setting::start();
    let (near, far) = (setting.folder("near"), setting.folder("far"));
    let mut command = setting.seal(&setting.postgres.url(), &[&near, &far]);
    let sealer = Sealer::start(&mut command, setting.folder("log"));
    setting.add_batches(5);
    setting.wait_until_published(&far);
    // Of the ledger, as another has it that hangs in its transaction.
    let mut session = setting.postgres.session("postgres");
    session.psql("BEGIN; LOCK TABLE audit.ledger IN SHARE ROW EXCLUSIVE MODE");
    setting.add_batches(5);
    wait_until("the lock is named", PATIENCE, || {
        sealer.has_told("failed", "holds a lock that this needs")
    });
    assert_eq!(setting.size(&near), 5);
    session.psql("ROLLBACK");
    setting.wait_until_published(&near);
    setting.wait_until_published(&far);
    // Of an anchor.
    let lock = File::options()
        .append(true)
        .open(far.join(".lock"))
        .unwrap();
    lock.lock().unwrap();
    setting.add_batches(5);
    setting.wait_until_published(&near);
    wait_until("it is told who is in the way", PATIENCE, || {
        sealer.has_told("anchor_failed", "another sealer has been publishing there")
    });
    assert_eq!(setting.size(&far), 10);
    drop(lock);
    setting.wait_until_published(&far);
}

/// Returns the content of each file below a folder that is never written again.
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
            let content = fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
    found
}

/// An anchor, and what was seen there.
struct Anchor<'a> {
    setting: &'a Setting,
    folder: PathBuf,
    seen: BTreeMap<PathBuf, Vec<u8>>,
    signed: Signed,
    size: u64,
}

impl<'a> Anchor<'a> {
    fn new(setting: &'a Setting) -> Self {
        Self {
            setting,
            folder: setting.folder("anchor"),
            seen: BTreeMap::new(),
            signed: Signed::default(),
            size: 0,
        }
    }

    /// Fails unless what is there is whole, was there before or is new, and agrees with all that was signed.
    #[track_caller]
    fn look(&mut self) {
        for (path, content) in contents(&self.folder) {
            let before = self
                .seen
                .entry(path.clone())
                .or_insert_with(|| content.clone());
            assert!(*before == content, "{} was altered", path.display());
        }
        let size = self.setting.size(&self.folder);
        assert!(size >= self.size, "from {} to {size}", self.size);
        self.size = size;
        self.setting.assert_consistent(&self.folder);
        self.signed.look(self.setting, &self.folder);
    }

    /// Seals under another program, such as a shell or a tracer.
    fn seal_under(&mut self, wrapper: Command) -> Output {
        let url = self.setting.postgres.url();
        let mut command = self.setting.seal(&url, &[&self.folder]);
        command.args(["--once", "--stdout"]);
        let output = wrapped(wrapper, &command).output().unwrap();
        self.signed
            .add_printed(&stdout(&output), &self.setting.vkey);
        self.look();
        output
    }

    /// Seals undisturbed: what was left before is made good.
    #[track_caller]
    fn goes_on(&mut self) {
        self.setting.once(&[&self.folder]);
        self.look();
        assert_eq!(self.size, self.setting.batches());
    }
}

#[test]
fn disk_that_is_full_at_any_file_leaves_what_was_published_and_is_caught_up() {
    let setting = Setting::start();
    let mut anchor = Anchor::new(&setting);
    let mut failed = 0;
    // In blocks of 1,024 bytes: the first file that is larger cannot be written.
    for limit in [0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 1_000] {
        for number in [0, 30, 100, 300] {
            if number > 0 {
                setting.add_batches(number);
            }
            let mut shell = Command::new("bash");
            // Writes fail instead of ending the program.
            shell.args([
                "-c",
                "trap '' XFSZ; ulimit -S -f \"$0\"; exec \"$@\"",
                &limit.to_string(),
            ]);
            let output = anchor.seal_under(shell);
            let told = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                assert_eq!(anchor.size, setting.batches());
            } else {
                failed += 1;
                assert!(told.contains("File too large"), "{told}");
                assert!(limit < 1_000, "{told}");
                // Sealed and signed it is, and an anchor alone is away.
                assert_eq!(output.status.code(), Some(1), "{told}");
            }
            if number == 30 {
                anchor.goes_on();
            }
        }
    }
    assert!(failed > 10, "{failed}");
    anchor.goes_on();
}

#[test]
fn file_in_place_of_a_folder_is_named_and_left() {
    let setting = Setting::start();
    let mut anchor = Anchor::new(&setting);
    let root = anchor.folder.clone();
    let below = ["tile", "tile/0", "tile/entries", "checkpoint"].map(|name| root.join(name));
    for path in [root].into_iter().chain(below) {
        setting.add_batches(20);
        let moved = setting.folder("moved");
        let was_there = path.exists();
        if was_there {
            fs::rename(&path, &moved).unwrap();
        }
        let is_file = path.file_name().unwrap() != "checkpoint";
        if is_file {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "mine").unwrap();
        } else {
            fs::create_dir_all(&path).unwrap();
        }
        let url = setting.postgres.url();
        let output = setting
            .seal(&url, &[&anchor.folder])
            .arg("--once")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(anchor.folder.to_str().unwrap()), "{told}");
        if is_file {
            assert_eq!(fs::read(&path).unwrap(), b"mine");
            fs::remove_file(&path).unwrap();
        } else {
            fs::remove_dir(&path).unwrap();
        }
        if was_there {
            fs::rename(&moved, &path).unwrap();
        }
        anchor.goes_on();
    }
}

/// What strace does at a system call of a file.
fn strace(log: &Path, call: &str, path: Option<&Path>, what: &str, when: usize) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(log);
    if let Some(path) = path {
        strace.arg("-P").arg(path);
    }
    strace.args([
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={call}:{what}:when={when}"),
    ]);
    strace
}

/// Fails each call of a kind, one after the other, until there is none any more. Returns how many have failed.
///
/// strace counts for each thread apart, and the runtime may publish a checkpoint on another thread than its tiles: where
/// as many calls were made, only not by one thread, it is tried again.
fn each_call(anchor: &mut Anchor<'_>, call: &str, path: Option<&Path>, what: &str) -> usize {
    let log = anchor.setting.folder("strace");
    // A full tile comes every sixth time or so; and each time where what it replaces is removed.
    let batches = if call.contains("rmdir") { 300 } else { 45 };
    let mut when = 1;
    for _ in 0..200 {
        anchor.setting.add_batches(batches);
        let output = anchor.seal_under(strace(&log, call, path, what, when));
        let calls = fs::read_to_string(&log).unwrap();
        if !calls.contains("INJECTED") && !calls.contains("killed by SIGKILL") {
            assert_success(&output);
            assert_eq!(anchor.size, anchor.setting.batches());
            let is_call = |line: &&str| {
                call.split(',')
                    .any(|call| line.contains(&format!("{call}(")))
            };
            if calls.lines().filter(is_call).count() < when {
                return when - 1;
            }
            continue;
        }
        if when.is_multiple_of(3) {
            anchor.goes_on();
        }
        when += 1;
    }
    panic!("{call} never ends");
}

/// Requires `strace`.
#[test]
#[ignore = "needs strace; run in CI"]
fn system_call_that_fails_or_is_the_last_leaves_one_log_that_goes_on() {
    let setting = Setting::start();
    let mut anchor = Anchor::new(&setting);
    anchor.goes_on();
    let (root, new) = (anchor.folder.clone(), anchor.folder.join(".new"));
    let (lock, checkpoint) = (
        anchor.folder.join(".lock"),
        anchor.folder.join("checkpoint"),
    );
    let mut failed = BTreeMap::new();
    for what in ["error=EIO", "signal=KILL"] {
        for (call, path, name) in [
            ("openat", Some(&lock), "lock"),
            ("flock", None, "flock"),
            ("openat", Some(&new), "new file"),
            ("write", Some(&new), "write"),
            ("fsync", None, "fsync"),
            ("fsync", Some(&root), "fsync of the folder"),
            ("rename", None, "rename"),
            ("mkdir", None, "mkdir"),
            ("openat", Some(&checkpoint), "reading of the checkpoint"),
            ("unlinkat,rmdir", None, "removal of partial tiles"),
        ] {
            let count = each_call(&mut anchor, call, path.map(PathBuf::as_path), what);
            failed.insert((name, what), count);
        }
    }
    for ((name, what), count) in &failed {
        // Folders are there already the second time.
        let least = usize::from(*name != "mkdir" || *what == "error=EIO");
        assert!(*count >= least, "{failed:?}");
    }
    // Of a bundle, of a tile and of the checkpoint, at least.
    assert!(failed[&("rename", "error=EIO")] >= 3, "{failed:?}");
    assert!(failed[&("rename", "signal=KILL")] >= 3, "{failed:?}");
    anchor.goes_on();
}
