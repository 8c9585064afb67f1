//! Files that are whole or not there: written beside their name, and renamed once nothing is missing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::output::Sink;

/// A file that is written as `NAME.part`; removed on drop unless it was [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct PartFile {
    file: File,
    part: PathBuf,
    name: PathBuf,
    is_kept: bool,
}

/// Why a file cannot be begun.
#[derive(Debug)]
pub(crate) enum BeginError {
    /// It is there.
    Exists,
    /// Somebody writes it, or did until they were killed.
    IsWritten(PathBuf),
    Io(io::Error),
}

impl PartFile {
    /// Begins a file. Nobody else may read it: it has what the trail has.
    pub(crate) fn begin(name: &Path, is_forced: bool) -> Result<Self, BeginError> {
        let part = with_suffix(name, ".part");
        if name.is_dir() {
            return Err(BeginError::Io(io::ErrorKind::IsADirectory.into()));
        }
        if is_forced {
            match fs::remove_file(&part) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(BeginError::Io(error));
                }
                _ => {}
            }
        } else if name.symlink_metadata().is_ok() {
            return Err(BeginError::Exists);
        }
        let mut options = OpenOptions::new();
        // A new one: through a link that somebody left there, it would be written elsewhere.
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&part).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BeginError::IsWritten(part.clone()),
            _ => BeginError::Io(error),
        })?;
        Ok(Self {
            file,
            part,
            name: name.to_owned(),
            is_kept: false,
        })
    }

    /// Returns the name that it is to have.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// Writes bytes.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives it its name, durably.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        fs::rename(&self.part, &self.name)?;
        self.is_kept = true;
        #[cfg(unix)]
        File::open(folder_of(&self.name))?.sync_all()?;
        Ok(())
    }
}

impl Sink for PartFile {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.sync()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed still does not have the name of a whole file.
            let _ = fs::remove_file(&self.part);
        }
    }
}

#[cfg(unix)]
fn folder_of(name: &Path) -> &Path {
    match name.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Returns the name of a file beside this one.
pub(crate) fn with_suffix(name: &Path, suffix: &str) -> PathBuf {
    let mut beside = OsString::from(name);
    beside.push(suffix);
    beside.into()
}

/// Standard output, written by a thread of its own: whoever reads it may take none for long, and an
/// export that waits for them can still be interrupted.
#[derive(Debug)]
pub(crate) struct Stdout {
    chunks: mpsc::Sender<(Vec<u8>, oneshot::Sender<io::Result<()>>)>,
}

impl Stdout {
    pub(crate) fn start() -> io::Result<Self> {
        let (chunks, of_thread) = mpsc::channel::<(Vec<u8>, oneshot::Sender<io::Result<()>>)>();
        std::thread::Builder::new()
            .name(String::from("output"))
            .spawn(move || {
                for (chunk, written) in of_thread {
                    let mut stdout = io::stdout();
                    let result = stdout.write_all(&chunk).and_then(|()| stdout.flush());
                    // Nobody waits for it any more when the export was interrupted.
                    let _ = written.send(result);
                }
            })?;
        Ok(Self { chunks })
    }
}

impl Sink for Stdout {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (written, is_written) = oneshot::channel();
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.chunks
            .send((bytes.to_vec(), written))
            .map_err(|_| gone())?;
        is_written.await.map_err(|_| gone())?
    }

    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
