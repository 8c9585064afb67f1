//! Which records are looked for: the same on the page, in its downloads and for `export`.
//!
//! A filter is the query of a page's address, so that a link can be sent to a colleague and used by
//! `export --where`. Unknown names are an error, never ignored: a filter that is misspelled would
//! find more than was asked for.

use std::fmt::Write as _;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::types::Uuid;
use sqlx::{Executor as _, QueryBuilder};
use tracing_audit::__program::Table;
use tracing_audit::Kind;

use crate::STATUSES;

/// How many characters of each text are searched. No limit of time ends Postgres' search of one text,
/// and it may take as long as both lengths multiplied.
pub(crate) const LOOKED_AT: usize = 100_000;

/// What else is searched of an event: what it is and what it is about, and the texts of its family.
pub(crate) const OF_EVENTS: [&str; 6] = [
    "action_type",
    "target_id",
    "metadata ->> 'message'",
    "metadata ->> 'reason'",
    "metadata ->> 'comment'",
    "metadata ->> 'sql_text'",
];

/// The longest value of a filter, in bytes.
const MAX_VALUE: usize = 4_096;

/// The longest text that is searched for, in bytes: see [`LOOKED_AT`].
const MAX_TEXT: usize = 200;

/// The events by which the trail tells that it was read. Only the database writes them as its own.
const READINGS: &str = "(service_name = 'postgres' AND action_type = 'audit.read') IS NOT TRUE";

/// Fixes the format in which times are read.
const DATES: &str = "SET LOCAL DateStyle = 'ISO, MDY'";

/// Reads a time: the least id at that time; null if it is out of range.
const MOMENT: &str = "
    SELECT CASE WHEN at BETWEEN '1970-01-01Z' AND '9999-12-31 23:59:59.999Z' THEN audit.id_at(at) END
    FROM (SELECT $1::text::timestamptz AS at) AS given";

/// The least id a while ago.
const AGO: &str = "SELECT audit.id_at(greatest(now() - make_interval(secs => $1), '1970-01-01Z'))";

/// What stays as it is in the query of an address.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Which records are looked for. What is `None` or empty is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The tables to look in; empty: all.
    pub(crate) kinds: Vec<Table>,
    /// The `action_type` of events.
    pub(crate) family: Option<String>,
    /// Labels of `audit.run_status`; empty: all.
    pub(crate) statuses: Vec<String>,
    /// The tenant's key.
    pub(crate) tenant: Option<String>,
    pub(crate) user: Option<String>,
    /// An `agent_id`, or the name of an agent as the target of an event.
    pub(crate) agent: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) request: Option<String>,
    /// A `conversation_id` or an `llm_session_id`.
    pub(crate) session: Option<String>,
    /// Literally, in upper or lower case.
    pub(crate) text: Option<String>,
    /// A time as Postgres reads it, or how long ago, as `24h`.
    pub(crate) since: Option<String>,
    /// As `since`; the records that began before.
    pub(crate) until: Option<String>,
    /// What kind of thing an event is about, as the table of a change.
    pub(crate) target_type: Option<String>,
    /// What an event is about, as the key of a changed row.
    pub(crate) target: Option<String>,
    /// Only changes of tracked tables.
    pub(crate) changes: bool,
    /// Whether the events of reading the trail are found, too.
    pub(crate) reads: bool,
}

/// Why a filter is none. Never repeats a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("there is no filter of this name; there are {}", NAMES.join(", "))]
    Name,
    #[error("the filter {0} has a value that is none of {1}")]
    Value(&'static str, String),
    #[error("the filter {0} is longer than {1} bytes, or has a NUL character")]
    Long(&'static str, usize),
    #[error(
        "the filter {0} is no time: write it as 2026-01-01 or 2026-01-01T12:00Z, or how long ago, as 24h"
    )]
    Time(&'static str),
    #[error("the filter {0} is given twice")]
    Twice(&'static str),
}

/// The names of the filters, in the order of an address.
pub(crate) const NAMES: [&str; 16] = [
    "kind",
    "family",
    "status",
    "tenant",
    "user",
    "agent",
    "model",
    "request",
    "session",
    "text",
    "since",
    "until",
    "target_type",
    "target",
    "changes",
    "reads",
];

/// The ids between which records are looked for: from the first on, and before the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) from: Option<Uuid>,
    pub(crate) to: Option<Uuid>,
}

impl Filter {
    /// Reads the query of an address. A blank value is none.
    pub(crate) fn from_query(query: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !value.trim().is_empty() {
                filter.add(&name, value.trim())?;
            }
        }
        Ok(filter)
    }

    /// Adds the value of a filter.
    pub(crate) fn add(&mut self, name: &str, value: &str) -> Result<(), FilterError> {
        let name = NAMES.into_iter().find(|known| *known == name);
        let name = name.ok_or(FilterError::Name)?;
        let most = if name == "text" { MAX_TEXT } else { MAX_VALUE };
        if value.len() > most || value.contains('\0') {
            return Err(FilterError::Long(name, most));
        }
        let single = match name {
            "kind" => {
                let table = Table::ALL
                    .into_iter()
                    .find(|table| [table.name(), table.singular()].contains(&value));
                let table = table.ok_or_else(|| {
                    FilterError::Value(name, Table::ALL.map(Table::name).join(", "))
                })?;
                if !self.kinds.contains(&table) {
                    self.kinds.push(table);
                }
                return Ok(());
            }
            "status" => {
                if !STATUSES.contains(&value) {
                    return Err(FilterError::Value(name, STATUSES.join(", ")));
                }
                if !self.statuses.iter().any(|known| known == value) {
                    self.statuses.push(value.to_owned());
                }
                return Ok(());
            }
            "changes" | "reads" => {
                if value != "yes" {
                    return Err(FilterError::Value(name, String::from("yes")));
                }
                match name {
                    "changes" => self.changes = true,
                    _ => self.reads = true,
                }
                return Ok(());
            }
            "family" => &mut self.family,
            "tenant" => &mut self.tenant,
            "user" => &mut self.user,
            "agent" => &mut self.agent,
            "model" => &mut self.model,
            "request" => &mut self.request,
            "session" => &mut self.session,
            "text" => &mut self.text,
            "since" => &mut self.since,
            "target_type" => &mut self.target_type,
            "target" => &mut self.target,
            _ => &mut self.until,
        };
        if single.replace(value.to_owned()).is_some() {
            return Err(FilterError::Twice(name));
        }
        Ok(())
    }

    /// Returns the value of each filter that is asked, by its name.
    pub(crate) fn values(&self) -> Vec<(&'static str, &str)> {
        let mut values = Vec::new();
        for name in NAMES {
            match name {
                "kind" => values.extend(self.kinds.iter().map(|kind| (name, kind.name()))),
                "status" => values.extend(self.statuses.iter().map(|status| (name, &**status))),
                "changes" => values.extend(self.changes.then_some((name, "yes"))),
                "reads" => values.extend(self.reads.then_some((name, "yes"))),
                _ => values.extend(self.single(name).map(|value| (name, value))),
            }
        }
        values
    }

    /// Returns the value of a filter that has one at most.
    pub(crate) fn single(&self, name: &str) -> Option<&str> {
        let value = match name {
            "family" => &self.family,
            "tenant" => &self.tenant,
            "user" => &self.user,
            "agent" => &self.agent,
            "model" => &self.model,
            "request" => &self.request,
            "session" => &self.session,
            "text" => &self.text,
            "since" => &self.since,
            "until" => &self.until,
            "target_type" => &self.target_type,
            "target" => &self.target,
            _ => return None,
        };
        value.as_deref()
    }

    /// Returns the query of an address.
    pub(crate) fn query(&self) -> String {
        let mut query = String::new();
        for (name, value) in self.values() {
            let before = if query.is_empty() { "" } else { "&" };
            let _ = write!(query, "{before}{name}={}", encode(value));
        }
        query
    }

    /// Returns the tables in which there may be such records.
    pub(crate) fn tables(&self) -> Vec<Table> {
        let is_asked = |table: &Table| {
            let is_event = table.kind() == Kind::Event;
            (self.kinds.is_empty() || self.kinds.contains(table))
                && (is_event || !self.is_of_events())
                && (!self.changes || *table == Table::Events)
                && (self.model.is_none() || table.kind() != Kind::QueryRun)
        };
        Table::ALL.into_iter().filter(is_asked).collect()
    }

    /// Whether only events can match.
    fn is_of_events(&self) -> bool {
        self.family.is_some() || self.target_type.is_some() || self.target.is_some()
    }

    /// Appends the conditions that an index answers, each after ` AND `: the ids, the tenant, the
    /// request.
    pub(crate) fn push_indexed(
        &self,
        query: &mut QueryBuilder<Postgres>,
        bounds: Bounds,
        tenant: Option<Uuid>,
    ) {
        if let Some(from) = bounds.from {
            query.push(" AND id >= ").push_bind(from);
        }
        if let Some(to) = bounds.to {
            query.push(" AND id < ").push_bind(to);
        }
        if let Some(tenant) = tenant {
            query.push(" AND tenant_id = ").push_bind(tenant);
        }
        if let Some(request) = &self.request {
            query.push(" AND request_id = ").push_bind(request.clone());
        }
    }

    /// Appends the other conditions, as one expression that is never null.
    pub(crate) fn push_scanned(&self, query: &mut QueryBuilder<Postgres>, table: Table) {
        let is_event = table.kind() == Kind::Event;
        query.push("(true");
        if is_event && !self.reads {
            query.push(" AND ").push(READINGS);
        }
        if let Some(family) = &self.family {
            query.push(" AND action_type = ").push_bind(family.clone());
        }
        if let Some(target_type) = &self.target_type {
            query
                .push(" AND target_type = ")
                .push_bind(target_type.clone());
        }
        if let Some(target) = &self.target {
            query.push(" AND target_id = ").push_bind(target.clone());
        }
        if self.changes {
            query.push(" AND metadata ? 'changes'");
        }
        if !self.statuses.is_empty() {
            query
                .push(" AND status::text = ANY (")
                .push_bind(self.statuses.clone())
                .push(")");
        }
        if let Some(user) = &self.user {
            query.push(" AND user_id = ").push_bind(user.clone());
        }
        if let Some(agent) = &self.agent {
            match (agent.parse::<Uuid>(), is_event) {
                (Ok(id), _) => query.push(" AND agent_id = ").push_bind(id),
                (Err(_), true) => query
                    .push(" AND action_type = 'agent_execution' AND target_id = ")
                    .push_bind(agent.clone()),
                (Err(_), false) => query.push(" AND false"),
            };
        }
        if let Some(model) = &self.model {
            if is_event {
                query.push(" AND action_type = 'llm_call' AND metadata ->> 'model' = ");
            } else {
                query.push(" AND model_name = ");
            }
            query.push_bind(model.clone());
        }
        if let Some(session) = &self.session {
            query
                .push(" AND (conversation_id = ")
                .push_bind(session.clone());
            if let Ok(id) = session.parse::<Uuid>() {
                query.push(" OR llm_session_id = ").push_bind(id);
            }
            query.push(")");
        }
        if let Some(text) = &self.text {
            query.push(" AND (false");
            for column in searched_texts(table) {
                query
                    .push(" OR position(lower(")
                    .push_bind(text.clone())
                    .push(format!(
                        "::text) IN lower(left({column}, {LOOKED_AT}))) > 0"
                    ));
            }
            query.push(")");
        }
        query.push(") IS TRUE");
    }

    /// Returns the id of the tenant that is asked for, or else of the one that the reader is bound to: said
    /// again beside row-level security, so that Postgres knows of how few it is and comes by its index, and
    /// so that rights which grow meanwhile show no more than was asked for.
    pub(crate) async fn tenant_id(
        &self,
        connection: &mut PgConnection,
        own: Option<Uuid>,
    ) -> Result<Option<Uuid>, sqlx::Error> {
        let Some(key) = &self.tenant else {
            return Ok(own);
        };
        sqlx::query_scalar("SELECT audit.tenant_uuid($1)")
            .bind(key)
            .persistent(false)
            .fetch_one(connection)
            .await
            .map(Some)
    }

    /// Reads the times as ids, in a transaction.
    pub(crate) async fn bounds(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Result<Bounds, FilterError>, sqlx::Error> {
        let mut bounds = Bounds::default();
        for (name, said) in [("since", &self.since), ("until", &self.until)] {
            let Some(said) = said else { continue };
            let Some(id) = moment(connection, said).await? else {
                return Ok(Err(FilterError::Time(name)));
            };
            match name {
                "since" => bounds.from = Some(id),
                _ => bounds.to = Some(id),
            }
        }
        Ok(Ok(bounds))
    }
}

/// Returns the texts of a table that are searched, as expressions.
pub(crate) fn searched_texts(table: Table) -> impl Iterator<Item = &'static str> {
    let of_events = match table.kind() {
        Kind::Event => &OF_EVENTS[..],
        _ => &[],
    };
    table.content_columns().chain(of_events.iter().copied())
}

/// Encodes a value for the query of an address.
pub(crate) fn encode(value: &str) -> String {
    utf8_percent_encode(value, UNRESERVED).to_string()
}

/// Returns the least id of a time; `None` if it is none.
async fn moment(connection: &mut PgConnection, said: &str) -> Result<Option<Uuid>, sqlx::Error> {
    if let Ok(ago) = humantime::parse_duration(said) {
        // Longer than there are ids.
        let ago = ago.min(Duration::from_hours(24 * 366 * 1_000));
        return sqlx::query_scalar(AGO)
            .bind(ago.as_secs_f64())
            .persistent(false)
            .fetch_one(connection)
            .await;
    }
    connection.execute(DATES).await?;
    connection.execute("SAVEPOINT moment").await?;
    let read = sqlx::query_scalar(MOMENT)
        .bind(said)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await;
    match read {
        Ok(id) => {
            connection.execute("RELEASE SAVEPOINT moment").await?;
            Ok(id)
        }
        Err(error) => {
            let code = error.as_database_error().and_then(DatabaseError::code);
            // Not a time, out of range, or in an unknown time zone.
            if !matches!(code.as_deref(), Some("22007" | "22008" | "22009" | "22023")) {
                return Err(error);
            }
            connection.execute("ROLLBACK TO SAVEPOINT moment").await?;
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_of_an_address_becomes_the_same_address() {
        let query = "kind=events&kind=query_runs&status=failed&tenant=acme&user=ana%20%26%20bo&text=%E2%80%AE%3D%25&since=24h&reads=yes";
        let filter = Filter::from_query(query).unwrap();
        assert_eq!(filter.query(), query);
        assert_eq!(filter.user.as_deref(), Some("ana & bo"));
        assert_eq!(Filter::from_query(&filter.query()).unwrap(), filter);
    }

    #[test]
    fn blank_values_are_no_filter() {
        let filter = Filter::from_query("kind=&user=+&text=&since=").unwrap();
        assert_eq!(filter, Filter::default());
    }

    #[test]
    fn what_is_no_filter_is_refused_without_being_repeated() {
        for (query, why) in [
            ("usr=ana", FilterError::Name),
            ("user=ana&user=bo", FilterError::Twice("user")),
            ("user=%00", FilterError::Long("user", 4_096)),
            (
                &format!("text={}", "x".repeat(201)),
                FilterError::Long("text", 200),
            ),
            (
                "status=geheim",
                FilterError::Value("status", STATUSES.join(", ")),
            ),
            ("reads=no", FilterError::Value("reads", String::from("yes"))),
        ] {
            let error = Filter::from_query(query).unwrap_err();
            assert_eq!(error, why);
            assert!(!error.to_string().contains("geheim"));
        }
        assert!(Filter::from_query("kind=geheim").is_err());
    }

    #[test]
    fn family_and_model_leave_out_the_tables_that_have_none() {
        let tables = |query| Filter::from_query(query).unwrap().tables();
        assert_eq!(
            tables("family=security"),
            [Table::Events, Table::Activities]
        );
        assert!(!tables("model=m").contains(&Table::QueryRuns));
        assert_eq!(tables("family=security&kind=query_runs"), []);
    }
}
