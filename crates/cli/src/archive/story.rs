//! `show --archive`: the records of a request that an archive has.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use tracing_audit::__program::ledger::day_of;
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::tenant_uuid;

use super::beside;
use super::content::Keys;
use super::failure::ArchiveError;
use super::finder::{self, Archived, Found};
use super::look::Wanted;
use super::matching::Matcher;
use super::names::day_of_date;
use super::place::Place;
use super::scan::{Hit, OpenArchive, Order, Scan, Slice, least_id};
use super::set_reader::{Keep, SetReader};
use crate::database::{Database, Scope, begin};
use crate::error::Error;
use crate::export::columns::{COLUMNS, PARENT_ID, TENANT_ID, Type};
use crate::export::html;
use crate::export::values::Record;
use crate::filter::{Bounds, Filter};
use crate::pages::line_characters;
use crate::row::{self, ArchivedStory, Row};
use crate::verify::published::read_keys;

/// How many files are read at once when sets are verified.
const JOBS: usize = 2;

/// Where an archive is, and what is believed of it.
#[derive(Args, Debug)]
// Of another command, an argument may need a key as well.
#[command(group = ArgGroup::new("keyed").multiple(true))]
pub(crate) struct ArchivePlace {
    /// Looks into this archive as well, a folder, `s3://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`; without a database, into nothing else.
    #[arg(long, value_name = "PLACE", requires = "key", group = "keyed", value_parser = NonEmptyStringValueParser::new())]
    archive: Option<String>,
    /// The log's verifier key, or a file with it: who must have signed the archive; may be given several times.
    #[arg(long, value_name = "KEY", requires = "keyed")]
    pub(crate) key: Vec<String>,
    /// Proves what comes from the archive: reads the sets that have it whole, and compares them with the log's checkpoint.
    #[arg(long, requires = "archive")]
    verify: bool,
}

impl ArchivePlace {
    /// Whether an archive is named.
    pub(crate) fn is_named(&self) -> bool {
        self.archive.is_some()
    }

    /// Returns the archive, if one is named. Reaches for nothing.
    pub(crate) fn open(&self) -> Result<Option<OpenArchive>, Error> {
        let Some(place) = &self.archive else {
            return Ok(None);
        };
        let keys = read_keys(&self.key)?;
        Ok(Some(OpenArchive::new(Place::of(place)?, keys, self.verify)))
    }
}

/// Where an archive is, and on which days a request is looked for there.
#[derive(Args, Debug)]
pub(crate) struct InArchive {
    #[command(flatten)]
    place: ArchivePlace,
    /// Looks through the archive from this day on: 2026-09-14.
    ///
    /// Else, of a request whose id is a UUID of version 7, through the days around its time; of another, through all days.
    #[arg(long, value_name = "DATE", requires = "archive")]
    since: Option<String>,
    /// Looks through the archive up to this day.
    #[arg(long, value_name = "DATE", requires = "archive")]
    until: Option<String>,
}

impl InArchive {
    /// Whether an archive is named.
    pub(crate) fn is_named(&self) -> bool {
        self.place.is_named()
    }

    /// Reads the records of a request, or else the one record with that id; of a tenant, if one is named by its UUID or by the key
    /// that the application uses.
    pub(crate) async fn story(
        &self,
        source: Option<(&Database, &mut PgConnection)>,
        request: &str,
        tenant: Option<&str>,
    ) -> Result<ArchivedStory, Error> {
        let Some(place) = &self.place.archive else {
            return Ok(ArchivedStory::default());
        };
        let keys = read_keys(&self.place.key)?;
        let place = Arc::new(Place::of(place)?);
        place.expect()?;
        let id: Option<Uuid> = request.parse().ok();
        let of_request = Wanted::Request(request.to_owned());
        let find = async |wanted: &Wanted, days| {
            let found = finder::find(&place, &keys, wanted, days).await?;
            if self.place.verify {
                prove(&place, &keys, wanted, found).await
            } else {
                Ok(found.records)
            }
        };
        let mut found = find(&of_request, self.days(id)?).await?;
        let is_request = !found.is_empty();
        if let (Some(id), false) = (id, is_request) {
            found = find(&Wanted::Record(id), self.days(None)?).await?;
        }
        let said = if self.place.verify {
            "proven by the log's signed checkpoint"
        } else {
            "whose manifest is signed; --verify proves it"
        };
        open(source, tenant, &mut found).await?;
        let tenant = tenant.map(tenant_of);
        found.retain(|archived| {
            let of = archived.picked.values[TENANT_ID].as_deref();
            tenant.is_none_or(|tenant| of == Some(tenant.as_bytes().as_slice()))
        });
        let rows = found.iter().map(|archived| {
            let (mut row, parent) = row_of(archived);
            row.archived = Some(row::Archived {
                closed: archived.picked.closed.map(|why| why.to_string()),
                manifest: archived.manifest.name(),
                said: format!("{}/{}, {said}", place.name(), archived.manifest.name()),
            });
            (row, parent)
        });
        Ok(ArchivedStory {
            rows: rows.collect(),
            is_request,
        })
    }

    /// Returns the days that are looked through, for a request with this id.
    fn days(&self, id: Option<Uuid>) -> Result<RangeInclusive<u32>, Error> {
        let day = |text: &Option<String>| match text.as_deref() {
            Some(text) => {
                let day = day_of_date(text);
                day.map(Some)
                    .ok_or_else(|| Error::from(ArchiveError::NoDay(text.to_owned())))
            }
            None => Ok(None),
        };
        let (from, to) = (day(&self.since)?, day(&self.until)?);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(ArchiveError::NoDays.into());
        }
        let is_timed = from.is_none() && to.is_none();
        if let Some(days) = id.filter(|_| is_timed).and_then(days_around) {
            return Ok(days);
        }
        Ok(from.unwrap_or(0)..=to.unwrap_or(u32::MAX))
    }
}

/// Returns the days around the time of an id, if it tells one.
fn days_around(id: Uuid) -> Option<RangeInclusive<u32>> {
    let day = day_of(id.as_u128());
    (id.get_version_num() == 7).then(|| day.saturating_sub(1)..=day.saturating_add(1))
}

/// Returns the ids of the days on which a request is, if its id tells it.
pub(crate) fn near(request: &str) -> Option<Bounds> {
    let days = request.parse().ok().and_then(days_around)?;
    Some(Bounds {
        from: Some(least_id(*days.start())),
        to: days.end().checked_add(1).map(least_id),
    })
}

impl OpenArchive {
    /// Reads the records of a request on all days, each with its parent; of a tenant, if one is named.
    /// Contents are decrypted with the keys that the database has for whoever reads.
    pub(crate) async fn story(
        &self,
        source: Option<(&Database, &mut PgConnection, Scope<'_>)>,
        request: &str,
        tenant: Option<Uuid>,
    ) -> Result<Vec<(Row, Option<Uuid>)>, Error> {
        let within = (Bounds::default(), usize::MAX, None);
        self.story_within(source, request, tenant, within).await
    }

    /// Like [`story`](Self::story), of the records between these ids; an error where they have more than so many bytes, or when the
    /// time is over.
    pub(crate) async fn story_within(
        &self,
        mut source: Option<(&Database, &mut PgConnection, Scope<'_>)>,
        request: &str,
        tenant: Option<Uuid>,
        (bounds, most_bytes, until): (Bounds, usize, Option<Instant>),
    ) -> Result<Vec<(Row, Option<Uuid>)>, Error> {
        let filter = Filter {
            request: Some(request.to_owned()),
            // A story has those of its own request as well.
            reads: true,
            ..Filter::default()
        };
        let matcher = Matcher::new(filter, bounds, tenant);
        let columns: Vec<usize> = (0..COLUMNS.len()).collect();
        let mut scan = self.scan(matcher, &columns, Order::OldestFirst).await?;
        if let Some(until) = until {
            scan = scan.until(until);
        }
        let columns = scan.columns();
        let (mut rows, mut bytes) = (Vec::new(), 0_usize);
        while let Some(mut slice) = scan.next().await? {
            match &mut source {
                Some((database, connection, scope)) => {
                    let opened = open_in(connection, *scope, &scan, &mut slice).await;
                    opened.map_err(|source| database.read_error(source))?;
                }
                None => scan.open_without_keys(&mut slice),
            }
            let sizes = slice.hits.iter().map(Hit::size);
            bytes = sizes.fold(bytes, usize::saturating_add);
            if bytes > most_bytes {
                return Err(ArchiveError::TooManyRecords.into());
            }
            rows.extend(slice.hits.iter().map(|hit| self.row(hit, &columns)));
        }
        Ok(rows)
    }

    /// Returns the row of a record that was found, with as much of its texts as a line shows.
    pub(crate) fn line(&self, hit: &Hit, columns: &[usize]) -> Row {
        let record = hit.record(columns);
        let cut = COLUMNS.iter().enumerate().map(|(at, column)| {
            let text = record.text(at).filter(|_| column.ty == Type::Text)?;
            let characters = line_characters(column.name);
            let (end, _) = text.char_indices().nth(characters)?;
            Some(format!("{}…", &text[..end]))
        });
        let cut: Vec<Option<String>> = cut.collect();
        let mut short = Record {
            table: record.table,
            fields: record.fields,
            unread: None,
        };
        for (field, cut) in short.fields.iter_mut().zip(&cut) {
            *field = cut.as_deref().map(str::as_bytes).or(*field);
        }
        let mut row = row_of_record(&short);
        row.archived = Some(self.place_of(hit));
        row
    }

    fn place_of(&self, hit: &Hit) -> row::Archived {
        row::Archived {
            closed: hit.closed.map(|why| why.to_string()),
            manifest: hit.manifest.name(),
            said: self.said(hit.manifest),
        }
    }

    /// Returns the row of a record that was found, and its parent.
    pub(crate) fn row(&self, hit: &Hit, columns: &[usize]) -> (Row, Option<Uuid>) {
        let record = hit.record(columns);
        let mut row = row_of_record(&record);
        row.archived = Some(self.place_of(hit));
        (row, record.uuid(PARENT_ID))
    }
}

/// Verifies all sets that may have records that are wanted, also those in which none was found: whoever changes a footer hides them. Returns
/// the records as they are in what was verified: what was read before may have been something else.
async fn prove(
    place: &Place,
    keys: &[Vkey],
    wanted: &Wanted,
    found: Found,
) -> Result<Vec<Archived>, Error> {
    let mut of_set: BTreeMap<String, Vec<Archived>> = BTreeMap::new();
    for found in found.records {
        let name = found.manifest.name();
        of_set.entry(name).or_default().push(found);
    }
    let reader = SetReader::new(place, keys, JOBS);
    let mut proven = Vec::new();
    for manifest in found.sets {
        let name = manifest.name();
        let records = of_set.remove(&name).unwrap_or_default();
        let set = reader.read_set(manifest, Keep::Records(wanted)).await?;
        if let Some(finding) = set.findings.first() {
            let finding = finding.to_string();
            return Err(ArchiveError::NotProven { finding }.into());
        }
        let before = records.iter().map(|found| &found.picked);
        if !before.eq(&set.records) {
            let finding = format!("{name}: its files were something else a moment before");
            return Err(ArchiveError::NotProven { finding }.into());
        }
        proven.extend(set.records.into_iter().map(|picked| Archived {
            table: manifest.of.table,
            picked,
            manifest,
        }));
    }
    Ok(proven)
}

/// Decrypts what is encrypted in a slice, as somebody reads the database.
pub(crate) async fn open_in(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    scan: &Scan,
    slice: &mut Slice,
) -> Result<(), sqlx::Error> {
    let (mut transaction, _) = begin(connection, scope).await?;
    beside::open(&mut transaction, scan, slice).await?;
    transaction.rollback().await
}

/// Decrypts what is encrypted of these records, with the keys that the database has for whoever reads.
async fn open(
    source: Option<(&Database, &mut PgConnection)>,
    tenant: Option<&str>,
    found: &mut [Archived],
) -> Result<(), Error> {
    let ids: Vec<Uuid> = found
        .iter()
        .filter_map(|found| found.picked.key())
        .collect();
    let keys = match source.filter(|_| !ids.is_empty()) {
        Some((database, connection)) => Keys::read(connection, tenant, &ids)
            .await
            .map_err(|source| database.read_error(source))?,
        None => Keys::default(),
    };
    for found in found {
        found.picked.open(found.table, &keys);
    }
    Ok(())
}

/// Returns the tenant of a key, as `audit.tenant_uuid` computes it.
pub(crate) fn tenant_of(key: &str) -> Uuid {
    let is_plain = matches!(key.len(), 32 | 36);
    let id = key.parse().ok().filter(|_| is_plain);
    id.unwrap_or_else(|| tenant_uuid(key))
}

/// Returns the row of a record, and its parent.
fn row_of(archived: &Archived) -> (Row, Option<Uuid>) {
    let fields = archived.picked.values.each_ref().map(Option::as_deref);
    let record = Record {
        table: archived.table,
        fields,
        unread: None,
    };
    (row_of_record(&record), record.uuid(PARENT_ID))
}

/// Returns the row of a record.
pub(super) fn row_of_record(record: &Record<'_>) -> Row {
    let mut row = html::row(record);
    let tenant = record.uuid(TENANT_ID);
    let key =
        row.metadata
            .get("tenant_key")
            .and_then(|key| match serde_json::from_str(key).ok()? {
                serde_json::Value::String(text) => Some(text),
                serde_json::Value::Number(number) => Some(number.to_string()),
                _ => None,
            });
    // A program may have put a field of that name into the metadata.
    row.set_tenant_key(key.filter(|key| tenant.is_none_or(|tenant| tenant == tenant_of(key))));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_of_a_key_is_the_one_of_the_database() {
        let id = "0192c8a0-1111-7abc-8def-0123456789ab";
        let plain = id.replace('-', "");
        for key in [id, &id.to_uppercase(), &plain] {
            assert_eq!(tenant_of(key).to_string(), id, "{key}");
        }
        for key in [&format!("{{{id}}}"), &format!("urn:uuid:{id}"), "acme", ""] {
            assert_eq!(tenant_of(key), tenant_uuid(key), "{key}");
        }
    }
}
