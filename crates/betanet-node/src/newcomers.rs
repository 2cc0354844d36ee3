//! Connections that have shown nothing yet: each holds its place until somebody else needs it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, oneshot};

use crate::sync::lock;

/// A bounded number of places; whoever has waited longest gives way to who comes.
#[derive(Debug)]
pub(crate) struct Newcomers {
    most: usize,
    share: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Somebody who was told to go has gone.
    gone: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    /// Told to go, and not gone yet.
    going: usize,
}

#[derive(Debug)]
struct Waiting {
    origin: Option<IpAddr>,
    /// Its end tells the connection to go.
    _stay: oneshot::Sender<()>,
}

impl Queue {
    /// Tells whoever came first of those to go.
    fn send_away(&mut self, among: impl Fn(&Waiting) -> bool) {
        let first = self.waiting.iter().find(|(_, waiting)| among(waiting)).map(|(number, _)| *number);
        if let Some(number) = first {
            self.waiting.remove(&number);
            self.going += 1;
        }
    }
}

impl Newcomers {
    /// Room for `most`, of which one origin has `share`.
    pub(crate) fn new(most: usize, share: usize) -> Self {
        Self { most: most.max(1), share: share.max(1), shared: Arc::default() }
    }

    /// A place for one more. Without an origin only the total counts.
    pub(crate) fn come(&self, origin: Option<IpAddr>) -> Newcomer {
        let mut queue = lock(&self.shared.queue);
        let of_origin = |waiting: &Waiting| waiting.origin == origin;
        if origin.is_some() && queue.waiting.values().filter(|waiting| of_origin(waiting)).count() >= self.share {
            queue.send_away(of_origin);
        } else if queue.waiting.len() >= self.most {
            queue.send_away(|_| true);
        }
        let number = queue.next;
        queue.next += 1;
        let (stay, told) = oneshot::channel();
        queue.waiting.insert(number, Waiting { origin, _stay: stay });
        Newcomer { number, told, shared: Arc::clone(&self.shared) }
    }

    /// Waits until whoever was told to go has gone. Who accepts connections waits here before the next,
    /// so that there are never many more than there are places. For one task.
    pub(crate) async fn settled(&self) {
        while lock(&self.shared.queue).going > 0 {
            self.shared.gone.notified().await;
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
        if queue.waiting.remove(&self.number).is_none() {
            queue.going -= 1;
            self.shared.gone.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn stays(newcomer: &mut Newcomer) -> bool {
        newcomer.told.try_recv() == Err(TryRecvError::Empty)
    }

    /// INV-LINK-36
    #[test]
    fn whoever_has_waited_longest_gives_way() {
        let newcomers = Newcomers::new(3, 3);
        let mut all: Vec<_> = (0..3).map(|_| newcomers.come(None)).collect();
        assert!(all.iter_mut().all(stays));
        drop(all.remove(1));
        all.push(newcomers.come(None));
        assert!(all.iter_mut().all(stays), "there was a place");
        all.push(newcomers.come(None));
        assert_eq!(vec![false, true, true, true], all.iter_mut().map(stays).collect::<Vec<_>>());
    }

    /// INV-LINK-17
    #[test]
    fn one_address_gives_way_to_itself_before_others_do() {
        let newcomers = Newcomers::new(5, 2);
        let address = |last| Some(IpAddr::from([192, 0, 2, last]));
        let mut other = newcomers.come(address(7));
        let mut of_one: Vec<_> = (0..4).map(|_| newcomers.come(address(1))).collect();
        assert!(stays(&mut other));
        assert_eq!(vec![false, false, true, true], of_one.iter_mut().map(stays).collect::<Vec<_>>());
    }

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
        assert!(lock(&newcomers.shared.queue).waiting.is_empty());
    }

    fn look<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
