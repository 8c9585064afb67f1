//! The kinds of records, one line each. What else a new kind needs stands in ARCHITECTURE.md.

use std::fmt;

/// Defines [`Kind`] and its table at once, so that neither can lack a row.
macro_rules! kinds {
    ($( $(#[$doc:meta])* $variant:ident = $code:literal, $span_name:literal, $table_name:literal, in_flight: $in_flight:literal; )*) => {
        /// The kind of a record: which span tag makes it and which table it goes to.
        ///
        /// ```
        /// use tracing_audit::Kind;
        /// assert_eq!(Kind::QueryRun.span_name(), "audit.query_run");
        /// assert_eq!(Kind::QueryRun.table_name(), "query_runs");
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Kind { $( $(#[$doc])* $variant, )* }

        impl Kind {
            /// Every kind, in the order of the tables.
            pub const ALL: [Self; [$( $code, )*].len()] = [$( Self::$variant, )*];

            /// Returns the name or target that tags a span as this kind.
            pub const fn span_name(self) -> &'static str {
                match self { $( Self::$variant => $span_name, )* }
            }

            /// Returns the name of the table, in schema `audit`.
            pub const fn table_name(self) -> &'static str {
                match self { $( Self::$variant => $table_name, )* }
            }

            /// Returns the kind's number in a frame. Frozen, version 1.
            pub(crate) const fn code(self) -> u8 {
                match self { $( Self::$variant => $code, )* }
            }

            /// Whether a run that is in flight when its process dies gets a row, unless
            /// [`Builder::runs_in_flight`](crate::Builder::runs_in_flight) says otherwise.
            pub(crate) const fn is_tracked_in_flight(self) -> bool {
                match self { $( Self::$variant => $in_flight, )* }
            }
        }
    };
}

kinds! {
    /// A SQL statement that was run, tagged `audit.query_run`.
    QueryRun = 1, "audit.query_run", "query_runs", in_flight: true;
    /// A prompt that was sent to a model, tagged `audit.prompt_run`.
    PromptRun = 2, "audit.prompt_run", "prompt_runs", in_flight: true;
    /// Any other action, tagged `audit.event`. It has happened when it is recorded.
    Event = 3, "audit.event", "events", in_flight: false;
}

impl Kind {
    /// Returns the kind that a span name or a target tags, if any.
    pub(crate) fn of_tag(tag: &str) -> Option<Self> {
        // Nearly every name fails at the first comparison, that of the lengths.
        Self::ALL.into_iter().find(|kind| kind.span_name() == tag)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Returns the kind's index in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.span_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_codes_and_names_round_trip() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
            assert_eq!(Kind::of_tag(kind.span_name()), Some(kind));
            assert_eq!(Kind::ALL[kind.index()], kind);
        }
    }
}
