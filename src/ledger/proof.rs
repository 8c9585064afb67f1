//! Proofs that an entry is in a log, as one file that is verified offline (<https://c2sp.org/tlog-proof>).

use std::fmt;

use data_encoding::BASE64;

use super::checkpoint::{base64_hash, decimal};
use super::note::{Note, NoteError};
use super::paths::MAX_PATH_HASHES;
use super::tree::Hash;

/// The greatest size of a proof that is read, in bytes: enough for the largest record that can be configured.
pub const MAX_PROOF_BYTES: usize = 256 * 1024 * 1024;

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Why bytes are no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofFormatError {
    /// It is larger than [`MAX_PROOF_BYTES`].
    #[error("the proof has {bytes} bytes, more than {MAX_PROOF_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not UTF-8.
    #[error("the proof is not UTF-8")]
    NotUtf8,
    /// The first line is another.
    #[error("the proof does not begin with the line {HEADER}")]
    Header,
    /// The extra line is not base64.
    #[error("the proof's extra line is not base64")]
    Extra,
    /// There is no line with the index, or no number in it.
    #[error("the proof has no line with the entry's index")]
    Index,
    /// A line of the path is not the base64 of a hash.
    #[error("line {line} of the proof's path is not the base64 of a SHA-256 hash")]
    Path {
        /// Which one, from 1.
        line: usize,
    },
    /// The path is longer than that of the largest tree.
    #[error("the proof's path has more than {MAX_PATH_HASHES} hashes")]
    PathTooLong,
    /// It ends before the checkpoint.
    #[error("the proof ends before its checkpoint")]
    NoCheckpoint,
    /// The checkpoint is no signed note.
    #[error("the proof's checkpoint is not a signed note")]
    Checkpoint(#[from] NoteError),
}

/// A proof that an entry is in a log. It proves nothing before it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// What the application adds. It is not authenticated.
    pub extra: Option<Vec<u8>>,
    /// The index of the entry in the log.
    pub index: u64,
    /// The path from the entry to the root.
    pub path: Vec<Hash>,
    /// The log's checkpoint.
    pub checkpoint: Note,
}

impl TlogProof {
    /// Reads a proof.
    ///
    /// # Errors
    /// If it is not one, or is larger than what is read.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofFormatError> {
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(ProofFormatError::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ProofFormatError::NotUtf8)?;
        let rest = text
            .strip_prefix(HEADER)
            .and_then(|rest| rest.strip_prefix('\n'))
            .ok_or(ProofFormatError::Header)?;
        let (extra, rest) = extra_line(rest)?;
        let (index, mut rest) = rest
            .strip_prefix("index ")
            .and_then(|rest| rest.split_once('\n'))
            .and_then(|(index, rest)| Some((decimal(index)?, rest)))
            .ok_or(ProofFormatError::Index)?;
        let mut path = Vec::new();
        loop {
            let (line, after) = rest
                .split_once('\n')
                .ok_or(ProofFormatError::NoCheckpoint)?;
            rest = after;
            if line.is_empty() {
                break;
            }
            if path.len() == MAX_PATH_HASHES {
                return Err(ProofFormatError::PathTooLong);
            }
            let line_number = path.len() + 1;
            let hash = base64_hash(line).ok_or(ProofFormatError::Path { line: line_number })?;
            path.push(hash);
        }
        Ok(Self {
            extra,
            index,
            path,
            checkpoint: Note::parse(rest.as_bytes())?,
        })
    }

    /// Writes the proof as a file.
    ///
    /// # Errors
    /// If it is larger than what is read.
    pub fn encode(&self) -> Result<String, ProofFormatError> {
        let text = self.to_string();
        if text.len() > MAX_PROOF_BYTES {
            return Err(ProofFormatError::TooLarge { bytes: text.len() });
        }
        Ok(text)
    }
}

type ExtraAndRest<'a> = (Option<Vec<u8>>, &'a str);

fn extra_line(text: &str) -> Result<ExtraAndRest<'_>, ProofFormatError> {
    let Some(rest) = text.strip_prefix("extra ") else {
        return Ok((None, text));
    };
    let (base64, rest) = rest.split_once('\n').ok_or(ProofFormatError::Extra)?;
    let extra = BASE64
        .decode(base64.as_bytes())
        .map_err(|_| ProofFormatError::Extra)?;
    Ok((Some(extra), rest))
}

impl fmt::Display for TlogProof {
    /// Writes the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", BASE64.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOTE: &str = "a\n1\nAAAA\n\n\u{2014} a AAAAAAA=\n";

    fn hash_line() -> String {
        format!("{}\n", BASE64.encode(&[7; 32]))
    }

    #[test]
    fn malformed_proofs_are_refused() {
        let line = hash_line();
        let parse = |text: &str| TlogProof::parse(text.as_bytes());
        let whole = format!("{HEADER}\nextra AAAA\nindex 5\n{line}{line}\n{NOTE}");
        let proof = parse(&whole).unwrap();
        assert_eq!(proof.extra, Some(vec![0; 3]));
        assert_eq!((proof.index, proof.path.len()), (5, 2));
        assert_eq!(proof.to_string(), whole);
        assert!(parse(&format!("{HEADER}\nindex 0\n\n{NOTE}")).is_ok());
        let many = line.repeat(65);
        for (text, error) in [
            (String::new(), ProofFormatError::Header),
            (HEADER.to_owned(), ProofFormatError::Header),
            (whole.replace("@v1", "@v2"), ProofFormatError::Header),
            (whole.replace("@v1", "@v1 "), ProofFormatError::Header),
            (
                whole.replace("extra AAAA", "extra AAA"),
                ProofFormatError::Extra,
            ),
            (
                whole.replace("extra AAAA\n", "extra AAAA"),
                ProofFormatError::Extra,
            ),
            (whole.replace("extra ", "extra\t"), ProofFormatError::Index),
            (
                whole.replace("index 5", "index 05"),
                ProofFormatError::Index,
            ),
            (
                whole.replace("index 5", "index -5"),
                ProofFormatError::Index,
            ),
            (whole.replace("index 5", "index"), ProofFormatError::Index),
            (
                whole.replace("Bwc", "Bw"),
                ProofFormatError::Path { line: 1 },
            ),
            (
                format!("{HEADER}\nindex 5\n{many}\n{NOTE}"),
                ProofFormatError::PathTooLong,
            ),
            (
                format!("{HEADER}\nindex 5\n{line}"),
                ProofFormatError::NoCheckpoint,
            ),
            (
                format!("{HEADER}\nindex 5\n"),
                ProofFormatError::NoCheckpoint,
            ),
            (
                format!("{HEADER}\nindex 5\n\n"),
                NoteError::NoSignatures.into(),
            ),
            (whole.replace('\n', "\r\n"), ProofFormatError::Header),
        ] {
            assert_eq!(parse(&text).map(|_| ()), Err(error), "{text:?}");
        }
        assert_eq!(TlogProof::parse(b"\xff"), Err(ProofFormatError::NotUtf8));
    }

    proptest! {
        #[test]
        fn proof_is_read_as_it_was_written(extra in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)), index in any::<u64>(), path in prop::collection::vec(any::<Hash>(), 0..=64)) {
            let checkpoint = Note::parse(NOTE.as_bytes()).unwrap();
            let proof = TlogProof { extra, index, path, checkpoint };
            prop_assert_eq!(TlogProof::parse(proof.encode().unwrap().as_bytes()), Ok(proof));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "(extra |index |5|AAAA|\n|\\PC){0,30}") {
            let _ = TlogProof::parse(&bytes);
            let text = format!("{HEADER}\n{text}{NOTE}");
            if let Ok(proof) = TlogProof::parse(text.as_bytes()) {
                prop_assert_eq!(proof.to_string(), text);
            }
        }
    }
}
