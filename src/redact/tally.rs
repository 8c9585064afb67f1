//! What was redacted in one record, as the column `redactions` names it.

use std::fmt::Write as _;

/// The greatest number of entries in `redactions`; one more entry stands for all others.
const MAX_ENTRIES: usize = 100;

/// The longest name of a field in an entry, in bytes.
const NAME_BYTES: usize = 200;

/// The longest entry, in bytes: all together stay below what the column takes.
const ENTRY_BYTES: usize = 8 * 1024;

/// How often each rule applied to each field of a record.
#[derive(Debug, Default)]
pub(super) struct Tally<'a> {
    fields: Vec<(String, Vec<(&'a str, u64)>)>,
    /// The field that is being redacted.
    current: String,
}

impl<'a> Tally<'a> {
    /// Begins with a value of a field; an earlier value of it no longer counts.
    pub(super) fn begin(&mut self, name: &str) {
        self.fields.retain(|(other, _)| other != name);
        self.current.clear();
        self.current.push_str(name);
    }

    /// Counts what a rule redacted in the current field.
    pub(super) fn add(&mut self, rule: &'a str) {
        if self
            .fields
            .last()
            .is_none_or(|(name, _)| *name != self.current)
        {
            self.fields.push((self.current.clone(), Vec::new()));
        }
        let Some((_, rules)) = self.fields.last_mut() else {
            return;
        };
        match rules.iter_mut().find(|(other, _)| *other == rule) {
            Some((_, count)) => *count += 1,
            None => rules.push((rule, 1)),
        }
    }

    /// Returns how often each rule applied.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&'a str, u64)> {
        self.fields
            .iter()
            .flat_map(|(_, rules)| rules.iter().copied())
    }

    /// Returns the entries of the column, a line each.
    pub(super) fn lines(&self) -> String {
        let mut lines: Vec<String> = self.fields.iter().take(MAX_ENTRIES).map(line).collect();
        if self.fields.len() > MAX_ENTRIES {
            lines.push(String::from("…: more redactions than are listed"));
        }
        lines.join("\n")
    }
}

/// Returns the entry of a field.
fn line((name, rules): &(String, Vec<(&str, u64)>)) -> String {
    let name = &name[..name.floor_char_boundary(NAME_BYTES)];
    let mut line = format!("{name}: ");
    for (at, (rule, count)) in rules.iter().enumerate() {
        let _ = write!(line, "{}{rule} ×{count}", if at == 0 { "" } else { ", " });
    }
    line.truncate(line.floor_char_boundary(ENTRY_BYTES));
    line.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_fields_and_rules_with_their_counts() {
        let mut tally = Tally::default();
        tally.begin("sql_text");
        tally.add("email");
        // The value that counts is recorded later.
        tally.begin("sql_text");
        for rule in ["email", "card", "email"] {
            tally.add(rule);
        }
        tally.begin("no\nthing");
        tally.begin("a\nb");
        tally.add("jwt");
        assert_eq!(tally.lines(), "sql_text: email ×2, card ×1\na b: jwt ×1");
        assert_eq!(tally.rules().map(|(_, count)| count).sum::<u64>(), 4);
    }
}
