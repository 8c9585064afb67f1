//! The manifest of a set: what it consists of, signed by the log. Frozen, version 1 (docs/archive.md).

use std::fmt::Write as _;
use std::ops::Range;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::key::{Signer, Vkey};
use tracing_audit::__program::ledger::note::{Note, NoteError};
use tracing_audit::__program::ledger::paths::Head;
use tracing_audit::__program::ledger::tree::Hash;

use super::names::{DayOf, MOST_FILES, MOST_SETS, Part, Within, date_text, day_of_date};
use crate::error::Error;

/// The first line. No checkpoint of a log is read as a manifest, and no manifest as a checkpoint: its second line is the
/// log's size.
const FIRST_LINE: &str = "tracing-audit/archive/v1";

/// The version of the columns of a file. Columns are only ever added.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The greatest size of a manifest: some 16,000 files.
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// The most tenants of a day that have files of their own: half of what a manifest can name, since one may have several.
pub(crate) const MOST_TENANTS: u32 = 8_000;

/// The line of a manifest whose files have one tenant each.
const BY_TENANT: &str = "by-tenant";

/// A set: rows of one table and one day, by files, and the batches that prove them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The origin of the log.
    pub(crate) log: String,
    pub(crate) of: DayOf,
    pub(crate) set: u32,
    pub(crate) rows: u64,
    /// The least and the greatest id.
    pub(crate) ids: (Uuid, Uuid),
    /// The entries of the log whose rows of the day the set has. It begins where the set before it ends.
    pub(crate) entries: Range<u64>,
    pub(crate) checkpoint: Head,
    /// What has the batches.
    pub(crate) batches: Content,
    pub(crate) files: Vec<File>,
    /// The legal holds that were in force over the day.
    pub(crate) holds: Vec<Uuid>,
    pub(crate) written_at: String,
}

/// The bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) sha256: Hash,
    pub(crate) bytes: u64,
}

/// A file of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) within: Within,
    pub(crate) number: u32,
    pub(crate) content: Content,
    pub(crate) rows: u64,
    /// The least and the greatest id.
    pub(crate) ids: (Uuid, Uuid),
    /// The tenants of the first and of the last row.
    pub(crate) tenants: (Option<Uuid>, Option<Uuid>),
}

impl File {
    /// Returns which object of its set it is.
    pub(crate) fn part(&self) -> Part {
        Part::File(self.within, self.number)
    }
}

/// Why bytes are no manifest that a log has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("it is no signed note: {0}")]
    Note(#[from] NoteError),
    #[error("none of the keys that were given has signed it, or a signature does not hold")]
    NotSigned,
    #[error("it is not written as a manifest")]
    Malformed,
    #[error("it is a manifest of another log than that of the keys")]
    OtherLog,
    #[error("it is that of another set")]
    Elsewhere,
}

impl Manifest {
    /// Returns the name of one of its files.
    pub(crate) fn object(&self, file: &File) -> String {
        self.of.name(self.set, file.part())
    }

    /// Whether its files are of one tenant each, in folders of these.
    fn is_by_tenant(&self) -> bool {
        self.files.iter().any(|file| file.within != Within::Day)
    }

    /// Signs it.
    pub(crate) fn sign(&self, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
        let mut note = Note::unsigned_within(self.text(), MOST_BYTES).map_err(|source| {
            super::failure::ArchiveError::Manifest {
                of: self.of.to_string(),
                source,
            }
        })?;
        note.sign(signer)
            .map_err(super::failure::ArchiveError::Sign)?;
        Ok(note.to_string().into_bytes())
    }

    /// Reads what one of these keys has signed.
    pub(crate) fn verify(bytes: &[u8], keys: &[Vkey]) -> Result<Self, ManifestError> {
        let note = Note::parse_within(bytes, MOST_BYTES)?;
        let key = note.signed_by(keys).ok_or(ManifestError::NotSigned)?;
        let manifest = Self::parse(note.text()).ok_or(ManifestError::Malformed)?;
        if manifest.log != key.name() {
            return Err(ManifestError::OtherLog);
        }
        Ok(manifest)
    }

    /// Returns the text that is signed.
    fn text(&self) -> String {
        let hex = |content: &Content| {
            let sha256 = HEXLOWER.encode(&content.sha256);
            format!("{sha256} {}", content.bytes)
        };
        let mut text = format!(
            "{FIRST_LINE}\nlog {}\nkind {}\nday {}\nset {}\nschema {SCHEMA_VERSION}\n{}rows {}\nfirst-id {}\nlast-id {}\n",
            self.log,
            self.of.table.name(),
            date_text(self.of.day),
            self.set,
            if self.is_by_tenant() {
                "files by-tenant\n"
            } else {
                ""
            },
            self.rows,
            self.ids.0,
            self.ids.1,
        );
        let Range { start, end } = self.entries;
        let root = BASE64.encode(&self.checkpoint.root);
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "entries {start} {end}\ncheckpoint {} {root}\nbatches {}\n",
            self.checkpoint.size,
            hex(&self.batches)
        );
        for file in &self.files {
            let tenant =
                |tenant: Option<Uuid>| tenant.map_or(String::from("-"), |id| id.to_string());
            let _ = writeln!(
                text,
                "file {} {} {} {} {} {} {}",
                file.number,
                hex(&file.content),
                file.rows,
                file.ids.0,
                file.ids.1,
                tenant(file.tenants.0),
                tenant(file.tenants.1)
            );
        }
        for hold in &self.holds {
            let _ = writeln!(text, "hold {hold}");
        }
        let _ = writeln!(text, "written-at {}", self.written_at);
        text
    }

    /// Reads the text. There is one text for each manifest.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = Lines(text.strip_suffix('\n')?.split('\n').peekable());
        (lines.0.next()? == FIRST_LINE).then_some(())?;
        let log = lines.value("log")?.to_owned();
        let table = Table::of_name(lines.value("kind")?)?;
        let day = day_of_date(lines.value("day")?)?;
        let set = lines.number("set")?;
        (lines.number::<u32>("schema")? == SCHEMA_VERSION).then_some(())?;
        let is_by_tenant = match lines.value("files") {
            None => false,
            Some(BY_TENANT) => true,
            Some(_) => return None,
        };
        let rows = lines.number("rows")?;
        let ids = (lines.number("first-id")?, lines.number("last-id")?);
        let mut entries = lines.value("entries")?.split(' ');
        let entries = entries.next()?.parse().ok()?..entries.next()?.parse().ok()?;
        let (size, root) = lines.value("checkpoint")?.split_once(' ')?;
        let checkpoint = Head {
            size: size.parse().ok()?,
            root: BASE64.decode(root.as_bytes()).ok()?.try_into().ok()?,
        };
        let batches = content(&mut lines.value("batches")?.split(' '))?;
        let mut files = Vec::new();
        while let Some(line) = lines.value("file") {
            files.push(file(line, is_by_tenant)?);
        }
        let mut holds = Vec::new();
        while let Some(hold) = lines.number("hold") {
            holds.push(hold);
        }
        let manifest = Self {
            log,
            of: DayOf { table, day },
            set,
            rows,
            ids,
            entries,
            checkpoint,
            batches,
            files,
            holds,
            written_at: lines.value("written-at")?.to_owned(),
        };
        (manifest.text() == text && manifest.is_sound()).then_some(manifest)
    }

    /// Whether its parts agree with each other.
    fn is_sound(&self) -> bool {
        let sum = self
            .files
            .iter()
            .try_fold(0_u64, |sum, file| sum.checked_add(file.rows));
        let numbers = self.files.iter().zip(0..);
        self.rows > 0
            && sum == Some(self.rows)
            && self
                .files
                .iter()
                .all(|file| file.within == Within::Day || file.tenants.0 == file.tenants.1)
            && numbers.clone().all(|(file, number)| file.number == number)
            && self.files.len() <= MOST_FILES as usize
            && (1..=MOST_SETS).contains(&self.set)
            && self.entries.start < self.entries.end
            && self.entries.end <= self.checkpoint.size
    }
}

fn content<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Content> {
    let sha256 = HEXLOWER.decode(words.next()?.as_bytes()).ok()?;
    Some(Content {
        sha256: sha256.try_into().ok()?,
        bytes: words.next()?.parse().ok()?,
    })
}

fn file(line: &str, is_by_tenant: bool) -> Option<File> {
    let mut words = line.split(' ');
    let number = words.next()?.parse().ok()?;
    let content = content(&mut words)?;
    let rows = words.next()?.parse().ok()?;
    let ids = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let mut tenant = || match words.next()? {
        "-" => Some(None),
        id => id.parse().ok().map(Some),
    };
    let tenants = (tenant()?, tenant()?);
    let within = if is_by_tenant {
        Within::Tenant(tenants.0)
    } else {
        Within::Day
    };
    Some(File {
        within,
        number,
        content,
        rows,
        ids,
        tenants,
    })
}

struct Lines<'a, I: Iterator<Item = &'a str>>(std::iter::Peekable<I>);

impl<'a, I: Iterator<Item = &'a str>> Lines<'a, I> {
    /// Returns the value of the next line if it has this key.
    fn value(&mut self, key: &str) -> Option<&'a str> {
        let value = self.0.peek()?.strip_prefix(key)?.strip_prefix(' ')?;
        self.0.next();
        Some(value)
    }

    fn number<T: FromStr>(&mut self, key: &str) -> Option<T> {
        self.value(key)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tracing_audit::__program::ledger::key::MemoryKey;

    fn example() -> Manifest {
        let content = Content {
            sha256: [0xab; 32],
            bytes: 1234,
        };
        let file = |number, rows| File {
            within: Within::Day,
            number,
            content,
            rows,
            ids: (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16])),
            tenants: (None, Some(Uuid::from_bytes([3; 16]))),
        };
        Manifest {
            log: String::from("example.com/trail"),
            of: DayOf {
                table: Table::ALL[0],
                day: day_of_date("2026-09-14").unwrap(),
            },
            set: 2,
            rows: 3,
            ids: (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16])),
            entries: 7..9,
            checkpoint: Head {
                size: 9,
                root: [7; 32],
            },
            batches: content,
            files: vec![file(0, 1), file(1, 2)],
            holds: vec![Uuid::from_bytes([4; 16])],
            written_at: String::from("2026-09-15T00:00:00Z"),
        }
    }

    /// Frozen, version 1.
    #[test]
    fn text_is_golden() {
        let sha256 = "ab".repeat(32);
        let one = "01010101-0101-0101-0101-010101010101";
        let [two, three, four] = ['2', '3', '4'].map(|digit| one.replace('1', &digit.to_string()));
        let root = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
        let text = format!(
            "tracing-audit/archive/v1\nlog example.com/trail\nkind query_runs\nday 2026-09-14\nset 2\nschema 1\nrows 3\nfirst-id {one}\nlast-id {two}\n\
             entries 7 9\ncheckpoint 9 {root}\nbatches {sha256} 1234\nfile 0 {sha256} 1234 1 {one} {two} - {three}\nfile 1 {sha256} 1234 2 {one} {two} - {three}\n\
             hold {four}\nwritten-at 2026-09-15T00:00:00Z\n"
        );
        assert_eq!(example().text(), text);
        assert_eq!(Manifest::parse(&text), Some(example()));
        for (from, to) in [
            ("rows 3", "rows 4"),
            ("rows 3", "rows 03"),
            ("file 1", "file 2"),
            ("entries 7 9", "entries 9 9"),
            ("entries 7 9", "entries 7 10"),
            ("schema 1", "schema 2"),
            ("set 2", "set 0"),
            ("written-at", "written-by"),
            // Each file has two tenants.
            ("rows 3", "files by-tenant\nrows 3"),
        ] {
            assert_eq!(Manifest::parse(&text.replace(from, to)), None, "{to}");
        }
        let by_tenant = text
            .replace("rows 3", "files by-tenant\nrows 3")
            .replace(&format!("- {three}"), &format!("{three} {three}"));
        let manifest = Manifest::parse(&by_tenant).unwrap();
        assert_eq!(manifest.text(), by_tenant);
        assert_eq!(
            manifest.object(&manifest.files[1]),
            format!(
                "kind=query_runs/month=2026-09/day=2026-09-14/tenant={three}/0002-00001.parquet"
            )
        );
        for other in ["by-day", "by-tenant ", ""] {
            let text = by_tenant.replace("files by-tenant", &format!("files {other}"));
            assert_eq!(Manifest::parse(&text), None, "{other}");
        }
    }

    #[test]
    fn manifest_that_the_log_did_not_sign_is_refused() {
        let [log, other] = ["example.com/trail", "example.com/other"]
            .map(|name| MemoryKey::generate(name).unwrap());
        let keys = [log.vkey().clone()];
        let signed = example().sign(&log).unwrap();
        assert_eq!(Manifest::verify(&signed, &keys), Ok(example()));
        let forged = example().sign(&other).unwrap();
        let refused = Err(ManifestError::NotSigned);
        assert_eq!(Manifest::verify(&forged, &keys), refused);
        let refused = Err(ManifestError::OtherLog);
        assert_eq!(Manifest::verify(&forged, &[other.vkey().clone()]), refused);
        let changed = String::from_utf8(signed).unwrap().replace("set 2", "set 3");
        assert!(Manifest::verify(changed.as_bytes(), &keys).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(tracing-audit/archive/v1\n|kind events\n|set |rows |file | |-|\n|[0-9]{1,30}|\\PC){0,30}") {
            let _ = Manifest::parse(&text);
        }
    }
}
