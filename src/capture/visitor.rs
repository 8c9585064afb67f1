//! Writes field values as entries. No field of an audited span is ignored: one without a column goes
//! into `metadata`. What the fields of other spans are is decided in [`super::callsite`].

use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use sha2::{Digest, Sha256};
use tracing::field::{Field as TracingField, Visit};

use super::callsite::{Plan, Slot};
use super::failure::Chain;
use super::translate::{Given, Translate, Translation};
use crate::limits::Limits;
use crate::record::buffers::{Buffers, Written};
use crate::record::debug_text::{self, Doubt};
use crate::record::encode::{self, Key, ty};
use crate::vocabulary::{Field, PARAMETERS};

/// The most bytes of text that are copied under a lock; longer text may have to be cut and hashed.
const PLAIN_BYTES: usize = 16 * 1024;

/// Writes the values of one callsite's fields into buffers.
pub(crate) struct Visitor<'a> {
    plan: &'a Plan,
    limits: &'a Limits,
    out: &'a mut Buffers,
    takes: Takes,
    /// How much more than the limit the record may have for now.
    beyond: usize,
    /// Whether a field was seen that is evidence of success when it is recorded late.
    pub(crate) saw_result: bool,
    /// Whether a status was seen.
    pub(crate) saw_status: bool,
    /// Whether there are values that this visitor skipped.
    pub(crate) has_left: bool,
}

/// Which values a visitor writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    All,
    /// Values that need only a copy: no host code, no hash of long text.
    Plain,
    /// The others.
    Rest,
}

impl<'a> Visitor<'a> {
    /// Creates a visitor that writes all values.
    pub(crate) fn new(plan: &'a Plan, limits: &'a Limits, out: &'a mut Buffers) -> Self {
        Self::that_takes(Takes::All, plan, limits, out)
    }

    /// Creates a visitor that writes the values that need only a copy, and notes if there are
    /// others. What the buffers have by now does not count for the record's limit: excess is to be
    /// removed afterwards, so that superseded values go first.
    #[inline]
    pub(crate) fn plain(plan: &'a Plan, limits: &'a Limits, out: &'a mut Buffers) -> Self {
        Self {
            beyond: out.len(),
            ..Self::that_takes(Takes::Plain, plan, limits, out)
        }
    }

    /// Creates a visitor that writes the values that [`plain`](Self::plain) skips.
    pub(crate) fn rest(plan: &'a Plan, limits: &'a Limits, out: &'a mut Buffers) -> Self {
        Self::that_takes(Takes::Rest, plan, limits, out)
    }

    #[inline]
    fn that_takes(takes: Takes, plan: &'a Plan, limits: &'a Limits, out: &'a mut Buffers) -> Self {
        Self {
            plan,
            limits,
            out,
            takes,
            beyond: 0,
            saw_result: false,
            saw_status: false,
            has_left: false,
        }
    }

    /// Returns whether this visitor writes such a value.
    fn takes(&mut self, is_plain: bool) -> bool {
        let takes = match self.takes {
            Takes::All => true,
            Takes::Plain => is_plain,
            Takes::Rest => !is_plain,
        };
        self.has_left |= !takes;
        takes
    }

    /// Returns the key under which a value is written; `None`: it is left out, or it was translated.
    fn key(
        &mut self,
        field: &TracingField,
        given: impl FnOnce(&mut Self, Translate),
    ) -> Option<Key<'static>> {
        match self.plan.slot(field.index()) {
            Slot::Field(field) => Some(Key::Field(field)),
            Slot::Extra => Some(Key::Extra(field.name())),
            Slot::Renamed(name) => Some(Key::Extra(name)),
            Slot::Translated(translate) => {
                // May take long, and so not under a lock.
                if self.takes(false) {
                    given(self, translate);
                }
                None
            }
            Slot::Parameters if self.limits.parameters => Some(Key::Extra(PARAMETERS)),
            Slot::Parameters | Slot::Ignore => None,
        }
    }

    fn translate(&mut self, translate: Translate, value: Given<'_>) {
        let mut translation = Translation {
            out: self.out,
            limits: self.limits,
            saw_result: false,
            saw_status: false,
        };
        translate(value, &mut translation);
        let (saw_result, saw_status) = (translation.saw_result, translation.saw_status);
        self.saw_result |= saw_result;
        self.saw_status |= saw_status;
    }

    /// Formats a value first, whatever that does; one that fails or is too long is left out.
    fn translate_text(&mut self, translate: Translate, value: fmt::Arguments<'_>) {
        let mut text = Formatted(String::new());
        let outcome = catch_unwind(AssertUnwindSafe(|| text.write_fmt(value)));
        if matches!(outcome, Ok(Ok(()))) {
            self.translate(translate, Given::Text(&text.0));
        }
    }

    fn fixed<const N: usize>(
        &mut self,
        field: &TracingField,
        ty: u8,
        value: [u8; N],
        given: impl FnOnce() -> Given<'static>,
    ) {
        let translated = |this: &mut Self, translate| this.translate(translate, given());
        if let Some(key) = self.key(field, translated)
            && self.takes(true)
        {
            if !self.out.short_fixed(key, ty, value, self.limits) {
                self.out.fixed(key, ty, value, &self.limits());
            }
            self.saw(key);
        }
    }

    fn bytes(&mut self, field: &TracingField, ty: u8, value: &[u8]) {
        // The usual case.
        if let Slot::Field(known) = self.plan.slot(field.index())
            && self.takes != Takes::Rest
            && self
                .out
                .short_text(Key::Field(known), ty, value, self.limits)
        {
            self.saw(Key::Field(known));
        } else {
            self.bytes_of_any(field, ty, value);
        }
    }

    #[inline(never)]
    fn bytes_of_any(&mut self, field: &TracingField, ty: u8, value: &[u8]) {
        let is_plain = value.len() <= PLAIN_BYTES.min(self.limits.field_bytes);
        match self.plan.slot(field.index()) {
            Slot::Field(field) => {
                if self.takes(is_plain) {
                    self.out.text(Key::Field(field), ty, value, &self.limits());
                    self.saw(Key::Field(field));
                }
            }
            Slot::Extra => self.extra(field.name(), ty, value, is_plain),
            Slot::Renamed(name) => self.extra(name, ty, value, is_plain),
            Slot::Translated(translate) => {
                if self.takes(false) {
                    let text = String::from_utf8_lossy(value);
                    self.translate(translate, Given::Text(&text));
                }
            }
            Slot::Parameters if self.limits.parameters => {
                self.extra(PARAMETERS, ty, value, is_plain);
            }
            Slot::Parameters | Slot::Ignore => {}
        }
    }

    fn extra(&mut self, name: &str, ty: u8, value: &[u8], is_plain: bool) {
        if self.takes(is_plain) {
            self.out.text(Key::Extra(name), ty, value, &self.limits());
        }
    }

    /// Returns the limits that count for now.
    fn limits(&self) -> Limits {
        Limits {
            record_bytes: self.limits.record_bytes.saturating_add(self.beyond),
            ..*self.limits
        }
    }

    #[inline]
    fn saw(&mut self, key: Key<'_>) {
        if let Key::Field(field) = key {
            self.saw_result |= field.is_result();
            self.saw_status |= field == Field::Status;
        }
    }
}

impl Visit for Visitor<'_> {
    fn record_f64(&mut self, field: &TracingField, value: f64) {
        self.fixed(field, ty::F64, value.to_le_bytes(), || Given::Float(value));
    }

    fn record_i64(&mut self, field: &TracingField, value: i64) {
        self.fixed(field, ty::I64, value.to_le_bytes(), || Given::Int(value));
    }

    fn record_u64(&mut self, field: &TracingField, value: u64) {
        let given = || Given::Int(i64::try_from(value).unwrap_or(i64::MAX));
        self.fixed(field, ty::U64, value.to_le_bytes(), given);
    }

    fn record_i128(&mut self, field: &TracingField, value: i128) {
        let bound = if value < 0 { i64::MIN } else { i64::MAX };
        let given = || Given::Int(i64::try_from(value).unwrap_or(bound));
        self.fixed(field, ty::I128, value.to_le_bytes(), given);
    }

    fn record_u128(&mut self, field: &TracingField, value: u128) {
        let given = || Given::Int(i64::try_from(value).unwrap_or(i64::MAX));
        self.fixed(field, ty::U128, value.to_le_bytes(), given);
    }

    fn record_bool(&mut self, field: &TracingField, value: bool) {
        self.fixed(field, ty::BOOL, [u8::from(value)], || Given::Bool(value));
    }

    fn record_str(&mut self, field: &TracingField, value: &str) {
        self.bytes(field, ty::TEXT, value.as_bytes());
    }

    fn record_bytes(&mut self, field: &TracingField, value: &[u8]) {
        self.bytes(field, ty::BYTES, value);
    }

    fn record_error(&mut self, field: &TracingField, value: &(dyn std::error::Error + 'static)) {
        let translated = |this: &mut Self, translate| {
            this.translate_text(translate, format_args!("{}", Chain(value)));
        };
        if let Some(key) = self.key(field, translated)
            && self.takes(false)
            && debug(self.out, key, self.limits, format_args!("{}", Chain(value)))
        {
            self.saw(key);
        }
    }

    fn record_debug(&mut self, field: &TracingField, value: &dyn fmt::Debug) {
        let translated = |this: &mut Self, translate| {
            this.translate_text(translate, format_args!("{value:?}"));
        };
        let Some(key) = self.key(field, translated) else {
            return;
        };
        if !self.takes(false) {
            return;
        }
        let is_value = match key {
            Key::Field(field) if field.is_looked_into() => shown(self.out, key, self.limits, value),
            _ => debug(self.out, key, self.limits, format_args!("{value:?}")),
        };
        if is_value {
            self.saw(key);
        }
    }
}

/// Text that is formatted to be translated.
struct Formatted(String);

/// The most bytes of it.
const FORMATTED_BYTES: usize = 1 << 20;

impl fmt::Write for Formatted {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > FORMATTED_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Writes a field whose `Debug` text is parsed for its value. Text from `%value` is kept as it is,
/// whatever it looks like. Returns whether there is a value.
fn shown(out: &mut Buffers, key: Key<'_>, limits: &Limits, value: &dyn fmt::Debug) -> bool {
    formatted(
        out,
        key,
        limits,
        format_args!("{value:?}"),
        |text, quote_at| {
            let text = std::str::from_utf8(text).unwrap_or_default();
            match debug_text::doubt(text) {
                Doubt::None => true,
                Doubt::IsNone => !honors_precision(value, text),
                Doubt::Made {
                    structs,
                    quote_at: expected,
                } => {
                    (expected.is_none() || expected == quote_at)
                        && (structs == 0 || structs_in_lines(value, text) >= structs)
                }
            }
        },
    )
}

/// Writes formatted text, whatever the formatting does: it may log, open spans, panic, or write
/// without end. Returns whether there is a value: not if the formatting failed, nor for an `Option`
/// that is `None`.
pub(crate) fn debug(
    out: &mut Buffers,
    key: Key<'_>,
    limits: &Limits,
    value: fmt::Arguments<'_>,
) -> bool {
    formatted(out, key, limits, value, |_, _| true)
}

/// Does the same with text that is to be stored as it is.
pub(super) fn display(
    out: &mut Buffers,
    key: Key<'_>,
    limits: &Limits,
    value: fmt::Arguments<'_>,
) -> bool {
    formatted(out, key, limits, value, |_, _| false)
}

/// Does the same. The text is marked as `Debug` output if `is_debug` returns so, given the text and
/// the position of the first quote that was written on its own.
fn formatted(
    out: &mut Buffers,
    key: Key<'_>,
    limits: &Limits,
    value: fmt::Arguments<'_>,
    is_debug: impl FnOnce(&[u8], Option<usize>) -> bool,
) -> bool {
    let mut is_value = false;
    out.text_with(key, limits, |out, limit| {
        let from = out.len();
        let mut bounded = Bounded {
            from,
            out,
            limit,
            seen: 0,
            hash: None,
            quote_at: None,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| bounded.write_fmt(value)));
        let (seen, quote_at) = (bounded.seen, bounded.quote_at);
        let hash = bounded.hash.take();
        if seen > bounded.stop_at() {
            return (ty::DEBUG, Written::Stopped { seen });
        }
        if !matches!(outcome, Ok(Ok(()))) {
            return (ty::DEBUG, Written::Failed);
        }
        is_value = out[from..] != *b"None";
        let ty = if is_debug(&out[from..], quote_at) {
            ty::DEBUG
        } else {
            ty::TEXT
        };
        let written = match hash {
            Some(hash) => Written::Cut {
                whole_len: seen,
                sha256: hash.finalize().into(),
            },
            None => Written::Whole,
        };
        (ty, written)
    });
    is_value
}

/// Returns whether the value's text changes with a precision: `Display` of text honors one, the
/// `Debug` of an `Option` does not.
fn honors_precision(value: &dyn fmt::Debug, text: &str) -> bool {
    let mut again = Again::of(text);
    let outcome = catch_unwind(AssertUnwindSafe(|| write!(again, "{value:.0?}")));
    !matches!(outcome, Ok(Ok(()))) || !again.left.is_empty()
}

/// Returns how many nested structs at the start of a value's text `{:#?}` spreads over lines of
/// their own, as `Debug` does for structs; in the output of `Display`, parentheses are text.
fn structs_in_lines(value: &dyn fmt::Debug, text: &str) -> usize {
    let mut again = Again::of(text);
    // The comparison stops at any other difference. If the formatting panics here, the structs seen
    // so far count.
    let _ = catch_unwind(AssertUnwindSafe(|| write!(again, "{value:#?}")));
    again.structs
}

/// Compares formatted output with a text.
struct Again<'a> {
    /// The part of the text that is yet to be matched.
    left: &'a [u8],
    last: u8,
    is_indented: bool,
    structs: usize,
}

impl<'a> Again<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            left: text.as_bytes(),
            last: 0,
            is_indented: false,
            structs: 0,
        }
    }
}

impl fmt::Write for Again<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.is_indented && byte == b' ' {
                continue;
            }
            self.is_indented = false;
            if let Some((first, left)) = self.left.split_first()
                && *first == byte
            {
                (self.last, self.left) = (byte, left);
            } else if byte == b'\n' && matches!(self.last, b'(' | b'{') {
                self.structs += 1;
                self.is_indented = true;
                if self.last == b'{' {
                    self.left = self.left.strip_prefix(b" ").unwrap_or(self.left);
                }
            } else {
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

/// Formatting is stopped once it has written this many times the limit.
const STOP_AFTER_LIMITS: u64 = 16;

/// Keeps the text up to the limit and, if there is more, hashes all of it.
struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    from: usize,
    limit: usize,
    seen: u64,
    hash: Option<Sha256>,
    /// The position of the first quote that was written on its own.
    quote_at: Option<usize>,
}

impl Bounded<'_> {
    fn stop_at(&self) -> u64 {
        (self.limit as u64).saturating_mul(STOP_AFTER_LIMITS)
    }
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text == "\"" && self.quote_at.is_none() {
            self.quote_at = Some(self.out.len() - self.from);
        }
        self.seen += text.len() as u64;
        // Text that is not seen to its end has no hash.
        let is_stopped = self.seen > self.stop_at();
        if let Some(hash) = &mut self.hash {
            if !is_stopped {
                hash.update(text.as_bytes());
            }
        } else {
            let room = self.limit - (self.out.len() - self.from);
            if text.len() > room {
                let mut whole = Sha256::new();
                if !is_stopped {
                    whole.update(&self.out[self.from..]);
                    whole.update(text.as_bytes());
                }
                self.hash = Some(whole);
                self.out.extend_from_slice(
                    &text.as_bytes()[..encode::char_boundary(text.as_bytes(), room)],
                );
            } else {
                self.out.extend_from_slice(text.as_bytes());
            }
        }
        // An error stops formatting that would take very long.
        if is_stopped { Err(fmt::Error) } else { Ok(()) }
    }
}
