//! Links to the client's own edges, which are kept up as long as it runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use betanet_sphinx::NodeId;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::{ClientLinks, LINK_QUEUE, LinkEvent};
use crate::client::offline::{EdgeFailure, reason_of};
use crate::client::store::OwnMailbox;
use crate::control::{ControlChannel, ControlError, Op, Outcome};
use crate::link::{Dialer, LinkError, LinkReader, LinkSender, LinkTimeouts, Received};
use crate::net::Endpoint;
use crate::sync::lock;

/// First and longest pause between attempts to reach an edge.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The longest pause after an edge has been away for as long.
const LONG_AWAY: Duration = Duration::from_hours(1);
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// How often an edge is asked for the time: clocks drift, and a machine may stand still unnoticed.
const TIME_AGAIN: Duration = Duration::from_secs(15);

/// The tasks that keep the client's own edges attached.
#[derive(Debug)]
pub(in crate::client) struct KeptLinks {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    runtime: Handle,
    links: Arc<ClientLinks>,
}

impl KeptLinks {
    /// Starts to keep links to the client's edges, whichever they are.
    pub(in crate::client) fn start<E: From<LinkEvent> + Send + 'static>(
        links: &Arc<ClientLinks>,
        events: &mpsc::Sender<E>,
    ) -> Self {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let (all, events, mut stopped) = (Arc::clone(links), events.clone(), stop.subscribe());
        tasks.spawn(async move {
            let mut tasks = JoinSet::new();
            tokio::select! {
                () = keep_all_attached(&all, &events, &mut tasks) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
            tasks.shutdown().await;
        });
        Self { tasks, stop, runtime: Handle::current(), links: Arc::clone(links) }
    }

    /// Where new links run.
    pub(in crate::client) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Ends the tasks and waits until what is queued is written, but not longer than `patience`.
    pub(in crate::client) async fn close(mut self, patience: Duration) {
        self.stop.send_replace(true);
        self.links.close_passing();
        let channels: Vec<_> = lock(&self.links.channels).drain().collect();
        let _ = tokio::time::timeout(patience, async {
            while self.tasks.join_next().await.is_some() {}
            for (_, channel) in channels {
                channel.finish().await;
            }
        })
        .await;
    }
}

/// Runs one task for each of the client's mailboxes, as they come and go.
async fn keep_all_attached<E: From<LinkEvent> + Send + 'static>(
    links: &Arc<ClientLinks>,
    events: &mpsc::Sender<E>,
    tasks: &mut JoinSet<()>,
) {
    let mut own = links.own.subscribe();
    let mut kept: HashMap<NodeId, AbortHandle> = HashMap::new();
    loop {
        let wanted = own.borrow_and_update().clone();
        kept.retain(|edge, task| {
            let stays = wanted.iter().any(|mailbox| mailbox.edge.id == *edge);
            if !stays {
                task.abort();
            }
            stays
        });
        for mailbox in wanted {
            let Endpoint { id, address } = mailbox.edge.clone();
            if kept.contains_key(&id) {
                continue;
            }
            match Dialer::new(&mailbox.key, LinkTimeouts::default()) {
                Ok(dialer) => {
                    let own = KeptLink { links: Arc::clone(links), mailbox, dialer, events: events.clone() };
                    kept.insert(id, tasks.spawn(async move { own.keep_attached().await }));
                }
                Err(error) => links.note(id, Some(EdgeFailure { address, reason: reason_of(&error) })),
            }
        }
        if own.changed().await.is_err() {
            return;
        }
    }
}

/// The task that keeps one of the client's mailboxes attached.
struct KeptLink<E> {
    links: Arc<ClientLinks>,
    mailbox: OwnMailbox,
    dialer: Dialer,
    events: mpsc::Sender<E>,
}

impl<E: From<LinkEvent>> KeptLink<E> {
    async fn keep_attached(&self) {
        let edge = self.mailbox.edge.id;
        let mut pause = BACK_OFF.0;
        let mut last_up = Instant::now();
        loop {
            let address = self.links.address(edge).unwrap_or_else(|| self.mailbox.edge.address.clone());
            let up = Instant::now();
            let dialled = self.dialer.dial(&address, *edge.as_bytes(), LINK_QUEUE).await;
            let note = |reason: String| self.links.note(edge, Some(EdgeFailure { address: address.clone(), reason }));
            if let Err(error) = &dialled {
                note(reason_of(error));
            }
            if let Ok((sender, reader)) = dialled {
                let ended = self.serve(sender, reader).await;
                note(ended.map_or_else(|error| format!("ended the link: {error}"), |()| "ended the link".into()));
                self.links.time.forget(edge);
                lock(&self.links.channels).remove(&edge);
                if self.events.send(LinkEvent::Detached { edge }.into()).await.is_err() {
                    return;
                }
                if up.elapsed() > BACK_OFF.1 {
                    pause = BACK_OFF.0;
                }
                last_up = Instant::now();
            }
            tokio::time::sleep(pause).await;
            // What has been away for long is asked for rarely: it may be gone, and is asked for as long as it may come back.
            let longest = if last_up.elapsed() > LONG_AWAY { LONG_PAUSE } else { BACK_OFF.1 };
            pause = (pause * 2).min(longest);
        }
    }

    async fn serve(&self, sender: LinkSender, mut reader: LinkReader) -> Result<(), ControlError> {
        let edge = self.mailbox.edge.id;
        let channel = ControlChannel::new(sender.clone());
        let read = async {
            loop {
                match reader.next().await? {
                    Received::Item(item) => self.tell(LinkEvent::Item { edge, item }).await?,
                    Received::Message(message) => {
                        let documents = channel.take(&message)?;
                        self.links.accept(&documents);
                        if !documents.is_empty() {
                            self.tell(LinkEvent::ViewChanged).await?;
                        }
                    }
                    Received::Packets(_) | Received::ItemAck(_) => {
                        return Err::<(), ControlError>(LinkError::Message.into());
                    }
                }
            }
        };
        let set_up = async {
            // First of all: without it a consensus may seem to have run out.
            self.links.hear_time(edge, &channel).await?;
            self.ask_consensus(&channel).await?;
            channel.call(Op::Attach).await?;
            lock(&self.links.channels).insert(edge, channel.clone());
            self.links.note(edge, None);
            let mailbox = self.mailbox.mailbox();
            self.tell(LinkEvent::Attached { mailbox, link: sender, channel: channel.clone() }).await?;
            loop {
                tokio::time::sleep(TIME_AGAIN).await;
                if self.links.hear_time(edge, &channel).await? {
                    self.ask_consensus(&channel).await?;
                    self.tell(LinkEvent::ViewChanged).await?;
                }
            }
        };
        tokio::select! {
            ended = read => ended,
            ended = set_up => ended,
        }
    }

    async fn ask_consensus(&self, channel: &ControlChannel) -> Result<(), ControlError> {
        let have = self.links.consensuses.borrow().hashes();
        if let Outcome::Consensus { documents } = channel.call(Op::GetConsensus { have, follow: true }).await? {
            self.links.accept(&documents);
        }
        Ok(())
    }

    async fn tell(&self, event: LinkEvent) -> Result<(), ControlError> {
        self.events.send(event.into()).await.map_err(|_| LinkError::Closed.into())
    }
}
