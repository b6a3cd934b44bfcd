//! Doors of the network: beacons, gossip, the join stream, frames and addresses.

use super::{
    cast::CAST,
    doors::{screen_keys, seal_as_a_member},
};
use oob_core::doors;
use oob_crypto::{BEACON_BYTES, Beacon};
use oob_proto::{
    Message, TransportKey, limits,
    wire::{Frame, frame::Kind},
};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::LazyLock,
};
use tokio::runtime::{Builder, Runtime};

/// Messages of gossip in one go.
const MESSAGES: usize = 64;

/// Bytes of one join frame here: less than a joiner takes, so that a few chunks are too many.
const JOIN_BYTES: usize = limits::JOIN_ASK_BYTES;

/// For what waits for time to pass, which it never does here.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// A beacon as it comes, or, of any other length, what Sam's says: his port for TCP and for QUIC, where from, whose, and
/// where else. Taken if it leads anywhere.
pub fn beacon(bytes: &[u8]) -> bool {
    static SNAPSHOT: LazyLock<std::sync::Arc<oob_engine::snapshot::Snapshot>> =
        LazyLock::new(|| CAST.dana.start().snapshot());
    let (from, packet) = if bytes.len() == BEACON_BYTES {
        (SocketAddr::from(([10, 0, 0, 7], 4_811)), bytes.to_vec())
    } else {
        let Some(([a, b, c, d, whose], rest)) = bytes.split_first_chunk::<5>() else {
            return false;
        };
        let (addresses, _) = rest.as_chunks::<16>();
        let mut addresses = addresses.iter().map(|octets| IpAddr::from(Ipv6Addr::from(*octets)));
        let from = addresses.next().unwrap_or(IpAddr::from([10, 0, 0, 7]));
        let transport = match whose % 3 {
            0 => CAST.sam.transport_key(),
            1 => CAST.dana.transport_key(),
            _ => TransportKey::from([*whose; 32]),
        };
        let (tcp, udp) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let addresses = addresses.collect();
        let beacon = Beacon { transport, time_s: 0, tcp, udp, addresses };
        let key = CAST.loot.epoch.beacon_key();
        let packet = beacon.seal(&mut StdRng::seed_from_u64(1), &key).expect("a beacon");
        (SocketAddr::new(from, 4_811), packet)
    };
    let Some(heard) = doors::beacon(&SNAPSHOT, &packet, from) else { return false };
    for address in &heard {
        assert!(
            address.len() <= limits::ADDRESS_BYTES && doors::address(address).is_some(),
            "{address}"
        );
    }
    !heard.is_empty()
}

/// What one neighbour passes on: `u16 length` and a message, each; taken if any of it goes further. An envelope without an
/// origin is sealed as a member's.
pub fn gossip(bytes: &[u8]) -> bool {
    let mut messages = Vec::new();
    let (mut rest, mut members) = (bytes, 0);
    while messages.len() < MESSAGES {
        let Some((len, after)) = rest.split_first_chunk::<2>() else { break };
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (message, after) = after.split_at(len);
        rest = after;
        let sealed = match Frame::read(message).map(|frame| frame.kind) {
            Ok(Some(Kind::Envelope(envelope))) if envelope.origin.is_empty() => {
                seal_as_a_member(envelope, messages.len() as u64)
            }
            _ => None,
        };
        members += usize::from(sealed.is_some());
        let sealed = sealed.map(|sealed| Frame::new(Kind::Envelope(sealed)).encode_to_vec());
        messages.push(sealed.unwrap_or_else(|| message.to_vec()));
    }
    let all = messages.len();
    let (further, inward) = RUNTIME.block_on(doors::gossip(messages, screen_keys()));
    assert!(further <= inward && inward <= all, "{further} of {inward} of {all}");
    assert!(further >= members.min(1), "a member's envelope went no further");
    further > 0
}

/// A join stream: who begins u8, then what comes of the other side; taken if a frame came and nothing was wrong.
pub fn line(bytes: &[u8]) -> bool {
    let (frames, heard) = RUNTIME.block_on(doors::line(bytes, JOIN_BYTES));
    heard && !frames.is_empty()
}

/// A neighbour's bytes, in pieces of so many (u8); taken if they end between two frames.
pub fn split(bytes: &[u8]) -> bool {
    let Some((piece, rest)) = bytes.split_first() else { return false };
    let (frames, lasts) = doors::frames(rest, usize::from(*piece));
    assert_eq!((&frames, lasts), (&doors::frames(rest, usize::MAX).0, lasts), "pieces matter");
    let framed: usize = frames.iter().map(|frame| frame.len() + 4).sum();
    assert!(frames.iter().all(|frame| (1..=limits::FRAME_BYTES).contains(&frame.len())));
    lasts && framed == rest.len() && framed > 0
}

/// A text typed for an address, or told as one.
pub fn address(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some((normal, places)) = doors::address(text) else { return false };
    assert!((1..=2).contains(&places.len()));
    assert_eq!(doors::address(&normal), Some((normal.clone(), places.clone())));
    for place in &places {
        assert_eq!(doors::address(place).map(|(_, places)| places), Some(vec![place.clone()]));
    }
    true
}
