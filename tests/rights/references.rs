//! A host's own rows that refer to a record: the right they need, and when they can be inserted.

use tracing::info_span;
use tracing_audit::{AuditSpanExt as _, Durability, Kind};

use super::{allowed, login, refused};
use testkit::trail::{PATIENCE, Trail};

const TABLE: &str =
    "CREATE TABLE host.feedback (run uuid NOT NULL REFERENCES audit.query_runs (id), note text)";

#[test]
fn foreign_key_to_a_run_needs_the_references_right_and_a_committed_run() {
    let trail =
        Trail::start_with(|builder| builder.durability(Kind::QueryRun, Durability::Required));
    trail.scoped(|| drop(info_span!("audit.query_run", sql_text = "made the tables")));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let postgres = &trail.postgres;
    // The owner of the host's tables also writes records, as in a program with a single login.
    let mut host = login(postgres, "host", Some("audit_writer"));
    postgres.psql("CREATE SCHEMA host AUTHORIZATION host");
    refused(&mut host, "42501", TABLE);
    postgres.psql("GRANT REFERENCES ON audit.query_runs TO host");
    allowed(&mut host, TABLE);
    // Inserting needs no right to anything in the trail.
    let mut clerk = login(postgres, "clerk", None);
    allowed(
        &mut host,
        "GRANT USAGE ON SCHEMA host TO clerk; GRANT INSERT ON host.feedback TO clerk",
    );
    trail.scoped(|| {
        let span = info_span!("audit.query_run", sql_text = "SELECT 1");
        let id = span.audit_id().unwrap();
        let insert = format!("INSERT INTO host.feedback VALUES ('{id}', 'good')");
        refused(&mut clerk, "23503", &insert);
        let mut earlier = postgres.session("clerk");
        allowed(&mut earlier, "BEGIN ISOLATION LEVEL REPEATABLE READ");
        allowed(&mut earlier, "SELECT now()");
        drop(span);
        trail.audit.committed_blocking(id, PATIENCE).unwrap();
        allowed(&mut clerk, &insert);
        // Whatever a transaction itself can see, keys are checked against committed rows.
        allowed(&mut earlier, &insert);
        refused(&mut clerk, "42501", "SELECT FROM audit.query_runs");
    });
    // The right is needed when the foreign key is created.
    postgres.psql("REVOKE REFERENCES ON audit.query_runs FROM host");
    let id = postgres.psql("SELECT id FROM audit.query_runs WHERE sql_text = 'SELECT 1'");
    allowed(
        &mut clerk,
        &format!(
            "INSERT INTO host.feedback VALUES ('{}', 'again')",
            id.trim()
        ),
    );
}

#[test]
fn login_outside_the_trails_roles_also_needs_usage_on_the_schema() {
    let trail = Trail::start();
    trail.scoped(|| drop(info_span!("audit.query_run", sql_text = "SELECT 1")));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let postgres = &trail.postgres;
    let mut host = login(postgres, "host", None);
    postgres.psql("CREATE SCHEMA host AUTHORIZATION host; GRANT USAGE ON SCHEMA audit TO host");
    refused(&mut host, "42501", TABLE);
    // A right to the key alone is enough.
    postgres.psql("GRANT REFERENCES (id) ON audit.query_runs TO host");
    allowed(&mut host, TABLE);
    let id = postgres.psql("SELECT id FROM audit.query_runs");
    allowed(
        &mut host,
        &format!("INSERT INTO host.feedback VALUES ('{}')", id.trim()),
    );
    // It reveals whether an id exists, and nothing else.
    refused(&mut host, "42501", "SELECT id FROM audit.query_runs");
}
