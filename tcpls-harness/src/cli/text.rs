//! Makes text from peers, files and people safe to display: it can't move the cursor, change colors or the direction of
//! writing.

use std::fmt::Write;

/// Longer request paths and names are shortened where they are shown.
const SHOWN: usize = 256;

/// Whether a terminal shows `c` as itself, in its place.
fn is_plain(c: char) -> bool {
    !c.is_control() && !is_format(c)
}

/// Line and paragraph separators, and characters that have no width or change the direction (Unicode's `Cf`, those in
/// use).
fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Returns `text` with escapes such as `\u{1b}` in place of characters that a terminal does not show as themselves.
pub(crate) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) { visible.push(c) } else { visible.extend(c.escape_unicode()) }
    }
    visible
}

/// The same, line by line: for text of which only we make lines.
pub(crate) fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

/// The same without an end that is too long for a log, whose length is given instead.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => visible(text),
        Some((end, _)) => format!("{}… ({} bytes)", visible(&text[..end]), text.len()),
    }
}

/// The same JSON, with escapes in place of what would not be shown as itself. `serde_json` escapes only what JSON demands.
pub(crate) fn visible_json(json: &str) -> String {
    let mut visible = String::with_capacity(json.len());
    for c in json.chars() {
        if is_plain(c) {
            visible.push(c);
            continue;
        }
        // Outside strings, JSON of one line has no such characters.
        for unit in c.encode_utf16(&mut [0; 2]) {
            _ = write!(visible, "\\u{unit:04x}");
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_reach_the_terminal_as_commands() {
        assert_eq!(visible("a\x1b]0;x\x07\u{9b}b"), "a\\u{1b}]0;x\\u{7}\\u{9b}b");
        assert_eq!(visible("exe\u{202e}txt\n"), "exe\\u{202e}txt\\u{a}");
        assert_eq!(visible("é 漢 🙂"), "é 漢 🙂");
    }

    #[test]
    fn long_text_is_shortened_between_characters() {
        assert_eq!(shortened(&"é".repeat(SHOWN)), "é".repeat(SHOWN));
        assert_eq!(shortened(&"é".repeat(SHOWN + 1)), format!("{}… (514 bytes)", "é".repeat(SHOWN)));
    }

    #[test]
    fn json_keeps_its_meaning() {
        let text = "\x1b\u{7f}\u{9b}\u{202e}\u{e0041}\"é";
        let json = visible_json(&serde_json::to_string(text).unwrap());
        assert!(json.is_ascii() || json.chars().all(is_plain));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
