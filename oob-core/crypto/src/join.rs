//! The handshake of the join stream, Noise XX between the Noise keys of joiner and admitter, and the channel after it
//! (docs/protocol.md, section 5). Each step is a type, so none can be left out or taken twice:
//!
//! ```text
//! joiner                                     admitter
//! JoinHandshake::initiator  -- message 1 ->  JoinHandshake::responder, AwaitFirst::read
//! AwaitSecond::read         <- message 2 --
//! JoinChannel               -- message 3 ->  AwaitThird::read, JoinChannel
//! ```

use crate::{
    dh::{DhPublic, DhSecret},
    noise::{self, Ephemeral},
};
use oob_proto::OrgId;
use rand_core::CryptoRng;
use snow::{HandshakeState, TransportState};
use std::fmt;
use zeroize::Zeroizing;

/// Longest message sealed in one piece: Noise allows 65,535 bytes with its tag.
pub const JOIN_CHUNK_BYTES: usize = 65_519;
/// Bytes the AEAD adds.
const AEAD_TAG: usize = 16;

/// Why the join stream ends. The other side learns nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A handshake message that does not fit: another organisation, altered, or no handshake at all.
    #[error("the join handshake does not fit")]
    Handshake,
    /// A handshake message with something in it.
    #[error("a join handshake message carries {len} bytes, none are allowed")]
    Payload {
        /// How many bytes.
        len: usize,
    },
    /// The other side's key is none.
    #[error("the other side's key is not a key")]
    Key,
    /// Too much for one message.
    #[error("{len} bytes in one join message, at most {JOIN_CHUNK_BYTES} are allowed")]
    TooLong {
        /// How many bytes.
        len: usize,
    },
    /// A message that does not open.
    #[error("the join message does not open")]
    Closed,
}

/// Begins the handshake on either side.
#[derive(Debug)]
pub struct JoinHandshake;

/// The joiner, having sent message 1.
pub struct AwaitSecond(HandshakeState);

/// The admitter, before message 1.
pub struct AwaitFirst(HandshakeState);

/// The admitter, having sent message 2.
pub struct AwaitThird(HandshakeState);

impl JoinHandshake {
    /// Begins as the joiner; returns message 1.
    ///
    /// # Errors
    /// None that a sound key gives.
    pub fn initiator(
        rng: &mut impl CryptoRng,
        org: &OrgId,
        my_dnk: &DhSecret,
    ) -> Result<(AwaitSecond, Vec<u8>), JoinError> {
        let mut state = start(noise::ephemeral(rng), org, my_dnk, true)?;
        let message = noise::write(&mut state, &[]).map_err(|_| JoinError::Handshake)?;
        Ok((AwaitSecond(state), message))
    }

    /// Begins as the admitter.
    ///
    /// # Errors
    /// None that a sound key gives.
    pub fn responder(
        rng: &mut impl CryptoRng,
        org: &OrgId,
        my_dnk: &DhSecret,
    ) -> Result<AwaitFirst, JoinError> {
        Ok(AwaitFirst(start(noise::ephemeral(rng), org, my_dnk, false)?))
    }
}

impl AwaitFirst {
    /// Reads message 1; returns message 2.
    ///
    /// # Errors
    /// Anything but an empty first message.
    pub fn read(mut self, message: &[u8]) -> Result<(AwaitThird, Vec<u8>), JoinError> {
        read_empty(&mut self.0, message)?;
        let answer = noise::write(&mut self.0, &[]).map_err(|_| JoinError::Handshake)?;
        Ok((AwaitThird(self.0), answer))
    }
}

impl AwaitSecond {
    /// Reads message 2; returns the channel and message 3.
    ///
    /// # Errors
    /// Anything but an empty second message of the same organisation.
    pub fn read(mut self, message: &[u8]) -> Result<(JoinChannel, Vec<u8>), JoinError> {
        read_empty(&mut self.0, message)?;
        let answer = noise::write(&mut self.0, &[]).map_err(|_| JoinError::Handshake)?;
        Ok((JoinChannel::new(self.0)?, answer))
    }
}

impl AwaitThird {
    /// Reads message 3; returns the channel.
    ///
    /// # Errors
    /// Anything but an empty third message.
    pub fn read(mut self, message: &[u8]) -> Result<JoinChannel, JoinError> {
        read_empty(&mut self.0, message)?;
        JoinChannel::new(self.0)
    }
}

/// The channel after the handshake. Messages open in the order they were sealed; one that does not open ends the stream.
pub struct JoinChannel {
    state: TransportState,
    handshake_hash: [u8; 32],
    remote: DhPublic,
}

impl JoinChannel {
    fn new(state: HandshakeState) -> Result<Self, JoinError> {
        let handshake_hash =
            state.get_handshake_hash().try_into().map_err(|_| JoinError::Handshake)?;
        let remote = DhPublic::parse(state.get_remote_static().unwrap_or_default())
            .map_err(|_| JoinError::Key)?;
        let state = state.into_transport_mode().map_err(|_| JoinError::Handshake)?;
        Ok(Self { state, handshake_hash, remote })
    }

    /// Returns the hash of the whole handshake, which the join request signs.
    pub fn handshake_hash(&self) -> &[u8; 32] {
        &self.handshake_hash
    }

    /// Returns the Noise key the other side proved to hold.
    pub fn remote(&self) -> &DhPublic {
        &self.remote
    }

    /// Seals the next message.
    ///
    /// # Errors
    /// More than [`JOIN_CHUNK_BYTES`].
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, JoinError> {
        if plaintext.len() > JOIN_CHUNK_BYTES {
            return Err(JoinError::TooLong { len: plaintext.len() });
        }
        let mut message = vec![0; plaintext.len().saturating_add(AEAD_TAG)];
        let len =
            self.state.write_message(plaintext, &mut message).map_err(|_| JoinError::Closed)?;
        message.truncate(len);
        Ok(message)
    }

    /// Opens the next message.
    ///
    /// # Errors
    /// Anything but the message sealed next on the other side.
    pub fn open(&mut self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, JoinError> {
        let mut plaintext = Zeroizing::new(vec![0; message.len()]);
        let len =
            self.state.read_message(message, &mut plaintext).map_err(|_| JoinError::Closed)?;
        plaintext.truncate(len);
        Ok(plaintext)
    }
}

impl fmt::Debug for JoinChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinChannel({:?}, ..)", self.remote)
    }
}

macro_rules! hidden {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}
hidden!(AwaitFirst AwaitSecond AwaitThird);

fn start(
    ephemeral: Ephemeral,
    org: &OrgId,
    my_dnk: &DhSecret,
    initiator: bool,
) -> Result<HandshakeState, JoinError> {
    let prologue = [b"oob/1 join\0".as_slice(), org.as_bytes()].concat();
    let secret = my_dnk.export_secret();
    let build = || {
        let builder = noise::builder(noise::JOIN, ephemeral)?
            .prologue(&prologue)?
            .local_private_key(secret.as_slice())?;
        if initiator { builder.build_initiator() } else { builder.build_responder() }
    };
    build().map_err(|_| JoinError::Handshake)
}

fn read_empty(state: &mut HandshakeState, message: &[u8]) -> Result<(), JoinError> {
    let payload = noise::read(state, message).map_err(|_| JoinError::Handshake)?;
    if payload.is_empty() { Ok(()) } else { Err(JoinError::Payload { len: payload.len() }) }
}
