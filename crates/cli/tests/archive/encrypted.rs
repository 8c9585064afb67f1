//! Content that is encrypted in an archive: read with the keys of the database, and gone with them.

use testkit::trail::TRIGGERS_OFF;

use super::*;

const ENCRYPTED: [&str; 2] = ["--content", "encrypted"];

/// A request whose records are of several users and tenants, and of none.
const REQUEST: &str = "request 2";

impl Setting {
    fn archive_encrypted(&self) {
        let output = self.command(&ENCRYPTED).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }

    fn erase_by_program(&self, of: [&str; 2]) -> Output {
        let mut command = program(&self.login("keeper"));
        command.args(["erase", "--reason", "art. 17", "--requested-by", "the user"]);
        command.args(["--yes", "--json"]).args(of).output().unwrap()
    }
}

fn without_database() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command
        .env_remove("AUDIT_DATABASE_URL")
        .env_remove("DATABASE_URL");
    command
}

/// Returns the records without content and why it is not there, each with that.
fn closed(records: &std::collections::BTreeMap<String, Value>) -> Vec<(&Value, String)> {
    let records = records.values().filter_map(|record| {
        let why = record.get("content_unread")?.as_str()?;
        Some((record, why.to_owned()))
    });
    records.collect()
}

/// Fails unless a record has the core of a known one, and nothing of its content.
#[track_caller]
fn assert_only_core(record: &Value, known: &Value) {
    const CONTENT: [&str; 7] = [
        "user_id",
        "input_summary",
        "output_summary",
        "question_text",
        "sql_text",
        "error_message",
        "target_id",
    ];
    const CORE: [&str; 4] = ["status", "tenant_id", "action_type", "row_count"];
    for (name, value) in record.as_object().unwrap() {
        if CONTENT.contains(&name.as_str()) {
            assert_eq!(value, &Value::Null, "{name}");
        } else if name.ends_with("_at") || CORE.contains(&name.as_str()) {
            assert_eq!(value, &known[name], "{name}");
        }
    }
}

#[test]
fn content_is_read_with_the_keys_and_is_gone_with_them() {
    let setting = Setting::with_keeper();
    setting
        .postgres
        .psql("GRANT CREATE ON DATABASE audit TO keeper");
    setting.fill(&format!("{DAY} 12:00"), 200);
    setting.fill(&format!("{NEXT_DAY} 12:00"), 200);
    setting.seal();
    // Of what was erased before, whole or in part, there is what the erasures left.
    let erase = "SELECT rows > 0 FROM audit.erase('a', 'b', of_user => 'Infinity'),
        LATERAL (SELECT rows AS others FROM audit.erase('a', 'b', of_user => '-0', fields => '{metadata,input_summary}')) e";
    assert_eq!(setting.postgres.psql(erase).trim(), "t");
    setting.seal();
    let before = setting.of_database(REQUEST);
    let rows = |table: &str| {
        setting.postgres.psql(&format!(
            "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM {table} t WHERE id < audit.id_at('2026-04-01Z')"
        ))
    };
    let activities = rows("audit.activities");
    setting.archive_encrypted();
    assert!(setting.verify(&[]).assert_clean() > 300);
    // Who forgets it does not write in the clear.
    let forgotten = setting.command(&[]).output().unwrap();
    assert_eq!(forgotten.status.code(), Some(2));
    assert!(
        stderr(&forgotten).contains("--content"),
        "{}",
        stderr(&forgotten)
    );
    let removed = setting
        .removal(&["--yes", "--content", "encrypted"])
        .output()
        .unwrap();
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
    assert_eq!(setting.count("activities", DAY), 0);
    // With the keys all is as it was; also as a table.
    let auditor = || program(&setting.login("auditor"));
    let (shown, archived) = setting.show(&mut auditor(), REQUEST, &["--verify"]);
    assert_eq!((&shown, archived), (&before, before.len()));
    let restored = program(&setting.login("keeper"))
        .args([
            "archive",
            "restore",
            "--month",
            "2026-03",
            "--kind",
            "activities",
            "--key",
            &setting.vkey,
        ])
        .arg(setting.folder())
        .output()
        .unwrap();
    assert_eq!(restored.status.code(), Some(0), "{}", stderr(&restored));
    assert_eq!(rows("audit_restored.activities_2026_03"), activities);
    // Without the database there is what stays of a row, and nothing else.
    let (alone, _) = setting.show(&mut without_database(), REQUEST, &[]);
    assert_eq!(alone.len(), before.len());
    let unread = closed(&alone);
    assert!(unread.len() > before.len() / 2, "{alone:?}");
    for (record, why) in unread {
        assert!(why.contains("the key is in the database alone"), "{why}");
        assert_only_core(record, &before[record["id"].as_str().unwrap()]);
    }
    // The user asks for erasure: nothing of him is in the database any more, but the keys.
    let user = before.values().find_map(|record| {
        let user = record["user_id"].as_str()?;
        (user.len() > 2).then(|| user.to_owned())
    });
    let user = user.unwrap();
    let erased = setting.erase_by_program(["--user", &user]);
    assert_eq!(erased.status.code(), Some(0), "{}", stderr(&erased));
    let erased: Value = serde_json::from_slice(&erased.stdout).unwrap();
    assert_eq!(erased["rows"], 0);
    assert!(
        erased["keys"].as_i64().unwrap() > 0 && erased["event"].is_string(),
        "{erased}"
    );
    let (after, _) = setting.show(&mut auditor(), REQUEST, &["--verify"]);
    let gone = closed(&after);
    let of_user = before
        .values()
        .filter(|record| record["user_id"] == user.as_str());
    assert_eq!(gone.len(), of_user.count());
    assert!(
        gone.iter().all(|(_, why)| why.contains("was erased")),
        "{gone:?}"
    );
    for (id, record) in &before {
        if record["user_id"] != user.as_str() {
            assert_eq!(&after[id], record);
        }
    }
    // The archive is as it was, and so is the log; the erasure is told.
    assert!(setting.verify(&[]).assert_clean() > 300);
    setting.seal();
    setting.verify_database();
}

#[test]
fn keys_that_nobody_may_destroy_are_missed() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 50);
    setting.seal();
    setting.archive_encrypted();
    for login in ["auditor", "keeper", "sealer"] {
        let mut session = setting.postgres.session(login);
        assert!(
            session.run("DELETE FROM audit.subject_keys").is_err(),
            "{login}"
        );
        assert!(
            session
                .run(
                    "UPDATE audit.subject_keys SET key = NULL, subject = NULL, erasure_id = key_id"
                )
                .is_err(),
            "{login}"
        );
    }
    setting.postgres.psql(&format!(
        "{TRIGGERS_OFF}; UPDATE audit.subject_keys SET key = NULL, subject = NULL, erasure_id = gen_random_uuid() WHERE key_id = (SELECT min(key_id::text)::uuid FROM audit.subject_keys WHERE key IS NOT NULL)"
    ));
    let found = program(&setting.login("auditor"))
        .args(["verify", "--key", &setting.vkey])
        .output()
        .unwrap();
    assert_eq!(found.status.code(), Some(1));
    let said = String::from_utf8_lossy(&found.stdout);
    assert!(
        said.contains(
            "keys of archived content: 1 destroyed, and 0 that the event of an erasure tells of"
        ),
        "{said}"
    );
}

#[test]
fn what_cannot_be_decrypted_is_not_removed() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.seal();
    setting.archive_encrypted();
    setting.postgres.psql(&format!(
        "{TRIGGERS_OFF}; UPDATE audit.subject_keys SET key = sha256(key) WHERE key_id = (SELECT min(key_id::text)::uuid FROM audit.subject_keys)"
    ));
    let refused = setting
        .removal(&["--yes", "--content", "encrypted"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    let told = told(&refused);
    let left = told
        .iter()
        .filter(|it| it.get("partition").is_some() && it["removed"] == false);
    let obstacles: Vec<String> = left.map(|it| it["obstacles"].to_string()).collect();
    assert!(!obstacles.is_empty());
    assert!(
        obstacles
            .iter()
            .all(|obstacle| obstacle.contains("cannot be decrypted")),
        "{obstacles:?}"
    );
}

#[test]
fn key_that_is_gone_is_found_by_whoever_verifies_the_content() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.seal();
    setting.archive_encrypted();
    let verify = |login: &str| {
        let mut command = program(&setting.login(login));
        command.args(["archive", "verify", "--content", "--json", "--key"]);
        let output = command.arg(&setting.vkey).arg(setting.folder()).output();
        Verification(output.unwrap())
    };
    assert_eq!(
        verify("auditor").assert_clean(),
        setting.verify(&[]).assert_clean()
    );
    let refused = verify("sealer").0;
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(
        without_database()
            .args(["archive", "verify", "--content", "--key", &setting.vkey])
            .arg(setting.folder())
            .output()
            .is_ok_and(|output| output.status.code() == Some(2))
    );
    // An erasure is no fault.
    let erased = setting.erase_by_program(["--user", "NaN"]);
    assert_eq!(erased.status.code(), Some(0), "{}", stderr(&erased));
    verify("auditor").assert_clean();
    setting.postgres.psql(&format!(
        "{TRIGGERS_OFF}; DELETE FROM audit.subject_keys WHERE key_id = (SELECT min(key_id::text)::uuid FROM audit.subject_keys WHERE key IS NOT NULL)"
    ));
    setting.verify(&[]).assert_clean();
    let found = verify("auditor");
    assert!(!found.found().is_empty());
    let detail = found.all()["findings"][0]["detail"].to_string();
    assert!(detail.contains("the database has not the key"), "{detail}");
    let recorded = setting.postgres.psql(
        "SELECT count(*) FROM audit.events WHERE action_type = 'audit.read' AND user_id = 'auditor' AND metadata->>'page' = 'archive verify'",
    );
    assert_eq!(recorded.trim(), "3");
}

#[test]
fn a_legal_hold_keeps_the_keys() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.seal();
    setting.archive_encrypted();
    let hold = setting.postgres.psql("SELECT audit.place_hold('court', audit.tenant_uuid('tenant 1'), '2026-03-20Z', '2026-03-21Z')");
    // Not of his records: what is held is a day of the month that has the key.
    let refused = setting.erase_by_program(["--tenant", "tenant 1"]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("archived content is not erased"),
        "{}",
        stderr(&refused)
    );
    let erased = setting.erase_by_program(["--tenant", "tenant 2"]);
    assert_eq!(erased.status.code(), Some(0), "{}", stderr(&erased));
    setting.postgres.psql(&format!(
        "SELECT audit.lift_hold('{}', 'over')",
        hold.trim()
    ));
    let erased = setting.erase_by_program(["--tenant", "tenant 1"]);
    assert_eq!(erased.status.code(), Some(0), "{}", stderr(&erased));
    let left = "SELECT count(*) FILTER (WHERE tenant_id IN (audit.tenant_uuid('tenant 1'), audit.tenant_uuid('tenant 2')) AND key IS NOT NULL), count(*) FILTER (WHERE key IS NOT NULL) > 0 FROM audit.subject_keys";
    assert_eq!(setting.postgres.psql(left).trim(), "0|t");
    setting.seal();
    setting.verify_database();
}

#[test]
fn a_reader_has_the_keys_of_its_tenant() {
    let setting = Setting::with_keeper();
    setting
        .postgres
        .psql("CREATE ROLE reader LOGIN; GRANT audit_reader TO reader");
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.seal();
    let before = setting.of_database(REQUEST);
    setting.archive_encrypted();
    let removed = setting
        .removal(&["--yes", "--content", "encrypted"])
        .output()
        .unwrap();
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
    let mut reader = program(&setting.login("reader"));
    let (own, _) = setting.show(&mut reader, REQUEST, &["--tenant", "tenant 1"]);
    assert!(!own.is_empty());
    for (id, record) in &own {
        assert_eq!(record, &before[id]);
    }
    // Files have no row-level security; the keys have.
    let (all, _) = setting.show(&mut program(&setting.login("reader")), REQUEST, &[]);
    let unread = closed(&all);
    assert!(
        unread
            .iter()
            .all(|(_, why)| why.contains("this login may not read it")),
        "{unread:?}"
    );
    assert!(!unread.is_empty());
}

#[test]
fn keys_are_made_once_and_for_a_month() {
    let setting = Setting::start();
    let mut auditor = setting.postgres.session("auditor");
    let keys = "SELECT string_agg(key_id::text || encode(key, 'hex'), ' ') FROM audit.subject_keys_of('2026-03-01', ARRAY[NULL, audit.tenant_uuid('a'), audit.tenant_uuid('a'), NULL]::uuid[], ARRAY['ana', 'ana', NULL, 'ana'])";
    let first = auditor.run(keys).unwrap();
    assert_eq!(auditor.run(keys).unwrap(), first);
    let counts = "SELECT count(*), count(DISTINCT key) FROM audit.subject_keys";
    assert_eq!(setting.postgres.psql(counts).trim(), "3|3");
    for wrong in [
        "'2026-03-02', '{}', '{}'",
        "NULL, '{}', '{}'",
        "'infinity', '{}', '{}'",
        "'2026-03-01', '{}', '{a}'",
        "'2026-03-01', NULL, NULL",
        "'2026-03-01', '{{NULL}}', '{{a}}'",
    ] {
        let refused = auditor.run(&format!("SELECT * FROM audit.subject_keys_of({wrong})"));
        assert!(refused.is_err(), "{wrong}");
    }
    let mut sealer = setting.postgres.session("sealer");
    assert!(sealer.run(keys).is_err());
    assert!(sealer.run("SELECT * FROM audit.subject_keys").is_err());
}

#[test]
fn no_key_is_made_while_somebody_is_erased() {
    let setting = Setting::start();
    setting
        .postgres
        .psql("CREATE ROLE eraser LOGIN; GRANT audit_operator TO eraser");
    let mut auditor = setting.postgres.session("auditor");
    let keys = |user: &str| {
        format!("SELECT key_id FROM audit.subject_keys_of('2026-03-01', '{{NULL}}', '{{{user}}}')")
    };
    let before = auditor.run(&keys("ana")).unwrap();
    let mut eraser = setting.postgres.session("eraser");
    // Of one there is a key, of the other none yet: what is read meanwhile may have his content.
    eraser
        .run("BEGIN; SELECT audit.erase('art. 17', 'ana', of_user => 'ana'); SELECT audit.erase('art. 17', 'bob', of_user => 'bob')")
        .unwrap();
    assert_eq!(auditor.run(&keys("ana")).unwrap(), before);
    let refused = auditor.run(&keys("bob")).unwrap_err();
    assert!(refused.contains("55P03"), "{refused}");
    eraser.run("COMMIT").unwrap();
    // The one with which her content may have been encrypted is gone.
    let after = auditor.run(&keys("ana")).unwrap();
    assert_ne!(after, before);
    let left = setting.postgres.psql(&format!(
        "SELECT key IS NULL, erasure_id IS NOT NULL FROM audit.subject_keys WHERE key_id = '{}'",
        before.trim()
    ));
    assert_eq!(left.trim(), "t|t");
    auditor.run(&keys("bob")).unwrap();
}

/// Adds an event that the trail has recorded itself: that a login has read the records of a tenant.
const READING: &str = "DO $$ DECLARE
    at constant timestamptz := '2026-03-14 13:00+00';
    writer constant uuid := gen_random_uuid();
    event constant uuid := fill_id(at);
BEGIN
    INSERT INTO audit.events (id, writer_id, seq, tenant_id, status, created_at, action_type, target_type, salt, user_id, input_summary, service_name)
        VALUES (event, writer, 1, audit.tenant_uuid('tenant 1'), 'succeeded', at, 'audit.read', 'trail', 'salt', 'Infinity', 'curious', 'postgres');
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, service_name, committed_at)
        VALUES (writer, 1, 1, '{\"events\": 1}', 0, event, event, 'test', 'postgres', now());
END $$";

#[test]
fn what_the_trail_has_recorded_itself_outlasts_the_erasure_of_whoever_did_it() {
    let setting = Setting::with_keeper();
    setting
        .postgres
        .psql("GRANT CREATE ON DATABASE audit TO keeper");
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.postgres.psql(READING);
    setting.seal();
    setting.archive_encrypted();
    // Of the login's name there are a user's records, which are erased.
    for of in [["--user", "Infinity"], ["--tenant", "tenant 1"]] {
        let erased = setting.erase_by_program(of);
        assert_eq!(erased.status.code(), Some(0), "{}", stderr(&erased));
    }
    setting.seal();
    let removed = setting
        .removal(&["--yes", "--content", "encrypted"])
        .output()
        .unwrap();
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
    assert_eq!(setting.count("events", DAY), 0);
    let restored = program(&setting.login("keeper"))
        .args(["archive", "restore", "--month", "2026-03", "--key"])
        .arg(&setting.vkey)
        .arg(setting.folder())
        .output()
        .unwrap();
    assert_eq!(restored.status.code(), Some(0), "{}", stderr(&restored));
    let left = "SELECT user_id, input_summary, convert_from(salt, 'UTF8') FROM audit_restored.events_2026_03 WHERE service_name = 'postgres'";
    assert_eq!(setting.postgres.psql(left).trim(), "Infinity|curious|salt");
    let users = "SELECT count(*) FROM audit_restored.activities_2026_03 WHERE user_id = 'Infinity' OR tenant_id = audit.tenant_uuid('tenant 1') AND user_id IS NOT NULL";
    assert_eq!(setting.postgres.psql(users).trim(), "0");
}

#[test]
fn what_the_database_alone_has_is_not_removed() {
    let setting = Setting::with_keeper();
    setting.fill(&format!("{DAY} 12:00"), 100);
    setting.seal();
    setting.archive_encrypted();
    // Keys go, and the rows stay as they are.
    setting.postgres.psql(&format!(
        "{TRIGGERS_OFF}; UPDATE audit.subject_keys SET key = NULL, subject = NULL, erasure_id = gen_random_uuid() WHERE tenant_id = audit.tenant_uuid('tenant 1')"
    ));
    let left = |code| {
        let refused = setting
            .removal(&["--yes", "--content", "encrypted"])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(code), "{}", stderr(&refused));
        let told = told(&refused).into_iter();
        let left = told.filter(|it| it.get("partition").is_some() && it["removed"] == false);
        left.map(|it| it["obstacles"].to_string())
            .collect::<Vec<String>>()
    };
    let obstacles = left(1);
    assert_eq!(obstacles.len(), 4);
    assert!(
        obstacles
            .iter()
            .all(|obstacle| obstacle.contains("is in the database alone")),
        "{obstacles:?}"
    );
    // Once the rows are erased as well, nothing is lost with them.
    setting
        .postgres
        .psql("SELECT audit.erase('a', 'b', of_tenant => audit.tenant_uuid('tenant 1'))");
    setting.seal();
    assert_eq!(left(0), Vec::<String>::new());
}

#[test]
fn keys_of_many_tenants_are_found_each_by_the_index() {
    const TENANTS: u32 = 1500;
    let setting = Setting::start();
    let keys = format!(
        "SELECT count(*) FROM audit.subject_keys_of('2026-03-01', (SELECT array_agg(audit.tenant_uuid('tenant ' || n)) FROM generate_series(1, {TENANTS}) n), array_fill(NULL::text, ARRAY[{TENANTS}]))"
    );
    let mut auditor = setting.postgres.session("auditor");
    assert_eq!(auditor.run(&keys).unwrap().trim(), TENANTS.to_string());
    let counts = "SELECT pg_stat_get_xact_numscans(c), pg_stat_get_xact_tuples_returned(c) FROM CAST('audit.subject_keys_subject_idx' AS regclass) AS c";
    let reads = |counts: &str| {
        let (scans, rows) = counts.trim().split_once('|').unwrap();
        let numbers: (u32, u32) = (scans.parse().unwrap(), rows.parse().unwrap());
        numbers
    };
    // Postgres may count what was before with it.
    auditor.run("BEGIN").unwrap();
    let before = reads(&auditor.run(counts).unwrap());
    auditor.run(&keys).unwrap();
    let after = reads(&auditor.run(counts).unwrap());
    // Each twice: whether all are there, and which they are.
    assert_eq!(after.0 - before.0, 2 * TENANTS);
    assert!(after.1 - before.1 <= 2 * TENANTS, "{before:?} {after:?}");
}
