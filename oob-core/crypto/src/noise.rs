//! What snow builds handshakes with: its own hash and cipher, our X25519 and our randomness.
//!
//! Two reasons for our own. The random bytes are the caller's: snow gets one ephemeral key, drawn before, and nothing
//! else. And snow's X25519 goes on with the all-zero secret a key of low order gives; ours refuses it.

use crate::dh::DhSecret;
use rand_core::CryptoRng;
use snow::{
    Builder, Error, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

/// First contact: one message to somebody who is not there.
pub(crate) const FIRST_FLIGHT: &str = "Noise_Xpsk0_25519_ChaChaPoly_BLAKE2s";
/// Joining: both are there and show their keys.
pub(crate) const JOIN: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";

/// The secret of an ephemeral key, or none for a side that writes nothing.
pub(crate) type Ephemeral = Option<Zeroizing<[u8; 32]>>;

/// Draws the secret of an ephemeral key.
pub(crate) fn ephemeral(rng: &mut impl CryptoRng) -> Ephemeral {
    let mut secret = Zeroizing::new([0; 32]);
    rng.fill_bytes(secret.as_mut());
    Some(secret)
}

/// Begins a handshake of this pattern.
pub(crate) fn builder<'a>(pattern: &str, ephemeral: Ephemeral) -> Result<Builder<'a>, Error> {
    Ok(Builder::with_resolver(pattern.parse()?, Box::new(Resolver { ephemeral })))
}

/// Writes the next handshake message.
pub(crate) fn write(state: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, Error> {
    // The keys and tags of all messages of both patterns are under 128 bytes.
    let mut message = vec![0; payload.len().saturating_add(128)];
    let len = state.write_message(payload, &mut message)?;
    message.truncate(len);
    Ok(message)
}

/// Reads the next handshake message and returns its payload.
pub(crate) fn read(
    state: &mut HandshakeState,
    message: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut payload = Zeroizing::new(vec![0; message.len()]);
    let len = state.read_message(message, &mut payload)?;
    payload.truncate(len);
    Ok(payload)
}

struct Resolver {
    ephemeral: Ephemeral,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(self.ephemeral.clone())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(CheckedDh::default())),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Random bytes drawn before; given out once, so that no two keys are ever made of them.
struct Drawn(Ephemeral);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        let drawn = self.0.take().ok_or(Error::Rng)?;
        if dest.len() != drawn.len() {
            return Err(Error::Rng);
        }
        dest.copy_from_slice(drawn.as_slice());
        Ok(())
    }
}

/// X25519 that refuses to agree on nothing.
struct CheckedDh {
    secret: DhSecret,
    secret_bytes: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl CheckedDh {
    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        let secret = DhSecret::from_secret(&bytes);
        Self { public: *secret.public().as_bytes(), secret_bytes: bytes, secret }
    }
}

impl Default for CheckedDh {
    fn default() -> Self {
        Self::new(Zeroizing::new([0; 32]))
    }
}

impl Dh for CheckedDh {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        // The trait cannot say no; every caller here passes the 32 bytes of a DhSecret.
        if let Ok(bytes) = <[u8; 32]>::try_from(privkey) {
            *self = Self::new(Zeroizing::new(bytes));
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(bytes.as_mut())?;
        *self = Self::new(bytes);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret_bytes.as_slice()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let their = pubkey.first_chunk::<32>().ok_or(Error::Dh)?;
        let shared = self.secret.agree(their).ok_or(Error::Dh)?;
        out.first_chunk_mut::<32>().ok_or(Error::Dh)?.copy_from_slice(shared.as_slice());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    const PSK: [u8; 32] = [1; 32];

    /// Snow with its own X25519, as it comes.
    struct AsItComes;

    impl CryptoResolver for AsItComes {
        fn resolve_rng(&self) -> Option<Box<dyn Random>> {
            Some(Box::new(Drawn(ephemeral(&mut StdRng::seed_from_u64(1)))))
        }
        fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
            DefaultResolver.resolve_dh(choice)
        }
        fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
            DefaultResolver.resolve_hash(choice)
        }
        fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
            DefaultResolver.resolve_cipher(choice)
        }
    }

    /// An attacker's X25519: its public key is zero, and so is all it agrees on.
    struct Zero;

    impl Dh for Zero {
        fn name(&self) -> &'static str {
            "25519"
        }
        fn pub_len(&self) -> usize {
            32
        }
        fn priv_len(&self) -> usize {
            32
        }
        fn set(&mut self, _: &[u8]) {}
        fn generate(&mut self, _: &mut dyn Random) -> Result<(), Error> {
            Ok(())
        }
        fn pubkey(&self) -> &[u8] {
            &[0; 32]
        }
        fn privkey(&self) -> &[u8] {
            &[0; 32]
        }
        fn dh(&self, _: &[u8], out: &mut [u8]) -> Result<(), Error> {
            out[..32].fill(0);
            Ok(())
        }
    }

    struct AllZero;

    impl CryptoResolver for AllZero {
        fn resolve_rng(&self) -> Option<Box<dyn Random>> {
            AsItComes.resolve_rng()
        }
        fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
            Some(Box::new(Zero))
        }
        fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
            DefaultResolver.resolve_hash(choice)
        }
        fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
            DefaultResolver.resolve_cipher(choice)
        }
    }

    fn ours() -> Box<Resolver> {
        Box::new(Resolver { ephemeral: ephemeral(&mut StdRng::seed_from_u64(1)) })
    }

    /// The trap: a sender who skips the check of a bundle's key would seal to everybody.
    #[test]
    fn snow_seals_to_a_zero_prekey_and_ours_refuses() {
        let seal = |resolver: Box<dyn CryptoResolver + Send>| {
            let mut state = Builder::with_resolver(FIRST_FLIGHT.parse().unwrap(), resolver)
                .psk(0, &PSK)
                .unwrap()
                .local_private_key(&[7; 32])
                .unwrap()
                .remote_public_key(&[0; 32])
                .unwrap()
                .build_initiator()
                .unwrap();
            write(&mut state, b"to nobody")
        };
        assert!(seal(Box::new(AsItComes)).is_ok(), "snow began to refuse: drop our own X25519");
        assert_eq!(seal(ours()), Err(Error::Dh));
    }

    /// The same from the other side: a joiner whose keys are all zero.
    #[test]
    fn snow_takes_a_zero_static_key_and_ours_refuses() {
        let run = |admitter: Box<dyn CryptoResolver + Send>| {
            let mut joiner = Builder::with_resolver(JOIN.parse().unwrap(), Box::new(AllZero))
                .local_private_key(&[0; 32])
                .unwrap()
                .build_initiator()
                .unwrap();
            let mut admitter = Builder::with_resolver(JOIN.parse().unwrap(), admitter)
                .local_private_key(&[7; 32])
                .unwrap()
                .build_responder()
                .unwrap();
            read(&mut admitter, &write(&mut joiner, &[])?)?;
            read(&mut joiner, &write(&mut admitter, &[])?)?;
            read(&mut admitter, &write(&mut joiner, &[])?)?;
            Ok(admitter.get_remote_static().map(<[u8]>::to_vec))
        };
        assert_eq!(run(Box::new(AsItComes)), Ok(Some(vec![0; 32])));
        assert_eq!(run(ours()), Err(Error::Dh));
    }

    /// Every message of the published vectors, and of ours for the one pattern they lack, written and read by what is
    /// used here: snow's hash and cipher, our X25519 and randomness.
    #[test]
    fn noise_gives_the_known_answers() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../tests/fixtures/noise.json")).unwrap();
        let mut patterns = Vec::new();
        for vector in file["vectors"].as_array().unwrap() {
            let pattern = vector["protocol_name"].as_str().unwrap();
            patterns.push(pattern);
            let hex = |name: &str| -> Option<Vec<u8>> {
                let text = vector[name].as_str().or(vector[name][0].as_str())?;
                Some(data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap())
            };
            let start = |role: &str| {
                let named = |what: &str| hex(&format!("{role}_{what}"));
                let ephemeral = named("ephemeral").map(|it| Zeroizing::new(it.try_into().unwrap()));
                let (prologue, secret) = (named("prologue").unwrap(), named("static").unwrap());
                let (remote, psk) = (named("remote_static"), named("psks"));
                let mut start = builder(pattern, ephemeral).unwrap();
                start = start.prologue(&prologue).unwrap().local_private_key(&secret).unwrap();
                if let Some(remote) = &remote {
                    start = start.remote_public_key(remote).unwrap();
                }
                if let Some(psk) = &psk {
                    let psk: &[u8; 32] = psk.as_slice().try_into().unwrap();
                    start = start.psk(u8::from(pattern.contains("psk1")), psk).unwrap();
                }
                match role {
                    "init" => start.build_initiator().unwrap(),
                    _ => start.build_responder().unwrap(),
                }
            };
            let mut sides = [start("init"), start("resp")];
            let mut messages = vector["messages"].as_array().unwrap().iter().map(|message| {
                ["payload", "ciphertext"].map(|name| {
                    let text = message[name].as_str().unwrap();
                    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
                })
            });
            let mut turn = 0;
            while !sides[0].is_handshake_finished() {
                let [payload, expected] = messages.next().unwrap();
                assert_eq!(write(&mut sides[turn % 2], &payload).unwrap(), expected, "{pattern}");
                let read = read(&mut sides[(turn + 1) % 2], &expected).unwrap();
                assert_eq!(read.as_slice(), payload, "{pattern}");
                turn += 1;
            }
            let hash = hex("handshake_hash").unwrap();
            assert!(sides.iter().all(|side| side.get_handshake_hash() == hash), "{pattern}");
            let one_way = turn == 1;
            let mut sides = sides.map(|side| side.into_transport_mode().unwrap());
            for [payload, expected] in messages {
                let (from, to) = if one_way { (0, 1) } else { (turn % 2, (turn + 1) % 2) };
                let mut buffer = vec![0; expected.len()];
                let len = sides[from].write_message(&payload, &mut buffer).unwrap();
                assert_eq!(buffer[..len], expected, "{pattern}, message {turn}");
                let len = sides[to].read_message(&expected, &mut buffer).unwrap();
                assert_eq!(buffer[..len], payload, "{pattern}, message {turn}");
                turn += 1;
            }
            assert_eq!(turn, 6, "{pattern}");
        }
        assert!(patterns.contains(&FIRST_FLIGHT) && patterns.contains(&JOIN), "{patterns:?}");
    }

    #[test]
    fn an_ephemeral_key_is_drawn_once() {
        let mut drawn = Drawn(ephemeral(&mut StdRng::seed_from_u64(1)));
        let mut bytes = [0; 32];
        assert!(drawn.try_fill_bytes(&mut bytes).is_ok());
        assert_eq!(drawn.try_fill_bytes(&mut bytes), Err(Error::Rng));
        assert_eq!(Drawn(None).try_fill_bytes(&mut bytes), Err(Error::Rng));
    }

    #[test]
    fn our_x25519_and_that_of_snow_agree() {
        let mut ours = CheckedDh::default();
        let mut theirs = DefaultResolver.resolve_dh(&DHChoice::Curve25519).unwrap();
        ours.set(&[3; 32]);
        theirs.set(&[3; 32]);
        assert_eq!(ours.pubkey(), theirs.pubkey());
        let other = *DhSecret::from_secret(&[4; 32]).public().as_bytes();
        let (mut one, mut two) = ([0; 56], [0; 56]);
        ours.dh(&other, &mut one).unwrap();
        theirs.dh(&other, &mut two).unwrap();
        assert_eq!(one, two);
    }
}
