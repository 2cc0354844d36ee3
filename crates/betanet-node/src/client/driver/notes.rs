//! What has to be on the disk before an answer leaves, written in batches beside the courier's thread.
//!
//! A sync takes longer than building a packet, so nobody waits for it but the answers themselves: while one batch is
//! written, the next one collects.

use std::io;

use betanet_mix::courier::ReplyHandle;
use betanet_mix::message::MessageId;
use tokio::task::JoinHandle;

use crate::client::id_log::IdLog;

/// Answers that wait for their note, and the batch that is being written.
#[derive(Debug, Default)]
pub(super) struct Notes {
    waiting: Vec<(ReplyHandle, MessageId, u64)>,
    writing: Option<Writing>,
}

#[derive(Debug)]
struct Writing {
    task: JoinHandle<(IdLog, io::Result<()>)>,
    handles: Vec<ReplyHandle>,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) struct WrittenNotes {
    /// The file; lost with a writer that panicked.
    pub(super) log: Option<IdLog>,
    /// The answers.
    pub(super) handles: Vec<ReplyHandle>,
    /// Whether their notes are on the disk.
    pub(super) outcome: io::Result<()>,
}

impl Notes {
    pub(super) fn add(&mut self, handle: ReplyHandle, id: MessageId, until_ms: u64) {
        self.waiting.push((handle, id, until_ms));
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) const fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Writes all that waits as one batch.
    pub(super) fn write(&mut self, mut log: IdLog) {
        let batch = std::mem::take(&mut self.waiting);
        let handles = batch.iter().map(|(handle, ..)| *handle).collect();
        let task = tokio::task::spawn_blocking(move || {
            let ids: Vec<_> = batch.into_iter().map(|(_, id, until_ms)| (id, until_ms)).collect();
            let outcome = log.append(&ids).and_then(|()| log.sync());
            (log, outcome)
        });
        self.writing = Some(Writing { task, handles });
    }

    /// Fails what waits, because there is no file to write to.
    pub(super) fn give_up(&mut self) -> WrittenNotes {
        let handles = self.waiting.drain(..).map(|(handle, ..)| handle).collect();
        WrittenNotes { log: None, handles, outcome: Err(io::Error::other("its file was lost; open the client again")) }
    }

    /// Waits until the batch is written; for ever if there is none. Nothing is lost if the wait is given up.
    pub(super) async fn written(&mut self) -> WrittenNotes {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let ended = (&mut writing.task).await;
        let handles = self.writing.take().map(|writing| writing.handles).unwrap_or_default();
        match ended {
            Ok((log, outcome)) => WrittenNotes { log: Some(log), handles, outcome },
            Err(error) => WrittenNotes { log: None, handles, outcome: Err(io::Error::other(error)) },
        }
    }
}

/// The same error for each answer of a batch.
pub(super) fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}
