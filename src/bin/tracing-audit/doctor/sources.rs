//! The migrations' text, and the functions in it: what is in the database must say the same.

use std::borrow::Cow;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType};

/// The migrations by their version, as the library embeds them.
const MIGRATIONS: [(i64, &str); 2] = [
    (
        1,
        include_str!("../../../../migrations/0001_audit_trail.sql"),
    ),
    (2, include_str!("../../../../migrations/0002_rights.sql")),
];

/// The statements with which a superuser makes the event triggers.
pub(crate) const GUARD: &str = include_str!("../../../../migrations/guard.sql");

/// The version of the schema that this program knows.
pub(crate) const VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Each version, and the checksum that sqlx notes when it is applied.
pub(crate) fn checksums() -> impl Iterator<Item = (i64, Vec<u8>)> {
    MIGRATIONS.into_iter().map(|(version, sql)| {
        let migration = Migration::new(
            version,
            Cow::Borrowed(""),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        );
        (version, migration.checksum.into_owned())
    })
}

/// A function as the migrations make it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) schema: &'static str,
    pub(crate) name: &'static str,
    /// Types of the arguments, as `format_type` writes them.
    pub(crate) arguments: Vec<String>,
    pub(crate) language: String,
    pub(crate) is_definer: bool,
    /// `pg_proc.provolatile`.
    pub(crate) volatility: &'static str,
    pub(crate) is_strict: bool,
    /// Each `name=value`, in the order of their names.
    pub(crate) settings: Vec<String>,
    pub(crate) body: Body,
    /// The statement that makes it so again.
    pub(crate) statement: String,
}

impl Function {
    /// As it is written in a statement.
    pub(crate) fn signature(&self) -> String {
        format!(
            "{}.{}({})",
            self.schema,
            self.name,
            self.arguments.join(", ")
        )
    }
}

/// What a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// `AS $$ … $$`, which Postgres keeps as it is.
    Text(&'static str),
    /// `RETURN …`, which Postgres keeps parsed.
    Expression(&'static str),
}

/// All SQL that makes functions, in its order.
fn texts() -> impl Iterator<Item = &'static str> {
    MIGRATIONS.into_iter().map(|(_, sql)| sql).chain([GUARD])
}

/// The functions of all migrations; of one that is made anew, the last.
pub(crate) fn functions() -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    for sql in texts() {
        for function in functions_of(sql) {
            functions.retain(|before| before.signature() != function.signature());
            functions.push(function);
        }
    }
    functions
}

/// The functions that a migration makes, in its order. Understands what the migrations use: no modes of arguments,
/// each `SET` on a line of its own, a body as the last part.
fn functions_of(sql: &'static str) -> Vec<Function> {
    let begins = |line: &str| {
        let line = line.trim_start();
        ["CREATE FUNCTION ", "CREATE OR REPLACE FUNCTION "]
            .iter()
            .find_map(|words| line.strip_prefix(words).map(str::len))
    };
    let mut functions = Vec::new();
    let mut line_start = 0;
    for line in sql.split_inclusive('\n') {
        line_start += line.len();
        if let Some(rest) = begins(line) {
            functions.extend(function_at(&sql[line_start - rest..]));
        }
    }
    functions
}

/// The function whose name `text` begins with.
fn function_at(text: &'static str) -> Option<Function> {
    let open = text.find('(')?;
    let (schema, name) = text[..open].split_once('.')?;
    let close = open + closing(&text[open..])?;
    let after = &text[close + 1..];
    let (header, body, end) = body_of(after)?;
    // Comments may hold any word.
    let header: String = header
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let has = |words: &str| header.contains(words);
    let mut settings: Vec<String> = header
        .lines()
        .filter_map(|line| setting(line.trim().strip_prefix("SET ")?))
        .collect();
    settings.sort();
    Some(Function {
        schema,
        name,
        arguments: split_arguments(&text[open + 1..close])
            .map(type_of)
            .collect(),
        language: header
            .split_once("LANGUAGE ")?
            .1
            .split_whitespace()
            .next()?
            .to_owned(),
        is_definer: has("SECURITY DEFINER"),
        volatility: if has("IMMUTABLE") {
            "i"
        } else if has("STABLE") {
            "s"
        } else {
            "v"
        },
        is_strict: has("STRICT"),
        settings,
        body,
        statement: format!("CREATE OR REPLACE FUNCTION {};", &text[..=close + end]),
    })
}

/// What stands before the body, the body, and where it ends.
fn body_of(after: &'static str) -> Option<(&'static str, Body, usize)> {
    let mut start = 0;
    for line in after.split_inclusive('\n') {
        let words = line.trim_start();
        let at = start + line.len() - words.len();
        if words.starts_with("AS $") {
            let tag_end = at + 4 + after[at + 4..].find('$')? + 1;
            let tag = &after[at + 3..tag_end];
            let length = after[tag_end..].find(tag)?;
            let body = &after[tag_end..tag_end + length];
            return Some((&after[..at], Body::Text(body), tag_end + length + tag.len()));
        }
        if words.starts_with("RETURN ") {
            let length = after[at..].find(';')?;
            let body = &after[at + "RETURN ".len()..at + length];
            return Some((&after[..at], Body::Expression(body), at + length));
        }
        start += line.len();
    }
    None
}

/// `name=value` of `name = 'value'`, as `pg_proc.proconfig` has it, the name in lower case.
fn setting(text: &str) -> Option<String> {
    let (name, value) = text.split_once('=')?;
    Some(format!(
        "{}={}",
        name.trim().to_lowercase(),
        value.trim().trim_matches('\'')
    ))
}

/// The end of the parenthesis that `text` begins with.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return Some(at),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn split_arguments(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|argument| !argument.is_empty())
}

/// The type of an argument `name type [DEFAULT value]`.
fn type_of(argument: &str) -> String {
    let without_default = argument
        .split_once(" DEFAULT ")
        .map_or(argument, |(before, _)| before);
    let name = without_default
        .split_once(' ')
        .map_or(without_default, |(_, name)| name);
    match name {
        "timestamptz" => "timestamp with time zone".to_owned(),
        "int" => "integer".to_owned(),
        name => name.to_owned(),
    }
}

/// The definition of `audit.trail`.
pub(crate) fn view() -> Option<&'static str> {
    MIGRATIONS.iter().rev().find_map(|(_, sql)| {
        let start = sql.find("CREATE VIEW audit.trail ")?;
        let select = start + sql[start..].find("SELECT")?;
        let end = select + sql[select..].find(';')?;
        Some(&sql[select..end])
    })
}

/// SQL with all that Postgres writes in its own way taken out: blanks, case, parentheses, casts to text, the table
/// before a column, and names of columns.
pub(crate) fn essence(sql: &str) -> String {
    let sql = sql.to_lowercase();
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in sql.replace("::text", "").chars() {
        if c.is_alphanumeric() || matches!(c, '_' | '.' | '\'') {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !c.is_whitespace() && !matches!(c, '(' | ')' | ';') {
            words.push(c.to_string());
        }
    }
    words.push(word);
    let mut kept: Vec<&str> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "as" {
            words.next();
            continue;
        }
        let column = ["query_runs.", "prompt_runs.", "events."]
            .iter()
            .find_map(|table| word.strip_prefix(table));
        kept.push(column.unwrap_or(word));
    }
    kept.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> Function {
        functions()
            .into_iter()
            .find(|function| function.name == name)
            .unwrap()
    }

    #[test]
    fn every_file_that_makes_a_function_is_known() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let files = std::fs::read_dir(folder)
            .unwrap()
            .filter(|file| {
                let text = std::fs::read_to_string(file.as_ref().unwrap().path());
                text.unwrap().contains("FUNCTION audit")
            })
            .count();
        assert_eq!(files, texts().count());
    }

    #[test]
    fn every_function_is_found_in_the_text() {
        let made = texts()
            .flat_map(str::lines)
            .filter(|line| {
                let line = line.trim_start();
                line.starts_with("CREATE")
                    && line.contains(" FUNCTION ")
                    && !line.contains("TRIGGER")
            })
            .count();
        let found: usize = texts().map(|sql| functions_of(sql).len()).sum();
        assert_eq!(found, made);
    }

    #[test]
    fn a_function_is_read_as_it_is_written() {
        let read = function("place_hold");
        assert_eq!(
            read.signature(),
            "audit.place_hold(text, uuid, timestamp with time zone, timestamp with time zone, text[], boolean)"
        );
        assert_eq!(
            (read.language.as_str(), read.is_definer, read.volatility),
            ("plpgsql", true, "v")
        );
        assert_eq!(read.settings, ["search_path=pg_catalog, pg_temp"]);
        let Body::Text(body) = read.body else {
            panic!("{read:?}")
        };
        assert!(body.starts_with("\nDECLARE"), "{body}");
        assert!(body.ends_with("END\n"), "{body}");
        assert!(read.statement.ends_with("END\n$$;"), "{}", read.statement);
    }

    #[test]
    fn an_expression_is_a_body_as_well() {
        let read = function("current_tenant");
        assert_eq!(
            read.body,
            Body::Expression("nullif(current_setting('app.current_tenant', true), '')::uuid")
        );
        assert!(!read.is_definer);
        assert!(read.settings.is_empty());
    }

    #[test]
    fn of_a_function_that_is_made_anew_the_last_counts() {
        let read = function("ensure_partition");
        let Body::Text(body) = read.body else {
            panic!("{read:?}")
        };
        assert!(body.contains("_default"), "{body}");
        assert_eq!(
            read.settings,
            ["search_path=pg_catalog, pg_temp", "timezone=UTC"]
        );
    }

    #[test]
    fn the_view_is_found_in_the_text() {
        assert!(view().unwrap().ends_with("FROM audit.events"));
    }

    #[test]
    fn the_essence_is_the_same_in_both_ways_of_writing() {
        let written = "nullif(current_setting('app.current_tenant', true), '')::uuid";
        let stored = "(NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid";
        assert_eq!(essence(written), essence(stored));
        assert_ne!(essence(written), essence("nullif('x', '')::uuid"));
        assert_eq!(
            essence("SELECT 'a' AS kind, started_at AS began_at FROM audit.events"),
            essence(
                " SELECT 'a'::text AS kind,\n    events.started_at AS began_at\n   FROM audit.events;"
            )
        );
    }
}
