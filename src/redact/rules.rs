//! The rules as a program sets them up.

use std::fmt;
use std::sync::Arc;

use super::action::{Action, KEY_BYTES, Key};
use super::counts::Counts;
use super::custom::Redactor;
use super::engine::Engine;
use super::passed::Rules as Passing;
use super::place::{Names, Place, RecordOf, SECRET_NAMES, SQL_FIELDS};
use super::ruleset::RuleSet;
use super::scan::{CARD, EMAIL, IBAN, NATIONAL_ID, PHONE, Rules, Scanner};
use super::shapes;
use super::tally::Tally;
use super::value::{CUT_OFF, NAME, New, SQL_COMMENT, SQL_LITERAL, Values};
use crate::sql;

/// The rule of the preset for addresses of machines.
const IP: &str = "ip";

/// The word for literals in SQL in `AUDIT_REDACT`.
const SQL_LITERALS: &str = "sql-literals";

/// What [`Redaction::check`] shows of a text is under this name.
const TEXT: &str = "text";

/// Says what becomes of secrets and personal values before a record is written anywhere; given to
/// [`Builder::redact`](crate::Builder::redact).
///
/// A rule names a value by its [place](Self::place) or by its [shape](Self::shape); two presets bring
/// the usual ones. Each rule has an [`Action`]; the rules added last come first.
///
/// ```no_run
/// use tracing_audit::redact::{Action, Redaction};
///
/// let redaction = Redaction::default()
///     .secrets()
///     .personal()
///     .action("email", Action::Hash)
///     .action("card", Action::KeepLastFour)
///     .place("metadata.diagnosis", Action::Drop)
///     .key(std::env::var("AUDIT_REDACT_KEY").unwrap_or_default());
/// let audit = tracing_audit::Audit::builder()
///     .postgres("postgres://app@localhost/app")
///     .redact(redaction)
///     .start()?;
/// # Ok::<(), tracing_audit::BuildError>(())
/// ```
///
/// The row names what was redacted in its column `redactions` (`sql_text: email ×2, card ×1`), and
/// [`Stats::redaction`](crate::Stats::redaction) counts it.
/// [The guide](crate::guide::redaction) says what is found and what is not.
#[derive(Clone, Default)]
#[must_use = "a redaction does nothing until it is given to `Builder::redact`"]
pub struct Redaction {
    secrets: bool,
    personal: bool,
    ip_addresses: bool,
    sql_literals: Option<Action>,
    places: Vec<(Place, Action)>,
    shapes: Vec<(Shape, Action)>,
    /// The actions of rules of the presets; `None`: the rule is left out.
    actions: Vec<(String, Option<Action>)>,
    customs: Vec<Arc<dyn Redactor>>,
    key: Option<Vec<u8>>,
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction")
            .field("secrets", &self.secrets)
            .field("personal", &self.personal)
            .field("ip_addresses", &self.ip_addresses)
            .field("sql_literals", &self.sql_literals)
            .field("places", &self.places)
            .field("shapes", &self.shapes)
            .field("actions", &self.actions)
            .finish_non_exhaustive()
    }
}

/// A shape of a program's own: a regular expression for bytes, as crate `regex` has them without
/// Unicode (`\w` is ASCII, `.` is a byte).
///
/// ```
/// use tracing_audit::redact::{Action, Redaction, Shape};
///
/// let staff = Shape::new("staff-number", r"\bEMP-\d{6}\b").with_literals(["EMP-"]);
/// let redaction = Redaction::default().shape(staff, Action::Mask);
/// assert_eq!(redaction.check("by EMP-004711")?.text(), "by [staff-number]");
/// # Ok::<(), tracing_audit::redact::RedactionError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a shape does nothing until it is given to `Redaction::shape`"]
pub struct Shape {
    name: String,
    expression: String,
    literals: Vec<String>,
}

impl Shape {
    /// Names a shape. The whole match is redacted.
    pub fn new(name: impl Into<String>, expression: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            expression: expression.into(),
            literals: Vec::new(),
        }
    }

    /// Sets literals of which each match holds at least one, in any case. A text without them is not
    /// searched for the shape; a shape without literals is searched for in each text of each record,
    /// which costs some microseconds a record.
    pub fn with_literals(mut self, literals: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.literals = literals
            .into_iter()
            .map(Into::into)
            .filter(|literal: &String| !literal.is_empty())
            .collect();
        self
    }
}

/// Why rules cannot be used. No message repeats a key or an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedactionError {
    /// A word in `AUDIT_REDACT` is unknown.
    #[error(
        "AUDIT_REDACT: a word is none of secrets, personal, ip and sql-literals, separated by commas"
    )]
    Word,
    /// A rule hashes, and there is no key.
    #[error(
        "a rule has the action Hash: it needs Redaction::key, AUDIT_REDACT_KEY or AUDIT_REDACT_KEY_FILE"
    )]
    NoKey,
    /// The key is too short.
    #[error("the key for hashes has fewer than {KEY_BYTES} bytes")]
    ShortKey,
    /// The file that `AUDIT_REDACT_KEY_FILE` names cannot be read.
    #[error("AUDIT_REDACT_KEY_FILE: the file cannot be read: {0}")]
    KeyFile(std::io::ErrorKind),
    /// The expression of a shape cannot be compiled.
    #[error("the regular expression of the shape {0} is malformed or too large")]
    Shape(String),
    /// An action was set for a rule that no preset in use has.
    #[error("no preset in use has a rule named {0}")]
    Rule(String),
    /// A place names nothing.
    #[error("a place is empty")]
    Place,
}

/// What the rules make of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    text: String,
    rules: Vec<(String, u64)>,
}

impl Redacted {
    /// Returns the text as it would be stored.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns how often each rule applied.
    pub fn rules(&self) -> impl Iterator<Item = (&str, u64)> {
        self.rules
            .iter()
            .map(|(rule, count)| (rule.as_str(), *count))
    }
}

/// The rules of a [`Redaction`], for texts that no record holds; made by [`Redaction::checker`].
#[derive(Debug)]
pub struct Checker(RuleSet);

impl Checker {
    /// Returns what the rules make of a text, as if a field held it.
    pub fn check(&self, text: &str) -> Redacted {
        // As for a record: most texts hold nothing, and are searched once.
        let is_sql = self.0.sql_literals.is_some() && sql::is_statement(text);
        let has_any_name = self
            .0
            .places
            .iter()
            .any(|(place, _)| place.is_of_any_name());
        let is_announced = !self.0.customs.is_empty() || is_sql || has_any_name;
        if !is_announced && !self.0.scanner.may_find(text.as_bytes(), &[]) {
            return Redacted {
                text: text.to_owned(),
                rules: Vec::new(),
            };
        }
        let record = RecordOf::default();
        let values = Values {
            rules: &self.0,
            record: &record,
        };
        let mut tally = Tally::default();
        tally.begin(TEXT);
        let new = values.of_plain(text, &mut tally);
        let mut rules: Vec<_> = tally
            .rules()
            .map(|(rule, count)| (rule.to_owned(), count))
            .collect();
        rules.sort();
        let text = match new {
            New::Same => text.to_owned(),
            New::Text(text) => text,
            New::Gone => String::new(),
        };
        Redacted { text, rules }
    }
}

impl Redaction {
    /// Adds the preset of secrets: the tokens of some 200 services, private keys, JWTs, URLs with
    /// passwords, connection strings, `Authorization` headers, passwords in SQL and beside their name;
    /// and the fields and JSON members that are named like one (`password`, `api_key`,
    /// `headers.authorization`, …).
    pub fn secrets(mut self) -> Self {
        self.secrets = true;
        self
    }

    /// Adds the preset of personal values: e-mail addresses (`email`), phone numbers (`phone`), payment
    /// cards (`card`, by their checksum), IBANs (`iban`, by theirs) and national ids that have a
    /// checksum (`national-id`).
    ///
    /// The column `user_id` is left as it is, since it says who acted: name it as a
    /// [place](Self::place) to hash it.
    pub fn personal(mut self) -> Self {
        self.personal = true;
        self
    }

    /// Adds the rule `ip` for IP addresses, version 4 and 6. In a trail they are often what is looked
    /// for, so that no preset has it.
    pub fn ip_addresses(mut self) -> Self {
        self.ip_addresses = true;
        self
    }

    /// Adds a rule for every literal in SQL, whatever its value: texts, numbers, `TRUE` and `FALSE` in the
    /// fields `sql_text` (of query runs, approvals and each statement of a run), `db.query.text` and
    /// `db.statement`. It comes before the rules by shape, and after those by [place](Self::place).
    ///
    /// A literal becomes `'[sql-literal]'`, with its quotes, so that the text is still SQL; what a comment says
    /// becomes `[sql-comment]`. Placeholders (`$1`, `?`, `:name`) and names stay.
    ///
    /// The dialect is that of the system that the record's field `db.system.name` says (`postgresql`,
    /// `mysql`, …). Without it, what is a literal in any dialect is one: text in double quotes that need not
    /// be a name, and all from where dialects disagree on where a literal ends. Text that a limit cut off
    /// within a literal, and text that is no statement at all, is one as well.
    ///
    /// ```
    /// use tracing_audit::redact::{Action, Redaction};
    ///
    /// let redaction = Redaction::default().sql_literals(Action::Mask);
    /// let checked = redaction.check("SELECT name FROM users WHERE born < '1815-12-10' AND id = $1")?;
    /// assert_eq!(checked.text(), "SELECT name FROM users WHERE born < '[sql-literal]' AND id = $1");
    /// # Ok::<(), tracing_audit::redact::RedactionError>(())
    /// ```
    pub fn sql_literals(mut self, action: Action) -> Self {
        self.sql_literals = Some(action);
        self
    }

    /// Adds a rule by place: a field, or a path in JSON ([`Place`]).
    pub fn place(mut self, place: impl Into<Place>, action: Action) -> Self {
        self.places.push((place.into(), action));
        self
    }

    /// Adds a rule by a shape of the program's own.
    pub fn shape(mut self, shape: Shape, action: Action) -> Self {
        self.shapes.push((shape, action));
        self
    }

    /// Sets the action of a rule of the presets, by the name in its mask. Default:
    /// [`Action::Mask`].
    pub fn action(mut self, rule: impl Into<String>, action: Action) -> Self {
        self.actions.push((rule.into(), Some(action)));
        self
    }

    /// Leaves a rule of the presets out, by the name in its mask.
    pub fn without(mut self, rule: impl Into<String>) -> Self {
        self.actions.push((rule.into(), None));
        self
    }

    /// Adds a redactor of the program's own.
    pub fn custom(mut self, redactor: impl Redactor) -> Self {
        self.customs.push(Arc::new(redactor));
        self
    }

    /// Sets the key of [`Action::Hash`], at least 16 bytes. Who has it can find out which value a
    /// hash belongs to; with another key, equal values no longer have equal hashes.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// Reads the rules in the environment: `AUDIT_REDACT` lists presets (`secrets`, `personal`, `ip`) and
    /// `sql-literals`, separated by commas, and `AUDIT_REDACT_KEY`, or the file that `AUDIT_REDACT_KEY_FILE` names, has
    /// the key for hashes. `None`: nothing is set.
    ///
    /// # Errors
    ///
    /// [`RedactionError`] when a word is unknown or the file cannot be read.
    pub fn from_env() -> Result<Option<Self>, RedactionError> {
        let var = |name: &str| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.trim().is_empty())
        };
        // What cannot be read, or names nothing, must not start a program without redaction.
        if std::env::var_os("AUDIT_REDACT").is_some_and(|listed| listed.to_str().is_none()) {
            return Err(RedactionError::Word);
        }
        let Some(listed) = var("AUDIT_REDACT") else {
            return Ok(None);
        };
        if listed.split(',').all(|word| word.trim().is_empty()) {
            return Err(RedactionError::Word);
        }
        let mut redaction = Self::default().with_presets(&listed)?;
        redaction.key = match (var("AUDIT_REDACT_KEY"), var("AUDIT_REDACT_KEY_FILE")) {
            (Some(key), _) => Some(key.into_bytes()),
            (None, Some(file)) => {
                let key =
                    std::fs::read(file).map_err(|error| RedactionError::KeyFile(error.kind()))?;
                Some(key.trim_ascii_end().to_vec())
            }
            (None, None) => None,
        };
        Ok(Some(redaction))
    }

    /// Adds the presets that a text lists, separated by commas: `secrets`, `personal`, `ip`, and with
    /// `sql-literals` the rule for [literals in SQL](Self::sql_literals), which masks.
    ///
    /// # Errors
    ///
    /// [`RedactionError::Word`] for any other word.
    pub fn with_presets(mut self, listed: &str) -> Result<Self, RedactionError> {
        for word in listed
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            self = match word {
                "secrets" => self.secrets(),
                "personal" => self.personal(),
                IP => self.ip_addresses(),
                SQL_LITERALS => self.sql_literals(Action::Mask),
                _ => return Err(RedactionError::Word),
            };
        }
        Ok(self)
    }

    /// Returns what the rules make of a text, as if a field held it: one of SQL if it begins as a statement.
    ///
    /// ```
    /// let redaction = tracing_audit::redact::Redaction::default().secrets().personal();
    /// let checked = redaction.check("Ada <ada@example.com> paid with 4111 1111 1111 1111")?;
    /// assert_eq!(checked.text(), "Ada <[email]> paid with [card]");
    /// assert!(checked.rules().eq([("card", 1), ("email", 1)]));
    /// # Ok::<(), tracing_audit::redact::RedactionError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RedactionError`] when the rules cannot be used.
    pub fn check(&self, text: &str) -> Result<Redacted, RedactionError> {
        Ok(self.checker()?.check(text))
    }

    /// Returns what checks many texts: the rules are made ready once.
    ///
    /// # Errors
    ///
    /// [`RedactionError`] when the rules cannot be used.
    pub fn checker(&self) -> Result<Checker, RedactionError> {
        self.rules().map(Checker)
    }

    /// Returns the rules ready to be applied.
    pub(crate) fn ready(&self) -> Result<Passing, RedactionError> {
        Ok(Passing::of(Engine::new(self.rules()?)))
    }

    fn action_of(&self, rule: &str) -> Option<Action> {
        self.action_or(rule, Action::Mask)
    }

    /// Returns the action that was set for a rule; `None` if it was left out.
    fn action_or(&self, rule: &str, otherwise: Action) -> Option<Action> {
        let said = self.actions.iter().rev().find(|(name, _)| name == rule);
        said.map_or(Some(otherwise), |(_, action)| *action)
    }

    fn rules(&self) -> Result<RuleSet, RedactionError> {
        let mut places: Vec<_> = Vec::new();
        if self.secrets {
            let names = SECRET_NAMES
                .iter()
                .filter_map(|name| Some((Place::new(*name), self.action_of(name)?)));
            places.extend(names);
        }
        places.extend(self.places.iter().cloned());
        if places.iter().any(|(place, _)| place.is_empty()) {
            return Err(RedactionError::Place);
        }
        let sql_literals = self
            .sql_literals
            .and_then(|action| self.action_or(SQL_LITERAL, action));
        let fields = sql_literals.map_or(&[][..], |_| SQL_FIELDS).iter();
        let sql_fields: Vec<_> = fields.map(|field| Place::new(*field)).collect();
        let all_places = || places.iter().map(|(place, _)| place).chain(&sql_fields);
        let literals = all_places().flat_map(Place::literals);
        let mut rules = Rules {
            shapes: self.shapes()?,
            names: literals.filter(|name| name != "*").collect(),
            ..Rules::default()
        };
        let mut personal: Vec<(&str, Option<Action>)> = Vec::new();
        if self.personal {
            rules.email = self.action_of(EMAIL);
            rules.card = self.action_of(CARD);
            rules.iban = self.action_of(IBAN);
            rules.phone = self.action_of(PHONE);
            rules.national_id = self.action_of(NATIONAL_ID);
            let actions = [
                rules.email,
                rules.card,
                rules.iban,
                rules.phone,
                rules.national_id,
            ];
            personal.extend(
                [EMAIL, CARD, IBAN, PHONE, NATIONAL_ID]
                    .into_iter()
                    .zip(actions),
            );
        }
        let mut names: Vec<String> = rules
            .shapes
            .iter()
            .map(|shape| shape.name.clone().into_owned())
            .collect();
        names.extend(places.iter().map(|(place, _)| place.written().to_owned()));
        names.extend(personal.iter().map(|(name, _)| (*name).to_owned()));
        names.extend(sql_literals.map(|_| SQL_LITERAL.to_owned()));
        self.are_known(&names)?;
        let key = match &self.key {
            Some(key) => Some(Key::new(key).ok_or(RedactionError::ShortKey)?),
            None => None,
        };
        let mut actions = places.iter().map(|(_, action)| *action).chain(sql_literals);
        let hashes = actions.any(|action| action == Action::Hash)
            || rules
                .shapes
                .iter()
                .any(|shape| shape.action == Action::Hash)
            || personal
                .iter()
                .any(|(_, action)| *action == Some(Action::Hash));
        if hashes && key.is_none() {
            return Err(RedactionError::NoKey);
        }
        names.extend(self.customs.iter().map(|custom| custom.name().to_owned()));
        names.extend([SQL_COMMENT, CUT_OFF, NAME].map(str::to_owned));
        Ok(RuleSet {
            scanner: Scanner::new(rules),
            names: Names::new(all_places()),
            places,
            sql_literals,
            customs: self.customs.clone(),
            key,
            counts: Arc::new(Counts::new(names)),
        })
    }

    /// Returns an error for a rule that has an action, or is left out, and is none.
    fn are_known(&self, names: &[String]) -> Result<(), RedactionError> {
        let left_out = |rule: &str| {
            let is_personal =
                self.personal && [EMAIL, CARD, IBAN, PHONE, NATIONAL_ID].contains(&rule);
            let is_secret =
                || SECRET_NAMES.contains(&rule) || all_secrets().any(|shape| shape.name == rule);
            is_personal
                || self.ip_addresses && rule == IP
                || self.sql_literals.is_some() && rule == SQL_LITERAL
                || self.secrets && is_secret()
        };
        let unknown = self
            .actions
            .iter()
            .find(|(rule, _)| !names.contains(rule) && !left_out(rule));
        unknown.map_or(Ok(()), |(rule, _)| Err(RedactionError::Rule(rule.clone())))
    }

    /// Returns the shapes of the presets and of the program.
    fn shapes(&self) -> Result<Vec<shapes::Shape>, RedactionError> {
        let mut all: Vec<shapes::Shape> = Vec::new();
        let mut add = |shape: shapes::Shape| {
            if let Some(action) = self.action_of(&shape.name) {
                all.push(shape.with_action(action));
            }
        };
        if self.secrets {
            all_secrets().for_each(&mut add);
        }
        if self.ip_addresses {
            shapes::own::ip_addresses().for_each(&mut add);
        }
        for (
            Shape {
                name,
                expression,
                literals,
            },
            action,
        ) in self.shapes.iter().cloned()
        {
            shapes::compile(&expression).map_err(|_| RedactionError::Shape(name.clone()))?;
            all.push(shapes::Shape::of_program(
                name, expression, literals, action,
            ));
        }
        Ok(all)
    }
}

/// Returns the shapes of the preset of secrets.
fn all_secrets() -> impl Iterator<Item = shapes::Shape> {
    shapes::of_services().chain(shapes::own::secrets())
}
