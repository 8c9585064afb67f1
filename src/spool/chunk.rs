//! Encodes records as one value of the log, a chunk, each with a salt. **Frozen, version 1**: see [`super`].
//!
//! A chunk has a checksum of its own, and each page of a dead process' log is verified too: by
//! itself, redb verifies its checksums only after a crash, and a byte that changed on disk could
//! turn into a wrong record.

use super::error::LogError;
use crate::redact::Passed;

const CHUNK_VERSION: u8 = 1;
const CHUNK_HEADER_BYTES: usize = 12;
pub(crate) const SALT_BYTES: usize = 16;

/// The size up to which buffers share a chunk: with its key, it fills a page of 64 KiB.
const CHUNK_BYTES: usize = 65_000;

/// Returns how many of the first buffers fit into one chunk; at least one.
pub(super) fn fitting(buffers: &[Passed]) -> usize {
    let mut bytes = CHUNK_HEADER_BYTES;
    let fitting = buffers
        .iter()
        .take_while(|buffer| {
            bytes += buffer.bytes.len()
                + SALT_BYTES * usize::try_from(buffer.records).unwrap_or(usize::MAX / 64);
            bytes <= CHUNK_BYTES
        })
        .count();
    fitting.max(1)
}

/// Encodes the records of some buffers as one chunk, whose first record has the seq `first`, and
/// gives each record a salt.
pub(super) fn encode(
    first: u64,
    is_after_gap: bool,
    buffers: &[Passed],
    count: u64,
) -> Result<Vec<u8>, LogError> {
    let count = u32::try_from(count).map_err(|_| LogError::Damaged)?;
    let salts = count as usize * SALT_BYTES;
    let lens = buffers.iter().map(|buffer| buffer.bytes.len());
    let mut chunk = Vec::with_capacity(CHUNK_HEADER_BYTES + salts + lens.sum::<usize>());
    chunk.extend_from_slice(&[CHUNK_VERSION, u8::from(is_after_gap), 0, 0]);
    chunk.extend_from_slice(&[0; 4]);
    chunk.extend_from_slice(&count.to_le_bytes());
    chunk.resize(CHUNK_HEADER_BYTES + salts, 0);
    getrandom::fill(&mut chunk[CHUNK_HEADER_BYTES..]).map_err(LogError::Random)?;
    for buffer in buffers {
        chunk.extend_from_slice(&buffer.bytes);
    }
    let checksum = checksum(first, &chunk);
    chunk[4..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(chunk)
}

/// Computes the checksum of the seq that a chunk is stored under and of the chunk without its
/// checksum.
fn checksum(first: u64, chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&first.to_le_bytes());
    hasher.update(&chunk[..4]);
    hasher.update(&chunk[8..]);
    hasher.finalize()
}

/// Returns the chunk with a correct checksum.
#[cfg(fuzzing)]
pub(super) fn sealed(first: u64, mut chunk: Vec<u8>) -> Vec<u8> {
    if chunk.len() >= CHUNK_HEADER_BYTES {
        let checksum = checksum(first, &chunk);
        chunk[4..8].copy_from_slice(&checksum.to_le_bytes());
    }
    chunk
}

/// Returns the number of records that a chunk's header states.
pub(super) fn count(chunk: &[u8]) -> Result<u64, LogError> {
    let header = chunk
        .first_chunk::<CHUNK_HEADER_BYTES>()
        .ok_or(LogError::Damaged)?;
    let [version, _, _, _, _, _, _, _, count @ ..] = *header;
    if version != CHUNK_VERSION {
        return Err(LogError::Version(u32::from(version)));
    }
    Ok(u64::from(u32::from_le_bytes(count)))
}

/// Returns whether the records just before this chunk were never stored here.
pub(super) fn is_after_gap(chunk: &[u8]) -> bool {
    chunk.get(1) == Some(&1)
}

/// A record's salt and its frame.
pub(super) type Salted<'a> = ([u8; SALT_BYTES], &'a [u8]);

/// Returns the records of the chunk that is stored under the seq `first`. Verifies the checksum
/// first: the bytes may have changed on disk, and redb does not check.
pub(super) fn records(
    first: u64,
    chunk: &[u8],
) -> Result<impl Iterator<Item = Result<Salted<'_>, LogError>>, LogError> {
    let records = usize::try_from(count(chunk)?).map_err(|_| LogError::Damaged)?;
    let stored = chunk[4..].first_chunk().ok_or(LogError::Damaged)?;
    if u32::from_le_bytes(*stored) != checksum(first, chunk) {
        return Err(LogError::Damaged);
    }
    let (salts, mut frames) = chunk[CHUNK_HEADER_BYTES..]
        .split_at_checked(records.checked_mul(SALT_BYTES).ok_or(LogError::Damaged)?)
        .ok_or(LogError::Damaged)?;
    Ok(salts.as_chunks::<SALT_BYTES>().0.iter().map(move |salt| {
        let (len, rest) = frames.split_first_chunk::<4>().ok_or(LogError::Damaged)?;
        let (frame, rest) = rest
            .split_at_checked(u32::from_le_bytes(*len) as usize)
            .ok_or(LogError::Damaged)?;
        frames = rest;
        Ok((*salt, frame))
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::frames::Frames;

    pub(in crate::spool) fn buffer(frames: &[&[u8]]) -> Passed {
        let mut buffer = Frames::default();
        for frame in frames {
            buffer.push(frame);
        }
        Passed::stored(buffer)
    }

    fn read(first: u64, chunk: &[u8]) -> Result<Vec<Salted<'_>>, LogError> {
        records(first, chunk)?.collect()
    }

    /// Frozen, version 1: if this test fails, logs on disk can no longer be read.
    #[test]
    fn bytes_of_version_1_are_frozen() {
        let hex = include_str!("golden/chunk_v1.hex").trim();
        let frozen: Vec<_> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let read = read(42, &frozen).unwrap();
        let frames: Vec<_> = read.iter().map(|(_, frame)| *frame).collect();
        assert_eq!(frames, [&b"abc"[..], b"", b"de"]);
        let mut written =
            encode(42, false, &[buffer(&[b"abc", b""]), buffer(&[b"de"])], 3).unwrap();
        // The salts are random.
        for (at, (salt, _)) in (CHUNK_HEADER_BYTES..).step_by(SALT_BYTES).zip(read) {
            written[at..at + SALT_BYTES].copy_from_slice(&salt);
        }
        let checksum = checksum(42, &written);
        written[4..8].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(written, frozen);
    }

    #[test]
    fn truncated_changed_or_moved_chunk_is_an_error_without_panic() {
        let whole = encode(7, false, &[buffer(&[b"abc", b"de"])], 2).unwrap();
        assert_eq!(read(7, &whole).unwrap().len(), 2);
        for len in 0..whole.len() {
            assert!(matches!(read(7, &whole[..len]), Err(LogError::Damaged)));
        }
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let read = read(7, &changed);
            if bit < 8 {
                assert!(matches!(read, Err(LogError::Version(_))));
            } else {
                assert!(matches!(read, Err(LogError::Damaged)), "{bit}");
            }
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(matches!(read(7, &longer), Err(LogError::Damaged)));
        assert!(matches!(read(8, &whole), Err(LogError::Damaged)));
    }
}
