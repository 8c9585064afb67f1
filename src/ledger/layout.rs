//! Which columns of a row are hashed, and in which order. Frozen: format 1.
//!
//! The *core* of a row stays for as long as the row; its *content* may be erased, and the core is
//! still proven then. `audit.leaf_columns` has the same lists for the database.

/// The columns of a table, in the order in which they are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The name of the table in the schema `audit`.
    pub table: &'static str,
    /// What stays for as long as the row.
    pub core: &'static [&'static str],
    /// What may be erased. The salt is the first.
    pub content: &'static [&'static str],
}

impl Columns {
    /// Returns the columns of a table; `None` if its rows are in no ledger.
    pub fn of(table: &str) -> Option<&'static Self> {
        TABLES.iter().find(|columns| columns.table == table)
    }

    /// Returns the columns of the dead letters, but for `created_at`, which is their batch's `committed_at`.
    pub fn of_dead_letters() -> &'static Self {
        &TABLES[TABLES.len() - 1]
    }

    /// Returns all columns, the core first.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        self.core.iter().chain(self.content).copied()
    }
}

const EVENT_CORE: &[&str] = &[
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
];

const EVENT_CONTENT: &[&str] = &[
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
];

/// All tables, in the order of their rows in a batch.
pub const TABLES: [Columns; 5] = [
    Columns {
        table: "query_runs",
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
    },
    Columns {
        table: "prompt_runs",
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
    },
    Columns {
        table: "events",
        core: EVENT_CORE,
        content: EVENT_CONTENT,
    },
    Columns {
        table: "activities",
        core: EVENT_CORE,
        content: EVENT_CONTENT,
    },
    Columns {
        table: "dead_letters",
        core: &["writer_id", "seq", "record_id", "kind", "sqlstate"],
        content: &["salt", "reason", "frame"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_no_table_are_named_twice() {
        for columns in TABLES {
            let mut names: Vec<_> = columns.core.iter().chain(columns.content).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{}", columns.table);
            assert_eq!(columns.content[0], "salt");
            assert_eq!(Columns::of(columns.table), Some(&columns));
        }
        assert_eq!(Columns::of("batches"), None);
    }
}
