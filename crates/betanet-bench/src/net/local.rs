//! A local network as a process tree of its own, seen from outside.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use betanet_node::http;
use betanet_node::localnet::{self, LocalnetState};
use betanet_node::net::{NET_FILE, NetFile};

use crate::Failure;
use crate::child::{Child, processor_time, resident_mib, wait_for};

/// Nodes of a local network that is not told otherwise.
const NODES: usize = 10;

/// A running local network of ten nodes.
#[derive(Debug)]
pub struct Local {
    folder: PathBuf,
    state: LocalnetState,
    net: NetFile,
    _owner: Child,
}

impl Local {
    /// Starts it in an empty folder, with `more` arguments, and waits until every node lists all of them.
    ///
    /// # Errors
    /// It does not start, or not in time.
    pub async fn start(betanet: &Path, folder: PathBuf, more: &[&str]) -> Result<Self, Failure> {
        let arguments = ["localnet", "run", "--exact-metrics", "--die-with-parent", "--dir"].map(OsStr::new);
        let arguments = arguments.into_iter().chain([folder.as_os_str()]);
        let arguments: Vec<_> = arguments.chain(more.iter().map(OsStr::new)).collect();
        let owner = Child::start(betanet, None, &arguments, &[])?;
        let ready = async || {
            let nodes = localnet::status(&folder).await.ok()?;
            let ready = nodes.iter().filter_map(|node| node.health.as_ref());
            let ready = ready.filter(|health| health.healthy && health.nodes == Some(NODES)).count();
            (ready == NODES).then_some(())
        };
        wait_for("the network", ready).await?;
        let state = serde_json::from_slice(&std::fs::read(folder.join(localnet::STATE_FILE))?)?;
        let net = NetFile::read_again(&folder.join(NET_FILE))?;
        Ok(Self { folder, state, net, _owner: owner })
    }

    /// The file by which clients find it.
    #[must_use]
    pub fn bootstrap(&self) -> PathBuf {
        self.folder.join(NET_FILE)
    }

    /// How long all its processes have run, added up.
    ///
    /// # Errors
    /// One is gone.
    pub fn processor_time(&self) -> Result<Duration, Failure> {
        Ok(self.pids().map(processor_time).sum::<Result<_, _>>()?)
    }

    /// Memory of all its processes; what they share counts for each.
    ///
    /// # Errors
    /// One is gone.
    pub fn resident_mib(&self) -> Result<f64, Failure> {
        Ok(self.pids().map(resident_mib).sum::<Result<_, _>>()?)
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        self.state.children.values().copied().chain([self.state.pid])
    }

    /// One histogram of all nodes, added up.
    ///
    /// # Errors
    /// A node does not answer.
    pub async fn times(&self, name: &str) -> Result<Times, Failure> {
        let mut times = Times::default();
        for address in self.net.http.values() {
            let (_, page) = http::get(*address, "/metrics").await?;
            times.add(&page, name);
        }
        Ok(times)
    }
}

/// The buckets of a histogram: how many times were not longer than each bound, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Times(BTreeMap<u64, (f64, u64)>);

impl Times {
    fn add(&mut self, page: &str, name: &str) {
        let start = format!("{name}_bucket{{le=\"");
        for line in page.lines().filter_map(|line| line.strip_prefix(&start)) {
            let Some((bound, count)) = line.split_once("\"} ") else { continue };
            let bound = bound.parse().unwrap_or(f64::INFINITY);
            let (_, total) = self.0.entry(f64::to_bits(bound)).or_insert((bound, 0));
            *total += count.trim().parse().unwrap_or(0);
        }
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        for (bound, (_, count)) in &mut self.0 {
            *count -= before.0.get(bound).map_or(0, |(_, before)| *before);
        }
        self
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().map(|(_, count)| *count).max().unwrap_or(0)
    }

    /// The time that so many thousandths did not exceed, in milliseconds; in between two bounds, as if all were spread
    /// evenly there.
    #[must_use]
    pub fn per_mille_ms(&self, share: u32) -> f64 {
        let float = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let wanted = float(self.total()) * f64::from(share) / 1000.0;
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in self.0.values().map(|(bound, count)| (*bound, float(*count))) {
            if count >= wanted && count > below {
                let part = (wanted - below) / (count - below);
                return if bound.is_finite() { 1000.0 * (from + (bound - from) * part) } else { f64::INFINITY };
            }
            (from, below) = (bound, count);
        }
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_of_several_nodes_says_what_came_between_two_looks() {
        let page = |few: u64, more: u64, all: u64| {
            format!(
                "other_bucket{{le=\"0.001\"}} 9\nlate_sum 4.0\nlate_bucket{{le=\"0.001\"}} {few}\n\
                 late_bucket{{le=\"0.005\"}} {more}\nlate_bucket{{le=\"+Inf\"}} {all}\n"
            )
        };
        let mut before = Times::default();
        before.add(&page(100, 100, 100), "late");
        let mut after = before.clone();
        after.add(&page(30, 50, 50), "late");
        after.add(&page(20, 49, 50), "late");
        let times = after.since(&before);
        assert_eq!(100, times.total());
        for (share, ms) in [(250, 0.5), (500, 1.0), (745, 3.0), (990, 5.0)] {
            let found = times.per_mille_ms(share);
            assert!((found - ms).abs() < 1e-9, "{share} ‰ is {found} ms");
        }
        assert!(times.per_mille_ms(1000).is_infinite());
    }
}
