//! Connections that have shown nothing yet: each holds its place until somebody else needs it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use betanet_mix::places::WaitingPlaces;
use tokio::sync::{Notify, oneshot};

use crate::sync::lock;

/// A bounded number of places; whoever has waited longest gives way to who comes.
#[derive(Debug)]
pub(crate) struct Newcomers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Somebody who was told to go has gone.
    gone: Notify,
}

#[derive(Debug)]
struct Queue {
    places: WaitingPlaces,
    /// By the number of the place; its end tells the connection to go.
    stay: HashMap<u64, oneshot::Sender<()>>,
}

impl Newcomers {
    /// Room for `most`, of which one origin has `share`.
    pub(crate) fn new(most: usize, share: usize) -> Self {
        let queue = Queue { places: WaitingPlaces::new(most, share), stay: HashMap::new() };
        Self(Arc::new(Shared { queue: Mutex::new(queue), gone: Notify::new() }))
    }

    /// A place for one more. Without an origin only the total counts.
    pub(crate) fn come(&self, origin: Option<IpAddr>) -> Newcomer {
        let mut queue = lock(&self.0.queue);
        let place = queue.places.come(origin);
        if let Some(number) = place.instead_of {
            queue.stay.remove(&number);
        }
        let (stay, told) = oneshot::channel();
        queue.stay.insert(place.number, stay);
        Newcomer { number: place.number, told, shared: Arc::clone(&self.0) }
    }

    /// Waits until whoever was told to go has gone. Who accepts connections waits here before the next,
    /// so that there are never many more than there are places. For one task.
    pub(crate) async fn settled(&self) {
        while !lock(&self.0.queue).places.are_settled() {
            self.0.gone.notified().await;
        }
    }
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Newcomer {
    number: u64,
    told: oneshot::Receiver<()>,
    shared: Arc<Shared>,
}

impl Newcomer {
    /// Resolves when somebody else needs the place; its connection is to be closed before it is given
    /// back.
    pub(crate) async fn gives_way(&mut self) {
        let _ = (&mut self.told).await;
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.stay.remove(&self.number);
        if queue.places.leave(self.number) {
            self.shared.gone.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// INV-LINK-36
    #[tokio::test]
    async fn nobody_is_let_in_before_who_was_told_to_go_has_gone() {
        let newcomers = Newcomers::new(1, 1);
        newcomers.settled().await;
        let mut first = newcomers.come(None);
        newcomers.settled().await;
        let second = newcomers.come(None);
        first.gives_way().await;
        let mut settled = Box::pin(newcomers.settled());
        assert!(look(&mut settled).is_pending());
        drop(first);
        settled.await;
        drop(second);
        assert!(lock(&newcomers.0.queue).stay.is_empty());
    }

    fn look<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
