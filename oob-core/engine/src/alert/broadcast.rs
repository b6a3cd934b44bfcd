//! Raising and taking alerts, answering and counting answers.

use super::{
    board::Alerts,
    claim::{AckClaim, AlertClaim, may_alert},
};
use crate::{
    cx::Cx,
    effect::CommandError,
    epochs::Epochs,
    event::Event,
    model::{Alert, AlertAck, AlertAnswer, AlertText, Device, Ring, Severity},
    own::{Identity, Life},
    record::{RecordRef, RecordTaken},
    roster::Roster,
    snapshot::RosterView,
    stored::RecordError,
};
use oob_crypto::{
    alert_id, open_alert, seal_alert,
    signed::{sign, verify},
};
use oob_proto::{
    AlertId, MemberId, Message, OrgId, limits,
    signing::SignedType,
    wire::{self, frame::Kind},
};

/// What the rules of alerts work with.
pub(crate) struct Broadcast<'a> {
    pub(crate) all: &'a mut Alerts,
    pub(crate) roster: &'a RosterView,
    /// Finds the device of a record: one taken out, too, for what it had written before.
    pub(crate) authors: &'a Roster,
    pub(crate) org: &'a OrgId,
    pub(crate) me: &'a MemberId,
    pub(crate) identity: &'a Identity,
    pub(crate) life: &'a mut Life,
    pub(crate) epochs: &'a Epochs,
}

/// An alert to be raised.
pub(crate) struct Raise {
    pub(crate) severity: Severity,
    pub(crate) text: AlertText,
    pub(crate) life_ms: u64,
    pub(crate) answers: Vec<AlertAnswer>,
}

/// A record made here, to be passed on.
pub(crate) struct Made {
    pub(crate) record: RecordRef,
    pub(crate) kind: Kind,
}

impl<'a> Broadcast<'a> {
    fn author_of(&self, of: &RecordRef) -> Option<&'a Device> {
        self.authors.author_of(&of.device, of.incarnation, of.seq)
    }
}

impl Broadcast<'_> {
    /// Signs, seals and keeps an alert to everybody.
    pub(crate) fn raise(
        &mut self,
        cx: &mut Cx<'_>,
        raise: Raise,
    ) -> Result<(AlertId, Made), CommandError> {
        self.may_raise(cx, &raise)?;
        let epoch =
            self.epochs.to_send(Ring::Core).ok_or(CommandError::Internal("no epoch is here"))?;
        let record = self.next_record();
        let life_s = u32::try_from(raise.life_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
        let payload = wire::Alert {
            device: record.device.to_vec(),
            incarnation: record.incarnation.0,
            record_seq: record.seq,
            severity: raise.severity.code(),
            issued: cx.now.wall_ms,
            life_s,
            text: raise.text.as_str().to_owned(),
            answers: raise.answers.iter().map(|answer| answer.as_str().to_owned()).collect(),
            ..wire::Alert::default()
        };
        let payload = payload.encode_to_vec();
        let id = alert_id(&payload);
        let claim =
            AlertClaim::parse(&payload).ok_or(CommandError::Internal("an own alert is bad"))?;
        let signed = sign(SignedType::Alert, self.org, payload, &[&self.identity.dsk]);
        let sealed = seal_alert(cx.rng, &epoch.secret.alert_key(), &epoch.id, &signed)
            .map_err(|_| CommandError::Internal("an own alert is too long"))?;
        self.keep(cx, id, &claim, *self.me)?;
        Ok((id, Made { record, kind: Kind::Alert(sealed) }))
    }

    /// Makes an own alert or answer of an earlier life again, under a number of this one; nothing where it is neither, or asks
    /// for nothing any more.
    pub(crate) fn make_anew(
        &mut self,
        cx: &mut Cx<'_>,
        kind: &Kind,
    ) -> Result<Option<Made>, RecordError> {
        match kind {
            Kind::Alert(sealed) => self.raise_anew(cx, sealed),
            Kind::AlertAck(signed) => {
                let Some(claim) = AckClaim::parse(&signed.payload) else { return Ok(None) };
                self.say(cx, &claim.alert, claim.answer.map(AlertAnswer::into_string)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Raises an own alert again. It takes the place of the one before, should that have come to anybody.
    fn raise_anew(
        &mut self,
        cx: &mut Cx<'_>,
        sealed: &wire::SealedAlert,
    ) -> Result<Option<Made>, RecordError> {
        let mut kept = self.epochs.preferred_first();
        let epoch = kept.find(|epoch| sealed.epoch == epoch.id.as_bytes());
        let (Some(epoch), Some(newest)) = (epoch, self.epochs.to_send(Ring::Core)) else {
            return Ok(None);
        };
        let before = open_alert(&epoch.secret.alert_key(), &epoch.id, sealed).ok();
        let raw = before.as_ref().and_then(|old| wire::Alert::decode(old.payload.as_slice()).ok());
        let (Some(before), Some(mut raw)) = (before, raw) else { return Ok(None) };
        let ends_ms = raw.issued.saturating_add(u64::from(raw.life_s).saturating_mul(1_000));
        if ends_ms < cx.now.wall_ms {
            return Ok(None);
        }
        let record = self.next_record();
        (raw.incarnation, raw.record_seq) = (record.incarnation.0, record.seq);
        let old = alert_id(&before.payload);
        if raw.supersedes.is_empty() {
            raw.supersedes = old.to_vec();
        }
        let payload = raw.encode_to_vec();
        let id = alert_id(&payload);
        let Some(claim) = AlertClaim::parse(&payload) else { return Ok(None) };
        let signed = sign(SignedType::Alert, self.org, payload, &[&self.identity.dsk]);
        let sealed = seal_alert(cx.rng, &newest.secret.alert_key(), &newest.id, &signed);
        let Ok(sealed) = sealed else { return Ok(None) };
        self.keep(cx, id, &claim, *self.me)?;
        Ok(Some(Made { record, kind: Kind::Alert(sealed) }))
    }

    fn may_raise(&mut self, cx: &mut Cx<'_>, raise: &Raise) -> Result<(), CommandError> {
        if !may_alert(self.roster, self.me) {
            return Err(CommandError::NotAlerter);
        }
        let range = |what, least, most, found| match (least..=most).contains(&found) {
            true => Ok(()),
            false => Err(CommandError::OutOfRange { what, least, most, found }),
        };
        range("the life of an alert in ms", 1, limits::ALERT_LIFE_S * 1_000, raise.life_ms)?;
        let answers = u64::try_from(raise.answers.len()).unwrap_or(u64::MAX);
        range("the number of answers", 0, limits::ALERT_ANSWERS as u64, answers)?;
        // What others would drop is not sent to them.
        let device = &self.identity.device;
        if self.all.day_is_full(device, cx.now.wall_ms) || !self.all.make_room(cx, device)? {
            return Err(CommandError::TooManyAlerts { most: super::board::ALERTS_PER_DAY });
        }
        Ok(())
    }

    /// Takes an alert of somebody's: epoch, seal, form, known, author, flood, signature, role, room, in this order. Nothing is
    /// believed of it, and nothing kept, before all of them agree.
    pub(crate) fn take(
        &mut self,
        cx: &mut Cx<'_>,
        sealed: &wire::SealedAlert,
    ) -> Result<RecordTaken, RecordError> {
        let epoch = self.epochs.preferred_first().find(|epoch| sealed.epoch == epoch.id.as_bytes());
        let Some(epoch) = epoch else {
            let plausible = sealed.epoch.len() == oob_proto::EpochId::LEN;
            return Ok(if plausible { RecordTaken::NotYet } else { RecordTaken::Refused });
        };
        // Whoever only receives holds the other ring's key, and may not be heard here.
        if epoch.ring != Ring::Core {
            return Ok(RecordTaken::Refused);
        }
        let Ok(signed) = open_alert(&epoch.secret.alert_key(), &epoch.id, sealed) else {
            return Ok(RecordTaken::Refused);
        };
        let id = alert_id(&signed.payload);
        let Some(claim) = AlertClaim::parse(&signed.payload) else {
            return Ok(RecordTaken::Refused);
        };
        if self.all.kept.contains_key(&id) {
            return Ok(RecordTaken::Known(claim.record));
        }
        let Some(device) = self.author_of(&claim.record) else { return Ok(RecordTaken::NotYet) };
        // Before the signature, since it is the cheaper and refuses nothing that the signature would admit.
        if self.all.day_is_full(&device.id, claim.issued_ms)
            || self.all.alerts_flood(cx.elapsed_ms, &device.id)
        {
            return Ok(RecordTaken::Full);
        }
        if verify(SignedType::Alert, self.org, &signed, &[device.dsk]).is_err()
            || !may_alert(self.roster, &device.member)
        {
            return Ok(RecordTaken::Refused);
        }
        if self.all.is_superseded(&id, &device.member) {
            return Ok(RecordTaken::Known(claim.record));
        }
        if !self.all.make_room(cx, &device.id)? {
            tracing::warn!(device = %device.id, "an alert was dropped: the board is full of live ones");
            return Ok(RecordTaken::Full);
        }
        self.all.count_alert(cx.elapsed_ms, &device.id);
        self.keep(cx, id, &claim, device.member)?;
        Ok(RecordTaken::New(claim.record))
    }

    fn keep(
        &mut self,
        cx: &mut Cx<'_>,
        id: AlertId,
        claim: &AlertClaim,
        author: MemberId,
    ) -> Result<(), RecordError> {
        let raw = wire::StoredAlert {
            id: id.to_vec(),
            author: author.to_vec(),
            device: claim.record.device.to_vec(),
            incarnation: claim.record.incarnation.0,
            record_seq: claim.record.seq,
            severity: claim.severity.code(),
            issued_ms: claim.issued_ms,
            life_s: claim.life_s,
            text: claim.text.as_str().to_owned(),
            answers: claim.answers.iter().map(|answer| answer.as_str().to_owned()).collect(),
            supersedes: claim.supersedes.map(|id| id.to_vec()).unwrap_or_default(),
            received_ms: cx.now.wall_ms,
            since_ms: cx.elapsed_ms,
            over: false,
        };
        self.all.keep(cx, id, &raw);
        cx.out.events.extend(Alert::from_stored(&raw).map(Event::Alert));
        // Only one's own alert can be taken back.
        if let Some(old) = claim.supersedes
            && self.all.kept.get(&old).is_some_and(|kept| kept.author == author)
        {
            self.all.end(cx.store, &old)?;
        }
        self.all.awaited_came(cx.store, &id);
        let acks = self.all.acks(cx.store, &id)?;
        for ack in &acks {
            self.tell(cx, &id, &acks, ack);
        }
        Ok(())
    }

    /// Answers an alert for this device's person; nothing if they have said the same. Without a word it says "seen", which
    /// takes no earlier word back.
    pub(crate) fn answer(
        &mut self,
        cx: &mut Cx<'_>,
        id: &AlertId,
        answer: Option<AlertAnswer>,
    ) -> Result<Option<Made>, CommandError> {
        let kept = self.all.kept.get(id).copied().ok_or(CommandError::NoAlert)?;
        if kept.author == *self.me {
            return Ok(None);
        }
        self.is_offered(cx, kept.place, answer.as_ref())?;
        let answer = answer.map(AlertAnswer::into_string);
        let before = self.all.acks(cx.store, id)?.into_iter().find(|ack| ack.member == *self.me);
        if before.is_some_and(|before| answer.is_none() || before.answer == answer) {
            return Ok(None);
        }
        Ok(Some(self.say(cx, id, answer)?))
    }

    /// Writes an answer of this device.
    fn say(
        &mut self,
        cx: &mut Cx<'_>,
        id: &AlertId,
        answer: Option<String>,
    ) -> Result<Made, RecordError> {
        let hlc = self.all.tick(cx);
        let record = self.next_record();
        let payload = wire::AlertAck {
            alert: id.to_vec(),
            device: record.device.to_vec(),
            incarnation: record.incarnation.0,
            record_seq: record.seq,
            hlc,
            answer: answer.clone().unwrap_or_default(),
        };
        let signed =
            sign(SignedType::AlertAck, self.org, payload.encode_to_vec(), &[&self.identity.dsk]);
        let ack = AlertAck { member: *self.me, device: record.device, time_ms: hlc, answer };
        self.count(cx, id, &ack)?;
        Ok(Made { record, kind: Kind::AlertAck(signed) })
    }

    fn is_offered(
        &self,
        cx: &Cx<'_>,
        place: u64,
        answer: Option<&AlertAnswer>,
    ) -> Result<(), CommandError> {
        let Some(answer) = answer else { return Ok(()) };
        let raw = crate::stored::read::<wire::StoredAlert>(
            cx.store,
            &crate::stored::alerts(),
            place,
            "alert",
        )?;
        let offered = raw.unwrap_or_default().answers;
        if offered.is_empty() || offered.iter().any(|word| word == answer.as_str()) {
            return Ok(());
        }
        Err(CommandError::NotOffered { offered: offered.join(", ") })
    }

    /// Takes an answer of somebody's: form, author, flood, signature. It may come before its alert.
    pub(crate) fn take_ack(
        &mut self,
        cx: &mut Cx<'_>,
        signed: &wire::Signed,
    ) -> Result<RecordTaken, RecordError> {
        let Some(claim) = AckClaim::parse(&signed.payload) else { return Ok(RecordTaken::Refused) };
        let Some(device) = self.author_of(&claim.record) else { return Ok(RecordTaken::NotYet) };
        if self.all.ack_floods(cx.elapsed_ms, &device.id) {
            return Ok(RecordTaken::Full);
        }
        if verify(SignedType::AlertAck, self.org, signed, &[device.dsk]).is_err() {
            return Ok(RecordTaken::Refused);
        }
        let ack = AlertAck {
            member: device.member,
            device: device.id,
            time_ms: claim.hlc,
            answer: claim.answer.map(AlertAnswer::into_string),
        };
        let before = self.all.ack_of(cx.store, &claim.alert, &device.id)?;
        if before.is_some_and(|before| !ack.beats(&before)) {
            return Ok(RecordTaken::Known(claim.record));
        }
        self.all.count_ack(&device.id);
        self.all.hear_clock(cx, claim.hlc);
        self.count(cx, &claim.alert, &ack)?;
        Ok(RecordTaken::New(claim.record))
    }

    /// Keeps an answer, and tells of it if it is what its person says now.
    fn count(&mut self, cx: &mut Cx<'_>, id: &AlertId, ack: &AlertAck) -> Result<(), RecordError> {
        self.all.put_ack(cx, id, ack);
        if !self.all.kept.contains_key(id) {
            self.all.await_alert(cx, id, &ack.device);
            return Ok(());
        }
        let acks = self.all.acks(cx.store, id)?;
        if acks.contains(ack) {
            self.tell(cx, id, &acks, ack);
        }
        Ok(())
    }

    /// Tells of one of the answers that count.
    fn tell(&self, cx: &mut Cx<'_>, id: &AlertId, all: &[AlertAck], ack: &AlertAck) {
        let author = self.all.kept.get(id).map(|kept| kept.author);
        let Some(author) = author.filter(|author| *author != ack.member) else { return };
        let asked =
            |member: &MemberId| *member != author && self.roster.members.contains_key(member);
        let count = |found: usize| u32::try_from(found).unwrap_or(u32::MAX);
        cx.out.events.push(Event::AlertAcked {
            alert: *id,
            member: ack.member,
            answer: ack.answer.clone(),
            time_ms: ack.time_ms,
            acked: count(all.iter().filter(|ack| asked(&ack.member)).count()),
            expected: count(self.roster.members.keys().filter(|member| asked(member)).count()),
        });
    }

    fn next_record(&mut self) -> RecordRef {
        RecordRef {
            device: self.identity.device,
            incarnation: self.life.incarnation,
            seq: self.life.take_record(),
        }
    }
}
