//! Finds ways past row-level security outside of the trail.

use super::finding::{Finding, counted, or_ok};
use super::look::Look;

/// Views elsewhere that read a column with values of records, directly or through other views:
/// those with the rights of an owner who bypasses row-level security or sees all tenants, and every
/// materialized one, which is a copy without row-level security.
const VIEWS: &str = "
    WITH RECURSIVE reading AS (
        SELECT r.ev_class AS reader, d.refobjid AS reads
        FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
        -- A row as a whole is noted like no column at all: then the view must show more than numbers.
        GROUP BY 1, 2 HAVING bool_or(d.refobjsubid > 0) OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r.ev_class AND a.attnum > 0
            AND NOT a.attisdropped AND a.atttypid NOT IN ('int8'::regtype, 'int4'::regtype, 'bool'::regtype, 'regclass'::regtype))),
    record AS (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'audit_parts' OR n.nspname = 'audit' AND (c.relname = 'dead_letters' OR c.relkind IN ('p', 'v'))),
    reached (oid) AS (
        SELECT reader FROM reading WHERE reads IN (SELECT oid FROM record)
        UNION SELECT r.reader FROM reached x JOIN reading r ON r.reads = x.oid)
    SELECT format('%I.%I', n.nspname, v.relname), pg_get_userbyid(v.relowner)::text, v.relkind = 'm',
        CASE v.relkind WHEN 'm' THEN format('DROP MATERIALIZED VIEW %I.%I;', n.nspname, v.relname)
            ELSE format('ALTER VIEW %I.%I SET (security_invoker = true);', n.nspname, v.relname) END
    FROM reached x JOIN pg_class v ON v.oid = x.oid JOIN pg_namespace n ON n.oid = v.relnamespace JOIN pg_roles o ON o.oid = v.relowner
    WHERE n.nspname NOT IN ('audit', 'audit_parts') AND (v.relkind = 'm' OR v.relkind = 'v'
        AND NOT EXISTS (SELECT FROM pg_options_to_table(v.reloptions) WHERE option_name = 'security_invoker' AND option_value::boolean)
        AND (o.rolsuper OR o.rolbypassrls OR pg_has_role(o.oid, to_regrole('audit_auditor'), 'USAGE')
            OR pg_has_role(o.oid, to_regrole('audit_owner'), 'USAGE')))
    UNION ALL
    -- Functions that run as such an owner, as far as the catalog tells what they read.
    SELECT DISTINCT p.oid::regprocedure::text, pg_get_userbyid(p.proowner)::text, false, format('ALTER ROUTINE %s SECURITY INVOKER;', p.oid::regprocedure)
    FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_roles o ON o.oid = p.proowner
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM record) AND p.prosecdef AND n.nspname NOT IN ('audit', 'audit_parts')
        AND (o.rolsuper OR o.rolbypassrls OR pg_has_role(o.oid, to_regrole('audit_auditor'), 'USAGE'))
    ORDER BY 1";

/// Publications of logical replication that contain tables of the trail: how many tables, and the
/// statement that removes them; null for a publication of all tables or of a schema.
const PUBLICATIONS: &str = "
    SELECT t.pubname::text, count(*)::int8,
        CASE WHEN bool_and(r.oid IS NOT NULL) THEN format('ALTER PUBLICATION %I DROP TABLE %s;', t.pubname,
            string_agg(format('%I.%I', t.schemaname, t.tablename), ', ' ORDER BY t.schemaname, t.tablename)) END
    FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname
    LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = (
        -- Not by to_regclass, which fails for who may not enter the schema.
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = t.schemaname AND c.relname = t.tablename)
    WHERE t.schemaname IN ('audit', 'audit_parts') GROUP BY t.pubname ORDER BY 1";

/// Foreign keys to a table of the trail whose columns have a type of somebody else's: checking one
/// converts the value with the rights of the trail's table owner. The key, its table, the type, and
/// the statement that drops it.
const FOREIGN_KEYS: &str = "
    SELECT DISTINCT format('%I of %I.%I', k.conname, n.nspname, c.relname), format('%I.%I', tn.nspname, t.typname), pg_get_userbyid(t.typowner)::text,
        format('ALTER TABLE %I.%I DROP CONSTRAINT %I;', n.nspname, c.relname, k.conname)
    FROM pg_constraint k JOIN pg_class parent ON parent.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = parent.relnamespace
    JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
    JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0 AND (pn.nspname IN ('audit', 'audit_parts') OR parent.relowner = to_regrole('audit_owner'))
        AND NOT EXISTS (
            WITH RECURSIVE base AS (SELECT t.typbasetype, t.typnamespace UNION ALL SELECT d.typbasetype, d.typnamespace FROM base JOIN pg_type d ON d.oid = base.typbasetype)
            SELECT FROM base WHERE typbasetype = 0 AND typnamespace = 'pg_catalog'::regnamespace)
    ORDER BY 1";

/// Checks the views, publications and foreign keys outside of the trail.
pub(crate) async fn check(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    for (view, owner, is_copy, statement) in
        look.rows::<(String, String, bool, String)>(VIEWS).await?
    {
        let found = if is_copy {
            "a copy of rows of the trail, which whoever may read it sees of all tenants".to_owned()
        } else {
            format!(
                "it reads the trail with the rights of {owner}, who sees all tenants: so does \
                 whoever may read it"
            )
        };
        findings.push(
            Finding::warning("leaks", &view, found)
                .expected("reading with the rights of who reads")
                .advice(statement)
                .explained(if is_copy {
                    "A materialized view cannot be made safe."
                } else {
                    ""
                }),
        );
    }
    for (publication, tables, statement) in look
        .rows::<(String, i64, Option<String>)>(PUBLICATIONS)
        .await?
    {
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
            .advice(statement.unwrap_or_default())
            .explained("Whoever subscribes sees them. One of all tables, or of a schema, must name its tables instead."),
        );
    }
    for (key, kind, owner, statement) in look
        .rows::<(String, String, String, String)>(FOREIGN_KEYS)
        .await?
    {
        findings.push(
            Finding::problem(
                "leaks",
                format!("foreign key {key}"),
                format!(
                    "its column is of the type {kind}, of which {owner} may make a cast: Postgres runs \
                     it with the rights of the trail's owner"
                ),
            )
            .expected("a column of one of Postgres' own types, as uuid")
            .advice(statement)
            .explained("Whoever may make a cast of the type can read and change all of the trail that way."),
        );
    }
    Ok(or_ok(
        "leaks",
        findings,
        "ways around",
        "no view, publication or foreign key elsewhere is a way past the rights of the trail",
    ))
}
