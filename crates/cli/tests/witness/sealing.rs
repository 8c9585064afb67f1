//! Sealers that ask witnesses, and verifiers that require them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use testkit::trail::{Folder, PATIENCE, count, pipeline};
use testkit::{Chance, Postgres, Stop, let_run, wait_until};
use tracing_audit::__program::ledger::checkpoint::{self, Verified};
use tracing_audit::__program::ledger::key::{Signer as _, Vkey};
use tracing_audit::__program::ledger::note::Note;
use tracing_audit::__program::ledger::tree::Hash;
use tracing_audit::{Event, Seal};

use super::{Log, Place, Witness, copy, post, program};

/// A trail, and what is needed to seal it.
struct Trail {
    // Dropped first: what writes to the folders ends before they are removed.
    postgres: Postgres,
    place: Place,
}

impl Trail {
    fn start() -> Self {
        let postgres = Postgres::start();
        tracing_audit::migrate(&postgres.url()).unwrap();
        Self {
            postgres,
            place: Place::new(),
        }
    }

    fn seal(&self, anchor: &str, witnesses: &[&str]) -> Command {
        let mut command = program();
        command
            .args([
                "--url",
                &self.postgres.url(),
                "seal",
                "--json",
                "--interval",
                "20ms",
                "--key",
            ])
            .arg(self.place.path("log.key"))
            .arg("--anchor")
            .arg(self.place.path(anchor));
        for witness in witnesses {
            command.args(["--witness", witness]);
        }
        command
    }

    fn once(&self, anchor: &str, witnesses: &[&str]) -> (i32, String) {
        let Output { status, stderr, .. } =
            self.seal(anchor, witnesses).arg("--once").output().unwrap();
        (status.code().unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn add_batches(&self, number: u64) {
        self.postgres.psql(&format!(
            "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, root, fingerprints)
             SELECT w.id, n, n, '{{\"events\": 1}}', 0, w.id, w.id, 'test', sha256(w.id::text::bytea), '\\x0000000000000000'
             FROM (SELECT gen_random_uuid() AS id OFFSET 0) w, generate_series(1, {number}) n"
        ));
    }

    /// Returns the checkpoint at an anchor, with the cosignatures of these witnesses.
    fn checkpoint(&self, anchor: &str, witnesses: &[&Witness]) -> Option<Verified> {
        let note = fs::read(self.place.path(anchor).join("checkpoint")).ok()?;
        Some(self.verified(&note, witnesses))
    }

    fn verified(&self, note: &[u8], witnesses: &[&Witness]) -> Verified {
        let keys: Vec<_> = witnesses
            .iter()
            .map(|witness| witness.vkey.clone())
            .collect();
        checkpoint::verify(note, self.place.log.vkey(), &keys).unwrap()
    }

    /// Waits until an anchor has all batches, with so many cosignatures.
    #[track_caller]
    fn wait_until_cosigned(&self, anchor: &str, witnesses: &[&Witness], number: usize) {
        let batches = count(&self.postgres, "batches");
        let what = format!("{anchor} has {batches} batches and {number} cosignatures");
        wait_until(&what, PATIENCE, || {
            self.checkpoint(anchor, witnesses).is_some_and(|found| {
                found.checkpoint.head.size >= batches && found.cosignatures.len() >= number
            })
        });
    }

    fn verify(&self, arguments: &[&str], witnesses: &[&Witness]) -> Vec<String> {
        let mut command = program();
        command
            .args(["--url", &self.postgres.url(), "verify", "--json", "--key"])
            .arg(self.place.log.vkey().to_string())
            .args(arguments);
        for witness in witnesses {
            command.args(["--witness-key", &witness.vkey.to_string()]);
        }
        let output = command.output().unwrap();
        let all: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let findings = all["findings"].as_array().unwrap().iter();
        let kind = |finding: &Value| finding["kind"].as_str().unwrap().to_owned();
        findings.map(kind).collect()
    }
}

/// A sealer, which is killed on drop.
struct Sealer {
    child: Child,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Sealer {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let told: Arc<Mutex<Vec<Value>>> = Arc::default();
        let telling = Arc::clone(&told);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                telling.lock().unwrap().push(line);
            }
        });
        Self { child, told }
    }

    /// Returns the messages of an event.
    fn told(&self, event: &str) -> Vec<String> {
        let told = self.told.lock().unwrap();
        let lines = told.iter().filter(|line| line["event"] == event);
        lines
            .map(|line| line["message"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn trail_is_sealed_cosigned_and_verified() {
    let trail = Trail::start();
    let [one, other, third] = ["one", "other", "third"].map(|name| trail.place.witness(name));
    let both = [&one, &other];
    let sealer =
        Sealer::start(trail.seal("anchor", &[&one.named(), &other.named(), &third.named()]));
    let spool = Folder::new();
    let audit = pipeline(&trail.postgres, &spool, |builder| builder);
    for _ in 0..5 {
        for _ in 0..50 {
            audit.record(Event::new("recorded")).unwrap();
        }
        audit.flush_blocking(PATIENCE).unwrap();
        trail.wait_until_cosigned("anchor", &[&one, &other, &third], 3);
    }
    drop(third);
    let anchor = trail.place.path("anchor");
    let anchor = anchor.to_str().unwrap();
    assert!(
        trail
            .verify(&["--checkpoint", anchor, "--require-witness", "2"], &both)
            .is_empty()
    );
    // Of three that are required, two are known.
    let findings = trail.verify(&["--checkpoint", anchor, "--require-witness", "3"], &both);
    assert_eq!(findings, ["witness_missing"]);
    // The database has the same.
    wait_until("the database has it", PATIENCE, || {
        trail.verify(&["--require-witness", "2"], &both).is_empty()
    });
    assert_eq!(sealer.told("witness_conflict"), [""; 0]);
    assert_eq!(sealer.told("not_kept"), [""; 0]);
}

#[test]
fn program_that_seals_its_own_trail_asks_witnesses() {
    let trail = Trail::start();
    let witness = trail.place.witness("one");
    let seal = Seal::new(fs::read_to_string(trail.place.path("log.key")).unwrap())
        .anchor_folder(trail.place.path("anchor"))
        .witness(witness.url(), witness.vkey.to_string());
    let spool = Folder::new();
    let audit = pipeline(&trail.postgres, &spool, |builder| builder.seal(seal));
    audit.record(Event::new("recorded")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    trail.wait_until_cosigned("anchor", &[&witness], 1);
    audit.shutdown_blocking(PATIENCE);
}

#[test]
fn witness_that_never_answers_or_is_away_delays_nothing_and_one_that_comes_late_is_added() {
    let trail = Trail::start();
    let good = trail.place.witness("good");
    let mut late = trail.place.witness("late");
    late.kill();
    // Connections are taken by the system, and nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let vkey = trail.place.witness("silent").vkey.clone();
    let silent = format!("http://{}={vkey}", silent.local_addr().unwrap());
    let sealer = Sealer::start(trail.seal("anchor", &[&silent, &good.named(), &late.named()]));
    for _ in 0..10 {
        trail.add_batches(10);
        let begun = std::time::Instant::now();
        trail.wait_until_cosigned("anchor", &[&good], 1);
        assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
    }
    wait_until("both are named", PATIENCE, || {
        let told = sealer.told("witness_failed");
        [
            "witness silent does not cosign: no answer within",
            "witness late does not cosign: no answer",
        ]
        .iter()
        .all(|text| told.iter().any(|line| line.contains(text)))
    });
    // The log is idle: the cosignature comes to the checkpoint that is published already.
    late.start();
    trail.wait_until_cosigned("anchor", &[&good, &late], 2);
    wait_until("it is told", PATIENCE, || {
        let told = sealer.told("cosigned");
        told.iter().any(|line| line.contains("late cosigns again"))
    });
    trail.add_batches(10);
    trail.wait_until_cosigned("anchor", &[&good, &late], 2);
}

#[test]
fn once_exits_with_1_when_a_witness_does_not_cosign() {
    let trail = Trail::start();
    let mut witness = trail.place.witness("one");
    let named = witness.named();
    trail.add_batches(300);
    let (code, told) = trail.once("anchor", &[&named]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(
        trail
            .checkpoint("anchor", &[&witness])
            .unwrap()
            .cosignatures
            .len(),
        1
    );
    // What it has cosigned before is known to it alone.
    trail.add_batches(700);
    assert_eq!(trail.once("anchor", &[&named]).0, 0);
    trail.add_batches(1);
    witness.kill();
    let (code, told) = trail.once("anchor", &[&named]);
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("witness_failed") && told.contains("no answer"),
        "{told}"
    );
    assert_eq!(
        trail
            .checkpoint("anchor", &[&witness])
            .unwrap()
            .checkpoint
            .head
            .size,
        1001
    );
    let stranger = Place::new().log.vkey().to_string();
    witness.logs = vec![stranger];
    witness.start();
    let (code, told) = trail.once("anchor", &[&named]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("it knows this log by another key"), "{told}");
    // The cosignature of another witness is none of this one's.
    let other = trail.place.witness("other");
    let (code, told) = trail.once("anchor", &[&format!("{}={}", other.url(), witness.vkey)]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("no cosignature by the key"), "{told}");
    for wrong in [
        named.replace("http", "ftp"),
        other.vkey.to_string(),
        format!("http://w={}", trail.place.log.vkey()),
    ] {
        let (code, told) = trail.once("anchor", &[&wrong]);
        assert_eq!(code, 2, "{told}");
        assert!(told.contains("--witness: "), "{told}");
    }
}

#[test]
fn restored_database_is_refused_by_the_witness() {
    let mut trail = Trail::start();
    let witness = trail.place.witness("one");
    let named = witness.named();
    trail.add_batches(10);
    assert_eq!(trail.once("anchor", &[&named]).0, 0);
    let data = trail.postgres.data_dir();
    let backup = data.with_extension("old");
    trail.postgres.stop(Stop::Fast);
    copy(&data, &backup);
    trail.postgres.start_again();
    trail.add_batches(10);
    assert_eq!(trail.once("anchor", &[&named]).0, 0);
    trail.postgres.stop(Stop::Fast);
    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    trail.postgres.start_again();

    // A sealer that knows of nothing, with an anchor that is empty.
    let (code, told) = trail.once("fresh", &[&named]);
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("witness_conflict")
            && told.contains("it has cosigned 20 entries of this log, and the ledger has 10"),
        "{told}"
    );
    let sealer = Sealer::start(trail.seal("fresh", &[&named]));
    wait_until("it is told", PATIENCE, || {
        let told = sealer.told("witness_conflict");
        told.iter().any(|line| {
            line.starts_with("THE WITNESS CONTRADICTS THIS LOG") && line.contains("restored")
        })
    });
    drop(sealer);
    // Others of the same number.
    trail.add_batches(10);
    let (code, told) = trail.once("fresh", &[&named]);
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("it has cosigned another log of 20 entries"),
        "{told}"
    );
    // And more.
    trail.add_batches(5);
    let (code, told) = trail.once("fresh", &[&named]);
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains(
            "the 20 entries that it has cosigned are not the beginning of this log of 25"
        ),
        "{told}"
    );
    assert!(
        trail
            .checkpoint("fresh", &[&witness])
            .unwrap()
            .cosignatures
            .is_empty()
    );
    assert!(witness.told().contains("THE LOG WAS FORKED"));
    let anchor = trail.place.path("fresh");
    let findings = trail.verify(
        &[
            "--checkpoint",
            anchor.to_str().unwrap(),
            "--require-witness",
            "1",
        ],
        &[&witness],
    );
    assert!(
        findings.contains(&String::from("witness_missing")),
        "{findings:?}"
    );
}

#[test]
fn stolen_key_gets_no_other_history_cosigned() {
    let (trail, mut thief) = (Trail::start(), Trail::start());
    let witness = trail.place.witness("one");
    fs::copy(trail.place.path("log.key"), thief.place.path("log.key")).unwrap();
    thief.place.log =
        tracing_audit::__program::seal::key_file::read(&thief.place.path("log.key")).unwrap();
    trail.add_batches(10);
    assert_eq!(trail.once("anchor", &[&witness.named()]).0, 0);
    thief.add_batches(30);
    let (code, told) = thief.once("anchor", &[&witness.named()]);
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("witness_conflict") && told.contains("somebody else signs with this key"),
        "{told}"
    );
    assert!(
        thief
            .checkpoint("anchor", &[&witness])
            .unwrap()
            .cosignatures
            .is_empty()
    );
    trail.add_batches(1);
    assert_eq!(trail.once("anchor", &[&witness.named()]).0, 0);
}

#[test]
fn two_sealers_share_a_witness_and_an_anchor() {
    let trail = Trail::start();
    let witness = trail.place.witness("one");
    let sealers = [(); 2].map(|()| Sealer::start(trail.seal("anchor", &[&witness.named()])));
    for _ in 0..20 {
        trail.add_batches(7);
        let_run(30);
    }
    trail.wait_until_cosigned("anchor", &[&witness], 1);
    // Signed again, by whom ever: the cosignature stays.
    let signed_at = || trail.checkpoint("anchor", &[&witness]).unwrap().signed_at;
    for _ in 0..3 {
        let last = signed_at();
        wait_until("it is signed again", PATIENCE, || signed_at() > last);
        assert_eq!(
            trail
                .checkpoint("anchor", &[&witness])
                .unwrap()
                .cosignatures
                .len(),
            1
        );
    }
    for sealer in &sealers {
        assert_eq!(sealer.told("witness_conflict"), [""; 0]);
        assert_eq!(sealer.told("anchor_failed"), [""; 0]);
    }
}

/// Keeps every cosigned root by its size, and fails when there is another.
#[derive(Default)]
struct Cosigned(Mutex<BTreeMap<u64, Hash>>);

impl Cosigned {
    fn add(&self, size: u64, root: Hash) {
        let before = self.0.lock().unwrap().insert(size, root);
        assert!(
            before.is_none_or(|before| before == root),
            "two roots at {size}"
        );
    }
}

/// Reads the checkpoints that a sealer prints, and keeps those that are cosigned.
fn keep_printed(out: impl std::io::Read, log: &Vkey, witness: &Vkey, cosigned: &Cosigned) {
    let mut note = String::new();
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        // An empty line ends a checkpoint, and stands within it as well.
        if line.is_empty() && note.contains("\n\n") {
            let verified =
                checkpoint::verify(note.as_bytes(), log, std::slice::from_ref(witness)).unwrap();
            if !verified.cosignatures.is_empty() {
                let head = verified.checkpoint.head;
                cosigned.add(head.size, head.root);
            }
            note.clear();
            continue;
        }
        note.push_str(&line);
        note.push('\n');
    }
}

#[test]
fn witness_that_is_killed_while_it_is_asked_for_forks_too_cosigns_one_log() {
    let trail = Trail::start();
    let mut witness = trail.place.witness("one");
    let mut chance = Chance::new();
    let cosigned = Arc::new(Cosigned::default());
    let mut command = trail.seal("anchor", &[&witness.named()]);
    let mut sealer = Sealer::start({
        command.arg("--stdout").stdout(Stdio::piped());
        command
    });
    let printed = {
        let (out, cosigned) = (sealer.child.stdout.take().unwrap(), Arc::clone(&cosigned));
        let (log, vkey) = (trail.place.log.vkey().clone(), witness.vkey.clone());
        thread::spawn(move || keep_printed(out, &log, &vkey, &cosigned))
    };
    trail.add_batches(1);
    trail.wait_until_cosigned("anchor", &[&witness], 1);
    for round in 0..30 {
        trail.add_batches(chance.below(20) + 1);
        // A thief of the log's key, who proves his history from what the witness knows.
        let fork = Log::new(chance.below(400) + 2, 0, round + 1);
        let asked = post(witness.port, fork.request(0, &trail.place.log).as_bytes());
        if let Ok(known) = asked.map(|answer| answer.body.trim().parse().unwrap_or(0))
            && known > 0
            && known <= fork.head().size
            && let Ok(answer) = post(
                witness.port,
                fork.request(known, &trail.place.log).as_bytes(),
            )
        {
            assert!([409, 422].contains(&answer.status), "{answer:?}");
        }
        let_run(chance.below(120));
        witness.kill();
        let_run(chance.below(40));
        witness.start();
    }
    trail.wait_until_cosigned("anchor", &[&witness], 1);
    let note = fs::read(trail.place.path("anchor").join("checkpoint")).unwrap();
    let head = trail.verified(&note, &[&witness]).checkpoint.head;
    cosigned.add(head.size, head.root);
    assert_eq!(sealer.told("witness_conflict"), [""; 0]);
    drop(sealer);
    printed.join().unwrap();
    let sizes: Vec<_> = cosigned.0.lock().unwrap().keys().copied().collect();
    assert!(sizes.len() > 5, "{sizes:?}");
    // All of them are of the log that the database has.
    let ledger = trail
        .postgres
        .psql("SELECT encode(entry_hash, 'hex') FROM audit.ledger ORDER BY index");
    let hash = |line: &str| -> Hash {
        let byte = |at: usize| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap();
        std::array::from_fn(byte)
    };
    let leaves: Vec<_> = ledger.lines().map(hash).collect();
    for (size, root) in cosigned.0.lock().unwrap().iter() {
        let leaves = &leaves[..usize::try_from(*size).unwrap()];
        assert_eq!(
            tracing_audit::__program::ledger::tree::root(leaves),
            *root,
            "{size}"
        );
    }
    assert!(Note::parse(&note).unwrap().signatures().len() == 3);
    assert!(Path::new(&witness.state).is_dir());
}
