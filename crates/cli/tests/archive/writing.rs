//! What is written, and in which order.

use std::collections::BTreeMap;

use super::*;

const TABLES: [&str; 4] = ["query_runs", "prompt_runs", "events", "activities"];

#[test]
fn finished_days_are_archived_once_and_verify_without_a_database() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 200);
    // Over midnight.
    setting.fill(&format!("{DAY} 23:59:55"), 100);
    setting.seal();
    let told = setting.archive();
    let rows: BTreeMap<(&str, &str), u64> = told
        .iter()
        .map(|set| {
            let text = |name: &str| set[name].as_str().unwrap();
            assert_eq!(set["set"], 1);
            ((text("kind"), text("day")), set["rows"].as_u64().unwrap())
        })
        .collect();
    let mut all = 0;
    for table in TABLES {
        for day in [DAY, NEXT_DAY] {
            let count = setting.count(table, day);
            assert!(count > 0);
            assert_eq!(rows[&(table, day)], count, "{table} {day}");
            all += count;
        }
    }
    assert_eq!(setting.verify(&[]).assert_clean(), all);
    let before = files(&setting.folder());
    // Nothing more is to be done.
    assert_eq!(setting.archive(), Vec::<Value>::new());
    assert_eq!(files(&setting.folder()), before);
    // The server is not asked.
    let of_kind = setting.verify(&["--kind", "events", "--month", "2026-03"]);
    assert_eq!(
        of_kind.assert_clean(),
        rows[&("events", DAY)] + rows[&("events", NEXT_DAY)]
    );
}

#[test]
fn rows_that_come_later_are_a_set_of_their_own() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 40);
    setting.seal();
    let first = setting.archive();
    let before = setting.verify(&[]).assert_clean();
    setting.fill(&format!("{DAY} 10:00"), 20);
    // Not sealed yet.
    let left = setting.archive();
    assert_eq!(left[0]["left"], "unsealed");
    assert_eq!(left.len(), 1);
    setting.seal();
    let second = setting.archive();
    assert_eq!(second.len(), first.len());
    assert!(second.iter().all(|set| set["set"] == 2), "{second:?}");
    let after = setting.verify(&[]).assert_clean();
    let late: u64 = second.iter().map(|set| set["rows"].as_u64().unwrap()).sum();
    assert_eq!(after, before + late);
    assert_eq!(setting.archive(), Vec::<Value>::new());
    for file in ["_0001.manifest", "_0002.manifest"] {
        assert!(
            setting
                .folder()
                .join(day_folder("events", DAY))
                .join(file)
                .exists()
        );
    }
}

#[test]
fn row_that_was_changed_is_named_and_its_day_is_left() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 40);
    setting.fill(&format!("{NEXT_DAY} 12:00"), 40);
    setting.seal();
    let id = setting.postgres.psql(&format!(
        "{TRIGGERS_OFF};
         UPDATE audit.events SET input_summary = 'another' WHERE id = (SELECT min(id::text)::uuid FROM audit.events WHERE audit.day_of(id) = '{DAY}'::date - '1970-01-01') RETURNING id"
    ));
    let output = setting.command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = told(&output);
    assert_eq!(told[0]["day"], DAY);
    let finding = &told[0]["findings"][0];
    assert_eq!(finding["kind"], "row_edited");
    assert!(
        id.contains(finding["id"].as_str().unwrap()),
        "{id}: {finding}"
    );
    assert!(
        told[1..].iter().all(|set| set["day"] == NEXT_DAY),
        "{told:?}"
    );
    assert!(!setting.folder().join(day_folder("events", DAY)).exists());
    setting.verify(&[]).assert_clean();
}

#[test]
fn erased_rows_are_proven_by_what_they_were() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 80);
    setting.seal();
    setting.erase("tenant 1");
    setting.seal();
    let told = setting.archive();
    let rows = told.iter().map(|set| set["rows"].as_u64().unwrap());
    let rows: u64 = rows.sum();
    assert!(rows > 0);
    assert_eq!(setting.verify(&[]).assert_clean(), rows);
}

#[test]
fn erasure_that_no_event_tells_of_proves_no_row() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 80);
    setting.seal();
    setting.erase("tenant 1");
    setting.seal();
    setting.postgres.psql(&format!(
        "{TRIGGERS_OFF}; UPDATE audit.erasures SET erasure_id = gen_random_uuid()"
    ));
    let output = setting.command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = told(&output);
    assert_eq!(told.len(), 1, "{told:?}");
    let kinds = told[0]["findings"].as_array().unwrap().iter();
    let mut kinds = kinds.map(|finding| finding["kind"].as_str().unwrap());
    assert!(kinds.all(|kind| kind == "erasure_unrecorded"), "{told:?}");
    assert!(!setting.folder().exists());
}

#[test]
fn batches_whose_other_rows_were_removed_are_proven() {
    let setting = Setting::start();
    setting.fill("2026-01-31 23:59:55", 100);
    setting.fill("2026-01-31 23:59:58", 31);
    setting.seal();
    setting.postgres.psql("SELECT audit.remove_partition(name || '_2026_01', '60 days') FROM unnest(audit.record_tables()) AS name");
    setting.seal();
    let told = setting.archive();
    assert_eq!(told.len(), TABLES.len());
    assert!(
        told.iter().all(|set| set["day"] == "2026-02-01"),
        "{told:?}"
    );
    let rows: u64 = told.iter().map(|set| set["rows"].as_u64().unwrap()).sum();
    assert_eq!(setting.verify(&[]).assert_clean(), rows);
}

#[test]
fn table_without_rows_of_a_day_keeps_nobody_reading_it() {
    let setting = Setting::start();
    // No row of a dead letter, and none of activities.
    setting.fill(&format!("{DAY} 12:00"), 2);
    setting.seal();
    let told = setting.archive();
    let kinds: Vec<&str> = told
        .iter()
        .map(|set| set["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["prompt_runs", "events"]);
    // What is archived is not looked into again, whatever became of it.
    setting.postgres.psql(&format!(
        "{TRIGGERS_OFF}; UPDATE audit.events SET input_summary = 'another'"
    ));
    assert_eq!(setting.archive(), Vec::<Value>::new());
}

impl Setting {
    fn erase(&self, tenant: &str) {
        let words = [
            "erase",
            "--yes",
            "--reason",
            "asked for",
            "--requested-by",
            "ana",
            "--tenant",
            tenant,
        ];
        let erased = program(&self.postgres.url()).args(words).output().unwrap();
        assert!(erased.status.success(), "{}", stderr(&erased));
    }
}

/// The rows of a batch of one writer: of a program that began before its clock was set, and was cut off afterwards.
const FAR: &str = "
    SELECT audit.ensure_partition('events', at) FROM unnest('{2025-12-20 12:00+00, 2026-01-05 12:00+00}'::timestamptz[]) AS at;
    CREATE TABLE far AS SELECT seq, gen_random_uuid() AS writer, fill_id(at + seq * interval '150 ms') AS id, at FROM (
        SELECT seq::bigint, CASE WHEN seq < 3 THEN '2025-12-20 12:00+00'::timestamptz WHEN seq < 9 THEN '2026-01-05 12:00+00' ELSE '2026-03-14 12:00+00' END AS at
        FROM generate_series(1, 30) AS seq) AS s;
    UPDATE far SET writer = (SELECT writer FROM far WHERE seq = 1);
    INSERT INTO audit.events (id, writer_id, seq, status, created_at, action_type, salt, input_summary)
        SELECT id, writer, seq, 'succeeded', at, 'far', decode(md5(seq::text), 'hex'), 'hello' FROM far;
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, service_name, committed_at)
        SELECT writer, 1, 30, '{\"events\": 30}', 0, min(id::text)::uuid, max(id::text)::uuid, 'test', 'shop', now() FROM far GROUP BY writer";

#[test]
fn batch_of_days_that_are_far_from_each_other_is_archived_on_those_of_which_it_has_rows() {
    let setting = Setting::start();
    setting.postgres.psql(FAR);
    // Between its first and its last row, and beside both.
    for day in ["2026-01-05", "2026-02-10", DAY] {
        setting.fill(&format!("{day} 12:00"), 60);
    }
    setting.seal();
    let told = setting.archive();
    let of_events = told.iter().filter(|set| set["kind"] == "events");
    let rows: BTreeMap<&str, u64> = of_events
        .map(|set| (set["day"].as_str().unwrap(), set["rows"].as_u64().unwrap()))
        .collect();
    for day in ["2025-12-20", "2026-01-05", "2026-02-10", DAY] {
        assert_eq!(rows[day], setting.count("events", day), "{day}");
    }
    assert_eq!(rows.len(), 4, "{rows:?}");
    setting.verify(&[]).assert_clean();
    assert_eq!(setting.archive(), Vec::<Value>::new());
    // What was changed of it is named on the days of which it has rows.
    setting.postgres.psql(TRIGGERS_OFF);
    setting.postgres.psql(
        "UPDATE audit.events SET input_summary = 'another' WHERE action_type = 'far' AND seq = 30",
    );
    setting.forget_archives();
    for day in ["2025-12-20", "2026-01-05", "2026-02-10", DAY] {
        let folder = setting.folder().join(day_folder("events", day));
        fs::remove_dir_all(folder).unwrap();
    }
    let output = setting.command(&["--kind", "events"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = super::told(&output);
    let left = told.iter().filter(|one| one["left"] == "differs");
    let left: Vec<&str> = left.map(|one| one["day"].as_str().unwrap()).collect();
    assert_eq!(left, ["2025-12-20", "2026-01-05", DAY]);
}

#[test]
fn place_whose_name_the_trail_cannot_record_is_refused_before_anything_is_written() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 20);
    setting.seal();
    let part = "a".repeat(250);
    let place = setting.scratch.0.join(&part);
    let mut command = program(&setting.login("auditor"));
    command.args(["archive", "--copy", "--key"]);
    command.arg(setting.scratch.0.join("key"));
    command
        .arg("--to")
        .arg(place.join(format!("{part}/{part}/{part}")));
    let output = command.output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("more than the 1024 bytes") && !place.exists(),
        "{said}"
    );
}
