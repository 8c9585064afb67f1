//! What comes after an archive was made and its rows were removed.

use super::*;

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
