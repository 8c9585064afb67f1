//! The numbers by which states name persons, where there is a checksum.

use std::ops::Range;

use super::{Groups, checksums};

/// A number of digits that a word before it has to name, since its checksum alone lets one number in
/// ten pass.
struct Named {
    lens: &'static [&'static [usize]],
    words: &'static [&'static str],
    passes: fn(&[u8]) -> bool,
}

const NAMED: &[Named] = &[
    Named {
        lens: &[&[11]],
        words: &["pesel"],
        passes: checksums::pesel,
    },
    Named {
        lens: &[&[9]],
        words: &["bsn", "burgerservice", "sofinummer"],
        passes: checksums::bsn,
    },
    Named {
        lens: &[&[11], &[2, 3, 3, 3]],
        words: &[
            "steuer", "idnr", "tax_id", "tax id", "tin ", "tin:", "tin=", "tin\"",
        ],
        passes: checksums::steuer_id,
    },
    Named {
        lens: &[&[10], &[3, 3, 4]],
        words: &["nhs"],
        passes: checksums::nhs,
    },
    Named {
        lens: &[&[11]],
        words: &["cpf"],
        passes: checksums::cpf,
    },
    Named {
        lens: &[&[10], &[12]],
        words: &["personnummer", "personal number"],
        passes: sweden_with_century,
    },
    Named {
        lens: &[&[12], &[4, 4, 4]],
        words: &["aadhaar", "aadhar", "uidai"],
        passes: checksums::aadhaar,
    },
    Named {
        lens: &[&[11]],
        words: &["national number", "rijksregister", "registre national"],
        passes: checksums::belgium,
    },
    Named {
        lens: &[&[9], &[3, 2, 4]],
        words: &["ssn", "social security"],
        passes: is_social_security,
    },
];

/// The United States' number has no checksum, but parts that are never given out.
fn is_social_security(digits: &[u8]) -> bool {
    let area = digits[..3]
        .iter()
        .fold(0_u32, |area, &digit| area * 10 + u32::from(digit));
    !matches!(area, 0 | 666 | 900..) && digits[3..5] != [0, 0] && digits[5..] != [0; 4]
}

fn sweden_with_century(digits: &[u8]) -> bool {
    checksums::sweden(&digits[digits.len() - 10..])
}

impl Groups<'_> {
    /// Returns a national id that begins with a group, and has no letter beside it.
    pub(super) fn national_id(&self, at: usize) -> Option<Range<usize>> {
        let found = self
            .french_id(at)
            .or_else(|| self.separated_id(at))
            .or_else(|| self.id_with_letters(at))
            .or_else(|| self.named_id(at))?;
        self.stands_alone(&found).then_some(found)
    }

    /// Returns a national id with letters, around a group.
    pub(super) fn id_beside_letters(&self, at: usize) -> Option<Range<usize>> {
        let found = self
            .id_with_letters(at)
            .or_else(|| self.codice_fiscale(at))?;
        self.stands_alone(&found).then_some(found)
    }

    fn french_id(&self, at: usize) -> Option<Range<usize>> {
        const SPACED: [&[usize]; 2] = [&[1, 2, 2, 2, 3, 3, 2], &[13, 2]];
        let group = self.all[at];
        if !matches!(group.len(), 1 | 13 | 15) {
            return None;
        }
        let range = if group.len() == 15 {
            group.start..group.end
        } else {
            SPACED.iter().find_map(|lens| self.shaped(at, lens, b" "))?
        };
        checksums::nir(&self.digits(range.clone())).then_some(range)
    }

    /// Ids whose separators say which they are.
    fn separated_id(&self, at: usize) -> Option<Range<usize>> {
        let passes = |lens: &[usize], separators: &[u8], passes: fn(&[u8]) -> bool| {
            let range = self.separated(at, lens, separators)?;
            passes(&self.digits(range.clone())).then_some(range)
        };
        match self.all[at].len() {
            3 => passes(&[3, 3, 3, 2], b"..-", checksums::cpf),
            2 => passes(&[2, 2, 2, 3, 2], b"..-.", checksums::belgium),
            4 => passes(&[4, 4, 4], b"  ", checksums::aadhaar),
            len @ (6 | 8) => [b"-", b"+"]
                .into_iter()
                .find_map(|separator| passes(&[len, 4], separator, sweden_with_century)),
            _ => None,
        }
    }

    /// Returns the groups from one on that have these lengths and these separators between them.
    fn separated(&self, at: usize, lens: &[usize], separators: &[u8]) -> Option<Range<usize>> {
        let groups = self.all.get(at..at + lens.len())?;
        let mut pairs = groups.windows(2).zip(separators);
        let has_separators =
            pairs.all(|(pair, separator)| self.text[pair[0].end..pair[1].start] == [*separator]);
        let mut lengths = groups.iter().zip(lens);
        (has_separators && lengths.all(|(group, len)| group.len() == *len))
            .then(|| groups[0].start..groups[lens.len() - 1].end)
    }

    /// Ids that end with a character that checks them.
    fn id_with_letters(&self, at: usize) -> Option<Range<usize>> {
        let group = self.all[at];
        let upper = |at: usize| self.text.get(at).map(u8::to_ascii_uppercase);
        let digits = || self.digits(group.start..group.end);
        // All of it may be digits, and the text end there.
        match (group.len(), upper(group.end).unwrap_or_default()) {
            (17, check) => checksums::china(&digits(), check).then_some(group.start..group.end + 1),
            (18, _) => {
                let check = self.text[group.end - 1];
                checksums::china(&self.digits(group.start..group.end - 1), check)
                    .then_some(group.start..group.end)
            }
            (6, b'-' | b'+' | b'A'..=b'F' | b'U'..=b'Y') => {
                let next = self
                    .all
                    .get(at + 1)
                    .filter(|next| next.start == group.end + 1)?;
                let (rest, end) = match next.len() {
                    3 => (next.start..next.end, next.end + 1),
                    4 => (next.start..next.end - 1, next.end),
                    _ => return None,
                };
                let mut all = digits();
                all.extend(self.digits(rest));
                checksums::finland(&all, upper(end - 1)?).then_some(group.start..end)
            }
            // NIE: X, Y or Z stands for the first digit.
            (7, check) if group.start > 0 => {
                let first = upper(group.start - 1)?;
                let mut all = digits();
                all.insert(0, matches!(first, b'X'..=b'Z').then(|| first - b'X')?);
                checksums::spain(&all, check).then_some(group.start - 1..group.end + 1)
            }
            (8, check) if self.says(group.start, &["dni", "nif", "documento", "identidad"]) => {
                checksums::spain(&digits(), check).then_some(group.start..group.end + 1)
            }
            _ => None,
        }
    }

    fn codice_fiscale(&self, at: usize) -> Option<Range<usize>> {
        let group = self.all[at];
        if group.len() != 2 {
            return None;
        }
        let start = group.start.checked_sub(6)?;
        let letters = &self.text[start..group.start];
        if !letters.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        let code = self.text.get(start..start + 16)?.to_ascii_uppercase();
        checksums::codice_fiscale(&code).then_some(start..start + 16)
    }

    fn named_id(&self, at: usize) -> Option<Range<usize>> {
        let group = self.all[at];
        if !matches!(group.len(), 2..=4 | 9..=12) {
            return None;
        }
        NAMED.iter().find_map(|named| {
            let range = named
                .lens
                .iter()
                .find_map(|lens| self.shaped(at, lens, b" -"))?;
            ((named.passes)(&self.digits(range.clone())) && self.says(group.start, named.words))
                .then_some(range)
        })
    }
}
