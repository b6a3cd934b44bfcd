//! What sealing and opening cost, beside the operations they cannot do without.

use super::{
    Failed,
    rounds::{Effort, Row, plain, rounds},
};
use crate::TEXT_BYTES;
use ed25519_dalek::{Signer, SigningKey as RawKey, Verifier};
use ml_kem::{
    DecapsulationKey768,
    kem::{Decapsulate, Encapsulate},
};
use oob_crypto::{
    Bundle, BundleFields, BundleSecrets, DhSecret, EpochSecret, FirstContact, OlmAccount,
    OutChannel, PairSession, SigningKey, device_id,
    envelope::{
        Claim, Cover, EnvelopeKeys, Head, Life, open_origin, seal, verify_origin, verify_origins,
    },
    open_first_flight,
};
use oob_proto::{DeviceId, Incarnation, OrgId, wire};
use rand::{SeedableRng, rngs::StdRng};

const GROUP: &str = "crypto";

/// Envelopes checked together.
const BATCH: usize = 32;

/// One who writes and one who reads.
struct Device {
    id: DeviceId,
    dnk: DhSecret,
    olm: OlmAccount,
    payload: Vec<u8>,
    secrets: BundleSecrets,
}

impl Device {
    fn new(rng: &mut StdRng) -> Self {
        let id = device_id(&SigningKey::generate(rng).public());
        let olm = OlmAccount::generate();
        let fields = BundleFields {
            device: id,
            seq: 0,
            not_after: u64::MAX,
            incarnation: Incarnation(1),
            record_seq: 2,
        };
        let (payload, secrets) = BundleSecrets::generate(rng, &olm, &fields);
        Self { id, dnk: DhSecret::generate(rng), olm, payload, secrets }
    }
}

/// Measures what sealing, opening and checking cost.
///
/// # Errors
/// Something that must open does not.
pub fn crypto(effort: Effort) -> Result<Vec<Row>, Failed> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut rows = Vec::new();
    let text = vec![b'x'; TEXT_BYTES];

    // The limits: what the parts cost by themselves.
    let raw = RawKey::from_bytes(&[7; 32]);
    let message = [9; 200];
    let sig = raw.sign(&message);
    let sign = plain(effort, || Ok(raw.sign(&message)))?;
    let verify = plain(effort, || Ok(raw.verifying_key().verify(&message, &sig)?))?;
    let decapsulation = DecapsulationKey768::from_seed([4; 64].into());
    let encapsulation = decapsulation.encapsulation_key().clone();
    let encapsulate =
        plain(effort, || Ok(encapsulation.encapsulate_with_rng(&mut StdRng::seed_from_u64(2))))?;
    let (sealed_key, _) = encapsulation.encapsulate_with_rng(&mut rng);
    let decapsulate = plain(effort, || Ok(decapsulation.decapsulate(&sealed_key)))?;
    let dh = plain(effort, || Ok(DhSecret::from_secret(&[5; 32]).public()))?;
    rows.push(Row::new(GROUP, "ml-kem-768 encapsulate", &encapsulate));
    rows.push(Row::new(GROUP, "ml-kem-768 decapsulate", &decapsulate));

    let (dana, sam) = (Device::new(&mut rng), Device::new(&mut rng));
    let org = OrgId::from([3; 32]);
    let bundle = Bundle::parse(&sam.payload)?;
    let contact = FirstContact {
        org: &org,
        my_dnk: &dana.dnk,
        my_device: &dana.id,
        to: &sam.id,
        bundle: &bundle,
    };
    let first =
        plain(effort, || Ok(OutChannel::open(&mut StdRng::seed_from_u64(3), &contact, 0, &text)?))?;
    rows.push(
        Row::new(GROUP, "seal first flight", &first)
            .beside("ml-kem-768 encapsulate", encapsulate.us(50)),
    );
    let (mut out, flight) = OutChannel::open(&mut rng, &contact, 0, &text)?;
    let opened = plain(effort, || Ok(open_first_flight(&sam.secrets, &org, &sam.id, &flight.ct)?))?;
    rows.push(
        Row::new(GROUP, "open first flight", &opened)
            .beside("ml-kem-768 decapsulate", decapsulate.us(50)),
    );
    let mut inn = open_first_flight(&sam.secrets, &org, &sam.id, &flight.ct)?.channel;

    let (mut ours, _) = session(&dana, &sam, &bundle)?;
    let encrypt = plain(effort, || Ok(ours.encrypt(&text)?))?;
    rows.push(Row::new(GROUP, "olm encrypt", &encrypt).beside("one x25519 public key", dh.us(50)));

    let (mut ours, mut theirs) = session(&dana, &sam, &bundle)?;
    let epoch = EpochSecret::generate(&mut rng);
    let (header_key, rlk) = (epoch.header_key(), SigningKey::generate(&mut rng));
    let keys = EnvelopeKeys {
        org: &org,
        epoch: epoch.id(),
        header_key: &header_key,
        device: &dana.id,
        incarnation: Incarnation(1),
        rlk_gen: 0,
        rlk: &rlk,
    };
    let mut seq = 0;
    let mut seal_text = |rng: &mut StdRng| -> Result<(u32, u64, wire::Envelope), Failed> {
        let (kind, olm) = ours.encrypt(&text)?;
        let sealed = out.seal(rng, &olm)?;
        let head = Head {
            first_flight: false,
            class: sealed.class,
            life: Life::ThreeWeeks,
            tag: sealed.tag,
            release: sealed.release,
        };
        seq += 1;
        let n = sealed.n.unwrap_or_default();
        Ok((kind, n, seal(rng, &keys, seq, &head, sealed.ct)?.0))
    };
    let mut on_the_way = Vec::new();
    let sealing = plain(effort, || {
        let sealed = seal_text(&mut rng)?;
        on_the_way.push(sealed);
        Ok(())
    })?;
    rows.push(
        Row::new(GROUP, "seal a text: olm, channel, envelope", &sealing)
            .beside("one signature and one x25519 key", sign.us(50) + dh.us(50)),
    );
    let public = rlk.public();
    let covers: Vec<Cover> = on_the_way
        .iter()
        .take(BATCH)
        .map(|(_, _, envelope)| Cover::read(envelope))
        .collect::<Result<_, _>>()?;
    let origins = covers
        .iter()
        .map(|cover| open_origin(&header_key, cover))
        .collect::<Result<Vec<_>, _>>()?;
    let claims: Vec<Claim<'_>> = origins
        .iter()
        .zip(&covers)
        .map(|(origin, cover)| Claim {
            org: &org,
            epoch: epoch.id(),
            device: &dana.id,
            rlk: &public,
            origin,
            cover,
        })
        .collect();
    let one = claims.first().ok_or("no envelope was sealed")?;
    let single = plain(effort, || Ok(verify_origin(one)?))?;
    rows.push(
        Row::new(GROUP, "check one origin", &single).beside("one verification", verify.us(50)),
    );
    let together =
        plain(effort, || verify_origins(&claims).then_some(()).ok_or("a good batch fails".into()))?;
    rows.push(
        Row::new(GROUP, "check 32 origins together", &together)
            .beside("32 verifications", verify.us(50) * BATCH as f64),
    );
    let mut on_the_way = on_the_way.into_iter();
    let opening = rounds(
        Effort { rounds: effort.rounds.min(on_the_way.len().saturating_sub(20)), ..effort },
        || on_the_way.next().ok_or_else(|| Failed::from("nothing more is on the way")),
        |(kind, n, envelope)| {
            let cover = Cover::read(&envelope)?;
            let origin = open_origin(&header_key, &cover)?;
            let claim = Claim {
                org: &org,
                epoch: epoch.id(),
                device: &dana.id,
                rlk: &public,
                origin: &origin,
                cover: &cover,
            };
            verify_origin(&claim)?;
            let plain = inn.open(n, &envelope.ct)?;
            inn.mark(n);
            Ok(theirs.decrypt(kind, &plain.inner)?)
        },
    )?;
    rows.push(
        Row::new(GROUP, "open a text: check, channel, olm", &opening)
            .beside("one verification", verify.us(50)),
    );
    Ok(rows)
}

/// A session in which both have spoken, as after the first receipt.
fn session(
    from: &Device,
    to: &Device,
    bundle: &Bundle,
) -> Result<(PairSession, PairSession), Failed> {
    let mut ours = PairSession::outbound(&from.olm, bundle)?;
    let (_, hello) = ours.encrypt(b"hello")?;
    let (mut theirs, _) = PairSession::inbound(&to.secrets, &from.olm.identity(), &hello)?;
    let (kind, back) = theirs.encrypt(b"back")?;
    ours.decrypt(kind, &back)?;
    Ok((ours, theirs))
}
