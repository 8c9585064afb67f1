//! The buffers that a span's entries are written to.

use std::collections::{HashMap, HashSet};

use super::coerce;
use super::decode::{self, Entry, EntryKey, Value};
use super::encode::{self, Key, ty};
use crate::limits::Limits;
use crate::vocabulary::{Field, FieldType};

/// The entries of an open span.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Entries inherited from the enclosing spans.
    pub(crate) inherited: Vec<u8>,
    /// The span's own entries that its children inherit.
    pub(crate) context: Vec<u8>,
    /// The span's other own entries.
    pub(crate) body: Vec<u8>,
    /// The length of `body` from which the next compaction pays off.
    compact_at: usize,
}

/// The size of `context` and `inherited` together from which a child that inherits them removes
/// superseded entries.
const COMPACT_CONTEXT_BYTES: usize = 2 * 1024;

/// The size of `context` beyond which no further value of the host's own is added to it.
const MAX_CONTEXT_BYTES: usize = 16 * 1024;

/// The length of `body` from which it is first compacted.
const COMPACT_BODY_BYTES: usize = 16 * 1024;

/// The size of a text entry and the entry that marks it as cut, without the text and the names.
const CUT_BYTES: usize = 64;

impl Buffers {
    /// Removes the entries and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.inherited.clear();
        self.context.clear();
        self.body.clear();
        self.compact_at = 0;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.inherited.capacity() + self.context.capacity() + self.body.capacity()
    }

    pub(crate) fn len(&self) -> usize {
        self.inherited.len() + self.context.len() + self.body.len()
    }

    fn of(&mut self, key: Key<'_>) -> &mut Vec<u8> {
        match key {
            Key::Field(field) if field.is_inherited() => &mut self.context,
            _ => &mut self.body,
        }
    }

    /// Inherits what a span inherited and its own context. If that span is a record, marks how much
    /// of it the record has.
    pub(crate) fn inherit(&mut self, from: [&[u8]; 2], is_record: bool) {
        for entries in from {
            self.inherited.extend_from_slice(entries);
        }
        if is_record {
            let key = Key::Field(Field::Boundary);
            encode::fixed(&mut self.inherited, key, ty::BOOL, [1]);
        }
        if self.inherited.len() > COMPACT_CONTEXT_BYTES {
            // Each part on its own, so that what the enclosing record had stays distinguishable.
            let mut since = self.inherited.split_off(boundary(&self.inherited));
            compact(&mut self.inherited, None);
            compact(&mut since, None);
            self.inherited.append(&mut since);
        }
    }

    /// Inherits fields for which neither an enclosing span nor this one had a value, from the context
    /// of a span that recorded them after this one began: the enclosing record, a record that
    /// encloses it, or a span in between.
    pub(crate) fn inherit_missing(&mut self, from: &[u8], has_record: bool) {
        let own = [&*self.inherited, &self.context];
        let own = || {
            let entries = own.into_iter().flat_map(decode::entries);
            entries.map_while(Result::ok)
        };
        let mut late = Vec::new();
        let mut at = 0;
        for (entry, end) in decode::entries_with_ends(from) {
            let Ok(entry) = entry else { break };
            if entry.key == EntryKey::Field(Field::Boundary) {
                at = end;
                continue;
            }
            // What happened to a value is not a value.
            let is_value = |own: &Entry<'_>| own.value.is_said() && !is_empty(own);
            let is_there =
                own().any(|own| own.key == entry.key && (is_value(&own) || !entry.value.is_said()));
            if !is_there {
                late.extend_from_slice(&from[at..end]);
            }
            at = end;
        }
        let at = if has_record {
            boundary(&self.inherited)
        } else {
            self.inherited.len()
        };
        self.inherited.splice(at..at, late);
    }

    /// Returns whether the span has an entry of its own for a field that its children inherit.
    pub(crate) fn has_context(&self, name: &str) -> bool {
        let entries = decode::entries(&self.context).map_while(Result::ok);
        let key = Field::of_name(name, None).map_or(EntryKey::Extra(name), EntryKey::Field);
        entries.into_iter().any(|entry| entry.key == key)
    }

    /// Returns whether the span has a value of its own for a field that its children do not inherit.
    pub(crate) fn has_own(&self, field: Field) -> bool {
        self.own(field).next().is_some()
    }

    /// Returns the text that the span has for such a field.
    pub(crate) fn own_text(&self, field: Field) -> Option<&str> {
        match self.own(field).last()?.value {
            Value::Text(text) | Value::Debug(text) => Some(text),
            _ => Some(""),
        }
    }

    fn own(&self, field: Field) -> impl Iterator<Item = Entry<'_>> {
        let entries = decode::entries(&self.body).map_while(Result::ok);
        let key = EntryKey::Field(field);
        entries.filter(move |entry| entry.key == key && entry.value.is_said() && !is_empty(entry))
    }

    /// Returns whether the span has or inherits a value of a field that its children inherit.
    pub(crate) fn has_inherited(&self, field: Field) -> bool {
        let all = [&*self.inherited, &self.context];
        let entries = all.into_iter().flat_map(decode::entries);
        let key = EntryKey::Field(field);
        entries
            .map_while(Result::ok)
            .any(|entry| entry.key == key && entry.value.is_said() && !is_empty(&entry))
    }

    /// Returns the key that the span itself has for a field that its children inherit.
    pub(crate) fn own_key(&self, field: Field) -> Option<String> {
        let entries = decode::entries(&self.context).map_while(Result::ok);
        let values = entries.filter(|entry| {
            entry.key == EntryKey::Field(field) && entry.value.is_said() && !is_empty(entry)
        });
        let (key, _) = coerce::key(field, values.last()?.value);
        Some(coerce::without_nul(&key).into_owned())
    }

    /// Returns the last error that was seen, if its text is whole.
    pub(crate) fn seen_error(&self) -> Option<&str> {
        let entries = decode::entries(&self.body).map_while(Result::ok);
        let seen = entries.filter(|entry| entry.key == EntryKey::Field(Field::SeenError));
        match seen.last()?.value {
            Value::Text(text) | Value::Debug(text) => Some(text),
            _ => None,
        }
    }

    /// Appends the entries of one value to what the span's children inherit, unless it is one of the
    /// host's own for which there is no room: each record has a copy.
    pub(crate) fn add_context(&mut self, name: &str, entries: &[u8], limits: &Limits) {
        let len = self.inherited.len() + self.context.len() + entries.len();
        let is_over = len > MAX_CONTEXT_BYTES.min(limits.record_bytes / 4);
        if is_over && Field::of_name(name, None).is_none() && !self.has_context(name) {
            encode::fixed(&mut self.context, Key::Extra("context"), ty::DROPPED, []);
        } else {
            self.context.extend_from_slice(entries);
        }
    }

    /// Appends the entries of `other`, which were recorded after these.
    pub(crate) fn append(&mut self, other: &Buffers, limits: &Limits) {
        self.context.extend_from_slice(&other.context);
        self.body.extend_from_slice(&other.body);
        self.bound(limits);
    }

    /// Removes superseded entries when there are many.
    pub(crate) fn bound(&mut self, limits: &Limits) {
        if self.context.len() > COMPACT_CONTEXT_BYTES {
            compact(&mut self.context, None);
        }
        let over = self.body.len() > limits.record_bytes;
        if over || self.body.len() > self.compact_at.max(COMPACT_BODY_BYTES) {
            compact(&mut self.body, Some(limits));
            self.compact_at = self.body.len() * 2;
        }
    }

    /// Writes a value of a fixed size if there is room for it in the record. Returns whether there is.
    #[inline]
    pub(crate) fn short_fixed<const N: usize>(
        &mut self,
        key: Key<'_>,
        ty: u8,
        value: [u8; N],
        limits: &Limits,
    ) -> bool {
        let is_within = self.has_room(N, limits);
        if is_within {
            encode::fixed(self.of(key), key, ty, value);
        }
        is_within
    }

    #[inline]
    fn has_room(&self, len: usize, limits: &Limits) -> bool {
        len <= limits.record_bytes.saturating_sub(self.len())
    }

    /// Writes a value of a fixed size.
    pub(crate) fn fixed<const N: usize>(
        &mut self,
        key: Key<'_>,
        ty: u8,
        value: [u8; N],
        limits: &Limits,
    ) {
        if self.room(key, limits) < N {
            encode::fixed(self.of(key), key, ty::DROPPED, []);
        } else {
            encode::fixed(self.of(key), key, ty, value);
        }
    }

    /// Writes text, JSON text or bytes if it is within the limit of whatever field it is. Returns whether it is.
    #[inline]
    pub(crate) fn short_text(
        &mut self,
        key: Key<'_>,
        ty: u8,
        value: &[u8],
        limits: &Limits,
    ) -> bool {
        let is_within = value.len() <= limits.key_bytes.min(limits.field_bytes)
            && self.has_room(value.len(), limits);
        if is_within {
            encode::whole_text(self.of(key), key, ty, value);
        }
        is_within
    }

    /// Writes text, JSON text or bytes, cut to the limit.
    pub(crate) fn text(&mut self, key: Key<'_>, ty: u8, value: &[u8], limits: &Limits) {
        if self.short_text(key, ty, value, limits) {
            return;
        }
        let limit = self.limit(key, limits);
        if value.len() <= limit {
            encode::whole_text(self.of(key), key, ty, value);
        } else if limit == 0 && !value.is_empty() {
            encode::fixed(self.of(key), key, ty::DROPPED, []);
        } else {
            encode::text(self.of(key), key, ty, value, limit);
        }
    }

    /// Writes text with a function that appends to the entry within a limit of bytes, and returns
    /// the text's type and what became of it.
    pub(crate) fn text_with(
        &mut self,
        key: Key<'_>,
        limits: &Limits,
        write: impl FnOnce(&mut Vec<u8>, usize) -> (u8, Written),
    ) {
        let limit = self.limit(key, limits);
        let out = self.of(key);
        if limit == 0 {
            encode::fixed(out, key, ty::DROPPED, []);
            return;
        }
        let at = encode::begin_text(out, key);
        let (ty, written) = write(out, limit);
        encode::end_text(out, key, at, ty);
        match written {
            Written::Whole => {}
            Written::Cut { whole_len, sha256 } => encode::cut(out, key, whole_len, sha256),
            Written::Failed => encode::fixed(out, key, ty::FORMAT_FAILED, []),
            Written::Stopped { seen } => encode::fixed(out, key, ty::STOPPED, seen.to_le_bytes()),
        }
    }

    /// Writes text of `whole_len` bytes that begins with `text`; `sha256` is the hash of all of it,
    /// unless `text` is complete and fits.
    pub(crate) fn gathered(
        &mut self,
        key: Key<'_>,
        text: &[u8],
        whole_len: u64,
        sha256: Option<[u8; 32]>,
        limits: &Limits,
    ) {
        let limit = self.gathered_limit(key, limits);
        let out = self.of(key);
        if limit == 0 {
            encode::fixed(out, key, ty::DROPPED, []);
            return;
        }
        let kept = &text[..encode::char_boundary(text, limit)];
        encode::whole_text(out, key, ty::TEXT, kept);
        if (kept.len() as u64) < whole_len {
            match sha256 {
                Some(sha256) => encode::cut(out, key, whole_len, sha256),
                // There was room when the limit was checked.
                None => encode::fixed(out, key, ty::STOPPED, whole_len.to_le_bytes()),
            }
        }
    }

    /// Returns how many bytes of gathered text fit, beside the entry that marks it as cut.
    pub(crate) fn gathered_limit(&self, key: Key<'_>, limits: &Limits) -> usize {
        let name_len = match key {
            Key::Field(_) => 0,
            Key::Extra(name) => name.len(),
        };
        let room = self.room(key, limits);
        let room = room.saturating_sub(2 * name_len + CUT_BYTES);
        limit(key, limits).min(room.max(reserved(key, limits)))
    }

    /// Returns how many bytes of a value of this field fit.
    fn limit(&self, key: Key<'_>, limits: &Limits) -> usize {
        limit(key, limits).min(self.room(key, limits))
    }

    fn room(&self, key: Key<'_>, limits: &Limits) -> usize {
        let room = limits.record_bytes.saturating_sub(self.len());
        // No field has more reserved, so it need not be looked up.
        if room >= limits.key_bytes {
            room
        } else {
            room.max(reserved(key, limits))
        }
    }
}

/// Returns how many bytes a field's value may have however full the record is. Who acted, for whom
/// and how it ended is never dropped in favour of text: the row would show another tenant, or a
/// success.
fn reserved(key: Key<'_>, limits: &Limits) -> usize {
    match key {
        Key::Field(field) if is_short(field) || is_of_error(field) => limits.key_bytes,
        _ => 0,
    }
}

/// Returns whether an entry holds no value.
fn is_empty(entry: &Entry<'_>) -> bool {
    let is_none =
        matches!(entry.key, EntryKey::Field(field) if coerce::is_none(field, entry.value));
    is_none || matches!(entry.value, Value::Text("") | Value::Debug("" | "\"\""))
}

/// Returns where the mark of the enclosing record begins; 0: there is none.
fn boundary(inherited: &[u8]) -> usize {
    let (mut at, mut boundary) = (0, 0);
    for (entry, end) in decode::entries_with_ends(inherited) {
        if entry.is_ok_and(|entry| entry.key == EntryKey::Field(Field::Boundary)) {
            boundary = at;
        }
        at = end;
    }
    boundary
}

/// The outcome of formatting a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Whole,
    Cut { whole_len: u64, sha256: [u8; 32] },
    Failed,
    Stopped { seen: u64 },
}

/// Returns the greatest length of a value of this field.
pub(crate) fn limit(key: Key<'_>, limits: &Limits) -> usize {
    match key {
        Key::Field(field) if is_short(field) => limits.key_bytes,
        _ => limits.field_bytes,
    }
}

/// Returns whether the field's values are short: an identifier, a number, a status.
fn is_short(field: Field) -> bool {
    // The last two have no column of their own, and may be long.
    field.field_type() != FieldType::Text && field != Field::Metadata && field != Field::SeenError
}

/// Returns whether the field describes an error.
fn is_of_error(field: Field) -> bool {
    matches!(field, Field::ErrorMessage | Field::SeenError)
}

/// Removes entries that a later one for the same field supersedes. If texts exceed the record's
/// limit, the latest ones are replaced by a mark.
fn compact(bytes: &mut Vec<u8>, limits: Option<&Limits>) {
    let mut entries = Vec::new();
    let mut at = 0;
    for (entry, end) in decode::entries_with_ends(bytes) {
        let Ok(entry) = entry else { break };
        entries.push((entry, at..end));
        at = end;
    }
    // The index of each field's last value; entries on what happened to it follow.
    let last: HashMap<_, _> = entries
        .iter()
        .enumerate()
        .filter(|(_, (entry, _))| counts(entry))
        .map(|(index, (entry, _))| (hashable(entry.key), index))
        .collect();
    let (mut marked, mut nones) = (HashSet::new(), HashSet::new());
    let mut kept = Vec::with_capacity(bytes.len());
    let mut room = limits.map_or(usize::MAX, |limits| limits.record_bytes);
    for (index, (entry, range)) in entries.iter().enumerate() {
        let last = last.get(&hashable(entry.key)).copied();
        if last.is_some_and(|last| index < last) {
            continue;
        }
        // A `None` beside a value or another `None`.
        let is_none = entry.value.is_said() && !counts(entry);
        if is_none && (last.is_some() || !nones.insert(hashable(entry.key))) {
            continue;
        }
        let key = Key::from(entry.key);
        let reserved = limits.map_or(0, |limits| reserved(key, limits));
        let is_short = matches!(key, Key::Field(field) if is_short(field));
        if is_short || range.len() <= reserved {
            kept.extend_from_slice(&bytes[range.clone()]);
        } else if entry.value != Value::Dropped && range.len() <= room {
            room -= range.len();
            kept.extend_from_slice(&bytes[range.clone()]);
        } else if reserved > 0 {
            keep_beginning(&mut kept, key, entry.value, reserved);
        } else if marked.insert(hashable(entry.key)) {
            encode::fixed(&mut kept, key, ty::DROPPED, []);
        }
    }
    *bytes = kept;
}

/// Returns whether an entry supersedes those before it. A value that is `None` does not retract
/// what an enclosing span or the span itself recorded.
fn counts(entry: &Entry<'_>) -> bool {
    let EntryKey::Field(field) = entry.key else {
        return entry.value.is_said();
    };
    let is_kept = field.is_inherited() || field == Field::Status;
    entry.value.is_said() && !(is_kept && coerce::is_none(field, entry.value))
}

/// Appends a text entry of which at most the first `limit` bytes are kept.
fn keep_beginning(out: &mut Vec<u8>, key: Key<'_>, value: Value<'_>, limit: usize) {
    let (ty, text) = match value {
        Value::Text(text) => (ty::TEXT, text.as_bytes()),
        Value::Debug(text) => (ty::DEBUG, text.as_bytes()),
        Value::Json(text) => (ty::JSON, text.as_bytes()),
        Value::Bytes(bytes) => (ty::BYTES, bytes),
        _ => return,
    };
    let kept = &text[..encode::char_boundary(text, limit)];
    encode::whole_text(out, key, ty, kept);
    if kept.len() < text.len() {
        encode::fixed(out, key, ty::STOPPED, (text.len() as u64).to_le_bytes());
    }
}

fn hashable(key: EntryKey<'_>) -> (u8, &str) {
    match key {
        EntryKey::Field(field) => (field.code(), ""),
        EntryKey::Extra(name) => (encode::EXTRA, name),
    }
}

#[cfg(test)]
#[path = "buffers_tests.rs"]
mod tests;
