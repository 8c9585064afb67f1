//! How a family is defined: one list of its fields, of which each says its method, its type, and where it is kept.

use std::time::Duration;

/// The most characters that the families keep of a summary (`input_summary`, `output_summary`) and of a body of
/// [`HttpRequest`](crate::HttpRequest): 2,000. A longer one ends with an ellipsis in place of the last.
///
/// ```
/// use tracing_audit::{LlmCall, SUMMARY_CHARS};
///
/// let prompt = "why? ".repeat(SUMMARY_CHARS);
/// let call = LlmCall::new("replay").input_summary(prompt); // keeps 1,999 characters and "…"
/// ```
pub const SUMMARY_CHARS: usize = 2_000;

/// Returns the text, cut to [`SUMMARY_CHARS`].
pub(super) fn summary(mut text: String) -> String {
    let at = |index| text.char_indices().nth(index).map(|(at, _)| at);
    if let (Some(end), Some(_)) = (at(SUMMARY_CHARS - 1), at(SUMMARY_CHARS)) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Returns the number as JSON; one that is not finite as text, like that of a span.
pub(super) fn number(value: f64) -> serde_json::Value {
    serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Into::into)
}

/// Returns the whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A method of a family, as the page of families has it.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) method: &'static str,
    /// Empty: set by `new`.
    pub(super) visibility: &'static str,
    /// The names of the columns, or of the keys of `metadata`; a span's fields have the same.
    pub(super) name: &'static str,
    pub(super) field_type: &'static str,
    pub(super) is_column: bool,
}

/// Defines the builder of a family: `method = type("key of metadata");`, or a type that is kept in a column. What `new`
/// sets is private.
macro_rules! family {
    (
        $(#[$doc:meta])* $name:ident, $action_type:literal;
        $( $(#[$field_doc:meta])* $vis:vis $method:ident = $type:ident $args:tt; )*
    ) => {
        $crate::record::builders::builder! { $(#[$doc])* $name; }

        impl $name {
            /// The `action_type` of these events.
            pub const ACTION_TYPE: &'static str = $action_type;

            fn event() -> Self {
                Self($crate::record::builders::NewRecord::event(Self::ACTION_TYPE))
            }

            $( $crate::record::families::definition::family!(@method [$(#[$field_doc])*] $vis, $method, $type $args); )*

            $crate::record::builders::builder!(@latency);

            #[cfg(test)]
            pub(super) const FIELDS: &'static [$crate::record::families::definition::Listed] = &[
                $( $crate::record::families::definition::family!(@listed $vis, $method, $type $args) ),*
            ];
        }
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, text($key:literal)) => {
        $($doc)*
        $vis fn $method(mut self, value: impl Into<String>) -> Self {
            self.0.extra($key, value.into());
            self
        }
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, integer($key:literal)) => {
        $($doc)*
        $vis fn $method(mut self, value: i64) -> Self {
            self.0.extra($key, value);
            self
        }
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, number($key:literal)) => {
        $($doc)*
        $vis fn $method(mut self, value: f64) -> Self {
            self.0.extra($key, $crate::record::families::definition::number(value));
            self
        }
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, boolean($key:literal)) => {
        $($doc)*
        $vis fn $method(mut self, value: bool) -> Self {
            self.0.extra($key, value);
            self
        }
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, json($key:literal)) => {
        $($doc)*
        $vis fn $method(mut self, value: impl Into<serde_json::Value>) -> Self {
            self.0.extra($key, value);
            self
        }
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, uuid($key:literal)) => {
        $($doc)*
        $vis fn $method(mut self, value: uuid::Uuid) -> Self {
            self.0.extra($key, value.to_string());
            self
        }
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, milliseconds($key:literal)) => {
        $($doc)*
        $vis fn $method(mut self, value: std::time::Duration) -> Self {
            self.0.extra($key, $crate::record::families::definition::millis(value));
            self
        }
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, word($key:literal, $word:ident)) => {
        $($doc)*
        $vis fn $method(mut self, value: $word) -> Self {
            self.0.extra($key, value.as_str());
            self
        }
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, summary($column:ident)) => {
        $($doc)*
        ///
        /// Text that is longer than [`SUMMARY_CHARS`](crate::SUMMARY_CHARS) is cut.
        $vis fn $method(mut self, value: impl Into<String>) -> Self {
            let summary = $crate::record::families::definition::summary(value.into());
            self.0.text($crate::vocabulary::Field::$column, summary);
            self
        }
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, target_of($target_type:literal)) => {
        $($doc)*
        $vis fn $method(mut self, value: impl Into<String>) -> Self {
            self.0.target($target_type, value);
            self
        }
    };
    // These have their methods elsewhere.
    (@method [$($doc:tt)*] $vis:vis, $method:ident, any_target()) => {
        $crate::record::builders::builder!(@target);
    };
    (@method [$($doc:tt)*] $vis:vis, $method:ident, by_hand($key:literal, $type:literal)) => {};

    (@listed $vis:vis, $method:ident, summary($column:ident)) => {
        $crate::record::families::definition::Listed {
            method: stringify!($method),
            visibility: stringify!($vis),
            name: $crate::vocabulary::Field::$column.name(),
            field_type: "text",
            is_column: true,
        }
    };
    (@listed $vis:vis, $method:ident, target_of($target_type:literal)) => {
        $crate::record::families::definition::Listed {
            method: stringify!($method),
            visibility: stringify!($vis),
            name: "target_type, target_id",
            field_type: "text",
            is_column: true,
        }
    };
    (@listed $vis:vis, $method:ident, any_target()) => {
        $crate::record::families::definition::Listed {
            method: stringify!($method),
            visibility: stringify!($vis),
            name: "target_type, target_id",
            field_type: "text",
            is_column: true,
        }
    };
    (@listed $vis:vis, $method:ident, by_hand($key:literal, $type:literal)) => {
        $crate::record::families::definition::Listed {
            method: stringify!($method),
            visibility: stringify!($vis),
            name: $key,
            field_type: $type,
            is_column: false,
        }
    };
    (@listed $vis:vis, $method:ident, $type:ident($key:literal $(, $word:ident)?)) => {
        $crate::record::families::definition::Listed {
            method: stringify!($method),
            visibility: stringify!($vis),
            name: $key,
            field_type: stringify!($type),
            is_column: false,
        }
    };
}
pub(super) use family;

/// Defines the words that a field can have.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $( $(#[$word_doc:meta])* $variant:ident = $word:literal; )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $( $(#[$word_doc])* $variant, )* }

        impl $name {
            /// Returns the word, as stored in `metadata`.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use words;
