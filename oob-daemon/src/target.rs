//! To whom something goes, as people write it.

use crate::failure::Failure;

/// A target that exists in this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A person by name or id.
    Person(String),
}

impl Target {
    /// Reads `dana`, `person:dana` or `@dana`; other kinds are named in the refusal.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, name.trim()),
            None => match text.chars().next() {
                Some('@') => ("person", text.trim_start_matches('@')),
                Some('#') => ("channel", text.trim_start_matches('#')),
                Some('!') => ("role", text.trim_start_matches('!')),
                _ => ("person", text),
            },
        };
        if name.is_empty() {
            return Err(Failure::new("bad_target", "the target is empty")
                .hint("name a person: oob send person:dana TEXT"));
        }
        match kind {
            "person" => Ok(Self::Person(name.to_owned())),
            "channel" | "role" | "team" => Err(Failure::new(
                "not_yet",
                format!("messages to a {kind} are not in this version"),
            )
            .hint("write to people one by one: oob send person:dana TEXT")),
            other => Err(Failure::new("bad_target", format!("{other:?} is not a kind of target"))
                .hint("kinds are person, channel, role and team; for a person: oob send person:dana TEXT")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_can_be_written_three_ways() {
        for text in ["dana ruiz", "person:dana ruiz", "@dana ruiz", " person: dana ruiz "] {
            assert_eq!(Target::parse(text).unwrap(), Target::Person("dana ruiz".into()), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_person_is_refused_with_a_way_on() {
        for (text, code) in [
            ("channel:ops", "not_yet"),
            ("#ops", "not_yet"),
            ("role:responders", "not_yet"),
            ("!responders", "not_yet"),
            ("team:legal", "not_yet"),
            ("planet:mars", "bad_target"),
            ("person:", "bad_target"),
            ("", "bad_target"),
        ] {
            let failure = Target::parse(text).unwrap_err();
            assert_eq!((failure.code(), failure.exit()), (code, 1), "{text}");
            assert!(failure.next().is_some());
        }
    }
}
