//! Legal holds, and what retention removes and records.

use sha2::{Digest as _, Sha256};

use super::{RECORDS, allowed, login, migrated, refused};
use testkit::{Postgres, Session};

const ANN: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const BOB: &str = "bbbbbbbb-0000-4000-8000-000000000000";
const WRITERS: [&str; 2] = [
    "11111111-0000-4000-8000-000000000000",
    "22222222-0000-4000-8000-000000000000",
];

/// January 2020: two batches of one writer and one of another, of Ann's tenant; February: rows of
/// Bob's.
const ROWS: &str = r#"
    SELECT audit.ensure_partition(parent, at) FROM unnest(audit.record_tables()) AS parent,
        unnest(ARRAY['2020-01-15Z', '2020-02-15Z', now()]::timestamptz[]) AS at;
    CREATE FUNCTION pg_temp.fill(writer uuid, first bigint, last bigint, at timestamptz, tenant uuid) RETURNS void LANGUAGE sql AS $$
        INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version)
            VALUES (writer, first, last, jsonb_build_object('events', last - first + 1), 0, 'x');
        INSERT INTO audit.events (id, tenant_id, user_id, status, created_at, metadata, problems, writer_id, seq, salt)
            SELECT overlay(audit.id_at(at)::text PLACING left(writer::text, 4) || lpad(n::text, 8, '0') FROM 25)::uuid, tenant, 'it''s "ünïcode", \ and (more)',
                'succeeded', at + n * interval '1.000001 s', '{"b": 1.50, "a": "\u00e9"}', '{a,"b,c"}', writer, n, '\x00ff'
            FROM generate_series(first, last) AS n $$;
    SELECT pg_temp.fill('11111111-0000-4000-8000-000000000000', 1, 3, '2020-01-15Z', 'aaaaaaaa-0000-4000-8000-000000000000');
    SELECT pg_temp.fill('11111111-0000-4000-8000-000000000000', 4, 14, '2020-01-16Z', 'aaaaaaaa-0000-4000-8000-000000000000');
    SELECT pg_temp.fill('22222222-0000-4000-8000-000000000000', 1, 2, '2020-01-15Z', 'aaaaaaaa-0000-4000-8000-000000000000');
    SELECT pg_temp.fill('22222222-0000-4000-8000-000000000000', 3, 5, '2020-02-15Z', 'bbbbbbbb-0000-4000-8000-000000000000');"#;

pub(super) struct Archive {
    pub(super) postgres: Postgres,
    pub(super) operator: Session,
    pub(super) auditor: Session,
}

pub(super) fn archive() -> Archive {
    let postgres = migrated();
    postgres.psql(ROWS);
    let operator = login(&postgres, "ops", Some("audit_operator"));
    let auditor = login(&postgres, "aud", Some("audit_auditor"));
    Archive {
        postgres,
        operator,
        auditor,
    }
}

/// Returns everything that the trail holds.
pub(super) fn all(postgres: &Postgres) -> String {
    postgres.psql(
        "SELECT 'leaf ' || c.oid::regclass FROM pg_class c WHERE relnamespace = 'audit_parts'::regnamespace AND relkind = 'r'
         UNION ALL SELECT e::text FROM audit.events e UNION ALL SELECT b::text FROM audit.batches b
         UNION ALL SELECT r::text FROM audit.removals r UNION ALL SELECT h::text FROM audit.legal_holds h
         UNION ALL SELECT l::text FROM audit.legal_hold_lifts l ORDER BY 1",
    )
}

#[test]
fn retention_plan_lists_old_partitions_and_changes_nothing() {
    let Archive {
        postgres,
        mut operator,
        ..
    } = archive();
    let before = all(&postgres);
    let plan = allowed(
        &mut operator,
        "SELECT parent, partition, from_time, to_time, rows, bytes > 0, obstacles FROM audit.plan_retention('1 year')",
    );
    let expected: Vec<String> = RECORDS
        .iter()
        .flat_map(|(parent, _)| {
            let rows = if *parent == "events" { [16, 3] } else { [0, 0] };
            [
                format!("{parent}|{parent}_2020_01|2020-01-01 00:00:00+00|2020-02-01 00:00:00+00|{}|t|{{}}", rows[0]),
                format!("{parent}|{parent}_2020_02|2020-02-01 00:00:00+00|2020-03-01 00:00:00+00|{}|t|{{}}", rows[1]),
            ]
        })
        .collect();
    assert_eq!(plan, expected.join("\n"));
    // Also in a session with other time settings.
    allowed(
        &mut operator,
        "SET timezone = 'Pacific/Kiritimati'; SET datestyle = 'German'",
    );
    let plan = allowed(
        &mut operator,
        "SELECT partition FROM audit.plan_retention('1 year', '{events}')",
    );
    assert_eq!(plan, "events_2020_01\nevents_2020_02");
    // By the span to keep: 2020-02 ends when 2020-03 begins.
    for (keep, expected) in [
        ("now() - '2020-02-01Z'", "events_2020_01"),
        ("now() - '2020-02-01Z' + interval '1 s'", ""),
        ("now() - '2020-03-01Z'", "events_2020_01\nevents_2020_02"),
    ] {
        let sql = format!("SELECT partition FROM audit.plan_retention({keep}, '{{events}}')");
        assert_eq!(allowed(&mut operator, &sql), expected, "{keep}");
    }
    for keep in ["NULL", "'0'", "'-1 year'", "'23:59:59'"] {
        refused(
            &mut operator,
            "22023",
            &format!("SELECT audit.plan_retention({keep})"),
        );
    }
    refused(
        &mut operator,
        "42P01",
        "SELECT audit.plan_retention('1 year', '{batches}')",
    );
    refused(
        &mut operator,
        "42P01",
        "SELECT audit.plan_retention('1 year', ARRAY[NULL]::text[])",
    );
    assert_eq!(all(&postgres), before);
}

#[test]
fn removal_is_recorded_per_batch_with_a_hash_and_as_an_event() {
    let Archive {
        postgres,
        mut operator,
        ..
    } = archive();
    // Whether they are right is for the tests of `verify` to say, which computes them anew.
    let leaves = postgres.psql(
        "SET timezone = 'UTC';
         CREATE FUNCTION leaves() RETURNS TABLE (place int, month int, seq bigint, id uuid, writer_id uuid, content_hash bytea, leaf_hash bytea) LANGUAGE plpgsql AS
            $$ BEGIN RETURN QUERY EXECUTE audit.leaves_query('events', 'events_2020_01', 'true'); END $$;
         SELECT writer_id, seq, encode(leaf_hash, 'hex') FROM leaves() ORDER BY writer_id, seq",
    );
    let hash = |writer: &str, seqs: std::ops::RangeInclusive<u64>| {
        let mut hasher = Sha256::new();
        for line in leaves.lines() {
            let [of, seq, hash] = line.split('|').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            if of == writer && seqs.contains(&seq.parse().unwrap()) {
                hasher.update(unhex(hash));
            }
        }
        hasher.finalize().to_vec()
    };
    allowed(
        &mut operator,
        "SET timezone = 'Asia/Kolkata'; SET datestyle = 'SQL, DMY'; SET bytea_output = 'escape'",
    );
    let event = allowed(
        &mut operator,
        "SELECT audit.remove_partition('events_2020_01', '1 year')",
    );
    let batches = [(WRITERS[0], 1, 3), (WRITERS[0], 4, 14), (WRITERS[1], 1, 2)];
    let expected: Vec<String> = batches
        .iter()
        .map(|(writer, first, last)| {
            let hash = hex(&hash(writer, *first..=*last));
            format!(
                "events_2020_01|events|{writer}|{first}|{last}|{}|{hash}|ops",
                last - first + 1
            )
        })
        .collect();
    let noted = postgres.psql(
        "SELECT partition, parent, writer_id, first_seq, last_seq, rows, encode(sha256, 'hex'), removed_by FROM audit.removals ORDER BY writer_id, first_seq",
    );
    assert_eq!(noted, expected.join("\n"));
    // By the million of rows, of which there is one.
    let whole = postgres.psql(
        "SELECT encode(sha256(sha256(string_agg(audit.row_sha256(r), '' ORDER BY writer_id, first_seq))), 'hex') FROM audit.removals r",
    );
    let told = postgres.psql(&format!(
        "SELECT action_type, target_type, target_id, user_id, input_summary, status, metadata - 'bytes' - 'client_address' - 'removed_at', (metadata->>'bytes')::bigint > 0
         FROM audit.events WHERE id = '{event}'"
    ));
    let metadata = format!(
        r#"{{"to": "2020-02-01T00:00:00+00:00", "from": "2020-01-01T00:00:00+00:00", "rows": 16, "sha256": "{whole}", "batches": 3}}"#
    );
    assert_eq!(
        told,
        format!(
            "audit.partition_removed|partition|events_2020_01|ops|kept for 1 year|succeeded|{metadata}|t"
        )
    );
    assert_eq!(
        postgres.psql(
            "SELECT to_regclass('audit_parts.events_2020_01') IS NULL, count(*) FROM audit.events"
        ),
        "t|4"
    );
    // The event is a record like any other, with its batch.
    assert_eq!(
        postgres.psql(&format!("SELECT first_seq, last_seq, records->>'events', first_id = last_id FROM audit.batches WHERE first_id = '{event}'")),
        "1|1|1|t"
    );
    refused(
        &mut operator,
        "42P01",
        "SELECT audit.remove_partition('events_2020_01', '1 year')",
    );
    // An empty partition is recorded by an event alone.
    allowed(
        &mut operator,
        "SELECT audit.remove_partition('query_runs_2020_01', '1 year')",
    );
    assert_eq!(postgres.psql("SELECT count(*) FROM audit.removals"), "3");
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn only_old_monthly_partitions_are_removed() {
    let Archive {
        postgres,
        mut operator,
        ..
    } = archive();
    let before = all(&postgres);
    let current = postgres.psql("SELECT audit.ensure_partition('events', now())");
    for (leaf, keep, state) in [
        (&*current, "'30 days'", "55000"),
        ("events_2020_01", "'100 years'", "55000"),
        (
            "events_2020_01",
            "now() - '2020-02-01Z' + interval '1 s'",
            "55000",
        ),
        ("events_2020_01", "'0'", "22023"),
        ("events_2020_01", "'-1 year'", "22023"),
        ("events_default", "'1 year'", "42P01"),
        ("events", "'1 year'", "42P01"),
        ("batches", "'1 year'", "42P01"),
        ("events_2019_01", "'1 year'", "42P01"),
        (
            "events_2020_01; DROP TABLE audit.batches",
            "'1 year'",
            "42P01",
        ),
        ("EVENTS_2020_01", "'1 year'", "42P01"),
    ] {
        refused(
            &mut operator,
            state,
            &format!("SELECT audit.remove_partition('{leaf}', {keep})"),
        );
    }
    assert_eq!(
        allowed(
            &mut operator,
            "SELECT audit.remove_partition('events_2020_01', NULL)"
        ),
        ""
    );
    // A detached one is not removed either: nobody knows what happened to it.
    postgres.psql("ALTER TABLE audit.events DETACH PARTITION audit_parts.events_2020_02");
    refused(
        &mut operator,
        "55000",
        "SELECT audit.remove_partition('events_2020_02', '1 year')",
    );
    postgres.psql(
        "ALTER TABLE audit.events ATTACH PARTITION audit_parts.events_2020_02 FOR VALUES FROM (audit.id_at('2020-02-01Z')) TO (audit.id_at('2020-03-01Z'))",
    );
    assert_eq!(all(&postgres), before);
}

#[test]
#[allow(clippy::too_many_lines, reason = "one story")]
fn held_partition_is_not_removed_until_an_auditor_lifts_the_hold() {
    let Archive {
        postgres,
        mut operator,
        mut auditor,
    } = archive();
    let removing = |leaf: &str| format!("SELECT audit.remove_partition('{leaf}', '1 year')");
    // By tenant: the months with rows of it.
    let hold = allowed(
        &mut operator,
        &format!("SELECT audit.place_hold('case 1', '{ANN}')"),
    );
    let error = refused(&mut operator, "55006", &removing("events_2020_01"));
    assert!(
        error.contains(&format!("held by the legal hold {hold}")),
        "{error}"
    );
    assert_eq!(
        allowed(
            &mut operator,
            "SELECT partition, obstacles FROM audit.plan_retention('1 year', '{events}')"
        ),
        format!("events_2020_01|{{\"held by the legal hold {hold}\"}}\nevents_2020_02|{{}}")
    );
    allowed(
        &mut operator,
        &format!("BEGIN; {}; ROLLBACK", removing("events_2020_02")),
    );
    // By kind, and by time.
    let kind = allowed(
        &mut auditor,
        "SELECT audit.place_hold('case 2', kinds => '{query_runs}')",
    );
    refused(&mut operator, "55006", &removing("query_runs_2020_02"));
    let time = allowed(
        &mut auditor,
        "SELECT audit.place_hold('case 3', NULL, '2020-02-29 23:59:59.999999Z', '2020-03-01Z')",
    );
    for parent in ["prompt_runs", "events"] {
        refused(
            &mut operator,
            "55006",
            &removing(&format!("{parent}_2020_02")),
        );
    }
    allowed(&mut operator, &removing("prompt_runs_2020_01"));
    // Only an auditor may lift it, once, and with a reason.
    refused(
        &mut operator,
        "42501",
        &format!("SELECT audit.lift_hold('{hold}', 'over')"),
    );
    refused(
        &mut operator,
        "42501",
        &format!(
            "INSERT INTO audit.legal_hold_lifts (hold_id, reason, lifted_by) VALUES ('{hold}', 'x', 'x')"
        ),
    );
    refused(
        &mut auditor,
        "22023",
        &format!("SELECT audit.lift_hold('{hold}', '')"),
    );
    refused(
        &mut auditor,
        "22023",
        &format!("SELECT audit.lift_hold('{hold}', NULL)"),
    );
    refused(
        &mut auditor,
        "P0002",
        &format!("SELECT audit.lift_hold('{BOB}', 'over')"),
    );
    refused(&mut operator, "55006", &removing("events_2020_01"));
    for id in [&hold, &kind, &time] {
        allowed(
            &mut auditor,
            &format!("SELECT audit.lift_hold('{id}', 'over')"),
        );
        refused(
            &mut auditor,
            "55000",
            &format!("SELECT audit.lift_hold('{id}', 'again')"),
        );
    }
    for leaf in [
        "events_2020_01",
        "events_2020_02",
        "query_runs_2020_02",
        "prompt_runs_2020_02",
    ] {
        allowed(&mut operator, &removing(leaf));
    }
    // All of it is in the trail, with who did it; the reason is visible to the auditor and the
    // tenant.
    assert_eq!(
        postgres.psql("SELECT action_type, user_id, input_summary, tenant_id FROM audit.events WHERE action_type LIKE 'audit.hold%' ORDER BY id, action_type"),
        format!(
            "audit.hold_placed|ops|case 1|{ANN}\naudit.hold_placed|aud|case 2|\naudit.hold_placed|aud|case 3|\n\
             audit.hold_lifted|aud|over|{ANN}\naudit.hold_lifted|aud|over|\naudit.hold_lifted|aud|over|"
        )
    );
    assert_eq!(
        allowed(
            &mut operator,
            "SELECT h.placed_by, l.lifted_by, l.reason FROM audit.legal_holds h JOIN audit.legal_hold_lifts l ON l.hold_id = h.id ORDER BY h.placed_at"
        ),
        "ops|aud|over\naud|aud|over\naud|aud|over"
    );
    for wrong in [
        "audit.place_hold('')",
        "audit.place_hold('x', NULL, '2020-01-01Z', '2020-01-01Z')",
        "audit.place_hold('x', NULL, '2020-01-02Z', '2020-01-01Z')",
    ] {
        refused(&mut auditor, "22023", &format!("SELECT {wrong}"));
    }
    refused(&mut auditor, "22023", "SELECT audit.place_hold(NULL)");
    refused(
        &mut auditor,
        "42P01",
        "SELECT audit.place_hold('x', kinds => '{batches}')",
    );
}

#[test]
fn hold_that_is_being_placed_stops_a_removal_in_progress() {
    let Archive {
        postgres,
        mut operator,
        mut auditor,
    } = archive();
    allowed(&mut auditor, "BEGIN; SELECT audit.place_hold('case')");
    operator.send("SELECT audit.remove_partition('events_2020_01', '1 year')");
    testkit::wait_until("the removal waits", testkit::trail::PATIENCE, || {
        postgres.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == "1"
    });
    allowed(&mut auditor, "COMMIT");
    let error = operator.receive().unwrap_err();
    assert!(error.contains("held by the legal hold"), "{error}");
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.events WHERE created_at < '2021-01-01Z'"),
        "19"
    );
}

#[test]
fn partition_referenced_by_a_host_is_not_removed_and_the_host_is_named() {
    let Archive {
        postgres,
        mut operator,
        ..
    } = archive();
    let id = postgres.psql("SELECT id FROM audit.events ORDER BY id LIMIT 1");
    postgres.psql(&format!(
        "CREATE SCHEMA host;
         CREATE TABLE host.feedback (event uuid REFERENCES audit.events (id));
         INSERT INTO host.feedback VALUES ('{id}')"
    ));
    let removing = "SELECT audit.remove_partition('events_2020_01', '1 year')";
    let expected = "rows of host.feedback may refer to it by the foreign key feedback_event_fkey; its owner takes that away (SET lock_timeout = '400ms'; ALTER TABLE host.feedback DROP CONSTRAINT feedback_event_fkey)";
    let error = refused(&mut operator, "55006", removing);
    assert!(error.contains(expected), "{error}");
    // The trail does not check whether such a row exists: neither where it could, nor where there
    // is none.
    postgres.psql("GRANT USAGE ON SCHEMA host TO audit_maintainer; GRANT SELECT ON host.feedback TO audit_maintainer; TRUNCATE host.feedback");
    let error = refused(&mut operator, "55006", removing);
    assert!(error.contains(expected), "{error}");
    let plan = "SELECT unnest(obstacles) FROM audit.plan_retention('1 year', '{events}') LIMIT 1";
    assert!(allowed(&mut operator, plan).starts_with(expected));
    postgres.psql("ALTER TABLE host.feedback DROP CONSTRAINT feedback_event_fkey");
    allowed(&mut operator, removing);
    postgres.psql("ALTER TABLE host.feedback ADD CONSTRAINT feedback_event_fkey FOREIGN KEY (event) REFERENCES audit.events (id) NOT VALID");
    // The host's foreign key is unchanged.
    let error = postgres
        .try_psql(&format!("INSERT INTO host.feedback VALUES ('{id}')"))
        .unwrap_err();
    assert!(error.contains("23503"), "{error}");
}

#[test]
fn objects_that_depend_on_a_partition_block_its_removal_and_are_named() {
    let Archive {
        postgres,
        mut operator,
        ..
    } = archive();
    let plan = "SELECT unnest(obstacles) FROM audit.plan_retention('1 year', '{events}')";
    assert_eq!(allowed(&mut operator, plan), "");
    // Objects that depend on the parent or go with the partition are no obstacle; objects that
    // depend on the leaf alone are.
    postgres.psql(
        "CREATE SCHEMA host;
         CREATE VIEW host.everything AS SELECT * FROM audit.events;
         CREATE INDEX ON audit_parts.events_2020_01 (user_id);
         CREATE STATISTICS audit_parts.together ON user_id, status FROM audit_parts.events_2020_01;
         ALTER TABLE audit_parts.events_2020_01 ADD CHECK (user_id <> 'x');
         CREATE PUBLICATION months FOR TABLE audit_parts.events_2020_01",
    );
    assert_eq!(allowed(&mut operator, plan), "");
    postgres.psql(
        "CREATE VIEW host.\"old ones\" AS SELECT user_id FROM audit_parts.events_2020_01;
         CREATE VIEW host.older AS SELECT * FROM host.\"old ones\";
         CREATE MATERIALIZED VIEW host.counted AS SELECT count(*) FROM audit_parts.events_2020_01;
         CREATE FUNCTION host.first() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT user_id FROM audit_parts.events_2020_01 LIMIT 1; END;
         CREATE FUNCTION host.given(audit_parts.events_2020_01) RETURNS int LANGUAGE sql RETURN 1;
         CREATE TABLE host.copies (copy audit_parts.events_2020_01, copies audit_parts.events_2020_01[]);
         CREATE TABLE host.notes (event uuid CONSTRAINT noted REFERENCES audit_parts.events_2020_01 (id))",
    );
    let expected = [
        "function host.first() depends on it",
        "function host.given(audit_parts.events_2020_01) depends on it",
        "materialized view host.counted depends on it",
        "table column host.copies.copies depends on it",
        "table column host.copies.copy depends on it",
        "table constraint noted on host.notes depends on it",
        "view host.\"old ones\" depends on it",
    ];
    let obstacles = allowed(&mut operator, plan);
    let mut obstacles: Vec<_> = obstacles.lines().collect();
    obstacles.sort_unstable();
    assert_eq!(obstacles, expected);
    let removing = "SELECT audit.remove_partition('events_2020_01', '1 year')";
    let error = refused(&mut operator, "55006", removing);
    assert!(error.contains(expected[0]), "{error}");
    postgres.psql(
        "DROP VIEW host.older, host.\"old ones\"; DROP MATERIALIZED VIEW host.counted;
         DROP FUNCTION host.first, host.given; DROP TABLE host.copies, host.notes",
    );
    allowed(&mut operator, removing);
}

#[test]
fn insert_right_granted_by_mistake_adds_no_removal_and_no_hold() {
    let postgres = migrated();
    postgres.psql(
        "GRANT INSERT ON audit.removals, audit.legal_holds, audit.legal_hold_lifts TO audit_writer",
    );
    let mut writer = login(&postgres, "as_writer", Some("audit_writer"));
    for sql in [
        "removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, removed_by) VALUES ('p', 'events', gen_random_uuid(), 1, 1, 1, '', 'x')",
        "legal_holds (reason, from_time, to_time, placed_by) VALUES ('x', '-infinity', 'infinity', 'x')",
        "legal_hold_lifts (hold_id, reason, lifted_by) VALUES (gen_random_uuid(), 'x', 'x')",
    ] {
        let error = refused(&mut writer, "42501", &format!("INSERT INTO audit.{sql}"));
        assert!(error.contains("row-level security"), "{error}");
    }
}

#[test]
fn recording_a_reading_stores_the_reader_and_the_purpose() {
    let Archive {
        postgres, auditor, ..
    } = archive();
    let mut auditor = auditor;
    let mut reader = login(&postgres, "rea", Some("audit_reader"));
    let id = allowed(
        &mut auditor,
        "SELECT audit.record_reading('complaint 7', 'req-1')",
    );
    let of_tenant = allowed(
        &mut reader,
        &format!("SELECT audit.record_reading('support', NULL, '{ANN}')"),
    );
    let told = |id: &str| {
        postgres.psql(&format!(
            "SELECT action_type, user_id, target_type, target_id, input_summary, tenant_id, service_name, status, metadata->>'client_address', seq, octet_length(salt),
                abs(extract(epoch FROM now() - created_at)) < 60, id >= audit.id_at(created_at), substr(id::text, 15, 1)
             FROM audit.events WHERE id = '{id}'"
        ))
    };
    assert_eq!(
        told(&id),
        "audit.read|aud|request|req-1|complaint 7||postgres|succeeded|127.0.0.1|1|16|t|t|7"
    );
    assert_eq!(
        told(&of_tenant),
        format!("audit.read|rea|trail||support|{ANN}|postgres|succeeded|127.0.0.1|1|16|t|t|7")
    );
    for purpose in ["NULL", "''", "'  '"] {
        refused(
            &mut reader,
            "22023",
            &format!("SELECT audit.record_reading({purpose})"),
        );
    }
    // Under another role, the login is still known.
    allowed(&mut auditor, "SET ROLE audit_auditor");
    let id = allowed(&mut auditor, "SELECT audit.record_reading('again')");
    assert!(told(&id).contains("|aud|"), "{}", told(&id));
}
