//! Prints what redaction makes of a text.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tracing_audit::redact::{Redacted, Redaction};

use crate::error::Error;
use crate::text;

/// Arguments of `redact`.
#[derive(Args, Debug)]
pub(crate) struct Redact {
    /// The file with the text; - is standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    check: PathBuf,
    /// These presets instead: secrets, personal, ip, sql-literals, separated by commas.
    #[arg(long, value_name = "LIST")]
    presets: Option<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Redact) -> Result<ExitCode, Error> {
    let redaction = match &arguments.presets {
        Some(presets) => Redaction::default()
            .with_presets(presets)
            .map_err(|_| Error::Presets)?,
        None => Redaction::from_env()?.ok_or(Error::NoRules)?,
    };
    let rules = redaction.checker()?;
    let redacted = rules.check(&read(&arguments.check)?);
    print(redacted.text())?;
    let said = counts(&redacted);
    // If stderr is gone, the text is what was asked for.
    let _ = writeln!(
        io::stderr(),
        "{}",
        if said.is_empty() {
            "nothing is redacted"
        } else {
            &said
        }
    );
    Ok(if said.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// Reads the text, from standard input if the file is `-`.
fn read(path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = read.map_err(|source| Error::Text {
        path: path.to_owned(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Prints the text as it would be stored; a terminal gets it with what could steer it escaped.
fn print(stored: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    if !out.is_terminal() {
        out.write_all(stored.as_bytes())?;
        return Ok(());
    }
    for line in stored.lines() {
        writeln!(out, "{}", text::escape(line))?;
    }
    Ok(())
}

fn counts(redacted: &Redacted) -> String {
    let counts: Vec<_> = redacted
        .rules()
        .map(|(rule, count)| format!("{rule} ×{count}"))
        .collect();
    counts.join(", ")
}
