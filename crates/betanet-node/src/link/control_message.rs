//! Control messages to be written: bytes of their own, and documents that go over many links.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use betanet_mix::view::{Consensus, Document, Encoded, WorkerList};
use serde::Serialize;

use crate::sync::lock;

/// What the documents in a stock take together: more than two of the largest, so that whoever reads one while the next
/// is made gets to its end.
const STOCK: usize = 2 * (WorkerList::MAX_BYTES + Consensus::MAX_BYTES) + 4 * 1024 * 1024;

/// A control message. It keeps no document in memory: that is the stock's part, however many links send it.
#[derive(Debug, Default)]
pub struct ControlMessage {
    parts: Vec<Part>,
    len: usize,
}

#[derive(Debug)]
enum Part {
    Own(Vec<u8>),
    Lent(Weak<Encoded>, usize),
}

impl Part {
    const fn len(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Lent(_, len) => *len,
        }
    }
}

/// A document of the message is in no stock any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotInStock;

impl ControlMessage {
    /// A message that is nobody else's.
    ///
    /// # Errors
    /// It does not serialise.
    pub fn json(message: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(message).map(Self::from)
    }

    /// The same message with more bytes at its end.
    #[must_use]
    pub fn text(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.add(Part::Own(text.into()));
        self
    }

    /// The same message with documents at its end, with commas between them.
    #[must_use]
    pub fn documents(mut self, documents: &[Arc<Encoded>], stock: &Stock) -> Self {
        for (number, document) in documents.iter().enumerate() {
            if number > 0 {
                self.add(Part::Own(b",".to_vec()));
            }
            stock.hold(document);
            self.add(Part::Lent(Arc::downgrade(document), document.len()));
        }
        self
    }

    fn add(&mut self, part: Part) {
        self.len += part.len();
        self.parts.push(part);
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The whole message.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(Ok(()), self.copy(0, self.len, &mut out));
        out
    }

    /// Appends `most` bytes from `start` on to `out`, or as many as there are.
    pub(super) fn copy(&self, start: usize, most: usize, out: &mut Vec<u8>) -> Result<(), NotInStock> {
        let (mut skip, mut most) = (start, most);
        for part in &self.parts {
            if most == 0 {
                break;
            }
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let held;
            let bytes: &[u8] = match part {
                Part::Own(bytes) => bytes,
                Part::Lent(document, _) => {
                    held = document.upgrade().ok_or(NotInStock)?;
                    &held
                }
            };
            let rest = bytes.get(skip..).unwrap_or_default();
            let taken = rest.get(..most).unwrap_or(rest);
            out.extend_from_slice(taken);
            most -= taken.len();
            skip = 0;
        }
        Ok(())
    }
}

impl From<Vec<u8>> for ControlMessage {
    fn from(bytes: Vec<u8>) -> Self {
        Self::default().text(bytes)
    }
}

/// The documents that links are sending. With too many of them the oldest goes, and whoever has not read it by then is
/// cut off: so peers that do not read hold no memory but for the stock.
#[derive(Debug)]
pub struct Stock {
    most: usize,
    held: Mutex<VecDeque<Arc<Encoded>>>,
}

impl Default for Stock {
    fn default() -> Self {
        Self::new(STOCK)
    }
}

impl Stock {
    /// A stock for documents of `most` bytes together, and for one of any size.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, held: Mutex::default() }
    }

    fn hold(&self, document: &Arc<Encoded>) {
        let mut held = lock(&self.held);
        if held.iter().any(|one| Arc::ptr_eq(one, document)) {
            return;
        }
        held.push_back(Arc::clone(document));
        let mut bytes: usize = held.iter().map(|one| one.len()).sum();
        while bytes > self.most
            && held.len() > 1
            && let Some(oldest) = held.pop_front()
        {
            bytes -= oldest.len();
        }
    }

    /// Bytes of all documents that are held.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        lock(&self.held).iter().map(|one| one.len()).sum()
    }
}

#[cfg(test)]
mod tests;
