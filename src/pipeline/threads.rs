//! The pipeline's threads: each is started, has a runtime if it needs one, and runs again after a
//! panic, since its work is in the spool.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::error::BuildError;
use crate::own_threads::{is_worker_thread, mark_worker_thread};
use crate::stats::Counters;

/// How long a thread that was told to stop may take before it is abandoned.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(2);

/// The pause before a worker that panicked is restarted; it doubles with each panic.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause. A worker that ran for longer than this starts again with the first one.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How often a pausing thread checks whether it must stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

thread_local! {
    /// The place of this worker thread's last panic.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Installs a panic hook that notes where a worker panics. The host's hook still runs, for all
/// threads, ours included; other threads pay for the check of a flag.
pub(super) fn note_panics() {
    static NOTED: Once = Once::new();
    if std::thread::panicking() {
        // The hook cannot be changed now.
        return;
    }
    NOTED.call_once(|| {
        let hosts = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if is_worker_thread() {
                let place = panic.location().map(ToString::to_string);
                let _ = PLACE.try_with(|last| last.set(place));
            }
            hosts(panic);
        }));
    });
}

/// The pause before the next restart.
#[derive(Debug)]
pub(super) struct Pause(Duration);

/// The panics of one worker.
#[derive(Debug)]
pub(super) struct Panics {
    pause: Pause,
    /// The places of the panics; each is logged once.
    places: HashSet<String>,
}

impl Panics {
    pub(super) fn new() -> Self {
        Self {
            pause: Pause::FIRST,
            places: HashSet::new(),
        }
    }

    /// Counts a panic of this thread after it ran for `ran`, and logs its place. Returns how long
    /// to wait, and the fault as a sentence.
    pub(super) fn count(&mut self, counters: &Counters, ran: Duration) -> (Duration, String) {
        counters.count_restart();
        let place = PLACE
            .take()
            .unwrap_or_else(|| String::from("an unknown place"));
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        let fault = format!(
            "the thread {thread} panicked at {place} and is started again, after a pause that grows to a minute: please report it"
        );
        if self.places.insert(place.clone()) {
            say(place);
        }
        (self.pause.after(ran), fault)
    }
}

impl Pause {
    pub(super) const FIRST: Self = Self(FIRST_PAUSE);

    /// Returns the pause after a worker ran for `ran`.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran > LONGEST_PAUSE {
            self.0 = FIRST_PAUSE;
        }
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// Runs a worker until it ends; after each panic, calls `panicked` and runs it again.
pub(super) fn supervise(
    counters: &Counters,
    should_stop: impl Fn() -> bool,
    panicked: impl Fn(&str),
    mut run: impl FnMut(),
) {
    let mut panics = Panics::new();
    loop {
        let began = Instant::now();
        if std::panic::catch_unwind(AssertUnwindSafe(&mut run)).is_ok() {
            return;
        }
        let (pause, fault) = panics.count(counters, began.elapsed());
        panicked(&fault);
        let until = Instant::now() + pause;
        loop {
            if should_stop() {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

/// Logs that a worker panicked, and where, once for each place. The panic message is not repeated:
/// it may contain a value of the host's.
fn say(place: String) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or_default().to_owned();
    crate::report::say(move || {
        tracing::error!(
            target: "tracing_audit",
            thread,
            place,
            "audit trail: a worker thread panicked and starts again after a pause of up to a minute; no record is lost. \
             Please report it"
        );
    });
}

/// Polls both futures until either is done.
pub(super) async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|context| {
        if one.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        other.as_mut().poll(context)
    })
    .await;
}

/// The runtime of a sink's thread. It can be dropped anywhere, and waits for nothing: a tokio runtime
/// panics when it is dropped in a host's async code, where a start that fails drops it, and waits
/// for a name lookup that still runs.
#[derive(Debug)]
pub(crate) struct SinkRuntime(Option<Runtime>);

impl SinkRuntime {
    /// Makes the runtime.
    pub(crate) fn new() -> io::Result<Self> {
        has_handles_for_a_runtime()?;
        // It panics if it gets no file handles for its signals, and this is the host's thread.
        let made = std::panic::catch_unwind(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        });
        let made = made.unwrap_or_else(|_| Err(io::Error::other("tokio could not make a runtime")));
        made.map(|runtime| Self(Some(runtime)))
    }
}

impl Deref for SinkRuntime {
    type Target = Runtime;

    #[allow(clippy::expect_used)]
    fn deref(&self) -> &Runtime {
        // INVARIANT: only `drop` takes it out.
        self.0.as_ref().expect("it is there until the drop")
    }
}

impl Drop for SinkRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Checks that the process may open as many files as a runtime does, so that it need not panic: the
/// host's hook would report that, and a program that is built to abort would end.
#[cfg(unix)]
fn has_handles_for_a_runtime() -> io::Result<()> {
    // Two for the selector, one for its waker, three for signals.
    let pair = || std::os::unix::net::UnixStream::pair();
    let _held = [pair()?, pair()?, pair()?];
    Ok(())
}

#[cfg(not(unix))]
fn has_handles_for_a_runtime() -> io::Result<()> {
    Ok(())
}

/// Starts one of the library's own threads.
pub(super) fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, BuildError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            mark_worker_thread();
            run();
        })
        .map_err(BuildError::Thread)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns where `work` panics on a worker's thread.
    pub(in crate::pipeline) fn place_of(work: fn()) -> String {
        std::thread::spawn(move || {
            mark_worker_thread();
            let _ = std::panic::catch_unwind(work);
            PLACE.take().unwrap_or_default()
        })
        .join()
        .unwrap_or_default()
    }
}
