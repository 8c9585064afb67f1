//! The bounded hand-off of records from the application's threads to the worker, in which no thread
//! waits for another.
//!
//! A thread appends the bytes of a closed span to one of a few shared buffers; each thread prefers
//! a buffer of its own. It takes a buffer with `try_lock`. If that fails, another thread holds the
//! buffer for the time of a `memcpy`, and the thread tries the next one. The worker takes whole
//! buffers.
//!
//! **No thread blocks on another.** Wherever in it a thread is suspended, it holds one buffer at the
//! most: others take the next one, and the worker takes all but that one. There are four buffers for
//! each core, and 8 at the least. Only if as many threads are suspended at once, each within its
//! `memcpy`, does another have to wait, as for a full queue; it tries again, and never sleeps until
//! one of them wakes it.
//!
//! Compared with a queue of records, only one cache line travels between cores for each
//! buffer rather than several for each record, the record's own memory stays with the thread that
//! made it, and no counter is shared: each buffer has its share of the bounds. `benches/handoff.rs`
//! measures it against `crossbeam-queue` and `crossbeam-channel`, `checks/queue` checks every
//! interleaving of its threads.

use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use crate::fork::Process;
use crate::record::frames::Frames;
use crate::sync::{
    AtomicBool, AtomicU64, LOOKS, Locked, Ordering, PAUSE, TryLock, lock_within_a_moment, sleep,
    thread_number,
};

/// The size of a buffer, unless it holds one large record: with what the spool adds, just below one
/// of the spool's pages of 64 KiB.
pub(crate) const BUFFER_BYTES: usize = 60 * 1024;

/// The bounded hand-off.
pub(crate) struct Queue {
    shards: Box<[CachePadded<Shard>]>,
    /// Empty buffers for the application's threads, so that these do not allocate.
    spare: ArrayQueue<Vec<u8>>,
    /// Each shard's share of the bounds.
    share_bytes: usize,
    share_records: u64,
    /// How often the queue was drained.
    drains: AtomicU64,
    /// The count of drains at which a thread waited in vain: no other thread waits until the next
    /// drain.
    in_vain: AtomicU64,
    /// Whether the queue holds a record that is larger than a shard's share.
    oversized: AtomicBool,
    closed: AtomicBool,
    process: Process,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never shows the records: their contents are the host's.
        let (records, bytes) = self.size();
        f.debug_struct("Queue")
            .field("records", &records)
            .field("bytes", &bytes)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Shard {
    held: TryLock<Held>,
    /// The number of records ever accepted. Written by the thread that holds the shard.
    accepted: AtomicU64,
}

#[derive(Default)]
struct Held {
    current: Frames,
    full: Vec<Frames>,
    bytes: usize,
    records: u64,
    /// Whether one of the records is larger than a share.
    oversized: bool,
}

/// Why a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There was no room within the time to wait.
    Full,
    /// The pipeline was shut down, or belongs to another process.
    Closed,
}

/// Why no buffer was taken.
enum NotNow {
    /// There is no room.
    Full,
    /// The buffers with room are held by other threads.
    Held,
    Closed,
}

/// How long a thread tries to take a buffer, if all with room are held: longer than the scheduler
/// keeps a thread waiting for a core.
const HELD_UP: Duration = Duration::from_millis(300);

impl Queue {
    /// Creates a queue that holds at most about this many records and bytes.
    pub(crate) fn new(max_records: usize, max_bytes: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let shards = (cores * 4).clamp(8, 64).next_power_of_two();
        Self::with_shards(shards, max_records, max_bytes)
    }

    /// Creates such a queue with this many shards, a power of two.
    pub(crate) fn with_shards(shards: usize, max_records: usize, max_bytes: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
            spare: ArrayQueue::new(shards * 2 + 32),
            share_bytes: (max_bytes / shards).max(1),
            share_records: (max_records as u64 / shards as u64).max(1),
            drains: AtomicU64::new(0),
            in_vain: AtomicU64::new(u64::MAX),
            oversized: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            process: Process::current(),
        }
    }

    /// Hands over a frame of `len` bytes, which `write` appends to the given buffer. Waits for room
    /// for at most `wait`; once a wait was in vain, no thread waits until the worker drains the
    /// queue, so that a disk that hangs delays the application once, not at each record.
    pub(crate) fn push(
        &self,
        len: usize,
        wait: Duration,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Refused> {
        match self.try_hold(len) {
            Ok(held) => {
                self.append(held, len, write);
                Ok(())
            }
            Err(NotNow::Closed) => Err(Refused::Closed),
            Err(NotNow::Full) if wait.is_zero() => Err(Refused::Full),
            Err(NotNow::Full | NotNow::Held) => {
                let held = self.hold_within(len, wait)?;
                self.append(held, len, write);
                Ok(())
            }
        }
    }

    fn append(
        &self,
        (shard, mut held): (&Shard, Locked<'_, Held>),
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if held.current.bytes.len() + len + 4 > held.current.bytes.capacity() {
            let room = BUFFER_BYTES.max(len + 4);
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.reserve(room);
            let full = std::mem::replace(&mut held.current, Frames { bytes, records: 0 });
            if full.records > 0 {
                held.full.push(full);
            }
        }
        let buffer = &mut held.current.bytes;
        buffer.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        let at = buffer.len();
        write(buffer);
        debug_assert_eq!(
            buffer.len() - at,
            len,
            "a frame has the length that was announced"
        );
        held.oversized |= len > self.share_bytes;
        held.current.records += 1;
        held.records += 1;
        held.bytes += len + 4;
        shard.accepted.store(
            shard.accepted.load(Ordering::Relaxed) + 1,
            Ordering::Relaxed,
        );
    }

    /// Locks a shard with room for `len` bytes.
    fn try_hold(&self, len: usize) -> Result<(&Shard, Locked<'_, Held>), NotNow> {
        let mask = self.shards.len() - 1;
        let preferred = thread_number();
        let mut is_one_held = false;
        for step in 0..=mask {
            let shard = &*self.shards[(preferred + step) & mask];
            let Some(held) = shard.held.try_lock() else {
                is_one_held = true;
                continue;
            };
            // ORDERING: Relaxed; `close` has locked the shard since it was set, or a thread held it.
            if self.closed.load(Ordering::Relaxed) {
                return Err(NotNow::Closed);
            }
            if self.has_room(&held, len) {
                return Ok((shard, held));
            }
        }
        Err(if is_one_held {
            NotNow::Held
        } else {
            NotNow::Full
        })
    }

    /// Returns whether a record may be appended; if it is larger than a share, reserves its place.
    fn has_room(&self, held: &Held, len: usize) -> bool {
        if len > self.share_bytes {
            // A record larger than a share is alone in its shard, and there is only one in the
            // queue, so that one such record, and not one for each shard, can exceed the bound.
            return held.records == 0 && !self.oversized.swap(true, Ordering::Relaxed);
        }
        held.records < self.share_records && held.bytes + len <= self.share_bytes
    }

    #[cold]
    fn hold_within(
        &self,
        len: usize,
        wait: Duration,
    ) -> Result<(&Shard, Locked<'_, Held>), Refused> {
        if self.process.is_forked() {
            return Err(Refused::Closed);
        }
        let begun = Instant::now();
        let mut looks = 0;
        loop {
            let drains = self.drains.load(Ordering::Relaxed);
            // Not parked: that would consume a token that the host's code waits for.
            match self.try_hold(len) {
                Ok(held) => return Ok(held),
                Err(NotNow::Closed) => return Err(Refused::Closed),
                // For the time of a memcpy, mostly.
                Err(NotNow::Held) if looks < LOOKS => {
                    looks += 1;
                    std::hint::spin_loop();
                }
                Err(NotNow::Held) if begun.elapsed() < wait.max(HELD_UP) => sleep(PAUSE),
                Err(NotNow::Held) => return Err(Refused::Full),
                Err(NotNow::Full)
                    if wait.is_zero() || self.in_vain.load(Ordering::Relaxed) == drains =>
                {
                    return Err(Refused::Full);
                }
                Err(NotNow::Full) if begun.elapsed() >= wait => {
                    self.in_vain.store(drains, Ordering::Relaxed);
                    return Err(Refused::Full);
                }
                Err(NotNow::Full) => sleep(Duration::from_micros(200)),
            }
        }
    }

    /// Takes all records that were handed over so far. Returns `false` if those of a shard are left
    /// to the next call, because a thread that is suspended holds it.
    #[must_use]
    pub(crate) fn drain(&self, into: &mut Vec<Frames>) -> bool {
        self.drains.fetch_add(1, Ordering::Relaxed);
        let mut are_all = true;
        // At the end there is nobody else to serve, and a thread that is only slow gets its moment.
        let moments = if self.closed.load(Ordering::Relaxed) {
            20
        } else {
            1
        };
        for shard in &self.shards {
            let held = (0..moments).find_map(|_| lock_within_a_moment(&shard.held));
            let Some(mut held) = held else {
                are_all = false;
                continue;
            };
            if held.records == 0 {
                continue;
            }
            let bytes = self.spare.pop().unwrap_or_default();
            let current = std::mem::replace(&mut held.current, Frames { bytes, records: 0 });
            into.append(&mut held.full);
            if current.records > 0 {
                into.push(current);
            }
            held.bytes = 0;
            held.records = 0;
            if std::mem::take(&mut held.oversized) {
                // Not a store: loom knows no order between one and the swaps of other threads.
                self.oversized.swap(false, Ordering::Relaxed);
            }
        }
        are_all
    }

    /// Returns a drained buffer's memory to the queue.
    pub(crate) fn recycle(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= 2 * BUFFER_BYTES {
            bytes.clear();
            // If there are enough spare buffers, this one is freed.
            let _ = self.spare.push(bytes);
        }
    }

    /// Refuses every record from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for shard in &self.shards {
            // Whoever locks it from now on sees that.
            drop(lock_within_a_moment(&shard.held));
        }
    }

    /// Returns how many records were ever accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.accepted.load(Ordering::Relaxed))
            .sum()
    }

    /// Returns the records and bytes that wait in the queue, perhaps without what a thread is
    /// appending.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.shards
            .iter()
            .filter_map(|shard| shard.held.try_lock())
            .fold((0, 0), |(records, bytes), held| {
                (records + held.records, bytes + held.bytes as u64)
            })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn push(queue: &Queue, bytes: &[u8]) -> Result<(), Refused> {
        queue.push(bytes.len(), Duration::ZERO, |out| {
            out.extend_from_slice(bytes);
        })
    }

    fn frames(buffers: &[Frames]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for buffer in buffers {
            let mut rest = &buffer.bytes[..];
            while let Some((len, after)) = rest.split_first_chunk::<4>() {
                let (frame, after) = after.split_at(u32::from_le_bytes(*len) as usize);
                frames.push(frame.to_vec());
                rest = after;
            }
        }
        frames
    }

    #[test]
    fn every_record_of_every_thread_is_drained_once() {
        const EACH: u32 = 20_000;
        let queue = Queue::new(1_000_000, 1 << 30);
        let mut buffers = Vec::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4_u32)
                .map(|thread| {
                    let queue = &queue;
                    scope.spawn(move || {
                        for count in 0..EACH {
                            let mut bytes = thread.to_le_bytes().to_vec();
                            bytes.extend_from_slice(&count.to_le_bytes());
                            push(queue, &bytes).unwrap();
                        }
                    })
                })
                .collect();
            while !threads
                .iter()
                .all(std::thread::ScopedJoinHandle::is_finished)
            {
                let _ = queue.drain(&mut buffers);
            }
        });
        assert!(queue.drain(&mut buffers));
        assert_eq!(queue.accepted(), u64::from(4 * EACH));
        assert_eq!(queue.size(), (0, 0));
        let mut seen = frames(&buffers);
        assert_eq!(seen.len(), 4 * EACH as usize);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 4 * EACH as usize);
        assert_eq!(
            buffers.iter().map(|buffer| buffer.records).sum::<u64>(),
            u64::from(4 * EACH)
        );
    }

    #[test]
    fn thread_that_is_suspended_while_it_holds_a_buffer_keeps_nobody() {
        let queue = Queue::with_shards(8, 1_000, 1 << 20);
        let (is_inside, goes_on) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            let suspended = scope.spawn(|| {
                queue.push(1, Duration::ZERO, |out| {
                    is_inside.wait();
                    goes_on.wait();
                    out.push(b's');
                })
            });
            is_inside.wait();
            // Each of the others prefers another buffer; the held one is preferred by one of them.
            for thread in 0..16_u8 {
                let pushed = scope.spawn(|| push(&queue, b"x")).join().unwrap();
                assert_eq!(pushed, Ok(()), "{thread}");
            }
            let mut buffers = Vec::new();
            assert!(!queue.drain(&mut buffers));
            assert_eq!(frames(&buffers), vec![b"x".to_vec(); 16]);
            queue.close();
            assert_eq!(push(&queue, b"x"), Err(Refused::Closed));
            goes_on.wait();
            assert_eq!(suspended.join().unwrap(), Ok(()));
            assert!(queue.drain(&mut buffers));
            assert_eq!(queue.accepted(), 17);
        });
    }

    #[test]
    fn full_queue_refuses_records_until_it_is_drained() {
        let queue = Queue::new(64, 1 << 20);
        let mut taken = 0;
        while push(&queue, b"x").is_ok() {
            taken += 1;
            assert!(taken <= 64);
        }
        assert_eq!(taken, 64);
        assert_eq!(push(&queue, b"x"), Err(Refused::Full));
        let mut buffers = Vec::new();
        assert!(queue.drain(&mut buffers));
        assert_eq!(frames(&buffers).len(), 64);
        assert_eq!(push(&queue, b"x"), Ok(()));
    }

    #[test]
    fn byte_limit_holds_except_for_a_single_large_record() {
        let queue = Queue::new(1_000, 8_192);
        let large = vec![7; 100_000];
        assert_eq!(push(&queue, &large), Ok(()));
        while push(&queue, &[0; 200]).is_ok() {}
        let (_, bytes) = queue.size();
        assert!(bytes <= 8_192 + 100_004, "{bytes}");
        assert_eq!(push(&queue, &large), Err(Refused::Full), "no second one");
        let mut buffers = Vec::new();
        assert!(queue.drain(&mut buffers));
        assert!(frames(&buffers).contains(&large));
    }

    #[test]
    fn blocked_push_succeeds_when_the_worker_drains() {
        let queue = Queue::new(8, 1 << 20);
        while push(&queue, b"x").is_ok() {}
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| queue.push(1, Duration::from_secs(30), |out| out.push(b'y')));
            assert!(queue.drain(&mut Vec::new()));
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn after_a_push_times_out_no_push_blocks_until_the_worker_drains() {
        let queue = Queue::new(8, 1 << 20);
        while push(&queue, b"x").is_ok() {}
        let wait = |limit| queue.push(1, limit, |out| out.push(b'y'));
        assert_eq!(wait(Duration::from_millis(1)), Err(Refused::Full));
        // Would take an hour.
        assert_eq!(wait(Duration::from_hours(1)), Err(Refused::Full));
        assert!(queue.drain(&mut Vec::new()));
        assert_eq!(wait(Duration::from_hours(1)), Ok(()));
    }

    #[test]
    fn closed_queue_refuses_records() {
        let queue = Queue::new(8, 1 << 20);
        push(&queue, b"x").unwrap();
        queue.close();
        assert_eq!(push(&queue, b"x"), Err(Refused::Closed));
        assert_eq!(queue.accepted(), 1);
    }
}
