//! Both directions of a link after its handshake.

use std::sync::Arc;
use std::time::Duration;

use betanet_sphinx::PACKET_LEN;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::control_message::{ControlMessage, NotInStock};
use super::frame::{self, EncodedItem, FRAME_LEN, Frame, FrameError, FrameKind, Item};

/// Largest control message that the dialling side takes, in bytes: lists of the whole network.
pub const MESSAGE_LIMIT: usize = 48 * 1024 * 1024;

/// Largest control message that the accepting side takes, in bytes: requests of strangers.
pub const REQUEST_LIMIT: usize = 64 * 1024;

/// Frames that ask for nothing which whoever has not asked for anything may send before it does: padding for a quarter of an
/// hour, or all of the longest request.
pub const MOST_IDLE: usize = 64;

/// Frames that one write to the socket may carry; a control message may take several writes.
const WRITE_BATCH: usize = 26;

/// Bytes read from the socket at once.
const READ_BATCH: usize = 64 * 1024;

/// How long a link waits for its peer.
#[derive(Clone, Copy, Debug)]
pub struct LinkTimeouts {
    /// For connection and handshake together.
    pub handshake: Duration,
    /// A padding frame is written after this much quiet.
    pub keepalive: Duration,
    /// The link is closed when nothing arrives, or nothing can be written, for this long.
    pub silence: Duration,
}

/// Why a link ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer closed it, the stream broke, or our own side ended.
    #[error("the link is closed")]
    Closed,
    /// Nothing arrived for too long.
    #[error("the peer fell silent")]
    Silent,
    /// The peer broke the protocol.
    #[error("the peer sent a malformed frame")]
    Malformed(#[from] FrameError),
    /// The control message is too large or is no message.
    #[error("the peer sent a malformed control message")]
    Message,
    /// Frames came, and nothing was asked for.
    #[error("the peer sends padding and asks for nothing")]
    Idle,
    /// The queue to the peer is full.
    #[error("the queue to the peer is full")]
    Full,
}

/// The writing side; cheap to clone. The link closes when all clones are gone and all is written, or, if we accepted it, when
/// its reader is gone.
#[derive(Clone, Debug)]
pub struct LinkSender {
    queue: mpsc::Sender<Frame>,
    /// One place: of the control messages to a peer that does not read, one is held in memory.
    turns: Arc<Semaphore>,
    /// Its other half goes with the writer.
    written: watch::Receiver<()>,
}

impl LinkSender {
    /// Queues a frame, waiting for room.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the link has ended.
    pub async fn send(&self, frame: Frame) -> Result<(), LinkError> {
        self.queue.send(frame).await.map_err(|_| LinkError::Closed)
    }

    /// Queues a frame if there is room.
    ///
    /// # Errors
    /// [`LinkError::Full`] or [`LinkError::Closed`]; the frame is dropped in both cases.
    pub fn try_send(&self, frame: Frame) -> Result<(), LinkError> {
        self.queue.try_send(frame).map_err(|err| match err {
            mpsc::error::TrySendError::Full(_) => LinkError::Full,
            mpsc::error::TrySendError::Closed(_) => LinkError::Closed,
        })
    }

    /// Queues an item if there is room, else gives it back.
    ///
    /// # Errors
    /// The item: the queue is full or the link has ended.
    pub fn offer(&self, item: EncodedItem) -> Result<(), EncodedItem> {
        match self.queue.try_reserve() {
            Ok(place) => {
                place.send(Frame::item(item));
                Ok(())
            }
            Err(_) => Err(item),
        }
    }

    /// Queues a control message as soon as the one before is written. Who answers requests waits
    /// here before the next one, so a peer that does not read its answers cannot pile them up.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the link has ended, [`LinkError::Message`] if `message` does not
    /// serialise or is too large.
    pub async fn send_message(&self, message: &impl Serialize) -> Result<(), LinkError> {
        self.send_control(|| ControlMessage::json(message).map_err(|_| LinkError::Message)).await
    }

    /// Queues the control message that `make` makes once it is its turn.
    ///
    /// # Errors
    /// As [`LinkSender::send_message`], or what `make` says.
    pub async fn send_control(
        &self,
        make: impl FnOnce() -> Result<ControlMessage, LinkError>,
    ) -> Result<(), LinkError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| LinkError::Closed)?;
        let message = make()?;
        if message.len() > MESSAGE_LIMIT {
            return Err(LinkError::Message);
        }
        self.send(Frame::control(message).in_turn(turn)).await
    }

    /// Resolves when the link has ended.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Gives up this sender and, if it was the last, waits until all frames are written.
    pub async fn finish(self) {
        let mut written = self.written;
        drop(self.queue);
        // The writer sends nothing on it; its end is the news.
        let _ = written.changed().await;
    }

    /// Waits until `frames` more have room; they may find it taken by others. Fewer than the queue holds.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the link has ended.
    pub async fn room_for(&self, frames: usize) -> Result<(), LinkError> {
        self.queue.reserve_many(frames).await.map(drop).map_err(|_| LinkError::Closed)
    }

    /// Frames that wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

/// What writes to a link. Frames are collected and written together.
pub struct LinkWriter {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    bytes: Vec<u8>,
    timeouts: LinkTimeouts,
}

impl std::fmt::Debug for LinkWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkWriter").finish_non_exhaustive()
    }
}

impl LinkWriter {
    pub(super) fn new(stream: impl AsyncWrite + Send + Unpin + 'static, timeouts: LinkTimeouts) -> Self {
        Self { stream: Box::new(stream), bytes: Vec::with_capacity(WRITE_BATCH * FRAME_LEN), timeouts }
    }

    /// Waits for some of what is to be written and moves it into `batch`, as much as one write carries; `false` when no
    /// more will come. Nothing where nothing came for so long that the link would seem dead.
    pub async fn collect<T>(&mut self, queue: &mut mpsc::Receiver<T>, batch: &mut Vec<T>) -> bool {
        let came = tokio::time::timeout(self.timeouts.keepalive, queue.recv_many(batch, WRITE_BATCH));
        !matches!(came.await, Ok(0))
    }

    /// Writes frames, or padding if there are none.
    ///
    /// # Errors
    /// The link is broken, the peer makes no room for too long, or a document that it reads has gone out of stock.
    pub async fn write(&mut self, frames: impl ExactSizeIterator<Item = &Frame>) -> Result<(), LinkError> {
        if frames.len() == 0 {
            self.encode(&Frame::padding(), 0)?;
        }
        for frame in frames {
            let mut next = Some(0);
            while let Some(start) = next {
                next = self.encode(frame, start)?;
                if self.bytes.len() >= WRITE_BATCH * FRAME_LEN {
                    self.flush().await?;
                }
            }
        }
        self.flush().await
    }

    fn encode(&mut self, frame: &Frame, start: usize) -> Result<Option<usize>, LinkError> {
        frame.encode(start, &mut self.bytes).map_err(|NotInStock| LinkError::Closed)
    }

    /// Writes what is encoded and empties the buffer. The peer has to make room within the time limit
    /// for this much and not for a whole message.
    async fn flush(&mut self) -> Result<(), LinkError> {
        let Self { stream, bytes, timeouts } = self;
        let written = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        match tokio::time::timeout(timeouts.silence, written).await {
            Ok(outcome) => outcome.map_err(|_| LinkError::Closed)?,
            Err(_) => return Err(LinkError::Silent),
        }
        bytes.clear();
        Ok(())
    }
}

/// Starts the one task that writes to a link that we dialled. It goes on until all is written.
pub(super) fn spawn_writer(writer: LinkWriter, queue: usize) -> LinkSender {
    let (sender, writing) = queue_to(writer, queue);
    tokio::spawn(writing);
    sender
}

/// A queue, and the task that writes what is in it.
fn queue_to(mut writer: LinkWriter, queue: usize) -> (LinkSender, impl Future<Output = ()> + Send + 'static) {
    let (sender, mut frames) = mpsc::channel::<Frame>(queue.max(1));
    let (running, written) = watch::channel(());
    let writing = async move {
        let _running = running;
        let mut batch: Vec<Frame> = Vec::with_capacity(WRITE_BATCH);
        while writer.collect(&mut frames, &mut batch).await {
            if writer.write(batch.iter()).await.is_err() {
                return;
            }
            batch.clear();
        }
        // All senders are gone and everything is written: say goodbye, but never wait for long.
        let _ = tokio::time::timeout(writer.timeouts.handshake, writer.stream.shutdown()).await;
    };
    (LinkSender { queue: sender, turns: Arc::new(Semaphore::new(1)), written }, writing)
}

/// The reading side. A link that we accepted is closed when this is dropped.
pub struct LinkReader {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    buffer: Box<[u8]>,
    /// `0 <= start <= end <= buffer.len()`; the bytes between are read and not yet taken.
    start: usize,
    end: usize,
    message: Vec<u8>,
    message_limit: usize,
    timeouts: LinkTimeouts,
    /// What writes to a link that we accepted.
    writing: JoinSet<()>,
}

impl std::fmt::Debug for LinkReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkReader").finish_non_exhaustive()
    }
}

/// What arrived on a link.
#[derive(Debug)]
pub enum Received<'a> {
    /// One packet or several that came together, still where they were read.
    Packets(Packets<'a>),
    /// A whole control message, not parsed yet.
    Message(Vec<u8>),
    /// A mailbox item.
    Item(Item),
    /// Acknowledged items.
    ItemAck(Vec<u64>),
}

/// Packets in a row.
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a>(&'a [[u8; FRAME_LEN]]);

impl<'a> Packets<'a> {
    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8; PACKET_LEN]> {
        self.0.iter().filter_map(|frame| frame.last_chunk())
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0.len()
    }
}

impl Received<'_> {
    /// Parses a control message.
    ///
    /// # Errors
    /// [`LinkError::Message`] if it is not a `T`.
    pub fn message<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LinkError> {
        serde_json::from_slice(bytes).map_err(|_| LinkError::Message)
    }
}

/// What one frame is.
enum Taken {
    /// It asks for nothing: padding, or a part of a control message that goes on.
    Idle,
    /// A packet: the last frame before `start`.
    Packet,
    /// Something else for the owner of the link.
    Other(Received<'static>),
}

impl LinkReader {
    pub(super) fn new(
        stream: impl AsyncRead + Send + Unpin + 'static,
        message_limit: usize,
        timeouts: LinkTimeouts,
    ) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: vec![0; READ_BATCH.max(2 * FRAME_LEN)].into_boxed_slice(),
            start: 0,
            end: 0,
            message: Vec::new(),
            message_limit,
            timeouts,
            writing: JoinSet::new(),
        }
    }

    /// As [`spawn_writer`], for a link that we accepted: the task goes with this reader, whatever is not written yet. A peer that
    /// does not read would else keep the connection open after its place is somebody else's.
    pub(super) fn spawn_writer(&mut self, writer: LinkWriter, queue: usize) -> LinkSender {
        let (sender, writing) = queue_to(writer, queue);
        self.writing.spawn(writing);
        sender
    }

    /// Waits for the next thing behind idle frames. Cancel safe.
    ///
    /// # Errors
    /// The link ended or the peer broke the protocol; the caller drops the link in either case.
    pub async fn next(&mut self) -> Result<Received<'_>, LinkError> {
        loop {
            match self.take_next().await? {
                Taken::Packet => return Ok(self.packets()),
                Taken::Other(received) => return Ok(received),
                Taken::Idle => {}
            }
        }
    }

    /// Waits for the next thing, or one idle frame (`None`): for whoever serves strangers, as each frame that they send costs
    /// something to read. Cancel safe.
    ///
    /// # Errors
    /// As [`LinkReader::next`].
    pub async fn next_or_idle(&mut self) -> Result<Option<Received<'_>>, LinkError> {
        Ok(match self.take_next().await? {
            Taken::Packet => Some(self.packets()),
            Taken::Other(received) => Some(received),
            Taken::Idle => None,
        })
    }

    /// Waits until something that is not padding is there to be taken. Cancel safe.
    ///
    /// # Errors
    /// As [`LinkReader::next`], and [`LinkError::Idle`] after [`MOST_IDLE`] frames of padding.
    pub async fn arrived(&mut self) -> Result<(), LinkError> {
        let mut idle = 0;
        loop {
            let pending = self.buffer.get(self.start..self.end).unwrap_or_default();
            match pending.first_chunk::<FRAME_LEN>().map(frame::parse).transpose()? {
                None => self.fill().await?,
                Some((FrameKind::Padding, _)) if idle < MOST_IDLE => {
                    idle += 1;
                    self.start += FRAME_LEN;
                }
                Some((FrameKind::Padding, _)) => return Err(LinkError::Idle),
                Some(_) => return Ok(()),
            }
        }
    }

    /// Waits for a whole frame and takes it.
    async fn take_next(&mut self) -> Result<Taken, LinkError> {
        loop {
            match self.take()? {
                Some(taken) => return Ok(taken),
                None => self.fill().await?,
            }
        }
    }

    /// The packet that was just taken, and those behind it.
    fn packets(&mut self) -> Received<'_> {
        let first = self.start.saturating_sub(FRAME_LEN);
        let (read, _) = self.buffer.get(first..self.end).unwrap_or_default().as_chunks();
        // What is no packet or no frame is for the next call.
        let is_packet = |frame: &&[u8; FRAME_LEN]| matches!(frame::parse(frame), Ok((FrameKind::Packet, _)));
        let count = read.iter().take_while(is_packet).count();
        self.start = first + count * FRAME_LEN;
        Received::Packets(Packets(read.get(..count).unwrap_or_default()))
    }

    /// Takes one frame, if a whole one is buffered.
    fn take(&mut self) -> Result<Option<Taken>, LinkError> {
        let pending = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(frame) = pending.first_chunk::<FRAME_LEN>() else {
            return Ok(None);
        };
        let (kind, body) = frame::parse(frame)?;
        let taken = match kind {
            FrameKind::Padding => Taken::Idle,
            FrameKind::Packet => Taken::Packet,
            FrameKind::Item => Taken::Other(Received::Item(Item::parse(body)?)),
            FrameKind::ItemAck => Taken::Other(Received::ItemAck(frame::parse_acks(body).collect())),
            FrameKind::Control => {
                let (last, chunk) = frame::parse_chunk(body)?;
                if self.message.len() + chunk.len() > self.message_limit {
                    return Err(LinkError::Message);
                }
                self.message.extend_from_slice(chunk);
                if last { Taken::Other(Received::Message(std::mem::take(&mut self.message))) } else { Taken::Idle }
            }
        };
        self.start += FRAME_LEN;
        Ok(Some(taken))
    }

    async fn fill(&mut self) -> Result<(), LinkError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = tokio::time::timeout(self.timeouts.silence, self.stream.read(room))
            .await
            .map_err(|_| LinkError::Silent)?
            .map_err(|_| LinkError::Closed)?;
        if read == 0 {
            return Err(LinkError::Closed);
        }
        self.end += read;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
