//! Text from a peer, made safe to display.

use core::fmt::{self, Write as _};

/// Text from a peer that is safe to display. Characters that could move a cursor, change the colors of a terminal,
/// begin another line of a log or change the direction of reading are escaped, and so are bytes that are not UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if is_deceptive(character) {
                    write!(f, "{}", character.escape_unicode())?;
                } else {
                    f.write_char(character)?;
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// Control characters (C0, DEL, C1), separators of lines and paragraphs, and characters that are invisible or change
/// the display of others (Unicode's `Default_Ignorable_Code_Point` and `Bidi_Control`).
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidirectional_characters_are_escaped() {
        let text = "\u{1b}]0;pwned\u{7}\r\nline \u{9b}31m \u{202e}gpj.exe \u{2066}\u{200b}\u{feff}\u{7f}";
        let shown = Escaped(text.as_bytes()).to_string();
        assert_eq!(
            shown,
            r"\u{1b}]0;pwned\u{7}\u{d}\u{a}line \u{9b}31m \u{202e}gpj.exe \u{2066}\u{200b}\u{feff}\u{7f}"
        );
        for character in ('\0'..=char::MAX).filter(|character| is_deceptive(*character)) {
            assert!(Escaped(character.to_string().as_bytes()).to_string().starts_with(r"\u{"), "{character:?}");
        }
    }

    #[test]
    fn ordinary_text_stays_and_what_is_no_utf_8_is_shown_byte_by_byte() {
        assert_eq!(Escaped("Grüße, 世界 \\ \"a\"".as_bytes()).to_string(), "Grüße, 世界 \\ \"a\"");
        assert_eq!(Escaped(b"a\xff\xe2\x82b").to_string(), r"a\xff\xe2\x82b");
    }
}
