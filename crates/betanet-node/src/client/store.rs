//! What a client keeps: its keys, its mailboxes, and the ids of messages that were answered or dealt with.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use betanet_mix::message::{MessageId, SealingKey};
use betanet_mix::view::{Address, LinkAddress, MAX_MAILBOXES, Mailbox};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::ClientError;
use super::id_log::IdLog;
use super::seen::SeenDocuments;
use crate::clock::os_rng;
use crate::control::mailbox_of;
use crate::net::{Endpoint, NetFile, hex_id};
use crate::state::{StateDir, StateError, read_private_json, write_private};

/// Mailboxes and their link keys.
const EDGES_FILE: &str = "edges.json";
/// The newest documents that were seen.
const SEEN_FILE: &str = "seen.json";
/// Ids of committed messages.
const COMMITTED_FILE: &str = "committed.log";
/// Ids of messages that were answered, written before the answer leaves.
const ANSWERED_FILE: &str = "answered.log";

/// The client's folder.
#[derive(Debug)]
pub(super) struct ClientStore {
    state: StateDir,
    sealing: SealingKey,
    worker: SigningKey,
    edges: Vec<Attachment>,
    address: Address,
    committed: IdLog,
    remembered: Vec<(MessageId, u64)>,
    /// `None` while a batch is being written.
    answered: Option<IdLog>,
    were_answered: Vec<(MessageId, u64)>,
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
    address: LinkAddress,
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
        let entries: Option<Vec<EdgeEntry>> = read_private_json(&path, "list of edges")?;
        let edges = if let Some(entries) = entries {
            read_entries(&path, &entries)?
        } else {
            let edges = draw(net, count)?;
            write_entries(&path, &edges)?;
            edges
        };
        let address = Address::new(edges.iter().map(Attachment::mailbox).collect(), sealing.public())
            .map_err(|_| StateError::Content { path, what: "list of edges" })?;
        let (committed, remembered) = IdLog::read(state.join(COMMITTED_FILE))?;
        let (answered, were_answered) = IdLog::read(state.join(ANSWERED_FILE))?;
        Ok(Self {
            sealing,
            worker: state.signing_key("worker.key")?,
            edges,
            address,
            committed,
            remembered,
            answered: Some(answered),
            were_answered,
            state,
        })
    }

    /// The newest documents that were seen before this start.
    pub(super) fn seen_documents(&self, authority: NodeId) -> Result<SeenDocuments, StateError> {
        SeenDocuments::open(self.state.join(SEEN_FILE), authority)
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

    /// Ids of committed messages from before this start, each with its end.
    pub(super) fn take_remembered(&mut self) -> Vec<(MessageId, u64)> {
        std::mem::take(&mut self.remembered)
    }

    /// Ids of answered messages from before this start, each with its end.
    pub(super) fn take_answered(&mut self) -> Vec<(MessageId, u64)> {
        std::mem::take(&mut self.were_answered)
    }

    /// Writes down that a message was dealt with. In the page cache when it returns.
    pub(super) fn note_committed(&mut self, id: MessageId, until_ms: u64) -> io::Result<()> {
        self.committed.append(&[(id, until_ms)])
    }

    /// Writes the file of committed ids anew once less than half of it is `live`.
    pub(super) fn compact(&mut self, live: impl ExactSizeIterator<Item = (MessageId, u64)>) {
        self.committed.compact(live);
    }

    /// Lends the file of answered messages to whoever writes a batch to it; `None` while it is lent.
    ///
    /// It is written anew first once less than half of it is `live`. What was committed meanwhile is not, so its note
    /// has to be on the disk by then.
    pub(super) fn lend_answered(&mut self, live: impl ExactSizeIterator<Item = (MessageId, u64)>) -> Option<IdLog> {
        let mut log = self.answered.take()?;
        if log.is_long(live.len()) && self.committed.sync().is_ok() {
            log.compact(live);
        }
        Some(log)
    }

    /// Takes the file back.
    pub(super) fn return_answered(&mut self, log: IdLog) {
        self.answered = Some(log);
    }
}

fn draw(net: &NetFile, count: usize) -> Result<Vec<Attachment>, ClientError> {
    let mut seen = HashSet::new();
    let mut candidates: Vec<_> = net.edges.iter().filter(|edge| seen.insert(edge.id)).cloned().collect();
    let most = candidates.len().min(MAX_MAILBOXES);
    if most == 0 {
        return Err(ClientError::NoEdges);
    }
    if count == 0 || count > most {
        return Err(ClientError::BadEdges { asked: count, most });
    }
    let mut rng = os_rng();
    let mut drawn = Vec::new();
    while drawn.len() < count && !candidates.is_empty() {
        // A bias of 2^-32 in the choice of one of a few edges is nothing.
        let index = usize::try_from(rng.next_u64() % u64::try_from(candidates.len()).unwrap_or(1));
        let edge = candidates.swap_remove(index.unwrap_or(0));
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(secret.as_mut_slice());
        drawn.push(Attachment { edge, key: SigningKey::from_bytes(&secret) });
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
                edge: Endpoint { id: entry.id, address: entry.address.clone() },
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
            address: edge.edge.address.clone(),
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
