//! Changes a log's writer, and keeps its former ones.

use std::sync::{MutexGuard, PoisonError};

use redb::Durability;
use uuid::Uuid;

use super::error::LogError;
use super::identity::{Disagreement, Identity, Past};
use super::log::Log;
use super::positions::Sink;
use super::tables::{META, POSITIONS};

/// A log whose records and positions stay as they are.
#[derive(Debug)]
pub(crate) struct Held<'a>(#[allow(dead_code)] MutexGuard<'a, ()>);

impl Log {
    /// Keeps the log's records and positions as they are: while the guard lives, nothing is stored
    /// or removed.
    ///
    /// Postgres' position is moved back only under it. Otherwise records that must be written again
    /// could be removed first.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held(self.holding.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that the trail reports a disagreement, in a record before the seq `told_at`.
    pub(crate) fn told(&self, why: &Disagreement, told_at: u64) -> Result<(), LogError> {
        let _changing = self.changing.lock();
        let mut past = self.past();
        past.told(why, told_at);
        self.change_identity(self.identity(), past, None)
    }

    /// Gives the records from the seq `from` on a new writer; `leave` adds what is known of the
    /// current one to the log's past. The caller keeps the guard until it knows the new position: a
    /// store in between would write the old one back.
    ///
    /// # Durability
    ///
    /// When it returns `Ok`, the next process to open the log knows the new writer and the past.
    pub(crate) fn rebase(
        &self,
        _: &Held<'_>,
        writer: Uuid,
        from: u64,
        leave: impl FnOnce(&mut Past),
    ) -> Result<(), LogError> {
        let _changing = self.changing.lock();
        let mut past = self.past();
        leave(&mut past);
        let identity = Identity::new(writer, from.saturating_sub(1))?;
        self.change_identity(identity, past, Some(from))
    }

    fn change_identity(
        &self,
        identity: Identity,
        past: Past,
        position: Option<u64>,
    ) -> Result<(), LogError> {
        {
            // Held so that the log is not made meanwhile, with outdated values.
            let file = self.file();
            if !self.is_made() {
                self.set_identity(identity, past);
                return Ok(());
            }
            drop(file);
        }
        self.reopen()?;
        let stored = self.store_identity(identity, &past, position);
        if stored.is_err() {
            self.close();
        }
        stored?;
        self.set_identity(identity, past);
        Ok(())
    }

    fn store_identity(
        &self,
        identity: Identity,
        past: &Past,
        position: Option<u64>,
    ) -> Result<(), LogError> {
        let file = self.file();
        let mut transaction = file.to_write()?.begin_write()?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(redb::Error::from)?;
        {
            let mut meta = transaction.open_table(META)?;
            identity.store(&mut meta)?;
            past.store(&mut meta)?;
            if let Some(position) = position {
                let mut positions = transaction.open_table(POSITIONS)?;
                positions.insert(Sink::Postgres.name(), position)?;
            }
        }
        transaction.commit()?;
        if let Some(position) = position {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.positions = state.positions.with(Sink::Postgres, position);
        }
        Ok(())
    }
}
