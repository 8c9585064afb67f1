//! The log: whether each batch's row is what its entry says, and the entries are those of the tree
//! that was signed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlx::Executor as _;
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;
use tracing_audit::__program::ledger::leaf::digest;
use tracing_audit::__program::ledger::tree::{self, Frontier, Hash};

use super::batches::{Batch, Batches};
use super::binary::{self, Fields};
use super::finding::{Finding, Kind, MOST_NAMED};
use super::nodes::Nodes;
use super::tiles::{Tiles, what_differs};

/// The version of the format of an entry.
const ENTRY_VERSION: u8 = 1;

/// How many of the columns of [`QUERY`] an entry has, from the sixth.
pub(crate) const ENTRY_COLUMNS: usize = 14;

/// Each entry with the batch that it is of, and each batch with its entry. Compared here and not by
/// functions of the database, which are no better protected than its rows.
pub(super) const QUERY: &str = "
    SELECT l.index, l.writer_id, l.first_seq, l.entry_hash, sha256(l.fingerprints),
        b.writer_id, b.first_seq, b.last_seq, b.records, b.dead_letters, b.first_id, b.last_id, b.mark, b.service_name, b.library_version, b.committed_at, b.added_by,
        l.root, l.previous,
        b.root, sha256(b.fingerprints),
        w.writer_id, w.login, w.secret_sha256, w.service_name, w.registered_at
    FROM audit.ledger l FULL JOIN audit.batches b ON b.writer_id = l.writer_id AND b.first_seq = l.first_seq
        LEFT JOIN audit.writers w ON w.writer_id = b.writer_id AND b.first_seq = 1
";
const ORDER: &str = " ORDER BY l.index NULLS LAST, b.writer_id, b.first_seq";

/// How many entries may be missing; an entry that stands behind more is one finding.
const MOST_MISSING: i64 = 10_000_000;

/// The last entry of a writer that was read.
struct Last {
    last_seq: i64,
    entry_hash: Hash,
}

/// Reads the log.
pub(super) struct Reader<'a> {
    tiles: Option<&'a mut dyn Tiles>,
    /// The sizes at which a root is wanted, ascending.
    wanted: Vec<u64>,
    last_of: HashMap<Uuid, Last>,
    next_index: i64,
    /// The tree over the hashes that the ledger has.
    stored: Frontier,
    /// The tree over those that are computed from the batches, where they are there.
    computed: Frontier,
    changed_writers: HashSet<Uuid>,
    nodes: Nodes,
    log: Log,
}

/// An entry that is not what it was.
pub(super) struct Mismatch {
    is_stored_published: bool,
    is_computed_published: bool,
    /// The columns in which the batch differs from what was published; empty if nothing was.
    changed: Vec<&'static str>,
    at: (Uuid, i64),
    index: i64,
}

/// What was read.
#[derive(Default)]
pub(super) struct Log {
    pub(super) batches: Batches,
    pub(super) findings: Vec<Finding>,
    pub(super) size: u64,
    /// The first entry that was read.
    pub(super) first: i64,
    /// Since when batches were committed whose rows are to be verified, in microseconds since 2000.
    pub(super) since_us: Option<i64>,
    /// For each wanted size that the log reaches: the root of the ledger's hashes, and the root
    /// of those that are computed from the batches.
    pub(super) roots: Vec<(u64, Hash, Hash)>,
    pub(super) unsealed_batches: u64,
    pub(super) unsealed_rows: u64,
    /// Entries that the ledger has of batches that are not there.
    lost: Vec<(i64, Uuid, i64)>,
    /// Entries that the ledger does not have.
    gaps: Vec<Gap>,
    /// How many these are.
    missing: i64,
    mismatches: Vec<Mismatch>,
    /// Entries that are of other batches than those that were published.
    others: Vec<i64>,
}

/// Entries that the ledger does not have, one after the other.
struct Gap {
    first: i64,
    count: i64,
    /// The writer and the first seq of the batch, where they are known: of one entry then.
    batch: Option<(Uuid, i64)>,
}

/// An entry, as its batch's row gives it.
pub(super) struct Entry {
    pub(super) bytes: Vec<u8>,
    last_seq: i64,
    pub(super) batch: Batch,
    batch_root: Option<Hash>,
    /// The hash of the fingerprints that came with the batch.
    prints: Option<Hash>,
}

impl Entry {
    /// Whether the batch has the root that was sealed, or none if the ledger has computed it; and
    /// the fingerprints stand where the root came from.
    fn is_as_sealed(&self, ledger_has_fingerprints: bool) -> bool {
        match (self.batch.root, self.batch_root) {
            (sealed, Some(sent)) => {
                sealed == Some(sent) && self.prints.is_some() && !ledger_has_fingerprints
            }
            (Some(_), None) => self.prints.is_none() && ledger_has_fingerprints,
            (None, None) => self.prints.is_none() && !ledger_has_fingerprints,
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(wanted: Vec<u64>, tiles: Option<&'a mut dyn Tiles>) -> Self {
        Self {
            tiles,
            wanted,
            last_of: HashMap::new(),
            next_index: 0,
            stored: Frontier::default(),
            computed: Frontier::default(),
            changed_writers: HashSet::new(),
            nodes: Nodes::default(),
            log: Log::default(),
        }
    }

    /// Reads the log from the entries of batches on that were committed since so many seconds ago, or
    /// all of it.
    pub(super) async fn read(
        mut self,
        connection: &mut PgConnection,
        since: Option<Duration>,
    ) -> Result<Log, sqlx::Error> {
        let mut query = format!("{QUERY}{ORDER}");
        if let Some(since) = since {
            let (first, since_us) = super::since::first(connection, since, &self.wanted).await?;
            self.log.since_us = Some(since_us);
            if first > 0 && self.resume(connection, first).await? {
                let seconds = since.as_secs_f64();
                query = format!(
                    "{QUERY} WHERE l.index >= {first} OR l.index IS NULL AND b.committed_at >= now() - make_interval(secs => {seconds}){ORDER}"
                );
                // Each by its index.
                connection
                    .execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
                    .await?;
                query = query.replace("FULL JOIN", "LEFT JOIN");
            }
        }
        self.note_roots();
        binary::read(connection, &query, |row| self.row(row)).await?;
        self.log.size = u64::try_from(self.next_index).unwrap_or(0);
        self.log.batches.sort();
        self.log.name_missing();
        let wrong = self.nodes.compare(connection).await?;
        self.log.findings.extend(wrong);
        Ok(self.log)
    }

    /// Begins behind the first entries, by the roots of their full subtrees. Whether these are what was
    /// signed shows when the root of the whole is compared. Returns false if one is not there.
    async fn resume(
        &mut self,
        connection: &mut PgConnection,
        first: i64,
    ) -> Result<bool, sqlx::Error> {
        let size = u64::try_from(first).unwrap_or_default();
        let mut subtrees = Vec::new();
        for subtree in tree::cover(0, size) {
            match super::nodes::of_log(connection, subtree).await? {
                Some(hash) => subtrees.push(hash),
                None => return Ok(false),
            }
        }
        let Some(frontier) = Frontier::resume(size, subtrees) else {
            return Ok(false);
        };
        self.stored = frontier.clone();
        self.computed = frontier;
        self.next_index = first;
        self.log.first = first;
        self.nodes.begin_at(first);
        Ok(true)
    }

    fn row(&mut self, mut row: Fields<'_>) -> Result<(), sqlx::Error> {
        let index = row.i64()?;
        let (writer, first_seq) = (row.uuid()?, row.i64()?);
        let stored: Option<Hash> = row.fixed()?;
        let own_prints: Option<Hash> = row.fixed()?;
        let entry = entry(row)?;
        let (Some(index), Some(writer), Some(first_seq), Some(stored)) =
            (index, writer, first_seq, stored)
        else {
            if let Some(entry) = entry {
                self.log.unsealed_batches += 1;
                self.log.unsealed_rows += entry.batch.count() as u64;
                self.log.batches.add(entry.batch);
            }
            return Ok(());
        };
        if index < self.next_index
            || (index - self.next_index).saturating_add(self.log.missing) > MOST_MISSING
        {
            let detail = "the entry stands where none can";
            let finding = Finding::new(Kind::LedgerChanged, detail);
            self.find(finding.of_batch(writer, first_seq, Some(index)));
            return Ok(());
        }
        self.log.missing += index - self.next_index;
        while self.next_index < index {
            self.no_entry();
        }
        let computed = entry.as_ref().map(|entry| tree::leaf_hash(&entry.bytes));
        self.judge((writer, first_seq), stored, entry.as_ref());
        if let Some(mut entry) = entry {
            self.follow(&entry, stored);
            if !entry.is_as_sealed(own_prints.is_some()) {
                let detail = "its root or its fingerprints are not what was sealed";
                let finding = Finding::new(Kind::HeaderChanged, detail);
                self.find(finding.of_batch(writer, first_seq, Some(index)));
            }
            (entry.batch.index, entry.batch.prints) = (Some(index), entry.prints.or(own_prints));
            self.log.batches.add(entry.batch);
        }
        self.stored.append(stored);
        self.nodes.append(stored);
        self.computed.append(computed.unwrap_or(stored));
        self.next_index += 1;
        self.note_roots();
        Ok(())
    }

    /// Compares an entry with what was published of it, and with what its batch is now.
    fn judge(&mut self, at: (Uuid, i64), stored: Hash, entry: Option<&Entry>) {
        let index = self.next_index;
        let (writer, first_seq) = at;
        let published = self.published();
        let now = entry.map(|entry| (tree::leaf_hash(&entry.bytes), &entry.bytes));
        if published.is_some_and(|published| published != stored) {
            let then = self.tiles.as_mut().and_then(|tiles| tiles.entry(index));
            if then
                .as_deref()
                .and_then(writer_and_first_seq)
                .is_some_and(|then| then != at)
            {
                self.log.others.push(index);
                if now.is_none() {
                    self.log.lost.push((index, writer, first_seq));
                }
                return;
            }
        }
        let Some((computed, bytes)) = now else {
            self.log.lost.push((index, writer, first_seq));
            return;
        };
        if computed == stored && published.is_none_or(|published| published == stored) {
            return;
        }
        let then = self.tiles.as_mut().and_then(|tiles| tiles.entry(index));
        let changed = then
            .map(|then| what_differs(&then, bytes))
            .unwrap_or_default();
        let mismatch = Mismatch {
            is_stored_published: published == Some(stored),
            is_computed_published: published == Some(computed),
            changed,
            at,
            index,
        };
        // An entry that follows a changed one has another hash of it.
        let follows = mismatch.changed == ["previous"] && self.changed_writers.contains(&writer);
        if !follows && self.log.mismatches.len() < MOST_NAMED {
            self.changed_writers.insert(writer);
            self.log.mismatches.push(mismatch);
        }
    }

    /// Checks that an entry follows the last one of its writer.
    fn follow(&mut self, entry: &Entry, hash: Hash) {
        let batch = &entry.batch;
        let last = self.last_of.get(&batch.writer);
        let expected = last.map_or(1, |last| last.last_seq.saturating_add(1));
        let previous = last.map(|last| last.entry_hash);
        if last.is_none() && self.log.first > 0 {
            // The one before it was not read.
        } else if batch.first_seq != expected {
            let detail = format!("the entry before it of this writer ends before seq {expected}");
            let finding = Finding::new(Kind::BatchesOutOfOrder, detail);
            self.find(finding.of_batch(batch.writer, batch.first_seq, Some(self.next_index)));
        } else if entry_previous(&entry.bytes) != previous {
            let detail = "it does not name the entry before it of this writer";
            let finding = Finding::new(Kind::LedgerChanged, detail);
            self.find(finding.of_batch(batch.writer, batch.first_seq, Some(self.next_index)));
        }
        let last = Last {
            last_seq: entry.last_seq,
            entry_hash: hash,
        };
        self.last_of.insert(batch.writer, last);
    }

    /// Notes that the ledger has no entry at the next place.
    fn no_entry(&mut self) {
        let index = self.next_index;
        let published = self.published();
        let then = self.tiles.as_mut().and_then(|tiles| tiles.entry(index));
        let batch = then.as_deref().and_then(writer_and_first_seq);
        let last =
            self.log.gaps.last_mut().filter(|gap| {
                gap.batch.is_none() && batch.is_none() && gap.first + gap.count == index
            });
        match last {
            Some(gap) => gap.count += 1,
            None => self.log.gaps.push(Gap {
                first: index,
                count: 1,
                batch,
            }),
        }
        let hash = published.unwrap_or_default();
        self.stored.append(hash);
        self.nodes.append(hash);
        self.computed.append(hash);
        self.next_index += 1;
        self.note_roots();
    }

    /// Returns the hash that was published of the next entry.
    fn published(&mut self) -> Option<Hash> {
        let index = self.next_index;
        self.tiles.as_mut().and_then(|tiles| tiles.hash(index))
    }

    fn find(&mut self, finding: Finding) {
        if self.log.findings.len() < MOST_NAMED {
            self.log.findings.push(finding);
        }
    }

    fn note_roots(&mut self) {
        while let Some(&size) = self.wanted.first()
            && size == self.stored.size()
        {
            let roots = (size, self.stored.root(), self.computed.root());
            self.log.roots.push(roots);
            self.wanted.remove(0);
        }
    }
}

impl Log {
    /// Whether something was found that makes the log's root another.
    pub(super) fn is_explained(&self) -> bool {
        !(self.mismatches.is_empty() && self.others.is_empty() && self.findings.is_empty())
    }

    /// Names the entries that are not what they were. `is_computed_signed`: whether the root over the
    /// batches, as they are, is the one that was signed.
    pub(super) fn name_changed(&mut self, is_computed_signed: Option<bool>) {
        for mismatch in std::mem::take(&mut self.mismatches) {
            let (writer, first_seq) = mismatch.at;
            let is_ledger = mismatch.is_computed_published
                || !mismatch.is_stored_published && is_computed_signed == Some(true);
            let (kind, detail) = if is_ledger {
                (
                    Kind::LedgerChanged,
                    String::from("the hash of the entry is not what was sealed"),
                )
            } else if mismatch.changed.is_empty() {
                (
                    Kind::HeaderChanged,
                    String::from("the batch's row, or the writer's, is not what was sealed"),
                )
            } else {
                (Kind::HeaderChanged, mismatch.changed.join(", "))
            };
            let finding = Finding::new(kind, detail);
            self.findings
                .push(finding.of_batch(writer, first_seq, Some(mismatch.index)));
        }
        if let (Some(first), count) = (self.others.first(), self.others.len()) {
            let mut finding = Finding::new(
                Kind::Fork,
                format!("{count} entries are of other batches than those that were published"),
            );
            finding.index = Some(*first);
            self.findings.push(finding);
        }
    }

    /// Names the batches that are not there any more, and the entries.
    fn name_missing(&mut self) {
        for gap in std::mem::take(&mut self.gaps) {
            match gap.batch {
                Some((writer, first_seq)) if self.batches.find(&writer, first_seq).is_none() => {
                    self.lost.push((gap.first, writer, first_seq));
                }
                known => {
                    let detail = match gap.count {
                        1 => String::from("the entry is not there any more"),
                        count => format!("{count} entries are not there any more"),
                    };
                    let mut finding = Finding::new(Kind::LedgerChanged, detail);
                    finding.index = Some(gap.first);
                    (finding.writer, finding.seq) = known.unzip();
                    self.findings.push(finding);
                }
            }
        }
        let mut writers: HashMap<Uuid, (i64, i64, u64)> = HashMap::new();
        for (index, writer, first_seq) in std::mem::take(&mut self.lost) {
            if self.batches.has_writer(&writer) {
                self.findings
                    .push(Finding::new(Kind::BatchMissing, "").of_batch(
                        writer,
                        first_seq,
                        Some(index),
                    ));
            } else {
                let (.., batches) = writers.entry(writer).or_insert((index, first_seq, 0));
                *batches += 1;
            }
        }
        for (writer, (index, first_seq, batches)) in writers {
            let kind = if batches == 1 {
                Kind::BatchMissing
            } else {
                Kind::WriterMissing
            };
            let detail = format!("all {batches} batches of it that were sealed");
            self.findings
                .push(Finding::new(kind, detail).of_batch(writer, first_seq, Some(index)));
        }
    }
}

/// Reads the batch of a row of [`QUERY`], and makes its entry.
pub(super) fn entry(row: Fields<'_>) -> Result<Option<Entry>, sqlx::Error> {
    let mut images = row;
    let in_entry = images.images(ENTRY_COLUMNS)?;
    let mut fields = row;
    let (Some(writer), Some(first_seq), Some(last_seq)) =
        (fields.uuid()?, fields.i64()?, fields.i64()?)
    else {
        return Ok(None);
    };
    let mut batch = Batch::new(writer, first_seq, last_seq);
    fields.images(2)?;
    (batch.first_id, batch.last_id) = (fields.uuid()?, fields.uuid()?);
    fields.images(3)?;
    batch.committed_us = fields.i64()?.unwrap_or_default();
    fields.images(1)?;
    batch.root = fields.fixed()?;
    fields.images(1)?;
    let batch_root = fields.fixed()?;
    let prints = fields.fixed()?;
    Ok(Some(Entry {
        bytes: entry_bytes(in_entry, fields)?,
        last_seq,
        batch,
        batch_root,
        prints,
    }))
}

/// Makes an entry of its columns and of its writer's row in `audit.writers`.
pub(crate) fn entry_bytes(in_entry: &[u8], mut writer: Fields<'_>) -> Result<Vec<u8>, sqlx::Error> {
    let mut bytes = vec![ENTRY_VERSION];
    bytes.extend_from_slice(in_entry);
    let registration = writer.bytes();
    match writer.uuid()? {
        Some(_) => {
            bytes.extend_from_slice(&32_u32.to_be_bytes());
            bytes.extend_from_slice(&digest(registration));
        }
        None => bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
    }
    Ok(bytes)
}

/// Returns the hash of the writer's previous entry that an entry has.
fn entry_previous(entry: &[u8]) -> Option<Hash> {
    super::tiles::entry_field(entry, 13)?.try_into().ok()
}

/// Returns of which writer an entry is, and its first seq.
pub(super) fn writer_and_first_seq(entry: &[u8]) -> Option<(Uuid, i64)> {
    let writer = super::tiles::entry_field(entry, 0)?.try_into().ok()?;
    let first_seq = super::tiles::entry_field(entry, 1)?.try_into().ok()?;
    Some((Uuid::from_bytes(writer), i64::from_be_bytes(first_seq)))
}
