//! A month that is brought back beside the trail.

use super::*;

const TABLES: [&str; 4] = ["query_runs", "prompt_runs", "events", "activities"];

impl Setting {
    pub(super) fn restore(&self, more: &[&str]) -> Output {
        program(&self.login("keeper"))
            .args([
                "archive", "restore", "--month", "2026-03", "--key", &self.vkey,
            ])
            .arg(self.folder())
            .args(more)
            .output()
            .unwrap()
    }
}

#[test]
fn month_is_restored_beside_the_trail_as_it_was() {
    let setting = Setting::with_keeper();
    setting
        .postgres
        .psql("GRANT CREATE ON DATABASE audit TO keeper");
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.fill(&format!("{NEXT_DAY} 12:00"), 100);
    setting.seal();
    let rows = |table: &str| {
        setting.postgres.psql(&format!(
            "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM {table} t WHERE id < audit.id_at('2026-04-01Z')"
        ))
    };
    let before = TABLES.map(|table| rows(&format!("audit.{table}")));
    setting.remove(0);
    let output = setting.restore(&[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    let after = TABLES.map(|table| rows(&format!("audit_restored.{table}_2026_03")));
    assert_eq!(after, before);
    assert!(said.contains("audit_restored.events_2026_03: "), "{said}");
    let recorded = setting.postgres.psql(
        "SELECT count(*) FROM audit.events WHERE action_type = 'audit.read' AND user_id = 'keeper' AND metadata->>'page' = 'archive restore --month 2026-03'",
    );
    assert_eq!(recorded.trim(), "1");
    // The trail has nothing of it, and is as it was.
    assert_eq!(setting.count("events", DAY), 0);
    setting.seal();
    setting.verify_database();
    let doctor = program(&setting.postgres.url())
        .arg("doctor")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert_eq!(doctor.status.code(), Some(0), "{said}");
    // Nobody else reads it.
    assert!(setting.postgres.try_session("auditor").is_ok());
    let mut auditor = setting.postgres.session("auditor");
    let refused = auditor.run("SELECT count(*) FROM audit_restored.events_2026_03");
    assert!(refused.is_err());
    // It is there already.
    let again = setting.restore(&["--kind", "events"]);
    assert_eq!(again.status.code(), Some(2), "{}", stderr(&again));
}

#[test]
fn what_is_not_proven_is_not_restored() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.seal();
    setting.archive();
    let events = ["--kind", "events"];
    // Without the right to make a schema.
    let output = setting.restore(&events);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("permission denied for database"));
    // In a schema of somebody else's.
    setting.postgres.psql("CREATE SCHEMA audit_restored; GRANT ALL ON SCHEMA audit_restored TO keeper; GRANT CREATE ON DATABASE audit TO keeper");
    let output = setting.restore(&events);
    assert!(
        stderr(&output).contains("another login's"),
        "{}",
        stderr(&output)
    );
    setting.postgres.psql("DROP SCHEMA audit_restored");
    let file = setting
        .folder()
        .join(day_folder("events", DAY))
        .join("0001-00000.parquet");
    let mut bytes = fs::read(&file).unwrap();
    bytes[200] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let output = setting.restore(&events);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("0001-00000.parquet"));
    assert_eq!(
        setting
            .postgres
            .psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'audit_restored'"),
        "0"
    );
    let output = program(&setting.login("keeper"))
        .args([
            "archive",
            "restore",
            "--month",
            "March",
            "--key",
            &setting.vkey,
        ])
        .arg(setting.folder())
        .output()
        .unwrap();
    assert!(
        stderr(&output).contains("is no month"),
        "{}",
        stderr(&output)
    );
}
