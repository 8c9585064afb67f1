//! What is never printed, never run and never read.

use super::{
    STORY, Tail, WRITER_A, WRITER_B, as_login, bare, migrated, run, stderr, stdout, url_as,
    with_old_partitions,
};
use testkit::Postgres;

#[test]
fn password_is_never_printed() {
    // Nothing listens on port 1.
    for url in [
        "postgres://u:hunter2@127.0.0.1:1/d",
        "mysql://u:hunter2@h/d",
        "postgres://u:hunter2@h:x/d",
    ] {
        for words in [
            &["show", "req-1"][..],
            &["tail"],
            &["migrate"],
            &["doctor"],
            &["retain", "--keep", "7 years"],
            &["hold", "--list"],
            &["release", WRITER_A, "--reason", "closed"],
            &["--help"],
        ] {
            let said = bare()
                .args(words)
                .env("AUDIT_DATABASE_URL", url)
                .output()
                .unwrap();
            assert!(!stdout(&said).contains("hunter2"), "{}", stdout(&said));
            assert!(!stderr(&said).contains("hunter2"), "{}", stderr(&said));
        }
    }
}

#[test]
fn argument_that_may_hold_a_password_is_not_echoed() {
    let url = "postgres://u:hunter2@127.0.0.1:1/d";
    for words in [
        &["doctor", url][..],
        &[url],
        &["show", url],
        &["release", url, "--reason", "closed"],
        &["spool", "list", url],
        &["spool", "drain", url],
        &["doctor", "--max-age", url],
        &["doctor", "--json=postgres://u:hunter2@127.0.0.1:1/d"],
        &["doctor", "--accept", url],
        &["find", "--since", url],
        &["hold", "--tenant", url],
        &["migrate", "--writer-login", url],
        &["--postgres://u:hunter2@h/d"],
        &["doctor", "u:hunter2@h/d"],
        &["doctor", "host=h password=hunter2"],
        &["--url", "postgres://u:p@h/d?password=a&hunter2", "doctor"],
        &["--url", "postgres://u:p?hunter2", "doctor"],
        &["--url", "postgres://u:12?hunter2=x", "doctor"],
    ] {
        let said = bare().args(words).output().unwrap();
        assert_eq!(said.status.code(), Some(2), "{words:?}: {}", stderr(&said));
        assert!(!stdout(&said).contains("hunter2"), "{}", stdout(&said));
        assert!(!stderr(&said).contains("hunter2"), "{}", stderr(&said));
        assert!(!stderr(&said).is_empty());
    }
    let said = bare().args(["doctor", url]).output().unwrap();
    assert!(stderr(&said).contains("--url"), "{}", stderr(&said));
    let usual = bare().arg("doctr").output().unwrap();
    assert!(stderr(&usual).contains("'doctor'"), "{}", stderr(&usual));
}

#[test]
fn command_names_an_invalid_libpq_variable_in_its_error() {
    for (name, value) in [("PGSSLMODE", "verify-fll"), ("PGCHANNELBINDING", "require")] {
        let said = bare()
            .args(["--url", "postgres://u@127.0.0.1:1/d", "doctor"])
            .env(name, value)
            .output()
            .unwrap();
        assert_eq!(said.status.code(), Some(2));
        let said = stderr(&said);
        assert!(
            said.contains(&format!("environment variable {name}:")),
            "{said}"
        );
    }
}

#[test]
fn purpose_is_recorded_before_any_row_is_read() {
    let postgres = migrated();
    postgres.psql(STORY);
    let told = "SELECT user_id, target_type, target_id, input_summary, tenant_id IS NOT NULL FROM audit.events
        WHERE action_type = 'audit.read' ORDER BY created_at";
    let shown = as_login(
        &postgres,
        "auditor",
        &["show", "req-1", "--purpose", "ticket 4711"],
    );
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    // Searches that found nothing are recorded too.
    let nothing = as_login(
        &postgres,
        "reader",
        &[
            "show",
            "req-2",
            "--tenant",
            "acme",
            "--purpose",
            "ticket 4712",
        ],
    );
    assert_eq!(nothing.status.code(), Some(1), "{}", stderr(&nothing));
    let readings = "auditor|request|req-1|ticket 4711|f\nreader|request|req-2|ticket 4712|t";
    assert_eq!(postgres.psql(told), readings);

    let url = url_as(&postgres, "auditor");
    let tail = Tail::start_at(&url, &["--purpose", "watching"]);
    tail.wait_for("ticket 4712");
    assert_eq!(
        postgres.psql(told),
        format!("{readings}\nauditor|trail||watching|f")
    );
    drop(tail);

    // A login that may not record the reading reads nothing.
    let refused = as_login(
        &postgres,
        "operator",
        &["show", "req-1", "--purpose", "curious"],
    );
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(stdout(&refused), "");
    assert!(
        stderr(&refused).contains("nothing was read"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn commands_never_run_functions_that_shadow_those_of_postgres() {
    let postgres = with_old_partitions();
    postgres.psql(STORY);
    // As the owner of a database may do to a login with more rights.
    postgres.psql(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
        CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.to_char(timestamptz, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.row_to_json(record) RETURNS json LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.isfinite(timestamptz) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it ran''; END';
        ALTER DATABASE audit SET search_path = evil, pg_catalog",
    );
    for words in [
        &["show", "req-1", "--tenant", "acme", "--purpose", "x"][..],
        &["retain", "--keep", "7 years"],
        &["hold", "--reason", "x", "--tenant", "acme"],
        &["hold", "--list"],
        &[
            "retain",
            "--keep",
            "7 years",
            "--yes",
            "--kind",
            "query_runs",
        ],
    ] {
        let done = run(&postgres, words);
        let code = done.status.code();
        // The hold prevents the last.
        assert!(
            code == Some(0) || code == Some(1) && words.contains(&"--yes"),
            "{words:?}: {}",
            stderr(&done)
        );
    }
    let tail = Tail::start(&postgres, &["--json"]);
    tail.wait_for("audit.hold_placed");
    postgres.psql(&format!(
        "SET search_path = public; SELECT test_batch('{WRITER_B}', 1, 1, 'new')"
    ));
    tail.wait_for("new-0");
}

#[test]
fn missing_table_is_named_and_not_reported_as_a_missing_trail() {
    let postgres = migrated();
    postgres.psql(
        "ALTER EVENT TRIGGER audit_refuse_drop DISABLE; ALTER EVENT TRIGGER audit_refuse_ddl DISABLE;
        ALTER TABLE audit.legal_hold_lifts RENAME TO gone",
    );
    let listed = run(&postgres, &["hold", "--list"]);
    assert_eq!(listed.status.code(), Some(2));
    let said = stderr(&listed);
    assert!(
        said.contains("legal_hold_lifts\" does not exist")
            && !said.contains("there is no audit trail"),
        "{said}"
    );

    let empty = Postgres::start();
    empty.psql("CREATE SCHEMA audit");
    let listed = run(&empty, &["hold", "--list"]);
    assert_eq!(listed.status.code(), Some(2));
    assert!(
        stderr(&listed).contains("there is no audit trail"),
        "{}",
        stderr(&listed)
    );
}

#[test]
fn commands_refuse_to_read_an_audit_schema_of_another_owner() {
    let postgres = Postgres::start();
    postgres.psql(
        "CREATE ROLE mallory LOGIN; CREATE TABLE public.ran (who text); GRANT INSERT ON public.ran TO PUBLIC;
        GRANT CREATE ON DATABASE audit TO mallory; SET SESSION AUTHORIZATION mallory;
        CREATE SCHEMA audit;
        CREATE FUNCTION audit.note(word text) RETURNS text LANGUAGE plpgsql AS
            'BEGIN RAISE WARNING ''it ran as %'', current_user; RETURN word; END';
        CREATE FUNCTION audit.tenant_uuid(key text) RETURNS uuid LANGUAGE plpgsql AS
            'BEGIN RAISE WARNING ''it ran as %'', current_user; RETURN gen_random_uuid(); END';
        CREATE VIEW audit.schema_migrations AS SELECT 2::bigint AS version, audit.note('x') AS description, audit.note('x') = 'x' AS success,
            ''::bytea AS checksum;
        CREATE VIEW audit.query_runs AS SELECT audit.note('x') AS request_id, audit.note('x') AS id;
        CREATE VIEW audit.legal_holds AS SELECT audit.note('x') AS reason;
        CREATE VIEW audit.batches AS SELECT audit.note('x') AS writer_id, 1::bigint AS first_seq, 1::bigint AS last_seq;
        CREATE VIEW audit.dead_letters AS SELECT audit.note('x') AS sqlstate;",
    );
    for words in [
        &["show", "req-1", "--tenant", "acme"][..],
        &["tail", "--purpose", "p"],
        &["hold", "--list"],
        &["hold", "--reason", "case"],
        &["retain", "--keep", "7 years"],
        &["settle"],
        &["release", WRITER_A, "--reason", "closed"],
    ] {
        let said = run(&postgres, words);
        assert_eq!(said.status.code(), Some(2), "{words:?}");
        let why = stderr(&said);
        assert!(
            why.contains("was not read") && why.contains("mallory"),
            "{words:?}: {why}"
        );
    }
    // It reads the catalog, and reports the owner.
    let looked = run(&postgres, &["doctor"]);
    assert!(!looked.status.success(), "{}", stdout(&looked));
    let measured = stdout(&run(&postgres, &["metrics"]));
    assert!(measured.contains("why=\"not_ours\""), "{measured}");
    let log = postgres.log();
    assert!(!log.contains("it ran as"), "{log}");
}
