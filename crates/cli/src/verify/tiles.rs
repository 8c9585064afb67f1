//! What was published of the log, in a folder: hash tiles and bundles of entries, by
//! c2sp.org/tlog-tiles.

use std::path::{Path, PathBuf};

use tracing_audit::__program::ledger::tree::{self, Hash};

use super::finding::{Finding, Kind};

/// How many entries a full tile has.
const TILE_ENTRIES: u64 = 256;

/// The columns of an entry, by their order in it.
const ENTRY_COLUMNS: [&str; 15] = [
    "writer_id",
    "first_seq",
    "last_seq",
    "records",
    "dead_letters",
    "first_id",
    "last_id",
    "mark",
    "service_name",
    "library_version",
    "committed_at",
    "added_by",
    "root",
    "previous",
    "the writer's registration",
];

/// What was published of the log.
pub(super) trait Tiles {
    /// Returns the hash of an entry; `None` if it was not published.
    fn hash(&mut self, index: i64) -> Option<Hash>;

    /// Returns an entry; `None` if it was not published.
    fn entry(&mut self, index: i64) -> Option<Vec<u8>>;

    /// Returns what was wrong with what was read.
    fn findings(&mut self) -> Vec<Finding>;
}

/// Tiles in a folder.
pub(super) struct Folder {
    folder: PathBuf,
    /// How many entries are published.
    size: u64,
    hashes: Option<(u64, Vec<Hash>)>,
    entries: Option<(u64, Vec<Vec<u8>>)>,
    findings: Vec<Finding>,
}

impl Folder {
    /// Those of a log whose checkpoint has this size.
    pub(super) fn new(folder: &Path, size: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            size,
            hashes: None,
            entries: None,
            findings: Vec::new(),
        }
    }

    /// Reads a tile, or as much of it as there was at the checkpoint.
    fn read(&mut self, level: &str, number: u64) -> Option<Vec<u8>> {
        let width = TILE_ENTRIES.min(self.size - number * TILE_ENTRIES);
        let path = self
            .folder
            .join("tile")
            .join(level)
            .join(number_path(number));
        let mut paths = vec![path.clone()];
        // A fuller one has the same at its beginning; the full one takes the place of all.
        let partial = PathBuf::from(format!("{}.p", path.display()));
        paths.extend((width..TILE_ENTRIES).map(|width| partial.join(width.to_string())));
        let found = paths.iter().find_map(|path| std::fs::read(path).ok());
        if found.is_none() {
            let detail = format!("{} is not there, of width {width}", path.display());
            self.broken(&detail);
        }
        found
    }

    fn broken(&mut self, detail: &str) {
        self.findings.push(Finding::new(Kind::TileBroken, detail));
    }

    fn place(&self, index: i64) -> Option<(u64, usize)> {
        let index = u64::try_from(index)
            .ok()
            .filter(|index| *index < self.size)?;
        let at = usize::try_from(index % TILE_ENTRIES).ok()?;
        Some((index / TILE_ENTRIES, at))
    }
}

impl Tiles for Folder {
    fn hash(&mut self, index: i64) -> Option<Hash> {
        let (number, at) = self.place(index)?;
        if self.hashes.as_ref().is_none_or(|(held, _)| *held != number) {
            let tile = self.read("0", number).unwrap_or_default();
            let width = TILE_ENTRIES.min(self.size - number * TILE_ENTRIES);
            if tile.len() % size_of::<Hash>() != 0
                || ((tile.len() / 32) as u64) < width && !tile.is_empty()
            {
                self.broken(&format!("tile/0/{} is cut short", number_path(number)));
            }
            let (hashes, _) = tile.as_chunks();
            self.hashes = Some((number, hashes.to_vec()));
        }
        self.hashes.as_ref()?.1.get(at).copied()
    }

    fn entry(&mut self, index: i64) -> Option<Vec<u8>> {
        let (number, at) = self.place(index)?;
        if self
            .entries
            .as_ref()
            .is_none_or(|(held, _)| *held != number)
        {
            let bundle = self.read("entries", number).unwrap_or_default();
            self.entries = Some((number, entries(&bundle)));
        }
        let entry = self.entries.as_ref()?.1.get(at).cloned();
        // One that is not what its hash says tells nothing.
        let hash = self.hash(index);
        entry.filter(|entry| hash == Some(tree::leaf_hash(entry)))
    }

    fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }
}

/// Returns the entries of a bundle: each behind its length in two bytes.
fn entries(bundle: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bundle;
    let mut entries = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((entry, after)) = after.split_at_checked(length) else {
            break;
        };
        entries.push(entry.to_vec());
        rest = after;
    }
    entries
}

/// Returns the path of a tile's number: three digits for each part, all but the last behind an `x`.
fn number_path(number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// Returns the bytes of a field of an entry; `None` for NULL.
pub(super) fn entry_field(entry: &[u8], number: usize) -> Option<&[u8]> {
    let mut rest = entry.get(1..)?;
    for at in 0..=number {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (field, after) = after.split_at_checked(length.unwrap_or(0))?;
        if at == number {
            return length.map(|_| field);
        }
        rest = after;
    }
    None
}

/// Returns the columns in which two entries differ.
pub(super) fn what_differs(then: &[u8], now: &[u8]) -> Vec<&'static str> {
    ENTRY_COLUMNS
        .iter()
        .enumerate()
        .filter(|(at, _)| entry_field(then, *at) != entry_field(now, *at))
        .map(|(_, name)| *name)
        .collect()
}
