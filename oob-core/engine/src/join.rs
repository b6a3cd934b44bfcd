//! Founding, inviting, admitting and joining (docs/protocol.md, section 5).

use crate::{
    cx::Cx,
    effect::{Answer, CommandError, JoinError},
    event::Event,
    model::{Name, Ring, Role},
    own::{Life, Membership},
    roster::{BundleClaim, Circle, JoinClaim, OpError, Organisation, author, check, found},
    state::State,
    stored::RecordError,
};
use oob_crypto::{
    DhPublic, EpochSecret, FirstContact, SigningKey, invite_key, open_grant, seal_grant,
    signed::sign,
};
use oob_proto::{
    Message, OpHash, OrgId, TransportKey, limits,
    signing::SignedType,
    wire::{self, op_body::Kind},
};
use rand_core::Rng as _;
use std::sync::Arc;

/// Longest life of an invitation.
const INVITE_LIFE_MS: u64 = 30 * 86_400_000;

/// People one invitation may be good for.
const INVITE_USES: u32 = 500;

/// Operations taken from one request: what fits a link.
const ASK_OPS: usize = 32;

/// What came with the Noise handshake of a join stream.
pub(crate) struct Shaken {
    pub(crate) handshake_hash: [u8; 32],
    pub(crate) dnk: DhPublic,
    pub(crate) transport: TransportKey,
}

impl From<OpError> for CommandError {
    fn from(_: OpError) -> Self {
        Self::Internal("own operation")
    }
}

impl From<RecordError> for CommandError {
    fn from(error: RecordError) -> Self {
        Self::Store(error.to_string())
    }
}

impl State {
    pub(crate) fn found(&mut self, cx: &mut Cx<'_>, name: &Name) -> Result<Answer, CommandError> {
        if self.membership.as_ref().is_some_and(|membership| membership.admitted_by.is_some()) {
            return Err(CommandError::HasOrg);
        }
        self.begin_life(cx);
        let founded = found(cx, &self.identity, &self.life, name)?;
        let org = founded.organisation.id;
        let member =
            self.join_org(cx, founded.organisation, founded.device, self.identity.name.clone());
        self.identity.admin = Some(founded.admin);
        self.identity.save(cx.store);
        self.take_epochs(cx, founded.epochs);
        self.certify(cx, &org);
        Ok(Answer::Org { org, member })
    }

    /// Begins the records of this device anew: they belong to one organisation.
    fn begin_life(&mut self, cx: &mut Cx<'_>) {
        self.life = Life::generate(cx.rng);
    }

    /// Certifies relay key and bundle: records 1 and 2.
    fn certify(&mut self, cx: &mut Cx<'_>, org: &OrgId) {
        self.life.certify(&self.identity, org, cx.now.wall_ms);
        let secrets = self.life.publish_bundle(cx, &self.identity, org);
        self.bundles.publish(cx, secrets);
    }

    fn join_org(
        &mut self,
        cx: &mut Cx<'_>,
        organisation: Organisation,
        by: OpHash,
        name: Name,
    ) -> oob_proto::MemberId {
        let org = organisation.id;
        let member = oob_crypto::member_id(&org, &self.identity.uik.public());
        let membership = Membership { org, member, admitted_by: Some(by), name };
        membership.save(cx.store);
        self.membership = Some(membership);
        self.organisation = Some(organisation);
        self.rekeyed = true;
        self.changed = true;
        cx.out.events.push(Event::Org { org });
        member
    }

    fn take_epochs(&mut self, cx: &mut Cx<'_>, epochs: Vec<(Ring, EpochSecret)>) {
        let Some(organisation) = &self.organisation else { return };
        for (ring, secret) in epochs {
            self.epochs.learn(cx, organisation, ring, secret);
        }
    }

    pub(crate) fn invite(
        &mut self,
        cx: &mut Cx<'_>,
        role: Role,
        uses: u32,
        life_ms: u64,
        name: Option<Name>,
    ) -> Result<Answer, CommandError> {
        let organisation = self.organisation.as_mut().ok_or(CommandError::NoOrg)?;
        let office = Arc::clone(&organisation.roster().view.council);
        let admin = self.identity.admin_in(&office).ok_or(CommandError::NotAdmin)?;
        if role != Role::Responder {
            return Err(CommandError::RoleNotYet { role });
        }
        check_range("the number of uses", 1, u64::from(INVITE_USES), u64::from(uses))?;
        check_range("the life of an invitation in milliseconds", 1_000, INVITE_LIFE_MS, life_ms)?;
        let mut secret = [0; 32];
        cx.rng.fill_bytes(&mut secret);
        let expires_ms = cx.now.wall_ms.saturating_add(life_ms);
        let body = Kind::Invite(wire::Invite {
            invite_key: invite_key(&secret).public().to_vec(),
            role: role.code(),
            expires: expires_ms,
            uses,
            name: name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default(),
            scope: Vec::new(),
        });
        let (hash, _) = author(cx, organisation, self.life.incarnation, admin, Circle::Core, body)?;
        let ops = newest_ops(organisation, cx, &organisation.up_to(&hash), limits::LINK_OPS_BYTES)?;
        let link = wire::InviteLink {
            org_id: organisation.id.to_vec(),
            secret: secret.to_vec(),
            ops,
            addresses: self.listening.iter().take(limits::ADDRESSES_PER_PEER).cloned().collect(),
        };
        self.tell_of(hash, None);
        Ok(Answer::Invited { link: Box::new(link), role, expires_ms })
    }

    /// What proves to a joiner that this device is one of the organisation.
    pub(crate) fn join_proof(&self, cx: &Cx<'_>) -> Result<Answer, CommandError> {
        let organisation = self.org()?;
        let by = self.admitted_by()?;
        let ops = organisation.read_all(cx.store, &organisation.up_to(&by))?;
        Ok(Answer::Proof(wire::JoinProof { ops }))
    }

    /// What shows this device to a member that has not heard of it: the newest operations up to its own.
    pub(crate) fn join_show(&self, cx: &Cx<'_>) -> Result<Answer, CommandError> {
        let organisation = self.org()?;
        let by = self.admitted_by()?;
        let ops =
            newest_ops(organisation, cx, &organisation.up_to(&by), limits::JOIN_ASK_BYTES / 2)?;
        Ok(Answer::Show(wire::JoinShow { ops }))
    }

    fn admitted_by(&self) -> Result<OpHash, CommandError> {
        self.membership
            .as_ref()
            .and_then(|membership| membership.admitted_by)
            .ok_or(CommandError::NoOrg)
    }

    pub(crate) fn learn(
        &mut self,
        cx: &mut Cx<'_>,
        ops: &[wire::Op],
    ) -> Result<Answer, CommandError> {
        self.org()?;
        for op in ops {
            self.log_op(cx, None, op);
        }
        self.organisation.iter_mut().for_each(|all| all.forget_aside(None));
        Ok(Answer::Done)
    }

    /// Decides on a request to join.
    pub(crate) fn admit(
        &mut self,
        cx: &mut Cx<'_>,
        ask: &wire::JoinAsk,
        shaken: &Shaken,
    ) -> Result<Answer, CommandError> {
        let org = self.org()?.id;
        let signed = ask.request.as_ref().ok_or(JoinError::Invalid)?;
        let claim = JoinClaim::parse(&org, signed).map_err(|_| JoinError::Invalid)?;
        // The request was made for this very handshake, by the device at its other end.
        let bound = claim.handshake_hash == shaken.handshake_hash
            && claim.keys.dnk == shaken.dnk
            && claim.keys.transport_key() == shaken.transport;
        if !bound {
            return Err(JoinError::Invalid.into());
        }
        for op in ask.ops.iter().take(ASK_OPS) {
            self.log_op(cx, None, op);
        }
        let organisation = self.organisation.as_mut().ok_or(CommandError::NoOrg)?;
        organisation.forget_aside(None);
        organisation.refresh();
        let roster = organisation.roster();
        if let Some(known) = roster.view.devices.get(&claim.keys.id)
            && let Some(by) =
                roster.made_by.get(&claim.keys.id).and_then(|made| made.first()).copied()
        {
            // The answer was lost on its way: it is given again, also after the invitation expired.
            let same = roster
                .view
                .members
                .get(&known.member)
                .is_some_and(|member| member.uik == claim.uik);
            return if same { self.answer(cx, by, &claim) } else { Err(JoinError::Invalid.into()) };
        }
        check_request(organisation, &claim, cx.now.wall_ms)?;
        let body = Kind::InviteRedeemed(wire::InviteRedeemed {
            request: Some(signed.clone()),
            invite: claim.invite.to_vec(),
        });
        let (hash, _) = author(
            cx,
            organisation,
            self.life.incarnation,
            &self.identity.dsk,
            Circle::Core,
            body,
        )?;
        organisation.refresh();
        let made = organisation.roster().made_by.get(&claim.keys.id);
        if !made.is_some_and(|made| made.contains(&hash)) {
            return Err(CommandError::Internal("a redemption that does not stand"));
        }
        self.changed = true;
        self.rekeyed = true;
        self.take_certs(cx, &claim);
        self.tell_of(hash, None);
        let member = oob_crypto::member_id(&self.org()?.id, &claim.uik);
        cx.out.events.push(Event::Joined { member, device: claim.keys.id });
        self.answer(cx, hash, &claim)
    }

    fn take_certs(&mut self, cx: &mut Cx<'_>, claim: &JoinClaim) {
        self.relay_cert(cx, None, &claim.relay_cert);
        self.bundle(cx, None, &claim.bundle);
    }

    fn answer(
        &mut self,
        cx: &mut Cx<'_>,
        redeemed: OpHash,
        claim: &JoinClaim,
    ) -> Result<Answer, CommandError> {
        let organisation = self.org()?;
        let org = organisation.id;
        let log = organisation.read_all(cx.store, &organisation.beyond([]))?;
        let (mut relay_certs, mut bundles) = self.directory.signed();
        relay_certs.extend(self.life.relay_certs().cloned());
        bundles.extend(self.life.bundle.clone());
        let bundle =
            oob_crypto::Bundle::parse(&claim.bundle.payload).map_err(|_| JoinError::Invalid)?;
        let contact = FirstContact {
            org: &org,
            my_dnk: &self.identity.dnk,
            my_device: &self.identity.device,
            to: &claim.keys.id,
            bundle: &bundle,
        };
        let mut grants = Vec::new();
        for epoch in self.epochs.preferred_first().filter(|epoch| epoch.stands()) {
            let first_flight = seal_grant(cx.rng, &contact, epoch.ring, &epoch.secret)
                .map_err(|_| JoinError::Invalid)?;
            grants.push(wire::EpochGrant {
                ring: u32::from(epoch.ring.code()),
                epoch_id: epoch.id.to_vec(),
                first_flight,
            });
        }
        let answer = wire::JoinAnswer {
            redeemed: redeemed.to_vec(),
            log,
            relay_certs,
            bundles,
            addresses: self.all_known_addresses(),
            grants,
        };
        Ok(Answer::Answer(Box::new(answer)))
    }

    fn all_known_addresses(&self) -> Vec<wire::PeerAddresses> {
        let own = wire::PeerAddresses {
            transport_key: self.identity.transport_key().to_vec(),
            addresses: self.listening.iter().take(limits::ADDRESSES_PER_PEER).cloned().collect(),
        };
        std::iter::once(own).chain(self.known_addresses()).collect()
    }

    /// Checks who answers, then makes the request; every key it names is durable before it leaves.
    pub(crate) fn prepare_join(
        &mut self,
        cx: &mut Cx<'_>,
        link: &wire::InviteLink,
        name: Option<Name>,
        proof: &wire::JoinProof,
        shaken: &Shaken,
    ) -> Result<Answer, CommandError> {
        if self.membership.as_ref().is_some_and(|membership| membership.admitted_by.is_some()) {
            return Err(CommandError::HasOrg);
        }
        let org = OrgId::try_from(link.org_id.as_slice()).map_err(|_| JoinError::Invalid)?;
        let secret: [u8; 32] = link.secret.as_slice().try_into().map_err(|_| JoinError::Invalid)?;
        let shown = read_log(org, &proof.ops).map_err(|_| JoinError::Impostor)?;
        let admitter = shown.roster().by_transport(&shaken.transport).ok_or(JoinError::Impostor)?;
        if admitter.dnk != shaken.dnk {
            return Err(JoinError::Impostor.into());
        }
        let key = invite_key(&secret);
        let invite = named_invite(&org, link, &key)?;
        let name = name.unwrap_or_else(|| self.identity.name.clone());
        let before = self.membership.as_ref().filter(|membership| membership.org == org);
        if before.is_none() || self.life.relay_cert().is_none() {
            self.begin_life(cx);
            self.certify(cx, &org);
        }
        let member = oob_crypto::member_id(&org, &self.identity.uik.public());
        let membership = Membership { org, member, admitted_by: None, name: name.clone() };
        membership.save(cx.store);
        self.membership = Some(membership);
        let request = self.request(&org, &key, invite, &name, shaken);
        Ok(Answer::Ask(Box::new(wire::JoinAsk { request: Some(request), ops: link.ops.clone() })))
    }

    fn request(
        &self,
        org: &OrgId,
        key: &SigningKey,
        invite: OpHash,
        name: &Name,
        shaken: &Shaken,
    ) -> wire::Signed {
        let identity = &self.identity;
        let request = wire::JoinRequest {
            uik: identity.uik.public().to_vec(),
            dsk: identity.dsk.public().to_vec(),
            dnk: identity.dnk.public().to_vec(),
            olm_id: identity.olm.identity().to_vec(),
            transport_key: identity.transport.public().to_vec(),
            name: name.as_str().to_owned(),
            class: identity.class.code(),
            handshake_hash: shaken.handshake_hash.to_vec(),
            bundle: self.life.bundle.clone(),
            relay_cert: self.life.relay_cert().cloned(),
            site: identity.site.clone(),
            invite: invite.to_vec(),
        };
        let keys = [key, &identity.uik, &identity.dsk, &identity.transport];
        sign(SignedType::Join, org, request.encode_to_vec(), &keys)
    }

    /// The number of an own bundle of another life than this.
    fn earlier_bundle(&self, org: &OrgId, signed: &wire::Signed) -> Option<u64> {
        let (dsk, olm) = (self.identity.dsk.public(), self.identity.olm.identity());
        let claim = BundleClaim::parse(org, &dsk, &olm, signed).ok()?;
        Some(claim.seq).filter(|_| claim.incarnation != self.life.incarnation)
    }

    /// Checks and takes the answer to a request.
    pub(crate) fn finish_join(
        &mut self,
        cx: &mut Cx<'_>,
        answer: &wire::JoinAnswer,
    ) -> Result<Answer, CommandError> {
        let pending = self.membership.clone().filter(|membership| membership.admitted_by.is_none());
        let pending = pending.ok_or(JoinError::BadAnswer)?;
        let org = pending.org;
        let device = self.identity.device;
        let shown = read_log(org, &answer.log).map_err(|_| JoinError::BadAnswer)?;
        let by = OpHash::try_from(answer.redeemed.as_slice()).map_err(|_| JoinError::BadAnswer)?;
        if !shown.roster().made_by.get(&device).is_some_and(|made| made.contains(&by)) {
            return Err(JoinError::BadAnswer.into());
        }
        let mut epochs = Vec::new();
        for grant in answer.grants.iter().take(limits::HELLO_ITEMS) {
            let opened = self
                .bundles
                .find(|secrets| open_grant(secrets, &org, &device, &grant.first_flight).ok());
            let Some(opened) = opened else { continue };
            let from = shown.roster().view.devices.get(&opened.from);
            let known = shown.roster().epochs.contains_key(&(opened.ring, opened.secret.id()));
            if known && from.is_some_and(|from| from.dnk == opened.dnk) {
                epochs.push((opened.ring, opened.secret));
            }
        }
        if !epochs.iter().any(|(ring, _)| *ring == Ring::Core) {
            return Err(JoinError::BadAnswer.into());
        }
        let mut organisation = Organisation::new(org);
        for op in &answer.log {
            organisation.learn_shown(cx, op).map_err(|_| JoinError::BadAnswer)?;
        }
        organisation.refresh();
        let member = self.join_org(cx, organisation, by, pending.name);
        self.take_epochs(cx, epochs);
        for signed in
            answer.relay_certs.iter().take(limits::HELLO_ITEMS * limits::DEVICES_PER_MEMBER)
        {
            self.relay_cert(cx, None, signed);
        }
        let bundles = answer.bundles.iter().take(limits::HELLO_ITEMS * limits::DEVICES_PER_MEMBER);
        let mut before = None;
        for signed in bundles {
            match self.earlier_bundle(&org, signed) {
                Some(seq) => before = before.max(Some(seq)),
                None => {
                    self.bundle(cx, None, signed);
                }
            }
        }
        // A request made before this one, whose secrets are gone: others must not take its bundle for the newest.
        if let Some(seq) = before.filter(|seq| seq.saturating_add(1) >= self.life.next_bundle()) {
            self.life.skip_bundles(seq.saturating_add(1));
            let secrets = self.life.publish_bundle(cx, &self.identity, &org);
            self.bundles.publish(cx, secrets);
        }
        for addresses in answer.addresses.iter().take(limits::HELLO_ITEMS) {
            self.told_addresses(cx, None, addresses);
        }
        Ok(Answer::Org { org, member })
    }
}

fn check_range(what: &'static str, least: u64, most: u64, found: u64) -> Result<(), CommandError> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(CommandError::OutOfRange { what, least, most, found })
    }
}

/// Everything but form: does the invitation stand, and is there room for this person?
fn check_request(
    organisation: &Organisation,
    claim: &JoinClaim,
    now_ms: u64,
) -> Result<(), JoinError> {
    let roster = organisation.roster();
    let Some(invite) = roster.invites.get(&claim.invite) else {
        return Err(if organisation.contains(&claim.invite) {
            JoinError::Invalid
        } else {
            JoinError::Behind
        });
    };
    if invite.key != claim.invite_key || invite.role != Role::Responder {
        return Err(JoinError::Invalid);
    }
    if now_ms > invite.expires_ms {
        return Err(JoinError::Expired);
    }
    if invite.redeemed.len() >= usize::try_from(invite.uses).unwrap_or(usize::MAX) {
        return Err(JoinError::Used);
    }
    if invite.name.as_ref().is_some_and(|name| !name.resembles(claim.name.as_str())) {
        return Err(JoinError::Invalid);
    }
    let member = oob_crypto::member_id(&organisation.id, &claim.uik);
    if roster.view.named(claim.name.as_str()).iter().any(|known| known.id != member) {
        return Err(JoinError::NameTaken);
    }
    let keys = &claim.keys;
    let clash = roster.with_former().any(|known| {
        known.dnk == keys.dnk
            || known.olm_id == keys.olm_id
            || known.transport == keys.transport_key()
            || known.id.short() == keys.id.short()
    });
    if clash { Err(JoinError::Invalid) } else { Ok(()) }
}

/// Checks a whole log somebody shows, from its Genesis on.
fn read_log(org: OrgId, ops: &[wire::Op]) -> Result<Organisation, OpError> {
    let mut organisation = Organisation::new(org);
    for op in ops {
        organisation.take_shown(op.clone())?;
    }
    organisation.refresh();
    Ok(organisation)
}

/// The invitation among a link's operations that its secret belongs to.
fn named_invite(
    org: &OrgId,
    link: &wire::InviteLink,
    key: &SigningKey,
) -> Result<OpHash, JoinError> {
    let public = key.public();
    let found = link.ops.iter().rev().filter_map(|op| check(org, op.clone()).ok()).find(|checked| {
        matches!(&checked.body, Some(Kind::Invite(invite)) if invite.invite_key == public.as_bytes())
    });
    found.map(|checked| checked.hash).ok_or(JoinError::Invalid)
}

/// The newest of some operations that fit, parents first.
fn newest_ops(
    organisation: &Organisation,
    cx: &Cx<'_>,
    ops: &[OpHash],
    bytes: usize,
) -> Result<Vec<wire::Op>, RecordError> {
    let mut room = bytes;
    let fitting = ops.iter().rev().enumerate().take_while(|(i, hash)| {
        let len = organisation.len_of(hash);
        let fits = *i == 0 || len <= room;
        room = room.saturating_sub(len);
        fits
    });
    let mut newest: Vec<OpHash> = fitting.map(|(_, hash)| *hash).collect();
    newest.reverse();
    organisation.read_all(cx.store, &newest)
}
