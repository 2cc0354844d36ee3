//! The thread that runs the courier: commands and items in, packets and results out.
//!
//! Sealing and building a packet takes a good part of a millisecond, so none of it happens on the
//! threads that serve sockets. The thread grants the courier as many packets as the links have room
//! for, a few at a time, and looks at its commands in between.

mod ahead;
mod commands;
mod effects;
mod healing;
mod notes;
mod own_link;
mod shared;
mod spooling;
mod under_way;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use betanet_mix::courier::{Courier, CourierConfig, PingId, ReplyHandle};
use betanet_mix::epoch::Epoch;
use betanet_mix::message::{ItemRef, MessageId};
use betanet_mix::own_edges::OwnEdges;
use betanet_mix::view::ConsensusHash;
use betanet_sphinx::NodeId;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot};

pub(super) use self::commands::ClientCommand;
use self::notes::{Notes, WrittenNotes, copy_of};
use self::own_link::OwnLink;
pub(super) use self::shared::Shared;
pub(super) use self::spooling::Spooling;
pub use self::under_way::Progress;
pub(super) use self::under_way::SendFailure;
use self::under_way::{UnderWay, Waiter};
use super::links::{ClientLinks, KeptLinks, LinkEvent};
use super::spool::{RestoredSpool, WrittenPieces};
use super::store::ClientStore;
use super::{ClientError, Incoming};
use crate::link::frame::{Item, ItemBody};
use crate::random::SeededStream;
use crate::rarely::Rarely;

/// Packets built between two looks at the commands.
const GRANT: usize = 32;

/// Commands taken at once.
const BATCH: usize = 64;

/// The courier's clock is looked at this often even if nothing happens.
const TICK: Duration = Duration::from_millis(250);

/// The thread's state.
pub(super) struct Driver {
    courier: Courier<SeededStream>,
    store: ClientStore,
    links: Arc<ClientLinks>,
    shared: Arc<Shared>,
    deliver: mpsc::Sender<Incoming>,
    /// Messages that find no room in `deliver`; bounded by the courier's reassembly limit.
    backlog: VecDeque<Incoming>,
    own: HashMap<NodeId, OwnLink>,
    sends: HashMap<MessageId, UnderWay<MessageId>>,
    requests: HashMap<MessageId, UnderWay<Vec<u8>>>,
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
    /// Of which view, and for which epoch's keys, it was told what is short.
    judged: Option<(ConsensusHash, Epoch)>,
    clocks: Clocks,
    runtime: Option<Handle>,
}

impl Driver {
    pub(super) fn new(
        mut store: ClientStore,
        config: CourierConfig,
        links: Arc<ClientLinks>,
        shared: Arc<Shared>,
        deliver: mpsc::Sender<Incoming>,
        clocks: Clocks,
        (spooling, restored): (Spooling, Vec<RestoredSpool>),
    ) -> Self {
        let key = store.sealing_key();
        let config = CourierConfig { mailboxes: store.mailboxes().len(), ..config };
        let mut courier = Courier::new(config, key, SeededStream::new());
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
            links,
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
            judged: None,
            clocks,
            runtime: None,
        }
    }

    /// Starts the thread.
    pub(super) fn start(
        mut self,
        commands: mpsc::Receiver<ClientCommand>,
        kept: &KeptLinks,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        self.runtime = Some(kept.runtime().clone());
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
            self.courier.rng().renew();
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
            self.prepare(&batch);
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
                self.trouble = self.links.trouble(self.usable().count());
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

    fn take_item(&mut self, now: u64, edge: NodeId, item: Item) {
        let place = ItemRef { edge, seq: item.seq };
        match item.body {
            ItemBody::Forward(payload) => self.courier.on_forward(now, place, &payload),
            ItemBody::Reply { surb_id, mut delta } => {
                self.courier.on_reply(now, place, surb_id, &mut delta);
            }
        }
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
            own.delete(seqs);
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
        if let Some(view) = self.links.view_at((self.clocks.wall)())
            && self.view != Some(view.hash())
        {
            self.view = Some(view.hash());
            self.courier.set_view(view);
        }
    }

    fn flush_backlog(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(err) = self.deliver.try_send(message) {
                self.backlog.push_front(err.into_inner());
                return;
            }
        }
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
    pub(super) fn of(links: &Arc<ClientLinks>) -> Self {
        let links = Arc::clone(links);
        Self { start: Instant::now(), wall: Box::new(move || links.now_ms()) }
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
