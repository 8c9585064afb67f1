//! What the tokens of a query are, by the system that it is for.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Word};

/// Systems that use double quotes for identifiers and nothing else.
const QUOTES_IDENTIFIERS: &[&str] = &["postgresql", "oracle.db", "cockroachdb", "trino", "duckdb"];

/// Systems that quote identifiers with backticks.
const HAS_BACKTICKS: &[&str] = &[
    "mysql",
    "mariadb",
    "sqlite",
    "clickhouse",
    "gcp.bigquery",
    "bigquery",
    "databricks",
    "hive",
    "spark",
];

/// What is known of a system's dialect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// Whether double quotes are for identifiers and nothing else.
    pub(super) quotes_identifiers: bool,
    /// Whether backticks are for identifiers.
    pub(super) has_backticks: bool,
    /// Whether brackets may be for identifiers.
    #[cfg(feature = "redact")]
    pub(super) has_brackets: bool,
}

impl Dialect {
    /// Returns what is known of a system, by its name in the conventions.
    pub(super) fn of(system: &str) -> Self {
        Self {
            quotes_identifiers: QUOTES_IDENTIFIERS.contains(&system),
            has_backticks: HAS_BACKTICKS.contains(&system),
            #[cfg(feature = "redact")]
            has_brackets: system == "sqlite"
                || !QUOTES_IDENTIFIERS.contains(&system) && !HAS_BACKTICKS.contains(&system),
        }
    }
}

/// Returns whether a token is a value.
pub(super) fn is_literal(token: &Token) -> bool {
    match token {
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::TripleSingleQuotedString(_)
        | Token::TripleDoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::DoubleQuotedByteStringLiteral(_)
        | Token::SingleQuotedRawStringLiteral(_)
        | Token::DoubleQuotedRawStringLiteral(_) => true,
        Token::Word(_) | Token::Whitespace(_) | Token::Placeholder(_) => false,
        // A kind of token that is unknown here is kept only if it has no letter, digit or quote.
        other => !other
            .to_string()
            .chars()
            .all(|c| c.is_ascii_punctuation() && !matches!(c, '\'' | '"' | '`')),
    }
}

/// Returns a word as it was written, with the quotes in it doubled.
pub(super) fn written(word: &Word) -> String {
    match word.quote_style {
        Some(quote @ ('"' | '`')) => {
            let doubled = word.value.replace(quote, &format!("{quote}{quote}"));
            format!("{quote}{doubled}{quote}")
        }
        _ => word.to_string(),
    }
}

/// Returns whether a word is a name or a keyword, rather than a value.
pub(super) fn is_identifier(
    word: &Word,
    before: Option<&Token>,
    next: Option<&Token>,
    quotes_identifiers: bool,
) -> bool {
    match word.quote_style {
        None => !matches!(word.keyword, Keyword::TRUE | Keyword::FALSE),
        Some('"') if !quotes_identifiers => {
            // SQLite and MySQL take it for a value if there is no such column.
            before == Some(&Token::Period)
                || next == Some(&Token::Period)
                || matches!(before, Some(Token::Word(word)) if is_before_name(word))
        }
        Some(_) => true,
    }
}

/// Returns whether only a name can follow. Not after FROM: in `IS DISTINCT FROM` or
/// `TRIM(… FROM …)` a value may follow.
fn is_before_name(word: &Word) -> bool {
    matches!(
        word.keyword,
        Keyword::JOIN | Keyword::INTO | Keyword::UPDATE | Keyword::TABLE | Keyword::AS
    )
}

/// Returns whether a sign after this token is an operator.
pub(super) fn ends_value(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword == Keyword::NoKeyword || word.quote_style.is_some(),
        Token::RParen | Token::RBracket | Token::Placeholder(_) => true,
        other => is_literal(other),
    }
}
