//! Phone numbers: international ones, those of North America and France as they are written there,
//! and any with a word before them that says so.

use std::ops::Range;

use super::Groups;

/// What announces a number, in five languages.
const WORDS: &[&str] = &[
    "phone",
    "tel.",
    "tel:",
    "tel ",
    "mobile",
    "mobil",
    "handy",
    "fon:",
    "telefon",
    "teléfono",
    "móvil",
    "téléphone",
    "portable :",
    "telefono",
    "cellulare",
    "whatsapp",
    "fax",
    "call me",
    "tél",
    "celular",
    "cell:",
    "ph:",
    "telÉfono",
    "mÓvil",
    "tÉl",
    "phone_number",
];

impl Groups<'_> {
    /// Returns a phone number that begins with a group.
    pub(super) fn phone(&self, at: usize) -> Option<Range<usize>> {
        let group = self.all[at];
        let before = &self.text[..group.start];
        if let Some(before) = before.strip_suffix(b"+") {
            return self.international(at, group.start - 1, before);
        }
        let begins_word = !super::goes_on(before.iter().rev());
        if !begins_word {
            return None;
        }
        if self.text[group.start..].starts_with(b"00")
            && self.text[group.start..group.end].get(2) != Some(&b'0')
        {
            // With a separator: else it may be any number with zeros before it.
            let range = self.gathered(at, group.start, 11..=16)?;
            let is_told = range.end > group.end || self.says(group.start, WORDS);
            return (is_told && self.stands_alone(&range)).then_some(range);
        }
        if let Some(range) = self.american(at).or_else(|| self.french(at)) {
            return Some(range);
        }
        // With the prefix of its country.
        if group.len() == 1
            && self.text[group.start] == b'1'
            && let Some(range) = self.american(at + 1)
            && matches!(&self.text[group.end..range.start], b"-" | b"." | b" ")
        {
            return Some(group.start..range.end);
        }
        let start = group.start - usize::from(before.ends_with(b"("));
        self.gathered(at, start, 7..=15)
            .filter(|_| self.says(group.start, WORDS))
    }

    /// Returns a number behind a plus sign.
    fn international(&self, at: usize, start: usize, before: &[u8]) -> Option<Range<usize>> {
        let is_apart = !before
            .last()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'+');
        let first = self.text[start + 1];
        let range = self.gathered(at, start, 9..=15)?;
        let count = self.digits(range.clone()).len();
        (is_apart && first != b'0' && (first != b'1' || count == 11)).then_some(range)
    }

    /// Returns the groups from one on that are separated as in a phone number, if they have so many
    /// digits.
    fn gathered(
        &self,
        at: usize,
        start: usize,
        digits: std::ops::RangeInclusive<usize>,
    ) -> Option<Range<usize>> {
        let mut count = self.all[at].len();
        let mut end = self.all[at].end;
        for group in &self.all[at + 1..] {
            let between = &self.text[end..group.start];
            let is_separator = matches!(
                between,
                b" " | b"-"
                    | b"."
                    | b"/"
                    | b"("
                    | b" ("
                    | b"-("
                    | b") "
                    | b")"
                    | b")-"
                    | b" - "
                    | b" / "
            );
            // What follows a number in a sentence is a number of its own.
            let is_long_enough = count >= 11 && between == b" ";
            if !is_separator || is_long_enough || count + group.len() > *digits.end() {
                break;
            }
            count += group.len();
            end = group.end;
        }
        let after = self.text.get(end);
        let is_word = after.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        (digits.contains(&count) && !is_word).then_some(start..end)
    }

    /// Returns a number such as (415) 555-2671, 415-555-2671 or 1-415-555-2671.
    fn american(&self, at: usize) -> Option<Range<usize>> {
        let groups = self.all.get(at..at + 3)?;
        if groups.iter().map(|group| group.len()).ne([3, 3, 4]) {
            return None;
        }
        let between = |a: usize| &self.text[groups[a].end..groups[a + 1].start];
        let is_bracketed =
            self.text[..groups[0].start].ends_with(b"(") && matches!(between(0), b") " | b")");
        let is_separated = is_bracketed && matches!(between(1), b"-" | b"." | b" ")
            || matches!(between(0), b"-" | b".") && between(0) == between(1);
        let is_exchange = |a: usize| {
            let digits = &self.text[groups[a].start..groups[a].end];
            digits[0] >= b'2' && &digits[1..] != b"11"
        };
        let start = groups[0].start - usize::from(is_bracketed);
        let range = start..groups[2].end;
        let is_alone = !super::goes_on(self.text[range.end..].iter());
        (is_separated && is_exchange(0) && is_exchange(1) && is_alone).then_some(range)
    }

    /// Returns a number such as 06 12 34 56 78.
    fn french(&self, at: usize) -> Option<Range<usize>> {
        let range = self.shaped(at, &[2; 5], b" .-")?;
        let digits = self.digits(range.clone());
        (digits[0] == 0 && digits[1] != 0 && self.stands_alone(&range)).then_some(range)
    }
}
