//! Owners and privileges: exactly those that the migrations give, no more and no less.

use std::collections::{BTreeMap, BTreeSet};

use super::expected::{self, Grant, MIGRATIONS_COLUMNS, MIGRATIONS_READERS};
use super::finding::{Finding, counted, or_ok};
use super::look::{Look, Part, Relation};
use super::roles::quoted;
use super::sources::{self, Function};

/// Schemas, types and functions: what they are, their name in a statement, without the arguments, their owner.
const OBJECTS: &str = "
    SELECT 'SCHEMA', format('%I', nspname), nspname::text, pg_get_userbyid(nspowner)::text FROM pg_namespace
    WHERE nspname IN ('audit', 'audit_parts', 'audit_guard')
    UNION ALL
    SELECT 'TYPE', format('%I.%I', n.nspname, t.typname), t.typname::text, pg_get_userbyid(t.typowner)::text
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = 'audit' AND t.typtype = 'e'
    UNION ALL
    SELECT 'FUNCTION', p.oid::regprocedure::text, p.proname::text, pg_get_userbyid(p.proowner)::text
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'audit'
    ORDER BY 1, 2";

/// Every privilege on any of these, and on relations and their columns: the object, the role, the privilege, whether
/// it may be passed on. `is_right` is false for what the owner has from the start, which it must still have.
const PRIVILEGES: &str = "
    WITH relation AS (
        SELECT c.*, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('audit', 'audit_parts') AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')),
    object (name, owner, acl, initial) AS (
        SELECT format('%I.%I', nspname, relname), relowner, relacl,
            acldefault(CASE relkind WHEN 'S' THEN 's'::\"char\" ELSE 'r'::\"char\" END, relowner) FROM relation
        UNION ALL
        SELECT format('%I', nspname), nspowner, nspacl, acldefault('n', nspowner) FROM pg_namespace
        WHERE nspname IN ('audit', 'audit_parts', 'audit_guard')
        UNION ALL
        SELECT format('%I.%I', n.nspname, t.typname), t.typowner, t.typacl, acldefault('T', t.typowner)
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = 'audit' AND t.typtype = 'e'
        UNION ALL
        SELECT p.oid::regprocedure::text, p.proowner, p.proacl, acldefault('f', p.proowner)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'audit'),
    entry (name, owner, acl, is_right) AS (
        SELECT name, owner, coalesce(acl, initial), true FROM object
        UNION ALL SELECT name, owner, initial, false FROM object
        UNION ALL
        SELECT format('%I.%I (%I)', r.nspname, r.relname, a.attname), r.relowner, a.attacl, true
        FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid WHERE a.attacl IS NOT NULL AND NOT a.attisdropped)
    SELECT DISTINCT e.name, CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END,
        x.privilege_type, x.is_grantable AND x.grantee <> e.owner, e.is_right
    FROM entry e, aclexplode(e.acl) x WHERE e.is_right OR x.grantee = e.owner";

/// Privileges that are given to what is made later.
const DEFAULT_PRIVILEGES: &str = "
    SELECT pg_get_userbyid(d.defaclrole)::text, n.nspname::text,
        CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
            WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END,
        CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END,
        string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)
    FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) x
    WHERE (n.nspname IN ('audit', 'audit_parts', 'audit_guard')
        OR d.defaclnamespace = 0 AND pg_get_userbyid(d.defaclrole) IN ('audit_owner', 'audit_maintainer'))
        AND x.grantee <> d.defaclrole
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4";

/// Something that has an owner and privileges.
#[derive(Debug)]
struct Object {
    /// As a statement names its kind.
    kind: &'static str,
    /// With its schema, as a statement writes it.
    name: String,
    owner: String,
    /// None when anybody may own it.
    expected_owner: Option<&'static str>,
    /// Besides the owner's.
    grants: Vec<Grant>,
}

/// `(object, role)` and the privileges that the role has to it.
type Privileges = BTreeMap<(String, String), BTreeSet<String>>;

/// Owners and privileges of everything.
pub(crate) async fn check(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let ours: Vec<String> = sources::functions()
        .iter()
        .map(Function::signature)
        .collect();
    let mut objects: Vec<Object> = relations.iter().filter_map(of_relation).collect();
    for (kind, name, bare, owner) in look
        .rows::<(String, String, String, String)>(OBJECTS)
        .await?
    {
        objects.extend(of_object(&kind, name, &bare, owner, &ours));
    }
    let migrator = relations
        .iter()
        .find(|relation| matches!(relation.part(), Part::Migrations))
        .map(|relation| relation.owner.clone());
    let (actual, owners_own) = privileges(look).await?;
    let mut findings = owners(&objects);
    findings.extend(or_ok(
        "privileges",
        compare(&objects, &actual, &owners_own, migrator.as_deref()),
        "privileges",
        format!(
            "those of {} are what the migrations give",
            counted(objects.len(), "object", "objects")
        ),
    ));
    findings.extend(default_privileges(look).await?);
    Ok(findings)
}

fn of_relation(relation: &Relation) -> Option<Object> {
    let (expected_owner, grants) = match relation.part() {
        Part::Table(table) => (Some("audit_owner"), table.grants),
        Part::Leaf(_) => (Some("audit_owner"), expected::LEAF_GRANTS),
        Part::View => (Some("audit_owner"), expected::VIEW_GRANTS),
        Part::WithoutRows | Part::Migrations => (Some("audit_owner"), &[][..]),
        // Told of as such.
        Part::Stray => return None,
    };
    Some(Object {
        kind: match relation.kind.as_str() {
            "v" => "VIEW",
            "S" => "SEQUENCE",
            _ => "TABLE",
        },
        name: relation.name.clone(),
        owner: relation.owner.clone(),
        expected_owner,
        grants: grants.to_vec(),
    })
}

/// `ours` are the signatures of the trail's own functions; any other is told of as such.
fn of_object(
    kind: &str,
    name: String,
    bare: &str,
    owner: String,
    ours: &[String],
) -> Option<Object> {
    let (kind, expected_owner, grants) = match kind {
        "SCHEMA" => (
            "SCHEMA",
            (bare != "audit_guard").then_some("audit_owner"),
            expected::schema_grants(bare).to_vec(),
        ),
        "TYPE" => ("TYPE", Some("audit_owner"), vec![("PUBLIC", "USAGE")]),
        _ => {
            // `regprocedure` writes no blank after a comma.
            if !ours.contains(&name.replace(',', ", ")) {
                return None;
            }
            let callers = expected::callers(bare);
            (
                "FUNCTION",
                Some("audit_maintainer"),
                callers.iter().map(|role| (*role, "EXECUTE")).collect(),
            )
        }
    };
    Some(Object {
        kind,
        name,
        owner,
        expected_owner,
        grants,
    })
}

/// What each role has, and what an owner has from the start.
async fn privileges(look: &mut Look<'_>) -> Result<(Privileges, Privileges), sqlx::Error> {
    let (mut actual, mut owners_own) = (Privileges::new(), Privileges::new());
    for (name, role, privilege, is_grantable, is_right) in look
        .rows::<(String, String, String, bool, bool)>(PRIVILEGES)
        .await?
    {
        let privileges = if is_right {
            &mut actual
        } else {
            &mut owners_own
        };
        let of_role = privileges.entry((name, role)).or_default();
        if is_grantable && is_right {
            of_role.insert(format!("GRANT OPTION FOR {privilege}"));
        }
        of_role.insert(privilege);
    }
    Ok((actual, owners_own))
}

fn owners(objects: &[Object]) -> Vec<Finding> {
    let findings = objects
        .iter()
        .filter_map(|object| {
            let expected = object
                .expected_owner
                .filter(|owner| *owner != object.owner)?;
            Some(
                Finding::problem(
                    "owners",
                    &object.name,
                    format!("it belongs to {}", object.owner),
                )
                .expected(expected)
                .advice(format!(
                    "ALTER {} {} OWNER TO {expected};",
                    object.kind, object.name
                )),
            )
        })
        .collect();
    or_ok(
        "owners",
        findings,
        "owners",
        "tables, the view and the schemas belong to audit_owner, functions to audit_maintainer",
    )
}

/// Compares what each role has with what it should have.
fn compare(
    objects: &[Object],
    actual: &Privileges,
    owners_own: &Privileges,
    migrator: Option<&str>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for object in objects {
        let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (role, privilege) in &object.grants {
            expected
                .entry((*role).to_owned())
                .or_default()
                .insert((*privilege).to_owned());
        }
        let own = owners_own.get(&(object.name.clone(), object.owner.clone()));
        expected
            .entry(object.owner.clone())
            .or_default()
            .extend(own.into_iter().flatten().cloned());
        let mut roles: BTreeSet<&String> = expected.keys().collect();
        let having = actual.keys().filter(|(name, _)| *name == object.name);
        roles.extend(having.map(|(_, role)| role));
        let none = BTreeSet::new();
        for role in roles {
            let should = expected.get(role).unwrap_or(&none);
            let has = actual
                .get(&(object.name.clone(), role.clone()))
                .unwrap_or(&none);
            let mut extra: BTreeSet<&str> = has.difference(should).map(String::as_str).collect();
            if object.name == "audit" && Some(role.as_str()) == migrator {
                // Whoever migrates notes that there.
                extra.remove("USAGE");
            }
            let missing: Vec<&str> = should.difference(has).map(String::as_str).collect();
            findings.extend(too_much(object, role, extra));
            findings.extend(too_little(object, role, &missing));
        }
    }
    findings.extend(columns(actual));
    findings
}

/// Privileges that the migrations do not give.
fn too_much(object: &Object, role: &str, mut extra: BTreeSet<&str>) -> Vec<Finding> {
    let (kind, name) = (statement_kind(object.kind), &object.name);
    let to = grantee(role);
    let mut findings = Vec::new();
    if object.kind == "TABLE" && extra.remove("REFERENCES") {
        findings.push(
            Finding::warning(
                "privileges",
                name,
                format!(
                    "{role} has REFERENCES: it may make foreign keys, which stand against the \
                 removal of partitions"
                ),
            )
            .expected("only for tables that are meant to refer to records")
            .advice(format!("REVOKE REFERENCES ON {kind}{name} FROM {to};")),
        );
    }
    if extra.is_empty() {
        return findings;
    }
    let listed = join(&extra);
    // Taking the privilege takes the option to pass it on, and what was passed on.
    let options: BTreeSet<&str> = extra
        .iter()
        .copied()
        .filter(|privilege| privilege.starts_with("GRANT OPTION"))
        .collect();
    let taken = match extra.difference(&options).copied().collect::<BTreeSet<_>>() {
        privileges if privileges.is_empty() => join(&options),
        privileges => join(&privileges),
    };
    let cascade = if options.is_empty() { "" } else { " CASCADE" };
    let finding = Finding::problem("privileges", name, format!("{role} has {listed}"))
        .expected("not granted")
        .advice(format!(
            "REVOKE {taken} ON {kind}{name} FROM {to}{cascade};"
        ));
    findings.push(finding);
    findings
}

/// Privileges that the migrations give and that are not there.
fn too_little(object: &Object, role: &str, missing: &[&str]) -> Option<Finding> {
    if missing.is_empty() {
        return None;
    }
    let (kind, name) = (statement_kind(object.kind), &object.name);
    let missing = missing.join(", ");
    Some(
        Finding::problem(
            "privileges",
            name,
            format!("{role} does not have {missing}"),
        )
        .expected("granted")
        .advice(format!(
            "GRANT {missing} ON {kind}{name} TO {};",
            grantee(role)
        )),
    )
}

/// Privileges to single columns: only those of the applied migrations.
fn columns(actual: &Privileges) -> Vec<Finding> {
    let mut findings = Vec::new();
    let allowed = |object: &str, role: &str, privileges: &BTreeSet<String>| {
        let column = object
            .strip_prefix("audit.schema_migrations (")
            .and_then(|rest| rest.strip_suffix(')'));
        column.is_some_and(|column| MIGRATIONS_COLUMNS.contains(&column))
            && MIGRATIONS_READERS.contains(&role)
            && privileges.iter().all(|privilege| privilege == "SELECT")
    };
    for ((object, role), privileges) in actual {
        let Some((table, column)) = object.split_once(" (") else {
            continue;
        };
        if allowed(object, role, privileges) {
            continue;
        }
        let from = grantee(role);
        let statements: Vec<String> = privileges
            .iter()
            .filter(|privilege| !privilege.starts_with("GRANT OPTION"))
            .map(|privilege| {
                format!("REVOKE {privilege} ({column} ON {table} FROM {from} CASCADE;")
            })
            .collect();
        findings.push(
            Finding::problem(
                "privileges",
                object,
                format!("{role} has {}", join(privileges)),
            )
            .expected("not granted")
            .advice(statements.join(" ")),
        );
    }
    for role in MIGRATIONS_READERS {
        let missing: Vec<&str> = MIGRATIONS_COLUMNS
            .into_iter()
            .filter(|column| {
                let object = format!("audit.schema_migrations ({column})");
                !actual.contains_key(&(object, role.to_owned()))
            })
            .collect();
        if !missing.is_empty() {
            findings.push(
                Finding::problem(
                    "privileges",
                    "audit.schema_migrations",
                    format!("{role} does not have SELECT ({})", missing.join(", ")),
                )
                .expected("granted: the version is how a program knows that it can start")
                .advice(format!(
                    "GRANT SELECT ({}) ON audit.schema_migrations TO {role};",
                    missing.join(", ")
                )),
            );
        }
    }
    findings
}

/// Nothing is given to what is made later.
async fn default_privileges(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let findings = look
        .rows::<(String, Option<String>, String, String, String)>(DEFAULT_PRIVILEGES)
        .await?
        .into_iter()
        .map(|(maker, schema, kind, role, privileges)| {
            let within = schema
                .as_deref()
                .map_or_else(String::new, |schema| format!(" IN SCHEMA {schema}"));
            let object = schema.unwrap_or_else(|| maker.clone());
            Finding::problem(
                "default_privileges",
                object,
                format!(
                    "{role} gets {privileges} on {} that {maker} makes",
                    kind.to_lowercase()
                ),
            )
            .expected("no default privileges")
            .advice(format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {}{within} REVOKE {privileges} ON \
                     {kind} FROM {};",
                quoted(&maker),
                grantee(&role)
            ))
        })
        .collect();
    Ok(or_ok(
        "default_privileges",
        findings,
        "default privileges",
        "nobody gets rights to tables that are made later",
    ))
}

/// `FUNCTION ` before a function; a table is named without its kind.
fn statement_kind(kind: &str) -> &'static str {
    match kind {
        "SCHEMA" => "SCHEMA ",
        "FUNCTION" => "FUNCTION ",
        "TYPE" => "TYPE ",
        _ => "",
    }
}

fn grantee(role: &str) -> String {
    if role == "PUBLIC" {
        role.to_owned()
    } else {
        quoted(role)
    }
}

fn join<S: AsRef<str> + Ord>(privileges: &BTreeSet<S>) -> String {
    privileges
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join(", ")
}
