//! A set of 64-bit entries that keeps 32 bits of each, exactly, and grows by small steps.
//!
//! The upper half of an entry chooses a *group*. How many groups there are follows from what the set may hold in all and
//! in a group on average.
//! The lower half, the *mark*, is kept in the group's table. The table has lines of sixteen places, as long as a line of
//! the processor's cache. A mark stands in the line at its share of the table's length, or where that is full, in one
//! behind it. Places fill from the front and are never emptied, so a lookup ends at a line that has room: mostly the first.
//!
//! A table becomes a twelfth longer when it is fifteen sixteenths full. It is made of pages, and all pages have one size:
//! growing moves one group's marks, stops nobody for long, and leaves no memory in pieces that fit nothing.
//!
//! Two entries count as one if they share group and mark. A new entry meets the marks of one group and no others: where
//! `n` are held in `g` groups, it is taken for an old one with a probability of `n / g` / 2³², whatever the groups hold
//! one by one.

use std::borrow::Borrow;

/// Places in a line: 64 bytes.
const LINE: usize = 16;
/// Lines in a page.
const PAGE: usize = 4;
/// Groups in a row. The pages of one number of all groups in a row lie side by side, 32 KiB, and are there or not
/// together.
const ROW: usize = 128;
/// A table becomes longer when this many of [`PARTS`] of its places are taken.
const TAKEN: usize = 15;
const PARTS: usize = 16;
/// By what part of itself it becomes longer then.
const STEP: usize = 12;
/// What a group holds at most.
pub(super) const GROUP_MAX: usize = 4096;
/// Groups of the largest set.
const GROUPS_MAX: usize = 1 << 20;
const EMPTY: u32 = 0;

type Line = [u32; LINE];
type Page = [Line; PAGE];

/// The set.
pub(super) struct Marks {
    groups: Vec<Group>,
    /// How many groups there are once something is held.
    group_count: usize,
    pages: Pages,
    moving: Moving,
}

/// The group of an entry holds as much as it may. Entries that are evenly spread fill none before the set is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Crowded;

impl Marks {
    /// An empty set for `capacity` entries, `mean` to a group. It takes no memory before the first of them.
    pub(super) fn new(capacity: usize, mean: usize) -> Self {
        let group_count = capacity.div_ceil(mean.max(1)).clamp(1, GROUPS_MAX);
        Self { groups: Vec::new(), group_count, pages: Pages::new(group_count), moving: Moving::default() }
    }

    /// Adds an entry; `false` if it is held already.
    pub(super) fn insert(&mut self, entry: u64) -> Result<bool, Crowded> {
        if self.groups.is_empty() {
            self.groups = vec![Group::default(); self.group_count];
        }
        let (index, mark) = self.split(entry);
        let group = self.groups.get_mut(index).ok_or(Crowded)?;
        let mut table = Table { index, pages: &mut self.pages, length: usize::from(group.pages) };
        let Err(mut line) = table.find(mark) else { return Ok(false) };
        if usize::from(group.held) >= GROUP_MAX {
            return Err(Crowded);
        }
        if (usize::from(group.held) + 1) * PARTS > table.lines() * LINE * TAKEN {
            table.lengthen(&mut self.moving);
            group.pages = u16::try_from(table.length).map_err(|_| Crowded)?;
            line = table.find(mark).err().ok_or(Crowded)?;
        }
        table.put(line, mark);
        group.held += 1;
        Ok(true)
    }

    /// Whether an entry is held.
    pub(super) fn contains(&self, entry: u64) -> bool {
        let (index, mark) = self.split(entry);
        let table = |group: &Group| Table { index, pages: &self.pages, length: usize::from(group.pages) };
        self.groups.get(index).is_some_and(|group| table(group).find(mark).is_ok())
    }

    /// How many groups there are.
    #[cfg(test)]
    pub(super) fn groups(&self) -> usize {
        self.group_count
    }

    /// Bytes of memory that the set takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.pages.memory_bytes()
            + self.groups.capacity() * size_of::<Group>()
            + self.moving.marks.capacity() * size_of::<u32>()
            + self.moving.filled.capacity()
    }

    fn split(&self, entry: u64) -> (usize, u32) {
        let mark = u32::try_from(entry & u64::from(u32::MAX)).unwrap_or(EMPTY);
        // There is no mark that says nothing.
        (share(entry >> 32, self.group_count), mark.max(1))
    }
}

/// Where 32 even bits fall in a row of `count`.
fn share(bits: u64, count: usize) -> usize {
    let product = u128::from(bits) * u128::try_from(count).unwrap_or(0);
    usize::try_from(product >> 32).unwrap_or(0)
}

#[derive(Clone, Copy, Default)]
struct Group {
    held: u16,
    pages: u16,
}

/// One group's places.
struct Table<P> {
    index: usize,
    pages: P,
    /// In pages.
    length: usize,
}

impl<P: Borrow<Pages>> Table<P> {
    fn lines(&self) -> usize {
        self.length * PAGE
    }

    /// Whether a mark is there, or else the line that has room for it.
    fn find(&self, mark: u32) -> Result<(), usize> {
        let lines = self.lines();
        let mut number = share(u64::from(mark), lines);
        for _ in 0..lines {
            let Some(line) = self.pages.borrow().line(self.index, number) else { break };
            if line.contains(&mark) {
                return Ok(());
            }
            if line.last() == Some(&EMPTY) {
                break;
            }
            number = if number + 1 == lines { 0 } else { number + 1 };
        }
        Err(number)
    }
}

impl Table<&mut Pages> {
    /// Adds a mark to a line that has room.
    fn put(&mut self, line: usize, mark: u32) {
        let line = self.pages.line_mut(self.index, line);
        if let Some(place) = line.and_then(|line| line.iter_mut().find(|place| **place == EMPTY)) {
            *place = mark;
        }
    }

    /// Makes the table longer and puts its marks where they belong now.
    fn lengthen(&mut self, moving: &mut Moving) {
        moving.marks.clear();
        for number in 0..self.lines() {
            if let Some(line) = self.pages.line_mut(self.index, number) {
                moving.marks.extend(line.iter().filter(|mark| **mark != EMPTY));
                line.fill(EMPTY);
            }
        }
        self.length += (self.length / STEP).max(1);
        self.pages.make(self.index, self.length);
        let lines = self.lines();
        moving.filled.clear();
        moving.filled.resize(lines, 0);
        for mark in moving.marks.iter().copied() {
            let mut number = share(u64::from(mark), lines);
            // A table that has become longer has room.
            for _ in 0..lines {
                let Some(filled) = moving.filled.get_mut(number) else { break };
                let line = self.pages.line_mut(self.index, number);
                if let Some(place) = line.and_then(|line| line.get_mut(usize::from(*filled))) {
                    *place = mark;
                    *filled += 1;
                    break;
                }
                number = if number + 1 == lines { 0 } else { number + 1 };
            }
        }
    }
}

/// Where a group's marks lie while its table is made longer.
#[derive(Default)]
struct Moving {
    marks: Vec<u32>,
    /// How many places of each line are taken again.
    filled: Vec<u8>,
}

/// Pages of all groups: by number, by row, by place in the row.
struct Pages {
    groups: usize,
    segments: Vec<Box<[Page]>>,
}

impl Pages {
    fn new(groups: usize) -> Self {
        Self { groups, segments: Vec::new() }
    }

    fn rows(&self) -> usize {
        self.groups.div_ceil(ROW)
    }

    /// Lets a group have `length` pages.
    fn make(&mut self, group: usize, length: usize) {
        let (rows, row) = (self.rows(), group / ROW);
        if self.segments.len() < length * rows {
            self.segments.resize_with(length * rows, Box::default);
        }
        let in_row = ROW.min(self.groups - row * ROW);
        for segment in self.segments.iter_mut().skip(row).step_by(rows).take(length).filter(|pages| pages.is_empty()) {
            *segment = vec![[[EMPTY; LINE]; PAGE]; in_row].into_boxed_slice();
        }
    }

    fn line(&self, group: usize, number: usize) -> Option<&Line> {
        let segment = self.segments.get(number / PAGE * self.rows() + group / ROW)?;
        segment.get(group % ROW)?.get(number % PAGE)
    }

    fn line_mut(&mut self, group: usize, number: usize) -> Option<&mut Line> {
        let rows = self.rows();
        let segment = self.segments.get_mut(number / PAGE * rows + group / ROW)?;
        segment.get_mut(group % ROW)?.get_mut(number % PAGE)
    }

    fn memory_bytes(&self) -> usize {
        let pages: usize = self.segments.iter().map(|segment| segment.len()).sum();
        pages * size_of::<Page>() + self.segments.capacity() * size_of::<Box<[Page]>>()
    }
}

#[cfg(test)]
mod tests;
