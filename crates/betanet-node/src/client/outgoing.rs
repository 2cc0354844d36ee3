//! Messages, requests and loops on their way out: room for them, and patience while an edge is away.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::time::Duration;

use betanet_mix::courier::{SendError, SendOptions};
use betanet_mix::message::{Body, MessageId};
use betanet_mix::view::Address;
use tokio::sync::{SemaphorePermit, oneshot, watch};

use super::driver::{ClientCommand, Progress, SendFailure};
use super::error::ClientError;
use super::{Client, EDGE_PATIENCE};

/// Memory of all messages under way, in KiB, and the least that one counts for: the courier's own limits.
pub(super) const ROOM_KIB: usize = 256 * 1024;
const LEAST_KIB: usize = 64;

/// Bytes that are read at a time to tell the contents of messages apart.
const HASHED: usize = 64 * 1024;

/// Pause before a send is tried again when too much is under way.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// The pause between the tries of a send that waits for an edge.
pub(super) const EDGE_PAUSE: Duration = Duration::from_millis(50);

/// How long the courier, whose timer ends with a request's timeout, may take to say what it knows about the reason.
const LAST_WORD: Duration = Duration::from_millis(100);

impl Client {
    /// Sends a message and returns its id once all of it is on disk at the recipient's edges.
    ///
    /// Dropping the future gives the message up; what has left arrives or not. While an edge of
    /// the client is away, a send that needs it waits for it for a while.
    ///
    /// # Errors
    /// The network is too small for the path, the message cannot be sent as it is, or nobody
    /// acknowledged it after many tries.
    pub async fn send(&self, to: &Address, body: impl Into<Body>, hops: u8) -> Result<MessageId, ClientError> {
        self.send_with(to, body, SendOptions::hops(hops)).await
    }

    /// As [`Client::send`], with an id or a lifetime of the caller's choice.
    ///
    /// A send with an id can be repeated, for instance after a crash when nobody knows how far it
    /// came: the recipient gets one message per id, for as long as it remembers the id.
    ///
    /// # Errors
    /// As [`Client::send`], [`ClientError::Invalid`] while a send with this id is under way, and
    /// [`ClientError::IdUsed`] if this client used it for another message before.
    pub async fn send_with(
        &self,
        to: &Address,
        body: impl Into<Body>,
        options: SendOptions,
    ) -> Result<MessageId, ClientError> {
        self.send_watched(to, body, options, None).await
    }

    /// As [`Client::send_with`], and tells on the way how far the message is. The sender of `progress` is dropped with the
    /// end of the send.
    ///
    /// # Errors
    /// As [`Client::send_with`].
    pub async fn send_watched(
        &self,
        to: &Address,
        body: impl Into<Body>,
        options: SendOptions,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<MessageId, ClientError> {
        let body = body.into();
        let permit = self.room.acquire_many(room_for(&body)).await.map_err(|_| ClientError::Closed)?;
        self.send_in(permit, to, body, options, progress).await
    }

    /// As [`Client::send_watched`], but refuses at once where that would wait for other messages.
    ///
    /// # Errors
    /// As [`Client::send_with`], and [`ClientError::Busy`].
    pub async fn try_send(
        &self,
        to: &Address,
        body: impl Into<Body>,
        options: SendOptions,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<MessageId, ClientError> {
        let body = body.into();
        let permit = self.room.try_acquire_many(room_for(&body)).map_err(|_| ClientError::Busy)?;
        self.send_in(permit, to, body, options, progress).await
    }

    async fn send_in(
        &self,
        permit: SemaphorePermit<'_>,
        to: &Address,
        body: Body,
        options: SendOptions,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<MessageId, ClientError> {
        let content = options.id.map(|_| self.content_of(to, &body)).transpose()?;
        let command = |done| ClientCommand::Send {
            to: to.clone(),
            body: body.clone(),
            options,
            content,
            progress: progress.clone(),
            done,
        };
        let sent = self.persist(tokio::time::Instant::now() + EDGE_PATIENCE, command).await;
        drop(permit);
        sent
    }

    /// What tells a message apart from others.
    fn content_of(&self, to: &Address, body: &Body) -> Result<u64, ClientError> {
        let mut hasher = self.content.build_hasher();
        to.to_string().hash(&mut hasher);
        let mut part = vec![0; body.len().min(HASHED)];
        for start in (0..body.len()).step_by(HASHED) {
            part.truncate(body.len() - start);
            let unreadable = || ClientError::Storage(std::io::Error::other("the body of a message cannot be read"));
            body.read(start, &mut part).ok_or_else(unreadable)?;
            part.hash(&mut hasher);
        }
        Ok(hasher.finish())
    }

    /// Sends a request and returns the whole reply.
    ///
    /// The replier has room for `reply_packets` × [`REPLY_PACKET_CAPACITY`] bytes. Dropping the
    /// future gives the request up.
    ///
    /// # Errors
    /// As [`Client::send`], and [`ClientError::Timeout`] if the reply is not complete in time, or
    /// [`ClientError::Unanswered`] if the request has arrived all the same.
    pub async fn request(
        &self,
        to: &Address,
        body: impl Into<Body>,
        hops: u8,
        reply_packets: u8,
        timeout: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        self.request_watched(to, body, hops, reply_packets, timeout, None).await
    }

    /// As [`Client::request`], and tells on the way how far the request is. The sender of `progress` is dropped with the end
    /// of the request.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_watched(
        &self,
        to: &Address,
        body: impl Into<Body>,
        hops: u8,
        reply_packets: u8,
        timeout: Duration,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<Vec<u8>, ClientError> {
        let body = body.into();
        let deadline = tokio::time::Instant::now() + timeout;
        let command = |done| ClientCommand::Request {
            to: to.clone(),
            body: body.clone(),
            hops,
            reply_packets,
            timeout: deadline.saturating_duration_since(tokio::time::Instant::now()),
            progress: progress.clone(),
            done,
        };
        let answered = self.persist(deadline, command);
        tokio::time::timeout_at(deadline + LAST_WORD, answered).await.unwrap_or_else(|_| Err(self.too_late()))
    }

    /// Gives a command to the driver, and again while the reason for its refusal will pass: too
    /// much is under way, or an edge is away or the next consensus not there yet, and there is time
    /// until `until`. After a pause of the machine the links and the consensus come back by themselves.
    async fn persist<T>(
        &self,
        until: tokio::time::Instant,
        command: impl Fn(oneshot::Sender<Result<T, SendFailure>>) -> ClientCommand,
    ) -> Result<T, ClientError> {
        loop {
            let (done, wait) = oneshot::channel();
            let outcome = self.ask(command(done), wait).await?;
            let pause = match &outcome {
                Err(SendFailure::Refused(SendError::Busy { .. })) => BUSY_PAUSE,
                Err(SendFailure::Refused(refusal)) if self.is_own_trouble(refusal) => EDGE_PAUSE,
                _ => return outcome.map_err(|failure| self.error_of(failure)),
            };
            if pause == EDGE_PAUSE && tokio::time::Instant::now() + pause >= until {
                return outcome.map_err(|failure| self.error_of(failure));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a packet around a loop to the own mailbox and returns the time it took; another one if it gets lost, for a
    /// while.
    ///
    /// # Errors
    /// The network is too small, or no packet came back in time.
    pub async fn ping(&self, hops: u8) -> Result<Duration, ClientError> {
        let until = tokio::time::Instant::now() + EDGE_PATIENCE;
        loop {
            if let Some(time) = self.persist(until, |done| ClientCommand::Ping { hops, done }).await? {
                return Ok(time);
            }
            // Over a link that has died unnoticed nothing comes back, and the next loop goes over its successor.
            if tokio::time::Instant::now() >= until {
                return Err(self.too_late());
            }
        }
    }
}

/// What a message takes of the room.
fn room_for(body: &Body) -> u32 {
    u32::try_from((body.in_memory() / 1024).clamp(LEAST_KIB, ROOM_KIB)).unwrap_or(u32::MAX)
}
