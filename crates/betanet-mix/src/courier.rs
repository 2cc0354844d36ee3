//! The client's side of reliable messages, as a state machine without I/O.
//!
//! A [`Courier`] cuts messages into sealed fragments, sends each over a fresh path with a fresh ack SURB, repeats what
//! is not acknowledged in time, puts arriving fragments together, and answers requests over their SURBs. It has no
//! socket, clock or generator: the driver passes time in, calls the methods below and carries out the [`Effect`]s.
//!
//! # How to drive it
//!
//! *Time* is one `u64` of milliseconds that never jumps, a monotonic clock from any zero: timers go by it. What others
//! have to agree on goes by the wall clock, in Unix milliseconds: the consensus in force, epochs, the expiry of messages.
//! The wall clock may be set at any time; [`Courier::set_wall_clock`] says what it shows. Until then the two are the same.
//!
//! | the driver | calls |
//! |---|---|
//! | calls any of the following | [`Courier::set_wall_clock`] before it, if the clocks differ |
//! | got or refreshed a verified consensus | [`Courier::set_view`] |
//! | attached to or lost an edge | [`Courier::set_mailboxes`] with the mailboxes attached now |
//! | is about to send several, or has got several items | [`Courier::prepare`], which makes them cheaper |
//! | wants to send | [`Courier::send`], [`Courier::request`], [`Courier::reply`], [`Courier::ping`] |
//! | has room for `n` packets in its link queues | [`Courier::grant`]`(now, n)`: at most `n` [`Effect::Inject`] follow |
//! | got a mailbox item with a forward payload | [`Courier::on_forward`] |
//! | got a mailbox item with a SURB reply | [`Courier::on_reply`] |
//! | reaches [`Courier::next_wakeup`], and once a second | [`Courier::tick`] |
//! | was told by the application that a message is dealt with | [`Courier::commit`] and deletes the items it gives |
//!
//! After each of these it drains [`Courier::next_effect`]. Back-pressure is the credit: without a grant nothing is
//! injected, and [`Courier::wants_credit`] says whether a grant would bring anything. Making a packet takes a fraction
//! of a millisecond, so a driver on an async thread grants a few dozen at a time.
//!
//! **Every send ends in exactly one of [`Effect::Sent`] and [`Effect::Failed`]**; a request ends in exactly one of
//! [`Effect::ReplyComplete`] and [`Effect::Failed`], and says `Sent` before if all of it was stored before the reply came.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use betanet_mix::courier::{Effect, Courier, CourierConfig, SendOptions};
//! # use betanet_mix::message::{ItemRef, SealingKey};
//! # use betanet_mix::view::{Address, Mailbox, NetworkView};
//! # fn example<R: rand_core::CryptoRng>(rng: R, key: SealingKey, view: Arc<NetworkView>, mine: Vec<Mailbox>, to: Address,
//! #   now: u64, room: usize, link_send: fn(betanet_sphinx::NodeId, &[u8]), delete: fn(betanet_sphinx::NodeId, &[u64]),
//! #   write_down: fn(betanet_mix::message::MessageId, u64) -> std::io::Result<()>, item: ItemRef, payload: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! let mut courier = Courier::new(CourierConfig::default(), key, rng);
//! courier.set_view(view);
//! courier.set_mailboxes(mine);
//! let id = courier.send(now, &to, b"hello", SendOptions::hops(3))?;
//!
//! courier.grant(now, room); // room in the link queues
//! courier.on_forward(now, item, &payload); // an item that an edge handed over
//! while let Some(effect) = courier.next_effect() {
//!     match effect {
//!         Effect::Inject { edge, packet } => link_send(edge, &packet),
//!         Effect::Delete { edge, seqs } => delete(edge, &seqs),
//!         Effect::Sent { id: sent } => assert_eq!(sent, id), // every fragment is on disk at the recipient's edges
//!         Effect::Failed { id, reason } => eprintln!("{id}: {reason}"),
//!         Effect::Deliver { message } => {
//!             if let Some(reply) = message.reply {
//!                 courier.reply(now, reply, b"thanks")?;
//!             }
//!             for item in courier.commit(message.id).unwrap_or_default() {
//!                 delete(item.edge, &[item.seq]);
//!             }
//!         }
//!         Effect::NoteAnswer { handle, id, until_ms } => {
//!             write_down(id, until_ms)?; // synced to the disk
//!             courier.answer_noted(now, handle); // only now the answer leaves
//!         }
//!         Effect::Redeliver => {} // ask every edge for the items it still holds, as after a reconnect
//!         _ => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # After a restart
//!
//! A courier keeps nothing on disk. Items of messages that were not committed are handed over again by the edges and
//! lead to the same delivery; ids of committed ones can be kept with [`Courier::remembered`] and [`Courier::remember`].
//! What was answered is kept with [`Effect::NoteAnswer`] and [`Courier::remember_answered`]: SURBs work once, so a second
//! answer over them would repeat packets.

mod bulk;
mod held;
mod receiving;
mod rto;
mod sending;
mod state;
mod transmit;
mod types;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use betanet_sphinx::x25519::KnownPoints;
use betanet_sphinx::{MAX_HOPS, NodeId, SurbId};
use rand_core::CryptoRng;

use crate::evidence::{Evidence, Exclusion, Trail};
use crate::message::{
    Agreements, ContextCache, Envelope, EnvelopeKind, ItemRef, MessageId, Reassembler, SealingKey, Spools,
};
use crate::random;
use crate::view::{Mailbox, NetworkView};

use held::HeldReplies;
use rto::{RoundTrips, Window};
use state::{Answered, Answers, Awaiting, Due, OpenRequest, Outgoing, ReadyPacket, TimerKey, UnnotedReply};

pub use types::{
    CourierConfig, CourierStats, Delivery, Effect, FailReason, PathFigures, PingId, ReplyError, ReplyHandle, SendError,
    SendOptions,
};

/// At this level packets go to the recipient's edge directly, and answers too: whoever asks learns where the client is.
const PUBLIC_HOPS: u8 = 1;

/// Keys that are remembered for the sake of those that come up often: the edges' at the ends of most paths, recipients', and in
/// a small network the middles' too.
const KNOWN_POINTS: usize = 32;

/// The sending and receiving state of one client.
pub struct Courier<R> {
    config: CourierConfig,
    rng: R,
    view: Option<Arc<NetworkView>>,
    /// What the wall clock shows beyond `now_ms`.
    wall_ahead_ms: i64,
    mailboxes: Vec<Mailbox>,
    /// Since when nothing keeps the client from any of its mailboxes.
    attached_ms: Option<u64>,
    sweep_at_ms: u64,
    /// Counts the views and sets of mailboxes there were: what was drawn from earlier ones is not used.
    surroundings: u64,
    /// The edges of `mailboxes`.
    edges: Vec<NodeId>,
    /// All edges of the client's, attached or not.
    own_edges: Vec<NodeId>,
    outgoing: HashMap<MessageId, Outgoing>,
    outgoing_bytes: usize,
    requests: HashMap<MessageId, OpenRequest>,
    /// Messages that have fragments to send, each once, in turn.
    turn: VecDeque<MessageId>,
    /// Bulk messages that have pieces to send.
    bulk_turn: VecDeque<MessageId>,
    bulk_is_next: bool,
    /// Bulk messages whose recipients are to be asked what they have; before fragments, whatever the window.
    probes: VecDeque<MessageId>,
    /// Messages that could not be sent; they come back into `turn` when something has changed, and after a while.
    blocked: Vec<MessageId>,
    retry_at_ms: u64,
    /// Packets that go before fragments.
    ready: VecDeque<ReadyPacket>,
    awaiting: HashMap<SurbId, Awaiting>,
    /// Only of what is under way: whoever ends early takes its timers along.
    timers: BTreeMap<TimerKey, Due>,
    timers_set: u64,
    window: Window,
    bulk_window: Window,
    round_trips: [RoundTrips; MAX_HOPS],
    /// Loops of each number of hops, and the tries and losses of each.
    loops: [RoundTrips; MAX_HOPS],
    outcomes: [(u64, u64); MAX_HOPS],
    /// What became of packets, by the nodes that they passed.
    evidence: Evidence,
    judge_at_ms: u64,
    agreements: Agreements,
    /// Keys of nodes and recipients, for what is multiplied with them.
    known: KnownPoints,
    contexts: ContextCache,
    reassembler: Reassembler,
    spools: Spools,
    replies: HeldReplies,
    /// Answers whose use of SURBs is not written down yet.
    unnoted: BTreeMap<ReplyHandle, UnnotedReply>,
    /// Messages that were answered and not committed.
    answered: HashMap<MessageId, Answered>,
    next_reply: u64,
    next_ping: u64,
    deletes: BTreeMap<NodeId, Vec<u64>>,
    effects: VecDeque<Effect>,
    stats: CourierStats,
}

impl<R: CryptoRng> Courier<R> {
    /// A courier with nothing under way, for the recipient key that its address carries.
    #[must_use]
    pub fn new(config: CourierConfig, key: SealingKey, mut rng: R) -> Self {
        // Not from 1 on: a handle from before a restart must not name another request.
        let next_reply = u64::from(u32::from_be_bytes(random::bytes(&mut rng))) << 16;
        Self {
            rng,
            view: None,
            wall_ahead_ms: 0,
            mailboxes: Vec::new(),
            attached_ms: None,
            sweep_at_ms: 0,
            surroundings: 0,
            edges: Vec::new(),
            own_edges: Vec::new(),
            outgoing: HashMap::new(),
            outgoing_bytes: 0,
            requests: HashMap::new(),
            turn: VecDeque::new(),
            bulk_turn: VecDeque::new(),
            bulk_is_next: false,
            probes: VecDeque::new(),
            blocked: Vec::new(),
            retry_at_ms: 0,
            ready: VecDeque::new(),
            awaiting: HashMap::new(),
            timers: BTreeMap::new(),
            timers_set: 0,
            window: Window::new(config.min_window, config.max_window),
            bulk_window: Window::new(config.min_bulk_window.into(), config.max_bulk_window.into()),
            round_trips: [RoundTrips::default(); MAX_HOPS],
            loops: [RoundTrips::default(); MAX_HOPS],
            outcomes: [(0, 0); MAX_HOPS],
            evidence: Evidence::default(),
            judge_at_ms: 0,
            agreements: Agreements::default(),
            known: KnownPoints::new(KNOWN_POINTS),
            contexts: ContextCache::new(key, config.contexts),
            reassembler: Reassembler::new(config.reassembly),
            spools: Spools::new(config.spools),
            replies: HeldReplies::new(config.max_reply_handles, config.max_reply_bytes),
            unnoted: BTreeMap::new(),
            answered: HashMap::new(),
            next_reply,
            next_ping: 1,
            deletes: BTreeMap::new(),
            effects: VecDeque::new(),
            stats: CourierStats::default(),
            config,
        }
    }

    /// Where its randomness comes from.
    pub fn rng(&mut self) -> &mut R {
        &mut self.rng
    }

    /// Makes the multiplications for messages that are about to be sent to these recipients, and for the payloads of items
    /// that are about to be taken, in lanes. Leaving it out, or not keeping to it, changes no outcome.
    pub fn prepare<'a>(&mut self, recipients: &[[u8; 32]], payloads: impl Iterator<Item = &'a [u8]>) {
        self.agreements.prepare(&mut self.rng, &mut self.known, recipients);
        let envelopes = payloads.filter_map(|payload| Envelope::parse(payload).ok());
        let sealed = envelopes.filter(|envelope| envelope.kind != EnvelopeKind::Cover);
        self.contexts.prepare(sealed.map(|envelope| envelope.sealed_bytes()));
    }

    /// Says what the wall clock shows, Unix milliseconds. It may have been set forward or back since the last time.
    pub fn set_wall_clock(&mut self, now_ms: u64, wall_ms: u64) {
        self.wall_ahead_ms = wall_ms.wrapping_sub(now_ms).cast_signed();
    }

    /// Sends by this view from now on.
    pub fn set_view(&mut self, view: Arc<NetworkView>) {
        for (index, trips) in (1_u32..).zip(&mut self.round_trips) {
            trips.set_network(2 * index, view.mean_delay());
        }
        let most_hops = u8::try_from(MAX_HOPS).unwrap_or(u8::MAX);
        self.reassembler.set_repeat(self.repeat_ms(most_hops).saturating_add(self.config.reassembly.skew_ms));
        self.view = Some(view);
        self.avoid_excluded();
        self.surroundings += 1;
        self.unblock();
    }

    /// Middles that packets do not pass at present, and the evidence against them.
    #[must_use]
    pub fn excluded(&self) -> &BTreeMap<NodeId, Exclusion> {
        self.evidence.excluded()
    }

    /// What became of the own packets so far, by the number of hops.
    #[must_use]
    pub fn path_figures(&self) -> Vec<PathFigures> {
        let all = (1..).zip(&self.outcomes).zip(self.round_trips.iter().zip(&self.loops));
        all.filter(|((_, (tries, _)), _)| *tries > 0)
            .map(|((hops, (tries, lost)), (trips, loops))| PathFigures {
                hops,
                tries: *tries,
                lost: *lost,
                round_trip_ms: trips.typical_ms(),
                loop_ms: loops.typical_ms(),
            })
            .collect()
    }

    /// Takes note of what became of a packet.
    fn conclude(&mut self, now_ms: u64, trail: Trail, lost: bool) {
        if let Some((tries, losses)) = trail.hops().checked_sub(1).and_then(|place| self.outcomes.get_mut(place)) {
            *tries += 1;
            *losses += u64::from(lost);
        }
        self.evidence.record(now_ms, trail, lost);
    }

    /// Looks whether some node loses packets.
    fn judge(&mut self, now_ms: u64) {
        let Some(view) = &self.view else { return };
        let middles: BTreeSet<NodeId> = view.middles().map(|node| node.id()).collect();
        if self.evidence.judge(now_ms, &middles) {
            self.avoid_excluded();
        }
    }

    fn avoid_excluded(&mut self) {
        let excluded: BTreeSet<NodeId> = self.evidence.excluded().keys().copied().collect();
        if let Some(view) = self.view.as_mut().filter(|view| !excluded.is_empty() || view.avoids_any()) {
            *view = Arc::new(view.avoiding(excluded));
            self.surroundings += 1;
        }
    }

    /// The view that is sent by.
    #[must_use]
    pub fn view(&self) -> Option<&Arc<NetworkView>> {
        self.view.as_ref()
    }

    /// The own mailboxes at the edges that are attached now: where packets enter and acks and replies come home.
    pub fn set_mailboxes(&mut self, attached: Vec<Mailbox>) {
        self.edges = attached.iter().map(|mailbox| mailbox.edge).collect();
        self.mailboxes = attached;
        self.surroundings += 1;
        self.reassembler.keep_held_back(&self.edges);
        self.attached_ms = None;
        self.unblock();
    }

    /// All edges that the client has mailboxes at, attached or not: those of its address and of former ones. Answers leave
    /// over these, for each of them knows where the client is anyway.
    pub fn set_own_edges(&mut self, edges: Vec<NodeId>) {
        self.own_edges = edges;
    }

    /// Whether a packet may enter the network at `edge`, which then sees where the client is.
    fn may_enter_at(&self, edge: NodeId) -> bool {
        self.config.level == Some(PUBLIC_HOPS) || self.own_edges.contains(&edge) || self.edges.contains(&edge)
    }

    /// Where answers to messages of so many hops may enter.
    ///
    /// A message of one hop has its reply blocks begin at the requester's edges. Whether one of them is an own edge is
    /// chance, and whether there is a way to answer must not be: all of them are taken, or none.
    fn answers_to(&self, hops: u8) -> Answers {
        match (hops, self.config.level) {
            (PUBLIC_HOPS, Some(PUBLIC_HOPS)) => Answers::Anywhere,
            (PUBLIC_HOPS, _) => Answers::Nowhere,
            _ => Answers::OwnEdges,
        }
    }

    /// The public key that belongs into the own address.
    #[must_use]
    pub fn sealing_key(&self) -> [u8; 32] {
        self.contexts.key().public()
    }

    /// The next thing to do, or `None` when all is done. Deletions come last, many in one.
    pub fn next_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        self.deletes.pop_first().map(|(edge, seqs)| Effect::Delete { edge, seqs })
    }

    /// When [`Courier::tick`] is due next for what is under way.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<u64> {
        self.timers.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> CourierStats {
        CourierStats {
            in_flight: self.window.in_flight(),
            window: self.window.size(),
            outgoing_messages: self.outgoing.len(),
            open_requests: self.requests.len(),
            unfinished_incoming: self.reassembler.unfinished() + self.spools.unfinished(),
            uncommitted: self.reassembler.uncommitted(),
            reassembly_bytes: self.reassembler.used_bytes(),
            bulk_in_flight: self.bulk_window.in_flight(),
            bulk_window: self.bulk_window.size(),
            spooled_bytes: self.spools.used_bytes(),
            ..self.stats.clone()
        }
    }

    fn wall_ms(&self, now_ms: u64) -> u64 {
        now_ms.wrapping_add_signed(self.wall_ahead_ms)
    }

    fn drop_item(&mut self, item: ItemRef, reason: &'static str) {
        self.count_drop(reason);
        self.delete(item);
    }

    fn count_drop(&mut self, reason: &'static str) {
        *self.stats.dropped.entry(reason).or_default() += 1;
    }

    fn delete(&mut self, item: ItemRef) {
        self.deletes.entry(item.edge).or_default().push(item.seq);
    }
}

impl<R> std::fmt::Debug for Courier<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").field("outgoing", &self.outgoing.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
