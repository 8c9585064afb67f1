//! Explains why a login may not write, and what to do: it is not a member of `audit_writer`, or it
//! does not inherit from it, or its sessions act as another role.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Executor as _, Row as _};

use crate::database::words;

/// Selects, for the login and for the role that its sessions act as: the name, the quoted name,
/// whether it has the rights of `audit_writer`, whether it is a member, whether it inherits. Then
/// the server's version, and the statements that make sessions act as the login again.
const ROLES: &str = "SELECT r.rolname::text, quote_ident(r.rolname), \
     coalesce(pg_has_role(r.oid, w.oid, 'USAGE'), false), coalesce(pg_has_role(r.oid, w.oid, 'MEMBER'), false), r.rolinherit, \
     current_setting('server_version_num')::int4, (SELECT string_agg(CASE \
         WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'ALTER ROLE ALL' \
         WHEN s.setrole = 0 THEN format('ALTER DATABASE %I', current_database()) \
         WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I', session_user) \
         ELSE format('ALTER ROLE %I IN DATABASE %I', session_user, current_database()) END || ' RESET role', '; ' \
         ORDER BY s.setrole = 0, s.setdatabase = 0) \
         FROM pg_db_role_setting s, unnest(s.setconfig) c \
         WHERE c LIKE 'role=%' AND c <> 'role=none' \
         AND (s.setrole = 0 OR s.setrole = (SELECT oid FROM pg_roles WHERE rolname = session_user)) \
         AND (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))) \
     FROM (VALUES (1, session_user), (2, current_user)) AS one (place, name) JOIN pg_roles r ON r.rolname = one.name \
     LEFT JOIN pg_roles w ON w.rolname = 'audit_writer' ORDER BY one.place";

/// The login of a session, or the role that the session acts as.
#[derive(Debug)]
struct LoginRole {
    name: String,
    quoted: String,
    has_rights: bool,
    is_member: bool,
    inherits: bool,
    server_version: i32,
}

/// Returns why this session may not write to the tables, and what to do.
pub(super) async fn why_not_writer(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    // Keeps functions from running that the database's owner has put before those of Postgres.
    let begin = "BEGIN READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp";
    connection.execute(begin).await?;
    let rows = connection.fetch_all(ROLES).await?;
    connection.execute("ROLLBACK").await?;
    let [of_login, of_actor] = &rows[..] else {
        return Ok(String::from(
            "this session's role may not write to the audit tables, and was dropped meanwhile",
        ));
    };
    let reset: Option<String> = of_actor.try_get(6)?;
    Ok(say(
        &LoginRole::read(of_login)?,
        &LoginRole::read(of_actor)?,
        reset,
    ))
}

fn say(login: &LoginRole, actor: &LoginRole, reset: Option<String>) -> String {
    if login.name == actor.name {
        return match login.missing() {
            Some((what, advice)) => format!("the login {} {what}: {advice}", login.name),
            None => format!(
                "the login {} is audit_writer, which may not write to the audit tables: a right of it is missing; \
                 run `tracing-audit doctor`",
                login.name
            ),
        };
    }
    let reset = match reset {
        Some(statements) => format!("run {}", words(&statements)),
        None => String::from("take the setting role out of options (in the URL or PGOPTIONS)"),
    };
    let also = match login.missing() {
        Some((_, advice)) => format!(", and then {advice}"),
        None => String::new(),
    };
    let (what, instead) = match actor.missing() {
        Some((what, advice)) => (what, format!(". Or let that role write: {advice}")),
        None => (
            "is audit_writer, which may not write to the audit tables",
            String::from(". Or run `tracing-audit doctor`: a right of audit_writer is missing"),
        ),
    };
    format!(
        "the sessions of the login {} (session_user) act as {} (current_user), which {what}: {reset}{also}{instead}",
        login.name, actor.name
    )
}

impl LoginRole {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: words(row.try_get(0)?),
            quoted: words(row.try_get(1)?),
            has_rights: row.try_get(2)?,
            is_member: row.try_get(3)?,
            inherits: row.try_get(4)?,
            server_version: row.try_get(5)?,
        })
    }

    /// Returns what the role lacks, and what to do.
    fn missing(&self) -> Option<(&'static str, String)> {
        let Self { name, quoted, .. } = self;
        if self.has_rights {
            return None;
        }
        if !self.is_member {
            let word = shell_word(name);
            return Some((
                "may not write to the audit tables",
                format!(
                    "run `tracing-audit migrate --writer-login {word}` as an administrator, or GRANT audit_writer TO {quoted}"
                ),
            ));
        }
        let advice = if self.server_version >= 160_000 {
            // There each membership has its own inherit option.
            format!("run GRANT audit_writer TO {quoted} WITH INHERIT TRUE")
        } else if self.inherits {
            // It is a member of a role that does not inherit.
            format!("run GRANT audit_writer TO {quoted}")
        } else {
            format!("run ALTER ROLE {quoted} INHERIT")
        };
        Some((
            "is a member of audit_writer and does not inherit its rights",
            advice,
        ))
    }
}

/// Returns a name as a word of a shell.
pub(super) fn shell_word(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !name.starts_with('-') && name.chars().all(is_plain) {
        return String::from(name);
    }
    format!("'{}'", name.replace('\'', "'\\''"))
}
