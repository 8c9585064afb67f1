//! Our logs as another implementation sees them, and the other way round: run by `scripts/ledger-oracle`, which names the
//! folder. `checks/ledger/oracle.py` says what is in it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;

use super::checkpoint::{self, Checkpoint, cosign, sign};
use super::key::{Algorithm, MemoryKey, Signer as _, Vkey};
use super::note::Note;
use super::paths::{self, Head};
use super::proof::TlogProof;
use super::tiles::{self, Bundle, NodeInTile, Tile};
use super::tree::{self, Hash, Subtree};

/// The sizes at which the log has a checkpoint.
const SIZES: [u64; 7] = [1, 2, 255, 256, 300, 5_000, 70_000];

/// The entries that are proven.
const PROVEN: [u64; 6] = [0, 1, 255, 256, 65_535, 69_999];

const LOG: &str = "log.example/trail";
const WITNESS: &str = "witness.example/w1";
const TIME: u64 = 1_796_000_000;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::var_os("LEDGER_ORACLE_DIR").expect("scripts/ledger-oracle sets it");
    PathBuf::from(folder).join(name)
}

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

fn write(folder: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let file = folder.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

fn read(folder: &Path, path: &str) -> Vec<u8> {
    fs::read(folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Makes what returns a node of what always has it.
fn found(node: impl Fn(Subtree) -> Hash) -> impl FnMut(Subtree) -> Result<Hash, Infallible> {
    move |subtree| Ok(node(subtree))
}

/// The hashes of all full subtrees whose size is a power of 256.
struct Tree {
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    fn new(size: u64) -> Self {
        let leaves: Vec<_> = (0..size)
            .map(|index| tree::leaf_hash(&entry(index)))
            .collect();
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() >= 256) {
            let (full, _) = below.as_chunks::<256>();
            levels.push(full.iter().map(|hashes| tree::root(hashes)).collect());
        }
        Self { levels }
    }

    fn hashes(&self, tile: Tile) -> &[Hash] {
        let first = usize::try_from(tile.index * 256).unwrap();
        &self.levels[usize::from(tile.level)][first..first + usize::from(tile.width)]
    }

    fn node(&self, node: Subtree) -> Hash {
        let place = NodeInTile::of(node).unwrap();
        let size = self.levels[0].len() as u64;
        let tile = Tile::of_size(place.level, place.index, size).unwrap();
        place.hash(self.hashes(tile)).unwrap()
    }
}

fn write_paths(folder: &Path, tree: &Tree, checkpoint: &Note) {
    let lines = |path: Vec<Hash>| {
        let lines: Vec<_> = path.iter().map(|hash| BASE64.encode(hash) + "\n").collect();
        lines.concat()
    };
    for old in SIZES {
        for new in SIZES.into_iter().filter(|new| *new >= old) {
            let path = paths::consistency_path(old, new, found(|node| tree.node(node))).unwrap();
            write(folder, &format!("consistency/{old}-{new}"), lines(path));
        }
    }
    let size = SIZES[SIZES.len() - 1];
    for index in PROVEN {
        let proof = TlogProof {
            extra: Some(entry(index)),
            index,
            path: paths::inclusion_path(index, size, found(|node| tree.node(node))).unwrap(),
            checkpoint: checkpoint.clone(),
        };
        let file = format!("proof/{index}.tlog-proof");
        write(folder, &file, proof.encode().unwrap());
    }
}

#[test]
#[ignore = "run by scripts/ledger-oracle"]
fn log_is_written_for_the_oracle() {
    let folder = folder("ours");
    let log = MemoryKey::generate(LOG).unwrap();
    let witness = MemoryKey::generate(WITNESS).unwrap();
    let witness_key = witness.vkey().with_algorithm(Algorithm::CosignatureV1);
    write(&folder, "log-key", log.vkey().to_string());
    write(&folder, "witness-key", witness_key.to_string());
    let tree = Tree::new(SIZES[SIZES.len() - 1]);
    let mut size_before = 0;
    let mut last = None;
    for size in SIZES {
        for tile in tiles::tiles_between(size_before, size) {
            let bytes = tiles::encode_tile(tree.hashes(tile)).unwrap();
            write(&folder, &tile.to_string(), bytes);
        }
        for bundle in tiles::bundles_between(size_before, size) {
            let first = bundle.first_entry();
            let entries: Vec<_> = (first..first + u64::from(bundle.width))
                .map(entry)
                .collect();
            let bytes = tiles::encode_bundle(&entries).unwrap();
            write(&folder, &bundle.to_string(), bytes);
        }
        let root = paths::root_from(size, found(|node| tree.node(node))).unwrap();
        let checkpoint = Checkpoint {
            origin: LOG.to_owned(),
            head: Head { size, root },
        };
        let mut note = sign(&checkpoint, &log, TIME).unwrap();
        cosign(&mut note, &witness, TIME + size).unwrap();
        write(&folder, &format!("checkpoint/{size}"), note.to_string());
        last = Some(note);
        size_before = size;
    }
    write_paths(&folder, &tree, &last.unwrap());
}

/// A log in a folder, with what was read of it.
struct Published {
    folder: PathBuf,
    size: u64,
    tiles: RefCell<HashMap<Tile, Vec<Hash>>>,
}

impl Published {
    fn tile(&self, level: u8, index: u64) -> Vec<Hash> {
        let tile = Tile::of_size(level, index, self.size).unwrap();
        let mut tiles = self.tiles.borrow_mut();
        let hashes = tiles.entry(tile).or_insert_with(|| {
            let bytes = read(&self.folder, &tile.to_string());
            tiles::decode_tile(&bytes, tile.width).unwrap()
        });
        hashes.clone()
    }

    fn node(&self, node: Subtree) -> Hash {
        let place = NodeInTile::of(node).unwrap();
        let tile = self.tile(place.level, place.index);
        place.hash(&tile).unwrap()
    }
}

fn verified(folder: &Path, size: u64) -> Head {
    let key = |name: &str| {
        let text = String::from_utf8(read(folder, name)).unwrap();
        Vkey::parse(text.trim()).unwrap()
    };
    let (log, witness) = (key("log-key"), key("witness-key"));
    let note = read(folder, &format!("checkpoint/{size}"));
    let verified = checkpoint::verify(&note, &log, &[witness]).unwrap();
    assert_eq!(verified.signed_at, Some(TIME));
    assert_eq!(verified.cosignatures.len(), 1);
    assert_eq!(verified.cosignatures[0].time, TIME + size);
    assert_eq!(verified.checkpoint.origin, LOG);
    assert_eq!(verified.checkpoint.head.size, size);
    verified.checkpoint.head
}

#[test]
#[ignore = "run by scripts/ledger-oracle"]
fn log_of_the_oracle_is_accepted() {
    let folder = folder("theirs");
    let heads = SIZES.map(|size| verified(&folder, size));
    for head in heads {
        let published = Published {
            folder: folder.clone(),
            size: head.size,
            tiles: RefCell::default(),
        };
        let root = paths::root_from(head.size, found(|node| published.node(node)));
        assert_eq!(root, Ok(head.root), "{} entries", head.size);
        for index in 0..head.size.div_ceil(256) {
            let bundle = Bundle::of_size(index, head.size).unwrap();
            let bytes = read(&folder, &bundle.to_string());
            let entries = tiles::decode_bundle(&bytes, bundle.width).unwrap();
            let hashes: Vec<_> = entries.into_iter().map(tree::leaf_hash).collect();
            assert_eq!(hashes, published.tile(0, index), "{bundle}");
        }
    }
    for old in heads {
        for new in heads.into_iter().filter(|new| new.size >= old.size) {
            let text = read(&folder, &format!("consistency/{}-{}", old.size, new.size));
            let path: Vec<Hash> = String::from_utf8(text)
                .unwrap()
                .lines()
                .map(|line| checkpoint::base64_hash(line).unwrap())
                .collect();
            paths::verify_consistency(old, new, &path).unwrap();
        }
    }
    let last = heads[heads.len() - 1];
    for index in PROVEN {
        let proof = read(&folder, &format!("proof/{index}.tlog-proof"));
        let proof = TlogProof::parse(&proof).unwrap();
        assert_eq!(proof.index, index);
        assert_eq!(
            Checkpoint::parse(proof.checkpoint.text()).unwrap().head,
            last
        );
        let leaf = tree::leaf_hash(&proof.extra.unwrap());
        paths::verify_inclusion(&last.root, last.size, index, leaf, &proof.path).unwrap();
    }
}
