//! What a client keeps: its keys, its mailboxes, and the ids of messages that were dealt with.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use betanet_mix::message::{MessageId, SealingKey};
use betanet_mix::view::{Address, Mailbox};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::ClientError;
use crate::clock::{now_ms, os_rng};
use crate::control::mailbox_of;
use crate::net::{Endpoint, NetFile, hex_id};
use crate::state::{StateDir, StateError, read_json, write_private};

/// Mailboxes and their link keys.
const EDGES_FILE: &str = "edges.json";
/// Ids of committed messages.
const COMMITTED_FILE: &str = "committed.log";
/// id 16 ‖ expiry 8.
const ENTRY_LEN: usize = 16 + 8;

/// How long a committed id is remembered after a restart: a message's lifetime and a margin.
const REMEMBERED_MS: u64 = 2 * 3_600_000;

/// The client's folder.
#[derive(Debug)]
pub(super) struct ClientStore {
    _state: StateDir,
    sealing: SealingKey,
    worker: SigningKey,
    edges: Vec<Attachment>,
    address: Address,
    committed: File,
    remembered: Vec<(MessageId, u64)>,
}

/// One of the client's mailboxes.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    /// The edge and where it was last seen.
    pub(super) edge: Endpoint,
    /// The key whose hash names the mailbox.
    pub(super) key: SigningKey,
}

impl Attachment {
    pub(super) fn mailbox(&self) -> Mailbox {
        Mailbox { edge: self.edge.id, mailbox: mailbox_of(self.key.verifying_key().as_bytes()) }
    }
}

#[derive(Serialize, Deserialize)]
struct EdgeEntry {
    #[serde(with = "hex_id")]
    id: NodeId,
    address: std::net::SocketAddr,
    link_secret: String,
}

impl Drop for EdgeEntry {
    fn drop(&mut self) {
        self.link_secret.zeroize();
    }
}

impl ClientStore {
    /// Opens the folder; a new one gets keys, and mailboxes at `count` edges drawn at random.
    pub(super) fn open(dir: &Path, net: &NetFile, count: usize) -> Result<Self, ClientError> {
        let state = StateDir::open(dir)?;
        let sealing = SealingKey::from_bytes(state.secret("sealing.key")?);
        let path = state.join(EDGES_FILE);
        let entries: Option<Vec<EdgeEntry>> = read_json(&path, "list of edges")?;
        let edges = if let Some(entries) = entries {
            read_entries(&path, &entries)?
        } else {
            let edges = draw(net, count)?;
            write_entries(&path, &edges)?;
            edges
        };
        let address = Address::new(edges.iter().map(Attachment::mailbox).collect(), sealing.public())
            .map_err(|_| StateError::Content { path, what: "list of edges" })?;
        let (committed, remembered) = open_committed(&state)?;
        Ok(Self {
            sealing,
            worker: state.signing_key("worker.key")?,
            edges,
            address,
            committed,
            remembered,
            _state: state,
        })
    }

    pub(super) fn address(&self) -> Address {
        self.address.clone()
    }

    pub(super) fn mailboxes(&self) -> &[Mailbox] {
        self.address.mailboxes()
    }

    pub(super) fn attachments(&self) -> Vec<Attachment> {
        self.edges.clone()
    }

    pub(super) fn worker_key(&self) -> SigningKey {
        self.worker.clone()
    }

    pub(super) fn sealing_key(&self) -> SealingKey {
        SealingKey::from_bytes(self.sealing.to_bytes().clone())
    }

    /// Ids from before this start, with their expiries.
    pub(super) fn take_remembered(&mut self) -> Vec<(MessageId, u64)> {
        std::mem::take(&mut self.remembered)
    }

    /// Writes down that a message was dealt with. In the page cache when it returns.
    pub(super) fn note_committed(&mut self, id: MessageId) -> io::Result<()> {
        let mut entry = [0; ENTRY_LEN];
        let (head, tail) = entry.split_at_mut(16);
        head.copy_from_slice(&id.0);
        tail.copy_from_slice(&now_ms().saturating_add(REMEMBERED_MS).to_be_bytes());
        self.committed.write_all(&entry)
    }
}

fn draw(net: &NetFile, count: usize) -> Result<Vec<Attachment>, ClientError> {
    let mut rng = os_rng();
    let mut candidates = net.edges.clone();
    let mut drawn = Vec::new();
    while drawn.len() < count.max(1) && !candidates.is_empty() {
        // A bias of 2^-32 in the choice of one of a few edges is nothing.
        let index = usize::try_from(rng.next_u64() % u64::try_from(candidates.len()).unwrap_or(1));
        let edge = candidates.swap_remove(index.unwrap_or(0));
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(secret.as_mut_slice());
        drawn.push(Attachment { edge, key: SigningKey::from_bytes(&secret) });
    }
    if drawn.is_empty() {
        return Err(ClientError::NoEdges);
    }
    Ok(drawn)
}

fn read_entries(path: &Path, entries: &[EdgeEntry]) -> Result<Vec<Attachment>, StateError> {
    entries
        .iter()
        .map(|entry| {
            let mut secret = Zeroizing::new([0; 32]);
            hex::decode_to_slice(&entry.link_secret, secret.as_mut_slice())
                .map_err(|_| StateError::Content { path: path.to_owned(), what: "list of edges" })?;
            Ok(Attachment {
                edge: Endpoint { id: entry.id, address: entry.address },
                key: SigningKey::from_bytes(&secret),
            })
        })
        .collect()
}

fn write_entries(path: &Path, edges: &[Attachment]) -> Result<(), StateError> {
    let entries: Vec<EdgeEntry> = edges
        .iter()
        .map(|edge| EdgeEntry {
            id: edge.edge.id,
            address: edge.edge.address,
            link_secret: hex::encode(Zeroizing::new(edge.key.to_bytes()).as_slice()),
        })
        .collect();
    let bytes = serde_json::to_vec(&entries).map_err(|err| StateError::Io {
        action: "encode",
        path: path.to_owned(),
        source: err.into(),
    })?;
    write_private(path, &Zeroizing::new(bytes))
}

type Committed = (File, Vec<(MessageId, u64)>);

/// Reads the ids that have not expired, and starts the file anew with them.
fn open_committed(state: &StateDir) -> Result<Committed, StateError> {
    let path = state.join(COMMITTED_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => {
            return Err(StateError::Io { action: "read", path, source });
        }
    };
    let now = now_ms();
    // A torn last entry belongs to a commit that never returned.
    let (entries, _) = bytes.as_chunks::<ENTRY_LEN>();
    let kept: Vec<_> = entries
        .iter()
        .filter_map(|entry| {
            let (id, expiry) = entry.split_first_chunk::<16>()?;
            let expiry = u64::from_be_bytes(expiry.try_into().ok()?);
            (expiry > now).then_some((MessageId(*id), expiry))
        })
        .collect();
    let content: Vec<u8> =
        kept.iter().flat_map(|(id, expiry)| [id.0.as_slice(), &expiry.to_be_bytes()].concat()).collect();
    write_private(&path, &content)?;
    let file = OpenOptions::new().append(true).mode(0o600).open(&path).map_err(|source| StateError::Io {
        action: "open",
        path,
        source,
    })?;
    Ok((file, kept))
}
