//! Runs the queue of the library through every way in which its threads can come together, up to
//! a number of preemptions: `LOOM_MAX_PREEMPTIONS`, or 5.

#[allow(dead_code, unreachable_pub)]
#[path = "../../../src/fork.rs"]
mod fork;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../src/queue.rs"]
mod queue;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../src/record"]
mod record {
    pub mod frames;
}
mod sync;

use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use self::queue::{Queue, Refused};

/// A record of its own for each thread and count.
fn record(thread: u8, count: u8) -> [u8; 2] {
    [thread, count]
}

fn push(queue: &Queue, bytes: &[u8]) -> Result<(), Refused> {
    queue.push(bytes.len(), Duration::ZERO, |out| {
        out.extend_from_slice(bytes)
    })
}

/// Returns whether all were taken.
fn drain(queue: &Queue, into: &mut Vec<Vec<u8>>) -> bool {
    let mut buffers = Vec::new();
    let are_all = queue.drain(&mut buffers);
    for buffer in buffers {
        assert_eq!(buffer.iter().count() as u64, buffer.records);
        into.extend(buffer.iter().map(<[u8]>::to_vec));
        queue.recycle(buffer.bytes);
    }
    are_all
}

/// Starts a thread that prefers the shard of its number.
fn spawn<T: 'static>(number: usize, run: impl FnOnce() -> T + 'static) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        sync::set_thread_number(number);
        run()
    })
}

/// Two threads that each hand over two records; what was accepted.
fn producers(queue: &Arc<Queue>) -> [thread::JoinHandle<Vec<[u8; 2]>>; 2] {
    [0, 1].map(|number| {
        let queue = Arc::clone(queue);
        spawn(number, move || {
            let records = [0, 1].map(|count| record(number as u8, count));
            let pushed = records
                .into_iter()
                .filter(|record| match push(&queue, record) {
                    Ok(()) => true,
                    Err(refused) => {
                        assert!(matches!(refused, Refused::Full | Refused::Closed));
                        false
                    }
                });
            pushed.collect()
        })
    })
}

/// Each was accepted and drained once, in the order of its thread where a shard has it.
fn assert_same(mut accepted: Vec<[u8; 2]>, mut drained: Vec<Vec<u8>>) {
    accepted.sort_unstable();
    drained.sort_unstable();
    let accepted: Vec<_> = accepted.iter().map(|record| record.to_vec()).collect();
    assert_eq!(accepted, drained);
}

fn every_accepted_record_is_drained_once() {
    let queue = Arc::new(Queue::with_shards(2, 100, 1_000));
    let threads = producers(&queue);
    let mut drained = Vec::new();
    assert!(drain(&queue, &mut drained));
    let accepted: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(accepted.len(), 4, "there is room");
    assert!(drain(&queue, &mut drained));
    assert_eq!(queue.accepted(), 4);
    assert_eq!(queue.size(), (0, 0));
    assert_same(accepted, drained);
}

/// With one shard, a thread waits for whoever has it.
fn after_it_was_closed_nothing_is_accepted_and_all_before_is_drained(shards: usize) {
    let queue = Arc::new(Queue::with_shards(shards, 100, 1_000));
    let threads = producers(&queue);
    queue.close();
    // What the worker does at the end: nothing comes after this.
    let mut drained = Vec::new();
    assert!(drain(&queue, &mut drained));
    let accepted_by_then = queue.accepted();
    assert_eq!(accepted_by_then, drained.len() as u64);
    assert_eq!(push(&queue, b"late"), Err(Refused::Closed));
    let accepted: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(queue.accepted(), accepted_by_then);
    assert_same(accepted, drained);
}

fn the_bounds_hold() {
    let queue = Arc::new(Queue::with_shards(2, 2, 1_000));
    let threads = producers(&queue);
    let accepted: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(accepted.len(), 2, "one for each shard");
    assert_eq!(push(&queue, b"x"), Err(Refused::Full));
    let mut drained = Vec::new();
    assert!(drain(&queue, &mut drained));
    assert_same(accepted, drained);
    assert_eq!(push(&queue, b"x"), Ok(()));
}

/// Each thread has one record that is larger than a share.
fn large(queue: &Arc<Queue>) -> [thread::JoinHandle<bool>; 2] {
    [0, 1].map(|number| {
        let queue = Arc::clone(queue);
        spawn(number, move || push(&queue, &[7; 40]).is_ok())
    })
}

fn one_record_larger_than_a_share_is_taken_at_a_time() {
    let queue = Arc::new(Queue::with_shards(2, 100, 64));
    let taken = large(&queue).map(|thread| thread.join().unwrap());
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    assert!(drain(&queue, &mut Vec::new()));
    assert_eq!(push(&queue, &[7; 40]), Ok(()), "there is none any more");
}

fn a_drain_makes_room_for_one_larger_than_a_share_and_no_more() {
    let queue = Arc::new(Queue::with_shards(2, 100, 64));
    let threads = large(&queue);
    let mut drained = Vec::new();
    assert!(drain(&queue, &mut drained));
    let taken = threads.map(|thread| thread.join().unwrap());
    let (left, _) = queue.size();
    assert!(left <= 1, "{left} are there at once");
    let more = push(&queue, &[7; 40]);
    assert_eq!(more.is_ok(), left == 0);
    assert!(drain(&queue, &mut drained));
    let taken = taken.iter().filter(|taken| **taken).count() + usize::from(more.is_ok());
    assert_eq!(drained.len(), taken);
    assert_eq!(push(&queue, &[7; 40]), Ok(()), "there is none any more");
}

fn who_waits_for_room_has_it_when_the_queue_was_drained() {
    let queue = Arc::new(Queue::with_shards(1, 1, 1_000));
    push(&queue, b"x").unwrap();
    let waiting = {
        let queue = Arc::clone(&queue);
        spawn(0, move || {
            queue.push(1, Duration::from_hours(1), |out| out.push(b'y'))
        })
    };
    let mut drained = Vec::new();
    assert!(drain(&queue, &mut drained));
    assert_eq!(waiting.join().unwrap(), Ok(()));
    assert!(drain(&queue, &mut drained));
    assert_eq!(drained, [b"x", b"y"]);
}

/// A thread that never runs again, as far as the others can tell: until they have ended.
fn a_thread_that_is_suspended_in_the_queue_keeps_nobody() {
    sync::suspend_one(true);
    let queue = Arc::new(Queue::with_shards(2, 100, 1_000));
    let [is_inside, goes_on] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let suspended = {
        let (queue, is_inside, goes_on) = (
            Arc::clone(&queue),
            Arc::clone(&is_inside),
            Arc::clone(&goes_on),
        );
        spawn(0, move || {
            queue.push(1, Duration::ZERO, |out| {
                is_inside.store(true, Ordering::SeqCst);
                while !goes_on.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                out.push(b's');
            })
        })
    };
    while !is_inside.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    // Prefers the same shard.
    let other = {
        let queue = Arc::clone(&queue);
        spawn(0, move || {
            for count in [0, 1] {
                push(&queue, &record(0, count)).unwrap();
            }
        })
    };
    let mut drained = Vec::new();
    assert!(!drain(&queue, &mut drained));
    other.join().unwrap();
    assert!(!drain(&queue, &mut drained));
    assert_eq!(drained, [record(0, 0), record(0, 1)]);
    goes_on.store(true, Ordering::SeqCst);
    assert_eq!(suspended.join().unwrap(), Ok(()));
    assert!(drain(&queue, &mut drained));
    assert_eq!(drained.last().unwrap(), b"s");
    assert_eq!(queue.accepted(), 3);
}

fn main() {
    let models: [(&str, fn()); 8] = [
        (
            "every accepted record is drained once",
            every_accepted_record_is_drained_once,
        ),
        (
            "after it was closed nothing is accepted and all before is drained",
            || after_it_was_closed_nothing_is_accepted_and_all_before_is_drained(2),
        ),
        ("the same where threads wait for one another", || {
            after_it_was_closed_nothing_is_accepted_and_all_before_is_drained(1);
        }),
        ("the bounds hold", the_bounds_hold),
        (
            "one record larger than a share is taken at a time",
            one_record_larger_than_a_share_is_taken_at_a_time,
        ),
        (
            "a drain makes room for one larger than a share and no more",
            a_drain_makes_room_for_one_larger_than_a_share_and_no_more,
        ),
        (
            "who waits for room has it when the queue was drained",
            who_waits_for_room_has_it_when_the_queue_was_drained,
        ),
        (
            "a thread that is suspended in the queue keeps nobody",
            a_thread_that_is_suspended_in_the_queue_keeps_nobody,
        ),
    ];
    for (name, model) in models {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(5));
        let begun = Instant::now();
        let ways = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = std::sync::Arc::clone(&ways);
        builder.check(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            sync::set_thread_number(2);
            sync::suspend_one(false);
            model();
        });
        println!("{name}: {ways:?} ways in {:?}", begun.elapsed());
    }
}
