//! `metrics`: the state of the trail in the database, as text for Prometheus.
//!
//! It asks what the doctor asks, with the doctor's queries, but only those that are cheap enough for
//! every scrape: each looks at a bounded number of rows, waits for no lock, and has two seconds. What
//! a program counts is in its own metrics ([`tracing_audit::Stats::prometheus`]), whose names begin
//! alike and are others.
//!
//! **A scrape always has an answer.** What the login may not read is left out rather than shown as
//! zero: row-level security makes a table look empty, and an alert on zero would never fire.
//! `tracing_audit_unreadable` names what was left out.

use std::time::{Duration, Instant};

use clap::Args;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, FromRow, SqlSafeStr};
use tracing_audit::__program::{Exposition, MetricType, Table};

use crate::database::{Database, Standing};
use crate::doctor::ledger::{CHECKPOINT, UNSEALED, Unsealed};
use crate::doctor::look::{Answer, Look};
use crate::doctor::partitions::{DAYS, DEFAULTS, Span, leaves};
use crate::doctor::records::{GAPS, Gaps, NEWEST};
use crate::doctor::tracked::LOST;
use crate::doctor::why_failed;
use crate::error::Error;
use crate::retain::print;

/// Prints the state of the trail as text for Prometheus.
///
/// How far partitions are made ahead, the age of the newest batch, dead letters, gaps,
/// and the age of the newest checkpoint: for the textfile collector of node_exporter.
/// What the login may not read is left out, and named by tracing_audit_unreadable.
/// Reads only. When the database does not answer, prints tracing_audit_up 0 and exits
/// with 2.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
#[expect(clippy::doc_markdown, reason = "the help is shown as it is")]
pub(crate) struct Metrics {}

/// A scrape of Prometheus ends after ten seconds.
const LIMITS: &str = "SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '2s'";

/// After this, nothing more is asked.
const BUDGET: Duration = Duration::from_secs(5);

/// The server's time in seconds since 1970.
const NOW: &str = "SELECT extract(epoch FROM clock_timestamp())::float8";

/// Whether row-level security hides no row of the ledger's tables from this login, as it would from
/// one that was given SELECT on them by another grant.
const SEES_LEDGER: &str = "
    SELECT coalesce(pg_has_role(to_regrole('audit_operator'), 'USAGE'), false)
        OR coalesce(pg_has_role(to_regrole('audit_sealer'), 'USAGE'), false)";

const DEAD_LETTERS: &str = "SELECT count(*) FROM audit.dead_letters";

/// Events by which a program says that records are missing. Without an index on what an event is,
/// only the newest are looked at.
const GAP_EVENTS: &str = "
    SELECT count(*) FILTER (WHERE action_type = 'audit.gap') FROM (
        SELECT action_type FROM audit.events
        WHERE id >= audit.id_at(now() - interval '1 day') AND id < audit.id_at(now() + interval '1 hour')
        ORDER BY id DESC LIMIT 50000) newest";

const SECONDS_OF_A_DAY: i64 = 86_400;

/// Why something is left out.
const REFUSED: &str = "refused";
const ABSENT: &str = "absent";
const TIMEOUT: &str = "timeout";

/// Prints the metrics.
pub(crate) async fn run(database: &Database) -> Result<(), Error> {
    let answer = match database.connect().await {
        Ok(mut connection) => text(&mut connection)
            .await
            .map_err(|source| database.read_error(source)),
        Err(error) => Err(error),
    };
    match answer {
        Ok(text) => print(&text),
        Err(error) => {
            print(&down("unreachable"))?;
            Err(error)
        }
    }
}

/// Returns the metrics of a trail that cannot be read; `why` is a word.
pub(crate) fn down(why: &str) -> String {
    let mut text = Exposition::default();
    write_up(&mut text, false);
    write_unreadable(&mut text, &[("trail", why)]);
    text.into_text()
}

/// Returns the metrics of the trail, of what this login may read.
///
/// # Errors
///
/// Returns an error only if the connection is lost.
pub(crate) async fn text(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let look = Look::begin_within(connection, LIMITS).await?;
    let why = match look.standing() {
        Standing::Ours => None,
        Standing::Absent => Some(ABSENT),
        // Reading somebody else's table may run their code with this login's rights.
        Standing::NotOurs(_) => Some("not_ours"),
    };
    if let Some(why) = why {
        look.end().await?;
        return Ok(down(why));
    }
    let mut scrape = Scrape {
        look,
        begun: Instant::now(),
        text: Exposition::default(),
        unreadable: Vec::new(),
    };
    write_up(&mut scrape.text, true);
    scrape.partitions().await?;
    scrape.defaults().await?;
    scrape.newest_batch().await?;
    scrape.dead_letters().await?;
    scrape.gaps().await?;
    scrape.lost_changes().await?;
    scrape.ledger().await?;
    write_unreadable(&mut scrape.text, &scrape.unreadable);
    scrape.look.end().await?;
    Ok(scrape.text.into_text())
}

fn write_up(text: &mut Exposition, is_up: bool) {
    text.gauge(
        "up",
        "1 if Postgres answers and has a trail, else 0.",
        u8::from(is_up),
    );
}

fn write_unreadable(text: &mut Exposition, unreadable: &[(&str, &str)]) {
    text.family(
        MetricType::Gauge,
        "unreadable",
        "1 for each part that is left out, and why: the login may not read it (refused), it is not there (absent), \
         it took too long (timeout), or the query failed (failed).",
        unreadable
            .iter()
            .map(|(what, why)| ([("what", *what), ("why", *why)], 1)),
    );
}

/// What one scrape has found.
struct Scrape<'c> {
    look: Look<'c>,
    begun: Instant,
    text: Exposition,
    /// What is left out, and why.
    unreadable: Vec<(&'static str, &'static str)>,
}

impl Scrape<'_> {
    fn leave_out(&mut self, what: &'static str, why: &'static str) {
        if !self.unreadable.iter().any(|(known, _)| *known == what) {
            self.unreadable.push((what, why));
        }
    }

    /// Notes why a part cannot be read; an error if the connection is lost.
    fn failed(&mut self, what: &'static str, error: sqlx::Error) -> Result<(), sqlx::Error> {
        let why = match why_failed(error)?.as_str() {
            "SQLSTATE 57014" | "SQLSTATE 55P03" => TIMEOUT,
            _ => "failed",
        };
        self.leave_out(what, why);
        Ok(())
    }

    /// Returns the rows of a query of tables; `None`, and a note, if it has no answer.
    async fn rows<T>(
        &mut self,
        what: &'static str,
        sql: impl SqlSafeStr,
    ) -> Result<Option<Vec<T>>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        if self.begun.elapsed() > BUDGET {
            self.leave_out(what, TIMEOUT);
            return Ok(None);
        }
        match self.look.rows_of_table(sql).await {
            Ok(Answer::Rows(rows)) => return Ok(Some(rows)),
            Ok(Answer::Refused) => self.leave_out(what, REFUSED),
            Ok(Answer::Absent) => self.leave_out(what, ABSENT),
            Err(error) => self.failed(what, error)?,
        }
        Ok(None)
    }

    /// Like [`Self::rows`], for a table of which row-level security hides rows from some.
    async fn seen_rows<T>(
        &mut self,
        what: &'static str,
        sql: impl SqlSafeStr,
    ) -> Result<Option<Vec<T>>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        if self.look.sees_all_rows {
            return self.rows(what, sql).await;
        }
        self.leave_out(what, REFUSED);
        Ok(None)
    }

    async fn partitions(&mut self) -> Result<(), sqlx::Error> {
        const WHAT: &str = "partitions";
        let Some(now) = self.rows::<(f64,)>(WHAT, NOW).await? else {
            return Ok(());
        };
        let Some((seconds,)) = now.into_iter().next() else {
            return Ok(());
        };
        self.text.gauge(
            "read_timestamp_seconds",
            "When this was read, by the clock of Postgres, since 1970.",
            seconds,
        );
        // None of them is later than the end of next month, until which a writer makes them.
        let Some(days) = self.rows::<(String,)>(WHAT, DAYS).await? else {
            return Ok(());
        };
        match leaves(&mut self.look).await {
            Ok(leaves) => {
                let attached = leaves.iter().filter(|leaf| leaf.is_partition());
                let spans: Vec<(&str, &Span)> = attached
                    .filter_map(|leaf| Some((leaf.parent.as_str(), leaf.span.as_ref()?)))
                    .collect();
                self.text.gauge(
                    "partitions_ahead_seconds",
                    "The time after today, until the end of next month, of which each record table has partitions; negative if today has none.",
                    days_ahead(&spans, &days) * SECONDS_OF_A_DAY,
                );
            }
            Err(error) => self.failed(WHAT, error)?,
        }
        Ok(())
    }

    async fn defaults(&mut self) -> Result<(), sqlx::Error> {
        const WHAT: &str = "default_partition";
        let Some(found) = self.rows::<(String, i64, bool)>(WHAT, DEFAULTS).await? else {
            return Ok(());
        };
        self.text.gauge(
            "default_partition_bytes",
            "Bytes of the default partitions, where rows are whose time is far from now.",
            found.iter().map(|(_, bytes, _)| bytes).sum::<i64>(),
        );
        let filled = found.iter().filter(|(_, bytes, _)| *bytes > 0);
        if filled.clone().any(|(_, _, may_read)| !may_read) {
            self.leave_out(WHAT, REFUSED);
            return Ok(());
        }
        let filled: Vec<String> = Table::ALL
            .map(|table| format!("{}_default", table.name()))
            .into_iter()
            .filter(|name| filled.clone().any(|(found, _, _)| found == name))
            .collect();
        let mut rows = 0;
        for name in filled {
            let sql = format!("SELECT count(*) FROM audit_parts.{name}");
            let Some(counted) = self.rows::<(i64,)>(WHAT, AssertSqlSafe(sql)).await? else {
                return Ok(());
            };
            rows += counted.first().map_or(0, |(rows,)| *rows);
        }
        self.text.gauge(
            "default_partition_rows",
            "Rows in the default partitions; `tracing-audit settle` moves them to partitions of their own.",
            rows,
        );
        Ok(())
    }

    async fn newest_batch(&mut self) -> Result<(), sqlx::Error> {
        let newest = self
            .seen_rows::<(Option<f64>,)>("newest_batch", NEWEST)
            .await?;
        // Without a batch there is no age.
        if let Some(&[(Some(seconds),)]) = newest.as_deref() {
            self.text.gauge(
                "newest_batch_age_seconds",
                "Age of the newest batch; left out if there is none.",
                seconds,
            );
        }
        Ok(())
    }

    async fn dead_letters(&mut self) -> Result<(), sqlx::Error> {
        let counted = self.seen_rows::<(i64,)>("dead_letters", DEAD_LETTERS);
        if let Some(&[(letters,)]) = counted.await?.as_deref() {
            self.text.gauge(
                "dead_letters",
                "Records that Postgres refused, in audit.dead_letters.",
                letters,
            );
        }
        Ok(())
    }

    async fn gaps(&mut self) -> Result<(), sqlx::Error> {
        let gaps = self.seen_rows::<Gaps>("batch_gaps", GAPS).await?;
        if let Some(&[(_, gaps, ..)]) = gaps.as_deref() {
            self.text.gauge(
                "batch_gaps",
                "Batches among the newest 10,000 that do not begin where the one before of their writer ended.",
                gaps,
            );
        }
        let events = self.seen_rows::<(i64,)>("gap_events", GAP_EVENTS).await?;
        if let Some(&[(events,)]) = events.as_deref() {
            self.text.gauge(
                "gap_events",
                "Events audit.gap among the newest 50,000 events of the last day: programs that lost records.",
                events,
            );
        }
        Ok(())
    }

    async fn lost_changes(&mut self) -> Result<(), sqlx::Error> {
        // A sequence, which has no row-level security.
        let lost = self.rows::<(i64,)>("lost_changes", LOST).await?;
        if let Some(&[(lost,)]) = lost.as_deref() {
            self.text.counter(
                "lost_changes_total",
                "Statements on tracked tables whose changes were not recorded, since they are tracked with on_failure => 'warn'.",
                lost,
            );
        }
        Ok(())
    }

    /// Writes how old the ledger is, if the trail is sealed.
    async fn ledger(&mut self) -> Result<(), sqlx::Error> {
        const WHAT: &str = "checkpoint";
        let sees = self.look.sees_all_rows
            || self.rows::<(bool,)>(WHAT, SEES_LEDGER).await?.as_deref() == Some(&[(true,)][..]);
        if !sees {
            self.leave_out(WHAT, REFUSED);
            self.leave_out("unsealed", REFUSED);
            return Ok(());
        }
        let signed = self.rows::<(f64,)>(WHAT, CHECKPOINT).await?;
        let Some(&[(seconds,)]) = signed.as_deref() else {
            return Ok(());
        };
        self.text.gauge(
            "checkpoint_age_seconds",
            "Age of the newest checkpoint; left out if the trail is not sealed.",
            seconds,
        );
        let unsealed = self.seen_rows::<Unsealed>("unsealed", UNSEALED).await?;
        if let Some(&[(batches, _, oldest)]) = unsealed.as_deref() {
            self.text.gauge(
                "unsealed_batches",
                "Batches among the newest 10,000 that are not sealed.",
                batches,
            );
            self.text.gauge(
                "unsealed_age_seconds",
                "Age of the oldest of these; 0 if there is none.",
                oldest.unwrap_or(0.0),
            );
        }
        Ok(())
    }
}

/// Returns how many days after the first of these have a partition, in a row, in the record table
/// that has the fewest; -1 if the first has none. Days are as Postgres writes their first moments.
fn days_ahead(leaves: &[(&str, &Span)], days: &[(String,)]) -> i64 {
    let ahead = Table::ALL.map(|table| {
        let has = |day: &str| {
            let mut of_table = leaves.iter().filter(|(parent, _)| *parent == table.name());
            of_table.any(|(_, span)| span.has(day))
        };
        days.iter().take_while(|(day,)| has(day)).count()
    });
    let least = ahead.into_iter().min().unwrap_or_default();
    i64::try_from(least).unwrap_or(i64::MAX) - 1
}

#[cfg(test)]
mod tests {
    use tracing_audit::__program::Table;

    use super::{days_ahead, text};
    use crate::database::Database;
    use crate::doctor::partitions::Span;

    /// One that stays open would keep partitions from being removed until the next scrape.
    #[test]
    fn scrape_leaves_no_transaction_open_on_its_connection() {
        let postgres = testkit::Postgres::start();
        tracing_audit::migrate(&postgres.url()).unwrap();
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
        crate::runtime().unwrap().block_on(async {
            for (name, up) in [("audit", 1), ("postgres", 0)] {
                let database = Database::new(&postgres.url_of(name)).unwrap();
                let mut connection = database.connect().await.unwrap();
                for _ in 0..2 {
                    let text = text(&mut connection).await.unwrap();
                    let line = format!("\ntracing_audit_up {up}\n");
                    assert!(text.contains(&line), "{text}");
                    assert_eq!(postgres.psql(open).trim(), "0", "{name}");
                }
            }
        });
    }

    #[test]
    fn days_ahead_are_those_of_the_table_with_the_fewest_and_without_a_hole() {
        let days: Vec<(String,)> = (1..=9)
            .map(|day| (format!("2026-12-0{day} 00:00:00+00"),))
            .collect();
        let span = |from: u32, to: u32| Span {
            from: format!("2026-12-0{from} 00:00:00+00"),
            to: format!("2026-12-0{to} 00:00:00+00"),
            ..Span::default()
        };
        let (today, week, later) = (span(1, 2), span(2, 5), span(6, 9));
        let default = Span::default();
        let ahead = |spans: &[&Span], but_for: &str| {
            let tables = Table::ALL.map(Table::name);
            let leaves: Vec<(&str, &Span)> = tables
                .into_iter()
                .flat_map(|table| spans.iter().map(move |span| (table, *span)))
                .filter(|(table, span)| *table != but_for || span.from != week.from)
                .collect();
            days_ahead(&leaves, &days)
        };
        assert_eq!(ahead(&[], ""), -1);
        assert_eq!(ahead(&[&default, &week], ""), -1);
        assert_eq!(ahead(&[&today], ""), 0);
        assert_eq!(ahead(&[&week, &today], ""), 3);
        assert_eq!(ahead(&[&today, &week, &later], ""), 3);
        assert_eq!(ahead(&[&today, &week], "activities"), 0);
    }
}
