//! What the fuzz targets in `fuzz/` call: the readers of bytes that come from the disk, with what
//! must hold of whatever they are given. No part of the library: compiled with `--cfg fuzzing`
//! alone.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::limits::Limits;
use crate::record::decode::{self, Entry, Value};
use crate::record::encode::{self, Header, Key, ty};
use crate::record::row::{Cell, Row};
use crate::record::{Event, NewRecord, PromptRun, QueryRun};
use crate::sink::postgres::copy::{Encoder, Provenance};
pub use crate::spool::fuzzing::{chunk, chunks, log, logs};
use crate::vocabulary::{Activities, Field, Kind};

const FRAME_TYPE_AT: usize = 1;
const EVIDENCE_AT: usize = 3;

/// A record's frame, all the way to the bytes that Postgres gets.
pub fn record(bytes: &[u8]) {
    let Ok(frame) = decode::frame(bytes) else {
        return;
    };
    let header = frame.header;
    let kind_and_id = Some((header.kind.code(), header.id));
    assert_eq!(encode::kind_and_id(bytes), kind_and_id);
    let row = Row::new(&frame);
    let Ok(entries) = frame.entries().collect::<Result<Vec<_>, _>>() else {
        assert!(row.is_err(), "a row of half a frame");
        return;
    };
    let again = encoded(&header, &entries);
    assert_eq!(again.len(), bytes.len());
    let frame = decode::frame(&again).expect("what was encoded can be read");
    assert_eq!(frame.header, header);
    let same: Vec<_> = frame
        .entries()
        .map(|entry| shown(&entry.unwrap()))
        .collect();
    assert!(entries.iter().map(shown).eq(same));
    storable(&row.expect("a whole frame is a row"), bytes.len());
}

/// NaN is what it is.
fn shown(entry: &Entry<'_>) -> String {
    format!("{entry:?}")
}

fn encoded(header: &Header, entries: &[Entry<'_>]) -> Vec<u8> {
    let mut parts = [Vec::new(), Vec::new()];
    for entry in entries {
        let out = &mut parts[usize::from(!entry.inherited)];
        let key = Key::from(entry.key);
        match entry.value {
            Value::Text(text) => encode::text(out, key, ty::TEXT, text.as_bytes(), text.len()),
            Value::Debug(text) => encode::text(out, key, ty::DEBUG, text.as_bytes(), text.len()),
            Value::Json(text) => encode::text(out, key, ty::JSON, text.as_bytes(), text.len()),
            Value::Bytes(bytes) => encode::text(out, key, ty::BYTES, bytes, bytes.len()),
            Value::I64(n) => encode::fixed(out, key, ty::I64, n.to_le_bytes()),
            Value::U64(n) => encode::fixed(out, key, ty::U64, n.to_le_bytes()),
            Value::F64(n) => encode::fixed(out, key, ty::F64, n.to_le_bytes()),
            Value::Bool(b) => encode::fixed(out, key, ty::BOOL, [u8::from(b)]),
            Value::I128(n) => encode::fixed(out, key, ty::I128, n.to_le_bytes()),
            Value::U128(n) => encode::fixed(out, key, ty::U128, n.to_le_bytes()),
            Value::Uuid(id) => encode::fixed(out, key, ty::UUID, id.into_bytes()),
            Value::Cut { whole_len, sha256 } => encode::cut(out, key, whole_len, *sha256),
            Value::FormatFailed => encode::fixed(out, key, ty::FORMAT_FAILED, []),
            Value::Dropped => encode::fixed(out, key, ty::DROPPED, []),
            Value::Stopped { seen } => encode::fixed(out, key, ty::STOPPED, seen.to_le_bytes()),
        }
    }
    let mut out = Vec::new();
    encode::frame(&mut out, header, &parts[0], &[], &parts[1]);
    out
}

/// Postgres takes neither a NUL nor JSON that is none.
fn storable(row: &Row<'_>, frame_len: usize) {
    for field in Field::ALL {
        if let Cell::Text(text) = row.cell(*field) {
            assert!(!text.contains('\0'), "{}", field.name());
        }
    }
    let metadata: serde_json::Value = serde_json::from_str(&row.metadata).expect("JSON");
    assert!(metadata.is_object());
    assert!(!has_nul(&metadata), "{}", row.metadata);
    assert!(row.problems.len() <= 101);
    assert!(!row.problems.iter().any(|problem| problem.contains('\0')));
    let mut out = Vec::new();
    let provenance = Provenance {
        writer: Uuid::nil(),
        service: "fuzz",
        seq: 1,
        salt: [0; 16],
    };
    let table = Activities::default().table(row.kind, row.text(Field::ActionType));
    Encoder::new(table).row(&mut out, row, &provenance);
    assert!(out.len() <= 16 * frame_len + 65_536, "{}", out.len());
}

fn has_nul(value: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match value {
        Json::String(text) => text.contains('\0'),
        Json::Array(values) => values.iter().any(has_nul),
        Json::Object(object) => object
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// The frame of a run that has begun, as the process that finds it makes a record of it.
pub fn begun(bytes: &[u8]) {
    let Some(lost) = crate::record::lost::lost(bytes, "process_lost") else {
        return;
    };
    assert_eq!(encode::kind_and_id(&lost), encode::kind_and_id(bytes));
    assert!(crate::record::lost::lost(&lost, "again").is_none());
    let mut whole = bytes.to_vec();
    whole[FRAME_TYPE_AT] = encode::FRAME_FINISHED;
    whole[EVIDENCE_AT] = 0;
    // Else what is added may end an entry that was cut.
    let is_whole = decode::frame(&whole).is_ok_and(|frame| frame.entries().all(|it| it.is_ok()));
    if is_whole {
        let frame = decode::frame(&lost).expect("a whole frame");
        let row = Row::new(&frame).expect("a row");
        assert_eq!(row.finished_us(), None);
        // Else what is known of its end stays.
        if encode::End::from_code(bytes[EVIDENCE_AT]).is_none() {
            assert_eq!(row.status.as_str(), "unknown");
            let code = row.cell(Field::ErrorCode);
            assert_eq!(*code, Cell::Text("process_lost".into()));
        }
    }
    record(&lost);
}

/// Real frames, to begin with.
pub fn frames() -> Vec<Vec<u8>> {
    let many = (0..20).fold(Event::new("many"), |event, n| {
        let mut name = String::from("field");
        let _ = write!(name, "{n}");
        event.metadata(name, n)
    });
    let records: Vec<NewRecord> = vec![
        QueryRun::new("SELECT 1").into(),
        PromptRun::new("Which?").into(),
        Event::new("a")
            .metadata("b", true)
            .metadata("s", "t\0")
            .into(),
        many.into(),
    ];
    records
        .iter()
        .flat_map(|record| {
            let buffer = record.encode(&Limits::default());
            let frames: Vec<_> = buffer.iter().map(<[u8]>::to_vec).collect();
            frames
        })
        .chain([every_value()])
        .collect()
}

/// The same for runs that have begun.
pub fn begun_frames() -> Vec<Vec<u8>> {
    let mut frames = frames();
    for frame in &mut frames {
        frame[FRAME_TYPE_AT] = 1;
    }
    frames
}

/// A frame with a value of each type.
fn every_value() -> Vec<u8> {
    let header = Header {
        kind: Kind::PromptRun,
        evidence: encode::Evidence::Ok,
        id: Uuid::from_u128(1),
        parent: Uuid::from_u128(2),
        root: Uuid::from_u128(3),
        started_us: 1,
        duration_us: 2,
    };
    let mut inherited = Vec::new();
    let tenant = Key::Field(Field::TenantId);
    encode::text(&mut inherited, tenant, ty::TEXT, b"acme", 4);
    let mut own = Vec::new();
    for (name, value_type) in [("t", ty::TEXT), ("d", ty::DEBUG), ("j", ty::JSON)] {
        encode::text(&mut own, Key::Extra(name), value_type, b"{\"a\":[1]}", 100);
    }
    let named = Key::Extra("value");
    encode::text(&mut own, named, ty::BYTES, &[0xff, 0], 2);
    encode::fixed(&mut own, named, ty::I64, [1; 8]);
    encode::fixed(&mut own, named, ty::U64, [0xff; 8]);
    encode::fixed(&mut own, named, ty::F64, f64::NAN.to_le_bytes());
    encode::fixed(&mut own, named, ty::BOOL, [1]);
    encode::fixed(&mut own, named, ty::I128, [0x80; 16]);
    encode::fixed(&mut own, named, ty::U128, [0x80; 16]);
    encode::fixed(&mut own, named, ty::UUID, [7; 16]);
    encode::cut(&mut own, named, 9, [9; 32]);
    encode::fixed(&mut own, named, ty::FORMAT_FAILED, []);
    encode::fixed(&mut own, named, ty::DROPPED, []);
    encode::fixed(&mut own, named, ty::STOPPED, [1; 8]);
    for field in Field::ALL {
        encode::text(&mut own, Key::Field(*field), ty::DEBUG, b"Some(\"1\")", 9);
        encode::text(&mut own, Key::Field(*field), ty::TEXT, b"ok", 9);
    }
    let mut out = Vec::new();
    encode::frame(&mut out, &header, &inherited, &[], &own);
    out
}
