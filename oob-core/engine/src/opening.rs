//! Envelopes that came: opened if they are for this device, carried if not, and the proofs that say when nobody need
//! carry one any longer (docs/protocol.md, sections 7.3 and 10.6).

use crate::{
    cx::Cx,
    envelope::VerifiedEnvelope,
    model::{Device, LinkId},
    outbox::Carries,
    record::RecordRef,
    releases::{DELAY_MS, goes_out_ms},
    session::{OpenError, Opened},
    state::State,
    stored::RecordError,
};
use oob_crypto::envelope::release_of;
use oob_proto::{
    DeviceId, DeviceShort, Incarnation,
    wire::{self, Frame, frame::Kind},
};
use rand_core::Rng as _;

impl State {
    /// Takes a verified envelope: duplicate, tag, open, bindings, in this order. One for somebody else is carried; one
    /// for this device is marked as seen in the batch that makes what it brought durable.
    pub(crate) fn envelope(
        &mut self,
        cx: &mut Cx<'_>,
        link: Option<LinkId>,
        envelope: &VerifiedEnvelope,
        age_s: u32,
    ) -> Result<(), RecordError> {
        let of = envelope.record();
        if let Some(link) = link.and_then(|link| self.links.get_mut(link)) {
            link.gave(&of);
        }
        #[cfg(feature = "sim")]
        if let Some(bodies) = self.rig.again(of)
            && let Some(from) = self.device(&of.device)
        {
            return bodies.iter().try_for_each(|body| self.body(cx, &from, body));
        }
        if of.device == self.identity.device || self.seen.contains(&of) || !self.seen.has_room(&of)
        {
            return Ok(());
        }
        // Of a removed device what it wrote before is taken, and nothing after. The snapshot this was screened with may
        // be older than a removal.
        let Some(from) = self.author_of(&of.device, of.incarnation, of.seq) else { return Ok(()) };
        self.open_or_carry(cx, link, &from, envelope, Some(age_s))?;
        self.open_early(cx)?;
        self.skip_holes(cx, &from)
    }

    /// Opens what waits behind messages of a device that nobody needs any more.
    pub(crate) fn skip_holes(&mut self, cx: &mut Cx<'_>, from: &Device) -> Result<(), RecordError> {
        if !self.peers.is_waiting(&from.id) {
            return Ok(());
        }
        let Self { seen, peers, bundles, .. } = self;
        let known = |life, first, last| seen.contains_all(&from.id, life, first, last);
        for body in peers.skip_holes(cx, bundles, from, known)? {
            self.body(cx, from, &body)?;
        }
        Ok(())
    }

    /// Opens an envelope if it is for this device; else carries it, unless it is carried already.
    pub(crate) fn open_or_carry(
        &mut self,
        cx: &mut Cx<'_>,
        link: Option<LinkId>,
        from: &Device,
        envelope: &VerifiedEnvelope,
        carry: Option<u32>,
    ) -> Result<(), RecordError> {
        let of = envelope.record();
        let Some(org) = self.org_id() else { return Ok(()) };
        let me = self.identity.device;
        let opened = match self.peers.open(cx, &org, &me, &self.bundles, from, envelope) {
            Ok((opened, preimage)) => {
                if let Some(preimage) = preimage {
                    self.keep_release(cx, &of, envelope, preimage);
                }
                opened
            }
            Err(OpenError::NotOurs) => {
                cx.out.pressing = true;
                if let Some(age_s) = carry {
                    self.pass_on(cx, link, of, &Kind::Envelope(envelope.to_wire()), age_s);
                }
                return Ok(());
            }
            // No room for it now: nothing is noted, so it is offered again.
            Err(OpenError::Later) => return Ok(()),
            Err(OpenError::Record(error)) => return Err(error),
            Err(OpenError::Bad(what)) => {
                tracing::warn!(device = %of.device, what, "an envelope for this device does not open");
                #[cfg(feature = "sim")]
                self.rig.unopened(&of.device);
                self.taken(cx, &of);
                return Ok(());
            }
        };
        self.taken(cx, &of);
        match opened {
            Opened::Again => {}
            Opened::Bodies(bodies) => {
                cx.out.pressing = true;
                #[cfg(feature = "sim")]
                let bodies = self.rig.keep(of, bodies);
                for body in bodies.iter() {
                    self.body(cx, from, body)?;
                }
            }
            Opened::Ack(ack) => self.ack(cx, from, &ack)?,
        }
        Ok(())
    }

    /// Opens what came before the message that says how: it lies among what is carried for others.
    pub(crate) fn open_early(&mut self, cx: &mut Cx<'_>) -> Result<(), RecordError> {
        loop {
            let fresh = self.peers.take_fresh_tags();
            if fresh.is_empty() {
                return Ok(());
            }
            let early: Vec<RecordRef> =
                fresh.iter().flat_map(|tag| self.custody.with_tag(tag)).collect();
            self.open_carried(cx, &early)?;
        }
    }

    pub(crate) fn open_carried(
        &mut self,
        cx: &mut Cx<'_>,
        all: &[RecordRef],
    ) -> Result<(), RecordError> {
        for of in all {
            let Some((frame, _)) = self.custody.read(cx.store, of, cx.elapsed_ms)? else {
                continue;
            };
            let Ok(Frame { kind: Some(Kind::Envelope(raw)), .. }) = Frame::read(&frame) else {
                continue;
            };
            let Some(from) = self.author_of(&of.device, of.incarnation, of.seq) else { continue };
            let Ok(head) = oob_crypto::envelope::Head::parse(&raw.head) else { continue };
            let envelope = VerifiedEnvelope {
                id: [0; 32].into(),
                device: of.device,
                incarnation: of.incarnation,
                seq: of.seq,
                head,
                origin: raw.origin,
                ct: raw.ct,
            };
            self.open_or_carry(cx, None, &from, &envelope, None)?;
        }
        Ok(())
    }

    /// Notes an envelope that was for this device: it is carried no further from here.
    pub(crate) fn taken(&mut self, cx: &mut Cx<'_>, of: &RecordRef) {
        self.seen.mark(of);
        self.custody.take_out(cx.store, of);
        self.have_changed(cx.now.mono_ms);
    }

    /// Keeps the proof that an envelope was opened, to be published after a random while.
    pub(crate) fn keep_release(
        &mut self,
        cx: &mut Cx<'_>,
        of: &RecordRef,
        envelope: &VerifiedEnvelope,
        preimage: [u8; 16],
    ) {
        let life_ms = envelope.head.life.seconds().saturating_mul(1_000);
        let until_ms = cx.elapsed_ms.saturating_add(life_ms);
        let delay_ms = u64::from(cx.rng.next_u32()) % DELAY_MS;
        let from_ms = goes_out_ms(cx.elapsed_ms, delay_ms);
        self.releases.put(cx.store, of, preimage, until_ms, Some(from_ms));
    }

    /// Publishes the own proofs whose time has come.
    pub(crate) fn publish_releases(&mut self, cx: &mut Cx<'_>) {
        for of in self.releases.take_due(cx.elapsed_ms) {
            self.released(cx, None, &of);
        }
    }

    pub(crate) fn released(&mut self, cx: &mut Cx<'_>, from: Option<LinkId>, of: &RecordRef) {
        self.seen.mark_gone(of);
        self.have_changed(cx.now.mono_ms);
        for link in self.links.onward(from, of, cx.now.mono_ms) {
            link.queue_release(of);
        }
    }

    /// Takes somebody's proof that an envelope was opened; returns whether it can be true.
    pub(crate) fn release(
        &mut self,
        cx: &mut Cx<'_>,
        from: Option<LinkId>,
        release: &wire::Release,
    ) -> bool {
        let (Ok(short), Ok(preimage)) = (
            DeviceShort::try_from(release.device.as_slice()),
            <[u8; 16]>::try_from(release.preimage.as_slice()),
        ) else {
            return false;
        };
        let Some(device) = self.device_by_short(&short) else { return true };
        let incarnation = Incarnation(release.incarnation);
        let of = RecordRef { device, incarnation, seq: release.seq };
        if device == self.identity.device {
            let owed = self.outbox.get(incarnation, release.seq);
            let Some((to, pending)) = owed.map(|(to, pending)| (to, *pending)) else { return true };
            if pending.release != release_of(&preimage) {
                return false;
            }
            // A message stays owed until its receipt is here, which says more than that it was opened.
            if matches!(pending.carries, Carries::Ack { .. }) {
                self.outbox.settle(cx.store, &to, |other| *other == pending);
                // Others were not given it, so the proof tells them nothing.
                self.have_changed(cx.now.mono_ms);
            }
            return true;
        }
        // Without the envelope nothing tells a proof from anything else; nobody is to blame for that.
        if !self.custody.contains(&of) {
            return true;
        }
        // An author may have given one number to two envelopes: whoever passes on the proof of the other is not to blame.
        if !self.custody.releases(&of, &preimage) {
            return true;
        }
        let until_ms = self.custody.until_ms(&of).unwrap_or(cx.elapsed_ms);
        self.custody.take_out(cx.store, &of);
        self.releases.put(cx.store, &of, preimage, until_ms, None);
        self.released(cx, from, &of);
        true
    }

    /// The device whose id begins so.
    pub(crate) fn device_by_short(&self, short: &DeviceShort) -> Option<DeviceId> {
        let roster = self.organisation.as_ref()?.roster();
        let mut first = [0; 32];
        first.iter_mut().zip(short.as_bytes()).for_each(|(to, from)| *to = *from);
        [&roster.view.devices, &roster.former].into_iter().find_map(|devices| {
            let (id, _) = devices.range(DeviceId::from(first)..).next()?;
            (id.short() == *short).then_some(*id)
        })
    }
}
