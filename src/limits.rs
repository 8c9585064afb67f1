//! The limits on the size of a value and of a record.

/// The limits on how much of a value, and of a record, is kept.
///
/// Text over a limit is cut between two characters, and the row's `problems` give the whole length
/// and its sha256, so that the text can still be proven.
///
/// ```
/// let limits = tracing_audit::Limits::default().with_field_bytes(64 * 1024);
/// assert_eq!(limits.field_bytes(), 64 * 1024);
/// assert_eq!(limits.record_bytes(), 4 * 1024 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) field_bytes: usize,
    pub(crate) key_bytes: usize,
    pub(crate) record_bytes: usize,
    /// Whether the bind values of a query are kept at all; set by
    /// [`Builder::record_parameters`](crate::Builder::record_parameters).
    pub(crate) parameters: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            field_bytes: 1024 * 1024,
            key_bytes: 1024,
            record_bytes: 4 * 1024 * 1024,
            parameters: false,
        }
    }
}

impl Limits {
    /// The smallest limit that can be set, in bytes.
    pub const MIN_BYTES: usize = 256;

    /// The largest limit that can be set, in bytes: below what a `jsonb` string and one message of
    /// the Postgres protocol can hold.
    pub const MAX_BYTES: usize = 128 * 1024 * 1024;

    /// Sets how many bytes of a text, or of a field that goes into `metadata`, are kept. Default 1
    /// MiB, range [`MIN_BYTES`](Self::MIN_BYTES) to [`MAX_BYTES`](Self::MAX_BYTES); a value outside
    /// the range is clamped to it.
    #[must_use]
    pub fn with_field_bytes(mut self, bytes: usize) -> Self {
        self.field_bytes = bytes.clamp(Self::MIN_BYTES, Self::MAX_BYTES);
        self
    }

    /// Sets how many bytes of a record's texts and `metadata` fields are kept in total. Default 4
    /// MiB, range as for [`with_field_bytes`](Self::with_field_bytes). Identifiers, numbers, the
    /// status and the beginning of an error's message are kept however long these are.
    #[must_use]
    pub fn with_record_bytes(mut self, bytes: usize) -> Self {
        self.record_bytes = bytes.clamp(Self::MIN_BYTES, Self::MAX_BYTES);
        self
    }

    /// Returns how many bytes of one text are kept.
    pub fn field_bytes(&self) -> usize {
        self.field_bytes
    }

    /// Returns how many bytes of an identifier (`request_id`, `user_id`, `error_code`, …) are kept:
    /// 1 KiB, so that it can be indexed.
    pub fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// Returns how many bytes of a record are kept.
    pub fn record_bytes(&self) -> usize {
        self.record_bytes
    }
}
