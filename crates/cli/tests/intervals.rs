//! Partitions of days and weeks, as the program sees them: `verify` after one was removed, `doctor`,
//! `metrics`, `retain` and `settle`.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use testkit::Postgres;
use testkit::trail::{Folder, PATIENCE, TRIGGERS_OFF, balanced, pipeline};
use tracing_audit::{Event, QueryRun};

fn run(url: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tracing-audit"))
        .args(["--url", url])
        .args(arguments)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Starts a server with a trail, the tables of which have these intervals.
fn trail(intervals: &[(&str, &str)]) -> Postgres {
    let postgres = Postgres::start();
    tracing_audit::migrate(&postgres.url()).unwrap();
    for (table, every) in intervals {
        postgres.psql(&format!(
            "SELECT audit.set_partition_interval('{table}', '{every}', 'many rows')"
        ));
    }
    postgres
}

/// Seals all batches, and verifies; the kinds of what is found are these.
#[track_caller]
fn assert_found(postgres: &Postgres, kinds: &[&str]) -> String {
    while postgres.psql("SELECT sealed FROM audit.seal()") != "0" {}
    let said = json(&run(&postgres.url(), &["verify", "--json"]));
    let findings = said["findings"].as_array().unwrap();
    let found: BTreeSet<&str> = findings
        .iter()
        .map(|finding| finding["kind"].as_str().unwrap())
        .collect();
    assert_eq!(found, kinds.iter().copied().collect(), "{said}");
    said["notes"].to_string()
}

#[test]
fn rows_that_the_removal_of_a_day_or_a_week_left_are_still_proven() {
    let postgres = trail(&[("query_runs", "day"), ("events", "week")]);
    // One batch with rows of three days, in any order, and one that lies in one of them.
    let spool = Folder::new();
    let audit = pipeline(&postgres, &spool, |builder| builder);
    let ago = |days: u64| SystemTime::now() - Duration::from_hours(24 * days);
    for number in 0..40 {
        let days = [101, 100, 102, 100][number % 4];
        let sql = format!("SELECT {number}");
        audit
            .record(QueryRun::new(&*sql).started_at(ago(days)))
            .unwrap();
        audit
            .record(Event::new("seen").started_at(ago(days)))
            .unwrap();
    }
    audit.record(Event::new("now")).unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    audit
        .record(QueryRun::new("SELECT 'later'").started_at(ago(101)))
        .unwrap();
    audit.flush_blocking(PATIENCE).unwrap();
    // The database computes the roots that the program has sent.
    balanced(&audit, &postgres);
    audit.shutdown_blocking(PATIENCE);
    let several = "SELECT count(*) FROM (SELECT FROM audit.query_runs q JOIN audit.batches b ON b.writer_id = q.writer_id AND q.seq BETWEEN b.first_seq AND b.last_seq GROUP BY b.first_seq HAVING count(DISTINCT q.tableoid) = 3) b";
    assert_ne!(postgres.psql(several), "0");
    assert_found(&postgres, &[]);
    let leaf = |table: &str, days: u64| {
        let time = if table == "events" {
            "created_at"
        } else {
            "started_at"
        };
        let name = postgres.psql(&format!(
            "SELECT min(tableoid::regclass::text) FROM audit.{table} WHERE ({time} AT TIME ZONE 'UTC')::date = ((now() - interval '{days} days') AT TIME ZONE 'UTC')::date"
        ));
        name.replace("audit_parts.", "")
    };
    // That in the middle, the last, the first.
    let leaves: BTreeSet<String> = [101, 100, 102]
        .into_iter()
        .flat_map(|days| [leaf("query_runs", days), leaf("events", days)])
        .collect();
    assert!((4..=5).contains(&leaves.len()), "{leaves:?}");
    for leaf in [leaf("query_runs", 101)].iter().chain(&leaves) {
        if postgres.psql(&format!("SELECT to_regclass('audit_parts.{leaf}') IS NULL")) == "t" {
            continue;
        }
        postgres.psql(&format!(
            "SELECT audit.remove_partition('{leaf}', '60 days')"
        ));
        let notes = assert_found(&postgres, &[]);
        assert!(notes.contains(leaf), "{leaf}: {notes}");
    }
    assert_eq!(postgres.psql("SELECT count(*) FROM audit.query_runs"), "0");
}

#[test]
fn forged_settings_and_removals_of_days_are_found() {
    let postgres = trail(&[("query_runs", "day")]);
    for days in ["100", "101"] {
        postgres.psql(&format!(
            "SELECT audit.ensure_partition('query_runs', now() - interval '{days} days');
             WITH b AS (INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
                SELECT gen_random_uuid(), 1, 1, '{{\"query_runs\": 1}}', 0, audit.id_at(at), audit.id_at(at), 'test' FROM (SELECT now() - interval '{days} days') t (at) RETURNING writer_id, first_id)
             INSERT INTO audit.query_runs (id, status, started_at, writer_id, seq, salt) SELECT first_id, 'succeeded', now() - interval '{days} days', writer_id, 1, '' FROM b"
        ));
    }
    let leaf = |days: u32| {
        postgres.psql(&format!(
            "SELECT to_char((now() - interval '{days} days') AT TIME ZONE 'UTC', '\"query_runs_\"YYYY_MM_DD')"
        ))
    };
    let (removed, kept) = (leaf(100), leaf(101));
    assert_found(&postgres, &[]);
    postgres.psql(&format!(
        "SELECT audit.remove_partition('{removed}', '60 days')"
    ));
    assert_found(&postgres, &[]);
    postgres.psql(TRIGGERS_OFF);
    let month = postgres.psql("SELECT to_char((now() - interval '100 days') AT TIME ZONE 'UTC', '\"query_runs_\"YYYY_MM')");
    let young = postgres.psql("SELECT to_char((now() - interval '100 days') AT TIME ZONE 'UTC', '\"query_runs_\"YYYY_MM_DD') || to_char((now() - interval '1 day') AT TIME ZONE 'UTC', '\"_to_\"YYYY_MM_DD')");
    for name in [&kept, &month, &young] {
        postgres.psql(&format!("UPDATE audit.removals SET partition = '{name}'"));
        assert_found(&postgres, &["removal_unrecorded"]);
    }
    postgres.psql(&format!(
        "UPDATE audit.removals SET partition = '{removed}'"
    ));
    assert_found(&postgres, &[]);
    postgres.psql("UPDATE audit.settings SET partition_interval = 'week'");
    assert_found(&postgres, &["row_edited", "row_missing"]);
    postgres.psql("UPDATE audit.settings SET partition_interval = 'day'");
    assert_found(&postgres, &[]);
}

/// Returns the findings of `doctor` about partitions: what was found, and the advised statement.
fn about_partitions(postgres: &Postgres) -> Vec<(String, String)> {
    let looked = json(&run(&postgres.url(), &["doctor", "--json"]));
    let findings = looked.as_array().unwrap().iter();
    findings
        .filter(|finding| finding["severity"] != "ok")
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            (
                format!("{} {} {}", text("check"), text("object"), text("found")),
                text("advice"),
            )
        })
        .collect()
}

#[test]
fn doctor_knows_partitions_of_each_interval_and_those_that_are_lacking() {
    let postgres = trail(&[("query_runs", "day"), ("prompt_runs", "week")]);
    // Days ahead that nobody has made, and then all but one.
    let found = about_partitions(&postgres);
    assert_eq!(found.len(), 4, "{found:?}");
    for (_, advice) in &found {
        postgres.psql(advice);
    }
    assert_eq!(about_partitions(&postgres), []);
    let ahead = || {
        let text = run(&postgres.url(), &["metrics"]);
        let text = String::from_utf8(text.stdout).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("tracing_audit_partitions_ahead_seconds "));
        line.unwrap().parse::<f64>().unwrap() / 86_400.0
    };
    let until: f64 = postgres
        .psql("SELECT extract(day FROM date_trunc('month', now(), 'UTC') + interval '2 months' - date_trunc('day', now(), 'UTC')) - 1")
        .parse()
        .unwrap();
    assert!((ahead() - until).abs() < 1e-9);
    let leaf = |table: &str, days: u32| {
        postgres.psql(&format!(
            "SELECT leaf FROM audit.leaves_over('{table}', now() + interval '{days} days', now() + interval '{days} days')"
        ))
    };
    let days: Vec<String> = (5..10).map(|days| leaf("query_runs", days)).collect();
    let weeks: Vec<String> = [5, 12].map(|days| leaf("prompt_runs", days)).to_vec();
    let [renamed, detached, unchecked, this, that] = &days[..] else {
        panic!("{days:?}")
    };
    postgres.psql(&format!(
        "ALTER TABLE audit_parts.{renamed} RENAME TO odd_day;
         ALTER TABLE audit.query_runs DETACH PARTITION audit_parts.{detached};
         ALTER TABLE audit_parts.{unchecked} DROP CONSTRAINT {unchecked}_time;
         ALTER TABLE audit_parts.{this} RENAME TO x; ALTER TABLE audit_parts.{that} RENAME TO {this}; ALTER TABLE audit_parts.x RENAME TO {that};
         ALTER TABLE audit_parts.{} RENAME TO odd_week;
         ALTER TABLE audit.prompt_runs DETACH PARTITION audit_parts.{}; ALTER TABLE audit_parts.{} RENAME TO lost_week",
        weeks[0], weeks[1], weeks[1]
    ));
    let found = about_partitions(&postgres);
    let objects: BTreeSet<String> = found
        .iter()
        .map(|(what, _)| what.split(' ').nth(1).unwrap().replace("audit_parts.", ""))
        .collect();
    let expected = [
        "odd_day",
        detached,
        unchecked,
        "audit.query_runs",
        "odd_week",
        "lost_week",
    ];
    assert_eq!(objects, expected.map(String::from).into(), "{found:?}");
    for (_, advice) in &found {
        postgres.psql(advice);
    }
    assert_eq!(about_partitions(&postgres), []);
    assert!((ahead() - until).abs() < 1e-9);
    let day = this;
    // One that is not there is told with its day, and what is after it counts no more.
    postgres.psql(&format!("ALTER TABLE audit.query_runs DETACH PARTITION audit_parts.{day}; DROP TABLE audit_parts.{day}"));
    assert!((ahead() - 7.0).abs() < 1e-9);
    let found = about_partitions(&postgres);
    let [(what, advice)] = &found[..] else {
        panic!("{found:?}");
    };
    let of_day = day.replace("query_runs_", "").replace('_', "-");
    assert!(what.contains(&format!("{of_day} to {of_day}")), "{what}");
    postgres.psql(advice);
    assert_eq!(about_partitions(&postgres), []);
}

#[test]
fn retain_and_settle_name_days_and_weeks() {
    let postgres = trail(&[("query_runs", "day"), ("events", "week")]);
    for (table, time, at) in [
        ("query_runs", "started_at", "2020-01-15 10:00Z"),
        ("events", "created_at", "2020-01-15 10:00Z"),
    ] {
        for into in ["net", "leaf"] {
            let at = at.replace("15", if into == "net" { "25" } else { "15" });
            let leaf = match into {
                "net" => format!("{table}_default"),
                _ => postgres.psql(&format!("SELECT audit.ensure_partition('{table}', '{at}')")),
            };
            postgres.psql(&format!(
                "INSERT INTO audit_parts.{leaf} (id, status, {time}, writer_id, seq, salt) SELECT audit.id_at('{at}'), 'succeeded', '{at}', gen_random_uuid(), 1, ''"
            ));
        }
    }
    let names = |arguments: &[&str]| {
        let of = json(&run(&postgres.url(), arguments));
        let of = of.as_array().unwrap().iter();
        let text = of.map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            format!("{} {} {}", text("partition"), text("from"), text("to"))
        });
        text.collect::<Vec<_>>()
    };
    assert_eq!(
        names(&["settle", "--yes", "--json"]),
        [
            "events_2020_01_20_to_2020_01_26 2020-01-20T00:00:00Z 2020-01-27T00:00:00Z",
            "query_runs_2020_01_25 2020-01-25T00:00:00Z 2020-01-26T00:00:00Z",
        ]
    );
    assert_eq!(
        names(&["retain", "--keep", "1 year", "--yes", "--json"]),
        [
            "events_2020_01_13_to_2020_01_19 2020-01-13T00:00:00Z 2020-01-20T00:00:00Z",
            "query_runs_2020_01_15 2020-01-15T00:00:00Z 2020-01-16T00:00:00Z",
            "events_2020_01_20_to_2020_01_26 2020-01-20T00:00:00Z 2020-01-27T00:00:00Z",
            "query_runs_2020_01_25 2020-01-25T00:00:00Z 2020-01-26T00:00:00Z",
        ]
    );
    assert_eq!(postgres.psql("SELECT count(*) FROM audit.query_runs"), "0");
}

/// Noon of a day of 2024, counted from February 27.
fn noon(day: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_035_200 + day * 86_400)
}

/// Writes one batch of query runs at these times.
fn write_batch(postgres: &Postgres, url: String, times: &[SystemTime]) {
    let spool = Folder::new();
    let audit = pipeline(postgres, &spool, |builder| builder.postgres(url));
    for (number, time) in times.iter().enumerate() {
        let sql = format!("SELECT {number}");
        audit
            .record(QueryRun::new(&*sql).started_at(*time))
            .unwrap();
    }
    audit.flush_blocking(PATIENCE).unwrap();
    audit.shutdown_blocking(PATIENCE);
    let batches = "SELECT count(*) FROM audit.batches b WHERE b.records ? 'query_runs'";
    assert_eq!(postgres.psql(batches), "1");
}

#[test]
fn partition_is_not_made_around_one_that_was_removed() {
    let postgres = trail(&[("query_runs", "day")]);
    let days: Vec<SystemTime> = (0..4).map(noon).collect();
    postgres.psql("CREATE ROLE app LOGIN; GRANT audit_writer TO app");
    // Who may make no partitions of long ago: the rows go to the default one.
    write_batch(&postgres, postgres.url_as("app"), &days);
    postgres.psql("SELECT audit.settle_partition('query_runs', '2024-02-28 12:00Z')");
    assert_found(&postgres, &[]);
    postgres.psql("SELECT audit.remove_partition('query_runs_2024_02_28', '1 year')");
    postgres.psql("SELECT audit.set_partition_interval('query_runs', 'month', 'fewer rows')");
    let settled = run(&postgres.url(), &["settle", "--yes"]);
    assert!(settled.status.success(), "{settled:?}");
    assert_found(&postgres, &[]);
    let leaves = "SELECT string_agg(l, ', ') FROM audit.leaves('query_runs') l WHERE l ~ '_2024_'";
    assert_eq!(
        postgres.psql(leaves),
        "query_runs_2024_02_01_to_2024_02_27, query_runs_2024_02_29, query_runs_2024_03"
    );
    // What comes late for the day that was removed has a partition of that day again.
    assert_eq!(
        postgres.psql("SELECT audit.ensure_partition('query_runs', '2024-02-28 01:00Z')"),
        "query_runs_2024_02_28"
    );
    for leaf in ["02_29", "02_01_to_2024_02_27", "02_28", "03"] {
        postgres.psql(&format!(
            "SELECT audit.remove_partition('query_runs_2024_{leaf}', '1 year')"
        ));
        assert_found(&postgres, &[]);
    }
    assert_eq!(postgres.psql("SELECT count(*) FROM audit.query_runs"), "0");
}

/// Removes a row, and says that a partition of that name was removed, as a superuser can.
fn forge_removal(postgres: &Postgres, leaf: &str, seq: u32, parent: &str, partition: &str) {
    postgres.psql(&format!(
        "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET bytea_output = 'hex'; SET session_replication_role = replica;
         BEGIN;
         CREATE TEMP TABLE h (place int, day int, seq bigint, id uuid, writer_id uuid, content_hash bytea, leaf_hash bytea);
         DO $f$ BEGIN EXECUTE 'INSERT INTO h ' || audit.leaves_query('query_runs', '{leaf}', 'r.seq = {seq}'); END $f$;
         INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, batch, from_leaf, hashes, removed_at, removed_by)
             SELECT '{partition}', '{parent}', writer_id, {seq}, {seq}, 1, sha256(leaf_hash), 1, {seq} - 1, leaf_hash, clock_timestamp(), 'o' FROM h;
         {TRIGGERS_OFF};
         DELETE FROM audit_parts.{leaf} WHERE seq = {seq};
         SET session_replication_role = origin;
         SELECT audit.append_event('audit.partition_removed', 'partition', '{partition}', 'kept for 30 days', NULL, NULL, jsonb_build_object('rows', 1,
             'sha256', encode((SELECT sha256(sha256(audit.row_sha256(r))) FROM audit.removals r), 'hex')));
         COMMIT"
    ));
    assert_eq!(
        postgres.psql("SELECT count(*) FROM audit.removals"),
        "1",
        "{partition}"
    );
}

#[test]
fn removal_that_names_another_table_or_another_time_is_found() {
    // In one batch: February 27, and three rows of March 1.
    let times = [noon(0), noon(3), noon(3), noon(3)];
    for (parent, partition) in [
        // The batch has no rows of it.
        ("activities", "activities_2024_03_01"),
        // Its neighbours are of another day.
        ("query_runs", "query_runs_2024_02_28"),
        // Others of the day, and of the month, are there.
        ("query_runs", "query_runs_2024_03_01"),
        ("query_runs", "query_runs_2024_03"),
    ] {
        let postgres = trail(&[]);
        write_batch(&postgres, postgres.url(), &times);
        assert_found(&postgres, &[]);
        forge_removal(&postgres, "query_runs_2024_03", 3, parent, partition);
        assert_found(&postgres, &["removal_unrecorded"]);
    }
}

#[test]
fn removal_of_a_part_of_a_partition_is_found() {
    let postgres = trail(&[]);
    // Of its day, there is no other.
    write_batch(&postgres, postgres.url(), &[noon(3), noon(4), noon(5)]);
    assert_found(&postgres, &[]);
    forge_removal(
        &postgres,
        "query_runs_2024_03",
        2,
        "query_runs",
        "query_runs_2024_03_02",
    );
    assert_found(&postgres, &["removal_unrecorded"]);
}
