//! Which middle nodes lose packets, told from tries whose paths are known.
//!
//! A *try* is one packet of the client's own with the packet that answers it: a fragment and its stored-ack, or a loop.
//! Its middles are drawn afresh, by chance and by the client alone, so a node that loses nothing stands on lost tries as
//! often as on others between the same ends. How often chance would put it there follows from how many tries were lost
//! between each pair of ends, whatever made them lost: a link that broke, a recipient's edge that is down, a burst. Only
//! what goes far beyond that is evidence.
//!
//! A node that drops what comes from, or goes to, one honest neighbour spoils the figures of both. So the evidence
//! against a node also has to hold among the tries without each single other node that stood beside it. Nodes that
//! collude can still blame another one; and somebody who floods honest nodes so that they lose packets wants them
//! avoided. Both gain little: a node is avoided for a while only, and so are few at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use betanet_sphinx::NodeId;

use crate::path::Path;

/// Tries that are remembered, and for how long.
const TRIES: usize = 2048;
const MEMORY_MS: u64 = 10 * 60_000;
/// How long a node is avoided.
pub const EXCLUDED_MS: u64 = 10 * 60_000;
/// One of this many middles may be avoided at a time, and at least one.
const EXCLUDED_SHARE: usize = 5;
/// Evidence is a result that chance brings about less often than once in e^`AGAINST` cases, for each of the middles…
const AGAINST: f64 = 20.0;
/// …and in e^`BESIDE` cases without each other node of the path.
const BESIDE: f64 = 12.0;
/// Of the tries that should have come back by chance, less than this part has.
const SURVIVING: f64 = 0.7;
/// Fewer tries through a node tell nothing.
const MIN_TRIES: u32 = 5;

/// The nodes that one try depended on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trail {
    ends: Ends,
    middles: Vec<NodeId>,
}

/// What all tries have in common that are compared with each other: hops, where the packet entered, where it was
/// answered, and where the answer came to.
type Ends = (usize, [NodeId; 3]);

impl Trail {
    /// Of a packet and its answer.
    #[must_use]
    pub fn there_and_back(there: &Path, back: &Path) -> Self {
        let mut trail = Self { ends: (there.hops.len(), [there.first, there.edge, back.edge]), middles: Vec::new() };
        trail.pass(there);
        trail.pass(back);
        trail
    }

    /// Of a loop.
    #[must_use]
    pub fn around(path: &Path) -> Self {
        let mut trail = Self { ends: (path.hops.len(), [path.first, path.edge, path.edge]), middles: Vec::new() };
        trail.pass(path);
        trail
    }

    /// The number of hops of each way.
    #[must_use]
    pub fn hops(&self) -> usize {
        self.ends.0
    }

    fn pass(&mut self, path: &Path) {
        let inner = path.hops.len().saturating_sub(2);
        for hop in path.hops.iter().skip(1).take(inner) {
            if !self.middles.contains(&hop.node) {
                self.middles.push(hop.node);
            }
        }
    }

    fn has(&self, node: NodeId) -> bool {
        self.ends.1.contains(&node) || self.middles.contains(&node)
    }
}

/// Why a node is avoided.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Exclusion {
    /// Tries over the node.
    pub tries: u32,
    /// How many of them did not come back.
    pub lost: u32,
    /// How many would not have if the node lost nothing.
    pub expected: f64,
    /// Until when, by the clock that never jumps.
    pub until_ms: u64,
}

impl Exclusion {
    /// As [`Exclusion::expected`], rounded down.
    #[must_use]
    pub fn expected_whole(&self) -> u32 {
        (0..=self.tries).rev().find(|whole| f64::from(*whole) <= self.expected).unwrap_or(0)
    }
}

struct Try {
    at_ms: u64,
    trail: Trail,
    lost: bool,
}

/// What a client remembers of its tries, and whom it avoids because of them.
#[derive(Default)]
pub struct Evidence {
    tries: VecDeque<Try>,
    excluded: BTreeMap<NodeId, Exclusion>,
    /// Since when the tries of a node count that was avoided before, or that is new.
    counts_since: BTreeMap<NodeId, u64>,
    /// Something was lost since the last look.
    is_news: bool,
}

impl Evidence {
    /// Takes the end of a try into account.
    pub fn record(&mut self, now_ms: u64, trail: Trail, lost: bool) {
        // With one hop, or two, there is no middle whom it could tell anything about.
        if trail.middles.is_empty() {
            return;
        }
        if self.tries.len() >= TRIES {
            self.tries.pop_front();
        }
        self.tries.push_back(Try { at_ms: now_ms, trail, lost });
        self.is_news |= lost;
    }

    /// Who is avoided, and why.
    #[must_use]
    pub fn excluded(&self) -> &BTreeMap<NodeId, Exclusion> {
        &self.excluded
    }

    /// Looks at what is known by now; says whether somebody is avoided from now on, or no longer.
    ///
    /// `middles` are the nodes that middles are drawn from.
    pub fn judge(&mut self, now_ms: u64, middles: &BTreeSet<NodeId>) -> bool {
        let before = self.excluded.len();
        let counts_since = &mut self.counts_since;
        self.excluded.retain(|node, exclusion| {
            let stays = exclusion.until_ms > now_ms && middles.contains(node);
            if !stays {
                counts_since.insert(*node, now_ms);
            }
            stays
        });
        let mut changed = self.excluded.len() < before;
        self.tries.retain(|one| one.at_ms.saturating_add(MEMORY_MS) > now_ms);
        self.counts_since.retain(|_, since| since.saturating_add(MEMORY_MS) > now_ms);
        if !std::mem::take(&mut self.is_news) {
            return changed;
        }
        let most = (middles.len() / EXCLUDED_SHARE).max(1);
        let mut suspects = self.suspects(middles);
        suspects.sort_by(|(_, one), (_, other)| other.against().total_cmp(&one.against()));
        for (node, figures) in suspects {
            if self.excluded.len() >= most {
                break;
            }
            if self.holds_without_any_other(node) {
                let Figures { tries, lost, expected } = figures;
                let until_ms = now_ms.saturating_add(EXCLUDED_MS);
                self.excluded.insert(node, Exclusion { tries, lost, expected, until_ms });
                changed = true;
            }
        }
        changed
    }

    /// Middles that more tries were lost over than chance explains.
    fn suspects(&self, middles: &BTreeSet<NodeId>) -> Vec<(NodeId, Figures)> {
        let rates = Rates::of(&self.tries);
        let mut all: HashMap<NodeId, Figures> = HashMap::new();
        for one in &self.tries {
            let rate = rates.between(&one.trail.ends);
            for node in &one.trail.middles {
                all.entry(*node).or_default().add(one.lost, rate);
            }
        }
        let against = AGAINST + f64::from(u32::try_from(middles.len()).unwrap_or(u32::MAX)).ln();
        let known = |node: &NodeId| middles.contains(node) && !self.excluded.contains_key(node);
        all.into_iter()
            .filter(|(node, figures)| known(node) && figures.speak_against(against))
            .filter_map(|(node, _)| {
                // Once more, with what was tried while the node could be drawn.
                let figures = self.figures(node, None);
                figures.speak_against(against).then_some((node, figures))
            })
            .collect()
    }

    /// Whether the evidence is there without the tries that any one other node had a part in.
    fn holds_without_any_other(&self, node: NodeId) -> bool {
        let beside: BTreeSet<NodeId> = self
            .tries
            .iter()
            .filter(|one| one.lost && one.trail.has(node))
            .flat_map(|one| one.trail.ends.1.iter().chain(&one.trail.middles))
            .filter(|other| **other != node)
            .copied()
            .collect();
        beside.into_iter().all(|other| self.figures(node, Some(other)).speak_against(BESIDE))
    }

    /// The figures of a node, of the tries that `without` had no part in.
    fn figures(&self, node: NodeId, without: Option<NodeId>) -> Figures {
        let since = self.counts_since.get(&node).copied();
        let counts = |one: &&Try| {
            since.is_none_or(|since| one.at_ms >= since) && without.is_none_or(|other| !one.trail.has(other))
        };
        let rates = Rates::of(self.tries.iter().filter(counts));
        let mut figures = Figures::default();
        for one in self.tries.iter().filter(counts).filter(|one| one.trail.middles.contains(&node)) {
            figures.add(one.lost, rates.between(&one.trail.ends));
        }
        figures
    }
}

/// The part of the tries that was lost, between each two ends.
struct Rates<'a>(HashMap<&'a Ends, (u32, u32)>);

impl<'a> Rates<'a> {
    fn of(tries: impl IntoIterator<Item = &'a Try>) -> Self {
        let mut rates: HashMap<&Ends, (u32, u32)> = HashMap::new();
        for one in tries {
            let (all, lost) = rates.entry(&one.trail.ends).or_default();
            *all += 1;
            *lost += u32::from(one.lost);
        }
        Self(rates)
    }

    fn between(&self, ends: &Ends) -> f64 {
        self.0.get(ends).map_or(0.0, |(all, lost)| f64::from(*lost) / f64::from((*all).max(1)))
    }
}

/// What became of the tries over one node.
#[derive(Clone, Copy, Default)]
struct Figures {
    tries: u32,
    lost: u32,
    expected: f64,
}

impl Figures {
    fn add(&mut self, lost: bool, rate: f64) {
        self.tries += 1;
        self.lost += u32::from(lost);
        self.expected += rate;
    }

    fn speak_against(&self, nats: f64) -> bool {
        let surviving = f64::from(self.tries - self.lost);
        let should = f64::from(self.tries) - self.expected;
        self.tries >= MIN_TRIES && surviving < SURVIVING * should && self.against() > nats
    }

    /// The negative logarithm of a bound on the probability that chance loses as many or more.
    ///
    /// Given how many tries were lost between two ends, those over a node that loses nothing are a sample drawn without
    /// replacement from all of them. Hoeffding (1963, theorems 1 and 4): the probability that the sum of such samples
    /// exceeds its mean by that much is at most exp(−n·D), where D is the relative entropy of the two rates.
    fn against(&self) -> f64 {
        let tries = f64::from(self.tries);
        let (seen, chance) = (f64::from(self.lost) / tries.max(1.0), self.expected / tries.max(1.0));
        if seen <= chance {
            return 0.0;
        }
        let part = |seen: f64, chance: f64| if seen > 0.0 { seen * (seen / chance).ln() } else { 0.0 };
        tries * (part(seen, chance) + part(1.0 - seen, 1.0 - chance))
    }
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence")
            .field("tries", &self.tries.len())
            .field("excluded", &self.excluded.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
