//! Records on their way from the database to the archive, while everything is killed: each is in exactly one place, by what `show`
//! answers.

use std::collections::BTreeSet;

use testkit::{Chance, Stop, let_run};

use super::*;

/// How many times something is killed; `TRACING_AUDIT_KILL_ROUNDS` sets another number.
fn rounds() -> u32 {
    let set = std::env::var("TRACING_AUDIT_KILL_ROUNDS").ok();
    set.map_or(4, |rounds| rounds.parse().unwrap())
}

/// Returns the ids of all records of these days, by table.
fn ids(setting: &Setting) -> BTreeSet<String> {
    let ids = setting.postgres.psql(
        "SELECT 'query_run ' || id FROM audit.query_runs UNION ALL SELECT 'prompt_run ' || id FROM audit.prompt_runs
         UNION ALL SELECT 'event ' || id FROM audit.events WHERE service_name IS DISTINCT FROM 'postgres' UNION ALL SELECT 'event ' || id FROM audit.activities",
    );
    ids.lines().map(str::to_owned).collect()
}

/// Fails unless the answers about all requests have each of the records once.
fn each_is_shown_once(setting: &Setting, requests: &BTreeSet<String>, all: &BTreeSet<String>) {
    let mut shown = BTreeSet::new();
    for request in requests {
        // Fails if one is there twice.
        let (records, _) = setting.show(&mut program(&setting.login("auditor")), request, &[]);
        for record in records.values() {
            let text = |name: &str| record[name].as_str().unwrap();
            let record = format!("{} {}", text("kind"), text("id"));
            assert!(all.contains(&record), "{record}");
            shown.insert(record);
        }
    }
    let lost: Vec<_> = all.difference(&shown).collect();
    assert_eq!(lost, Vec::<&String>::new());
}

#[test]
fn killed_at_any_moment_each_record_is_in_one_place() {
    let mut setting = Setting::with_keeper();
    // Each table has a request for each record.
    setting.postgres.psql("CREATE OR REPLACE FUNCTION hostile(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'request ' || n % 5 $$");
    let months = [
        "2026-01-10",
        "2026-01-31",
        "2026-02-01",
        "2026-02-14",
        "2026-03-03",
        "2026-04-20",
    ];
    for day in months {
        setting.fill(&format!("{day} 23:59:58"), 60);
    }
    setting.seal();
    let all = ids(&setting);
    let requests: BTreeSet<String> = setting
        .postgres
        .psql("SELECT request_id FROM audit.query_runs UNION SELECT request_id FROM audit.prompt_runs UNION SELECT request_id FROM audit.events WHERE request_id IS NOT NULL UNION SELECT request_id FROM audit.activities")
        .lines()
        .map(str::to_owned)
        .collect();
    let mut chance = Chance::new();
    for round in 0..rounds() {
        let mut running = setting
            .removal(&["--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let_run(chance.below(1_500));
        if round % 4 == 3 {
            // The server loses what it has not promised, and the program its connection.
            setting.postgres.stop(Stop::Immediate);
            running.wait().unwrap();
            setting.postgres.start_again();
        } else {
            let _ = running.kill();
            running.wait().unwrap();
        }
        each_is_shown_once(&setting, &requests, &all);
    }
    let output = setting.removal(&["--yes"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    each_is_shown_once(&setting, &requests, &all);
    assert_eq!(ids(&setting).intersection(&all).count(), 0);
    setting.seal();
    setting.verify_database();
    assert_eq!(setting.verify(&[]).assert_clean(), all.len() as u64);
}
