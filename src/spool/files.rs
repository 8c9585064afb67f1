//! Operations on the folders and files around a log, one at a time, so that tests can end a process
//! between any two.

use std::fs::{self, File};
use std::io;
use std::path::Path;

#[cfg(not(test))]
fn step<T>(operation: impl FnOnce() -> T) -> T {
    operation()
}

#[cfg(test)]
use self::tests::step;

/// Makes a folder and its parents, for their owner alone: prompts and SQL will be in it.
pub(super) fn create_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    step(|| builder.create(path))
}

/// Makes a folder that does not exist yet, for its owner alone.
pub(super) fn create_one_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    step(|| builder.create(path))
}

pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    step(|| options.open(path))
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step(|| fs::rename(from, to))
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    step(|| fs::remove_file(path))
}

pub(super) fn remove_dir(path: &Path) -> io::Result<()> {
    step(|| fs::remove_dir(path))
}

/// Makes the entries of a folder survive a power loss.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    step(|| File::open(path)?.sync_all())
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};

    thread_local! {
        static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    struct Killed;

    pub(super) fn step<T>(operation: impl FnOnce() -> T) -> T {
        let left = LEFT.get();
        if left == 0 {
            panic_any(Killed);
        }
        LEFT.set(left - 1);
        operation()
    }

    /// Runs `run` as a process that is killed after `operations` operations; `None`: it was killed.
    pub(in crate::spool) fn killed_after<T>(
        operations: usize,
        run: impl FnOnce() -> T,
    ) -> Option<T> {
        LEFT.set(operations);
        let result = catch_unwind(AssertUnwindSafe(run));
        LEFT.set(usize::MAX);
        match result {
            Ok(done) => Some(done),
            Err(panic) if panic.is::<Killed>() => None,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
