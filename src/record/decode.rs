//! Reads the frames that [`super::encode`] writes.
//!
//! The bytes may come from a damaged disk: every length is checked against the bytes present,
//! nothing is allocated by a length that was read, and no input causes a panic.

use uuid::Uuid;

use super::encode::{EXTRA, Evidence, FRAME_FINISHED, HEADER_BYTES, Header, Key, VERSION, ty};
use crate::vocabulary::{Field, Kind};

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the frame ends too early")]
    Short,
    #[error("frame version {0} is not known")]
    Version(u8),
    #[error("frame type {0} is not known")]
    FrameType(u8),
    #[error("record kind {0} is not known")]
    Kind(u8),
    #[error("evidence {0} is not known")]
    Evidence(u8),
    #[error("field {0} is not known")]
    Field(u8),
    #[error("value type {0} is not known")]
    ValueType(u8),
    #[error("text is not UTF-8")]
    Utf8,
}

/// A frame whose entries are not read yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) header: Header,
    inherited: &'a [u8],
    own: &'a [u8],
}

/// One entry of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry<'a> {
    pub(crate) key: EntryKey<'a>,
    pub(crate) value: Value<'a>,
    /// Whether the value was inherited from an enclosing span.
    pub(crate) inherited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKey<'a> {
    Field(Field),
    Extra(&'a str),
}

/// A value as the span recorded it, or what happened to the field's last value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    /// Text that a `Debug` or `Display` implementation wrote.
    Debug(&'a str),
    Json(&'a str),
    Bytes(&'a [u8]),
    I64(i64),
    U64(u64),
    F64(f64),
    Bool(bool),
    I128(i128),
    U128(u128),
    Uuid(Uuid),
    /// The hash is a reference so that a value has at most 32 bytes: a row has one for each field.
    Cut {
        whole_len: u64,
        sha256: &'a [u8; 32],
    },
    FormatFailed,
    Dropped,
    Stopped {
        seen: u64,
    },
}

const _: () = assert!(size_of::<Option<Value<'_>>>() <= 32);

impl Value<'_> {
    /// Returns whether this is a value, rather than what happened to the last one.
    pub(crate) fn is_said(&self) -> bool {
        !matches!(
            self,
            Self::Cut { .. } | Self::FormatFailed | Self::Dropped | Self::Stopped { .. }
        )
    }
}

impl<'a> From<EntryKey<'a>> for Key<'a> {
    fn from(key: EntryKey<'a>) -> Self {
        match key {
            EntryKey::Field(field) => Self::Field(field),
            EntryKey::Extra(name) => Self::Extra(name),
        }
    }
}

/// Reads a frame's header; its entries are read by [`Frame::entries`].
pub(crate) fn frame(bytes: &[u8]) -> Result<Frame<'_>, DecodeError> {
    let mut input = Input(bytes);
    let [version, frame_type, kind, evidence] = input.array()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    if frame_type != FRAME_FINISHED {
        return Err(DecodeError::FrameType(frame_type));
    }
    let header = Header {
        kind: Kind::from_code(kind).ok_or(DecodeError::Kind(kind))?,
        evidence: Evidence::from_code(evidence).ok_or(DecodeError::Evidence(evidence))?,
        id: Uuid::from_bytes(input.array()?),
        parent: Uuid::from_bytes(input.array()?),
        root: Uuid::from_bytes(input.array()?),
        started_us: i64::from_le_bytes(input.array()?),
        duration_us: u64::from_le_bytes(input.array()?),
    };
    let inherited = input.counted()?;
    debug_assert!(bytes.len() - input.0.len() == HEADER_BYTES + inherited.len());
    Ok(Frame {
        header,
        inherited,
        own: input.0,
    })
}

impl<'a> Frame<'a> {
    /// Makes a frame from parts that were not encoded together.
    pub(crate) fn of_parts(header: Header, inherited: &'a [u8], own: &'a [u8]) -> Self {
        Self {
            header,
            inherited,
            own,
        }
    }

    /// Returns the entries, the inherited ones first; ends after the first error.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<Entry<'a>, DecodeError>> + use<'a> {
        Entries {
            input: Input(self.inherited),
            inherited: true,
        }
        .chain(Entries {
            input: Input(self.own),
            inherited: false,
        })
    }
}

/// Returns the entries in `bytes`, none of them inherited.
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, DecodeError>> {
    Entries {
        input: Input(bytes),
        inherited: false,
    }
}

/// Returns the entries in `bytes`, each with the offset where it ends.
pub(crate) fn entries_with_ends(
    bytes: &[u8],
) -> impl Iterator<Item = (Result<Entry<'_>, DecodeError>, usize)> {
    let mut entries = Entries {
        input: Input(bytes),
        inherited: false,
    };
    std::iter::from_fn(move || {
        let entry = entries.next()?;
        Some((entry, bytes.len() - entries.input.0.len()))
    })
}

struct Entries<'a> {
    input: Input<'a>,
    inherited: bool,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.0.is_empty() {
            return None;
        }
        let entry = self.input.entry(self.inherited);
        if entry.is_err() {
            self.input.0 = &[];
        }
        Some(entry)
    }
}

/// The bytes that are not read yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.array_ref().copied()
    }

    fn array_ref<const N: usize>(&mut self) -> Result<&'a [u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Reads bytes that follow their length.
    fn counted(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = u32::from_le_bytes(self.array()?);
        self.take(len as usize)
    }

    fn str(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.counted()?).map_err(|_| DecodeError::Utf8)
    }

    fn entry(&mut self, inherited: bool) -> Result<Entry<'a>, DecodeError> {
        let [field, value_type] = self.array()?;
        let key = if field == EXTRA {
            let len = u16::from_le_bytes(self.array()?);
            let name = self.take(usize::from(len))?;
            EntryKey::Extra(std::str::from_utf8(name).map_err(|_| DecodeError::Utf8)?)
        } else {
            EntryKey::Field(Field::from_code(field).ok_or(DecodeError::Field(field))?)
        };
        let value = match value_type {
            ty::TEXT => Value::Text(self.str()?),
            ty::DEBUG => Value::Debug(self.str()?),
            ty::JSON => Value::Json(self.str()?),
            ty::BYTES => Value::Bytes(self.counted()?),
            ty::I64 => Value::I64(i64::from_le_bytes(self.array()?)),
            ty::U64 => Value::U64(u64::from_le_bytes(self.array()?)),
            ty::F64 => Value::F64(f64::from_le_bytes(self.array()?)),
            ty::BOOL => Value::Bool(self.array::<1>()? != [0]),
            ty::I128 => Value::I128(i128::from_le_bytes(self.array()?)),
            ty::U128 => Value::U128(u128::from_le_bytes(self.array()?)),
            ty::UUID => Value::Uuid(Uuid::from_bytes(self.array()?)),
            ty::CUT => Value::Cut {
                whole_len: u64::from_le_bytes(self.array()?),
                sha256: self.array_ref()?,
            },
            ty::FORMAT_FAILED => Value::FormatFailed,
            ty::DROPPED => Value::Dropped,
            ty::STOPPED => Value::Stopped {
                seen: u64::from_le_bytes(self.array()?),
            },
            other => return Err(DecodeError::ValueType(other)),
        };
        Ok(Entry {
            key,
            value,
            inherited,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn golden() -> Vec<u8> {
        let hex = include_str!("golden/frame_v1.hex").trim();
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    /// Frozen, version 1: what an older version wrote can be read.
    #[test]
    fn golden_bytes_of_version_1_are_read() {
        let bytes = golden();
        let frame = frame(&bytes).unwrap();
        assert_eq!(frame.header.kind, Kind::QueryRun);
        assert_eq!(frame.header.evidence, Evidence::ResultField);
        assert_eq!(frame.header.started_us, 1_717_986_918_400_000);
        assert_eq!(frame.header.duration_us, 1_500);
        let entries: Vec<_> = frame
            .entries()
            .map(Result::unwrap)
            .map(|entry| (entry.key, entry.value))
            .collect();
        assert_eq!(
            entries[0],
            (EntryKey::Field(Field::RequestId), Value::Text("r-1"))
        );
        assert_eq!(
            entries[1],
            (EntryKey::Field(Field::SqlText), Value::Text("SELECT '"))
        );
        assert!(matches!(
            entries[2],
            (
                EntryKey::Field(Field::SqlText),
                Value::Cut { whole_len: 11, .. }
            )
        ));
        assert_eq!(
            entries[3],
            (EntryKey::Field(Field::RowCount), Value::I64(7))
        );
        assert_eq!(entries[4], (EntryKey::Extra("cached"), Value::Bool(true)));
    }

    #[test]
    fn truncated_frame_is_an_error_or_has_fewer_entries() {
        let bytes = golden();
        for len in 0..bytes.len() {
            if let Ok(frame) = frame(&bytes[..len]) {
                assert!(frame.entries().filter_map(Result::ok).count() < 5);
            }
        }
    }

    proptest! {
        #[test]
        fn frame_decoder_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..300_usize, to in any::<u8>()) {
            let _ = frame(&bytes).map(|frame| frame.entries().count());
            let mut near = golden();
            let at = at % near.len();
            near[at] = to;
            let _ = frame(&near).map(|frame| frame.entries().count());
        }
    }
}
