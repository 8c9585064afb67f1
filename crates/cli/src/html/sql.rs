//! SQL with its words in colours.
//!
//! The text may be anything that somebody typed: not SQL at all, cut off in the middle of a string,
//! or megabytes long. So this is no parser. It goes through the text once, and each piece that it
//! returns is a piece of the text: together they are the text, whatever it is.

use maud::{Markup, PreEscaped, html};

use super::visible;

/// What a piece of the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Keyword,
    String,
    Comment,
    /// A number, or the place of a parameter.
    Number,
    /// All else, such as names, operators and white space.
    Plain,
}

/// Words that are keywords in most dialects, in upper case and sorted. Words that are mostly names,
/// as `NAME` or `TYPE`, are none.
const KEYWORDS: &[&str] = &[
    "ADD",
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BY",
    "CALL",
    "CASCADE",
    "CASE",
    "CAST",
    "CHECK",
    "COLLATE",
    "COLUMN",
    "COMMIT",
    "CONFLICT",
    "CONSTRAINT",
    "COPY",
    "CREATE",
    "CROSS",
    "CURRENT_DATE",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "DATABASE",
    "DECLARE",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DO",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXECUTE",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FETCH",
    "FILTER",
    "FIRST",
    "FOR",
    "FOREIGN",
    "FROM",
    "FULL",
    "FUNCTION",
    "GRANT",
    "GROUP",
    "GROUPING",
    "HAVING",
    "ILIKE",
    "IN",
    "INDEX",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "ISNULL",
    "JOIN",
    "KEY",
    "LAST",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCK",
    "MATERIALIZED",
    "MERGE",
    "NATURAL",
    "NOT",
    "NOTHING",
    "NOTNULL",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "OVERLAPS",
    "PARTITION",
    "PRIMARY",
    "PROCEDURE",
    "QUALIFY",
    "RECURSIVE",
    "REFERENCES",
    "RETURNING",
    "REVOKE",
    "RIGHT",
    "ROLLBACK",
    "ROW",
    "ROWS",
    "SAVEPOINT",
    "SCHEMA",
    "SELECT",
    "SET",
    "SIMILAR",
    "SOME",
    "TABLE",
    "TABLESAMPLE",
    "THEN",
    "TO",
    "TOP",
    "TRANSACTION",
    "TRIGGER",
    "TRUE",
    "TRUNCATE",
    "UNION",
    "UNIQUE",
    "UPDATE",
    "USING",
    "VACUUM",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "WITHIN",
    "WITHOUT",
];

/// The length of the longest keyword.
const LONGEST: usize = 17;

/// Shows SQL with its words in colours.
pub(super) fn highlighted(sql: &str) -> Markup {
    let mut out = String::with_capacity(sql.len() * 2);
    let mut put = |class: Class, piece: &str| {
        let shown = visible(piece);
        let class = match class {
            Class::Keyword => "k",
            Class::String => "s",
            Class::Comment => "c",
            Class::Number => "n",
            Class::Plain => return out.push_str(&shown.into_string()),
        };
        out.push_str(&html! { span class=(class) { (shown) } }.into_string());
    };
    // What is plain is shown in one piece.
    let (mut from, mut at) = (0, 0);
    for (class, piece) in (Pieces { sql, at: 0 }) {
        if class != Class::Plain {
            if from < at {
                put(Class::Plain, &sql[from..at]);
            }
            put(class, piece);
            from = at + piece.len();
        }
        at += piece.len();
    }
    if from < sql.len() {
        put(Class::Plain, &sql[from..]);
    }
    PreEscaped(out)
}

/// The pieces of a text, in its order.
struct Pieces<'s> {
    sql: &'s str,
    at: usize,
}

impl<'s> Iterator for Pieces<'s> {
    type Item = (Class, &'s str);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.sql[self.at..];
        if rest.is_empty() {
            return None;
        }
        let (class, length) = piece(rest);
        self.at += length;
        Some((class, &rest[..length]))
    }
}

/// Returns what a text that is not empty begins with, and its length: at least a byte, and never to
/// the middle of a character, for a piece ends before or after ASCII alone, or at the end.
fn piece(rest: &str) -> (Class, usize) {
    let bytes = rest.as_bytes();
    let second = bytes.get(1).copied().unwrap_or(0);
    match (bytes[0], second) {
        (b'\'', _) => (Class::String, quoted(bytes, 0, b'\'', false)),
        (b'e' | b'E', b'\'') => (Class::String, quoted(bytes, 1, b'\'', true)),
        (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'') => {
            (Class::String, quoted(bytes, 1, b'\'', false))
        }
        (b'u' | b'U', b'&') if bytes.get(2) == Some(&b'\'') => {
            (Class::String, quoted(bytes, 2, b'\'', false))
        }
        // Names in quotes, of Postgres and of MySQL.
        (quote @ (b'"' | b'`'), _) => (Class::Plain, quoted(bytes, 0, quote, false)),
        (b'-', b'-') => (Class::Comment, count(bytes, |b| b != b'\n')),
        (b'/', b'*') => (Class::Comment, block_comment(bytes)),
        (b'$', b'0'..=b'9') => (
            Class::Number,
            1 + count(&bytes[1..], |b| b.is_ascii_digit()),
        ),
        (b'$', _) => dollar_quoted(rest),
        // A cast is no parameter.
        (b':', b':') => (Class::Plain, 2),
        (b':' | b'@', _) if is_word_start(second) => {
            (Class::Number, 1 + count(&bytes[1..], is_word))
        }
        (b'?', _) => (Class::Number, 1),
        (b'0'..=b'9', _) | (b'.', b'0'..=b'9') => (Class::Number, number(bytes)),
        (first, _) if is_word_start(first) => {
            let length = count(bytes, is_word);
            (word(&rest[..length]), length)
        }
        _ => (Class::Plain, 1),
    }
}

/// Returns how many bytes at the beginning are such.
fn count(bytes: &[u8], is_such: impl Fn(u8) -> bool) -> usize {
    let end = bytes.iter().position(|b| !is_such(*b));
    end.unwrap_or(bytes.len())
}

/// Whether a word may begin with it; a byte of a character beyond ASCII is that of a letter.
fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn word(word: &str) -> Class {
    if word.len() > LONGEST {
        return Class::Plain;
    }
    let upper = word.to_ascii_uppercase();
    match KEYWORDS.binary_search(&upper.as_str()) {
        Ok(_) => Class::Keyword,
        Err(_) => Class::Plain,
    }
}

/// Returns the length of what is quoted from `open` on; to the end, if nothing closes it. A quote that
/// is doubled does not.
fn quoted(bytes: &[u8], open: usize, quote: u8, has_escapes: bool) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        if has_escapes && bytes[at] == b'\\' && bytes.get(at + 1).is_some_and(u8::is_ascii) {
            at += 2;
        } else if bytes[at] != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    bytes.len()
}

/// Returns the length of a comment; those of Postgres nest.
fn block_comment(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1_usize);
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Returns what begins with a dollar sign that no digit follows: `$$…$$`, `$tag$…$tag$`, or the sign.
fn dollar_quoted(rest: &str) -> (Class, usize) {
    let bytes = rest.as_bytes();
    // A tag has no dollar sign.
    let tag = 1 + count(&bytes[1..], |b| is_word(b) && b != b'$');
    if bytes.get(tag) != Some(&b'$') {
        return (Class::Plain, 1);
    }
    let (open, text) = rest.split_at(tag + 1);
    match text.find(open) {
        Some(close) => (Class::String, open.len() + close + open.len()),
        None => (Class::String, rest.len()),
    }
}

/// Returns the length of a number, as `1`, `1.5e-3` or `0xff`.
fn number(bytes: &[u8]) -> usize {
    let mut end = count(bytes, |b| is_word(b) && b.is_ascii() || b == b'.');
    let is_exponent = |at: usize| matches!(bytes.get(at), Some(b'e' | b'E'));
    if is_exponent(end - 1) && matches!(bytes.get(end), Some(b'+' | b'-')) {
        end += 1 + count(&bytes[end + 1..], |b| b.is_ascii_digit());
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the text of HTML: without tags, and with the entities that maud writes as characters.
    fn text_of(html: &str) -> String {
        let mut text = String::new();
        let mut is_tag = false;
        for c in html.chars() {
            match c {
                '<' => is_tag = true,
                '>' => is_tag = false,
                c if !is_tag => text.push(c),
                _ => {}
            }
        }
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&amp;", "&")
    }

    fn pieces(sql: &str) -> Vec<(Class, &str)> {
        let pieces = Pieces { sql, at: 0 };
        pieces.filter(|(class, _)| *class != Class::Plain).collect()
    }

    #[test]
    fn keywords_are_sorted_and_none_is_longer_than_the_longest() {
        assert!(KEYWORDS.is_sorted());
        let longest = KEYWORDS.iter().map(|word| word.len()).max();
        assert_eq!(longest, Some(LONGEST));
    }

    #[test]
    fn each_word_has_its_class() {
        use Class::{Comment, Keyword, Number, String};
        let sql = "select \"from\", `of` -- 'a'\nFROM t1 /* /* b */ c */ WHERE x::text = $1 AND y IN (:two, ?, @p3, 1.5e-3, .5, 0xff)";
        assert_eq!(
            pieces(sql),
            [
                (Keyword, "select"),
                (Comment, "-- 'a'"),
                (Keyword, "FROM"),
                (Comment, "/* /* b */ c */"),
                (Keyword, "WHERE"),
                (Number, "$1"),
                (Keyword, "AND"),
                (Keyword, "IN"),
                (Number, ":two"),
                (Number, "?"),
                (Number, "@p3"),
                (Number, "1.5e-3"),
                (Number, ".5"),
                (Number, "0xff"),
            ]
        );
        let sql =
            r"'it''s' E'it\'s' e'\\' U&'\00e4' x'1f' $$a 'b' $$ $t$ $$ $u$ $t$ a$1$ cast$ 'ends";
        assert_eq!(
            pieces(sql),
            [
                (String, "'it''s'"),
                (String, r"E'it\'s'"),
                (String, r"e'\\'"),
                (String, r"U&'\00e4'"),
                (String, "x'1f'"),
                (String, "$$a 'b' $$"),
                (String, "$t$ $$ $u$ $t$"),
                (String, "'ends"),
            ]
        );
    }

    #[test]
    fn hostile_text_stays_text() {
        let html =
            highlighted("SELECT '<script>alert(1)</script>\u{202e}' -- <b>\u{7}").into_string();
        assert_eq!(
            html,
            "<span class=\"k\">SELECT</span> <span class=\"s\">'&lt;script&gt;alert(1)&lt;/script&gt;\
             <span class=\"unseen\">U+202E</span>'</span> <span class=\"c\">-- &lt;b&gt;<span class=\"unseen\">U+0007</span></span>"
        );
    }

    #[test]
    fn no_character_is_lost_or_added_whatever_the_text_is() {
        // Each ends or begins something, in any order.
        const PARTS: [&str; 32] = [
            "'", "''", "\"", "`", "$", "$$", "$a$", "$ä$", "$1", "--", "\n", "/*", "*/", "/", "*",
            "\\", "E'", "U&'", "x'", ":", "::", "@", "?", "1", "1e", "1e-", ".", "SELECT", "ä",
            "💥", "<&>", " ",
        ];
        let mut number = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let mut sql = String::new();
            for _ in 0..number % 12 {
                number ^= number << 13;
                number ^= number >> 7;
                number ^= number << 17;
                sql.push_str(PARTS[usize::try_from(number % 32).unwrap()]);
            }
            number = number.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let whole: String = Pieces { sql: &sql, at: 0 }
                .map(|(_, piece)| piece)
                .collect();
            assert_eq!(whole, sql);
            assert_eq!(text_of(&highlighted(&sql).into_string()), sql);
        }
    }

    #[test]
    fn time_grows_with_the_length_and_no_faster() {
        // What is open to the end is looked through once. A text of a megabyte in which each byte asked
        // for another look at the rest would take hours.
        for part in ["$a$ $b", "'", "/*", "$a", "$$x", "1e-", "\"", "E'\\", "--"] {
            let sql = part.repeat(1_000_000 / part.len());
            let whole: usize = Pieces { sql: &sql, at: 0 }
                .map(|(_, piece)| piece.len())
                .sum();
            assert_eq!(whole, sql.len());
        }
    }
}
