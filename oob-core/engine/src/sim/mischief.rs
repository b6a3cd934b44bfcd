//! What hostile devices say: what their engines want said, tampered with, and more that is forged.

use super::{
    foe::{Foe, Vice},
    forger::Forger,
    lines::Side,
    world::{Happening, World},
};
use crate::{effect::Effect, input::LinkId};
use oob_proto::{
    Message,
    wire::{Frame, frame::Kind},
};
use std::ops::RangeInclusive;

/// How long until a hostile device acts again.
const AGAIN_MS: RangeInclusive<u64> = 3_000..=10_000;

/// Frames that cost those who get them a signature, forged at once for one vice. Some hundred a minute, of each vice, are as
/// many as a world of twenty devices can take and be looked at in seconds.
const FORGED: usize = 12;

/// Frames that cost little.
const CHEAP: usize = 40;

/// Frames replayed at once.
const REPLAYED: usize = 24;

/// What a careful one sends at once of what is charged to it: with these it stays under what ends its stream.
const CHARGED: usize = 2;

impl World {
    /// What a hostile device makes of what its engine wants done.
    pub(super) fn tamper(&mut self, node: usize, effects: Vec<Effect>) -> Vec<Effect> {
        let it = &self.nodes[node];
        let (Some(foe), Some(engine)) = (&it.foe, &it.engine) else { return effects };
        let wall_ms = it.clock(self.now_ms).wall_ms;
        let Some(mut forger) = Forger::new(engine, &mut self.foe_dice, wall_ms) else {
            return effects;
        };
        let (lines, deeds) = (&self.lines, &mut self.deeds);
        let mut said = Vec::new();
        for effect in effects {
            let (effect, vice) = match effect {
                Effect::Send { link, frame } => {
                    let odd = |end: &usize| *end != node && !end.is_multiple_of(2);
                    let odd = lines.all.get(&link).is_some_and(|line| line.ends.iter().any(odd));
                    let (frame, vice) = tampered(foe, &mut forger, frame, odd);
                    (frame.map(|frame| Effect::Send { link, frame }), vice)
                }
                Effect::Publish { frame } => {
                    let kind = Frame::read(&frame).ok().and_then(|frame| frame.kind);
                    let own = kind.is_some_and(|kind| forger.is_own(&kind));
                    match own || !foe.does(Vice::Withhold) {
                        true => (Some(Effect::Publish { frame }), None),
                        false => (None, Some(Vice::Withhold)),
                    }
                }
                other => (Some(other), None),
            };
            said.extend(effect);
            if let Some(vice) = vice {
                *deeds.entry(vice).or_default() += 1;
            }
        }
        said
    }

    /// A hostile device acts.
    pub(super) fn mischief(&mut self, node: usize) {
        let ms = self.foe_dice.between(AGAIN_MS);
        self.after(ms, Happening::Mischief { node });
        let lines = self.lines.of(node).into_iter();
        let up = |(id, side): &(LinkId, usize)| self.lines.all[id].sides[*side] == Side::Up;
        let links: Vec<LinkId> = lines.filter(up).map(|(id, _)| id).collect();
        let it = &mut self.nodes[node];
        let wall_ms = it.clock(self.now_ms).wall_ms;
        let (Some(engine), Some(foe)) = (&it.engine, &mut it.foe) else { return };
        let forger = Forger::new(engine, &mut self.foe_dice, wall_ms);
        let Some(forger) = forger.filter(|_| !links.is_empty()) else { return };
        let Acts { streams, gossip, deeds } = Acts::of(foe, forger, &links);
        for (vice, count) in deeds {
            *self.deeds.entry(vice).or_default() += count;
        }
        let said = format!("{} frames", streams.len() + gossip.len());
        self.note(node, "mischief", String::new(), said);
        for link in links {
            let frames = streams.iter().filter(|(to, _)| *to == link);
            let frames: Vec<Vec<u8>> = frames.map(|(_, frame)| frame.clone()).collect();
            if !frames.is_empty() {
                self.send(node, link, frames);
            }
        }
        for frame in gossip {
            self.publish(node, &frame);
        }
    }

    /// A hostile device keeps what it gets.
    pub(super) fn capture(&mut self, node: usize, frame: &[u8]) {
        if let Some(foe) = &mut self.nodes[node].foe {
            foe.capture(frame, &mut self.foe_dice);
        }
    }
}

/// What becomes of one frame on its way out, and for what.
fn tampered(
    foe: &Foe,
    forger: &mut Forger<'_>,
    frame: Vec<u8>,
    odd: bool,
) -> (Option<Vec<u8>>, Option<Vice>) {
    let Ok(Frame { kind: Some(kind), age }) = Frame::read(&frame) else {
        return (Some(frame), None);
    };
    let encode = |kind: Kind| Some(Frame { kind: Some(kind), age }.encode_to_vec());
    match &kind {
        Kind::Have(signed) => {
            let Some(have) = Forger::read_have(signed) else { return (Some(frame), None) };
            let (entries, vice) = if foe.does(Vice::Withhold) {
                (forger.has_everything(have.entries), Vice::Withhold)
            } else if foe.does(Vice::Lie) {
                (forger.lies(have.entries), Vice::Lie)
            } else if foe.does(Vice::Equivocate) && odd {
                let half = have.entries.into_iter().step_by(2);
                (half.collect(), Vice::Equivocate)
            } else {
                return (Some(frame), None);
            };
            (encode(forger.have(have.number, entries)), Some(vice))
        }
        Kind::Hello(hello) if foe.does(Vice::Lie) => {
            (encode(Kind::Hello(forger.greeting(hello.clone()))), Some(Vice::Lie))
        }
        Kind::Envelope(envelope) if foe.does(Vice::Equivocate) && odd && forger.is_own(&kind) => {
            match forger.twin(envelope) {
                Some(twin) => (encode(Kind::Envelope(twin)), Some(Vice::Equivocate)),
                None => (Some(frame), None),
            }
        }
        Kind::Hello(_)
        | Kind::Credit(_)
        | Kind::Heartbeat(_)
        | Kind::Addresses(_)
        | Kind::Nearby(_) => (Some(frame), None),
        kind if foe.does(Vice::Withhold) && !forger.is_own(kind) => (None, Some(Vice::Withhold)),
        _ => (Some(frame), None),
    }
}

/// What is said at once.
struct Acts {
    streams: Vec<(LinkId, Vec<u8>)>,
    gossip: Vec<Vec<u8>>,
    deeds: Vec<(Vice, u64)>,
}

impl Acts {
    fn of(foe: &mut Foe, mut forger: Forger<'_>, links: &[LinkId]) -> Self {
        let mut acts = Self { streams: Vec::new(), gossip: Vec::new(), deeds: Vec::new() };
        for vice in foe.vices() {
            let before = acts.streams.len() + acts.gossip.len();
            match vice {
                Vice::Flood => acts.flood(foe, &mut forger, links),
                Vice::Replay => acts.replay(foe, &mut forger, links),
                Vice::Equivocate => acts.equivocate(foe, &mut forger, links),
                Vice::Reseal => acts.reseal(foe, &mut forger, links),
                Vice::Forge => acts.forge(foe, &mut forger, links),
                Vice::Lie => acts.lie(foe, &mut forger, links),
                Vice::Past | Vice::Future => {
                    let seq = foe.take_seq();
                    let kind = forger.own_answer(seq);
                    acts.everywhere(links, kind);
                }
                Vice::Withhold => {}
            }
            let count = acts.streams.len() + acts.gossip.len() - before;
            acts.deeds.push((vice, count as u64));
        }
        acts
    }

    fn everywhere(&mut self, links: &[LinkId], kind: Kind) {
        let frame = Frame::new(kind).encode_to_vec();
        self.streams.extend(links.iter().map(|link| (*link, frame.clone())));
    }

    fn whisper(&mut self, forger: &mut Forger<'_>, links: &[LinkId], frame: Vec<u8>) {
        self.streams.extend(forger.dice.pick(links).map(|link| (link, frame)));
    }

    fn flood(&mut self, foe: &mut Foe, forger: &mut Forger<'_>, links: &[LinkId]) {
        for n in 0..FORGED {
            let seq = foe.take_seq();
            // Every other number stays out: a hole is a range more.
            foe.take_seq();
            let (head, ct) = forger.junk();
            let Some(envelope) = forger.envelope(seq, &head, ct) else { return };
            let frame = Frame::new(Kind::Envelope(envelope)).encode_to_vec();
            match n % 3 {
                0 => self.gossip.push(frame),
                _ => self.whisper(forger, links, frame),
            }
        }
        for _ in 0..CHEAP {
            if let Some(kind) = forger.release() {
                let frame = Frame::new(kind).encode_to_vec();
                self.whisper(forger, links, frame);
            }
            let frame = Frame::new(forger.nearby()).encode_to_vec();
            self.whisper(forger, links, frame);
        }
        for n in 0..4 {
            let seq = foe.take_seq();
            let kind = forger.own_answer(seq);
            self.everywhere(links, kind);
            let floor = forger.floor(seq);
            let frame = Frame::new(floor).encode_to_vec();
            self.whisper(forger, links, frame);
            let number = forger.have_number().saturating_add(1 + n);
            let have = forger.have(number, forger.entries());
            let frame = Frame::new(have).encode_to_vec();
            self.whisper(forger, links, frame);
        }
        for _ in 0..if foe.careful { CHARGED } else { CHEAP } {
            let seq = foe.take_seq();
            let Some(alert) = forger.alert(seq) else { return };
            let frame = Frame::new(alert).encode_to_vec();
            self.gossip.push(frame.clone());
            self.whisper(forger, links, frame);
        }
    }

    fn replay(&mut self, foe: &mut Foe, forger: &mut Forger<'_>, links: &[LinkId]) {
        for _ in 0..REPLAYED {
            let Some(frame) = foe.pick(forger.dice) else { return };
            let Ok(Frame { kind: Some(kind), .. }) = Frame::read(&frame) else { continue };
            match kind {
                // The words of others on a stream of one's own are charged, and a second greeting ends it.
                Kind::Hello(_) => {}
                Kind::Have(_) if foe.careful => {}
                Kind::Envelope(_)
                | Kind::RelayCert(_)
                | Kind::Alert(_)
                | Kind::AlertAck(_)
                | Kind::Release(_)
                    if forger.dice.chance(300) =>
                {
                    self.gossip.push(frame);
                }
                _ => self.whisper(forger, links, frame),
            }
        }
    }

    fn equivocate(&mut self, foe: &mut Foe, forger: &mut Forger<'_>, links: &[LinkId]) {
        for _ in 0..FORGED / 4 {
            let seq = foe.take_seq();
            for (n, link) in links.iter().enumerate() {
                let (head, ct) = forger.junk();
                // Two of them are enough; everybody passes on what it got first.
                if n > 1 {
                    break;
                }
                let Some(envelope) = forger.envelope(seq, &head, ct) else { return };
                let frame = Frame::new(Kind::Envelope(envelope)).encode_to_vec();
                self.gossip.extend((n == 1).then(|| frame.clone()));
                self.streams.push((*link, frame));
            }
            let seq = foe.take_seq();
            let generation = 1_000 + (seq % 64) as u32;
            for link in links.iter().take(2) {
                let certificate = Frame::new(forger.certificate(generation, seq)).encode_to_vec();
                self.streams.push((*link, certificate));
                let answer = Frame::new(forger.own_answer(seq)).encode_to_vec();
                self.streams.push((*link, answer));
            }
        }
    }

    fn reseal(&mut self, foe: &mut Foe, forger: &mut Forger<'_>, links: &[LinkId]) {
        for _ in 0..FORGED {
            let Some(frame) = foe.pick(forger.dice) else { return };
            let Some((head, ct)) = Forger::outside(&frame) else { continue };
            let seq = foe.take_seq();
            let Some(envelope) = forger.envelope(seq, &head, ct) else { return };
            let kind = Kind::Envelope(envelope);
            match forger.dice.chance(500) {
                true => self.gossip.push(Frame::new(kind).encode_to_vec()),
                false => self.everywhere(links, kind),
            }
        }
    }

    fn forge(&mut self, foe: &mut Foe, forger: &mut Forger<'_>, links: &[LinkId]) {
        for _ in 0..if foe.careful { CHARGED } else { FORGED } {
            let Some(envelope) = forger.in_anothers_name() else { return };
            let frame = Frame::new(Kind::Envelope(envelope)).encode_to_vec();
            self.gossip.push(frame.clone());
            self.whisper(forger, links, frame);
            let Some(of) = forger.somebody() else { return };
            let seq = foe.take_seq();
            let answer = Frame::new(forger.answer(of, seq)).encode_to_vec();
            self.whisper(forger, links, answer);
        }
    }

    fn lie(&mut self, foe: &mut Foe, forger: &mut Forger<'_>, links: &[LinkId]) {
        let nearby = forger.nearby();
        self.everywhere(links, nearby);
        let entries = forger.entries();
        let entries = forger.lies(entries);
        let have = forger.have(forger.have_number().saturating_add(1), entries);
        self.everywhere(links, have);
        let seq = foe.take_seq();
        let floor = forger.floor(seq);
        self.everywhere(links, floor);
        for _ in 0..CHEAP {
            let Some(release) = forger.release() else { return };
            let frame = Frame::new(release).encode_to_vec();
            self.gossip.push(frame);
        }
        // Something real, and said to be as old as it may become.
        for _ in 0..CHARGED {
            let Some(mut frame) = foe.pick(forger.dice) else { return };
            Frame::add_age(&mut frame, 21 * 86_400 - 1);
            self.whisper(forger, links, frame);
        }
    }
}
