//! The newest documents that the client has seen, in a file, so that a restart does not make old ones new.

use std::path::PathBuf;
use std::sync::Mutex;

use betanet_mix::directory::Newest;
use betanet_mix::view::{Consensus, WorkerList};
use betanet_sphinx::NodeId;
use serde::{Deserialize, Serialize};

use crate::net::hex_id;
use crate::state::{StateError, read_private_json, unless_damaged, write_private};
use crate::sync::lock;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(with = "hex_id")]
    authority: NodeId,
    newest: Newest,
}

/// What was seen, and where it is written down.
#[derive(Debug)]
pub(super) struct SeenDocuments {
    /// Whose documents they are.
    authority: NodeId,
    newest: Mutex<Newest>,
    /// Who writes reads `newest` once it is his turn, so that nothing older replaces it on the disk.
    file: Mutex<PathBuf>,
}

impl SeenDocuments {
    /// Goes on with what the file says, if there is one and it is of this authority.
    pub(super) fn open(path: PathBuf, authority: NodeId) -> Result<Self, StateError> {
        let record: Option<Record> = unless_damaged(read_private_json(&path, "record of the newest documents"))?;
        let newest = record.filter(|record| record.authority == authority).map(|record| record.newest);
        Ok(Self { authority, newest: Mutex::new(newest.unwrap_or_default()), file: Mutex::new(path) })
    }

    /// Whether no newer consensus than this one was seen that is in force.
    pub(super) fn admits(&self, consensus: &Consensus, now_ms: u64) -> bool {
        lock(&self.newest).admits(consensus, now_ms)
    }

    /// Whether no newer worker list than this one was seen.
    pub(super) fn admits_workers(&self, list: &WorkerList) -> bool {
        lock(&self.newest).admits_workers(list)
    }

    /// Remembers consensuses that are used.
    pub(super) fn see<'a>(&self, consensuses: impl Iterator<Item = &'a Consensus>) {
        self.note(|newest| consensuses.fold(false, |news, consensus| newest.see(consensus) | news));
    }

    /// Remembers a worker list that is used.
    pub(super) fn see_workers(&self, list: &WorkerList) {
        self.note(|newest| newest.see_workers(list));
    }

    /// Forgets what is from the future of a clock that was set back.
    pub(super) fn forget_after(&self, now_ms: u64) {
        self.note(|newest| newest.forget_after(now_ms));
    }

    fn note(&self, change: impl FnOnce(&mut Newest) -> bool) {
        if !change(&mut lock(&self.newest)) {
            return;
        }
        let file = lock(&self.file);
        let newest = lock(&self.newest).clone();
        let record = Record { authority: self.authority, newest };
        let written = serde_json::to_vec(&record).map_err(std::io::Error::from).is_ok_and(|bytes| {
            // A full disk only makes the record older than it could be.
            write_private(&file, &bytes).is_ok()
        });
        if !written {
            tracing::debug!("newest.not_written");
        }
    }
}
