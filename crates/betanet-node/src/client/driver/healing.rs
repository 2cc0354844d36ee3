//! Replacing an own edge that is gone.

use betanet_mix::own_edges::{FORMER_MS, draw_edges};
use betanet_sphinx::NodeId;

use super::Driver;
use crate::net::Endpoint;
use crate::random::os_rng;
use crate::state::StateError;

impl Driver {
    /// Looks whether an own edge is lost, and moves its mailbox; gives up mailboxes that were moved long ago.
    pub(super) fn heal(&mut self, now: u64) {
        let wall = (self.clocks.wall)();
        // What cannot be written down is tried again at the next look.
        let moved = self.give_up_former(wall).and_then(|over| Ok(self.replace_lost(now, wall)? || over));
        match moved {
            Ok(true) => self.moved(),
            Ok(false) => {}
            Err(error) => self.trouble = Some(format!("cannot move a mailbox: {error}")),
        }
    }

    fn give_up_former(&mut self, wall: u64) -> Result<bool, StateError> {
        let over = self.store.expire_former(wall)?;
        for edge in &over {
            self.own.remove(edge);
        }
        Ok(!over.is_empty())
    }

    fn replace_lost(&mut self, now: u64, wall: u64) -> Result<bool, StateError> {
        let Some(view) = self.links.view_at(wall) else { return Ok(false) };
        let own: Vec<(NodeId, bool)> =
            self.store.mailboxes().iter().map(|mailbox| (mailbox.edge, self.own.contains_key(&mailbox.edge))).collect();
        let Some((lost, reason)) = self.watched.look(now, wall, &view, &own) else { return Ok(false) };
        let kept: Vec<NodeId> = own.iter().map(|(edge, _)| *edge).filter(|edge| *edge != lost).collect();
        let drawn = draw_edges(&mut os_rng(), &view, &kept, &self.store.edges(), 1);
        let Some(node) = drawn.first().and_then(|id| view.node(*id)) else { return Ok(false) };
        let edge = Endpoint { id: node.id(), address: node.link_address().clone() };
        let redraws = self.watched.redraws_with(wall);
        self.store.replace(lost, edge, wall.saturating_add(FORMER_MS), redraws.clone())?;
        self.watched.redrawn(redraws);
        tracing::info!(?reason, "mailbox.moved");
        Ok(true)
    }

    /// Makes everybody go by the mailboxes that the folder has now.
    fn moved(&mut self) {
        self.courier.set_own_edges(self.store.edges());
        self.links.set_own(self.store.own_mailboxes());
        self.shared.set_address(self.store.address());
        self.update_mailboxes();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

    use betanet_mix::view::{Consensus, Role, Signed, Verified};
    use ed25519_dalek::SigningKey;

    use super::super::tests::{NOW_MS, attach, authority, consensus, driver, link, plant};
    use super::*;
    use crate::client::ClientError;
    use crate::client::store::ClientStore;
    use crate::fixtures;
    use crate::net::NetFile;

    const MINUTE_MS: u64 = 60_000;

    /// The next revision of the driver's consensus, in which only these nodes stand.
    fn listing(numbers: &[u8]) -> Signed {
        let first =
            consensus().verify::<Consensus>(&[NodeId::from(authority().verifying_key().to_bytes())], 1).unwrap();
        let keys: Vec<_> = numbers.iter().map(|number| SigningKey::from_bytes(&[*number; 32])).collect();
        let nodes = fixtures::consensus(&keys.iter().collect::<Vec<_>>(), 0, first.hash()).nodes;
        let nodes = nodes.into_iter().map(|mut node| {
            node.descriptor.role = Role::Entry;
            node.descriptor.keys = node.descriptor.keys.into_values().map(|key| (first.epoch, key)).collect();
            node
        });
        let mut next =
            Consensus { revision: 1, previous_hash: first.hash(), nodes: nodes.collect(), ..(*first).clone() };
        next.delays.opening_hash = first.hash();
        Verified::sign(next, &authority()).unwrap().signed().clone()
    }

    /// INV-LINK-75, INV-LINK-77: the mailbox at an edge that is gone moves; what lies at the former edge still arrives, and the
    /// folder knows both.
    #[tokio::test]
    async fn a_mailbox_moves_from_an_edge_that_is_gone() {
        let (mut driver, dir, wall) = driver();
        let before = driver.shared.address();
        let [gone, stays] = [before.mailboxes()[0].edge, before.mailboxes()[1].edge];
        let number = |edge| {
            (2..6)
                .find(|number| edge == NodeId::from(SigningKey::from_bytes(&[*number; 32]).verifying_key().to_bytes()))
        };
        driver.links.accept(&[listing(&[number(stays).unwrap(), 4])]);
        driver.refresh_view();
        driver.heal(0);
        driver.heal(29 * MINUTE_MS);
        assert_eq!(before, driver.shared.address(), "it may be back soon");
        driver.heal(30 * MINUTE_MS);
        let after = driver.shared.address();
        let fresh = after.mailboxes()[0];
        assert_eq!((number(fresh.edge), after.mailboxes()[1]), (Some(4), before.mailboxes()[1]));
        assert_eq!(before.sealing_key(), after.sealing_key());

        let ((old, _old), (new, _new)) = (link().await, link().await);
        attach(&mut driver, before.mailboxes()[0], &old);
        assert_eq!(0, driver.usable().count(), "nothing is sent over the former edge");
        plant(&mut driver);
        driver.act_on_all();
        assert_eq!(1, driver.backlog.len(), "what lies there is taken");
        attach(&mut driver, fresh, &new);
        assert_eq!(1, driver.usable().count());
        driver.publish_details(0);
        let told = driver.shared.status().edges;
        let told: Vec<_> = told.into_iter().map(|edge| (edge.id, edge.current, edge.attached)).collect();
        assert_eq!(vec![(fresh.edge, true, true), (stays, true, false), (gone, false, true)], told);

        // Over a restart, and until the time is over.
        drop(driver.store);
        let net = NetFile {
            network: "test".into(),
            authority: Endpoint { id: gone, address: "127.0.0.1:1".parse().unwrap() },
            edges: Vec::new(),
            one_operator: true,
            http: [].into(),
        };
        let open = || ClientStore::open(dir.path(), &net, 2);
        let mut store = open().unwrap();
        assert_eq!((after.clone(), 1), (store.address(), store.redraws().len()));
        assert!(
            store.edges().contains(&gone)
                && store.own_mailboxes().iter().any(|own| own.mailbox() == before.mailboxes()[0])
        );
        assert!(matches!(open(), Err(ClientError::State(_))), "the folder has an owner");
        assert!(store.expire_former(NOW_MS + FORMER_MS - 1).unwrap().is_empty());
        assert_eq!(vec![gone], store.expire_former(NOW_MS + FORMER_MS).unwrap());
        assert!(!store.edges().contains(&gone));
        assert_eq!(NOW_MS, wall.load(std::sync::atomic::Ordering::Relaxed));
    }

    /// What cannot be written down has not happened, is told, and is tried again.
    #[test]
    fn a_move_that_cannot_be_written_down_waits() {
        let (mut driver, dir, _wall) = driver();
        let before = driver.shared.address();
        driver.links.accept(&[listing(&[4, 5])]);
        driver.heal(0);
        std::fs::remove_dir_all(dir.path()).unwrap();
        driver.heal(30 * MINUTE_MS);
        assert_eq!(before, driver.shared.address());
        assert!(driver.trouble.as_ref().is_some_and(|trouble| trouble.starts_with("cannot move a mailbox")));
        std::fs::create_dir(dir.path()).unwrap();
        driver.heal(30 * MINUTE_MS + 1);
        assert_ne!(before, driver.shared.address());
    }
}
