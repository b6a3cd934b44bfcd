//! Beacons: how the devices of an organisation find each other on a local network (docs/protocol.md, section 15.2).
//!
//! To anybody else a beacon is 184 bytes of noise. It proves little: it may be recorded and sent again from anywhere, so
//! whoever opens one has learned where to dial, and who is there is for the connection to prove.

use crate::epoch::BeaconKey;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use oob_proto::TransportKey;
use rand_core::CryptoRng;
use std::net::{IpAddr, Ipv6Addr};

/// Bytes of a sealed beacon: nonce, content, tag. All have the same.
pub const BEACON_BYTES: usize = NONCE + PLAIN + TAG;

/// Addresses a beacon has room for besides the one it comes from.
pub const BEACON_ADDRESSES: usize = 4;

const NONCE: usize = 24;
const TAG: usize = 16;
const PLAIN: usize = 144;
const VERSION: u8 = 1;

/// Separates it from everything else the key may seal one day.
const CONTEXT: &[u8] = b"oob/1 beacon\0";

/// What a beacon says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beacon {
    /// The device that sent it first.
    pub transport: TransportKey,
    /// Its clock, seconds since 1970. To be shown, never to be relied on.
    pub time_s: u64,
    /// The TCP port it listens on, 0 if none.
    pub tcp: u16,
    /// The UDP port it listens on for QUIC, 0 if none.
    pub udp: u16,
    /// Where else it listens on these ports; the first [`BEACON_ADDRESSES`] are sent.
    pub addresses: Vec<IpAddr>,
}

impl Beacon {
    /// Seals it under the key of an epoch, each time to other bytes.
    ///
    /// # Errors
    /// None that happens: the cipher takes any content of this length.
    pub fn seal(&self, rng: &mut impl CryptoRng, key: &BeaconKey) -> Result<Vec<u8>, BeaconError> {
        let plain = self.plain();
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let secret = key.export_secret();
        let sealed = XChaCha20Poly1305::new((&*secret).into())
            .encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: CONTEXT })
            .map_err(|_| BeaconError::Closed)?;
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        Ok(bytes)
    }

    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(PLAIN);
        plain.push(VERSION);
        plain.extend_from_slice(self.transport.as_bytes());
        plain.extend_from_slice(&self.time_s.to_be_bytes());
        plain.extend_from_slice(&self.tcp.to_be_bytes());
        plain.extend_from_slice(&self.udp.to_be_bytes());
        for address in self.addresses.iter().take(BEACON_ADDRESSES) {
            let six = match address {
                IpAddr::V4(four) => four.to_ipv6_mapped(),
                IpAddr::V6(six) => *six,
            };
            plain.extend_from_slice(&six.octets());
        }
        // An address of zeros is no address.
        plain.resize(PLAIN, 0);
        plain
    }

    /// Opens one.
    ///
    /// # Errors
    /// Bytes that were not sealed under this key, or by a version not known here.
    pub fn open(key: &BeaconKey, bytes: &[u8]) -> Result<Self, BeaconError> {
        if bytes.len() != BEACON_BYTES {
            return Err(BeaconError::Length { found: bytes.len() });
        }
        let (nonce, sealed) =
            bytes.split_first_chunk::<NONCE>().ok_or(BeaconError::Length { found: bytes.len() })?;
        let secret = key.export_secret();
        let plain = XChaCha20Poly1305::new((&*secret).into())
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: CONTEXT })
            .map_err(|_| BeaconError::Closed)?;
        Self::read(&plain).ok_or(BeaconError::Version)
    }

    fn read(plain: &[u8]) -> Option<Self> {
        let ([version], rest) = plain.split_first_chunk()?;
        let (transport, rest) = rest.split_first_chunk::<32>()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (tcp, rest) = rest.split_first_chunk()?;
        let (udp, rest) = rest.split_first_chunk()?;
        let (addresses, _) = rest.as_chunks::<16>();
        let addresses = addresses.iter().take(BEACON_ADDRESSES);
        (*version == VERSION).then(|| Self {
            transport: (*transport).into(),
            time_s: u64::from_be_bytes(*time),
            tcp: u16::from_be_bytes(*tcp),
            udp: u16::from_be_bytes(*udp),
            addresses: addresses
                .map(|octets| Ipv6Addr::from(*octets))
                .filter(|address| !address.is_unspecified())
                .map(|address| IpAddr::V6(address).to_canonical())
                .collect(),
        })
    }
}

/// Why bytes are no beacon of ours; all the same to whoever sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeaconError {
    /// Another length than beacons have.
    #[error("{found} bytes, a beacon has {BEACON_BYTES}")]
    Length {
        /// Its length.
        found: usize,
    },
    /// Not sealed with this key.
    #[error("the beacon does not open with this epoch's key")]
    Closed,
    /// Made by a version not known here.
    #[error("a beacon of another version")]
    Version,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::EpochSecret;
    use data_encoding::HEXLOWER as HEX;
    use rand::{SeedableRng, rngs::StdRng};

    fn beacon(addresses: &[&str]) -> Beacon {
        Beacon {
            transport: [7; 32].into(),
            time_s: 1_790_000_000,
            tcp: 4801,
            udp: 4802,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_beacon_opens_under_its_key_and_all_are_of_one_length() {
        let mut rng = StdRng::seed_from_u64(1);
        let key = EpochSecret::generate(&mut rng).beacon_key();
        let other = EpochSecret::generate(&mut rng).beacon_key();
        for addresses in [&[][..], &["fd00::1"], &["fd00::1", "10.0.0.1", "192.168.1.9", "::1"]] {
            let beacon = beacon(addresses);
            let sealed = beacon.seal(&mut rng, &key).unwrap();
            assert_eq!(sealed.len(), BEACON_BYTES);
            assert_eq!(Beacon::open(&key, &sealed), Ok(beacon.clone()));
            assert_eq!(Beacon::open(&other, &sealed), Err(BeaconError::Closed));
            assert_ne!(sealed, beacon.seal(&mut rng, &key).unwrap(), "the same bytes twice");
        }
        let many = beacon(&["fd00::1", "fd00::2", "fd00::3", "fd00::4", "fd00::5"]);
        let sealed = many.seal(&mut rng, &key).unwrap();
        assert_eq!(Beacon::open(&key, &sealed).unwrap().addresses, many.addresses[..4]);
    }

    #[test]
    fn no_bit_of_it_can_be_changed_and_no_other_length_is_looked_at() {
        let mut rng = StdRng::seed_from_u64(2);
        let key = EpochSecret::generate(&mut rng).beacon_key();
        let sealed = beacon(&["10.0.0.1"]).seal(&mut rng, &key).unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(Beacon::open(&key, &altered), Err(BeaconError::Closed), "{at}");
        }
        for len in [0, 1, BEACON_BYTES - 1, BEACON_BYTES + 1] {
            let bytes = vec![0; len];
            assert_eq!(Beacon::open(&key, &bytes), Err(BeaconError::Length { found: len }));
        }
    }

    /// Written out by hand from the specification.
    #[test]
    fn golden_beacon() {
        let golden = [
            "01".to_owned(),
            "07".repeat(32),
            "000000006ab13b80".to_owned(),
            "12c112c2".to_owned(),
            "fd000000000000000000000000000001".to_owned(),
            "00000000000000000000ffff0a000001".to_owned(),
            "00".repeat(2 * 16 + 35),
        ]
        .concat();
        let beacon = beacon(&["fd00::1", "10.0.0.1"]);
        assert_eq!(HEX.encode(&beacon.plain()), golden);
        assert_eq!(Beacon::read(&beacon.plain()), Some(beacon));
    }

    /// Computed with another implementation of XChaCha20-Poly1305, with the nonce 09 09 ….
    #[test]
    fn golden_sealed_beacon() {
        let key = EpochSecret::from_secret(&[5; 32]).beacon_key();
        let sealed = HEX.decode(GOLDEN_SEALED.concat().as_bytes()).unwrap();
        assert_eq!(Beacon::open(&key, &sealed), Ok(beacon(&["fd00::1", "10.0.0.1"])));
    }

    const GOLDEN_SEALED: [&str; 4] = [
        "090909090909090909090909090909090909090909090909dbf5a6de5089ba80ea21d5a44f850ee34e531c12f315",
        "e881f51802b567b3b9ac8a89c7709dc2e85b4122d61526c775d2b415cfc65c970846b0604d7e049188a6c9c3dd6b",
        "aad17069d2ce9fc6d42f487f39cc4cca88219540f00b670c866c0007eb89b1718e0bf9b14caffeafa2f39ba322a8",
        "55a93aa20f55bc98d3873632e2ec3e28a139462076a5d7a58cd2d804f0e17db680325e8716565b261769d41154ba",
    ];

    #[test]
    fn a_beacon_of_another_version_says_nothing() {
        let mut plain = vec![0; PLAIN];
        plain[0] = VERSION;
        assert!(Beacon::read(&plain).is_some());
        plain[0] = VERSION + 1;
        assert_eq!(Beacon::read(&plain), None);
    }
}
