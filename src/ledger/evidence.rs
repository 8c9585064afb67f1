//! Evidence: the row of a proof, with its path to the entry of its batch. It is the proof's extra part. Frozen: format 1.
//!
//! ```text
//! 01 | image of the entry | image of the table's name | image of the core's images
//!    | 01, image of the content's images; or 00, image of the content's hash
//!    | index of the leaf in its batch, 8 bytes | leaves of the batch, 8 bytes
//!    | hashes of the path, 1 byte | 32 bytes each
//! ```

use super::checkpoint::{self, CheckpointError, Verified};
use super::entry::{Entry, EntryError, entry_hash};
use super::images::{self, Image, ImageError, Images, push_image};
use super::key::Vkey;
use super::layout::Columns;
use super::leaf::{self, TablePrefix};
use super::paths::{self, MAX_PATH_HASHES, VerifyError};
use super::proof::{ProofFormatError, TlogProof};
use super::tree::Hash;

/// The version of the format, with which evidence begins.
const EVIDENCE_FORMAT: u8 = 1;

const CONTENT_ERASED: u8 = 0;
const CONTENT_WHOLE: u8 = 1;

/// Why bytes are no evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// It is in a format that this version does not know.
    #[error("the evidence is not in format {EVIDENCE_FORMAT}")]
    Format,
    /// It ends too early.
    #[error("the evidence is cut off")]
    CutOff,
    /// A part is malformed.
    #[error("the evidence's {part} is malformed")]
    Part {
        /// Which one.
        part: &'static str,
        /// In which way.
        source: ImageError,
    },
    /// The row is of a table that is in no ledger.
    #[error("the evidence is of a row in a table that is in no ledger")]
    Table,
    /// The content is neither there nor given by its hash.
    #[error("the evidence has neither the row's content nor its hash")]
    Content,
    /// The path is longer than that of the largest tree.
    #[error("the evidence's path has more than {MAX_PATH_HASHES} hashes")]
    PathTooLong,
    /// There are bytes after the path.
    #[error("the evidence has bytes after its path")]
    Trailing,
}

/// The content of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The images of its columns.
    Whole(Vec<u8>),
    /// Its hash, which stays when the content is erased.
    Erased(Hash),
}

impl Content {
    /// Returns the hash.
    pub fn hash(&self) -> Hash {
        match self {
            Self::Whole(images) => leaf::digest(images),
            Self::Erased(hash) => *hash,
        }
    }
}

/// A row, and what leads from it to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The entry of its batch, as it is in the log.
    pub entry: Vec<u8>,
    /// The columns of its table.
    pub columns: &'static Columns,
    /// The images of the core columns.
    pub core: Vec<u8>,
    /// The content.
    pub content: Content,
    /// The index of the row among the leaves of the batch.
    pub leaf_index: u64,
    /// The number of leaves of the batch.
    pub leaf_count: u64,
    /// The path from the row's leaf to the batch's root.
    pub path: Vec<Hash>,
}

impl Evidence {
    /// Writes the evidence.
    ///
    /// # Errors
    /// If a part is too large.
    pub fn encode(&self) -> Result<Vec<u8>, EvidenceError> {
        let too_long = EvidenceError::PathTooLong;
        let mut bytes = vec![EVIDENCE_FORMAT];
        let push = |bytes: &mut Vec<u8>, part, image: &[u8]| {
            push_image(bytes, Some(image)).map_err(|source| EvidenceError::Part { part, source })
        };
        push(&mut bytes, "entry", &self.entry)?;
        push(&mut bytes, "table", self.columns.table.as_bytes())?;
        push(&mut bytes, "core", &self.core)?;
        match &self.content {
            Content::Whole(images) => {
                bytes.push(CONTENT_WHOLE);
                push(&mut bytes, "content", images)?;
            }
            Content::Erased(hash) => {
                bytes.push(CONTENT_ERASED);
                push(&mut bytes, "content", hash)?;
            }
        }
        bytes.extend(self.leaf_index.to_be_bytes());
        bytes.extend(self.leaf_count.to_be_bytes());
        if self.path.len() > MAX_PATH_HASHES {
            return Err(too_long);
        }
        bytes.push(u8::try_from(self.path.len()).map_err(|_| too_long)?);
        bytes.extend(self.path.concat());
        Ok(bytes)
    }

    /// Reads evidence. It is encoded to the same bytes again.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let Some((&EVIDENCE_FORMAT, rest)) = bytes.split_first() else {
            return Err(EvidenceError::Format);
        };
        let (entry, rest) = part(rest, "entry")?;
        let (table, rest) = part(rest, "table")?;
        let columns = std::str::from_utf8(table)
            .ok()
            .and_then(Columns::of)
            .ok_or(EvidenceError::Table)?;
        let (core, rest) = part(rest, "core")?;
        expect_images(core, columns.core, "core")?;
        let (&kind, rest) = rest.split_first().ok_or(EvidenceError::CutOff)?;
        let (content, rest) = part(rest, "content")?;
        let content = match kind {
            CONTENT_WHOLE => {
                expect_images(content, columns.content, "content")?;
                Content::Whole(content.to_vec())
            }
            CONTENT_ERASED => {
                Content::Erased(content.try_into().map_err(|_| EvidenceError::Content)?)
            }
            _ => return Err(EvidenceError::Content),
        };
        let (leaf_index, rest) = number(rest)?;
        let (leaf_count, rest) = number(rest)?;
        Ok(Self {
            entry: entry.to_vec(),
            columns,
            core: core.to_vec(),
            content,
            leaf_index,
            leaf_count,
            path: path(rest)?,
        })
    }

    /// Returns the root of the batch that the row's path leads to.
    ///
    /// # Errors
    /// If the path cannot be the row's.
    pub fn root(&self) -> Result<Hash, VerifyError> {
        let leaf = leaf::leaf_of(
            &TablePrefix::new(self.columns.table),
            &self.core,
            &self.content.hash(),
        );
        paths::root_of_path(self.leaf_count, self.leaf_index, leaf, &self.path)
    }

    /// Returns the core's values, each with the name of its column.
    ///
    /// # Errors
    /// If the core is not one image for each column.
    pub fn core_values(&self) -> Result<Vec<(&'static str, Image<'_>)>, ImageError> {
        images::named(&self.core, self.columns.core)
    }

    /// Returns the content's values, each with the name of its column, the salt among them; `None` if they are erased.
    ///
    /// # Errors
    /// If the content is not one image for each column.
    pub fn content_values(&self) -> Result<Option<Vec<(&'static str, Image<'_>)>>, ImageError> {
        match &self.content {
            Content::Whole(images) => images::named(images, self.columns.content).map(Some),
            Content::Erased(_) => Ok(None),
        }
    }
}

/// Splits the image of a part off.
fn part<'a>(bytes: &'a [u8], part: &'static str) -> Result<(&'a [u8], &'a [u8]), EvidenceError> {
    let mut images = Images::new(bytes);
    match images.next() {
        Some(Ok(Some(image))) => Ok((image, images.rest())),
        Some(Err(source)) => Err(EvidenceError::Part { part, source }),
        Some(Ok(None)) => Err(EvidenceError::Part {
            part,
            source: ImageError::Length,
        }),
        None => Err(EvidenceError::CutOff),
    }
}

fn expect_images(
    bytes: &[u8],
    columns: &[&'static str],
    part: &'static str,
) -> Result<(), EvidenceError> {
    images::named(bytes, columns)
        .map(|_| ())
        .map_err(|source| EvidenceError::Part { part, source })
}

fn number(bytes: &[u8]) -> Result<(u64, &[u8]), EvidenceError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(EvidenceError::CutOff)?;
    Ok((u64::from_be_bytes(*number), rest))
}

fn path(bytes: &[u8]) -> Result<Vec<Hash>, EvidenceError> {
    let (&length, rest) = bytes.split_first().ok_or(EvidenceError::CutOff)?;
    let length = usize::from(length);
    if length > MAX_PATH_HASHES {
        return Err(EvidenceError::PathTooLong);
    }
    let (hashes, trailing) = rest
        .split_at_checked(length * size_of::<Hash>())
        .ok_or(EvidenceError::CutOff)?;
    if !trailing.is_empty() {
        return Err(EvidenceError::Trailing);
    }
    Ok(hashes.as_chunks().0.to_vec())
}

/// Why a proof does not prove that a row is in the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// It is no proof.
    #[error("this is not a proof")]
    Format(#[from] ProofFormatError),
    /// Its checkpoint does not hold.
    #[error("the proof's checkpoint cannot be trusted")]
    Checkpoint(#[from] CheckpointError),
    /// Fewer witnesses than required have seen the checkpoint.
    #[error("{found} of the known witnesses have seen the checkpoint, but {required} are required")]
    TooFewWitnesses {
        /// How many have seen it.
        found: usize,
        /// How many are required.
        required: usize,
    },
    /// It proves an entry, but no row.
    #[error("the proof has no evidence of a row")]
    NoEvidence,
    /// The evidence is malformed.
    #[error("the proof's evidence is malformed")]
    Evidence(#[from] EvidenceError),
    /// The entry is malformed.
    #[error("the proof's entry is malformed")]
    Entry(#[from] EntryError),
    /// The entry is not in the log.
    #[error("the proof does not show that the entry is in the log")]
    EntryNotInLog(#[source] VerifyError),
    /// The row's path is malformed.
    #[error("the proof does not show that the row is in the batch of the entry")]
    Row(#[source] VerifyError),
    /// The row is not the one that was recorded.
    #[error("the row is not in the batch of the entry, or is not as it was recorded")]
    RowNotInBatch,
    /// The row does not say which record of which writer it is.
    #[error("the row has no valid {column}")]
    Column {
        /// What it lacks.
        column: &'static str,
    },
    /// The row is of another batch than its entry.
    #[error("the row is not one of the records that the entry is about")]
    OutsideEntry,
}

/// A row that is proven to be in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The checkpoint that was verified, with its witnesses.
    pub verified: Verified,
    /// The index of the entry in the log.
    pub index: u64,
    /// The entry.
    pub entry: Entry,
    /// The row.
    pub row: Evidence,
}

/// Verifies a proof of a row: the checkpoint's signatures, that at least `require_witness` of the witnesses have seen it,
/// that the entry is in the log, that the row is in the entry's batch, and that the entry is about the row's writer and number.
///
/// # Errors
/// If any of it is not proven.
pub fn check_proof(
    bytes: &[u8],
    log: &[Vkey],
    witnesses: &[Vkey],
    require_witness: usize,
) -> Result<Checked, ProofError> {
    let proof = TlogProof::parse(bytes)?;
    let verified = checkpoint::verify_note(&proof.checkpoint, log, witnesses)?;
    let found = verified.cosignatures.len();
    if found < require_witness {
        return Err(ProofError::TooFewWitnesses {
            found,
            required: require_witness,
        });
    }
    let row = Evidence::decode(&proof.extra.ok_or(ProofError::NoEvidence)?)?;
    let head = verified.checkpoint.head;
    let leaf = entry_hash(&row.entry);
    paths::verify_inclusion(&head.root, head.size, proof.index, leaf, &proof.path)
        .map_err(ProofError::EntryNotInLog)?;
    let entry = Entry::decode(&row.entry)?;
    if Some(row.root().map_err(ProofError::Row)?) != entry.root {
        return Err(ProofError::RowNotInBatch);
    }
    expect_in_entry(&row, &entry)?;
    Ok(Checked {
        verified,
        index: proof.index,
        entry,
        row,
    })
}

fn expect_in_entry(row: &Evidence, entry: &Entry) -> Result<(), ProofError> {
    let part = "core";
    let core = row
        .core_values()
        .map_err(|source| EvidenceError::Part { part, source })?;
    let value = |column: &str| {
        let found = core.iter().find(|(name, _)| *name == column);
        found.and_then(|(_, image)| *image)
    };
    let column = |column| ProofError::Column { column };
    let writer_id = images::uuid(value("writer_id")).ok_or(column("writer_id"))?;
    let seq = images::int8(value("seq")).ok_or(column("seq"))?;
    if entry.has(writer_id, seq) {
        Ok(())
    } else {
        Err(ProofError::OutsideEntry)
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
