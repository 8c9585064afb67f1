//! What is forged against `tracing-audit verify`: rows of a writer's login, which may neither alarm nor stop it; and what an owner
//! makes up besides the rows that it changes, which it must not believe.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use testkit::Postgres;
use testkit::trail::TRIGGERS_OFF;

/// What the tests call: a batch of a program with these events, each written by `row`; and content hashes.
const HELPERS: &str = "
    CREATE FUNCTION public.add(writer uuid, first_id uuid, last_id uuid, records jsonb, root bytea DEFAULT NULL, fingerprints bytea DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
        SELECT audit.add_batch(writer, decode(repeat('01', 32), 'hex'), 1, (SELECT sum(value::text::bigint)::bigint FROM jsonb_each(records)), records, 0, first_id, last_id, 'shop', 'test', NULL, root, fingerprints) $$;
    CREATE FUNCTION public.add_row(parent text, at timestamptz, id uuid, writer uuid, seq bigint, more jsonb DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
        DECLARE given jsonb := more || jsonb_build_object('id', id, 'status', 'succeeded', 'writer_id', writer, 'seq', seq, 'salt', coalesce(more ->> 'salt', '\\x0102030405060708090a0b0c0d0e0f10'), 'problems', '[]'::jsonb, 'redactions', '[]'::jsonb,
            'metadata', coalesce(more -> 'metadata', '{}'), CASE parent WHEN 'query_runs' THEN 'started_at' ELSE 'created_at' END, at);
        BEGIN EXECUTE format('INSERT INTO audit_parts.%I SELECT * FROM jsonb_populate_record(NULL::audit.%I, $1)', parent || '_' || to_char(at AT TIME ZONE 'UTC', 'YYYY_MM'), parent) USING given; END $$;
    CREATE FUNCTION public.v7(at timestamptz, n integer) RETURNS uuid LANGUAGE sql AS $$ SELECT overlay(audit.id_at(at)::text PLACING to_char(n, 'FM000000000000') FROM 25)::uuid $$;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC;
    CREATE ROLE writer LOGIN; GRANT audit_writer TO writer; CREATE ROLE auditor LOGIN; GRANT audit_auditor TO auditor;
    SELECT audit.ensure_partition(t, at) FROM unnest(audit.record_tables()) t, unnest(ARRAY[now(), now() - interval '100 days']) at;";

const W: &str = "0b000000-0000-4000-8000-000000000001";

/// A trail with a batch of three events of alice, now, and one of long ago, whose roots the database has computed; sealed.
fn trail() -> Postgres {
    let postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql(HELPERS);
    let old = "now() - interval '100 days'";
    postgres.psql(&format!(
        "BEGIN; INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
             VALUES ('{W}', 1, 3, '{{\"events\": 3}}', 0, v7(now(), 1), v7(now(), 3), 'test'), ('{OLD}', 1, 2, '{{\"events\": 2}}', 0, v7({old}, 4), v7({old}, 5), 'test');
         SELECT add_row('events', now(), v7(now(), n), '{W}', n, '{{\"user_id\": \"alice\", \"input_summary\": \"true\"}}') FROM generate_series(1, 3) n;
         SELECT add_row('events', {old}, v7({old}, n + 3), '{OLD}', n, '{{\"user_id\": \"bob\"}}') FROM generate_series(1, 2) n; COMMIT"
    ));
    seal(&postgres);
    assert_found(&postgres, &[], &[]);
    postgres
}

const OLD: &str = "0b000000-0000-4000-8000-000000000002";

fn seal(postgres: &Postgres) {
    while postgres.psql("SELECT sealed FROM audit.seal()") != "0" {}
}

/// Verifies as an auditor; the kinds of what is found are these.
#[track_caller]
fn assert_found(postgres: &Postgres, arguments: &[&str], kinds: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .args(["--url", &postgres.url_as("auditor"), "verify", "--json"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let said: Value = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    let findings = said["findings"].as_array().unwrap();
    let found: BTreeSet<&str> = findings
        .iter()
        .map(|finding| finding["kind"].as_str().unwrap())
        .collect();
    assert_eq!(found, kinds.iter().copied().collect(), "{said}");
    said
}

#[test]
fn rows_of_a_writers_login_neither_alarm_nor_stop_verification() {
    let postgres = trail();
    let mut writer = postgres.session("writer");
    let target = "0c000000-0000-4000-8000-000000000001";
    // Each says of itself that the database has made it.
    let events = [
        (
            "audit.erased",
            "erasure",
            "------------------------------------",
            "{\"rows\": 1}",
        ),
        ("audit.erased", "erasure", target, "{\"rows\": \"many\"}"),
        (
            "audit.hold_placed",
            "legal_hold",
            target,
            "{\"sha256\": \"00\"}",
        ),
        (
            "audit.setting_changed",
            "setting",
            "least_age",
            "{\"sha256\": \"00\"}",
        ),
    ];
    for (n, (action, target_type, target, metadata)) in (10..).zip(events) {
        let of = format!("0d000000-0000-4000-8000-0000000000{n}");
        writer.psql(&format!(
            "BEGIN; SELECT add('{of}', v7(now(), {n}), v7(now(), {n}), '{{\"events\": 1}}');
             SELECT add_row('events', now(), v7(now(), {n}), '{of}', 1, '{{\"service_name\": \"postgres\", \"action_type\": \"{action}\", \"target_type\": \"{target_type}\", \"target_id\": \"{target}\", \"metadata\": {metadata}}}'); COMMIT"
        ));
    }
    // A row with the id of one that is erased afterwards, in another table.
    let id = postgres.psql(&format!(
        "SELECT id FROM audit.events WHERE writer_id = '{W}' AND seq = 1"
    ));
    writer.psql(&format!("BEGIN; SELECT add('0d000000-0000-4000-8000-000000000021', '{id}', '{id}', '{{\"query_runs\": 1}}');
         SELECT add_row('query_runs', now(), '{id}', '0d000000-0000-4000-8000-000000000021', 1); COMMIT"));
    // Ids of more than two months, and none of its rows.
    let old = "now() - interval '100 days'";
    writer.psql(&format!("BEGIN; SELECT add('0d000000-0000-4000-8000-000000000022', v7({old}, 22), v7(now(), 22), '{{\"events\": 2}}');
         SELECT add_row('events', {old}, v7({old}, 22), '0d000000-0000-4000-8000-000000000022', 1);
         SELECT add_row('events', now(), v7(now(), 22), '0d000000-0000-4000-8000-000000000022', 2); COMMIT"));
    postgres.psql("SELECT audit.erase('art. 17', 'alice', of_user => 'alice')");
    seal(&postgres);
    for arguments in [&[][..], &["--since", "1h"]] {
        assert_found(&postgres, arguments, &[]);
    }
}

#[test]
fn rows_of_a_writers_login_do_not_escape_an_erasure() {
    let postgres = trail();
    let of = "0d000000-0000-4000-8000-000000000031";
    postgres.session("writer").psql(&format!(
        "BEGIN; SELECT add('{of}', v7(now(), 31), v7(now(), 32), '{{\"events\": 2}}');
         SELECT add_row('events', now(), v7(now(), 31), '{of}', 1, '{{\"user_id\": \"alice\", \"service_name\": \"postgres\", \"action_type\": \"audit.x\"}}');
         SELECT add_row('events', now(), v7(now(), 32), '{of}', 2, '{{\"user_id\": \"alice\", \"salt\": \"\"}}'); COMMIT"
    ));
    let erase = "SELECT rows FROM audit.erase('art. 17', 'alice', of_user => 'alice')";
    assert_eq!(postgres.psql(erase), "5");
    assert_eq!(postgres.psql(erase), "0");
    seal(&postgres);
    assert_found(&postgres, &[], &[]);
}

#[test]
fn fields_of_an_erasure_are_read_in_whatever_list_they_came() {
    let postgres = trail();
    postgres.psql("SELECT audit.erase('a', 'b', of_user => 'alice', fields => ARRAY[ARRAY['user_role'], ARRAY['error_code']]);
         SELECT audit.erase('a', 'b', of_user => 'bob', fields => '[0:1]={user_role,error_code}')");
    seal(&postgres);
    let said = assert_found(&postgres, &[], &[]);
    let note = said["notes"][0].as_str().unwrap();
    assert!(
        note.starts_with("erased error_code, user_role, of"),
        "{said}"
    );
}

/// Edits a row as if an erasure had left it so; `more` are rows of audit.erasures besides.
fn edited(postgres: &Postgres, more: &str) {
    let content = postgres.psql("SELECT audit.images_expression('events', false)");
    postgres.psql(TRIGGERS_OFF);
    postgres.psql(&format!(
        "CREATE TABLE edited AS SELECT r.id, sha256({content}) AS before FROM audit.events r WHERE r.writer_id = '{W}' AND r.seq = 1;
         UPDATE audit.events SET input_summary = 'false' WHERE id IN (SELECT id FROM edited);
         INSERT INTO audit.erasures (erasure_id, table_name, id, writer_id, seq, fields, content_hash, remaining_hash)
             SELECT '{ERASURE}', 'events', r.id, r.writer_id, r.seq, '{{user_role}}', e.before, sha256({content}) FROM audit.events r JOIN edited e USING (id);
         {more}"
    ));
}

const ERASURE: &str = "0c000000-0000-4000-8000-000000000002";

#[test]
fn erasure_that_no_event_tells_of_is_found_where_a_part_is_verified() {
    let postgres = trail();
    edited(&postgres, "");
    for arguments in [&[][..], &["--since", "1h"]] {
        assert_found(&postgres, arguments, &["erasure_unrecorded"]);
    }
}

#[test]
fn erasure_of_some_fields_is_not_told_as_one_of_all() {
    let postgres = trail();
    edited(&postgres, &format!(
        "INSERT INTO audit.erasures (erasure_id, table_name, id, writer_id, seq, fields, content_hash, remaining_hash) SELECT '{ERASURE}', 'events', gen_random_uuid(), gen_random_uuid(), 1, '{{}}', before, before FROM edited;
         SELECT audit.append_event('audit.erased', 'erasure', '{ERASURE}', 'x', NULL, NULL, jsonb_build_object('rows', 2, 'fields', '{{}}'::text[], 'sha256', encode(
             (SELECT sha256(string_agg(audit.row_sha256(e), '' ORDER BY number)) FROM audit.erasures e), 'hex')))"
    ));
    assert_found(&postgres, &[], &["erasure_unrecorded"]);
}

/// Deletes the second row of a writer, as if it were of a partition of this name.
fn removed(postgres: &Postgres, writer: &str, leaf: &str, partition: &str) {
    postgres.psql(TRIGGERS_OFF);
    postgres.psql(&format!(
        "DO $f$ DECLARE h record; BEGIN
             EXECUTE format('SELECT * FROM (%s) x', audit.leaves_query('events', '{leaf}', 'r.writer_id = ''{writer}'' AND r.seq = 2')) INTO h;
             DELETE FROM audit.events WHERE id = h.id;
             INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, batch, from_leaf, hashes, removed_by)
                 VALUES ('{partition}', 'events', h.writer_id, 2, 2, 1, sha256(h.leaf_hash), 1, 1, h.leaf_hash, 'operator');
             PERFORM audit.append_event('audit.partition_removed', 'partition', '{partition}', 'x', NULL, NULL, jsonb_build_object('rows', 1, 'sha256', encode(
                 (SELECT sha256(sha256(audit.row_sha256(r))) FROM audit.removals r), 'hex')));
         END $f$"
    ));
}

#[test]
fn removal_by_a_name_that_no_partition_has_is_found() {
    let postgres = trail();
    let month = postgres.psql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')");
    removed(
        &postgres,
        W,
        &format!("events_{month}"),
        &format!("events{month}"),
    );
    assert_found(&postgres, &[], &["removal_unrecorded"]);
    assert_found(&postgres, &["--since", "1h"], &["removal_unrecorded"]);
    // Nor does a name stop it.
    postgres.psql("UPDATE audit.removals SET partition = 'events_2026_13', removed_at = '-infinity', rows = 9223372036854775807");
    postgres.psql("INSERT INTO audit.removals SELECT partition, parent, writer_id, n, last_seq, rows, sha256, batch, from_leaf, hashes, removed_at, removed_by FROM audit.removals, generate_series(5, 6) n");
    assert_found(&postgres, &[], &["removal_unrecorded"]);
}

#[test]
fn removal_that_left_rows_of_its_month_is_found() {
    let postgres = trail();
    let leaf = postgres.psql(
        "SELECT to_char((now() - interval '100 days') AT TIME ZONE 'UTC', '\"events_\"YYYY_MM')",
    );
    removed(&postgres, OLD, &leaf, &leaf);
    assert_found(&postgres, &[], &["removal_unrecorded"]);
}

#[test]
fn tables_that_show_others_another_trail_are_found() {
    let postgres = trail();
    postgres.psql(TRIGGERS_OFF);
    let forged = "INSERT INTO audit.events (id, status, created_at, writer_id, seq, salt, input_summary) VALUES (v7(now(), 50), 'succeeded', now(), gen_random_uuid(), 1, '', 'forged')";
    postgres.psql(forged);
    for (hidden, shown) in [
        (
            "CREATE POLICY hide ON audit.events AS RESTRICTIVE FOR SELECT TO audit_auditor USING (input_summary IS DISTINCT FROM 'forged')",
            "DROP POLICY hide ON audit.events",
        ),
        (
            "ALTER POLICY auditor ON audit.events USING (input_summary IS DISTINCT FROM 'forged')",
            "ALTER POLICY auditor ON audit.events USING (true)",
        ),
        (
            "ALTER TABLE audit.events RENAME TO others; CREATE VIEW audit.events AS SELECT * FROM audit.others WHERE input_summary IS DISTINCT FROM 'forged'; GRANT SELECT ON audit.events TO audit_auditor",
            "DROP VIEW audit.events; ALTER TABLE audit.others RENAME TO events",
        ),
    ] {
        postgres.psql(hidden);
        assert_found(&postgres, &[], &["tables_changed"]);
        postgres.psql(shown);
    }
    assert_found(&postgres, &[], &["row_inserted"]);
}

/// Detaches the partition of long ago, and attaches it again although it has rows of another time.
fn with_misplaced(postgres: &Postgres, change: &str) {
    let bounds = postgres.psql("SELECT format('%L AND id < %L', audit.id_at(date_trunc('month', now() - interval '100 days', 'UTC')), audit.id_at(date_trunc('month', now() - interval '100 days', 'UTC') + interval '1 month'))");
    let (from, to) = bounds.split_once(" AND id < ").unwrap();
    let leaf = postgres.psql("SELECT to_char((now() - interval '100 days') AT TIME ZONE 'UTC', '\"audit_parts.events_\"YYYY_MM')");
    let name = leaf.strip_prefix("audit_parts.").unwrap();
    postgres.psql(TRIGGERS_OFF);
    postgres.psql(&format!(
        "ALTER TABLE audit.events DETACH PARTITION {leaf}; ALTER TABLE {leaf} DROP CONSTRAINT {name}_time;
         {};
         ALTER TABLE {leaf} ADD CONSTRAINT lie CHECK (id IS NOT NULL AND id >= {bounds}) NOT VALID;
         UPDATE pg_constraint SET convalidated = true WHERE conname = 'lie';
         ALTER TABLE audit.events ATTACH PARTITION {leaf} FOR VALUES FROM ({from}) TO ({to}); ALTER TABLE {leaf} DROP CONSTRAINT lie",
        change.replace("LEAF", &leaf)
    ));
}

#[test]
fn row_that_was_moved_where_no_reader_looks_is_found() {
    let postgres = trail();
    with_misplaced(
        &postgres,
        &format!(
            "WITH moved AS (DELETE FROM audit.events WHERE writer_id = '{W}' AND seq = 2 RETURNING *) INSERT INTO LEAF SELECT * FROM moved"
        ),
    );
    assert_eq!(postgres.psql(&format!("SELECT count(*) FROM audit.events WHERE id = (SELECT id FROM audit.events WHERE writer_id = '{W}' AND seq = 2)")), "0");
    assert_found(&postgres, &[], &["rows_reordered"]);
}

#[test]
fn row_that_no_range_of_ids_reaches_is_found() {
    let postgres = trail();
    with_misplaced(
        &postgres,
        "INSERT INTO LEAF (id, status, created_at, writer_id, seq, salt) VALUES (v7(now(), 60), 'succeeded', now(), gen_random_uuid(), 1, '')",
    );
    // A batch that is not sealed, so large that the trail is read in ranges.
    postgres.psql("INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
         VALUES (gen_random_uuid(), 1, 500001, '{\"events\": 500001}', 0, v7(now() - interval '40 days', 1), v7(now() - interval '40 days', 1), 'test')");
    assert_found(&postgres, &[], &["row_inserted"]);
}

#[test]
fn entry_behind_many_missing_ones_takes_no_room_for_each() {
    let postgres = trail();
    postgres.psql(TRIGGERS_OFF);
    postgres.psql("INSERT INTO audit.ledger (index, writer_id, first_seq, entry_hash) VALUES (50000, gen_random_uuid(), 1, sha256('')), (90000000, gen_random_uuid(), 1, sha256(''))");
    let said = assert_found(&postgres, &[], &["batch_missing", "ledger_changed"]);
    let details: Vec<&str> = said["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["detail"].as_str().unwrap())
        .collect();
    assert!(
        details.contains(&"49998 entries are not there any more"),
        "{said}"
    );
    assert!(
        details.contains(&"the entry stands where none can"),
        "{said}"
    );
}

#[test]
fn event_that_proves_a_row_which_stays_outlives_its_month() {
    let postgres = trail();
    // As it was 100 days ago. Only a constant takes the place of what is built in.
    let past = postgres.psql(
        "SELECT to_char((now() - interval '100 days') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')",
    );
    postgres.psql(&format!(
        "CREATE OR REPLACE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT timestamptz '{past}Z' $$;
         SELECT audit.place_hold('a case', from_time => '2020-01-01', to_time => '2020-02-01');
         SELECT audit.lift_hold(id, 'closed') FROM audit.legal_holds;
         SELECT audit.set_least_age('31 days', 'policy');
         SELECT audit.erase('art. 17', 'bob', of_user => 'bob');
         CREATE OR REPLACE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE internal VOLATILE STRICT PARALLEL SAFE AS 'clock_timestamp'"
    ));
    seal(&postgres);
    assert_found(&postgres, &[], &[]);
    let leaf = postgres.psql(
        "SELECT to_char((now() - interval '100 days') AT TIME ZONE 'UTC', '\"events_\"YYYY_MM')",
    );
    postgres.psql(&format!(
        "SELECT audit.remove_partition('{leaf}', '31 days')"
    ));
    seal(&postgres);
    let said = assert_found(&postgres, &[], &[]);
    let notes = said["notes"].as_array().unwrap();
    let erased = notes.iter().find_map(|note| {
        note.as_str()?
            .strip_prefix("erased the content of 2 rows by postgres at ")
    });
    assert_eq!(erased, Some(&*past));
}
