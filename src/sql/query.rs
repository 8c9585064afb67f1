//! Removes the values from a query's text, and summarizes it.
//!
//! By the database conventions, every literal becomes `?`, comments are removed, and the summary is
//! the operations with their targets. The text may be of any dialect, and what one dialect takes
//! for an identifier is a value in another: in doubt, the text is not exported.

use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace, Word};

use super::dialect::{Dialect, ends_value, is_identifier, is_literal, written};

/// The longest summary, by the conventions, in bytes.
const SUMMARY_BYTES: usize = 255;

/// Sequences at which the dialects disagree on where a text ends, wherever they occur.
const AMBIGUOUS: &[&str] = &["\\", "```", "'''", "\"\"\""];

/// What may be exported of a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// The text with `?` for each literal; `None`: it could not be parsed.
    pub(crate) text: Option<String>,
    /// Operations and targets; empty: none was found.
    pub(crate) summary: String,
}

/// Reads a query; `system` is the database's name in the conventions.
pub(crate) fn read(sql: &str, system: &str) -> Query {
    // Two single quotes within a literal may be next to its own.
    let plain = sql.replace("''", "");
    if AMBIGUOUS.iter().any(|text| plain.contains(text)) {
        return Query::default();
    }
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else {
        return Query::default();
    };
    let Dialect {
        quotes_identifiers,
        has_backticks,
        ..
    } = Dialect::of(system);
    if tokens
        .iter()
        .any(|token| is_ambiguous(token, has_backticks))
        || !is_sql(sql, &tokens)
    {
        return Query::default();
    }
    Query {
        text: Some(without_literals(&tokens, quotes_identifiers)),
        summary: summary(&tokens, quotes_identifiers),
    }
}

/// Returns whether this is a statement, and one without a secret outside its literals: a model may
/// have answered in words.
fn is_sql(sql: &str, tokens: &[Token]) -> bool {
    let has_secret = tokens.iter().any(|token| match token {
        Token::Word(word) => matches!(
            word.value.to_ascii_uppercase().as_str(),
            "IDENTIFIED" | "PASSWORD" | "STDIN"
        ),
        _ => false,
    });
    !has_secret && Parser::parse_sql(&GenericDialect {}, sql).is_ok()
}

/// Returns whether another dialect may end a literal, a name or a comment elsewhere.
fn is_ambiguous(token: &Token, has_backticks: bool) -> bool {
    match token {
        // A comment begins at `#` in MySQL, and at `//` in others.
        Token::Backslash | Token::Sharp | Token::DuckIntDiv => true,
        // MySQL takes `--` for a comment only if a space follows.
        Token::Whitespace(Whitespace::SingleLineComment { prefix, comment }) => {
            prefix != "--" || !(comment.is_empty() || comment.starts_with(char::is_whitespace))
        }
        // Typographic quotes are for a literal where somebody meant one.
        Token::Char(c) => !c.is_ascii(),
        Token::Word(Word {
            value, quote_style, ..
        }) => {
            (*quote_style == Some('`') && !has_backticks)
                || (quote_style.is_none()
                    && value
                        .contains(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '$' | '@')))
        }
        _ => false,
    }
}

fn without_literals(tokens: &[Token], quotes_identifiers: bool) -> String {
    let mut text = String::new();
    let significant: Vec<_> = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| !matches!(token, Token::Whitespace(_)))
        .map(|(index, _)| index)
        .collect();
    let mut before: Option<&Token> = None;
    let mut next = significant.iter().skip(1);
    for (index, token) in tokens.iter().enumerate() {
        let adjacent = tokens.get(index + 1);
        match token {
            Token::Whitespace(
                Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_),
            ) => {
                if !text.ends_with(char::is_whitespace) {
                    text.push(' ');
                }
                continue;
            }
            Token::Whitespace(space) => {
                text.push_str(&space.to_string());
                continue;
            }
            _ => {}
        }
        let following = next.next().map(|index| &tokens[*index]);
        match token {
            // What another dialect has in a number: 1_000, 0b11, and the money $12.50.
            Token::Word(_) | Token::Number(..)
                if index > 0
                    && matches!(tokens[index - 1], Token::Number(..) | Token::Placeholder(_)) => {}
            Token::Word(word) if is_identifier(word, before, following, quotes_identifiers) => {
                text.push_str(&written(word));
            }
            Token::Placeholder(name)
                if name.len() <= 3
                    && !matches!(adjacent, Some(Token::Number(..) | Token::Period)) =>
            {
                text.push_str(name);
            }
            // The sign belongs to the number.
            Token::Minus | Token::Plus
                if matches!(adjacent, Some(Token::Number(..)))
                    && !before.is_some_and(ends_value) => {}
            Token::Word(_) | Token::Placeholder(_) => text.push('?'),
            other if is_literal(other) => text.push('?'),
            other => text.push_str(&other.to_string()),
        }
        before = Some(token);
    }
    text.trim().to_owned()
}

/// Returns the operations and their targets, in the order of the text.
fn summary(tokens: &[Token], quotes_identifiers: bool) -> String {
    let tokens: Vec<_> = tokens
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .collect();
    let mut parts = Parts {
        text: String::new(),
        quotes_identifiers,
    };
    // For each open parenthesis, whether a statement began in it: elsewhere a FROM is a function's.
    let mut levels = vec![false];
    let mut index = 0;
    let mut begins = true;
    while let Some(token) = tokens.get(index) {
        index += 1;
        match token {
            Token::LParen => levels.push(false),
            Token::RParen => {
                if levels.len() > 1 {
                    levels.pop();
                }
            }
            Token::SemiColon => begins = true,
            Token::Word(word) if word.quote_style.is_none() => {
                // There is always one.
                let mut outermost = false;
                let in_statement = levels.last_mut().unwrap_or(&mut outermost);
                match word.keyword {
                    Keyword::SELECT | Keyword::INSERT | Keyword::DELETE | Keyword::MERGE => {
                        parts.push(&word.value);
                        *in_statement = true;
                    }
                    Keyword::UPDATE if begins => {
                        parts.push(&word.value);
                        *in_statement = true;
                        parts.target(&tokens, &mut index);
                    }
                    Keyword::CREATE | Keyword::DROP | Keyword::ALTER | Keyword::TRUNCATE
                        if begins =>
                    {
                        parts.definition(word, &tokens, &mut index);
                    }
                    Keyword::CALL | Keyword::EXEC | Keyword::EXECUTE if begins => {
                        parts.push(&word.value);
                        parts.target(&tokens, &mut index);
                    }
                    Keyword::FROM | Keyword::JOIN if *in_statement => {
                        parts.targets(&tokens, &mut index);
                    }
                    Keyword::INTO if *in_statement => {
                        parts.target(&tokens, &mut index);
                    }
                    _ => {}
                }
                begins = false;
            }
            _ => begins = false,
        }
    }
    parts.text
}

/// A summary while it is put together.
struct Parts {
    text: String,
    quotes_identifiers: bool,
}

impl Parts {
    /// Appends an operation or a target, if it fits.
    fn push(&mut self, part: &str) {
        if self.text.len() + 1 + part.len() > SUMMARY_BYTES {
            return;
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(part);
    }

    /// Appends the name at `index`, if there is one.
    fn target(&mut self, tokens: &[&Token], index: &mut usize) -> bool {
        if matches!(tokens.get(*index), Some(Token::Word(word)) if word.keyword == Keyword::ONLY) {
            *index += 1;
        }
        let mut name = String::new();
        while let Some(Token::Word(word)) = tokens.get(*index) {
            let is_name = word.keyword == Keyword::NoKeyword
                || word.quote_style.is_some()
                || !name.is_empty()
                || tokens.get(*index + 1) == Some(&&Token::Period)
                || !is_clause(word);
            // A name that may be a value is left out.
            let is_told = self.quotes_identifiers
                || word.quote_style != Some('"')
                || !name.is_empty()
                || tokens.get(*index + 1) == Some(&&Token::Period);
            if !is_name || !is_told {
                break;
            }
            name.push_str(&written(word));
            *index += 1;
            if tokens.get(*index) != Some(&&Token::Period) {
                break;
            }
            name.push('.');
            *index += 1;
        }
        if name.is_empty() {
            return false;
        }
        self.push(&name);
        true
    }

    /// Appends the names of a FROM, which are separated by commas.
    fn targets(&mut self, tokens: &[&Token], index: &mut usize) {
        while self.target(tokens, index) {
            // An alias, with or without AS.
            let mut at = *index;
            if matches!(tokens.get(at), Some(Token::Word(word)) if word.keyword == Keyword::AS) {
                at += 1;
            }
            if matches!(tokens.get(at), Some(Token::Word(word)) if !is_clause(word)) {
                at += 1;
            }
            if tokens.get(at) != Some(&&Token::Comma) {
                return;
            }
            *index = at + 1;
        }
    }

    /// Appends what is created, dropped or altered: `CREATE TABLE t`.
    fn definition(&mut self, operation: &Word, tokens: &[&Token], index: &mut usize) {
        self.push(&operation.value);
        let mut is_said = operation.keyword == Keyword::TRUNCATE;
        while let Some(Token::Word(word)) = tokens.get(*index) {
            match word.keyword {
                Keyword::TABLE
                | Keyword::VIEW
                | Keyword::INDEX
                | Keyword::SCHEMA
                | Keyword::DATABASE
                | Keyword::FUNCTION
                | Keyword::PROCEDURE
                | Keyword::SEQUENCE
                | Keyword::TYPE => {
                    self.push(&word.value);
                    is_said = true;
                }
                Keyword::IF | Keyword::NOT | Keyword::EXISTS | Keyword::CONCURRENTLY => {}
                _ if is_said => {
                    self.targets(tokens, index);
                    return;
                }
                _ => {}
            }
            *index += 1;
        }
    }
}

/// Returns whether the word continues the statement, where a name may end.
fn is_clause(word: &Word) -> bool {
    word.quote_style.is_none()
        && matches!(
            word.keyword,
            Keyword::SELECT
                | Keyword::WHERE
                | Keyword::JOIN
                | Keyword::INNER
                | Keyword::LEFT
                | Keyword::RIGHT
                | Keyword::FULL
                | Keyword::CROSS
                | Keyword::NATURAL
                | Keyword::ON
                | Keyword::USING
                | Keyword::GROUP
                | Keyword::ORDER
                | Keyword::HAVING
                | Keyword::LIMIT
                | Keyword::OFFSET
                | Keyword::FETCH
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::SET
                | Keyword::VALUES
                | Keyword::LATERAL
                | Keyword::UNNEST
                | Keyword::WINDOW
                | Keyword::FOR
                | Keyword::RETURNING
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_literals_are_replaced_by_question_marks_and_comments_are_removed() {
        for (sql, text) in [
            ("SELECT 12, -12, .01, 12e-5, 0xDEAD", "SELECT ?, ?, ?, ?, ?"),
            ("SELECT a-1 FROM t", "SELECT a-? FROM t"),
            ("SELECT 'a''b', N'x', true", "SELECT ?, ?, ?"),
            ("SELECT DATE '2026-01-01'", "SELECT DATE ?"),
            (
                "CREATE TABLE t (c varchar(255))",
                "CREATE TABLE t (c varchar(?))",
            ),
            (
                "SELECT c3po FROM covid19 -- not you\nWHERE a = $1 /* 7 */ AND b=?",
                "SELECT c3po FROM covid19  WHERE a = $1 AND b=?",
            ),
            ("SELECT $$!!!***$$", "SELECT ?"),
            ("SELECT $$it's$$, $tag$x$tag$", "SELECT ?, ?"),
            ("SELECT x'ab', b'01'", "SELECT ?, ?"),
            ("SELECT 1_000_000", "SELECT ?"),
        ] {
            let read = read(sql, "").text.expect(sql);
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(squeezed(&read), squeezed(text), "{sql}");
        }
    }

    #[test]
    fn double_quoted_text_is_kept_only_where_it_must_be_an_identifier() {
        let sql = r#"SELECT "a"."b", "secret" FROM t AS "u" WHERE name IS DISTINCT FROM "Alice""#;
        assert_eq!(
            read(sql, "sqlite").text.unwrap(),
            r#"SELECT "a"."b", ? FROM t AS "u" WHERE name IS DISTINCT FROM ?"#
        );
        assert_eq!(read(sql, "sqlite").summary, "SELECT t");
        assert_eq!(read(sql, "postgresql").text.unwrap(), sql);
        let doubled = "SELECT * FROM \"weird \"\"table\"";
        assert_eq!(read(doubled, "postgresql").text.unwrap(), doubled);
        let backticks = "SELECT `a` FROM `t` WHERE name = `Alice`";
        assert_eq!(read(backticks, "mysql").text.unwrap(), backticks);
        assert_eq!(read(backticks, "").text, None);
    }

    #[test]
    fn sql_that_is_ambiguous_between_dialects_is_not_exported() {
        for sql in [
            r"SELECT 'a\' OR secret=\'b'",
            "SELECT 1 # a secret\n",
            "SELECT 'secret",
            r#"SELECT "a\" secret \"b""#,
            "SELECT * FROM t WHERE a = “secret”",
            "SELECT ‘secret’",
            "```sql\nSELECT 'secret'\n```",
            "Sorry, I cannot select data about the patient Alice Smith",
            "Select data about the patient Alice Smith who has cancer",
            "SELECT a FROM t WHERE a=1 #secret",
            "SELECT 1 // secret",
            "SELECT * FROM t WHERE a > $54321.99",
            "SELECT 1--'\nsecret'",
            "CREATE USER u IDENTIFIED BY secret",
            "ALTER USER u PASSWORD secret",
            "COPY t FROM STDIN;\nsecret\n\\.",
            "SELECT '''a 'secret' b'''",
            "SELECT r'\\'' , 'secret'",
        ] {
            assert_eq!(read(sql, ""), Query::default(), "{sql}");
        }
    }

    #[test]
    fn query_summary_lists_operations_and_targets() {
        for (sql, summary) in [
            (
                "SELECT * FROM wuser_table WHERE username = ?",
                "SELECT wuser_table",
            ),
            (
                "INSERT INTO shipping_details (order_id) SELECT order_id FROM orders",
                "INSERT shipping_details SELECT orders",
            ),
            (
                "SELECT * FROM songs s, artists AS a WHERE 1=1",
                "SELECT songs artists",
            ),
            (
                "SELECT * FROM songs JOIN artists USING (id)",
                "SELECT songs artists",
            ),
            (
                "SELECT d FROM (SELECT order_date FROM orders o JOIN customers c ON 1=1) x",
                "SELECT SELECT orders customers",
            ),
            ("SELECT * FROM songs s, \"song list\"", "SELECT songs"),
            (
                "SELECT * FROM dbo.Table, dbo.AnotherTable",
                "SELECT dbo.Table dbo.AnotherTable",
            ),
            (
                "CREATE TABLE IF NOT EXISTS MyTable (a int)",
                "CREATE TABLE MyTable",
            ),
            ("DROP TABLE MyTable", "DROP TABLE MyTable"),
            ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i"),
            ("TRUNCATE t1, t2", "TRUNCATE t1 t2"),
            ("SELECT * FROM ONLY parent", "SELECT parent"),
            ("SELECT * FROM t1 CROSS JOIN t3 a, t4", "SELECT t1 t3 t4"),
            ("SELECT 12", "SELECT"),
            ("call some_stored_procedure", "call some_stored_procedure"),
            ("UPDATE t SET a = 1", "UPDATE t"),
            (
                "DELETE FROM t WHERE a IN (SELECT a FROM u)",
                "DELETE t SELECT u",
            ),
            ("SELECT extract(year FROM created_at) FROM t", "SELECT t"),
            (
                "WITH x AS (SELECT 1 FROM a) SELECT * FROM x",
                "SELECT a SELECT x",
            ),
            ("", ""),
            ("prose that is no SQL", ""),
        ] {
            assert_eq!(read(sql, "").summary, summary, "{sql}");
        }
        let many = (0..100).map(|n| format!("table_{n}")).collect::<Vec<_>>();
        let long = read(&format!("SELECT * FROM {}", many.join(", ")), "").summary;
        assert!(
            long.len() <= 255
                && long
                    .split(' ')
                    .all(|part| part == "SELECT" || many.iter().any(|name| name == part))
        );
    }
}
