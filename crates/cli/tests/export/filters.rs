//! Which records are exported, and to whom.

use std::fs;

use super::{Setting, command, lines, stderr};

#[test]
fn number_of_each_filter_is_that_of_a_select() {
    let setting = Setting::start();
    let not_read = "action_type IS DISTINCT FROM 'audit.read'";
    for (at, (words, table, condition)) in [
        (&[][..], "records", not_read),
        (&["--where", "reads=yes&user=postgres"], "audit.events", "user_id = 'postgres'"),
        (&["--user", "ana", "--status", "failed"], "audit.query_runs", "status = 'failed'"),
        (&["--where", "user=ana&status=failed"], "audit.query_runs", "status = 'failed'"),
        (&["--where", "?user=ana", "--user", "ana"], "audit.query_runs", "true"),
        (&["--tenant", "acme"], "records", "tenant_id = audit.tenant_uuid('acme')"),
        (&["--kind", "event", "--kind", "activities", "--user", "bo"], "records", "user_id = 'bo' AND source IN ('events', 'activities')"),
        (&["--family", "log"], "audit.activities", "action_type = 'log'"),
        (&["--model", "claude"], "records", "id IN (SELECT id FROM audit.prompt_runs UNION ALL SELECT id FROM audit.events WHERE action_type = 'llm_call')"),
        (&["--request", "req-1"], "records", "request_id = 'req-1'"),
        (&["--text", "MANY fields"], "audit.query_runs", "question_text = 'many fields'"),
        (&["--until", "2020-01-01"], "records", "false"),
        (&["--since", "2020-01-01", "--agent", "planner"], "audit.events", "target_id = 'planner'"),
    ]
    .into_iter()
    .enumerate()
    {
        // Counted before: the export is in the trail itself.
        let expected = |add: u64| {
            let count = setting.postgres.psql(&format!("SELECT count(*) FROM {table} WHERE {condition}"));
            count.parse::<u64>().unwrap() + add
        };
        let expected = expected(u64::from(words.iter().any(|word| word.contains("reads"))));
        let exported = setting.export("jsonl", &at.to_string(), words);
        let count = exported.split(|byte| *byte == b'\n').count() as u64 - 1;
        assert_eq!(count, expected, "{words:?}");
        assert_eq!(setting.manifest(&at.to_string())["records"], count, "{words:?}");
    }
}

#[test]
fn filter_that_is_none_is_refused_before_anything_is_recorded() {
    let setting = Setting::start();
    for (words, why) in [
        (
            &["--where", "usr=geheim"][..],
            "--where: there is no filter of this name",
        ),
        (
            &["--where", "user=geheim&user=b"],
            "--where: the filter user is given twice",
        ),
        (
            &["--where", "user=geheim", "--user", "bo"],
            "--user and --where contradict each other",
        ),
        (
            &["--where", "status=failed", "--status", "rejected"],
            "--status and --where contradict",
        ),
        (&["--since", "geheim"], "the filter since is no time"),
        (&["--status", "lost"], "invalid value"),
    ] {
        let path = setting.path("none");
        let all = [
            "export",
            "--format",
            "csv",
            "--purpose",
            "test",
            "-o",
            path.to_str().unwrap(),
        ];
        let output = setting
            .command(&[&all[..], words].concat())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let told = stderr(&output);
        assert!(told.contains(why), "{words:?}: {told}");
        assert!(!told.contains("geheim"), "{told}");
    }
    assert_eq!(setting.names(), [""; 0]);
    assert_eq!(setting.recorded().len(), 0);
}

#[test]
fn login_reads_what_it_may_and_says_why() {
    let setting = Setting::start();
    setting.postgres.psql(
        "CREATE ROLE reader LOGIN; CREATE ROLE auditor LOGIN; CREATE ROLE writer LOGIN; CREATE ROLE operator LOGIN; CREATE ROLE nobody LOGIN;",
    );
    setting.succeed(&[
        "migrate",
        "--reader-login",
        "reader",
        "--auditor-login",
        "auditor",
        "--writer-login",
        "writer",
        "--operator-login",
        "operator",
    ]);
    let run = |login: &str, words: &[&str]| {
        let path = setting.path(login);
        let all = [
            "export",
            "--format",
            "jsonl",
            "--force",
            "-o",
            path.to_str().unwrap(),
        ];
        let url = setting.postgres.url_as(login);
        command(&url, &[&all[..], words].concat()).output().unwrap()
    };
    for (login, words, why) in [
        ("reader", &[][..], "name it with --tenant"),
        ("auditor", &[], "with --purpose"),
        ("auditor", &["--purpose", " "], "blank"),
        ("operator", &["--purpose", "test"], ""),
        ("writer", &["--tenant", "acme", "--purpose", "test"], ""),
        (
            "nobody",
            &["--purpose", "test"],
            "connect as a role that may read",
        ),
    ] {
        let output = run(login, words);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{login}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(why),
            "{login}: {}",
            stderr(&output)
        );
        assert_eq!(setting.names(), [""; 0], "{login}");
    }
    assert_eq!(setting.recorded().len(), 0);

    // A reader's own tenant, whatever else is asked for.
    let output = run("reader", &["--tenant", "acme"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mine = fs::read_to_string(setting.path("reader")).unwrap();
    let acme = setting.postgres.psql("SELECT audit.tenant_uuid('acme')");
    assert_eq!(mine.lines().count(), 6);
    assert!(
        mine.lines()
            .all(|line| line.contains(&format!("\"tenant_id\":\"{acme}\"")))
    );
    let manifest = setting.manifest("reader");
    assert_eq!(manifest["login"], "reader");
    assert_eq!(manifest["no_ledger"], "this login may not read the ledger");
    let output = run("auditor", &["--purpose", "year end", "--kind", "events"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(lines(&fs::read(setting.path("auditor")).unwrap()).len(), 9);
}

#[test]
fn records_are_sent_as_they_are_read_without_being_sorted_first() {
    let setting = Setting::start();
    setting.postgres.psql(
        "INSERT INTO audit.activities (id, action_type, status, created_at, writer_id, seq, salt)
        SELECT test_id(1000 + n, now()), 'log', 'succeeded', now(), '00000000-0000-7000-8000-00000000000b', n, '' FROM generate_series(1, 20000) AS n",
    );
    setting.postgres.psql("ALTER SYSTEM SET work_mem = '64kB'");
    setting.postgres.psql("SELECT pg_reload_conf()");
    let files = || {
        setting
            .postgres
            .psql("SELECT temp_files FROM pg_stat_database WHERE datname = 'audit'")
    };
    let before = files();
    setting.export("csv", "all.csv", &[]);
    assert_eq!(setting.manifest("all.csv")["records"], 20_025);
    assert_eq!(files(), before);
}
