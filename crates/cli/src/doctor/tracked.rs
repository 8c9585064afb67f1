//! Checks the tables whose changes are recorded: each has its triggers, and its trigger function is
//! what `audit.track` makes of it.

use super::finding::{Finding, counted, listed, or_ok};
use super::look::{Answer, Look};

/// For each tracked table: its name and how it was tracked, its name now if it is there, the triggers that it or a part
/// of it lacks (or has switched off, or has with other transition tables), the columns that it did
/// not have when it was tracked.
const TRACKED: &str = "
    WITH RECURSIVE relation AS (
        SELECT t.id, t.target::oid AS root, t.target::oid AS oid FROM audit.tracked_tables t
        UNION SELECT r.id, r.root, i.inhrelid FROM relation r JOIN pg_inherits i ON i.inhparent = r.oid),
    -- The trigger, its function, and the types of pg_trigger: after or before, statement, and what it is fired by.
    wanted AS (
        SELECT r.id, c.oid, format('%I.%I', n.nspname, c.relname) AS relation,
            CASE WHEN r.oid = r.root THEN 'audit_change_' ELSE 'audit_part_' END || w.suffix AS trigger,
            CASE w.suffix WHEN 'count' THEN 'count_before_truncate' ELSE 'record_change_' || t.id END AS function, w.type, w.old, w.new
        FROM relation r JOIN audit.tracked_tables t ON t.id = r.id JOIN pg_class c ON c.oid = r.oid AND c.relkind IN ('r', 'p') JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN (VALUES ('insert', 'insert', 4, NULL, 'new_rows'), ('update', 'update', 16, 'old_rows', 'new_rows'), ('delete', 'delete', 8, 'old_rows', NULL),
            ('truncate', 'truncate', 34, NULL, NULL), ('truncate', 'count', 34, NULL, NULL)) AS w (operation, suffix, type, old, new) ON w.operation = ANY (t.operations)),
    lacking AS (
        SELECT w.id, format('%s on %s', w.trigger, w.relation) AS what FROM wanted w WHERE NOT EXISTS (
            SELECT FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
            WHERE g.tgrelid = w.oid AND g.tgname = w.trigger AND p.proname = w.function AND p.pronamespace = 'audit'::regnamespace
                AND g.tgenabled IN ('O', 'A') AND g.tgtype = w.type AND g.tgqual IS NULL AND g.tgattr = ''
                AND g.tgoldtable IS NOT DISTINCT FROM w.old AND g.tgnewtable IS NOT DISTINCT FROM w.new)
        UNION ALL SELECT r.id, format('all of the foreign table %I.%I, which can have none: detach it', n.nspname, c.relname)
            FROM relation r JOIN pg_class c ON c.oid = r.oid AND c.relkind = 'f' JOIN pg_namespace n ON n.oid = c.relnamespace)
    SELECT t.name, format('SELECT audit.track(%L, tenant_column => %L, columns_out => %L, columns_masked => %L, max_value_bytes => %s, action_type => %L, operations => %L, on_failure => %L);',
            coalesce(now.name, t.name), t.tenant_column, t.columns_out, t.columns_masked, t.max_value_bytes, t.action_type, t.operations, t.on_failure),
        now.name,
        ARRAY(SELECT what FROM lacking l WHERE l.id = t.id ORDER BY what),
        ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.target AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (t.columns) ORDER BY a.attnum)
    FROM audit.tracked_tables t
        LEFT JOIN (SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace) AS now ON now.oid = t.target
    ORDER BY t.name";

/// The tracked tables whose function is not the one that `audit.track` makes of them; this login may be
/// unable to ask.
const CHANGED: &str = "
    SELECT t.name FROM audit.tracked_tables t JOIN pg_class c ON c.oid = t.target
    WHERE NOT EXISTS (SELECT FROM pg_proc p
        WHERE p.pronamespace = 'audit'::regnamespace AND p.proname = 'record_change_' || t.id AND p.prosecdef AND p.proowner = to_regrole('audit_maintainer')
            AND right(audit.change_function(t.id), length(quote_literal(p.prosrc))) = quote_literal(p.prosrc)
            AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp', 'row_security=on', 'TimeZone=UTC', 'DateStyle=ISO', 'IntervalStyle=postgres', 'extra_float_digits=1',
                'bytea_output=hex', 'quote_all_identifiers=off', 'enable_nestloop=off', 'jit=off'])";

/// Functions named like those of tracked tables that belong to none, or that somebody besides their owner may
/// make triggers of: the catalog's other checks leave them to this one.
const LOOSE: &str = "
    SELECT p.oid::regprocedure::text, CASE WHEN t.id IS NULL THEN format('DROP FUNCTION %s CASCADE;', p.oid::regprocedure)
            ELSE format('REVOKE ALL ON FUNCTION %s FROM %s;', p.oid::regprocedure, (SELECT string_agg(CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, ', ')
                FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee <> p.proowner)) END
    FROM pg_proc p LEFT JOIN audit.tracked_tables t ON p.proname = 'record_change_' || t.id
    WHERE p.pronamespace = to_regnamespace('audit') AND p.proowner = to_regrole('audit_maintainer') AND p.proname ~ '^record_change_[0-9]+$'
        AND (t.id IS NULL OR EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee <> p.proowner))
    ORDER BY 1";

/// How many statements were not recorded.
pub(crate) const LOST: &str =
    "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM audit.lost_changes";

/// Tables of a schema that nobody tracks, but for those of extensions.
const UNTRACKED: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), format('SELECT audit.track(%L);', format('%I.%I', n.nspname, c.relname))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
        AND NOT EXISTS (SELECT FROM audit.tracked_tables t WHERE t.target = c.oid)
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1";

const CHECK: &str = "tracked_tables";

type Tracked = (String, String, Option<String>, Vec<String>, Vec<String>);

/// Checks the tracked tables, and that each table of these schemas is one.
pub(crate) async fn check(
    look: &mut Look<'_>,
    schemas: &[String],
) -> Result<Vec<Finding>, sqlx::Error> {
    let tracked = match look.rows_of_table::<Tracked>(TRACKED).await? {
        Answer::Rows(tracked) if look.sees_all_rows => tracked,
        // Row-level security hides them.
        Answer::Rows(_) | Answer::Refused => {
            return Ok(vec![Finding::unseen(CHECK, "audit.tracked_tables")]);
        }
        // Reported with the catalog.
        Answer::Absent => return Ok(Vec::new()),
    };
    let count = tracked.len();
    let changed = match look.rows_of_table::<(String,)>(CHANGED).await? {
        Answer::Rows(changed) => changed,
        // Only a superuser may ask what the function should be.
        Answer::Refused | Answer::Absent => Vec::new(),
    };
    let is_changed = |table: &Tracked| changed.iter().any(|(name,)| *name == table.0);
    let all = tracked.into_iter();
    let mut findings: Vec<Finding> = all
        .flat_map(|table| {
            let is_changed = is_changed(&table);
            of_table(table, is_changed)
        })
        .collect();
    if let Answer::Rows(loose) = look.rows_of_table::<(String, String)>(LOOSE).await? {
        findings.extend(loose.into_iter().map(|(function, advice)| {
            Finding::problem(
                CHECK,
                function,
                "it records changes for whoever makes a trigger of it",
            )
            .expected("functions of tracked tables alone, which nobody else may use")
            .advice(advice)
        }));
    }
    if let Answer::Rows(lost) = look.rows_of_table::<(i64,)>(LOST).await?
        && let Some((lost,)) = lost.first().filter(|(lost,)| *lost > 0)
    {
        findings.push(
            Finding::warning(CHECK, "audit.lost_changes", format!("the changes of {lost} statements were not recorded"))
                .expected("none")
                .explained("The server's log names the tables and the errors: tables tracked with on_failure => 'warn'."),
        );
    }
    for schema in schemas {
        let asked = sqlx::query_as(UNTRACKED).bind(schema);
        for (table, advice) in look.asked::<(String, String)>(asked).await? {
            findings.push(
                Finding::problem(CHECK, table, "its changes are not recorded")
                    .expected("a tracked table, as --expect-tracked says")
                    .advice(advice),
            );
        }
    }
    let found = match count {
        0 => "none is tracked".to_owned(),
        count => format!(
            "{}, each with its triggers",
            counted(count, "table", "tables")
        ),
    };
    Ok(or_ok(CHECK, findings, "tracked tables", found))
}

fn of_table((name, again, now, lacking, columns): Tracked, is_changed: bool) -> Vec<Finding> {
    let Some(now) = now else {
        return vec![
            Finding::warning(CHECK, name, "it is tracked, and was dropped")
                .expected("a table that is there")
                .advice("SELECT audit.forget_dropped_tables();"),
        ];
    };
    let mut findings = Vec::new();
    if now != name {
        findings.push(
            Finding::warning(CHECK, name.clone(), format!("it has another name now: {now}"))
                .expected("the name that it was tracked by")
                .advice(again.clone())
                .explained("Its changes are recorded under the name that it has; those before under the other."),
        );
    }
    if !lacking.is_empty() {
        let found = format!(
            "changes are not recorded: missing, switched off or changed is {}",
            listed(&lacking)
        );
        findings.push(
            Finding::problem(CHECK, name.clone(), found)
                .expected("the triggers that audit.track makes, switched on")
                .advice(again.clone())
                .explained("A trigger is lost with its partition, or when somebody drops it or switches it off; a new partition has none until this is run."),
        );
    }
    if !columns.is_empty() {
        let found = format!(
            "columns that appeared since it was tracked: {}",
            listed(&columns)
        );
        findings.push(
            Finding::warning(CHECK, name, found)
                .expected("columns of which somebody decided what is recorded")
                .advice(again)
                .explained("They are recorded, and each statement takes longer until this is run. Name in columns_out or columns_masked what the trail must not hold."),
        );
    } else if is_changed {
        findings.push(
            Finding::problem(CHECK, name, "its trigger function is not what audit.track makes")
                .expected("the function that audit.track makes of the table as it is")
                .advice(again)
                .explained("A column was dropped, renamed or given another type, or somebody changed the function."),
        );
    }
    findings
}
