//! `tracing-audit verify` and `prove` against what was signed and published.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use testkit::Postgres;
use testkit::trail::{Folder, PATIENCE, Trail};
use tracing_audit::__program::ledger::checkpoint::{self, Checkpoint};
use tracing_audit::__program::ledger::key::{MemoryKey, Signer};
use tracing_audit::__program::ledger::paths::Head;
use tracing_audit::__program::ledger::tiles::{
    bundles_between, encode_bundle, encode_tile, tiles_between,
};
use tracing_audit::__program::ledger::tree::{Hash, root};
use tracing_audit::{Event, QueryRun};

const ORIGIN: &str = "example.com/trail";

/// A trail whose log is signed and published in a folder.
struct Log {
    trail: Trail,
    key: MemoryKey,
    folder: Folder,
}

impl Log {
    fn start() -> Self {
        let log = Self::empty();
        log.add(6);
        log
    }

    fn empty() -> Self {
        Self {
            trail: Trail::start(),
            key: MemoryKey::generate(ORIGIN).unwrap(),
            folder: Folder::new(),
        }
    }

    fn postgres(&self) -> &Postgres {
        &self.trail.postgres
    }

    /// Adds batches, seals and publishes.
    fn add(&self, batches: usize) {
        self.record(batches);
        self.publish(0);
    }

    /// Adds batches.
    fn record(&self, batches: usize) {
        for n in 0..batches {
            let query = QueryRun::new(format!("SELECT {n}"))
                .user_id("alice")
                .request_id("r-1");
            self.trail.audit.record(query).unwrap();
            self.trail.audit.record(Event::new("viewed")).unwrap();
            self.trail.audit.flush_blocking(PATIENCE).unwrap();
        }
    }

    fn entries(&self) -> Vec<(Hash, Vec<u8>)> {
        self.postgres().psql("SELECT audit.seal()");
        let rows = self.postgres().psql(
            "SELECT encode(entry_hash, 'hex'), encode(entry, 'hex') FROM audit.ledger_entries(0, 100000)",
        );
        rows.lines()
            .map(|line| {
                let (hash, entry) = line.split_once('|').unwrap();
                (unhex(hash).try_into().unwrap(), unhex(entry))
            })
            .collect()
    }

    fn publish(&self, seconds_ago: u64) {
        let entries = self.entries();
        let hashes: Vec<Hash> = entries.iter().map(|(hash, _)| *hash).collect();
        let size = hashes.len() as u64;
        for tile in tiles_between(0, size) {
            let from = usize::try_from(tile.index * 256).unwrap();
            let bytes = encode_tile(&hashes[from..from + usize::from(tile.width)]).unwrap();
            write(&self.path().join(tile.to_string()), &bytes);
        }
        for bundle in bundles_between(0, size) {
            let from = usize::try_from(bundle.first_entry()).unwrap();
            let of_bundle: Vec<_> = entries[from..from + usize::from(bundle.width)]
                .iter()
                .map(|(_, entry)| entry)
                .collect();
            write(
                &self.path().join(bundle.to_string()),
                &encode_bundle(&of_bundle).unwrap(),
            );
        }
        let note = self.sign(size, root(&hashes), seconds_ago);
        write(&self.path().join("checkpoint"), note.as_bytes());
        self.postgres().psql(&format!(
            "SELECT audit.note_checkpoint('{ORIGIN}', {size}, '{note}', now())"
        ));
    }

    fn sign(&self, size: u64, root: Hash, seconds_ago: u64) -> String {
        let checkpoint = Checkpoint {
            origin: String::from(ORIGIN),
            head: Head { size, root },
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        checkpoint::sign(&checkpoint, &self.key, now - seconds_ago)
            .unwrap()
            .to_string()
    }

    fn path(&self) -> &Path {
        &self.folder.0
    }

    fn vkey(&self) -> String {
        self.key.vkey().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        run(self.postgres(), arguments)
    }

    /// Verifies against the folder; returns the kinds of what was found, and all of it.
    fn verify(&self, arguments: &[&str]) -> (BTreeSet<String>, Value) {
        let key = self.vkey();
        let folder = self.path().to_str().unwrap();
        let mut words = vec!["verify", "--json", "--key", &key, "--checkpoint", folder];
        words.extend(arguments);
        let output = self.run(&words);
        let said: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let kinds: BTreeSet<String> = said["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["kind"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(output.status.code(), Some(i32::from(!kinds.is_empty())));
        (kinds, said)
    }

    #[track_caller]
    fn assert_found(&self, arguments: &[&str], expected: &[&str]) {
        let (kinds, said) = self.verify(arguments);
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(kinds, expected, "{said}");
    }

    fn as_superuser(&self, sql: &str) {
        self.postgres().psql(&format!(
            "DO $$ DECLARE t regclass; BEGIN
                FOR t IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname IN ('audit', 'audit_parts') AND c.relkind IN ('r', 'p')
                LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', t); END LOOP;
             END $$; {sql}"
        ));
    }
}

fn run(postgres: &Postgres, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .env("AUDIT_DATABASE_URL", postgres.url())
        .args(arguments)
        .output()
        .unwrap()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// Removes the last batches with all their rows, as a superuser can, or a restored backup.
const CUT: &str = "
    CREATE TEMPORARY TABLE cut AS SELECT b.* FROM audit.batches b JOIN audit.ledger l USING (writer_id, first_seq) WHERE l.index >= 4;
    DELETE FROM audit.query_runs q USING cut c WHERE q.writer_id = c.writer_id AND q.seq BETWEEN c.first_seq AND c.last_seq;
    DELETE FROM audit.events q USING cut c WHERE q.writer_id = c.writer_id AND q.seq BETWEEN c.first_seq AND c.last_seq;
    DELETE FROM audit.batches b USING cut c WHERE b.writer_id = c.writer_id AND b.first_seq = c.first_seq;
    DELETE FROM audit.ledger WHERE index >= 4;";

#[test]
fn trail_that_was_published_has_no_finding() {
    let log = Log::start();
    log.assert_found(&["--max-age", "1h"], &[]);
    log.add(300);
    log.assert_found(&[], &[]);
    // Without the folder: the database's own copy.
    let output = log.run(&["verify", "--key", &log.vkey()]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("compared with the checkpoint of 306 entries"),
        "{said}"
    );
}

#[test]
fn cut_tail_and_restored_backup_are_told_apart() {
    let log = Log::start();
    log.as_superuser(CUT);
    log.assert_found(&[], &["tail_cut"]);
    // A backup has the checkpoint of its time.
    log.postgres().psql("UPDATE audit.checkpoint SET size = 4");
    log.assert_found(&[], &["restored"]);
}

#[test]
fn log_that_went_on_after_a_restore_is_a_fork() {
    let log = Log::start();
    fs::copy(log.path().join("checkpoint"), log.path().join("older")).unwrap();
    log.as_superuser(CUT);
    log.trail.audit.record(Event::new("instead")).unwrap();
    drop(log.trail.audit.flush_blocking(PATIENCE));
    for _ in 0..4 {
        log.postgres()
            .psql("SELECT audit.record_reading('instead')");
    }
    log.postgres().psql("SELECT audit.seal()");
    let (kinds, said) = log.verify(&[]);
    assert!(kinds.contains("fork"), "{said}");
    // Signed by whoever has the key: found by an older checkpoint, without any tile.
    let entries = log.entries();
    let hashes: Vec<Hash> = entries.iter().map(|(hash, _)| *hash).collect();
    let forked = log.sign(hashes.len() as u64, root(&hashes), 0);
    let (newer, older) = (log.path().join("forked"), log.path().join("older"));
    fs::write(&newer, forked).unwrap();
    let key = log.vkey();
    let output = log.run(&[
        "verify",
        "--json",
        "--key",
        &key,
        "--checkpoint",
        newer.to_str().unwrap(),
        "--older",
        older.to_str().unwrap(),
    ]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("\"fork\""), "{said}");
}

#[test]
fn rewritten_batch_whose_ledger_was_computed_again_is_named_with_its_columns() {
    let log = Log::start();
    // As thorough as a superuser can be: the row, the batch's root, and all of the ledger.
    log.as_superuser(
        "UPDATE audit.query_runs SET user_id = 'mallory' WHERE seq = 5;
         UPDATE audit.batches b SET root = NULL, fingerprints = NULL WHERE first_seq = 5;
         UPDATE audit.batches b SET (root, fingerprints) = (SELECT h.root, h.fingerprints FROM audit.hash_batches(ARRAY[b.writer_id], ARRAY[b.first_seq]) h) WHERE first_seq = 5;
         DELETE FROM audit.ledger; DELETE FROM audit.ledger_nodes; SELECT audit.seal();",
    );
    let (kinds, said) = log.verify(&[]);
    assert_eq!(
        kinds,
        BTreeSet::from([String::from("header_changed")]),
        "{said}"
    );
    let [finding] = &said["findings"].as_array().unwrap()[..] else {
        panic!("{said}")
    };
    assert_eq!(
        (&finding["detail"], &finding["seq"], &finding["index"]),
        (&"root".into(), &5.into(), &2.into())
    );
    // Without tiles, that something was changed is all that can be told.
    fs::remove_dir_all(log.path().join("tile")).unwrap();
    let file = log.path().join("checkpoint");
    let output = log.run(&[
        "verify",
        "--json",
        "--key",
        &log.vkey(),
        "--checkpoint",
        file.to_str().unwrap(),
    ]);
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("log_differs")
    );
}

#[test]
fn forged_stale_and_foreign_checkpoints_are_refused() {
    let log = Log::start();
    let file = log.path().join("checkpoint");
    let good = fs::read_to_string(&file).unwrap();
    // Another size under the same signature.
    fs::write(&file, good.replacen("\n6\n", "\n5\n", 1)).unwrap();
    log.assert_found(&[], &["signature_invalid"]);
    let (text, _) = good.split_once("\n\n").unwrap();
    fs::write(&file, format!("{text}\n\n")).unwrap();
    log.assert_found(&[], &["checkpoint_broken"]);
    fs::write(&file, "nonsense").unwrap();
    log.assert_found(&[], &["checkpoint_broken"]);
    // By another key of the same name.
    let other = MemoryKey::generate(ORIGIN).unwrap();
    let head = Checkpoint {
        origin: String::from(ORIGIN),
        head: Head {
            size: 6,
            root: [7; 32],
        },
    };
    fs::write(
        &file,
        checkpoint::sign(&head, &other, 1).unwrap().to_string(),
    )
    .unwrap();
    log.assert_found(&[], &["signature_invalid"]);
    fs::write(&file, &good).unwrap();
    log.publish(7200);
    log.assert_found(&["--max-age", "1h"], &["checkpoint_stale"]);
    log.assert_found(&["--require-witness", "1"], &["witness_missing"]);
}

#[test]
fn broken_and_missing_tiles_are_named() {
    let log = Log::start();
    let tile = log.path().join("tile/0/000.p/6");
    let good = fs::read(&tile).unwrap();
    fs::write(&tile, &good[..good.len() - 1]).unwrap();
    let (kinds, said) = log.verify(&[]);
    assert!(kinds.contains("tile_broken"), "{said}");
    fs::remove_file(&tile).unwrap();
    let (kinds, said) = log.verify(&[]);
    assert!(kinds.contains("tile_broken"), "{said}");
}

#[test]
fn missing_batch_is_named_from_what_was_published() {
    let log = Log::start();
    log.as_superuser(
        &CUT.replace("l.index >= 4", "l.index = 3")
            .replace("index >= 4", "index = 3"),
    );
    let (_, said) = log.verify(&[]);
    let findings = said["findings"].as_array().unwrap();
    let missing = findings
        .iter()
        .find(|finding| finding["kind"] == "batch_missing")
        .unwrap();
    assert_eq!((&missing["index"], &missing["seq"]), (&3.into(), &7.into()));
}

#[test]
fn proof_of_each_record_is_accepted_without_the_database_and_refused_when_altered() {
    let log = Log::start();
    log.postgres().psql("SELECT audit.record_reading('a look')");
    log.add(300);
    let (folder, key) = (log.path().join("proofs"), log.vkey());
    let output = log.run(&[
        "prove",
        "--key",
        &key,
        "--request",
        "r-1",
        "--out",
        folder.to_str().unwrap(),
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 306);
    let file = &files[17];
    let check = |file: &Path, key: &str| {
        Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
            .env_remove("AUDIT_DATABASE_URL")
            .env_remove("DATABASE_URL")
            .args(["check-proof", file.to_str().unwrap(), "--key", key])
            .output()
            .unwrap()
    };
    let output = check(file, &key);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains("user_id: alice") && said.contains("audit.query_runs is as it was recorded"),
        "{said}"
    );
    let proof = fs::read_to_string(file).unwrap();
    assert!(proof.len() < 4096 + 600, "{}", proof.len());
    let other = MemoryKey::generate(ORIGIN).unwrap().vkey().to_string();
    assert_eq!(check(file, &other).status.code(), Some(1));
    for (at, line) in proof.lines().enumerate() {
        if line.len() < 8
            || line.starts_with('c')
            || line.starts_with('e') && !line.starts_with("extra")
        {
            continue;
        }
        // The last signature is the timestamp, the one before it the log's.
        let altered: Vec<String> = proof
            .lines()
            .enumerate()
            .map(|(n, line)| if n == at { flip(line) } else { line.to_owned() })
            .collect();
        let altered_file = log.path().join("altered");
        fs::write(&altered_file, altered.join("\n") + "\n").unwrap();
        assert_ne!(
            check(&altered_file, &key).status.code(),
            Some(0),
            "line {at}: {line}"
        );
    }
    // A row of a batch that was changed is not proven.
    log.as_superuser("UPDATE audit.query_runs SET sql_text = 'x' WHERE seq = 1");
    let id = log
        .postgres()
        .psql("SELECT id FROM audit.events WHERE seq = 2 AND action_type = 'viewed'");
    let output = log.run(&["prove", "--key", &key, &id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

/// Changes a character near the middle of a line.
fn flip(line: &str) -> String {
    let at = line.len() / 2;
    let (before, after) = line.split_at(at);
    let mut rest = after.chars();
    let other = if rest.next() == Some('A') { 'B' } else { 'A' };
    format!("{before}{other}{}", rest.as_str())
}

#[test]
fn last_hour_is_verified_without_what_was_before() {
    let log = Log::empty();
    log.record(306);
    // As if all but the last batches were older.
    log.as_superuser("UPDATE audit.batches SET committed_at = committed_at - interval '2 days' WHERE first_seq < 560");
    log.publish(0);
    log.as_superuser("UPDATE audit.query_runs SET sql_text = 'x' WHERE seq = 1");
    // The tile in which the first of them lies is read from its beginning.
    let (kinds, said) = log.verify(&["--since", "1h"]);
    assert_eq!(kinds, BTreeSet::new(), "{said}");
    assert!(said["rows"].as_u64().unwrap() < 200, "{said}");
    // Whether a batch is older is not for the database to say.
    let back = "UPDATE audit.batches SET committed_at = committed_at - interval '2 days' WHERE first_seq >= 560";
    log.as_superuser(back);
    log.assert_found(&["--since", "1h"], &["header_changed"]);
    log.as_superuser(&back.replace(" - ", " + "));
    log.as_superuser("UPDATE audit.query_runs SET sql_text = 'x' WHERE seq = 601");
    log.assert_found(&["--since", "1h"], &["row_edited"]);
    // A row of no batch is found there too.
    log.as_superuser("INSERT INTO audit.events (id, status, created_at, writer_id, seq, salt) SELECT (SELECT first_id FROM audit.batches WHERE first_seq = 601), 'succeeded', now(), gen_random_uuid(), 1, ''");
    log.assert_found(&["--since", "1h"], &["row_edited", "row_inserted"]);
}

#[test]
fn rows_of_a_tenant_are_verified_by_themselves() {
    let log = Log::start();
    for tenant in ["acme", "globex"] {
        log.trail
            .audit
            .record(Event::new("of a tenant").tenant_id(tenant))
            .unwrap();
        log.trail.audit.flush_blocking(PATIENCE).unwrap();
    }
    log.publish(0);
    log.assert_found(&["--tenant", "acme"], &[]);
    log.as_superuser(
        "UPDATE audit.events SET target_id = 'x' WHERE tenant_id = audit.tenant_uuid('acme')",
    );
    log.assert_found(&["--tenant", "acme"], &["row_edited"]);
    log.assert_found(&["--tenant", "globex"], &[]);
    log.assert_found(&["--tenant", "nobody"], &[]);
}

#[test]
fn erasure_says_first_what_it_would_do_and_a_hold_stands_against_it() {
    let log = Log::start();
    let erase = |more: &[&str]| {
        let mut words = vec![
            "erase",
            "--user",
            "alice",
            "--reason",
            "art. 17",
            "--requested-by",
            "by mail",
        ];
        words.extend(more);
        log.run(&words)
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let output = erase(&[]);
    assert!(
        said(&output).starts_with("Would erase the content of 6 records"),
        "{}",
        said(&output)
    );
    let left = || {
        log.postgres()
            .psql("SELECT count(*) FROM audit.query_runs WHERE user_id = 'alice'")
    };
    assert_eq!(left(), "6");
    log.postgres().psql("SELECT audit.place_hold('a case')");
    let output = erase(&["--yes"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("held by the legal hold"));
    log.postgres()
        .psql("SELECT audit.lift_hold(id, 'closed') FROM audit.legal_holds");
    let output = erase(&["--yes"]);
    assert!(
        said(&output).starts_with("Erased the content of 6 records"),
        "{}",
        said(&output)
    );
    assert_eq!(left(), "0");
    // Nothing of it is left in the trail, not even in what tells of the erasure.
    assert_eq!(
        log.postgres()
            .psql("SELECT count(*) FROM audit.trail t WHERE t::text LIKE '%alice%'"),
        "0"
    );
    log.publish(0);
    let (kinds, all) = log.verify(&[]);
    assert!(kinds.is_empty(), "{all}");
    // A proof says that the content is not in it, and still proves the rest.
    let key = log.vkey();
    let id = log
        .postgres()
        .psql("SELECT min(id::text) FROM audit.query_runs");
    let proof = log.path().join("proof");
    fs::write(&proof, log.run(&["prove", "--key", &key, &id]).stdout).unwrap();
    let output = log.run(&["check-proof", proof.to_str().unwrap(), "--key", &key]);
    assert!(
        said(&output).contains("its content is not in the proof"),
        "{}",
        said(&output)
    );
    assert!(said(&output).contains("request_id: r-1"));
}

/// A batch of an old month with rows of three tables, and one with rows of two months.
const OLD_BATCHES: &str = "
    SELECT audit.ensure_partition(t, m) FROM unnest(audit.record_tables()) t, unnest(ARRAY['2026-01-15', '2026-02-15']::timestamptz[]) m;
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version) VALUES
        ('0a000000-0000-4000-8000-000000000001', 1, 11, '{\"events\": 5, \"query_runs\": 4, \"activities\": 2}', 0, audit.id_at('2026-01-15'), audit.id_at('2026-01-16'), 'test'),
        ('0a000000-0000-4000-8000-000000000001', 12, 19, '{\"events\": 8}', 0, audit.id_at('2026-01-15'), audit.id_at('2026-02-16'), 'test');
    INSERT INTO audit.query_runs (id, status, started_at, writer_id, seq, salt, sql_text)
        SELECT audit.id_at(at), 'succeeded', at, '0a000000-0000-4000-8000-000000000001', n, sha256('a'), 'SELECT 1' FROM (SELECT n, '2026-01-15 10:00Z'::timestamptz + n * interval '1 s' AS at FROM unnest('{2, 3, 5, 9}'::int[]) n) x;
    INSERT INTO audit.events (id, status, created_at, writer_id, seq, salt)
        SELECT audit.id_at(at), 'succeeded', at, '0a000000-0000-4000-8000-000000000001', n, sha256('a') FROM (SELECT n, '2026-01-15 10:00Z'::timestamptz + n * interval '1 s' AS at FROM unnest('{1, 4, 6, 7, 8}'::int[]) n) x;
    INSERT INTO audit.activities (id, status, created_at, writer_id, seq, salt)
        SELECT audit.id_at(at), 'succeeded', at, '0a000000-0000-4000-8000-000000000001', n, sha256('a') FROM (SELECT n, '2026-01-15 10:00Z'::timestamptz + n * interval '1 s' AS at FROM unnest('{10, 11}'::int[]) n) x;
    INSERT INTO audit.events (id, status, created_at, writer_id, seq, salt)
        SELECT audit.id_at(at), 'succeeded', at, '0a000000-0000-4000-8000-000000000001', n, sha256('a') FROM (SELECT n, CASE n % 3 WHEN 0 THEN '2026-01-15 12:00Z' ELSE '2026-02-15 12:00Z' END::timestamptz + n * interval '1 s' AS at FROM generate_series(12, 19) n) x;";

#[test]
fn rows_that_retention_left_are_still_proven() {
    let log = Log::start();
    log.postgres().psql(OLD_BATCHES);
    let refused = log
        .postgres()
        .try_psql("SELECT audit.remove_partition('query_runs_2026_01', '100 days')");
    assert!(refused.unwrap_err().contains("not sealed yet"));
    log.publish(0);
    log.assert_found(&[], &[]);
    for partition in ["query_runs_2026_01", "activities_2026_01", "events_2026_01"] {
        log.postgres().psql(&format!(
            "SELECT audit.remove_partition('{partition}', '100 days')"
        ));
        log.publish(0);
        let (kinds, said) = log.verify(&[]);
        assert!(kinds.is_empty(), "{partition}: {said}");
        assert!(said["notes"].to_string().contains(partition), "{said}");
        if partition == "query_runs_2026_01" {
            // What is left of the batch is proven, by itself and as a whole.
            let (id, key) = (
                log.postgres().psql(
                    "SELECT id FROM audit.events WHERE seq = 7 AND library_version IS NULL"
                        .replace(
                            "AND library_version IS NULL",
                            "AND created_at < '2026-02-01'",
                        )
                        .as_str(),
                ),
                log.vkey(),
            );
            let proof = log.path().join("proof");
            fs::write(&proof, log.run(&["prove", "--key", &key, &id]).stdout).unwrap();
            let output = log.run(&["check-proof", proof.to_str().unwrap(), "--key", &key]);
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    let undo = "UPDATE audit.removals SET removed_by = 'postgres'; UPDATE audit.events SET target_id = NULL WHERE seq = 13 AND created_at < '2026-03-01'";
    for (done, kinds) in [
        (
            "UPDATE audit.events SET target_id = 'x' WHERE seq = 13 AND created_at < '2026-03-01'",
            &["row_edited"][..],
        ),
        (
            "UPDATE audit.removals SET removed_by = 'somebody' WHERE partition = 'events_2026_01'",
            &["removal_unrecorded"],
        ),
    ] {
        log.as_superuser(done);
        log.assert_found(&[], kinds);
        log.as_superuser(undo);
    }
    log.assert_found(&[], &[]);
    log.as_superuser("DELETE FROM audit.events WHERE seq = 13 AND created_at < '2026-03-01'");
    log.assert_found(&[], &["row_missing"]);
}

#[test]
fn forged_erasures_and_removals_hide_nothing() {
    let log = Log::start();
    log.publish(0);
    // The event, too, as a superuser can have it made, and all of it sealed and published.
    let event = |action: &str, target_type: &str, target: &str, hash: &str| {
        format!(
            "SELECT audit.append_event('{action}', '{target_type}', {target}, 'x', NULL, NULL, jsonb_build_object('rows', 1, 'fields', '{{}}'::text[], 'sha256', encode({hash}, 'hex')));"
        )
    };
    // A row is edited, as if that were what an erasure had left of it.
    log.as_superuser(&format!(
        "CREATE TABLE edited AS SELECT r.id, r.writer_id, r.seq, h.content_hash FROM audit.query_runs r, LATERAL (SELECT sha256({content}) AS content_hash) h WHERE r.seq = 1;
         UPDATE audit.query_runs r SET user_id = 'mallory' FROM edited e WHERE r.id = e.id;
         INSERT INTO audit.erasures (erasure_id, table_name, id, writer_id, seq, fields, content_hash, remaining_hash)
            SELECT '0c000000-0000-4000-8000-000000000001', 'query_runs', e.id, e.writer_id, e.seq, '{{}}', e.content_hash, sha256({content}) FROM edited e JOIN audit.query_runs r ON r.id = e.id;
         {}",
        event("audit.erased", "erasure", "'0c000000-0000-4000-8000-000000000001'", "(SELECT sha256(audit.row_sha256(e)) FROM audit.erasures e)"),
        content = log.postgres().psql("SELECT audit.images_expression('query_runs', false)"),
    ));
    log.publish(0);
    log.assert_found(&[], &["row_edited"]);
    let undo = "UPDATE audit.query_runs SET user_id = 'alice' WHERE seq = 1; DELETE FROM audit.erasures; DELETE FROM audit.events WHERE action_type = 'audit.erased'; DROP TABLE edited;";
    log.as_superuser(undo);
    // Rows of this month are deleted, as if they were of a partition of long ago.
    let log = Log::start();
    log.as_superuser(&format!(
        "INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, batch, from_leaf, hashes, removed_by)
            SELECT 'query_runs_2020_01', 'query_runs', b.writer_id, 3, 3, 1, sha256(''), 3, 0, h.leaf_hash, 'postgres'
            FROM audit.batches b, LATERAL (SELECT * FROM leaves() l WHERE l.writer_id = b.writer_id AND l.seq = 3) h WHERE b.first_seq = 3;
         DELETE FROM audit.query_runs WHERE seq = 3;
         {}",
        event("audit.partition_removed", "partition", "'query_runs_2020_01'", "(SELECT sha256(sha256(audit.row_sha256(r))) FROM audit.removals r)"),
    ).replacen("INSERT INTO audit.removals", "CREATE FUNCTION leaves() RETURNS TABLE (place int, day int, seq bigint, id uuid, writer_id uuid, content_hash bytea, leaf_hash bytea) LANGUAGE plpgsql AS
            $$ BEGIN RETURN QUERY EXECUTE audit.leaves_query('query_runs', 'query_runs_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'), 'true'); END $$;
         INSERT INTO audit.removals", 1));
    log.publish(0);
    log.assert_found(&[], &["removal_unrecorded"]);
}

#[test]
fn rows_of_a_batch_that_was_sealed_without_a_root_are_missed_all_the_same() {
    let log = Log::start();
    log.postgres()
        .psql("SELECT audit.record_reading('one'); SELECT audit.record_reading('two')");
    // Deleted before it was sealed: nothing proves what it was.
    log.as_superuser("DELETE FROM audit.events WHERE input_summary = 'one'");
    log.publish(0);
    log.assert_found(&[], &["row_missing"]);
}
