//! What it costs to hand a record over to the worker, by the crate's own queue and by two others. See
//! `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded")]

#[allow(dead_code, unused_imports, reason = "the bench uses a part of it")]
#[path = "../src/fork.rs"]
mod fork;
#[allow(dead_code, unused_imports, reason = "the bench uses a part of it")]
#[path = "../src/queue.rs"]
mod queue;
#[allow(dead_code, reason = "the bench uses a part of it")]
#[path = "../src/record"]
mod record {
    pub(crate) mod frames;
}
#[path = "../src/sync.rs"]
mod sync;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use crossbeam_queue::ArrayQueue;
use testkit::benches;
use testkit::benches::watch::Watch;

/// The default bounds of the crate's queue.
const MAX_RECORDS: usize = 65_536;
const MAX_BYTES: usize = 16 * 1024 * 1024;

const RECORD: [u8; 450] = [7; 450];

/// Records that a thread hands over in a burst; the bursts of all threads fit into every queue.
const BURST: usize = 1_500;

/// Bursts in a round. The first ones warm up and are not counted.
const BURSTS: usize = 15;
const WARM_UP: usize = 3;

/// On so many threads.
const THREADS: [usize; 4] = [1, 2, 4, 16];

/// A bounded hand-off of records, whose memory is used again.
trait HandOff: Sync {
    /// Writes a record and hands it over; whether there was room.
    fn push(&self, record: &[u8]) -> bool;

    /// Appends all that was handed over to what would be written to the spool; returns how many records that were.
    fn drain(&self, entry: &mut Vec<u8>) -> usize;

    /// Waits for a record, if this hand-off can.
    fn wait(&self, _entry: &mut Vec<u8>) -> usize {
        0
    }
}

impl HandOff for queue::Queue {
    fn push(&self, record: &[u8]) -> bool {
        let write = |out: &mut Vec<u8>| out.extend_from_slice(record);
        queue::Queue::push(self, record.len(), Duration::ZERO, write).is_ok()
    }

    fn drain(&self, entry: &mut Vec<u8>) -> usize {
        let mut buffers = Vec::new();
        let _ = queue::Queue::drain(self, &mut buffers);
        let mut records = 0;
        for buffer in buffers {
            records += buffer.records;
            entry.extend_from_slice(&buffer.bytes);
            self.recycle(buffer.bytes);
        }
        usize::try_from(records).unwrap_or(usize::MAX)
    }
}

/// A buffer for each record, and a second queue by which the buffers come back.
struct Array {
    records: ArrayQueue<Vec<u8>>,
    spare: ArrayQueue<Vec<u8>>,
}

/// Writes a record into a spare buffer.
fn written(spare: Option<Vec<u8>>, record: &[u8]) -> Vec<u8> {
    let mut bytes = spare.unwrap_or_default();
    bytes.extend_from_slice(record);
    bytes
}

/// Appends a record to `entry` behind its length, and empties its buffer.
fn taken(entry: &mut Vec<u8>, mut bytes: Vec<u8>) -> Vec<u8> {
    entry.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    entry.extend_from_slice(&bytes);
    bytes.clear();
    bytes
}

impl HandOff for Array {
    fn push(&self, record: &[u8]) -> bool {
        self.records.push(written(self.spare.pop(), record)).is_ok()
    }

    fn drain(&self, entry: &mut Vec<u8>) -> usize {
        let mut records = 0;
        while let Some(bytes) = self.records.pop() {
            records += 1;
            let _ = self.spare.push(taken(entry, bytes));
        }
        records
    }
}

/// The same by channels.
struct Channel {
    records: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    spare: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
}

impl HandOff for Channel {
    fn push(&self, record: &[u8]) -> bool {
        self.records
            .0
            .try_send(written(self.spare.1.try_recv().ok(), record))
            .is_ok()
    }

    fn drain(&self, entry: &mut Vec<u8>) -> usize {
        let mut records = 0;
        while let Ok(bytes) = self.records.1.try_recv() {
            records += 1;
            let _ = self.spare.0.try_send(taken(entry, bytes));
        }
        records
    }

    fn wait(&self, entry: &mut Vec<u8>) -> usize {
        let Ok(bytes) = self.records.1.recv_timeout(Duration::from_millis(5)) else {
            return 0;
        };
        let _ = self.spare.0.try_send(taken(entry, bytes));
        1
    }
}

/// How the consumer learns of records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Consumer {
    /// It looks every 5 ms, as the crate's worker does.
    Sleeps,
    /// It looks all the time.
    Polls,
    /// It is woken.
    Waits,
}

/// A hand-off's name, and how a new one is made: for each measurement, so that none has the spare buffers of another.
type Peer = (&'static str, fn() -> Box<dyn HandOff>);

const PEERS: [Peer; 3] = [
    ("tracing-audit", || {
        Box::new(queue::Queue::new(MAX_RECORDS, MAX_BYTES))
    }),
    ("crossbeam-queue", || {
        Box::new(Array {
            records: ArrayQueue::new(MAX_RECORDS),
            spare: ArrayQueue::new(MAX_RECORDS),
        })
    }),
    ("crossbeam-channel", || {
        Box::new(Channel {
            records: crossbeam_channel::bounded(MAX_RECORDS),
            spare: crossbeam_channel::bounded(MAX_RECORDS),
        })
    }),
];

/// Which hand-off, and how the consumer learns of records.
type Line = (usize, Consumer);

const LINES: [Line; 7] = [
    (0, Consumer::Sleeps),
    (1, Consumer::Sleeps),
    (2, Consumer::Sleeps),
    (2, Consumer::Waits),
    (0, Consumer::Polls),
    (1, Consumer::Polls),
    (2, Consumer::Polls),
];

fn main() {
    let cases: Vec<_> = (0..LINES.len())
        .flat_map(|line| THREADS.map(|threads| (line, threads)))
        .collect();
    let mut drained = vec![Vec::new(); LINES.len()];
    let pushed = benches::alternate(&cases, |&(line, threads)| {
        let (peer, learns) = LINES[line];
        let (push, drain) = measure(PEERS[peer].1().as_ref(), learns, threads);
        drained[line].push(drain);
        push
    });

    println!(
        "\nns on a core for each record of {} bytes: writing it and handing it over; reading it",
        RECORD.len()
    );
    let head = [
        "1 thread",
        "2 threads",
        "4 threads",
        "16 threads",
        "1, / ours",
        "2, / ours",
        "4, / ours",
        "16, / ours",
        "consumer",
    ];
    benches::row("", &head.map(str::to_owned));
    for ((line, (peer, consumer)), pushed_by) in
        LINES.iter().enumerate().zip(pushed.chunks(THREADS.len()))
    {
        let ours = LINES.iter().rposition(|(peer, other)| {
            *peer == 0 && (*other == Consumer::Polls) == (*consumer == Consumer::Polls)
        });
        let ours = &pushed[ours.unwrap_or_default() * THREADS.len()..];
        let mut cells: Vec<_> = pushed_by
            .iter()
            .map(|figures| format!("{:.0}", benches::median(figures)))
            .collect();
        cells.extend(pushed_by.iter().zip(ours).map(|(theirs, ours)| {
            format!(
                "{:.2}",
                benches::paired(theirs, ours, |theirs, ours| theirs / ours)
            )
        }));
        if *consumer != Consumer::Polls {
            cells.push(format!("{:.0}", benches::median(&drained[line])));
        }
        benches::row(
            &format!("{}, consumer {}", PEERS[*peer].0, consumer.says()),
            &cells,
        );
    }
}

impl Consumer {
    fn says(self) -> &'static str {
        match self {
            Self::Sleeps => "looks every 5 ms",
            Self::Polls => "always looks",
            Self::Waits => "is woken",
        }
    }
}

/// Nanoseconds on a core for each record: of the threads that hand over, and of the consumer.
fn measure(peer: &dyn HandOff, consumer: Consumer, threads: usize) -> (f64, f64) {
    let (barrier, taken, done) = (
        Barrier::new(threads),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    std::thread::scope(|scope| {
        let consuming = scope.spawn(|| {
            let mut entry = Vec::with_capacity(MAX_BYTES);
            let watch = Watch::start();
            while !done.load(Ordering::Relaxed) {
                consume(peer, consumer, &mut entry, &taken);
            }
            watch.elapsed()
        });
        let pushing = |_| {
            scope.spawn(|| {
                (1..=BURSTS)
                    .map(|burst| {
                        barrier.wait();
                        let watch = Watch::start();
                        for _ in 0..BURST {
                            if !peer.push(black_box(&RECORD)) {
                                // A panic would leave the other threads waiting for this one.
                                println!("the queue is full");
                                std::process::exit(1);
                            }
                        }
                        let took = watch.elapsed();
                        while taken.load(Ordering::Relaxed) < burst * threads * BURST {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        took
                    })
                    .skip(WARM_UP)
                    .collect::<Vec<_>>()
            })
        };
        let pushing: Vec<_> = (0..threads).map(pushing).collect();
        let bursts: Vec<_> = pushing
            .into_iter()
            .flat_map(|thread| thread.join().expect("the thread ends"))
            .map(|took| took.as_secs_f64() * 1e9 / BURST as f64)
            .collect();
        done.store(true, Ordering::Relaxed);
        let drained = consuming.join().expect("the consumer ends");
        (
            benches::median(&bursts),
            drained.as_secs_f64() * 1e9 / (threads * BURSTS * BURST) as f64,
        )
    })
}

fn consume(peer: &dyn HandOff, consumer: Consumer, entry: &mut Vec<u8>, taken: &AtomicUsize) {
    entry.clear();
    let records = match consumer {
        Consumer::Waits => peer.wait(entry) + peer.drain(entry),
        _ => peer.drain(entry),
    };
    black_box(&entry);
    taken.fetch_add(records, Ordering::Relaxed);
    match consumer {
        Consumer::Sleeps => std::thread::sleep(Duration::from_millis(5)),
        Consumer::Polls if records == 0 => std::hint::spin_loop(),
        _ => {}
    }
}
