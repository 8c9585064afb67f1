//! What keeps rows from being changed, swallowed or dropped: triggers, event triggers, and that there are no rules.

use std::collections::BTreeMap;

use super::finding::{Finding, counted, or_ok};
use super::look::{self, Look, Relation};
use super::roles::quoted;
use super::sources;

/// Every trigger: its table, its name, how it is enabled, the statement that makes it, whether it is of a foreign key.
const TRIGGERS: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), t.tgname::text, t.tgenabled::text, pg_get_triggerdef(t.oid), t.tgisinternal
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('audit', 'audit_parts') ORDER BY 1, 2";

const RULES: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), r.rulename::text
    FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('audit', 'audit_parts') AND r.rulename <> '_RETURN' ORDER BY 1, 2";

/// What must be of an event trigger, in one text: when it fires, whether always, for which statements, what it calls,
/// and whose it is.
const EVENT_TRIGGERS: &str = "
    SELECT e.evtname::text, concat(e.evtevent, ', ', CASE e.evtenabled WHEN 'A' THEN 'always' WHEN 'D' THEN 'disabled'
            WHEN 'R' THEN 'replica only' ELSE 'not always' END,
        ', calls ', n.nspname, '.', p.proname, ', of a ', CASE WHEN r.rolsuper THEN 'superuser' ELSE 'role that is none' END,
        ', only for ' || array_to_string(e.evttags, ', '))
    FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_roles r ON r.oid = e.evtowner";

const HAS_GUARD: &str = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'audit_guard')";

/// The event triggers, and what must be of them.
const GUARDS: [(&str, &str, &str); 2] = [
    (
        "audit_refuse_ddl",
        "ddl_command_end",
        "ddl_command_end, always, calls audit_guard.refuse_ddl, of a superuser",
    ),
    (
        "audit_refuse_drop",
        "sql_drop",
        "sql_drop, always, calls audit_guard.refuse_ddl, of a superuser",
    ),
];

/// Triggers, rules and event triggers.
pub(crate) async fn check(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = triggers(look, relations).await?;
    findings.extend(rules(look).await?);
    findings.extend(event_triggers(look).await?);
    Ok(findings)
}

/// A trigger as it is found.
struct Trigger {
    enabled: String,
    statement: String,
    is_internal: bool,
}

/// Both triggers that refuse changes, and no others: one could turn a row into another, or into none.
async fn triggers(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut found: BTreeMap<(String, String), Trigger> = look
        .rows::<(String, String, String, String, bool)>(TRIGGERS)
        .await?
        .into_iter()
        .map(|(table, name, enabled, statement, is_internal)| {
            let trigger = Trigger {
                enabled,
                statement,
                is_internal,
            };
            ((table, name), trigger)
        })
        .collect();
    let mut findings = Vec::new();
    let mut tables = 0;
    for relation in relations {
        if relation.model().is_none() {
            continue;
        }
        tables += 1;
        for (name, expected) in expected_triggers(relation) {
            let trigger = found.remove(&(relation.name.clone(), name.to_owned()));
            findings.extend(compare_trigger(&relation.name, name, &expected, trigger));
        }
    }
    for ((table, name), trigger) in found {
        if look::is_stray(relations, &table) {
            continue;
        }
        let name = quoted(&name);
        if !trigger.is_internal {
            findings.push(
                Finding::problem(
                    "triggers",
                    &table,
                    format!(
                        "trigger {name}, which is none of the trail's: it may change rows, or \
                     keep them from being written"
                    ),
                )
                .expected("no other trigger")
                .advice(format!("DROP TRIGGER {name} ON {table};")),
            );
        } else if trigger.enabled == "D" {
            findings.push(
                Finding::warning(
                    "triggers",
                    &table,
                    format!(
                        "trigger {name} of a foreign key is disabled: it may refer to rows that \
                     are not there"
                    ),
                )
                .expected("enabled")
                .advice(format!("ALTER TABLE {table} ENABLE TRIGGER {name};")),
            );
        }
    }
    Ok(or_ok(
        "triggers",
        findings,
        "append-only triggers",
        format!(
            "enabled always on {}, and no others",
            counted(tables, "table", "tables")
        ),
    ))
}

/// The triggers that a table must have, as Postgres writes them.
fn expected_triggers(relation: &Relation) -> Vec<(&'static str, String)> {
    let name = &relation.name;
    let calls = "EXECUTE FUNCTION audit.refuse_change()";
    let mut triggers = vec![(
        "append_only",
        format!(
            "CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON {name} \
                 FOR EACH STATEMENT {calls}"
        ),
    )];
    // Those for each row are of the leaves.
    if relation.kind == "r" {
        triggers.push((
            "append_only_rows",
            format!("CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON {name} FOR EACH ROW {calls}"),
        ));
    }
    triggers
}

fn compare_trigger(
    table: &str,
    name: &str,
    expected: &str,
    found: Option<Trigger>,
) -> Option<Finding> {
    let enable = format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name};");
    let finding = match found {
        None => Finding::problem(
            "triggers",
            table,
            format!("trigger {name} is missing: rows may be changed"),
        )
        .expected(expected)
        .advice(format!("{expected}; {enable}")),
        Some(trigger) if trigger.statement != expected => Finding::problem(
            "triggers",
            table,
            format!("trigger {name} is another one: {}", trigger.statement),
        )
        .expected(expected)
        .advice(format!(
            "DROP TRIGGER {name} ON {table}; {expected}; {enable}"
        )),
        Some(trigger) if trigger.enabled != "A" => {
            let found = if trigger.enabled == "D" {
                "is disabled"
            } else {
                "is not enabled for every session_replication_role"
            };
            Finding::problem(
                "triggers",
                table,
                format!("trigger {name} {found}: rows may be changed"),
            )
            .expected("enabled always")
            .advice(enable)
        }
        Some(_) => return None,
    };
    Some(finding)
}

async fn rules(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let findings = look
        .rows::<(String, String)>(RULES)
        .await?
        .into_iter()
        .map(|(table, rule)| {
            let rule = quoted(&rule);
            Finding::problem(
                "rules",
                &table,
                format!("rule {rule} may swallow rows, or do something else in their place"),
            )
            .expected("no rule")
            .advice(format!("DROP RULE {rule} ON {table};"))
        })
        .collect();
    Ok(or_ok("rules", findings, "rules", "none on any table"))
}

/// Against ALTER and DROP; only a superuser can have made them.
async fn event_triggers(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let found: BTreeMap<String, String> = look
        .rows::<(String, String)>(EVENT_TRIGGERS)
        .await?
        .into_iter()
        .collect();
    let has_schema = look.rows::<(bool,)>(HAS_GUARD).await? == [(true,)];
    if !has_schema && !GUARDS.iter().any(|(name, _, _)| found.contains_key(*name)) {
        let finding = Finding::warning(
            "event_triggers",
            "audit_guard",
            "nothing keeps the owner of the tables from altering or dropping them: no \
             superuser migrated",
        )
        .expected("event triggers audit_refuse_ddl and audit_refuse_drop")
        .advice(format!(
            "Run `tracing-audit migrate` as a superuser, or these statements:\n{}",
            sources::GUARD
        ));
        return Ok(vec![finding]);
    }
    let mut findings = Vec::new();
    for (name, event, expected) in GUARDS {
        let create = format!(
            "CREATE EVENT TRIGGER {name} ON {event} EXECUTE FUNCTION \
                 audit_guard.refuse_ddl(); ALTER EVENT TRIGGER {name} ENABLE ALWAYS;"
        );
        let finding = match found.get(name) {
            Some(found) if found == expected => continue,
            Some(found) => Finding::problem("event_triggers", name, found)
                .advice(format!("DROP EVENT TRIGGER {name}; {create}")),
            None => Finding::problem(
                "event_triggers",
                name,
                "it is missing: the tables may be altered or dropped",
            )
            .advice(create),
        };
        findings.push(finding.expected(expected));
    }
    Ok(or_ok(
        "event_triggers",
        findings,
        "event triggers",
        "both are enabled always",
    ))
}
