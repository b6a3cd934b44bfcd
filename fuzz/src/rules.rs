//! Doors of the engine: a neighbour's stream, the organisation's log, and joining.

use super::cast::{CAST, Hand, LINK, admit, arrive, ask, give, laid_over, prepare_with};
use oob_crypto::{
    body_hash,
    envelope::{EnvelopeKeys, Head, seal},
    signed::sign,
};
use oob_engine::{
    Engine,
    effect::{Answer, Effect},
    envelope::{Refusal, Screened, Verdict, screen},
    input::{Command, Input},
};
use oob_proto::{
    Message,
    signing::SignedType,
    wire::{self, Frame, frame::Kind, join_frame, op_body},
};
use rand::{SeedableRng, rngs::StdRng};

/// Frames one input may hold; more of the same shows nothing new.
const FRAMES: usize = 16;

/// What Sam sends Dana on their stream; taken if the stream lasts. An envelope without an origin is sealed as Sam's.
pub fn stream(bytes: &[u8]) -> bool {
    let mut dana = CAST.dana.start();
    give(&mut dana, Input::LinkUp { link: LINK, peer: CAST.sam.transport_key() });
    let mut rest = bytes;
    let mut lasts = true;
    for number in 0..FRAMES as u64 {
        let Some((len, after)) = rest.split_first_chunk::<2>() else { break };
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (frame, after) = after.split_at(len);
        rest = after;
        let screened = screened(&dana, frame, number);
        let outcome = arrive(&mut dana, vec![screened]);
        lasts &= !outcome.effects.iter().any(|effect| matches!(effect, Effect::Close { .. }));
    }
    lasts
}

fn screened(dana: &Engine, bytes: &[u8], number: u64) -> Screened {
    let kind = match Frame::read(bytes).map(|frame| frame.kind) {
        Ok(Some(kind)) => kind,
        Ok(None) | Err(_) => return Screened::Refused(Refusal::Malformed),
    };
    let Kind::Envelope(envelope) = kind else { return Screened::Other(kind) };
    let envelope = if envelope.origin.is_empty() {
        let keys = dana.snapshot().screening.clone();
        let (epoch, header_key) = keys.headers.first().expect("there is an epoch");
        seal_as_sam(envelope, *epoch, header_key, number)
    } else {
        Some(envelope)
    };
    match envelope {
        Some(envelope) => screened_envelope(dana, envelope),
        None => Screened::Refused(Refusal::Malformed),
    }
}

/// What screening makes of a frame at somebody's.
pub(crate) fn screened_by(at: &Engine, bytes: &[u8]) -> Screened {
    match Frame::read(bytes).map(|frame| frame.kind) {
        Ok(Some(Kind::Envelope(envelope))) => screened_envelope(at, envelope),
        Ok(Some(kind)) => Screened::Other(kind),
        Ok(None) | Err(_) => Screened::Refused(Refusal::Malformed),
    }
}

fn screened_envelope(at: &Engine, envelope: wire::Envelope) -> Screened {
    match screen(&at.snapshot().screening, envelope) {
        Verdict::Accept(verified) => Screened::Envelope(verified),
        Verdict::NotYet(_) => Screened::Refused(Refusal::NotInTime),
        Verdict::Refuse(refusal) => Screened::Refused(refusal),
    }
}

fn seal_as_sam(
    envelope: wire::Envelope,
    epoch: oob_proto::EpochId,
    header_key: &oob_crypto::HeaderKey,
    number: u64,
) -> Option<wire::Envelope> {
    let head = Head::parse(&envelope.head).ok()?;
    let mut ct = envelope.ct;
    ct.resize(head.class.len(), 0);
    let keys = EnvelopeKeys {
        org: &CAST.org,
        epoch,
        header_key,
        device: &CAST.sam.device,
        incarnation: CAST.life,
        rlk_gen: 0,
        rlk: &CAST.rlk,
    };
    // Records 1 and 2 are certificate and bundle.
    let seq = 3 + number;
    Some(seal(&mut StdRng::seed_from_u64(number), &keys, seq, &head, ct).ok()?.0)
}

/// An operation that somebody signs who may write to the log; taken if the log grows by it.
pub fn op(bytes: &[u8]) -> bool {
    let Some(op) = signed_op(bytes, &[], true) else { return false };
    let mut dana = CAST.dana.start();
    give(&mut dana, Input::LinkUp { link: LINK, peer: CAST.sam.transport_key() });
    let before = dana.snapshot().roster.version;
    arrive(&mut dana, vec![Screened::Other(Kind::Log(op.clone()))]);
    let after = dana.snapshot().roster.version;
    // Told again it changes nothing, and what was taken is still there after a restart.
    arrive(&mut dana, vec![Screened::Other(Kind::Log(op))]);
    assert_eq!(dana.snapshot().roster.version, after, "the same operation counted twice");
    assert!(dana.snapshot().roster.members.len() >= 2, "an operation removed a member");
    after > before
}

/// Makes an operation of `whose key u8, u16 length, header, body`, which continues the log and `more`.
pub(crate) fn signed_op(bytes: &[u8], more: &[wire::Op], admin: bool) -> Option<wire::Op> {
    let (hand, rest) = bytes.split_first()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
    let (over, body) = rest.split_at(len);
    let hand = match hand % 3 {
        0 => Hand::Device,
        2 if admin => Hand::Admin,
        _ => Hand::Person,
    };
    let key = CAST.key(hand);
    let body = signed_inside(body, key);
    let mut header = laid_over(&CAST.next_header(&key.public(), more), over);
    if header.body_hash.is_empty() {
        header.body_hash = body_hash(&body).to_vec();
    }
    let signed = sign(SignedType::Op, &CAST.org, header.encode_to_vec(), &[key]);
    Some(wire::Op { header: Some(signed), body })
}

/// Signs what is inside a body where it holds no signature yet.
fn signed_inside(bytes: &[u8], key: &oob_crypto::SigningKey) -> Vec<u8> {
    let Ok(mut body) = wire::OpBody::decode(bytes) else { return bytes.to_vec() };
    match &mut body.kind {
        Some(op_body::Kind::Device(device)) => match &mut device.certificate {
            Some(cert) if cert.sigs.is_empty() => *cert = CAST.sign_device(key, &cert.payload),
            _ => return bytes.to_vec(),
        },
        Some(op_body::Kind::InviteRedeemed(redeemed)) => match &mut redeemed.request {
            Some(request) if request.sigs.is_empty() => {
                *request = CAST.sign_request(&request.payload);
                if redeemed.invite.is_empty() {
                    redeemed.invite.clone_from(&CAST.request.invite);
                }
            }
            _ => return bytes.to_vec(),
        },
        _ => return bytes.to_vec(),
    }
    body.encode_to_vec()
}

/// One join frame, at the side it is for: Dana admits, Mallory joins; taken if that side goes on.
pub fn join(bytes: &[u8]) -> bool {
    let Ok(frame) = wire::JoinFrame::decode(bytes) else { return false };
    match frame.kind {
        Some(join_frame::Kind::Request(mut request)) => {
            if let Some(signed) = &mut request.request
                && signed.sigs.is_empty()
            {
                *signed = CAST.sign_request(&signed.payload);
            }
            admit(&mut CAST.dana.start(), &CAST.mallory, request).is_ok()
        }
        Some(join_frame::Kind::Proof(mut proof)) => {
            if proof.ops.is_empty() {
                proof = CAST.proof.clone();
            }
            prepare_with(&mut CAST.mallory.start(), &CAST.dana, &CAST.link, proof).is_ok()
        }
        Some(join_frame::Kind::Answer(over)) => {
            let answer = laid_over(&CAST.answer, &over.encode_to_vec());
            let finish = Command::FinishJoin { answer };
            matches!(ask(&mut CAST.mallory.start(), finish), Ok(Answer::Org { .. }))
        }
        Some(join_frame::Kind::Show(show)) => {
            let before = CAST.dana.start().snapshot().roster.version;
            let mut dana = CAST.dana.start();
            let _ = ask(&mut dana, Command::Learn { ops: show.ops });
            dana.snapshot().roster.version > before
        }
        Some(join_frame::Kind::Refused(_)) | None => false,
    }
}
