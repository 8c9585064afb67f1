//! What was published of the log, in a folder or a bucket: hash tiles and bundles of entries, by
//! c2sp.org/tlog-tiles.

use tracing_audit::__program::ledger::images::Images;
use tracing_audit::__program::ledger::tiles::{Bundle, TILE_WIDTH, Tile, decode_bundle};
use tracing_audit::__program::ledger::tree::{self, Hash};

use super::finding::{Finding, Kind};
use super::source::Source;

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

/// Tiles in a folder or a bucket.
pub(super) struct Tiled {
    source: Source,
    /// How many entries are published.
    size: u64,
    hashes: Option<(u64, Vec<Hash>)>,
    entries: Option<(u64, Vec<Vec<u8>>)>,
    findings: Vec<Finding>,
}

impl Tiled {
    /// Those of a log whose checkpoint has this size.
    pub(super) fn new(source: Source, size: u64) -> Self {
        Self {
            source,
            size,
            hashes: None,
            entries: None,
            findings: Vec::new(),
        }
    }

    /// Reads the file with this number, which has at least what there was at the checkpoint; returns its
    /// width as well. `name` is its path when it has a width.
    fn read(&mut self, number: u64, name: impl Fn(u16) -> String) -> Option<(u16, Vec<u8>)> {
        let width = self.width(number);
        // A fuller one has the same at its beginning; in a folder, the full one takes the place of all.
        let widths: Vec<u16> = if self.source.keeps_all() {
            vec![width, TILE_WIDTH]
        } else {
            std::iter::once(TILE_WIDTH)
                .chain(width..TILE_WIDTH)
                .collect()
        };
        for width in widths {
            match self.source.get(&name(width)) {
                Ok(Some(content)) => return Some((width, content)),
                Ok(None) => {}
                Err(error) => {
                    self.broken(&error.to_string());
                    return None;
                }
            }
        }
        self.broken(&format!("{} is not there", name(width)));
        None
    }

    fn width(&self, number: u64) -> u16 {
        let left = self.size.saturating_sub(number * u64::from(TILE_WIDTH));
        u16::try_from(left).unwrap_or(TILE_WIDTH).min(TILE_WIDTH)
    }

    fn broken(&mut self, detail: &str) {
        self.findings.push(Finding::new(Kind::TileBroken, detail));
    }

    fn place(&self, index: i64) -> Option<(u64, usize)> {
        let index = u64::try_from(index)
            .ok()
            .filter(|index| *index < self.size)?;
        let at = usize::try_from(index % u64::from(TILE_WIDTH)).ok()?;
        Some((index / u64::from(TILE_WIDTH), at))
    }
}

impl Tiles for Tiled {
    fn hash(&mut self, index: i64) -> Option<Hash> {
        let (number, at) = self.place(index)?;
        if self.hashes.as_ref().is_none_or(|(held, _)| *held != number) {
            let name = |width| {
                Tile {
                    level: 0,
                    index: number,
                    width,
                }
                .to_string()
            };
            let (width, tile) = self.read(number, name).unwrap_or_default();
            if tile.len() != usize::from(width) * size_of::<Hash>() {
                self.broken(&format!("{} is not whole", name(width)));
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
            let name = |width| {
                Bundle {
                    index: number,
                    width,
                }
                .to_string()
            };
            let entries = self.read(number, name).and_then(|(width, bundle)| {
                let entries = decode_bundle(&bundle, width);
                if entries.is_err() {
                    self.broken(&format!("{} is not whole", name(width)));
                }
                Some(entries.ok()?.into_iter().map(<[u8]>::to_vec).collect())
            });
            let entries = entries.unwrap_or_default();
            self.entries = Some((number, entries));
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

/// Returns the bytes of a field of an entry; `None` for NULL, and if there is none.
pub(super) fn entry_field(entry: &[u8], number: usize) -> Option<&[u8]> {
    // Behind the version of its format.
    Images::new(entry.get(1..)?).nth(number)?.ok()?
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
