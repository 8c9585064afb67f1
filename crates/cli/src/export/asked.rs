//! What the command line asks for.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::failure::ExportError;
use super::job::Format;
#[cfg(feature = "archive")]
use crate::archive::ArchivePlace;
use crate::filter::{Filter, NAMES};
use crate::{STATUSES, tables};

/// Writes the records of a filter to a file, with a manifest that says what it is.
///
/// The filters are those of the page. The file is written as FILE.part, and gets its name
/// when it is whole and recorded. FILE.manifest.json has who exported what and why, the
/// number of records, and the file's SHA-256. The events of reading the trail are left out
/// unless --where has reads=yes. Exits with 1 when a record could not be read whole.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Export {
    /// The format of the file.
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Format,
    /// The file; - for standard output, which has no manifest unless --manifest names one.
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: PathBuf,
    /// Records of this request.
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(super) request: Option<String>,
    /// Records of this user, exactly as `user_id` has it.
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    pub(super) user: Option<String>,
    /// Reads this tenant's rows only; a UUID, or the key the application uses.
    #[arg(long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(super) tenant: Option<String>,
    /// Records that began at this time or later: 2026-01-01, 2026-01-01T12:00Z, or how long ago, as 24h.
    #[arg(long, value_name = "TIME", value_parser = NonEmptyStringValueParser::new())]
    pub(super) since: Option<String>,
    /// Records that began before this time.
    #[arg(long, value_name = "TIME", value_parser = NonEmptyStringValueParser::new())]
    pub(super) until: Option<String>,
    /// Records of this kind; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = tables())]
    pub(super) kind: Vec<String>,
    /// Records of this outcome; may be repeated.
    #[arg(long, value_name = "STATUS", value_parser = STATUSES)]
    pub(super) status: Vec<String>,
    /// Events of this family, by their `action_type`.
    #[arg(long, value_name = "TYPE", value_parser = NonEmptyStringValueParser::new())]
    pub(super) family: Option<String>,
    /// Records of this agent, by its id or its name.
    #[arg(long, value_name = "AGENT", value_parser = NonEmptyStringValueParser::new())]
    pub(super) agent: Option<String>,
    /// Records of this model.
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub(super) model: Option<String>,
    /// Records of this session or conversation.
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(super) session: Option<String>,
    /// Records with this text, in upper or lower case, where `find --text` looks.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(super) text: Option<String>,
    /// The same filters as a page's address has them: 'user=ana&status=failed'.
    #[arg(long = "where", value_name = "QUERY")]
    pub(super) query: Option<String>,
    /// Why the trail is read. Recorded; a login that may read all rows must say it.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(super) purpose: Option<String>,
    /// Overwrites the file and its manifest, and what an export that was killed has left.
    #[arg(long)]
    pub(super) force: bool,
    /// Writes the manifest to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) manifest: Option<PathBuf>,
    /// Leaves CSV fields that a spreadsheet would run as formulas as they are.
    #[arg(long)]
    pub(super) raw_values: bool,
    /// Writes the proof of each record to FILE.proofs, for 10,000 records at most; `check-proof` checks them.
    #[cfg_attr(
        feature = "archive",
        arg(long, requires = "key", group = "keyed", conflicts_with = "archive")
    )]
    #[cfg_attr(not(feature = "archive"), arg(long, requires = "key"))]
    pub(super) proofs: bool,
    /// The log's verifier key, or a file with it, for --proofs.
    #[cfg(not(feature = "archive"))]
    #[arg(long, value_name = "KEY", requires = "proofs")]
    key: Vec<String>,
    #[cfg(feature = "archive")]
    #[command(flatten)]
    pub(super) archive: ArchivePlace,
}

impl Export {
    /// Returns the log's verifier keys.
    pub(super) fn keys(&self) -> &[String] {
        #[cfg(feature = "archive")]
        return &self.archive.key;
        #[cfg(not(feature = "archive"))]
        return &self.key;
    }

    /// Whether an archive is named, which is read where no database is.
    #[cfg(feature = "archive")]
    pub(crate) fn is_of_archive(&self) -> bool {
        self.archive.is_named()
    }

    /// Returns the filter of `--where` and of the options.
    pub(super) fn filter(&self) -> Result<Filter, ExportError> {
        let query = self.query.as_deref().unwrap_or_default();
        let query = query.strip_prefix('?').unwrap_or(query);
        let mut filter = Filter::from_query(query).map_err(|source| ExportError::Filter {
            option: "--where",
            source,
        })?;
        for name in NAMES {
            let asked = self.values(name);
            let known: Vec<String> = filter
                .values()
                .into_iter()
                .filter(|(known, _)| *known == name)
                .map(|(_, value)| value.to_owned())
                .collect();
            if asked.is_empty() || known == asked {
                continue;
            }
            if !known.is_empty() {
                return Err(ExportError::Contradiction(name));
            }
            for value in asked {
                filter
                    .add(name, &value)
                    .map_err(|source| ExportError::Filter {
                        option: "an option",
                        source,
                    })?;
            }
        }
        Ok(filter)
    }

    /// Returns the values that the option of a filter has, as the filter gives them.
    fn values(&self, name: &str) -> Vec<String> {
        let one = |value: &Option<String>| value.iter().cloned().collect();
        match name {
            "kind" | "status" => {
                let mut values = if name == "kind" {
                    self.kind.clone()
                } else {
                    self.status.clone()
                };
                let mut seen = Vec::new();
                values.retain(|value| {
                    let is_new = !seen.contains(value);
                    seen.push(value.clone());
                    is_new
                });
                values
            }
            "request" => one(&self.request),
            "user" => one(&self.user),
            "tenant" => one(&self.tenant),
            "since" => one(&self.since),
            "until" => one(&self.until),
            "family" => one(&self.family),
            "agent" => one(&self.agent),
            "model" => one(&self.model),
            "session" => one(&self.session),
            "text" => one(&self.text),
            _ => Vec::new(),
        }
    }
}
