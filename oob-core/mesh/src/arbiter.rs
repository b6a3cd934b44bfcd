//! Two connections to one peer: which of them carries the link (docs/protocol.md, section 11).
//!
//! What counts is the sync stream, which only the dialler of a connection opens. Each side lets at most one connection
//! per peer stand for the link:
//!
//! * whose dial comes through while another connection stands opens no stream on it and closes it;
//! * whoever is asked for a stream while its own dial is about to get one keeps the connection that the lower key dialled;
//! * a second stream from the same dialler, or one that comes when the link is no longer young, means that the peer lost
//!   the first: a peer with a link does not dial. The newer one wins.

use std::time::Duration;

/// A link older than this was not begun at the same moment as the stream that now competes with it: the longest dial
/// on a private network, and some.
const YOUNG: Duration = Duration::from_millis(2_500);

/// How far the connection that stands for a peer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// We dialled and asked for the stream.
    Asked,
    /// The stream is open, nothing has come on it yet.
    Opening,
    /// Frames have come: it is the link.
    Up,
}

/// The connection that stands for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) outgoing: bool,
    pub(crate) stage: Stage,
    pub(crate) age: Duration,
}

/// What to do when the peer asks for a stream on another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Close the connection that stands, if any, and take the new one.
    TakeNew,
    /// Close the new one.
    KeepOld,
}

/// Decides about a stream the peer opens on a connection it dialled. `we_are_lower` compares the two keys.
pub(crate) fn asked(old: Option<Standing>, we_are_lower: bool) -> Verdict {
    match old {
        None => Verdict::TakeNew,
        Some(old) if !old.outgoing => Verdict::TakeNew,
        Some(old) if old.stage == Stage::Up && old.age > YOUNG => Verdict::TakeNew,
        Some(_) if we_are_lower => Verdict::KeepOld,
        Some(_) => Verdict::TakeNew,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(20);

    fn standing(outgoing: bool, stage: Stage, age: Duration) -> Option<Standing> {
        Some(Standing { outgoing, stage, age })
    }

    #[test]
    fn of_two_dials_at_once_both_sides_keep_the_lower_keys() {
        for stage in [Stage::Asked, Stage::Opening] {
            assert_eq!(asked(standing(true, stage, AT_ONCE), true), Verdict::KeepOld);
            assert_eq!(asked(standing(true, stage, AT_ONCE), false), Verdict::TakeNew);
        }
    }

    #[test]
    fn of_two_streams_from_one_dialler_the_latest_wins() {
        for lower in [true, false] {
            let old = standing(false, Stage::Up, AT_ONCE);
            assert_eq!(asked(old, lower), Verdict::TakeNew);
        }
    }

    #[test]
    fn a_peer_that_dials_long_after_the_link_came_up_has_lost_it() {
        let old = standing(true, Stage::Up, Duration::from_secs(60));
        assert_eq!(asked(old, true), Verdict::TakeNew);
        let young = standing(true, Stage::Up, AT_ONCE);
        assert_eq!(asked(young, true), Verdict::KeepOld);
    }
}
