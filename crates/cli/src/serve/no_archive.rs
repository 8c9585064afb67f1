//! In place of `archived.rs` where the program has no archives.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

use super::viewer::Viewer;
use crate::database::Scope;
use crate::error::Error;
use crate::filter::{Filter, FilterError};
use crate::row::{RecordId, Row};
use crate::search::{Found, Place};

/// What an archive has for a page.
#[derive(Debug, Default)]
pub(super) struct Archived {
    pub(super) rows: HashMap<RecordId, Row>,
    pub(super) story: Vec<(Row, Option<Uuid>)>,
    pub(super) said: Option<&'static str>,
}

/// There is no archive.
#[derive(Debug)]
pub(super) struct ArchiveReader;

#[allow(
    clippy::unused_async,
    clippy::unused_self,
    reason = "as with the feature"
)]
impl ArchiveReader {
    pub(super) fn is_there(&self) -> bool {
        false
    }

    pub(super) fn is_narrowed(&self, _: &str) -> bool {
        false
    }

    pub(super) async fn story(
        &self,
        _: &Viewer,
        _: Scope<'_>,
        _: &mut PgConnection,
        _: &str,
        _: (Option<&str>, bool),
    ) -> Result<Archived, sqlx::Error> {
        Ok(Archived::default())
    }

    pub(super) async fn record(
        &self,
        _: &Viewer,
        _: &mut PgConnection,
        _: RecordId,
    ) -> Result<Result<Option<Row>, Error>, sqlx::Error> {
        Ok(Ok(None))
    }

    pub(super) async fn add_to_list(
        &self,
        _: &Viewer,
        _: &mut PgConnection,
        _: &Filter,
        _: (Place, usize),
        _: &mut Found,
    ) -> Result<Result<Archived, FilterError>, sqlx::Error> {
        Ok(Ok(Archived::default()))
    }
}
