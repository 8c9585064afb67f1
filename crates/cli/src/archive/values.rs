//! Values as they stand in a file, and back again as they are hashed: nothing of a row is lost on the way.

use serde_json::Value;

use crate::columnar::EPOCH_US;
use crate::export::values::push_texts;

/// The type of the elements of a list, `text`.
const TEXT: u32 = 25;

/// Returns a time of Postgres, in microseconds since 2000, in microseconds since 1970. Those of the trail are before the year
/// 10000; others come back as they were as well.
pub(super) fn unix_us(us: i64) -> i64 {
    us.wrapping_add(EPOCH_US)
}

/// Returns the time of Postgres that [`unix_us`] makes this of.
pub(super) fn postgres_us(us: i64) -> i64 {
    us.wrapping_sub(EPOCH_US)
}

/// Appends a list of texts as JSON; one that does not begin at 1 with its lower bounds.
pub(super) fn push_list(out: &mut Vec<u8>, image: &[u8]) {
    let number = |at: usize| {
        let bytes = image.get(at * 4..at * 4 + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let dimensions = number(0).unwrap_or_default().min(16) as usize;
    let bounds: Vec<i32> = (0..dimensions)
        .filter_map(|at| Some(number(4 + at * 2)?.cast_signed()))
        .collect();
    if bounds.iter().all(|bound| *bound == 1) {
        push_texts(out, image);
        return;
    }
    let bounds: Vec<String> = bounds.iter().map(ToString::to_string).collect();
    out.extend_from_slice(
        format!("{{\"lower_bounds\":[{}],\"elements\":", bounds.join(",")).as_bytes(),
    );
    push_texts(out, image);
    out.push(b'}');
}

/// Appends the bytes of a list that [`push_list`] has written; `None` if it has not.
pub(super) fn append_list(out: &mut Vec<u8>, json: &[u8]) -> Option<()> {
    if json == b"[]" {
        for number in [0, 0, TEXT] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        return Some(());
    }
    let value: Value = serde_json::from_slice(json).ok()?;
    let (elements, bounds) = match &value {
        Value::Object(list) => (
            list.get("elements")?,
            list.get("lower_bounds")?.as_array()?.clone(),
        ),
        elements => (elements, Vec::new()),
    };
    let mut lengths = Vec::new();
    let mut inner = Some(elements);
    while let Some(Value::Array(list)) = inner {
        lengths.push(u32::try_from(list.len()).ok()?);
        inner = list.first();
    }
    let mut images = Vec::new();
    let mut has_null = false;
    append_elements(&mut images, elements, &lengths, &mut has_null)?;
    let head = [
        u32::try_from(lengths.len()).ok()?,
        u32::from(has_null),
        TEXT,
    ];
    for number in head {
        out.extend_from_slice(&number.to_be_bytes());
    }
    for (at, length) in lengths.iter().enumerate() {
        let bound = match bounds.get(at) {
            Some(bound) => i32::try_from(bound.as_i64()?).ok()?,
            None => 1,
        };
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&bound.to_be_bytes());
    }
    out.extend_from_slice(&images);
    Some(())
}

fn append_elements(
    out: &mut Vec<u8>,
    value: &Value,
    lengths: &[u32],
    has_null: &mut bool,
) -> Option<()> {
    let Some((length, inner)) = lengths.split_first() else {
        match value {
            Value::String(text) => {
                out.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Value::Null => {
                *has_null = true;
                out.extend_from_slice(&[0xff; 4]);
            }
            _ => return None,
        }
        return Some(());
    };
    let list = value.as_array()?;
    if list.len() != *length as usize {
        return None;
    }
    list.iter()
        .try_for_each(|value| append_elements(out, value, inner, has_null))
}

/// Appends the 16 bytes of a UUID that is written as a text; `None` if it is none, or is written otherwise than by Postgres.
pub(super) fn append_uuid(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 36 {
        return None;
    }
    let mut at = 0;
    while at < 36 {
        if matches!(at, 8 | 13 | 18 | 23) {
            (text[at] == b'-').then_some(())?;
            at += 1;
            continue;
        }
        out.push(digit(text[at])? << 4 | digit(text[at + 1])?);
        at += 2;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[allow(
        clippy::unwrap_used,
        reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
    )]
    fn image(dimensions: &[(u32, i32)], elements: &[Option<&str>]) -> Vec<u8> {
        let has_null = elements.iter().any(Option::is_none);
        let mut image = Vec::new();
        for number in [
            u32::try_from(dimensions.len()).unwrap(),
            u32::from(has_null),
            TEXT,
        ] {
            image.extend(number.to_be_bytes());
        }
        for (length, bound) in dimensions {
            image.extend(length.to_be_bytes());
            image.extend(bound.to_be_bytes());
        }
        for element in elements {
            match element {
                None => image.extend([0xff; 4]),
                Some(text) => {
                    image.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                    image.extend(text.as_bytes());
                }
            }
        }
        image
    }

    #[track_caller]
    #[allow(
        clippy::unwrap_used,
        reason = "the permission for tests in clippy.toml covers only the functions marked #[test]"
    )]
    fn assert_same(image: &[u8], json: Option<&str>) {
        let (mut text, mut back) = (Vec::new(), Vec::new());
        push_list(&mut text, image);
        if let Some(json) = json {
            assert_eq!(std::str::from_utf8(&text).unwrap(), json);
        }
        append_list(&mut back, &text).unwrap();
        assert_eq!(back, image, "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn lists_are_read_as_they_were_written() {
        assert_same(&image(&[], &[]), Some("[]"));
        assert_same(&image(&[(2, 1)], &[Some("a"), None]), Some(r#"["a",null]"#));
        assert_same(
            &image(&[(2, 0)], &[Some(""), Some("[]")]),
            Some(r#"{"lower_bounds":[0],"elements":["","[]"]}"#),
        );
        assert_same(
            &image(&[(2, 1), (1, -7)], &[Some("a"), Some("b")]),
            Some(r#"{"lower_bounds":[1,-7],"elements":[["a"],["b"]]}"#),
        );
    }

    #[test]
    fn times_are_read_as_they_were_written() {
        for us in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(postgres_us(unix_us(us)), us);
        }
        assert_eq!(unix_us(0), EPOCH_US);
    }

    proptest! {
        #[test]
        fn texts_of_a_list_are_kept(elements in prop::collection::vec(prop::option::of("\\PC{0,9}|[\u{1}-\u{20}\"\\\\]{0,9}"), 1..9), bound in any::<i32>()) {
            let elements: Vec<_> = elements.iter().map(Option::as_deref).collect();
            assert_same(&image(&[(u32::try_from(elements.len()).unwrap(), bound)], &elements), None);
        }

        #[test]
        fn uuid_is_read_as_it_was_written(id in any::<[u8; 16]>()) {
            let mut out = Vec::new();
            let text = sqlx::types::Uuid::from_bytes(id).to_string();
            append_uuid(&mut out, text.as_bytes()).unwrap();
            prop_assert_eq!(&out[..], &id[..]);
        }

        #[test]
        fn no_text_panics(text in "(\\[|\\]|\"a\"|,|null|\\{\"lower_bounds\":\\[1\\],\"elements\":|\\}|\\PC){0,20}") {
            let mut out = Vec::new();
            let _ = append_list(&mut out, text.as_bytes());
            let _ = append_uuid(&mut out, text.as_bytes());
        }
    }
}
