//! The states of a shard's open spans, by the spans' numbers.
//!
//! A thread has few spans open at once, whose numbers end differently. So nearly all states have a place that their
//! number's last bits name, which is found with fewer instructions than in a map; the map has the others.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::span::SpanState;

/// The states.
#[derive(Debug, Default)]
pub(super) struct Spans {
    places: [Option<(u64, Box<SpanState>)>; PLACES],
    others: HashMap<u64, Box<SpanState>, BuildHasherDefault<ByNumber>>,
}

/// More than the spans that a thread mostly has open at once.
const PLACES: usize = 16;

/// The capacity, in spans, up to which the map is not shrunk.
pub(super) const KEPT_CAPACITY: usize = 1_024;

fn place(number: u64) -> usize {
    usize::try_from(number % PLACES as u64).unwrap_or(0)
}

impl Spans {
    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<&SpanState> {
        match &self.places[place(number)] {
            Some((there, state)) if *there == number => Some(state),
            _ => self.others.get(&number).map(|state| &**state),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut SpanState> {
        match &mut self.places[place(number)] {
            Some((there, state)) if *there == number => Some(state),
            _ => self.others.get_mut(&number).map(|state| &mut **state),
        }
    }

    /// Adds a state. Returns the one that was there for this number.
    #[inline]
    pub(super) fn insert(&mut self, number: u64, state: Box<SpanState>) -> Option<Box<SpanState>> {
        let place = &mut self.places[place(number)];
        match place {
            // One may be in the map for this number, although the place is free by now.
            None if !self.others.contains_key(&number) => {
                *place = Some((number, state));
                None
            }
            Some((there, before)) if *there == number => Some(std::mem::replace(before, state)),
            _ => self.others.insert(number, state),
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, number: u64) -> Option<Box<SpanState>> {
        let is_there = |(there, _): &mut (u64, Box<SpanState>)| *there == number;
        if let Some((_, state)) = self.places[place(number)].take_if(is_there) {
            return Some(state);
        }
        if self.others.is_empty() {
            return None;
        }
        let state = self.others.remove(&number);
        if self.others.is_empty() && self.others.capacity() > KEPT_CAPACITY {
            self.others.shrink_to(KEPT_CAPACITY / 2);
        }
        state
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        let places = self.places.iter().flatten().map(|(number, _)| *number);
        places.chain(self.others.keys().copied())
    }

    #[cfg(feature = "testing")]
    pub(super) fn states(&self) -> impl Iterator<Item = &SpanState> {
        let places = self.places.iter().flatten().map(|(_, state)| &**state);
        places.chain(self.others.values().map(|state| &**state))
    }

    /// Returns how many states the map has memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.others.capacity()
    }
}

/// Hashes the number of a span.
#[derive(Debug, Default)]
struct ByNumber(u64);

impl Hasher for ByNumber {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};
    use uuid::Uuid;

    use super::*;
    use crate::capture::host::Active;
    use crate::limits::Limits;

    fn state(id: u128) -> Box<SpanState> {
        let mut state = SpanState::begin(Limits::default(), None, Active::default());
        state.id = Uuid::from_u128(id);
        state
    }

    /// With numbers of which many share a place.
    #[test]
    fn states_are_found_as_in_one_map() {
        let mut random = SmallRng::seed_from_u64(20);
        let (mut spans, mut expected) = (Spans::default(), BTreeMap::new());
        for id in 0..100_000_u128 {
            let number = random.random_range(1..=PLACES as u64 * 4);
            if random.random_bool(0.5) {
                let before = spans.insert(number, state(id)).map(|before| before.id);
                assert_eq!(before, expected.insert(number, Uuid::from_u128(id)));
            } else {
                let removed = spans.remove(number).map(|removed| removed.id);
                assert_eq!(removed, expected.remove(&number));
            }
            let other = random.random_range(1..=PLACES as u64 * 4);
            let there = expected.get(&other).copied();
            assert_eq!(spans.get(other).map(|there| there.id), there);
            assert_eq!(spans.get_mut(other).map(|there| there.id), there);
        }
        let mut numbers: Vec<_> = spans.numbers().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, expected.keys().copied().collect::<Vec<_>>());
    }
}
