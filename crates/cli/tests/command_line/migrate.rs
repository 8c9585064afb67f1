//! `tracing-audit migrate`.

use super::{bare, run, stderr, stdout};
use testkit::Postgres;

#[test]
fn migrate_creates_the_tables_and_lists_what_exists() {
    let postgres = Postgres::start();
    let first = run(&postgres, &["migrate"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stdout(&first).contains("is ready"), "{}", stdout(&first));
    let second = run(&postgres, &["migrate"]);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    let said = stdout(&second);
    assert!(
        said.contains("up to date already: version 6, archive"),
        "{said}"
    );
    for table in ["query_runs", "prompt_runs", "events"] {
        assert!(said.contains(&format!("audit.{table}")), "{said}");
    }
}

#[test]
fn migrate_prints_sql_that_creates_the_same_schema() {
    // Without a database.
    let printed = bare().args(["migrate", "--print"]).output().unwrap();
    assert!(printed.status.success(), "{}", stderr(&printed));
    let script = stdout(&printed);
    assert_eq!(script, tracing_audit::migration_script());
    let postgres = Postgres::start();
    postgres.psql(&format!("BEGIN; {script} COMMIT;"));
    let doctor = run(&postgres, &["doctor"]);
    assert!(doctor.status.success(), "{}", stdout(&doctor));
    let second = run(&postgres, &["migrate"]);
    assert!(
        stdout(&second).contains("up to date already"),
        "{}",
        stdout(&second)
    );
}

#[test]
fn migrate_checks_that_the_logins_exist_before_it_creates_anything() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE app LOGIN");
    let refused = run(
        &postgres,
        &[
            "migrate",
            "--writer-login",
            "app",
            "--reader-login",
            "nobody",
        ],
    );
    assert_eq!(refused.status.code(), Some(2), "{}", stdout(&refused));
    assert!(
        stderr(&refused).contains("there is no login nobody"),
        "{}",
        stderr(&refused)
    );
    let made = "SELECT to_regnamespace('audit'), (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'audit%')";
    assert_eq!(postgres.psql(made), "|0");
    let done = run(&postgres, &["migrate", "--writer-login", "app"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
}

#[test]
fn migrate_says_of_a_login_that_does_not_inherit_what_it_lacks() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE app LOGIN; CREATE ROLE ni LOGIN NOINHERIT");
    let done = run(
        &postgres,
        &["migrate", "--writer-login", "app", "--writer-login", "ni"],
    );
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let said = stdout(&done);
    let inherits = postgres.psql("SELECT pg_has_role('ni', 'audit_writer', 'USAGE')") == "t";
    assert!(said.contains("  app is audit_writer\n"), "{said}");
    assert_eq!(said.contains("  ni is audit_writer\n"), inherits, "{said}");
    assert_eq!(said.contains("ALTER ROLE ni INHERIT"), !inherits, "{said}");
}
