use super::*;

const LIMITS: Limits = Limits {
    field_bytes: 100,
    key_bytes: 10,
    record_bytes: 1_000,
    parameters: false,
};

fn said(buffers: &Buffers) -> Vec<(EntryKey<'_>, Value<'_>)> {
    decode::entries(&buffers.body)
        .map(Result::unwrap)
        .map(|entry| (entry.key, entry.value))
        .collect()
}

#[test]
fn repeatedly_recorded_field_keeps_its_last_value_in_bounded_memory() {
    let mut buffers = Buffers::default();
    for count in 0..100_000_i64 {
        let mut later = Buffers::default();
        later.fixed(
            Key::Field(Field::RowCount),
            ty::I64,
            count.to_le_bytes(),
            &LIMITS,
        );
        buffers.append(&later, &LIMITS);
    }
    assert!(
        buffers.body.capacity() <= 4 * COMPACT_BODY_BYTES,
        "{}",
        buffers.body.capacity()
    );
    assert_eq!(
        said(&buffers).last(),
        Some(&(EntryKey::Field(Field::RowCount), Value::I64(99_999)))
    );
}

#[test]
fn fields_over_the_record_limit_are_marked_as_dropped() {
    let mut buffers = Buffers::default();
    for name in 0..20 {
        let mut later = Buffers::default();
        later.text(
            Key::Extra(&format!("n{name:02}")),
            ty::TEXT,
            &[b'x'; 90],
            &LIMITS,
        );
        buffers.append(&later, &LIMITS);
    }
    let said = said(&buffers);
    assert_eq!(said.len(), 20);
    assert_eq!(
        said.iter()
            .filter(|(_, value)| *value == Value::Dropped)
            .count(),
        11
    );
    assert_eq!(said[0].0, EntryKey::Extra("n00"));
    assert!(matches!(said[0].1, Value::Text(_)));
}

#[test]
fn short_fields_always_fit_and_an_error_message_keeps_its_beginning() {
    let mut buffers = Buffers::default();
    let code = Key::Field(Field::ErrorCode);
    let message = Key::Field(Field::ErrorMessage);
    for _ in 0..12 {
        buffers.text(Key::Extra("n"), ty::TEXT, &[b'x'; 90], &LIMITS);
    }
    buffers.text(code, ty::TEXT, b"57014", &LIMITS);
    buffers.text(message, ty::TEXT, &[b'm'; 50], &LIMITS);
    let count = 1_i64.to_le_bytes();
    buffers.fixed(Key::Field(Field::RowCount), ty::I64, count, &LIMITS);
    assert!(matches!(
        said(&buffers)[..],
        [
            ..,
            (_, Value::Text("57014")),
            (_, Value::Text("mmmmmmmmmm")),
            (_, Value::Cut { whole_len: 50, .. }),
            (_, Value::I64(1)),
        ]
    ));
    let mut late = Buffers::default();
    for name in 0..12 {
        encode::whole_text(
            &mut late.body,
            Key::Extra(&name.to_string()),
            ty::TEXT,
            &[b'x'; 90],
        );
    }
    encode::whole_text(&mut late.body, message, ty::TEXT, &[b'm'; 50]);
    encode::whole_text(&mut late.body, code, ty::TEXT, b"08006");
    for _ in 0..3 {
        buffers.append(&late, &LIMITS);
        late.clear();
        let said = said(&buffers);
        let of = |field| {
            said.iter()
                .filter(move |(key, _)| *key == EntryKey::Field(field))
                .map(|(_, value)| *value)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Field::ErrorCode), [Value::Text("08006")]);
        assert_eq!(of(Field::RowCount), [Value::I64(1)]);
        assert_eq!(
            of(Field::ErrorMessage),
            [Value::Text("mmmmmmmmmm"), Value::Stopped { seen: 50 }]
        );
    }
}

#[test]
fn key_has_a_lower_length_limit_than_text() {
    let mut buffers = Buffers::default();
    buffers.text(Key::Field(Field::ErrorCode), ty::TEXT, &[b'x'; 50], &LIMITS);
    buffers.text(Key::Field(Field::SqlText), ty::TEXT, &[b'x'; 50], &LIMITS);
    let said = said(&buffers);
    assert_eq!(said[0].1, Value::Text("xxxxxxxxxx"));
    assert!(matches!(said[1].1, Value::Cut { whole_len: 50, .. }));
    assert!(matches!(said[2].1, Value::Text(text) if text.len() == 50));
}

#[test]
fn none_value_neither_clears_a_field_nor_takes_space() {
    let none = |buffers: &mut Buffers, field| {
        let write = |out: &mut Vec<u8>, _| {
            out.extend_from_slice(b"None");
            (ty::DEBUG, Written::Whole)
        };
        buffers.text_with(Key::Field(field), &LIMITS, write);
    };
    let mut buffers = Buffers::default();
    let status = Key::Field(Field::Status);
    buffers.text(status, ty::TEXT, b"failed", &LIMITS);
    for _ in 0..COMPACT_BODY_BYTES {
        let mut later = Buffers::default();
        none(&mut later, Field::Status);
        none(&mut later, Field::UserId);
        buffers.append(&later, &LIMITS);
    }
    assert!(buffers.len() < 3 * COMPACT_BODY_BYTES, "{}", buffers.len());
    assert_eq!(said(&buffers)[0].1, Value::Text("failed"));
}

#[test]
fn empty_value_of_an_enclosing_span_counts_as_missing() {
    for empty in [(ty::DEBUG, "None"), (ty::TEXT, ""), (ty::DEBUG, "\"\"")] {
        let mut parent = Buffers::default();
        let key = Key::Field(Field::TenantId);
        encode::whole_text(&mut parent.context, key, empty.0, empty.1.as_bytes());
        let mut child = Buffers::default();
        child.inherit([&parent.inherited, &parent.context], true);
        parent.text(key, ty::TEXT, b"acme", &LIMITS);
        child.inherit_missing(&parent.context, true);
        let values: Vec<_> = decode::entries(&child.inherited)
            .map(|entry| entry.unwrap().value)
            .collect();
        assert!(values.contains(&Value::Text("acme")), "{values:?}");
    }
}

#[test]
fn late_inheritance_fills_only_missing_fields() {
    let mut parent = Buffers::default();
    parent.text(Key::Field(Field::UserId), ty::TEXT, b"ann", &LIMITS);
    let mut child = Buffers::default();
    child.inherit([&parent.inherited, &parent.context], false);
    parent.text(Key::Field(Field::UserId), ty::TEXT, b"bob", &LIMITS);
    parent.text(Key::Field(Field::RequestId), ty::TEXT, b"r", &LIMITS);
    child.inherit_missing(&parent.context, false);
    let inherited: Vec<_> = decode::entries(&child.inherited)
        .map(|entry| entry.unwrap().value)
        .collect();
    assert_eq!(inherited, [Value::Text("ann"), Value::Text("r")]);
}
