//! Who is logged in: a random token in a cookie, and what it stands for in memory.
//!
//! Nothing is stored: sessions end with the process. The token itself is not kept, only its hash, so
//! that a memory dump of the map is no key to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::answer::Refusal;
use super::viewer::Viewer;

/// The most sessions at once; the one that was idle longest ends for another.
const MOST: usize = 10_000;

/// The most sessions of one person; the one that was idle longest ends for another, so that nobody
/// ends the sessions of others.
const MOST_OF_VIEWER: usize = 20;

/// How long a session lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    /// After the last page.
    pub(super) idle: Duration,
    /// After the login.
    pub(super) whole: Duration,
}

/// The sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    lifetime: Lifetime,
    by_token: Mutex<HashMap<[u8; 32], Session>>,
}

/// One session.
#[derive(Debug)]
struct Session {
    viewer: Arc<Viewer>,
    begun: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, lifetime: Lifetime) -> bool {
        self.begun.elapsed() >= lifetime.whole || self.used.elapsed() >= lifetime.idle
    }
}

impl Sessions {
    pub(super) fn new(lifetime: Lifetime) -> Self {
        Self {
            lifetime,
            by_token: Mutex::default(),
        }
    }

    /// Begins a session; returns its token, for the cookie.
    pub(super) fn begin(&self, viewer: Viewer) -> Result<String, Refusal> {
        let token = random_token()?;
        let now = Instant::now();
        let session = Session {
            viewer: Arc::new(viewer),
            begun: now,
            used: now,
        };
        let mut sessions = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| !session.is_over(self.lifetime));
        let is_same = |other: &Session| {
            other.viewer.name == session.viewer.name && other.viewer.way == session.viewer.way
        };
        while sessions.values().filter(|other| is_same(other)).count() >= MOST_OF_VIEWER {
            let oldest = sessions.iter().filter(|(_, other)| is_same(other));
            let oldest = oldest.min_by_key(|(_, other)| other.used);
            let Some(key) = oldest.map(|(key, _)| *key) else {
                break;
            };
            sessions.remove(&key);
        }
        if sessions.len() >= MOST {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                sessions.remove(&key);
            }
        }
        sessions.insert(hash(&token), session);
        Ok(token)
    }

    /// Returns whose session it is; `None` if there is none, or it is over.
    pub(super) fn viewer(&self, token: &str) -> Option<Arc<Viewer>> {
        let key = hash(token);
        let mut sessions = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&key)?;
        if session.is_over(self.lifetime) {
            sessions.remove(&key);
            return None;
        }
        session.used = Instant::now();
        Some(Arc::clone(&session.viewer))
    }

    /// Whether the session goes on; does not count as use.
    pub(super) fn is_alive(&self, token: &str) -> bool {
        let sessions = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(&hash(token));
        session.is_some_and(|session| !session.is_over(self.lifetime))
    }

    /// Ends a session.
    pub(super) fn end(&self, token: &str) {
        let mut sessions = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&hash(token));
    }

    /// Ends the sessions that are over, and closes connections that nobody uses.
    pub(super) fn clean(&self) {
        let mut sessions = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| !session.is_over(self.lifetime));
        for session in sessions.values() {
            session.viewer.connections.close_idle();
        }
    }
}

/// Returns 32 random bytes, as 64 hexadecimal digits.
pub(super) fn random_token() -> Result<String, Refusal> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::NoRandom)?;
    Ok(hex(&bytes))
}

/// Returns the hash of a token.
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Whether two secrets are the same, in a time that tells nothing of where they differ.
pub(super) fn is_same_secret(left: &str, right: &str) -> bool {
    // The hashes of different texts share a prefix by chance alone.
    hash(left) == hash(right)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
