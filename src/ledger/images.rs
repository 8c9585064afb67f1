//! Field images: the values of columns as Postgres' `COPY ... (FORMAT binary)` writes them, and the leaf of a row that is
//! hashed from them. Frozen: format 1.
//!
//! An image is the length of the value in four bytes, -1 for NULL, and the value's bytes.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::tree::{self, Hash};

/// The version of the format, with which the leaf of a row begins.
const ROW_FORMAT: u8 = 1;

/// A value: its bytes, or `None` for NULL.
pub type Image<'a> = Option<&'a [u8]>;

/// Why bytes are no images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// They end within an image.
    #[error("the field images are cut off")]
    CutOff,
    /// A length is negative, and not that of NULL.
    #[error("a field image has an invalid length")]
    Length,
    /// There are more, or fewer, than columns.
    #[error("there are not {columns} field images, one for each column")]
    Count {
        /// The number of columns.
        columns: usize,
    },
    /// A value is larger than an image can hold.
    #[error("a value of {bytes} bytes is too large for a field image")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// The images in a string of bytes, one after the other. The first error ends them.
#[derive(Clone, Debug)]
pub struct Images<'a> {
    rest: &'a [u8],
}

impl<'a> Images<'a> {
    /// Reads images.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns what is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn read(&mut self) -> Result<Image<'a>, ImageError> {
        let (length, after) = self.rest.split_first_chunk().ok_or(ImageError::CutOff)?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            self.rest = after;
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| ImageError::Length)?;
        let (value, after) = after.split_at_checked(length).ok_or(ImageError::CutOff)?;
        self.rest = after;
        Ok(Some(value))
    }
}

impl<'a> Iterator for Images<'a> {
    type Item = Result<Image<'a>, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let image = self.read();
        if image.is_err() {
            self.rest = &[];
        }
        Some(image)
    }
}

/// Appends the image of a value.
///
/// # Errors
/// If the value is larger than an image can hold.
pub fn push_image(bytes: &mut Vec<u8>, value: Image<'_>) -> Result<(), ImageError> {
    let Some(value) = value else {
        bytes.extend((-1_i32).to_be_bytes());
        return Ok(());
    };
    let too_large = ImageError::TooLarge { bytes: value.len() };
    let length = i32::try_from(value.len()).map_err(|_| too_large)?;
    bytes.extend(length.to_be_bytes());
    bytes.extend(value);
    Ok(())
}

/// Reads the images of these columns, each with its name.
///
/// # Errors
/// If the bytes are not one image for each of the columns.
pub fn named<'a>(
    bytes: &'a [u8],
    columns: &[&'static str],
) -> Result<Vec<(&'static str, Image<'a>)>, ImageError> {
    let count = ImageError::Count {
        columns: columns.len(),
    };
    let mut images = Images::new(bytes);
    let named = columns
        .iter()
        .map(|column| Ok((*column, images.next().ok_or(count)??)))
        .collect::<Result<Vec<_>, _>>()?;
    if images.rest.is_empty() {
        Ok(named)
    } else {
        Err(count)
    }
}

/// Reads an `int8`.
pub fn int8(image: Image<'_>) -> Option<i64> {
    image?.try_into().ok().map(i64::from_be_bytes)
}

/// Reads a `uuid`.
pub fn uuid(image: Image<'_>) -> Option<Uuid> {
    Uuid::from_slice(image?).ok()
}

/// The columns of a table, in the order in which they are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The name of the table in the schema `audit`.
    pub table: &'static str,
    /// What stays for as long as the row.
    pub core: &'static [&'static str],
    /// What may be erased. The salt is the first.
    pub content: &'static [&'static str],
}

impl Columns {
    /// Returns the columns of a table; `None` if its rows are in no ledger.
    pub fn of(table: &str) -> Option<&'static Self> {
        TABLES.iter().find(|columns| columns.table == table)
    }
}

const EVENT_CORE: &[&str] = &[
    "id",
    "writer_id",
    "seq",
    "tenant_id",
    "parent_id",
    "agent_id",
    "llm_session_id",
    "request_id",
    "trace_id",
    "span_id",
    "service_name",
    "status",
    "created_at",
    "latency_ms",
    "action_type",
];

const EVENT_CONTENT: &[&str] = &[
    "salt",
    "user_id",
    "user_role",
    "conversation_id",
    "error_code",
    "error_message",
    "target_type",
    "target_id",
    "input_summary",
    "output_summary",
    "metadata",
    "problems",
    "redactions",
];

/// All tables, in the order of their rows in a batch.
pub const TABLES: [Columns; 5] = [
    Columns {
        table: "query_runs",
        core: &[
            "id",
            "writer_id",
            "seq",
            "tenant_id",
            "parent_id",
            "agent_id",
            "llm_session_id",
            "request_id",
            "trace_id",
            "span_id",
            "service_name",
            "status",
            "started_at",
            "finished_at",
            "duration_ms",
            "datasource_id",
            "row_count",
            "rows_affected",
        ],
        content: &[
            "salt",
            "user_id",
            "user_role",
            "conversation_id",
            "error_code",
            "error_message",
            "question_text",
            "sql_text",
            "sql_summary",
            "metadata",
            "problems",
            "redactions",
        ],
    },
    Columns {
        table: "prompt_runs",
        core: &[
            "id",
            "writer_id",
            "seq",
            "tenant_id",
            "parent_id",
            "agent_id",
            "llm_session_id",
            "request_id",
            "trace_id",
            "span_id",
            "service_name",
            "status",
            "created_at",
            "finished_at",
            "duration_ms",
            "model_name",
            "provider",
            "prompt_template_version",
            "input_token_count",
            "output_token_count",
        ],
        content: &[
            "salt",
            "user_id",
            "user_role",
            "conversation_id",
            "error_code",
            "error_message",
            "prompt_template_name",
            "rendered_prompt",
            "response_text",
            "role",
            "metadata",
            "problems",
            "redactions",
        ],
    },
    Columns {
        table: "events",
        core: EVENT_CORE,
        content: EVENT_CONTENT,
    },
    Columns {
        table: "activities",
        core: EVENT_CORE,
        content: EVENT_CONTENT,
    },
    Columns {
        table: "dead_letters",
        core: &["writer_id", "seq", "record_id", "kind", "sqlstate"],
        content: &["salt", "reason", "frame"],
    },
];

/// Returns the hash of a row's content: of the images of its columns, the salt first.
pub fn content_hash(content: &[u8]) -> Hash {
    Sha256::digest(content).into()
}

/// Returns the leaf of a row: of its table, the images of its core columns, and the hash of its content.
pub fn row_leaf(columns: &Columns, core: &[u8], content_hash: &Hash) -> Hash {
    // A leaf by RFC 6962 of this data.
    let mut data = vec![ROW_FORMAT];
    let table = columns.table.as_bytes();
    data.extend(u32::try_from(table.len()).unwrap_or(u32::MAX).to_be_bytes());
    data.extend(table);
    data.extend(core);
    data.extend(content_hash);
    tree::leaf_hash(&data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::vectors::hex;
    use proptest::prelude::*;

    #[test]
    fn images_are_read_with_the_names_of_their_columns() {
        let bytes = b"\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(
            named(bytes, &["a", "b", "c"]).unwrap(),
            [("a", Some(&b"ab"[..])), ("b", None), ("c", Some(&b""[..]))]
        );
        for columns in [&["a", "b"][..], &["a", "b", "c", "d"]] {
            let count = ImageError::Count {
                columns: columns.len(),
            };
            assert_eq!(named(bytes, columns), Err(count));
        }
        assert_eq!(named(b"", &[]), Ok(vec![]));
    }

    #[test]
    fn malformed_images_are_refused() {
        for (bytes, error) in [
            (&b"\0\0\0"[..], ImageError::CutOff),
            (b"\0\0\0\x02a", ImageError::CutOff),
            (b"\x7f\xff\xff\xffa", ImageError::CutOff),
            (b"\xff\xff\xff\xfea", ImageError::Length),
            (b"\x80\0\0\0a", ImageError::Length),
        ] {
            let mut images = Images::new(bytes);
            assert_eq!(images.next(), Some(Err(error)));
            assert_eq!(images.next(), None);
        }
    }

    #[test]
    fn values_are_those_of_postgres() {
        assert_eq!(int8(Some(&[0, 0, 0, 0, 0, 0, 1, 2])), Some(258));
        assert_eq!(int8(Some(&[0xff; 8])), Some(-1));
        assert_eq!(int8(Some(&[0; 4])), None);
        assert_eq!(int8(None), None);
        assert_eq!(uuid(Some(&[7; 16])), Some(Uuid::from_bytes([7; 16])));
        assert_eq!(uuid(Some(&[7; 15])), None);
    }

    #[test]
    fn columns_of_no_table_are_named_twice() {
        for columns in TABLES {
            let mut names: Vec<_> = columns.core.iter().chain(columns.content).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{}", columns.table);
            assert_eq!(columns.content[0], "salt");
            assert_eq!(Columns::of(columns.table), Some(&columns));
        }
        assert_eq!(Columns::of("batches"), None);
    }

    /// Frozen, format 1.
    #[test]
    fn leaf_of_a_row_is_golden() {
        let content = content_hash(b"\0\0\0\x01s");
        let leaf = row_leaf(&TABLES[2], b"\0\0\0\x01c\xff\xff\xff\xff", &content);
        let data = [
            &b"\x01\0\0\0\x06events\0\0\0\x01c\xff\xff\xff\xff"[..],
            &content,
        ];
        assert_eq!(leaf, tree::leaf_hash(&data.concat()));
        let golden = "9898ef0cae7283d048222d2d0ad43d58f7a367e353c492b0f375c49e45a8eca2";
        assert_eq!(leaf, hex(golden));
    }

    proptest! {
        #[test]
        fn images_are_read_as_they_were_written(values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 0..30)) {
            let mut bytes = Vec::new();
            for value in &values {
                push_image(&mut bytes, value.as_deref()).unwrap();
            }
            let read: Result<Vec<_>, _> = Images::new(&bytes).collect();
            let values: Vec<_> = values.iter().map(|value| value.as_deref()).collect();
            prop_assert_eq!(read, Ok(values));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let count = Images::new(&bytes).count();
            prop_assert!(count <= bytes.len());
        }
    }
}
