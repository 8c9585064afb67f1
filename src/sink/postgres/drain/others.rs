//! The folders of other processes: which of them may be orphaned.
//!
//! **No batch waits for a folder whose process lives.** A child forked just before its parent
//! died holds the parent's lock for a moment. So a folder is given up only when two looks,
//! [`OWNED_AFTER`] apart, find it locked; batches are written in between.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Instant;

use crate::spool::{self, OWNED_AFTER};

/// Folders of other processes that are still to be tried.
#[derive(Debug, Default)]
pub(super) struct Others {
    untried: VecDeque<PathBuf>,
    /// Folders that were held, and when to look again; the first is due first.
    held: VecDeque<(Instant, PathBuf)>,
}

impl Others {
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        Self {
            untried: folders.into(),
            held: VecDeque::new(),
        }
    }

    /// Returns when a folder that was held is looked at again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.held.front().map(|(at, _)| *at)
    }

    /// Takes out the next folder that no process holds; drops those that are held for the second
    /// time.
    pub(super) fn pop_free(&mut self) -> Option<PathBuf> {
        while let Some(path) = self.untried.pop_front() {
            if !spool::is_held(&path) {
                return Some(path);
            }
            self.held.push_back((Instant::now() + OWNED_AFTER, path));
        }
        let now = Instant::now();
        while let Some((_, path)) = self.held.pop_front_if(|(at, _)| *at <= now) {
            if !spool::is_held(&path) {
                return Some(path);
            }
        }
        None
    }
}
