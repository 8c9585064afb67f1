//! Local logs that no running program looks after: which there are, and draining them.
//!
//! For a host that is retired or a volume that is left; a program drains what earlier ones left in its folder by itself.
//! The command line is `tracing-audit spool`.
//!
//! ```no_run
//! use tracing_audit::local_log;
//!
//! for log in local_log::list("/var/lib/app/audit".as_ref())? {
//!     println!("{}: {:?}", log.folder.display(), log.state);
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::config::Builder;
use crate::delivery::commit::Progress;
use crate::delivery::required::Required;
use crate::error::BuildError;
use crate::pipeline;
use crate::report;
use crate::sink::postgres::drain::Drain;
use crate::spool::{self, Log, Sink, Spool};
use crate::stats::Counters;
use crate::vocabulary::Kind;

/// One log, in the folder of the process that made it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalLog {
    /// The folder of the process.
    pub folder: PathBuf,
    /// The process' writer id, which its rows carry; `None` when the folder's name has none.
    pub writer: Option<Uuid>,
    /// When the process began, by its own clock.
    pub began: Option<SystemTime>,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Who has it, or what is in it.
    pub state: LogState,
}

/// What is known of a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LogState {
    /// A running process has it. What is in it cannot be read.
    InUse {
        /// That process, where the system tells it (Linux).
        pid: Option<u32>,
    },
    /// No process has it.
    Free(Contents),
    /// It was set aside as damaged, by a program that wanted to take it over. It is never drained by itself.
    SetAside,
    /// It cannot be read.
    Unreadable {
        /// Whether its bytes are damaged.
        is_damaged: bool,
        /// Why, in one line.
        why: String,
    },
}

/// What is in a log that no process has. Never what the records say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Contents {
    /// The service that wrote it.
    pub service: String,
    /// Records that Postgres has not had, as far as the log knows: it may have had some more.
    pub for_postgres: u64,
    /// Records that the export has not had.
    pub for_export: u64,
    /// The number of the first record that is stored, and the one after the last.
    pub seqs: (u64, u64),
    /// Records that are stored of each kind.
    pub kinds: Vec<(Kind, u64)>,
    /// When the oldest and the newest record began that Postgres has not had.
    pub since: Option<(SystemTime, SystemTime)>,
}

/// What became of a log that was to be drained.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drained {
    /// All that it held is in Postgres, and it is removed.
    Removed {
        /// Records that were written now.
        records: u64,
        /// Records that were still to be exported: they are in Postgres alone.
        unexported: u64,
    },
    /// There was nothing in it.
    Empty,
    /// A running process has it, which drains it by itself.
    InUse,
}

/// Why a log was not drained. What was not written is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// The database cannot be used as it is named.
    #[error(transparent)]
    Database(#[from] BuildError),
    /// The log cannot be read, or its folder is not this user's.
    #[error("the local log cannot be drained: {why}")]
    Log {
        /// Why, in one line.
        why: String,
    },
    /// It was damaged and has another name now.
    #[error("the local log is damaged and was set aside; written before of it: {}", report::records(*.records))]
    SetAside {
        /// Records that were written before.
        records: u64,
    },
    /// All that it holds is in Postgres, which does not agree with what was written before: it was restored to an earlier
    /// state, say. The log stays, so that a program tells that in the trail.
    #[error(
        "the database has lost records of this log, or has others: what the log still holds is written ({}), and it stays \
         until a program that starts with its folder has put a row audit.gap into the trail",
        report::records(*.records)
    )]
    Disputed {
        /// Records that were written now.
        records: u64,
    },
    /// Postgres does not take the records.
    #[error("{why}; written: {}, the others are kept", report::records(*.written))]
    Postgres {
        /// Why, in one line; holds no value of the host's.
        why: String,
        /// Records that were written before.
        written: u64,
    },
    /// The system refused a thread or a runtime.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

/// Returns the folders below which this user's programs keep their logs where nothing is set, as far as they are there.
pub fn default_roots() -> Vec<PathBuf> {
    spool::root::default_roots()
}

/// Lists the logs in a folder, the oldest first; a folder that is a log itself is the only one.
///
/// Nothing is changed: not even what a crash left open in a log. A log that is looked at while a program starts is not taken
/// over by that program.
///
/// # Errors
///
/// What the system says when the folder cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<LocalLog>> {
    if writer_of(folder).is_some() {
        return Ok(vec![look(folder)?]);
    }
    // What whoever looks calls `.` may be a log.
    let named = std::fs::canonicalize(folder)?;
    if writer_of(&named).is_some() {
        return Ok(vec![look(&named)?]);
    }
    let mut folders: Vec<_> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| writer_of(path).is_some())
        .collect();
    folders.sort_by_key(|path| writer_of(path));
    // One that was just removed is not there.
    Ok(folders.iter().filter_map(|path| look(path).ok()).collect())
}

const ASIDE: &str = "damaged-";

/// The writer that a folder is named for.
fn writer_of(folder: &Path) -> Option<Uuid> {
    let name = folder.file_name()?.to_str()?;
    Uuid::try_parse(name.strip_prefix(ASIDE).unwrap_or(name)).ok()
}

fn look(folder: &Path) -> io::Result<LocalLog> {
    let found = std::fs::symlink_metadata(folder)?;
    let writer = writer_of(folder);
    let file = folder.join(spool::directory::LOG_FILE);
    let state = if found.is_dir() {
        state(folder, &file)
    } else {
        LogState::Unreadable {
            is_damaged: false,
            why: String::from("it is a link or a file, not a folder"),
        }
    };
    Ok(LocalLog {
        folder: folder.to_owned(),
        writer,
        began: writer.and_then(time_of),
        bytes: std::fs::symlink_metadata(file).map_or(0, |file| file.len()),
        state,
    })
}

fn state(folder: &Path, file: &Path) -> LogState {
    let is_aside = folder
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(ASIDE));
    if is_aside {
        return LogState::SetAside;
    }
    let unreadable = |why: &dyn std::error::Error, is_damaged| LogState::Unreadable {
        is_damaged,
        why: crate::error::causes(why),
    };
    let lock = match spool::directory::open_lock_to_look(folder) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return LogState::Unreadable {
                is_damaged: false,
                why: String::from("there is no log in it"),
            };
        }
        Err(error) => return unreadable(&error, false),
    };
    // Shared: a process that wants the log waits for those who look at it.
    match lock.try_lock_shared() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return LogState::InUse { pid: holder(&lock) },
        Err(std::fs::TryLockError::Error(error)) => return unreadable(&error, false),
    }
    if let Err(error) = spool::directory::check_plain(file) {
        return unreadable(&error, false);
    }
    let read = Log::open_to_read(file).and_then(|log| contents(&log));
    match read {
        Ok(contents) => LogState::Free(contents),
        Err(error) => unreadable(&error, error.is_damage()),
    }
}

/// The process that holds a lock, as Linux tells it.
#[cfg(target_os = "linux")]
fn holder(lock: &std::fs::File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = format!(":{}", lock.metadata().ok()?.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.nth(1)? == "FLOCK").then_some(())?;
        let pid = words.nth(2)?.parse().ok()?;
        words.next()?.ends_with(&inode).then_some(pid)
    })
}

#[cfg(not(target_os = "linux"))]
fn holder(_: &std::fs::File) -> Option<u32> {
    None
}

fn contents(log: &Log) -> Result<Contents, spool::LogError> {
    let mut kinds = Kind::ALL.map(|kind| (kind, 0));
    let mut since: Option<(SystemTime, SystemTime)> = None;
    let position = log.position(Sink::Postgres);
    let mut next = log.first_seq();
    loop {
        let from = next;
        next = log.read(from, |record| {
            if let Some((code, id)) = crate::record::encode::kind_and_id(record.frame) {
                if let Some(kind) = Kind::ALL.iter().position(|kind| kind.code() == code) {
                    kinds[kind].1 += 1;
                }
                if record.seq >= position
                    && let Some(at) = time_of(id)
                {
                    let (oldest, newest) = since.unwrap_or((at, at));
                    since = Some((oldest.min(at), newest.max(at)));
                }
            }
            ControlFlow::Continue(())
        })?;
        if next == from {
            break;
        }
    }
    Ok(Contents {
        service: log.service().to_owned(),
        for_postgres: log.waiting(Sink::Postgres),
        for_export: log.waiting(Sink::Otlp),
        seqs: (log.first_seq(), log.next_seq()),
        kinds: kinds.to_vec(),
        since,
    })
}

/// The time in a UUID of version 7.
fn time_of(id: Uuid) -> Option<SystemTime> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// A log that cannot be had, and what to do where the system is in the way.
fn cannot_drain(error: &dyn std::error::Error, system: Option<&io::Error>) -> DrainError {
    let advice = match system.map(io::Error::kind) {
        Some(io::ErrorKind::ReadOnlyFilesystem) => {
            ": a log is changed and removed as it is drained; mount the volume for writing, or copy the folder and drain the copy"
        }
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            ": make room there, or copy the folder to where there is some and drain the copy"
        }
        _ => "",
    };
    DrainError::Log {
        why: format!("{}{advice}", crate::error::causes(error)),
    }
}

/// Writes what is left of a log into Postgres, as a program does that takes it over, and removes it.
///
/// Runs that were open when the process died get a record with the error code `process_lost`. Nothing else is made in the
/// folder that the log lies in. `written` is told how many records were written so far. Blocks the thread, which must not be
/// one of a runtime's.
///
/// # Durability
///
/// Each record is written once, however often this is called and whenever it is killed: the position lies in Postgres.
///
/// # Errors
///
/// [`DrainError`]. After a fault that may pass it is tried for some seconds again.
pub fn drain(log: &Path, url: &str, mut written: impl FnMut(u64)) -> Result<Drained, DrainError> {
    let log = &match log.file_name() {
        Some(_) => log.to_owned(),
        // `.` has no name and no parent.
        None => std::fs::canonicalize(log).map_err(|error| cannot_drain(&error, Some(&error)))?,
    };
    let config = Builder::default().postgres(url).migrate(false).config()?;
    let config = Arc::new(config);
    let taken = Spool::take_over(log);
    let spool = match taken.map_err(|error| cannot_drain(&error, error.io()))? {
        Some(spool) => spool,
        None if log.exists() => return Ok(Drained::InUse),
        None => return Ok(Drained::Empty),
    };
    let unexported = spool.log().waiting(Sink::Otlp);
    let counters = Arc::new(Counters::new(config.batch.age));
    let is_aside = Arc::new(AtomicBool::new(false));
    let is_disputed = Arc::new(AtomicBool::new(false));
    let (damaged, disputed) = (Arc::clone(&is_aside), Arc::clone(&is_disputed));
    let drain = Drain::of_one(
        Arc::clone(&config),
        Arc::new(Progress::new(Arc::clone(&counters))),
        Arc::clone(&counters),
        Arc::new(spool),
        Arc::new(Required::new([false; Kind::ALL.len()])),
        Box::new(move |_, told| {
            // What calls back is a dispute, else it is damage.
            let flag = if told.is_some() { &disputed } else { &damaged };
            flag.store(true, Ordering::Relaxed);
        }),
    );
    let records = Mutex::new(0);
    let mut told = |more: u64| {
        let mut records = records
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *records += more;
        written(*records);
    };
    let done = pipeline::runtime()
        .map_err(DrainError::Runtime)?
        .block_on(drain.run_one(&mut told));
    let records = records.into_inner().unwrap_or_default();
    match done {
        _ if is_aside.load(Ordering::Relaxed) => Err(DrainError::SetAside { records }),
        Err(why) => Err(DrainError::Postgres {
            why,
            written: records,
        }),
        Ok(()) if is_disputed.load(Ordering::Relaxed) => Err(DrainError::Disputed { records }),
        Ok(()) if log.exists() => Err(DrainError::Log {
            why: String::from("it cannot be read any further, or not be removed"),
        }),
        Ok(()) => Ok(Drained::Removed {
            records,
            unexported,
        }),
    }
}
