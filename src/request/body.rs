//! How far a body has come, and the beginning of one.

/// How a response's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// All of it was taken.
    Whole,
    /// It ended before its length, so that the client gets a truncated response.
    Short { taken: u64, length: u64 },
    /// It was dropped before it ended.
    Dropped,
}

/// How much of a body was taken, by the server that sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The total of bytes that are sent, if known.
    length: Option<u64>,
    taken: u64,
}

impl Progress {
    pub(crate) fn new(length: Option<u64>) -> Self {
        Self { length, taken: 0 }
    }

    pub(crate) fn take(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes as u64);
    }

    /// Returns whether the length is known, and all of it was taken.
    #[cfg(feature = "actix-web")]
    pub(crate) fn is_whole(self) -> bool {
        self.length.is_some_and(|length| self.taken >= length)
    }

    /// Returns how a body ended of which nothing is left.
    pub(crate) fn at_end(self) -> BodyEnd {
        match self.length {
            Some(length) if self.taken < length => BodyEnd::Short {
                taken: self.taken,
                length,
            },
            _ => BodyEnd::Whole,
        }
    }

    /// Returns how a body ended that is dropped. A server asks for no more than the length.
    pub(crate) fn at_drop(self, is_at_its_end: bool) -> BodyEnd {
        match self.length {
            Some(length) if self.taken >= length => BodyEnd::Whole,
            _ if is_at_its_end => self.at_end(),
            _ => BodyEnd::Dropped,
        }
    }
}

/// The beginning of a body, up to a limit.
#[derive(Debug)]
pub(crate) struct Beginning {
    bytes: Vec<u8>,
    limit: usize,
    seen: u64,
}

impl Beginning {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            seen: 0,
        }
    }

    /// Sees a part of `len` bytes that begins with `data`.
    pub(crate) fn see(&mut self, data: &[u8], len: usize) {
        self.seen = self.seen.saturating_add(len as u64);
        let room = self.limit - self.bytes.len();
        self.bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() < len {
            // What follows is not next to it.
            self.limit = self.bytes.len();
        }
    }

    /// Returns the total of bytes that were seen.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the text; `None`: the body is not text.
    pub(crate) fn text(&self) -> Option<&str> {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Some(text),
            // Cut within a character.
            Err(error) if error.error_len().is_none() && self.seen > self.bytes.len() as u64 => {
                std::str::from_utf8(&self.bytes[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_is_whole_once_its_length_or_its_end_was_reached() {
        let after = |length, taken| {
            let mut progress = Progress::new(length);
            progress.take(taken);
            progress
        };
        let short = BodyEnd::Short {
            taken: 3,
            length: 9,
        };
        assert_eq!(after(None, 3).at_end(), BodyEnd::Whole);
        assert_eq!(after(Some(9), 3).at_end(), short);
        assert_eq!(after(Some(9), 9).at_drop(false), BodyEnd::Whole);
        assert_eq!(after(Some(9), 3).at_drop(true), short);
        assert_eq!(after(Some(9), 3).at_drop(false), BodyEnd::Dropped);
        assert_eq!(after(None, 0).at_drop(true), BodyEnd::Whole);
        assert_eq!(after(None, 0).at_drop(false), BodyEnd::Dropped);
    }

    #[test]
    fn beginning_of_a_body_is_text_cut_between_characters() {
        let of = |parts: &[&[u8]], limit| {
            let mut beginning = Beginning::new(limit);
            for part in parts {
                beginning.see(part, part.len());
            }
            (beginning.text().map(String::from), beginning.seen())
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(of(&[b"ab", b"cd"], 3), (text("abc"), 4));
        assert_eq!(of(&[b"a\xc3", b"\xa4b"], 9), (text("aäb"), 4));
        assert_eq!(of(&[b"a\xc3", b"\xa4b"], 2), (text("a"), 4));
        assert_eq!(of(&[b"a\xc3"], 9), (None, 2));
        assert_eq!(of(&[b"\xff\xfe"], 9), (None, 2));
        assert_eq!(of(&[], 9), (text(""), 0));
    }
}
