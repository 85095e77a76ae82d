//! Lines at the bottom of a terminal that are replaced in place, below messages that scroll.

/// What a terminal shows below the messages. Without a terminal, it shows nothing.
pub(super) struct Screen {
    /// Asked for each time: people resize terminals.
    columns: fn() -> Option<usize>,
    lines: Vec<String>,
    /// Lines that are on the screen now; the cursor is at the end of the last.
    drawn: usize,
}

impl Screen {
    pub(super) fn none() -> Self {
        Self::of(|| None)
    }

    pub(super) fn of(columns: fn() -> Option<usize>) -> Self {
        Self { columns, lines: Vec::new(), drawn: 0 }
    }

    /// What to write so that `messages`, whole lines, appear above `lines`, or above those shown already.
    pub(super) fn compose(&mut self, messages: &str, lines: Option<Vec<String>>) -> String {
        self.lines = lines.unwrap_or(std::mem::take(&mut self.lines));
        let Some(columns) = (self.columns)() else { return messages.to_owned() };
        let mut text = String::new();
        if self.drawn > 0 {
            text.push('\r');
            if self.drawn > 1 {
                text += &format!("\x1b[{}A", self.drawn - 1);
            }
            text += "\x1b[J";
        }
        text += messages;
        self.drawn = self.lines.len();
        // A line as wide as the terminal would wrap on some.
        let cut: Vec<String> = self.lines.iter().map(|line| cut(line, columns.saturating_sub(1))).collect();
        text + &cut.join("\n")
    }
}

/// `line`, or as much of it as fits into `columns`. What is shown is one column wide per character.
fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    let kept: String = line.chars().take(columns.saturating_sub(1)).collect();
    if columns == 0 { kept } else { kept + "…" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Option<Vec<String>> {
        Some(lines.iter().map(|line| (*line).to_owned()).collect())
    }

    #[test]
    fn messages_appear_above_what_is_shown() {
        let mut screen = Screen::of(|| Some(20));
        assert_eq!(screen.compose("", lines(&["one", "two"])), "one\ntwo");
        assert_eq!(screen.compose("message\n", None), "\r\x1b[1A\x1b[Jmessage\none\ntwo");
        assert_eq!(screen.compose("", lines(&[])), "\r\x1b[1A\x1b[J");
        assert_eq!(screen.compose("message\n", None), "message\n");
    }

    #[test]
    fn lines_never_wrap() {
        let mut screen = Screen::of(|| Some(10));
        assert_eq!(screen.compose("", lines(&["123456789"])), "123456789");
        assert_eq!(screen.compose("", lines(&["1234567890"])), "\r\x1b[J12345678…");
        assert_eq!(cut("ä", 0), "");
    }

    #[test]
    fn only_terminals_show_lines() {
        assert_eq!(Screen::none().compose("message\n", lines(&["line"])), "message\n");
    }
}
