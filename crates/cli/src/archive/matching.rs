//! Whether a record that was read in a file is one that a filter looks for: with the answers that the filter's SQL gives.
//!
//! As in SQL, what is compared with NULL does not match. Texts are equal if their bytes are; only a text that is searched for is found in
//! upper or lower case, and there databases differ ([`Case`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde_json::value::RawValue;
use sqlx::types::Uuid;
use tracing_audit::__program::Table;
use tracing_audit::__program::ledger::layout::Columns;
use tracing_audit::Kind;

use crate::export::columns::{
    ACTION_TYPE, AGENT_ID, COLUMNS, CONVERSATION_ID, ID, LLM_SESSION_ID, METADATA, MODEL_NAME,
    REQUEST_ID, SERVICE_NAME, STATUS, TARGET_ID, TARGET_TYPE, TENANT_ID, USER_ID,
};
use crate::export::values::Record;
use crate::filter::{Bounds, Filter, OF_EVENTS};
use crate::row::RecordId;

/// What becomes of upper case in a search, as `lower` of a database does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Case {
    /// The letters from A to Z, as in locale C.
    Ascii,
    /// Each character on its own, as by the locales of the system.
    #[default]
    Simple,
    /// Texts, as by ICU: a sigma at a word's end is another.
    Full,
}

impl Case {
    /// Returns the case of a database in which `lower` makes these of `Ä` and of `İ`.
    pub(crate) fn of(umlaut: &str, dotted: &str) -> Self {
        match (umlaut, dotted) {
            ("Ä", _) => Self::Ascii,
            (_, "i\u{307}") => Self::Full,
            _ => Self::Simple,
        }
    }

    fn lower(self, text: &str) -> String {
        match self {
            _ if text.is_ascii() => text.to_ascii_lowercase(),
            Self::Ascii => text.to_ascii_lowercase(),
            Self::Simple => text.chars().map(lower).collect(),
            Self::Full => text.to_lowercase(),
        }
    }
}

/// Returns the lower case of a character as one character.
fn lower(character: char) -> char {
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) => one,
        // The only one that becomes two.
        _ => 'i',
    }
}

/// What else than a filter records are looked for by.
#[derive(Clone, Debug, Default)]
pub(crate) enum Among {
    #[default]
    All,
    /// Those of these requests.
    Requests(HashSet<String>),
    /// These.
    Records(HashSet<RecordId>),
}

/// Says of each record whether it is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    filter: Filter,
    /// The ids between which records are looked for.
    pub(super) bounds: Bounds,
    /// The tenant whose records alone are looked for.
    pub(super) tenant: Option<Uuid>,
    pub(super) among: Among,
    agent: Option<Uuid>,
    session: Option<Uuid>,
    /// What is searched for, in lower case.
    text: Option<String>,
    case: Case,
    /// How many characters of each text are searched.
    looked_at: usize,
}

impl Matcher {
    /// Looks for the records of a filter, between these ids, of this tenant.
    pub(crate) fn new(filter: Filter, bounds: Bounds, tenant: Option<Uuid>) -> Self {
        let id = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
        let mut matcher = Self {
            bounds,
            tenant,
            among: Among::All,
            agent: id(&filter.agent),
            session: id(&filter.session),
            text: None,
            case: Case::default(),
            looked_at: crate::filter::LOOKED_AT,
            filter,
        };
        matcher.fold();
        matcher
    }

    /// Compares upper and lower case as this database does.
    pub(crate) fn with_case(mut self, case: Case) -> Self {
        self.case = case;
        self.fold();
        self
    }

    /// Searches so many characters of each text.
    pub(crate) fn looking_at(mut self, characters: usize) -> Self {
        self.looked_at = characters;
        self
    }

    /// Looks for these alone.
    pub(crate) fn among(mut self, among: Among) -> Self {
        self.among = among;
        self
    }

    fn fold(&mut self) {
        let text = self.filter.text.as_ref();
        self.text = text.map(|text| self.case.lower(text));
    }

    /// Returns what finds all that this one would in a table, and more, without looking at what may be erased of a record.
    pub(super) fn without_content(&self, table: Table) -> Self {
        let layout = Columns::of(table.name()).unwrap_or_else(Columns::of_dead_letters);
        let is_content = |column: usize| layout.content.contains(&COLUMNS[column].name);
        let mut matcher = self.clone();
        let filter = &mut matcher.filter;
        for (column, value) in [
            (USER_ID, &mut filter.user),
            (ACTION_TYPE, &mut filter.family),
            (TARGET_TYPE, &mut filter.target_type),
            (TARGET_ID, &mut filter.target),
            (CONVERSATION_ID, &mut filter.session),
        ] {
            value.take_if(|_| is_content(column));
        }
        if is_content(TARGET_ID) && matcher.agent.is_none() {
            filter.agent = None;
        }
        if table.kind() == Kind::Event {
            filter.model = None;
        }
        filter.changes = false;
        matcher.session = matcher.session.filter(|_| filter.session.is_some());
        matcher.text = None;
        matcher
    }

    /// Returns the tables in which there may be such records.
    pub(super) fn tables(&self) -> Vec<Table> {
        self.filter.tables()
    }

    /// Returns columns of a table, each with the values of which a record must have one.
    pub(super) fn equal(&self, table: Table) -> Vec<(&'static str, Vec<String>)> {
        let filter = &self.filter;
        let is_event = table.kind() == Kind::Event;
        let mut equal: Vec<(&'static str, Vec<String>)> = Vec::new();
        let mut one = |name: &'static str, value: Option<String>| {
            equal.extend(value.map(|value| (name, vec![value])));
        };
        one("tenant_id", self.tenant.map(|id| id.to_string()));
        one("request_id", filter.request.clone());
        one("user_id", filter.user.clone());
        if is_event {
            one("action_type", filter.family.clone());
            one("target_type", filter.target_type.clone());
            one("target_id", filter.target.clone());
            let call = filter.model.is_some().then(|| String::from("llm_call"));
            one("action_type", call);
        } else {
            one("model_name", filter.model.clone());
        }
        if !filter.statuses.is_empty() {
            equal.push(("status", filter.statuses.clone()));
        }
        if let Among::Requests(requests) = &self.among {
            equal.push(("request_id", requests.iter().cloned().collect()));
        }
        equal
    }

    /// Returns the columns of a table by which [`may_match`](Self::may_match) decides, and those by which [`matches`](Self::matches) does.
    pub(super) fn columns(&self, table: Table) -> (Vec<usize>, Vec<usize>) {
        let filter = &self.filter;
        let is_event = table.kind() == Kind::Event;
        let mut first = vec![ID];
        let mut add = |is_asked: bool, column: usize| {
            if is_asked && COLUMNS[column].is_of(table) && !first.contains(&column) {
                first.push(column);
            }
        };
        let of_requests = matches!(self.among, Among::Requests(_));
        add(self.tenant.is_some(), TENANT_ID);
        add(filter.request.is_some() || of_requests, REQUEST_ID);
        add(!filter.statuses.is_empty(), STATUS);
        add(filter.user.is_some(), USER_ID);
        add(filter.session.is_some(), CONVERSATION_ID);
        add(self.session.is_some(), LLM_SESSION_ID);
        add(self.agent.is_some(), AGENT_ID);
        add(is_event && !filter.reads, SERVICE_NAME);
        let is_of_type = !filter.reads
            || [&filter.family, &filter.agent, &filter.model]
                .into_iter()
                .any(Option::is_some);
        add(is_event && is_of_type, ACTION_TYPE);
        add(filter.target_type.is_some(), TARGET_TYPE);
        add(filter.target.is_some() || filter.agent.is_some(), TARGET_ID);
        add(filter.model.is_some(), MODEL_NAME);
        let mut then = Vec::new();
        if self.text.is_some() {
            let texts = table.content_columns().chain(OF_EVENTS);
            let at = |name: &str| COLUMNS.iter().position(|column| column.name == name);
            then.extend(texts.filter_map(at).filter(|at| COLUMNS[*at].is_of(table)));
        }
        if is_event && (self.text.is_some() || filter.changes || filter.model.is_some()) {
            then.push(METADATA);
        }
        (first, then)
    }

    /// Whether a record matches, but for what its long texts say.
    pub(super) fn may_match(&self, record: &Record<'_>) -> bool {
        let filter = &self.filter;
        let is_event = record.table.kind() == Kind::Event;
        let is = |column: usize, value: &Option<String>| match value {
            Some(value) => record.field(column) == Some(value.as_bytes()),
            None => true,
        };
        let is_type = |name: &str| record.field(ACTION_TYPE) == Some(name.as_bytes());
        let id = record.id();
        let is_among = match &self.among {
            Among::All => true,
            Among::Requests(requests) => record
                .text(REQUEST_ID)
                .is_some_and(|request| requests.contains(request)),
            Among::Records(records) => {
                let table = record.table;
                records.contains(&RecordId { table, id })
            }
        };
        let is_reading = || {
            is_event
                && !filter.reads
                && record.field(SERVICE_NAME) == Some(b"postgres")
                && is_type("audit.read")
        };
        let has_status = || {
            let status = record.text(STATUS);
            filter.statuses.is_empty()
                || status.is_some_and(|status| filter.statuses.iter().any(|known| known == status))
        };
        let is_of_agent = || match (&filter.agent, self.agent) {
            (None, _) => true,
            (_, Some(id)) => record.uuid(AGENT_ID) == Some(id),
            (agent, None) => is_event && is_type("agent_execution") && is(TARGET_ID, agent),
        };
        let is_of_model = || match &filter.model {
            Some(_) if is_event => is_type("llm_call"),
            model => is(MODEL_NAME, model),
        };
        let is_of_session = || {
            let by_id = |session: Uuid| record.uuid(LLM_SESSION_ID) == Some(session);
            is(CONVERSATION_ID, &filter.session) || self.session.is_some_and(by_id)
        };
        self.bounds.from.is_none_or(|from| id >= from)
            && self.bounds.to.is_none_or(|to| id < to)
            && self
                .tenant
                .is_none_or(|tenant| record.uuid(TENANT_ID) == Some(tenant))
            && is_among
            && is(REQUEST_ID, &filter.request)
            && is(USER_ID, &filter.user)
            && is(ACTION_TYPE, &filter.family)
            && is(TARGET_TYPE, &filter.target_type)
            && is(TARGET_ID, &filter.target)
            && has_status()
            && is_of_agent()
            && is_of_model()
            && is_of_session()
            && !is_reading()
    }

    /// Whether a record that [may match](Self::may_match) does, by its long texts.
    pub(super) fn matches(&self, record: &Record<'_>) -> bool {
        let is_event = record.table.kind() == Kind::Event;
        let is_change = || has_changes(record.metadata());
        let is_of_model = || {
            let model = self.filter.model.as_deref().filter(|_| is_event);
            model.is_none_or(|model| metadata(record.metadata(), "model").as_deref() == Some(model))
        };
        (!self.filter.changes || is_change())
            && is_of_model()
            && self.text.as_ref().is_none_or(|text| self.has(record, text))
    }

    /// Whether one of its texts has this one.
    fn has(&self, record: &Record<'_>, wanted: &str) -> bool {
        let has = |text: &str| {
            let end = text.char_indices().nth(self.looked_at);
            let text = &text[..end.map_or(text.len(), |(end, _)| end)];
            self.case.lower(text).contains(wanted)
        };
        let table = record.table;
        let is_event = table.kind() == Kind::Event;
        let is_searched = |name: &str| {
            table.content_columns().any(|text| text == name)
                || is_event && OF_EVENTS.contains(&name)
        };
        let mut texts = COLUMNS
            .iter()
            .enumerate()
            .filter(|(_, column)| column.is_of(table) && is_searched(column.name));
        if texts.any(|(at, _)| record.text(at).is_some_and(has)) {
            return true;
        }
        let mut fields = OF_EVENTS
            .into_iter()
            .filter_map(|text| text.strip_prefix("metadata ->> '")?.strip_suffix('\''));
        is_event
            && fields.any(|name| metadata(record.metadata(), name).is_some_and(|text| has(&text)))
    }
}

/// Returns the text of a field, as `->>` does: `None` for none, and for `null`.
fn metadata<'a>(json: &'a str, name: &str) -> Option<Cow<'a, str>> {
    // Nothing in these names is ever escaped.
    if !json.starts_with('{') || !json.contains(&format!("\"{name}\"")) {
        return None;
    }
    let fields: BTreeMap<String, &'a RawValue> = serde_json::from_str(json).ok()?;
    let value = fields.get(name)?.get();
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str(value).ok().map(Cow::Owned),
        b'n' => None,
        _ => Some(Cow::Borrowed(value)),
    }
}

/// Whether it has `changes`, as `?` says: as a field, as an element, or as the text that it is.
fn has_changes(json: &str) -> bool {
    const NAME: &str = "changes";
    if !json.contains("\"changes\"") {
        return false;
    }
    let is_name = |value: &RawValue| value.get() == "\"changes\"";
    match json.as_bytes().first() {
        Some(b'{') => serde_json::from_str::<BTreeMap<String, &RawValue>>(json)
            .is_ok_and(|fields| fields.contains_key(NAME)),
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(json)
            .is_ok_and(|elements| elements.into_iter().any(is_name)),
        _ => json == "\"changes\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_metadata_are_texts_as_postgres_gives_them() {
        let json = r#"{"a": "x\"\u0001\n\\", "b": null, "c": 1.00, "d": {"a": [1, null]}, "e": true, "changes": 0}"#;
        for (name, text) in [
            ("a", Some("x\"\u{1}\n\\")),
            ("b", None),
            ("c", Some("1.00")),
            ("d", Some(r#"{"a": [1, null]}"#)),
            ("e", Some("true")),
            ("f", None),
        ] {
            assert_eq!(metadata(json, name).as_deref(), text, "{name}");
        }
        assert_eq!(metadata(r#"["a"]"#, "a"), None);
        assert_eq!(metadata(r#""a""#, "a"), None);
        for (json, has) in [
            (json, true),
            (r#"["changes"]"#, true),
            (r#""changes""#, true),
            (r#"{"a": "changes"}"#, false),
            (r#"{"a": {"changes": 1}}"#, false),
            (r#"[["changes"]]"#, false),
            ("{}", false),
        ] {
            assert_eq!(has_changes(json), has, "{json}");
        }
    }
}
