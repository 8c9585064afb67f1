//! One connection to Postgres, and a batch's transaction on it.
//!
//! Dropping a sqlx future half-way leaves its connection in a bad state, so a connection is never
//! reused after an error or a missed deadline: it is dropped, and the next attempt opens a new one.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use uuid::Uuid;

use super::batch::{Batch, DeadLetter, Leaf};
use super::copy;
use super::fault::Fault;
use super::login;
use super::migrations::{self, NotMade};
use super::partitions;
use super::schema;
use crate::database::{Probe, Servers};
use crate::spool::{Identity, Log};

/// How long connecting to one server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one exchange with the server may take; readers of `audit.batches` assume that no batch
/// takes longer.
const EXCHANGE_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a server may be silent before it is probed.
const SILENCE: Duration = Duration::from_secs(5);

/// How long creating all the partitions ahead of time may take.
const AHEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a COPY goes into one message: the server reads a whole message before it processes
/// it, and sqlx copies a whole message before it sends it.
const PIECE_BYTES: usize = 64 * 1024;

/// The statements that begin every batch's transaction. `SET LOCAL`, because behind a transaction
/// pooler a session's settings are another client's. With `synchronous_commit` off, a commit that
/// the server has not made durable would be taken for one that it has. Here and below everything is
/// named with its schema: the `search_path` is not ours to trust, nor to change, since the host's
/// triggers may use it.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '55s'; SET LOCAL lock_timeout = '10s'; \
     SELECT pg_catalog.set_config('synchronous_commit', 'on', true) \
     WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'";

/// Set around the creation of the partitions that a batch needs: see [`partitions::LACKING`].
const BEFORE_PARTITIONS: &str = "SET LOCAL lock_timeout = '2s'";
const AFTER_PARTITIONS: &str = "SET LOCAL lock_timeout = '10s'";

/// A connection that is ready to write batches.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: PgConnection,
    probe: Probe,
    last_used: Instant,
    /// Whether a COMMIT was sent for the last batch.
    is_commit_sent: bool,
}

/// A batch as it is stored in the database, with its writer's numbers.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) mark: Option<Vec<u8>>,
}

/// Why there is no connection that can write.
#[derive(Debug)]
pub(crate) enum NotReady {
    Fault(Fault),
    /// The tables are missing or old, or this role may not write to them.
    Schema(Cow<'static, str>),
}

impl From<Fault> for NotReady {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<sqlx::Error> for NotReady {
    fn from(error: sqlx::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// Waits at most `limit`; after that the connection is given up.
async fn within<T, E>(
    limit: Duration,
    doing: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault>
where
    Fault: From<E>,
{
    match tokio::time::timeout(limit, doing).await {
        Ok(done) => done.map_err(Fault::from),
        Err(_) => Err(Fault::timed_out()),
    }
}

/// Waits for an exchange with the server. While the server is silent, probes whether it can be
/// reached at all; if not, gives up the connection at once.
async fn watched<T, E>(probe: &Probe, doing: impl Future<Output = Result<T, E>>) -> Result<T, Fault>
where
    Fault: From<E>,
{
    let until = tokio::time::Instant::now() + EXCHANGE_TIMEOUT;
    let mut doing = pin!(doing);
    loop {
        let look_at = until.min(tokio::time::Instant::now() + SILENCE);
        if let Ok(done) = tokio::time::timeout_at(look_at, doing.as_mut()).await {
            return done.map_err(Fault::from);
        }
        if look_at == until {
            return Err(Fault::timed_out());
        }
        let mut looking = pin!(probe.look(SILENCE));
        let looked = poll_fn(|context| match doing.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Err(done)),
            Poll::Pending => looking.as_mut().poll(context).map(Ok),
        });
        match looked.await {
            Err(done) => return done.map_err(Fault::from),
            Ok(Err(why)) => return Err(Fault::gone(why)),
            Ok(Ok(())) => {}
        }
    }
}

impl Writer {
    /// Connects, and creates or updates the tables if that is needed, enabled and allowed.
    pub(crate) async fn connect(servers: &Servers, migrate: bool) -> Result<Self, NotReady> {
        let (mut connection, probe) = servers
            .connect(CONNECT_TIMEOUT)
            .await
            .map_err(|unreachable| Fault::unreachable(&unreachable))?;
        let state = watched(&probe, schema::state(&mut connection)).await?;
        match state {
            schema::SchemaState::Current => {}
            schema::SchemaState::Newer(_) => {
                return Err(NotReady::Schema(Cow::Borrowed(
                    "the audit tables are of a newer version than this program",
                )));
            }
            schema::SchemaState::Encoding => {
                return Err(NotReady::Schema(Cow::Borrowed(
                    "the database's encoding is not UTF8, so it cannot hold every text",
                )));
            }
            schema::SchemaState::NotWriter | schema::SchemaState::Closed => {
                let asking = login::why_not_writer(&mut connection);
                let why = watched(&probe, asking).await?;
                return Err(NotReady::Schema(Cow::Owned(why)));
            }
            schema::SchemaState::Foreign => {
                let naming = migrations::strangers(&mut connection, migrations::About::Making);
                let why = match tokio::time::timeout(EXCHANGE_TIMEOUT, naming).await {
                    Ok(Ok(Some(strangers))) => {
                        format!("this is in the way of the audit trail: {strangers}")
                    }
                    Ok(Ok(None)) => String::from("the audit tables do not belong to audit_owner"),
                    Ok(Err(NotMade::Database(error))) => return Err(error.into()),
                    Ok(Err(_)) | Err(_) => return Err(Fault::timed_out().into()),
                };
                return Err(NotReady::Schema(Cow::Owned(why)));
            }
            schema::SchemaState::Behind if !migrate => {
                return Err(NotReady::Schema(Cow::Borrowed(
                    "the audit tables are missing or old, and this program is not to make them: run `tracing-audit migrate`",
                )));
            }
            schema::SchemaState::Behind => {
                // Longer than the lock timeout that the migration sets.
                let migrating = tokio::time::timeout(
                    Duration::from_mins(2),
                    migrations::run(&mut connection, true),
                );
                match migrating.await {
                    Ok(Ok(())) => {}
                    Ok(Err(NotMade::Database(error))) => {
                        return Err(not_migrated(error, servers.login()));
                    }
                    Ok(Err(NotMade::Lacking(why))) => {
                        let login = login::shell_word(servers.login());
                        return Err(NotReady::Schema(Cow::Owned(format!(
                            "the audit tables are missing or old, and {why}; \
                             or run `tracing-audit migrate --writer-login {login}` as an administrator"
                        ))));
                    }
                    Ok(Err(not_made)) => {
                        let why = crate::error::MigrateError::from(not_made);
                        return Err(NotReady::Schema(Cow::Owned(why.to_string())));
                    }
                    Err(_) => return Err(Fault::timed_out().into()),
                }
            }
        }
        Ok(Self {
            connection,
            probe,
            last_used: Instant::now(),
            is_commit_sent: false,
        })
    }

    /// Returns when it was last used.
    pub(crate) fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Closes the connection, and tells the server so.
    pub(crate) async fn close(self) {
        // A server that does not answer finds out by itself.
        let _ = within(SILENCE, self.connection.close()).await;
    }

    /// Checks that a connection that was idle is still there: a batch would wait for one that a
    /// firewall has forgotten meanwhile.
    async fn wake(&mut self) -> Result<(), Fault> {
        if self.last_used.elapsed() > SILENCE {
            within(SILENCE, self.connection.ping()).await?;
        }
        self.last_used = Instant::now();
        Ok(())
    }

    /// Creates the partitions that will be needed. After an error the connection cannot be used.
    pub(crate) async fn prepare_partitions(&mut self) -> Result<(), Fault> {
        let asking = self.connection.fetch_all(partitions::LACKING);
        for row in within(AHEAD_TIMEOUT, asking).await? {
            let statements: String = row.try_get(0)?;
            let ensuring = self.connection.execute(AssertSqlSafe(statements));
            within(AHEAD_TIMEOUT, ensuring).await?;
        }
        Ok(())
    }

    /// Returns the position of each of these writers: the seq of the next record that the trail
    /// expects.
    ///
    /// Fails on a standby, which may not show yet all that was committed, and accepts no records.
    pub(crate) async fn positions(&mut self, writers: &[Uuid]) -> Result<Vec<u64>, Fault> {
        let asking = ask_positions(&mut self.connection, writers);
        let rows = watched(&self.probe, asking).await?;
        let mut positions = Vec::with_capacity(rows.len());
        for row in rows {
            if row.try_get(1)? {
                return Err(Fault::standby());
            }
            let position: i64 = row.try_get(0)?;
            positions.push(u64::try_from(position).unwrap_or(1));
        }
        Ok(positions)
    }

    /// Returns a writer's batches that end at or after a seq, in order.
    pub(crate) async fn batches(
        &mut self,
        identity: &Identity,
        since: u64,
    ) -> Result<Vec<Written>, Fault> {
        let asking = ask_batches(&mut self.connection, identity, since);
        let rows = watched(&self.probe, asking).await?;
        let mut batches = Vec::with_capacity(rows.len());
        for row in rows {
            let (first_seq, last_seq): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            batches.push(Written {
                first_seq: first_seq.cast_unsigned(),
                last_seq: last_seq.cast_unsigned(),
                mark: row.try_get(2)?,
            });
        }
        Ok(batches)
    }

    /// Returns whether the last batch may have been committed, if it failed.
    pub(crate) fn may_be_committed(&self) -> bool {
        self.is_commit_sent
    }

    /// Writes a batch in one transaction; returns how many of its rows are in default partitions.
    ///
    /// After an error the batch may have been committed, unless
    /// [`may_be_committed`](Self::may_be_committed) says that it was not, and the connection cannot
    /// be used any more. After [`Poison`](super::fault::Class::Poison), however, the batch was not
    /// committed, and the connection is to be rolled back.
    pub(crate) async fn write(&mut self, batch: &Batch, log: &Log) -> Result<u64, Fault> {
        self.is_commit_sent = false;
        self.wake().await?;
        // A clone, because the transaction borrows all of `self`.
        let probe = self.probe.clone();
        let written = watched(&probe, self.transaction(batch, log)).await;
        self.last_used = Instant::now();
        written
    }

    /// Ends a transaction in which Postgres has refused something.
    pub(crate) async fn rollback(&mut self) -> Result<(), Fault> {
        watched(&self.probe, self.connection.execute("ROLLBACK")).await?;
        Ok(())
    }

    async fn transaction(&mut self, batch: &Batch, log: &Log) -> Result<u64, Fault> {
        let identity = log.identity();
        // One exchange for all that begins a batch.
        let mut begin = format!("{BEGIN}; {BEFORE_PARTITIONS}");
        for leaf in &batch.leaves {
            begin.push_str("; ");
            begin.push_str(&partitions::ensure(leaf.table, leaf.day));
        }
        begin.push_str("; ");
        begin.push_str(AFTER_PARTITIONS);
        let answers = self.connection.fetch_all(AssertSqlSafe(begin)).await?;
        self.header(batch, log.service(), &identity).await?;
        // The last answers name the partitions.
        let partitions = &answers[answers.len().saturating_sub(batch.leaves.len())..];
        let mut in_default = 0;
        for ((number, leaf), partition) in batch.leaves.iter().enumerate().zip(partitions) {
            let partition: &str = partition.try_get(0)?;
            if partitions::is_default(partition) {
                in_default += leaf.seqs.len() as u64;
            }
            let taken = self
                .copy(leaf, partition)
                .await
                .map_err(|error| Fault::from(error).in_leaf(number))?;
            let sent = leaf.seqs.len();
            if taken != sent as u64 {
                return Err(Fault::left_out(leaf.table.name(), sent, taken));
            }
        }
        for letter in &batch.dead_letters {
            self.dead_letter(letter, &identity).await?;
        }
        self.is_commit_sent = true;
        self.connection.execute("COMMIT").await?;
        Ok(in_default)
    }

    /// Sends the rows of a leaf; returns how many of them Postgres has added.
    async fn copy(&mut self, leaf: &Leaf, partition: &str) -> Result<u64, sqlx::Error> {
        let columns = copy::column_list(leaf.table);
        let copy = format!("COPY audit_parts.{partition} ({columns}) FROM STDIN (FORMAT binary)");
        let mut sink = self.connection.copy_in_raw(&copy).await?;
        for piece in leaf.data.chunks(PIECE_BYTES) {
            sink.send(piece).await?;
        }
        sink.finish().await
    }

    /// Inserts the batch's own row. The secret is a parameter rather than part of the statement:
    /// others who have this login can read statements in `pg_stat_activity`.
    async fn header(
        &mut self,
        batch: &Batch,
        service: &str,
        identity: &Identity,
    ) -> Result<(), sqlx::Error> {
        let tree = batch.tree(identity);
        sqlx::query(
            "SELECT audit.add_batch($1, $2, $3, $4, $5::pg_catalog.text::pg_catalog.jsonb, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .persistent(false)
        .bind(identity.writer)
        .bind(&identity.secret[..])
        .bind(identity.seq(batch.first_seq).cast_signed())
        .bind(identity.seq(batch.last_seq).cast_signed())
        .bind(batch.records_by_table())
        .bind(i32::try_from(batch.dead_letters.len()).unwrap_or(i32::MAX))
        .bind(batch.ids.map(|ids| ids.0))
        .bind(batch.ids.map(|ids| ids.1))
        .bind(service.replace('\0', ""))
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(&batch.mark()[..])
        .bind(tree.as_ref().map(|tree| &tree.root[..]))
        .bind(tree.as_ref().map(|tree| &tree.fingerprints[..]))
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    async fn dead_letter(
        &mut self,
        letter: &DeadLetter,
        identity: &Identity,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT audit.add_dead_letter($1, $2, $3, $4, $5, $6, $7, $8, $9)")
            .persistent(false)
            .bind(identity.writer)
            .bind(&identity.secret[..])
            .bind(identity.seq(letter.seq).cast_signed())
            .bind(letter.record_id)
            .bind(letter.kind_name())
            .bind(&letter.sqlstate)
            .bind(letter.stored_reason())
            .bind(&letter.frame)
            .bind(&letter.salt[..])
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}

async fn ask_positions(
    connection: &mut PgConnection,
    writers: &[Uuid],
) -> Result<Vec<PgRow>, sqlx::Error> {
    // In a transaction: outside one, a transaction pooler may run what was prepared elsewhere.
    connection.execute("BEGIN READ ONLY").await?;
    let rows = sqlx::query(
        "SELECT audit.writer_position(w.id), pg_catalog.pg_is_in_recovery() \
         FROM pg_catalog.unnest($1) WITH ORDINALITY AS w (id, n) ORDER BY w.n",
    )
    .persistent(false)
    .bind(writers)
    .fetch_all(&mut *connection)
    .await?;
    connection.execute("COMMIT").await?;
    Ok(rows)
}

async fn ask_batches(
    connection: &mut PgConnection,
    identity: &Identity,
    since: u64,
) -> Result<Vec<PgRow>, sqlx::Error> {
    connection.execute("BEGIN READ ONLY").await?;
    let rows = sqlx::query("SELECT * FROM audit.writer_batches($1, $2, $3)")
        .persistent(false)
        .bind(identity.writer)
        .bind(&identity.secret[..])
        .bind(since.cast_signed())
        .fetch_all(&mut *connection)
        .await?;
    connection.execute("COMMIT").await?;
    Ok(rows)
}

/// Classifies the error of a migration: if a right is missing, an administrator must act.
fn not_migrated(error: sqlx::Error, login: &str) -> NotReady {
    let fault = Fault::from(error);
    match fault.sqlstate.as_deref() {
        Some("42501") => NotReady::Schema(Cow::Owned(format!(
            "the audit tables are missing or old, and the login {login} may not make them: \
             run `tracing-audit migrate --writer-login {}` as an administrator",
            login::shell_word(login)
        ))),
        _ => NotReady::Fault(fault),
    }
}
