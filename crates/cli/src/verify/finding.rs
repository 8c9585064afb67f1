//! What verification finds.

use std::fmt;

use serde_json::{Value, json};
use sqlx::types::Uuid;

/// How many findings of one kind are named one by one.
pub(crate) const MOST_NAMED: usize = 100_000;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The signature of a checkpoint is not one of the key.
    SignatureInvalid,
    /// There is no checkpoint.
    CheckpointMissing,
    /// The checkpoint is not in its format.
    CheckpointBroken,
    /// Too few witnesses have cosigned the checkpoint.
    WitnessMissing,
    /// The newest checkpoint is older than allowed.
    CheckpointStale,
    /// The log has fewer entries than the checkpoint, and the database was at that checkpoint once.
    TailCut,
    /// The log has fewer entries than the checkpoint, and the database has not seen it.
    Restored,
    /// The log went on from an earlier state in another way than what was published.
    Fork,
    /// The log is not that of the checkpoint, and what was published does not say where.
    LogDiffers,
    /// No batch of a writer is there any more.
    WriterMissing,
    /// A batch is not there any more.
    BatchMissing,
    /// A batch's row, or its writer's, is not what it was.
    HeaderChanged,
    /// A row of the ledger's own tables is not what it was.
    LedgerChanged,
    /// A tile or a bundle is not there, or not whole.
    TileBroken,
    /// Batches of a writer are not in the order of their numbers, or one is missing between them.
    BatchesOutOfOrder,
    /// A row is not what it was.
    RowEdited,
    /// Two rows of a batch changed their places.
    RowsReordered,
    /// A row is not there any more.
    RowMissing,
    /// A row that no batch has.
    RowInserted,
    /// Rows were removed, and the event that tells of it is not there, or tells otherwise.
    RemovalUnrecorded,
    /// Rows were removed that were to be kept.
    RemovalEarly,
    /// The content of rows is gone, and no erasure is recorded that tells of it.
    ErasureUnrecorded,
    /// Some row of a batch is not what it was, and nothing tells which.
    BatchDiffers,
    /// A table that is verified is not what the migrations make, or hides rows.
    TablesChanged,
}

impl Kind {
    /// Returns its name, for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SignatureInvalid => "signature_invalid",
            Self::CheckpointMissing => "checkpoint_missing",
            Self::CheckpointBroken => "checkpoint_broken",
            Self::WitnessMissing => "witness_missing",
            Self::CheckpointStale => "checkpoint_stale",
            Self::TailCut => "tail_cut",
            Self::Restored => "restored",
            Self::Fork => "fork",
            Self::LogDiffers => "log_differs",
            Self::WriterMissing => "writer_missing",
            Self::BatchMissing => "batch_missing",
            Self::HeaderChanged => "header_changed",
            Self::LedgerChanged => "ledger_changed",
            Self::TileBroken => "tile_broken",
            Self::BatchesOutOfOrder => "batches_out_of_order",
            Self::RowEdited => "row_edited",
            Self::RowsReordered => "rows_reordered",
            Self::RowMissing => "row_missing",
            Self::RowInserted => "row_inserted",
            Self::RemovalUnrecorded => "removal_unrecorded",
            Self::RemovalEarly => "removal_early",
            Self::ErasureUnrecorded => "erasure_unrecorded",
            Self::BatchDiffers => "batch_differs",
            Self::TablesChanged => "tables_changed",
        }
    }

    /// Returns what it is, for people.
    fn words(self) -> &'static str {
        match self {
            Self::SignatureInvalid => "signature invalid",
            Self::CheckpointMissing => "checkpoint missing",
            Self::CheckpointBroken => "checkpoint broken",
            Self::WitnessMissing => "witness missing",
            Self::CheckpointStale => "checkpoint stale",
            Self::TailCut => "tail cut",
            Self::Restored => "restored to an earlier state",
            Self::Fork => "fork",
            Self::LogDiffers => "log differs",
            Self::WriterMissing => "writer missing",
            Self::BatchMissing => "batch missing",
            Self::HeaderChanged => "header changed",
            Self::LedgerChanged => "ledger changed",
            Self::TileBroken => "tile broken",
            Self::BatchesOutOfOrder => "batches out of order",
            Self::RowEdited => "row edited",
            Self::RowsReordered => "rows reordered",
            Self::RowMissing => "row missing",
            Self::RowInserted => "row inserted",
            Self::RemovalUnrecorded => "removal unrecorded",
            Self::RemovalEarly => "removal too early",
            Self::ErasureUnrecorded => "erasure unrecorded",
            Self::BatchDiffers => "batch differs",
            Self::TablesChanged => "tables changed",
        }
    }
}

/// What was found, and where.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) table: Option<&'static str>,
    pub(crate) id: Option<Uuid>,
    pub(crate) writer: Option<Uuid>,
    /// The seq of a row, or the first of a batch.
    pub(crate) seq: Option<i64>,
    /// The place of a batch in the log.
    pub(crate) index: Option<i64>,
    /// What else there is to say.
    pub(crate) detail: String,
}

impl Finding {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            table: None,
            id: None,
            writer: None,
            seq: None,
            index: None,
            detail: detail.into(),
        }
    }

    pub(crate) fn of_batch(mut self, writer: Uuid, first_seq: i64, index: Option<i64>) -> Self {
        (self.writer, self.seq, self.index) = (Some(writer), Some(first_seq), index);
        self
    }

    pub(crate) fn of_row(
        mut self,
        table: &'static str,
        id: Option<Uuid>,
        writer: Uuid,
        seq: i64,
    ) -> Self {
        (self.table, self.id, self.writer, self.seq) = (Some(table), id, Some(writer), Some(seq));
        self
    }

    /// Returns it as JSON, as `--json` prints it.
    pub(crate) fn json(&self) -> Value {
        json!({
            "kind": self.kind.name(),
            "table": self.table,
            "id": self.id.map(|id| id.to_string()),
            "writer": self.writer.map(|id| id.to_string()),
            "seq": self.seq,
            "index": self.index,
            "detail": self.detail,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.words())?;
        if let Some(table) = self.table {
            write!(f, ": audit.{table}")?;
        }
        if let Some(id) = self.id {
            write!(f, " id {id}")?;
        }
        if let Some(index) = self.index {
            write!(f, ": entry {index}")?;
        }
        if let (Some(writer), Some(seq)) = (self.writer, self.seq) {
            write!(f, ", writer {writer}, seq {seq}")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}
