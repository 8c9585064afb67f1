//! Which columns of a row are hashed, and in which order. Frozen: format 1.
//!
//! The *core* of a row stays for as long as the row; its *content* may be erased, and the core is
//! still proven then. `audit.leaf_columns` has the same lists for the database.

use crate::vocabulary::{Kind, Table};

/// The columns of a table, in the order in which they are hashed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    /// The columns that stay.
    pub core: &'static [&'static str],
    /// The columns that may be erased; the first is the salt.
    pub content: &'static [&'static str],
}

const QUERY_RUNS: Layout = Layout {
    core: &[
        "id",
        "writer_id",
        "seq",
        "tenant_id",
        "parent_id",
        "agent_id",
        "llm_session_id",
        "request_id",
        "trace_id",
        "span_id",
        "service_name",
        "status",
        "started_at",
        "finished_at",
        "duration_ms",
        "datasource_id",
        "row_count",
        "rows_affected",
    ],
    content: &[
        "salt",
        "user_id",
        "user_role",
        "conversation_id",
        "error_code",
        "error_message",
        "question_text",
        "sql_text",
        "sql_summary",
        "metadata",
        "problems",
        "redactions",
    ],
};

const PROMPT_RUNS: Layout = Layout {
    core: &[
        "id",
        "writer_id",
        "seq",
        "tenant_id",
        "parent_id",
        "agent_id",
        "llm_session_id",
        "request_id",
        "trace_id",
        "span_id",
        "service_name",
        "status",
        "created_at",
        "finished_at",
        "duration_ms",
        "model_name",
        "provider",
        "prompt_template_version",
        "input_token_count",
        "output_token_count",
    ],
    content: &[
        "salt",
        "user_id",
        "user_role",
        "conversation_id",
        "error_code",
        "error_message",
        "prompt_template_name",
        "rendered_prompt",
        "response_text",
        "role",
        "metadata",
        "problems",
        "redactions",
    ],
};

/// That of events, and of the tables that have their columns.
const EVENTS: Layout = Layout {
    core: &[
        "id",
        "writer_id",
        "seq",
        "tenant_id",
        "parent_id",
        "agent_id",
        "llm_session_id",
        "request_id",
        "trace_id",
        "span_id",
        "service_name",
        "status",
        "created_at",
        "latency_ms",
        "action_type",
    ],
    content: &[
        "salt",
        "user_id",
        "user_role",
        "conversation_id",
        "error_code",
        "error_message",
        "target_type",
        "target_id",
        "input_summary",
        "output_summary",
        "metadata",
        "problems",
        "redactions",
    ],
};

/// The name of the table of dead letters.
pub const DEAD_LETTERS_TABLE: &str = "dead_letters";

/// The columns of `audit.dead_letters`, but for `created_at`, which is its batch's `committed_at`.
pub const DEAD_LETTERS: Layout = Layout {
    core: &["writer_id", "seq", "record_id", "kind", "sqlstate"],
    content: &["salt", "reason", "frame"],
};

impl Layout {
    /// Returns the columns of a record table.
    pub fn of(table: Table) -> Self {
        match table.kind() {
            Kind::QueryRun => QUERY_RUNS,
            Kind::PromptRun => PROMPT_RUNS,
            Kind::Event => EVENTS,
        }
    }

    /// Returns all columns, the core first.
    pub fn columns(self) -> impl Iterator<Item = &'static str> {
        self.core.iter().chain(self.content).copied()
    }
}
