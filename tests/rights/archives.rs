//! What was archived, and the removal of partitions that were.

use sha2::{Digest as _, Sha256};

use super::retention::{Archive, all, archive, hex, unhex};
use super::{allowed, refused};
use testkit::Postgres;

const MANIFEST: &str = "'\\x4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d'";

/// The batches of January, by the begin of the writer's id.
const JANUARY: &[(&str, i64, i64)] = &[("1111", 1, 3), ("1111", 4, 14), ("2222", 1, 2)];

/// Returns the hash over the rows of `events_2020_01`, as who has read an archive computes it.
fn hash_of_rows(postgres: &Postgres, batches: &[(&str, i64, i64)]) -> String {
    let leaves = postgres.psql(
        "SET timezone = 'UTC';
         CREATE FUNCTION pg_temp.leaves() RETURNS TABLE (place int, month int, seq bigint, id uuid, writer_id uuid, content_hash bytea, leaf_hash bytea) LANGUAGE plpgsql AS
            $$ BEGIN RETURN QUERY EXECUTE audit.leaves_query('events', 'events_2020_01', 'true'); END $$;
         SELECT writer_id, seq, encode(leaf_hash, 'hex') FROM pg_temp.leaves() ORDER BY writer_id, seq",
    );
    let mut all = Sha256::new();
    for (writer, first, last) in batches {
        let rows: Vec<_> = leaves
            .lines()
            .map(|line| line.split('|').collect::<Vec<_>>())
            .filter(|row| {
                row[0].starts_with(writer) && (*first..=*last).contains(&row[1].parse().unwrap())
            })
            .collect();
        let mut of_batch = Sha256::new();
        for row in &rows {
            of_batch.update(unhex(row[2]));
        }
        all.update(unhex(&rows[0][0].replace('-', "")));
        all.update(first.to_be_bytes());
        all.update(u64::try_from(rows.len()).unwrap().to_be_bytes());
        all.update(of_batch.finalize());
    }
    // By the million of batches, of which there is one.
    hex(&Sha256::digest(all.finalize()))
}

fn record(place: &str, number: i32, sha256: &str) -> String {
    format!("SELECT audit.record_archive({place}, 'events', '2020-01-15', {number}, {sha256}, 5)")
}

#[test]
fn manifest_is_recorded_once_with_an_event() {
    let Archive {
        postgres,
        mut auditor,
        ..
    } = archive();
    allowed(&mut auditor, "SET datestyle = 'SQL, DMY'");
    let event = allowed(&mut auditor, &record("'/archive'", 1, MANIFEST));
    // Who was interrupted says it again.
    assert_eq!(
        allowed(&mut auditor, &record("'/archive'", 1, MANIFEST)),
        event
    );
    assert_eq!(
        postgres.psql("SELECT place, parent, day, number, encode(sha256, 'hex') = repeat('4d', 32), rows, archived_by, event FROM audit.archives"),
        format!("/archive|events|2020-01-15|1|t|5|aud|{event}")
    );
    assert_eq!(
        postgres.psql(&format!(
            "SELECT action_type, target_type, target_id, user_id, metadata - 'client_address' FROM audit.events WHERE id = '{event}'"
        )),
        format!(
            r#"audit.archived|archive|events 2020-01-15 1|aud|{{"day": "2020-01-15", "kind": "events", "rows": 5, "place": "/archive", "number": 1, "manifest": "{}"}}"#,
            "4d".repeat(32)
        )
    );
    refused(
        &mut auditor,
        "23505",
        &record("'/archive'", 1, "sha256('')"),
    );
    for (place, number, sha256) in [
        ("NULL", 1, MANIFEST),
        ("' '", 1, MANIFEST),
        ("repeat('x', 1025)", 1, MANIFEST),
        ("'/archive'", 0, MANIFEST),
        ("'/archive'", 2, "''"),
        ("'/archive'", 2, "NULL"),
    ] {
        refused(&mut auditor, "22023", &record(place, number, sha256));
    }
    refused(
        &mut auditor,
        "42P01",
        "SELECT audit.record_archive('/archive', 'batches', '2020-01-15', 1, sha256(''), 1)",
    );
    assert_eq!(postgres.psql("SELECT count(*) FROM audit.archives"), "1");
    // The same day at another place.
    let other = allowed(&mut auditor, &record("'s3://bucket'", 1, "sha256('')"));
    assert_ne!(other, event);
}

#[test]
fn archived_partition_is_removed_only_if_its_rows_are_those_of_the_archive() {
    let Archive {
        postgres,
        mut operator,
        ..
    } = archive();
    allowed(&mut operator, &record("'/archive'", 1, MANIFEST));
    let hash = hash_of_rows(&postgres, JANUARY);
    let remove = |place: &str, manifests: &str, hash: &str| {
        format!(
            "SELECT audit.remove_archived_partition('events_2020_01', '1 year', '{place}', ARRAY[{manifests}]::bytea[], '\\x{hash}')"
        )
    };
    let before = all(&postgres);
    for (state, sql) in [
        ("55006", remove("/archive", MANIFEST, &"00".repeat(32))),
        ("55000", remove("/elsewhere", MANIFEST, &hash)),
        (
            "55000",
            remove("/archive", &format!("{MANIFEST}, sha256('')"), &hash),
        ),
        ("55000", remove("/archive", "NULL", &hash)),
        ("22023", remove("/archive", MANIFEST, "00")),
    ] {
        refused(&mut operator, state, &sql);
    }
    // A row that came after the archive was read.
    postgres.psql(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, library_version)
            VALUES ('33333333-0000-4000-8000-000000000000', 1, 1, '{\"events\": 1}', 0, 'x');
         INSERT INTO audit.events (id, tenant_id, status, created_at, metadata, problems, writer_id, seq, salt)
            VALUES (audit.id_at('2020-01-20Z'), NULL, 'succeeded', '2020-01-20Z', '{}', '{}', '33333333-0000-4000-8000-000000000000', 1, '')",
    );
    let with_late_row = all(&postgres);
    assert_ne!(before, with_late_row);
    refused(&mut operator, "55006", &remove("/archive", MANIFEST, &hash));
    assert_eq!(all(&postgres), with_late_row);
    let hash = hash_of_rows(&postgres, &[JANUARY, &[("3333", 1, 1)]].concat());
    let event = allowed(&mut operator, &remove("/archive", MANIFEST, &hash));
    assert_eq!(
        postgres.psql(&format!(
            "SELECT action_type, target_id, user_id, metadata->'archive' FROM audit.events WHERE id = '{event}'"
        )),
        format!(
            r#"audit.partition_removed|events_2020_01|ops|{{"place": "/archive", "hashes": "{hash}", "manifests": ["{}"]}}"#,
            "4d".repeat(32)
        )
    );
    assert_eq!(
        postgres.psql("SELECT to_regclass('audit_parts.events_2020_01') IS NULL"),
        "t"
    );
    // An empty one has no manifest.
    let of_none = hex(&Sha256::digest(b""));
    allowed(
        &mut operator,
        &format!(
            "SELECT audit.remove_archived_partition('query_runs_2020_01', '1 year', '/archive', '{{}}', '\\x{of_none}')"
        ),
    );
}
