//! What callers and links tell the thread, and what it makes of that.

use std::collections::HashMap;
use std::time::Duration;

use betanet_mix::courier::{ReplyHandle, SendOptions};
use betanet_mix::message::{Body, MessageId};
use betanet_mix::view::Address;
use betanet_sphinx::NodeId;
use tokio::sync::{oneshot, watch};

use super::under_way::{Progress, SendFailure, UnderWay, Waiter};
use super::{Driver, answer};
use crate::client::ClientError;
use crate::client::links::LinkEvent;

/// Ids of the caller's choice whose messages are told from others.
const CONTENTS: usize = 65_536;

/// What the thread is told.
#[derive(Debug)]
pub(in crate::client) enum ClientCommand {
    /// `content` tells messages with an id of the caller's choice apart.
    Send {
        to: Address,
        body: Body,
        options: SendOptions,
        content: Option<u64>,
        progress: Option<watch::Sender<Progress>>,
        done: Waiter<MessageId>,
    },
    Request {
        to: Address,
        body: Body,
        hops: u8,
        reply_packets: u8,
        timeout: Duration,
        progress: Option<watch::Sender<Progress>>,
        done: Waiter<Vec<u8>>,
    },
    Reply {
        handle: ReplyHandle,
        body: Vec<u8>,
        done: oneshot::Sender<Result<(), ClientError>>,
    },
    Commit {
        id: MessageId,
        done: oneshot::Sender<Result<(), ClientError>>,
    },
    Ping {
        hops: u8,
        done: Waiter<Option<Duration>>,
    },
    Link(LinkEvent),
    Close {
        done: oneshot::Sender<()>,
    },
}

impl From<LinkEvent> for ClientCommand {
    fn from(event: LinkEvent) -> Self {
        Self::Link(event)
    }
}

impl Driver {
    pub(super) fn handle(&mut self, now: u64, command: ClientCommand) {
        match command {
            ClientCommand::Send { to, body, options, content, progress, done } => {
                if let Some((id, content)) = options.id.zip(content) {
                    if self.contents.get(&id).is_some_and(|known| *known != content) {
                        return answer(done, Err(SendFailure::IdUsed(id)));
                    }
                    // An earlier send with this id that nobody waits for is not in the way.
                    self.drop_abandoned();
                    self.act_on_all();
                }
                let bytes = body.len();
                match self.courier.send(now, &to, body, options) {
                    Ok(id) => {
                        self.note_content(id, content);
                        self.sends.insert(id, UnderWay { done, progress, bytes, started_ms: now });
                    }
                    Err(err) => answer(done, Err(SendFailure::Refused(err))),
                }
            }
            ClientCommand::Request { to, body, hops, reply_packets, timeout, progress, done } => {
                let bytes = body.len();
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                let options = SendOptions::hops(hops);
                let started = self.courier.request(now, &to, body, options, reply_packets, timeout_ms);
                match started {
                    Ok(id) => {
                        self.requests.insert(id, UnderWay { done, progress, bytes, started_ms: now });
                    }
                    Err(err) => answer(done, Err(SendFailure::Refused(err))),
                }
            }
            ClientCommand::Reply { handle, body, done } => match self.courier.reply(now, handle, &body) {
                Ok(()) => {
                    self.replies.insert(handle, done);
                }
                Err(err) => answer(done, Err(ClientError::Invalid(err.to_string()))),
            },
            ClientCommand::Commit { id, done } => {
                let outcome = self.commit(id);
                answer(done, outcome);
            }
            ClientCommand::Ping { hops, done } => match self.courier.ping(now, hops) {
                Ok(ping) => {
                    self.pings.insert(ping, done);
                }
                Err(err) => answer(done, Err(SendFailure::Refused(err))),
            },
            ClientCommand::Link(event) => self.happen(now, event),
            // The loop takes it before it comes here.
            ClientCommand::Close { done } => answer(done, ()),
        }
    }

    /// Remembers what an id of the caller's choice stands for, the latest of them.
    fn note_content(&mut self, id: MessageId, content: Option<u64>) {
        let Some(content) = content else { return };
        if self.contents.insert(id, content).is_none() {
            self.contents_order.push_back(id);
        }
        if self.contents_order.len() > CONTENTS
            && let Some(oldest) = self.contents_order.pop_front()
        {
            self.contents.remove(&oldest);
        }
    }

    pub(super) fn commit(&mut self, id: MessageId) -> Result<(), ClientError> {
        // First the note: if it cannot be written, the message stays uncommitted, and a crash after it
        // only brings the items again.
        if let Some(until_ms) = self.courier.uncommitted_until(id) {
            self.store.note_committed(id, until_ms).map_err(ClientError::Storage)?;
        }
        let Some(items) = self.courier.commit(id) else {
            return Err(ClientError::Invalid(format!("message {id} was never received, or has expired")));
        };
        let mut by_edge: HashMap<NodeId, Vec<u64>> = HashMap::new();
        for item in items {
            by_edge.entry(item.edge).or_default().push(item.seq);
        }
        for (edge, seqs) in by_edge {
            self.delete(edge, &seqs);
        }
        Ok(())
    }

    /// Gives up what nobody waits for any more.
    pub(super) fn drop_abandoned(&mut self) {
        let sends = self.sends.iter().filter(|(_, send)| send.done.is_closed());
        let requests = self.requests.iter().filter(|(_, request)| request.done.is_closed());
        let abandoned: Vec<MessageId> = sends.map(|(id, _)| *id).chain(requests.map(|(id, _)| *id)).collect();
        for id in abandoned {
            self.courier.cancel(id);
        }
        self.replies.retain(|_, done| !done.is_closed());
        self.pings.retain(|_, done| !done.is_closed());
    }
}
