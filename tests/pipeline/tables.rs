//! Tables: who creates them, and what they refuse.

use std::time::{Duration, UNIX_EPOCH};

use testkit::trail::{Folder, PATIENCE, Trail, balanced, count, once_each, pipeline, rows};
use testkit::{Postgres, wait_until};
use tracing_audit::{Event, Health, Kind, QueryRun};

#[test]
fn a_row_that_postgres_refuses_becomes_a_dead_letter_and_the_others_are_written() {
    let trail = Trail::start_with(|builder| builder.batch(100_000, Duration::from_secs(5)));
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    // A host's constraint, which no value can be adapted to.
    trail.postgres.psql(
        "ALTER TABLE audit.events ADD CONSTRAINT host_rule CHECK (action_type NOT LIKE 'poison%')",
    );
    for position in 0..1_000 {
        let poisoned = matches!(position, 0 | 1 | 500 | 999);
        let action = if poisoned { "poison SECRET" } else { "fine" };
        trail.audit.record(Event::new(action)).unwrap();
        trail.audit.record(QueryRun::new("SELECT 1")).unwrap();
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let stats = trail.audit.stats();
    assert_eq!(
        (stats.committed(), stats.dead_lettered(), stats.pending()),
        (1 + 1_996, 4, 0)
    );
    assert_eq!(count(&trail.postgres, "query_runs"), 1_000);
    let letters = trail.postgres.psql(
        "SELECT string_agg(DISTINCT kind || ' ' || sqlstate, ','), count(*), count(record_id), \
         bool_and(position('poison SECRET'::bytea IN frame) > 0 AND octet_length(salt) = 16) FROM audit.dead_letters",
    );
    assert_eq!(letters.trim(), "audit.event 23514|4|4|t");
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn a_host_table_can_refer_to_a_run_and_a_query_by_time_reads_one_partition() {
    let trail = Trail::start();
    let mut ids = Vec::new();
    // 2026-01-15, 2026-02-15 and 9000-01-01, UTC: the last from a clock that is wrong.
    for seconds in [1_768_435_200, 1_771_113_600, 221_845_392_000] {
        let run = QueryRun::new("SELECT 1").started_at(UNIX_EPOCH + Duration::from_secs(seconds));
        ids.push(trail.audit.record(run).unwrap());
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let leaves = trail
        .postgres
        .psql("SELECT DISTINCT tableoid::regclass::text FROM audit.query_runs ORDER BY 1");
    assert_eq!(
        leaves.lines().collect::<Vec<_>>(),
        [
            "audit_parts.query_runs_2026_01",
            "audit_parts.query_runs_2026_02",
            "audit_parts.query_runs_default"
        ]
    );
    trail.postgres.psql(
        "CREATE TABLE favorite_queries (run_id uuid NOT NULL REFERENCES audit.query_runs (id))",
    );
    trail.postgres.psql(&format!(
        "INSERT INTO favorite_queries VALUES ('{}')",
        ids[1]
    ));
    let refused = trail
        .postgres
        .try_psql("INSERT INTO favorite_queries VALUES ('00000000-0000-7000-8000-000000000000')")
        .unwrap_err();
    assert!(refused.contains("23503"), "{refused}");
    let plan = trail.postgres.psql(
        "EXPLAIN (COSTS OFF) SELECT * FROM audit.query_runs \
         WHERE started_at >= '2026-02-01 00:00+00' AND started_at < '2026-02-20 00:00+00'",
    );
    assert!(plan.contains("query_runs_2026_02"), "{plan}");
    assert!(!plan.contains("query_runs_2026_01"), "{plan}");
    let made = trail.postgres.psql(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'audit_parts'::regnamespace AND relkind = 'r' AND relname LIKE '%' || to_char(now() AT TIME ZONE 'UTC' + interval '1 month', 'YYYY_MM')",
    );
    assert_eq!(
        made.trim(),
        "4",
        "the next month's partitions are there before they are needed"
    );
}

#[test]
fn pipeline_without_the_right_to_create_tables_waits_until_they_exist() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    postgres.psql("CREATE ROLE app LOGIN");
    let url = postgres.url().replace("postgres@", "app@");
    let audit = pipeline(&postgres, &spool, |builder| builder.postgres(url));
    audit.record(Event::new("kept")).unwrap();
    wait_until("it says that it waits", PATIENCE, || {
        audit.stats().health() == Health::Holding
    });
    assert_eq!(audit.stats().pending(), 1);
    tracing_audit::migrate(&postgres.url()).unwrap();
    tracing_audit::migrate(&postgres.url()).expect("a second time there is nothing to do");
    postgres.psql("GRANT audit_writer TO app");
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(rows(&postgres, Kind::Event)[0]["action_type"], "kept");
    assert_eq!(audit.stats().health(), Health::Healthy);
}

#[test]
fn tables_of_a_newer_version_are_left_alone() {
    let (postgres, spool) = (Postgres::start(), Folder::new());
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql(
        "INSERT INTO audit.schema_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of the future', true, '', 0)",
    );
    let error = tracing_audit::migrate(&postgres.url()).unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.drop_timeout(Duration::ZERO)
    });
    audit.record(Event::new("kept")).unwrap();
    wait_until("it says that it waits", PATIENCE, || {
        audit.stats().health() == Health::Holding
    });
    assert_eq!(
        (audit.stats().pending(), count(&postgres, "events")),
        (1, 0)
    );
}

#[test]
fn concurrent_pipelines_on_an_empty_database_create_the_tables_once() {
    let postgres = Postgres::start();
    let folders: Vec<_> = (0..8).map(|_| Folder::new()).collect();
    std::thread::scope(|scope| {
        for folder in &folders {
            scope.spawn(|| {
                let audit = pipeline(&postgres, folder, |builder| builder);
                audit.record(Event::new("x")).unwrap();
                audit.flush_blocking(PATIENCE).unwrap();
            });
        }
    });
    assert_eq!(count(&postgres, "events"), 8);
    assert_eq!(
        postgres
            .psql("SELECT count(*) FROM audit.schema_migrations")
            .trim(),
        "6"
    );
    assert_eq!(
        postgres
            .psql("SELECT to_regclass('public._sqlx_migrations') IS NULL")
            .trim(),
        "t"
    );
    once_each(&postgres);
}

#[test]
fn records_of_a_detached_partition_are_held_until_it_is_attached_again() {
    let trail = Trail::start();
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let leaf = trail
        .postgres
        .psql("SELECT DISTINCT tableoid::regclass FROM audit.events");
    let leaf = leaf.trim();
    let bound = trail.postgres.psql(&format!(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = '{leaf}'::regclass"
    ));
    trail
        .postgres
        .psql(&format!("ALTER TABLE audit.events DETACH PARTITION {leaf}"));
    trail.audit.record(Event::new("second")).unwrap();
    wait_until("it says that it holds", PATIENCE, || {
        trail.audit.stats().health() == Health::Holding
    });
    assert_eq!(trail.audit.stats().committed(), 1);
    trail.postgres.psql(&format!(
        "ALTER TABLE audit.events ATTACH PARTITION {leaf} {}",
        bound.trim()
    ));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(count(&trail.postgres, "events"), 2);
    balanced(&trail.audit, &trail.postgres);
}

#[test]
fn records_are_held_while_an_added_column_refuses_them() {
    let trail = Trail::start();
    trail.audit.record(Event::new("first")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    trail.postgres.psql("ALTER TABLE audit.events ADD COLUMN theirs text NOT NULL DEFAULT ''; ALTER TABLE audit.events ALTER COLUMN theirs DROP DEFAULT");
    trail.audit.record(Event::new("second")).unwrap();
    wait_until("it says that it holds", PATIENCE, || {
        trail.audit.stats().health() == Health::Holding
    });
    assert_eq!(trail.audit.stats().dead_lettered(), 0);
    trail
        .postgres
        .psql("ALTER TABLE audit.events ALTER COLUMN theirs DROP NOT NULL");
    trail.audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(count(&trail.postgres, "events"), 2);
}
