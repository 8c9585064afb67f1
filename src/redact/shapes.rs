//! The shapes of values: a regular expression behind literals that a cheap search finds first.
//!
//! The shapes of tokens come from the rules of gitleaks (MIT; the notice stands in
//! `shapes/gitleaks.tsv`), which `scripts/secret-shapes` writes. Those of keys, passwords and
//! personal values in [`own`] are this library's. A shape is compiled when its literal is first
//! found, on the worker, so that a preset costs nothing at the start.

pub(super) mod own;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

use super::action::Action;

/// The rules of gitleaks that are used.
const GITLEAKS: &str = include_str!("shapes/gitleaks.tsv");

/// The most memory that a compiled shape may take.
const COMPILED_BYTES: usize = 4 << 20;

/// What a shape is found by, and what is done with it.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) name: Cow<'static, str>,
    pub(super) action: Action,
    /// In lower case. Without one, the shape is looked for in every text.
    pub(super) literals: Vec<Cow<'static, str>>,
    /// The least length of the word that the literal stands in; 0: it may stand before the secret.
    word: usize,
    /// Decides by what stands around the literal, before the regular expression is asked.
    near: Option<fn(&[u8], usize) -> bool>,
    source: Cow<'static, str>,
    /// The group that is redacted.
    group: usize,
    /// The least entropy, in bits for each byte.
    entropy: f64,
    /// What looks like the value and is none.
    except: Option<Cow<'static, str>>,
    is_value: Option<fn(&[u8]) -> bool>,
    compiled: OnceLock<Option<Compiled>>,
}

#[derive(Debug)]
struct Compiled {
    shape: Regex,
    except: Option<Regex>,
}

/// Compiles a regular expression for bytes, without tables of Unicode.
pub(super) fn compile(source: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source)
        .unicode(false)
        .size_limit(COMPILED_BYTES)
        .build()
}

impl Shape {
    /// A shape that a program adds.
    pub(super) fn of_program(
        name: String,
        source: String,
        literals: Vec<String>,
        action: Action,
    ) -> Self {
        let literals = literals
            .into_iter()
            .map(|literal| Cow::Owned(literal.to_ascii_lowercase()))
            .collect();
        Self {
            action,
            ..Self::new(Cow::Owned(name), Cow::Owned(source), literals)
        }
    }

    /// Returns the shape with another action.
    pub(super) fn with_action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    fn new(
        name: Cow<'static, str>,
        source: Cow<'static, str>,
        literals: Vec<Cow<'static, str>>,
    ) -> Self {
        Self {
            name,
            action: Action::Mask,
            literals,
            word: 0,
            near: None,
            source,
            group: 0,
            entropy: 0.0,
            except: None,
            is_value: None,
            compiled: OnceLock::new(),
        }
    }

    /// Returns whether the shape may be around a literal that begins and ends at these places.
    pub(super) fn may_be_at(&self, text: &[u8], literal: Range<usize>) -> bool {
        if let Some(near) = self.near {
            return near(text, literal.end);
        }
        self.word == 0 || word_len(text, literal, self.word) >= self.word
    }

    /// Finds the values of the shape.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) {
        let compiled = self.compiled.get_or_init(|| {
            Some(Compiled {
                shape: compile(&self.source).ok()?,
                except: match &self.except {
                    Some(except) => Some(compile(except).ok()?),
                    None => None,
                },
            })
        });
        // A shape of ours compiles, as a test shows; that of a program is compiled at the start.
        let Some(Compiled { shape, except }) = compiled else {
            return;
        };
        let mut each = |range: Range<usize>| {
            let value = &text[range.clone()];
            let is_value = !value.is_empty()
                && self.is_value.is_none_or(|is_value| is_value(value))
                && (self.entropy == 0.0 || entropy(value) >= self.entropy)
                && !except.as_ref().is_some_and(|except| except.is_match(value));
            if is_value {
                found(range);
            }
        };
        if self.group == 0 {
            shape.find_iter(text).for_each(|whole| each(whole.range()));
        } else {
            for captures in shape.captures_iter(text) {
                // Alternatives have a group each.
                if let Some(group) = captures.iter().skip(self.group).flatten().next() {
                    each(group.range());
                }
            }
        }
    }
}

/// Returns the shapes of the well-known services' tokens.
pub(super) fn of_services() -> impl Iterator<Item = Shape> {
    GITLEAKS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(of_line)
}

fn of_line(line: &'static str) -> Option<Shape> {
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    let (name, group, entropy, word) = (next()?, next()?, next()?, next()?);
    let (literals, except, source) = (next()?, next()?, next()?);
    let literals = literals.split(' ').map(Cow::Borrowed).collect();
    Some(Shape {
        group: group.parse().ok()?,
        entropy: entropy.parse::<f64>().ok()? / 10.0,
        word: word.parse().ok()?,
        except: (!except.is_empty()).then_some(Cow::Borrowed(except)),
        ..Shape::new(Cow::Borrowed(name), Cow::Borrowed(source), literals)
    })
}

/// Returns how long the word around a range is, as far as it matters whether it has `enough`.
fn word_len(text: &[u8], range: Range<usize>, enough: usize) -> usize {
    let is_of_word = |byte: &&u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'_' | b'-' | b'.' | b'/' | b'+' | b'=' | b'~' | b':' | b'%' | b'|'
            )
    };
    let after = text[range.start..]
        .iter()
        .take(enough)
        .take_while(is_of_word)
        .count();
    let before = text[..range.start]
        .iter()
        .rev()
        .take(enough)
        .take_while(is_of_word)
        .count();
    before + after
}

/// Returns the entropy of bytes, in bits for each of them.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let len = f64::from(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let of_count = |count: &u32| {
        let share = f64::from(*count) / len;
        -share * share.log2()
    };
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(of_count)
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    use super::*;

    /// Returns texts that a shape was made for, by its own expression.
    fn samples(shape: &Shape) -> Vec<Vec<u8>> {
        let mut source = shape.source.replace("(?:[^\\w-]|$)", "").replace("\\b", "");
        for of_anything in ["(?:[^a-z0-9/+=]|$)", "\\z"] {
            source = source.replace(of_anything, "");
        }
        let Ok(texts) = proptest::string::bytes_regex(&format!("(?s-u){source}")) else {
            return Vec::new();
        };
        let mut runner = TestRunner::deterministic();
        let text = |runner: &mut TestRunner| texts.new_tree(runner).unwrap().current();
        (0..20).map(|_| text(&mut runner)).collect()
    }

    #[test]
    fn shapes_are_found_by_their_literals_in_what_they_were_made_for() {
        let mut untried = Vec::new();
        let mut is_never_found = Vec::new();
        for shape in of_services() {
            let samples = samples(&shape);
            if samples.is_empty() {
                untried.push(shape.name.clone());
                continue;
            }
            let is_found = samples.iter().any(|text| {
                let lower = text.to_ascii_lowercase();
                let announced = shape.literals.iter().any(|literal| {
                    let places = lower.windows(literal.len()).enumerate();
                    let mut places = places.filter(|(_, part)| *part == literal.as_bytes());
                    places.any(|(at, _)| shape.may_be_at(text, at..at + literal.len()))
                });
                let mut found = false;
                shape.find(text, |_| found = true);
                announced && found
            });
            if !is_found {
                is_never_found.push(shape.name.clone());
            }
        }
        assert!(untried.len() < 20, "{untried:?}");
        // Their literal stands beside the secret, or the expression allows more than there is.
        let known = [
            "airtable-personnal-access-token",
            "facebook-access-token",
            "jwt",
            "slack-config-access-token",
            "slack-webhook-url",
        ];
        assert_eq!(is_never_found, known);
    }

    #[test]
    fn every_shape_compiles_and_has_its_group() {
        let all: Vec<_> = of_services()
            .chain(own::secrets())
            .chain(own::ip_addresses())
            .collect();
        assert!(all.len() > 220, "{}", all.len());
        for shape in all {
            let compiled = compile(&shape.source);
            let compiled = compiled.unwrap_or_else(|error| panic!("{}: {error}", shape.name));
            assert!(shape.group < compiled.captures_len(), "{}", shape.name);
            if let Some(except) = &shape.except {
                compile(except).unwrap();
            }
            let is_lower = |literal: &Cow<'_, str>| {
                !literal.is_empty() && **literal == literal.to_ascii_lowercase()
            };
            assert!(shape.literals.iter().all(is_lower), "{}", shape.name);
        }
    }
}
