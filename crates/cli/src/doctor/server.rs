//! Checks the server: its version, the settings that affect a commit, its clock, and the version of
//! the schema.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing_audit::__program::migrations;

use super::finding::{Finding, or_ok};
use super::look::{Answer, Look};
use super::snapshot;

/// The oldest supported version of Postgres.
const OLDEST: i32 = 15;

/// The tolerated difference between the clocks: less than anybody would notice.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

const VERSION: &str = "
    SELECT current_setting('server_version_num')::int, current_setting('server_version'),
        current_setting('server_encoding')";

/// Settings of the whole server; those of a role or of the database are checked with the roles.
const SETTINGS: &str = "
    SELECT name, reset_val FROM pg_settings
    WHERE source NOT IN ('global', 'database', 'user', 'database user') AND name IN (
        'fsync', 'full_page_writes', 'synchronous_commit', 'session_replication_role', 'row_security',
        'event_triggers', 'zero_damaged_pages', 'ignore_checksum_failure')";

/// Prepared transactions that hold a lock on something of the trail: the name, and the statement
/// that ends it. They have no process.
const PREPARED: &str = "
    SELECT p.gid, p.owner::text, format('ROLLBACK PREPARED %L;', p.gid) FROM pg_prepared_xacts p
    WHERE p.database = current_database() AND EXISTS (
        SELECT FROM pg_locks t JOIN pg_locks l ON l.pid IS NULL AND l.virtualtransaction = t.virtualtransaction
        JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE t.pid IS NULL AND t.locktype = 'transactionid' AND t.transactionid = p.transaction AND n.nspname IN ('audit', 'audit_parts')
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    ORDER BY 1";

/// For how many locks the server has room, how many transactions share it, and how many a query takes
/// that names no time: on each partition and each index of one.
const LOCKS: &str = "
    SELECT s.locks * s.sessions, s.sessions, (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'audit_parts' AND c.relkind IN ('r', 'i'))
    FROM (SELECT current_setting('max_locks_per_transaction')::bigint AS locks,
        current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint AS sessions) s";

/// So many queries that name no time are to find room at once.
const QUERIES: i64 = 4;

const CLOCK: &str = "SELECT extract(epoch FROM clock_timestamp())::float8";

const SCHEMA: &str = "
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'audit' AND c.relname = 'schema_migrations')";

const APPLIED: &str = "SELECT version, success FROM audit.schema_migrations ORDER BY version";

const CHECKSUMS: &str = "SELECT version, checksum FROM audit.schema_migrations";

/// Settings and their required values, whether another value is a problem, and why.
const EXPECTED_SETTINGS: [(&str, &str, bool, &str); 8] = [
    (
        "fsync",
        "on",
        true,
        "a crash of the machine damages the trail",
    ),
    (
        "full_page_writes",
        "on",
        true,
        "a crash of the machine damages the trail",
    ),
    (
        "synchronous_commit",
        "on",
        false,
        "a commit may be lost in a crash; the writer switches it on for itself, readings \
             and holds are recorded without it",
    ),
    (
        "session_replication_role",
        "origin",
        true,
        "ordinary triggers and foreign keys are switched off",
    ),
    (
        "row_security",
        "on",
        false,
        "a reader gets an error in place of its tenant's rows",
    ),
    (
        "event_triggers",
        "on",
        true,
        "what keeps the tables from being altered and dropped is switched off",
    ),
    (
        "zero_damaged_pages",
        "off",
        true,
        "damaged pages are emptied without an error",
    ),
    (
        "ignore_checksum_failure",
        "off",
        true,
        "damaged pages are read without an error",
    ),
];

/// Whether the rest can be compared with what this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// This program's version, or one that this login may not read.
    Known,
    /// Missing, or another version.
    Other,
}

/// Checks version, settings and clock.
pub(crate) async fn check(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = version(look).await?;
    findings.extend(settings(look).await?);
    findings.extend(locks(look).await?);
    findings.extend(prepared(look).await?);
    findings.push(clock(look).await?);
    Ok(findings)
}

/// Reports too little room for the locks of a query over all partitions.
async fn locks(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let found = look.rows::<(i64, i64, i64)>(LOCKS).await?;
    let lacking = found
        .into_iter()
        .filter(|(room, _, locks)| *room < locks.saturating_mul(QUERIES / 2));
    let finding = |(room, sessions, locks): (i64, i64, i64)| {
        let needed = locks.saturating_mul(QUERIES) / sessions.max(1) / 64 * 64 + 64;
        Finding::warning(
            "server_settings",
            String::from("max_locks_per_transaction"),
            format!("all sessions together have room for {room} locks, and a query that names no time takes {locks}: two at once end with \"out of shared memory\""),
        )
        .expected(format!("{needed} or more"))
        .advice(format!("ALTER SYSTEM SET max_locks_per_transaction = {needed};"))
        .explained("It counts from the next start of the server. Or have longer partitions: audit.set_partition_interval.")
    };
    Ok(lacking.map(finding).collect())
}

/// Reports prepared transactions, whose locks stay until somebody ends them.
async fn prepared(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let prepared = look.rows::<(String, String, String)>(PREPARED).await?;
    let finding = |(name, owner, statement): (String, String, String)| {
        Finding::warning(
            "server_settings",
            format!("prepared transaction {name}"),
            format!("it is {owner}'s and holds a lock on a table of the trail: no partition that it has read can be removed"),
        )
        .expected("none that holds such a lock for long")
        .advice(statement)
        .explained("Or COMMIT PREPARED, whichever its program would do.")
    };
    Ok(prepared.into_iter().map(finding).collect())
}

async fn version(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    for (number, version, encoding) in look.rows::<(i32, String, String)>(VERSION).await? {
        let major = number / 10_000;
        findings.push(if major > snapshot::NEWEST {
            Finding::warning(
                "postgres_version",
                "Postgres",
                format!(
                    "{version} is newer than this program, which compares with what the migrations make on {}",
                    snapshot::NEWEST
                ),
            )
            .expected(format!("{OLDEST} to {}", snapshot::NEWEST))
            .explained("Use a newer command line.")
        } else if major < OLDEST {
            Finding::problem("postgres_version", "Postgres", version)
                .expected(format!("{OLDEST} or later"))
                .explained("Bring the server up to a version that is supported.")
        } else {
            Finding::ok("postgres_version", "Postgres", version)
        });
        findings.push(if encoding == "UTF8" {
            Finding::ok("encoding", "encoding", encoding)
        } else {
            Finding::problem("encoding", "encoding", encoding)
                .expected("UTF8")
                .explained(
                    "Make a database with ENCODING 'UTF8' for the trail: that of a database \
                     cannot be changed.",
                )
        });
    }
    Ok(findings)
}

async fn settings(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let settings: BTreeMap<String, String> = look
        .rows::<(String, String)>(SETTINGS)
        .await?
        .into_iter()
        .collect();
    let mut findings = Vec::new();
    for (name, expected, is_problem, why) in EXPECTED_SETTINGS {
        // Not every version has every setting.
        let Some(value) = settings.get(name) else {
            continue;
        };
        // For synchronous_commit any value above on is as good.
        if value == expected || (name == "synchronous_commit" && value != "off") {
            continue;
        }
        let found = format!("{value}: {why}");
        findings.push(
            if is_problem {
                Finding::problem("server_settings", name, found)
            } else {
                Finding::warning("server_settings", name, found)
            }
            .expected(expected)
            .advice(format!("ALTER SYSTEM SET {name} = '{expected}';"))
            .explained("Then SELECT pg_reload_conf(); for itself."),
        );
    }
    Ok(or_ok(
        "server_settings",
        findings,
        "settings",
        "fsync, full_page_writes and the others that commits rely on are as they should be",
    ))
}

async fn clock(look: &mut Look<'_>) -> Result<Finding, sqlx::Error> {
    let since_1970 = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64()
    };
    let before = since_1970();
    let server = look.rows::<(f64,)>(CLOCK).await?;
    let after = since_1970();
    let server = server.first().map_or(before, |(seconds,)| *seconds);
    Ok(compare_clocks(before, server, after))
}

/// Compares the server's time with this machine's before and after the query, in seconds.
fn compare_clocks(before: f64, server: f64, after: f64) -> Finding {
    let tolerance = CLOCK_TOLERANCE.as_secs_f64();
    let ahead = server - after;
    let behind = before - server;
    let (apart, direction) = if ahead > behind {
        (ahead, "ahead of")
    } else {
        (behind, "behind")
    };
    if apart <= tolerance {
        return Finding::ok(
            "clock",
            "clock",
            "that of the server and of this machine agree",
        );
    }
    Finding::warning(
        "clock",
        "clock",
        format!(
            "the server's is {} {direction} this machine's",
            crate::text::duration(apart * 1000.0)
        ),
    )
    .expected("within 1 s")
    .explained(
        "Let both machines take the time from a server (NTP): a record's time is that of the \
         machine that wrote it, a batch's that of the database.",
    )
}

/// The trail's schemas under other names, recognized by their tables, partitions and event trigger
/// function.
const RENAMED_SCHEMAS: &str = "
    SELECT w.name, n.nspname::text, format('ALTER SCHEMA %I RENAME TO %I;', n.nspname, w.name)
    FROM pg_namespace n, LATERAL (
        SELECT 'audit' WHERE n.nspowner = to_regrole('audit_owner') AND EXISTS (SELECT FROM pg_class c JOIN pg_trigger t ON t.tgrelid = c.oid JOIN pg_proc p ON p.oid = t.tgfoid
            WHERE c.relnamespace = n.oid AND t.tgname = 'append_only' AND p.proname = 'refuse_change' AND p.pronamespace = n.oid)
        UNION ALL
        SELECT 'audit_parts' WHERE n.nspowner = to_regrole('audit_owner') AND EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            JOIN pg_class p ON p.oid = i.inhparent WHERE c.relnamespace = n.oid AND p.relnamespace <> n.oid AND p.relowner = to_regrole('audit_owner'))
        UNION ALL
        SELECT 'audit_guard' WHERE EXISTS (SELECT FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
            WHERE e.evtname IN ('audit_refuse_ddl', 'audit_refuse_drop') AND p.proname = 'refuse_ddl' AND p.pronamespace = n.oid)) w (name)
    WHERE n.nspname <> w.name AND to_regnamespace(w.name) IS NULL ORDER BY 1";

/// The trail's roles under other names, recognized by what they own and by the policies for them.
const RENAMED_ROLES: &str = "
    WITH policy (name, role) AS (
        SELECT p.polname, p.polroles[1] FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        WHERE c.relnamespace = to_regnamespace('audit') AND array_length(p.polroles, 1) = 1)
    SELECT DISTINCT w.name, r.rolname::text, format('ALTER ROLE %I RENAME TO %I;', r.rolname, w.name)
    FROM (
        SELECT 'audit_owner', nspowner FROM pg_namespace WHERE nspname = 'audit'
        UNION ALL SELECT 'audit_maintainer', role FROM policy WHERE name = 'maintainer'
        UNION ALL SELECT 'audit_reader', role FROM policy WHERE name = 'tenant'
        UNION ALL SELECT 'audit_auditor', role FROM policy WHERE name = 'auditor'
        UNION ALL SELECT 'audit_operator', role FROM policy WHERE name = 'operator'
        UNION ALL SELECT 'audit_sealer', role FROM policy WHERE name = 'sealer'
        UNION ALL SELECT 'audit_writer', x.grantee FROM pg_namespace n, aclexplode(n.nspacl) x
            WHERE n.nspname = 'audit_parts' AND x.grantee <> n.nspowner) w (name, role)
    JOIN pg_roles r ON r.oid = w.role
    WHERE to_regrole(w.name) IS NULL AND EXISTS (
            SELECT FROM pg_class c WHERE c.relnamespace = to_regnamespace('audit') AND c.relname = 'batches')
        -- Else it is a schema of somebody's own, who may call anything as they like; roles they cannot make.
        AND (SELECT count(*) FROM pg_roles o WHERE o.rolname IN (
            'audit_owner', 'audit_maintainer', 'audit_writer', 'audit_reader', 'audit_auditor', 'audit_operator', 'audit_sealer')) >= 4
        AND NOT r.rolsuper AND NOT r.rolcanlogin AND r.rolname NOT IN (
        'audit_owner', 'audit_maintainer', 'audit_writer', 'audit_reader', 'audit_auditor', 'audit_operator', 'audit_sealer')
    ORDER BY 1";

/// Reports renamed schemas and roles of the trail.
pub(crate) async fn renamed(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    for (check, what, sql) in [
        ("tables", "schema", RENAMED_SCHEMAS),
        ("roles", "role", RENAMED_ROLES),
    ] {
        for (name, is, statement) in look.rows::<(String, String, String)>(sql).await? {
            findings.push(
                Finding::problem(check, &name, format!("the {what} was renamed to {is}"))
                    .expected(name)
                    .advice(statement)
                    .explained("What else there is to tell is told when it has its name."),
            );
        }
    }
    Ok(findings)
}

/// Checks the version of the tables.
pub(crate) async fn schema(look: &mut Look<'_>) -> Result<(Vec<Finding>, Schema), sqlx::Error> {
    let known = migrations::VERSION;
    let there: Vec<(bool,)> = look.rows(SCHEMA).await?;
    if there != [(true,)] {
        let finding = Finding::problem(
            "schema_version",
            "audit",
            "there are no tables of the trail in this database",
        )
        .expected(format!("version {known}"))
        .explained("Run `tracing-audit migrate`, or name the right database.");
        return Ok((vec![finding], Schema::Other));
    }
    let Answer::Rows(applied) = look.rows_of_table::<(i64, bool)>(APPLIED).await? else {
        let finding = Finding::unseen("schema_version", "audit.schema_migrations");
        return Ok((vec![finding], Schema::Known));
    };
    let version = applied
        .iter()
        .filter_map(|(version, success)| success.then_some(*version))
        .max()
        .unwrap_or(0);
    let found = format!("version {version}");
    let mut findings = Vec::new();
    if let Some((failed, _)) = applied.iter().find(|(_, success)| !success) {
        findings.push(
            Finding::problem(
                "schema_version",
                "audit.schema_migrations",
                format!("version {failed} was begun and not finished"),
            )
            .expected("applied whole")
            .explained(
                "Restore the database to its state before that migration, and run \
                     `tracing-audit migrate` again.",
            ),
        );
    }
    if version < known {
        findings.push(
            Finding::problem("schema_version", "audit", found)
                .expected(format!("version {known}"))
                .explained("Run `tracing-audit migrate`."),
        );
        return Ok((findings, Schema::Other));
    }
    findings.push(if version == known {
        Finding::ok("schema_version", "audit", found)
    } else {
        // Anybody may have inserted this row, so the checks below still run.
        Finding::problem("schema_version", "audit", found)
            .expected(format!("version {known}"))
            .explained(
                "Use the command line of the version that migrated. If there is none, the row was \
                 put in by hand; below is what differs from the version that this program knows.",
            )
    });
    findings.extend(checksums(look).await?);
    Ok((findings, Schema::Known))
}

/// Checks that the applied migrations are this program's.
async fn checksums(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    // Not everybody may read them, and that needs no warning: the catalog itself is compared below.
    let Answer::Rows(applied) = look.rows_of_table::<(i64, Vec<u8>)>(CHECKSUMS).await? else {
        return Ok(Vec::new());
    };
    let applied: BTreeMap<i64, Vec<u8>> = applied.into_iter().collect();
    let finding = |version: i64| {
        Finding::problem(
            "schema_checksum",
            format!("migration {version}"),
            "another text was applied, or its note was changed",
        )
        .expected("the text that this program holds")
        .explained(
            "Use the command line of the version that migrated; if it is this one, look \
                 below for what is different.",
        )
    };
    Ok(migrations::checksums()
        .filter(|(version, checksum)| applied.get(version) != Some(checksum))
        .map(|(version, _)| finding(version))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::compare_clocks;
    use crate::doctor::finding::Severity;

    #[test]
    fn clock_skew_is_a_warning_and_a_slow_response_is_not() {
        let severity = |before, server, after| compare_clocks(before, server, after).severity;
        assert_eq!(severity(100.0, 100.5, 101.0), Severity::Ok);
        assert_eq!(severity(100.0, 100.0, 130.0), Severity::Ok);
        assert_eq!(severity(100.0, 130.0, 100.1), Severity::Warning);
        assert_eq!(severity(100.0, 70.0, 100.1), Severity::Warning);
        let ahead = compare_clocks(100.0, 160.1, 100.1);
        assert_eq!(
            ahead.found,
            "the server's is 1 min 00 s ahead of this machine's"
        );
    }
}
