//! Requests that are found in the database and in the archive, each once.

use super::*;

/// Returns the requests that `find` finds, without how many of their records are archived, and that number.
#[track_caller]
pub(super) fn find(mut command: Command, words: &[&str]) -> (Vec<Value>, u64) {
    let output = command
        .args(["find", "--json"])
        .args(words)
        .output()
        .unwrap();
    let told = stderr(&output);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{words:?}: {told}"
    );
    let mut archived = 0;
    let mut requests: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for request in &mut requests {
        let fields = request.as_object_mut().unwrap();
        let number = fields.remove("archived");
        archived += number.map_or(0, |number| number.as_u64().unwrap());
    }
    (requests, archived)
}

#[test]
fn each_request_is_found_once_with_the_outcomes_of_both() {
    let setting = Setting::with_keeper();
    for at in ["2026-02-27 23:59:58", "2026-03-14 12:00"] {
        setting.fill(at, 60);
    }
    setting.seal();
    let folder = setting.folder();
    let archive = [
        "--archive",
        folder.to_str().unwrap(),
        "--key",
        &setting.vkey,
    ];
    let ways: [&[&str]; 9] = [
        &["--limit", "1000"],
        &["--limit", "7"],
        &["--user", "NaN"],
        &["--status", "failed", "--limit", "12"],
        &["--text", "LONG long", "--kind", "query_runs"],
        &["--tenant", "tenant 1"],
        &["--kind", "prompt_runs", "--limit", "1000"],
        &["--text", "[]"],
        &["--user", "nobody"],
    ];
    let span = ["--since", "2026-02-01", "--until", "2026-04-01"];
    let ways = ways.map(|way| [&span[..], way].concat());
    let auditor = || program(&setting.login("auditor"));
    let alone = || {
        let mut command = program("");
        command
            .env_remove("AUDIT_DATABASE_URL")
            .env_remove("DATABASE_URL");
        command
    };
    let before: Vec<_> = ways.iter().map(|way| find(auditor(), way).0).collect();
    assert!(before[..8].iter().all(|found| !found.is_empty()));
    assert!(before[8].is_empty());
    setting.archive();
    let same = |command: &dyn Fn() -> Command| {
        let found = ways.iter().zip(&before).map(|(way, before)| {
            let words = [&way[..], &archive].concat();
            let (found, archived) = find(command(), &words);
            let first = found.iter().zip(before).find(|(one, other)| one != other);
            assert!(
                found == *before,
                "{way:?}: {} of {}, {first:#?}",
                found.len(),
                before.len()
            );
            archived
        });
        found.sum::<u64>()
    };
    assert_eq!(same(&auditor), 0);
    // All of it is proven, too.
    let words = [&ways[0][..], &archive, &["--verify"]].concat();
    let records = |requests: &[Value]| {
        requests
            .iter()
            .map(|one| one["records"].as_u64().unwrap())
            .sum::<u64>()
    };
    let (found, archived) = find(alone(), &words);
    assert_eq!(found, before[0]);
    assert_eq!(archived, records(&before[0]));
    assert!(same(&alone) > 0);
    // The records of a request are of both.
    let removed = setting
        .removal(&["--yes", "--kind", "events"])
        .output()
        .unwrap();
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
    let archived = same(&auditor);
    assert!(archived > 0 && archived < before.iter().map(|found| records(found)).sum());
    setting.remove(0);
    let all = before.iter().map(|found| records(found)).sum::<u64>();
    assert_eq!(same(&auditor), all);
    // Lines say so.
    let output = auditor()
        .args([
            "find", "--since", DAY, "--until", NEXT_DAY, "--limit", "1", "--full",
        ])
        .args(archive)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(" archived  "), "{said}{}", stderr(&output));
}
