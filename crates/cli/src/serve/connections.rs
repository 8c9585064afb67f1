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

/// How long a connection is kept that nobody uses: from one look for new records to the next, and
/// more.
const MAX_IDLE: Duration = Duration::from_secs(5);

/// How long a page waits for a connection before it says that there are too many readers.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// The connections of one login.
#[derive(Debug)]
pub(super) struct Connections {
    database: Database,
    most: Arc<Semaphore>,
    /// The places of all logins' connections.
    all: Arc<Semaphore>,
    idle: Mutex<Vec<Open>>,
}

/// A connection that is kept.
#[derive(Debug)]
struct Open {
    connection: PgConnection,
    since: Instant,
    place: OwnedSemaphorePermit,
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lease {
    connection: PgConnection,
    of: Arc<Connections>,
    place: OwnedSemaphorePermit,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    /// Keeps connections to this database, `most` at a time, and no more than `all` has places for.
    pub(super) fn new(database: Database, most: usize, all: Arc<Semaphore>) -> Self {
        Self {
            database,
            most: Arc::new(Semaphore::new(most)),
            all,
            idle: Mutex::default(),
        }
    }

    /// Returns the database, for messages.
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Takes a connection that is kept, or connects.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Refusal> {
        let permit = place(&self.most).await?;
        let (connection, place) = if let Some(open) = self.take() {
            (open.connection, open.place)
        } else {
            let place = place(&self.all).await?;
            (self.database.connect_to_trail().await?, place)
        };
        Ok(Lease {
            connection,
            of: Arc::clone(self),
            place,
            _permit: permit,
        })
    }

    /// Takes the one that was used last, and closes those that were not used for long.
    fn take(&self) -> Option<Open> {
        self.close_idle();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop()
    }

    /// Closes the connections that were not used for long.
    pub(super) fn close_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|open| open.since.elapsed() < MAX_IDLE);
    }
}

/// Waits for a place, but not for long.
async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    let waiting = Arc::clone(places).acquire_owned();
    let place = tokio::time::timeout(MAX_WAIT, waiting).await;
    place
        .ok()
        .and_then(Result::ok)
        .ok_or(Refusal::TooManyReaders)
}

impl Lease {
    /// Gives the connection back: no statement of it is under way. It is kept unless all places are taken:
    /// those who wait for one would wait for as long as its login has something to ask now and then.
    pub(super) fn done(self) {
        if self.of.all.available_permits() == 0 {
            return;
        }
        let open = Open {
            connection: self.connection,
            since: Instant::now(),
            place: self.place,
        };
        let mut idle = self.of.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(open);
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
