//! Pieces of large messages on their way to the disk, in batches beside the courier's thread: while one batch is written and
//! synced, the next one collects.

use std::io;
use std::path::{Path, PathBuf};

use betanet_mix::message::SpoolKey;
use tokio::task::JoinHandle;

use crate::client::spool::{Job, RestoredSpool, SpoolFolder, WrittenPieces};
use crate::state::StateError;

/// What waits for the disk, and the batch that is being written.
#[derive(Debug)]
pub(in crate::client) struct Spooling {
    path: PathBuf,
    /// `None` while a batch is being written, and after a writer was lost.
    folder: Option<SpoolFolder>,
    waiting: Vec<Job>,
    writing: Option<Writing>,
}

#[derive(Debug)]
struct Writing {
    task: JoinHandle<(SpoolFolder, Vec<WrittenPieces>)>,
    /// The pieces in it, should the writer be lost.
    pieces: Vec<(SpoolKey, u16)>,
}

impl Spooling {
    pub(in crate::client) fn open(path: PathBuf) -> Result<(Self, Vec<RestoredSpool>), StateError> {
        let (folder, restored) = SpoolFolder::open(&path)?;
        Ok((Self { path, folder: Some(folder), waiting: Vec::new(), writing: None }, restored))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn add(&mut self, job: Job) {
        self.waiting.push(job);
    }

    pub(super) const fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Writes all that waits as one batch, unless one is being written.
    pub(super) fn start(&mut self) {
        if self.waiting.is_empty() || self.is_writing() {
            return;
        }
        // After a lost writer the folder is opened anew. Whatever it holds, the courier knows of it.
        let opened = self.folder.take().or_else(|| Some(SpoolFolder::open(&self.path).ok()?.0));
        let Some(mut folder) = opened else { return };
        let jobs = std::mem::take(&mut self.waiting);
        let piece = |job: &Job| match job {
            Job::Piece { key, index, .. } => Some((*key, *index)),
            Job::Discard { .. } => None,
        };
        let pieces = jobs.iter().filter_map(piece).collect();
        let task = tokio::task::spawn_blocking(move || {
            let written = folder.work(jobs);
            (folder, written)
        });
        self.writing = Some(Writing { task, pieces });
    }

    /// Waits until the batch is written; for ever if there is none. Nothing is lost if the wait is given up.
    pub(super) async fn written(&mut self) -> Vec<WrittenPieces> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let ended = (&mut writing.task).await;
        let pieces = self.writing.take().map(|writing| writing.pieces).unwrap_or_default();
        match ended {
            Ok((folder, written)) => {
                self.folder = Some(folder);
                written
            }
            Err(error) => {
                let lost = |(key, index)| WrittenPieces {
                    key,
                    indexes: vec![index],
                    outcome: Err(io::Error::other(error.to_string())),
                };
                pieces.into_iter().map(lost).collect()
            }
        }
    }
}
