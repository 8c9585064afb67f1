//! A record as typed values, one for each column.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;
use uuid::Uuid;

use crate::record::decode::{self, DecodeError};
use crate::record::row::{Cell, Row};
use crate::vocabulary::{Activities, Field, Kind, Status, Table};

/// A record of a [`Trail`](super::Trail), with the values that its row in Postgres would have.
///
/// There is a method for each column. One of another kind's is `None`.
///
/// ```
/// use tracing_audit::{Event, Status, testing};
///
/// let trail = testing::capture();
/// trail.record(Event::new("report.exported").user_id("alice").status(Status::Succeeded).metadata("pages", 7));
///
/// let event = trail.events().one();
/// assert_eq!(event.action_type(), Some("report.exported"));
/// assert_eq!(event.user_id(), Some("alice"));
/// assert_eq!(event.sql_text(), None);
/// assert_eq!(event.metadata()["pages"], 7);
/// assert!(event.problems().is_empty(), "{event}");
/// ```
#[derive(Clone)]
pub struct Record(Arc<Inner>);

struct Inner {
    row: Row<'static>,
    metadata: Json,
    table: Table,
}

/// Defines the methods of the columns that a field has.
macro_rules! columns {
    ($( $name:ident = $field:ident: $read:ident -> $ty:ty; )*) => {
        impl Record {
            $(
                #[doc = concat!("Returns the column `", stringify!($name), "`.")]
                pub fn $name(&self) -> Option<$ty> {
                    self.$read(Field::$field)
                }
            )*
        }
    };
}

columns! {
    tenant_id = TenantId: uuid -> Uuid;
    user_id = UserId: text -> &str;
    user_role = UserRole: text -> &str;
    agent_id = AgentId: uuid -> Uuid;
    request_id = RequestId: text -> &str;
    llm_session_id = LlmSessionId: uuid -> Uuid;
    conversation_id = ConversationId: text -> &str;
    error_code = ErrorCode: text -> &str;
    error_message = ErrorMessage: text -> &str;
    datasource_id = DatasourceId: uuid -> Uuid;
    question_text = QuestionText: text -> &str;
    sql_text = SqlText: text -> &str;
    sql_summary = SqlSummary: text -> &str;
    row_count = RowCount: int -> i32;
    rows_affected = RowsAffected: int -> i32;
    model_name = ModelName: text -> &str;
    provider = Provider: text -> &str;
    prompt_template_name = PromptTemplateName: text -> &str;
    prompt_template_version = PromptTemplateVersion: int -> i32;
    rendered_prompt = RenderedPrompt: text -> &str;
    response_text = ResponseText: text -> &str;
    role = Role: text -> &str;
    input_token_count = InputTokenCount: int -> i32;
    output_token_count = OutputTokenCount: int -> i32;
    action_type = ActionType: text -> &str;
    target_type = TargetType: text -> &str;
    target_id = TargetId: text -> &str;
    input_summary = InputSummary: text -> &str;
    output_summary = OutputSummary: text -> &str;
}

impl Record {
    pub(super) fn decode(frame: &[u8], activities: &Activities) -> Result<Self, DecodeError> {
        let row = Row::new(&decode::frame(frame)?)?.into_owned();
        let metadata = serde_json::from_str(&row.metadata).unwrap_or(Json::Null);
        let table = activities.table(row.kind, row.text(Field::ActionType));
        Ok(Self(Arc::new(Inner {
            row,
            metadata,
            table,
        })))
    }

    pub(super) fn cell(&self, field: Field) -> &Cell<'static> {
        self.0.row.cell(field)
    }

    fn text(&self, field: Field) -> Option<&str> {
        self.0.row.text(field)
    }

    fn int(&self, field: Field) -> Option<i32> {
        match self.cell(field) {
            Cell::Int(int) => Some(*int),
            _ => None,
        }
    }

    fn uuid(&self, field: Field) -> Option<Uuid> {
        match self.cell(field) {
            Cell::Uuid(id) => Some(*id),
            _ => None,
        }
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        self.0.row.kind
    }

    /// Returns the table that the row goes to, without the schema: `query_runs`, `prompt_runs`,
    /// `events` or `activities`.
    pub fn table_name(&self) -> &'static str {
        self.0.table.name()
    }

    /// Returns the column `id`.
    pub fn id(&self) -> Uuid {
        self.0.row.id
    }

    /// Returns the column `parent_id`: the record of the nearest enclosing audit span.
    pub fn parent_id(&self) -> Option<Uuid> {
        self.0.row.parent_id
    }

    /// Returns the column `status`.
    pub fn status(&self) -> Status {
        self.0.row.status
    }

    /// Returns the column `metadata`, an object.
    ///
    /// ```
    /// let trail = tracing_audit::testing::capture();
    /// let _guard = trail.set_default();
    /// tracing::info_span!("audit.query_run", cached = true);
    /// assert_eq!(trail.query_runs().one().metadata()["cached"], true);
    /// ```
    pub fn metadata(&self) -> &Json {
        &self.0.metadata
    }

    /// Returns the column `problems`: what could not be stored as it was recorded.
    ///
    /// ```
    /// let trail = tracing_audit::testing::capture();
    /// let _guard = trail.set_default();
    /// tracing::info_span!("audit.query_run", row_count = "many");
    /// assert_eq!(trail.query_runs().one().problems(), ["row_count: not an integer"]);
    /// ```
    pub fn problems(&self) -> &[String] {
        &self.0.row.problems
    }

    /// Returns the column `redactions`: what was redacted before the record was stored, by field and
    /// rule. Empty without `Builder::redact`.
    pub fn redactions(&self) -> &[String] {
        &self.0.row.redactions
    }

    /// Returns the key of a tenant that is not a UUID, as in `metadata.tenant_key`.
    pub fn tenant_key(&self) -> Option<&str> {
        self.0.metadata.get("tenant_key")?.as_str()
    }

    /// Returns the column `trace_id`: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        let id = u128::from_be_bytes(self.0.row.place.trace_id);
        format!("{id:032x}")
    }

    /// Returns the column `span_id`: 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        let id = u64::from_be_bytes(self.0.row.place.span_id);
        format!("{id:016x}")
    }

    /// Returns when the record began, to the microsecond: the column `started_at` or, of prompt
    /// runs and events, `created_at`.
    pub fn started_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.started_us().cast_unsigned())
    }

    /// Returns how long it took, to the microsecond: the column `duration_ms` or, of events,
    /// `latency_ms`.
    pub fn duration(&self) -> Option<Duration> {
        let us = self.0.row.duration_us?;
        Some(Duration::from_micros(us.cast_unsigned()))
    }

    pub(super) fn started_us(&self) -> i64 {
        self.0.row.started_us
    }
}

impl fmt::Debug for Record {
    /// Writes the same as [`Display`](fmt::Display).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
