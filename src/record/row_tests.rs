use proptest::prelude::*;

use super::*;
use crate::limits::Limits;
use crate::record::buffers::Buffers;
use crate::record::coerce::tenant_uuid;
use crate::record::decode;
use crate::record::encode::{self, Header, Key, ty};

const ID: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

fn framed(
    kind: Kind,
    evidence: Evidence,
    started_us: i64,
    fill: impl FnOnce(&mut Buffers),
) -> Vec<u8> {
    let mut buffers = Buffers::default();
    fill(&mut buffers);
    let header = Header {
        kind,
        evidence,
        id: ID,
        parent: Uuid::nil(),
        root: ID,
        started_us,
        duration_us: 5_000,
    };
    let mut out = Vec::new();
    encode::frame(
        &mut out,
        &header,
        &buffers.inherited,
        &buffers.context,
        &buffers.body,
    );
    out
}

fn with_row<T>(bytes: &[u8], check: impl FnOnce(Row<'_>) -> T) -> T {
    check(Row::new(&decode::frame(bytes).unwrap()).unwrap())
}

fn text(buffers: &mut Buffers, field: Field, value: &str) {
    buffers.text(
        Key::Field(field),
        ty::TEXT,
        value.as_bytes(),
        &Limits::default(),
    );
}

#[test]
fn tenant_key_maps_to_the_uuid_that_sql_computes() {
    // Computed by PostgreSQL: SELECT audit.tenant_uuid('acme').
    assert_eq!(
        tenant_uuid("acme").to_string(),
        "cef41eed-96b2-8b03-b04f-8adef1c9def6"
    );
}

#[test]
fn row_clamps_a_time_out_of_range_and_reports_a_problem() {
    for (said, kept) in [(-1, 0), (i64::MIN, 0), (i64::MAX, id::MAX_US)] {
        let bytes = framed(Kind::Event, Evidence::None, said, |_| ());
        with_row(&bytes, |row| {
            assert_eq!(row.started_us, kept);
            assert!(row.finished_us().unwrap() <= id::MAX_US);
            assert_eq!(row.problems, ["started_at: the clock was out of range"]);
        });
    }
}

#[test]
fn recorded_error_message_takes_precedence_over_an_observed_error() {
    let bytes = framed(Kind::Event, Evidence::Err, 0, |buffers| {
        text(buffers, Field::ErrorMessage, "said");
        text(buffers, Field::SeenError, "seen");
    });
    with_row(&bytes, |row| {
        assert_eq!(*row.cell(Field::ErrorMessage), Cell::Text("said".into()));
        assert_eq!(row.status, Status::Failed);
    });
}

#[test]
fn metadata_that_is_not_a_json_object_is_kept_as_text() {
    for broken in [r#"{"a": 1e400}"#, r#"{"lone": "\ud800"}"#, "{", "[1]"] {
        let bytes = framed(Kind::Event, Evidence::None, 0, |buffers| {
            text(buffers, Field::Metadata, broken);
        });
        with_row(&bytes, |row| {
            let metadata: serde_json::Value = serde_json::from_str(&row.metadata).unwrap();
            assert_eq!(metadata, serde_json::json!({"metadata": broken}));
            assert_eq!(row.problems, ["metadata: not a JSON object"]);
        });
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let bytes = framed(Kind::Event, Evidence::None, 0, |buffers| {
        buffers.text(
            Key::Extra("deep"),
            ty::JSON,
            deep.as_bytes(),
            &Limits::default(),
        );
    });
    with_row(&bytes, |row| {
        assert_eq!(row.problems, ["deep: not JSON, kept as text"]);
        let metadata: serde_json::Value = serde_json::from_str(&row.metadata).unwrap();
        assert_eq!(metadata["deep"], deep);
    });
}

#[test]
fn numbers_of_json_are_compared_one_by_one() {
    for kept in [
        "[0, -1, 18446744073709551615, -9223372036854775808, 1.50, 100.00, 0.1, 1147.2813284467645]",
        "[1e5, -2.50E-7, 0.0000011, 1E+300, 0.0, 0e9, -0]",
        r#"{"1e400\\\"": "123456789012345678901234567890", "e": [true, null, "\\"]}"#,
        "{}",
    ] {
        assert!(keeps_numbers(kept), "{kept}");
    }
    for lost in [
        "[18446744073709551616]",
        r#"["\\", 123456789012345678901234567890]"#,
        "[0.1234567890123456789]",
        "[0.1e-9223372036854775808]",
        // The nearest number begins with the same digits.
        "[1147.28132844676451]",
    ] {
        assert!(!keeps_numbers(lost), "{lost}");
    }
    // Looking for each in the whole text would take minutes.
    let many: Vec<_> = (0..200_000).map(|n| format!("0.{n:06}1")).collect();
    assert!(keeps_numbers(&format!("[{}]", many.join(","))));
}

#[test]
fn number_in_metadata_that_json_cannot_keep_is_a_problem() {
    let given = r#"{"kept": [18446744073709551615, 1147.2813284467645, 1.50], "lost": {"n": 123456789012345678901234567890}}"#;
    let bytes = framed(Kind::Event, Evidence::None, 0, |buffers| {
        text(buffers, Field::Metadata, given);
    });
    with_row(&bytes, |row| {
        assert!(
            row.metadata
                .contains("[18446744073709551615, 1147.2813284467645, 1.5]")
        );
        let problems = ["metadata: a number in it has more digits than are kept"];
        assert_eq!(row.problems, problems);
    });
}

#[test]
fn replaced_nul_in_the_name_of_a_field_is_a_problem() {
    let bytes = framed(Kind::Event, Evidence::None, 0, |buffers| {
        for (name, value) in [("a\0", 1_i64), ("a\u{fffd}", 2), ("b\0", 3)] {
            let key = Key::Extra(name);
            buffers.fixed(key, ty::I64, value.to_le_bytes(), &Limits::default());
        }
    });
    with_row(&bytes, |row| {
        assert_eq!(row.metadata, "{\"a\u{fffd}\": 2, \"b\u{fffd}\": 3}");
        assert_eq!(
            row.problems,
            [
                "a\u{fffd}: NUL replaced",
                "a\u{fffd}: another field has this name, one of them is lost",
                "b\u{fffd}: NUL replaced",
            ]
        );
    });
}

#[test]
fn number_of_problems_per_row_is_bounded() {
    let bytes = framed(Kind::Event, Evidence::None, 0, |buffers| {
        for name in 0..1_000 {
            buffers.fixed(
                Key::Extra(&name.to_string()),
                ty::F64,
                f64::NAN.to_le_bytes(),
                &Limits::default(),
            );
        }
    });
    with_row(&bytes, |row| {
        assert_eq!(row.problems.len(), MAX_PROBLEMS + 1);
    });
}

/// As earlier versions wrote them, when a key or a status had no room.
#[test]
fn dropped_key_is_null_and_is_not_inherited_from_an_enclosing_span() {
    let dropped = |buffers: &mut Buffers, field| {
        let out = if Field::is_inherited(field) {
            &mut buffers.context
        } else {
            &mut buffers.body
        };
        encode::fixed(out, Key::Field(field), ty::DROPPED, []);
    };
    let keys = [Field::TenantId, Field::UserId, Field::RequestId];
    let bytes = framed(Kind::QueryRun, Evidence::ResultField, 0, |buffers| {
        let mut outside = Buffers::default();
        for field in keys {
            text(&mut outside, field, "outside");
        }
        buffers.inherit([&outside.inherited, &outside.context], true);
        text(buffers, Field::RowCount, "3");
        dropped(buffers, Field::Status);
        for field in keys {
            dropped(buffers, field);
        }
    });
    with_row(&bytes, |row| {
        for field in keys {
            assert_eq!(*row.cell(field), Cell::Null, "{}", field.name());
        }
        assert_eq!(row.status, Status::Unknown);
        assert_eq!(row.place.trace_id, ID.into_bytes());
        assert_eq!(row.problems.len(), keys.len() + 1, "{:?}", row.problems);
    });
}

#[test]
fn invalid_result_field_is_no_evidence_of_success() {
    let status = |evidence, fill: &dyn Fn(&mut Buffers)| {
        let bytes = framed(Kind::QueryRun, evidence, 0, fill);
        with_row(&bytes, |row| row.status)
    };
    let limits = Limits::default();
    let int = |buffers: &mut Buffers, count: i64| {
        buffers.fixed(
            Key::Field(Field::RowCount),
            ty::I64,
            count.to_le_bytes(),
            &limits,
        );
    };
    let result = Evidence::ResultField;
    assert_eq!(status(result, &|out| int(out, 0)), Status::Succeeded);
    assert_eq!(status(result, &|out| int(out, -1)), Status::Unknown);
    assert_eq!(status(result, &|out| int(out, i64::MAX)), Status::Unknown);
    assert_eq!(status(result, &|_| ()), Status::Unknown);
    for word in ["error", "", "NaN", "false"] {
        let said = status(result, &|out| text(out, Field::RowCount, word));
        assert_eq!(said, Status::Unknown, "{word}");
    }
    assert_eq!(status(Evidence::Ok, &|out| int(out, -1)), Status::Succeeded);
    // Followed by a result that is none.
    let then = status(result, &|out| {
        int(out, 3);
        text(out, Field::RowsAffected, "some");
    });
    assert_eq!(then, Status::Unknown);
}

fn any_value() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let texts = prop_oneof![Just(ty::TEXT), Just(ty::DEBUG), Just(ty::JSON)];
    prop_oneof![
        (texts, any::<String>()).prop_map(|(ty, text)| (ty, text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| (ty::BYTES, bytes)),
        any::<i64>().prop_map(|n| (ty::I64, n.to_le_bytes().to_vec())),
        any::<u128>().prop_map(|n| (ty::U128, n.to_le_bytes().to_vec())),
        any::<f64>().prop_map(|n| (ty::F64, n.to_le_bytes().to_vec())),
    ]
}

proptest! {
    /// Whatever the fields hold, Postgres accepts the row: text without NUL, metadata that is a
    /// JSON object, an id and times within the partitions.
    #[test]
    fn every_record_becomes_a_row_that_postgres_accepts(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        started_us in any::<i64>(),
        entries in prop::collection::vec((0..=33_u8, "\\PC{0,3}", any_value()), 0..20),
    ) {
        let limits = Limits::default();
        let bytes = framed(kind, Evidence::None, started_us, |buffers| {
            for (code, name, (value_type, value)) in &entries {
                let key = Field::from_code(*code).map_or(Key::Extra(name), Key::Field);
                match *value_type {
                    ty::I64 | ty::F64 => {
                        buffers.fixed(key, *value_type, <[u8; 8]>::try_from(&value[..]).unwrap(), &limits);
                    }
                    ty::U128 => buffers.fixed(key, ty::U128, <[u8; 16]>::try_from(&value[..]).unwrap(), &limits),
                    text => buffers.text(key, text, value, &limits),
                }
            }
        });
        with_row(&bytes, |row| {
            let metadata: serde_json::Value = serde_json::from_str(&row.metadata).unwrap();
            prop_assert!(metadata.is_object());
            prop_assert!(!row.metadata.contains("\\u0000"));
            prop_assert!((0..=id::MAX_US).contains(&row.started_us));
            prop_assert!(row.problems.iter().all(|problem| !problem.contains('\0')));
            for &field in Field::ALL {
                if let Cell::Text(text) = row.cell(field) {
                    prop_assert!(!text.contains('\0'));
                }
            }
            Ok(())
        })?;
    }
}
