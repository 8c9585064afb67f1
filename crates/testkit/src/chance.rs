//! What differs from run to run.

use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime};

use crate::trail::PATIENCE;
use crate::wait_until;

/// Numbers that differ from run to run, but for what `TRACING_AUDIT_SEED` begins with. A failing test prints it.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins with another number each time, which is printed.
    pub fn new() -> Self {
        let given = std::env::var("TRACING_AUDIT_SEED").ok();
        let seed = given.map_or_else(
            || {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                u64::from(now.unwrap().subsec_nanos()) | 1
            },
            |seed| seed.parse().unwrap(),
        );
        let _ = writeln!(std::io::stderr(), "TRACING_AUDIT_SEED={seed}");
        Self(seed)
    }

    /// Returns the numbers of one of several that run side by side.
    #[must_use]
    pub fn of(&self, number: u64) -> Self {
        Self(
            self.0
                .wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                | 1,
        )
    }

    /// Returns the next number, which is less than the limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Waits for a time that chance has chosen: what is killed is killed anywhere.
pub fn let_run(milliseconds: u64) {
    let until = Instant::now() + Duration::from_millis(milliseconds);
    wait_until("the time has come", PATIENCE, || Instant::now() >= until);
}
