//! A change is recorded in its own transaction, with it or not at all.

use super::{changes, changes_after, changes_by, last_number, login, refused, tracked};
use testkit::Postgres;

/// Lets a table be tracked with `on_failure => 'warn'`, and another with the default; then nothing can be recorded.
fn broken() -> Postgres {
    let postgres = tracked();
    postgres.psql("CREATE TABLE lax (id int PRIMARY KEY, name text); SELECT audit.track('lax', on_failure => 'warn')");
    postgres.psql("INSERT INTO lax VALUES (1, 'a'); INSERT INTO items VALUES (1, 'a', 1)");
    postgres.psql("REVOKE INSERT ON audit.events FROM audit_owner, audit_maintainer");
    postgres
}

#[test]
fn changes_are_rolled_back_with_their_transaction() {
    let postgres = tracked();
    let mut session = postgres.session("postgres");
    let before = last_number(&postgres);
    session.psql("BEGIN");
    session.psql("INSERT INTO items VALUES (1, 'a', 1)");
    assert_eq!(changes_after(&postgres, before), "");
    session.psql("ROLLBACK");
    assert_eq!(changes_after(&postgres, before), "");
    assert_eq!(
        changes_by(
            &postgres,
            &mut session,
            "BEGIN; INSERT INTO items VALUES (1, 'a', 1);
             SAVEPOINT one; UPDATE items SET size = 2; SAVEPOINT two; DELETE FROM items; ROLLBACK TO two;
             UPDATE items SET name = 'b'; RELEASE one;
             SAVEPOINT three; TRUNCATE items; ROLLBACK TO three; COMMIT"
        ),
        "insert public.items 1 {\"id\": {\"new\": 1}, \"name\": {\"new\": \"a\"}, \"size\": {\"new\": 1}}\n\
         update public.items 1 {\"size\": {\"new\": 2, \"old\": 1}}\n\
         update public.items 1 {\"name\": {\"new\": \"b\", \"old\": \"a\"}}"
    );
    // A statement that fails half-way.
    let before = last_number(&postgres);
    refused(
        &mut session,
        "22012",
        "UPDATE items SET size = 1 / (size - 2)",
    );
    refused(&mut session, "23505", "INSERT INTO items VALUES (2), (1)");
    assert_eq!(changes_after(&postgres, before), "");
    assert_eq!(
        postgres.psql("SELECT count(*) = (SELECT sum((records ->> 'events')::bigint) FROM audit.batches) FROM audit.events"),
        "t"
    );
}

#[test]
fn failure_to_record_fails_the_statement() {
    let postgres = broken();
    let mut session = postgres.session("postgres");
    for statement in [
        "INSERT INTO items VALUES (2)",
        "UPDATE items SET size = 5",
        "DELETE FROM items",
        "TRUNCATE items",
    ] {
        refused(&mut session, "42501", statement);
    }
    assert_eq!(postgres.psql("SELECT * FROM items"), "1|a|1");
}

#[test]
fn failure_to_record_is_counted_where_it_may_pass() {
    let postgres = broken();
    let mut session = postgres.session("postgres");
    for (statement, after) in [
        ("INSERT INTO lax VALUES (2, 'b')", "1a 2b"),
        ("UPDATE lax SET name = 'c' WHERE id = 1", "1c 2b"),
        ("DELETE FROM lax WHERE id = 2", "1c"),
        ("TRUNCATE lax", ""),
    ] {
        session.psql(statement);
        let told = session.told();
        assert!(
            told.contains(
                "WARNING: 01000: audit trail: changes of public.lax were not recorded (42501)"
            ),
            "{told}"
        );
        assert_eq!(
            postgres.psql("SELECT string_agg(id || name, ' ' ORDER BY id) FROM lax"),
            after
        );
    }
    assert_eq!(
        postgres.psql("SELECT last_value, is_called FROM audit.lost_changes"),
        "4|t"
    );
    // It goes on when it can.
    postgres.psql("GRANT INSERT ON audit.events TO audit_owner, audit_maintainer");
    assert_eq!(
        changes(&postgres, "INSERT INTO lax VALUES (3, 'd')"),
        "insert public.lax 3 {\"id\": {\"new\": 3}, \"name\": {\"new\": \"d\"}}"
    );
    // Who cancels the statement cancels it.
    session.psql("SET statement_timeout = '50ms'");
    let mut locker = postgres.session("postgres");
    locker.psql("BEGIN; LOCK TABLE audit.batches");
    refused(&mut session, "57014", "INSERT INTO lax VALUES (4, 'e')");
    locker.psql("ROLLBACK");
    assert_eq!(postgres.psql("SELECT count(*) FROM lax"), "1");
}

#[test]
fn change_in_a_month_without_a_partition_is_recorded() {
    let postgres = tracked();
    postgres.psql("GRANT INSERT ON items TO PUBLIC");
    let month =
        postgres.psql("SELECT to_char(now() AT TIME ZONE 'UTC', '\"audit_parts.events_\"YYYY_MM')");
    // As when nobody wrote to the trail since the last month.
    postgres.psql("SELECT audit.ensure_partition('events', now() + interval '1 month')");
    let is_over = format!("DROP TABLE {month}");
    let mut nobody = login(&postgres, "nobody", None);
    let mut writer = login(&postgres, "app", Some("audit_writer"));
    let tables = "SELECT string_agg(tableoid::regclass::text, ' ' ORDER BY seq, id) FROM audit.events WHERE metadata ? 'changes'";
    // Who writes to the trail makes the partition.
    postgres.psql(&is_over);
    writer.psql("INSERT INTO items VALUES (1)");
    nobody.psql("INSERT INTO items VALUES (2)");
    assert_eq!(postgres.psql(tables), format!("{month} {month}"));
    // Nobody else does; what they change is kept in the default partition.
    postgres.psql(&is_over);
    assert_eq!(
        changes_by(&postgres, &mut nobody, "INSERT INTO items VALUES (3)"),
        "insert public.items 3 {\"id\": {\"new\": 3}, \"name\": {\"new\": null}, \"size\": {\"new\": null}}"
    );
    writer.psql("INSERT INTO items VALUES (4)");
    assert_eq!(
        postgres.psql(tables),
        "audit_parts.events_default audit_parts.events_default"
    );
}

#[test]
fn killed_connection_leaves_no_change_behind() {
    let postgres = tracked();
    let mut session = postgres.session("postgres");
    let before = last_number(&postgres);
    session.psql("BEGIN; INSERT INTO items VALUES (1, 'a', 1)");
    let pid = session.psql("SELECT pg_backend_pid()");
    postgres.psql(&format!("SELECT pg_terminate_backend({pid}, 10000)"));
    assert!(session.run("COMMIT").is_err());
    assert_eq!(changes_after(&postgres, before), "");
    assert_eq!(postgres.psql("SELECT count(*) FROM items"), "0");
}

#[test]
fn prepared_transaction_is_recorded_when_it_is_committed() {
    let postgres = Postgres::start_with(&["max_prepared_transactions=2"]);
    tracing_audit::migrate(&postgres.url()).unwrap();
    postgres.psql("CREATE TABLE items (id int PRIMARY KEY); SELECT audit.track('items')");
    let before = last_number(&postgres);
    postgres.psql("BEGIN; INSERT INTO items VALUES (1); PREPARE TRANSACTION 'p'");
    assert_eq!(changes_after(&postgres, before), "");
    postgres.psql("COMMIT PREPARED 'p'");
    assert_eq!(
        changes_after(&postgres, before),
        "insert public.items 1 {\"id\": {\"new\": 1}}"
    );
}
