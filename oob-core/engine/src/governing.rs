//! What admins decide together: keys that people offer, who the admins are, and the signatures that make it so (docs/protocol.md,
//! section 3.3).

use crate::{
    cx::Cx,
    effect::{Answer, CommandError},
    model::{Change, CouncilView, Name, Seat},
    roster::{Circle, author, lives_named},
    state::State,
};
use oob_crypto::{PublicKey, SigningKey, signed::sign};
use oob_proto::{
    MemberId, Message as _, OpHash,
    signing::SignedType,
    wire::{self, op_body::Kind},
};
use std::{cmp::Reverse, sync::Arc};

/// Admins in office at most.
const ADMINS: usize = 32;

impl State {
    /// Makes a key that this device would be an admin with; where it has one that was never used, that is it.
    pub(crate) fn offer_admin(&mut self, cx: &mut Cx<'_>) -> Result<Answer, CommandError> {
        let organisation = self.organisation.as_mut().ok_or(CommandError::NoOrg)?;
        let office = &organisation.roster().view.council;
        let is_open = |key: &SigningKey| office.offers.iter().any(|seat| seat.key == key.public());
        if self.identity.offered.iter().any(is_open) {
            return Ok(Answer::Done);
        }
        let key = SigningKey::generate(cx.rng);
        let offered = wire::OfferedKey {
            key: key.public().to_vec(),
            device: self.identity.device.to_vec(),
            paper: String::new(),
        };
        let signed =
            sign(SignedType::AdminOffer, &organisation.id, offered.encode_to_vec(), &[&key]);
        let body = Kind::AdminOffer(wire::AdminOffer { offer: Some(signed) });
        let (life, dsk) = (self.life.incarnation, &self.identity.dsk);
        let (op, _) = author(cx, organisation, life, dsk, Circle::Core, body)?;
        organisation.refresh();
        self.identity.offered.push(key);
        self.identity.save(cx.store);
        self.tell_of(op, None);
        Ok(Answer::Done)
    }

    /// Whether this device is that of one of several admins, and has no key for the next set.
    pub(crate) fn lacks_offer(&self) -> bool {
        let Some(organisation) = &self.organisation else { return false };
        let office = &organisation.roster().view.council;
        let is_open = |key: &SigningKey| office.offers.iter().any(|seat| seat.key == key.public());
        office.seats.len() > 1
            && self.identity.admin_in(office).is_some()
            && !self.identity.offered.iter().any(is_open)
    }

    /// Proposes who the admins are. All keys are new, so that what was signed with the old ones ends with them.
    pub(crate) fn propose_admins(
        &mut self,
        cx: &mut Cx<'_>,
        members: &[MemberId],
        k: usize,
    ) -> Result<OpHash, CommandError> {
        check_council(members, k)?;
        self.own_admin_key()?;
        let me = self.membership.as_ref().map(|membership| membership.member);
        if members.iter().any(|member| Some(*member) == me) {
            self.offer_admin(cx)?;
        }
        let organisation = self.org()?;
        let roster = organisation.roster();
        let office = Arc::clone(&roster.view.council);
        let base = roster.council.in_office().ok_or(CommandError::NoOrg)?;
        let mut admins = Vec::new();
        for id in members {
            let member = roster.view.members.get(id).ok_or(CommandError::NoMember)?;
            let key = newest_offer(&office, id)
                .ok_or_else(|| CommandError::NoOffer { name: member.name.to_string() })?;
            admins.push(wire::Admin { key: key.to_vec(), uik: member.uik.to_vec() });
        }
        let goes: Vec<PublicKey> = base
            .seats
            .iter()
            .filter(|(_, uik)| match uik {
                Some(uik) => admins.iter().all(|admin| admin.uik != uik.as_bytes()),
                None => true,
            })
            .map(|(key, _)| *key)
            .collect();
        let (base, round) = (base.op.to_vec(), organisation.highest_round().saturating_add(1));
        let cuts = self.admin_cuts(&goes)?;
        let k = u32::try_from(k).map_err(|_| CommandError::Internal("a council without end"))?;
        let set = wire::AdminSet { base, round, k, admins, cuts };
        self.decide(cx, Circle::All, Kind::AdminSet(set))
    }

    /// Lets stand what these keys said until now, and what is about to be said.
    fn admin_cuts(&self, goes: &[PublicKey]) -> Result<Vec<wire::AdminCut>, CommandError> {
        let organisation = self.org()?;
        let own = self.own_admin_key()?;
        let most = lives_named(goes.len());
        let cut = |key: &PublicKey| {
            let mut written = organisation.written_by(key);
            let now = self.life.incarnation;
            if *key == own {
                let ops = written.entry(now).or_insert(0);
                *ops = ops.saturating_add(1);
            }
            let mut lives: Vec<_> = written.into_iter().collect();
            // Whoever wrote in more lives than fit did not do so in good faith; what it did most in is most likely honest.
            lives.sort_by_key(|(life, ops)| (Reverse(*key == own && *life == now), Reverse(*ops)));
            let lives = lives.into_iter().take(most).map(|(life, ops)| wire::Cut {
                incarnation: life.0,
                ops,
                ..wire::Cut::default()
            });
            wire::AdminCut { key: key.to_vec(), lives: lives.collect() }
        };
        Ok(goes.iter().map(cut).collect())
    }

    /// Proposes another name for the organisation.
    pub(crate) fn propose_name(
        &mut self,
        cx: &mut Cx<'_>,
        name: &Name,
    ) -> Result<OpHash, CommandError> {
        let round = self.org()?.roster().highest_policy.saturating_add(1);
        let policy = wire::Policy { round, org_name: name.as_str().to_owned() };
        self.decide(cx, Circle::Core, Kind::Policy(policy))
    }

    /// Signs what somebody proposed, if it is what it seems.
    pub(crate) fn sign_proposal(
        &mut self,
        cx: &mut Cx<'_>,
        op: OpHash,
    ) -> Result<(), CommandError> {
        let organisation = self.org()?;
        let office = &organisation.roster().view.council;
        let key = self.own_admin_key()?;
        let proposal = office.proposals.iter().find(|proposal| proposal.op == op);
        let proposal = proposal.ok_or(CommandError::NoProposal)?;
        if proposal.signed.contains(&key) {
            return Err(CommandError::Signed);
        }
        if let Change::Admins { seats, round, .. } = &proposal.change {
            if organisation.has_signed_up_to(&key, *round) {
                return Err(CommandError::SignedAnother);
            }
            if let Some(seat) = seats.iter().find(|seat| !self.is_known(seat, office)) {
                let members = &organisation.roster().view.members;
                let known = seat.member.and_then(|id| members.get(&id));
                let name = known.map_or("somebody".to_owned(), |member| member.name.to_string());
                return Err(CommandError::StrangeKey { name });
            }
            if !organisation.cuts_nothing(&op) {
                return Err(CommandError::Undoes);
            }
        }
        self.decide(cx, Circle::All, Kind::Endorse(wire::Endorse { op: op.to_vec() }))?;
        Ok(())
    }

    /// Whether a proposed key is known to be that of whom it is proposed for.
    fn is_known(&self, seat: &Seat, office: &CouncilView) -> bool {
        let stays = || office.seats.iter().any(|of| of.key == seat.key && of.member == seat.member);
        seat.offered || stays()
    }

    /// What became of a proposal that was written or signed here.
    pub(crate) fn proposed(&self, op: OpHash) -> Result<Answer, CommandError> {
        let (decided, missing) = self.org()?.decided(&op);
        Ok(Answer::Proposed { op, decided, missing })
    }

    fn own_admin_key(&self) -> Result<PublicKey, CommandError> {
        let office = &self.org()?.roster().view.council;
        self.identity.admin_in(office).map(SigningKey::public).ok_or(CommandError::NotAdmin)
    }

    /// Writes an operation in this admin's name.
    fn decide(
        &mut self,
        cx: &mut Cx<'_>,
        circle: Circle,
        body: Kind,
    ) -> Result<OpHash, CommandError> {
        let organisation = self.organisation.as_mut().ok_or(CommandError::NoOrg)?;
        let office = Arc::clone(&organisation.roster().view.council);
        let admin = self.identity.admin_in(&office).ok_or(CommandError::NotAdmin)?;
        let (op, _) = author(cx, organisation, self.life.incarnation, admin, circle, body)?;
        self.tell_of(op, None);
        Ok(op)
    }
}

/// The key that somebody offered last and was no admin with yet.
fn newest_offer(office: &CouncilView, member: &MemberId) -> Option<PublicKey> {
    let theirs = |seat: &&Seat| seat.member.as_ref() == Some(member) && seat.paper.is_none();
    office.offers.iter().rfind(theirs).map(|seat| seat.key)
}

/// Whether so many may be asked to sign: more than half, so that no two groups decide at once, and one fewer than all, so that
/// nobody who is lost takes the organisation along.
fn check_council(members: &[MemberId], k: usize) -> Result<(), CommandError> {
    let mut seen = members.to_vec();
    seen.sort_unstable();
    seen.dedup();
    let why = match members.len() {
        n if n > ADMINS => "there are at most 32",
        n if n != seen.len() => "one of them is named twice",
        0 => "there must be one",
        1 if k != 1 => "it must be 1",
        2 => {
            "there must be one or three: of two neither could be lost, and neither could decide alone"
        }
        n if n > 2 && k <= n / 2 => "it must be more than half of them",
        n if n > 2 && k >= n => "it must be fewer than all of them",
        _ => return Ok(()),
    };
    Err(CommandError::BadCouncil { admins: members.len(), k, why })
}
