//! Names and texts, checked when they are made, so that no screen meets a control or bidi character.

use oob_proto::limits;
use std::fmt;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing but white space.
    #[error("a name may not be empty")]
    Empty,
    /// Too long.
    #[error("a name has at most {} bytes, this one has {len}", limits::NAME_BYTES)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A character that could disguise it on a screen.
    #[error("a name may not contain the character U+{code:04X}")]
    Character {
        /// Its code point.
        code: u32,
    },
}

/// A name of a person, an organisation or a site: 1 to 64 bytes, no control, bidi or invisible characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Checks a name; white space around it is cut off.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > limits::NAME_BYTES {
            return Err(NameError::TooLong { len: text.len() });
        }
        match text.chars().find(|c| disguises(*c)) {
            Some(c) => Err(NameError::Character { code: u32::from(c) }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether two names would be taken for each other: the same but for case.
    pub fn resembles(&self, other: &str) -> bool {
        self.0.to_lowercase() == other.trim().to_lowercase()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Control characters, line separators, bidi controls and invisible characters.
pub(super) fn disguises(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0x00AD | 0x034F | 0x061C | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F
            | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF
            | 0xFFA0 | 0xFFF0..=0xFFFB | 0xE0000..=0xE0FFF)
}

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Nothing to send.
    #[error("a message may not be empty")]
    Empty,
    /// Over the limit.
    #[error("a message has at most {} bytes, this one has {len}", limits::TEXT_BYTES)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}

/// The text of a message: 1 to 8,192 bytes. It is kept as written; who shows it on a terminal cleans it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// Checks a text.
    ///
    /// # Errors
    /// See [`TextError`].
    pub fn parse(text: impl Into<String>) -> Result<Self, TextError> {
        let text = text.into();
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        if text.len() > limits::TEXT_BYTES {
            return Err(TextError::TooLong { len: text.len() });
        }
        Ok(Self(text))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(Name::parse("  Dana Ruiz ").unwrap().as_str(), "Dana Ruiz");
        assert_eq!(Name::parse(" \t"), Err(NameError::Empty));
        assert!(matches!(Name::parse(&"x".repeat(65)), Err(NameError::TooLong { len: 65 })));
    }

    #[test]
    fn names_that_could_disguise_somebody_are_refused() {
        for bad in [
            "Da\u{202E}na",
            "Da\u{200B}na",
            "Dana\u{7}",
            "a\u{2028}b",
            "\u{1b}[31mDana",
            "Dana\u{FE0F}",
            "\u{E0041}x",
        ] {
            assert!(matches!(Name::parse(bad), Err(NameError::Character { .. })), "{bad:?}");
        }
        assert!(Name::parse("Zoë 王 Дана").is_ok());
    }

    #[test]
    fn texts_are_bounded() {
        assert_eq!(Text::parse(""), Err(TextError::Empty));
        assert!(Text::parse("x".repeat(8192)).is_ok());
        assert_eq!(Text::parse("x".repeat(8193)), Err(TextError::TooLong { len: 8193 }));
    }
}
