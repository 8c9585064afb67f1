//! Makes a large archive of a small one: the same files under other names, in manifests that the same key signs.

use std::fs;
use std::path::{Path, PathBuf};

use tracing_audit::__program::ledger::key::MemoryKey;
use tracing_audit::__program::ledger::note::Note;

/// The greatest size of a manifest.
const MOST_BYTES: usize = 1 << 20;

/// A set of an archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set<'a> {
    pub(crate) kind: &'a str,
    pub(crate) day: &'a str,
    pub(crate) number: usize,
}

impl Set<'_> {
    fn folder(self, archive: &Path) -> PathBuf {
        let month = &self.day[..7];
        archive.join(format!("kind={}/month={month}/day={}", self.kind, self.day))
    }

    fn manifest(self, archive: &Path) -> PathBuf {
        let name = format!("_{:04}.manifest", self.number);
        self.folder(archive).join(name)
    }

    /// Whether the archive has it.
    pub(crate) fn is_there(self, archive: &Path) -> bool {
        self.manifest(archive).exists()
    }

    /// Copies its files and its manifest to another archive, as those of another set of the same kind. What proves its rows
    /// is left: who looks for a request does not read it.
    pub(crate) fn copy(self, from: &Path, to: &Path, other: Set<'_>, key: &MemoryKey) {
        let folder = other.folder(to);
        fs::create_dir_all(&folder).expect("the folder is made");
        let signed = fs::read(self.manifest(from)).expect("the manifest is there");
        let note = Note::parse_within(&signed, MOST_BYTES).expect("it is a note");
        let mut text = String::new();
        for line in note.text().lines() {
            let line = match line.split_once(' ') {
                Some(("day", _)) => format!("day {}", other.day),
                Some(("set", _)) => format!("set {}", other.number),
                Some(("file", about)) => {
                    let number: usize = about
                        .split(' ')
                        .next()
                        .and_then(|number| number.parse().ok())
                        .expect("it has a number");
                    let name = |set: usize| format!("{set:04}-{number:05}.parquet");
                    let original = self.folder(from).join(name(self.number));
                    fs::hard_link(original, folder.join(name(other.number)))
                        .expect("the file is linked");
                    line.to_owned()
                }
                _ => line.to_owned(),
            };
            text.push_str(&line);
            text.push('\n');
        }
        let mut note = Note::unsigned_within(text, MOST_BYTES).expect("it is a note");
        note.sign(key).expect("the key signs");
        fs::write(other.manifest(to), note.to_string()).expect("the manifest is written");
    }
}
