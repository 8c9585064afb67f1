//! Content of rows that is encrypted: an erasure destroys the key, and leaves the archive as it is.
//!
//! A key is of what a user of a tenant has in a month; it is in the database alone (`audit.subject_keys`). What is encrypted is what the
//! ledger hashes of a row's content, compressed, and its hash stands beside it: so the row is proven without the key. As nonce it has the
//! beginning of that hash. The cipher is AES-256-GCM-SIV (RFC 8452), for which the same nonce may come twice: two contents
//! with one tell whether they are the same, and nothing else.

use std::collections::{HashMap, HashSet};
use std::io;

use aes_gcm_siv::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use clap::ValueEnum;
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Executor as _};
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::images::Images;
use tracing_audit::__program::ledger::layout::Columns;
use tracing_audit::__program::ledger::leaf::digest;
use tracing_audit::__program::ledger::tree::Hash;
use zstd::bulk::{Compressor, Decompressor};

use super::chunk::ids_of;
use super::failure::ArchiveError;
use super::names::{DayOf, date_text};
use crate::database::{Database, Scope, begin, begin_change};
use crate::error::Error;
use crate::export::columns::COLUMNS;
use crate::verify::rows::blank;

/// Makes the keys of a month that are lacking, and returns them in the order of tenants and users.
const MAKE: &str = "SELECT key_id, key FROM audit.subject_keys_of($1::text::date, $2, $3)";

const READ: &str = "SELECT key_id, key, erasure_id FROM audit.subject_keys WHERE key_id = ANY ($1)";

/// What the trail has recorded itself on a day, and no erasure empties (`chosen` of `audit.erase`). A program may say of its records that they are
/// such; it has registered its writer.
const OWN: &str = "SELECT e.id FROM audit.events e WHERE e.id BETWEEN $1 AND $2 AND e.service_name = 'postgres' AND e.action_type LIKE 'audit.%'
    AND NOT EXISTS (SELECT FROM audit.writers w WHERE w.writer_id = e.writer_id)";

/// Whether there are keys of this trail: it was archived encrypted before.
const HAS_KEYS: &str = "SELECT EXISTS (SELECT FROM audit.subject_keys)";

/// How many keys are asked for at once.
const AT_ONCE: usize = 5_000;

/// The level of the compression, as Parquet has it for the rest.
const LEVEL: i32 = 1;

/// The greatest content: what Postgres can have in a row.
const MOST_BYTES: usize = 1 << 30;

/// How the content of rows stands in an archive: what may be erased of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Layout {
    /// In columns, for every engine to read. An erasure does not reach it.
    Clear,
    /// Encrypted, with keys that the database has; an erasure of a user or a tenant destroys them.
    Encrypted,
}

/// Fails if the content would be written in the clear, nobody has said so, and it was encrypted before.
pub(super) async fn expect_layout(
    database: &Database,
    connection: &mut PgConnection,
    asked: Option<Layout>,
) -> Result<Layout, Error> {
    if let Some(layout) = asked {
        return Ok(layout);
    }
    let failed = |source| database.read_error(source);
    let (mut transaction, _) = begin(connection, None).await.map_err(failed)?;
    let has_keys: bool = sqlx::query_scalar(HAS_KEYS)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.rollback().await.map_err(failed)?;
    if has_keys {
        return Err(ArchiveError::ClearAfterEncrypted.into());
    }
    Ok(Layout::Clear)
}

/// A key, and its id.
type Key = (Uuid, [u8; 32]);

/// Encrypts the content of rows of a day.
pub(super) struct Encryption {
    /// By tenant and user.
    keys: HashMap<Vec<u8>, Key>,
    /// The events that no erasure empties: whoever is erased has not done nothing. They have the key of rows without a tenant and a
    /// user, which no erasure destroys.
    own: HashSet<Uuid>,
    subject: Vec<u8>,
    compressor: Compressor<'static>,
}

/// What is encrypted of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Encrypted {
    pub(super) key: Uuid,
    pub(super) bytes: Vec<u8>,
}

impl Encryption {
    /// Has the database make the keys for the rows of a day. **The snapshot in which they are encrypted begins later**: what is erased before
    /// it is empty there, and what is erased after it is encrypted with a key that the erasure destroys.
    pub(super) async fn of_day(
        database: &Database,
        connection: &mut PgConnection,
        tables: &[DayOf],
    ) -> Result<Self, Error> {
        let failed = |source| database.change_error("make keys for archived content", source);
        let mut encryption = Self {
            keys: HashMap::new(),
            own: HashSet::new(),
            subject: Vec::new(),
            compressor: Compressor::new(LEVEL)?,
        };
        for of in tables {
            let (from, to) = ids_of(of.day);
            let subjects = format!(
                "SELECT DISTINCT tenant_id, user_id FROM audit.{} WHERE id BETWEEN '{from}' AND '{to}'",
                of.table.name()
            );
            let (mut transaction, _) = begin(connection, None).await.map_err(failed)?;
            let mut subjects: Vec<(Option<Uuid>, Option<String>)> =
                sqlx::query_as(AssertSqlSafe(subjects))
                    .persistent(false)
                    .fetch_all(&mut *transaction)
                    .await
                    .map_err(failed)?;
            if of.table == Table::Events {
                let own: Vec<Uuid> = sqlx::query_scalar(OWN)
                    .bind(from)
                    .bind(to)
                    .persistent(false)
                    .fetch_all(&mut *transaction)
                    .await
                    .map_err(failed)?;
                if !own.is_empty() && !subjects.contains(&(None, None)) {
                    subjects.push((None, None));
                }
                encryption.own.extend(own);
            }
            transaction.rollback().await.map_err(failed)?;
            let month = format!("{}-01", &date_text(of.day)[..7]);
            for subjects in subjects.chunks(AT_ONCE) {
                encryption
                    .make(connection, &month, subjects)
                    .await
                    .map_err(failed)?;
            }
        }
        Ok(encryption)
    }

    async fn make(
        &mut self,
        connection: &mut PgConnection,
        month: &str,
        subjects: &[(Option<Uuid>, Option<String>)],
    ) -> Result<(), sqlx::Error> {
        let (tenants, users): (Vec<Option<Uuid>>, Vec<Option<&str>>) = subjects
            .iter()
            .map(|(tenant, user)| (*tenant, user.as_deref()))
            .unzip();
        let mut transaction = begin_change(connection).await?;
        let keys: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(MAKE)
            .bind(month)
            .bind(&tenants)
            .bind(&users)
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        if keys.len() != subjects.len() {
            let why = "audit.subject_keys_of has returned another number of keys";
            return Err(sqlx::Error::Protocol(String::from(why)));
        }
        for ((tenant, user), (id, key)) in tenants.into_iter().zip(users).zip(keys) {
            let key = key.try_into().map_err(|_| {
                let why = "a key of audit.subject_keys has not 32 bytes";
                sqlx::Error::Protocol(String::from(why))
            })?;
            let mut subject = Vec::new();
            push_subject(
                &mut subject,
                tenant.as_ref().map(|id| &id.as_bytes()[..]),
                user.map(str::as_bytes),
            );
            self.keys.insert(subject, (id, key));
        }
        Ok(())
    }

    /// Encrypts the content of a row of a table. `is_left` says that it is what an erasure has left, of which `hash` is not the hash.
    pub(super) fn encrypt(
        &mut self,
        (table, id): (Table, Uuid),
        (tenant, user): (Option<&[u8]>, Option<&[u8]>),
        hash: &Hash,
        content: &[u8],
        is_left: bool,
    ) -> io::Result<Encrypted> {
        self.subject.clear();
        if table == Table::Events && self.own.contains(&id) {
            push_subject(&mut self.subject, None, None);
        } else {
            push_subject(&mut self.subject, tenant, user);
        }
        let (key_id, key) = self.keys.get(&self.subject).ok_or_else(|| {
            io::Error::other(
                "a row is of a user of whom there was no row a moment before; run it again",
            )
        })?;
        let mut plain = self.compressor.compress(content)?;
        plain.push(u8::from(is_left));
        let bytes = cipher(key)
            .encrypt(
                &nonce(hash),
                Payload {
                    msg: &plain,
                    aad: &associated(id, hash),
                },
            )
            .map_err(|_| io::Error::other("the content of a row is too large to be encrypted"))?;
        Ok(Encrypted {
            key: *key_id,
            bytes,
        })
    }
}

/// Appends what stands for a user of a tenant.
fn push_subject(out: &mut Vec<u8>, tenant: Option<&[u8]>, user: Option<&[u8]>) {
    for part in [tenant, user] {
        out.push(u8::from(part.is_some()));
        out.extend_from_slice(part.unwrap_or_default());
    }
}

fn cipher(key: &[u8; 32]) -> Aes256GcmSiv {
    Aes256GcmSiv::new(key.into())
}

fn nonce(hash: &Hash) -> Nonce {
    let mut nonce = Nonce::default();
    nonce.copy_from_slice(&hash[..12]);
    nonce
}

/// What is authenticated beside the content: the row that it is of.
fn associated(id: Uuid, hash: &Hash) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..16].copy_from_slice(id.as_bytes());
    bytes[16..].copy_from_slice(hash);
    bytes
}

/// What the database has of a key.
#[derive(Clone, Copy, Debug)]
enum Known {
    Key([u8; 32]),
    Destroyed,
}

/// Keys with which contents are read.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: HashMap<Uuid, Known>,
    /// Whether there is a database that could have them.
    has_database: bool,
}

/// Why a content cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Closed {
    #[error("its content was erased: the key was destroyed")]
    Destroyed,
    #[error("its content is encrypted, and the key is in the database alone")]
    NoDatabase,
    #[error(
        "its content is encrypted, and the database has not the key, or this login may not read it"
    )]
    NoKey,
    #[error("its content is encrypted, and cannot be decrypted with the key")]
    Broken,
}

impl Keys {
    /// Reads these keys, as far as they are there for whoever reads.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        scope: impl Into<Scope<'_>> + Copy,
        ids: &[Uuid],
    ) -> Result<Self, sqlx::Error> {
        let (mut transaction, _) = begin(connection, scope).await?;
        transaction
            .execute("SET LOCAL enable_seqscan = off")
            .await?;
        let keys = Self::read_within(&mut transaction, ids).await?;
        transaction.rollback().await?;
        Ok(keys)
    }

    /// Like [`read`](Self::read), in a transaction that has begun.
    pub(super) async fn read_within(
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<Self, sqlx::Error> {
        let mut keys = Self {
            known: HashMap::new(),
            has_database: true,
        };
        for ids in ids.chunks(AT_ONCE) {
            let rows: Vec<(Uuid, Option<Vec<u8>>, Option<Uuid>)> = sqlx::query_as(READ)
                .bind(ids)
                .persistent(false)
                .fetch_all(&mut *connection)
                .await?;
            keys.known
                .extend(rows.into_iter().filter_map(|(id, key, erasure)| {
                    let known = match (key.and_then(|key| key.try_into().ok()), erasure) {
                        (Some(key), _) => Known::Key(key),
                        (None, Some(_)) => Known::Destroyed,
                        (None, None) => return None,
                    };
                    Some((id, known))
                }));
        }
        Ok(keys)
    }

    /// Decrypts the content of a row, whose hash this is: its columns as they are hashed.
    pub(super) fn decrypt(
        &self,
        encrypted: &Encrypted,
        id: Uuid,
        hash: &Hash,
    ) -> Result<Vec<u8>, Closed> {
        let key = match self.known.get(&encrypted.key) {
            Some(Known::Key(key)) => key,
            Some(Known::Destroyed) => return Err(Closed::Destroyed),
            None if self.has_database => return Err(Closed::NoKey),
            None => return Err(Closed::NoDatabase),
        };
        let plain = cipher(key).decrypt(
            &nonce(hash),
            Payload {
                msg: &encrypted.bytes,
                aad: &associated(id, hash),
            },
        );
        let plain = plain.map_err(|_| Closed::Broken)?;
        let (is_left, compressed) = plain.split_last().ok_or(Closed::Broken)?;
        let content = Decompressor::new()
            .and_then(|mut decompressor| decompressor.decompress(compressed, MOST_BYTES))
            .map_err(|_| Closed::Broken)?;
        // What an erasure has left has another hash than the content had.
        if *is_left == 0 && digest(&content) != *hash {
            return Err(Closed::Broken);
        }
        Ok(content)
    }

    /// Returns the content of a row of a table, as [`decrypt`](Self::decrypt) does; of one that cannot be read, what an erasure leaves,
    /// and why.
    pub(super) fn open(
        &self,
        table: Table,
        encrypted: &Encrypted,
        id: Uuid,
        hash: &Hash,
    ) -> (Vec<u8>, Option<Closed>) {
        match self.decrypt(encrypted, id, hash) {
            Ok(content) => (content, None),
            Err(why) => (blank(columns_of(table)), Some(why)),
        }
    }
}

/// Returns the columns of a table, as they are hashed.
pub(super) fn columns_of(table: Table) -> &'static Columns {
    Columns::of(table.name()).unwrap_or_else(Columns::of_dead_letters)
}

/// Returns the columns of a content, each with its place among all columns and its value.
pub(super) fn fields(table: Table, content: &[u8]) -> impl Iterator<Item = (usize, Option<&[u8]>)> {
    let images = columns_of(table).content.iter().zip(Images::new(content));
    images.filter_map(|(name, image)| {
        let place = COLUMNS.iter().position(|column| column.name == *name)?;
        Some((place, image.ok()?))
    })
}
