//! Checks the roles: their attributes, their members, and who bypasses the grants.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::finding::{Finding, Severity, listed, or_ok};
use super::look::Look;
use super::statements::quoted;

/// The roles of the trail.
const ROLES: [&str; 7] = [
    "audit_owner",
    "audit_maintainer",
    "audit_writer",
    "audit_reader",
    "audit_auditor",
    "audit_operator",
    "audit_sealer",
];

/// The roles that logins are members of.
const LOGIN_ROLES: [&str; 5] = [
    "audit_writer",
    "audit_reader",
    "audit_auditor",
    "audit_operator",
    "audit_sealer",
];

const ATTRIBUTES: &str = "
    SELECT rolname::text, array_remove(ARRAY[
        CASE WHEN rolcanlogin THEN 'LOGIN' END, CASE WHEN rolsuper THEN 'SUPERUSER' END,
        CASE WHEN rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
        CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolreplication THEN 'REPLICATION' END], NULL)
    FROM pg_roles";

/// Direct memberships. From Postgres 16 on a role may be a member of another several times, once
/// for each grantor and with its own options; before, all that counts is whether the member
/// inherits.
const MEMBERSHIPS: &str = "
    SELECT g.rolname::text, m.rolname::text, coalesce((to_jsonb(a) ->> 'inherit_option')::bool, m.rolinherit),
        coalesce((to_jsonb(a) ->> 'set_option')::bool, true), a.admin_option,
        CASE WHEN to_jsonb(a) ? 'set_option' THEN pg_get_userbyid(a.grantor)::text END
    FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
    ORDER BY 1, 2, 6";

/// Members of each role, direct and indirect, without those who may only administer it.
const REACH: &str = "
    WITH RECURSIVE effective AS (
        SELECT roleid, member FROM pg_auth_members a
        WHERE coalesce((to_jsonb(a) ->> 'inherit_option')::bool, true) OR coalesce((to_jsonb(a) ->> 'set_option')::bool, true)),
    reach (role, member) AS (
        SELECT roleid, member FROM effective
        UNION SELECT r.role, a.member FROM reach r JOIN effective a ON a.roleid = r.member)
    SELECT g.rolname::text, m.rolname::text FROM reach
    JOIN pg_roles g ON g.oid = reach.role JOIN pg_roles m ON m.oid = reach.member ORDER BY 1, 2";

/// The database's owner, and the statement that gives it to the role that initialized the server.
const DATABASE_OWNER: &str = "
    SELECT pg_get_userbyid(datdba)::text, format('ALTER DATABASE %I OWNER TO %I;', datname, pg_get_userbyid(10))
    FROM pg_database WHERE datname = current_database()";

/// The trail's logins that cannot log in here: the login, the reason, and the statement that
/// repairs it.
const SHUT_OUT: &str = "
    WITH RECURSIVE reach (member) AS (
        SELECT a.member FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid
        WHERE g.rolname IN ('audit_writer', 'audit_reader', 'audit_auditor', 'audit_operator', 'audit_sealer')
        UNION SELECT a.member FROM reach r JOIN pg_auth_members a ON a.roleid = r.member)
    SELECT r.rolname::text, w.why, w.statement
    FROM reach JOIN pg_roles r ON r.oid = reach.member, LATERAL (VALUES
        (r.rolvaliduntil <= now(), 'its password is valid no longer', format('ALTER ROLE %I VALID UNTIL ''infinity'';', r.rolname)),
        (r.rolconnlimit = 0, 'it may have no connection', format('ALTER ROLE %I CONNECTION LIMIT -1;', r.rolname)),
        (NOT has_database_privilege(r.oid, current_database(), 'CONNECT'), 'it may not connect to this database',
            format('GRANT CONNECT ON DATABASE %I TO %I;', current_database(), r.rolname))) w (is_so, why, statement)
    WHERE r.rolcanlogin AND w.is_so
    UNION ALL
    SELECT format('database %s', datname), 'nobody but superusers may connect to it', format('ALTER DATABASE %I CONNECTION LIMIT -1;', datname)
    FROM pg_database WHERE datname = current_database() AND datconnlimit = 0
    ORDER BY 1, 2";

/// Rights to settings and to the catalog that let a role other than a superuser disable what the
/// trail relies on.
const DEEPER: &str = "
    SELECT pg_get_userbyid(x.grantee)::text, format('%s of setting %s', x.privilege_type, a.parname),
        format('REVOKE %s ON PARAMETER %s FROM %I;', x.privilege_type, a.parname, pg_get_userbyid(x.grantee))
    FROM pg_parameter_acl a, aclexplode(a.paracl) x
    WHERE lower(a.parname) IN ('session_replication_role', 'event_triggers', 'zero_damaged_pages', 'ignore_checksum_failure', 'fsync', 'full_page_writes',
        'row_security', 'allow_system_table_mods') AND x.grantee <> 10
    UNION ALL
    SELECT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END, format('%s of %s', x.privilege_type, c.oid::regclass),
        format('REVOKE %s ON pg_catalog.%I FROM %s;', x.privilege_type, c.relname, CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
    FROM pg_class c, aclexplode(c.relacl) x
    WHERE c.relnamespace = 'pg_catalog'::regnamespace AND x.grantee <> c.relowner AND (x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
            AND c.relkind = 'r' OR c.relname IN ('pg_statistic', 'pg_statistic_ext_data') AND x.privilege_type = 'SELECT')
        AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = x.grantee AND (r.rolsuper OR r.rolname LIKE 'pg\\_%'))
    ORDER BY 1, 2";

/// Predefined roles of Postgres whose members bypass the tables' grants.
const PREDEFINED: [(&str, &str); 5] = [
    (
        "pg_read_all_data",
        "read all tenants' rows in the partitions, past row-level security",
    ),
    ("pg_write_all_data", "add rows to every table"),
    ("pg_read_server_files", "read the server's files"),
    ("pg_write_server_files", "change the server's files"),
    (
        "pg_execute_server_program",
        "do what the server itself may do",
    ),
];

/// The roles and their memberships.
#[derive(Debug)]
struct Roles {
    /// The attributes of every role of the server.
    attributes: BTreeMap<String, Vec<String>>,
    memberships: Vec<Membership>,
    /// `(role, member)`, also indirect.
    reach: Vec<(String, String)>,
    database_owner: String,
    /// The statement that gives the database to another owner.
    give_away: String,
}

#[derive(Debug)]
struct Membership {
    role: String,
    member: String,
    inherits: bool,
    sets: bool,
    /// May add members, itself included.
    administers: bool,
    /// The grantor, where it matters: from Postgres 16 on.
    grantor: Option<String>,
}

impl Membership {
    /// As Postgres 16 grants it to the creator of a role.
    fn is_for_administration_only(&self) -> bool {
        self.administers && !self.inherits && !self.sets
    }
}

impl Roles {
    async fn read(look: &mut Look<'_>) -> Result<Self, sqlx::Error> {
        let memberships = look
            .rows::<(String, String, bool, bool, bool, Option<String>)>(MEMBERSHIPS)
            .await?;
        let (database_owner, give_away) = look
            .rows::<(String, String)>(DATABASE_OWNER)
            .await?
            .into_iter()
            .next()
            .unwrap_or_default();
        Ok(Self {
            attributes: look.rows(ATTRIBUTES).await?.into_iter().collect(),
            memberships: memberships
                .into_iter()
                .map(
                    |(role, member, inherits, sets, administers, grantor)| Membership {
                        role,
                        member,
                        inherits,
                        sets,
                        administers,
                        grantor,
                    },
                )
                .collect(),
            reach: look.rows(REACH).await?,
            database_owner,
            give_away,
        })
    }

    fn give_database_away(&self) -> String {
        self.give_away.clone()
    }

    fn has(&self, role: &str, attribute: &str) -> bool {
        self.attributes
            .get(role)
            .is_some_and(|attributes| attributes.iter().any(|has| has == attribute))
    }

    /// Returns the roles that have an attribute.
    fn with(&self, attribute: &str) -> Vec<&str> {
        self.attributes
            .keys()
            .map(String::as_str)
            .filter(|role| self.has(role, attribute))
            .collect()
    }

    /// Returns the members of a role, direct and indirect.
    fn members(&self, role: &str) -> Vec<&str> {
        self.reach
            .iter()
            .filter(|(of, _)| of == role)
            .map(|(_, member)| member.as_str())
            .collect()
    }

    /// Returns the memberships of a role in another: from Postgres 16 on one for each grantor.
    fn between<'a>(
        &'a self,
        role: &'a str,
        member: &'a str,
    ) -> impl Iterator<Item = &'a Membership> {
        self.memberships
            .iter()
            .filter(move |membership| membership.role == role && membership.member == member)
    }

    /// Returns the statements that end a membership (or `what` of it, such as `ADMIN OPTION FOR `).
    /// This also ends what its member has granted, and what Postgres 16 made dependent on it:
    /// whoever runs the statements grants that first.
    fn revoke(&self, membership: &Membership, what: &str) -> String {
        let Membership { role, member, .. } = membership;
        let revoke = format!("REVOKE {what}{role} FROM {}", quoted(member));
        let Some(grantor) = &membership.grantor else {
            return format!("{revoke};");
        };
        let is_closed = role == "audit_owner" || role == "audit_maintainer";
        let mut statements = String::new();
        for kept in &self.memberships {
            let depends = membership.administers
                && kept.role == *role
                && kept.grantor.as_ref() == Some(member);
            if depends && (!is_closed || kept.member == "audit_maintainer") {
                // Spelled out, since an existing membership keeps the options that are not named.
                let _ = write!(
                    statements,
                    "GRANT {role} TO {} WITH INHERIT {}, SET {}; ",
                    quoted(&kept.member),
                    kept.inherits,
                    kept.sets
                );
            }
        }
        let grantor = quoted(grantor);
        let cascade = if membership.administers {
            " CASCADE"
        } else {
            ""
        };
        let _ = write!(statements, "{revoke} GRANTED BY {grantor}{cascade};");
        statements
    }
}

/// Checks the roles and their members.
pub(crate) async fn check(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let roles = Roles::read(look).await?;
    let mut findings = attributes(&roles);
    findings.extend(closed(&roles));
    findings.extend(members(&roles));
    findings.extend(writers(&roles));
    findings.extend(shut_out(look).await?);
    for (role, what, statement) in look.rows::<(String, String, String)>(DEEPER).await? {
        findings.push(
            Finding::warning("bypass", role, format!("it has {what}"))
                .expected("nobody but superusers")
                .advice(statement),
        );
    }
    findings.extend(bypassing(&roles));
    Ok(findings)
}

/// Checks that the trail's roles exist, cannot log in and have no other attributes.
fn attributes(roles: &Roles) -> Vec<Finding> {
    let mut findings = Vec::new();
    for role in ROLES {
        match roles.attributes.get(role).map(Vec::as_slice) {
            None => findings.push(
                Finding::problem("roles", role, "there is no such role")
                    .expected("a role that cannot log in")
                    .advice(format!("CREATE ROLE {role} NOLOGIN;"))
                    .explained("Then grant it what is said to be missing below, or rename it back if it was renamed."),
            ),
            Some([]) => {}
            Some(attributes) => {
                let off: Vec<String> = attributes.iter().map(|name| format!("NO{name}")).collect();
                findings.push(
                    Finding::problem("roles", role, format!("it has {}", attributes.join(", ")))
                        .expected("none of these")
                        .advice(format!("ALTER ROLE {role} {};", off.join(" "))),
                );
            }
        }
    }
    or_ok(
        "roles",
        findings,
        "roles",
        "all six are there, cannot log in and may nothing besides",
    )
}

/// Checks that nobody can become the owner, and that the trail's roles inherit nothing from others.
fn closed(roles: &Roles) -> Vec<Finding> {
    let mut findings = Vec::new();
    for membership in &roles.memberships {
        let Membership { role, member, .. } = membership;
        let of_trail = |name: &String| ROLES.contains(&name.as_str());
        if role == "audit_owner" && member == "audit_maintainer" {
            continue;
        }
        let (object, found) = if role == "audit_owner" || role == "audit_maintainer" {
            (
                role,
                format!("{member} is a member, and may do to the trail what its owner may"),
            )
        } else if of_trail(member) {
            (
                member,
                format!("it is a member of {role}, and so are all of its members"),
            )
        } else {
            continue;
        };
        let finding = if membership.is_for_administration_only() {
            Finding::warning(
                "closed_roles",
                object,
                format!("{member} is no member and may make itself one"),
            )
        } else {
            Finding::problem("closed_roles", object, found)
        };
        findings.push(
            finding
                .expected("no membership but that of audit_maintainer in audit_owner")
                .advice(roles.revoke(membership, "")),
        );
    }
    let of_maintainer = || roles.between("audit_owner", "audit_maintainer");
    if !of_maintainer().any(|m| m.inherits) || !of_maintainer().any(|m| m.sets) {
        // Before Postgres 16 a membership has no options.
        let mend = match of_maintainer().next() {
            Some(Membership { grantor: None, .. }) => "ALTER ROLE audit_maintainer INHERIT;",
            Some(_) => "GRANT audit_owner TO audit_maintainer WITH INHERIT TRUE, SET TRUE;",
            None => "GRANT audit_owner TO audit_maintainer;",
        };
        findings.push(
            Finding::problem(
                "closed_roles",
                "audit_maintainer",
                "it has not the rights of audit_owner: the functions of the trail fail",
            )
            .expected("a member of audit_owner, which inherits")
            .advice(mend),
        );
    }
    or_ok(
        "closed_roles",
        findings,
        "owner",
        "nobody is a member of audit_owner or audit_maintainer",
    )
}

/// Lists the members of each role.
fn members(roles: &Roles) -> Vec<Finding> {
    LOGIN_ROLES
        .into_iter()
        .map(|role| Finding::ok("members", role, listed(&roles.members(role))))
        .collect()
}

/// Checks that a writer can do nothing else to the trail.
fn writers(roles: &Roles) -> Vec<Finding> {
    let mut findings = Vec::new();
    for writer in roles.members("audit_writer") {
        let name = quoted(writer);
        let mut tell = |severity, found: String, expected: &str, advice: String, why: &str| {
            let finding = match severity {
                Severity::Problem => Finding::problem("writer_logins", writer, found),
                _ => Finding::warning("writer_logins", writer, found),
            };
            findings.push(finding.expected(expected).advice(advice).explained(why));
        };
        for (attribute, what) in [
            ("SUPERUSER", "may do anything to the trail"),
            ("BYPASSRLS", "row-level security does not hold for it"),
            ("CREATEROLE", "may give itself every role of the trail"),
            ("REPLICATION", "may copy the whole server"),
        ] {
            if roles.has(writer, attribute) {
                tell(
                    Severity::Problem,
                    format!("it writes the trail and has {attribute}: {what}"),
                    "a login that may only add",
                    format!("ALTER ROLE {name} NO{attribute};"),
                    "Or let the program log in as another role.",
                );
            }
        }
        if roles.database_owner == writer {
            tell(
                Severity::Warning,
                "it writes the trail and owns the database, which it may drop".to_owned(),
                "another owner",
                roles.give_database_away(),
                "The owner may be any role that no program logs in as.",
            );
        }
        for role in ["audit_reader", "audit_auditor", "audit_operator"] {
            if roles.members(role).contains(&writer) {
                tell(
                    Severity::Warning,
                    format!("it writes the trail and is a member of {role} as well"),
                    "a login for each",
                    format!("REVOKE {role} FROM {name};"),
                    "",
                );
            }
        }
    }
    findings.extend(not_inheriting(roles));
    or_ok(
        "writer_logins",
        findings,
        "writers",
        "no login that writes the trail may do anything else to it",
    )
}

/// Reports logins that should write or read the trail but cannot log in.
async fn shut_out(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let findings = look
        .rows::<(String, String, String)>(SHUT_OUT)
        .await?
        .into_iter()
        .map(|(login, why, statement)| {
            Finding::problem("logins", login, why)
                .expected("a login that can log in, as its membership says")
                .advice(statement)
                .explained("If it is to log in no more, take its membership instead.")
        })
        .collect();
    Ok(or_ok(
        "logins",
        findings,
        "logins",
        "every member that is a login can log in here",
    ))
}

/// Reports logins that are members but get the rights only with `SET ROLE`.
fn not_inheriting(roles: &Roles) -> Vec<Finding> {
    let mut findings = Vec::new();
    for role in LOGIN_ROLES {
        let of_role = roles.memberships.iter().filter(|m| m.role == role);
        let members: BTreeSet<&str> = of_role.map(|m| m.member.as_str()).collect();
        for member in members {
            let between = || roles.between(role, member);
            if !roles.has(member, "LOGIN")
                || between().any(|m| m.inherits)
                || between().all(Membership::is_for_administration_only)
            {
                continue;
            }
            let name = quoted(member);
            let mend = if between().any(|m| m.grantor.is_some()) {
                format!("GRANT {role} TO {name} WITH INHERIT TRUE;")
            } else {
                format!("ALTER ROLE {name} INHERIT;")
            };
            findings.push(
                Finding::warning(
                    "writer_logins",
                    member,
                    format!(
                        "it does not inherit the rights of {role}: they count after SET ROLE at \
                         most"
                    ),
                )
                .expected("INHERIT")
                .advice(mend),
            );
        }
    }
    findings
}

/// Lists who may add members to the login roles. From Postgres 16 on that includes their creator,
/// who cannot give this up alone.
fn administrators(roles: &Roles) -> Vec<Finding> {
    let mut administered: BTreeMap<&str, Vec<&Membership>> = BTreeMap::new();
    for membership in &roles.memberships {
        let member = membership.member.as_str();
        if membership.administers
            && LOGIN_ROLES.contains(&membership.role.as_str())
            && !ROLES.contains(&member)
            && !roles.has(member, "SUPERUSER")
        {
            administered.entry(member).or_default().push(membership);
        }
    }
    administered
        .into_iter()
        .map(|(member, memberships)| {
            let names: BTreeSet<&str> = memberships.iter().map(|m| m.role.as_str()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            let advice: Vec<String> = memberships
                .iter()
                .map(|membership| {
                    let is_all = roles
                        .between(&membership.role, member)
                        .all(Membership::is_for_administration_only);
                    roles.revoke(membership, if is_all { "" } else { "ADMIN OPTION FOR " })
                })
                .collect();
            Finding::warning(
                "bypass",
                member,
                format!(
                    "it may make itself, and others, a member of {}",
                    listed(&names)
                ),
            )
            .expected("nobody but superusers")
            .advice(advice.join("\n"))
        })
        .collect()
}

/// Reports who bypasses the grants: a limit to know about, not one to lift.
fn bypassing(roles: &Roles) -> Vec<Finding> {
    let superusers = roles.with("SUPERUSER");
    let mut findings = vec![Finding::ok(
        "bypass",
        "superusers",
        format!(
            "{}; nothing in the database keeps them from changing the trail",
            listed(&superusers)
        ),
    )];
    let others = |attribute| -> Vec<&str> {
        roles
            .with(attribute)
            .into_iter()
            .filter(|role| !superusers.contains(role) && !ROLES.contains(role))
            .collect()
    };
    for (attribute, what) in [
        ("BYPASSRLS", "row-level security does not hold for them"),
        ("REPLICATION", "they may copy the whole server"),
        (
            "CREATEROLE",
            "they may make themselves members of the trail's roles; from Postgres 16 on, of \
                 those alone that they made or administer",
        ),
    ] {
        let names = others(attribute);
        if !names.is_empty() {
            findings.push(
                Finding::warning("bypass", attribute, format!("{}: {what}", listed(&names)))
                    .expected("nobody but superusers")
                    .advice(
                        names
                            .iter()
                            .map(|name| format!("ALTER ROLE {} NO{attribute};", quoted(name)))
                            .collect::<Vec<_>>()
                            .join("\n"),
                    )
                    .explained("For those that can do without it."),
            );
        }
    }
    findings.extend(administrators(roles));
    for (role, what) in PREDEFINED {
        let names: Vec<&str> = roles
            .members(role)
            .into_iter()
            .filter(|member| !superusers.contains(member) && !member.starts_with("pg_"))
            .collect();
        if !names.is_empty() {
            findings.push(
                Finding::warning("bypass", role, format!("{} may {what}", listed(&names)))
                    .expected("nobody")
                    .advice(format!(
                        "REVOKE {role} FROM {};",
                        names
                            .iter()
                            .map(|name| quoted(name))
                            .collect::<Vec<_>>()
                            .join(", ")
                    )),
            );
        }
    }
    findings
}
