//! The thread that runs the courier: commands and items in, packets and results out.
//!
//! Sealing and building a packet takes a good part of a millisecond, so none of it happens on the
//! threads that serve sockets. The thread grants the courier as many packets as the links have room
//! for, a few at a time, and looks at its commands in between.

mod healing;
mod notes;
mod own_link;
mod spooling;
mod under_way;

use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use betanet_mix::courier::{
    Courier, CourierConfig, Delivery, Effect, FailReason, PingId, ReplyHandle, SendError, SendOptions,
};
use betanet_mix::message::{Body, ItemRef, MAX_HEAD_LEN, MessageId, SpoolKey};
use betanet_mix::own_edges::OwnEdges;
use betanet_mix::view::{Address, ConsensusHash, Role};
use betanet_sphinx::NodeId;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

use self::notes::{Notes, WrittenNotes, copy_of};
use self::own_link::OwnLink;
pub(in crate::client) use self::spooling::Spooling;
pub use self::under_way::Progress;
use self::under_way::UnderWay;
use super::edges::{EdgeLinks, Edges, LinkEvent};
use super::spool::{Job, ReceivedBody, RestoredSpool, WrittenPieces, open_stream};
use super::store::ClientStore;
use super::{ClientError, ClientStatus, ExcludedNode, Incoming, OwnEdgeStatus};
use crate::control::Op;
use crate::link::Frame;
use crate::link::frame::{Item, ItemBody};
use crate::random::os_rng;
use crate::rarely::Rarely;
use crate::sync::lock;

/// Packets built between two looks at the commands.
const GRANT: usize = 32;

/// Commands taken at once.
const BATCH: usize = 64;

/// The courier's clock is looked at this often even if nothing happens.
const TICK: Duration = Duration::from_millis(250);

/// Ids of the caller's choice whose messages are told from others.
const CONTENTS: usize = 65_536;

/// How a send can come to nothing.
#[derive(Debug)]
pub(super) enum SendFailure {
    /// It did not even start.
    Refused(SendError),
    /// It failed under way.
    Failed(FailReason),
    /// Its id stands for another message.
    IdUsed(MessageId),
}

pub(super) type Waiter<T> = oneshot::Sender<Result<T, SendFailure>>;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum ClientCommand {
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

/// What callers may see without asking the thread.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) status: Mutex<ClientStatus>,
    /// The own address, which changes when a mailbox moves.
    address: Mutex<Address>,
    ready: watch::Sender<Readiness>,
}

/// Whether the client can send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Readiness {
    pub(super) has_view: bool,
    pub(super) attached: usize,
}

impl Shared {
    pub(super) fn new(network: String, address: Address) -> Self {
        let status = ClientStatus { network, edges_wanted: address.mailboxes().len(), ..ClientStatus::default() };
        Self { status: Mutex::new(status), address: Mutex::new(address), ready: watch::Sender::default() }
    }

    pub(super) fn status(&self) -> ClientStatus {
        lock(&self.status).clone()
    }

    pub(super) fn address(&self) -> Address {
        lock(&self.address).clone()
    }

    pub(super) fn set_address(&self, address: Address) {
        *lock(&self.address) = address;
    }

    /// Whether an edge of the client's address is away at the moment.
    pub(super) fn lacks_edges(&self) -> bool {
        let status = lock(&self.status);
        status.edges_attached < status.edges_wanted
    }

    pub(super) fn ready(&self) -> watch::Receiver<Readiness> {
        self.ready.subscribe()
    }
}

/// The thread's state.
pub(super) struct Driver {
    courier: Courier<UnwrapErr<SysRng>>,
    store: ClientStore,
    edges: Arc<Edges>,
    shared: Arc<Shared>,
    deliver: mpsc::Sender<Incoming>,
    /// Messages that find no room in `deliver`; bounded by the courier's reassembly limit.
    backlog: VecDeque<Incoming>,
    own: HashMap<NodeId, OwnLink>,
    sends: HashMap<MessageId, UnderWay>,
    requests: HashMap<MessageId, Waiter<Vec<u8>>>,
    replies: HashMap<ReplyHandle, oneshot::Sender<Result<(), ClientError>>>,
    notes: Notes,
    spooling: Spooling,
    disk_complaint: Rarely,
    watched: OwnEdges,
    /// What the ids of the caller's choice stood for, and their order.
    contents: HashMap<MessageId, u64>,
    contents_order: VecDeque<MessageId>,
    pings: HashMap<PingId, Waiter<Option<Duration>>>,
    view: Option<ConsensusHash>,
    trouble: Option<String>,
    clocks: Clocks,
    runtime: Option<Handle>,
}

impl Driver {
    pub(super) fn new(
        mut store: ClientStore,
        config: CourierConfig,
        edges: Arc<Edges>,
        shared: Arc<Shared>,
        deliver: mpsc::Sender<Incoming>,
        clocks: Clocks,
        (spooling, restored): (Spooling, Vec<RestoredSpool>),
    ) -> Self {
        let key = store.sealing_key();
        let config = CourierConfig { mailboxes: store.mailboxes().len(), ..config };
        let mut courier = Courier::new(config, key, os_rng());
        courier.set_own_edges(store.edges());
        for (id, until_ms) in store.take_remembered() {
            courier.remember(clocks.now(), id, until_ms);
        }
        for (id, until_ms) in store.take_answered() {
            courier.remember_answered(clocks.now(), id, until_ms);
        }
        for RestoredSpool { key, head, pieces, last_len } in restored {
            courier.restore_spool(clocks.now(), key, head, pieces, last_len);
        }
        let redraws = store.redraws();
        Self {
            courier,
            store,
            edges,
            shared,
            deliver,
            backlog: VecDeque::new(),
            own: HashMap::new(),
            sends: HashMap::new(),
            requests: HashMap::new(),
            replies: HashMap::new(),
            notes: Notes::default(),
            spooling,
            disk_complaint: Rarely::default(),
            watched: OwnEdges::new(redraws),
            contents: HashMap::new(),
            contents_order: VecDeque::new(),
            pings: HashMap::new(),
            view: None,
            trouble: None,
            clocks,
            runtime: None,
        }
    }

    /// Starts the thread.
    pub(super) fn start(
        mut self,
        commands: mpsc::Receiver<ClientCommand>,
        links: &EdgeLinks,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        self.runtime = Some(links.runtime().clone());
        let own = OwnRuntime::new()?;
        std::thread::Builder::new().name("courier".into()).spawn(move || own.block_on(self.run(commands)))
    }

    async fn run(mut self, mut commands: mpsc::Receiver<ClientCommand>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut next_tick = Instant::now();
        loop {
            let wait = self.pause(next_tick);
            let room = self.wait_for_room();
            let has_backlog = !self.backlog.is_empty();
            let mut spooled = Vec::new();
            let written = tokio::select! {
                received = tokio::time::timeout(wait, commands.recv_many(&mut batch, BATCH)) => {
                    if matches!(received, Ok(0)) {
                        return;
                    }
                    None
                }
                written = self.notes.written() => Some(written),
                pieces = self.spooling.written() => {
                    spooled = pieces;
                    None
                }
                // The application took a message: the next one has room.
                _ = self.deliver.reserve(), if has_backlog => None,
                () = room => None,
            };
            let now = self.read_clocks();
            if let Some(written) = written {
                self.take_notes(now, written);
            }
            for WrittenPieces { key, indexes, outcome } in spooled {
                match outcome {
                    Ok(()) => self.courier.pieces_written(&key, &indexes),
                    Err(error) => {
                        self.complain_of_disk(&error);
                        self.courier.pieces_not_written(&key, &indexes);
                    }
                }
            }
            for command in batch.drain(..) {
                if let ClientCommand::Close { done } = command {
                    // Dropping the waiters tells every caller that the client is closed.
                    self.own.values_mut().for_each(OwnLink::flush_deletions);
                    self.own.clear();
                    // The folder is not given up while somebody writes to it.
                    if self.notes.is_writing() {
                        drop(self.notes.written().await);
                    }
                    if self.spooling.is_writing() {
                        drop(self.spooling.written().await);
                    }
                    drop(self);
                    let _ = done.send(());
                    return;
                }
                self.handle(now, command);
            }
            let due = self.courier.next_wakeup().is_some_and(|at| at <= now);
            if due || Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                self.refresh_view();
                self.trouble = self.edges.trouble(self.usable().count());
                self.drop_abandoned();
                self.heal(now);
                self.publish_details(now);
                self.courier.tick(now);
                self.store.compact(self.courier.remembered());
            }
            self.watch_links(now);
            let room = self.room();
            if room > 0 && self.courier.wants_credit() {
                self.courier.grant(now, room);
            }
            self.act_on_all();
            self.write_notes(now);
            self.spooling.start();
            self.own.values_mut().for_each(OwnLink::flush_deletions);
            self.flush_backlog();
            self.publish();
        }
    }

    /// How long the thread may wait for a command.
    fn pause(&self, next_tick: Instant) -> Duration {
        if self.courier.wants_credit() && self.room() > 0 {
            return Duration::ZERO;
        }
        let until_tick = next_tick.saturating_duration_since(Instant::now());
        let until_due =
            self.courier.next_wakeup().map_or(TICK, |at| Duration::from_millis(at.saturating_sub(self.clocks.now())));
        until_tick.min(until_due)
    }

    /// Resolves when every usable link takes something again; never if that is not what sending waits for.
    fn wait_for_room(&self) -> impl Future<Output = ()> + use<> {
        let is_full = self.courier.wants_credit() && self.room() == 0;
        let full: Vec<_> = self.usable().filter(|_| is_full).map(OwnLink::takes_something).collect();
        async move {
            if full.is_empty() {
                std::future::pending::<()>().await;
            }
            for link in full {
                link.await;
            }
        }
    }

    /// Links to the edges of the own address that take something. Those of former addresses only bring what lies there.
    fn usable(&self) -> impl Iterator<Item = &OwnLink> {
        self.own.values().filter(|own| !own.is_stuck() && self.store.mailboxes().contains(&own.mailbox))
    }

    /// Packets that every usable link has room for.
    fn room(&self) -> usize {
        self.usable().map(OwnLink::room).min().unwrap_or(0).min(GRANT)
    }

    /// Stops using edges whose links take nothing, so that they do not hold up the others, and uses them
    /// again when they do.
    fn watch_links(&mut self, now: u64) {
        let mut changed = false;
        for own in self.own.values_mut() {
            changed |= own.watch(now);
        }
        if changed {
            self.update_mailboxes();
        }
    }

    fn handle(&mut self, now: u64, command: ClientCommand) {
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
            ClientCommand::Request { to, body, hops, reply_packets, timeout, done } => {
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                let options = SendOptions::hops(hops);
                let started = self.courier.request(now, &to, body, options, reply_packets, timeout_ms);
                match started {
                    Ok(id) => {
                        self.requests.insert(id, done);
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

    fn happen(&mut self, now: u64, event: LinkEvent) {
        match event {
            LinkEvent::Item { edge, item } => self.take_item(now, edge, item),
            LinkEvent::Attached { mailbox, link, channel } => {
                let own = OwnLink::new(mailbox, link, channel);
                self.own.insert(mailbox.edge, own);
                self.update_mailboxes();
                self.refresh_view();
            }
            LinkEvent::Detached { edge } => {
                self.own.remove(&edge);
                self.update_mailboxes();
            }
            LinkEvent::ViewChanged => self.refresh_view(),
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

    fn take_item(&mut self, now: u64, edge: NodeId, item: Item) {
        let place = ItemRef { edge, seq: item.seq };
        match item.body {
            ItemBody::Forward(payload) => self.courier.on_forward(now, place, &payload),
            ItemBody::Reply { surb_id, mut delta } => {
                self.courier.on_reply(now, place, surb_id, &mut delta);
            }
        }
    }

    fn commit(&mut self, id: MessageId) -> Result<(), ClientError> {
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

    /// Starts to write down what was answered, unless that goes on already: then the next batch has it.
    fn write_notes(&mut self, now: u64) {
        if self.notes.is_empty() || self.notes.is_writing() {
            return;
        }
        if let Some(log) = self.store.lend_answered(self.courier.answered()) {
            self.notes.write(log);
        } else {
            // Whoever had the file did not live to give it back.
            let written = self.notes.give_up();
            self.take_notes(now, written);
        }
    }

    fn take_notes(&mut self, now: u64, written: WrittenNotes) {
        let WrittenNotes { log, handles, outcome } = written;
        if let Some(log) = log {
            self.store.return_answered(log);
        }
        for handle in handles {
            match &outcome {
                Ok(()) => self.courier.answer_noted(now, handle),
                Err(error) => {
                    self.courier.answer_not_noted(handle);
                    if let Some(done) = self.replies.remove(&handle) {
                        answer(done, Err(ClientError::Storage(copy_of(error))));
                    }
                }
            }
        }
    }

    fn delete(&mut self, edge: NodeId, seqs: &[u64]) {
        if let Some(own) = self.own.get_mut(&edge) {
            // Items with number 0 were never stored.
            own.deletions.extend(seqs.iter().filter(|seq| **seq != 0));
        }
    }

    fn act_on_all(&mut self) {
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
                    self.edges.inject(runtime, edge, frame);
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
                }
            }
            Effect::Sent { id } => {
                if let Some(UnderWay { done, .. }) = self.sends.remove(&id) {
                    answer(done, Ok(id));
                }
            }
            Effect::Failed { id, reason } => {
                if let Some(UnderWay { done, .. }) = self.sends.remove(&id) {
                    answer(done, Err(SendFailure::Failed(reason)));
                } else if let Some(done) = self.requests.remove(&id) {
                    answer(done, Err(SendFailure::Failed(reason)));
                }
            }
            Effect::ReplyComplete { id, body } => {
                if let Some(done) = self.requests.remove(&id) {
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
    fn complain_of_disk(&mut self, error: &std::io::Error) {
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

    fn update_mailboxes(&mut self) {
        let attached = self.usable().map(|own| own.mailbox).collect();
        self.courier.set_mailboxes(attached);
    }

    /// The time that timers go by; tells the courier what the wall clock shows meanwhile.
    fn read_clocks(&mut self) -> u64 {
        let now = self.clocks.now();
        self.courier.set_wall_clock(now, (self.clocks.wall)());
        now
    }

    fn refresh_view(&mut self) {
        if let Some(view) = self.edges.view_at((self.clocks.wall)())
            && self.view != Some(view.hash())
        {
            self.view = Some(view.hash());
            self.courier.set_view(view);
        }
    }

    /// Gives up what nobody waits for any more.
    fn drop_abandoned(&mut self) {
        let sends = self.sends.iter().filter(|(_, send)| send.done.is_closed());
        let requests = self.requests.iter().filter(|(_, done)| done.is_closed());
        let abandoned: Vec<MessageId> = sends.map(|(id, _)| *id).chain(requests.map(|(id, _)| *id)).collect();
        for id in abandoned {
            self.courier.cancel(id);
        }
        self.replies.retain(|_, done| !done.is_closed());
        self.pings.retain(|_, done| !done.is_closed());
    }

    fn flush_backlog(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(err) = self.deliver.try_send(message) {
                self.backlog.push_front(err.into_inner());
                return;
            }
        }
    }

    /// What changes rarely, and takes more time than what [`Driver::publish`] tells.
    fn publish_details(&self, now: u64) {
        let edges = self.store.edges().into_iter().map(|id| OwnEdgeStatus {
            id,
            current: self.store.mailboxes().iter().any(|mailbox| mailbox.edge == id),
            attached: self.own.contains_key(&id),
            reason: self.edges.failure(id).map(|failure| failure.reason),
        });
        let excluded = self.courier.excluded().iter().map(|(id, exclusion)| ExcludedNode {
            id: *id,
            tries: exclusion.tries,
            lost: exclusion.lost,
            expected: exclusion.expected_whole(),
            left: Duration::from_millis(exclusion.until_ms.saturating_sub(now)),
        });
        let (edges, excluded, paths) = (edges.collect(), excluded.collect(), self.courier.path_figures());
        let mut status = lock(&self.shared.status);
        (status.edges, status.excluded, status.paths) = (edges, excluded, paths);
    }

    fn publish(&mut self) {
        let figures = self.courier.stats();
        let attached = self.usable().count();
        if attached != lock(&self.shared.status).edges_attached {
            self.trouble = self.edges.trouble(attached);
        }
        let view = self.courier.view();
        {
            let mut status = lock(&self.shared.status);
            if let Some(view) = view {
                let count = |role| view.nodes().filter(|node| node.role() == role).count();
                status.entry_nodes = count(Role::Entry);
                status.middle_nodes = count(Role::Middle);
                status.exit_nodes = count(Role::Exit);
                status.one_operator = view.one_operator();
                status.mean_delay_ms = view.consensus().mean_delay_ms;
                status.epoch = view.sending_epoch((self.clocks.wall)()).0;
            }
            status.edges_attached = attached;
            status.in_flight = figures.in_flight;
            status.outgoing_messages = figures.outgoing_messages;
            status.open_requests = figures.open_requests;
            status.fragments_resent = figures.fragments_resent;
            status.uncommitted = figures.uncommitted;
            status.trouble.clone_from(&self.trouble);
        }
        let now = Readiness { has_view: view.is_some(), attached };
        self.shared.ready.send_if_modified(|ready| {
            let changed = *ready != now;
            *ready = now;
            changed
        });
    }
}

/// The thread's own runtime. Where the system gives no thread for it, it is dropped among tasks, and there a plain one
/// would be a panic.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> std::io::Result<Self> {
        tokio::runtime::Builder::new_current_thread().enable_time().build().map(Some).map(Self)
    }

    fn block_on(mut self, work: impl Future<Output = ()>) {
        if let Some(runtime) = self.0.take() {
            runtime.block_on(work);
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whoever asked may have stopped waiting.
fn answer<T>(done: oneshot::Sender<T>, value: T) {
    drop(done.send(value));
}

/// The two clocks of the thread: one that never jumps, for timers, and the network's time, which the edges may set right.
pub(super) struct Clocks {
    start: Instant,
    wall: Box<dyn Fn() -> u64 + Send>,
}

impl Clocks {
    /// The machine's clock for timers, and the network's time.
    pub(super) fn of(edges: &Arc<Edges>) -> Self {
        let edges = Arc::clone(edges);
        Self { start: Instant::now(), wall: Box::new(move || edges.now_ms()) }
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
