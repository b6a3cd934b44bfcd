//! Cleans text that came from elsewhere before a terminal or a log sees it.

use std::borrow::Cow;

/// Returns the text without control characters, escape sequences' introducers and bidi or invisible controls; line ends stay
/// and a tab becomes a space. A removed character is shown as U+FFFD, so that nobody takes the rest for all of it.
///
/// ```
/// assert_eq!(oob_daemon::plain("all\u{1b}[2Jclear\u{202e}"), "all\u{FFFD}[2Jclear\u{FFFD}");
/// ```
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c == '\t' || deceives(c)) {
        return Cow::Borrowed(text);
    }
    let cleaned = text.chars().map(|c| match c {
        '\t' => ' ',
        c if deceives(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    });
    Cow::Owned(cleaned.collect())
}

/// Returns the text on one line: what [`plain`] does, and line ends become spaces.
pub(crate) fn plain_line(text: &str) -> String {
    plain(text).replace('\n', " ")
}

fn deceives(c: char) -> bool {
    let code = u32::from(c);
    (c.is_control() && c != '\n')
        || matches!(code, 0x061C | 0x200B | 0x200E | 0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB)
        || (0xE0000..=0xE007F).contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_not_copied() {
        assert!(matches!(plain("Zoë 王\nДана 👩‍🚒"), Cow::Borrowed(_)));
    }

    #[test]
    fn nothing_that_moves_a_cursor_or_turns_a_line_is_left() {
        let bad = [
            "\u{1b}[31m",
            "\u{9b}2J",
            "a\rb",
            "\u{8}",
            "\u{202e}abc",
            "\u{2066}x",
            "\u{7}",
            "\u{e0041}",
            "\0",
        ];
        for text in bad {
            assert!(!plain(text).chars().any(deceives), "{text:?}");
        }
        assert_eq!(plain("a\tb"), "a b");
        assert_eq!(plain_line("a\nb"), "a b");
    }
}
