//! What a command takes.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// On a core, of the command itself.
    pub(crate) cpu: Duration,
    /// The bytes that it read from files.
    pub(crate) read: u64,
}

impl Cost {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let (cost, output) = Self::of_any(command);
        assert!(output.status.success(), "{command:?}: {output:?}");
        cost
    }

    /// Runs a command to its end, whatever that is.
    pub(crate) fn of_any(command: &mut Command) -> (Self, Output) {
        let (cpu, read, begun) = (cpu(), read(), Instant::now());
        let output = command.output().expect("the program can be started");
        let cost = Self {
            wall: begun.elapsed(),
            cpu: self::cpu().saturating_sub(cpu),
            read: self::read().saturating_sub(read),
        };
        (cost, output)
    }
}

/// Returns the time on a core of all commands that have ended, as Linux counts it.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    // Behind the name: the state is field 3; the fields 16 and 17 are those of children, in hundredths of a second.
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Returns the bytes that this process and all commands that have ended have read.
fn read() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let mut lines = io.lines();
    lines
        .find_map(|line| line.strip_prefix("rchar: ")?.parse().ok())
        .unwrap_or_default()
}
