//! A mix node in memory: keys, replay caches, delays and, at edges, mailboxes.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use betanet_mix::delay::{DelaySource, Exponential};
use betanet_mix::directory::OwedProof;
use betanet_mix::epoch::{Epoch, EpochClock, KeyRing};
use betanet_mix::replay::ReplayCache;
use betanet_mix::view::{DelayProof, LinkAddress, NodeDescriptor, Role, Verified, node_id_of};
use betanet_mix::vrf;
use betanet_sphinx::{Action, MailboxId, NodeId, PacketError, SurbId, Unwrapped, parity_of, unwrap};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::client::ClientIndex;

const REPLAY_CAPACITY: usize = 10_000_000;

/// What lies in a mailbox.
#[derive(Clone, Debug)]
pub(crate) enum StoredItem {
    Forward(Vec<u8>),
    Reply { surb_id: SurbId, delta: Vec<u8> },
}

#[derive(Debug, Default)]
pub(crate) struct MailboxStore {
    next_seq: u64,
    pub(crate) items: BTreeMap<u64, StoredItem>,
    pub(crate) owner: Option<ClientIndex>,
}

impl MailboxStore {
    pub(crate) fn of(owner: ClientIndex) -> Self {
        Self { owner: Some(owner), ..Self::default() }
    }

    pub(crate) fn store(&mut self, item: StoredItem) -> u64 {
        self.next_seq += 1;
        self.items.insert(self.next_seq, item);
        self.next_seq
    }
}

#[derive(Debug)]
pub(crate) struct MemoryNode {
    pub(crate) id: NodeId,
    pub(crate) role: Role,
    pub(crate) up: bool,
    pub(crate) mailboxes: HashMap<MailboxId, MailboxStore>,
    key: SigningKey,
    address: LinkAddress,
    keys: KeyRing,
    caches: BTreeMap<Epoch, ReplayCache>,
    delays: Exponential<ChaCha20Rng>,
    rng: ChaCha20Rng,
}

impl MemoryNode {
    pub(crate) fn new(rng: &mut ChaCha20Rng, number: u8, role: Role, epoch: Epoch, mean: Duration) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let key = SigningKey::from_bytes(&seed);
        let id = node_id_of(&key);
        let mut own = ChaCha20Rng::from_seed(seed);
        let mut keys = KeyRing::new(&mut own, epoch.previous());
        keys.rotate(&mut own, epoch);
        let delays = Exponential::new(mean, ChaCha20Rng::seed_from_u64(rng.next_u64()));
        let address = format!("10.{number}.0.1:9000").parse().expect("an address and a port");
        let mailboxes = HashMap::new();
        Self { id, role, up: true, mailboxes, key, address, keys, caches: BTreeMap::new(), delays, rng: own }
    }

    pub(crate) fn rotate(&mut self, epoch: Epoch) {
        for erased in self.keys.rotate(&mut self.rng, epoch) {
            self.caches.remove(&erased);
        }
    }

    /// What it publishes, with the delay proofs that it owes and may tell.
    pub(crate) fn descriptor(&self, owed: &[OwedProof], clock: &EpochClock, now_ms: u64) -> Verified<NodeDescriptor> {
        let vrf_key = vrf::VrfSecretKey::from_seed(self.id.as_bytes());
        let due = owed.iter().filter(|owed| owed.seed.reveal_ms(owed.epoch, clock) <= now_ms);
        let proofs = due.map(|owed| DelayProof::make(&vrf_key, owed.epoch, &owed.seed.beacon).1);
        let descriptor = NodeDescriptor {
            id: self.id,
            role: self.role,
            link_address: self.address.clone(),
            keys: self.keys.public_keys(),
            vrf_key: vrf_key.public(),
            delay_proofs: proofs.take(NodeDescriptor::MAX_PROOFS).collect(),
            issued_ms: now_ms,
            expires_ms: now_ms + 2 * clock.length_ms(),
        };
        Verified::sign(descriptor, &self.key).expect("its fields are as they must be")
    }

    /// Unwraps a packet as a real node does: key by parity, replay cache of that key's epoch.
    pub(crate) fn unwrap(&mut self, packet: &mut [u8]) -> Result<(Action, Duration), PacketError> {
        let parity = parity_of(packet)?;
        let (epoch, secret) = self.keys.accept(parity).ok_or(PacketError::NoKey)?;
        let cache = self.caches.entry(epoch).or_insert_with(|| ReplayCache::volatile(&mut self.rng, REPLAY_CAPACITY));
        let Unwrapped { action, delay, .. } = unwrap(secret, packet, cache)?;
        Ok((action, self.delays.delay(&delay)))
    }
}
