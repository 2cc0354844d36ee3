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
use crate::control::mailbox_of;
use crate::net::{Endpoint, NetFile, hex_id};
use crate::random::os_rng;
use crate::state::{StateDir, StateError, read_private_json, write_private_json};

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
    own: Own,
    address: Address,
    committed: IdLog,
    remembered: Vec<(MessageId, u64)>,
    /// `None` while a batch is being written.
    answered: Option<IdLog>,
    were_answered: Vec<(MessageId, u64)>,
}

/// One of the client's mailboxes.
#[derive(Clone, Debug)]
pub(super) struct OwnMailbox {
    /// The edge and where it was last seen.
    pub(super) edge: Endpoint,
    /// The key whose hash names the mailbox.
    pub(super) key: SigningKey,
}

impl OwnMailbox {
    pub(super) fn mailbox(&self) -> Mailbox {
        Mailbox { edge: self.edge.id, mailbox: mailbox_of(self.key.verifying_key().as_bytes()) }
    }
}

/// The client's mailboxes, those that it had before, and when edges were drawn anew.
#[derive(Clone, Debug)]
struct Own {
    current: Vec<OwnMailbox>,
    /// With the time until when each is kept, by network time.
    former: Vec<(OwnMailbox, u64)>,
    redraws: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EdgesFile {
    current: Vec<EdgeEntry>,
    former: Vec<FormerEntry>,
    redraws: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormerEntry {
    edge: EdgeEntry,
    until_ms: u64,
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
        let file: Option<EdgesFile> = read_private_json(&path, "list of edges")?;
        let own = if let Some(file) = file {
            read_own(&path, &file)?
        } else {
            let own = Own { current: draw(net, count)?, former: Vec::new(), redraws: Vec::new() };
            write_own(&path, &own)?;
            own
        };
        let address = address_of(&own, &sealing).ok_or(StateError::Content { path, what: "list of edges" })?;
        let (committed, remembered) = IdLog::read(state.join(COMMITTED_FILE))?;
        let (answered, were_answered) = IdLog::read(state.join(ANSWERED_FILE))?;
        Ok(Self {
            sealing,
            worker: state.signing_key("worker.key")?,
            own,
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

    /// Whether a folder has its mailboxes already.
    pub(super) fn is_new(dir: &Path) -> bool {
        !dir.join(EDGES_FILE).exists()
    }

    /// All mailboxes, with those of before.
    pub(super) fn own_mailboxes(&self) -> Vec<OwnMailbox> {
        self.own.current.iter().chain(self.own.former.iter().map(|(edge, _)| edge)).cloned().collect()
    }

    /// The edges of all mailboxes, with those of before.
    pub(super) fn edges(&self) -> Vec<NodeId> {
        self.own_mailboxes().iter().map(|own| own.edge.id).collect()
    }

    /// When edges were drawn anew.
    pub(super) fn redraws(&self) -> Vec<u64> {
        self.own.redraws.clone()
    }

    /// Moves the mailbox at `lost` to `edge`: the address is another one from now on. The former mailbox is kept until
    /// `until_ms`.
    ///
    /// # Errors
    /// It cannot be written down; then nothing has changed.
    pub(super) fn replace(
        &mut self,
        lost: NodeId,
        edge: Endpoint,
        until_ms: u64,
        redraws: Vec<u64>,
    ) -> Result<(), StateError> {
        let mut own = Own { redraws, ..self.own.clone() };
        let moved = OwnMailbox { edge, key: SigningKey::generate(&mut os_rng()) };
        if let Some(place) = own.current.iter_mut().find(|own| own.edge.id == lost) {
            own.former.push((std::mem::replace(place, moved), until_ms));
        }
        self.keep(own)
    }

    /// Gives up former mailboxes whose time is over; returns their edges.
    ///
    /// # Errors
    /// It cannot be written down; then nothing has changed.
    pub(super) fn expire_former(&mut self, now_ms: u64) -> Result<Vec<NodeId>, StateError> {
        let is_over = |(_, until_ms): &&(OwnMailbox, u64)| *until_ms <= now_ms;
        let over: Vec<NodeId> = self.own.former.iter().filter(is_over).map(|(former, _)| former.edge.id).collect();
        if !over.is_empty() {
            let mut own = self.own.clone();
            own.former.retain(|(_, until_ms)| *until_ms > now_ms);
            self.keep(own)?;
        }
        Ok(over)
    }

    fn keep(&mut self, own: Own) -> Result<(), StateError> {
        let path = self.state.join(EDGES_FILE);
        let address = address_of(&own, &self.sealing)
            .ok_or_else(|| StateError::Content { path: path.clone(), what: "list of edges" })?;
        write_own(&path, &own)?;
        (self.own, self.address) = (own, address);
        Ok(())
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

fn draw(net: &NetFile, count: usize) -> Result<Vec<OwnMailbox>, ClientError> {
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
        drawn.push(OwnMailbox { edge, key: SigningKey::from_bytes(&secret) });
    }
    Ok(drawn)
}

fn address_of(own: &Own, sealing: &SealingKey) -> Option<Address> {
    Address::new(own.current.iter().map(OwnMailbox::mailbox).collect(), sealing.public()).ok()
}

fn read_own(path: &Path, file: &EdgesFile) -> Result<Own, StateError> {
    let read = |entry: &EdgeEntry| {
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(&entry.link_secret, secret.as_mut_slice())
            .map_err(|_| StateError::Content { path: path.to_owned(), what: "list of edges" })?;
        Ok(OwnMailbox {
            edge: Endpoint { id: entry.id, address: entry.address.clone() },
            key: SigningKey::from_bytes(&secret),
        })
    };
    Ok(Own {
        current: file.current.iter().map(read).collect::<Result<_, StateError>>()?,
        former: file
            .former
            .iter()
            .map(|former| Ok((read(&former.edge)?, former.until_ms)))
            .collect::<Result<_, StateError>>()?,
        redraws: file.redraws.clone(),
    })
}

fn write_own(path: &Path, own: &Own) -> Result<(), StateError> {
    let entry = |own: &OwnMailbox| EdgeEntry {
        id: own.edge.id,
        address: own.edge.address.clone(),
        link_secret: hex::encode(Zeroizing::new(own.key.to_bytes()).as_slice()),
    };
    let file = EdgesFile {
        current: own.current.iter().map(entry).collect(),
        former: own
            .former
            .iter()
            .map(|(former, until_ms)| FormerEntry { edge: entry(former), until_ms: *until_ms })
            .collect(),
        redraws: own.redraws.clone(),
    };
    write_private_json(path, &file)
}
