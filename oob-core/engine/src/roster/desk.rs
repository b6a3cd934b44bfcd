//! An organisation whose every key is at hand, for tests.

use super::{
    Organisation,
    op::{Circle, Draft, hash_of, write},
};
use oob_crypto::{
    DhSecret, EpochSecret, OlmAccount, SigningKey, device_id, member_id, org_id_of, signed::sign,
};
use oob_proto::{
    DeviceId, EpochId, Incarnation, Message, OpHash, OrgId, limits,
    signing::SignedType,
    wire::{self, op_body::Kind},
};
use rand::{SeedableRng, rngs::StdRng};
use std::collections::{BTreeMap, BTreeSet};

/// Keys of one device.
pub(super) struct Keys {
    pub(super) dsk: SigningKey,
    pub(super) dnk: DhSecret,
    pub(super) transport: SigningKey,
    pub(super) olm: [u8; 32],
}

impl Keys {
    pub(super) fn id(&self) -> DeviceId {
        device_id(&self.dsk.public())
    }
}

/// An organisation whose every key is here, so that anybody can be made to write anything.
pub(super) struct Desk {
    pub(super) rng: StdRng,
    pub(super) org: OrgId,
    pub(super) admin: SigningKey,
    pub(super) ops: Vec<wire::Op>,
    pub(super) lamport: BTreeMap<OpHash, u64>,
    pub(super) last: OpHash,
}

impl Desk {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let admin = SigningKey::generate(&mut rng);
        let founder = wire::Admin { key: admin.public().to_vec(), uik: Vec::new() };
        let body = Kind::Genesis(wire::Genesis {
            version: u32::from(limits::VERSION),
            k: 1,
            admins: vec![founder],
            salt: vec![1; 16],
        });
        let draft = Draft {
            incarnation: Incarnation(0),
            seq: 0,
            self_prev: None,
            prev: Vec::new(),
            lamport: 0,
            time_ms: 1,
            circle: Circle::All,
            body,
            author: &admin,
        };
        let genesis = write(None, draft);
        let last = hash_of(&genesis).unwrap();
        let lamport = BTreeMap::from([(last, 0)]);
        Self { rng, org: org_id_of(&last), admin, ops: vec![genesis], lamport, last }
    }

    /// Writes one operation; whether it counts is what the tests are about.
    pub(super) fn write(
        &mut self,
        author: &SigningKey,
        (life, seq): (u32, u64),
        self_prev: Option<OpHash>,
        prev: &[OpHash],
        body: Kind,
    ) -> OpHash {
        let parents = self_prev.iter().chain(prev);
        let lamport = parents.map(|hash| self.lamport[hash]).max().unwrap() + 1;
        let mut prev = prev.to_vec();
        prev.sort_unstable();
        let draft = Draft {
            incarnation: Incarnation(life),
            seq,
            self_prev,
            prev,
            lamport,
            time_ms: 1,
            circle: Circle::Core,
            body,
            author,
        };
        let op = write(Some(&self.org), draft);
        let hash = hash_of(&op).unwrap();
        self.lamport.insert(hash, lamport);
        self.ops.push(op);
        hash
    }

    /// The first operation of a new life of a key, behind the last one written so.
    pub(super) fn next(&mut self, author: &SigningKey, life: u32, body: Kind) -> OpHash {
        self.last = self.write(author, (life, 0), None, &[self.last], body);
        self.last
    }

    pub(super) fn admin(&mut self, life: u32, body: Kind) -> OpHash {
        let admin = SigningKey::from_secret(&self.admin.export_secret());
        self.next(&admin, life, body)
    }

    pub(super) fn person(&mut self, life: u32, name: &str) -> SigningKey {
        let uik = SigningKey::generate(&mut self.rng);
        let member = wire::Member { uik: uik.public().to_vec(), name: name.to_owned() };
        self.admin(life, Kind::Member(member));
        uik
    }

    pub(super) fn keys(&mut self) -> Keys {
        Keys {
            dsk: SigningKey::generate(&mut self.rng),
            dnk: DhSecret::generate(&mut self.rng),
            transport: SigningKey::generate(&mut self.rng),
            olm: OlmAccount::generate().identity(),
        }
    }

    pub(super) fn certificate(&self, uik: &SigningKey, keys: &Keys) -> Kind {
        let cert = wire::DeviceCert {
            member: member_id(&self.org, &uik.public()).to_vec(),
            dsk: keys.dsk.public().to_vec(),
            dnk: keys.dnk.public().to_vec(),
            olm_id: keys.olm.to_vec(),
            transport_key: keys.transport.public().to_vec(),
            class: 0,
            site: String::new(),
        };
        let by = [uik, &keys.dsk, &keys.transport];
        let signed = sign(SignedType::Device, &self.org, cert.encode_to_vec(), &by);
        Kind::Device(wire::Device { certificate: Some(signed) })
    }

    /// Adds a device, in a life of its person's key.
    pub(super) fn device(&mut self, uik: &SigningKey, life: u32) -> Keys {
        let keys = self.keys();
        let body = self.certificate(uik, &keys);
        self.next(uik, life, body);
        keys
    }

    pub(super) fn epoch(&mut self) -> (Kind, EpochId) {
        let id = EpochSecret::generate(&mut self.rng).id();
        let key = wire::EpochKey {
            ring: 0,
            epoch_id: id.to_vec(),
            parents: Vec::new(),
            roster_hash: Vec::new(),
        };
        (Kind::EpochKey(key), id)
    }

    /// Signs an operation as well.
    pub(super) fn endorse(&mut self, by: &SigningKey, life: u32, op: OpHash) -> OpHash {
        self.next(by, life, Kind::Endorse(wire::Endorse { op: op.to_vec() }))
    }

    pub(super) fn judged(&self) -> Organisation {
        let mut organisation = Organisation::new(self.org);
        for op in &self.ops {
            organisation.take(op.clone()).unwrap();
        }
        organisation.refresh();
        organisation
    }
}

pub(super) fn revoke(device: DeviceId, cuts: &[(u32, u64, u64)]) -> Kind {
    let cuts = cuts.iter().map(|(incarnation, ops, records)| wire::Cut {
        ranges: Vec::new(),
        incarnation: *incarnation,
        ops: *ops,
        records: *records,
    });
    Kind::DeviceRevoke(wire::DeviceRevoke { device: device.to_vec(), cuts: cuts.collect() })
}

pub(super) fn standing(organisation: &Organisation, id: &DeviceId) -> bool {
    organisation.roster().view.devices.contains_key(id)
}

pub(super) fn announced(organisation: &Organisation) -> BTreeSet<EpochId> {
    organisation.roster().epochs.keys().map(|(_, id)| *id).collect()
}
