//! Views: that of the trail, and ways past row-level security that lie elsewhere.

use super::finding::{Finding, counted, or_ok};
use super::look::{Look, Part, Relation};
use super::roles::quoted;
use super::sources;

const VIEW: &str = "
    SELECT pg_get_viewdef(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'audit' AND c.relname = 'trail' AND c.relkind = 'v'";

/// Views and materialized views elsewhere that read the record tables with the rights of an owner for whom row-level
/// security does not hold, or who sees all tenants.
const LEAKING_VIEWS: &str = "
    SELECT DISTINCT format('%I.%I', vn.nspname, v.relname), pg_get_userbyid(v.relowner)::text
    FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    JOIN pg_class v ON v.oid = r.ev_class JOIN pg_namespace vn ON vn.oid = v.relnamespace
    JOIN pg_class t ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
    JOIN pg_namespace tn ON tn.oid = t.relnamespace
    JOIN pg_roles o ON o.oid = v.relowner
    WHERE tn.nspname IN ('audit', 'audit_parts') AND vn.nspname <> 'audit' AND v.relkind IN ('v', 'm')
        AND (v.relkind = 'm' OR NOT EXISTS (
            SELECT FROM unnest(v.reloptions) o WHERE o ~ '^security_invoker=(true|on|yes|1)$'))
        AND (o.rolsuper OR o.rolbypassrls OR pg_has_role(o.oid, to_regrole('audit_auditor'), 'USAGE')
            OR pg_has_role(o.oid, to_regrole('audit_owner'), 'USAGE'))
    ORDER BY 1";

/// Publications of logical replication that hand on rows of the trail.
const PUBLICATIONS: &str = "
    SELECT pubname::text, count(*)::int8 FROM pg_publication_tables
    WHERE schemaname IN ('audit', 'audit_parts') GROUP BY 1 ORDER BY 1";

/// The trail's view, and what shows its rows elsewhere.
pub(crate) async fn check(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = view(look, relations).await?;
    findings.extend(leaks(look).await?);
    Ok(findings)
}

/// The view reads with its reader's rights, and reads all.
async fn view(look: &mut Look<'_>, relations: &[Relation]) -> Result<Vec<Finding>, sqlx::Error> {
    let Some(view) = relations
        .iter()
        .find(|relation| matches!(relation.part(), Part::View))
    else {
        let finding = Finding::problem("view", "audit.trail", "there is no such view")
            .expected("a view of all kinds of records")
            .advice(recreate());
        return Ok(vec![finding]);
    };
    let mut findings = Vec::new();
    let is_invoker = view.options.iter().any(|option| {
        ["true", "on", "1", "yes"]
            .iter()
            .any(|value| option == &format!("security_invoker={value}"))
    });
    if !is_invoker {
        findings.push(
            Finding::problem(
                "view",
                "audit.trail",
                "it reads with its owner's rights, not with its reader's",
            )
            .expected("security_invoker = true")
            .advice("ALTER VIEW audit.trail SET (security_invoker = true);"),
        );
    }
    let expected = sources::view().map(sources::essence);
    for (definition,) in look.rows::<(String,)>(VIEW).await? {
        if Some(sources::essence(&definition)) != expected {
            findings.push(
                Finding::problem(
                    "view",
                    "audit.trail",
                    "its definition is another one: it may leave rows out, or make some up",
                )
                .expected("the one of the migrations")
                .advice(format!("DROP VIEW audit.trail; {}", recreate())),
            );
        }
    }
    Ok(or_ok(
        "view",
        findings,
        "audit.trail",
        "it reads all records, with its reader's rights",
    ))
}

fn recreate() -> String {
    format!(
        "CREATE VIEW audit.trail WITH (security_invoker = true) AS\n    {};\n\
        ALTER VIEW audit.trail OWNER TO audit_owner; GRANT SELECT ON audit.trail TO audit_reader, audit_auditor;",
        sources::view().unwrap_or_default()
    )
}

/// Ways past row-level security that lie outside of the trail.
async fn leaks(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    for (view, owner) in look.rows::<(String, String)>(LEAKING_VIEWS).await? {
        findings.push(
            Finding::warning(
                "leaks",
                &view,
                format!(
                    "it reads the trail with the rights of {owner}, who sees all tenants: so \
                 does whoever may read it"
                ),
            )
            .expected("security_invoker = true")
            .advice(format!(
                "ALTER VIEW {view} SET (security_invoker = true); a materialized view \
                     cannot be made safe: DROP it."
            )),
        );
    }
    for (publication, tables) in look.rows::<(String, i64)>(PUBLICATIONS).await? {
        let tables = usize::try_from(tables).unwrap_or_default();
        findings.push(
            Finding::warning(
                "leaks",
                format!("publication {publication}"),
                format!(
                    "it hands on the rows of {}, of all tenants",
                    counted(tables, "table of the trail", "tables of the trail")
                ),
            )
            .expected("no publication of the trail's tables")
            .advice(format!(
                "ALTER PUBLICATION {} DROP TABLE …; or name the tables of a publication \
                     FOR ALL TABLES.",
                quoted(&publication)
            )),
        );
    }
    Ok(or_ok(
        "leaks",
        findings,
        "ways around",
        "no view or publication elsewhere shows rows of all tenants",
    ))
}
