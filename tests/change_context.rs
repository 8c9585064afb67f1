//! The context of a span reaches the changes that its transaction makes to a tracked table.

#![allow(
    clippy::unwrap_used,
    reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
)]

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testkit::trail::{PATIENCE, Trail};
use tracing::info_span;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn change(url: &str, statement: impl sqlx::SqlSafeStr) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let context = tracing_audit::context();
    context.apply(&mut *transaction).await.unwrap();
    sqlx::query(statement)
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    // What it said ended with the transaction.
    let left: Option<String> = sqlx::query_scalar("SELECT current_setting('app.user_id', true)")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(left.unwrap_or_default(), "");
}

/// Starts a trail with a tracked table, and returns the URL of a login that may change the table.
fn tracked() -> (Trail, String) {
    let trail = Trail::start();
    tracing_audit::migrate(&trail.postgres.url()).unwrap();
    trail.postgres.psql(
        "CREATE TABLE public.mandates (id int PRIMARY KEY, limit_cents bigint);
         SELECT audit.track('public.mandates');
         CREATE ROLE shop LOGIN; GRANT ALL ON public.mandates TO shop",
    );
    let url = trail.postgres.url().replace("postgres@", "shop@");
    (trail, url)
}

#[test]
fn change_has_the_context_of_the_span_around_its_transaction() {
    let (trail, url) = tracked();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tried = trail.scoped(|| {
        let request = info_span!(
            "request",
            request_id = "r-7",
            tenant_id = "acme",
            user_role = "accountant",
            agent_id = "0198f1d3-0000-7000-8000-000000000042",
            llm_session_id = "0198f1d3-0000-7000-8000-000000000043",
            conversation_id = "c-7",
            traceparent = TRACEPARENT,
        );
        let _in_request = request.enter();
        tracing_audit::context().user("alice");
        let span = info_span!("audit.event", action_type = "mandate.changed");
        let _in_span = span.enter();
        runtime.block_on(change(
            &url,
            "INSERT INTO public.mandates VALUES (7, 50000)",
        ));
        tracing_audit::AuditSpanExt::audit_id(&span).unwrap()
    });
    // Outside of all spans nothing is said.
    runtime.block_on(change(
        &url,
        "UPDATE public.mandates SET limit_cents = 60000",
    ));
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let told = trail.postgres.psql(
        "SELECT user_id, user_role, tenant_id = audit.tenant_uuid('acme'), agent_id, request_id, llm_session_id, conversation_id, parent_id, trace_id,
            metadata ->> 'login', metadata ->> 'tenant_key', problems
         FROM audit.events WHERE action_type = 'change' ORDER BY id",
    );
    let expected = format!(
        "alice|accountant|t|0198f1d3-0000-7000-8000-000000000042|r-7|0198f1d3-0000-7000-8000-000000000043|c-7|{tried}|4bf92f3577b34da6a3ce929d0e0e4736|shop|acme|{{}}\n\
         shop|||||||||shop||{{}}"
    );
    assert_eq!(told, expected);
}

#[test]
fn change_is_in_the_trace_of_the_record_that_it_lies_in() {
    let (trail, url) = tracked();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let uuid = "0198f1d3-0000-7000-8000-000000000044";
    trail.scoped(|| {
        for (id, request_id) in [(1, Some("r-8")), (2, Some(uuid)), (3, None)] {
            let request = info_span!("audit.event", action_type = "asked", request_id);
            let _in_request = request.enter();
            let insert = format!("INSERT INTO public.mandates VALUES ({id}, 1)");
            runtime.block_on(change(&url, AssertSqlSafe(insert)));
        }
        // Not in a record, but in a request.
        let request = info_span!("request", request_id = "r-8");
        let _in_request = request.enter();
        runtime.block_on(change(&url, "DELETE FROM public.mandates WHERE id = 1"));
    });
    trail.audit.flush_blocking(PATIENCE).unwrap();
    let told = trail.postgres.psql(
        "SELECT c.request_id, c.trace_id = r.trace_id FROM audit.events c JOIN audit.events r
             ON r.id = c.parent_id OR c.parent_id IS NULL AND r.request_id = c.request_id AND r.action_type = 'asked'
         WHERE c.action_type = 'change' ORDER BY c.id",
    );
    assert_eq!(told, format!("r-8|t\n{uuid}|t\n|t\nr-8|t"));
}
