//! Keys and names, however an application writes them.

use std::fmt::Debug;

use serde_json::{Value, json};
use testkit::trail::Trail;
use tracing::info_span;
use tracing_audit::Kind;

/// Key types that applications have.
#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct TenantId<T>(T);

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct UserId<T>(T);

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
struct Key<T> {
    id: T,
}

#[derive(Debug)]
#[allow(dead_code, reason = "read by their Debug")]
enum Owner {
    Internal(&'static str),
    External(&'static str),
    Nobody(Option<&'static str>),
}

/// A person's name, which its Display writes in parts.
struct InParts(&'static str, &'static str);

impl std::fmt::Display for InParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({})", self.0, self.1)
    }
}

/// A name whose Display ignores the width.
struct Name(&'static str);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

#[test]
fn key_recorded_by_display_is_kept_verbatim() {
    let trail = Trail::start();
    let names = [
        "Acme(Norway)",
        "Beta(Norway)",
        "(acme)",
        "ns::tenant(c)",
        "urn:tenant(7)",
        "TenantId(acme)",
        "TenantId(\"acme\")",
        "TenantId { id: acme }",
        "TenantId(\n    acme,\n)",
        "Some(acme)",
        "Some(\"acme\")",
        "\"acme\"",
        "None",
        "TenantId(None)",
        "Err(\"acme\")",
        "Ok(acme)",
    ];
    trail.scoped(|| {
        let enclosing = info_span!(
            "request",
            tenant_id = "outside",
            user_id = "outside",
            user_role = "outside",
            request_id = "outside"
        );
        let _inside = enclosing.enter();
        for name in names {
            info_span!(
                "audit.event",
                action_type = name,
                target_type = "str",
                tenant_id = %name,
                user_id = %name,
                user_role = %name,
                request_id = %name,
                target_id = %name,
            );
            if name == "None" {
                continue;
            }
            let own = Name(name);
            info_span!(
                "audit.event",
                action_type = name,
                target_type = "own",
                tenant_id = %own,
                user_id = %own,
                user_role = %own,
                request_id = format_args!("{own}"),
                target_id = %own,
            );
        }
        info_span!("audit.event", action_type = "Acme(Norway)", tenant_id = %InParts("Acme", "Norway"), user_id = %InParts("Acme", "Norway"), user_role = %InParts("Acme", "Norway"), request_id = "Acme(Norway)", target_id = ?Name("Acme(Norway)"));
    });
    let rows = trail.rows(Kind::Event);
    assert_eq!(rows.len(), 2 * names.len());
    let sql = "SELECT count(*) FROM audit.events WHERE tenant_id IS DISTINCT FROM audit.tenant_uuid(action_type)";
    assert_eq!(trail.postgres.psql(sql).trim(), "0");
    for row in &rows {
        let name = &row["action_type"];
        for field in ["user_id", "user_role", "request_id", "target_id"] {
            assert_eq!(&row[field], name, "{field} {row}");
        }
        assert_eq!(&row["metadata"]["tenant_key"], name);
    }
}

#[test]
fn text_inside_a_debug_key_is_not_parsed_and_variants_are_distinct_keys() {
    let trail = Trail::start();
    let failed: Result<&str, &str> = Err("acme");
    trail.scoped(|| {
        let enclosing = info_span!("request", tenant_id = "outside", user_id = "outside");
        let _inside = enclosing.enter();
        info_span!("audit.event", action_type = "1", tenant_id = ?TenantId(Name("Acme(acme)")));
        info_span!("audit.event", action_type = "2", tenant_id = ?TenantId(Name("\"acme\"")));
        info_span!("audit.event", action_type = "3", tenant_id = ?Owner::Internal("acme"));
        info_span!("audit.event", action_type = "4", tenant_id = ?Owner::External("acme"));
        info_span!("audit.event", action_type = "5", tenant_id = ?failed, user_id = ?failed);
        info_span!("audit.event", action_type = "6", tenant_id = ?Ok::<_, ()>("acme"));
        info_span!("audit.event", action_type = "7", tenant_id = ?Owner::Nobody(None));
        info_span!(
            "audit.event",
            action_type = "8",
            tenant_id = &b"acme\xff"[..]
        );
        info_span!("audit.event", action_type = "9", tenant_id = "acme\0");
    });
    let mut rows = trail.rows(Kind::Event);
    rows.sort_by_key(|row| row["action_type"].to_string());
    let keys: Vec<_> = rows
        .iter()
        .map(|row| row["metadata"]["tenant_key"].as_str().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "TenantId(Acme(acme))",
            "TenantId(\"acme\")",
            "Internal(\"acme\")",
            "External(\"acme\")",
            "Err(\"acme\")",
            "acme",
            "Nobody(None)",
            "acme\u{fffd}",
            "acme\u{fffd}",
        ]
    );
    let has_tenant: Vec<_> = rows.iter().map(|row| !row["tenant_id"].is_null()).collect();
    assert_eq!(
        has_tenant,
        [true, true, true, true, false, true, true, false, false]
    );
    for (row, (key, is_doubtful)) in rows.iter().zip(
        keys.iter()
            .zip([true, true, true, true, true, false, true, true, true]),
    ) {
        let problems = row["problems"].as_array().unwrap().iter();
        let said = problems.filter(|problem| {
            let problem = problem.as_str().unwrap();
            problem.starts_with("tenant_id: ") && !problem.contains("differs")
        });
        assert_eq!(said.count(), usize::from(is_doubtful), "{key} {row}");
    }
    assert_eq!(rows[4]["user_id"], "Err(\"acme\")");
}

#[test]
fn tenant_key_recorded_by_debug_names_the_same_tenant() {
    let uuid = uuid::Uuid::from_u128(0x6f3b_8a52_7c1d_4e9a_9b0e_2f4d_5c6b_7a81);
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!("audit.event", action_type = "1", tenant_id = "acme");
        info_span!("audit.event", action_type = "2", tenant_id = ?TenantId("acme"));
        info_span!("audit.event", action_type = "3", tenant_id = ?Some(TenantId(Key { id: "acme" })));
        info_span!("audit.event", action_type = "4", tenant_id = ?Key { id: "ac\"me\\\n" });
        info_span!("audit.event", action_type = "5", tenant_id = ?TenantId(uuid));
        info_span!("audit.event", action_type = "6", tenant_id = ?TenantId(None::<u8>));
        info_span!("audit.event", action_type = "7", tenant_id = ?TenantId(("acme", "eu")));
        info_span!("audit.event", action_type = "8", tenant_id = format!("{:?}", TenantId("acme")));
    });
    let mut rows = trail.rows(Kind::Event);
    rows.sort_by_key(|row| row["action_type"].to_string());
    let sql = |key: &str| {
        let query = format!("SELECT audit.tenant_uuid({key})");
        json!(trail.postgres.psql(&query).trim())
    };
    let acme = (sql("'acme'"), json!("acme"), json!([]));
    let doubt = json!([
        "tenant_id: looks like a Debug text, kept as it is: record the key itself, as text or with %"
    ]);
    let expected = [
        acme.clone(),
        acme.clone(),
        acme,
        (sql(r#"E'ac"me\\\n'"#), json!("ac\"me\\\n"), json!([])),
        (json!(uuid), Value::Null, json!([])),
        (Value::Null, Value::Null, json!([])),
        (
            sql(r#"'TenantId(("acme", "eu"))'"#),
            json!(r#"TenantId(("acme", "eu"))"#),
            doubt.clone(),
        ),
        (
            sql(r#"'TenantId("acme")'"#),
            json!(r#"TenantId("acme")"#),
            doubt,
        ),
    ];
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(expected) {
        let tenant = row["tenant_id"].clone();
        let key = row["metadata"]["tenant_key"].clone();
        assert_eq!((tenant, key, row["problems"].clone()), expected, "{row}");
    }
}

#[test]
fn other_keys_recorded_by_debug_are_unwrapped_and_variants_are_kept() {
    #[derive(Debug)]
    #[allow(dead_code, reason = "read by their Debug")]
    enum Failure {
        Timeout(u8),
    }
    let uuid = uuid::Uuid::from_u128(0x6f3b_8a52_7c1d_4e9a_9b0e_2f4d_5c6b_7a81);
    let trail = Trail::start();
    trail.scoped(|| {
        info_span!(
            "audit.query_run",
            user_id = ?UserId(42),
            request_id = ?TenantId(uuid),
            conversation_id = ?Key { id: Some("c") },
            agent_id = ?TenantId(uuid),
            llm_session_id = ?Key { id: uuid },
            datasource_id = ?TenantId(TenantId(uuid)),
            user_role = ?Some("analyst"),
            error_code = ?Failure::Timeout(30),
            row_count = ?TenantId(5),
            sql_text = "first",
        );
        info_span!("audit.query_run", sql_text = "other", user_id = ?("a", "b"), agent_id = ?TenantId("junk"));
    });
    let mut rows = trail.rows(Kind::QueryRun);
    rows.sort_by_key(|row| row["sql_text"].to_string());
    let row = &rows[0];
    let uuid = uuid.to_string();
    for (field, expected) in [
        ("user_id", "42"),
        ("request_id", &uuid),
        ("conversation_id", "c"),
        ("agent_id", &uuid),
        ("llm_session_id", &uuid),
        ("datasource_id", &uuid),
        ("user_role", "analyst"),
        ("error_code", "Timeout(30)"),
    ] {
        assert_eq!(row[field], expected, "{field}");
    }
    assert_eq!(row["row_count"], 5);
    assert_eq!(row["trace_id"], uuid.replace('-', ""));
    assert_eq!(row["problems"], json!([]));
    assert_eq!(rows[1]["user_id"], r#"("a", "b")"#);
    assert_eq!(rows[1]["metadata"]["agent_id"], r#"TenantId("junk")"#);
    assert_eq!(rows[1]["problems"].as_array().unwrap().len(), 2);
}
