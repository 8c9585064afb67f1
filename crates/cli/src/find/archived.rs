//! `find --archive`: the requests of the database and of an archive, each once.
//!
//! A request is where the first of its matching records is. So all requests that the database finds are known before the archive is searched, by
//! a hash each; what the archive finds counts where the database does not have that record.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use sqlx::{Executor as _, Postgres, Transaction};

use super::{
    Find, Found, Hit, Key, LOOKED_AT, SET_UP, Span, hits, outcomes, read_error, requests, span,
};
use crate::archive::matching::{Among, Case, Matcher};
use crate::archive::scan::{OpenArchive, Order, Scan, Slice};
use crate::archive::{ArchiveError, beside, moment, tenant_of};
use crate::database::{Database, begin, record_reading};
use crate::error::Error;
use crate::export::columns::{COLUMNS, ID, REQUEST_ID, STATUS, TENANT_ID};
use crate::export::values::Record;
use crate::filter::{Bounds, Filter};
use crate::row::{RecordId, Row};

/// The most requests among which the newest are looked for.
const MOST: u32 = 1_000_000;

/// A day, in the upper bits of an id.
const DAY: u128 = 86_400_000 << 80;

/// A request, by its tenant and its id, or a record without one, by its own: hashed, since there are many.
type Digest = [u8; 16];

/// Where the first record of a request is.
#[derive(Clone, Copy)]
enum First {
    /// The one with this number among those of the database.
    OfDatabase(usize, RecordId),
    OfArchive(RecordId),
}

impl First {
    fn record(self) -> RecordId {
        match self {
            Self::OfDatabase(_, record) | Self::OfArchive(record) => record,
        }
    }
}

/// A search of both.
struct Search<'a> {
    archive: &'a OpenArchive,
    arguments: &'a Find,
    span: &'a Span,
    tenant: Option<Uuid>,
    case: Case,
}

/// Finds the newest requests, one more than the limit.
pub(super) async fn find(
    source: Option<(&Database, &mut PgConnection)>,
    arguments: &Find,
    archive: &OpenArchive,
) -> Result<(Found, Span), Error> {
    let key = arguments.reading.tenant.as_deref();
    let Some((database, connection)) = source else {
        let span = span_alone(arguments)?;
        let search = Search {
            archive,
            arguments,
            span: &span,
            tenant: key.map(tenant_of),
            case: Case::default(),
        };
        let found = search.run(None, Vec::new()).await?;
        let (hits, mut rows, counts, is_more) = found;
        let requests = requests(None, None, hits, counts, &mut rows).await?;
        return Ok((Found { requests, is_more }, span));
    };
    let own = match &arguments.reading.purpose {
        Some(purpose) => {
            Some(record_reading(database, connection, purpose, None, key, None).await?)
        }
        None => None,
    };
    let failed = |source| read_error(database, source);
    let (mut transaction, tenant) = begin(connection, key).await.map_err(failed)?;
    transaction.execute(SET_UP).await.map_err(failed)?;
    let span = span(database, &mut transaction, arguments).await?;
    let case = beside::case(&mut transaction).await.map_err(failed)?;
    let of_database = hits(&mut transaction, arguments, tenant, &span, own, MOST)
        .await
        .map_err(failed)?;
    let search = Search {
        archive,
        arguments,
        span: &span,
        tenant,
        case,
    };
    let beside = Some((database, &mut transaction));
    let (hits, mut rows, counts, is_more) = search.run(beside, of_database).await?;
    transaction.rollback().await.map_err(failed)?;
    let source = Some((database, connection));
    let requests = requests(source, key, hits, counts, &mut rows).await?;
    Ok((Found { requests, is_more }, span))
}

type Beside<'a, 'c> = Option<(&'a Database, &'a mut Transaction<'c, Postgres>)>;

/// The first records of the newest requests; the rows of those that the archive has; the records of each request by outcome, and how many of them
/// the archive has; whether there are more requests.
type Searched = (
    Vec<Hit>,
    HashMap<RecordId, Row>,
    HashMap<Key, BTreeMap<String, (i64, i64)>>,
    bool,
);

impl Search<'_> {
    async fn run(
        &self,
        mut beside: Beside<'_, '_>,
        of_database: Vec<Hit>,
    ) -> Result<Searched, Error> {
        let mut firsts: HashMap<Digest, First> = HashMap::new();
        for (number, hit) in of_database.iter().enumerate() {
            let key = digest(hit.tenant, hit.request.as_deref(), hit.record);
            firsts.insert(key, First::OfDatabase(number, hit.record));
        }
        self.add_archived(&mut beside, &mut firsts).await?;
        let limit = usize::try_from(self.arguments.limit).unwrap_or(usize::MAX);
        let mut firsts: Vec<First> = firsts.into_values().collect();
        firsts.sort_unstable_by_key(|first| std::cmp::Reverse(first.record().id));
        let is_more = firsts.len() > limit;
        firsts.truncate(limit);
        let archived = firsts.iter().filter_map(|first| match first {
            First::OfArchive(record) => Some(*record),
            First::OfDatabase(..) => None,
        });
        let (rows, mut of_archive) = self.rows(&mut beside, archived.collect()).await?;
        let mut of_database: Vec<Option<Hit>> = of_database.into_iter().map(Some).collect();
        let hits = firsts.into_iter().filter_map(|first| match first {
            First::OfDatabase(number, _) => of_database.get_mut(number)?.take(),
            First::OfArchive(record) => of_archive.remove(&record),
        });
        let hits: Vec<Hit> = hits.collect();
        let mut counts: HashMap<Key, BTreeMap<String, (i64, i64)>> = HashMap::new();
        if let Some((database, transaction)) = &mut beside {
            let counted = outcomes(transaction, &hits).await;
            let counted = counted.map_err(|source| read_error(database, source))?;
            for (key, outcomes) in counted {
                let outcomes = outcomes.into_iter();
                let outcomes = outcomes.map(|(status, count)| (status, (count, 0)));
                counts.insert(key, outcomes.collect());
            }
        }
        self.count_archived(&mut beside, &hits, &mut counts).await?;
        Ok((hits, rows, counts, is_more))
    }

    /// Returns what a search in the archive looks for.
    fn matcher(&self, filter: Filter, bounds: Bounds) -> Matcher {
        Matcher::new(filter, bounds, self.tenant)
            .with_case(self.case)
            .looking_at(LOOKED_AT)
    }

    /// Searches the archive for requests of which it has an earlier record than is known.
    async fn add_archived(
        &self,
        beside: &mut Beside<'_, '_>,
        firsts: &mut HashMap<Digest, First>,
    ) -> Result<(), Error> {
        let arguments = self.arguments;
        let mut filter = Filter {
            user: arguments.user.clone(),
            statuses: arguments.status.clone(),
            text: arguments.text.clone(),
            reads: true,
            ..Filter::default()
        };
        let kinds = arguments.kind.iter();
        let kinds = kinds.filter_map(|name| tracing_audit::__program::Table::of_name(name));
        filter.kinds = kinds.collect();
        let bounds = Bounds {
            from: Some(self.span.from),
            to: self.span.to,
        };
        let columns = [ID, TENANT_ID, REQUEST_ID];
        let matcher = self.matcher(filter, bounds);
        let archive = self.archive;
        let mut scan = archive.scan(matcher, &columns, Order::OldestFirst).await?;
        let columns = scan.columns();
        while let Some(mut slice) = scan.next().await? {
            open(beside, &scan, &mut slice).await?;
            let mut candidates = Vec::new();
            for hit in &slice.hits {
                let (tenant, request) = request_of(&hit.record(&columns));
                let key = digest(tenant, request, hit.record);
                if is_first(firsts, key, hit.record) {
                    candidates.push((key, hit.record));
                }
            }
            let records: Vec<RecordId> = candidates.iter().map(|(_, record)| *record).collect();
            let known = known(beside, &records).await?;
            for (key, record) in candidates {
                if !known.contains(&record) && is_first(firsts, key, record) {
                    firsts.insert(key, First::OfArchive(record));
                }
            }
            if firsts.len() > MOST as usize {
                return Err(ArchiveError::TooManyRequests.into());
            }
        }
        Ok(())
    }

    /// Reads these records in the archive, as lines show them; and what each is the first of.
    async fn rows(
        &self,
        beside: &mut Beside<'_, '_>,
        records: HashSet<RecordId>,
    ) -> Result<(HashMap<RecordId, Row>, HashMap<RecordId, Hit>), Error> {
        let (mut rows, mut hits) = (HashMap::new(), HashMap::new());
        if records.is_empty() {
            return Ok((rows, hits));
        }
        let ids = records.iter().map(|record| record.id);
        let bounds = Bounds {
            from: ids.min(),
            to: None,
        };
        let columns: Vec<usize> = (0..COLUMNS.len()).collect();
        let mut scan = self
            .among(Among::Records(records), bounds, &columns)
            .await?;
        let columns = scan.columns();
        while let Some(mut slice) = scan.next().await? {
            open(beside, &scan, &mut slice).await?;
            for found in slice.hits {
                let record = found.record(&columns);
                let (tenant, request) = request_of(&record);
                let hit = Hit {
                    record: found.record,
                    tenant,
                    request: request.map(str::to_owned),
                };
                rows.insert(found.record, self.archive.line(&found, &columns));
                hits.insert(found.record, hit);
            }
        }
        Ok((rows, hits))
    }

    /// Counts the records of these requests that the archive alone has, on the days that were searched and one before and after.
    async fn count_archived(
        &self,
        beside: &mut Beside<'_, '_>,
        hits: &[Hit],
        counts: &mut HashMap<Key, BTreeMap<String, (i64, i64)>>,
    ) -> Result<(), Error> {
        let requests: HashSet<String> = hits.iter().filter_map(|hit| hit.request.clone()).collect();
        if requests.is_empty() {
            return Ok(());
        }
        let near =
            |id: Uuid, days: fn(u128, u128) -> u128| Uuid::from_u128(days(id.as_u128(), DAY));
        let bounds = Bounds {
            from: Some(near(self.span.from, u128::saturating_sub)),
            to: self.span.to.map(|to| near(to, u128::saturating_add)),
        };
        let columns = [ID, TENANT_ID, REQUEST_ID, STATUS];
        let mut scan = self
            .among(Among::Requests(requests), bounds, &columns)
            .await?;
        let columns = scan.columns();
        while let Some(mut slice) = scan.next().await? {
            open(beside, &scan, &mut slice).await?;
            let records: Vec<RecordId> = slice.hits.iter().map(|hit| hit.record).collect();
            let known = known(beside, &records).await?;
            for hit in slice.hits.iter().filter(|hit| !known.contains(&hit.record)) {
                let record = hit.record(&columns);
                let (tenant, request) = request_of(&record);
                let key = Key {
                    tenant,
                    request: request.map(str::to_owned),
                };
                let status = record.text(STATUS).unwrap_or("unknown").to_owned();
                let (count, archived) = counts.entry(key).or_default().entry(status).or_default();
                *count += 1;
                *archived += 1;
            }
        }
        Ok(())
    }

    async fn among(&self, among: Among, bounds: Bounds, columns: &[usize]) -> Result<Scan, Error> {
        let filter = Filter {
            reads: true,
            ..Filter::default()
        };
        let matcher = self.matcher(filter, bounds).among(among);
        self.archive
            .scan(matcher, columns, Order::OldestFirst)
            .await
    }
}

/// Whether a record is before the one that is known to be the first of its request.
fn is_first(firsts: &HashMap<Digest, First>, key: Digest, record: RecordId) -> bool {
    let first = firsts.get(&key);
    first.is_none_or(|first| record.id < first.record().id)
}

/// Returns the tenant and the request of a record.
fn request_of<'a>(record: &Record<'a>) -> (Option<Uuid>, Option<&'a str>) {
    let request = record.text(REQUEST_ID).filter(|id| !id.is_empty());
    (record.uuid(TENANT_ID), request)
}

fn digest(tenant: Option<Uuid>, request: Option<&str>, record: RecordId) -> Digest {
    let mut hash = Sha256::new();
    if let Some(request) = request {
        // Whether it has one, and which.
        let tenant = tenant.map_or([0; 17], |tenant| {
            let mut bytes = [1; 17];
            bytes[1..].copy_from_slice(tenant.as_bytes());
            bytes
        });
        hash.update(tenant);
        hash.update(request);
    } else {
        hash.update([2]);
        hash.update(record.table.name());
        hash.update(record.id.as_bytes());
    }
    let hash: [u8; 32] = hash.finalize().into();
    let mut digest = Digest::default();
    digest.copy_from_slice(&hash[..16]);
    digest
}

/// Decrypts what is encrypted in a slice.
async fn open(beside: &mut Beside<'_, '_>, scan: &Scan, slice: &mut Slice) -> Result<(), Error> {
    if let Some((database, transaction)) = beside {
        let opened = beside::open(transaction, scan, slice).await;
        opened.map_err(|source| read_error(database, source))
    } else {
        scan.open_without_keys(slice);
        Ok(())
    }
}

/// Returns which of these records the database has.
async fn known(
    beside: &mut Beside<'_, '_>,
    records: &[RecordId],
) -> Result<HashSet<RecordId>, Error> {
    match beside {
        Some((database, transaction)) => {
            let known = beside::known(transaction, records).await;
            known.map_err(|source| read_error(database, source))
        }
        None => Ok(HashSet::new()),
    }
}

/// Returns the time range to search, where there is no database that reads it.
fn span_alone(arguments: &Find) -> Result<Span, Error> {
    const WEEK_MS: u64 = 7 * 86_400_000;
    let read =
        |option: &'static str, said: &str| moment::timestamp(said).ok_or(Error::BadTime { option });
    let until = arguments.until.as_deref();
    let until = until.map(|said| read("--until", said)).transpose()?;
    let since = if let Some(said) = &arguments.since {
        read("--since", said)?
    } else {
        let end = until.or_else(|| moment::ago(std::time::Duration::ZERO));
        end.unwrap_or_default().saturating_sub(WEEK_MS)
    };
    if until.is_some_and(|until| until <= since) {
        return Err(Error::NoSpan);
    }
    let text = |ms: u64| {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
        let text = humantime::format_rfc3339_seconds(at).to_string();
        text.trim_end_matches('Z').replace('T', " ")
    };
    Ok(Span::new(
        &(moment::id_at(since), text(since)),
        until.map(|until| (moment::id_at(until), text(until))),
        arguments,
    ))
}
