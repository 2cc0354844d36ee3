//! What is cheaper for several commands together than for one after the other.

use super::{ClientCommand, Driver};
use crate::client::links::LinkEvent;
use crate::link::frame::{Item, ItemBody};

impl Driver {
    /// Has the courier do together what is cheaper so.
    pub(super) fn prepare(&mut self, batch: &[ClientCommand]) {
        let recipients: Vec<_> = batch
            .iter()
            .filter_map(|command| match command {
                ClientCommand::Send { to, .. } | ClientCommand::Request { to, .. } => Some(*to.sealing_key()),
                _ => None,
            })
            .collect();
        let payloads = batch.iter().filter_map(|command| match command {
            ClientCommand::Link(LinkEvent::Item { item: Item { body: ItemBody::Forward(payload), .. }, .. }) => {
                Some(payload.as_slice())
            }
            _ => None,
        });
        self.courier.prepare(&recipients, payloads);
    }
}
