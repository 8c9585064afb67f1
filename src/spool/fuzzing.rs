//! The fuzz targets for chunks and whole logs.

use std::sync::LazyLock;

use super::chunk;
use super::disk::Disk;
use super::error::LogError;
use super::log::fuzzing::{Change, change, open_and_read, sample};
use crate::record::frames::Frames;
use crate::redact::Passed;

/// Reads a chunk that follows the seq that it is stored under. Its checksum is corrected first.
pub fn chunk(bytes: &[u8]) {
    let Some((first, sealed)) = bytes.split_first_chunk() else {
        return;
    };
    let first = u64::from_le_bytes(*first);
    let sealed = chunk::sealed(first, sealed.to_vec());
    let count = chunk::count(&sealed);
    let Ok(records) = chunk::records(first, &sealed) else {
        return;
    };
    let Ok(records) = records.collect::<Result<Vec<_>, LogError>>() else {
        return;
    };
    assert_eq!(count.expect("it has records"), records.len() as u64);
    let mut frames = Frames::default();
    for (_, frame) in &records {
        frames.push(frame);
    }
    let is_after_gap = chunk::is_after_gap(&sealed);
    let again = chunk::encode(
        first,
        is_after_gap,
        &[Passed::stored(frames)],
        records.len() as u64,
    );
    let again = again.expect("it can be written");
    assert!(again.len() <= sealed.len());
    let again = chunk::records(first, &again).expect("it can be read");
    let again: Result<Vec<_>, LogError> = again.collect();
    let frames = records.into_iter().map(|(_, frame)| frame);
    assert!(
        again
            .unwrap()
            .into_iter()
            .map(|(_, frame)| frame)
            .eq(frames)
    );
}

/// Returns real chunks as a start corpus.
pub fn chunks() -> Vec<Vec<u8>> {
    let frames = crate::fuzzing::frames();
    let few: &[Vec<u8>] = &[b"a".to_vec(), Vec::new()];
    [&frames[..], few]
        .map(|frames| {
            let mut buffer = Frames::default();
            frames.iter().for_each(|frame| buffer.push(frame));
            let records = buffer.records;
            let chunk = chunk::encode(42, false, &[Passed::stored(buffer)], records).unwrap();
            [&42_u64.to_le_bytes()[..], &chunk].concat()
        })
        .to_vec()
}

/// Returns changes to a log, one of each kind.
pub fn logs() -> Vec<Vec<u8>> {
    let change = |is_closed: u8, kind: u8| {
        let input = [is_closed, kind, 0, 12, 0, 0, 0, 2, 1, 1];
        input.to_vec()
    };
    let all = (0..8).flat_map(|kind| [change(0, kind), change(1, kind)]);
    all.chain([Vec::new(), vec![1]]).collect()
}

/// A log before it is changed.
struct Sample {
    bytes: Vec<u8>,
    /// The records that may be found in it.
    found: [Vec<Vec<u8>>; 2],
}

static SAMPLES: LazyLock<[Sample; 2]> = LazyLock::new(|| {
    [true, false].map(|is_closed| {
        let (bytes, found) = sample(is_closed);
        Sample { bytes, found }
    })
});

/// Reads a valid log after changes that the bytes describe: to its values, its bytes and its
/// length.
pub fn log(bytes: &[u8]) {
    let mut input = Input(bytes);
    let sample = &SAMPLES[usize::from(input.byte() & 1)];
    let disk = Disk::holding(sample.bytes.clone());
    let mut is_valid = true;
    let mut is_whole = true;
    while !input.0.is_empty() {
        match input.byte() % 8 {
            // Changes stored values, as redb would store them; only as long as redb can open the
            // log.
            kind @ 0..=4 if is_whole => {
                is_valid = false;
                let (key, at) = (input.byte(), input.number());
                let value = input.some();
                change(
                    &disk,
                    Change {
                        kind,
                        key,
                        at,
                        value,
                    },
                );
            }
            0..=6 => {
                is_whole = false;
                let mut bytes = disk.bytes();
                let at = input.number();
                let value = input.some();
                for (at, byte) in (at as usize..).zip(value) {
                    let len = bytes.len().max(1);
                    if let Some(changed) = bytes.get_mut(at % len) {
                        *changed ^= byte;
                    }
                }
                disk.set_bytes(bytes);
            }
            _ => {
                is_whole = false;
                let mut bytes = disk.bytes();
                bytes.truncate(input.number() as usize % (bytes.len() + 1));
                disk.set_bytes(bytes);
            }
        }
    }
    let len = disk.bytes().len();
    let read = open_and_read(&disk);
    let total: usize = read.iter().map(|(_, frame)| frame.len()).sum();
    assert!(total <= len);
    if is_valid {
        let is_prefix = |found: &Vec<Vec<u8>>| {
            let mut read = (1..).zip(&read);
            read.all(|(seq, read)| read.0 == seq && found.get(seq as usize - 1) == Some(&read.1))
        };
        assert!(sample.found.iter().any(is_prefix), "never written");
    }
}

/// The bytes that are not read yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// Returns a few bytes that follow their length.
    fn some(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        self.0.split_off(..len).unwrap_or_default()
    }
}
