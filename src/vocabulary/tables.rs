//! The tables that records are kept in, one line each: a table holds what is kept equally long. What else a new table
//! needs stands in ARCHITECTURE.md.

use std::sync::Arc;

use super::kinds::Kind;

/// Defines [`Table`] and its list together, so that neither can lack a row.
macro_rules! tables {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, $singular:literal, $kind:ident, began: $began:literal, took: $took:literal; )*) => {
        /// A table of records, in schema `audit`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Table { $( $(#[$doc])* $variant, )* }

        impl Table {
            /// Every table.
            pub const ALL: [Self; [$( $name, )*].len()] = [$( Self::$variant, )*];

            /// Returns the name of the table, without the schema.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// Returns the name of one of its records, as a word.
            #[cfg(feature = "__program")]
            pub const fn singular(self) -> &'static str {
                match self { $( Self::$variant => $singular, )* }
            }

            /// Returns the kind of its records, which says what columns it has.
            pub const fn kind(self) -> Kind {
                match self { $( Self::$variant => Kind::$kind, )* }
            }

            /// Returns the name of the column with the time at which a record began.
            pub const fn began_column(self) -> &'static str {
                match self { $( Self::$variant => $began, )* }
            }

            /// Returns the name of the column with the duration in milliseconds.
            pub const fn duration_column(self) -> &'static str {
                match self { $( Self::$variant => $took, )* }
            }
        }
    };
}

tables! {
    /// The query runs.
    QueryRuns = "query_runs", "query_run", QueryRun, began: "started_at", took: "duration_ms";
    /// The prompt runs.
    PromptRuns = "prompt_runs", "prompt_run", PromptRun, began: "created_at", took: "duration_ms";
    /// The events, but for those that go to `Activities`.
    Events = "events", "event", Event, began: "created_at", took: "latency_ms";
    /// Events of the high-volume types.
    Activities = "activities", "activity", Event, began: "created_at", took: "latency_ms";
}

impl Table {
    /// Returns the table that a kind's records go to unless their type says otherwise.
    pub(crate) const fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::QueryRun => Self::QueryRuns,
            Kind::PromptRun => Self::PromptRuns,
            Kind::Event => Self::Events,
        }
    }

    /// Returns the table's index in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether a record has a column with the time at which it ended. An event has happened when it
    /// is recorded.
    pub const fn has_end(self) -> bool {
        !matches!(self.kind(), Kind::Event)
    }
}

/// The types of event that go to `audit.activities` in every program.
const ACTIVITIES: [&str; 3] = ["http_request", "log", "system_metric"];

/// What begins the type of an event that the trail writes about itself. It is no activity.
const OWN_PREFIX: &str = "audit.";

/// The types of event that go to `audit.activities`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activities {
    /// Those of the host, beside [`ACTIVITIES`].
    added: Arc<[Box<str>]>,
}

impl Activities {
    pub(crate) fn new(added: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let added = added
            .into_iter()
            .filter_map(|action_type| {
                let action_type = action_type.as_ref().trim();
                (!action_type.is_empty()).then(|| Box::from(action_type))
            })
            .collect();
        Self { added }
    }

    /// Returns the table that a record of this kind and type goes to.
    pub(crate) fn table(&self, kind: Kind, action_type: Option<&str>) -> Table {
        let is_activity = |action_type: &str| {
            !action_type.starts_with(OWN_PREFIX)
                && (ACTIVITIES.contains(&action_type)
                    || self.added.iter().any(|added| **added == *action_type))
        };
        match (kind, action_type) {
            (Kind::Event, Some(action_type)) if is_activity(action_type) => Table::Activities,
            _ => Table::of_kind(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_table_of_its_name() {
        for table in Table::ALL {
            assert_eq!(Table::ALL[table.index()], table);
        }
        for kind in Kind::ALL {
            assert_eq!(Table::of_kind(kind).kind(), kind);
            assert_eq!(Table::of_kind(kind).name(), kind.table_name());
        }
    }

    #[test]
    fn event_type_selects_the_activities_table() {
        let activities = Activities::new(["page_view", " heartbeat ", "", "audit.gap"]);
        for action_type in [
            "http_request",
            "log",
            "system_metric",
            "page_view",
            "heartbeat",
        ] {
            let table = activities.table(Kind::Event, Some(action_type));
            assert_eq!(table, Table::Activities, "{action_type}");
        }
        for action_type in ["invoice_paid", "Log", "login", "audit.gap", ""] {
            let table = activities.table(Kind::Event, Some(action_type));
            assert_eq!(table, Table::Events, "{action_type}");
        }
        assert_eq!(activities.table(Kind::Event, None), Table::Events);
        assert_eq!(
            activities.table(Kind::QueryRun, Some("log")),
            Table::QueryRuns
        );
        let default = Activities::default();
        assert_eq!(default.table(Kind::Event, Some("page_view")), Table::Events);
        assert_eq!(default.table(Kind::Event, Some("log")), Table::Activities);
    }
}
