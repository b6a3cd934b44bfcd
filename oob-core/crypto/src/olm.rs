//! The ratchet of a pair of devices: Olm, session config version 2 (docs/protocol.md, section 9).
//!
//! Messages are opened strictly in their order, held back on disk if need be: then thousands of them open without an
//! answer in between. Out of order vodozemac keeps 40 keys, refuses gaps over 2,000, and never opens a message five
//! turns of the ratchet old.

use crate::{
    bundle::{Bundle, BundleSecrets, OlmAccount},
    kdf::sha256_of,
    stored::{self, StoredError},
};
use std::fmt;
use vodozemac::{
    Curve25519PublicKey,
    olm::{OlmMessage, PreKeyMessage, Session, SessionConfig, SessionKeys, SessionPickle},
};
use zeroize::Zeroizing;

/// The type of a message that can begin a session.
pub const OLM_PREKEY: u32 = 0;
/// The type of a message within a session that was answered.
pub const OLM_NORMAL: u32 = 1;

/// Why an Olm message could not be sealed or opened. What vodozemac says beyond that stays with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OlmError {
    /// Not an Olm message of this type.
    #[error("not an olm message of type {olm_type}")]
    Malformed {
        /// The type it should be of.
        olm_type: u32,
    },
    /// By another identity than the certificate names.
    #[error("the olm message is by another identity")]
    Identity,
    /// To another fallback key than this bundle's.
    #[error("the olm message is to another bundle")]
    OtherBundle,
    /// It belongs to another session.
    #[error("the olm message belongs to another session")]
    OtherSession,
    /// It does not open: opened before, out of reach, or altered.
    #[error("the olm message does not open")]
    Closed,
    /// A key in it agrees on nothing.
    #[error("an olm key agrees on nothing")]
    Key,
}

/// What a message that can begin a session says in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prekey {
    /// The session it begins, or began: a known session never begins again.
    pub session: [u8; 32],
    /// The sender's Olm identity.
    pub identity: [u8; 32],
    /// The sender's one-time key; remembered beside the sender until the fallback key dies.
    pub base_key: [u8; 32],
    /// The fallback key it is to.
    pub fallback: [u8; 32],
}

impl Prekey {
    /// Reads the clear part of a message of type [`OLM_PREKEY`].
    ///
    /// # Errors
    /// [`OlmError::Malformed`].
    pub fn read(message: &[u8]) -> Result<Self, OlmError> {
        Ok(Self::of(&decode_prekey(message)?.session_keys()))
    }

    fn of(keys: &SessionKeys) -> Self {
        Self {
            session: session_id(keys),
            identity: keys.identity_key.to_bytes(),
            base_key: keys.base_key.to_bytes(),
            fallback: keys.one_time_key.to_bytes(),
        }
    }
}

/// One end of a ratchet.
pub struct PairSession(Session);

impl PairSession {
    /// Begins a session with the device whose bundle this is. The randomness is the operating system's: vodozemac takes
    /// no other.
    ///
    /// # Errors
    /// [`OlmError::Key`], which a parsed bundle does not give.
    pub fn outbound(account: &OlmAccount, bundle: &Bundle) -> Result<Self, OlmError> {
        account
            .account()
            .create_outbound_session(
                SessionConfig::version_2(),
                Curve25519PublicKey::from(*bundle.olm_id()),
                Curve25519PublicKey::from(*bundle.olm_fallback()),
            )
            .map(Self)
            .map_err(|_| OlmError::Key)
    }

    /// Begins the other end with the first message, and opens that. Nothing in the secrets changes, and the same bytes
    /// begin a session again: ask [`Prekey::read`] first whether the session is known.
    ///
    /// # Errors
    /// By another identity than `identity`, to another bundle, or one that does not open.
    pub fn inbound(
        secrets: &BundleSecrets,
        identity: &[u8; 32],
        message: &[u8],
    ) -> Result<(Self, Zeroizing<Vec<u8>>), OlmError> {
        let message = decode_prekey(message)?;
        if message.identity_key().to_bytes() != *identity {
            return Err(OlmError::Identity);
        }
        let mut account = secrets.account().copy();
        if !account.account().fallback_key().values().any(|key| *key == message.one_time_key()) {
            return Err(OlmError::OtherBundle);
        }
        let created = account
            .account_mut()
            .create_inbound_session(
                SessionConfig::version_2(),
                Curve25519PublicKey::from(*identity),
                &message,
            )
            .map_err(|_| OlmError::Closed)?;
        Ok((Self(created.session), Zeroizing::new(created.plaintext)))
    }

    /// Seals a message; returns its type and its bytes. The advanced state must be durable before they are sent.
    ///
    /// # Errors
    /// [`OlmError::Key`] when the other side's newest key agrees on nothing.
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Result<(u32, Vec<u8>), OlmError> {
        match self.0.encrypt(plaintext).map_err(|_| OlmError::Key)? {
            OlmMessage::PreKey(message) => Ok((OLM_PREKEY, message.to_bytes())),
            OlmMessage::Normal(message) => Ok((OLM_NORMAL, message.to_bytes())),
        }
    }

    /// Seals a message for somebody who has opened one of this session: without the keys that begin it, which are 110
    /// bytes of every message until an answer comes. The type is always [`OLM_NORMAL`].
    ///
    /// # Errors
    /// As [`PairSession::encrypt`].
    pub fn encrypt_begun(&mut self, plaintext: &[u8]) -> Result<(u32, Vec<u8>), OlmError> {
        let bytes = match self.0.encrypt(plaintext).map_err(|_| OlmError::Key)? {
            OlmMessage::PreKey(message) => message.message().to_bytes(),
            OlmMessage::Normal(message) => message.to_bytes(),
        };
        Ok((OLM_NORMAL, bytes))
    }

    /// Opens a message. One that does not open leaves the state as it was.
    ///
    /// # Errors
    /// Not a message of this type, of another session, or one that does not open.
    pub fn decrypt(
        &mut self,
        olm_type: u32,
        message: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OlmError> {
        let malformed = OlmError::Malformed { olm_type };
        let kind = usize::try_from(olm_type).map_err(|_| malformed)?;
        let bytes = message;
        let message = OlmMessage::from_parts(kind, bytes).map_err(|_| malformed)?;
        // vodozemac passes over fields it does not know, outside what the MAC covers.
        if message.to_parts().1 != bytes {
            return Err(malformed);
        }
        if let OlmMessage::PreKey(message) = &message
            && session_id(&message.session_keys()) != self.id()
        {
            return Err(OlmError::OtherSession);
        }
        self.0.decrypt(&message).map(Zeroizing::new).map_err(|_| OlmError::Closed)
    }

    /// Returns the session's name, the same at both ends.
    pub fn id(&self) -> [u8; 32] {
        session_id(&self.0.session_keys())
    }

    /// Says whether the other side has answered; until then every message can begin the session.
    pub fn is_answered(&self) -> bool {
        self.0.has_received_message()
    }

    /// Returns the state, for the store.
    pub fn export_secret(&self) -> Zeroizing<Vec<u8>> {
        stored::write_pickle(&self.0.pickle())
    }

    /// Takes a state exported before.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn from_secret(bytes: &[u8]) -> Result<Self, StoredError> {
        Ok(Self(Session::from_pickle(stored::read_pickle::<SessionPickle>(bytes)?)))
    }
}

impl fmt::Debug for PairSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairSession(..)")
    }
}

/// Reads a message in its one encoding.
fn decode_prekey(bytes: &[u8]) -> Result<PreKeyMessage, OlmError> {
    PreKeyMessage::from_bytes(bytes)
        .ok()
        .filter(|message| message.to_bytes() == bytes)
        .ok_or(OlmError::Malformed { olm_type: OLM_PREKEY })
}

/// The 32 bytes vodozemac writes in base64.
fn session_id(keys: &SessionKeys) -> [u8; 32] {
    sha256_of(&[
        keys.identity_key.as_bytes(),
        keys.base_key.as_bytes(),
        keys.one_time_key.as_bytes(),
    ])
}
