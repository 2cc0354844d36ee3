//! What happens in the network, in the order of its times.

use betanet_mix::message::ItemRef;
use betanet_sphinx::{Action, MailboxId, NodeId, PACKET_LEN};

use crate::client::ClientIndex;

#[derive(Debug)]
pub(super) struct Event {
    pub(super) at_us: u64,
    pub(super) order: u64,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A packet reaches a node.
    Arrive { node: usize, packet: Box<[u8; PACKET_LEN]> },
    /// A node has held a packet for as long as it owed.
    Release { node: usize, action: Action, packet: Box<[u8; PACKET_LEN]> },
    /// An edge hands an item to its mailbox's owner.
    HandOver { client: ClientIndex, item: ItemRef, mailbox: MailboxId },
    /// An edge hands a payload that it did not store to the client it is for.
    PassOn { client: ClientIndex, edge: NodeId, payload: Vec<u8> },
    /// A client's timer.
    Tick { client: ClientIndex },
    /// The next epoch begins.
    Epoch,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.order) == (other.at_us, other.order)
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}
