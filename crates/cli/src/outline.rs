//! The outline of a request's story: the place of each record, and what all records share.
//!
//! No texts are read, so that a request may have any number of records.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::poll_fn;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tracing_audit::__program::Table;
use tracing_audit::Kind;

use crate::database::{Scope, begin};
use crate::pages::{self, TENANT_KEY, cut, is_usual};
use crate::record::{human, label};
use crate::row::{RecordId, Row, table_of};
use crate::text::duration;
use crate::tree::Node;

/// The columns that say who and where; printed once if all records agree.
const CIRCUMSTANCES: [&str; 8] = [
    "tenant_id",
    "user_id",
    "user_role",
    "agent_id",
    "service_name",
    "llm_session_id",
    "conversation_id",
    "trace_id",
];

/// How many characters of a circumstance are read.
const VALUE_CHARS: usize = 300;

/// The most values of a circumstance that are printed.
const MAX_VALUES: usize = 50;

/// The records of a request, and one record by its id.
const OF_REQUEST: &str = "request_id = $1 AND ($2::uuid IS NULL OR tenant_id = $2)";
const BY_ID: &str = "id = $1::text::uuid AND ($2::uuid IS NULL OR tenant_id = $2)";

/// The users of records that ended before their user was known. `$2` is bound as for the records.
const LEARNED: &str = "SELECT id, left(learned_user_id, 8192) FROM audit.request_trail($1)
    WHERE learned_user_id IS NOT NULL AND ($2::uuid IS NULL OR tenant_id = $2)";

/// The most records of a request among which such users are looked for: it takes 2 s for so many, and
/// a request may have millions.
const MAX_LEARNING: usize = 100_000;

/// How long finding the records may take.
const FIND_TIMEOUT: &str = "SET LOCAL statement_timeout = '60s'";

/// The outline of a story: the place of each record, and the circumstances of all.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) nodes: Vec<Node>,
    /// When the first record began, as text in UTC.
    pub(crate) began: String,
    /// For each circumstance: the first record's value, whether another record's differs, and all
    /// values.
    circumstances: [(Option<String>, bool, BTreeSet<String>); CIRCUMSTANCES.len()],
    /// By the record's id, the user who became known after it had ended.
    learned: HashMap<Uuid, String>,
}

/// Returns whether a request has more records than so many, without counting all of them.
pub(crate) async fn has_more_than(
    connection: &mut PgConnection,
    scope: impl Into<Scope<'_>>,
    request: &str,
    most: i64,
) -> Result<bool, sqlx::Error> {
    let (mut transaction, tenant) = begin(connection, scope.into()).await?;
    transaction.execute(FIND_TIMEOUT).await?;
    let tables =
        Table::ALL.map(|table| format!("SELECT FROM audit.{} WHERE {OF_REQUEST}", table.name()));
    let statement = format!(
        "SELECT count(*) > $3 FROM (SELECT FROM ({}) AS of_request LIMIT $3 + 1) AS counted",
        tables.join(" UNION ALL ")
    );
    let has_more = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(request)
        .bind(tenant)
        .bind(most)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    Ok(has_more)
}

/// Reads the outline, by the records' start times.
async fn read(
    connection: &mut PgConnection,
    condition: &str,
    request: &str,
    scope: Scope<'_>,
) -> Result<Outline, sqlx::Error> {
    let (mut transaction, tenant) = begin(connection, scope).await?;
    transaction.execute(FIND_TIMEOUT).await?;
    let tables = Table::ALL.map(|table| select(table, condition));
    let statement = format!("{} ORDER BY began_us, seq, id", tables.join(" UNION ALL "));
    let mut outline = Outline::empty();
    let mut rows = sqlx::query(AssertSqlSafe(statement))
        .bind(request)
        .bind(tenant)
        .persistent(false)
        .fetch(&mut *transaction);
    while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
        outline.add(&row?)?;
    }
    drop(rows);
    let is_learning = condition == OF_REQUEST && outline.nodes.len() <= MAX_LEARNING;
    if is_learning && outline.differing().contains(&"user_id") {
        let learned: Vec<(Uuid, String)> = sqlx::query_as(LEARNED)
            .bind(request)
            .bind(tenant)
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await?;
        outline.learned = learned.into_iter().collect();
    }
    transaction.rollback().await?;
    Ok(outline)
}

/// Returns the query for the outline of one table's records.
fn select(table: Table, condition: &str) -> String {
    let (began, took) = (table.began_column(), pages::duration(table));
    let is_usual = is_usual(began);
    let circumstances = CIRCUMSTANCES.map(|column| {
        format!(
            "{} AS {column}",
            cut(&format!("{column}::text"), VALUE_CHARS)
        )
    });
    // Conditions and columns are texts of this program, never user input.
    format!(
        "SELECT '{table}' AS table_name, id, parent_id, status::text, seq, {took} AS took_ms,
            CASE WHEN {is_usual} THEN to_char({began}, 'YYYY-MM-DD HH24:MI:SS.MS') ELSE {began}::text END AS began,
            CASE WHEN {is_usual} THEN (extract(epoch FROM {began}) * 1000000)::bigint ELSE 0 END AS began_us,
            {} AS tenant_key, {}
        FROM audit.{table} WHERE {condition}",
        cut(TENANT_KEY, VALUE_CHARS),
        circumstances.join(", "),
        table = table.name()
    )
}

impl Outline {
    /// Reads that of a request; it has no nodes if there is none.
    pub(crate) async fn of_request(
        connection: &mut PgConnection,
        scope: impl Into<Scope<'_>>,
        request: &str,
    ) -> Result<Self, sqlx::Error> {
        read(connection, OF_REQUEST, request, scope.into()).await
    }

    /// Reads that of one record, by its id, which is a UUID.
    pub(crate) async fn of_record(
        connection: &mut PgConnection,
        scope: impl Into<Scope<'_>>,
        id: &str,
    ) -> Result<Self, sqlx::Error> {
        read(connection, BY_ID, id, scope.into()).await
    }

    /// Returns what all records share, or the values that they have, each with its label.
    pub(crate) fn circumstances(&self) -> impl Iterator<Item = (&'static str, String)> {
        let all = CIRCUMSTANCES.into_iter().zip(&self.circumstances);
        all.map(|(column, (_, _, values))| {
            let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
            if values.len() > MAX_VALUES {
                values.truncate(MAX_VALUES);
                values.push("…");
            }
            (label(column), values.join(", "))
        })
    }

    /// Returns the sessions or conversations, by the label among the circumstances; of another one, or
    /// of values that were cut, none.
    pub(crate) fn sessions(&self, label: &str) -> Vec<&str> {
        let column = match label {
            "session" => "llm_session_id",
            "conversation" => "conversation_id",
            _ => return Vec::new(),
        };
        let mut all = CIRCUMSTANCES.into_iter().zip(&self.circumstances);
        let found = all.find(|(name, _)| *name == column);
        let values = found.into_iter().flat_map(|(_, (_, _, values))| values);
        let values: Vec<&str> = values.take(MAX_VALUES).map(String::as_str).collect();
        let is_whole = |id: &&str| !id.is_empty() && id.chars().count() <= VALUE_CHARS;
        if values.iter().all(is_whole) {
            values
        } else {
            Vec::new()
        }
    }

    /// Returns the time from the first start to the last known end, in words.
    pub(crate) fn took(&self) -> String {
        total(&self.nodes, self.origin_us())
    }

    /// Returns the number of records of each kind and of each outcome, in words.
    pub(crate) fn counts(&self) -> String {
        counts(&self.nodes)
    }

    /// Returns one without a record.
    pub(crate) fn empty() -> Self {
        Self {
            nodes: Vec::new(),
            began: String::new(),
            circumstances: Default::default(),
            learned: HashMap::new(),
        }
    }

    /// Adds records that were read in an archive, each with its parent, but for those that the database has as well.
    /// Returns those that were added.
    pub(crate) fn add_archived(
        &mut self,
        rows: Vec<(Row, Option<Uuid>)>,
    ) -> HashMap<RecordId, Row> {
        let known: HashSet<RecordId> = self.nodes.iter().map(|node| node.record).collect();
        let mut added = HashMap::new();
        for (row, parent) in rows {
            let Ok(id) = row.id().parse() else { continue };
            let table = row.table;
            let record = RecordId { table, id };
            if known.contains(&record) || added.contains_key(&record) {
                continue;
            }
            let is_first = self.nodes.is_empty();
            self.nodes.push(Node {
                record,
                parent,
                began_us: row.began_us,
                took_ms: row.took_ms(),
                status: row.status().into(),
            });
            for (at, column) in CIRCUMSTANCES.into_iter().enumerate() {
                let value = row.text(column).map(|value| {
                    let is_whole = value.chars().count() <= VALUE_CHARS;
                    let cut: String = value.chars().take(VALUE_CHARS).collect();
                    if is_whole { cut } else { format!("{cut}…") }
                });
                let key = row.tenant_key().map(str::to_owned);
                self.note_circumstance(at, value, key, is_first);
            }
            added.insert(record, row);
        }
        // Those of the database keep their order.
        self.nodes.sort_by_key(|node| node.began_us);
        let first = self.nodes.first().and_then(|node| added.get(&node.record));
        if let Some(first) = first {
            self.began.clone_from(&first.began);
        }
        added
    }

    /// Notes what a record has of a circumstance.
    fn note_circumstance(
        &mut self,
        at: usize,
        value: Option<String>,
        tenant_key: Option<String>,
        is_first: bool,
    ) {
        let (first, differs, values) = &mut self.circumstances[at];
        if is_first {
            first.clone_from(&value);
        }
        *differs |= *first != value;
        let Some(mut value) = value else { return };
        if CIRCUMSTANCES[at] == "tenant_id"
            && let Some(key) = tenant_key
        {
            value = format!("{key} ({value})");
        }
        // One more than the limit, to detect that there are more.
        if values.len() <= MAX_VALUES {
            values.insert(value);
        }
    }

    fn add(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        let is_first = self.nodes.is_empty();
        if is_first {
            self.began = row.try_get("began")?;
        }
        let status: String = row.try_get("status")?;
        self.nodes.push(Node {
            record: RecordId {
                table: table_of(row)?,
                id: row.try_get("id")?,
            },
            parent: row.try_get("parent_id")?,
            began_us: row.try_get("began_us")?,
            took_ms: row.try_get("took_ms")?,
            status: status.into_boxed_str(),
        });
        for (at, column) in CIRCUMSTANCES.into_iter().enumerate() {
            let key = match column {
                "tenant_id" => row.try_get("tenant_key")?,
                _ => None,
            };
            self.note_circumstance(at, row.try_get(column)?, key, is_first);
        }
        Ok(())
    }

    /// Tells a row whose it is, if that became known after it was written.
    pub(crate) fn tell_learned(&self, row: &mut Row) {
        let id = row.id().parse().ok();
        row.learned_user = id.and_then(|id: Uuid| self.learned.get(&id).cloned());
    }

    /// Returns when the story begins.
    pub(crate) fn origin_us(&self) -> i64 {
        let starts = self.nodes.iter().map(|node| node.began_us);
        starts.min().unwrap_or_default()
    }

    /// Returns the circumstances that differ between records.
    pub(crate) fn differing(&self) -> Vec<&'static str> {
        let all = CIRCUMSTANCES.into_iter().zip(&self.circumstances);
        all.filter(|(_, (_, differs, _))| *differs)
            .map(|(column, _)| column)
            .collect()
    }
}

/// Formats the time from the first start to the last known end.
fn total(nodes: &[Node], origin_us: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown in milliseconds")]
    let end =
        |node: &Node| (node.began_us - origin_us) as f64 / 1000.0 + node.took_ms.unwrap_or(0.0);
    let mut total = duration(nodes.iter().map(end).fold(0.0, f64::max));
    if nodes
        .iter()
        .any(|node| node.took_ms.is_none() && node.record.table.has_end())
    {
        total.push_str(" or more: the end of a run is not known");
    }
    total
}

/// Formats the number of records of each kind and of each outcome.
fn counts(nodes: &[Node]) -> String {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes {
        *kinds.entry(node.record.table.kind()).or_default() += 1;
        *outcomes.entry(&node.status).or_default() += 1;
    }
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(|(kind, n)| format!("{n} {}", human(kind, n)))
        .collect();
    let outcomes: Vec<String> = outcomes
        .into_iter()
        .map(|(outcome, n)| format!("{n} {outcome}"))
        .collect();
    format!("{}; {}", kinds.join(", "), outcomes.join(", "))
}
