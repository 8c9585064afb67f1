//! Files of one tenant each.

use std::collections::BTreeSet;

use super::*;

const BY_TENANT: [&str; 1] = ["--by-tenant"];

/// Returns the tenants of the files of a day of a table, as their folders name them, and how many files there are.
fn tenants(setting: &Setting, table: &str, day: &str) -> (BTreeSet<String>, usize) {
    let names = files(&setting.folder().join(day_folder(table, day)));
    let names = names.iter().filter(|name| name.ends_with(".parquet"));
    let tenants = names.clone().map(|name| {
        let tenant = name.strip_prefix("tenant=").unwrap();
        tenant.split_once('/').unwrap().0.to_owned()
    });
    (tenants.collect(), names.count())
}

impl Setting {
    #[track_caller]
    fn archive_by(&self, more: &[&str]) -> Vec<Value> {
        let output = self.command(more).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        told(&output)
    }
}

#[test]
fn tenants_have_files_of_their_own_that_are_verified_shown_and_restored() {
    let setting = Setting::with_keeper();
    setting
        .postgres
        .psql("GRANT CREATE ON DATABASE audit TO keeper");
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.seal();
    let story = setting.of_database("request 2");
    let in_database = setting.postgres.psql(
        "SELECT DISTINCT coalesce(tenant_id::text, '__HIVE_DEFAULT_PARTITION__') FROM audit.events",
    );
    let in_database: BTreeSet<String> = in_database.lines().map(str::to_owned).collect();
    let all = |table: &str| {
        setting.postgres.psql(&format!(
            "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM {table} t WHERE id < audit.id_at('2026-04-01Z')"
        ))
    };
    let before = all("audit.events");
    let sets = setting.archive_by(&BY_TENANT);
    assert_eq!(
        tenants(&setting, "events", DAY),
        (in_database.clone(), in_database.len())
    );
    assert!(in_database.len() > 3, "{in_database:?}");
    let rows: u64 = sets.iter().map(|set| set["rows"].as_u64().unwrap()).sum();
    assert_eq!(setting.verify(&[]).assert_clean(), rows);
    // What comes later may be in the files of all.
    setting.fill(&format!("{DAY} 10:00"), 20);
    setting.seal();
    let late = setting.archive_by(&[]);
    let late: u64 = late.iter().map(|set| set["rows"].as_u64().unwrap()).sum();
    assert_eq!(setting.verify(&[]).assert_clean(), rows + late);
    let with_late = all("audit.events");
    assert_ne!(with_late, before);
    setting.remove(0);
    let auditor = &mut program(&setting.login("auditor"));
    let (shown, archived) = setting.show(auditor, "request 2", &[]);
    assert!(
        story
            .iter()
            .all(|(id, record)| shown.get(id) == Some(record))
    );
    assert_eq!(archived, shown.len());
    let restored = setting.restore(&[]);
    assert_eq!(restored.status.code(), Some(0), "{}", stderr(&restored));
    assert_eq!(all("audit_restored.events_2026_03"), with_late);
}

#[test]
fn file_in_the_folder_of_another_tenant_is_named() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.seal();
    setting.archive_by(&BY_TENANT);
    let day = setting.folder().join(day_folder("events", DAY));
    let names = files(&day);
    let mut names = names.iter().filter(|name| name.ends_with(".parquet"));
    let (one, other) = (names.next().unwrap(), names.next().unwrap());
    let moved = other.split_once('/').unwrap().0.to_owned() + "/" + one.split_once('/').unwrap().1;
    fs::rename(day.join(one), day.join(&moved)).unwrap();
    let object = |name: &str| format!("{}/{name}", day_folder("events", DAY));
    let found = setting.verify(&[]).found();
    let gone = (String::from("object_missing"), object(one));
    let unknown = (String::from("object_unknown"), object(&moved));
    assert!(
        found.contains(&gone) && found.contains(&unknown),
        "{found:?}"
    );
}

#[test]
fn set_goes_on_as_it_was_begun() {
    for (begun, on) in [(&BY_TENANT[..], &[][..]), (&[], &BY_TENANT)] {
        let setting = Setting::start();
        setting.fill(&format!("{DAY} 12:00"), 100);
        setting.seal();
        setting.archive_by(begun);
        let rows = setting.verify(&[]).assert_clean();
        let whole = files(&setting.folder());
        let day = setting.folder().join(day_folder("events", DAY));
        let of_events = files(&day);
        let last = of_events.iter().rfind(|name| name.ends_with(".parquet"));
        if of_events.len() > 3 {
            fs::remove_file(day.join(last.unwrap())).unwrap();
        }
        fs::remove_file(day.join("_0001.manifest")).unwrap();
        setting.forget_archives();
        setting.archive_by(on);
        assert_eq!(files(&setting.folder()), whole);
        assert_eq!(setting.verify(&[]).assert_clean(), rows);
    }
}

#[test]
fn day_of_more_tenants_than_a_manifest_can_name_is_refused_before_anything_is_written() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 02:00"), 40_000);
    for sql in [
        TRIGGERS_OFF,
        "UPDATE audit.events SET tenant_id = gen_random_uuid()",
    ] {
        setting.postgres.psql(sql);
    }
    let tenants = setting
        .postgres
        .psql("SELECT count(DISTINCT tenant_id) FROM audit.events");
    let tenants: u32 = tenants.trim().parse().unwrap();
    assert!(tenants > 8_000, "{tenants}");
    setting.seal();
    let output = setting
        .command(&["--by-tenant", "--kind", "events"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("--by-tenant"), "{said}");
    assert!(!setting.folder().exists() || files(&setting.folder()).is_empty());
    setting.archive_by(&["--kind", "events"]);
    setting.verify(&["--kind", "events"]).assert_clean();
}
