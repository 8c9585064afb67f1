//! Rows that report a gap in the trail: `action_type = 'audit.gap'`.

use uuid::Uuid;

use super::builders::{Event, NewRecord};
use crate::vocabulary::{Kind, Status};

/// The action type of the row.
const ACTION: &str = "audit.gap";

/// Reports a run of drops: how many records of each kind, in the order of [`Kind::ALL`], were
/// dropped between two times in microseconds since 1970.
pub(crate) fn of_drops(
    cause: &str,
    kinds: [u64; Kind::ALL.len()],
    first_us: i64,
    last_us: i64,
) -> NewRecord {
    let mut event = gap(cause).metadata("records", kinds.iter().sum::<u64>());
    for kind in Kind::ALL {
        event = event.metadata(kind.table_name(), kinds[kind.index()]);
    }
    NewRecord::from(event).between(first_us, last_us)
}

/// Reports a local log that cannot be read.
pub(crate) fn of_damage(folder: &str) -> NewRecord {
    gap("local_log_damaged").metadata("folder", folder).into()
}

/// Reports the numbers of a writer on which Postgres and the local log disagree, including the last
/// one, and how many of those records are lost.
pub(crate) fn of_disagreement(
    cause: &str,
    writer: Uuid,
    (first_seq, last_seq): (u64, u64),
    lost: u64,
) -> NewRecord {
    gap(cause)
        .metadata("writer_id", writer.to_string())
        .metadata("first_seq", first_seq)
        .metadata("last_seq", last_seq)
        .metadata("records_lost", lost)
        .into()
}

fn gap(cause: &str) -> Event {
    Event::new(ACTION).error_code(cause).status(Status::Failed)
}
