//! `tracing-audit verify`: what a superuser changes, with all triggers off, is found and named.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use testkit::Postgres;
use testkit::trail::{PATIENCE, TRIGGERS_OFF, Trail};
use tracing_audit::{Event, HttpRequest, NewRecord, PromptRun, QueryRun};

const RECORD_TABLES: [&str; 4] = ["query_runs", "prompt_runs", "events", "activities"];

/// Returns a trail with records of every table, of programs and of the database, all sealed.
fn sealed_trail(records: usize) -> Trail {
    let trail = Trail::start();
    for n in 0..records {
        let record: NewRecord = match n % 4 {
            0 => PromptRun::new(format!("Translate {n}"))
                .model_name("m-1")
                .response_text("SELECT 1")
                .into(),
            1 => QueryRun::new(format!("SELECT {n}"))
                .question_text("How many?")
                .user_id("alice")
                .request_id(format!("r-{n}"))
                .into(),
            2 => Event::new("order_viewed")
                .target("order", n.to_string())
                .into(),
            _ => HttpRequest::new("GET", "/orders").into(),
        };
        trail.audit.record(record).unwrap();
        if n % 50 == 49 {
            trail.audit.flush_blocking(PATIENCE).unwrap();
        }
    }
    trail.audit.flush_blocking(PATIENCE).unwrap();
    trail.postgres.psql(
        "SELECT audit.place_hold('a case', from_time => '2020-01-01', to_time => '2020-02-01');
         SELECT audit.lift_hold(id, 'closed') FROM audit.legal_holds;
         SELECT audit.set_least_age('40 days', 'policy');
         SELECT audit.record_reading('a look')",
    );
    assert_eq!(
        trail.postgres.psql("SELECT count(*) > 0, bool_and(root IS NOT NULL AND fingerprints IS NOT NULL) FROM audit.batches JOIN audit.writers USING (writer_id)"),
        "t|t",
        "a program hashes what it writes"
    );
    seal(&trail.postgres);
    trail.postgres.psql(TRIGGERS_OFF);
    trail
}

fn migrated() -> Postgres {
    let postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres
}

fn seal(postgres: &Postgres) {
    while postgres.psql("SELECT sealed FROM audit.seal()") != "0" {}
}

struct Verified {
    findings: Vec<Value>,
    rows: u64,
    all: Value,
}

impl Verified {
    fn kinds(&self) -> BTreeSet<&str> {
        self.findings
            .iter()
            .map(|finding| finding["kind"].as_str().unwrap())
            .collect()
    }
}

fn verify(postgres: &Postgres, arguments: &[&str]) -> Verified {
    let output = Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .args(["--url", &postgres.url(), "verify", "--json"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let all: Value = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    let findings = all["findings"].as_array().unwrap().clone();
    assert_eq!(output.status.code(), Some(i32::from(!findings.is_empty())));
    Verified {
        findings,
        rows: all["rows"].as_u64().unwrap(),
        all,
    }
}

#[track_caller]
fn assert_clean(postgres: &Postgres) {
    let verified = verify(postgres, &[]);
    assert_eq!(verified.findings, [] as [Value; 0]);
    assert!(verified.rows > 0);
}

/// Does something, verifies, and undoes it; returns what was found.
fn found(postgres: &Postgres, done: &str, undone: &str) -> Verified {
    postgres.psql(done);
    let verified = verify(postgres, &[]);
    postgres.psql(undone);
    verified
}

/// Saves the trail's tables, and returns what puts them back.
fn saved(postgres: &Postgres) -> String {
    postgres.psql(
        "CREATE SCHEMA saved;
         DO $$ DECLARE t text; BEGIN
            FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'audit'::regnamespace AND relkind IN ('r', 'p') LOOP
                EXECUTE format('CREATE TABLE saved.%I AS SELECT * FROM audit.%I', t, t);
            END LOOP; END $$;
         CREATE PROCEDURE saved.restore() LANGUAGE plpgsql AS $$ DECLARE t text; BEGIN
            FOREACH t IN ARRAY ARRAY['legal_hold_lifts', 'legal_holds', 'settings', 'removals', 'erasures', 'ledger', 'ledger_nodes', 'batches', 'writers', 'dead_letters', 'query_runs', 'prompt_runs', 'events', 'activities'] LOOP
                EXECUTE format('DELETE FROM audit.%I', t);
            END LOOP;
            FOREACH t IN ARRAY ARRAY['legal_holds', 'legal_hold_lifts', 'settings', 'removals', 'erasures', 'ledger', 'ledger_nodes', 'batches', 'writers', 'dead_letters', 'query_runs', 'prompt_runs', 'events', 'activities'] LOOP
                EXECUTE format('INSERT INTO audit.%I SELECT * FROM saved.%I', t, t);
            END LOOP; END $$",
    );
    String::from("CALL saved.restore()")
}

/// A value of a column that is another than the one that is there.
const OTHER_VALUE: &str = "
    CASE format_type(a.atttypid, NULL)
        WHEN 'uuid' THEN format('overlay(coalesce(%1$I, ''01a00000-0000-7000-8000-000000000000'')::text PLACING ''beef'' FROM 33)::uuid', a.attname)
        WHEN 'text' THEN format('coalesce(%1$I, '''') || ''x''', a.attname)
        WHEN 'integer' THEN format('coalesce(%1$I, 0) + 1', a.attname)
        WHEN 'smallint' THEN format('%1$I + 1', a.attname)
        WHEN 'bigint' THEN format('coalesce(%1$I, 0) + 1', a.attname)
        WHEN 'xid8' THEN format('(%1$I::text::bigint + 1)::text::xid8', a.attname)
        WHEN 'timestamp with time zone' THEN format('coalesce(%1$I, ''2026-11-01'') + interval ''1 microsecond''', a.attname)
        WHEN 'bytea' THEN format('CASE WHEN octet_length(%1$I) > 0 THEN set_byte(%1$I, 0, 255 - get_byte(%1$I, 0)) ELSE sha256('''') END', a.attname)
        WHEN 'jsonb' THEN format('CASE WHEN %1$L = ''records'' THEN %1$I ELSE %1$I || ''{\"x\": 1}'' END', a.attname)
        WHEN 'text[]' THEN format('coalesce(%1$I, ''{}'') || ''x: y''::text', a.attname)
        WHEN 'interval' THEN format('%1$I + interval ''1 second''', a.attname)
        WHEN 'audit.run_status' THEN format('CASE %1$I WHEN ''succeeded'' THEN ''failed''::audit.run_status ELSE ''succeeded'' END', a.attname) END";

#[test]
fn untouched_trail_has_no_finding() {
    let trail = sealed_trail(120);
    assert_clean(&trail.postgres);
    let verified = verify(&trail.postgres, &["--jobs", "4"]);
    assert_eq!(verified.all["unsealed_rows"], 0);
    // What comes later is not sealed yet, and no finding.
    trail.audit.record(Event::new("later")).unwrap();
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let verified = verify(&trail.postgres, &[]);
    assert!(verified.findings.is_empty());
    assert_eq!(verified.all["unsealed_rows"], 1);
}

#[test]
fn edit_of_each_column_of_each_record_is_found_with_its_row() {
    let trail = sealed_trail(40);
    let postgres = &trail.postgres;
    let undo = saved(postgres);
    let mut edits = 0;
    for table in RECORD_TABLES {
        let columns = postgres.psql(&format!(
            "SELECT a.attname, {OTHER_VALUE} FROM pg_attribute a WHERE a.attrelid = 'audit.{table}'::regclass AND a.attnum > 0 ORDER BY a.attnum"
        ));
        for line in columns.lines() {
            let (column, value) = line.split_once('|').unwrap();
            let id = postgres.psql(&format!(
                "SELECT id FROM audit.{table} ORDER BY id OFFSET 2 LIMIT 1"
            ));
            let edit = format!("UPDATE audit.{table} SET {column} = {value} WHERE id = '{id}'");
            let verified = found(postgres, &edit, &undo);
            edits += 1;
            match column {
                // The row is not its batch's any more.
                "writer_id" | "seq" => assert!(
                    verified
                        .kinds()
                        .is_superset(&BTreeSet::from(["row_inserted", "row_missing"])),
                    "{table}.{column}: {:?}",
                    verified.findings
                ),
                _ => {
                    assert_eq!(
                        verified.kinds(),
                        BTreeSet::from(["row_edited"]),
                        "{table}.{column}"
                    );
                    let [finding] = &verified.findings[..] else {
                        panic!("{table}.{column}: {:?}", verified.findings)
                    };
                    assert_eq!(finding["table"], table);
                    assert!(column == "id" || finding["id"] == *id);
                    let is_content = finding["detail"]
                        .as_str()
                        .unwrap()
                        .starts_with("in its content");
                    let core = [
                        "id",
                        "tenant_id",
                        "agent_id",
                        "request_id",
                        "llm_session_id",
                        "parent_id",
                        "trace_id",
                        "span_id",
                        "service_name",
                        "datasource_id",
                        "row_count",
                        "rows_affected",
                        "status",
                        "started_at",
                        "created_at",
                        "finished_at",
                        "duration_ms",
                        "latency_ms",
                        "model_name",
                        "provider",
                        "prompt_template_version",
                        "input_token_count",
                        "output_token_count",
                        "action_type",
                    ];
                    assert_eq!(is_content, !core.contains(&column), "{table}.{column}");
                }
            }
        }
    }
    assert!(edits > 100, "{edits}");
    assert_clean(postgres);
}

#[test]
fn edit_of_each_column_of_the_other_tables_is_found() {
    let trail = sealed_trail(40);
    let postgres = &trail.postgres;
    let undo = saved(postgres);
    for table in [
        "batches",
        "writers",
        "ledger",
        "legal_holds",
        "legal_hold_lifts",
        "settings",
    ] {
        let columns = postgres.psql(&format!(
            "SELECT a.attname, {OTHER_VALUE} FROM pg_attribute a WHERE a.attrelid = 'audit.{table}'::regclass AND a.attnum > 0 ORDER BY a.attnum"
        ));
        for line in columns.lines() {
            let (column, value) = line.split_once('|').unwrap();
            // The database itself refuses what does not fit: the records of a batch are its rows.
            if ["records"].contains(&column)
                || (table, column) == ("legal_hold_lifts", "hold_id")
                || (table, column) == ("legal_holds", "id")
            {
                continue;
            }
            let edit = match (table, column) {
                ("batches", "last_seq" | "dead_letters") => {
                    String::from(
                        "ALTER TABLE audit.batches DROP CONSTRAINT batches_records, DROP CONSTRAINT batches_check",
                    ) + "; "
                }
                _ => String::new(),
            };
            let edit = format!(
                "{edit}UPDATE audit.{table} SET {column} = {value} WHERE ctid = (SELECT min(ctid) FROM audit.{table})"
            );
            if let Err(refused) = postgres.try_psql(&edit) {
                assert!(
                    refused.contains("constraint"),
                    "{table}.{column}: {refused}"
                );
                continue;
            }
            let verified = verify(postgres, &[]);
            postgres.psql(&undo);
            assert!(!verified.findings.is_empty(), "{table}.{column}");
        }
    }
    assert_clean(postgres);
}

#[test]
fn what_is_missing_inserted_or_moved_is_named() {
    let trail = sealed_trail(400);
    let postgres = &trail.postgres;
    let undo = saved(postgres);
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "a row in the middle",
            "DELETE FROM audit.events WHERE id = (SELECT id FROM audit.events WHERE action_type = 'order_viewed' ORDER BY id OFFSET 5 LIMIT 1)",
            &["row_missing"],
        ),
        (
            "a row at the end of its batch",
            "DELETE FROM audit.activities WHERE (writer_id, seq) IN (SELECT writer_id, max(seq) FROM audit.activities GROUP BY 1)",
            &["row_missing"],
        ),
        (
            "the rows of a batch",
            "DELETE FROM audit.query_runs q USING audit.batches b WHERE b.first_seq = 51 AND q.writer_id = b.writer_id AND q.seq BETWEEN b.first_seq AND b.last_seq",
            &["row_missing"],
        ),
        (
            "a whole batch, with its entry",
            "DELETE FROM audit.query_runs WHERE seq BETWEEN 51 AND 100; DELETE FROM audit.prompt_runs WHERE seq BETWEEN 51 AND 100; DELETE FROM audit.events WHERE seq BETWEEN 51 AND 100; DELETE FROM audit.activities WHERE seq BETWEEN 51 AND 100; DELETE FROM audit.batches WHERE first_seq = 51; DELETE FROM audit.ledger WHERE first_seq = 51",
            &["batches_out_of_order", "ledger_changed"],
        ),
        (
            "a batch alone",
            "DELETE FROM audit.batches WHERE first_seq = 51",
            &["batch_missing", "batches_out_of_order", "row_inserted"],
        ),
        (
            "a row",
            "INSERT INTO audit.events (id, status, created_at, action_type, writer_id, seq, salt) SELECT audit.id_at(now()), status, now(), action_type, writer_id, seq, salt FROM audit.events WHERE action_type = 'order_viewed' LIMIT 1",
            &["row_inserted"],
        ),
        (
            "a row of no writer",
            "INSERT INTO audit.events (id, status, created_at, writer_id, seq, salt) VALUES (audit.id_at(now()), 'succeeded', now(), gen_random_uuid(), 1, '')",
            &["row_inserted"],
        ),
        (
            "tenants of two rows",
            "WITH two AS (SELECT id, row_number() OVER (ORDER BY id) AS n FROM audit.query_runs LIMIT 2) UPDATE audit.query_runs q SET tenant_id = ('00000000-0000-0000-0000-00000000000' || n)::uuid FROM two WHERE q.id = two.id",
            &["row_edited"],
        ),
        (
            "seqs of two rows",
            "UPDATE audit.events SET seq = CASE seq WHEN 3 THEN 7 ELSE 3 END WHERE seq IN (3, 7)",
            &["row_edited"],
        ),
        (
            "an entry of the ledger",
            "DELETE FROM audit.ledger WHERE index = (SELECT max(index) - 1 FROM audit.ledger)",
            &["ledger_changed"],
        ),
        (
            "two entries",
            "UPDATE audit.ledger SET index = 1000 + index WHERE index IN (2, 3); UPDATE audit.ledger SET index = CASE index WHEN 1002 THEN 3 ELSE 2 END WHERE index > 1000",
            &["batches_out_of_order"],
        ),
        (
            "a rewrite of a column",
            "ALTER TABLE audit.events ALTER salt TYPE bytea USING '\\x07'",
            &["row_edited"],
        ),
        (
            "a salt",
            "UPDATE audit.query_runs SET salt = '' WHERE seq = 2",
            &["erasure_unrecorded"],
        ),
        (
            "an erasure by hand",
            "UPDATE audit.query_runs SET salt = '', user_id = NULL, sql_text = NULL WHERE seq = 2",
            &["erasure_unrecorded"],
        ),
        (
            "a forged erasure",
            "INSERT INTO audit.erasures (erasure_id, table_name, id, writer_id, seq, fields, content_hash, remaining_hash) SELECT gen_random_uuid(), 'query_runs', id, writer_id, seq, '{}', sha256(''), sha256('') FROM audit.query_runs LIMIT 1",
            &["erasure_unrecorded", "row_edited"],
        ),
        (
            "a forged removal",
            "WITH gone AS (DELETE FROM audit.query_runs RETURNING writer_id, seq) INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, removed_by) SELECT 'query_runs_2026_11', 'query_runs', writer_id, min(seq), max(seq), count(*), sha256(''), 'x' FROM gone GROUP BY writer_id",
            &["removal_unrecorded", "row_missing"],
        ),
    ];
    for (what, done, kinds) in cases {
        let verified = found(postgres, done, &undo);
        let expected: BTreeSet<&str> = kinds.iter().copied().collect();
        assert!(
            verified.kinds().is_superset(&expected),
            "{what}: {:?}",
            verified.findings
        );
    }
    assert_clean(postgres);
}

#[test]
fn ten_thousand_changes_of_one_byte_are_all_found() {
    let trail = sealed_trail(10_000);
    let postgres = &trail.postgres;
    // Another column of each row, and another place in its value.
    for table in RECORD_TABLES {
        postgres.psql(&format!(
            "DO $$ DECLARE r record; columns text[]; c text; BEGIN
                columns := ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = 'audit.{table}'::regclass AND attnum > 0
                    AND format_type(atttypid, NULL) = 'text' ORDER BY attnum);
                PERFORM setseed(0.42);
                FOR r IN SELECT id FROM audit.{table} WHERE service_name IS DISTINCT FROM 'postgres' LOOP
                    c := columns[1 + floor(random() * cardinality(columns))];
                    EXECUTE format('UPDATE audit.{table} SET %1$I = CASE WHEN coalesce(%1$I, '''') = '''' THEN ''x''
                        ELSE overlay(%1$I PLACING chr(ascii(substr(%1$I, $2, 1)) # 1) FROM $2 FOR 1) END WHERE id = $1', c)
                        USING r.id, 1;
                END LOOP; END $$"
        ));
    }
    let verified = verify(postgres, &[]);
    let rows: BTreeSet<&str> = verified
        .findings
        .iter()
        .filter(|finding| finding["kind"] == "row_edited")
        .map(|finding| finding["id"].as_str().unwrap())
        .collect();
    assert_eq!(rows.len(), 10_000);
}

#[test]
fn recorded_erasure_and_removal_leave_the_rest_proven() {
    let trail = sealed_trail(200);
    let postgres = &trail.postgres;
    postgres.psql(
        "DO $$ DECLARE t regclass; BEGIN
            FOR t IN SELECT DISTINCT tgrelid FROM pg_trigger WHERE tgname LIKE 'append_only%' AND NOT tgisinternal
            LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', t); END LOOP;
         END $$;
         SELECT audit.erase('art. 17', 'alice', of_user => 'alice');
         SELECT audit.erase('a secret', 'ops', of_tenant => NULL, of_request => 'r-1', fields => '{{error_message},{error_message}}')",
    );
    seal(postgres);
    let verified = verify(postgres, &[]);
    assert_eq!(verified.findings, [] as [Value; 0]);
    assert!(
        verified.all["notes"][0]
            .as_str()
            .unwrap()
            .starts_with("erased the content of 50 rows")
    );
    assert_eq!(
        postgres.psql("SELECT count(user_id) FROM audit.query_runs"),
        "0"
    );
    // What an erasure has left may not be changed either.
    postgres.psql(TRIGGERS_OFF);
    postgres.psql("UPDATE audit.query_runs SET sql_text = 'x' WHERE seq = 2");
    assert_eq!(
        verify(postgres, &[]).kinds(),
        BTreeSet::from(["row_edited"])
    );
}

#[test]
fn log_of_more_than_65536_entries_has_its_nodes_and_goes_on() {
    let postgres = migrated();
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version, root, fingerprints)
         SELECT gen_random_uuid(), 1, 1, '{\"events\": 1}', 0, 'test', sha256(n::text::bytea), '\\x0000000000000000' FROM generate_series(1, 66000) n",
    );
    seal(&postgres);
    assert_eq!(
        postgres.psql("SELECT string_agg(n, ' ') FROM (SELECT concat(level, ':', count(*)) AS n FROM audit.ledger_nodes GROUP BY level ORDER BY level) c"),
        "1:257 2:1"
    );
    let verified = verify(&postgres, &[]);
    // None of their rows is there, and the ledger is what it was.
    assert_eq!(verified.kinds(), BTreeSet::from(["row_missing"]));
}

#[test]
fn hostile_rows_and_batches_neither_stop_the_sealing_nor_change_what_is_sealed_with_them() {
    let postgres = &migrated();
    let writer = "0b000000-0000-4000-8000-00000000000";
    let batch = |n: u8, first: &str, records: &str, ids: &str| {
        format!(
            "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version) VALUES ('{writer}{n}', {first}, {first}, '{records}', 0, {ids}, 'test');"
        )
    };
    let ids = "audit.id_at('2026-11-01'), audit.id_at('2026-11-02')";
    let row = |n: u8, seq: &str, table: &str, at: &str, problems: &str| {
        format!(
            "INSERT INTO audit.{table} (id, status, created_at, writer_id, seq, salt, problems, metadata) VALUES (audit.id_at({at}), 'succeeded', {at}, '{writer}{n}', {seq}, sha256('a'), {problems}, '{{\"a\": -0.0, \"b\": 1.50, \"c\": \"\\u00e9\\\"\"}}');"
        )
    };
    postgres.psql(&[
        String::from("SELECT audit.ensure_partition(t, '2026-11-01') FROM unnest(audit.record_tables()) t;"),
        // A list of lists, one that does not begin with 1, and one with NULL.
        batch(1, "1", "{\"events\": 1}", ids), row(1, "1", "events", "'2026-11-01 10:00Z'::timestamptz", "'{{a,b},{c,NULL}}'"),
        batch(2, "1", "{\"events\": 1}", ids), row(2, "1", "events", "'2026-11-01 11:00Z'::timestamptz", "'[5:6]={a,b}'"),
        batch(3, "1", "{\"events\": 1}", ids), row(3, "1", "events", "'2026-11-01 12:00Z'::timestamptz", "ARRAY['', NULL]"),
        // Its row is in another table than it says.
        batch(4, "1", "{\"events\": 1}", ids), row(4, "1", "activities", "'2026-11-01 13:00Z'::timestamptz", "'{}'"),
        // Of all time.
        batch(5, "1", "{\"events\": 1}", "'00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
        // A dead letter alone.
        format!("INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version, committed_at) VALUES ('{writer}8', 1, 1, '{{}}', 1, 'test', '2026-11-01'); INSERT INTO audit.dead_letters (writer_id, seq, kind, reason, frame, salt, created_at) VALUES ('{writer}8', 1, 'audit.event', 'refused', 'f', 's', '2026-11-01');"),
        // Of a program: what it says of its rows would cost the sealer as much as it likes.
        format!("INSERT INTO audit.writers (writer_id, login, secret_sha256) VALUES ('{writer}9', 'app', sha256('s'));"),
        batch(9, "1", "{\"events\": 1}", ids), row(9, "1", "events", "'2026-11-01 17:00Z'::timestamptz", "'{}'"),
        batch(6, "1", "{\"activities\": 1}", ids), row(6, "1", "activities", "'2026-11-01 14:00Z'::timestamptz", "'{}'"),
    ].concat());
    // A transaction that began before the one with the batch before.
    let (mut early, mut late) = (postgres.session("postgres"), postgres.session("postgres"));
    early.psql("BEGIN; SELECT pg_current_xact_id()");
    late.psql(&batch(7, "1", "{\"events\": 1}", ids));
    early.psql(&batch(7, "2", "{\"events\": 1}", ids));
    early.psql("COMMIT");
    postgres.psql(&row(
        7,
        "1",
        "events",
        "'2026-11-01 15:00Z'::timestamptz",
        "'{}'",
    ));
    postgres.psql(&row(
        7,
        "2",
        "events",
        "'2026-11-01 16:00Z'::timestamptz",
        "'{}'",
    ));
    for settings in [
        "",
        "SET standard_conforming_strings = off; SET quote_all_identifiers = on;",
        "SET client_encoding = 'LATIN1'; SET DateStyle = 'German'; SET TimeZone = 'Asia/Kathmandu'; SET bytea_output = 'escape'; SET extra_float_digits = -15;",
    ] {
        // By itself, and together with others.
        for most in [1, 3, 2000] {
            postgres.psql(&format!("{settings} SELECT audit.seal('0', {most})"));
        }
    }
    seal(postgres);
    assert_eq!(
        postgres.psql(&format!(
            "SELECT count(*), count(root) FROM audit.ledger WHERE writer_id::text LIKE '{writer}%'"
        )),
        "10|7"
    );
    let verified = verify(postgres, &[]);
    // The one of all time has none.
    let [finding] = &verified.findings[..] else {
        panic!("{:?}", verified.findings)
    };
    assert_eq!(
        (&finding["kind"], &finding["writer"]),
        (&"row_missing".into(), &format!("{writer}5").into())
    );
    assert_eq!(
        verified.all["notes"][0],
        "2 rows of batches that were sealed without a root are there, and not proven"
    );
}
