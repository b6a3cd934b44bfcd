//! Alerts and what people answer to them.

use super::name::disguises;
use oob_proto::{AlertId, DeviceId, MemberId, limits, wire};
use std::{fmt, str::FromStr};

/// How much an alert asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Severity {
    /// To be known.
    #[default]
    Info,
    /// To be acted on.
    Warning,
    /// To be acted on at once; the only one that may sound again and again.
    Critical,
}

impl Severity {
    /// All of them, by code.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// Returns the number on the wire.
    pub const fn code(self) -> u32 {
        match self {
            Self::Info => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }

    /// Reads the number on the wire.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.code() == code)
    }

    /// Returns the word people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text).ok_or(())
    }
}

/// Why the words of an alert or of an answer were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AlertTextError {
    /// An alert with nothing to say.
    #[error("an alert may not be empty")]
    Empty,
    /// An alert over the limit.
    #[error("an alert has at most {} bytes, this one has {len}", limits::ALERT_TEXT_BYTES)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// An answer with nothing in it.
    #[error("an answer may not be empty")]
    NoAnswer,
    /// An answer over the limit.
    #[error("an answer has at most {} bytes, this one has {len}", limits::ALERT_ANSWER_BYTES)]
    LongAnswer {
        /// Its length in bytes.
        len: usize,
    },
    /// A character that could disguise an answer on a screen.
    #[error("an answer may not contain the character U+{code:04X}")]
    Character {
        /// Its code point.
        code: u32,
    },
}

/// The text of an alert: 1 to 2,048 bytes. It is kept as written; who shows it cleans it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertText(String);

impl AlertText {
    /// Checks a text.
    ///
    /// # Errors
    /// Nothing but white space, or over the limit.
    pub fn parse(text: impl Into<String>) -> Result<Self, AlertTextError> {
        let text = text.into();
        if text.trim().is_empty() {
            return Err(AlertTextError::Empty);
        }
        if text.len() > limits::ALERT_TEXT_BYTES {
            return Err(AlertTextError::TooLong { len: text.len() });
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

/// An answer to an alert: 1 to 64 bytes, no control, bidi or invisible characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertAnswer(String);

impl AlertAnswer {
    /// Checks an answer; white space around it is cut off.
    ///
    /// # Errors
    /// Nothing in it, over the limit, a character that could disguise it.
    pub fn parse(text: &str) -> Result<Self, AlertTextError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AlertTextError::NoAnswer);
        }
        if text.len() > limits::ALERT_ANSWER_BYTES {
            return Err(AlertTextError::LongAnswer { len: text.len() });
        }
        match text.chars().find(|c| disguises(*c)) {
            Some(c) => Err(AlertTextError::Character { code: u32::from(c) }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Returns the answer.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the answer, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// An alert to everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Which: the hash of what its author signed.
    pub id: AlertId,
    /// Who raised it.
    pub author: MemberId,
    /// On which device.
    pub device: DeviceId,
    /// How much it asks for.
    pub severity: Severity,
    /// What it says, as written.
    pub text: String,
    /// Words it offers as answers; none: any.
    pub answers: Vec<String>,
    /// Milliseconds since 1970 when it was raised, by the author's clock.
    pub issued_ms: u64,
    /// Milliseconds since 1970 until which it asks for attention, by the author's clock.
    pub expires_ms: u64,
    /// Milliseconds since 1970 when it came, by this device's clock.
    pub received_ms: u64,
    /// Its life ended by the time that passed here, whatever any clock says, or another took its place.
    pub over: bool,
}

impl Alert {
    /// Whether it asks for attention no longer, as seen by a clock.
    pub fn is_expired(&self, wall_ms: u64) -> bool {
        self.over || wall_ms >= self.expires_ms
    }

    pub(crate) fn from_stored(raw: &wire::StoredAlert) -> Option<Self> {
        Some(Self {
            id: raw.id.as_slice().try_into().ok()?,
            author: raw.author.as_slice().try_into().ok()?,
            device: raw.device.as_slice().try_into().ok()?,
            severity: Severity::from_code(raw.severity)?,
            text: raw.text.clone(),
            answers: raw.answers.clone(),
            issued_ms: raw.issued_ms,
            expires_ms: raw.issued_ms.saturating_add(u64::from(raw.life_s).saturating_mul(1_000)),
            received_ms: raw.received_ms,
            over: raw.over,
        })
    }
}

/// What a person answered to an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertAck {
    /// Who.
    pub member: MemberId,
    /// On which device.
    pub device: DeviceId,
    /// Milliseconds since 1970, by that device's clock; later answers of one person have higher times.
    pub time_ms: u64,
    /// The word, none: seen.
    pub answer: Option<String>,
}

impl AlertAck {
    pub(crate) fn from_stored(raw: &wire::StoredAlertAck) -> Option<Self> {
        Some(Self {
            member: raw.member.as_slice().try_into().ok()?,
            device: raw.device.as_slice().try_into().ok()?,
            time_ms: raw.hlc,
            answer: Some(raw.answer.clone()).filter(|answer| !answer.is_empty()),
        })
    }

    /// Whether this answer of a person counts and not the other: the later one, then the higher device. The words are
    /// asked last, so that even a device that signs two at one moment counts the same everywhere.
    pub(crate) fn beats(&self, other: &Self) -> bool {
        (self.time_ms, self.device, &self.answer) > (other.time_ms, other.device, &other.answer)
    }

    /// What each person answered: of several devices the answer that counts. Ascending by person.
    pub(crate) fn by_person(all: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut best = std::collections::BTreeMap::<MemberId, Self>::new();
        for ack in all {
            match best.get(&ack.member) {
                Some(known) if !ack.beats(known) => {}
                _ => {
                    best.insert(ack.member, ack);
                }
            }
        }
        best.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_answers_are_bounded() {
        assert_eq!(AlertText::parse(" \n"), Err(AlertTextError::Empty));
        assert!(AlertText::parse("x".repeat(2_048)).is_ok());
        assert_eq!(
            AlertText::parse("x".repeat(2_049)),
            Err(AlertTextError::TooLong { len: 2_049 })
        );
        assert_eq!(AlertAnswer::parse(" "), Err(AlertTextError::NoAnswer));
        assert_eq!(AlertAnswer::parse(" safe ").unwrap().as_str(), "safe");
        assert!(AlertAnswer::parse(&"x".repeat(64)).is_ok());
        assert_eq!(
            AlertAnswer::parse(&"x".repeat(65)),
            Err(AlertTextError::LongAnswer { len: 65 })
        );
        for bad in ["sa\u{7}fe", "\u{1b}[31msafe", "sa\u{202E}fe", "a\nb"] {
            assert!(matches!(AlertAnswer::parse(bad), Err(AlertTextError::Character { .. })));
        }
    }

    #[test]
    fn severities_have_codes_and_words() {
        for severity in Severity::ALL {
            assert_eq!(Severity::from_code(severity.code()), Some(severity));
            assert_eq!(severity.as_str().parse(), Ok(severity));
        }
        assert_eq!(Severity::from_code(3), None);
        assert!(Severity::Critical > Severity::Warning);
    }

    use proptest::prelude::*;

    fn acks() -> impl Strategy<Value = Vec<AlertAck>> {
        let ack = (0u8..3, 0u8..2, 0u64..4, proptest::option::of("[ab]"));
        let ack = ack.prop_map(|(member, device, time_ms, answer)| AlertAck {
            member: MemberId::from([member; 32]),
            device: DeviceId::from([member * 2 + device; 32]),
            time_ms,
            answer,
        });
        proptest::collection::vec(ack, 0..24)
    }

    proptest! {
        /// One person answers once for all devices, in whatever order and however often the answers come.
        #[test]
        fn a_persons_answer_is_the_same_in_any_order(
            all in acks(),
            shuffled in acks().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        ) {
            let once = AlertAck::by_person(all.clone());
            let twice = AlertAck::by_person(all.iter().chain(&all).cloned());
            prop_assert_eq!(&once, &twice);
            let people = all.iter().map(|ack| ack.member).collect::<std::collections::BTreeSet<_>>();
            prop_assert_eq!(once.len(), people.len());
            for best in &once {
                prop_assert!(all.contains(best));
                let of = all.iter().filter(|ack| ack.member == best.member);
                let beaten = of.map(|ack| ack.time_ms).all(|time_ms| time_ms <= best.time_ms);
                prop_assert!(beaten);
            }
            let (plain, shuffled) = shuffled;
            prop_assert_eq!(AlertAck::by_person(plain), AlertAck::by_person(shuffled));
        }
    }
}
