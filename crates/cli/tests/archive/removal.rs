//! What is removed from the database once it is in the archive, and what is read of it there.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use testkit::trail::TRIGGERS_OFF;

use super::*;

/// A day of another month.
const MONTH_BEFORE: &str = "2026-02-27";

impl Setting {
    /// Like `start`, with a login that archives and removes.
    pub(super) fn with_keeper() -> Self {
        let setting = Self::start();
        setting
            .postgres
            .psql("CREATE ROLE keeper LOGIN; GRANT audit_auditor, audit_operator TO keeper");
        setting
    }

    /// Returns the command that archives, and removes what is older than 90 days.
    pub(super) fn removal(&self, more: &[&str]) -> Command {
        let mut command = program(&self.login("keeper"));
        command
            .args(["archive", "--after", "90 days", "--json", "--key"])
            .arg(self.scratch.0.join("key"))
            .arg("--to")
            .arg(self.folder())
            .args(more);
        command
    }

    /// Removes, and returns the partitions.
    #[track_caller]
    pub(super) fn remove(&self, code: i32) -> Vec<Value> {
        let output = self.removal(&["--yes"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let told = told(&output).into_iter();
        told.filter(|it| it.get("partition").is_some()).collect()
    }

    /// Returns the records of a request, without where they were read, by id; and how many were read in the archive.
    #[track_caller]
    pub(super) fn show(
        &self,
        command: &mut Command,
        request: &str,
        more: &[&str],
    ) -> (BTreeMap<String, Value>, usize) {
        let output = command
            .args(["show", request, "--json", "--key", &self.vkey])
            .args(more)
            .arg("--archive")
            .arg(self.folder())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let (mut records, mut archived) = (BTreeMap::new(), 0);
        for mut record in told(&output) {
            let fields = record.as_object_mut().unwrap();
            archived += usize::from(fields.remove("archived_in").is_some());
            let id = fields["id"].as_str().unwrap().to_owned();
            assert_eq!(records.insert(id, record), None);
        }
        (records, archived)
    }

    /// Returns the records of a request that the database has.
    pub(super) fn of_database(&self, request: &str) -> BTreeMap<String, Value> {
        let output = program(&self.login("auditor"))
            .args(["show", request, "--json"])
            .output()
            .unwrap();
        let records = told(&output).into_iter();
        records
            .map(|record| (record["id"].as_str().unwrap().to_owned(), record))
            .collect()
    }

    pub(super) fn verify_database(&self) {
        let output = program(&self.login("auditor"))
            .args(["verify", "--key", &self.vkey])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    }
}

#[test]
fn what_was_archived_is_removed_and_the_event_names_its_manifests() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{MONTH_BEFORE} 12:00"), 50);
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.seal();
    let before = setting.of_database("request 2");
    // Without --yes it copies, and says what would go.
    let planned = setting.removal(&[]).output().unwrap();
    assert_eq!(planned.status.code(), Some(0), "{}", stderr(&planned));
    assert_eq!(setting.of_database("request 2"), before);
    let removed = setting.remove(0);
    assert_eq!(removed.len(), 8, "{removed:?}");
    assert!(removed.iter().all(|partition| partition["removed"] == true));
    for partition in &removed {
        let text = |name: &str| partition[name].as_str().unwrap();
        let told = setting.postgres.psql(&format!(
            "SELECT metadata->'archive' FROM audit.events WHERE id = '{}'",
            text("event")
        ));
        let told: Value = serde_json::from_str(&told).unwrap();
        let place = setting.folder();
        assert_eq!(told["place"], place.to_str().unwrap());
        let is_before = text("from").starts_with("2026-02");
        let day = if is_before { MONTH_BEFORE } else { DAY };
        let manifest = place.join(day_folder(text("kind"), day));
        let manifest = fs::read(manifest.join("_0001.manifest")).unwrap();
        let hash = HEXLOWER.encode(&Sha256::digest(&manifest));
        assert_eq!(told["manifests"], serde_json::json!([hash]));
    }
    assert_eq!(setting.of_database("request 2"), BTreeMap::new());
    setting.seal();
    setting.verify_database();
    setting.verify(&[]).assert_clean();
    // Nothing more is archived of what is removed.
    let archived = setting.archive();
    assert!(archived.iter().all(|set| set["day"] != DAY), "{archived:?}");
}

#[test]
fn what_the_archive_does_not_have_whole_is_not_removed() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.fill(&format!("{NEXT_DAY} 12:00"), 50);
    setting.seal();
    setting.archive();
    let rows = setting.count("events", DAY) + setting.count("events", NEXT_DAY);
    let obstacle = |removed: &[Value], kind: &str| {
        let of_kind = removed.iter().find(|it| it["kind"] == kind).unwrap();
        of_kind["obstacles"].to_string()
    };
    // A file that is not what it was, one that is lost, and a manifest that is.
    let changed = setting
        .folder()
        .join(day_folder("events", DAY))
        .join("0001-00000.parquet");
    let kept = fs::read(&changed).unwrap();
    let mut bytes = kept.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&changed, &bytes).unwrap();
    let lost = setting
        .folder()
        .join(day_folder("activities", NEXT_DAY))
        .join("0001-00000.parquet");
    fs::rename(&lost, setting.scratch.0.join("lost")).unwrap();
    let manifest = setting
        .folder()
        .join(day_folder("prompt_runs", DAY))
        .join("_0001.manifest");
    let written = fs::read(&manifest).unwrap();
    fs::write(&manifest, &written[..written.len() - 2]).unwrap();
    let output = setting
        .removal(&["--yes", "--kind", "events", "--kind", "activities"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let removed = told(&output);
    assert!(
        obstacle(&removed, "events").contains("object changed"),
        "{removed:?}"
    );
    assert!(
        obstacle(&removed, "activities").contains("object missing"),
        "{removed:?}"
    );
    assert_eq!(
        setting.count("events", DAY) + setting.count("events", NEXT_DAY),
        rows
    );
    fs::write(&changed, &kept).unwrap();
    fs::rename(setting.scratch.0.join("lost"), &lost).unwrap();
    fs::write(&manifest, &written).unwrap();

    // A row that is not sealed, and so not archived.
    setting.fill(&format!("{DAY} 10:00"), 8);
    let removed = setting.remove(1);
    assert!(
        obstacle(&removed, "events").contains("the archive has"),
        "{removed:?}"
    );
    // A legal hold, and a row that was changed since.
    setting.seal();
    let case = setting.postgres.psql(
        "SELECT audit.place_hold('case', NULL, '2026-03-01Z', '2026-03-31Z', '{query_runs}')",
    );
    setting.postgres.psql(&format!(
        "{TRIGGERS_OFF}; UPDATE audit.activities SET output_summary = 'another' WHERE id = (SELECT min(id::text)::uuid FROM audit.activities)"
    ));
    // The late rows of a day with a changed one are archived by nobody.
    let removed = setting.remove(1);
    assert!(
        obstacle(&removed, "query_runs").contains(case.trim()),
        "{removed:?}"
    );
    assert!(
        obstacle(&removed, "activities").contains("archive"),
        "{removed:?}"
    );
    let held = removed.iter().filter(|it| it["removed"] == false);
    assert!(held.count() >= 2, "{removed:?}");
    assert!(setting.count("query_runs", DAY) > 0);
}
