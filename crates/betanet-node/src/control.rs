//! Control messages: what a client asks its edge, and a node its authority, beside packets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use betanet_mix::directory::{NetworkConstants, OwedProof};
use betanet_mix::view::{ConsensusHash, Encoded, Signed};
use betanet_sphinx::MailboxId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::clock::{Sample, boot_ms};
use crate::link::{ControlMessage, LinkError, LinkReader, LinkSender, Received, Stock};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests that one side may have under way on a link.
const PENDING_LIMIT: usize = 64;

/// A request with the number that its reply repeats.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the asker.
    pub id: u64,
    /// What is asked for.
    #[serde(flatten)]
    pub op: Op,
}

/// What can be asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// Client to edge: serve the mailbox of my link key on this link.
    Attach,
    /// The other side's clock.
    Time,
    /// Node to authority: the constants of the network, before there is a consensus.
    GetNetwork,
    /// The consensuses in force and ahead.
    GetConsensus {
        /// What the asker holds already.
        have: Vec<ConsensusHash>,
        /// Send later ones as they come.
        follow: bool,
    },
    /// The worker list.
    GetWorkers {
        /// The revision that the asker holds already.
        have: Option<u64>,
    },
    /// Publish a worker descriptor, signed by the worker.
    PutWorker {
        /// The descriptor.
        worker: Signed,
    },
    /// Node to authority: which delay proofs do I owe?
    GetDuties,
    /// Node to authority: publish my descriptor.
    PutDescriptor {
        /// The descriptor.
        descriptor: Signed,
        /// What lets the node in, where it was given one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Signed>,
    },
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// The answer to one request.
    Reply {
        /// The request's number.
        id: u64,
        /// The answer.
        outcome: Outcome,
    },
    /// New consensuses for a follower.
    Consensus {
        /// The documents.
        documents: Vec<Signed>,
    },
}

/// The answer to one request, as it is sent: documents that many ask for are encoded once.
#[derive(Debug)]
pub enum Given {
    /// What is the asker's alone.
    Outcome(Outcome),
    /// Consensuses that the asker did not name.
    Consensus(Vec<Arc<Encoded>>),
    /// The worker list, or nothing if the asker holds it.
    Workers(Option<Arc<Encoded>>),
}

impl From<Outcome> for Given {
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}

impl Given {
    /// The reply to request `id`; documents stay in `stock` until it is written.
    ///
    /// # Errors
    /// [`LinkError::Message`] if the outcome does not serialise.
    pub fn reply(self, id: u64, stock: &Stock) -> Result<ControlMessage, LinkError> {
        let begin = |kind: &str| {
            ControlMessage::from(format!(r#"{{"type":"reply","id":{id},"outcome":{{"outcome":{kind}"#).into_bytes())
        };
        match self {
            Self::Outcome(outcome) => {
                ControlMessage::json(&Answer::Reply { id, outcome }).map_err(|_| LinkError::Message)
            }
            Self::Consensus(documents) => {
                Ok(begin(r#""consensus","documents":["#).documents(&documents, stock).text("]}}"))
            }
            Self::Workers(None) => Ok(begin(r#""workers","list":null}}"#)),
            Self::Workers(Some(list)) => Ok(begin(r#""workers","list":"#).documents(&[list], stock).text("}}")),
        }
    }
}

/// New consensuses for a follower, as they are sent.
#[must_use]
pub fn announcement(documents: &[Arc<Encoded>], stock: &Stock) -> ControlMessage {
    ControlMessage::from(br#"{"type":"consensus","documents":["#.to_vec()).documents(documents, stock).text("]}")
}

/// The answer to one request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The mailbox is served on this link.
    Attached,
    /// Milliseconds since the Unix epoch.
    Time {
        /// The clock.
        now_ms: u64,
    },
    /// The constants of the network.
    Network(NetworkConstants),
    /// Consensuses that the asker did not name.
    Consensus {
        /// The documents.
        documents: Vec<Signed>,
    },
    /// The worker list, or nothing if the asker holds it.
    Workers {
        /// The document.
        list: Option<Signed>,
    },
    /// The proofs that the asker owes, oldest first.
    Duties {
        /// What they are of.
        owed: Vec<OwedProof>,
    },
    /// The document was taken.
    Stored,
    /// The request was not carried out.
    Refused {
        /// Why, for people: one line, as it is sent and as it is taken.
        #[serde(with = "bounded_reason")]
        reason: String,
    },
}

mod bounded_reason {
    use betanet_mix::text::one_line;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(reason: &str, out: S) -> Result<S::Ok, S::Error> {
        one_line(reason).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
        Ok(one_line(&String::deserialize(input)?))
    }
}

/// Why a request brought nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The link ended.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No answer in time.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The peer will not do it.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// The peer answered something else, or too much is under way.
    #[error("the peer gave an unexpected answer")]
    Unexpected,
}

/// The mailbox that belongs to a link key.
#[must_use]
pub fn mailbox_of(link_key: &[u8; 32]) -> MailboxId {
    let digest: [u8; 32] = Sha256::new().chain_update(b"betanet mailbox").chain_update(link_key).finalize().into();
    let (head, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
    MailboxId::from(*head)
}

/// The asking side of a link's control messages.
#[derive(Clone, Debug)]
pub struct ControlChannel {
    sender: LinkSender,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    pending: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Outcome>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ControlChannel {
    /// A channel over a link; its reader hands every message to [`ControlChannel::take`].
    #[must_use]
    pub fn new(sender: LinkSender) -> Self {
        Self { sender, shared: Arc::default() }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The link ends, the peer refuses, or it does not answer in time.
    pub async fn call(&self, op: Op) -> Result<Outcome, ControlError> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut pending = self.shared.pending();
            // Those who stopped waiting make room.
            pending.retain(|_, waiting| !waiting.is_closed());
            if pending.len() >= PENDING_LIMIT {
                return Err(ControlError::Unexpected);
            }
            pending.insert(id, sender);
        }
        self.sender.send_message(&Request { id, op }).await?;
        let answer = tokio::select! {
            answer = tokio::time::timeout(PATIENCE, receiver) => answer,
            () = self.sender.closed() => return Err(LinkError::Closed.into()),
        };
        match answer {
            Err(_) => Err(ControlError::Timeout),
            Ok(Err(_)) => Err(LinkError::Closed.into()),
            Ok(Ok(Outcome::Refused { reason })) => Err(ControlError::Refused(reason)),
            Ok(Ok(outcome)) => Ok(outcome),
        }
    }

    /// Asks what the peer's clock shows.
    ///
    /// # Errors
    /// As [`ControlChannel::call`].
    pub async fn time(&self) -> Result<Sample, ControlError> {
        let asked_ms = boot_ms();
        match self.call(Op::Time).await? {
            Outcome::Time { now_ms } => Ok(Sample::new(now_ms, asked_ms, boot_ms())),
            _ => Err(ControlError::Unexpected),
        }
    }

    /// Uses a link for a few questions and nothing else; `None` if it ends before they are answered.
    pub async fn ask_over<T>(
        sender: LinkSender,
        mut reader: LinkReader,
        questions: impl AsyncFnOnce(&Self) -> T,
    ) -> Option<T> {
        let channel = Self::new(sender);
        let read = async {
            while let Ok(Received::Message(message)) = reader.next().await {
                if channel.take(&message).is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = read => None,
            answers = questions(&channel) => Some(answers),
        }
    }

    /// Gives up the channel and waits until its link has written what is queued.
    pub async fn finish(self) {
        self.sender.finish().await;
    }

    /// Takes an arrived message; returns the documents of an announcement.
    ///
    /// # Errors
    /// The message is no answer.
    pub fn take(&self, message: &[u8]) -> Result<Vec<Signed>, LinkError> {
        match Received::message(message)? {
            Answer::Reply { id, outcome } => {
                if let Some(waiting) = self.shared.pending().remove(&id) {
                    // Whoever asked may have stopped waiting.
                    let _ = waiting.send(outcome);
                }
                Ok(Vec::new())
            }
            Answer::Consensus { documents } => Ok(documents),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use betanet_mix::text::LINE_LENGTH;

    use super::*;

    /// INV-LINK-60
    #[test]
    fn documents_that_are_shared_are_read_as_if_each_asker_had_its_own() {
        let stock = Stock::default();
        let signed = Signed { content: r#"{"a": "\"quoted\""}"#.into(), signatures: Vec::new() };
        let encoded = Arc::new(Encoded::of(&signed));
        let read = |message: ControlMessage| serde_json::from_slice::<Answer>(&message.bytes()).unwrap();
        let two = vec![Arc::clone(&encoded), Arc::clone(&encoded)];
        let announced = read(announcement(&two, &stock));
        assert!(matches!(announced, Answer::Consensus { documents } if documents == vec![signed.clone(); 2]));
        let outcome = |given: Given| match read(given.reply(7, &stock).unwrap()) {
            Answer::Reply { id: 7, outcome } => outcome,
            other => panic!("it is another answer: {other:?}"),
        };
        let consensus = outcome(Given::Consensus(two));
        assert!(matches!(consensus, Outcome::Consensus { documents } if documents == vec![signed.clone(); 2]));
        let list = outcome(Given::Workers(Some(Arc::clone(&encoded))));
        assert!(matches!(list, Outcome::Workers { list: Some(list) } if list == signed));
        assert!(matches!(outcome(Given::Workers(None)), Outcome::Workers { list: None }));
        assert!(
            matches!(outcome(Given::Consensus(Vec::new())), Outcome::Consensus { documents } if documents.is_empty())
        );
        assert!(matches!(outcome(Outcome::Stored.into()), Outcome::Stored));
        assert_eq!(encoded.len(), stock.bytes());
    }

    #[test]
    fn a_reason_is_one_bounded_line_for_who_sends_and_for_who_takes_it() {
        let words = format!("two lines\n\u{1b}[2J{}", "x".repeat(1_000_000));
        let outcome = Outcome::Refused { reason: words.clone() };
        let sent = serde_json::to_string(&Answer::Reply { id: 7, outcome }).unwrap();
        assert!(sent.len() < 2 * LINE_LENGTH, "{} bytes are sent", sent.len());

        let foreign = serde_json::json!({"type": "reply", "id": 7, "outcome": {"outcome": "refused", "reason": words}});
        for text in [sent, foreign.to_string()] {
            let Answer::Reply { outcome: Outcome::Refused { reason }, .. } = serde_json::from_str(&text).unwrap()
            else {
                panic!("it is another answer");
            };
            assert_eq!(LINE_LENGTH, reason.chars().count());
            assert!(reason.starts_with("two lines  [2Jxxx") && reason.ends_with("x…"), "{reason}");
        }
    }
}
