//! Finds the literals of all shapes in one pass over a text.
//!
//! Each record is searched for some 300 literals, in any case, and almost none has one. So the pass
//! only asks for each three bytes whether they may be of a literal, by a bit in a table of 32 KiB. An
//! automaton that follows every literal at once, which has to find those that overlap, took about 1.7
//! times as long: 1.25 µs for a record of 600 bytes.

use std::ops::Range;

/// How many bits a byte has in a trigram.
const BITS: u32 = 6;
const TRIGRAM: u32 = (1 << (3 * BITS)) - 1;

/// How many words of 64 bits have a bit for each trigram.
const WORDS: usize = (TRIGRAM as usize + 1) / 64;

/// How many lists the literals are spread over, by their trigram.
const LISTS: u32 = 1024;

/// Literals to be found together.
#[derive(Debug)]
pub(super) struct Literals {
    words: Vec<Vec<u8>>,
    /// Whether a trigram is one by which a literal is found.
    is_known: Box<[u64]>,
    /// For each list: a trigram, the literal, and where in it the trigram begins.
    lists: Vec<Vec<(u32, usize, usize)>>,
    /// The literals of one or two bytes, which have no trigram.
    short: Vec<usize>,
}

impl Literals {
    /// Takes literals in lower case.
    pub(super) fn new(words: Vec<String>) -> Self {
        let words: Vec<Vec<u8>> = words.into_iter().map(String::into_bytes).collect();
        let mut this = Self {
            is_known: vec![0; WORDS].into_boxed_slice(),
            lists: vec![Vec::new(); LISTS as usize],
            short: Vec::new(),
            words,
        };
        for (literal, word) in this.words.iter().enumerate() {
            let places = 0..word.len().saturating_sub(2);
            let Some(at) = places.min_by_key(|at| commonness(&word[*at..*at + 3])) else {
                this.short.push(literal);
                continue;
            };
            let trigram = trigram(&word[at..at + 3]);
            this.is_known[trigram as usize / 64] |= 1 << (trigram % 64);
            this.lists[list(trigram)].push((trigram, literal, at));
        }
        this
    }

    /// Calls `each` with each literal in the text and where it is, until it returns `true`; returns
    /// whether it did.
    pub(super) fn any(
        &self,
        text: &[u8],
        mut each: impl FnMut(usize, Range<usize>) -> bool,
    ) -> bool {
        let mut last = 0;
        for (at, byte) in text.iter().enumerate() {
            last = (last << BITS | u32::from(CODES[usize::from(*byte)])) & TRIGRAM;
            let is_known = self.is_known[last as usize / 64 % WORDS] >> (last % 64) & 1 == 1;
            if is_known && at >= 2 && self.ends_at(text, at, last, &mut each) {
                return true;
            }
        }
        self.short.iter().any(|literal| {
            let word = &*self.words[*literal];
            let windows = text.windows(word.len()).enumerate();
            let mut found = windows.filter(|(_, part)| part.eq_ignore_ascii_case(word));
            found.any(|(at, _)| each(*literal, at..at + word.len()))
        })
    }

    /// Calls `each` with the literals whose trigram ends at a place.
    fn ends_at(
        &self,
        text: &[u8],
        at: usize,
        last: u32,
        each: &mut impl FnMut(usize, Range<usize>) -> bool,
    ) -> bool {
        self.lists[list(last)]
            .iter()
            .any(|(trigram, literal, offset)| {
                let word = &*self.words[*literal];
                if *trigram != last || at < offset + 2 {
                    return false;
                }
                let start = at - 2 - offset;
                let is_there = text
                    .get(start..start + word.len())
                    .is_some_and(|part| part.eq_ignore_ascii_case(word));
                is_there && each(*literal, start..start + word.len())
            })
    }
}

fn list(trigram: u32) -> usize {
    // Fibonacci hashing, to ten bits.
    (trigram.wrapping_mul(0x9e37_79b9) >> 22) as usize
}

fn trigram(three: &[u8]) -> u32 {
    three.iter().fold(0, |trigram, byte| {
        trigram << BITS | u32::from(CODES[usize::from(*byte)])
    })
}

/// Returns how common three bytes are in texts, in parts of a thousand for each letter of English.
fn commonness(three: &[u8]) -> u32 {
    const LETTERS: [u32; 26] = [
        82, 15, 28, 43, 127, 22, 20, 61, 70, 2, 8, 40, 24, 67, 75, 19, 1, 60, 63, 91, 28, 10, 24,
        2, 20, 1,
    ];
    let of_byte = |byte: &u8| match byte {
        b'a'..=b'z' => LETTERS[usize::from(byte - b'a')],
        b' ' | b'/' | b'.' | b'=' | b':' => 30,
        _ => 1,
    };
    three.iter().map(of_byte).sum()
}

/// The code of each byte: letters without their case, digits, and some signs have one of their own.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the index is that of a byte"
)]
const CODES: [u8; 256] = {
    let mut codes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        codes[byte] = match byte as u8 {
            letter @ b'a'..=b'z' => letter - b'a' + 1,
            letter @ b'A'..=b'Z' => letter - b'A' + 1,
            digit @ b'0'..=b'9' => digit - b'0' + 27,
            b'_' => 37,
            b'-' => 38,
            b'.' => 39,
            b':' => 40,
            b'/' => 41,
            b'=' => 42,
            b'~' => 43,
            b' ' => 44,
            b'\\' => 45,
            b'<' => 46,
            b'@' => 47,
            other => 48 + other % 16,
        };
        byte += 1;
    }
    codes
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn literals_are_found_wherever_they_are(
            words in proptest::collection::vec("[a-c@._]{1,5}", 1..20),
            text in "[a-cA-C@._\\PC]{0,60}",
        ) {
            let mut found = Vec::new();
            Literals::new(words.clone()).any(text.as_bytes(), |literal, range| {
                found.push((literal, range.start));
                false
            });
            found.sort_unstable();
            let lower = text.to_ascii_lowercase();
            let mut expected = Vec::new();
            for (literal, word) in words.iter().enumerate() {
                let windows = lower.as_bytes().windows(word.len()).enumerate();
                let places = windows.filter(|(_, part)| *part == word.as_bytes());
                expected.extend(places.map(|(at, _)| (literal, at)));
            }
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
