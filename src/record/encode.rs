//! Encodes a record as bytes. **Frozen, version 1**: the golden bytes in `tests` below enforce it.
//!
//! All numbers are little-endian.
//!
//! ```text
//! frame    version u8 = 1 | frame type u8: 1 run begun, 2 record | kind u8 | evidence u8
//!          (of a run begun: 0, or of an end that is known; 255: its status was said)
//!          id [16] | parent id [16] (zero: none) | root id [16]
//!          started i64, microseconds since 1970 | duration u64, microseconds; 2^64-1: unknown
//!          length of the inherited entries u32
//!          inherited entries … | own entries …
//! entry    field u8 (0: a field outside the vocabulary) | type u8
//!          name length u16, name      (only for field 0)
//!          value
//! value    1 text, 9 JSON text, 10 bytes, 11 text that a Debug wrote: length u32, bytes
//!          2 i64 | 3 u64 | 4 f64 | 5 bool u8 | 6 i128 | 7 u128 | 8 UUID [16]
//!          what happened to the field's last value:
//!          12 cut: whole length u64, sha256 [32] | 13 its formatting failed
//!          14 dropped over the record's limit | 15 formatting stopped: bytes seen u64
//! ```
//!
//! If a field has several entries, the last one counts.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::vocabulary::{Field, Kind};

/// The version of the frame that this code writes.
pub(crate) const VERSION: u8 = 1;

/// A frame of a run that has begun: it becomes a row only if the run is lost ([`super::lost`]).
pub(super) const FRAME_BEGUN: u8 = 1;

/// A frame of a record.
pub(crate) const FRAME_FINISHED: u8 = 2;

/// The duration of a record whose end is unknown.
pub(crate) const UNKNOWN_DURATION: u64 = u64::MAX;

/// The length of a frame before its entries.
pub(crate) const HEADER_BYTES: usize = 72;

/// The code of a field outside the vocabulary.
pub(crate) const EXTRA: u8 = 0;

/// The type codes of an entry's value.
pub(crate) mod ty {
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const I64: u8 = 2;
    pub(crate) const U64: u8 = 3;
    pub(crate) const F64: u8 = 4;
    pub(crate) const BOOL: u8 = 5;
    pub(crate) const I128: u8 = 6;
    pub(crate) const U128: u8 = 7;
    pub(crate) const UUID: u8 = 8;
    pub(crate) const JSON: u8 = 9;
    pub(crate) const BYTES: u8 = 10;
    pub(crate) const DEBUG: u8 = 11;
    pub(crate) const CUT: u8 = 12;
    pub(crate) const FORMAT_FAILED: u8 = 13;
    pub(crate) const DROPPED: u8 = 14;
    pub(crate) const STOPPED: u8 = 15;
}

/// The evidence of a run's outcome. A `status` field is stronger than all of these and is an entry
/// of its own. The numbers are part of the frame: frozen, version 1. They do not rank the evidence;
/// [`Evidence::strength`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Evidence {
    None = 0,
    /// A future, a stream or a body was dropped before it finished.
    Cancelled = 1,
    /// A result field was recorded after the span began.
    ResultField = 2,
    Ok = 3,
    Panic = 4,
    Err = 5,
    /// An `Ok` that contains another `Result`, which was not inspected.
    Nested = 6,
}

impl Evidence {
    const ALL: [Self; 7] = [
        Self::None,
        Self::Cancelled,
        Self::ResultField,
        Self::Ok,
        Self::Panic,
        Self::Err,
        Self::Nested,
    ];

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|evidence| *evidence as u8 == code)
    }

    /// Returns whether the evidence comes from the run's end, rather than from before it.
    pub(crate) const fn is_of_end(self) -> bool {
        match self {
            Self::None | Self::ResultField => false,
            Self::Cancelled | Self::Ok | Self::Panic | Self::Err | Self::Nested => true,
        }
    }

    /// Returns the rank among all evidence. A result may be recorded before all of it is there, so
    /// a drop that was seen counts for more, and so does an end that may be a failure; an `Ok` that
    /// was seen shows that the result was complete.
    const fn strength(self) -> u8 {
        match self {
            Self::None => 0,
            Self::ResultField => 1,
            Self::Nested => 2,
            Self::Cancelled => 3,
            Self::Ok => 4,
            Self::Panic => 5,
            Self::Err => 6,
        }
    }

    /// Returns the stronger of the two.
    #[must_use]
    pub(crate) const fn or_stronger(self, other: Self) -> Self {
        if other.strength() > self.strength() {
            other
        } else {
            self
        }
    }
}

/// What is known about the end of a run whose span is open when the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Seen(Evidence),
    /// A status was recorded after the run began.
    Said,
}

/// The code in the frame of a run that has begun, in place of evidence, if its status was
/// [recorded](End::Said). Frozen, version 1.
const SAID: u8 = 255;

impl End {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Seen(evidence) => evidence as u8,
            Self::Said => SAID,
        }
    }

    /// Decodes the end; `None`: it is unknown.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        if code == SAID {
            return Some(Self::Said);
        }
        let evidence = Evidence::from_code(code)?;
        evidence.is_of_end().then_some(Self::Seen(evidence))
    }
}

/// The part of a frame before its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) evidence: Evidence,
    pub(crate) id: Uuid,
    /// The record of the nearest enclosing audit span; nil if there is none.
    pub(crate) parent: Uuid,
    /// The record of the outermost enclosing audit span; its own id if there is none.
    pub(crate) root: Uuid,
    /// Microseconds since 1970.
    pub(crate) started_us: i64,
    /// [`UNKNOWN_DURATION`] if its end is unknown.
    pub(crate) duration_us: u64,
}

/// Returns the length of a frame with these parts.
pub(crate) const fn frame_len(inherited: &[u8], context: &[u8], body: &[u8]) -> usize {
    HEADER_BYTES + inherited.len() + context.len() + body.len()
}

/// Appends the frame of a record to `out`.
pub(crate) fn frame(
    out: &mut Vec<u8>,
    header: &Header,
    inherited: &[u8],
    context: &[u8],
    body: &[u8],
) {
    frame_of(FRAME_FINISHED, out, header, inherited, context, body);
}

/// Appends to `out` the frame of a run that has begun, with what is known about its end.
pub(crate) fn begun(
    out: &mut Vec<u8>,
    header: &Header,
    end: Option<End>,
    inherited: &[u8],
    context: &[u8],
    body: &[u8],
) {
    let at = out.len();
    frame_of(FRAME_BEGUN, out, header, inherited, context, body);
    out[at + EVIDENCE_AT] = end.map_or(Evidence::None as u8, End::code);
}

/// Returns the kind's code and the record's id in a frame, without reading the rest.
pub(crate) fn kind_and_id(frame: &[u8]) -> Option<(u8, Uuid)> {
    let (head, rest) = frame.split_first_chunk::<4>()?;
    Some((head[2], Uuid::from_bytes(*rest.first_chunk()?)))
}

/// The offset of the evidence.
pub(super) const EVIDENCE_AT: usize = 3;

/// The offset of the duration.
pub(super) const DURATION_AT: usize = 4 + 3 * 16 + 8;

fn frame_of(
    frame_type: u8,
    out: &mut Vec<u8>,
    header: &Header,
    inherited: &[u8],
    context: &[u8],
    body: &[u8],
) {
    // Assembled first, at places that the compiler knows, then appended at once: every span passes through here.
    let mut head = [0; HEADER_BYTES];
    head[0] = VERSION;
    head[1] = frame_type;
    head[2] = header.kind.code();
    head[EVIDENCE_AT] = header.evidence as u8;
    head[4..20].copy_from_slice(header.id.as_bytes());
    head[20..36].copy_from_slice(header.parent.as_bytes());
    head[36..52].copy_from_slice(header.root.as_bytes());
    head[52..DURATION_AT].copy_from_slice(&header.started_us.to_le_bytes());
    head[DURATION_AT..68].copy_from_slice(&header.duration_us.to_le_bytes());
    head[68..].copy_from_slice(&length(inherited.len()));
    out.reserve(frame_len(inherited, context, body));
    out.extend_from_slice(&head);
    out.extend_from_slice(inherited);
    out.extend_from_slice(context);
    out.extend_from_slice(body);
}

/// The field that an entry is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key<'a> {
    Field(Field),
    Extra(&'a str),
}

impl Key<'_> {
    /// Appends the entry's key and the type of the value that follows.
    fn put(self, out: &mut Vec<u8>, ty: u8) {
        match self {
            Key::Field(field) => out.extend_from_slice(&[field.code(), ty]),
            Key::Extra(name) => {
                // A name comes from source code; one of 64 KiB is cut rather than refused.
                let (name, len) = match u16::try_from(name.len()) {
                    Ok(len) => (name, len),
                    Err(_) => cut_name(name),
                };
                let [l0, l1] = len.to_le_bytes();
                append(out, [EXTRA, ty, l0, l1], name.as_bytes());
            }
        }
    }
}

#[cold]
fn cut_name(name: &str) -> (&str, u16) {
    let name = &name[..name.floor_char_boundary(usize::from(u16::MAX))];
    (name, u16::try_from(name.len()).unwrap_or(u16::MAX))
}

#[inline]
fn append<const N: usize>(out: &mut Vec<u8>, head: [u8; N], value: &[u8]) {
    out.reserve(N + value.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(value);
}

/// Encodes a length. Limits keep every value far below 4 GiB.
fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes()
}

/// Appends an entry whose value has a fixed size.
#[inline]
pub(crate) fn fixed<const N: usize>(out: &mut Vec<u8>, key: Key<'_>, ty: u8, value: [u8; N]) {
    if let Key::Field(field) = key {
        append(out, [field.code(), ty], &value);
    } else {
        key.put(out, ty);
        out.extend_from_slice(&value);
    }
}

/// Appends an entry of text, JSON text or bytes. A value over `limit` bytes is cut, and a second
/// entry holds its whole length and sha256.
pub(crate) fn text(out: &mut Vec<u8>, key: Key<'_>, ty: u8, value: &[u8], limit: usize) {
    let kept = if value.len() <= limit {
        value
    } else {
        &value[..char_boundary(value, limit)]
    };
    whole_text(out, key, ty, kept);
    if kept.len() < value.len() {
        cut(out, key, value.len() as u64, Sha256::digest(value).into());
    }
}

/// Appends an entry of text, JSON text or bytes that is within its limit.
#[inline]
pub(crate) fn whole_text(out: &mut Vec<u8>, key: Key<'_>, ty: u8, value: &[u8]) {
    if let Key::Field(field) = key {
        // Put together in a register.
        let len = u64::from(u32::try_from(value.len()).unwrap_or(u32::MAX));
        let head = len << 16 | u64::from(ty) << 8 | u64::from(field.code());
        let [head @ .., _, _] = head.to_le_bytes();
        append::<6>(out, head, value);
    } else {
        key.put(out, ty);
        append(out, length(value.len()), value);
    }
}

/// Appends the entry that marks the field's last value as cut.
pub(crate) fn cut(out: &mut Vec<u8>, key: Key<'_>, whole_len: u64, sha256: [u8; 32]) {
    key.put(out, ty::CUT);
    out.extend_from_slice(&whole_len.to_le_bytes());
    out.extend_from_slice(&sha256);
}

/// Begins an entry whose text is appended afterwards; returns where the entry begins.
pub(crate) fn begin_text(out: &mut Vec<u8>, key: Key<'_>) -> usize {
    let at = out.len();
    key.put(out, ty::TEXT);
    out.extend_from_slice(&[0; 4]);
    at
}

/// Ends an entry that [`begin_text`] began at `at`, with text of the type `ty`.
pub(crate) fn end_text(out: &mut [u8], key: Key<'_>, at: usize, ty: u8) {
    out[at + 1] = ty;
    let name_len = match key {
        Key::Field(_) => 0,
        Key::Extra(name) => 2 + name.floor_char_boundary(usize::from(u16::MAX)),
    };
    let at = at + 2 + name_len;
    let len = out.len() - at - 4;
    out[at..at + 4].copy_from_slice(&length(len));
}

/// Returns the greatest index up to `limit` at which `value`, UTF-8 or not, can be cut without
/// leaving part of a character.
pub(crate) fn char_boundary(value: &[u8], limit: usize) -> usize {
    let mut at = limit.min(value.len());
    if at < value.len() {
        while at > 0 && limit - at < 3 && value[at] & 0xc0 == 0x80 {
            at -= 1;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::super::lost;
    use super::*;

    pub(super) fn sample() -> Vec<u8> {
        let mut context = Vec::new();
        text(
            &mut context,
            Key::Field(Field::RequestId),
            ty::TEXT,
            b"r-1",
            100,
        );
        let mut body = Vec::new();
        text(
            &mut body,
            Key::Field(Field::SqlText),
            ty::TEXT,
            "SELECT 'ä'".as_bytes(),
            9,
        );
        fixed(
            &mut body,
            Key::Field(Field::RowCount),
            ty::I64,
            7_i64.to_le_bytes(),
        );
        fixed(&mut body, Key::Extra("cached"), ty::BOOL, [1]);
        let header = Header {
            kind: Kind::QueryRun,
            evidence: Evidence::ResultField,
            id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
            parent: Uuid::nil(),
            root: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
            started_us: 1_717_986_918_400_000,
            duration_us: 1_500,
        };
        let mut out = Vec::new();
        frame(&mut out, &header, &[], &context, &body);
        assert_eq!(out.len(), frame_len(&[], &context, &body));
        out
    }

    /// Frozen, version 1: if this test fails, spools on disk can no longer be read.
    #[test]
    fn bytes_of_version_1_are_frozen() {
        let hex: String = sample()
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(hex, include_str!("golden/frame_v1.hex").trim());
    }

    #[test]
    fn lost_run_becomes_a_record_without_an_end() {
        let header = Header {
            kind: Kind::QueryRun,
            evidence: Evidence::ResultField,
            id: Uuid::from_u128(1),
            parent: Uuid::nil(),
            root: Uuid::from_u128(1),
            started_us: 1,
            duration_us: 0,
        };
        let mut body = Vec::new();
        let key = Key::Field(Field::Status);
        text(&mut body, key, ty::TEXT, b"ok", 2);
        let mut bytes = Vec::new();
        begun(&mut bytes, &header, None, &[], &[], &body);
        assert_eq!(kind_and_id(&bytes), Some((1, header.id)));
        assert!(decode::frame(&bytes).is_err());
        let lost = lost::lost(&bytes, "process_lost").unwrap();
        let frame = decode::frame(&lost).unwrap();
        let row = super::super::row::Row::new(&frame).unwrap();
        assert_eq!(row.finished_us(), None);
        assert_eq!(row.status.as_str(), "unknown");
        assert!(lost::lost(&lost, "x").is_none());
        assert!((0..HEADER_BYTES).all(|len| lost::lost(&bytes[..len], "x").is_none()));
    }

    #[test]
    fn lost_run_keeps_the_evidence_of_its_outcome() {
        let header = Header {
            kind: Kind::QueryRun,
            evidence: Evidence::None,
            id: Uuid::from_u128(1),
            parent: Uuid::nil(),
            root: Uuid::from_u128(1),
            started_us: 1,
            duration_us: 0,
        };
        let row_of = |end, fields: &[(Field, &str)]| {
            let (mut body, mut bytes) = (Vec::new(), Vec::new());
            for (field, value) in fields {
                whole_text(&mut body, Key::Field(*field), ty::TEXT, value.as_bytes());
            }
            begun(&mut bytes, &header, end, &[], &[], &body);
            let lost = lost::lost(&bytes, "shut_down").unwrap();
            let row = super::super::row::Row::new(&decode::frame(&lost).unwrap()).unwrap();
            assert_eq!(row.finished_us(), None);
            let code = format!("{:?}", row.cell(Field::ErrorCode));
            (row.status.as_str(), code.contains("shut_down"))
        };
        let failed = [(Field::Status, "failed")];
        let code = [(Field::ErrorCode, "57014")];
        assert_eq!(row_of(None, &failed), ("unknown", true));
        assert_eq!(row_of(None, &code), ("unknown", true));
        assert_eq!(row_of(Some(End::Said), &failed), ("failed", true));
        for (evidence, status) in [
            (Evidence::Ok, "succeeded"),
            (Evidence::Err, "failed"),
            (Evidence::Cancelled, "cancelled"),
            (Evidence::Nested, "unknown"),
        ] {
            let end = Some(End::Seen(evidence));
            assert_eq!(row_of(end, &[]), (status, true));
            assert_eq!(row_of(end, &code), (status, false));
        }
        assert_eq!(
            row_of(Some(End::Seen(Evidence::ResultField)), &[]),
            ("unknown", true)
        );
    }

    #[test]
    fn evidence_codes_are_frozen_and_the_strongest_evidence_wins_in_any_order() {
        let codes = Evidence::ALL.map(|evidence| evidence as u8);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6]);
        assert!((0..=6).all(|code| Evidence::from_code(code).unwrap() as u8 == code));
        let strongest_last = [
            Evidence::None,
            Evidence::ResultField,
            Evidence::Nested,
            Evidence::Cancelled,
            Evidence::Ok,
            Evidence::Panic,
            Evidence::Err,
        ];
        for (at, weaker) in strongest_last.into_iter().enumerate() {
            for stronger in strongest_last.into_iter().skip(at) {
                assert_eq!(weaker.or_stronger(stronger), stronger);
                assert_eq!(stronger.or_stronger(weaker), stronger);
            }
        }
    }

    #[test]
    fn text_is_cut_between_characters() {
        let text = "aä€𐍈".as_bytes();
        let cuts: Vec<_> = (0..=text.len())
            .map(|limit| char_boundary(text, limit))
            .collect();
        assert_eq!(cuts, [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10]);
        // Bytes that are not UTF-8 are cut at the limit, or at most three bytes before it.
        assert_eq!(char_boundary(&[0x80; 20], 10), 7);
    }
}
