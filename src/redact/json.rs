//! Walks JSON text and replaces values where they stand, so that all else stays as it was written:
//! numbers with all their digits, keys in their order.

/// What is at a place of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// A member's name.
    Name(&'a str),
    Text(&'a str),
    Number(&'a str),
    /// An object, an array, `true`, `false` or `null`, as it is written.
    Other(&'a str),
}

/// What becomes of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Becomes {
    Itself,
    /// A text.
    Text(String),
    Null,
}

/// How deep JSON is followed. What is deeper is not read, and a text that holds it is no JSON.
const DEPTH: usize = 64;

/// Returns whether a text may be a JSON object, array or string; the `Debug` output of a string is
/// one as well, mostly.
pub(super) fn is_like(text: &str) -> bool {
    matches!(
        text.trim_start().as_bytes().first(),
        Some(b'{' | b'[' | b'"')
    )
}

/// Returns whether a text is one of JSON.
pub(super) fn is_text(text: &str) -> bool {
    text.trim_start().starts_with('"') && is_json(text)
}

/// Returns whether a text is JSON.
pub(super) fn is_json(text: &str) -> bool {
    rewrite(text, &mut Vec::new(), &mut |_, _| Becomes::Itself).is_some()
}

/// Asks for each part of a JSON text what becomes of it; `path` holds the names on the way to it.
/// Returns the text with all that changed; `None` if it is no JSON. An object or array that is replaced
/// is not entered.
pub(super) fn rewrite(
    text: &str,
    path: &mut Vec<String>,
    becomes: &mut dyn FnMut(&mut Vec<String>, Part<'_>) -> Becomes,
) -> Option<String> {
    let mut walk = Walk {
        text,
        at: 0,
        copied: 0,
        out: String::with_capacity(text.len()),
        becomes,
    };
    walk.blanks();
    walk.value(path, DEPTH)?;
    walk.blanks();
    if walk.at != text.len() {
        return None;
    }
    walk.out.push_str(&text[walk.copied..]);
    Some(walk.out)
}

struct Walk<'a, 'b> {
    text: &'a str,
    at: usize,
    /// Up to where the text is in `out`.
    copied: usize,
    out: String,
    becomes: &'b mut dyn FnMut(&mut Vec<String>, Part<'_>) -> Becomes,
}

impl<'a> Walk<'a, '_> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        self.blanks();
        (self.byte()? == byte).then(|| self.at += 1)
    }

    /// Puts what a part became in its place; returns whether it is another now.
    fn put(&mut self, start: usize, end: usize, becomes: Becomes) -> bool {
        let new = match becomes {
            Becomes::Itself => return false,
            Becomes::Text(text) => serde_json::Value::String(text).to_string(),
            Becomes::Null => String::from("null"),
        };
        self.out.push_str(&self.text[self.copied..start]);
        self.out.push_str(&new);
        self.copied = end;
        true
    }

    fn value(&mut self, path: &mut Vec<String>, depth: usize) -> Option<()> {
        let start = self.at;
        match self.byte()? {
            b'"' => {
                let text = self.string()?;
                let becomes = (self.becomes)(path, Part::Text(&text));
                self.put(start, self.at, becomes);
            }
            open @ (b'{' | b'[') => {
                if depth == 0 {
                    return None;
                }
                let end = self.end_of_container()?;
                let becomes = (self.becomes)(path, Part::Other(&self.text[start..end]));
                if self.put(start, end, becomes) {
                    self.at = end;
                } else if open == b'{' {
                    self.object(path, depth)?;
                } else {
                    self.array(path, depth)?;
                }
            }
            b'-' | b'0'..=b'9' => {
                let number = self.token(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
                })?;
                let becomes = (self.becomes)(path, Part::Number(number));
                self.put(start, self.at, becomes);
            }
            _ => {
                let word = self.token(|byte| byte.is_ascii_lowercase())?;
                if !matches!(word, "true" | "false" | "null") {
                    return None;
                }
                let becomes = (self.becomes)(path, Part::Other(word));
                self.put(start, self.at, becomes);
            }
        }
        Some(())
    }

    fn object(&mut self, path: &mut Vec<String>, depth: usize) -> Option<()> {
        self.skip(b'{')?;
        self.blanks();
        if self.byte()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.blanks();
            let start = self.at;
            let name = self.string()?;
            let becomes = (self.becomes)(path, Part::Name(&name));
            self.put(start, self.at, becomes);
            self.skip(b':')?;
            self.blanks();
            path.push(super::place::squeezed(&name));
            let walked = self.value(path, depth - 1);
            path.pop();
            walked?;
            self.blanks();
            match self.byte()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn array(&mut self, path: &mut Vec<String>, depth: usize) -> Option<()> {
        self.skip(b'[')?;
        self.blanks();
        if self.byte()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.blanks();
            self.value(path, depth - 1)?;
            self.blanks();
            match self.byte()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Reads a string, and returns what it says.
    fn string(&mut self) -> Option<std::borrow::Cow<'a, str>> {
        let start = self.at;
        if self.byte()? != b'"' {
            return None;
        }
        let mut has_escape = false;
        loop {
            self.at += 1;
            match self.byte()? {
                b'"' => break,
                b'\\' => {
                    has_escape = true;
                    self.at += 1;
                }
                _ => {}
            }
        }
        self.at += 1;
        let written = self.text.get(start..self.at)?;
        if has_escape {
            return serde_json::from_str::<String>(written).ok().map(Into::into);
        }
        Some(written[1..written.len() - 1].into())
    }

    fn token(&mut self, is_of: impl Fn(u8) -> bool) -> Option<&'a str> {
        let start = self.at;
        while self.byte().is_some_and(&is_of) {
            self.at += 1;
        }
        (self.at > start).then(|| &self.text[start..self.at])
    }

    /// Returns where the object or array that begins here ends.
    fn end_of_container(&self) -> Option<usize> {
        let (mut depth, mut is_in_string, mut is_escaped) = (0_usize, false, false);
        for (offset, byte) in self.text.as_bytes()[self.at..].iter().enumerate() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_in_string => is_escaped = true,
                b'"' => is_in_string = !is_in_string,
                _ if is_in_string => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(self.at + offset + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(text: &str, place: &str) -> Option<String> {
        rewrite(text, &mut Vec::new(), &mut |path, part| match part {
            Part::Name(_) => Becomes::Itself,
            _ if path.join(".") == place => Becomes::Text(String::from("x")),
            _ => Becomes::Itself,
        })
    }

    #[test]
    fn value_is_replaced_where_it_stands_and_all_else_is_kept() {
        let text = r#" {"a": 1.50e400, "b":{"c" : "\u0041\"", "d":[1,{"e":null}]},"a":2} "#;
        assert_eq!(
            masked(text, "b.c").unwrap(),
            text.replace(r#""\u0041\"""#, "\"x\"")
        );
        assert_eq!(
            masked(text, "b.d").unwrap(),
            text.replace(r#"[1,{"e":null}]"#, "\"x\"")
        );
        assert_eq!(
            masked(text, "a").unwrap(),
            text.replace("1.50e400", "\"x\"").replace(":2", ":\"x\"")
        );
        assert_eq!(masked(text, "nowhere").unwrap(), text);
        for broken in [
            "{",
            "[1,",
            "{\"a\"}",
            "nul",
            "[1]2",
            "{\"a\":1,}",
            "[\"\\",
            "",
        ] {
            assert_eq!(masked(broken, "a"), None, "{broken}");
        }
        assert_eq!(masked(&"[".repeat(100_000), ""), None);
    }

    proptest! {
        #[test]
        fn any_text_is_kept_or_no_json(text in r#"[\[\]{}",:a1 \\ué]{0,40}"#) {
            let kept = rewrite(&text, &mut Vec::new(), &mut |_, _| Becomes::Itself);
            prop_assert!(kept.is_none_or(|kept| kept == text));
        }
    }
}
