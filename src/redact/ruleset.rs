//! The rules, ready to be applied.

use std::sync::Arc;

use super::action::{Action, Key};
use super::counts::Counts;
use super::custom::Redactor;
use super::place::{Names, Place};
use super::scan::Scanner;

/// The rules, ready to be applied.
#[derive(Debug)]
pub(crate) struct RuleSet {
    pub(super) scanner: Scanner,
    pub(super) places: Vec<(Place, Action)>,
    pub(super) names: Names,
    /// What becomes of the literals in SQL; `None`: they are not looked for.
    pub(super) sql_literals: Option<Action>,
    pub(super) customs: Vec<Arc<dyn Redactor>>,
    pub(super) key: Option<Key>,
    pub(super) counts: Arc<Counts>,
}

/// What stands in the place of a value whose redactor panicked.
pub(super) const FAILED: &str = "[redaction failed]";
