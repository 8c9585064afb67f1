//! The entry of the log: what it states of one batch. Frozen: format 1.

use uuid::Uuid;

use super::images::{self, Image, ImageError, Images, push_image};
use super::tiles::MAX_ENTRY_BYTES;
use super::tree::{self, Hash};

/// The version of the format, with which an entry begins.
const ENTRY_FORMAT: u8 = 1;

/// The version of Postgres' binary format of `jsonb`, with which the image of one begins.
const JSONB_FORMAT: u8 = 1;

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// It is larger than a log's entry can be.
    #[error("the entry has {bytes} bytes, more than {MAX_ENTRY_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is in a format that this version does not know.
    #[error("the entry is not in format {ENTRY_FORMAT}")]
    Format,
    /// It does not consist of images.
    #[error("the entry is malformed")]
    Image(#[from] ImageError),
    /// A field is NULL where it may not be, or of another type.
    #[error("the entry's {field} is malformed")]
    Field {
        /// Which one.
        field: &'static str,
    },
    /// There are bytes after the last field.
    #[error("the entry has bytes after its last field")]
    Trailing,
}

/// What the log states of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose batch it is.
    pub writer_id: Uuid,
    /// The number of its first record.
    pub first_seq: i64,
    /// The number of its last record.
    pub last_seq: i64,
    /// How many rows of each table it has, as Postgres writes the `jsonb`.
    pub records: String,
    /// How many dead letters it has.
    pub dead_letters: i32,
    /// The least id of its rows.
    pub first_id: Option<Uuid>,
    /// The greatest id of its rows.
    pub last_id: Option<Uuid>,
    /// By what the writer recognizes it.
    pub mark: Option<Vec<u8>>,
    /// Of which service its writer is.
    pub service_name: Option<String>,
    /// The version of the library that wrote it.
    pub library_version: String,
    /// When it was written, in microseconds since 2000-01-01 UTC.
    pub committed_at: i64,
    /// The transaction that wrote it.
    pub added_by: u64,
    /// The root of the tree of its rows; `None` if they were not all there any more when it was sealed.
    pub root: Option<Hash>,
    /// The hash of the writer's entry before this one.
    pub previous: Option<Hash>,
    /// In the first entry of a registered writer: the hash of its registration.
    pub registration: Option<Hash>,
}

impl Entry {
    /// Writes the entry.
    ///
    /// # Errors
    /// If it is larger than a log's entry can be.
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        let mut bytes = vec![ENTRY_FORMAT];
        let records = [&[JSONB_FORMAT], self.records.as_bytes()].concat();
        let values: [Image<'_>; 15] = [
            Some(self.writer_id.as_bytes()),
            Some(&self.first_seq.to_be_bytes()),
            Some(&self.last_seq.to_be_bytes()),
            Some(&records),
            Some(&self.dead_letters.to_be_bytes()),
            self.first_id.as_ref().map(|id| &id.as_bytes()[..]),
            self.last_id.as_ref().map(|id| &id.as_bytes()[..]),
            self.mark.as_deref(),
            self.service_name.as_ref().map(String::as_bytes),
            Some(self.library_version.as_bytes()),
            Some(&self.committed_at.to_be_bytes()),
            Some(&self.added_by.to_be_bytes()),
            self.root.as_ref().map(|hash| &hash[..]),
            self.previous.as_ref().map(|hash| &hash[..]),
            self.registration.as_ref().map(|hash| &hash[..]),
        ];
        for value in values {
            push_image(&mut bytes, value)?;
        }
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLarge { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads an entry. It is encoded to the same bytes again.
    ///
    /// # Errors
    /// If it is not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLarge { bytes: bytes.len() });
        }
        let Some((&ENTRY_FORMAT, bytes)) = bytes.split_first() else {
            return Err(EntryError::Format);
        };
        let mut fields = Fields(Images::new(bytes));
        let entry = Self {
            writer_id: fields.required("writer_id", |image| images::uuid(Some(image)))?,
            first_seq: fields.required("first_seq", |image| images::int8(Some(image)))?,
            last_seq: fields.required("last_seq", |image| images::int8(Some(image)))?,
            records: fields.required("records", jsonb)?,
            dead_letters: fields.required("dead_letters", int4)?,
            first_id: fields.optional("first_id", |image| images::uuid(Some(image)))?,
            last_id: fields.optional("last_id", |image| images::uuid(Some(image)))?,
            mark: fields.optional("mark", |image| Some(image.to_vec()))?,
            service_name: fields.optional("service_name", text)?,
            library_version: fields.required("library_version", text)?,
            committed_at: fields.required("committed_at", |image| images::int8(Some(image)))?,
            added_by: fields.required("added_by", xid8)?,
            root: fields.optional("root", hash)?,
            previous: fields.optional("previous", hash)?,
            registration: fields.optional("registration", hash)?,
        };
        if fields.0.rest().is_empty() {
            Ok(entry)
        } else {
            Err(EntryError::Trailing)
        }
    }

    /// Whether a record of this writer with this number is in the batch.
    pub fn has(&self, writer_id: Uuid, seq: i64) -> bool {
        self.writer_id == writer_id && (self.first_seq..=self.last_seq).contains(&seq)
    }
}

/// Returns the hash of an entry: its leaf in the log.
pub fn entry_hash(bytes: &[u8]) -> Hash {
    tree::leaf_hash(bytes)
}

struct Fields<'a>(Images<'a>);

impl<'a> Fields<'a> {
    fn optional<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, EntryError> {
        let image = self.0.next().ok_or(ImageError::CutOff)??;
        image
            .map(|image| read(image).ok_or(EntryError::Field { field }))
            .transpose()
    }

    fn required<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<T, EntryError> {
        self.optional(field, read)?
            .ok_or(EntryError::Field { field })
    }
}

fn text(image: &[u8]) -> Option<String> {
    String::from_utf8(image.to_vec()).ok()
}

fn jsonb(image: &[u8]) -> Option<String> {
    text(image.strip_prefix(&[JSONB_FORMAT])?)
}

fn int4(image: &[u8]) -> Option<i32> {
    image.try_into().ok().map(i32::from_be_bytes)
}

fn xid8(image: &[u8]) -> Option<u64> {
    image.try_into().ok().map(u64::from_be_bytes)
}

fn hash(image: &[u8]) -> Option<Hash> {
    image.try_into().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ledger::vectors::hex;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    pub(in crate::ledger) fn example() -> Entry {
        Entry {
            writer_id: Uuid::from_bytes([1; 16]),
            first_seq: 41,
            last_seq: 43,
            records: r#"{"events": 3}"#.to_owned(),
            dead_letters: 0,
            first_id: Some(Uuid::from_bytes([2; 16])),
            last_id: Some(Uuid::from_bytes([3; 16])),
            mark: Some(vec![4; 32]),
            service_name: Some("ask".to_owned()),
            library_version: "0.1.0".to_owned(),
            committed_at: 850_000_000_000_000,
            added_by: 777,
            root: Some([5; 32]),
            previous: Some([6; 32]),
            registration: None,
        }
    }

    /// Frozen, format 1.
    const GOLDEN: &str = "01000000100101010101010101010101010101010100000008000000000000002900000008000000000000002b0000000e017b226576656e7473223a20337d0000000400000000000000100202020202020202020202020202020200000010030303030303030303030303030303030000002004040404040404040404040404040404040404040404040404040404040404040000000361736b00000005302e312e3000000008000305120c0f2000000000080000000000000309000000200505050505050505050505050505050505050505050505050505050505050505000000200606060606060606060606060606060606060606060606060606060606060606ffffffff";

    #[test]
    fn bytes_are_golden() {
        let bytes = example().encode().unwrap();
        assert_eq!(HEXLOWER.encode(&bytes), GOLDEN);
        assert_eq!(Entry::decode(&bytes), Ok(example()));
        assert_eq!(
            entry_hash(&bytes),
            hex("1314c1fa2fdb6f0322b6f367961b20aff9be57e7540bde95870be77c7d6de90c")
        );
    }

    #[test]
    fn malformed_entries_are_refused() {
        let bytes = example().encode().unwrap();
        assert_eq!(Entry::decode(&[]), Err(EntryError::Format));
        let other = [&[2], &bytes[1..]].concat();
        assert_eq!(Entry::decode(&other), Err(EntryError::Format));
        for length in 1..bytes.len() {
            assert!(Entry::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        let long = [&bytes[..], &[0xff; 4]].concat();
        assert_eq!(Entry::decode(&long), Err(EntryError::Trailing));
        let mut nulls = vec![ENTRY_FORMAT];
        nulls.extend([0xff; 4 * 15]);
        let field = EntryError::Field { field: "writer_id" };
        assert_eq!(Entry::decode(&nulls), Err(field));
        let large = Entry {
            mark: Some(vec![0; MAX_ENTRY_BYTES]),
            ..example()
        };
        assert!(matches!(large.encode(), Err(EntryError::TooLarge { .. })));
        let large = vec![ENTRY_FORMAT; MAX_ENTRY_BYTES + 1];
        assert!(matches!(
            Entry::decode(&large),
            Err(EntryError::TooLarge { .. })
        ));
    }

    #[test]
    fn records_of_the_range_alone_are_in_the_batch() {
        let entry = example();
        let writer = entry.writer_id;
        let is_in = [40, 41, 43, 44].map(|seq| entry.has(writer, seq));
        assert_eq!(is_in, [false, true, true, false]);
        assert!(!entry.has(Uuid::nil(), 41));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_as_it_was(at in 0_usize..400, value in any::<u8>()) {
            let mut bytes = example().encode().unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(entry) = Entry::decode(&bytes) {
                prop_assert_eq!(entry.encode(), Ok(bytes));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entry::decode(&bytes);
            let _ = Entry::decode(&[&[ENTRY_FORMAT], &bytes[..]].concat());
        }
    }
}
