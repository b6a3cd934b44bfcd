//! One-way channels between two devices: opened by a first flight, then numbered messages
//! (docs/protocol.md, section 8).

use crate::{
    bundle::BundleSecrets,
    dh::DhPublic,
    envelope::Class,
    first_flight::{self, FirstContact},
    plaintext::{self, ChannelError, PLAIN_HEAD, Plain, Sealed},
    stored::{self, StoredError},
    window::{self, Window},
};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, aead::Aead};
use oob_proto::{DeviceId, OrgId};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Messages after which a channel is replaced, so that a key once read is of use for no longer.
pub const CHANNEL_MESSAGES: u64 = 1_000;
/// Bytes of a first flight's payload before the plaintext: tag key, device, count.
const CONTACT: usize = 32 + 32 + 8;
/// Bytes the AEAD adds.
const AEAD_TAG: usize = 16;
/// Longest inner message of a first flight.
pub const FIRST_INNER_BYTES: usize =
    Class::B16000.len() - first_flight::OVERHEAD - CONTACT - PLAIN_HEAD;
/// Longest inner message after it.
pub const INNER_BYTES: usize = Class::B16000.len() - AEAD_TAG - PLAIN_HEAD;

/// The sending end.
pub struct OutChannel(OutState);

/// The receiving end.
pub struct InChannel(InState);

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct OutState {
    id: [u8; 32],
    key: [u8; 32],
    tag_key: [u8; 32],
    count: u64,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct InState {
    id: [u8; 32],
    key: [u8; 32],
    tag_key: [u8; 32],
    #[zeroize(skip)]
    window: Window,
}

/// What a first flight brought.
#[derive(Debug)]
pub struct Opened {
    /// The device the sender says it is. Believed only if the envelope's origin and one certificate say so too.
    pub from: DeviceId,
    /// The Noise key it proved to hold, which must be that certificate's.
    pub dnk: DhPublic,
    /// The receiving end of the channel.
    pub channel: InChannel,
    /// How many messages were sent on the channel this one replaces.
    pub replaced_count: u64,
    /// The message that came with it.
    pub plain: Plain,
}

impl OutChannel {
    /// Opens a channel and seals its first message. `replaces_count` is the [`OutChannel::count`] of the channel this
    /// one replaces, 0 if none.
    ///
    /// # Errors
    /// An inner message over [`FIRST_INNER_BYTES`].
    pub fn open(
        rng: &mut impl CryptoRng,
        contact: &FirstContact<'_>,
        replaces_count: u64,
        inner: &[u8],
    ) -> Result<(Self, Sealed), ChannelError> {
        let around = first_flight::OVERHEAD + CONTACT;
        let needed = inner.len().saturating_add(around + PLAIN_HEAD);
        let class = Class::for_len(needed)
            .ok_or(ChannelError::TooLong { len: inner.len(), max: FIRST_INNER_BYTES })?;
        let mut tag_key = Zeroizing::new([0; 32]);
        rng.fill_bytes(tag_key.as_mut());
        let (plain, release) = plaintext::build(rng, inner, class.len().saturating_sub(around))?;
        let count = replaces_count.to_be_bytes();
        let payload = Zeroizing::new(
            [tag_key.as_slice(), contact.my_device.as_bytes(), &count, &plain].concat(),
        );
        let written = first_flight::write(rng, contact, &payload)?;
        let state = OutState {
            id: written.secrets.hash,
            key: *written.secrets.key,
            tag_key: *tag_key,
            count: 0,
        };
        let tag = contact.bundle.draw_tag(rng);
        Ok((Self(state), Sealed { n: None, tag, class, release, ct: written.encoded }))
    }

    /// Seals the next message. The advanced state must be durable before the result is sent: the same number under the
    /// same key twice would show both messages.
    ///
    /// # Errors
    /// An inner message over [`INNER_BYTES`], or no number left.
    pub fn seal(&mut self, rng: &mut impl CryptoRng, inner: &[u8]) -> Result<Sealed, ChannelError> {
        let n = self.0.count;
        let next = n.checked_add(1).ok_or(ChannelError::Spent)?;
        let needed = inner.len().saturating_add(PLAIN_HEAD + AEAD_TAG);
        let class = Class::for_len(needed)
            .ok_or(ChannelError::TooLong { len: inner.len(), max: INNER_BYTES })?;
        let (plain, release) = plaintext::build(rng, inner, class.len().saturating_sub(AEAD_TAG))?;
        let ct = ChaCha20Poly1305::new((&self.0.key).into())
            .encrypt(&nonce(n), plain.as_slice())
            .map_err(|_| ChannelError::Closed)?;
        self.0.count = next;
        Ok(Sealed { n: Some(n), tag: window::tag(&self.0.tag_key, n), class, release, ct })
    }

    /// Returns how many messages were sealed; the first flight is not counted.
    pub fn count(&self) -> u64 {
        self.0.count
    }

    /// Says whether the channel has carried [`CHANNEL_MESSAGES`] and is to be replaced.
    pub fn is_spent(&self) -> bool {
        self.0.count >= CHANNEL_MESSAGES
    }

    /// Returns the channel's name, the same at both ends.
    pub fn id(&self) -> &[u8; 32] {
        &self.0.id
    }

    /// Returns the state, for the store.
    pub fn export_secret(&self) -> Zeroizing<Vec<u8>> {
        stored::write(&self.0)
    }

    /// Takes a state exported before.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn from_secret(bytes: &[u8]) -> Result<Self, StoredError> {
        Ok(Self(stored::read(bytes)?))
    }
}

/// Opens a first flight with the secrets of the bundle it names. Nothing in them changes, and the same bytes open again:
/// a channel whose [`InChannel::id`] is known already is never taken a second time.
///
/// # Errors
/// See [`ChannelError`].
pub fn open_first_flight(
    secrets: &BundleSecrets,
    org: &OrgId,
    my_device: &DeviceId,
    ct: &[u8],
) -> Result<Opened, ChannelError> {
    if !Class::ALL.iter().any(|class| class.len() == ct.len()) {
        return Err(ChannelError::Malformed);
    }
    let read = first_flight::read(secrets, org, my_device, ct)?;
    let (tag_key, rest) = read.payload.split_first_chunk::<32>().ok_or(ChannelError::Form)?;
    let (from, rest) = rest.split_first_chunk::<32>().ok_or(ChannelError::Form)?;
    let (count, rest) = rest.split_first_chunk::<8>().ok_or(ChannelError::Form)?;
    let plain = plaintext::parse(rest)?;
    let state = InState {
        id: read.secrets.hash,
        key: *read.secrets.key,
        tag_key: *tag_key,
        window: Window::default(),
    };
    Ok(Opened {
        from: (*from).into(),
        dnk: read.dnk,
        channel: InChannel(state),
        replaced_count: u64::from_be_bytes(*count),
        plain,
    })
}

impl InChannel {
    /// Opens message `n`, which its tag told. The state does not move: call [`InChannel::mark`] in the batch that
    /// makes the message durable.
    ///
    /// # Errors
    /// A number opened before or out of the window, a ciphertext that does not open, a plaintext of another form.
    pub fn open(&self, n: u64, ct: &[u8]) -> Result<Plain, ChannelError> {
        if !self.0.window.wants(n) {
            return Err(ChannelError::NotWanted { n });
        }
        let plain = ChaCha20Poly1305::new((&self.0.key).into())
            .decrypt(&nonce(n), ct)
            .map_err(|_| ChannelError::Closed)?;
        plaintext::parse(&Zeroizing::new(plain))
    }

    /// Notes that message `n` was opened: it never opens again, and the window moves. Returns whether it was waited for.
    pub fn mark(&mut self, n: u64) -> bool {
        self.0.window.mark(n)
    }

    /// Returns the numbers waited for, ascending: those passed over, the next 64, and every 32nd up to 2,048 ahead.
    pub fn wanted(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.window.wanted()
    }

    /// Returns the tag message `n` has.
    pub fn tag(&self, n: u64) -> [u8; 16] {
        window::tag(&self.0.tag_key, n)
    }

    /// Returns the tags of all numbers waited for.
    pub fn tags(&self) -> impl Iterator<Item = ([u8; 16], u64)> + '_ {
        self.wanted().map(|n| (self.tag(n), n))
    }

    /// Notes that the sender has replaced this channel after `count` messages.
    pub fn close_at(&mut self, count: u64) {
        self.0.window.close_at(count);
    }

    /// Says whether a replaced channel has brought all it will, so that its key may be forgotten.
    pub fn is_done(&self) -> bool {
        self.0.window.is_done()
    }

    /// Returns the channel's name, the same at both ends.
    pub fn id(&self) -> &[u8; 32] {
        &self.0.id
    }

    /// Returns the state, for the store.
    pub fn export_secret(&self) -> Zeroizing<Vec<u8>> {
        stored::write(&self.0)
    }

    /// Takes a state exported before.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn from_secret(bytes: &[u8]) -> Result<Self, StoredError> {
        Ok(Self(stored::read(bytes)?))
    }
}

impl fmt::Debug for OutChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutChannel(count {}, ..)", self.0.count)
    }
}

impl fmt::Debug for InChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InChannel({:?}, ..)", self.0.window)
    }
}

/// Four zeros and the number, little-endian, as Noise has it.
fn nonce(n: u64) -> Nonce {
    let mut nonce = [0; 12];
    for (to, from) in nonce.iter_mut().skip(4).zip(n.to_le_bytes()) {
        *to = from;
    }
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dh::DhSecret, noise};
    use rand::{SeedableRng, rngs::StdRng};

    /// The state after the split is ours to keep, so it must do what snow's would have done.
    #[test]
    fn transport_messages_by_raw_split_are_those_of_snow() {
        let (one, other) = (DhSecret::from_secret(&[1; 32]), DhSecret::from_secret(&[2; 32]));
        let mut rng = StdRng::seed_from_u64(1);
        let mut sender = noise::builder(noise::FIRST_FLIGHT, noise::ephemeral(&mut rng))
            .unwrap()
            .psk(0, &[3; 32])
            .unwrap()
            .local_private_key(&[1; 32])
            .unwrap()
            .remote_public_key(other.public().as_bytes())
            .unwrap()
            .build_initiator()
            .unwrap();
        let mut receiver = noise::builder(noise::FIRST_FLIGHT, None)
            .unwrap()
            .psk(0, &[3; 32])
            .unwrap()
            .local_private_key(&[2; 32])
            .unwrap()
            .build_responder()
            .unwrap();
        let message = noise::write(&mut sender, b"payload").unwrap();
        assert_eq!(noise::read(&mut receiver, &message).unwrap().as_slice(), b"payload");
        assert_eq!(receiver.get_remote_static().unwrap(), one.public().as_bytes());
        let (key, back) = sender.dangerously_get_raw_split();
        assert_eq!((key, back), receiver.dangerously_get_raw_split());

        let id = [0; 32];
        let mut ours = OutChannel(OutState { id, key, tag_key: [4; 32], count: 0 });
        let theirs = InChannel(InState { id, key, tag_key: [4; 32], window: Window::default() });
        let mut sender = sender.into_transport_mode().unwrap();
        let mut receiver = receiver.into_transport_mode().unwrap();
        for n in 0..5u64 {
            let sealed = ours.seal(&mut rng, &n.to_be_bytes()).unwrap();
            let mut plain = vec![0; sealed.ct.len()];
            let len = receiver.read_message(&sealed.ct, &mut plain).unwrap();
            assert_eq!(plaintext::parse(&plain[..len]).unwrap().inner, n.to_be_bytes());
            let mut again = vec![0; sealed.ct.len()];
            let len = sender.write_message(&plain[..len], &mut again).unwrap();
            assert_eq!(again[..len], sealed.ct);
            assert_eq!(theirs.open(n, &sealed.ct).unwrap().inner, n.to_be_bytes());
        }
        // Control: the other direction's key opens nothing.
        let wrong =
            InChannel(InState { id, key: back, tag_key: [4; 32], window: Window::default() });
        let sealed = ours.seal(&mut rng, b"").unwrap();
        assert_eq!(wrong.open(5, &sealed.ct), Err(ChannelError::Closed));
    }

    #[test]
    fn a_channel_that_has_no_number_left_seals_nothing() {
        let mut channel =
            OutChannel(OutState { id: [0; 32], key: [1; 32], tag_key: [2; 32], count: u64::MAX });
        assert_eq!(channel.seal(&mut StdRng::seed_from_u64(1), b""), Err(ChannelError::Spent));
        assert!(channel.is_spent());
        channel.0.count = CHANNEL_MESSAGES - 1;
        assert!(!channel.is_spent());
    }
}
