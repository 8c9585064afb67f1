//! A server, a pipeline that writes to it, and the rows it wrote.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tracing_audit::{Audit, Builder, Event, Kind};
use tracing_subscriber::prelude::*;

use super::{Postgres, wait_until};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Lets a superuser change everything.
pub const TRIGGERS_OFF: &str = "
    DO $$ DECLARE t regclass; BEGIN
        FOR t IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname IN ('audit', 'audit_parts') AND c.relkind IN ('r', 'p')
        LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', t); END LOOP;
    END $$";

/// A folder for the local log, removed on drop.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// Names a folder that does not exist yet.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!(
            "tracing-audit-spool-{}-{count}",
            std::process::id()
        )))
    }

    /// Returns the names of its entries.
    pub fn names(&self) -> Vec<String> {
        std::fs::read_dir(&self.0)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server, a running pipeline, and its folder.
#[derive(Debug)]
pub struct Trail {
    // Dropped in this order: the pipeline before the server it writes to.
    /// The pipeline.
    pub audit: Audit,
    /// Its server.
    pub postgres: Postgres,
    /// The folder of its local log.
    pub spool: Folder,
}

impl Trail {
    /// Starts a server and a pipeline with the default settings.
    pub fn start() -> Self {
        Self::start_with(|builder| builder)
    }

    /// Starts a server and a pipeline with settings of its own.
    pub fn start_with(configure: impl FnOnce(Builder) -> Builder) -> Self {
        let postgres = Postgres::start();
        let spool = Folder::new();
        let audit = pipeline(&postgres, &spool, configure);
        Self {
            audit,
            postgres,
            spool,
        }
    }

    /// Runs with our layer alone as the thread's subscriber.
    pub fn scoped<T>(&self, run: impl FnOnce() -> T) -> T {
        let subscriber = tracing_subscriber::registry().with(self.audit.layer());
        tracing::subscriber::with_default(subscriber, run)
    }

    /// Flushes, and returns the rows of a table in the order in which they were written.
    pub fn rows(&self, kind: Kind) -> Vec<Value> {
        self.audit
            .flush_blocking(PATIENCE)
            .expect("all is committed");
        rows(&self.postgres, kind)
    }

    /// Returns the only row of a table.
    pub fn row(&self, kind: Kind) -> Value {
        let mut rows = self.rows(kind);
        assert_eq!(rows.len(), 1, "{rows:#?}");
        rows.remove(0)
    }
}

/// Starts a pipeline that writes to the server.
pub fn pipeline(
    postgres: &Postgres,
    spool: &Folder,
    configure: impl FnOnce(Builder) -> Builder,
) -> Audit {
    let builder = Audit::builder()
        .postgres(postgres.url())
        .spool(&spool.0)
        .service_name("test");
    configure(builder).start().expect("the pipeline starts")
}

/// Records an event that outweighs all earlier records, and waits until the local log holds it.
///
/// A thread's earlier records reach the log no later. An empty queue would not do: the worker has
/// the records then, but may not have stored them.
pub fn record_and_wait_until_stored(audit: &Audit, action_type: &str) {
    const LARGE: usize = 1_000_000;
    let event = Event::new(action_type).error_message("x".repeat(LARGE));
    audit.record(event).unwrap();
    wait_until("the local log holds all", PATIENCE, || {
        audit.stats().spool_bytes() > LARGE as u64
    });
}

/// Returns the rows of a table in the order in which they were written.
pub fn rows(postgres: &Postgres, kind: Kind) -> Vec<Value> {
    postgres
        .psql(&format!(
            "SELECT to_jsonb(t) FROM audit.{} t ORDER BY writer_id, seq",
            kind.table_name()
        ))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Fails unless each accepted record is counted in exactly one place.
#[track_caller]
pub fn assert_law(audit: &Audit) {
    let stats = audit.stats();
    assert_eq!(
        stats.accepted(),
        stats.committed() + stats.pending() + stats.dead_lettered() + stats.dropped(),
        "{stats:?}"
    );
    assert!(stats.dropped() <= stats.accepted(), "{stats:?}");
}

/// Fails unless the law holds and every record is there once, without a gap.
#[track_caller]
pub fn balanced(audit: &Audit, postgres: &Postgres) {
    assert_law(audit);
    once_each(postgres);
}

/// Fails unless every writer's records have no gaps and exist once each.
#[track_caller]
pub fn once_each(postgres: &Postgres) {
    let mut tables = record_tables(postgres);
    tables.push(String::from("dead_letters"));
    let seqs: Vec<String> = tables
        .iter()
        .map(|table| format!("SELECT writer_id, seq FROM audit.{table}"))
        .collect();
    let seqs = seqs.join(" UNION ALL ");
    let wrong = postgres.psql(&format!(
        "WITH seqs AS ({seqs})
         SELECT writer_id FROM seqs GROUP BY 1 HAVING min(seq) <> 1 OR max(seq) <> count(*) OR count(DISTINCT seq) <> count(*)
         UNION ALL
         SELECT writer_id FROM (SELECT *, lag(last_seq, 1, 0) OVER (PARTITION BY writer_id ORDER BY first_seq) AS before FROM audit.batches) b
         WHERE first_seq <> before + 1"
    ));
    assert_eq!(wrong, "", "writers whose records have a gap or a copy");
    hashed_alike(postgres);
}

/// Fails unless the database computes the same hashes of each batch's rows as its writer has sent.
#[track_caller]
pub fn hashed_alike(postgres: &Postgres) {
    let wrong = postgres.psql(
        "WITH roots AS MATERIALIZED (SELECT h.* FROM (SELECT array_agg(b.writer_id) AS writers, array_agg(b.first_seq) AS firsts FROM audit.batches b WHERE b.root IS NOT NULL) a, audit.hash_batches(a.writers, a.firsts) h)
         SELECT b.writer_id, b.first_seq, b.last_seq, r.root IS NULL
         FROM audit.batches b LEFT JOIN roots r USING (writer_id, first_seq)
         -- The database looks for no rows of a program's batch over more than two months.
         WHERE b.root IS NOT NULL AND coalesce(audit.day_of(b.last_id) - audit.day_of(b.first_id), 0) <= 61 AND (b.root, b.fingerprints) IS DISTINCT FROM (r.root, r.fingerprints)",
    );
    assert_eq!(
        wrong, "",
        "batches whose rows are not as their writer hashed them"
    );
}

/// Returns the names of the record tables.
pub fn record_tables(postgres: &Postgres) -> Vec<String> {
    let names = postgres.psql("SELECT unnest(audit.record_tables())");
    names.lines().map(String::from).collect()
}

/// Returns the number of rows of a table.
pub fn count(postgres: &Postgres, table: &str) -> u64 {
    postgres
        .psql(&format!("SELECT count(*) FROM audit.{table}"))
        .trim()
        .parse()
        .unwrap()
}
