//! The context of a transaction: settings by which Postgres knows whose changes of tracked tables it
//! records.

use super::captured::Captured;
use super::context::AuditContext;
use super::lookup;
use crate::vocabulary::Field;

/// The setting of each field that the changes of a transaction have.
const SETTINGS: [(Field, &str); 7] = [
    (Field::UserId, "app.user_id"),
    (Field::UserRole, "app.user_role"),
    (Field::TenantId, "app.current_tenant"),
    (Field::AgentId, "app.agent_id"),
    (Field::RequestId, "app.request_id"),
    (Field::LlmSessionId, "app.llm_session_id"),
    (Field::ConversationId, "app.conversation_id"),
];

/// Sets them until the transaction ends.
const SET: &str = "SELECT pg_catalog.set_config(($1::pg_catalog.text[])[i], ($2::pg_catalog.text[])[i], true) \
     FROM pg_catalog.generate_subscripts($1::pg_catalog.text[], 1) AS i";

impl AuditContext {
    /// Returns the settings of Postgres that say for whom a transaction works, each with its value:
    /// `app.user_id`, `app.user_role`, `app.current_tenant`, `app.agent_id`, `app.request_id`,
    /// `app.llm_session_id`, `app.conversation_id`, `app.trace_id` and `app.parent_id`, those that
    /// are known. Changes of [tracked tables] are recorded with them, below the record that is open
    /// here.
    ///
    /// For a client without sqlx, one statement in each transaction:
    /// `SELECT set_config(name, value, true) FROM unnest($1::text[], $2::text[]) AS s (name, value)`.
    ///
    /// [tracked tables]: https://docs.rs/crate/tracing-audit/latest/source/docs/changes.md
    ///
    /// ```
    /// let (names, values): (Vec<_>, Vec<_>) = tracing_audit::context().settings().into_iter().unzip();
    /// // Without a subscriber nothing is known.
    /// assert!(names.is_empty() && values.is_empty());
    /// ```
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let capture = |(id, dispatch): (&_, &_)| lookup::capture(dispatch, id);
        let captured = self.span().with_subscriber(capture).unwrap_or_default();
        captured.first().map_or_else(Vec::new, of)
    }

    /// Says for whom a transaction works, with [`settings`](Self::settings), until it ends. One
    /// statement for each transaction; outside of one it has no effect.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    ///
    /// ```no_run
    /// # async fn change(pool: &sqlx::PgPool) -> Result<(), sqlx::Error> {
    /// let mut transaction = pool.begin().await?;
    /// tracing_audit::context().apply(&mut *transaction).await?;
    /// sqlx::query("UPDATE mandates SET limit_cents = 50000 WHERE id = 7").execute(&mut *transaction).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn apply(&self, executor: impl sqlx::PgExecutor<'_>) -> Result<(), sqlx::Error> {
        let (names, values): (Vec<&str>, Vec<String>) = self.settings().into_iter().unzip();
        if !names.is_empty() {
            let set = sqlx::query(SET).bind(names).bind(values);
            set.execute(executor).await?;
        }
        Ok(())
    }
}

/// Returns the settings of what was captured.
fn of(captured: &Captured) -> Vec<(&'static str, String)> {
    let fields = SETTINGS.iter();
    let mut settings: Vec<(&'static str, String)> = fields
        .filter_map(|(field, setting)| Some((*setting, captured.text(*field)?)))
        .collect();
    if let Some(trace_id) = captured.trace_id() {
        settings.push(("app.trace_id", trace_id));
    }
    if let Some(parent) = captured.parent() {
        settings.push(("app.parent_id", parent.to_string()));
    }
    settings
}
