//! Finds the values in a query's text, so that they can be replaced where they stand.
//!
//! Whoever wrote the text may have meant another dialect than the one read here, or none; and a limit may
//! have cut it off. So nothing is taken for a name unless the text says so: from where dialects disagree,
//! or where the tokenizer fails, all that follows is a value, and a text that does not begin as a
//! statement is one as a whole.

use std::ops::Range;

use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use super::dialect::{Dialect, ends_value, is_identifier, is_literal, written};

/// What a value in a query's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Literal,
    /// What a comment says, without its delimiters.
    Comment,
}

/// A value in a query's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    pub(crate) kind: Kind,
    /// Where it stands, with its quotes.
    pub(crate) range: Range<usize>,
    /// What is between its quotes.
    pub(crate) value: Range<usize>,
}

/// How far the end of a name in brackets is looked for; from an open one on, all is a value.
const BRACKET_BYTES: usize = 512;

/// The words that statements begin with.
#[rustfmt::skip]
const BEGINNINGS: &[&str] = &[
    "ALTER", "ANALYZE", "BEGIN", "CALL", "CLOSE", "CLUSTER", "COMMENT", "COMMIT", "COPY", "CREATE",
    "DEALLOCATE", "DECLARE", "DELETE", "DESC", "DESCRIBE", "DISCARD", "DO", "DROP", "END", "EXEC",
    "EXECUTE", "EXPLAIN", "FETCH", "FROM", "GRANT", "INSERT", "KILL", "LISTEN", "LOAD", "LOCK", "MERGE",
    "MOVE", "NOTIFY", "OPTIMIZE", "PRAGMA", "PREPARE", "REFRESH", "REINDEX", "RELEASE", "REPLACE",
    "RESET", "REVOKE", "ROLLBACK", "SAVEPOINT", "SELECT", "SET", "SHOW", "START", "TABLE", "TRUNCATE",
    "UNLISTEN", "UPDATE", "UPSERT", "USE", "VACUUM", "VALUES", "WITH",
];

/// The words that follow `password` where it is the name of a column.
#[rustfmt::skip]
const AFTER_NAME: &[&str] = &[
    "AND", "AS", "ASC", "BETWEEN", "BYTEA", "CASCADE", "CHAR", "CHARACTER", "DESC", "FROM", "GROUP",
    "ILIKE", "IN", "IS", "LIKE", "LIMIT", "NOT", "NULL", "OR", "ORDER", "RESTRICT", "SET", "TEXT", "TO",
    "TYPE", "VARCHAR", "WHERE",
];

/// Returns whether a text begins as a statement does.
pub(crate) fn is_statement(text: &str) -> bool {
    let mut rest = text.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    // A comment may stand before it.
    while let Some(comment) = rest.strip_prefix("--").or_else(|| rest.strip_prefix("/*")) {
        let end = if rest.starts_with("--") { "\n" } else { "*/" };
        let Some(at) = comment.find(end) else {
            return false;
        };
        rest =
            comment[at + end.len()..].trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    }
    let is_of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '#' | '@');
    let word = &rest[..rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())];
    BEGINNINGS
        .iter()
        .any(|other| word.eq_ignore_ascii_case(other))
}

/// Returns the values in a query's text, in their order and apart from each other; `system` is the
/// database's name in the conventions of OpenTelemetry.
pub(crate) fn literals(sql: &str, system: &str) -> Vec<Literal> {
    let mut found = Found {
        sql,
        all: Vec::new(),
    };
    if !is_statement(sql) {
        found.rest(0);
        return found.all;
    }
    // What MySQL executes in a comment is no comment and no statement.
    let read = &sql[..sql.find("/*!").unwrap_or(sql.len())];
    let mut tokens = Vec::new();
    // What follows an error is a value.
    let _ = Tokenizer::new(&GenericDialect {}, read).tokenize_with_location_into_buf(&mut tokens);
    let Reading { tokens, ends } = Reading::new(read, tokens);
    let dialect = Dialect::of(system);
    let mut before: Option<&Token> = None;
    let mut start = 0;
    for (index, token) in tokens.iter().enumerate() {
        let end = ends[index];
        let place = Place {
            sql,
            range: start..end,
            token,
            last: index.checked_sub(1).map(|index| &tokens[index]),
            before,
            following: &tokens[index + 1..],
        };
        if place.is_ambiguous(dialect) {
            found.rest(start);
            return found.all;
        }
        match token {
            Token::Whitespace(Whitespace::SingleLineComment { .. }) => {
                found.comment(start + "--".len()..end);
            }
            Token::Whitespace(Whitespace::MultiLineComment(_)) => {
                found.comment(start + "/*".len()..end - "*/".len());
            }
            Token::Whitespace(_) => {}
            _ if !place.is_kept(dialect) => found.literal(start..end),
            _ => {}
        }
        if !matches!(token, Token::Whitespace(_)) {
            before = Some(token);
        }
        start = end;
        if place.is_before_data() {
            break;
        }
    }
    found.rest(start);
    found.all
}

/// The tokens of a text, and where each ends.
struct Reading {
    tokens: Vec<Token>,
    ends: Vec<usize>,
}

impl Reading {
    fn new(text: &str, tokens: Vec<TokenWithSpan>) -> Self {
        let mut here = Location { line: 1, column: 1 };
        let mut chars = text.char_indices();
        let mut at = 0;
        let ends = tokens.iter().map(|token| {
            while here < token.span.end {
                let Some((index, c)) = chars.next() else {
                    break;
                };
                if c == '\n' {
                    here = Location {
                        line: here.line + 1,
                        column: 1,
                    };
                } else {
                    here.column += 1;
                }
                at = index + c.len_utf8();
            }
            at
        });
        let ends = ends.collect();
        let tokens = tokens.into_iter().map(|token| token.token).collect();
        Self { tokens, ends }
    }
}

/// A token with what stands around it.
struct Place<'a> {
    sql: &'a str,
    range: Range<usize>,
    token: &'a Token,
    /// The token that it is next to.
    last: Option<&'a Token>,
    /// The last token that is no whitespace.
    before: Option<&'a Token>,
    following: &'a [Token],
}

impl Place<'_> {
    fn written(&self) -> &str {
        &self.sql[self.range.clone()]
    }

    fn next(&self) -> Option<&Token> {
        self.following
            .iter()
            .find(|token| !matches!(token, Token::Whitespace(_)))
    }

    /// Returns whether another dialect may end this token, or one after it, elsewhere.
    fn is_ambiguous(&self, dialect: Dialect) -> bool {
        let written = self.written();
        match self.token {
            Token::Backslash => true,
            Token::Char(c) => !c.is_ascii(),
            Token::DuckIntDiv => !dialect.quotes_identifiers,
            // MySQL takes `--` for a comment only if a space follows.
            Token::Whitespace(Whitespace::SingleLineComment { prefix, comment }) => {
                let is_of_all = comment.is_empty() || comment.starts_with(char::is_whitespace);
                prefix != "--" || !(dialect.quotes_identifiers || is_of_all)
            }
            // Only some nest comments.
            Token::Whitespace(Whitespace::MultiLineComment(comment)) => {
                comment.contains("/*") || !written.starts_with("/*") || !written.ends_with("*/")
            }
            Token::Whitespace(_) => !written.chars().all(char::is_whitespace),
            // In SQL Server and SQLite brackets are around a name.
            Token::LBracket if dialect.has_brackets => {
                let rest = &self.sql[self.range.start..];
                let rest = &rest[..rest.floor_char_boundary(BRACKET_BYTES)];
                let Some(end) = rest.find(']') else {
                    return true;
                };
                let name = &rest[..end];
                ["'", "\"", "`", "--", "/*", "#"]
                    .iter()
                    .any(|text| name.contains(text))
            }
            _ => {
                // A comment begins at `#` in MySQL.
                written.starts_with('#') && !dialect.quotes_identifiers
                    || self.ends_elsewhere(dialect)
            }
        }
    }

    /// Returns whether a literal or a name in quotes ends elsewhere in another dialect.
    fn ends_elsewhere(&self, dialect: Dialect) -> bool {
        let written = self.written();
        let is_escaping = dialect.quotes_identifiers && written.starts_with(['e', 'E']);
        let has = |texts: &[&str]| texts.iter().any(|text| written.contains(text));
        if has(&["\\'", "\\\"", "\\`"]) && !is_escaping {
            return true;
        }
        let between = || {
            written
                .get(2..written.len().saturating_sub(1))
                .unwrap_or_default()
        };
        match self.token {
            Token::DollarQuotedString(_) => !dialect.quotes_identifiers && has(&["'", "\"", "`"]),
            // Oracle's q'[…]'.
            Token::QuoteDelimitedStringLiteral(_)
            | Token::NationalQuoteDelimitedStringLiteral(_) => {
                between().trim_start_matches('\'').contains('\'')
            }
            Token::Word(Word {
                quote_style: Some('`'),
                ..
            }) => !dialect.has_backticks,
            _ => !dialect.quotes_identifiers && has(&["'''", "\"\"\"", "```"]),
        }
    }

    /// Returns whether this is surely no value, and what the text has there.
    fn is_kept(&self, dialect: Dialect) -> bool {
        let written_here = self.written();
        match self.token {
            // What another dialect has in a number: 1_000, 0b11, and the money $12.50.
            Token::Word(_) | Token::Number(..)
                if matches!(self.last, Some(Token::Number(..) | Token::Placeholder(_))) =>
            {
                false
            }
            Token::Word(word) => {
                let is_of_name =
                    |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '@' | '#');
                (word.quote_style.is_some() || word.value.chars().all(is_of_name))
                    && written(word) == written_here
                    && is_identifier(word, self.before, self.next(), dialect.quotes_identifiers)
                    && !self.is_password(word)
            }
            Token::Placeholder(name) => {
                let is_number = name.strip_prefix('$').is_some_and(|number| {
                    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
                });
                (name.len() <= 3 || dialect.quotes_identifiers && is_number)
                    && name == written_here
                    && !matches!(
                        self.following.first(),
                        Some(Token::Number(..) | Token::Period)
                    )
            }
            // The sign belongs to the number.
            Token::Minus | Token::Plus
                if matches!(self.following.first(), Some(Token::Number(..)))
                    && !self.before.is_some_and(ends_value) =>
            {
                false
            }
            other => !is_literal(other) && other.to_string() == written_here,
        }
    }

    /// Returns whether a word is where some dialects have a password without quotes.
    fn is_password(&self, word: &Word) -> bool {
        let is_after = matches!(self.before, Some(Token::Word(before))
            if before.quote_style.is_none() && before.value.eq_ignore_ascii_case("password"));
        let is_same = |other: &str| word.value.eq_ignore_ascii_case(other);
        is_after && (word.quote_style.is_some() || !AFTER_NAME.iter().any(|other| is_same(other)))
    }

    /// Returns whether what follows is no SQL: the rows of a COPY, a password without quotes.
    fn is_before_data(&self) -> bool {
        let Token::Word(word) = self.token else {
            return false;
        };
        let is = |other: &str| word.quote_style.is_none() && word.value.eq_ignore_ascii_case(other);
        let is_end = |token: &Token| {
            matches!(
                token,
                Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab)
                    | Token::SemiColon
            )
        };
        is("identified") || is("stdin") && !self.following.iter().all(is_end)
    }
}

/// The values found so far.
struct Found<'a> {
    sql: &'a str,
    all: Vec<Literal>,
}

impl Found<'_> {
    /// Adds a literal; what has none between it and the last one is one with it.
    fn literal(&mut self, range: Range<usize>) {
        match self.all.last_mut() {
            Some(last) if last.kind == Kind::Literal && last.range.end == range.start => {
                last.range.end = range.end;
                last.value = last.range.clone();
            }
            _ => self.all.push(Literal {
                kind: Kind::Literal,
                value: self.between_quotes(range.clone()),
                range,
            }),
        }
    }

    /// Adds what a comment says.
    fn comment(&mut self, range: Range<usize>) {
        let range = self.trimmed(range);
        if !range.is_empty() {
            self.all.push(Literal {
                kind: Kind::Comment,
                value: range.clone(),
                range,
            });
        }
    }

    /// Adds all from a place on.
    fn rest(&mut self, start: usize) {
        let range = self.trimmed(start..self.sql.len());
        if !range.is_empty() {
            self.literal(range);
        }
    }

    fn trimmed(&self, range: Range<usize>) -> Range<usize> {
        let text = &self.sql[range.clone()];
        let start = range.start + text.len() - text.trim_start().len();
        start..start + text.trim().len()
    }

    fn between_quotes(&self, range: Range<usize>) -> Range<usize> {
        let text = &self.sql[range.clone()];
        let between = ['\'', '"'].into_iter().find_map(|quote| {
            let start = text.find(quote)? + 1;
            (text.ends_with(quote) && text.len() > start && text[..start - 1].len() <= 2)
                .then(|| range.start + start..range.end - 1)
        });
        between.unwrap_or(range)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the text with `?` for each literal, and `#` for what a comment says.
    fn masked(sql: &str, system: &str) -> String {
        let mut text = String::new();
        let mut at = 0;
        for literal in literals(sql, system) {
            text.push_str(&sql[at..literal.range.start]);
            text.push(if literal.kind == Kind::Literal {
                '?'
            } else {
                '#'
            });
            at = literal.range.end;
        }
        text + &sql[at..]
    }

    #[test]
    fn literals_of_every_form_are_found_and_all_else_stays() {
        for (sql, expected) in [
            ("SELECT 12, -12, .01, 12e-5, 0xDEAD", "SELECT ?, ?, ?, ?, ?"),
            ("SELECT a-1, b  FROM\tt1", "SELECT a-?, b  FROM\tt1"),
            ("SELECT 'a''b', N'x', true, NULL", "SELECT ?, ?, ?, NULL"),
            (
                "SELECT e'a\\'b\\\\', U&'d\\0061t', B'01', x'ff'",
                "SELECT ?, ?, ?, ?",
            ),
            (
                "SELECT $$it's$$, $tag$ $$ $tag$ FROM t",
                "SELECT ?, ? FROM t",
            ),
            (
                "SELECT 'ä\n\u{1f600}é', col\nFROM tä WHERE 'x' = b",
                "SELECT ?, col\nFROM tä WHERE ? = b",
            ),
            (
                "SELECT a FROM t WHERE b=$1 AND c = $12345 AND d=? AND e=:name",
                "SELECT a FROM t WHERE b=$1 AND c = $12345 AND d=? AND e=:name",
            ),
            ("SELECT 1_000_000, 0b11", "SELECT ?, ?"),
            (
                "SELECT '{\"a\": 1}'::jsonb #>> '{a}', \"Col\"",
                "SELECT ?::jsonb #>> ?, \"Col\"",
            ),
            (
                "SELECT 1 -- Ada's\nFROM t /* it's 7 */ LIMIT 10--",
                "SELECT ? -- #\nFROM t /* # */ LIMIT ?--",
            ),
            ("-- by ada\n(SELECT 'x')", "-- #\n(SELECT ?)"),
            (
                "INSERT INTO t (a) VALUES (DATE '2026-01-01'), (interval'1 day')",
                "INSERT INTO t (a) VALUES (DATE ?), (interval?)",
            ),
            (
                "SELECT password FROM u WHERE password IS NULL",
                "SELECT password FROM u WHERE password IS NULL",
            ),
            ("DO $$BEGIN PERFORM 'x'; END$$", "DO ?"),
            ("", ""),
            ("  ", "  "),
        ] {
            assert_eq!(masked(sql, "postgresql"), expected, "{sql}");
        }
    }

    #[test]
    fn text_that_was_cut_off_within_a_literal_ends_with_one() {
        for sql in [
            "SELECT a FROM t WHERE b = 'secret",
            "SELECT a FROM t WHERE b = 'secret''",
            "SELECT a FROM t WHERE b = E'secret\\",
            "SELECT a FROM t WHERE b = $$secret$",
            "SELECT a FROM t WHERE b = $secret",
            "SELECT a FROM t WHERE b = $a$secret $a",
            "SELECT a FROM t WHERE b = U&'secret\\00",
            "SELECT a FROM t WHERE b = 42",
            "SELECT a FROM t WHERE b = \"secret",
            "SELECT a FROM t WHERE b = /* secret",
        ] {
            for system in ["postgresql", "mysql", ""] {
                let masked = masked(sql, system);
                assert_eq!(masked, "SELECT a FROM t WHERE b = ?", "{sql}, {system}");
            }
        }
        assert_eq!(masked("SELECT a -- secr", ""), "SELECT a -- #");
    }

    #[test]
    fn double_quotes_are_for_names_where_the_system_or_the_text_says_so() {
        let sql = r#"SELECT "a"."b", "secret" FROM t AS "u" WHERE name IS DISTINCT FROM "Alice""#;
        assert_eq!(masked(sql, "postgresql"), sql);
        assert_eq!(
            masked(sql, ""),
            r#"SELECT "a"."b", ? FROM t AS "u" WHERE name IS DISTINCT FROM ?"#
        );
        let sql = "SELECT `a` FROM `t` WHERE b = \"it's\" AND c = 'x'";
        assert_eq!(
            masked(sql, "mysql"),
            "SELECT `a` FROM `t` WHERE b = ? AND c = ?"
        );
        assert_eq!(masked(sql, "postgresql"), "SELECT ?");
    }

    #[test]
    fn nothing_is_kept_from_where_dialects_disagree() {
        for (sql, kept) in [
            (r"SELECT a, 'a\' OR secret=\'b'", "SELECT a, "),
            (r#"SELECT "a\" secret \"b""#, "SELECT "),
            ("SELECT a # a secret\n", "SELECT a "),
            ("SELECT a #secret", "SELECT a "),
            ("SELECT a #> secret", "SELECT a "),
            ("SELECT a // secret", "SELECT a "),
            ("SELECT a--'\nsecret'", "SELECT a"),
            ("SELECT a /* /* */ ' */ secret ' */", "SELECT a "),
            ("SELECT a /*! secret */", "SELECT a "),
            ("SELECT $b$ ' $b$ secret '", "SELECT "),
            ("SELECT q'[ ' ]' , secret '", "SELECT "),
            ("SELECT [it's] = 'secret'", "SELECT "),
            ("SELECT '''a 'secret' b'''", "SELECT "),
            ("SELECT a = “secret”", "SELECT a = "),
            ("SELECT a > $54321.99", "SELECT a > "),
            (
                "CREATE USER u IDENTIFIED BY secret",
                "CREATE USER u IDENTIFIED ",
            ),
            ("ALTER USER u PASSWORD secret", "ALTER USER u PASSWORD "),
            ("COPY t FROM STDIN;\nsecret\n\\.", "COPY t FROM STDIN"),
            ("Sorry, I cannot tell", ""),
            ("{\"find\": \"people\"}", ""),
            ("```sql\nSELECT 'secret'\n```", ""),
        ] {
            assert_eq!(
                masked(sql, "other_sql").trim_end(),
                format!("{kept}?"),
                "{sql}"
            );
        }
        // Each bracket is not searched to the end of the text.
        assert_eq!(
            masked(&format!("SELECT {}", "[".repeat(1_000_000)), ""),
            "SELECT ?"
        );
        assert_eq!(masked("COPY t FROM STDIN; ", ""), "COPY t FROM STDIN; ");
    }

    /// Returns whether a part opens no comment and no quotes, within which the next one's text would begin.
    fn is_whole(part: &str) -> bool {
        !["--", "/*", "$$"].contains(&part)
    }

    proptest! {
        /// Each value has a word that no name has, whatever stands between them.
        #[test]
        fn no_value_stays(
            parts in proptest::collection::vec(
                prop_oneof![
                    "'([^'\\\\]|'')*XYZ([^'\\\\]|'')*'",
                    "E'([^'\\\\]|''|\\\\.)*XYZ([^'\\\\]|''|\\\\.)*'",
                    "\\$\\$[^$]*XYZ[^$]*\\$\\$",
                    "\\$t\\$[^$]*XYZ[^$]*\\$t\\$",
                    "--[^\n]*XYZ[^\n]*\n",
                    "/\\*[^*/]*XYZ[^*/]*\\*/",
                    "\"[^\"X]*\"",
                    "[a-z]{1,5}",
                    "[0-9.]{1,4}",
                    "[-+*/<>=,;():\\[\\]#?@%&|~!^\\\\`{}.$]{1,2}"
                        .prop_filter("a part that a later one would end", |part| is_whole(part)),
                    "[ \t\n]{1,2}",
                    "[^'\"X]",
                ],
                0..12,
            ),
            cut in 0..60_usize,
        ) {
            let all = format!("SELECT {}", parts.join(" "));
            let sql = &all[..all.floor_char_boundary(all.len().saturating_sub(cut))];
            let kept = masked(sql, "postgresql");
            prop_assert!(!kept.contains("XYZ"), "{}", kept);
        }

        #[test]
        fn any_text_is_read(
            sql in "(SELECT )?[-'\"`$a#/*!\\\\\n ä\\[\\];0.]{0,40}",
            system in "(postgresql|mysql|sqlite)?",
        ) {
            let mut at = 0;
            for Literal { range, value, .. } in literals(&sql, &system) {
                prop_assert!(range.start >= at && range.end > range.start);
                prop_assert!(sql.get(range.clone()).is_some() && sql.get(value).is_some());
                at = range.end;
            }
        }
    }
}
