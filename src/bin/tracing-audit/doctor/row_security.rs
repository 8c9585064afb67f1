//! Row-level security: what keeps rows from being seen by the wrong tenant.

use std::collections::BTreeMap;

use super::finding::{Finding, counted, or_ok};
use super::look::{self, Look, Part, Relation};
use super::roles::quoted;

/// Every policy: its table, its name, and the rest of the statement that makes it.
const POLICIES: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), p.polname::text, concat(
        CASE WHEN NOT p.polpermissive THEN 'AS RESTRICTIVE ' END,
        'FOR ', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
            WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
        ' TO ', (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r)::text END, ', '
            ORDER BY pg_get_userbyid(r)) FROM unnest(p.polroles) r),
        ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
        ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('audit', 'audit_parts') ORDER BY 1, 2";

/// Row-level security and its policies.
pub(crate) async fn check(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = row_security(relations);
    findings.extend(policies(look, relations).await?);
    Ok(findings)
}

/// Enabled and forced on every table, and off on the leaves, to which nobody but the writer has a right.
fn row_security(relations: &[Relation]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tables = 0;
    for relation in relations {
        let name = &relation.name;
        match relation.part() {
            Part::Table(_) => {
                tables += 1;
                if !relation.has_rls {
                    findings.push(
                        Finding::problem(
                            "row_security",
                            name,
                            "row-level security is off: every reader sees all tenants' rows",
                        )
                        .expected("enabled and forced")
                        .advice(format!(
                            "ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW \
                                 LEVEL SECURITY;"
                        )),
                    );
                } else if !relation.forces_rls {
                    findings.push(
                        Finding::problem(
                            "row_security",
                            name,
                            "row-level security is not forced: its owner sees all rows",
                        )
                        .expected("enabled and forced")
                        .advice(format!("ALTER TABLE {name} FORCE ROW LEVEL SECURITY;")),
                    );
                }
            }
            Part::Leaf(_) if relation.has_rls => findings.push(
                Finding::problem(
                    "row_security",
                    name,
                    "row-level security is on for a partition: the writer cannot add to it",
                )
                .expected("off: rows are read through the table that it is a partition of")
                .advice(format!(
                    "ALTER TABLE {name} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;"
                )),
            ),
            _ => {}
        }
    }
    or_ok(
        "row_security",
        findings,
        "row-level security",
        format!(
            "enabled and forced on {}",
            counted(tables, "table", "tables")
        ),
    )
}

/// Exactly those that the migrations make.
async fn policies(
    look: &mut Look<'_>,
    relations: &[Relation],
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut found: BTreeMap<(String, String), String> = look
        .rows::<(String, String, String)>(POLICIES)
        .await?
        .into_iter()
        .map(|(table, name, text)| ((table, name), text))
        .collect();
    let mut findings = Vec::new();
    for relation in relations {
        let Part::Table(model) = relation.part() else {
            continue;
        };
        let table = &relation.name;
        for (name, expected) in model.policies {
            let found = found.remove(&(table.clone(), (*name).to_owned()));
            let create = format!("CREATE POLICY {name} ON {table} {expected};");
            let finding = match found {
                Some(found) if found == *expected => continue,
                Some(found) => {
                    Finding::problem("policies", table, format!("policy {name}: {found}"))
                        .advice(format!("DROP POLICY {name} ON {table}; {create}"))
                }
                None => Finding::problem("policies", table, format!("policy {name} is missing"))
                    .advice(create),
            };
            findings.push(finding.expected(*expected));
        }
    }
    for ((table, name), text) in found {
        // What lies there and is none of the trail's is told of as such.
        if look::is_stray(relations, &table) {
            continue;
        }
        findings.push(
            Finding::problem(
                "policies",
                &table,
                format!("policy {name}, which is none of the trail's: {text}"),
            )
            .expected("no other policy")
            .advice(format!("DROP POLICY {} ON {table};", quoted(&name))),
        );
    }
    Ok(or_ok(
        "policies",
        findings,
        "policies",
        "those of the migrations and no others",
    ))
}
