//! What must be in the catalog, as the migrations make it.
//!
//! Columns, rights and policies are listed here once more, so that a mistake in a migration shows as well. Functions
//! are taken from the migrations' text: see `sources`.

/// The roles of the trail.
pub(crate) const ROLES: [&str; 6] = [
    "audit_owner",
    "audit_maintainer",
    "audit_writer",
    "audit_reader",
    "audit_auditor",
    "audit_operator",
];

/// The roles that logins are made members of.
pub(crate) const LOGIN_ROLES: [&str; 4] = [
    "audit_writer",
    "audit_reader",
    "audit_auditor",
    "audit_operator",
];

/// The values of `audit.run_status`.
pub(crate) const STATUSES: &str = "succeeded, failed, cancelled, rejected, unknown";

/// A privilege of a role: `(role, privilege)`.
pub(crate) type Grant = (&'static str, &'static str);

/// A policy: its name, and the rest of the statement that makes it, as Postgres writes it.
pub(crate) type Policy = (&'static str, &'static str);

const AUDITOR: Policy = ("auditor", "FOR SELECT TO audit_auditor USING (true)");
const MAINTAINER: Policy = ("maintainer", "FOR SELECT TO audit_maintainer USING (true)");
const OPERATOR: Policy = ("operator", "FOR SELECT TO audit_operator USING (true)");
const ADDING: Policy = ("adding", "FOR INSERT TO audit_maintainer WITH CHECK (true)");
const TENANT: Policy = (
    "tenant",
    "FOR SELECT TO audit_reader USING ((tenant_id = \
         (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid))",
);

/// A table of schema `audit`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// Each `name type [NOT NULL] [DEFAULT expression]`, as Postgres writes them.
    pub(crate) columns: &'static [&'static str],
    /// Checks and foreign keys, as Postgres writes them.
    pub(crate) constraints: &'static [&'static str],
    /// Each `[UNIQUE ]method (columns)`.
    pub(crate) indexes: &'static [&'static str],
    /// Besides the owner's.
    pub(crate) grants: &'static [Grant],
    pub(crate) policies: &'static [Policy],
    /// The column with the time, if it is a record table, which has partitions.
    pub(crate) time_column: Option<&'static str>,
}

impl Table {
    /// `pg_class.relkind`.
    pub(crate) fn relkind(&self) -> &'static str {
        if self.time_column.is_some() { "p" } else { "r" }
    }
}

/// The table of that name.
pub(crate) fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

/// The record tables.
pub(crate) fn record_tables() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().filter(|table| table.time_column.is_some())
}

/// Rights to a leaf.
pub(crate) const LEAF_GRANTS: &[Grant] = &[("audit_writer", "INSERT")];

/// Rights to the view.
pub(crate) const VIEW_GRANTS: &[Grant] = RECORD_GRANTS;

const RECORD_GRANTS: &[Grant] = &[("audit_reader", "SELECT"), ("audit_auditor", "SELECT")];

/// Rights to a schema.
pub(crate) fn schema_grants(schema: &str) -> &'static [Grant] {
    match schema {
        "audit" => &[
            ("audit_writer", "USAGE"),
            ("audit_reader", "USAGE"),
            ("audit_auditor", "USAGE"),
            ("audit_operator", "USAGE"),
        ],
        "audit_parts" => &[("audit_writer", "USAGE")],
        _ => &[],
    }
}

/// The columns of `audit.schema_migrations` that may be read, and by whom.
pub(crate) const MIGRATIONS_COLUMNS: [&str; 3] = ["description", "success", "version"];
pub(crate) const MIGRATIONS_READERS: [&str; 5] = [
    "audit_writer",
    "audit_reader",
    "audit_auditor",
    "audit_operator",
    "audit_maintainer",
];

/// Who may call a function of schema `audit`, besides its owner.
pub(crate) fn callers(function: &str) -> &'static [&'static str] {
    match function {
        "tenant_uuid" | "id_at" | "current_tenant" => &["PUBLIC"],
        "ensure_partition" => &["audit_writer", "audit_operator"],
        "writer_position" | "add_batch" | "add_dead_letter" => &["audit_writer"],
        "request_trail" | "record_reading" => &["audit_reader", "audit_auditor"],
        "place_hold" | "hold_coverage" | "least_age" => &["audit_auditor", "audit_operator"],
        "lift_hold" | "set_least_age" => &["audit_auditor"],
        "plan_retention" | "remove_partition" | "plan_settling" | "settle_month" => {
            &["audit_operator"]
        }
        _ => &[],
    }
}

/// The name and `pg_class.relkind` of what else is in schema `audit`, and nobody but its owner has a right to.
pub(crate) const WITHOUT_ROWS: &[(&str, &str)] =
    &[("partition_lock", "r"), ("settings_id_seq", "S")];

/// The tables of schema `audit`, but for that of the migrations.
pub(crate) const TABLES: &[Table] = &[
    Table {
        name: "query_runs",
        columns: &[
            "id uuid NOT NULL",
            "tenant_id uuid",
            "user_id text",
            "user_role text",
            "agent_id uuid",
            "request_id text",
            "llm_session_id uuid",
            "conversation_id text",
            "parent_id uuid",
            "trace_id text",
            "span_id text",
            "service_name text",
            "datasource_id uuid",
            "question_text text",
            "sql_text text",
            "sql_summary text",
            "row_count integer",
            "rows_affected integer",
            "status audit.run_status NOT NULL",
            "error_code text",
            "error_message text",
            "started_at timestamp with time zone NOT NULL",
            "finished_at timestamp with time zone",
            "duration_ms bigint",
            "metadata jsonb NOT NULL DEFAULT '{}'::jsonb",
            "problems text[] NOT NULL DEFAULT '{}'::text[]",
            "writer_id uuid NOT NULL",
            "seq bigint NOT NULL",
            "salt bytea NOT NULL",
        ],
        constraints: &[
            "CHECK (((started_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (started_at < '10000-01-01 00:00:00+00'::timestamp with time zone)))",
            FINISHED,
        ],
        indexes: RECORD_INDEXES,
        grants: RECORD_GRANTS,
        policies: &[TENANT, AUDITOR],
        time_column: Some("started_at"),
    },
    Table {
        name: "prompt_runs",
        columns: &[
            "id uuid NOT NULL",
            "tenant_id uuid",
            "user_id text",
            "user_role text",
            "agent_id uuid",
            "request_id text",
            "llm_session_id uuid",
            "conversation_id text",
            "parent_id uuid",
            "trace_id text",
            "span_id text",
            "service_name text",
            "model_name text",
            "provider text",
            "prompt_template_name text",
            "prompt_template_version integer",
            "rendered_prompt text",
            "response_text text",
            "role text",
            "input_token_count integer",
            "output_token_count integer",
            "status audit.run_status NOT NULL",
            "error_code text",
            "error_message text",
            "created_at timestamp with time zone NOT NULL",
            "finished_at timestamp with time zone",
            "duration_ms bigint",
            "metadata jsonb NOT NULL DEFAULT '{}'::jsonb",
            "problems text[] NOT NULL DEFAULT '{}'::text[]",
            "writer_id uuid NOT NULL",
            "seq bigint NOT NULL",
            "salt bytea NOT NULL",
        ],
        constraints: &[
            "CHECK (((created_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (created_at < '10000-01-01 00:00:00+00'::timestamp with time zone)))",
            FINISHED,
        ],
        indexes: RECORD_INDEXES,
        grants: RECORD_GRANTS,
        policies: &[TENANT, AUDITOR],
        time_column: Some("created_at"),
    },
    Table {
        name: "events",
        columns: &[
            "id uuid NOT NULL",
            "tenant_id uuid",
            "user_id text",
            "user_role text",
            "agent_id uuid",
            "request_id text",
            "llm_session_id uuid",
            "conversation_id text",
            "parent_id uuid",
            "trace_id text",
            "span_id text",
            "service_name text",
            "action_type text",
            "target_type text",
            "target_id text",
            "input_summary text",
            "output_summary text",
            "status audit.run_status NOT NULL",
            "error_code text",
            "error_message text",
            "created_at timestamp with time zone NOT NULL",
            "latency_ms bigint",
            "metadata jsonb NOT NULL DEFAULT '{}'::jsonb",
            "problems text[] NOT NULL DEFAULT '{}'::text[]",
            "writer_id uuid NOT NULL",
            "seq bigint NOT NULL",
            "salt bytea NOT NULL",
        ],
        constraints: &[
            "CHECK (((created_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (created_at < '10000-01-01 00:00:00+00'::timestamp with time zone)))",
        ],
        indexes: RECORD_INDEXES,
        grants: RECORD_GRANTS,
        policies: &[TENANT, AUDITOR],
        time_column: Some("created_at"),
    },
    Table {
        name: "writers",
        columns: &[
            "writer_id uuid NOT NULL",
            "login text NOT NULL",
            "secret_sha256 bytea NOT NULL",
            "service_name text",
            "registered_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()",
        ],
        constraints: &[SERVICE_NAME, "CHECK ((octet_length(secret_sha256) = 32))"],
        indexes: &["UNIQUE btree (writer_id)"],
        grants: &[("audit_auditor", "SELECT")],
        policies: &[AUDITOR, MAINTAINER, ADDING],
        time_column: None,
    },
    Table {
        name: "batches",
        columns: &[
            "writer_id uuid NOT NULL",
            "first_seq bigint NOT NULL",
            "last_seq bigint NOT NULL",
            "query_runs integer NOT NULL",
            "prompt_runs integer NOT NULL",
            "events integer NOT NULL",
            "dead_letters integer NOT NULL",
            "first_id uuid",
            "last_id uuid",
            "service_name text",
            "library_version text NOT NULL",
            "committed_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()",
        ],
        constraints: &[
            SERVICE_NAME,
            "CHECK ((octet_length(library_version) <= 256))",
            "CHECK ((first_seq >= 1))",
            "CHECK ((last_seq >= first_seq))",
            "CHECK ((query_runs >= 0))",
            "CHECK ((prompt_runs >= 0))",
            "CHECK ((events >= 0))",
            "CHECK ((dead_letters >= 0))",
            "CHECK ((((last_seq - first_seq) + 1) = (((query_runs + prompt_runs) + events) + dead_letters)))",
        ],
        indexes: &[
            "UNIQUE btree (writer_id, first_seq)",
            "btree (committed_at)",
        ],
        grants: &[("audit_auditor", "SELECT")],
        policies: &[AUDITOR, MAINTAINER, ADDING],
        time_column: None,
    },
    Table {
        name: "dead_letters",
        columns: &[
            "writer_id uuid NOT NULL",
            "seq bigint NOT NULL",
            "record_id uuid",
            "kind text NOT NULL",
            "sqlstate text",
            "reason text NOT NULL",
            "frame bytea NOT NULL",
            "salt bytea NOT NULL",
            "created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()",
        ],
        constraints: &[
            "CHECK ((octet_length(kind) <= 256))",
            "CHECK ((octet_length(sqlstate) <= 16))",
        ],
        indexes: &["UNIQUE btree (writer_id, seq)"],
        grants: &[("audit_auditor", "SELECT")],
        policies: &[AUDITOR, MAINTAINER, ADDING],
        time_column: None,
    },
    Table {
        name: "removals",
        columns: &[
            "partition text NOT NULL",
            "parent text NOT NULL",
            "writer_id uuid NOT NULL",
            "first_seq bigint NOT NULL",
            "last_seq bigint NOT NULL",
            "rows bigint NOT NULL",
            "sha256 bytea NOT NULL",
            "removed_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()",
            "removed_by text NOT NULL",
        ],
        constraints: &[],
        indexes: &["UNIQUE btree (partition, removed_at, writer_id, first_seq)"],
        grants: &[("audit_auditor", "SELECT"), ("audit_operator", "SELECT")],
        policies: &[AUDITOR, MAINTAINER, OPERATOR, ADDING],
        time_column: None,
    },
    Table {
        name: "legal_holds",
        columns: &[
            "id uuid NOT NULL DEFAULT gen_random_uuid()",
            "reason text NOT NULL",
            "tenant_id uuid",
            "kinds text[]",
            "from_time timestamp with time zone NOT NULL",
            "to_time timestamp with time zone NOT NULL",
            "placed_by text NOT NULL",
            "placed_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()",
        ],
        constraints: &[
            REASON,
            "CHECK (((cardinality(kinds) > 0) AND (array_position(kinds, NULL::text) IS NULL)))",
            "CHECK ((to_time > from_time))",
        ],
        indexes: &["UNIQUE btree (id)"],
        grants: &[("audit_auditor", "SELECT"), ("audit_operator", "SELECT")],
        policies: &[AUDITOR, MAINTAINER, OPERATOR, ADDING],
        time_column: None,
    },
    Table {
        name: "legal_hold_lifts",
        columns: &[
            "hold_id uuid NOT NULL",
            "reason text NOT NULL",
            "lifted_by text NOT NULL",
            "lifted_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()",
        ],
        constraints: &[
            REASON,
            "FOREIGN KEY (hold_id) REFERENCES audit.legal_holds(id)",
        ],
        indexes: &["UNIQUE btree (hold_id)"],
        grants: &[("audit_auditor", "SELECT"), ("audit_operator", "SELECT")],
        policies: &[AUDITOR, MAINTAINER, OPERATOR, ADDING],
        time_column: None,
    },
    Table {
        name: "settings",
        columns: &[
            "id bigint NOT NULL GENERATED AS IDENTITY",
            "least_age interval NOT NULL",
            "reason text NOT NULL",
            "changed_by text NOT NULL",
            "changed_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()",
        ],
        constraints: &[
            REASON,
            "CHECK (((least_age >= '1 day'::interval) AND (least_age <= '1000 years'::interval) \
                 AND (EXTRACT(year FROM least_age) >= (0)::numeric) AND (EXTRACT(month FROM least_age) >= (0)::numeric) \
                 AND (EXTRACT(day FROM least_age) >= (0)::numeric) AND (EXTRACT(hour FROM least_age) >= (0)::numeric) \
                 AND (EXTRACT(minute FROM least_age) >= (0)::numeric) AND (EXTRACT(second FROM least_age) >= (0)::numeric)))",
        ],
        indexes: &["UNIQUE btree (id)"],
        grants: &[("audit_auditor", "SELECT"), ("audit_operator", "SELECT")],
        policies: &[AUDITOR, MAINTAINER, OPERATOR, ADDING],
        time_column: None,
    },
];

/// Of the tables that tell when a run ended.
const FINISHED: &str = "CHECK (((finished_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (finished_at < '10000-01-01 00:00:00+00'::timestamp with time zone)))";

const SERVICE_NAME: &str = "CHECK ((octet_length(service_name) <= 1024))";

/// Of whatever is done for a reason.
const REASON: &str = "CHECK (((octet_length(reason) >= 1) AND (octet_length(reason) <= 4096)))";

const RECORD_INDEXES: &[&str] = &[
    "UNIQUE btree (id)",
    "btree (request_id, tenant_id)",
    "btree (tenant_id, id)",
];
