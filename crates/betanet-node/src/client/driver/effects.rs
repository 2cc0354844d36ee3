//! What the courier wants done, carried out.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use betanet_mix::courier::{Delivery, Effect};
use betanet_mix::message::{MAX_HEAD_LEN, SpoolKey};

use super::{Driver, SendFailure, UnderWay, answer};
use crate::client::Incoming;
use crate::client::ReceivedBody;
use crate::client::spool::{Job, open_stream};
use crate::control::Op;
use crate::link::Frame;

impl Driver {
    pub(super) fn act_on_all(&mut self) {
        while let Some(effect) = self.courier.next_effect() {
            self.act(effect);
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Inject { edge, packet } => {
                let frame = Frame::packet(packet);
                if let Some(own) = self.own.get(&edge) {
                    // Lost like any packet that the network loses.
                    let _ = own.link.try_send(frame);
                } else if let Some(runtime) = &self.runtime {
                    self.links.inject(runtime, edge, frame);
                }
            }
            Effect::Delete { edge, seqs } => self.delete(edge, &seqs),
            Effect::Deliver { message } => {
                let Delivery { id, body, hops, reply, reply_capacity } = message;
                let body = ReceivedBody::Bytes(body);
                self.backlog.push_back(Incoming { id, body, hops, reply, reply_capacity });
            }
            Effect::SpoolPiece { key, head, index, data } => {
                self.spooling.add(Job::Piece { key, head, index, data });
            }
            Effect::OpenSpool { key, stream_len } => self.open_spool(key, stream_len),
            Effect::DeliverSpool { message, key, body } => match open_stream(self.spooling.path(), key) {
                Ok(file) => {
                    let Delivery { id, hops, reply, reply_capacity, .. } = message;
                    let body = ReceivedBody::File { file: Arc::new(file), range: body };
                    self.backlog.push_back(Incoming { id, body, hops, reply, reply_capacity });
                }
                // The id counts as delivered until the next start, which finds the message or has it sent again.
                Err(error) => self.complain_of_disk(&error),
            },
            Effect::DiscardSpool { key } => self.spooling.add(Job::Discard { key }),
            Effect::Progress { id, done, total } => {
                if let Some(send) = self.sends.get(&id) {
                    send.tell(self.clocks.now(), done, total);
                } else if let Some(request) = self.requests.get(&id) {
                    request.tell(self.clocks.now(), done, total);
                }
            }
            Effect::Sent { id } => {
                if let Some(UnderWay { done, .. }) = self.sends.remove(&id) {
                    answer(done, Ok(id));
                } else if let Some(request) = self.requests.get(&id) {
                    request.tell(self.clocks.now(), 1, 1);
                }
            }
            Effect::Failed { id, reason } => {
                if let Some(UnderWay { done, .. }) = self.sends.remove(&id) {
                    answer(done, Err(SendFailure::Failed(reason)));
                } else if let Some(UnderWay { done, .. }) = self.requests.remove(&id) {
                    answer(done, Err(SendFailure::Failed(reason)));
                }
            }
            Effect::ReplyComplete { id, body } => {
                if let Some(UnderWay { done, .. }) = self.requests.remove(&id) {
                    answer(done, Ok(body));
                }
            }
            Effect::NoteAnswer { handle, id, until_ms } => self.notes.add(handle, id, until_ms),
            Effect::ReplySent { handle } => {
                if let Some(done) = self.replies.remove(&handle) {
                    answer(done, Ok(()));
                }
            }
            Effect::Pong { ping, rtt_ms } => {
                if let Some(done) = self.pings.remove(&ping) {
                    answer(done, Ok(Some(Duration::from_millis(rtt_ms))));
                }
            }
            Effect::PingLost { ping } => {
                if let Some(done) = self.pings.remove(&ping) {
                    answer(done, Ok(None));
                }
            }
            Effect::Redeliver => self.ask_again(),
            other => tracing::debug!(effect = ?std::mem::discriminant(&other), "effect.unknown"),
        }
    }

    /// Says once a minute that large messages cannot be kept.
    pub(super) fn complain_of_disk(&mut self, error: &std::io::Error) {
        if self.disk_complaint.is_due(Instant::now()) {
            tracing::warn!(folder = %self.spooling.path().display(), %error, "client.spool_failed");
        }
    }

    fn open_spool(&mut self, key: SpoolKey, stream_len: u64) {
        let len = usize::try_from(stream_len).unwrap_or(usize::MAX).min(MAX_HEAD_LEN);
        let mut start = vec![0; len];
        let read = open_stream(self.spooling.path(), key).and_then(|file| file.read_exact_at(&mut start, 0));
        match read {
            Ok(()) => self.courier.spool_opened(self.clocks.now(), &key, stream_len, &start),
            Err(error) => {
                self.complain_of_disk(&error);
                self.courier.spool_lost(&key);
            }
        }
    }

    /// Asks every edge for everything that it still holds, by attaching once more.
    fn ask_again(&self) {
        let Some(runtime) = &self.runtime else {
            return;
        };
        for own in self.own.values() {
            let channel = own.channel.clone();
            runtime.spawn(async move {
                // If it fails the link is down, and attaching again does the same.
                let _ = channel.call(Op::Attach).await;
            });
        }
    }
}
