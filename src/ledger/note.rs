//! Signed notes: text with signatures below it (<https://c2sp.org/signed-note>).

use std::fmt;

use data_encoding::BASE64;

use super::key::{self, SignError, Signer, Vkey, is_key_name};

/// The greatest size of a note that is read, in bytes, unless whoever reads it allows more.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;

/// The greatest number of signatures of a note that is read.
pub const MAX_SIGNATURES: usize = 100;

/// What a signature line begins with.
const DASH: &str = "\u{2014} ";

const KEY_ID_BYTES: usize = 4;

/// Why bytes are no signed note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// It is larger than what is read.
    #[error("the note has {bytes} bytes, more than {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The greatest size: [`MAX_NOTE_BYTES`], or what was allowed.
        most: usize,
    },
    /// It is not UTF-8.
    #[error("the note is not UTF-8")]
    NotUtf8,
    /// It has a control character other than a newline.
    #[error("the note has a control character")]
    ControlCharacter,
    /// No empty line separates text from signatures.
    #[error("the note has no empty line between its text and its signatures")]
    NoSignatures,
    /// The text is empty, or does not end with a newline.
    #[error("the note's text does not end with a newline")]
    Text,
    /// The last line does not end with a newline.
    #[error("the note does not end with a newline")]
    Unfinished,
    /// There are more than [`MAX_SIGNATURES`].
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// A signature line is not written as one.
    #[error("signature line {line} is malformed")]
    SignatureLine {
        /// Which one, from 1.
        line: usize,
    },
}

/// A signature of a note. Whether it is one, only its key can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    key_id: [u8; KEY_ID_BYTES],
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// Returns a signature by this key.
    pub(super) fn new(key: &Vkey, bytes: Vec<u8>) -> Self {
        Self {
            name: key.name().to_owned(),
            key_id: key.id(),
            bytes,
        }
    }

    /// Returns the name of the key that is said to have signed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what is after the key's id: the signature, as its algorithm writes it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it is said to be by this key.
    pub fn is_by(&self, key: &Vkey) -> bool {
        self.name == key.name() && self.key_id == key.id()
    }

    /// Reads a line, without its newline.
    fn parse(line: &str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(DASH)?.split_once(' ')?;
        let decoded = BASE64.decode(base64.as_bytes()).ok()?;
        let (key_id, bytes) = decoded.split_first_chunk()?;
        (is_key_name(name) && !bytes.is_empty()).then(|| Self {
            name: name.to_owned(),
            key_id: *key_id,
            bytes: bytes.to_vec(),
        })
    }
}

impl fmt::Display for NoteSignature {
    /// Writes the line, with its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = [&self.key_id[..], &self.bytes].concat();
        writeln!(f, "{DASH}{} {}", self.name, BASE64.encode(&signature))
    }
}

/// Whether no note may have this character.
fn is_refused(char: char) -> bool {
    char < ' ' && char != '\n'
}

/// A note. Its text means nothing before a signature is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Returns a note that nobody has signed yet.
    ///
    /// # Errors
    /// If the text does not end with a newline, or cannot be a note's.
    pub fn unsigned(text: String) -> Result<Self, NoteError> {
        Self::unsigned_within(text, MAX_NOTE_BYTES)
    }

    /// Like [`unsigned`](Self::unsigned), with another greatest size.
    ///
    /// # Errors
    /// If the text does not end with a newline, or cannot be a note's.
    pub fn unsigned_within(text: String, most: usize) -> Result<Self, NoteError> {
        if text.len() > most {
            let bytes = text.len();
            return Err(NoteError::TooLarge { bytes, most });
        }
        if text.chars().any(is_refused) {
            return Err(NoteError::ControlCharacter);
        }
        if !text.ends_with('\n') {
            return Err(NoteError::Text);
        }
        Ok(Self {
            text,
            signatures: Vec::new(),
        })
    }

    /// Reads a signed note.
    ///
    /// # Errors
    /// If it is not one, or is larger than what is read.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        Self::parse_within(bytes, MAX_NOTE_BYTES)
    }

    /// Like [`parse`](Self::parse), with another greatest size.
    ///
    /// # Errors
    /// If it is not one, or is larger than that.
    pub fn parse_within(bytes: &[u8], most: usize) -> Result<Self, NoteError> {
        let text = text(bytes, most)?;
        let (text, signatures) = text.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let signatures = lines(signatures)?;
        let mut note = Self::unsigned_within(format!("{text}\n"), most)?;
        note.signatures = signatures;
        Ok(note)
    }

    /// Signs the text with a log's key, as one signs a checkpoint.
    ///
    /// # Errors
    /// If the key does not sign.
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<(), SignError> {
        let signature = key::sign_with(signer, self.text.as_bytes())?;
        self.add(NoteSignature::new(signer.vkey(), signature.to_vec()));
        Ok(())
    }

    /// Returns the first of these keys that signed the text. `None` if none did, or if any signature that is said to be
    /// by one of them is not.
    pub fn signed_by<'k>(&self, keys: &'k [Vkey]) -> Option<&'k Vkey> {
        let mut found = None;
        for key in keys {
            for signature in self.signatures.iter().filter(|line| line.is_by(key)) {
                if !key.verify(self.text.as_bytes(), signature.bytes()) {
                    return None;
                }
                found = found.or(Some(key));
            }
        }
        found
    }

    /// Returns the text, with its last newline: what is signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the signatures, as they stand.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature below the others, in place of an earlier one by the same key: there are verifiers that refuse a
    /// note with two.
    pub fn add(&mut self, signature: NoteSignature) {
        self.signatures
            .retain(|other| (&other.name, other.key_id) != (&signature.name, signature.key_id));
        self.signatures.push(signature);
    }

    /// Returns the same text with other signatures.
    pub(super) fn with_signatures(&self, signatures: Vec<NoteSignature>) -> Self {
        Self {
            text: self.text.clone(),
            signatures,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|signature| signature.fmt(f))
    }
}

/// Reads signature lines without a note, as a witness answers.
///
/// # Errors
/// If one of them is malformed, or if there is none.
pub fn parse_signatures(bytes: &[u8]) -> Result<Vec<NoteSignature>, NoteError> {
    lines(text(bytes, MAX_NOTE_BYTES)?)
}

fn text(bytes: &[u8], most: usize) -> Result<&str, NoteError> {
    if bytes.len() > most {
        let bytes = bytes.len();
        return Err(NoteError::TooLarge { bytes, most });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NoteError::NotUtf8)?;
    if text.chars().any(is_refused) {
        return Err(NoteError::ControlCharacter);
    }
    Ok(text)
}

fn lines(text: &str) -> Result<Vec<NoteSignature>, NoteError> {
    if text.is_empty() {
        return Err(NoteError::NoSignatures);
    }
    let text = text.strip_suffix('\n').ok_or(NoteError::Unfinished)?;
    if text.split('\n').count() > MAX_SIGNATURES {
        return Err(NoteError::TooManySignatures);
    }
    text.split('\n')
        .zip(1..)
        .map(|(line, number)| {
            NoteSignature::parse(line).ok_or(NoteError::SignatureLine { line: number })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::ledger::key::MemoryKey;
    use proptest::prelude::*;

    /// The example of the specification.
    const EXAMPLE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    const EXAMPLE_KEY: &str =
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

    #[test]
    fn example_of_the_specification_verifies() {
        let note = Note::parse(EXAMPLE.as_bytes()).unwrap();
        let key = Vkey::parse(EXAMPLE_KEY).unwrap();
        let signature = &note.signatures()[0];
        assert!(signature.is_by(&key));
        assert!(key.verify(note.text().as_bytes(), signature.bytes()));
        assert!(!key.verify(b"This is an example message", signature.bytes()));
        assert_eq!(note.to_string(), EXAMPLE);
        assert_eq!(key.to_string(), EXAMPLE_KEY);
    }

    #[test]
    fn text_ends_at_the_last_empty_line() {
        let text = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n";
        let example = format!(
            "{text}\n\u{2014} quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
        );
        let note = Note::parse(example.as_bytes()).unwrap();
        assert_eq!(note.text(), text);
        assert_eq!(note.to_string(), example);
    }

    #[test]
    fn text_is_signed_by_whose_key_it_is() {
        let [key, other] = ["a", "b"].map(|name| MemoryKey::generate(name).unwrap());
        let keys = [key.vkey().clone(), other.vkey().clone()];
        let mut note = Note::unsigned(String::from("x\n")).unwrap();
        assert_eq!(note.signed_by(&keys), None);
        note.sign(&other).unwrap();
        let read = Note::parse_within(note.to_string().as_bytes(), 200).unwrap();
        assert_eq!(read.signed_by(&keys), Some(&keys[1]));
        assert_eq!(read.signed_by(&keys[..1]), None);
        // A signature by a known key that does not hold counts for more than one that does.
        note.add(NoteSignature::new(key.vkey(), vec![7; 64]));
        assert_eq!(note.signed_by(&keys), None);
        let large = Note::parse_within(note.to_string().as_bytes(), 100);
        assert!(matches!(large, Err(NoteError::TooLarge { most: 100, .. })));
    }

    #[test]
    fn malformed_notes_are_refused() {
        let line = "\u{2014} a AAAAAAA=\n";
        let parse = |note: &str| Note::parse(note.as_bytes()).map(|_| ());
        assert_eq!(parse(&format!("x\n\n{line}")), Ok(()));
        for (note, error) in [
            (String::new(), NoteError::NoSignatures),
            ("x\n".into(), NoteError::NoSignatures),
            ("x\n\n".into(), NoteError::NoSignatures),
            (format!("x\n{line}"), NoteError::NoSignatures),
            (format!("x\r\n\n{line}"), NoteError::ControlCharacter),
            (format!("x\0\n\n{line}"), NoteError::ControlCharacter),
            (
                format!("x\n\n{}", line.trim_end_matches('\n')),
                NoteError::Unfinished,
            ),
            (
                format!("x\n\n{}", line.repeat(101)),
                NoteError::TooManySignatures,
            ),
            (
                format!("{}\n\n{line}", "x".repeat(MAX_NOTE_BYTES)),
                NoteError::TooLarge {
                    bytes: MAX_NOTE_BYTES + 2 + line.len(),
                    most: MAX_NOTE_BYTES,
                },
            ),
        ] {
            assert_eq!(parse(&note), Err(error), "{} bytes", note.len());
        }
        assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::NotUtf8));
        for line in [
            "- a AAAAAAA=",
            "\u{2014}a AAAAAAA=",
            "\u{2014} AAAAAAA=",
            "\u{2014}  AAAAAAA=",
            "\u{2014} a+b AAAAAAA=",
            "\u{2014} a\u{a0}b AAAAAAA=",
            "\u{2014} a  AAAAAAA=",
            "\u{2014} a AAAAAAA= ",
            "\u{2014} a AAAAAAA",
            // Another spelling of the same bytes.
            "\u{2014} a AAAAAAB=",
            // An id without a signature.
            "\u{2014} a AAAAAA==",
            "\u{2014} a ",
        ] {
            let refused = Err(NoteError::SignatureLine { line: 1 });
            assert_eq!(parse(&format!("x\n\n{line}\n")), refused, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_as_it_was(text in "([ -~]{0,20}\n){1,5}", lines in prop::collection::vec(("[a-z./é]{1,9}", prop::collection::vec(any::<u8>(), 5..80)), 1..9)) {
            let mut bytes = format!("{text}\n");
            for (name, signature) in &lines {
                writeln!(bytes, "{DASH}{name} {}", BASE64.encode(signature)).unwrap();
            }
            let note = Note::parse(bytes.as_bytes()).unwrap();
            prop_assert_eq!(note.text(), text);
            prop_assert_eq!(note.to_string(), bytes);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "(x\n|\n|\u{2014} |a |AAAAAAA=|\\PC){0,40}") {
            let _ = Note::parse(&bytes);
            let _ = parse_signatures(&bytes);
            let _ = Vkey::parse(&text);
            if let Ok(note) = Note::parse(text.as_bytes()) {
                prop_assert_eq!(note.to_string(), text);
            }
        }
    }
}
