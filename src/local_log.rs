//! Lists and drains local logs that no running program uses.
//!
//! Meant for a retired host or an orphaned volume; a program drains the logs that earlier processes
//! left in its folder by itself. The command line is `tracing-audit spool`.
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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

#[cfg(feature = "otlp")]
use crate::config::otlp::Otlp;
use crate::config::{Builder, activities_of_environment};
use crate::delivery::commit::Progress;
use crate::delivery::export::Export;
use crate::delivery::required::Required;
use crate::error::BuildError;
use crate::pipeline;
use crate::report;
#[cfg(feature = "otlp")]
use crate::sink::otlp;
use crate::sink::postgres::drain::{Drain, NotDrained};
use crate::spool::{self, Log, Sink, Spool};
use crate::stats::Counters;
use crate::vocabulary::Kind;

/// A local log, in the folder of the process that made it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalLog {
    /// The folder of the process.
    pub folder: PathBuf,
    /// The writer id of the process, which its rows carry; `None` if the folder's name holds none.
    pub writer: Option<Uuid>,
    /// When the process started, by its own clock.
    pub began: Option<SystemTime>,
    /// The size of the log on disk, in bytes.
    pub bytes: u64,
    /// Whether a process uses the log, and what is in it.
    pub state: LogState,
}

/// The state of a local log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LogState {
    /// A running process uses the log. Its contents cannot be read.
    InUse {
        /// The id of that process, if the system reports it (Linux).
        pid: Option<u32>,
    },
    /// No process uses the log.
    Free(Contents),
    /// A program that wanted to take over the log found it damaged and set it aside. It is never
    /// drained automatically.
    SetAside,
    /// The log cannot be read.
    Unreadable {
        /// Whether the log's bytes are damaged.
        is_damaged: bool,
        /// The reason, in one line.
        why: String,
    },
}

/// The contents of a log that no process uses, without what its records say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Contents {
    /// The name of the service that wrote the log.
    pub service: String,
    /// The number of records that Postgres has not committed, as far as the log knows: Postgres may
    /// have committed some of them.
    pub for_postgres: u64,
    /// The number of records that were not exported.
    pub for_export: u64,
    /// The number of the first stored record, and the number after the last one.
    pub seqs: (u64, u64),
    /// The number of stored records of each kind.
    pub kinds: Vec<(Kind, u64)>,
    /// The start times of the oldest and the newest record that Postgres has not committed.
    pub since: Option<(SystemTime, SystemTime)>,
}

/// The outcome of draining a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drained {
    /// All records are in Postgres, as rows or as dead letters, and the log is removed.
    Removed {
        /// The number of records that this call wrote.
        records: u64,
        /// The number of records that Postgres refused: they are in `audit.dead_letters`.
        dead_lettered: u64,
        /// The number of records that were not exported, or whose spans the collector refused: they
        /// are in Postgres only.
        unexported: u64,
        /// The number of records that this call exported: the collector accepted their spans.
        exported: u64,
    },
    /// The log held no records.
    Empty,
    /// A running process uses the log and drains it itself.
    InUse,
}

/// Why a log was not drained. Records that were not written are kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// The database settings are not usable.
    #[error(transparent)]
    Database(#[from] BuildError),
    /// The log cannot be read, or its folder does not belong to this user.
    #[error("the local log cannot be drained: {why}")]
    Log {
        /// The reason, in one line.
        why: String,
    },
    /// The log is damaged and was renamed.
    #[error("the local log is damaged and was set aside; {} written before that", report::records(*.records))]
    SetAside {
        /// The number of records that were written before the damage was found.
        records: u64,
    },
    /// All records are in Postgres, but Postgres disagrees with what was committed earlier, for
    /// example because it was restored to an earlier state. The log stays, so that a program can
    /// report this in the trail.
    #[error(
        "the database has lost records of this log, or has others: what the log still holds is written ({}), and it stays \
         until a program that starts with its folder has put a row audit.gap into the trail",
        report::records(*.records)
    )]
    Disputed {
        /// The number of records that this call wrote.
        records: u64,
    },
    /// The database has no record of this log, although records of it were committed. Nothing was
    /// changed, in the database or in the log: see [`drain_after_restore`].
    #[error(
        "{place} has never had a record of this log, of which records are committed: is it the database of the program that \
         wrote it? Nothing was written. If it was restored from a backup that is older than the log, drain with --after-restore"
    )]
    UnknownLog {
        /// Where the database is.
        place: String,
    },
    /// Postgres does not accept the records.
    #[error("{why}; written: {}, the others are kept", report::records(*.written))]
    Postgres {
        /// The reason, in one line; contains no value of the host's.
        why: String,
        /// The number of records that were written before the failure.
        written: u64,
    },
    /// All records are in Postgres, as rows or as dead letters, but not all are exported: the
    /// collector does not accept the spans, or the log cannot be read any further. The log stays.
    #[error(
        "all records are in Postgres, but not all are exported: {why}; exported: {}, the others are kept",
        report::records(*.exported)
    )]
    Export {
        /// The reason, in one line; contains no value of the host's.
        why: String,
        /// The number of records that this call wrote into Postgres.
        records: u64,
        /// The number of records that were exported before the failure.
        exported: u64,
    },
    /// The export settings are not usable.
    #[error("the export settings are not usable")]
    ExportSettings(#[source] BuildError),
    /// The system refused to start a thread or a runtime.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

/// Returns the existing folders below which this user's programs keep their logs by default.
pub fn default_roots() -> Vec<PathBuf> {
    spool::root::default_roots()
}

/// Lists the logs in a folder, the oldest first. If the folder is itself a log, lists only that
/// one.
///
/// Changes nothing: not even what a crash left open in a log. A program that starts meanwhile waits
/// up to 2 s for a log that is being read; after that, it does not take the log over.
///
/// # Errors
///
/// Returns the system's error if the folder cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<LocalLog>> {
    if writer_of(folder).is_some() {
        return Ok(vec![look(folder)?]);
    }
    // The folder that the caller calls `.` may be a log.
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
    // A log that was just removed is left out.
    Ok(folders.iter().filter_map(|path| look(path).ok()).collect())
}

const ASIDE: &str = "damaged-";

/// Returns the writer that a folder is named for.
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
    // Shared: a process that wants the log waits for its readers.
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

/// Returns the process that holds a lock, from `/proc/locks`.
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

/// Returns the time in a UUID of version 7.
fn time_of(id: Uuid) -> Option<SystemTime> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// Returns the error for a log that cannot be opened, with advice if the system is the cause.
fn cannot_drain(error: &dyn std::error::Error, system: Option<&io::Error>) -> DrainError {
    let advice = match system.map(io::Error::kind) {
        Some(io::ErrorKind::ReadOnlyFilesystem) => {
            ": a log is changed and removed as it is drained; mount the volume for writing, or copy the folder and drain the copy"
        }
        Some(
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge,
        ) => ": make room there, or copy the folder to where there is some and drain the copy",
        _ => "",
    };
    DrainError::Log {
        why: format!("{}{advice}", crate::error::causes(error)),
    }
}

/// Writes the remaining records of a log into Postgres, as a program that takes it over does, and
/// removes the log.
///
/// Runs that were open when the process died get a record with the error code `process_lost`.
/// That needs room in the log. Creates nothing else in the folder that contains the log. Calls `written` with the number of
/// records written so far. Blocks the thread, which must not belong to an async runtime.
///
/// # Durability
///
/// Each record is written once, however often this is called and whenever it is killed: the
/// position is stored in Postgres.
///
/// # Errors
///
/// Returns [`DrainError`]. A fault that may pass is retried for some seconds first. A database that
/// should have records of the log and has none is refused: it may be another project's.
pub fn drain(log: &Path, url: &str, written: impl FnMut(u64)) -> Result<Drained, DrainError> {
    drain_into(log, url, false, NO_EXPORT, written)
}

/// Drains a log into a database that was restored from a backup older than the log.
///
/// As [`drain`], which refuses such a database because it cannot tell it from one that the log was
/// never meant for. The caller has to know: into a wrong database, the records go for good.
///
/// # Errors
///
/// Returns [`DrainError`]: [`DrainError::Disputed`] if the database lacks records of the log.
pub fn drain_after_restore(
    log: &Path,
    url: &str,
    written: impl FnMut(u64),
) -> Result<Drained, DrainError> {
    drain_into(log, url, true, NO_EXPORT, written)
}

/// Drains a log into Postgres, then exports what it holds for the export, and removes it.
///
/// As [`drain`], or as [`drain_after_restore`] if `is_restored`. What the log of a program without
/// an export still holds is exported too. Metrics are not. Needs feature `otlp`.
///
/// # Durability
///
/// A log whose spans the collector does not accept stays, with its position: calling this again
/// goes on where it ended. A request whose answer did not come is sent again, with the same span
/// ids.
///
/// # Errors
///
/// Returns [`DrainError`]: [`DrainError::Export`] if requests failed for some seconds, if the
/// collector refuses in a way that only an operator can change, or if the log cannot be read.
///
/// ```no_run
/// use tracing_audit::{Otlp, local_log};
///
/// let collector = Otlp::new("http://localhost:4318");
/// let log = "/var/lib/app/audit/0198c5f2-7e1a-7d52-a6d4-3c1f0a6b2e11".as_ref();
/// local_log::drain_and_export(log, "postgres://app@localhost/app", false, collector, |_| ())?;
/// # Ok::<(), local_log::DrainError>(())
/// ```
#[cfg(feature = "otlp")]
pub fn drain_and_export(
    log: &Path,
    url: &str,
    is_restored: bool,
    otlp: Otlp,
    written: impl FnMut(u64),
) -> Result<Drained, DrainError> {
    let runtime = pipeline::SinkRuntime::new().map_err(DrainError::Runtime)?;
    let export = {
        let _entered = runtime.enter();
        otlp::Exporter::new(otlp.metrics(false)).map_err(DrainError::ExportSettings)?
    };
    let not_exported = |why| ExportedLog {
        why: Some(why),
        ..ExportedLog::default()
    };
    let export_log = |folder: &Path, counters: &Arc<Counters>| {
        let spool = match Spool::take_over(folder) {
            Ok(Some(spool)) => spool,
            Ok(None) if folder.exists() => {
                return not_exported(String::from(
                    "another process has taken the local log over and exports the rest",
                ));
            }
            Ok(None) => return ExportedLog::default(),
            Err(error) => {
                let causes = crate::error::causes(&error);
                return not_exported(format!("the local log cannot be opened: {causes}"));
            }
        };
        let _entered = runtime.enter();
        let drain = export.start_one(counters, Arc::new(spool));
        let why = runtime.block_on(drain.run_one());
        let (exported, refused) = counters.export.outcomes();
        ExportedLog {
            exported,
            refused,
            why,
        }
    };
    let drained = drain_into(log, url, is_restored, Some(export_log), written);
    runtime.block_on(export.shut_down());
    drained
}

/// How far the export of one log has come.
#[derive(Default)]
struct ExportedLog {
    exported: u64,
    refused: u64,
    /// Why some of it was not exported, if so.
    why: Option<String>,
}

/// Exports a log that is in Postgres.
type ExportFn = fn(&Path, &Arc<Counters>) -> ExportedLog;

const NO_EXPORT: Option<ExportFn> = None;

fn drain_into(
    log: &Path,
    url: &str,
    is_restored: bool,
    export_log: Option<impl FnOnce(&Path, &Arc<Counters>) -> ExportedLog>,
    mut written: impl FnMut(u64),
) -> Result<Drained, DrainError> {
    let log = &match log.file_name() {
        Some(_) => log.to_owned(),
        // `.` has no name and no parent.
        None => std::fs::canonicalize(log).map_err(|error| cannot_drain(&error, Some(&error)))?,
    };
    let mut config = Builder::default().postgres(url).migrate(false).config()?;
    // As the program would have written them.
    config.activities = activities_of_environment();
    let config = Arc::new(config);
    let taken = Spool::take_over(log);
    let spool = match taken.map_err(|error| cannot_drain(&error, error.io()))? {
        Some(spool) => spool,
        None if log.exists() => return Ok(Drained::InUse),
        None => return Ok(Drained::Empty),
    };
    let unexported = spool.log().waiting(Sink::Otlp);
    let counters = Arc::new(Counters::new(config.batch.age, config.spool_quota_bytes));
    let export = export_log
        .is_some()
        .then(|| Arc::new(Export::new(Arc::clone(&counters))));
    let is_aside = Arc::new(AtomicBool::new(false));
    let is_disputed = Arc::new(AtomicBool::new(false));
    let (damaged, disputed) = (Arc::clone(&is_aside), Arc::clone(&is_disputed));
    let drain = Drain::of_one(
        Arc::clone(&config),
        Arc::new(Progress::new(Arc::clone(&counters))),
        Arc::clone(&counters),
        Arc::new(spool),
        export.clone(),
        Arc::new(Required::new([false; Kind::ALL.len()])),
        Box::new(move |_, told| {
            // A call with `told` reports a disagreement, one without it reports damage.
            let flag = if told.is_some() { &disputed } else { &damaged };
            flag.store(true, Ordering::Relaxed);
        }),
    );
    let (mut records, mut dead_lettered) = (0, 0);
    let mut told = |rows: u64, refused: u64| {
        records += rows;
        dead_lettered += refused;
        written(records);
    };
    let done = pipeline::SinkRuntime::new()
        .map_err(DrainError::Runtime)?
        .block_on(drain.run_one(is_restored, &mut told));
    match done {
        _ if is_aside.load(Ordering::Relaxed) => Err(DrainError::SetAside { records }),
        Err(NotDrained::Unknown) => Err(DrainError::UnknownLog {
            place: config.postgres.place(),
        }),
        Err(NotDrained::Log(error)) => Err(cannot_drain(&error, error.io())),
        Err(NotDrained::Postgres(why)) => Err(DrainError::Postgres {
            why,
            written: records,
        }),
        Ok(()) if is_disputed.load(Ordering::Relaxed) => Err(DrainError::Disputed { records }),
        Ok(()) => {
            let left = export.and_then(|export| export.take_left(false));
            let ran = match (left, export_log) {
                (Some(folder), Some(export_log)) => Some(export_log(&folder, &counters)),
                _ => None,
            };
            let exported = ran.as_ref().map_or(0, |ran| ran.exported);
            let unexported = ran.as_ref().map_or(unexported, |ran| ran.refused);
            if let Some(why) = ran.and_then(|ran| ran.why) {
                return Err(DrainError::Export {
                    why,
                    records,
                    exported,
                });
            }
            if log.exists() {
                return Err(DrainError::Log {
                    why: String::from("all of it is in Postgres, but its folder cannot be removed"),
                });
            }
            Ok(Drained::Removed {
                records,
                dead_lettered,
                unexported,
                exported,
            })
        }
    }
}
