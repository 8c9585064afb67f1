//! The functions: those of the migrations, unchanged, and no others.

use std::collections::{BTreeMap, HashSet};

use super::expected;
use super::finding::{Finding, counted, or_ok};
use super::look::Look;
use super::sources::{self, Body, Function};

/// Every function of the trail's schemas.
const FUNCTIONS: &str = "
    SELECT jsonb_build_object(
        'signature', format('%s.%s(%s)', n.nspname, p.proname,
            (SELECT string_agg(format_type(t, NULL), ', ' ORDER BY o) FROM unnest(p.proargtypes) WITH ORDINALITY a (t, o))),
        'statement_name', p.oid::regprocedure::text,
        'kind', p.prokind, 'language', l.lanname, 'is_definer', p.prosecdef, 'volatility', p.provolatile,
        'is_strict', p.proisstrict, 'settings', coalesce(p.proconfig, '{}'),
        'source', p.prosrc, 'expression', pg_get_function_sqlbody(p.oid))::text
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
    WHERE n.nspname IN ('audit', 'audit_parts', 'audit_guard') ORDER BY 1";

/// Whether the schema of the event triggers is there.
const HAS_GUARD: &str = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'audit_guard')";

/// A function as the database has it.
#[derive(Debug)]
struct Found {
    statement_name: String,
    language: String,
    is_definer: bool,
    volatility: String,
    is_strict: bool,
    settings: Vec<String>,
    source: String,
    expression: Option<String>,
}

/// The functions of the trail.
pub(crate) async fn check(look: &mut Look<'_>) -> Result<Vec<Finding>, sqlx::Error> {
    let has_guard = look.rows::<(bool,)>(HAS_GUARD).await? == [(true,)];
    let mut found = read(look).await?;
    let mut findings = Vec::new();
    let mut known = HashSet::new();
    for function in sources::functions() {
        let signature = function.signature();
        // Without the schema that only a superuser makes, it is told of with the event triggers.
        if function.schema == "audit_guard" && !has_guard {
            continue;
        }
        match found.remove(&signature) {
            None => findings.push(
                Finding::problem("functions", &signature, "there is no such function")
                    .expected("the one of the migrations")
                    .advice(make(&function)),
            ),
            Some(found) => findings.extend(compare(&function, &found)),
        }
        known.insert(signature);
    }
    for (signature, found) in found {
        let rights = if found.is_definer {
            ", and acts with the rights of its owner"
        } else {
            ""
        };
        findings.push(
            Finding::problem(
                "functions",
                &signature,
                format!("it is none of the trail's{rights}"),
            )
            .expected(
                "no other function in the schemas of the trail: one could be called in \
                     place of ours",
            )
            .advice(format!("DROP ROUTINE {};", found.statement_name)),
        );
    }
    Ok(or_ok(
        "functions",
        findings,
        "functions",
        format!(
            "{} are as the migrations make them, and there is no other",
            counted(known.len(), "function", "functions")
        ),
    ))
}

/// The statements that make a function that is not there.
fn make(function: &Function) -> String {
    let (signature, statement) = (function.signature(), &function.statement);
    if function.schema != "audit" {
        return statement.clone();
    }
    let callers = match expected::callers(function.name) {
        [] => String::new(),
        callers => format!(
            " GRANT EXECUTE ON FUNCTION {signature} TO {};",
            callers.join(", ")
        ),
    };
    format!(
        "{statement}\nALTER FUNCTION {signature} OWNER TO audit_maintainer; REVOKE ALL \
             ON FUNCTION {signature} FROM PUBLIC;{callers}"
    )
}

async fn read(look: &mut Look<'_>) -> Result<BTreeMap<String, Found>, sqlx::Error> {
    let mut functions = BTreeMap::new();
    for (json,) in look.rows::<(String,)>(FUNCTIONS).await? {
        let function: serde_json::Value =
            serde_json::from_str(&json).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let text = |name: &str| function[name].as_str().unwrap_or_default().to_owned();
        let mut settings: Vec<String> = function["settings"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|setting| lower_name(setting.as_str()?))
            .collect();
        settings.sort();
        functions.insert(
            text("signature"),
            Found {
                statement_name: text("statement_name"),
                language: text("language"),
                is_definer: function["is_definer"] == true,
                volatility: text("volatility"),
                is_strict: function["is_strict"] == true,
                settings,
                source: text("source"),
                expression: function["expression"].as_str().map(str::to_owned),
            },
        );
    }
    Ok(functions)
}

/// `name=value` with the name in lower case.
fn lower_name(setting: &str) -> Option<String> {
    let (name, value) = setting.split_once('=')?;
    Some(format!("{}={value}", name.to_lowercase()))
}

/// What of a function is not as the migrations make it.
fn compare(function: &Function, found: &Found) -> Option<Finding> {
    let mut differences = Vec::new();
    let is_same_body = match function.body {
        Body::Text(body) => body == found.source && found.expression.is_none(),
        Body::Expression(body) => found.expression.as_deref().is_some_and(|found| {
            sources::essence(found) == format!("return{}", sources::essence(body))
        }),
    };
    if !is_same_body {
        differences.push("its body is another one".to_owned());
    }
    if found.language != function.language {
        differences.push(format!("its language is {}", found.language));
    }
    match (function.is_definer, found.is_definer) {
        (true, false) => differences.push("it is not SECURITY DEFINER".to_owned()),
        (false, true) => differences.push("it is SECURITY DEFINER".to_owned()),
        _ => {}
    }
    if found.settings != function.settings {
        differences.push(match found.settings.as_slice() {
            [] => "no settings are pinned".to_owned(),
            settings => format!("its settings are {}", settings.join("; ")),
        });
    }
    if found.volatility != function.volatility {
        differences.push("its volatility is another one".to_owned());
    }
    if found.is_strict != function.is_strict {
        differences.push("it treats NULL in another way".to_owned());
    }
    if differences.is_empty() {
        return None;
    }
    let expected = if function.settings.is_empty() {
        "as in the migrations".to_owned()
    } else {
        format!(
            "as in the migrations, with {}",
            function.settings.join("; ")
        )
    };
    Some(
        Finding::problem("functions", function.signature(), differences.join(", "))
            .expected(expected)
            .advice(&function.statement),
    )
}
