//! A local network whose links lose frames.
//!
//! TLS delivers everything or ends, so the loss is made between two of it: each node announces the address of a relay that
//! holds its key. Who dials a node reaches its relay, and the relay dials the node under the key of who dialled. So nodes
//! and clients run unchanged, and what is lost was on a link. Control messages are not lost: they are answers to requests.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use betanet_mix::pool::Buffer;
use betanet_node::authority::{self, AuthorityRecord};
use betanet_node::client::{Client, ClientConfig};
use betanet_node::daemon::{self, NodeRecord};
use betanet_node::link::frame::{EncodedItem, Item, ItemBody};
use betanet_node::link::{Accepted, Dialer, Frame, LinkReader, LinkSender, LinkTimeouts, Listener, Received};
use betanet_node::net::{Endpoint, NET_FILE, NetFile};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::relayed::Relayed;
use crate::Failure;
use crate::child::{Child, wait_for};

/// Nodes of each role.
const ROLES: [(&str, usize); 3] = [("entry", 2), ("middle", 6), ("exit", 2)];

/// Frames that wait to be written.
const QUEUE: usize = 64;

/// A running network of ten nodes with relays before them.
#[derive(Debug)]
pub struct Lossy {
    folder: PathBuf,
    relay: Arc<Relay>,
    _nodes: Vec<Child>,
    _authority: Child,
}

/// What all relays share.
#[derive(Debug)]
struct Relay {
    /// Of a thousand frames, so many are lost.
    per_mille: u32,
    /// Of nodes and clients, by their public halves.
    keys: RwLock<HashMap<[u8; 32], SigningKey>>,
    carried: AtomicU64,
    lost: AtomicU64,
}

impl Lossy {
    /// Starts it in an empty folder; of a thousand frames on each link, `per_mille` are lost.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(betanet: &Path, folder: &Path, per_mille: u32) -> Result<Self, Failure> {
        let nodes: usize = ROLES.iter().map(|(_, number)| number).sum();
        let authority_dir = folder.join("authority");
        let expect = nodes.to_string();
        let arguments = [
            "authority",
            "run",
            "--network",
            "lossy",
            "--one-operator",
            "--die-with-parent",
            "--expect",
            &expect,
            "--dir",
        ]
        .into_iter()
        .map(OsStr::new)
        .chain([authority_dir.as_os_str()]);
        let authority = Child::start(betanet, None, &arguments.collect::<Vec<_>>(), &[])?;
        let record_file = authority_dir.join(authority::RECORD_FILE);
        let record: AuthorityRecord = wait_for("the authority", async || read(&record_file)).await?;

        let relay = Arc::new(Relay {
            per_mille,
            keys: RwLock::default(),
            carried: AtomicU64::default(),
            lost: AtomicU64::default(),
        });
        let bootstrap = folder.join(NET_FILE);
        let mut net = NetFile {
            network: record.network,
            authority: Endpoint { id: record.id, address: record.address },
            edges: Vec::new(),
            one_operator: true,
            http: BTreeMap::new(),
        };
        std::fs::write(&bootstrap, serde_json::to_vec(&net)?)?;
        let mut children = Vec::new();
        for (role, number) in ROLES {
            for number in 0..number {
                let dir = folder.join(format!("{role}-{number}"));
                let node = Relayed::start(betanet, dir.clone(), role, &bootstrap).await?;
                relay.add(&node.key);
                tokio::spawn(Arc::clone(&relay).listen(node.listener, dir, node.endpoint.id));
                children.push(node.child);
                let endpoint = node.endpoint;
                if role != "middle" {
                    net.edges.push(endpoint);
                }
            }
        }
        std::fs::write(&bootstrap, serde_json::to_vec(&net)?)?;
        Ok(Self { folder: folder.to_owned(), relay, _nodes: children, _authority: authority })
    }

    /// Makes the folder of a client, which can be opened by any process then: links of clients that were not made here
    /// come to nodes under other keys.
    ///
    /// # Errors
    /// It cannot be made, or does not reach the network.
    pub async fn client(&self, name: &str) -> Result<PathBuf, Failure> {
        let dir = self.folder.join(name);
        // The network takes a while to be there.
        let client = Client::start(&ClientConfig::new(dir.clone(), self.bootstrap())).await?;
        client.close().await;
        let file: EdgesFile = serde_json::from_slice(&std::fs::read(dir.join("edges.json"))?)?;
        for edge in file.current {
            let secret: [u8; 32] = hex::decode(edge.link_secret)?.as_slice().try_into()?;
            self.relay.add(&SigningKey::from_bytes(&secret));
        }
        Ok(dir)
    }

    /// The file by which clients find it.
    #[must_use]
    pub fn bootstrap(&self) -> PathBuf {
        self.folder.join(NET_FILE)
    }

    /// Frames with packets or items that came to the other end, and that did not.
    #[must_use]
    pub fn frames(&self) -> (u64, u64) {
        (self.relay.carried.load(Ordering::Relaxed), self.relay.lost.load(Ordering::Relaxed))
    }
}

/// What is read of a client's mailboxes.
#[derive(Deserialize)]
struct EdgesFile {
    current: Vec<EdgeEntry>,
}

#[derive(Deserialize)]
struct EdgeEntry {
    link_secret: String,
}

impl Relay {
    fn add(&self, key: &SigningKey) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.verifying_key().to_bytes(), key.clone());
    }

    /// Takes links in place of the node of a folder.
    async fn listen(self: Arc<Self>, listener: Listener, dir: PathBuf, id: betanet_sphinx::NodeId) {
        while let Ok(accepted) = listener.accept().await {
            let (relay, dir) = (Arc::clone(&self), dir.clone());
            tokio::spawn(async move { relay.join(accepted, &dir, *id.as_bytes()).await });
        }
    }

    /// Carries frames in both directions until one end is gone. Who comes before there is a node comes again.
    async fn join(&self, accepted: Accepted, dir: &Path, id: [u8; 32]) -> Option<()> {
        let (peer, back, from) = accepted.handshake(QUEUE).await.ok()?;
        let key = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
        // A newcomer that asks for the directory has a key for that alone.
        let key = key.unwrap_or_else(|| SigningKey::from_bytes(&peer));
        let record: NodeRecord = read(&dir.join(daemon::RECORD_FILE))?;
        let dialer = Dialer::new(&key, LinkTimeouts::default()).ok()?;
        let (there, answers) = dialer.dial(&record.listens.try_into().ok()?, id, QUEUE).await.ok()?;
        tokio::select! {
            () = self.carry(from, there, peer) => {}
            () = self.carry(answers, back, id) => {}
        }
        Some(())
    }

    async fn carry(&self, mut from: LinkReader, to: LinkSender, seed: [u8; 32]) {
        let mut rng = ChaCha20Rng::from_seed(seed);
        while let Ok(received) = from.next().await {
            let frames = match received {
                Received::Packets(packets) => {
                    let left = packets.iter().filter(|_| self.comes_through(&mut rng));
                    left.map(|packet| Frame::packet(Buffer::from(packet))).collect()
                }
                Received::Item(item) if self.comes_through(&mut rng) => frame_of(item).into_iter().collect(),
                Received::Item(_) => Vec::new(),
                Received::ItemAck(seqs) => Frame::item_acks(&seqs),
                Received::Message(bytes) => vec![Frame::control(bytes)],
            };
            for frame in frames {
                if to.send(frame).await.is_err() {
                    return;
                }
            }
        }
    }

    fn comes_through(&self, rng: &mut ChaCha20Rng) -> bool {
        let comes = rng.next_u32() % 1000 >= self.per_mille;
        if comes { &self.carried } else { &self.lost }.fetch_add(1, Ordering::Relaxed);
        comes
    }
}

/// The frame of an item, as whole as it came.
fn frame_of(item: Item) -> Option<Frame> {
    let encoded = match item.body {
        ItemBody::Forward(payload) => EncodedItem::bulk(&payload),
        ItemBody::Reply { surb_id, delta } => EncodedItem::reply(surb_id, &delta),
    };
    Some(Frame::item(encoded.ok()?.numbered(item.seq)))
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
