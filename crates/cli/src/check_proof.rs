//! `check-proof`: checks what `prove` and `export --proofs` wrote, and prints the records.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use sqlx::types::Uuid;
use tracing_audit::__program::ledger::evidence::{Checked, check_proof};
use tracing_audit::__program::ledger::images::Image;

use crate::error::Error;
use crate::text::escape_line;
use crate::verify::published::{read_key, read_keys};

/// The line with which a proof begins.
const FIRST_LINE: &[u8] = b"c2sp.org/tlog-proof@v1\n";

/// Checks a proof that `prove` wrote, and prints the record; needs no database.
///
/// Or each of those that `export --proofs` wrote. Exits with 1 when one proves nothing.
#[derive(Args, Debug)]
pub(crate) struct CheckProof {
    /// The proof, or the proofs.
    file: PathBuf,
    /// The log's verifier key, or a file with it; with older keys of the log too, the one that signed is found.
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<String>,
    /// The verifier key of a witness, or a file with it; may be given several times.
    #[arg(long, value_name = "KEY")]
    witness_key: Vec<String>,
    /// How many of the witnesses must have cosigned the checkpoint.
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    require_witness: usize,
}

/// Checks a proof, and prints what it proves.
pub(crate) fn check(arguments: &CheckProof) -> Result<(), Error> {
    let keys = read_keys(&arguments.key)?;
    let witnesses = arguments
        .witness_key
        .iter()
        .map(|key| read_key(key))
        .collect::<Result<Vec<_>, _>>()?;
    let bytes = std::fs::read(&arguments.file).map_err(|source| Error::ReadFile {
        path: arguments.file.clone(),
        source,
    })?;
    for proof in split(&bytes) {
        let checked = check_proof(proof, &keys, &witnesses, arguments.require_witness);
        let checked = checked.map_err(|source| Error::NoProof {
            path: arguments.file.clone(),
            source: Box::new(source),
        })?;
        print(&checked)?;
    }
    Ok(())
}

/// Returns the proofs of a file, which stand one after another in that of `export --proofs`.
fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let mut proofs = Vec::new();
    let mut from = 0;
    for at in 1..bytes.len() {
        // Neither a path nor a signed note has such a line.
        if bytes[at - 1] == b'\n' && bytes[at..].starts_with(FIRST_LINE) {
            proofs.push(&bytes[from..at]);
            from = at;
        }
    }
    proofs.push(&bytes[from..]);
    proofs
}

fn print(checked: &Checked) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let row = &checked.row;
    writeln!(out, "audit.{} is as it was recorded:", row.columns.table)?;
    let core = row.core_values().unwrap_or_default();
    let content = row.content_values().ok().flatten();
    for (name, image) in core.into_iter().chain(content.iter().flatten().copied()) {
        if let Some(value) = value(name, image) {
            writeln!(out, "  {name}: {}", escape_line(&value))?;
        }
    }
    if content.is_none() {
        // Whoever hands a proof on can leave the content out.
        writeln!(
            out,
            "  its content is not in the proof: it was erased, or left out"
        )?;
    }
    let head = checked.verified.checkpoint.head;
    writeln!(
        out,
        "entry {} of the log {}, by the checkpoint of {} entries, seen by {} of the witnesses",
        checked.index,
        escape_line(&checked.verified.checkpoint.origin),
        head.size,
        checked.verified.cosignatures.len()
    )
}

/// Returns a value as text; `None` for NULL.
fn value(column: &str, image: Image<'_>) -> Option<String> {
    let bytes = image?;
    let number = || bytes.try_into().map(i64::from_be_bytes).ok();
    Some(match column {
        "id" | "writer_id" | "tenant_id" | "parent_id" | "agent_id" | "llm_session_id"
        | "datasource_id" | "record_id" => {
            Uuid::from_slice(bytes).map_or_else(|_| hex(bytes), |id| id.to_string())
        }
        "started_at" | "created_at" | "finished_at" => number().map_or_else(|| hex(bytes), time),
        "seq" | "duration_ms" | "latency_ms" => {
            number().map_or_else(|| hex(bytes), |n| n.to_string())
        }
        "row_count"
        | "rows_affected"
        | "prompt_template_version"
        | "input_token_count"
        | "output_token_count" => bytes
            .try_into()
            .map_or_else(|_| hex(bytes), |n| i32::from_be_bytes(n).to_string()),
        "salt" | "frame" => hex(bytes),
        // Behind the version of its binary format.
        "metadata" => String::from_utf8_lossy(bytes.get(1..)?).into_owned(),
        "problems" | "redactions" => texts(bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    })
}

/// Returns a time that is stored as microseconds since 2000.
fn time(microseconds: i64) -> String {
    const EPOCH_US: i64 = 946_684_800_000_000;
    /// The first that has a year of five digits.
    const END_US: u64 = 253_402_300_800_000_000;
    let since_1970 = u64::try_from(microseconds.saturating_add(EPOCH_US));
    let Some(since_1970) = since_1970.ok().filter(|since| *since < END_US) else {
        return format!("{microseconds} microseconds after 2000-01-01T00:00:00Z");
    };
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_micros(since_1970);
    humantime::format_rfc3339_micros(at).to_string()
}

/// Returns the elements of a list of texts.
fn texts(array: &[u8]) -> String {
    let mut rest = array.get(20..).unwrap_or_default();
    let mut texts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or_default();
        let Some((text, after)) = after.split_at_checked(length) else {
            break;
        };
        texts.push(String::from_utf8_lossy(text).into_owned());
        rest = after;
    }
    texts.join("; ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
