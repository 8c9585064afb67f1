//! What a log sends to a witness, and how the answer is to be read (<https://c2sp.org/tlog-witness>).

use data_encoding::BASE64;

use super::checkpoint::decimal;
use super::note::Note;
use super::tree::Hash;

/// The path of the request below the URL of the witness.
pub const ADD_CHECKPOINT: &str = "add-checkpoint";

/// The greatest size of an answer that says which size the witness knows, in bytes.
const MAX_SIZE_BYTES: usize = 21;

/// Returns the body of the request that asks a witness to cosign a checkpoint.
///
/// `old_size` is that of the checkpoint which the witness cosigned last, or 0; `path` proves that its tree is the
/// beginning of this one. The answer is for [`add_answer`](super::checkpoint::add_answer), or, with the status 409, for
/// [`known_size`].
pub fn add_checkpoint_body(old_size: u64, path: &[Hash], checkpoint: &Note) -> String {
    let mut body = format!("old {old_size}\n");
    for hash in path {
        body.push_str(&BASE64.encode(hash));
        body.push('\n');
    }
    body.push('\n');
    body.push_str(&checkpoint.to_string());
    body
}

/// Reads the answer of a witness that cosigned a checkpoint of another size last: that size. `None` if it is no number.
pub fn known_size(answer: &[u8]) -> Option<u64> {
    if answer.len() > MAX_SIZE_BYTES {
        return None;
    }
    decimal(std::str::from_utf8(answer).ok()?.strip_suffix('\n')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_written_as_specified() {
        let note = "a\n1\nAAAA\n\n\u{2014} a AAAAAAA=\n";
        let checkpoint = Note::parse(note.as_bytes()).unwrap();
        let hash = BASE64.encode(&[7; 32]);
        assert_eq!(
            add_checkpoint_body(20, &[[7; 32]; 2], &checkpoint),
            format!("old 20\n{hash}\n{hash}\n\n{note}")
        );
        assert_eq!(
            add_checkpoint_body(0, &[], &checkpoint),
            format!("old 0\n\n{note}")
        );
    }

    #[test]
    fn known_size_is_a_number_and_a_newline() {
        assert_eq!(known_size(b"0\n"), Some(0));
        assert_eq!(known_size(b"18446744073709551615\n"), Some(u64::MAX));
        for answer in [
            &b""[..],
            b"\n",
            b"5",
            b"05\n",
            b"-5\n",
            b"5\n\n",
            b"5\r\n",
            b"\xff\n",
            b"18446744073709551616\n",
            &[b'1'; 1000],
        ] {
            assert_eq!(known_size(answer), None, "{answer:?}");
        }
    }
}
