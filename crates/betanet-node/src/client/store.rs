//! What a client keeps: its keys, its mailboxes, and the ids of messages that were dealt with.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use betanet_mix::message::{MessageId, SealingKey};
use betanet_mix::view::{Address, Mailbox};
use betanet_sphinx::NodeId;
use ed25519_dalek::SigningKey;
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::ClientError;
use crate::bounded::{FILE_LIMIT, read_regular};
use crate::clock::os_rng;
use crate::control::mailbox_of;
use crate::net::{Endpoint, NetFile, hex_id};
use crate::state::{NEVER_WAIT, StateDir, StateError, read_private_json, write_private};

/// Mailboxes and their link keys.
const EDGES_FILE: &str = "edges.json";
/// Ids of committed messages.
const COMMITTED_FILE: &str = "committed.log";
/// id 16 ‖ expiry 8.
const ENTRY_LEN: usize = 16 + 8;

/// Entries that the file may have however few of them count.
const MIN_ENTRIES: usize = 4096;

/// The client's folder.
#[derive(Debug)]
pub(super) struct ClientStore {
    _state: StateDir,
    sealing: SealingKey,
    worker: SigningKey,
    edges: Vec<Attachment>,
    address: Address,
    committed: CommitLog,
    remembered: Vec<(MessageId, u64)>,
}

/// The file of committed ids. Grows by one entry for each, and is written anew when most of it counts no more.
#[derive(Debug)]
struct CommitLog {
    path: PathBuf,
    /// The open file and its entries; `None` when the path has got another file.
    open: Option<(File, usize)>,
    /// No attempt to write it anew before it has so many entries.
    compact_at: usize,
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
        let (committed, remembered) = CommitLog::read(state.join(COMMITTED_FILE))?;
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
    pub(super) fn note_committed(&mut self, id: MessageId, expiry_ms: u64) -> io::Result<()> {
        self.committed.append(id, expiry_ms)
    }

    /// Writes the file of committed ids anew once less than half of it is `live`.
    pub(super) fn compact(&mut self, live: impl ExactSizeIterator<Item = (MessageId, u64)>) {
        self.committed.compact(live);
    }
}

impl CommitLog {
    /// Reads the ids, oldest first. Those that have expired are the courier's to forget.
    fn read(path: PathBuf) -> Result<(Self, Vec<(MessageId, u64)>), StateError> {
        let read = || {
            let mut file = open_log(&path)?;
            let bytes = read_regular(&mut file, FILE_LIMIT)?;
            Ok((file, bytes))
        };
        let failed = |source| StateError::Io { action: "read", path: path.clone(), source };
        let (file, bytes) = read().map_err(failed)?;
        // A torn last entry belongs to a commit that never returned; the next one takes its place.
        let (entries, _) = bytes.as_chunks::<ENTRY_LEN>();
        let parse = |entry: &[u8; ENTRY_LEN]| {
            let (id, expiry) = entry.split_first_chunk::<16>()?;
            Some((MessageId(*id), u64::from_be_bytes(expiry.try_into().ok()?)))
        };
        let ids = entries.iter().filter_map(parse).collect();
        Ok((Self { open: Some((file, entries.len())), compact_at: MIN_ENTRIES, path }, ids))
    }

    fn append(&mut self, id: MessageId, expiry_ms: u64) -> io::Result<()> {
        let (file, entries) = match &mut self.open {
            Some(open) => open,
            none => {
                let file = open_log(&self.path)?;
                let entries = usize::try_from(file.metadata()?.len()).unwrap_or(0) / ENTRY_LEN;
                none.insert((file, entries))
            }
        };
        // Written at its place: what a failed write left behind is overwritten by the next.
        let place = u64::try_from(*entries * ENTRY_LEN).unwrap_or(u64::MAX);
        file.write_all_at(&encode_entry(id, expiry_ms), place)?;
        *entries += 1;
        Ok(())
    }

    fn compact(&mut self, live: impl ExactSizeIterator<Item = (MessageId, u64)>) {
        let entries = self.open.as_ref().map_or(0, |(_, entries)| *entries);
        if entries < self.compact_at.max(2 * live.len()) {
            return;
        }
        let content: Vec<u8> = live.flat_map(|(id, expiry_ms)| encode_entry(id, expiry_ms)).collect();
        self.open = None;
        let written = write_private(&self.path, &content);
        // Should it fail, the long file goes on growing for a while.
        self.compact_at = if written.is_ok() { MIN_ENTRIES } else { 2 * entries };
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(NEVER_WAIT)
        .open(path)
}

fn encode_entry(id: MessageId, expiry_ms: u64) -> [u8; ENTRY_LEN] {
    let mut entry = [0; ENTRY_LEN];
    let (head, tail) = entry.split_at_mut(16);
    head.copy_from_slice(&id.0);
    tail.copy_from_slice(&expiry_ms.to_be_bytes());
    entry
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn id(number: usize) -> (MessageId, u64) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        (MessageId(id), u64::try_from(number).unwrap())
    }

    /// INV-MSG-04
    #[test]
    fn committed_ids_survive_restarts_and_torn_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, before) = CommitLog::read(path.clone()).unwrap();
        assert_eq!(before, []);
        log.append(id(1).0, 1).unwrap();
        log.append(id(2).0, 2).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(u64::try_from(2 * ENTRY_LEN - 1).unwrap()).unwrap();
        let (mut log, before) = CommitLog::read(path.clone()).unwrap();
        assert_eq!(before, [id(1)]);
        log.append(id(3).0, 3).unwrap();
        assert_eq!(CommitLog::read(path).unwrap().1, [id(1), id(3)]);
    }

    #[test]
    fn the_file_shrinks_to_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, _) = CommitLog::read(path.clone()).unwrap();
        for number in 0..MIN_ENTRIES {
            log.compact([id(7)].into_iter());
            log.append(id(number).0, 0).unwrap();
        }
        assert_eq!(CommitLog::read(path.clone()).unwrap().1.len(), MIN_ENTRIES);
        log.compact((0..MIN_ENTRIES).map(id));
        assert_eq!(CommitLog::read(path.clone()).unwrap().1.len(), MIN_ENTRIES, "everything counts");
        log.compact([id(7), id(8)].into_iter());
        log.append(id(9).0, 9).unwrap();
        assert_eq!(CommitLog::read(path).unwrap().1, [id(7), id(8), id(9)]);
    }
}
