//! The service: its request span, its login and its one method.

use sqlx::PgPool;
use tonic::{Request, Response, Status, transport::server::TcpConnectInfo};
use tracing::{Span, field::Empty, info, instrument};
use tracing_audit::{AuditFutureExt, AuditRequestLayer, RequestSettings, TakeIds};

use crate::{Answer, Question, api::answers_server::Answers};

/// The sessions: token, tenant and user. A real service has them in its database.
const SESSIONS: [(&str, &str, &str); 2] =
    [("ada-7", "acme", "ada"), ("grace-9", "globex", "grace")];

/// What can be asked. A model would write the SQL; here it is fixed, and harmless.
const CATALOGUE: [(&str, &str); 2] = [
    (
        "How large is this database?",
        "SELECT pg_database_size(current_database())::text",
    ),
    (
        "What is one divided by nothing?",
        "SELECT (1 / (oid::int - oid::int))::text FROM pg_type",
    ),
];

/// Opens the span of each request, and records it. The request's id is the caller's, which is a
/// service of ours, and `traceparent` puts the records below the caller's in the trace.
pub(crate) fn request_layer() -> AuditRequestLayer {
    let settings = RequestSettings::new().take_ids(TakeIds::Always);
    AuditRequestLayer::grpc().settings(settings).peer(|parts| {
        let connection = parts.extensions.get::<TcpConnectInfo>()?;
        Some(connection.remote_addr()?.ip())
    })
}

/// Checks the login, within the request's span.
pub(crate) fn login(request: Request<()>) -> Result<Request<()>, Status> {
    let header = request
        .metadata()
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer "));
    let session = SESSIONS.iter().find(|(known, ..)| Some(*known) == token);
    let Some((_, tenant, user)) = session else {
        // A record of an instant, as a `tracing` event.
        info!(name: "audit.event", action_type = "login", status = "rejected");
        return Err(Status::unauthenticated("log in first"));
    };
    tracing_audit::context().tenant(tenant).user(user);
    Ok(request)
}

pub(crate) struct Service(pub(crate) PgPool);

#[tonic::async_trait]
impl Answers for Service {
    async fn ask(&self, request: Request<Question>) -> Result<Response<Answer>, Status> {
        let question = request.into_inner().text;
        let known = CATALOGUE.iter().find(|(known, _)| *known == question);
        let (_, sql) = known.ok_or_else(|| Status::not_found("no such question"))?;
        let rows = run(&self.0, &question, sql).await;
        // Why there are none is in the trail, under the request's id.
        let rows = rows.map_err(|_| Status::internal("no answer"))?;
        Ok(Response::new(Answer { rows }))
    }
}

#[instrument(
    name = "audit.query_run",
    skip_all,
    fields(question_text = question, sql_text = sql, row_count = Empty),
    err
)]
async fn run(pool: &PgPool, question: &str, sql: &'static str) -> sqlx::Result<Vec<String>> {
    let query = sqlx::query_scalar(sql).fetch_all(pool);
    let rows = query.audited(Span::current()).await?;
    Span::current().record("row_count", rows.len());
    Ok(rows)
}
