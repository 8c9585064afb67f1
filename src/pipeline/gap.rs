//! A row of the trail for what the trail does not have: `action_type = 'audit.gap'`.

use crate::capture::buffers::Buffers;
use crate::capture::host;
use crate::capture::span::SpanState;
use crate::limits::Limits;
use crate::queue::Chunk;
use crate::record::encode;
use crate::record::{Event, NewRecord};
use crate::spool::Disagreement;
use crate::stats::Loss;
use crate::vocabulary::Kind;

/// The action of the row.
const ACTION: &str = "audit.gap";

/// What a run of drops is told as.
pub(super) fn of_drops(loss: &Loss) -> NewRecord {
    let mut event = Event::new(ACTION)
        .error_code(loss.cause.as_str())
        .status(crate::Status::Failed)
        .metadata("records", loss.records());
    for kind in Kind::ALL {
        event = event.metadata(kind.table_name(), loss.kinds[kind.index()]);
    }
    NewRecord::from(event).between(loss.first_us, loss.last_us)
}

/// What a local log that cannot be read is told as.
pub(crate) fn of_damage(folder: &str) -> NewRecord {
    Event::new(ACTION)
        .error_code("local_log_damaged")
        .status(crate::Status::Failed)
        .metadata("folder", folder)
        .into()
}

/// What Postgres and a local log do not agree on is told as.
pub(crate) fn of_disagreement(told: &Disagreement) -> NewRecord {
    Event::new(ACTION)
        .error_code(told.cause.as_str())
        .status(crate::Status::Failed)
        .metadata("writer_id", told.writer.to_string())
        .metadata("first_seq", told.first_seq)
        .metadata("last_seq", told.last_seq)
        .metadata("records_lost", told.lost)
        .into()
}

/// The frame of a record that no span of the host's encloses.
pub(crate) fn chunk(record: &NewRecord, limits: &Limits) -> Chunk {
    let kind = record.kind();
    let mut state = SpanState::begin(*limits, Some(kind), host::Active::default());
    if let Some(started_us) = record.started_us() {
        state.set_start(started_us);
    }
    state.duration_us = Some(record.duration_us());
    record.write(&mut state.buffers, limits);
    let header = state.header(kind);
    let Buffers {
        inherited,
        context,
        body,
        ..
    } = &state.buffers;
    let mut frame = Vec::new();
    encode::frame(&mut frame, &header, inherited, context, body);
    let mut chunk = Chunk::default();
    chunk.push(&frame);
    chunk
}
