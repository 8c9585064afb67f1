//! The logins that have begun here and not yet come back from the provider.
//!
//! Each is known by its state, and belongs to the browser that began it. It is good for one return.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use openidconnect::{Nonce, PkceCodeVerifier};

use crate::serve::session::hash;

/// The most at once; the one that began first is forgotten for another.
const MOST: usize = 10_000;

/// How long a login may take at the provider.
pub(super) const LASTS: Duration = Duration::from_mins(10);

/// A login under way.
#[derive(Debug)]
pub(super) struct Login {
    /// The hash of what the browser's cookie must say.
    pub(super) browser: [u8; 32],
    pub(super) nonce: Nonce,
    pub(super) verifier: PkceCodeVerifier,
    /// Where to go afterwards.
    pub(super) next: String,
    pub(super) begun: Instant,
}

/// The logins under way, by the hash of their state.
#[derive(Debug, Default)]
pub(super) struct Pending {
    by_state: Mutex<HashMap<[u8; 32], Login>>,
}

impl Pending {
    /// Remembers a login that begins.
    pub(super) fn add(&self, state: &str, login: Login) {
        let mut logins = self.by_state.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.len() >= MOST {
            let first = logins.iter().min_by_key(|(_, login)| login.begun);
            if let Some(key) = first.map(|(key, _)| *key) {
                logins.remove(&key);
            }
        }
        logins.insert(hash(state), login);
    }

    /// Returns the login of this state, once, to the browser that began it.
    pub(super) fn take(&self, state: &str, browser: &str, now: Instant) -> Option<Login> {
        let key = hash(state);
        let mut logins = self.by_state.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.get(&key)?.browser != hash(browser) {
            return None;
        }
        logins.remove(&key).filter(|login| !login.is_over(now))
    }

    /// Forgets the logins that took too long.
    pub(super) fn clean(&self, now: Instant) {
        let mut logins = self.by_state.lock().unwrap_or_else(PoisonError::into_inner);
        logins.retain(|_, login| !login.is_over(now));
    }
}

impl Login {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) >= LASTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(browser: &str, begun: Instant) -> Login {
        Login {
            browser: hash(browser),
            nonce: Nonce::new(String::from("n")),
            verifier: PkceCodeVerifier::new(String::from("v")),
            next: String::from("/"),
            begun,
        }
    }

    #[test]
    fn login_comes_back_once_to_its_browser_within_ten_minutes() {
        let pending = Pending::default();
        let now = Instant::now();
        pending.add("a", login("one", now));
        assert!(pending.take("b", "one", now).is_none());
        assert!(pending.take("a", "two", now).is_none());
        assert!(pending.take("a", "one", now).is_some());
        assert!(pending.take("a", "one", now).is_none());

        pending.add("c", login("one", now));
        let late = now + LASTS;
        assert!(pending.take("c", "one", late).is_none());
        pending.add("d", login("one", now));
        pending.clean(late);
        assert!(pending.by_state.lock().unwrap().is_empty());
    }

    #[test]
    fn first_login_is_forgotten_when_there_are_too_many() {
        let pending = Pending::default();
        let begun = Instant::now();
        let at = |n: usize| begun + Duration::from_millis(n.try_into().unwrap());
        for n in 0..=MOST {
            pending.add(&n.to_string(), login("one", at(n)));
        }
        assert_eq!(pending.by_state.lock().unwrap().len(), MOST);
        assert!(pending.take("0", "one", begun).is_none());
        assert!(pending.take("1", "one", begun).is_some());
        assert!(pending.take(&MOST.to_string(), "one", begun).is_some());
    }
}
