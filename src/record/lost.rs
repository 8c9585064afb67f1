//! Makes the record of a run whose end was not seen, because its process died or was shut down.

use super::decode::{self, Entry, EntryKey};
use super::encode::{
    DURATION_AT, End, Evidence, FRAME_BEGUN, FRAME_FINISHED, HEADER_BYTES, Key, UNKNOWN_DURATION,
    VERSION, text, ty,
};
use crate::vocabulary::Field;

/// Makes the record of a run that began and whose span was not seen to end; `None`: `begun` is not
/// the frame of such a run. Evidence or a status of the run's end is kept.
pub(crate) fn lost(begun: &[u8], error_code: &str) -> Option<Vec<u8>> {
    if begun.len() < HEADER_BYTES {
        return None;
    }
    let mut frame = begun.to_vec();
    let [VERSION, frame_type @ FRAME_BEGUN, _, evidence] = frame.first_chunk_mut()? else {
        return None;
    };
    *frame_type = FRAME_FINISHED;
    let end = End::from_code(*evidence);
    if !matches!(end, Some(End::Seen(_))) {
        *evidence = Evidence::None as u8;
    }
    frame
        .get_mut(DURATION_AT..DURATION_AT + 8)?
        .copy_from_slice(&UNKNOWN_DURATION.to_le_bytes());
    let mut said = Vec::new();
    if end.is_none() {
        said.push((Field::Status, "unknown"));
    }
    if end.is_none() || !has_error_code(&frame) {
        said.push((Field::ErrorCode, error_code));
    }
    for (field, word) in said {
        let key = Key::Field(field);
        text(&mut frame, key, ty::TEXT, word.as_bytes(), word.len());
    }
    Some(frame)
}

fn has_error_code(frame: &[u8]) -> bool {
    let is_code = |entry: Entry<'_>| {
        let key = entry.key;
        let is_its = matches!(key, EntryKey::Field(Field::ErrorCode | Field::SeenCode));
        is_its && entry.value.is_said()
    };
    decode::frame(frame).is_ok_and(|frame| frame.entries().flatten().any(is_code))
}
