//! Records as one value of the log, with the salts that it gives them. **Frozen, version 1**: see
//! [`super`].

use super::log::LogError;
use crate::queue::Chunk;

const CHUNK_VERSION: u8 = 1;
const CHUNK_HEADER_BYTES: usize = 8;
pub(super) const SALT_BYTES: usize = 16;

/// Bytes up to which chunks are put together: with its key, an entry of a page of 64 KiB.
const ENTRY_BYTES: usize = 65_000;

/// How many of the first chunks fit into one entry; at least one.
pub(super) fn entry_len(chunks: &[Chunk]) -> usize {
    let mut bytes = CHUNK_HEADER_BYTES;
    let fitting = chunks
        .iter()
        .take_while(|chunk| {
            bytes += chunk.bytes.len()
                + SALT_BYTES * usize::try_from(chunk.records).unwrap_or(usize::MAX / 64);
            bytes <= ENTRY_BYTES
        })
        .count();
    fitting.max(1)
}

/// Puts chunks together as one value, and gives each record its salt.
pub(super) fn entry(chunks: &[Chunk], count: u64) -> Result<Vec<u8>, LogError> {
    let count = u32::try_from(count).map_err(|_| LogError::Damaged)?;
    let salts = count as usize * SALT_BYTES;
    let mut entry = Vec::with_capacity(
        CHUNK_HEADER_BYTES + salts + chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>(),
    );
    entry.extend_from_slice(&[CHUNK_VERSION, 0, 0, 0]);
    entry.extend_from_slice(&count.to_le_bytes());
    entry.resize(CHUNK_HEADER_BYTES + salts, 0);
    getrandom::fill(&mut entry[CHUNK_HEADER_BYTES..]).map_err(LogError::Random)?;
    for chunk in chunks {
        entry.extend_from_slice(&chunk.bytes);
    }
    Ok(entry)
}

/// How many records a value holds.
pub(super) fn count(chunk: &[u8]) -> Result<u64, LogError> {
    let header = chunk
        .first_chunk::<CHUNK_HEADER_BYTES>()
        .ok_or(LogError::Damaged)?;
    let [version, _, _, _, count @ ..] = *header;
    if version != CHUNK_VERSION {
        return Err(LogError::Version(u32::from(version)));
    }
    Ok(u64::from(u32::from_le_bytes(count)))
}

/// A record's salt and its frame.
pub(super) type Salted<'a> = ([u8; SALT_BYTES], &'a [u8]);

/// The records of a chunk.
pub(super) fn records(
    chunk: &[u8],
) -> Result<impl Iterator<Item = Result<Salted<'_>, LogError>>, LogError> {
    let records = usize::try_from(count(chunk)?).map_err(|_| LogError::Damaged)?;
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

    pub(in crate::spool) fn chunk(frames: &[&[u8]]) -> Chunk {
        let mut chunk = Chunk::default();
        for frame in frames {
            chunk.push(frame);
        }
        chunk
    }

    #[test]
    fn a_damaged_chunk_is_an_error_and_no_panic() {
        let whole = entry(&[chunk(&[b"abc", b"de"])], 2).unwrap();
        for len in 0..whole.len() {
            let read = records(&whole[..len]).map(Iterator::collect::<Result<Vec<_>, _>>);
            assert!(!matches!(read, Ok(Ok(_))), "{len}");
        }
        let mut newer = whole;
        newer[0] = 9;
        assert!(matches!(count(&newer), Err(LogError::Version(9))));
    }
}
