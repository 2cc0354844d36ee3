//! A bounded queue that many sources share, none at the cost of another.
//!
//! Half of the places and every second turn are for nodes, half for clients; what one half does not use is the other's.
//! Within a half, sources take turns one packet at a time, and where the queue is full, the place is taken from whoever
//! holds most. So a source loses nothing as long as it holds less than an equal part of its half, whatever others send.

use std::collections::{TryReserveError, VecDeque};

/// Room that a source keeps for its packets while it has none.
const KEPT: usize = 256;

/// Turns that a source can owe at most; with more it could not work off within a moment what it did in one.
const MOST_DEBT: u32 = 1024;

/// Which half of the queue a source belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Members of the network, and what a node sends to itself.
    Nodes,
    /// Everybody else.
    Clients,
}

impl Side {
    const fn index(self) -> usize {
        match self {
            Self::Nodes => 0,
            Self::Clients => 1,
        }
    }
}

/// A source of a [`FairQueue`]; of no use in another, and of none after [`FairQueue::leave`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SourceId {
    index: usize,
    generation: u64,
}

/// A bounded queue with sources. In steady state it does not allocate.
#[derive(Debug)]
pub struct FairQueue<T> {
    capacity: usize,
    len: usize,
    sources: Vec<Source<T>>,
    /// Places in `sources` that nobody has.
    free: Vec<usize>,
    halves: [Half; 2],
    /// The half whose turn it is.
    turn: usize,
}

#[derive(Debug)]
struct Source<T> {
    generation: u64,
    side: Side,
    waiting: VecDeque<T>,
    /// Turns that it has to let pass.
    debt: u32,
    /// Nobody holds its id any more; it goes once nothing of it waits.
    left: bool,
}

#[derive(Debug, Default)]
struct Half {
    len: usize,
    /// Sources with something that waits, in the order of their turns.
    ring: VecDeque<usize>,
}

impl<T> FairQueue<T> {
    /// A queue for up to `capacity` packets of all sources together; at least two.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(2),
            len: 0,
            sources: Vec::new(),
            free: Vec::new(),
            halves: Default::default(),
            turn: 0,
        }
    }

    /// One more source.
    pub fn join(&mut self, side: Side) -> SourceId {
        if let Some((index, source)) = self.free.pop().and_then(|index| Some((index, self.sources.get_mut(index)?))) {
            *source = Source { side, debt: 0, left: false, ..std::mem::take(source) };
            return SourceId { index, generation: source.generation };
        }
        self.sources.push(Source { side, ..Source::default() });
        SourceId { index: self.sources.len() - 1, generation: 0 }
    }

    /// A source ends; what waits of it keeps its place.
    pub fn leave(&mut self, id: SourceId) {
        if let Some(source) = self.source(id) {
            source.left = true;
            self.tidy(id.index);
        }
    }

    /// Asks for the memory of `more` items of a source, as far as they have room: then taking them asks for none.
    ///
    /// # Errors
    /// There is none.
    pub fn reserve(&mut self, id: SourceId, more: usize) -> Result<(), TryReserveError> {
        let room = self.capacity - self.len.min(self.capacity);
        if let Some(source) = self.source(id) {
            source.waiting.try_reserve(more.min(room))?;
            let side = source.side.index();
            if let Some(half) = self.halves.get_mut(side) {
                half.ring.try_reserve(1)?;
            }
        }
        Ok(())
    }

    /// Takes an item of a source. Gives back what has found no room: an item of whoever holds most, or this one if that
    /// is its own source or if there is no such source.
    pub fn push(&mut self, id: SourceId, item: T) -> Option<T> {
        let Some((side, held)) = self.source(id).map(|source| (source.side, source.waiting.len())) else {
            return Some(item);
        };
        let mut dropped = None;
        if self.len >= self.capacity {
            match self.victim(side, held) {
                Some(victim) => dropped = self.evict(victim),
                None => return Some(item),
            }
        }
        let Some(source) = self.sources.get_mut(id.index) else {
            return Some(item);
        };
        source.waiting.push_back(item);
        self.len += 1;
        if let Some(half) = self.halves.get_mut(side.index()) {
            half.len += 1;
            if held == 0 {
                half.ring.push_back(id.index);
            }
        }
        dropped
    }

    /// The next item: of the halves in turn, and within a half of the sources in turn.
    pub fn pop(&mut self) -> Option<T> {
        while self.len > 0 {
            let other = 1 - self.turn;
            let waiting = |half: usize| self.halves.get(half).map_or(0, |half| half.ring.len());
            let (of_this, of_other) = (waiting(self.turn), waiting(other));
            if of_this == 0 {
                self.turn = other;
                continue;
            }
            let index = self.halves.get_mut(self.turn)?.ring.pop_front()?;
            let source = self.sources.get_mut(index)?;
            // Who owes turns lets others pass, if there are any.
            let passes = source.debt > 0 && of_this + of_other > 1;
            let item = if passes {
                source.debt -= 1;
                None
            } else {
                source.waiting.pop_front()
            };
            let has_more = !source.waiting.is_empty();
            let half = self.halves.get_mut(self.turn)?;
            if has_more {
                half.ring.push_back(index);
            }
            // A turn that is let pass goes to the next of the same half, if it has one.
            if of_other > 0 && (!passes || of_this == 1) {
                self.turn = other;
            }
            if let Some(item) = item {
                half.len -= 1;
                self.len -= 1;
                self.tidy(index);
                return Some(item);
            }
        }
        None
    }

    /// A source has to let turns pass to others, for what it sent.
    pub fn charge(&mut self, id: SourceId, turns: u32) {
        if let Some(source) = self.source(id) {
            source.debt = source.debt.saturating_add(turns).min(MOST_DEBT);
        }
    }

    /// Items that there is room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Items that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn source(&mut self, id: SourceId) -> Option<&mut Source<T>> {
        self.sources.get_mut(id.index).filter(|source| source.generation == id.generation && !source.left)
    }

    /// Whose item makes way in the full queue for one of a source that holds `held`; nobody's if that holds most.
    fn victim(&self, side: Side, held: usize) -> Option<usize> {
        let own = self.halves.get(side.index())?;
        let has_its_half = own.len >= self.capacity / 2;
        let half = if has_its_half { own } else { self.halves.get(1 - side.index())? };
        let held_at = |index: usize| self.sources.get(index).map_or(0, |source| source.waiting.len());
        let (index, most) = half.ring.iter().map(|index| (*index, held_at(*index))).max_by_key(|(_, held)| *held)?;
        (!has_its_half || most > held).then_some(index)
    }

    /// Drops the newest item of a source.
    fn evict(&mut self, index: usize) -> Option<T> {
        let source = self.sources.get_mut(index)?;
        let item = source.waiting.pop_back()?;
        let is_empty = source.waiting.is_empty();
        self.len -= 1;
        let half = self.halves.get_mut(source.side.index())?;
        half.len -= 1;
        if is_empty {
            half.ring.retain(|waiting| *waiting != index);
        }
        self.tidy(index);
        Some(item)
    }

    /// Gives back what a source without items does not need.
    fn tidy(&mut self, index: usize) {
        if let Some(source) = self.sources.get_mut(index).filter(|source| source.waiting.is_empty()) {
            if source.left {
                *source = Source { generation: source.generation + 1, ..Source::default() };
                self.free.push(index);
            } else if source.waiting.capacity() > KEPT {
                source.waiting.shrink_to(KEPT);
            }
        }
    }
}

impl<T> Default for Source<T> {
    fn default() -> Self {
        Self { generation: 0, side: Side::Clients, waiting: VecDeque::new(), debt: 0, left: false }
    }
}

#[cfg(test)]
mod tests;
