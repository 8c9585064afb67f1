//! Connections to the trail's database, kept for the next page.
//!
//! A connection is used by one page at a time. It is kept only if the page says that it is done with
//! it: one that was left in the middle of a statement, by an error or because the reader went away,
//! is closed.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Refusal;
use crate::database::Database;

/// How long a connection is kept that nobody uses.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// How long a page waits for a connection before it says that there are too many readers.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// The connections of one login.
#[derive(Debug)]
pub(super) struct Connections {
    database: Database,
    most: Arc<Semaphore>,
    idle: Mutex<Vec<(PgConnection, Instant)>>,
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lease {
    connection: PgConnection,
    of: Arc<Connections>,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    /// Keeps connections to this database, `most` at a time.
    pub(super) fn new(database: Database, most: usize) -> Self {
        Self {
            database,
            most: Arc::new(Semaphore::new(most)),
            idle: Mutex::default(),
        }
    }

    /// Returns the database, for messages.
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Takes a connection that is kept, or connects.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Refusal> {
        let waiting = Arc::clone(&self.most).acquire_owned();
        let permit = tokio::time::timeout(MAX_WAIT, waiting).await;
        let permit = permit
            .ok()
            .and_then(Result::ok)
            .ok_or(Refusal::TooManyReaders)?;
        let kept = self.take();
        let connection = match kept {
            Some(connection) => connection,
            None => self.database.connect_to_trail().await?,
        };
        Ok(Lease {
            connection,
            of: Arc::clone(self),
            _permit: permit,
        })
    }

    /// Adds a connection that was made elsewhere.
    pub(super) fn keep(&self, connection: PgConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push((connection, Instant::now()));
    }

    /// Takes the one that was used last, and closes those that were not used for long.
    fn take(&self) -> Option<PgConnection> {
        self.close_idle();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().map(|(connection, _)| connection)
    }

    /// Closes the connections that were not used for long.
    pub(super) fn close_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < MAX_IDLE);
    }
}

impl Lease {
    /// Gives the connection back: no statement of it is under way.
    pub(super) fn done(self) {
        self.of.keep(self.connection);
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
