//! Record ids: `UUIDv7` (RFC 9562, section 5.7) whose time is the start of the span.
//!
//! The 12 bits after the milliseconds are the fraction of the millisecond (section 6.2, method 3),
//! so that ids sort by the microsecond; 62 bits are random. In a record's id, the last hexadecimal
//! digit is the code of its kind and 58 bits are random: an id alone shows whether there is a
//! record to wait for, without a table of all ids.
//!
//! So a primary key on `id` alone suffices for a table that is partitioned by time, and a host's
//! table can refer to it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::vocabulary::Kind;

thread_local! {
    // Seeded from the system once for each thread; no system call after that. The state has 256
    // bits, so that no two threads of a fleet produce the same sequence.
    static RANDOM: RefCell<Random> = RefCell::new(Random::seeded());
}

/// How often the threads were told to reseed their generators.
static SEEDS: AtomicU32 = AtomicU32::new(0);

struct Random {
    generator: SmallRng,
    /// The value of [`SEEDS`] when the generator was seeded.
    seeds: u32,
}

impl Random {
    fn seeded() -> Self {
        Self {
            generator: seeded(),
            seeds: SEEDS.load(Ordering::Relaxed),
        }
    }

    fn next(&mut self) -> u64 {
        if self.seeds != SEEDS.load(Ordering::Relaxed) {
            *self = Self::seeded();
        }
        self.generator.next_u64()
    }
}

/// Makes each thread reseed its generator: processes forked from the same parent share its state.
/// Must be called before a process makes its first id that leaves it.
pub(crate) fn seed_again() {
    SEEDS.fetch_add(1, Ordering::Relaxed);
}

fn seeded() -> SmallRng {
    let mut seed = [0_u8; 32];
    if getrandom::fill(&mut seed).is_err() {
        // Without a system source, use what differs between threads, processes and moments: ids
        // must be unique, not secret.
        let moment = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let place = std::ptr::from_ref(&seed).addr() as u128;
        seed[..16].copy_from_slice(&moment.to_le_bytes());
        seed[16..].copy_from_slice(&(place ^ u128::from(std::process::id()) << 64).to_le_bytes());
    }
    SmallRng::from_seed(seed)
}

/// Makes an id for a time in microseconds since 1970.
///
/// A time before 1970 counts as the start of 1970, one after the year 9999 as its end.
pub(crate) fn new(started_us: i64) -> Uuid {
    let random = RANDOM
        .try_with(|random| random.try_borrow_mut().map(|mut random| random.next()))
        .ok()
        .and_then(Result::ok)
        // The thread is ending and its generator is gone.
        .unwrap_or_else(|| seeded().next_u64());
    let us = clamp_us(started_us).cast_unsigned();
    let (millis, fraction) = (us / 1_000, (us % 1_000) * 4_096 / 1_000);
    let bits = u128::from(millis) << 80
        | 0x7 << 76
        | u128::from(fraction) << 64
        | 0b10 << 62
        | u128::from(random >> 2);
    Uuid::from_u128(bits)
}

/// Makes the id of a record of this kind that began at `started_us`, like [`new`].
pub(crate) fn of_record(kind: Kind, started_us: i64) -> Uuid {
    let bits = new(started_us).as_u128() & !KIND_MASK | u128::from(kind.code());
    Uuid::from_u128(bits)
}

/// Returns the kind of the record with this id; `None`: it is not a record's id.
pub(crate) fn kind(id: Uuid) -> Option<Kind> {
    if id.get_version_num() != 7 {
        return None;
    }
    Kind::from_code(u8::try_from(id.as_u128() & KIND_MASK).unwrap_or(0))
}

/// The bits of a record's id that hold its kind.
const KIND_MASK: u128 = 0xf;

/// The latest time of a record, in microseconds since 1970: the end of the year 9999, the last that
/// every reader of timestamps can read. A `UUIDv7` holds 889 years more.
pub(crate) const MAX_US: i64 = 253_402_300_799_999_999;

/// Clamps a time to the range that an id and a partition can hold.
pub(crate) fn clamp_us(us: i64) -> i64 {
    us.clamp(0, MAX_US)
}

/// Parses a UUID in one of the two forms that `audit.tenant_uuid` accepts.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    if matches!(text.len(), 32 | 36) {
        Uuid::try_parse(text).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_a_uuid_v7_of_the_start_time() {
        let id = new(1_700_000_000_123_456);
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.as_u128() >> 80, 1_700_000_000_123);
    }

    #[test]
    fn record_id_encodes_the_kind() {
        for kind_of_record in Kind::ALL {
            let id = of_record(kind_of_record, 1_700_000_000_123_456);
            assert_eq!(kind(id), Some(kind_of_record));
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.as_u128() >> 80, 1_700_000_000_123);
        }
        assert_eq!(kind(Uuid::nil()), None);
        assert_eq!(kind(Uuid::from_u128(1)), None);
    }

    #[test]
    fn id_clamps_a_time_out_of_range() {
        assert_eq!(new(-5).as_u128() >> 80, 0);
        assert_eq!(new(i64::MAX).as_u128() >> 80, 253_402_300_799_999);
    }

    #[test]
    fn ids_of_one_moment_differ_between_threads() {
        let ids: std::collections::HashSet<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..1_000).map(|_| new(0)).collect::<Vec<_>>()))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(ids.len(), 8_000);
    }
}
