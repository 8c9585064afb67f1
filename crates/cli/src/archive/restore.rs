//! `archive restore`: a month of an archive as tables beside the trail, for as long as somebody needs them.
//!
//! **They are no part of the trail**: they stand in a schema of the login's own, have no row-level security, and no command but SQL
//! reads them. So nothing that is restored can be taken for a record that the trail has kept. What is restored was verified.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use hyper::body::Bytes;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::key::Vkey;
use tracing_audit::__program::ledger::layout::Columns;

use super::content::Keys;
use super::failure::ArchiveError;
use super::manifest::Manifest;
use super::names::{DayOf, Object, Part, day_of_date};
use super::place::Place;
use super::record_use;
use super::rows;
use super::set_reader::{Keep, SetReader, expect};
use crate::database::{Database, begin_change};
use crate::error::Error;
use crate::tables;
use crate::text::grouped;
use crate::verify::published::read_keys;

/// Restores a month of an archive as tables beside the trail.
///
/// Each kind is a table such as `audit_restored.query_runs_2026_09`, with the columns of the
/// trail's, for SQL alone. Everything is verified first, as `archive verify` does. For an
/// auditor's login that may create schemas. They are no part of the trail: who owns the
/// schema says who reads them, and removes them by `DROP SCHEMA audit_restored CASCADE`.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Restore {
    /// The folder, the bucket `s3://BUCKET/PREFIX`, or the container `az://CONTAINER/PREFIX` of Azure.
    #[arg(value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
    place: String,
    /// The log's verifier key, or a file with it; of a log whose key was rotated each that has signed.
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<String>,
    /// The month: 2026-09.
    #[arg(long, value_name = "MONTH")]
    month: String,
    /// Of this kind only; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = tables())]
    kind: Vec<String>,
    /// Why, as it is recorded in the trail before anything is restored.
    #[arg(long, value_name = "TEXT", default_value = "a month in SQL", value_parser = NonEmptyStringValueParser::new())]
    purpose: String,
}

const SCHEMA: &str = "audit_restored";

const IS_OWN: &str = "SELECT nspowner = (SELECT oid FROM pg_roles WHERE rolname = current_user) FROM pg_namespace WHERE nspname = 'audit_restored'";

/// What begins and ends the data of a COPY in its binary format.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// How much is sent at once.
const SEND_BYTES: usize = 1 << 20;

/// How many files are read at once while they are verified.
const JOBS: usize = 2;

/// Verifies the month, and restores it.
pub(super) async fn run(database: &Database, arguments: &Restore) -> Result<(), Error> {
    let month = &arguments.month;
    if day_of_date(&format!("{month}-01")).is_none() {
        return Err(ArchiveError::NoMonth(month.clone()).into());
    }
    let keys = read_keys(&arguments.key)?;
    let place = Place::of(&arguments.place)?;
    let is_wanted = |table: &Table| {
        arguments.kind.is_empty() || arguments.kind.iter().any(|kind| kind == table.name())
    };
    let mut connection = database.connect_to_trail().await?;
    let command = format!("archive restore --month {month}");
    let purpose = &arguments.purpose;
    record_use(database, &mut connection, purpose, &command, &place).await?;
    let mut beside = database.connect_to_trail().await?;
    for table in Table::ALL.into_iter().filter(is_wanted) {
        let manifests = verified(&place, &keys, table, month).await?;
        if manifests.is_empty() {
            continue;
        }
        let name = format!("{SCHEMA}.{}_{}", table.name(), month.replace('-', "_"));
        let source = Source {
            database,
            beside: &mut beside,
            place: &place,
        };
        let rows = source.restore(&mut connection, &name, &manifests).await?;
        let rows = grouped(i64::try_from(rows).unwrap_or(i64::MAX));
        writeln!(
            io::stdout(),
            "{name}: {rows} rows, proven by the log's signed checkpoint"
        )?;
    }
    drop((connection, beside));
    Ok(())
}

/// Verifies the sets of a month of a table. Returns their manifests.
async fn verified(
    place: &Place,
    keys: &[Vkey],
    table: Table,
    month: &str,
) -> Result<Vec<Manifest>, Error> {
    let listed = place
        .list(&format!("kind={}/month={month}/", table.name()))
        .await?;
    let objects = listed.iter().filter_map(|(name, _)| Object::parse(name));
    let reader = SetReader::new(place, keys, JOBS);
    // By the day, so that a set which is missing before another is noticed.
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    let mut manifests = Vec::new();
    for object in objects.filter(|object| object.part == Part::Manifest) {
        let set = reader.read_set(object, Keep::Nothing).await?;
        let before = last.insert(object.of.day, object.set).unwrap_or(0);
        let finding = set.findings.first().map(ToString::to_string);
        let finding = finding.or_else(|| {
            let is_next = object.set == before + 1;
            (!is_next).then(|| format!("a set before {} is missing", object.name()))
        });
        match (finding, set.manifest) {
            (None, Some(manifest)) => manifests.push(manifest),
            (finding, _) => {
                let finding = finding.unwrap_or_else(|| object.name());
                return Err(ArchiveError::NotProven { finding }.into());
            }
        }
    }
    Ok(manifests)
}

/// From where a month is restored.
struct Source<'a> {
    database: &'a Database,
    /// Reads the keys of what is encrypted, while another connection fills the table.
    beside: &'a mut PgConnection,
    place: &'a Place,
}

impl Source<'_> {
    /// Makes a table of the rows of these sets, whole or not at all. Returns how many there are.
    async fn restore(
        mut self,
        connection: &mut PgConnection,
        name: &str,
        manifests: &[Manifest],
    ) -> Result<u64, Error> {
        let database = self.database;
        let failed = |source| database.change_error("restore a month", source);
        let mut transaction = begin_change(connection).await.map_err(failed)?;
        transaction
            .execute("CREATE SCHEMA IF NOT EXISTS audit_restored")
            .await
            .map_err(failed)?;
        // Whoever owns it may do with its tables what he likes.
        let is_own: bool = sqlx::query_scalar(IS_OWN)
            .persistent(false)
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        if !is_own {
            return Err(ArchiveError::OthersSchema.into());
        }
        let table = manifests[0].of.table;
        let make = format!(
            "CREATE TABLE {name} (LIKE audit.{}); COMMENT ON TABLE {name} IS 'Restored from an archive; no part of the trail.'",
            table.name()
        );
        transaction
            .execute(AssertSqlSafe(make))
            .await
            .map_err(failed)?;
        let mut rows = 0;
        for manifest in manifests {
            rows += self.fill(&mut transaction, name, manifest).await?;
        }
        let index = format!(
            "ALTER TABLE {name} ADD PRIMARY KEY (id); CREATE INDEX ON {name} (request_id); ANALYZE {name}"
        );
        transaction
            .execute(AssertSqlSafe(index))
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(rows)
    }

    /// Adds the rows of a set.
    async fn fill(
        &mut self,
        connection: &mut PgConnection,
        name: &str,
        manifest: &Manifest,
    ) -> Result<u64, Error> {
        let (database, place) = (self.database, self.place);
        let failed = |source| database.change_error("restore a month", source);
        let DayOf { table, .. } = manifest.of;
        let layout = Columns::of(table.name()).unwrap_or_else(Columns::of_dead_letters);
        let columns: Vec<&str> = layout.all().collect();
        let count = i16::try_from(columns.len())
            .unwrap_or_default()
            .to_be_bytes();
        let copy = format!(
            "COPY {name} ({}) FROM STDIN (FORMAT binary)",
            columns.join(", ")
        );
        let mut rows = 0;
        for file in &manifest.files {
            let object = manifest.object(file);
            let broken = |why: String| ArchiveError::Broken {
                object: object.clone(),
                why,
            };
            let bytes = place.get(&object, file.content.bytes).await?;
            let bytes = bytes.ok_or_else(|| broken(String::from("it is not there any more")))?;
            // What was verified, and not what has taken its place since.
            let bytes = expect(object.clone(), bytes, file.content)
                .map_err(|found| broken(found.to_string()))?;
            let bytes = Bytes::from(bytes);
            let ids = rows::keys_of(table, bytes.clone()).map_err(|why| broken(why.to_string()))?;
            let known = Keys::read(self.beside, None, &ids).await;
            let known = known.map_err(|source| database.read_error(source))?;
            let mut images = rows::ImageReader::new(table, bytes, &known)
                .map_err(|why| broken(why.to_string()))?;
            let mut sink = connection.copy_in_raw(&copy).await.map_err(failed)?;
            let mut data = HEADER.to_vec();
            loop {
                let start = data.len();
                data.extend_from_slice(&count);
                match images.next(&mut data) {
                    Ok(true) => rows += 1,
                    Ok(false) => {
                        data.truncate(start);
                        break;
                    }
                    Err(why) => {
                        sink.abort("the file cannot be read")
                            .await
                            .map_err(failed)?;
                        return Err(broken(why.to_string()).into());
                    }
                }
                if data.len() >= SEND_BYTES {
                    sink.send(std::mem::take(&mut data)).await.map_err(failed)?;
                }
            }
            data.extend_from_slice(&TRAILER);
            sink.send(data).await.map_err(failed)?;
            sink.finish().await.map_err(failed)?;
        }
        Ok(rows)
    }
}
