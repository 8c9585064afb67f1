//! Time on a core, which others that share the machine do not lengthen.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::median;

/// Measures the time that this thread has on a core, without the time in which others have it; on systems that do not
/// say that, the time that passes.
#[derive(Debug)]
pub struct Watch(Instant, Option<Duration>);

impl Watch {
    /// Starts to measure.
    pub fn start() -> Self {
        let on_core = thread_time();
        Self(Instant::now(), on_core)
    }

    /// Returns the time since the start.
    pub fn elapsed(&self) -> Duration {
        static OVERHEAD: LazyLock<f64> = LazyLock::new(|| {
            let empty = || Some(-(thread_time()?.as_secs_f64() - thread_time()?.as_secs_f64()));
            median(
                &(0..99)
                    .map(|_| empty().unwrap_or_default())
                    .collect::<Vec<_>>(),
            )
        });
        let passed = self.0.elapsed();
        let on_core = self
            .1
            .and_then(|before| Some(thread_time()?.saturating_sub(before)));
        on_core.map_or(passed, |time| {
            time.saturating_sub(Duration::from_secs_f64(*OVERHEAD))
        })
    }
}

/// The time that this thread has had on a core, which Linux brings up to date when the thread leaves it.
fn thread_time() -> Option<Duration> {
    std::thread::sleep(Duration::from_nanos(1));
    run_time(Path::new("/proc/thread-self/schedstat"))
}

/// The time that the pipeline's threads in this process have run.
pub fn pipeline_time() -> Option<Duration> {
    let threads = fs::read_dir("/proc/self/task")
        .ok()?
        .filter_map(Result::ok)
        .map(|thread| thread.path());
    let ours = threads.filter(|thread| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.starts_with("tracing-audit"))
    });
    ours.map(|thread| run_time(&thread.join("schedstat"))).sum()
}

/// The time that a thread has run, by its `schedstat`.
pub fn run_time(schedstat: &Path) -> Option<Duration> {
    schedstat_field(schedstat, 0)
}

/// The time that this thread has waited for a core, while it could have run.
pub fn time_waited() -> Option<Duration> {
    schedstat_field(Path::new("/proc/thread-self/schedstat"), 1)
}

fn schedstat_field(schedstat: &Path, number: usize) -> Option<Duration> {
    let text = fs::read_to_string(schedstat).ok()?;
    Some(Duration::from_nanos(
        text.split_whitespace().nth(number)?.parse().ok()?,
    ))
}
