//! A database that is restored from a real `pg_dump`.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use testkit::trail::{Folder, PATIENCE, pipeline};
use testkit::{Postgres, wait_until};
use tracing_audit::{Audit, Event, HttpRequest, PromptRun, QueryRun};

use super::{Setting, assert_success, program};

/// More than are sealed in one transaction.
const MANY: u32 = 2_500;

/// Records some of each kind, with one that Postgres refuses, and commits them.
fn record(audit: &Audit, number: usize) {
    for n in 0..number {
        audit.record(QueryRun::new(format!("SELECT {n}"))).unwrap();
        audit
            .record(PromptRun::new(format!("Translate {n}")))
            .unwrap();
        audit.record(HttpRequest::new("GET", "/orders")).unwrap();
        audit
            .record(Event::new("viewed").target("order", n.to_string()))
            .unwrap();
    }
    audit.record(Event::new("poison")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
}

/// Returns a trail with a table whose changes are recorded, and a program that writes to it.
fn written(setting: &Setting, spool: &Folder) -> Audit {
    setting.postgres.psql(
        "ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type NOT LIKE 'poison%');
         CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL); SELECT audit.track('items'); INSERT INTO items VALUES (1, 0)",
    );
    let audit = pipeline(&setting.postgres, spool, |builder| builder);
    record(&audit, 30);
    audit
}

fn dump(postgres: &Postgres, name: &str) -> String {
    let file = postgres.data_dir().join(name);
    let file = file.to_str().unwrap();
    postgres.client("pg_dump", &["-Fc", "-f", file, "audit"]);
    file.to_owned()
}

/// Adds readings, each a batch of its own writer, that nobody adds to afterwards.
fn read_many(postgres: &Postgres, number: u32) {
    postgres.psql(&format!(
        "DO $$ BEGIN SET synchronous_commit = off; FOR n IN 1 .. {number} LOOP PERFORM audit.record_reading('look ' || n); COMMIT; END LOOP; END $$"
    ));
}

#[test]
fn restored_dump_is_named_and_nothing_is_signed() {
    let setting = Setting::start();
    if !setting.postgres.can_be_dumped() {
        return;
    }
    let (spool, folder) = (Folder::new(), setting.folder("anchor"));
    let audit = written(&setting, &spool);
    setting.once(&[&folder]);
    let first = setting.size(&folder);
    let earlier = dump(&setting.postgres, "earlier");
    record(&audit, 20);
    setting.once(&[&folder]);
    assert!(setting.size(&folder) > first);
    let newest = dump(&setting.postgres, "newest");

    setting.postgres.psql("CREATE DATABASE earlier");
    setting.postgres.psql("CREATE DATABASE newest");
    for (database, file) in [("earlier", &earlier), ("newest", &newest)] {
        setting
            .postgres
            .client("pg_restore", &["--exit-on-error", "-d", database, file]);
    }
    // The newest is what it was, and goes on from there.
    let url = setting.postgres.url_of("newest");
    let all = setting.verify(&url, &folder, &[]).assert_clean();
    assert_eq!(all["unsealed_rows"], 0);
    assert!(all["rows"].as_u64().unwrap() > 200);

    let url = setting.postgres.url_of("earlier");
    let verified = setting.verify(&url, &folder, &[]);
    assert_eq!(
        verified.kinds().into_iter().collect::<Vec<_>>(),
        ["restored"]
    );
    let before = fs::read(folder.join("checkpoint")).unwrap();
    // Also when others have come since, and more of them than the log has lost.
    for more in [0, 50] {
        let mut restored = setting.postgres.session_in("earlier", "postgres");
        for n in 0..more {
            restored.psql(&format!("SELECT audit.record_reading('instead {n}')"));
        }
        if more > 0 {
            restored.psql("SELECT audit.seal()");
        }
        let output = setting
            .seal(&url, &[&folder])
            .arg("--once")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("restored to an earlier state"), "{told}");
        assert_eq!(fs::read(folder.join("checkpoint")).unwrap(), before);
    }
    let verified = setting.verify(&url, &folder, &[]);
    assert!(verified.kinds().contains("fork"), "{:?}", verified.kinds());
}

/// A sealer that goes on, and is killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sealer(setting: &Setting, url: &str, folder: &Path) -> Running {
    let child = setting
        .seal(url, &[folder])
        .args(["--interval", "20ms"])
        .stderr(Stdio::null())
        .spawn();
    Running(child.unwrap())
}

#[test]
fn log_goes_on_in_a_new_cluster_whose_transactions_have_lower_numbers() {
    let setting = Setting::start();
    if !setting.postgres.can_be_dumped() {
        return;
    }
    let (spool, folder) = (Folder::new(), setting.folder("anchor"));
    // Transactions of the first cluster, so that the second has not had as many when all is over.
    setting.postgres.psql(
        "DO $$ BEGIN SET synchronous_commit = off; FOR n IN 1 .. 20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$",
    );
    let audit = written(&setting, &spool);
    setting.once(&[&folder]);
    // Not sealed yet: of writers that will write no more, and of one that will.
    read_many(&setting.postgres, MANY);
    record(&audit, 10);
    setting.postgres.psql("UPDATE items SET n = n + 1");
    audit.shutdown_blocking(PATIENCE);
    let file = dump(&setting.postgres, "dump");
    let roles = setting.postgres.data_dir().join("roles");
    let roles = roles.to_str().unwrap();
    setting
        .postgres
        .client("pg_dumpall", &["--roles-only", "-f", roles]);

    let fresh = Postgres::start();
    fresh.client("psql", &["-q", "-f", roles, "audit"]);
    fresh.client("pg_restore", &["--exit-on-error", "-d", "audit", &file]);
    let verified = setting.verify(&fresh.url(), &folder, &[]).assert_clean();
    assert!(verified["unsealed_rows"].as_u64().unwrap() > u64::from(MANY));
    let unsealed = || {
        fresh.psql("SELECT count(*) FROM audit.batches b WHERE NOT EXISTS (SELECT FROM audit.ledger l WHERE l.writer_id = b.writer_id AND l.first_seq = b.first_seq)")
    };
    let lower = "SELECT min(added_by)::text::bigint - pg_current_xact_id()::text::bigint > 10000 FROM audit.batches";
    assert_eq!(fresh.psql(lower), "t");
    // Those that were not sealed, with those that have come before anybody looked.
    read_many(&fresh, 2_200);
    let output = setting
        .seal(&fresh.url(), &[&folder])
        .arg("--once")
        .output();
    assert_success(&output.unwrap());
    assert_eq!(unsealed(), "0");
    // And what comes later, while a sealer runs: of new writers, and of one from before.
    {
        let _sealer = sealer(&setting, &fresh.url(), &folder);
        let audit = pipeline(&fresh, &spool, |builder| builder);
        for _ in 0..5 {
            record(&audit, 5);
            fresh.psql("UPDATE items SET n = n + 1");
            read_many(&fresh, 3);
            wait_until("all is sealed", PATIENCE, || unsealed() == "0");
        }
        audit.shutdown_blocking(PATIENCE);
        wait_until("all is sealed", PATIENCE, || unsealed() == "0");
    }
    let output = setting
        .seal(&fresh.url(), &[&folder])
        .arg("--once")
        .output();
    assert_success(&output.unwrap());
    // The old numbers are still ahead of this cluster, and the new ones lower than them.
    let numbers = "SELECT max(added_by)::text::bigint > pg_current_xact_id()::text::bigint, min(added_by)::text::bigint < pg_current_xact_id()::text::bigint FROM audit.batches";
    assert_eq!(fresh.psql(numbers), "t|t");
    let verified = setting.verify(&fresh.url(), &folder, &[]).assert_clean();
    assert_eq!(verified["unsealed_rows"], 0);
    assert_eq!(verified["entries"], verified["checkpoint"]);
    assert_eq!(
        fresh.psql("SELECT count(*) FROM audit.batches"),
        verified["entries"].to_string()
    );
}

#[test]
fn number_of_another_server_hides_no_batch() {
    let setting = Setting::start();
    read_many(&setting.postgres, 3);
    // As a pooler that leads to another server leaves it with the sealer.
    let sealed = "SELECT size, sealed, next::text::numeric <= pg_current_xact_id()::text::numeric FROM audit.seal('9223372036854775000')";
    assert_eq!(setting.postgres.psql(sealed), "3|3|t");
    let output = program(&setting.postgres.url()).arg("verify").output();
    assert_success(&output.unwrap());
}
