//! The migrations as one script, for programs that keep the migrations of a host.

use super::embedded::MIGRATIONS;
use super::migrations::{
    BEGIN, CLAIM, GIVE_BACK, GUARD, LACKS_GUARD, MISSING_RIGHT, ROLES, SETTINGS, STRANGERS,
};

/// What [`SETTINGS`] changes: the script gives it back, since whoever runs it may go on in the same
/// transaction.
const CHANGED: &str = "ARRAY['lock_timeout', 'client_min_messages', 'search_path', 'row_security', 'statement_timeout', \
     'standard_conforming_strings', \
     'default_tablespace', 'default_table_access_method']";

/// Returns the SQL that makes the audit tables in a database that has none, for sqlx-cli, refinery,
/// Flyway, Atlas or psql: the same as [`migrate`](crate::migrate) does, as one script.
///
/// It is one statement, so it is applied whole or not at all. Run it as a login that may make roles and
/// schemas, without `SET ROLE`; a superuser gets the event triggers as well. It raises an error, and
/// changes nothing, where something stands in its way, a right is missing, or the tables are there
/// already. A program that writes to
/// them needs [`Builder::migrate(false)`](crate::Builder::migrate) and a login that is granted
/// `audit_writer`.
///
/// A later version of this library that has more migrations brings such tables up to date with
/// [`migrate`](crate::migrate).
///
/// ```
/// let script = tracing_audit::migration_script();
/// assert!(script.contains("CREATE TABLE audit.query_runs"));
/// ```
pub fn migration_script() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut parts = vec![
        format!(
            "DO $script$ DECLARE name pg_catalog.text; BEGIN FOREACH name IN ARRAY {CHANGED} LOOP \
             PERFORM pg_catalog.set_config(pg_catalog.concat('tracing_audit.', name), pg_catalog.current_setting(name), true); \
             END LOOP; PERFORM pg_catalog.set_config('tracing_audit.login', current_user::pg_catalog.text, true); END $script$;"
        ),
        format!("{SETTINGS};"),
        refuse(
            "SELECT 'the transaction is not READ COMMITTED' \
             WHERE current_setting('transaction_isolation') <> 'read committed'",
        ),
        refuse(
            "SELECT 'the database''s encoding is not UTF8' WHERE current_setting('server_encoding') <> 'UTF8'",
        ),
        // Nothing of the trail is read before it is known whose it is.
        refuse(&in_the_way()),
        refuse(
            "SELECT 'the tables are there already; tracing-audit migrate brings them up to date' \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'audit' AND c.relname = 'schema_migrations'",
        ),
        refuse(MISSING_RIGHT),
        String::from(CLAIM),
        refuse(&in_the_way()),
        String::from(ROLES),
        refuse(&in_the_way()),
        String::from(BEGIN),
        // It has reset the role to the login's own.
        refuse(
            "SELECT 'SET ROLE is in effect: connect as the login itself' \
             WHERE current_user <> current_setting('tracing_audit.login')",
        ),
        String::from("SET LOCAL ROLE audit_maintainer;"),
    ];
    for migration in &MIGRATIONS {
        parts.push(String::from(migration.sql));
        parts.push(format!("{};", migration.note()));
    }
    parts.push(String::from("RESET ROLE;"));
    parts.push(format!("{GIVE_BACK};"));
    parts.push(format!(
        "DO $script$ BEGIN IF EXISTS ({LACKS_GUARD}) THEN DROP SCHEMA IF EXISTS audit_guard; EXECUTE $guard$\n{GUARD}\n$guard$; \
         END IF; END $script$;"
    ));
    parts.push(format!(
        "DO $script$ DECLARE name text; BEGIN FOREACH name IN ARRAY {CHANGED} LOOP \
         PERFORM pg_catalog.set_config(name, pg_catalog.current_setting(pg_catalog.concat('tracing_audit.', name)), true); \
         END LOOP; END $script$;"
    ));
    let parts = parts.join("\n$part$;\n\nEXECUTE $part$\n");
    format!(
        "-- The audit trail of tracing-audit {version}, for a database in UTF8 that has none. One statement: all or nothing.\n\
         DO $tracing_audit$ BEGIN\nEXECUTE $part$\n{parts}\n$part$;\nEND $tracing_audit$;\n"
    )
}

/// What stands in the way of the trail, a line each.
fn in_the_way() -> String {
    format!(
        "SELECT format('%s (of %s): %s', what, owner, way_out) FROM ({STRANGERS}) AS found (what, owner, way_out, matters)"
    )
}

/// The statement that raises what a query returns, if it returns something: in one line, whatever
/// names there are.
fn refuse(query: &str) -> String {
    format!(
        "DO $script$ DECLARE why text; BEGIN SELECT string_agg(regexp_replace(one, '[[:cntrl:]]', '?', 'g'), '; ') INTO why FROM (\n{query}\n) AS reasons (one); \
         IF why IS NOT NULL THEN RAISE EXCEPTION 'nothing was done, for this is in the way: %', why; END IF; END $script$;"
    )
}
