//! What a row has beside the fields of an event of a family.

use std::borrow::Cow;

use super::{Cell, Extra, LastValues};
use crate::record::coerce::{as_text, keeps_numbers};
use crate::record::decode::Value;
use crate::record::families::derived::{self, Derived};
use crate::vocabulary::Status;

impl LastValues<'_> {
    /// Returns the text of a value in `metadata`.
    fn extra_text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.extras.get(name)? {
            Extra::Value(value) => Some(as_text(*value)),
            Extra::Json(value) => value.as_str().map(Cow::Borrowed),
        }
    }

    /// Returns the status that the word of the family's outcome stands for.
    pub(super) fn outcome(
        &self,
        derived: Option<&Derived>,
    ) -> Option<(Status, Option<&'static str>)> {
        let word = self.extra_text(derived?.outcome?)?;
        derived::status_of(&word)
    }

    /// Converts a value that was recorded as the text of a JSON array or object to JSON, unless
    /// that would change one of its numbers.
    pub(super) fn json_text(&mut self, name: &'static str) {
        if let Some(Extra::Value(Value::Text(text) | Value::Debug(text))) = self.extras.get(name)
            && let Ok(value) = serde_json::from_str::<serde_json::Value>(text)
            && (value.is_array() || value.is_object())
            && keeps_numbers(text)
        {
            self.extras.insert(Cow::Borrowed(name), Extra::Json(value));
        }
    }

    /// Adds what follows from the family's fields.
    pub(super) fn derive(&mut self, derived: &Derived, error_code: &Cell<'_>) {
        if let Some(name) = derived.json {
            self.json_text(name);
        }
        if derived.has_fingerprint {
            self.fingerprint(error_code);
        }
        self.known_word(derived);
    }

    /// Writes a word that is known as it is known: `?Decision::Rejected` on a span says `Rejected`, and
    /// whoever looks for `rejected` finds it.
    fn known_word(&mut self, derived: &Derived) {
        let Some(name) = derived.outcome else {
            return;
        };
        let known = self.extra_text(name).and_then(|word| {
            let known = word.trim().to_ascii_lowercase();
            (known != word && derived::status_of(&known).is_some()).then_some(known)
        });
        if let Some(known) = known {
            self.extras
                .insert(Cow::Borrowed(name), Extra::Json(known.into()));
        }
    }

    fn fingerprint(&mut self, error_code: &Cell<'_>) {
        const NAME: &str = "fingerprint";
        if self.extras.contains_key(NAME) {
            return;
        }
        let text = |name| self.extra_text(name).unwrap_or_default();
        let code = match error_code {
            Cell::Text(code) => code,
            _ => "",
        };
        let made = derived::fingerprint(&text("component"), &text("error_type"), code);
        if let Some(made) = made {
            self.extras
                .insert(Cow::Borrowed(NAME), Extra::Json(made.into()));
        }
    }
}
