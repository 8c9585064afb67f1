//! The rows of a story, in its order: of the database a page at a time, and those that were read in an archive.

use std::collections::{HashMap, VecDeque};

use sqlx::postgres::PgConnection;

use crate::database::{Database, Scope};
use crate::error::Error;
use crate::pages::{Extent, Pages};
use crate::row::{RecordId, Row};

/// How many records of the database are read one page after the other.
const AT_ONCE: usize = 50;

/// The rows of records, in their order.
pub(crate) struct Rows<'a> {
    source: Option<(&'a Database, &'a mut PgConnection)>,
    scope: Scope<'a>,
    archived: &'a mut HashMap<RecordId, Row>,
    left: VecDeque<RecordId>,
    extent: Extent,
    /// Those of the database that follow each other.
    pages: Option<Pages>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(
        source: Option<(&'a Database, &'a mut PgConnection)>,
        scope: impl Into<Scope<'a>>,
        archived: &'a mut HashMap<RecordId, Row>,
        records: impl IntoIterator<Item = RecordId>,
        extent: Extent,
    ) -> Self {
        Self {
            source,
            scope: scope.into(),
            archived,
            left: records.into_iter().collect(),
            extent,
            pages: None,
        }
    }

    /// Returns the next rows; `None` after the last. A record that was removed meanwhile is left out.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Row>>, Error> {
        loop {
            if let (Some(pages), Some((database, connection))) = (&mut self.pages, &mut self.source)
            {
                let page = pages.next(connection, self.scope).await;
                let page = page.map_err(|source| database.read_error(source))?;
                if page.is_some() {
                    return Ok(page);
                }
                self.pages = None;
            }
            let Some(first) = self.left.front().copied() else {
                return Ok(None);
            };
            if let Some(row) = self.archived.remove(&first) {
                self.left.pop_front();
                return Ok(Some(vec![row]));
            }
            let is_archived = |record: &RecordId| self.archived.contains_key(record);
            let count = self
                .left
                .iter()
                .take(AT_ONCE)
                .take_while(|record| !is_archived(record));
            let records: Vec<_> = self.left.drain(..count.count()).collect();
            self.pages = Some(Pages::new(records, self.extent));
        }
    }
}
