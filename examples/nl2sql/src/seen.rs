//! What the program itself saw: kept apart from the library, to hold the trail against.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{answer::Request, databases::stable_uuid, replay};

/// How a query run ended, as far as the program knows.
#[derive(Debug)]
pub(crate) enum Outcome {
    Rows(usize),
    Failed(QueryError),
    /// The run was dropped unfinished, and the trail can know.
    Cancelled,
    /// The run was dropped unfinished, and the trail can't know.
    Unknown,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("not a query: only SELECT is allowed")]
    Rejected,
    #[error("{message}")]
    Statement { sqlstate: String, message: String },
    #[error("the database did not answer")]
    Database(#[source] sqlx::Error),
}

impl QueryError {
    /// The SQLSTATE, when there is one.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Rejected => "not_a_query",
            Self::Statement { sqlstate, .. } => sqlstate,
            Self::Database(_) => "no_answer",
        }
    }
}

impl From<sqlx::Error> for QueryError {
    fn from(error: sqlx::Error) -> Self {
        let statement = error.as_database_error().map(|database| Self::Statement {
            sqlstate: database.code().unwrap_or_default().into_owned(),
            message: database.message().to_owned(),
        });
        statement.unwrap_or(Self::Database(error))
    }
}

/// One record as it must be in the trail.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) table: &'static str,
    /// `None` for a `tracing` event, which has no span that could be asked.
    pub(crate) id: Option<Uuid>,
    pub(crate) request: Uuid,
    /// Every column that must not be empty, as JSON.
    pub(crate) columns: Map<String, Value>,
    pub(crate) began: SystemTime,
    pub(crate) ended: SystemTime,
}

/// Notes the time just before a record begins, so that its times can be checked too.
#[derive(Debug)]
#[must_use]
pub(crate) struct Watch(SystemTime);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(SystemTime::now())
    }

    pub(crate) fn prompt_run(
        self,
        request: &Request,
        id: Uuid,
        prompt: &str,
        response: &str,
    ) -> Seen {
        self.seen(
            "prompt_runs",
            request,
            Some(id),
            json!({
                "model_name": replay::MODEL,
                "provider": replay::PROVIDER,
                "prompt_template_name": replay::TEMPLATE,
                "prompt_template_version": replay::TEMPLATE_VERSION,
                "rendered_prompt": prompt,
                "response_text": response,
                "role": "assistant",
                "input_token_count": replay::tokens(prompt),
                "output_token_count": replay::tokens(response),
                "status": "succeeded",
            }),
        )
    }

    pub(crate) fn query_run(
        self,
        request: &Request,
        id: Uuid,
        parent: Option<Uuid>,
        outcome: &Outcome,
    ) -> Seen {
        let (status, row_count, error) = match outcome {
            Outcome::Rows(rows) => ("succeeded", Some(*rows), None),
            Outcome::Failed(error @ QueryError::Rejected) => ("rejected", None, Some(error)),
            Outcome::Failed(error) => ("failed", None, Some(error)),
            Outcome::Cancelled => ("cancelled", None, None),
            Outcome::Unknown => ("unknown", None, None),
        };
        self.seen(
            "query_runs",
            request,
            Some(id),
            json!({
                "parent_id": parent,
                "datasource_id": request.database.id,
                "question_text": request.question.text,
                "sql_text": request.statement.sql,
                "row_count": row_count,
                "status": status,
                "error_code": error.map(QueryError::code),
                "error_message": error.map(ToString::to_string),
                "metadata": { "round": request.round },
            }),
        )
    }

    pub(crate) fn event(
        self,
        request: &Request,
        id: Option<Uuid>,
        action_type: &str,
        status: &str,
        delivered: bool,
    ) -> Seen {
        self.seen(
            "events",
            request,
            id,
            json!({
                "action_type": action_type,
                "target_type": "user",
                "target_id": request.person.user,
                "status": status,
                "metadata": { "delivered": delivered },
            }),
        )
    }

    /// Adds to a record's own columns what it inherits from its request.
    fn seen(self, table: &'static str, request: &Request, id: Option<Uuid>, own: Value) -> Seen {
        let mut columns = match own {
            Value::Object(columns) => columns,
            _ => Map::new(),
        };
        let tenant = Uuid::try_parse(request.person.tenant);
        let mut metadata = columns.remove("metadata").unwrap_or_else(|| json!({}));
        if tenant.is_err() {
            metadata["tenant_key"] = json!(request.person.tenant);
        }
        for (column, value) in [
            (
                "tenant_id",
                json!(tenant.unwrap_or_else(|_| stable_uuid("tenant", request.person.tenant))),
            ),
            ("user_id", json!(request.person.user)),
            ("user_role", json!(request.person.role)),
            ("agent_id", json!(request.agent)),
            ("request_id", json!(request.id)),
            ("llm_session_id", json!(request.session)),
            ("conversation_id", json!(request.conversation)),
            // A request id that is a UUID is the trace id, in every process that saw it.
            ("trace_id", json!(request.id.simple().to_string())),
            ("metadata", metadata),
            ("problems", json!([])),
            ("redactions", json!([])),
        ] {
            columns.insert(column.to_owned(), value);
        }
        Seen {
            table,
            id,
            request: request.id,
            columns,
            began: self.0,
            ended: SystemTime::now(),
        }
    }
}
