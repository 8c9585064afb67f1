//! `tracing-audit doctor` against a real Postgres: an intact trail passes, and every kind of
//! tampering is found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

mod guards;
mod report;
mod rights;
mod rows;
mod servers;
mod tables;

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;
use testkit::Postgres;

/// One way to tamper with the trail.
struct Case {
    /// The statements, run as a superuser.
    done: &'static str,
    undone: Undone,
    /// Exactly the expected findings, each `severity check object`.
    found: &'static [&'static str],
}

/// How the database is restored.
enum Undone {
    /// By following `doctor`'s advice, which tests the advice.
    AsAdvised,
    /// By the advice, then by that of a second check.
    Twice,
    /// By the advice, then by this statement.
    Then(&'static str),
    By(&'static str),
}

use Undone::{AsAdvised, By, Then, Twice};

#[test]
fn freshly_migrated_trail_has_no_problem() {
    let postgres = Postgres::start();
    migrate(&postgres.url());
    let looked = doctor(&postgres.url());
    assert_eq!(looked.status.code(), Some(0), "{}", stdout(&looked));
    // A writer creates the partitions; none has run yet.
    assert_eq!(
        found(&looked),
        [
            "warning partitions_ahead audit.activities",
            "warning partitions_ahead audit.events",
            "warning partitions_ahead audit.prompt_runs",
            "warning partitions_ahead audit.query_runs"
        ]
    );
    make_partitions(&postgres);
    let looked = doctor(&postgres.url());
    assert_eq!(found(&looked), [""; 0]);
    let text = command(&postgres.url(), &["doctor"]).output().unwrap();
    assert_eq!(text.status.code(), Some(0));
    // A line for each passed check.
    assert!(
        stdout(&text).contains("\n  ok       owners  "),
        "{}",
        stdout(&text)
    );
    assert!(
        stdout(&text).ends_with("\nNo problem, no warning.\n"),
        "{}",
        stdout(&text)
    );
}

#[test]
fn golden_file_matches_the_migrations() {
    let postgres = with_partitions();
    let facts = command(&postgres.url(), &["doctor", "--snapshot"])
        .output()
        .unwrap();
    assert!(facts.status.success());
    let version: u32 = postgres.psql("SHOW server_version_num").parse().unwrap();
    let file = |version: u32| {
        format!(
            "{}/src/doctor/golden/{version}.sql",
            env!("CARGO_MANIFEST_DIR"),
        )
    };
    let mut version = version / 10_000;
    // Set by `scripts/golden`.
    let is_written = std::env::var("GOLDEN").is_ok_and(|value| value == "write");
    if is_written {
        std::fs::write(file(version), stdout(&facts)).unwrap();
    }
    // A version without a file uses that of the version before it.
    while !std::path::Path::new(&file(version)).exists() {
        version -= 1;
    }
    let file = file(version);
    let golden = std::fs::read_to_string(&file).unwrap();
    assert!(
        golden == stdout(&facts),
        "{file} is not what the migrations make: run scripts/golden"
    );
}

/// Applies each case, checks the findings, undoes it, and checks that all is well again.
#[track_caller]
fn each_is_found(cases: &[Case]) {
    let postgres = Postgres::start_with(&["allow_in_place_tablespaces=on"]);
    migrate(&postgres.url());
    make_partitions(&postgres);
    postgres.psql("CREATE TABLESPACE fast LOCATION ''");
    postgres.psql(
        "CREATE ROLE app LOGIN IN ROLE audit_writer; CREATE ROLE somebody; CREATE ROLE team; CREATE ROLE \"Some Body\";
        CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE FUNCTION public.nothing() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
    );
    let months = postgres.psql(
        "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'), to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM')",
    );
    let (month, next) = months.split_once('|').unwrap();
    let in_time = |text: &str| text.replace("MONTH", month).replace("NEXT", next);
    postgres.psql(
        "INSERT INTO audit.events (id, created_at, status, writer_id, seq, salt)
        SELECT audit.id_at(at), at, 'succeeded', '00000000-0000-7000-8000-00000000000a', n, ''
        FROM generate_series(1, 180) n, LATERAL (SELECT date_trunc('month', now()) + n * interval '1 hour') a (at)",
    );
    count_events(&postgres, 180);
    assert_eq!(
        found(&doctor(&postgres.url())),
        [""; 0],
        "before anything was done"
    );
    for case in cases {
        postgres.psql(&in_time(case.done));
        let looked = doctor(&postgres.url());
        let mut expected: Vec<String> = case.found.iter().map(|text| in_time(text)).collect();
        expected.sort();
        assert_eq!(found(&looked), expected, "{}", case.done);
        let problems = expected
            .iter()
            .any(|finding| finding.starts_with("problem"));
        assert_eq!(
            looked.status.code(),
            Some(i32::from(problems)),
            "{}",
            case.done
        );
        match case.undone {
            By(statement) => {
                postgres.psql(&in_time(statement));
            }
            AsAdvised => follow(&postgres, &looked),
            Then(statement) => {
                follow(&postgres, &looked);
                postgres.psql(statement);
            }
            Twice => {
                follow(&postgres, &looked);
                follow(&postgres, &doctor(&postgres.url()));
            }
        }
        assert_eq!(
            found(&doctor(&postgres.url())),
            [""; 0],
            "after {}",
            case.done
        );
        let rows = postgres.psql(
            "SELECT count(*) FROM audit.events WHERE action_type LIKE 'audit.table%' IS NOT TRUE",
        );
        assert_eq!(rows, "180", "rows after {}", case.done);
    }
}

/// Adds a batch that counts this many events of the writer `…a`.
fn count_events(postgres: &Postgres, events: u32) {
    postgres.psql(&format!(
        "INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version)
        VALUES ('00000000-0000-7000-8000-00000000000a', 1, {events}, '{{\"events\": {events}}}', 0,
            '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'test')"
    ));
}

/// Runs the advice.
#[track_caller]
fn follow(postgres: &Postgres, looked: &Output) {
    // Rights that were passed on are already gone by then.
    for advice in advice(looked) {
        postgres.psql(&advice);
    }
}

/// Returns the findings that are not ok, each `severity check object`, sorted.
fn found(looked: &Output) -> Vec<String> {
    let mut found: Vec<String> = findings(looked)
        .iter()
        .filter(|finding| finding["severity"] != "ok")
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap();
            // The reader must know what to do.
            assert!(!text("expected").is_empty(), "{finding}");
            let words = |name: &str| finding[name].as_str().unwrap_or_default();
            assert!(
                !words("advice").is_empty() || !words("explanation").is_empty(),
                "{finding}"
            );
            format!("{} {} {}", text("severity"), text("check"), text("object"))
        })
        .collect();
    found.sort();
    found
}

/// Returns the advised statements, each once.
fn advice(looked: &Output) -> BTreeSet<String> {
    findings(looked).iter().filter_map(advice_of).collect()
}

fn advice_of(finding: &Value) -> Option<String> {
    finding["advice"].as_str().map(str::to_owned)
}

fn findings(looked: &Output) -> Vec<Value> {
    let text = stdout(looked);
    let errors = String::from_utf8_lossy(&looked.stderr);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"))
}

/// Starts a server with the audit tables, and the partitions that a writer creates.
fn with_partitions() -> Postgres {
    let postgres = Postgres::start();
    migrate(&postgres.url());
    make_partitions(&postgres);
    postgres
}

fn make_partitions(postgres: &Postgres) {
    postgres.psql(
        "SELECT audit.ensure_partition(t, now() + m * interval '1 month')
        FROM unnest(audit.record_tables()) t, generate_series(0, 1) m",
    );
}

fn migrate(url: &str) {
    let output = command(url, &["migrate"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn doctor(url: &str) -> Output {
    command(url, &["doctor", "--json"]).output().unwrap()
}

fn url_as(postgres: &Postgres, login: &str) -> String {
    postgres.url().replace("postgres@", &format!("{login}@"))
}

/// The program, without the environment variables that change its behaviour.
fn command(url: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    for name in ["AUDIT_DATABASE_URL", "DATABASE_URL", "COLUMNS"] {
        command.env_remove(name);
    }
    command.args(words).env("AUDIT_DATABASE_URL", url);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}
