//! Packets for one node, and what it owes them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use betanet_mix::delay::VrfDelays;
use betanet_mix::epoch::{Epoch, KeyRing};
use betanet_mix::pool::Buffer;
use betanet_mix::view::DelaySeed;
use betanet_mix::vrf;
use betanet_sphinx::{
    Draft, Hop, MailboxId, NodeId, PACKET_LEN, PacketError, ReplayFilter, ReplayTag, SecretKey, USER_PAYLOAD_LEN,
    build_forward_batch, unwrap,
};
use rand_chacha::ChaCha20Rng;
use serde::Deserialize;

use crate::Failure;

/// Packets that are built at a time.
pub(super) const BATCH: usize = 64;

/// Of so many packets one is a sample.
const SAMPLED: usize = 16;

/// Where the look of a packet begins: behind version and parity.
const LOOK: usize = 2;

/// A packet for the node.
#[derive(Debug)]
pub struct Made {
    /// What is sent.
    pub packet: Buffer,
    /// What is known about it, of some.
    pub sample: Option<Sample>,
}

impl AsMut<[u8]> for Made {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.packet
    }
}

/// What the maker knows of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The first bytes of its group element behind the node.
    pub look: u64,
    /// How long the node has to hold it.
    pub owed: Duration,
}

/// By what the next hop knows a packet.
pub(crate) fn look(packet: &[u8]) -> Option<u64> {
    packet.get(LOOK..)?.first_chunk().copied().map(u64::from_be_bytes)
}

/// Lets everything pass.
struct Open;

impl ReplayFilter for Open {
    fn check_and_insert(&mut self, _: &ReplayTag) -> Result<(), PacketError> {
        Ok(())
    }
}

/// Makes packets of two hops: the node, and one of the members behind it.
pub struct Maker {
    rng: ChaCha20Rng,
    epoch: Epoch,
    node: Hop,
    secret: SecretKey,
    delays: VrfDelays,
    members: Vec<Hop>,
    payload: Vec<u8>,
    made: usize,
}

/// What is read of the node's key file.
#[derive(Deserialize)]
struct KeyFile {
    ring: String,
}

/// The node's file with the beacons of its delays.
#[derive(Deserialize)]
struct SeedsFile {
    seeds: BTreeMap<Epoch, DelaySeed>,
}

impl Maker {
    /// Looks up, in the folder of the node `id`, which secrets it has in `epoch`: whoever measures a node owns it.
    ///
    /// # Errors
    /// The files are not there yet, or hold no secrets for the epoch.
    pub fn new(rng: ChaCha20Rng, folder: &Path, id: NodeId, epoch: Epoch, members: Vec<Hop>) -> Result<Self, Failure> {
        let keys: KeyFile = serde_json::from_slice(&std::fs::read(folder.join("epochs.json"))?)?;
        let kept = KeyRing::import(&hex::decode(keys.ring)?)?;
        let secret = kept.secret(epoch).ok_or("the node has no key of this epoch")?.clone();
        let SeedsFile { seeds } = serde_json::from_slice(&std::fs::read(folder.join("delays.json"))?)?;
        let seed = seeds.get(&epoch).ok_or("the node has no delays for this epoch")?;
        let vrf_key = std::fs::read(folder.join("vrf.key"))?;
        let vrf_key = vrf::VrfSecretKey::from_seed(vrf_key.first_chunk().ok_or("the node's VRF key is too short")?);
        let (delays, _) = seed.delays(&vrf_key, epoch);
        let node = Hop { node: id, key: secret.public() };
        Ok(Self { rng, epoch, node, secret, delays, members, payload: vec![13; USER_PAYLOAD_LEN], made: 0 })
    }

    /// Builds some packets more.
    ///
    /// # Errors
    /// There is no member, or the packets could not be built.
    pub fn batch(&mut self) -> Result<Vec<Made>, Failure> {
        let nexts = self.members.iter().cycle().skip(self.made % self.members.len().max(1));
        let paths: Vec<[Hop; 2]> = nexts.take(BATCH).map(|next| [self.node, *next]).collect();
        let to = MailboxId::from([3; MailboxId::LEN]);
        let drafts: Vec<Draft<'_>> =
            paths.iter().map(|path| Draft::new(self.epoch.parity(), path, to, &self.payload)).collect();
        let blank = || Made { packet: Buffer::from(&[0; PACKET_LEN]), sample: None };
        let mut made: Vec<_> = drafts.iter().map(|_| blank()).collect();
        let outcomes = build_forward_batch(&mut self.rng, &drafts, &mut made);
        if outcomes.is_empty() {
            return Err("there is no member to send to".into());
        }
        for (made, outcome) in made.iter_mut().zip(outcomes) {
            let inputs = outcome?;
            if self.made.is_multiple_of(SAMPLED) {
                let mut behind: [u8; PACKET_LEN] = (&*made.packet).try_into()?;
                unwrap(&self.secret, &mut behind, &mut Open)?;
                let owed = self.delays.owed(inputs.first().ok_or("a packet without hops")?);
                made.sample = look(&behind).map(|look| Sample { look, owed });
            }
            self.made += 1;
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use betanet_mix::view::Beacon;
    use betanet_node::daemon::delays::Delays;
    use betanet_node::daemon::packet_keys::PacketKeys;
    use betanet_node::state::StateDir;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn the_maker_knows_what_a_node_will_make_of_a_packet() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let epoch = Epoch(100);
        let seed = DelaySeed { beacon: Beacon::genesis("test"), mean_ms: 5 };
        state.secret("vrf.key").unwrap();
        std::fs::write(state.join("delays.json"), serde_json::json!({"seeds": {"100": seed}}).to_string()).unwrap();
        let packet_keys = PacketKeys::open(&state, "boot", epoch, 1000).unwrap();
        let delays = Delays::open(&state).unwrap();

        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let next = Hop { node: NodeId::from([2; 32]), key: SecretKey::generate(&mut rng).public() };
        let mut maker = Maker::new(rng, folder.path(), NodeId::from([1; 32]), epoch, vec![next]).unwrap();
        let made = maker.batch().unwrap();
        assert_eq!((BATCH, BATCH / SAMPLED), (made.len(), made.iter().filter(|made| made.sample.is_some()).count()));

        let (_, secret) = packet_keys.accept(epoch.parity()).unwrap();
        for made in made {
            let mut packet: [u8; PACKET_LEN] = (&*made.packet).try_into().unwrap();
            let unwrapped = unwrap(&secret, &mut packet, &mut Open).unwrap();
            let owed = delays.source(epoch).unwrap().owed(&unwrapped.delay);
            let known = Sample { look: look(&packet).unwrap(), owed };
            assert_eq!(made.sample.unwrap_or(known), known);
        }
    }
}
