//! Partitions have their rights before their first row, and rows that fit no month go to the
//! default one.

use std::time::{Duration, SystemTime};

use super::{RECORDS, allowed, login, migrated, refused};
use testkit::Postgres;
use testkit::trail::{Folder, PATIENCE, balanced, pipeline};
use tracing_audit::{Event, QueryRun};

/// Returns the catalog's description of a leaf, except for its month.
fn description(postgres: &Postgres, leaf: &str) -> String {
    postgres
        .psql(&format!(
            "SELECT jsonb_pretty(jsonb_build_object(
                'owner', c.relowner::regrole, 'rights', c.relacl, 'storage', c.reloptions, 'persistence', c.relpersistence,
                'row security', c.relrowsecurity, 'partition', c.relispartition,
                'parent', (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = c.oid),
                'columns', (SELECT jsonb_agg(jsonb_build_array(attname, atttypid::regtype, attnotnull, attstattarget, attstorage, attcompression,
                        attacl, pg_get_expr(adbin, adrelid)) ORDER BY attnum)
                    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = c.oid AND attnum > 0),
                'triggers', (SELECT jsonb_agg(pg_get_triggerdef(oid) || ' ' || tgenabled::text ORDER BY tgname) FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal),
                'constraints', (SELECT jsonb_agg(regexp_replace(pg_get_constraintdef(oid), '''[-0-9: +]+''', 'TIME', 'g') || ' ' || convalidated ORDER BY pg_get_constraintdef(oid))
                    FROM pg_constraint WHERE conrelid = c.oid),
                'indexes', (SELECT jsonb_agg(pg_get_indexdef(indexrelid) || ' ' || indisvalid ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = c.oid)
            )) FROM pg_class c WHERE c.oid = 'audit_parts.{leaf}'::regclass"
        ))
        .replace(leaf, "LEAF")
}

#[test]
fn partition_is_fully_protected_before_its_first_row() {
    let postgres = migrated();
    let mut writer = login(&postgres, "as_writer", Some("audit_writer"));
    for (parent, time) in RECORDS {
        let ensure = |at: &str| format!("SELECT audit.ensure_partition('{parent}', {at})");
        let current = allowed(&mut writer, &ensure("now()"));
        let described = description(&postgres, &current);
        // Created by the writer alone, just before its first row is written, in the same
        // transaction.
        allowed(&mut writer, "BEGIN");
        let next = allowed(
            &mut writer,
            &ensure("date_trunc('month', now()) + interval '1 month'"),
        );
        allowed(
            &mut writer,
            &format!(
                "INSERT INTO audit_parts.{next} (id, status, {time}, writer_id, seq, salt)
                 SELECT audit.id_at(at), 'succeeded', at, gen_random_uuid(), 1, '' FROM (SELECT date_trunc('month', now(), 'UTC') + interval '40 days') AS t (at)"
            ),
        );
        allowed(&mut writer, "COMMIT");
        assert_eq!(description(&postgres, &next), described);
        for expected in [
            "\"owner\": \"audit_owner\"",
            "audit_writer=a/audit_owner",
            "append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.LEAF FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change() A",
            "append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.LEAF FOR EACH ROW EXECUTE FUNCTION audit.refuse_change() A",
            "CHECK (((",
            "PRIMARY KEY (id)",
        ] {
            assert!(
                described.contains(expected),
                "{expected} is not in {described}"
            );
        }
        // Events have one more, by which the history of a row is found.
        let indexes = if parent == "events" { 3 } else { 2 };
        let count = described.matches("CREATE INDEX").count();
        assert_eq!(count, indexes, "{described}");
        // The default one is the same except for the month.
        let fallback = description(&postgres, &format!("{parent}_default"));
        let lines = |text: &str| -> Vec<String> {
            let is_of_a_month =
                |line: &&str| !line.contains("CHECK (((") && !line.contains("CHECK ((date_trunc");
            text.lines()
                .filter(is_of_a_month)
                .map(|line| line.trim_end_matches(',').to_owned())
                .collect()
        };
        assert_eq!(lines(&fallback), lines(&described));
        // A row of another month is refused, by its time and by its id.
        let elsewhere = format!(
            "INSERT INTO audit_parts.{next} (id, status, {time}, writer_id, seq, salt)
             SELECT audit.id_at(now() + interval '40 days'), 'succeeded', '2020-01-01Z', gen_random_uuid(), 1, ''"
        );
        refused(&mut writer, "23514", &elsewhere);
    }
}

#[test]
fn record_ten_years_ahead_goes_to_the_default_partition_and_is_counted() {
    let postgres = migrated();
    login(&postgres, "app", Some("audit_writer"));
    let spool = Folder::new();
    let audit = pipeline(&postgres, &spool, |builder| {
        builder.postgres(postgres.url_as("app"))
    });
    audit.record(Event::new("now")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().in_default_partition(), 0);
    let ahead = SystemTime::now() + Duration::from_hours(10 * 365 * 24);
    for _ in 0..3 {
        audit
            .record(QueryRun::new("SELECT 1").started_at(ahead))
            .unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    assert_eq!(audit.stats().in_default_partition(), 3);
    assert_eq!(
        postgres.psql("SELECT DISTINCT tableoid::regclass FROM audit.query_runs"),
        "audit_parts.query_runs_default"
    );
    balanced(&audit, &postgres);
}

#[test]
fn month_with_rows_in_the_default_partition_gets_no_partition_until_settled() {
    let postgres = migrated();
    let mut writer = login(&postgres, "as_writer", Some("audit_writer"));
    let next = "date_trunc('month', now(), 'UTC') + interval '40 days'";
    let ensure = format!("SELECT audit.ensure_partition('events', {next})");
    // From a clock that was ahead, while that month was still far off.
    let insert = format!(
        "INSERT INTO audit_parts.events_default (id, status, created_at, writer_id, seq, salt)
         SELECT audit.id_at({next}), 'succeeded', {next}, gen_random_uuid(), 1, ''"
    );
    allowed(&mut writer, &insert);
    assert_eq!(allowed(&mut writer, &ensure), "events_default");
    assert_eq!(
        allowed(&mut writer, &ensure.replace("events", "query_runs")).len(),
        "query_runs_2026_01".len()
    );
    // An operator moves them, as in `settle.rs`, or a superuser.
    let mut operator = login(&postgres, "as_operator", Some("audit_operator"));
    assert_eq!(allowed(&mut operator, &ensure), "events_default");
    refused(
        &mut writer,
        "42501",
        "DELETE FROM audit_parts.events_default",
    );
    postgres.psql(
        "ALTER TABLE audit_parts.events_default DISABLE TRIGGER USER;
         CREATE TEMPORARY TABLE moved AS SELECT * FROM audit_parts.events_default;
         DELETE FROM audit_parts.events_default;
         ALTER TABLE audit_parts.events_default ENABLE ALWAYS TRIGGER append_only;
         ALTER TABLE audit_parts.events_default ENABLE ALWAYS TRIGGER append_only_rows;
         SELECT audit.ensure_partition('events', created_at) FROM moved;
         INSERT INTO audit.events SELECT * FROM moved",
    );
    let leaf = allowed(&mut writer, &ensure);
    assert_ne!(leaf, "events_default");
    assert_eq!(
        postgres.psql("SELECT tableoid::regclass FROM audit.events"),
        format!("audit_parts.{leaf}")
    );
}

#[test]
fn sixteen_concurrent_writers_create_a_new_month_once() {
    let postgres = migrated();
    postgres.psql("CREATE ROLE as_writer LOGIN IN ROLE audit_writer, audit_operator");
    let mut holder = postgres.session("as_writer");
    let mut sessions: Vec<_> = (0..16).map(|_| postgres.session("as_writer")).collect();
    let ensure = "SELECT audit.ensure_partition('events', '2020-01-15Z')";
    for session in &mut sessions {
        // Each has cached that it does not exist.
        allowed(session, "SELECT to_regclass('audit_parts.events_2020_01')");
    }
    allowed(&mut holder, &format!("BEGIN; {ensure}"));
    for session in &mut sessions {
        session.send(ensure);
    }
    testkit::wait_until("all wait for the first", PATIENCE, || {
        postgres.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            == "16"
    });
    // The first rolls back; one of the others creates it.
    allowed(&mut holder, "ROLLBACK");
    for session in &mut sessions {
        assert_eq!(session.receive(), Ok("events_2020_01".to_owned()));
    }
    assert_eq!(
        postgres.log().matches("ERROR:").count(),
        0,
        "{}",
        postgres.log()
    );
    assert_eq!(
        postgres
            .psql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit.events'::regclass"),
        "2"
    );
}

#[test]
fn a_session_that_has_other_defaults_of_storage_makes_the_same_partition() {
    let postgres = Postgres::start_with(&["allow_in_place_tablespaces=on"]);
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql("CREATE TABLESPACE fast LOCATION ''");
    postgres.psql(
        "GRANT CREATE ON TABLESPACE fast TO PUBLIC; CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler",
    );
    let mut writer = login(&postgres, "w", Some("audit_writer"));
    allowed(
        &mut writer,
        "SET default_tablespace = fast; SET default_table_access_method = heap2",
    );
    allowed(
        &mut writer,
        "SELECT audit.ensure_partition('events', now())",
    );
    assert_eq!(
        postgres.psql(
            "SELECT DISTINCT coalesce(am.amname, ''), c.reltablespace FROM pg_class c LEFT JOIN pg_am am ON am.oid = c.relam
             WHERE c.relnamespace = 'audit_parts'::regnamespace AND c.relkind IN ('r', 'i') ORDER BY 1"
        ),
        "btree|0\nheap|0"
    );
}
