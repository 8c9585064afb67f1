//! Applies the rules to the frame of a record.
//!
//! Most records hold nothing that a rule names: they are searched once, as they are, and left alone.
//! Any other is taken apart, and put together again with its values redacted and one more entry that
//! says so. A panic on the way costs the record its texts, never the record, and lets none of them
//! through.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::action::Action;
use super::counts::Counts;
use super::json;
use super::place::{self, Place, RecordOf};
use super::ruleset::{FAILED, RuleSet};
use super::tally::Tally;
use super::value::{New, Values};
use crate::record::coerce::{key as key_of, tenant_uuid};
use crate::record::decode::{self, Entry, EntryKey, Value};
use crate::record::encode::{self, HEADER_BYTES, Key as EntryName, ty};
use crate::record::frames::Frames;
use crate::record::id::parse_uuid;
use crate::vocabulary::{Field, Kind};

/// Applies the rules of a pipeline to its records.
#[derive(Debug)]
pub(crate) struct Engine {
    rules: RuleSet,
    /// Which fields of the vocabulary a place may name.
    columns: [bool; Field::SLOTS],
    /// Whether each record is taken apart: nothing announces what is looked for.
    always: bool,
}

impl Engine {
    pub(super) fn new(rules: RuleSet) -> Self {
        let mut columns = [false; Field::SLOTS];
        for field in Field::ALL {
            let may_be = |(place, _): &(Place, Action)| place.may_be_column(*field);
            let is_sql = *field == Field::SqlText && rules.sql_literals.is_some();
            columns[usize::from(field.code())] = is_sql || rules.places.iter().any(may_be);
        }
        let is_of_any_name = |(place, _): &(Place, Action)| place.is_of_any_name();
        let always = !rules.customs.is_empty() || rules.places.iter().any(is_of_any_name);
        Self {
            rules,
            columns,
            always,
        }
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.rules.counts
    }

    /// Redacts records.
    pub(super) fn frames(&self, frames: Frames) -> Frames {
        self.rules.counts.count_passed(frames.records);
        // Most buffers hold nothing that changes, and are passed on as they are.
        let mut changed: Option<Frames> = None;
        for (at, frame) in frames.iter().enumerate() {
            let new = self.frame(frame, true);
            if new.is_some() && changed.is_none() {
                let mut before = Frames::default();
                frames.iter().take(at).for_each(|frame| before.push(frame));
                changed = Some(before);
            }
            if let Some(changed) = &mut changed {
                changed.push(new.as_deref().unwrap_or(frame));
            }
        }
        changed.unwrap_or(frames)
    }

    /// Redacts the frame of a run that has begun. It counts when its record passes.
    pub(super) fn run(&self, frame: Vec<u8>) -> Vec<u8> {
        self.frame(&frame, false).unwrap_or(frame)
    }

    /// Returns the redacted frame; `None` if nothing in it changes.
    fn frame(&self, frame: &[u8], is_counted: bool) -> Option<Vec<u8>> {
        let redacted = catch_unwind(AssertUnwindSafe(|| {
            if !self.must_be_read(frame) {
                return None;
            }
            self.redacted(frame, is_counted)
        }));
        redacted.unwrap_or_else(|_| {
            self.rules.counts.count_failed();
            Some(without_texts(frame))
        })
    }

    /// Returns whether a frame may hold anything that a rule names.
    fn must_be_read(&self, frame: &[u8]) -> bool {
        if self.always {
            return true;
        }
        let Some((inherited, own)) = parts(frame) else {
            return false;
        };
        let entries = decode::entries(inherited).chain(decode::entries(own));
        let searched = &frame[HEADER_BYTES..];
        // Where the user is, who is often named by an address that is left.
        let mut users = Vec::new();
        for entry in entries.flatten() {
            if self.may_name(&entry) {
                return true;
            }
            if let (EntryKey::Field(Field::UserId), Value::Text(text) | Value::Debug(text)) =
                (entry.key, entry.value)
            {
                let start = text.as_ptr() as usize - searched.as_ptr() as usize;
                users.push(start..start + text.len());
            }
        }
        self.rules.scanner.may_find(searched, &users)
    }

    /// Returns whether a place may name an entry, or its value is a number that may be one of a person.
    fn may_name(&self, entry: &Entry<'_>) -> bool {
        let is_named = match entry.key {
            EntryKey::Field(field) => self.columns[usize::from(field.code())],
            EntryKey::Extra(name) => {
                let last = name.rsplit('.').next().unwrap_or(name);
                self.rules.names.may_have(last)
            }
        };
        is_named || self.rules.scanner.wants_numbers() && is_long_number(entry.value)
    }

    /// Takes a frame apart and puts it together again.
    fn redacted(&self, frame: &[u8], is_counted: bool) -> Option<Vec<u8>> {
        let (inherited, own) = parts(frame)?;
        let record = record_of(frame, inherited, own);
        let mut tally = Tally::default();
        let inherited = self.entries(inherited, &record, &mut tally);
        let mut own = self.entries(own, &record, &mut tally);
        let lines = tally.lines();
        if lines.is_empty() {
            return None;
        }
        encode::whole_text(
            &mut own,
            EntryName::Field(Field::Redactions),
            ty::TEXT,
            lines.as_bytes(),
        );
        if is_counted {
            tally
                .rules()
                .for_each(|(rule, count)| self.rules.counts.count(rule, count));
        }
        Some(assembled(frame, &inherited, &own))
    }

    /// Returns entries with their values redacted.
    fn entries<'a>(
        &'a self,
        bytes: &[u8],
        record: &RecordOf<'_>,
        tally: &mut Tally<'a>,
    ) -> Vec<u8> {
        // What cannot be read is not passed on.
        let entries: Vec<_> = decode::entries(bytes).map_while(Result::ok).collect();
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let mut at = 0;
        let ends: Vec<_> = decode::entries_with_ends(bytes)
            .map(|(_, end)| end)
            .collect();
        for (index, entry) in entries.iter().enumerate() {
            let as_it_is = &bytes[at..ends[index]];
            at = ends[index];
            let is_cut = entries.get(index + 1).is_some_and(|next| {
                next.key == entry.key
                    && matches!(next.value, Value::Cut { .. } | Value::Stopped { .. })
            });
            self.entry(entry, as_it_is, is_cut, record, tally, &mut out);
        }
        out
    }

    fn entry<'a>(
        &'a self,
        entry: &Entry<'_>,
        as_it_is: &[u8],
        is_cut: bool,
        record: &RecordOf<'_>,
        tally: &mut Tally<'a>,
        out: &mut Vec<u8>,
    ) {
        if let EntryKey::Field(Field::Boundary | Field::HostContext | Field::HostSpan) = entry.key {
            out.extend_from_slice(as_it_is);
            return;
        }
        let values = Values {
            rules: &self.rules,
            record,
        };
        let (name, new_name) = match entry.key {
            EntryKey::Field(field) => (Cow::Borrowed(place::column(field)), None),
            EntryKey::Extra(name) => {
                let new = values.name(name);
                (new.clone().map_or(Cow::Borrowed(name), Cow::Owned), new)
            }
        };
        if !entry.value.is_said() {
            match new_name {
                Some(name) => put_again(out, EntryName::Extra(&name), entry.value),
                None => out.extend_from_slice(as_it_is),
            }
            return;
        }
        tally.begin(&name);
        if new_name.is_some() {
            tally.add(super::value::NAME);
        }
        let new = values.of_entry(entry, is_cut, tally);
        let key = match entry.key {
            EntryKey::Field(field) => EntryName::Field(field),
            EntryKey::Extra(_) => EntryName::Extra(&name),
        };
        match new {
            New::Same if new_name.is_some() => put_again(out, key, entry.value),
            New::Same => out.extend_from_slice(as_it_is),
            New::Gone => {}
            // Who may read a row depends on it: the same tenant as before, without its key.
            New::Text(_) if entry.key == EntryKey::Field(Field::TenantId) => {
                let (tenant, _) = key_of(Field::TenantId, entry.value);
                let id = parse_uuid(&tenant).unwrap_or_else(|| tenant_uuid(&tenant));
                encode::fixed(out, key, ty::UUID, *id.as_bytes());
            }
            New::Text(text) => {
                let ty = match entry.value {
                    Value::Json(_) if json::is_json(&text) => ty::JSON,
                    // That a `Debug` wrote it says how it is read.
                    Value::Debug(_) => ty::DEBUG,
                    _ => ty::TEXT,
                };
                encode::whole_text(out, key, ty, text.as_bytes());
            }
        }
    }
}

/// Returns the entries of a frame, inherited and own, of a record or of a run that has begun.
fn parts(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, entries) = frame.split_at_checked(HEADER_BYTES)?;
    let len = u32::from_le_bytes(*head.last_chunk()?);
    entries.split_at_checked(len as usize)
}

/// Returns the frame with other entries.
fn assembled(frame: &[u8], inherited: &[u8], own: &[u8]) -> Vec<u8> {
    let mut new = Vec::with_capacity(HEADER_BYTES + inherited.len() + own.len());
    new.extend_from_slice(&frame[..HEADER_BYTES - 4]);
    new.extend_from_slice(
        &u32::try_from(inherited.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    new.extend_from_slice(inherited);
    new.extend_from_slice(own);
    new
}

/// Returns the frame with a note in the place of each text.
fn without_texts(frame: &[u8]) -> Vec<u8> {
    let Some((inherited, own)) = parts(frame) else {
        return Vec::new();
    };
    let closed = |bytes: &[u8]| {
        let mut out = Vec::new();
        for entry in decode::entries(bytes).map_while(Result::ok) {
            let is_internal = matches!(
                entry.key,
                EntryKey::Field(Field::Boundary | Field::HostContext | Field::HostSpan)
            );
            let is_text = matches!(
                entry.value,
                Value::Text(_) | Value::Debug(_) | Value::Json(_) | Value::Bytes(_)
            );
            match entry.key {
                EntryKey::Field(Field::TenantId) if is_text => {}
                EntryKey::Field(field) if is_text && !is_internal => {
                    encode::whole_text(
                        &mut out,
                        EntryName::Field(field),
                        ty::TEXT,
                        FAILED.as_bytes(),
                    );
                }
                EntryKey::Field(field) => put_again(&mut out, EntryName::Field(field), entry.value),
                EntryKey::Extra(_) => {}
            }
        }
        out
    };
    let mut own = closed(own);
    let line = format!("…: {}", FAILED.trim_matches(['[', ']']));
    encode::whole_text(
        &mut own,
        EntryName::Field(Field::Redactions),
        ty::TEXT,
        line.as_bytes(),
    );
    assembled(frame, &closed(inherited), &own)
}

/// Appends an entry with a value as it was.
fn put_again(out: &mut Vec<u8>, key: EntryName<'_>, value: Value<'_>) {
    match value {
        Value::Text(text) => encode::whole_text(out, key, ty::TEXT, text.as_bytes()),
        Value::Debug(text) => encode::whole_text(out, key, ty::DEBUG, text.as_bytes()),
        Value::Json(text) => encode::whole_text(out, key, ty::JSON, text.as_bytes()),
        Value::Bytes(bytes) => encode::whole_text(out, key, ty::BYTES, bytes),
        Value::I64(n) => encode::fixed(out, key, ty::I64, n.to_le_bytes()),
        Value::U64(n) => encode::fixed(out, key, ty::U64, n.to_le_bytes()),
        Value::F64(n) => encode::fixed(out, key, ty::F64, n.to_le_bytes()),
        Value::Bool(b) => encode::fixed(out, key, ty::BOOL, [u8::from(b)]),
        Value::I128(n) => encode::fixed(out, key, ty::I128, n.to_le_bytes()),
        Value::U128(n) => encode::fixed(out, key, ty::U128, n.to_le_bytes()),
        Value::Uuid(id) => encode::fixed(out, key, ty::UUID, *id.as_bytes()),
        Value::Cut { whole_len, sha256 } => encode::cut(out, key, whole_len, *sha256),
        Value::FormatFailed => encode::fixed(out, key, ty::FORMAT_FAILED, []),
        Value::Dropped => encode::fixed(out, key, ty::DROPPED, []),
        Value::Stopped { seen } => encode::fixed(out, key, ty::STOPPED, seen.to_le_bytes()),
    }
}

/// Returns what places can be restricted to, and of which system the SQL is.
fn record_of<'a>(frame: &[u8], inherited: &'a [u8], own: &'a [u8]) -> RecordOf<'a> {
    let mut record = RecordOf {
        kind: frame.get(2).and_then(|code| Kind::from_code(*code)),
        ..RecordOf::default()
    };
    for entry in decode::entries(inherited)
        .chain(decode::entries(own))
        .flatten()
    {
        match (entry.key, entry.value) {
            (EntryKey::Field(Field::ActionType), Value::Text(text) | Value::Debug(text)) => {
                record.family = Some(text);
            }
            (EntryKey::Field(Field::TenantId), Value::Text(text) | Value::Debug(text)) => {
                record.tenant = Some(text);
            }
            (EntryKey::Field(Field::TenantId), Value::Uuid(id)) => record.tenant_id = Some(id),
            (EntryKey::Extra("db.system.name"), Value::Text(text)) => record.system = text,
            _ => {}
        }
    }
    record
}

/// Returns whether a number has as many digits as one of a person.
fn is_long_number(value: Value<'_>) -> bool {
    const LEAST: u64 = 100_000_000;
    match value {
        Value::I64(n) => n.unsigned_abs() >= LEAST,
        Value::U64(n) => n >= LEAST,
        Value::I128(n) => n.unsigned_abs() >= u128::from(LEAST),
        Value::U128(n) => n >= u128::from(LEAST),
        #[allow(
            clippy::cast_precision_loss,
            reason = "the least is a number of floating point"
        )]
        Value::F64(n) => n.abs() >= LEAST as f64,
        _ => false,
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
