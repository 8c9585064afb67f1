//! Rules by place: a field, or a path in JSON.

use crate::record::id::parse_uuid;
use crate::vocabulary::{Field, Kind};

/// The names under which programs keep secrets, wherever they are.
pub(super) const SECRET_NAMES: &[&str] = &[
    "password",
    "passwd",
    "pass_phrase",
    "pwd",
    "secret",
    "client_secret",
    "secret_key",
    "secret_access_key",
    "api_key",
    "access_key",
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "session_token",
    "private_key",
    "authorization",
    "proxy_authorization",
    "cookie",
    "set_cookie",
    "x_api_key",
    "x_auth_token",
    "x_amz_security_token",
    "connection_string",
    "database_url",
    "credentials",
];

/// The fields that hold SQL: a query run's, that of an approval and of each statement of a run, and those
/// that spans of other libraries have.
pub(super) const SQL_FIELDS: &[&str] = &["sql_text", "db.query.text", "db.statement"];

/// Returns whether what is at a path is SQL.
pub(super) fn holds_sql(path: &[String]) -> bool {
    let is_at_end = |field: &&str| {
        let mut names = path.iter().rev();
        // A member of JSON may have dots in its name.
        path.last().is_some_and(|last| *last == squeezed(field))
            || field
                .rsplit('.')
                .all(|name| names.next().is_some_and(|other| *other == squeezed(name)))
    };
    SQL_FIELDS.iter().any(is_at_end)
}

/// A place in a record: a column, or a value in its metadata.
///
/// A place is named by the last names on the way to it, separated by dots: `password` is each value of
/// that name at any depth (so is `*.password`), `headers.authorization` each `authorization` in
/// `headers`, `metadata.card.number` one place alone. `*` stands for one name. A name that holds an
/// object or an array covers all that is in it.
///
/// Names are compared without regard to case and to `_` and `-`: `api_key` is also `apiKey` and
/// `API-Key`. Write the words of a name apart: in JSON, `apikey` is not looked for as `api_key`.
///
/// ```
/// use tracing_audit::redact::{Action, Place, Redaction};
/// use tracing_audit::Kind;
///
/// let redaction = Redaction::default()
///     .place("*.date_of_birth", Action::Drop)
///     .place(Place::new("user_id").tenant("acme"), Action::Hash)
///     .place(Place::new("input_summary").kind(Kind::Event).family("approval"), Action::Digest)
///     .key("a key of 16 bytes or more");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a place does nothing until it is given to `Redaction::place`"]
pub struct Place {
    written: String,
    names: Vec<String>,
    kind: Option<Kind>,
    family: Option<String>,
    tenant: Option<String>,
}

impl Place {
    /// Names a place.
    pub fn new(path: impl Into<String>) -> Self {
        let written = path.into();
        let names = written
            .split('.')
            .map(squeezed)
            .filter(|name| !name.is_empty());
        let mut names: Vec<_> = names.collect();
        let any = names.iter().take_while(|name| *name == "*").count();
        if any < names.len() {
            names.drain(..any);
        }
        Self {
            names,
            written,
            kind: None,
            family: None,
            tenant: None,
        }
    }

    /// Restricts the place to records of a kind.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Restricts the place to events of a family, by their `action_type`.
    pub fn family(mut self, action_type: impl Into<String>) -> Self {
        self.family = Some(action_type.into());
        self
    }

    /// Restricts the place to records of a tenant, named as the program names it.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Returns the path as it was written.
    pub(super) fn written(&self) -> &str {
        &self.written
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns the last name, which a mask shows.
    pub(super) fn last_name(&self) -> &str {
        self.written
            .rsplit('.')
            .find(|name| *name != "*" && !name.is_empty())
            .unwrap_or("value")
    }

    fn last(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    /// Returns whether no name of JSON or of a field announces the place.
    pub(super) fn is_of_any_name(&self) -> bool {
        self.last() == "*"
    }

    /// Returns whether the place may be the column of a field.
    pub(super) fn may_be_column(&self, field: Field) -> bool {
        let name = column(field);
        !name.is_empty() && (self.last() == "*" || self.last() == squeezed(name))
    }

    /// Returns what a search finds in the frame of each record that has a name in JSON which is the
    /// place's last.
    pub(super) fn literals(&self) -> Vec<String> {
        let written = self.written.rsplit('.').next().unwrap_or_default();
        let mut words = vec![String::new()];
        let mut was_lower = false;
        for c in written.chars() {
            let is_break = matches!(c, '_' | '-');
            if (is_break || was_lower && c.is_ascii_uppercase())
                && words.last().is_some_and(|word| !word.is_empty())
            {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut().filter(|_| !is_break) {
                word.push(c.to_ascii_lowercase());
            }
            was_lower = c.is_ascii_lowercase();
        }
        let mut all = ["", "_", "-"].map(|between| words.join(between)).to_vec();
        all.dedup();
        all
    }

    fn is_of(&self, record: &RecordOf<'_>) -> bool {
        self.kind.is_none_or(|kind| Some(kind) == record.kind)
            && self
                .family
                .as_deref()
                .is_none_or(|family| Some(family) == record.family)
            && self
                .tenant
                .as_deref()
                .is_none_or(|tenant| record.is_of_tenant(tenant))
    }

    fn covers(&self, path: &[String]) -> bool {
        let Some(at) = path.len().checked_sub(self.names.len()) else {
            return false;
        };
        !self.names.is_empty()
            && path[at..]
                .iter()
                .zip(&self.names)
                .all(|(name, rule)| rule == "*" || name == rule)
    }
}

/// The last names of all places, for a quick look at each field of each record.
#[derive(Debug)]
pub(super) struct Names {
    /// By their first letter; those that begin with no letter are the last.
    by_letter: [Vec<String>; 27],
    has_any: bool,
}

impl Names {
    pub(super) fn new<'a>(places: impl Iterator<Item = &'a Place>) -> Self {
        let mut names = Self {
            by_letter: [const { Vec::new() }; 27],
            has_any: false,
        };
        for place in places {
            names.has_any |= place.is_of_any_name();
            let name = place.last();
            names.by_letter[letter(name)].push(name.to_owned());
        }
        names
    }

    /// Returns whether a field's name is the last of a place's.
    pub(super) fn may_have(&self, name: &str) -> bool {
        let letters = || name.bytes().filter(|byte| !matches!(byte, b'_' | b'-'));
        if !name.is_ascii() {
            // The first letter may be another one in lower case.
            let name = squeezed(name);
            return self.has_any || self.by_letter.iter().flatten().any(|other| *other == name);
        }
        let is_same = |other: &String| {
            let letters = letters().map(|byte| byte.to_ascii_lowercase());
            other.bytes().eq(letters)
        };
        self.has_any || self.by_letter[letter(name)].iter().any(is_same)
    }
}

/// Returns the list of names that begin as this one does.
fn letter(name: &str) -> usize {
    let first = name.bytes().find(|byte| !matches!(byte, b'_' | b'-'));
    match first.unwrap_or_default().to_ascii_lowercase() {
        letter @ b'a'..=b'z' => usize::from(letter - b'a'),
        _ => 26,
    }
}

impl From<&str> for Place {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

impl From<String> for Place {
    fn from(path: String) -> Self {
        Self::new(path)
    }
}

/// Returns a name as names are compared.
pub(super) fn squeezed(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Returns the name of the column that a field's value goes to.
pub(super) const fn column(field: Field) -> &'static str {
    match field {
        Field::SeenError => Field::ErrorMessage.name(),
        Field::SeenCode => Field::ErrorCode.name(),
        _ => field.name(),
    }
}

/// Of what a record is: what a place can be restricted to, and which system its SQL is for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecordOf<'a> {
    pub(super) kind: Option<Kind>,
    pub(super) family: Option<&'a str>,
    pub(super) tenant: Option<&'a str>,
    pub(super) tenant_id: Option<uuid::Uuid>,
    /// The system that its SQL is for; empty: not known.
    pub(super) system: &'a str,
}

impl RecordOf<'_> {
    fn is_of_tenant(&self, tenant: &str) -> bool {
        let id = self.tenant_id.or_else(|| self.tenant.and_then(parse_uuid));
        self.tenant == Some(tenant) || id.is_some() && id == parse_uuid(tenant)
    }
}

/// Returns the first rule that covers a path, the last one added first.
pub(super) fn covering<'a, A>(
    rules: &'a [(Place, A)],
    path: &[String],
    record: &RecordOf<'_>,
) -> Option<&'a (Place, A)> {
    rules
        .iter()
        .rev()
        .find(|(place, _)| place.covers(path) && place.is_of(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(rule: &str, path: &str) -> bool {
        let path: Vec<_> = path.split('.').map(squeezed).collect();
        Place::new(rule).covers(&path)
    }

    #[test]
    fn place_is_named_by_the_last_names_on_the_way_to_it() {
        assert!(
            covers("password", "metadata.user.password")
                && covers("*.password", "metadata.password")
        );
        assert!(covers("api_key", "metadata.apiKey") && covers("apiKey", "metadata.API-KEY"));
        assert!(covers(
            "headers.authorization",
            "metadata.http.headers.Authorization"
        ));
        assert!(covers("metadata.*.number", "metadata.card.number"));
        assert!(
            !covers("metadata.card.number", "metadata.order.number")
                && !covers("word", "metadata.password")
        );
        assert!(covers("sql_text", "sql_text") && !covers("", "sql_text"));
    }

    #[test]
    fn place_is_restricted_to_a_kind_a_family_and_a_tenant() {
        let record = RecordOf {
            kind: Some(Kind::Event),
            family: Some("approval"),
            tenant: Some("acme"),
            ..RecordOf::default()
        };
        assert!(
            Place::new("x")
                .kind(Kind::Event)
                .family("approval")
                .tenant("acme")
                .is_of(&record)
        );
        assert!(!Place::new("x").kind(Kind::QueryRun).is_of(&record));
        assert!(
            !Place::new("x").family("log").is_of(&record)
                && !Place::new("x").tenant("other").is_of(&record)
        );
    }

    #[test]
    fn literals_are_the_customary_spellings_of_a_name() {
        assert_eq!(
            Place::new("x.apiKey").literals(),
            ["apikey", "api_key", "api-key"]
        );
        assert_eq!(Place::new("password").literals(), ["password"]);
    }
}
