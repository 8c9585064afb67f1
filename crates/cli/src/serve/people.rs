//! Which person may read what, where somebody else says who the person is.

use super::viewer::Access;

/// What the name of a group begins with in a rule.
const GROUP: &str = "group:";

/// The people and groups that may read.
#[derive(Clone, Debug, Default)]
pub(super) struct People {
    /// Who may read all rows: names of people, and of groups as `group:NAME`.
    pub(super) auditors: Vec<String>,
    /// Who may read the rows of a tenant, and its key.
    pub(super) readers: Vec<(String, String)>,
}

impl People {
    /// Whether a rule names a group.
    pub(super) fn name_groups(&self) -> bool {
        let readers = self.readers.iter().map(|(rule, _)| rule);
        let mut rules = self.auditors.iter().chain(readers);
        rules.any(|rule| rule.starts_with(GROUP))
    }

    /// Returns what this person may read; `None`: nothing. A person that two rules name reads as the
    /// first, auditors first.
    pub(super) fn access(&self, name: &str, groups: &[&str]) -> Option<Access> {
        // A person who may choose a name is not taken for a group of that name.
        let is_meant = |rule: &str| match rule.strip_prefix(GROUP) {
            Some(group) => groups.contains(&group),
            None => rule == name,
        };
        if self.auditors.iter().any(|rule| is_meant(rule)) {
            return Some(Access::Auditor);
        }
        let reader = self.readers.iter().find(|(rule, _)| is_meant(rule));
        reader.map(|(_, tenant)| Access::Tenant(tenant.clone()))
    }
}

/// Reads a rule `WHO=TENANT`. The tenant's key is what follows the last `=`.
pub(super) fn reader_rule(said: &str) -> Result<(String, String), String> {
    match said.rsplit_once('=') {
        Some((who, tenant)) if !who.is_empty() && !tenant.is_empty() => {
            Ok((who.to_owned(), tenant.to_owned()))
        }
        _ => Err(String::from("write WHO=TENANT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn person_is_not_taken_for_a_group_of_the_same_name() {
        let people = People {
            auditors: vec![
                String::from("group:auditors"),
                String::from("ana@a.example"),
            ],
            readers: vec![
                (String::from("group:support"), String::from("acme")),
                (String::from("bo"), String::from("beta")),
            ],
        };
        let tenant = |key: &str| Some(Access::Tenant(key.to_owned()));
        assert_eq!(people.access("x", &["auditors"]), Some(Access::Auditor));
        assert_eq!(people.access("ana@a.example", &[]), Some(Access::Auditor));
        assert_eq!(people.access("auditors", &[]), None);
        assert_eq!(people.access("group:auditors", &[]), None);
        assert_eq!(people.access("bo", &["support"]), tenant("acme"));
        assert_eq!(people.access("bo", &[]), tenant("beta"));
        assert_eq!(people.access("x", &["bo"]), None);
    }
}
