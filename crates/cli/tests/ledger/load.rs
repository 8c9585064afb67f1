//! Eight processes that are killed, a Postgres that crashes, two sealers that fight, and tracked changes beside them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};

use testkit::child::{alone, child, child_processes, say};
use testkit::trail::{Folder, PATIENCE, once_each};
use testkit::{Chance, Session, Stop, let_run, wait_until};
use tracing_audit::{Event, HttpRequest, NewRecord, PromptRun, QueryRun};

use super::{Log, Setting, Signed, is_lost_server};

child_processes!(records_what_is_not_there);

const PROCESSES: usize = 8;
const RECORDS: u64 = 10_000;
const TOTAL: u64 = PROCESSES as u64 * RECORDS;

/// How many records a process flushes at a time.
const FLUSHED: usize = 200;

/// How often each process is killed.
const KILLS: usize = 2;

/// How often the server is, and how often the trail is verified meanwhile.
const CRASHES: u64 = 3;
const VERIFICATIONS: u64 = 6;

/// The numbers that a process has to record, each in one record, of all kinds.
fn numbered(service: &str, n: u64) -> NewRecord {
    let number = format!("{service} {n}");
    match n % 4 {
        0 => QueryRun::new("SELECT 1").request_id(number).into(),
        1 => PromptRun::new("Translate").request_id(number).into(),
        2 => HttpRequest::new("GET", "/").request_id(number).into(),
        _ => Event::new("viewed").request_id(number).into(),
    }
}

/// Which of its numbers are there. Tries until the server answers.
fn recorded(port: u16, service: &str) -> BTreeSet<u64> {
    let tables = ["query_runs", "prompt_runs", "events", "activities"];
    let query = tables
        .map(|table| format!("SELECT split_part(request_id, ' ', 2) FROM audit.{table} WHERE service_name = '{service}' AND request_id LIKE '{service} %'"))
        .join(" UNION ALL ");
    let mut answer = Err(String::new());
    wait_until("the server answers", PATIENCE, || {
        answer =
            Session::open(port, "postgres", "audit").and_then(|mut session| session.run(&query));
        answer.is_ok()
    });
    let numbers: Vec<u64> = answer
        .unwrap()
        .lines()
        .map(|n| n.parse().unwrap())
        .collect();
    let once: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(
        once.len(),
        numbers.len(),
        "{service} has recorded one twice"
    );
    once
}

/// Records those of its numbers that are not there, after what those before it have left in the local log.
fn records_what_is_not_there() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let service = variable("AUDIT_SERVICE_NAME");
    let audit = tracing_audit::from_env().unwrap();
    let folder = PathBuf::from(variable("AUDIT_SPOOL_DIR"));
    wait_until("what was left is drained", PATIENCE, || {
        fs::read_dir(&folder).unwrap().count() == 1
    });
    let there = recorded(variable("TEST_PORT").parse().unwrap(), &service);
    let flushed: u64 = variable("TEST_FLUSHED").parse().unwrap();
    let mut done = there.len() as u64;
    assert!(done >= flushed, "{service}: {done} of {flushed} are there");
    let missing: Vec<u64> = (0..RECORDS).filter(|n| !there.contains(n)).collect();
    for numbers in missing.chunks(FLUSHED) {
        for n in numbers {
            audit.record(numbered(&service, *n)).unwrap();
        }
        audit.flush_blocking(PATIENCE).unwrap();
        done += numbers.len() as u64;
        say(&format!("{done} flushed"));
    }
    let report = audit.shutdown_blocking(PATIENCE);
    assert_eq!(report.spooled, 0, "{report:?}");
    say("end");
}

/// What happens all at once.
struct Load<'a> {
    log: &'a Log,
    url: String,
    port: u16,
    folder: PathBuf,
    chance: Chance,
    /// How many records each process has flushed.
    flushed: [AtomicU64; PROCESSES],
    is_over: AtomicBool,
    signed: Mutex<Signed>,
}

impl Load<'_> {
    fn total(&self) -> u64 {
        self.flushed
            .iter()
            .map(|of_one| of_one.load(Ordering::Relaxed))
            .sum()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Runs a process, which is killed at two random moments of its work, until it has done it.
    fn process(&self, number: usize, spool: &Path) {
        let mut chance = self.chance.of(number as u64);
        let part = RECORDS / (KILLS as u64 + 1);
        let kills: Vec<u64> = (0..KILLS as u64)
            .map(|kill| kill * part + chance.below(part))
            .collect();
        let flushed = &self.flushed[number];
        for kill in kills.into_iter().map(Some).chain([None]) {
            let mut child = alone(child!(records_what_is_not_there))
                .env("AUDIT_DATABASE_URL", &self.url)
                .env("AUDIT_SPOOL_DIR", spool)
                .env("AUDIT_SERVICE_NAME", format!("process-{number}"))
                .env("TEST_PORT", self.port.to_string())
                .env("TEST_FLUSHED", flushed.load(Ordering::Relaxed).to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut has_ended = false;
            for line in BufReader::new(child.stdout.take().unwrap()).lines() {
                let line = line.unwrap();
                has_ended |= line == "end";
                let Some(count) = line.strip_suffix(" flushed") else {
                    continue;
                };
                let count = count.parse().unwrap();
                flushed.store(count, Ordering::Relaxed);
                if kill.is_some_and(|kill| count > kill) {
                    let_run(chance.below(20));
                    child.kill().unwrap();
                    break;
                }
            }
            let status = child.wait().unwrap();
            assert!(
                kill.is_some() || has_ended && status.success(),
                "process {number}: {status}"
            );
        }
        assert_eq!(flushed.load(Ordering::Relaxed), RECORDS);
    }

    /// Seals as one of several, each killed at random moments and started again.
    fn sealer(&self, name: &str, number: u64) {
        let mut chance = self.chance.of(number);
        let (printed, told) = (
            self.log.folder(&format!("{name} out")),
            self.log.folder(name),
        );
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap()
        };
        while !self.is_over() {
            let mut child = self
                .log
                .seal(&self.url, &[&self.folder])
                .args(["--interval", "20ms", "--stdout"])
                .stdout(open(&printed))
                .stderr(open(&told))
                .spawn()
                .unwrap();
            let_run(50 + chance.below(1_500));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let printed = fs::read_to_string(printed).unwrap();
        self.signed
            .lock()
            .unwrap()
            .add_printed(&printed, &self.log.vkey);
        for line in fs::read_to_string(told).unwrap().lines() {
            // One that is killed may leave half a line.
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
                continue;
            };
            let (event, message) = (
                line["event"].as_str().unwrap(),
                line["message"].as_str().unwrap(),
            );
            let is_failure = ["failed", "anchor_failed"].contains(&event);
            assert!(!is_failure || is_lost_server(message), "{line}");
        }
    }

    /// Changes rows of a tracked table, and takes some of it back.
    fn changes(&self, number: u64) {
        let mut chance = self.chance.of(number);
        let mut session = None;
        while !self.is_over() {
            let Some(open) = session.as_mut() else {
                session = Session::open(self.port, "postgres", "audit").ok();
                continue;
            };
            let update = format!(
                "UPDATE items SET n = n + 1 WHERE id = {}",
                1 + chance.below(20)
            );
            let outcome = match chance.below(3) {
                0 => format!("BEGIN; {update}; {update}; ROLLBACK"),
                1 => format!("BEGIN; {update}; SAVEPOINT s; {update}; ROLLBACK TO s; COMMIT"),
                _ => update,
            };
            let told = Session::run(open, &outcome);
            if let Err(error) = told {
                // Two of them may wait for each other.
                let is_expected = error.contains("40P01")
                    || is_lost_server(&error)
                    || error.contains("57P0")
                    || error.contains("connection is lost");
                assert!(is_expected, "{error}");
                session = None;
            }
            let_run(chance.below(10));
        }
    }

    /// Verifies with the checkpoint of that time, and all those before it: nothing must be found.
    fn verifies(&self) {
        let mut older: Vec<PathBuf> = Vec::new();
        for run in 1..=VERIFICATIONS {
            let due = run * TOTAL / (VERIFICATIONS + 1);
            wait_until("records come", 4 * PATIENCE, || {
                self.is_over() || self.total() >= due
            });
            let words = older
                .iter()
                .flat_map(|path| ["--older", path.to_str().unwrap()]);
            let words: Vec<&str> = words.collect();
            loop {
                let outcome = self.log.verify(&self.url, &self.folder, &words);
                match outcome.code() {
                    Some(0) => break drop(outcome.assert_clean()),
                    // It could not read it all.
                    Some(2) => assert!(is_lost_server(&outcome.stderr()), "{}", outcome.stderr()),
                    _ => panic!("a false alarm: {}", outcome.all()),
                }
            }
            let note = fs::read(self.folder.join("checkpoint")).unwrap();
            self.signed.lock().unwrap().add(&note, &self.log.vkey);
            let path = self.log.folder(&format!("older-{run}"));
            fs::write(&path, note).unwrap();
            older.push(path);
        }
    }
}

/// Says that it is over, also when what it is about has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn each_of_eighty_thousand_records_is_verified_whatever_was_killed_meanwhile() {
    let setting = Setting::start();
    let folder = setting.folder("anchor");
    // There is always a checkpoint to verify with.
    setting.once(&[&folder]);
    let Setting { mut postgres, log } = setting;
    postgres.psql(
        "CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL); INSERT INTO items SELECT n, 0 FROM generate_series(1, 20) n; SELECT audit.track('items')",
    );
    let spools: Vec<Folder> = (0..PROCESSES).map(|_| Folder::new()).collect();
    let load = Load {
        url: postgres.url(),
        port: postgres.port(),
        folder,
        chance: Chance::new(),
        flushed: Default::default(),
        is_over: AtomicBool::new(false),
        signed: Mutex::default(),
        log: &log,
    };
    thread::scope(|scope| {
        let over = Over(&load.is_over);
        for (name, number) in [("one", 100), ("other", 101)] {
            scope.spawn({
                let load = &load;
                move || load.sealer(name, number)
            });
        }
        for number in 200..203 {
            scope.spawn({
                let load = &load;
                move || load.changes(number)
            });
        }
        let verifying = scope.spawn(|| load.verifies());
        let processes: Vec<_> = (0..)
            .zip(&spools)
            .map(|(number, spool)| {
                let load = &load;
                scope.spawn(move || load.process(number, &spool.0))
            })
            .collect();
        for crash in 1..=CRASHES {
            let due = crash * TOTAL / (CRASHES + 1);
            wait_until("records come", 4 * PATIENCE, || {
                load.total() >= due || processes.iter().any(ScopedJoinHandle::is_finished)
            });
            postgres.stop(Stop::Immediate);
            postgres.start_again();
        }
        for process in processes {
            process.join().unwrap();
        }
        drop(over);
        verifying.join().unwrap();
    });
    let (folder, mut signed) = (load.folder, load.signed.into_inner().unwrap());
    let setting = Setting { postgres, log };
    assert_all_is_there(&setting, &folder, &mut signed);
}

/// Seals what is left, and fails unless each record is there once, and proven by the one log.
fn assert_all_is_there(setting: &Setting, folder: &Path, signed: &mut Signed) {
    setting.once(&[folder]);
    signed.look(setting, folder);
    assert!(signed.notes > VERIFICATIONS, "{}", signed.notes);
    let all = setting
        .verify(&setting.postgres.url(), folder, &[])
        .assert_clean();
    assert_eq!(all["unsealed_rows"], 0);
    assert_eq!(
        (&all["entries"], &all["checkpoint"]),
        (&setting.batches().into(), &setting.batches().into())
    );
    setting.assert_consistent(folder);
    once_each(&setting.postgres);
    for number in 0..PROCESSES {
        let service = format!("process-{number}");
        let there = recorded(setting.postgres.port(), &service);
        assert!(there.into_iter().eq(0..RECORDS), "{service}");
    }
    // Each change that was committed is there once, and none that was taken back.
    let changes = setting.postgres.psql(
        "SELECT (SELECT sum(n) FROM items), count(*) FROM audit.events WHERE metadata ->> 'operation' = 'update' AND target_type = 'public.items'",
    );
    let (made, recorded) = changes.split_once('|').unwrap();
    assert_eq!(made, recorded);
    assert!(made.parse::<u64>().unwrap() > 50, "{made}");
    let rows = setting.postgres.psql(
        "SELECT (SELECT count(*) FROM audit.query_runs) + (SELECT count(*) FROM audit.prompt_runs) + (SELECT count(*) FROM audit.events) + (SELECT count(*) FROM audit.activities)",
    );
    assert_eq!(
        all["rows"].to_string(),
        rows,
        "what was verified is all there is"
    );
}
