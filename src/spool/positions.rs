//! The position of each sink in the log.

/// A reader of the log. Its name is part of the format: frozen, version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Postgres,
    Otlp,
}

impl Sink {
    /// All sinks; a record stays until none of them needs it.
    pub(crate) const ALL: [Self; 2] = [Self::Postgres, Self::Otlp];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Otlp => "otlp",
        }
    }
}

/// The seq of the next record that each sink needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Positions([u64; Sink::ALL.len()]);

impl Positions {
    /// The position of a sink that is not set up: it needs no record.
    pub(crate) const NOTHING: u64 = u64::MAX;

    /// Postgres needs every record, and no other sink is set up.
    pub(crate) const BEGINNING: Self = Self([1, Self::NOTHING]);

    #[must_use]
    pub(crate) fn with(mut self, sink: Sink, position: u64) -> Self {
        self.0[sink as usize] = position;
        self
    }

    pub(crate) fn of(self, sink: Sink) -> u64 {
        self.0[sink as usize]
    }

    /// Returns the least position: no sink needs the records before it.
    pub(super) fn least(self) -> u64 {
        self.0.into_iter().min().unwrap_or(1)
    }
}
