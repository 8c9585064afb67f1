//! What comes after an archive was made and its rows were removed.

use super::*;

impl Setting {
    /// Removes all that is old, and fails unless each partition went.
    #[track_caller]
    fn remove_all(&self) -> usize {
        let removed = self.remove(0);
        assert!(
            removed.iter().all(|partition| partition["removed"] == true),
            "{removed:?}"
        );
        removed.len()
    }
}

#[test]
fn late_records_of_a_removed_partition_are_archived_and_removed_as_well() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.fill(&format!("{NEXT_DAY} 12:00"), 50);
    setting.seal();
    let first = setting.of_database("request 2");
    assert_eq!(setting.remove_all(), 4);
    // A host that was cut off: its records of the same days, in partitions of the same names.
    setting.fill(&format!("{DAY} 10:00"), 30);
    setting.seal();
    let late = setting.of_database("request 2");
    assert!(!late.is_empty());
    assert_eq!(setting.remove_all(), 4);
    assert!(setting.of_database("request 2").is_empty());
    let mut auditor = program(&setting.login("auditor"));
    let (shown, _) = setting.show(&mut auditor, "request 2", &[]);
    assert_eq!(shown.len(), first.len() + late.len());
    setting.seal();
    setting.verify_database();
    setting.verify(&[]).assert_clean();
}

#[test]
fn manifest_that_stands_elsewhere_is_not_recorded() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.seal();
    setting.archive();
    let known = "SELECT parent, day, number FROM audit.archives ORDER BY 1, 2, 3";
    let before = setting.postgres.psql(known);
    // Whoever may write there copies a manifest to a day of which there are no records.
    let from = setting.folder().join(day_folder("events", DAY));
    let to = setting.folder().join(day_folder("events", "2026-01-01"));
    fs::create_dir_all(&to).unwrap();
    fs::copy(from.join("_0001.manifest"), to.join("_0001.manifest")).unwrap();
    let output = setting.command(&[]).output().unwrap();
    assert_eq!(setting.postgres.psql(known), before);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("day=2026-01-01/_0001.manifest: it is that of another set"));
}

#[test]
fn archiving_never_runs_functions_that_shadow_those_of_postgres() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.seal();
    setting.archive();
    // As the owner of a database may do to a login with more rights, and with the forms that a login may have.
    setting.postgres.psql(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
        CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.same);
        CREATE FUNCTION evil.same(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.same);
        CREATE FUNCTION evil.to_char(timestamp, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        ALTER DATABASE audit SET search_path = evil, pg_catalog;
        ALTER ROLE keeper SET datestyle = 'German'; ALTER ROLE keeper SET timezone = 'Pacific/Kiritimati'; ALTER ROLE keeper SET bytea_output = 'escape';
        ALTER ROLE keeper SET intervalstyle = 'sql_standard'",
    );
    setting.postgres.psql(&format!(
        "SET search_path = public; CALL fill('{NEXT_DAY} 12:00+00', 50)"
    ));
    setting.seal();
    assert_eq!(setting.remove_all(), 4);
    let recorded = setting.postgres.psql(
        "SELECT count(*) FROM audit.events WHERE action_type OPERATOR(pg_catalog.=) 'audit.archived'",
    );
    assert_eq!(recorded.trim(), "8");
}

#[test]
fn place_that_is_away_is_said_to_be_and_gets_no_second_archive() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.seal();
    setting.archive();
    let places = "SELECT string_agg(DISTINCT place, ' ') FROM audit.archives";
    let place = setting.folder().to_str().unwrap().to_owned();
    assert_eq!(setting.postgres.psql(places).trim(), place);
    // One folder has one name.
    let mut command = program(&setting.login("auditor"));
    command
        .args(["archive", "--copy", "--key"])
        .arg(setting.scratch.0.join("key"));
    let output = command.args(["--to", &format!("{place}//./")]).output();
    assert_eq!(output.unwrap().status.code(), Some(0));
    assert_eq!(setting.postgres.psql(places).trim(), place);
    // As if its disk was not mounted: first with the folder that it is mounted on, then without.
    fs::rename(&place, setting.scratch.0.join("away")).unwrap();
    let show = |more: &[&str]| {
        let output = program(&setting.login("auditor"))
            .args(["show", "request none", "--key", &setting.vkey])
            .args(["--archive", &place])
            .args(more)
            .output()
            .unwrap();
        (output.status.code(), stderr(&output))
    };
    let (code, said) = show(&[]);
    assert!(code == Some(2) && said.contains(&place), "{said}");
    fs::create_dir(&place).unwrap();
    assert_eq!(show(&[]).0, Some(1));
    let (code, said) = show(&["--since", NEXT_DAY, "--until", DAY]);
    assert!(code == Some(2) && said.contains("after --until"), "{said}");
    let output = setting.command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("knows of 4 manifests there"), "{said}");
    assert_eq!(files(Path::new(&place)), Vec::<String>::new());
}

#[test]
fn what_is_removed_is_named_to_people() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.seal();
    let said = |more: &[&str]| {
        let mut command = program(&setting.login("keeper"));
        command
            .args(["archive", "--after", "90 days", "--key"])
            .arg(setting.scratch.0.join("key"))
            .arg("--to")
            .arg(setting.folder());
        let output = command.args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let (planned, removed) = (said(&[]), said(&["--yes"]));
    for table in ["events", "activities", "query_runs", "prompt_runs"] {
        let line = |text: &str, end: &str| {
            let name = format!("{table}_2026_03 ");
            let mut lines = text.lines();
            lines.any(|line| line.starts_with(&name) && line.contains(end))
        };
        assert!(line(&planned, "would be removed"), "{planned}");
        assert!(line(&removed, "removed, event "), "{removed}");
    }
    assert!(planned.contains("with --yes"), "{planned}");
    assert!(
        removed.ends_with("4 removed, 0 not removed.\n"),
        "{removed}"
    );
    assert!(said(&["--yes"]).starts_with("No partition is of records older"));
}

#[test]
fn set_that_was_archived_and_is_gone_is_named_and_not_written_anew() {
    let setting = Setting::start();
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.fill(&format!("{NEXT_DAY} 12:00"), 50);
    setting.seal();
    setting.archive();
    let day = setting.folder().join(day_folder("events", DAY));
    let away = setting.scratch.0.join("away");
    fs::rename(&day, &away).unwrap();
    // What comes later is archived on other days, and of other tables.
    setting.fill(&format!("{DAY} 13:00"), 40);
    setting.seal();
    let output = setting.command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = told(&output);
    let gone: Vec<_> = told.iter().filter(|one| one["left"] == "gone").collect();
    assert_eq!(gone.len(), 1, "{told:?}");
    let [kind, of_day] = ["kind", "day"].map(|name| gone[0][name].as_str().unwrap());
    assert_eq!((kind, of_day), ("events", DAY));
    assert_eq!(gone[0]["set"], 1);
    assert!(!day.exists());
    let late = told.iter().filter(|one| one["set"] == 2);
    assert_eq!(late.count(), 3, "{told:?}");
    // What its place no longer keeps is no finding where the days after it are meant.
    let output = setting.command(&["--since", NEXT_DAY]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    fs::rename(&away, &day).unwrap();
    let late = setting.archive();
    assert_eq!(late.len(), 1);
    assert_eq!(
        (&late[0]["kind"], &late[0]["set"]),
        (&"events".into(), &2.into())
    );
    setting.verify(&[]).assert_clean();
}
