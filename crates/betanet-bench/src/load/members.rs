//! The nodes around the one that is measured: known to its network, without a mix behind them.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use betanet_mix::epoch::{Epoch, EpochClock};
use betanet_mix::view::{LinkAddress, NodeDescriptor, Role, Verified, node_id_of};
use betanet_mix::vrf;
use betanet_node::control::{ControlChannel, ControlError, Op};
use betanet_node::link::{Accepted, Dialer, Frame, LinkSender, LinkTimeouts, Listener, Packets, Received};
use betanet_node::net::Endpoint;
use betanet_sphinx::{Hop, NodeId, PublicKey, SecretKey};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use tokio::net::TcpListener;

use super::maker::{Made, look};
use crate::Failure;
use crate::histogram::Histogram;

/// Frames that wait to be written to the node.
const QUEUE: usize = 8192;

/// What came back from the node.
#[derive(Debug, Default)]
pub struct Arrivals {
    count: AtomicU64,
    samples: Mutex<Samples>,
    /// How often each packet came, by its look, where that is counted.
    times: Mutex<Option<HashMap<u64, u32>>>,
}

#[derive(Debug, Default)]
struct Samples {
    /// When a sample was sent and what it is owed, by its look.
    away: HashMap<u64, (Instant, Duration)>,
    beside_owed: Histogram,
    early: u64,
}

impl Arrivals {
    /// Packets that came.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes the samples since the last time: how long each took beside what it was owed, and how many came before that.
    pub fn samples(&self) -> (Histogram, u64) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.away.clear();
        (std::mem::take(&mut samples.beside_owed), std::mem::take(&mut samples.early))
    }

    /// From now on counts how often each packet comes.
    pub fn count_each(&self) {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner) = Some(HashMap::new());
    }

    /// Different packets that came, and those that came more than once.
    pub fn different(&self) -> (usize, usize) {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let all = times.iter().flatten();
        all.fold((0, 0), |(different, again), (_, times)| (different + 1, again + usize::from(*times > 1)))
    }

    fn leave(&self, made: &Made) {
        if let Some(sample) = made.sample {
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.away.insert(sample.look, (Instant::now(), sample.owed));
        }
    }

    fn arrive(&self, packets: Packets<'_>) {
        self.count.fetch_add(u64::try_from(packets.count()).unwrap_or(0), Ordering::Relaxed);
        if let Some(times) = &mut *self.times.lock().unwrap_or_else(PoisonError::into_inner) {
            for look in packets.iter().filter_map(|packet| look(packet)) {
                *times.entry(look).or_insert(0) += 1;
            }
        }
        let now = Instant::now();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        for (left, owed) in packets.iter().filter_map(|packet| samples.away.remove(&look(packet)?)).collect::<Vec<_>>()
        {
            match (now - left).checked_sub(owed) {
                Some(beside) => samples.beside_owed.note(beside),
                None => samples.early += 1,
            }
        }
    }
}

/// Some nodes without a mix.
#[derive(Debug)]
pub struct Members {
    all: Vec<Member>,
    links: Vec<LinkSender>,
    next: usize,
    arrivals: Arc<Arrivals>,
}

#[derive(Debug)]
struct Member {
    key: SigningKey,
    packet_key: PublicKey,
    vrf_key: vrf::VrfPublicKey,
    address: LinkAddress,
    dialer: Dialer,
}

impl Members {
    /// So many of them; each listens for links, and what comes over one is counted.
    ///
    /// # Errors
    /// The operating system has no port for them.
    pub async fn start(rng: &mut ChaCha20Rng, number: usize) -> Result<Self, Failure> {
        let arrivals = Arc::new(Arrivals::default());
        let mut members = Vec::new();
        for _ in 0..number {
            let [key, vrf_seed] = [(); 2].map(|()| {
                let mut seed = [0; 32];
                rng.fill_bytes(&mut seed);
                seed
            });
            let key = SigningKey::from_bytes(&key);
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = tcp.local_addr()?.try_into()?;
            let listener = Listener::new(tcp, &key, LinkTimeouts::default())?;
            tokio::spawn(listen(listener, Arc::clone(&arrivals)));
            members.push(Member {
                packet_key: SecretKey::generate(rng).public(),
                vrf_key: vrf::VrfSecretKey::from_seed(&vrf_seed).public(),
                address,
                dialer: Dialer::new(&key, LinkTimeouts::default())?,
                key,
            });
        }
        Ok(Self { all: members, links: Vec::new(), next: 0, arrivals })
    }

    /// What came back.
    #[must_use]
    pub fn arrivals(&self) -> Arc<Arrivals> {
        Arc::clone(&self.arrivals)
    }

    /// The members as hops.
    #[must_use]
    pub fn hops(&self) -> Vec<Hop> {
        self.all.iter().map(|member| Hop { node: node_id_of(&member.key), key: member.packet_key }).collect()
    }

    /// Tells the authority of all members.
    ///
    /// # Errors
    /// It cannot be reached or refuses.
    pub async fn publish(&self, authority: &Endpoint, clock: &EpochClock, now_ms: u64) -> Result<(), Failure> {
        for member in &self.all {
            let now = clock.epoch_at(now_ms);
            let keys: BTreeMap<Epoch, PublicKey> =
                [now, now.next()].into_iter().map(|epoch| (epoch, member.packet_key)).collect();
            let descriptor = NodeDescriptor {
                id: node_id_of(&member.key),
                role: Role::Middle,
                link_address: member.address.clone(),
                keys,
                vrf_key: member.vrf_key,
                delay_proofs: Vec::new(),
                issued_ms: now_ms,
                expires_ms: clock.start_of(now.next().next().next()),
            };
            let descriptor = Verified::sign(descriptor, &member.key)?.signed().clone();
            let dialled = member.dialer.dial(&authority.address, *authority.id.as_bytes(), 8).await;
            let (sender, reader) = dialled?;
            let published = ControlChannel::ask_over(sender, reader, async |channel| -> Result<(), ControlError> {
                channel.call(Op::PutDescriptor { descriptor, token: None }).await.map(drop)
            });
            published.await.ok_or("the authority closed the link")??;
        }
        Ok(())
    }

    /// Makes the links to the node, in place of those to a former process of it.
    ///
    /// # Errors
    /// It does not take one.
    pub async fn connect(&mut self, id: NodeId, address: &LinkAddress) -> Result<(), Failure> {
        self.links.clear();
        for member in &self.all {
            let (sender, mut reader) = member.dialer.dial(address, *id.as_bytes(), QUEUE).await?;
            // The node says nothing here, but reading notices the end.
            tokio::spawn(async move { while reader.next().await.is_ok() {} });
            self.links.push(sender);
        }
        Ok(())
    }

    /// Hands a packet to the link whose turn it is; `false` when its queue is full or the node has closed it.
    pub fn send(&mut self, made: Made) -> bool {
        self.next = (self.next + 1) % self.links.len().max(1);
        let Some(link) = self.links.get(self.next) else { return false };
        self.arrivals.leave(&made);
        link.try_send(Frame::packet(made.packet)).is_ok()
    }
}

async fn listen(listener: Listener, arrivals: Arc<Arrivals>) {
    while let Ok(accepted) = listener.accept().await {
        tokio::spawn(take(accepted, Arc::clone(&arrivals)));
    }
}

async fn take(accepted: Accepted, arrivals: Arc<Arrivals>) {
    let Ok((_, sender, mut reader)) = accepted.handshake(8).await else { return };
    while let Ok(received) = reader.next().await {
        if let Received::Packets(packets) = received {
            arrivals.arrive(packets);
        }
    }
    drop(sender);
}
