//! What passed the redactor: the only records that can be stored.
//!
//! The spool accepts [`Passed`] and [`PassedRun`], and only this file makes them: from records that
//! went through the rules, or from those that were stored before. Without rules, passing costs
//! nothing: the records are moved as they are.

#[cfg(feature = "redact")]
use std::sync::Arc;

#[cfg(feature = "redact")]
use super::{counts::Counts, engine::Engine};
use crate::record::frames::Frames;
use crate::record::lost;

/// Records that passed the redactor.
#[derive(Debug)]
pub(crate) struct Passed(Frames);

impl Passed {
    /// Takes records that are stored already, read back from a log.
    pub(crate) fn stored(frames: Frames) -> Self {
        Self(frames)
    }

    pub(crate) fn into_frames(self) -> Frames {
        self.0
    }
}

impl std::ops::Deref for Passed {
    type Target = Frames;

    fn deref(&self) -> &Frames {
        &self.0
    }
}

/// The frame of a run that has begun, which passed the redactor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PassedRun(Vec<u8>);

impl PassedRun {
    /// Takes a frame as it is, in tests of the log.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn stored(frame: Vec<u8>) -> Self {
        Self(frame)
    }

    pub(crate) fn frame(&self) -> &[u8] {
        &self.0
    }

    /// Makes the record of a run whose end was not seen; `None`: this is no frame of a run. What has
    /// passed once must not pass again: the hash of a value is not the hash of its hash.
    pub(crate) fn into_lost(self, error_code: &str) -> Option<Passed> {
        let frame = lost::lost(&self.0, error_code)?;
        let mut frames = Frames::default();
        frames.push(&frame);
        Some(Passed(frames))
    }
}

/// Applies the rules of a pipeline to each record, once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// `None`: there are no rules.
    #[cfg(feature = "redact")]
    engine: Option<Arc<Engine>>,
}

impl Rules {
    #[cfg(feature = "redact")]
    pub(super) fn of(engine: Engine) -> Self {
        Self {
            engine: Some(Arc::new(engine)),
        }
    }

    /// Returns what the rules did, if there are any.
    #[cfg(feature = "redact")]
    pub(crate) fn counts(&self) -> Option<&Arc<Counts>> {
        self.engine.as_deref().map(Engine::counts)
    }

    /// Passes records.
    pub(crate) fn pass(&self, frames: Frames) -> Passed {
        #[cfg(feature = "redact")]
        if let Some(engine) = &self.engine {
            return Passed(engine.frames(frames));
        }
        let _ = self;
        Passed(frames)
    }

    /// Passes the frame of a run that has begun.
    pub(crate) fn pass_run(&self, frame: Vec<u8>) -> PassedRun {
        #[cfg(feature = "redact")]
        if let Some(engine) = &self.engine {
            return PassedRun(engine.run(frame));
        }
        let _ = self;
        PassedRun(frame)
    }

    /// Counts records that a log has stored.
    pub(crate) fn count_stored(&self, records: u64) {
        #[cfg(feature = "redact")]
        if let Some(engine) = &self.engine {
            engine.counts().count_stored(records);
        }
        #[cfg(not(feature = "redact"))]
        let _ = (self, records);
    }
}
