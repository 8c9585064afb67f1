//! One question, answered within one request: a prompt run, a query run and an event.
//!
//! This is what an application looks like that has a trail. It does the same thing in
//! four ways on purpose, so that the comparison at the end covers all of them.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tracing::{Instrument, Span, field::Empty, info, info_span, instrument};
use tracing_audit::{Audit, AuditFutureExt, AuditSpanExt, Event, Status};
use uuid::Uuid;

use crate::{
    Result,
    broken::Statement,
    databases::Database,
    questions::Question,
    replay,
    seen::{Outcome, QueryError, Seen, Watch},
};

/// How the query run is written down; the requests take turns.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// `#[instrument(name = "audit.query_run", err)]`, after the prompt run.
    ByName,
    /// `#[instrument(target = "audit.query_run", err)]`: the span keeps its own name.
    ByTarget,
    /// A span and `audited()`, within the prompt run: the model calls the query as a tool.
    Tool,
    /// The same, with the span moved into a spawned task.
    Spawned,
}

#[derive(Debug)]
pub(crate) struct Person {
    /// A key or a UUID, as the host's own tables have it.
    pub(crate) tenant: &'static str,
    pub(crate) user: &'static str,
    pub(crate) role: &'static str,
}

const PEOPLE: [Person; 6] = [
    Person {
        tenant: "acme",
        user: "ada",
        role: "analyst",
    },
    Person {
        tenant: "4b7e2a90-55a1-4c0e-9d3c-0c8f6b1d2e77",
        user: "u-1017",
        role: "manager",
    },
    Person {
        tenant: "globex",
        user: "grace@globex.example",
        role: "analyst",
    },
    Person {
        tenant: "acme",
        user: "alan",
        role: "admin",
    },
    Person {
        tenant: "Zürich Süd",
        user: "urs",
        role: "auditor",
    },
    Person {
        tenant: "9d1c3f5e-7a2b-4e6d-8f90-a1b2c3d4e5f6",
        user: "u-2044",
        role: "analyst",
    },
];

const AGENT: Uuid = Uuid::from_u128(0x6e6c_3273_716c_4000_8000_0000_0000_0001);

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: Uuid,
    pub(crate) person: &'static Person,
    pub(crate) agent: Uuid,
    pub(crate) session: Uuid,
    pub(crate) conversation: String,
    pub(crate) question: Arc<Question>,
    pub(crate) database: Arc<Database>,
    pub(crate) statement: Arc<Statement>,
    pub(crate) round: usize,
    way: Way,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// Whether the statement was broken on purpose.
    pub(crate) broken: bool,
    pub(crate) seen: Vec<Seen>,
}

impl Request {
    pub(crate) fn new(
        number: usize,
        round: usize,
        question: Arc<Question>,
        database: Arc<Database>,
        statement: Statement,
    ) -> Self {
        Self {
            id: Uuid::new_v4(),
            person: &PEOPLE[number % PEOPLE.len()],
            agent: AGENT,
            session: Uuid::new_v4(),
            conversation: format!("{}-round-{round}", question.db),
            question,
            database,
            statement: Arc::new(statement),
            round,
            way: [Way::Tool, Way::ByName, Way::Spawned, Way::ByTarget][number % 4],
        }
    }

    /// Answers the question. What the request span carries, every record within it inherits.
    pub(crate) async fn answer(&self, audit: &Audit) -> Result<Answer> {
        let span = info_span!(
            "request",
            request_id = %self.id,
            tenant_id = self.person.tenant,
            user_id = self.person.user,
            user_role = self.person.role,
            agent_id = %self.agent,
            llm_session_id = %self.session,
            conversation_id = self.conversation,
        );
        self.answer_within_span(audit).instrument(span).await
    }

    async fn answer_within_span(&self, audit: &Audit) -> Result<Answer> {
        let prompt = replay::render(&self.question, &self.database);
        let mut seen = Vec::new();
        let outcome = match self.way {
            Way::ByName | Way::ByTarget => {
                let watch = Watch::start();
                let (id, response) = ask_model(&prompt, &self.statement.sql).await;
                seen.push(watch.prompt_run(self, id?, &prompt, &response));
                self.query_run(None, &mut seen).await?
            }
            Way::Tool | Way::Spawned => {
                let watch = Watch::start();
                let span = prompt_span(&prompt);
                let id = audit_id(&span)?;
                let (response, outcome) = async {
                    let response = replay::complete(&self.statement.sql).await;
                    let outcome = self.query_run(Some(id), &mut seen).await?;
                    record_response(&prompt, &response);
                    Result::<_>::Ok((response, outcome))
                }
                .instrument(span)
                .await?;
                seen.push(watch.prompt_run(self, id, &prompt, &response));
                outcome
            }
        };
        seen.push(self.event(audit, &outcome)?);
        Ok(Answer {
            outcome,
            broken: self.statement.broken,
            seen,
        })
    }

    async fn query_run(&self, parent: Option<Uuid>, seen: &mut Vec<Seen>) -> Result<Outcome> {
        let patience = self.statement.patience.unwrap_or(Duration::MAX);
        let mut id = None;
        let watch = Watch::start();
        // `None`: the future was dropped before it was finished.
        let result = match self.way {
            Way::ByName => timeout(patience, query_by_name(self, &mut id)).await.ok(),
            Way::ByTarget => timeout(patience, query_by_target(self, &mut id)).await.ok(),
            Way::Tool => {
                let span = self.query_span();
                id = span.audit_id();
                let run = run(self.database.clone(), self.statement.clone()).audited(span);
                timeout(patience, run).await.ok()
            }
            Way::Spawned => {
                let span = self.query_span();
                id = span.audit_id();
                let run = run(self.database.clone(), self.statement.clone()).audited(span);
                let mut task = tokio::spawn(run);
                let joined = if let Ok(joined) = timeout(patience, &mut task).await {
                    joined
                } else {
                    task.abort();
                    task.await
                };
                match joined {
                    Err(error) if error.is_cancelled() => None,
                    joined => Some(joined?),
                }
            }
        };
        let outcome = match result {
            Some(Ok(rows)) => Outcome::Rows(rows),
            Some(Err(error)) => Outcome::Failed(error),
            // `#[instrument]` does not see that its future was dropped, `audited()` does.
            None if matches!(self.way, Way::ByName | Way::ByTarget) => Outcome::Unknown,
            None => Outcome::Cancelled,
        };
        seen.push(watch.query_run(self, id.ok_or(NOT_AUDITED)?, parent, &outcome));
        Ok(outcome)
    }

    fn query_span(&self) -> Span {
        info_span!(
            "audit.query_run",
            datasource_id = %self.database.id,
            question_text = self.question.text,
            sql_text = self.statement.sql,
            round = self.round,
            row_count = Empty,
            status = Empty,
            error_code = Empty,
        )
    }

    /// Tells that the answer went out: as a `tracing` event by name and by target, as a span, and
    /// without `tracing`.
    fn event(&self, audit: &Audit, outcome: &Outcome) -> Result<Seen> {
        let delivered = matches!(outcome, Outcome::Rows(_));
        let (action_type, status) = if delivered {
            ("answer.delivered", "succeeded")
        } else {
            ("answer.withheld", "failed")
        };
        let watch = Watch::start();
        let id = match self.way {
            Way::ByName => {
                info!(
                    name: "audit.event",
                    action_type,
                    target_type = "user",
                    target_id = self.person.user,
                    status,
                    delivered,
                );
                None
            }
            Way::ByTarget => {
                info!(
                    target: "audit.event",
                    action_type,
                    target_type = "user",
                    target_id = self.person.user,
                    status,
                    delivered,
                );
                None
            }
            Way::Spawned => {
                let event = Event::new(action_type)
                    .target("user", self.person.user)
                    .status(if delivered {
                        Status::Succeeded
                    } else {
                        Status::Failed
                    })
                    .metadata("delivered", delivered);
                Some(audit.record(event)?)
            }
            Way::Tool => {
                let span = info_span!(
                    "audit.event",
                    action_type,
                    target_type = "user",
                    target_id = self.person.user,
                    status = Empty,
                    delivered,
                );
                span.record("status", status);
                Some(audit_id(&span)?)
            }
        };
        Ok(watch.event(self, id, action_type, status, delivered))
    }
}

#[instrument(
    name = "audit.query_run",
    skip_all,
    err,
    fields(
        datasource_id = %request.database.id,
        question_text = request.question.text,
        sql_text = request.statement.sql,
        round = request.round,
        row_count = Empty,
        status = Empty,
        error_code = Empty,
    )
)]
async fn query_by_name(request: &Request, id: &mut Option<Uuid>) -> Result<usize, QueryError> {
    *id = Span::current().audit_id();
    run(request.database.clone(), request.statement.clone()).await
}

#[instrument(
    target = "audit.query_run",
    skip_all,
    err,
    fields(
        datasource_id = %request.database.id,
        question_text = %request.question.text,
        sql_text = %request.statement.sql,
        round = request.round,
        row_count = Empty,
        status = Empty,
        error_code = Empty,
    )
)]
async fn query_by_target(request: &Request, id: &mut Option<Uuid>) -> Result<usize, QueryError> {
    *id = Span::current().audit_id();
    run(request.database.clone(), request.statement.clone()).await
}

/// Runs a statement and records in the current span what came of it.
async fn run(database: Arc<Database>, statement: Arc<Statement>) -> Result<usize, QueryError> {
    let span = Span::current();
    // A model that answers a question with anything but a query is not obeyed.
    if !statement.sql.starts_with("SELECT") && !statement.sql.starts_with("WITH") {
        let error = QueryError::Rejected;
        span.record("status", "rejected")
            .record("error_code", error.code());
        return Err(error);
    }
    match database
        .count_rows(&statement)
        .await
        .map_err(QueryError::from)
    {
        Ok(rows) => {
            span.record("row_count", rows);
            Ok(rows)
        }
        Err(error) => {
            span.record("error_code", error.code());
            Err(error)
        }
    }
}

#[instrument(
    name = "audit.prompt_run",
    skip_all,
    fields(
        model_name = replay::MODEL,
        provider = replay::PROVIDER,
        prompt_template_name = replay::TEMPLATE,
        prompt_template_version = replay::TEMPLATE_VERSION,
        rendered_prompt = prompt,
        role = "assistant",
        response_text = Empty,
        input_token_count = Empty,
        output_token_count = Empty,
    )
)]
async fn ask_model(prompt: &str, given: &str) -> (Result<Uuid>, String) {
    let response = replay::complete(given).await;
    record_response(prompt, &response);
    (audit_id(&Span::current()), response)
}

fn prompt_span(prompt: &str) -> Span {
    info_span!(
        "audit.prompt_run",
        model_name = replay::MODEL,
        provider = replay::PROVIDER,
        prompt_template_name = replay::TEMPLATE,
        prompt_template_version = replay::TEMPLATE_VERSION,
        rendered_prompt = prompt,
        role = "assistant",
        response_text = Empty,
        input_token_count = Empty,
        output_token_count = Empty,
    )
}

fn record_response(prompt: &str, response: &str) {
    Span::current()
        .record("response_text", response)
        .record("input_token_count", replay::tokens(prompt))
        .record("output_token_count", replay::tokens(response));
}

const NOT_AUDITED: &str = "a tagged span has no audit id: is the layer installed?";

fn audit_id(span: &Span) -> Result<Uuid> {
    Ok(span.audit_id().ok_or(NOT_AUDITED)?)
}
