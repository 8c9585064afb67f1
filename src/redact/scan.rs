//! Finds values by their shape: first the literals of all shapes in one pass ([`literals`](super::literals)), then the shapes whose
//! literals are there, then the numbers that nothing literal announces.

use std::borrow::Cow;
use std::ops::Range;

use super::action::Action;
use super::email;
use super::literals::Literals;
use super::numbers::{self, Number, Wanted};
use super::shapes::Shape;

/// What a literal announces.
#[derive(Clone, Copy, Debug)]
enum Announced {
    Shape(usize),
    /// A name that a place has, as a name in JSON.
    Name,
    /// A character in JSON that is written as an escape: nothing in the text is what it seems.
    Escape,
}

/// The rules by shape, ready to be applied.
#[derive(Debug)]
pub(super) struct Scanner {
    literals: Literals,
    /// What each literal announces.
    announced: Vec<Vec<Announced>>,
    shapes: Vec<Shape>,
    /// The shapes without a literal.
    always: Vec<usize>,
    email: Option<Action>,
    wanted: Wanted,
    numbers: [Action; 4],
}

/// What a [`Scanner`] is made of.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) shapes: Vec<Shape>,
    /// What is done with addresses; `None`: they are not looked for.
    pub(super) email: Option<Action>,
    pub(super) card: Option<Action>,
    pub(super) iban: Option<Action>,
    pub(super) phone: Option<Action>,
    pub(super) national_id: Option<Action>,
    /// The names in JSON that places end with.
    pub(super) names: Vec<String>,
}

/// A value that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) rule: &'a str,
    pub(super) action: Action,
    pub(super) range: Range<usize>,
}

/// The names of the rules for what has no regular expression.
pub(super) const EMAIL: &str = "email";
pub(super) const CARD: &str = "card";
pub(super) const IBAN: &str = "iban";
pub(super) const PHONE: &str = "phone";
pub(super) const NATIONAL_ID: &str = "national-id";

impl Scanner {
    pub(super) fn new(rules: Rules) -> Self {
        let mut words: Vec<String> = Vec::new();
        let mut announced: Vec<Vec<Announced>> = Vec::new();
        let mut add = |word: &str, what: Announced| {
            let at = words
                .iter()
                .position(|other| other == word)
                .unwrap_or_else(|| {
                    words.push(word.to_owned());
                    announced.push(Vec::new());
                    words.len() - 1
                });
            announced[at].push(what);
        };
        for (at, shape) in rules.shapes.iter().enumerate() {
            shape
                .literals
                .iter()
                .for_each(|literal| add(literal, Announced::Shape(at)));
        }
        rules
            .names
            .iter()
            .for_each(|name| add(name, Announced::Name));
        add("\\u00", Announced::Escape);
        let always = (0..rules.shapes.len()).filter(|at| rules.shapes[*at].literals.is_empty());
        Self {
            always: always.collect(),
            literals: Literals::new(words),
            announced,
            shapes: rules.shapes,
            email: rules.email,
            wanted: [rules.card, rules.iban, rules.phone, rules.national_id]
                .map(|action| action.is_some()),
            numbers: [rules.card, rules.iban, rules.phone, rules.national_id]
                .map(Option::unwrap_or_default),
        }
    }

    /// Returns whether numbers are looked for at all.
    pub(super) fn wants_numbers(&self) -> bool {
        self.wanted.contains(&true)
    }

    /// Calls `each` for each literal in the text, until it returns `true`; returns whether it did.
    fn announces(
        &self,
        text: &[u8],
        mut each: impl FnMut(Announced, Range<usize>) -> bool,
    ) -> bool {
        self.literals.any(text, |literal, range| {
            let announced = self.announced[literal].iter();
            announced
                .into_iter()
                .any(|announced| each(*announced, range.clone()))
        })
    }

    /// Returns whether the bytes of a record may hold anything that [`find`](Self::find) or a name in
    /// JSON finds: quick, and right about a "no". Personal values in `users` do not count.
    pub(super) fn may_find(&self, bytes: &[u8], users: &[Range<usize>]) -> bool {
        if !self.always.is_empty() {
            return true;
        }
        let is_announced = self.announces(bytes, |announced, literal| match announced {
            Announced::Shape(shape) => self.shapes[shape].may_be_at(bytes, literal),
            Announced::Name => matches!(bytes.get(literal.end), Some(b'"' | b'\\')),
            Announced::Escape => true,
        });
        let is_left = |found: &Range<usize>| {
            let mut users = users.iter();
            users.any(|user| user.start <= found.start && found.end <= user.end)
        };
        is_announced
            || self.addresses(bytes).any(|found| !is_left(&found))
            || self.may_have_number(bytes, is_left)
    }

    /// Finds the e-mail addresses, if they are looked for.
    fn addresses(&self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let text = if self.email.is_some() { text } else { &[] };
        memchr::memchr_iter(b'@', text).filter_map(|at| email::around(text, at))
    }

    fn may_have_number(&self, bytes: &[u8], is_left: impl Fn(&Range<usize>) -> bool) -> bool {
        let mut has_any = false;
        if self.wants_numbers() && numbers::may_have(bytes) {
            numbers::find(&unescaped(bytes), self.wanted, |_, found| {
                has_any |= !is_left(&found);
            });
        }
        has_any
    }

    /// Finds the values in a text, in their order and apart from each other. The ranges begin and end
    /// between two characters.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Found<'_>> {
        let mut found = Vec::new();
        let mut asked = vec![false; self.shapes.len()];
        self.announces(text, |announced, literal| {
            if let Announced::Shape(shape) = announced {
                asked[shape] = asked[shape] || self.shapes[shape].may_be_at(text, literal);
            }
            false
        });
        found.extend(self.addresses(text).map(|range| Found {
            rule: EMAIL,
            action: self.email.unwrap_or_default(),
            range,
        }));
        self.always.iter().for_each(|shape| asked[*shape] = true);
        for (shape, _) in self.shapes.iter().zip(asked).filter(|(_, asked)| *asked) {
            shape.find(text, |range| {
                found.push(Found {
                    rule: &shape.name,
                    action: shape.action,
                    range,
                });
            });
        }
        if self.wants_numbers() && numbers::may_have(text) {
            numbers::find(&unescaped(text), self.wanted, |number, range| {
                let rule = [CARD, IBAN, PHONE, NATIONAL_ID][number as usize];
                found.push(Found {
                    rule,
                    action: self.numbers[number as usize],
                    range,
                });
            });
        }
        apart(text, found)
    }

    /// Finds what stands at the end of a text that was cut off there, and may be the beginning of a
    /// value: the last word, if it announces one.
    pub(super) fn cut_off(&self, text: &[u8]) -> Option<Range<usize>> {
        const LONGEST: usize = 512;
        let is_of_word = |byte: &&u8| {
            !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\'' | b'<' | b'>' | b',')
        };
        let len = text
            .iter()
            .rev()
            .take(LONGEST)
            .take_while(is_of_word)
            .count();
        let start = text.len() - len;
        let word = &text[start..];
        let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
        let is_number = self.wants_numbers() && digits >= 6 && digits * 2 >= word.len();
        let is_address = self.email.is_some() && word.contains(&b'@');
        let is_announced = || {
            self.announces(word, |announced, _| {
                matches!(announced, Announced::Shape(_))
            })
        };
        (is_number || is_address || is_announced()).then_some(start..text.len())
    }
}

impl Number {
    const _ORDER: () = assert!(Self::Card as usize == 0 && Self::NationalId as usize == 3);
}

/// Returns a text as long as this one, with blanks for the escapes of blanks that JSON and `Debug` write: the
/// letter of an escape is none of the number behind it.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    let mut new = Cow::Borrowed(text);
    for at in memchr::memchr_iter(b'\\', text) {
        if matches!(text.get(at + 1), Some(b'n' | b'r' | b't')) {
            new.to_mut()[at..at + 2].fill(b' ');
        }
    }
    new
}

/// Sorts what was found and joins what overlaps, under the name of what begins first and is longest.
fn apart<'a>(text: &[u8], mut found: Vec<Found<'a>>) -> Vec<Found<'a>> {
    let is_within = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    for one in &mut found {
        while one.range.start > 0 && is_within(one.range.start) {
            one.range.start -= 1;
        }
        while is_within(one.range.end) {
            one.range.end += 1;
        }
    }
    found.sort_by_key(|one| (one.range.start, std::cmp::Reverse(one.range.end)));
    let mut apart: Vec<Found<'a>> = Vec::with_capacity(found.len());
    for one in found {
        match apart.last_mut() {
            Some(last) if one.range.start < last.range.end => {
                last.range.end = last.range.end.max(one.range.end);
            }
            _ => apart.push(one),
        }
    }
    apart
}
