//! `spool`: lists local logs, shows what they hold, and drains them without the program that wrote
//! them.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tracing_audit::local_log::{self, DrainError, Drained, LocalLog, LogState};
use uuid::Uuid;

use crate::error::Error;
use crate::{SpoolCommand, text};

/// Runs the command.
pub(crate) fn run(command: &SpoolCommand, url: Option<&str>) -> Result<ExitCode, Error> {
    match command {
        SpoolCommand::List { dir, json } => {
            let logs = logs(dir.as_deref())?;
            print(*json, &logs.iter().map(as_json).collect(), || {
                logs.iter().map(line).collect()
            })?;
            if logs.is_empty() {
                return Err(nothing_in(&roots(dir.as_deref())));
            }
            Ok(ExitCode::SUCCESS)
        }
        SpoolCommand::Show { dir, json } => {
            let logs = logs(Some(dir))?;
            let [log] = &logs[..] else {
                if logs.is_empty() {
                    return Err(nothing_in(std::slice::from_ref(dir)));
                }
                return Err(Error::NothingFound(format!(
                    "{} logs are in {}: name the folder of one",
                    logs.len(),
                    dir.display()
                )));
            };
            print(*json, &as_json(log), || story(log))?;
            Ok(ExitCode::SUCCESS)
        }
        SpoolCommand::Drain {
            dir,
            after_restore,
            #[cfg(feature = "otlp")]
            otlp,
            json,
        } => {
            let target = Target {
                url: url.ok_or(Error::NoUrl)?,
                is_restored: *after_restore,
                #[cfg(feature = "otlp")]
                otlp: otlp.then(collector).transpose()?,
            };
            drain(dir, &target, *json)
        }
    }
}

/// Returns the given folder; without one, the default folders of programs' logs.
fn roots(dir: Option<&Path>) -> Vec<PathBuf> {
    match dir {
        Some(dir) => vec![dir.to_owned()],
        None => match std::env::var_os("AUDIT_SPOOL_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => vec![PathBuf::from(dir)],
            None => local_log::default_roots(),
        },
    }
}

/// Returns the logs in a folder; without one, those in the default folders.
fn logs(dir: Option<&Path>) -> Result<Vec<LocalLog>, Error> {
    let mut logs = Vec::new();
    for root in roots(dir) {
        logs.append(&mut local_log::list(&root).map_err(|source| Error::Spool {
            folder: root.display().to_string(),
            source,
        })?);
    }
    Ok(logs)
}

/// Returns the error for folders without a log, naming the subfolders that have some: those may
/// belong to several programs and several databases, so they are not handled together.
fn nothing_in(roots: &[PathBuf]) -> Error {
    if roots.is_empty() {
        return Error::NothingFound(String::from(
            "no program of this user keeps local logs where they are when nothing is set: name their folder",
        ));
    }
    let list = |folders: &[PathBuf]| {
        let named = folders.iter().map(|folder| folder.display().to_string());
        named.collect::<Vec<_>>().join(", ")
    };
    let mut below: Vec<_> = roots
        .iter()
        .flat_map(|root| std::fs::read_dir(root).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| holds_logs(path))
        .collect();
    below.sort();
    let mut text = format!("no local log is in {}", list(roots));
    if !below.is_empty() {
        let _ = write!(
            text,
            "; there are some in {}: name one of these",
            list(&below)
        );
    }
    Error::NothingFound(text)
}

/// Whether the folder contains a folder named like a log.
fn holds_logs(folder: &Path) -> bool {
    let is_log =
        |name: &str| Uuid::try_parse(name.strip_prefix("damaged-").unwrap_or(name)).is_ok();
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_str().is_some_and(is_log))
}

/// Where a drain puts the records.
struct Target<'a> {
    url: &'a str,
    is_restored: bool,
    #[cfg(feature = "otlp")]
    otlp: Option<tracing_audit::Otlp>,
}

impl Target<'_> {
    #[cfg_attr(
        not(feature = "otlp"),
        allow(clippy::unused_self, reason = "as with the feature")
    )]
    fn exports(&self) -> bool {
        #[cfg(feature = "otlp")]
        return self.otlp.is_some();
        #[cfg(not(feature = "otlp"))]
        false
    }

    fn drain(&self, folder: &Path, written: impl FnMut(u64)) -> Result<Drained, DrainError> {
        #[cfg(feature = "otlp")]
        if let Some(otlp) = &self.otlp {
            return local_log::drain_and_export(
                folder,
                self.url,
                self.is_restored,
                otlp.clone(),
                written,
            );
        }
        if self.is_restored {
            local_log::drain_after_restore(folder, self.url, written)
        } else {
            local_log::drain(folder, self.url, written)
        }
    }
}

/// Returns the collector that the environment names.
#[cfg(feature = "otlp")]
fn collector() -> Result<tracing_audit::Otlp, Error> {
    tracing_audit::Otlp::from_env()
        .map_err(Error::Drain)?
        .ok_or(Error::NoCollector)
}

/// Drains each log that no process holds.
fn drain(dir: &Path, target: &Target<'_>, is_json: bool) -> Result<ExitCode, Error> {
    let mut is_left = false;
    let mut told = Vec::new();
    let logs = logs(Some(dir))?;
    let is_empty = logs.is_empty();
    for log in logs {
        if matches!(log.state, LogState::SetAside) {
            is_left = true;
            told.push(outcome(
                &log,
                "set_aside",
                0,
                "it was set aside as damaged: keep it for whoever can read more out of it",
            ));
            continue;
        }
        let mut next = 100_000;
        let written = |written| {
            if written >= next {
                next = written + 100_000;
                crate::complain(&format!(
                    "{}: {written} records written",
                    log.folder.display()
                ));
            }
        };
        told.push(match target.drain(&log.folder, written) {
            Ok(drained @ (Drained::Removed { .. } | Drained::Empty)) => {
                removed(&log, &drained, target.exports())
            }
            Ok(Drained::InUse) => {
                is_left = true;
                outcome(
                    &log,
                    "in_use",
                    0,
                    "a running process has it, which drains it by itself",
                )
            }
            Ok(_) => outcome(&log, "removed", 0, ""),
            Err(DrainError::Database(error) | DrainError::ExportSettings(error)) => {
                return Err(Error::Drain(error));
            }
            Err(error) => {
                is_left = true;
                let exported = match error {
                    DrainError::Export { exported, .. } => exported,
                    _ => 0,
                };
                let records = match error {
                    DrainError::SetAside { records }
                    | DrainError::Disputed { records }
                    | DrainError::Export { records, .. }
                    | DrainError::Postgres {
                        written: records, ..
                    } => records,
                    _ => 0,
                };
                let mut outcome = outcome(&log, "left", records, &error.to_string());
                outcome["exported"] = json!(exported);
                outcome
            }
        });
    }
    print(is_json, &told.iter().cloned().collect(), || {
        told.iter().fold(String::new(), |mut out, told| {
            let word = |name: &str| text::escape_line(told[name].as_str().unwrap_or_default());
            let _ = write!(
                out,
                "{}  {}  {} written",
                word("folder"),
                word("outcome"),
                records(told["records"].as_u64().unwrap_or_default())
            );
            let why = word("why");
            let _ = writeln!(out, "{}{why}", if why.is_empty() { "" } else { "  " });
            out
        })
    })?;
    if is_empty {
        return Err(nothing_in(&[dir.to_owned()]));
    }
    Ok(ExitCode::from(u8::from(is_left)))
}

/// Says what became of a log that is removed.
fn removed(log: &LocalLog, drained: &Drained, exports: bool) -> Value {
    let &Drained::Removed {
        records,
        dead_lettered,
        unexported,
        exported,
    } = drained
    else {
        return outcome(log, "removed", 0, "");
    };
    let mut whys = Vec::new();
    if dead_lettered > 0 {
        whys.push(format!(
            "refused by Postgres, and kept in audit.dead_letters with the reason: {}",
            self::records(dead_lettered)
        ));
    }
    if exported > 0 {
        whys.push(format!("exported: {}", self::records(exported)));
    }
    if unexported > 0 {
        let why = if exports {
            "the collector refused them"
        } else {
            "they were not exported before"
        };
        whys.push(format!(
            "in Postgres alone, since {why}: {}",
            self::records(unexported)
        ));
    }
    let mut told = outcome(log, "removed", records, &whys.join("; "));
    told["dead_lettered"] = json!(dead_lettered);
    told["exported"] = json!(exported);
    told
}

fn records(number: u64) -> String {
    match number {
        1 => String::from("1 record"),
        _ => format!("{number} records"),
    }
}

fn outcome(log: &LocalLog, outcome: &str, records: u64, why: &str) -> Value {
    json!({"folder": log.folder.display().to_string(), "outcome": outcome, "records": records, "dead_lettered": 0, "exported": 0, "why": why})
}

fn print(is_json: bool, value: &Value, text: impl FnOnce() -> String) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    if is_json {
        writeln!(out, "{}", text::escape_json(&value.to_string()))?;
    } else {
        for line in text().lines() {
            writeln!(out, "{}", text::escape(line))?;
        }
    }
    Ok(())
}

/// Formats a log as one line.
fn line(log: &LocalLog) -> String {
    format!(
        "{}  {} bytes  began {}  {}\n",
        text::escape_line(&log.folder.display().to_string()),
        log.bytes,
        utc(log.began),
        text::escape_line(&state(log))
    )
}

/// Formats a log as several lines.
fn story(log: &LocalLog) -> String {
    let mut out = format!(
        "{}\n  began        {}\n  bytes        {}\n",
        text::escape_line(&log.folder.display().to_string()),
        utc(log.began),
        log.bytes
    );
    let _ = writeln!(out, "  state        {}", text::escape_line(&state(log)));
    if let LogState::Free(held) = &log.state {
        let (first, next) = held.seqs;
        let _ = writeln!(out, "  service      {}", text::escape_line(&held.service));
        let _ = writeln!(out, "  numbers      {first} to {}", next - 1);
        for (kind, records) in &held.kinds {
            let _ = writeln!(out, "  {:<12} {records}", kind.table_name());
        }
        if let Some((oldest, newest)) = held.since {
            let _ = writeln!(
                out,
                "  waiting      from {} to {}",
                utc(Some(oldest)),
                utc(Some(newest))
            );
        }
    }
    out
}

fn state(log: &LocalLog) -> String {
    match &log.state {
        LogState::InUse { pid: Some(pid) } => format!("in use by process {pid}"),
        LogState::InUse { pid: None } => String::from("in use"),
        LogState::Free(held) => format!(
            "free: {}{} for Postgres, {} for the export, of {}{}",
            // What was committed since the log's last note is known only to Postgres.
            if held.for_postgres > 0 {
                "at most "
            } else {
                ""
            },
            records(held.for_postgres),
            held.for_export,
            held.service,
            held.since.map_or(String::new(), |(oldest, _)| format!(
                ", since {}",
                utc(Some(oldest))
            ))
        ),
        LogState::SetAside => String::from("set aside as damaged"),
        LogState::Unreadable {
            is_damaged: true,
            why,
        } => format!("damaged: {why}"),
        LogState::Unreadable { why, .. } => format!("cannot be read: {why}"),
        _ => String::from("not known"),
    }
}

fn as_json(log: &LocalLog) -> Value {
    let mut value = json!({
        "folder": log.folder.display().to_string(),
        "writer_id": log.writer.map(|writer| writer.to_string()),
        "began": log.began.map(|at| utc(Some(at))),
        "bytes": log.bytes,
    });
    let (state, more) = match &log.state {
        LogState::InUse { pid } => ("in_use", json!({"pid": pid})),
        LogState::Free(held) => (
            "free",
            json!({
                "service_name": held.service,
                "for_postgres": held.for_postgres,
                "for_export": held.for_export,
                "first_seq": held.seqs.0,
                "next_seq": held.seqs.1,
                "records": held.kinds.iter().map(|(kind, records)| (kind.table_name().to_owned(), json!(records)))
                    .collect::<serde_json::Map<_, _>>(),
                "oldest": held.since.map(|(at, _)| utc(Some(at))),
                "newest": held.since.map(|(_, at)| utc(Some(at))),
            }),
        ),
        LogState::SetAside => ("set_aside", json!({})),
        LogState::Unreadable { is_damaged, why } => {
            ("unreadable", json!({"is_damaged": is_damaged, "why": why}))
        }
        _ => ("not_known", json!({})),
    };
    value["state"] = json!(state);
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

/// Formats a time as text, in UTC.
fn utc(at: Option<SystemTime>) -> String {
    let Some(since) = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) else {
        return String::from("at a time that is not known");
    };
    let (days, rest) = (
        since.as_secs() / 86_400,
        Duration::from_secs(since.as_secs() % 86_400),
    );
    // The civil date of a day (Hinnant, "chrono-compatible low-level date algorithms"); years begin
    // in March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, early) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let seconds = rest.as_secs();
    format!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        era * 400 + year + early,
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(
                utc(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))),
                text
            );
        }
    }
}
