//! Bulk messages that arrive: which pieces of them are on the disk, and which are on their way there.
//!
//! Nothing of them lies at the edges, and little in memory: a piece is written to the client's folder, and only then named
//! in an ack. So a crash loses nothing that was acknowledged, and whatever finds no room is dropped, for its sender repeats
//! it. Each message is its own source: what a flood opens is bounded in number and in bytes, and whoever needs room takes
//! the place of the message that has waited longest for its next piece, but not of one that goes on.

use std::collections::{BTreeMap, BTreeSet};

use betanet_sphinx::Surb;

use super::bulk::{BULK_DATA_LEN, BulkMessage, Pieces, WindowAck};
use super::seal::AckKey;
use super::{MAX_MESSAGE_LEN, MAX_REPLY_SURBS, MessageId};

/// Answers to probes that wait until what arrived before them is on the disk, for each message. Newer ones say more.
const MAX_WAITING_PROBES: usize = 8;

/// A message id and the context that its pieces are sealed under: a sender that restarts cuts and seals anew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpoolKey {
    /// The message.
    pub id: MessageId,
    /// The context of its sender.
    pub context: [u8; 32],
}

/// What is known of a message whose pieces are kept, from the start of its spool on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpoolHead {
    /// The number of hops it was sealed for.
    pub hops: u8,
    /// Its pieces.
    pub total: u16,
    /// When it expires, Unix milliseconds.
    pub expiry_ms: u64,
}

/// Bounds of [`Spools`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpoolLimits {
    /// Most messages at a time, whole ones that wait for their commit included.
    pub messages: u16,
    /// Most bytes of them on the disk.
    pub bytes: u64,
    /// A message that got a piece within this time keeps its place, in milliseconds.
    pub idle_ms: u64,
    /// Most pieces that wait to be written, of all messages.
    pub unwritten: u16,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self { messages: 64, bytes: 1024 * 1024 * 1024, idle_ms: 2_000, unwritten: 4_096 }
    }
}

/// What became of a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TakenPiece {
    /// To be written; [`Spools::written`] says that it is.
    Write,
    /// Of no use; the text is the reason for the counter.
    Useless(&'static str),
}

/// An answer to a probe that can go now.
#[derive(Debug)]
pub struct ProbeAnswer {
    /// What it goes over.
    pub surb: Surb,
    /// What seals it.
    pub key: AckKey,
    /// What it says.
    pub ack: WindowAck,
}

/// All spools of one client.
#[derive(Debug, Default)]
pub struct Spools {
    limits: SpoolLimits,
    kept: BTreeMap<SpoolKey, Spool>,
    /// Bytes of all of them, those on their way to the disk included.
    used: u64,
    unwritten: usize,
}

#[derive(Debug)]
struct Spool {
    head: SpoolHead,
    place: u32,
    pieces: Pieces,
    /// Pieces that are being written.
    writing: BTreeSet<u16>,
    /// Bytes of the last piece, once it came.
    last_len: Option<u16>,
    bytes: u64,
    touched_ms: u64,
    probes: Vec<(Surb, AckKey)>,
    /// Tells the sender as soon as the message is whole, should this client be gone when it asks.
    spare: Option<(Surb, AckKey)>,
    is_delivered: bool,
}

impl Spools {
    /// None.
    #[must_use]
    pub fn new(limits: SpoolLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Bytes that are kept or on their way to the disk.
    #[must_use]
    pub const fn used_bytes(&self) -> u64 {
        self.used
    }

    /// Messages that lack pieces.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.kept.values().filter(|spool| !spool.pieces.is_whole()).count()
    }

    /// Takes what a spool from before a restart holds. `false` if it is of no use and can go.
    pub fn restore(
        &mut self,
        now_ms: u64,
        place: u32,
        key: SpoolKey,
        head: SpoolHead,
        pieces: Pieces,
        last_len: Option<u16>,
    ) -> bool {
        let bytes = u64::from(pieces.count()) * piece_len();
        if self.kept.len() >= usize::from(self.limits.messages) || self.used + bytes > self.limits.bytes {
            return false;
        }
        self.used += bytes;
        let spool = Spool {
            head,
            place,
            pieces,
            writing: BTreeSet::new(),
            last_len,
            bytes,
            touched_ms: now_ms,
            probes: Vec::new(),
            spare: None,
            is_delivered: false,
        };
        self.kept.insert(key, spool);
        true
    }

    /// Takes a piece. `discarded` gets the spools that made room.
    #[expect(clippy::too_many_arguments, reason = "the fields of one packet")]
    pub fn take(
        &mut self,
        now_ms: u64,
        place: u32,
        key: SpoolKey,
        head: SpoolHead,
        index: u16,
        len: usize,
        discarded: &mut Vec<SpoolKey>,
    ) -> TakenPiece {
        let stream = usize::from(head.total).saturating_sub(1) * BULK_DATA_LEN;
        if stream > MAX_MESSAGE_LEN + MAX_REPLY_SURBS * betanet_sphinx::SURB_LEN {
            return TakenPiece::Useless("message_too_large");
        }
        match self.kept.get(&key) {
            Some(spool) if spool.head != head => return TakenPiece::Useless("inconsistent_fragment"),
            Some(spool) if spool.pieces.contains(index) || spool.writing.contains(&index) => {
                return TakenPiece::Useless("duplicate_fragment");
            }
            _ => {}
        }
        if self.unwritten >= usize::from(self.limits.unwritten) || !self.make_room(now_ms, &key, discarded) {
            return TakenPiece::Useless("spool_full");
        }
        let spool = self.kept.entry(key).or_insert_with(|| Spool {
            head,
            place,
            pieces: Pieces::none(head.total),
            writing: BTreeSet::new(),
            last_len: None,
            bytes: 0,
            touched_ms: now_ms,
            probes: Vec::new(),
            spare: None,
            is_delivered: false,
        });
        spool.touched_ms = now_ms;
        spool.writing.insert(index);
        spool.bytes += piece_len();
        if index.checked_add(1) == Some(head.total) {
            spool.last_len = u16::try_from(len).ok();
        }
        self.used += piece_len();
        self.unwritten += 1;
        TakenPiece::Write
    }

    fn make_room(&mut self, now_ms: u64, wanted_by: &SpoolKey, discarded: &mut Vec<SpoolKey>) -> bool {
        let SpoolLimits { messages, bytes, idle_ms, .. } = self.limits;
        loop {
            let is_new = !self.kept.contains_key(wanted_by);
            if self.used + piece_len() <= bytes && (!is_new || self.kept.len() < usize::from(messages)) {
                return true;
            }
            let others = self.kept.iter().filter(|(key, spool)| *key != wanted_by && !spool.pieces.is_whole());
            let longest = others.min_by_key(|(_, spool)| spool.touched_ms);
            let idle = longest.filter(|(_, spool)| now_ms.saturating_sub(spool.touched_ms) >= idle_ms);
            let Some(key) = idle.map(|(key, _)| *key) else { return false };
            self.remove(&key);
            discarded.push(key);
        }
    }

    /// Says that pieces are on the disk. Gives the answers that waited for it; [`Spools::take_whole`] says what is whole.
    pub fn written(&mut self, key: &SpoolKey, indexes: &[u16]) -> Vec<ProbeAnswer> {
        self.unwritten = self.unwritten.saturating_sub(indexes.len());
        let Some(spool) = self.kept.get_mut(key) else { return Vec::new() };
        for index in indexes {
            if spool.writing.remove(index) {
                spool.pieces.insert(*index);
            }
        }
        spool.answers()
    }

    /// Says that pieces could not be written: they are dropped.
    pub fn not_written(&mut self, key: &SpoolKey, indexes: &[u16]) -> Vec<ProbeAnswer> {
        self.unwritten = self.unwritten.saturating_sub(indexes.len());
        let Some(spool) = self.kept.get_mut(key) else { return Vec::new() };
        for index in indexes {
            if spool.writing.remove(index) {
                spool.bytes = spool.bytes.saturating_sub(piece_len());
                self.used = self.used.saturating_sub(piece_len());
            }
        }
        spool.answers()
    }

    /// Takes a probe. Gives the answers that can go at once; the others follow from [`Spools::written`].
    pub fn probe(&mut self, key: &SpoolKey, surbs: Vec<Surb>, ack_key: &AckKey) -> Vec<ProbeAnswer> {
        let Some(spool) = self.kept.get_mut(key) else {
            let nothing = WindowAck::of(0, &Pieces::none(0));
            let answer = |surb| ProbeAnswer { surb, key: ack_key.clone(), ack: nothing.clone() };
            return surbs.into_iter().take(1).map(answer).collect();
        };
        let mut surbs = surbs.into_iter().map(|surb| (surb, ack_key.clone()));
        spool.probes.extend(surbs.next());
        spool.spare = surbs.next().or(spool.spare.take());
        let too_many = spool.probes.len().saturating_sub(MAX_WAITING_PROBES);
        spool.probes.drain(..too_many);
        spool.answers()
    }

    /// Whether anything of the message is kept.
    #[must_use]
    pub fn has(&self, key: &SpoolKey) -> bool {
        self.kept.contains_key(key)
    }

    /// What the packets of a message say.
    #[must_use]
    pub fn head(&self, key: &SpoolKey) -> Option<SpoolHead> {
        self.kept.get(key).map(|spool| spool.head)
    }

    /// The length of the stream if the message has just become whole; once.
    pub fn take_whole(&mut self, key: &SpoolKey) -> Option<u64> {
        let spool = self.kept.get_mut(key).filter(|spool| spool.pieces.is_whole() && !spool.is_delivered)?;
        let last_len = spool.last_len?;
        spool.is_delivered = true;
        let before = u64::from(spool.head.total.saturating_sub(1)) * piece_len();
        Some(before + u64::from(last_len))
    }

    /// Forgets spools of a message, all but `except`; gives their names.
    pub fn forget(&mut self, id: MessageId, except: Option<&SpoolKey>) -> Vec<SpoolKey> {
        let range = SpoolKey { id, context: [0; 32] }..=SpoolKey { id, context: [0xff; 32] };
        let gone: Vec<_> = self.kept.range(range).map(|(key, _)| *key).filter(|key| Some(key) != except).collect();
        for key in &gone {
            self.remove(key);
        }
        gone
    }

    /// Gives up messages that got nothing for so long that their senders have given up, and gives their names.
    pub fn give_up(&mut self, now_ms: u64, attached_ms: u64, after_ms: u64) -> Vec<SpoolKey> {
        let is_gone = |spool: &Spool| {
            !spool.pieces.is_whole() && now_ms.saturating_sub(spool.touched_ms.max(attached_ms)) >= after_ms
        };
        let gone: Vec<_> = self.kept.iter().filter(|(_, spool)| is_gone(spool)).map(|(key, _)| *key).collect();
        for key in &gone {
            self.remove(key);
        }
        gone
    }

    fn remove(&mut self, key: &SpoolKey) -> Option<Spool> {
        let spool = self.kept.remove(key)?;
        self.used = self.used.saturating_sub(spool.bytes);
        Some(spool)
    }
}

impl Spool {
    /// What waits, once all that arrived before is on the disk.
    fn answers(&mut self) -> Vec<ProbeAnswer> {
        if !self.writing.is_empty() {
            return Vec::new();
        }
        let ack = if self.pieces.is_whole() { WindowAck::Whole } else { WindowAck::of(self.place, &self.pieces) };
        if ack == WindowAck::Whole {
            self.probes.extend(self.spare.take());
        }
        self.probes.drain(..).map(|(surb, key)| ProbeAnswer { surb, key, ack: ack.clone() }).collect()
    }
}

impl SpoolHead {
    /// What the packets of a message say.
    #[must_use]
    pub const fn of(message: &BulkMessage, hops: u8) -> Self {
        Self { hops, total: message.total, expiry_ms: message.expiry_ms }
    }
}

fn piece_len() -> u64 {
    u64::try_from(BULK_DATA_LEN).unwrap_or(u64::MAX)
}
