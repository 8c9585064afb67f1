//! Formats text for a terminal: escapes, wraps, cuts and colours it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Whether a character could steer a terminal or hide what a text says.
///
/// These are the control characters, and those that reorder text or take no room (the "Trojan
/// Source" ones, Unicode TR 36 and 39). The joiners U+200C and U+200D are part of ordinary writing
/// and are not escaped.
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e01ef}')
}

/// Escapes a line of text so that nothing in it can steer the terminal.
pub(crate) fn escape(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '\t' => safe.push_str("    "),
            c if is_harmful(c) && c.is_ascii() => {
                let _ = write!(safe, "\\x{:02x}", u32::from(c));
            }
            c if is_harmful(c) => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Escapes text of several lines for a single line: each run of white space becomes a blank.
pub(crate) fn escape_line(text: &str) -> String {
    escape(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Escapes JSON without changing what it means to a parser: harmful characters occur only inside
/// its strings.
pub(crate) fn escape_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if is_harmful(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// The maximum average number of characters per column: text made of accents alone takes no column,
/// and could be of any length.
const MAX_PER_COLUMN: usize = 4;

/// Cuts a line to `width` columns, ending it with an ellipsis if something is left out.
pub(crate) fn clip(line: &str, width: usize) -> String {
    let most = width.saturating_mul(MAX_PER_COLUMN);
    let is_short = line.chars().nth(most).is_none();
    if is_short && columns(line) <= width {
        return line.to_owned();
    }
    let mut cut = String::new();
    let mut used = 1;
    for c in line.chars().take(most) {
        used += column_count(c);
        if used > width {
            break;
        }
        cut.push(c);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// The columns of a table: their minimum widths, and the order in which they shrink or are left out
/// on a narrow terminal.
#[derive(Debug)]
pub(crate) struct Layout<const N: usize> {
    /// The least width at which each cell is useful.
    pub(crate) least: [usize; N],
    /// The columns that shrink to their least width, in this order.
    pub(crate) shrink: &'static [usize],
    /// The columns that are left out if shrinking is not enough, in this order.
    pub(crate) drop: &'static [usize],
}

/// The width of the space between two cells.
const GAP: usize = 2;

impl<const N: usize> Layout<N> {
    /// Returns the width of each cell on a line of `width`, `None` for one that is left out.
    /// `natural` holds the widths of the contents.
    pub(crate) fn fit(&self, natural: [usize; N], width: Option<usize>) -> [Option<usize>; N] {
        let kept = width.map_or([true; N], |width| self.kept(self.least_of(natural), width));
        self.narrow(natural, kept, width)
    }

    /// Like [`Self::fit`], for a given choice of columns.
    pub(crate) fn narrow(
        &self,
        natural: [usize; N],
        kept: [bool; N],
        width: Option<usize>,
    ) -> [Option<usize>; N] {
        let width = width.unwrap_or(usize::MAX);
        let least = self.least_of(natural);
        let mut fitted = natural;
        for at in self.shrink {
            let over = taken(&fitted, &kept).saturating_sub(width);
            fitted[*at] = fitted[*at].saturating_sub(over).max(least[*at]);
        }
        let mut cells = [None; N];
        for at in 0..N {
            // A column that never shrinks gets its natural width, up to the whole line.
            cells[at] = kept[at].then_some(fitted[at].min(width));
        }
        cells
    }

    /// Returns the least widths of cells whose contents are `natural` wide.
    fn least_of(&self, natural: [usize; N]) -> [usize; N] {
        let mut least = natural;
        for at in self.shrink {
            least[*at] = natural[*at].min(self.least[*at]);
        }
        least
    }

    /// Returns which columns fit on a line of `width`.
    pub(crate) fn kept(&self, least: [usize; N], width: usize) -> [bool; N] {
        let mut kept = [true; N];
        for at in self.drop {
            if taken(&least, &kept) <= width {
                break;
            }
            kept[*at] = false;
        }
        kept
    }
}

/// Returns the width of a line of the kept cells.
fn taken<const N: usize>(cells: &[usize; N], kept: &[bool; N]) -> usize {
    let cells = cells.iter().zip(kept).filter(|(_, kept)| **kept);
    let (count, sum) = cells.fold((0, 0), |(count, sum), (cell, _)| (count + 1, sum + cell));
    sum + GAP * usize::saturating_sub(count, 1)
}

/// Returns a cell of exactly `width` columns, cutting or padding the text.
pub(crate) fn pad(text: &str, width: usize) -> String {
    let mut cell = clip(text, width);
    cell.push_str(&" ".repeat(width.saturating_sub(columns(&cell))));
    cell
}

/// Returns the lines of a paragraph, wrapped if there is a width.
pub(crate) fn paragraph(text: &str, width: Option<usize>, indent: &str) -> String {
    let room = width.map_or(usize::MAX, |width| {
        width.saturating_sub(columns(indent)).max(1)
    });
    let mut out = String::new();
    for piece in wrap(text, room) {
        let _ = writeln!(out, "{indent}{piece}");
    }
    out
}

/// Breaks a line that is wider than `width` columns, at blanks if possible.
pub(crate) fn wrap(line: &str, width: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut used = 0;
    // The byte after the last blank of the piece, and the columns used up to it.
    let mut blank = None;
    for (at, c) in line.char_indices() {
        let wide = column_count(c);
        if used + wide > width && at > start {
            let (end, before) = blank.take().unwrap_or((at, used));
            pieces.push(piece(line, start..end));
            start = end;
            used -= before;
        }
        used += wide;
        // A break inside the indentation would leave an empty line.
        if c == ' ' && !line[start..at].trim_start().is_empty() {
            blank = Some((at + 1, used));
        }
    }
    pieces.push(piece(line, start..line.len()));
    pieces
}

/// Returns a piece of a broken line; only the first keeps its indentation.
fn piece(line: &str, range: Range<usize>) -> &str {
    let first = range.start == 0;
    let piece = line[range].trim_end();
    if first { piece } else { piece.trim_start() }
}

/// Returns the columns that an escaped text takes on a terminal.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(column_count).sum()
}

/// Returns the columns of a character: accurate enough for alignment, without the Unicode tables.
fn column_count(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        // Those below the block of pictures that terminals draw as pictures.
        | '\u{231a}' | '\u{231b}' | '\u{23e9}'..='\u{23ec}' | '\u{23f0}' | '\u{23f3}'
        | '\u{25fd}' | '\u{25fe}' | '\u{2614}' | '\u{2615}' | '\u{2648}'..='\u{2653}'
        | '\u{267f}' | '\u{2693}' | '\u{26a1}' | '\u{26aa}' | '\u{26ab}' | '\u{26bd}'
        | '\u{26be}' | '\u{26c4}' | '\u{26c5}' | '\u{26ce}' | '\u{26d4}' | '\u{26ea}'
        | '\u{26f2}' | '\u{26f3}' | '\u{26f5}' | '\u{26fa}' | '\u{26fd}' | '\u{2705}'
        | '\u{270a}' | '\u{270b}' | '\u{2728}' | '\u{274c}' | '\u{274e}'
        | '\u{2753}'..='\u{2755}' | '\u{2757}' | '\u{2795}'..='\u{2797}' | '\u{27b0}'
        | '\u{27bf}' | '\u{2b1b}' | '\u{2b1c}' | '\u{2b50}' | '\u{2b55}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Formats a duration, given in milliseconds, in the unit that reads best.
pub(crate) fn duration(ms: f64) -> String {
    if ms < 0.0 {
        return format!("-{}", duration(-ms));
    }
    // A duration that no clock could measure would overflow the units below.
    let Ok(exact) = Duration::try_from_secs_f64(ms / 1000.0) else {
        return format!("{ms:.0} ms");
    };
    let seconds = exact.as_secs();
    match seconds {
        0 if ms == 0.0 => "0 ms".to_owned(),
        0 if ms < 9.995 => format!("{ms:.2} ms"),
        0 if ms < 999.5 => format!("{ms:.0} ms"),
        0..60 => format!("{:.2} s", exact.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Formats a duration of which whole milliseconds are known, without the rest.
pub(crate) fn whole_duration(ms: f64) -> String {
    match ms {
        0.0 => "<1 ms".to_owned(),
        1.0..10.0 => format!("{ms:.0} ms"),
        _ => duration(ms),
    }
}

/// The least width that lines are fitted to, in columns.
const MIN_TERMINAL: usize = 20;

/// The properties of the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// The width to fit lines to; `None` for no limit.
    pub(crate) width: Option<usize>,
    colour: bool,
}

impl Terminal {
    /// Inspects stdout.
    pub(crate) fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let set = |name| std::env::var(name).is_ok_and(|value| !value.is_empty());
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let width = wanted_width().or_else(|| terminal.then(|| terminal_width().unwrap_or(80)));
        Self {
            width: width.map(|width| width.max(MIN_TERMINAL)),
            colour: terminal && !dumb && !set("NO_COLOR"),
        }
    }

    /// Formats something of minor interest.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Formats what the eye should find first.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Formats an error.
    pub(crate) fn alarm(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Formats a warning.
    pub(crate) fn caution(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Formats an outcome in its colour.
    pub(crate) fn outcome(self, status: &str, text: &str) -> String {
        self.paint(
            match status {
                "succeeded" => "32",
                "failed" => "31",
                _ => "33",
            },
            text,
        )
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Returns the width that the environment sets.
fn wanted_width() -> Option<usize> {
    std::env::var("COLUMNS")
        .ok()?
        .parse()
        .ok()
        .filter(|width| *width > 0)
}

/// Returns the width of the terminal, as reported by `stty`, the one portable program that knows
/// it.
fn terminal_width() -> Option<usize> {
    let terminal = File::open("/dev/tty").ok()?;
    let size = Command::new("stty")
        .arg("size")
        .stdin(terminal)
        .stderr(Stdio::null())
        .output();
    let size = String::from_utf8(size.ok()?.stdout).ok()?;
    size.split_whitespace()
        .nth(1)?
        .parse()
        .ok()
        .filter(|width| *width > 0)
}

/// Formats a count with its thousands separated.
pub(crate) fn grouped(count: i64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        Layout, clip, columns, duration, escape, escape_json, escape_line, pad, whole_duration,
        wrap,
    };

    #[test]
    fn terminal_control_characters_are_escaped() {
        assert_eq!(
            escape("a\x1b[31m\x07\u{9b}2J\u{202e}b"),
            "a\\x1b[31m\\x07\\u{9b}2J\\u{202e}b"
        );
        assert_eq!(
            escape_line("SELECT 1\r\n\t-- x\x1b]0;t\x07"),
            "SELECT 1 -- x\\x1b]0;t\\x07"
        );
    }

    #[test]
    fn ordinary_text_is_not_escaped() {
        let text = "naïve 日本語 می‌خواهم 👩‍💻";
        assert_eq!(escape(text), text);
    }

    #[test]
    fn pictures_are_two_columns_wide_wherever_they_stand() {
        for (text, width) in [
            ("✅", 2),
            ("⌚", 2),
            ("⚡", 2),
            ("👩", 2),
            ("→", 1),
            ("✓", 1),
        ] {
            assert_eq!(columns(text), width, "{text}");
        }
    }

    #[test]
    fn lines_break_at_blanks_and_keep_every_character() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("    indented text", 12), ["    indented", "text"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("日本語日本", 4), ["日本", "語日", "本"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("日", 1), ["日"]);
    }

    #[test]
    fn what_takes_no_room_or_turns_text_around_is_escaped_and_what_people_write_is_not() {
        // Unicode's Default_Ignorable_Code_Point but the joiners and the variation selectors of a
        // sign, and what else shows nothing.
        for c in [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{17b5}',
            '\u{180b}',
            '\u{180e}',
            '\u{180f}',
            '\u{200b}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2064}',
            '\u{2066}',
            '\u{206f}',
            '\u{2800}',
            '\u{3164}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{fffb}',
            '\u{1d173}',
            '\u{1d17a}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{e01ef}',
            '\u{7}',
            '\u{9b}',
        ] {
            let escaped = escape(&format!("a{c}b"));
            assert!(escaped.is_ascii() && escaped.len() > 3, "{escaped:?}");
            let json = escape_json(&format!("\"a{c}b\""));
            assert_eq!(
                serde_json::from_str::<String>(&json).unwrap(),
                format!("a{c}b")
            );
        }
        for text in [
            "é",
            "e\u{301}",
            "日本",
            "می\u{200c}خواهم",
            "👩\u{200d}💻",
            "\u{600}",
        ] {
            assert_eq!(escape(text), text);
        }
    }

    #[test]
    fn a_clipped_line_fits() {
        assert_eq!(clip("abcdef", 6), "abcdef");
        assert_eq!(clip("abcdef", 5), "abcd…");
        assert!(columns(&clip("日本語日本", 4)) <= 4);
        assert_eq!(clip("abcdef", 0), "");
        // Accents take no column, and there may be millions of them.
        assert!(clip(&"\u{301}".repeat(1_000_000), 64).chars().count() <= 257);
    }

    #[test]
    fn cells_become_narrower_then_fewer_until_the_line_fits() {
        const LAYOUT: Layout<3> = Layout {
            least: [4, 10, 8],
            shrink: &[1, 0, 2],
            drop: &[0, 1],
        };
        let fit = |width| LAYOUT.fit([8, 100, 20], width);
        assert_eq!(fit(None), [Some(8), Some(100), Some(20)]);
        assert_eq!(fit(Some(132)), [Some(8), Some(100), Some(20)]);
        assert_eq!(fit(Some(60)), [Some(8), Some(28), Some(20)]);
        assert_eq!(fit(Some(40)), [Some(6), Some(10), Some(20)]);
        assert_eq!(fit(Some(30)), [Some(4), Some(10), Some(12)]);
        assert_eq!(fit(Some(25)), [None, Some(10), Some(13)]);
        assert_eq!(fit(Some(12)), [None, None, Some(12)]);
        assert_eq!(fit(Some(3)), [None, None, Some(3)]);
        for width in 1..200 {
            let line: usize = fit(Some(width)).iter().flatten().map(|cell| cell + 2).sum();
            assert!(line - 2 <= width, "{width}");
        }
        assert_eq!(pad("日本", 5), "日本 ");
        assert_eq!(columns(&pad(&"x".repeat(70_000), 66_000)), 66_000);
    }

    #[test]
    fn whole_milliseconds_are_printed_without_a_fraction() {
        let shown = [0.0, 1.0, 9.0, 10.0, 1204.0, -5.0].map(whole_duration);
        assert_eq!(
            shown,
            ["<1 ms", "1 ms", "9 ms", "10 ms", "1.20 s", "-5.00 ms"]
        );
    }

    #[test]
    fn durations_are_printed_in_a_readable_unit() {
        let shown = [
            0.0,
            0.42,
            34.4,
            999.9,
            1204.0,
            123_000.0,
            4_000_000.0,
            -5.0,
            1e40,
        ]
        .map(duration);
        assert_eq!(
            shown[..8],
            [
                "0 ms",
                "0.42 ms",
                "34 ms",
                "1.00 s",
                "1.20 s",
                "2 min 03 s",
                "1 h 06 min",
                "-5.00 ms"
            ]
        );
    }
}
