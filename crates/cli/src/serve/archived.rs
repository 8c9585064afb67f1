//! What the pages show of an archive: the records that the database does not have any more.
//!
//! **Row-level security does not reach files**, so whose records are shown is decided here, by what the database says of the viewer's rights
//! when the page is read: all records to whom the policy of auditors is for, else those of the viewer's own tenant, else none. The search asks
//! for these alone, and what it finds is compared once more.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use tokio::sync::Semaphore;
use tracing_audit::__program::Table;

use super::viewer::Viewer;
use crate::archive::matching::{Among, Matcher};
use crate::archive::scan::{Hit, OpenArchive, Order, Slice};
use crate::archive::{ArchiveError, beside, near, open_in, tenant_of};
use crate::complain;
use crate::database::{Scope, begin};
use crate::error::Error;
use crate::export::columns::{COLUMNS, TENANT_ID};
use crate::filter::{Bounds, Filter, FilterError};
use crate::row::{RecordId, Row};
use crate::search::{End, Found, Place};

/// How long a page may search an archive.
const TIME: Duration = Duration::from_secs(10);

/// How many pages search an archive at once.
const MOST_AT_ONCE: usize = 4;

/// How many bytes of records a list reads of an archive at once.
const MOST_BYTES: usize = 4 << 20;

/// How many bytes the records of a request may have in an archive to be shown as a story.
const MOST_OF_STORY: usize = 16 << 20;

/// Whether the policy of auditors is for whoever reads, whether one of readers is, and which tenant is set. `$1` are the tables.
const RIGHTS: &str = "
    SELECT pg_has_role('audit_auditor', 'USAGE') AND may_select, (pg_has_role('audit_reader', 'USAGE') OR pg_has_role('audit_auditor', 'USAGE')) AND may_select,
        audit.current_tenant()
    FROM (SELECT bool_and(has_table_privilege(name, 'SELECT')) AS may_select FROM unnest($1::text[]) AS name) AS tables";

/// Whose records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    All,
    OfTenant(Uuid),
    Nobody,
}

impl Allowed {
    /// Asks the database, in a transaction that has begun as the viewer.
    async fn read(viewer: &Viewer, connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let tables = Table::ALL.map(|table| format!("audit.{}", table.name()));
        let (is_auditor, is_reader, tenant): (bool, bool, Option<Uuid>) = sqlx::query_as(RIGHTS)
            .bind(&tables[..])
            .persistent(false)
            .fetch_one(connection)
            .await?;
        Ok(match tenant {
            _ if is_auditor && viewer.reads_all() => Self::All,
            Some(tenant) if is_reader => Self::OfTenant(tenant),
            _ => Self::Nobody,
        })
    }

    /// Returns whose records are shown where those of a tenant are asked for.
    fn among(self, asked: Option<Uuid>) -> Self {
        match (self, asked) {
            (Self::All, Some(asked)) => Self::OfTenant(asked),
            (Self::OfTenant(own), Some(asked)) if asked != own => Self::Nobody,
            (allowed, _) => allowed,
        }
    }
}

/// What an archive has for a page.
#[derive(Debug, Default)]
pub(super) struct Archived {
    /// The rows of a list.
    pub(super) rows: HashMap<RecordId, Row>,
    /// Those of a story, each with its parent.
    pub(super) story: Vec<(Row, Option<Uuid>)>,
    /// What the reader has to know.
    pub(super) said: Option<&'static str>,
}

/// The archive of a server, if it has one.
#[derive(Debug)]
pub(super) struct ArchiveReader {
    archive: Option<OpenArchive>,
    turns: Semaphore,
}

impl ArchiveReader {
    pub(super) fn new(archive: Option<OpenArchive>) -> Self {
        Self {
            archive,
            turns: Semaphore::new(MOST_AT_ONCE),
        }
    }

    /// Whether there is an archive.
    pub(super) fn is_there(&self) -> bool {
        self.archive.is_some()
    }

    /// Whether a request is looked for on some days of the archive alone.
    pub(super) fn is_narrowed(&self, request: &str) -> bool {
        self.is_there() && near(request).is_some()
    }

    /// Reads the records of a request: on the days around its time if its id tells it, unless all days are asked for.
    pub(super) async fn story(
        &self,
        viewer: &Viewer,
        scope: Scope<'_>,
        connection: &mut PgConnection,
        request: &str,
        asked: (Option<&str>, bool),
    ) -> Result<Archived, sqlx::Error> {
        let mut archived = Archived::default();
        let Some(archive) = &self.archive else {
            return Ok(archived);
        };
        let (mut transaction, _) = begin(connection, scope).await?;
        let allowed = Allowed::read(viewer, &mut transaction).await?;
        transaction.rollback().await?;
        let (tenant, is_whole) = asked;
        let tenant = match allowed.among(tenant.map(tenant_of)) {
            Allowed::All => None,
            Allowed::OfTenant(tenant) => Some(tenant),
            Allowed::Nobody => return Ok(archived),
        };
        let bounds = near(request).filter(|_| !is_whole).unwrap_or_default();
        let _turn = self.turns.acquire().await;
        let until = Instant::now() + TIME;
        let within = (bounds, MOST_OF_STORY, Some(until));
        let source = Some((viewer.connections.database(), connection, scope));
        let story = archive.story_within(source, request, tenant, within);
        match story.await {
            Ok(story) => archived.story = story,
            Err(error) => archived.said = Some(away(&error)),
        }
        archived.story.retain(|(row, _)| {
            let of = row.text("tenant_id").and_then(|of| of.parse().ok());
            tenant.is_none_or(|tenant| of == Some(tenant))
        });
        Ok(archived)
    }

    /// Reads one record.
    pub(super) async fn record(
        &self,
        viewer: &Viewer,
        connection: &mut PgConnection,
        record: RecordId,
    ) -> Result<Result<Option<Row>, Error>, sqlx::Error> {
        let Some(archive) = &self.archive else {
            return Ok(Ok(None));
        };
        let (mut transaction, _) = begin(connection, viewer.scope()).await?;
        let allowed = Allowed::read(viewer, &mut transaction).await?;
        transaction.rollback().await?;
        let tenant = match allowed {
            Allowed::All => None,
            Allowed::OfTenant(tenant) => Some(tenant),
            Allowed::Nobody => return Ok(Ok(None)),
        };
        let _turn = self.turns.acquire().await;
        match one(archive, (connection, viewer.scope()), record, tenant).await {
            Ok(row) => Ok(Ok(row)),
            Err(Failure::Archive(error)) => Ok(Err(error)),
            Err(Failure::Database(error)) => Err(error),
        }
    }

    /// Adds to what was found in the database what the archive has between, and cuts it at so many.
    ///
    /// What lies beyond where either search ended is left for the next page.
    pub(super) async fn add_to_list(
        &self,
        viewer: &Viewer,
        connection: &mut PgConnection,
        filter: &Filter,
        place: (Place, usize),
        found: &mut Found,
    ) -> Result<Result<Archived, FilterError>, sqlx::Error> {
        let (place, limit) = place;
        let Some(archive) = &self.archive else {
            return Ok(Ok(Archived::default()));
        };
        let (mut transaction, own) = begin(connection, viewer.scope()).await?;
        let allowed = Allowed::read(viewer, &mut transaction).await?;
        let bounds = match filter.bounds(&mut transaction).await? {
            Ok(bounds) => bounds,
            Err(error) => return Ok(Err(error)),
        };
        let asked = match &filter.tenant {
            Some(_) => filter.tenant_id(&mut transaction, own).await?,
            None => None,
        };
        let case = beside::case(&mut transaction).await?;
        let tenant = match allowed.among(asked) {
            Allowed::All => None,
            Allowed::OfTenant(tenant) => Some(tenant),
            Allowed::Nobody => return Ok(Ok(Archived::default())),
        };
        let of_database = match found.end {
            End::Exhausted => None,
            // Nothing was looked through: there is nothing to add to.
            End::Full | End::CutShort if found.reached.is_none() => {
                return Ok(Ok(Archived::default()));
            }
            End::Full | End::CutShort => found.reached,
        };
        let way = Way::of(place);
        let bounds = between(bounds, place, of_database);
        let matcher = Matcher::new(filter.clone(), bounds, tenant).with_case(case);
        let mut list = List {
            way,
            tenant,
            limit,
            rows: HashMap::new(),
            reached: None,
        };
        let _turn = self.turns.acquire().await;
        let ended = list.search(archive, &mut transaction, matcher).await;
        transaction.rollback().await?;
        let mut archived = Archived::default();
        let reached = match ended {
            Ok(true) => of_database,
            Ok(false) => way.nearer(of_database, list.reached),
            Err(Failure::Database(error)) => return Err(error),
            Err(Failure::Archive(error)) => {
                archived.said = Some(away(&error));
                // The next page goes on where this one ended in the archive, if nowhere else.
                of_database.or(list.reached)
            }
        };
        archived.rows = list.rows;
        cut(found, way, &mut archived.rows, reached, limit);
        Ok(Ok(archived))
    }
}

/// Says why nothing of an archive is shown, and tells whoever runs the server.
fn away(error: &Error) -> &'static str {
    match error {
        Error::Archive(ArchiveError::TooLong) => {
            "The archive was searched for 10 seconds and not to its end: there may be more records. Name a narrower time, or search on."
        }
        Error::Archive(ArchiveError::TooManyRecords) => {
            "The archive has more of this request than a page can show: use `tracing-audit show --archive`."
        }
        error => {
            complain(&format!("an archive was not shown: {error}"));
            "The archive could not be read: there may be more records. Whoever runs this server finds the reason in its messages."
        }
    }
}

/// Returns the columns of whole records.
fn whole() -> Vec<usize> {
    (0..COLUMNS.len()).collect()
}

/// Reads one record, if it is of this tenant.
async fn one(
    archive: &OpenArchive,
    (connection, scope): (&mut PgConnection, Scope<'_>),
    record: RecordId,
    tenant: Option<Uuid>,
) -> Result<Option<Row>, Failure> {
    let bounds = Bounds {
        from: Some(record.id),
        to: record.id.as_u128().checked_add(1).map(Uuid::from_u128),
    };
    let filter = Filter {
        kinds: vec![record.table],
        reads: true,
        ..Filter::default()
    };
    let among = Among::Records(HashSet::from([record]));
    let matcher = Matcher::new(filter, bounds, tenant).among(among);
    let columns = whole();
    let scan = archive.scan(matcher, &columns, Order::OldestFirst);
    let mut scan = scan.await?.until(Instant::now() + TIME);
    let columns = scan.columns();
    while let Some(mut slice) = scan.next().await? {
        open_in(connection, scope, &scan, &mut slice).await?;
        let mut hits = slice.hits.iter();
        if let Some(hit) = hits.find(|hit| is_of(hit, &columns, tenant)) {
            return Ok(Some(archive.row(hit, &columns).0));
        }
    }
    Ok(None)
}

/// Whether a record is of this tenant, if it has to be of one.
fn is_of(hit: &Hit, columns: &[usize], tenant: Option<Uuid>) -> bool {
    tenant.is_none_or(|tenant| hit.record(columns).uuid(TENANT_ID) == Some(tenant))
}

/// What is found of a list.
struct List {
    way: Way,
    tenant: Option<Uuid>,
    limit: usize,
    rows: HashMap<RecordId, Row>,
    /// The last id that is dealt with.
    reached: Option<Uuid>,
}

impl List {
    /// Searches until there are enough. Returns whether all was searched.
    async fn search(
        &mut self,
        archive: &OpenArchive,
        connection: &mut PgConnection,
        matcher: Matcher,
    ) -> Result<bool, Failure> {
        let scan = archive.scan(matcher, &whole(), self.way.order()).await?;
        let mut scan = scan
            .with_most_bytes(MOST_BYTES)
            .until(Instant::now() + TIME);
        let columns = scan.columns();
        while let Some(mut slice) = scan.next().await? {
            beside::open(connection, &scan, &mut slice).await?;
            let records: Vec<RecordId> = slice.hits.iter().map(|hit| hit.record).collect();
            let known = beside::known(connection, &records).await?;
            for hit in &slice.hits {
                if !known.contains(&hit.record) && is_of(hit, &columns, self.tenant) {
                    self.rows.insert(hit.record, archive.line(hit, &columns));
                }
            }
            self.reached = Some(self.way.end_of(&slice));
            if self.rows.len() >= self.limit {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

enum Failure {
    Database(sqlx::Error),
    Archive(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Archive(error)
    }
}

/// Puts the records of both in order, leaves out what lies beyond `reached`, and cuts them at so many.
fn cut(
    found: &mut Found,
    way: Way,
    rows: &mut HashMap<RecordId, Row>,
    reached: Option<Uuid>,
    limit: usize,
) {
    found.records.extend(rows.keys());
    found
        .records
        .sort_by_key(|record| (record.id, record.table));
    if way == Way::Older {
        found.records.reverse();
    }
    if let Some(reached) = reached {
        found
            .records
            .retain(|record| way.is_within(record.id, reached));
        if found.reached != Some(reached) || found.end == End::Exhausted {
            found.end = End::Full;
        }
        found.reached = Some(reached);
    }
    let last = limit.checked_sub(1).and_then(|at| found.records.get(at));
    if let Some(last) = last.map(|record| record.id) {
        let within = |record: &&RecordId| way.is_within(record.id, last);
        let kept = found.records.iter().take_while(within).count();
        if kept < found.records.len() {
            found.records.truncate(kept);
            found.reached = Some(last);
            found.end = End::Full;
        }
    }
    let shown: HashSet<RecordId> = found.records.iter().copied().collect();
    rows.retain(|record, _| shown.contains(record));
    if way == Way::Newer {
        found.records.reverse();
    }
}

/// Returns the ids between which there is something to add: from a place to where the search of the database ended.
fn between(bounds: Bounds, place: Place, reached: Option<Uuid>) -> Bounds {
    let after = |id: Uuid| Uuid::from_u128(id.as_u128().saturating_add(1));
    let (from, to) = match place {
        Place::Newest => (reached, None),
        Place::Before(id) => (reached, Some(id)),
        Place::After(id) => (Some(after(id)), reached.map(after)),
    };
    Bounds {
        from: bounds.from.max(from),
        to: [bounds.to, to].into_iter().flatten().min(),
    }
}

/// Which way a list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Older,
    Newer,
}

impl Way {
    fn of(place: Place) -> Self {
        match place {
            Place::Newest | Place::Before(_) => Self::Older,
            Place::After(_) => Self::Newer,
        }
    }

    fn order(self) -> Order {
        match self {
            Self::Older => Order::NewestFirst,
            Self::Newer => Order::OldestFirst,
        }
    }

    /// Whether an id is not beyond this one.
    fn is_within(self, id: Uuid, reached: Uuid) -> bool {
        match self {
            Self::Older => id >= reached,
            Self::Newer => id <= reached,
        }
    }

    /// Returns the one of both that comes first; `None` is behind all.
    fn nearer(self, one: Option<Uuid>, other: Option<Uuid>) -> Option<Uuid> {
        match self {
            Self::Older => one.max(other),
            Self::Newer => [one, other].into_iter().flatten().min(),
        }
    }

    /// Returns the last id of a slice.
    fn end_of(self, slice: &Slice) -> Uuid {
        match self {
            Self::Older => slice.from,
            Self::Newer => {
                let last = slice.to.map(|to| to.as_u128().saturating_sub(1));
                Uuid::from_u128(last.unwrap_or(u128::MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u128) -> RecordId {
        RecordId {
            table: Table::ALL[0],
            id: Uuid::from_u128(id),
        }
    }

    fn found(ids: &[u128], reached: Option<u128>, end: End) -> Found {
        Found {
            records: ids.iter().map(|id| record(*id)).collect(),
            reached: reached.map(Uuid::from_u128),
            end,
            looked_at: 0,
            future: None,
        }
    }

    #[test]
    fn whoever_is_bound_to_a_tenant_is_shown_no_other() {
        let [own, other] = [1, 2].map(Uuid::from_u128);
        for asked in [None, Some(own)] {
            assert_eq!(Allowed::OfTenant(own).among(asked), Allowed::OfTenant(own));
        }
        assert_eq!(Allowed::OfTenant(own).among(Some(other)), Allowed::Nobody);
        assert_eq!(Allowed::Nobody.among(Some(own)), Allowed::Nobody);
        assert_eq!(Allowed::Nobody.among(None), Allowed::Nobody);
        assert_eq!(Allowed::All.among(None), Allowed::All);
        assert_eq!(Allowed::All.among(Some(own)), Allowed::OfTenant(own));
    }

    #[test]
    fn list_of_both_is_cut_where_either_ends() {
        let row = |id: u128| {
            let json = String::from("{}");
            let row = Row::of_json(Table::ALL[0], json, "{}", (String::new(), 0), None);
            (record(id), row)
        };
        let cut = |mut found: Found, way, archived: &[u128], reached: Option<u128>, limit| {
            let mut rows = archived.iter().map(|id| row(*id)).collect();
            let reached = reached.map(Uuid::from_u128);
            super::cut(&mut found, way, &mut rows, reached, limit);
            let ids = found.records.iter().map(|record| record.id.as_u128());
            let reached = found.reached.map(|id| id.as_u128());
            (ids.collect::<Vec<_>>(), reached, found.end, rows.len())
        };
        // All of both.
        let both = found(&[9, 5], None, End::Exhausted);
        let all = (vec![9, 7, 5, 3], None, End::Exhausted, 2);
        assert_eq!(cut(both, Way::Older, &[3, 7], None, 9), all);
        // The archive was left at 6: what the database has below comes later.
        let both = found(&[9, 5], None, End::Exhausted);
        let some = (vec![9, 7], Some(6), End::Full, 1);
        assert_eq!(cut(both, Way::Older, &[7], Some(6), 9), some);
        // More than a page.
        let both = found(&[9, 5], Some(4), End::CutShort);
        let page = (vec![9, 8, 7], Some(7), End::Full, 2);
        assert_eq!(cut(both, Way::Older, &[8, 7], Some(4), 3), page);
        let both = found(&[9, 5], Some(9), End::Full);
        let page = (vec![6, 5], Some(6), End::Full, 1);
        assert_eq!(cut(both, Way::Newer, &[6], Some(9), 2), page);
    }
}
