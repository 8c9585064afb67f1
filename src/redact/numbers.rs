//! Finds the numbers that stand for a person: payment cards, IBANs, phone numbers, national ids.
//!
//! Numbers are found by hand rather than by regular expressions, since nothing literal announces
//! them: one pass collects the groups of digits, and only groups of fitting lengths are looked at
//! further. A checksum decides. Where a checksum lets one number in ten pass, a word nearby has to
//! say what the number is ([`says`]), because order numbers look alike.

mod national;
mod phone;

use std::ops::Range;

use super::checksums;

/// A group of digits, and what stands around it.
#[derive(Clone, Copy, Debug)]
struct Group {
    start: usize,
    end: usize,
}

impl Group {
    fn len(self) -> usize {
        self.end - self.start
    }
}

/// Which numbers are looked for, in the order of [`Number`].
pub(super) type Wanted = [bool; 4];

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Number {
    Card,
    Iban,
    Phone,
    NationalId,
}

/// The groups of digits of a text.
struct Groups<'a> {
    text: &'a [u8],
    all: Vec<Group>,
}

/// How many bytes are looked at together: enough that digits are counted by vector instructions.
const CHUNK: usize = 16;

/// The fewest digits of a number, which stand within three chunks.
const LEAST_DIGITS: usize = 7;

/// The most bytes between two groups of a number.
const LONGEST_GAP: usize = 3;

fn digits_of(chunk: &[u8]) -> u8 {
    chunk
        .iter()
        .fold(0, |count, byte| count + u8::from(byte.is_ascii_digit()))
}

/// Returns whether the text may have a number that [`find`] finds: quick, and right about a "no".
pub(super) fn may_have(text: &[u8]) -> bool {
    let (mut before, mut last) = (0, 0);
    text.chunks(CHUNK).any(|chunk| {
        let digits = usize::from(digits_of(chunk));
        let all = before + last + digits;
        (before, last) = (last, digits);
        all >= LEAST_DIGITS
    })
}

/// Finds the numbers in a text.
pub(super) fn find(text: &[u8], wanted: Wanted, mut found: impl FnMut(Number, Range<usize>)) {
    let groups = Groups::of(text);
    let mut at = 0;
    while at < groups.all.len() {
        let Some((number, range)) = groups.number(at, wanted) else {
            at += 1;
            continue;
        };
        let end = range.end;
        found(number, range);
        while groups.all.get(at).is_some_and(|group| group.start < end) {
            at += 1;
        }
    }
}

impl<'a> Groups<'a> {
    fn of(text: &'a [u8]) -> Self {
        let mut all: Vec<Group> = Vec::with_capacity(32);
        for (number, chunk) in text.chunks(CHUNK).enumerate() {
            if digits_of(chunk) == 0 {
                continue;
            }
            for (at, byte) in (number * CHUNK..).zip(chunk) {
                if !byte.is_ascii_digit() {
                    continue;
                }
                match all.last_mut() {
                    Some(last) if last.end == at => last.end += 1,
                    _ => all.push(Group {
                        start: at,
                        end: at + 1,
                    }),
                }
            }
        }
        Self { text, all }
    }

    /// Returns the number that begins with a group, or before it with letters.
    fn number(&self, at: usize, wanted: Wanted) -> Option<(Number, Range<usize>)> {
        if wanted[Number::Iban as usize]
            && let Some(range) = self.iban(at)
        {
            return Some((Number::Iban, range));
        }
        let group = self.all[at];
        let is_letter = |byte: Option<&u8>| {
            byte.is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        };
        let next = self.all.get(at + 1);
        let is_alone = next.is_none_or(|next| next.start > group.end + LONGEST_GAP);
        let is_after_letter = is_letter(self.text[..group.start].last());
        if is_alone && group.len() < LEAST_DIGITS && !is_after_letter {
            return None;
        }
        let is_beside_letter = is_after_letter || is_letter(self.text.get(group.end));
        if is_beside_letter {
            // As most groups of hexadecimal digits are: only ids with letters can be there.
            let id = wanted[Number::NationalId as usize].then(|| self.id_beside_letters(at));
            return id.flatten().map(|range| (Number::NationalId, range));
        }
        if wanted[Number::Card as usize]
            && let Some(range) = self.card(at)
        {
            return Some((Number::Card, range));
        }
        if wanted[Number::NationalId as usize]
            && let Some(range) = self.national_id(at)
        {
            return Some((Number::NationalId, range));
        }
        if wanted[Number::Phone as usize]
            && let Some(range) = self.phone(at)
        {
            return Some((Number::Phone, range));
        }
        None
    }

    /// Returns the groups from one on whose lengths are these, separated by one and the same byte out
    /// of `separators`.
    fn shaped(&self, at: usize, lens: &[usize], separators: &[u8]) -> Option<Range<usize>> {
        let groups = self.all.get(at..at + lens.len())?;
        let has_lens = groups
            .iter()
            .zip(lens)
            .all(|(group, len)| group.len() == *len);
        if !has_lens {
            return None;
        }
        let separator = groups
            .get(1)
            .map(|second| &self.text[groups[0].end..second.start]);
        let is_separated = groups.windows(2).all(|pair| {
            let between = &self.text[pair[0].end..pair[1].start];
            Some(between) == separator && between.len() == 1 && separators.contains(&between[0])
        });
        is_separated.then(|| groups[0].start..groups[lens.len() - 1].end)
    }

    /// Returns the values of the digits in a range.
    fn digits(&self, range: Range<usize>) -> Vec<u8> {
        let bytes = self.text[range].iter();
        bytes
            .filter(|byte| byte.is_ascii_digit())
            .map(|byte| byte - b'0')
            .collect()
    }

    /// Returns whether a number in this range is no part of a longer word.
    fn stands_alone(&self, range: &Range<usize>) -> bool {
        let before = self.text[..range.start].iter().rev();
        let after = self.text[range.end..].iter();
        !goes_on(before) && !goes_on(after)
    }

    fn card(&self, at: usize) -> Option<Range<usize>> {
        const GROUPED: [&[usize]; 4] = [&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3]];
        let group = self.all[at];
        if !matches!(group.len(), 4 | 13..=19) {
            return None;
        }
        let range = if (13..=19).contains(&group.len()) {
            group.start..group.end
        } else {
            GROUPED
                .iter()
                .find_map(|lens| self.shaped(at, lens, b" -"))?
        };
        let digits = self.digits(range.clone());
        (is_of_issuer(&digits) && checksums::luhn(&digits) && self.stands_alone(&range))
            .then_some(range)
    }

    /// Returns an IBAN whose check digits begin this group.
    fn iban(&self, at: usize) -> Option<Range<usize>> {
        let start = self.all[at].start.checked_sub(2)?;
        let country = [self.text[start], self.text[start + 1]];
        if !country.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        let len = iban_len(country)?;
        let mut plain = Vec::with_capacity(len);
        let mut end = start;
        for (offset, byte) in self.text[start..].iter().enumerate() {
            match byte {
                b' ' if plain.len() % 4 == 0 && !plain.is_empty() => continue,
                _ if byte.is_ascii_alphanumeric() => plain.push(byte.to_ascii_uppercase()),
                _ => break,
            }
            if plain.len() == len {
                end = start + offset + 1;
                break;
            }
        }
        let range = start..end;
        (plain.len() == len && checksums::iban(&plain) && self.stands_alone(&range))
            .then_some(range)
    }

    /// Returns whether one of these words stands shortly before a place.
    fn says(&self, start: usize, words: &[&str]) -> bool {
        const NEAR: usize = 32;
        let before = self.text[start.saturating_sub(NEAR)..start].to_ascii_lowercase();
        words.iter().any(|word| {
            before
                .windows(word.len())
                .any(|part| part == word.as_bytes())
        })
    }
}

/// Returns whether a word goes on over its end: with a letter or a digit, or with one behind a hyphen,
/// a dot or an underscore.
fn goes_on<'a>(mut rest: impl Iterator<Item = &'a u8>) -> bool {
    match rest.next() {
        Some(b'-' | b'.' | b'_') => rest.next().is_some_and(u8::is_ascii_alphanumeric),
        Some(byte) => byte.is_ascii_alphanumeric(),
        None => false,
    }
}

/// Returns whether a card's number begins as those of an issuer, and is as long.
fn is_of_issuer(digits: &[u8]) -> bool {
    let four = digits[..4]
        .iter()
        .fold(0_u32, |number, &digit| number * 10 + u32::from(digit));
    match digits.len() {
        13 => (4000..5000).contains(&four),
        14 => matches!(four, 3000..=3059 | 3095 | 3600..=3699 | 3800..=3999),
        15 => matches!(four, 3400..=3499 | 3700..=3799),
        16 => matches!(
            four,
            2221..=2720 | 3528..=3589 | 4000..=4999 | 5018 | 5020 | 5038 | 5100..=5599 | 6011 | 6200..=6299
                | 6304 | 6440..=6599 | 6759 | 6761..=6763
        ),
        18 | 19 => matches!(four, 5018 | 5020 | 5038 | 6200..=6299 | 6304 | 6759 | 6761..=6763),
        _ => false,
    }
}

/// Returns how long the IBANs of a country are.
fn iban_len(country: [u8; 2]) -> Option<usize> {
    const LENGTHS: &[(&[u8; 2], usize)] = &[
        (b"AD", 24),
        (b"AE", 23),
        (b"AL", 28),
        (b"AT", 20),
        (b"AZ", 28),
        (b"BA", 20),
        (b"BE", 16),
        (b"BG", 22),
        (b"BH", 22),
        (b"BR", 29),
        (b"BY", 28),
        (b"CH", 21),
        (b"CR", 22),
        (b"CY", 28),
        (b"CZ", 24),
        (b"DE", 22),
        (b"DK", 18),
        (b"DO", 28),
        (b"EE", 20),
        (b"EG", 29),
        (b"ES", 24),
        (b"FI", 18),
        (b"FO", 18),
        (b"FR", 27),
        (b"GB", 22),
        (b"GE", 22),
        (b"GI", 23),
        (b"GL", 18),
        (b"GR", 27),
        (b"GT", 28),
        (b"HR", 21),
        (b"HU", 28),
        (b"IE", 22),
        (b"IL", 23),
        (b"IQ", 23),
        (b"IS", 26),
        (b"IT", 27),
        (b"JO", 30),
        (b"KW", 30),
        (b"KZ", 20),
        (b"LB", 28),
        (b"LI", 21),
        (b"LT", 20),
        (b"LU", 20),
        (b"LV", 21),
        (b"LY", 25),
        (b"MC", 27),
        (b"MD", 24),
        (b"ME", 22),
        (b"MK", 19),
        (b"MR", 27),
        (b"MT", 31),
        (b"MU", 30),
        (b"NL", 18),
        (b"NO", 15),
        (b"PK", 24),
        (b"PL", 28),
        (b"PS", 29),
        (b"PT", 25),
        (b"QA", 29),
        (b"RO", 24),
        (b"RS", 22),
        (b"SA", 24),
        (b"SC", 31),
        (b"SE", 24),
        (b"SI", 19),
        (b"SK", 24),
        (b"SM", 27),
        (b"ST", 25),
        (b"SV", 28),
        (b"TL", 23),
        (b"TN", 24),
        (b"TR", 26),
        (b"UA", 29),
        (b"VA", 22),
        (b"VG", 24),
        (b"XK", 20),
    ];
    let country = country.map(|letter| letter.to_ascii_uppercase());
    let at = LENGTHS
        .binary_search_by(|(other, _)| other.as_slice().cmp(&country))
        .ok()?;
    Some(LENGTHS[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wanted = [true; 4];

    fn found(text: &str) -> Vec<(Number, &str)> {
        let mut found = Vec::new();
        find(text.as_bytes(), ALL, |number, range| {
            found.push((number, &text[range]));
        });
        assert!(found.is_empty() || may_have(text.as_bytes()), "{text}");
        found
    }

    #[test]
    fn numbers_are_found_with_and_without_separators() {
        for card in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "5555-5555-5555-4444",
            "3782 822463 10005",
        ] {
            let text = format!("12 cards: {card}, 7 left");
            assert_eq!(found(&text), [(Number::Card, card)]);
        }
        for iban in [
            "DE89370400440532013000",
            "GB29 NWBK 6016 1331 9268 19",
            "nl91abna0417164300",
        ] {
            assert_eq!(found(&format!("IBAN {iban}.")), [(Number::Iban, iban)]);
        }
        for phone in [
            "+49 30 901820",
            "+1 (415) 555-2671",
            "(415) 555-2671",
            "415-555-2671",
            "0049 30 901820",
            "06 12 34 56 78",
            "1-415-555-2671",
            "+1(415)555-2671",
            "+49-(0)30-901820",
            "+49 30 / 901820",
        ] {
            assert_eq!(found(&format!("at {phone} or")), [(Number::Phone, phone)]);
        }
        assert_eq!(found("Tel.: 030 901820"), [(Number::Phone, "030 901820")]);
        for (word, phone) in [
            ("Tel: ", "004930901820"),
            ("TELÉFONO: ", "912345678"),
            ("Tél. ", "0612345678"),
            ("celular ", "11987654321"),
        ] {
            assert_eq!(found(&format!("{word}{phone}")), [(Number::Phone, phone)]);
        }
        for id in ["110105194912310038", "Aadhaar: 2341-2341-2346"] {
            let (at, len) = (id.find(char::is_numeric).unwrap(), id.len());
            assert_eq!(found(id), [(Number::NationalId, &id[at..len])]);
        }
        for id in [
            "111.444.777-35",
            "131052-308T",
            "2 55 08 14 168 025 38",
            "85.07.30-033.28",
            "811228-9874",
            "11010519491231002X",
            "RSSMRA85T10A562S",
        ] {
            assert_eq!(found(&format!("of {id}:")), [(Number::NationalId, id)]);
        }
        assert_eq!(
            found("PESEL: 44051401359"),
            [(Number::NationalId, "44051401359")]
        );
        assert_eq!(found("44051401359"), []);
    }

    #[test]
    fn look_alikes_are_left_alone() {
        for text in [
            "2026-11-29T21:20:06.654+02:00",
            "1717986918400000",
            "550e8400-e29b-41d4-a716-446655440000",
            "4111111111111112",
            "ORD-4111111111111111",
            "a4111111111111111",
            "v1.2.3",
            "192.168.100.200",
            "WHERE id IN (200, 300, 4000)",
            "1234567890",
            "415 555 2671",
            "3.141592653589793",
            "1e+100000000",
            "routing: 86095742719",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }
}
