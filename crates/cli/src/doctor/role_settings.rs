//! Checks settings of roles and of the database that change what the trail relies on.

use super::finding::{Finding, Severity, or_ok};
use super::look::Look;

/// The settings of a role, a database, both or the server: the role (null for all), the beginning
/// of the statement, the name, the value (a boolean as `on` or `off`, however it was written), and
/// whether it is the server's. The server's is known only if no other takes precedence.
const SETTINGS: &str = "
    WITH setting (role, statement, name, value, is_server) AS (
        SELECT r.rolname::text, CASE
                WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'ALTER ROLE ALL'
                WHEN s.setrole = 0 THEN format('ALTER DATABASE %I', d.datname)
                WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I', r.rolname)
                ELSE format('ALTER ROLE %I IN DATABASE %I', r.rolname, d.datname) END,
            lower(split_part(c, '=', 1)), substr(c, strpos(c, '=') + 1), false
        FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase,
            unnest(s.setconfig) c
        -- Nobody has those of a role that cannot log in.
        WHERE (s.setdatabase = 0 OR d.datname = current_database()) AND (s.setrole = 0 OR r.rolcanlogin)
        UNION ALL
        SELECT NULL, 'ALTER SYSTEM', lower(name), reset_val, true FROM pg_settings
        WHERE lower(name) IN ('search_path', 'app.current_tenant', 'default_transaction_read_only') AND reset_val IS DISTINCT FROM boot_val)
    SELECT s.role, s.statement, s.name, CASE WHEN g.vartype = 'bool' THEN CASE WHEN s.value::boolean THEN 'on' ELSE 'off' END ELSE s.value END, s.is_server
    FROM setting s LEFT JOIN pg_settings g ON lower(g.name) = s.name
    WHERE NOT (s.is_server AND EXISTS (SELECT FROM setting o WHERE NOT o.is_server AND o.name = s.name
        AND (o.role IS NULL OR o.role IN (session_user, current_user))))
    ORDER BY 2, 3";

/// Logins whose sessions start as another role: the setting's statement, the login, that role, and
/// the trail's roles whose rights it lacks. Postgres ignores a setting that the login may not
/// apply.
const ACTING: &str = "
    SELECT CASE
            WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'ALTER ROLE ALL'
            WHEN s.setrole = 0 THEN format('ALTER DATABASE %I', d.datname)
            WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I', m.rolname)
            ELSE format('ALTER ROLE %I IN DATABASE %I', m.rolname, d.datname) END,
        m.rolname::text, t.rolname::text, string_agg(g.rolname::text, ', ' ORDER BY g.rolname)
    FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c,
        pg_roles t, pg_roles m, pg_roles g
    WHERE (s.setdatabase = 0 OR d.datname = current_database()) AND c = 'role=' || t.rolname
        AND m.rolcanlogin AND NOT m.rolsuper AND (s.setrole = 0 OR s.setrole = m.oid) AND m.oid <> t.oid
        AND pg_has_role(m.oid, t.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
        AND g.rolname IN ('audit_writer', 'audit_reader', 'audit_auditor', 'audit_operator', 'audit_sealer')
        AND pg_has_role(m.oid, g.oid, 'MEMBER') AND NOT pg_has_role(t.oid, g.oid, 'USAGE')
    GROUP BY 1, 2, 3 ORDER BY 1, 2";

/// Checks the settings of roles, of this database, and of both.
pub(crate) async fn check(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    for (role, statement, name, value, is_server) in look
        .rows::<(Option<String>, String, String, String, bool)>(SETTINGS)
        .await?
    {
        let Some((severity, expected, why)) = judge(&name, &value, role.is_some()) else {
            continue;
        };
        let object = if is_server {
            "server".to_owned()
        } else {
            statement.trim_start_matches("ALTER ").to_lowercase()
        };
        // A value is printed only for settings that are not free text.
        let found = format!("{name} is set: {why}");
        let finding = match severity {
            Severity::Problem => Finding::problem("role_settings", object, found),
            _ => Finding::warning("role_settings", object, found),
        };
        let finding = finding
            .expected(expected)
            .advice(format!("{statement} RESET {name};"));
        findings.push(if is_server {
            finding.explained(
                "Take it out of postgresql.conf, too, and then SELECT pg_reload_conf(); for itself.",
            )
        } else {
            finding
        });
    }
    for (statement, login, actor, roles) in look
        .rows::<(String, String, String, String)>(ACTING)
        .await?
    {
        let found = format!(
            "role is set: sessions of {login} (session_user) act as {actor} (current_user), without the rights of {roles}"
        );
        findings.push(
            Finding::problem(
                "role_settings",
                statement.trim_start_matches("ALTER ").to_lowercase(),
                found,
            )
            .expected("sessions that act as their login")
            .advice(format!("{statement} RESET role;")),
        );
    }
    Ok(or_ok(
        "role_settings",
        findings,
        "settings",
        "none of a role or of the database changes what the trail relies on",
    ))
}

/// Judges what a setting of a role, a database or both does to the trail, if anything.
fn judge(
    name: &str,
    value: &str,
    is_of_role: bool,
) -> Option<(Severity, &'static str, &'static str)> {
    match name {
        "session_replication_role" if !value.eq_ignore_ascii_case("origin") => Some((
            Severity::Problem,
            "origin",
            "ordinary triggers and foreign keys are switched off",
        )),
        "event_triggers" if value == "off" => Some((
            Severity::Problem,
            "on",
            "what keeps the tables from being altered and dropped is switched off",
        )),
        "synchronous_commit"
            if ["off", "false", "no", "0"].contains(&value.to_lowercase().as_str()) =>
        {
            Some((
                Severity::Warning,
                "on",
                "a commit may be lost in a crash; the writer switches it on for itself, \
                 readings and holds are recorded without it",
            ))
        }
        "row_security" if value == "off" => Some((
            Severity::Warning,
            "on",
            "a reader gets an error in place of its tenant's rows",
        )),
        "default_transaction_read_only" if value != "off" => Some((
            Severity::Warning,
            "off",
            "nothing is written by who gets it",
        )),
        "search_path" if hides_catalog(value) => Some((
            Severity::Problem,
            "pg_catalog first, or not named",
            "it has something before pg_catalog, which can stand in for functions of Postgres",
        )),
        "app.current_tenant" if !is_of_role => Some((
            Severity::Warning,
            "set by each session for itself",
            "everybody reads that tenant's rows without having said so",
        )),
        _ => None,
    }
}

/// Whether another schema is searched before the catalog.
fn hides_catalog(search_path: &str) -> bool {
    search_path
        .split(',')
        .map(|schema| {
            let schema = schema.trim();
            let quoted = schema
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            // Quoted names are case-sensitive.
            quoted.map_or_else(|| schema.to_lowercase(), str::to_owned)
        })
        .position(|schema| schema == "pg_catalog")
        .is_some_and(|place| place > 0)
}

#[cfg(test)]
mod tests {
    use super::hides_catalog;

    #[test]
    fn search_path_with_pg_catalog_after_another_schema_hides_the_catalog() {
        assert!(hides_catalog("public, pg_catalog"));
        assert!(hides_catalog("\"$user\", \"pg_catalog\""));
        assert!(hides_catalog("public, PG_CATALOG"));
        assert!(!hides_catalog("public, \"PG_CATALOG\""));
        assert!(!hides_catalog("pg_catalog, public"));
        assert!(!hides_catalog("\"$user\", public"));
    }
}
