//! What each kind of flood does, at each edge.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use betanet_mix::view::{Address, Mailbox, Signed, Verified, WorkerDescriptor, WorkerId};
use betanet_node::control::{Answer, ControlChannel, Op, Outcome, Request, mailbox_of};
use betanet_node::link::frame::Item;
use betanet_node::link::{Frame, LinkReader, LinkSender, Received};
use betanet_node::net::Endpoint;
use betanet_sphinx::{MailboxId, NodeId};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::maker::{self, Batch, Mailboxes, Shape};
use super::tally::Tally;
use super::{Kind, Settings, Trouble, links};
use crate::site::{Site, fresh_key, open};
use crate::{Failure, now_ms};

/// Pause before an edge that refused is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// Mailboxes that are remembered for each edge, to be filled.
const MAILBOXES: usize = 20_000;

/// Item acks in a frame.
const ACKS: u64 = 256;

/// Batches of spoiled packets before something else that breaks the protocol.
const SPOILED: u64 = 20;

/// How long a worker's descriptor holds.
const WORKER_LIFE_MS: u64 = 600_000;

type Batches = Arc<Mutex<mpsc::Receiver<Batch>>>;

/// What goes on over one link until that ends.
#[derive(Clone)]
enum Act {
    /// Packets that a thread makes.
    Packets(Batches),
    /// The same, and now and then what is no item of a client's.
    Garbage(Batches),
    /// One mailbox, and then another link.
    OpenMailbox(Mailboxes),
    /// A mailbox of one's own, and acks for items that are or are not in it.
    AckItems(Mailboxes),
    /// Workers that nobody has heard of.
    Publish,
    /// The worker list, again and again.
    AskForWorkers,
}

/// Begins a flood at all edges, and at the authority as far as it takes links of strangers.
pub(super) fn start(
    Settings { kind, links, .. }: Settings,
    site: &Arc<Site>,
    tally: &Arc<Tally>,
    tasks: &mut JoinSet<()>,
) -> Result<(), Failure> {
    for edge in &site.edges {
        let made = |shape| maker::start(Arc::clone(site), edge.id, shape).map(|batches| Arc::new(Mutex::new(batches)));
        let held = Mailboxes::default();
        let acts = match kind {
            Kind::Packets => vec![Act::Packets(made(Shape::Through)?)],
            Kind::Garbage => vec![Act::Garbage(made(Shape::Spoiled)?)],
            Kind::Mailboxes => {
                let items = made(Shape::Items(Arc::clone(&held), false))?;
                vec![Act::OpenMailbox(held), Act::Packets(items)]
            }
            Kind::Acks => {
                let items = made(Shape::Items(Arc::clone(&held), true))?;
                vec![Act::AckItems(held), Act::Packets(items)]
            }
            Kind::Links => {
                links::start(edge, links, tally, tasks);
                continue;
            }
            Kind::Workers => vec![Act::Publish, Act::AskForWorkers],
        };
        for act in acts.iter().cycle().take(links.max(acts.len())) {
            tasks.spawn(go_on(edge.clone(), act.clone(), Arc::clone(tally)));
        }
    }
    match kind {
        Kind::Links => links::start(&site.authority, links, tally, tasks),
        Kind::Workers => {
            for act in [Act::Publish, Act::AskForWorkers] {
                tasks.spawn(go_on(site.authority.clone(), act, Arc::clone(tally)));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Does it over one link after the other.
async fn go_on(to: Endpoint, act: Act, tally: Arc<Tally>) {
    loop {
        match open(&to).await {
            Ok((sender, reader, key)) => {
                tally.sent("links", 1);
                let mailbox = mailbox_of(key.verifying_key().as_bytes());
                let ended = match &act {
                    Act::OpenMailbox(held) => open_mailbox(held, mailbox, sender, reader, &tally).await,
                    act => tokio::select! {
                        done = act.over(to.id, &sender, mailbox, &tally) => done,
                        () = read(reader, act, &sender, &tally) => Err("the link ended".into()),
                    },
                };
                if ended.is_ok() {
                    continue;
                }
                tally.refused("link ended");
            }
            Err(_) => tally.refused("link"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn open_mailbox(
    held: &Mailboxes,
    mailbox: MailboxId,
    sender: LinkSender,
    reader: LinkReader,
    tally: &Tally,
) -> Result<(), Trouble> {
    tally.turn(1).await;
    let attached = ControlChannel::ask_over(sender, reader, async |channel| channel.call(Op::Attach).await);
    match attached.await.ok_or("the link ended")? {
        Ok(_) => {
            tally.sent("mailboxes", 1);
            remember(held, mailbox);
        }
        Err(_) => tally.refused("mailbox"),
    }
    Ok(())
}

fn remember(held: &Mailboxes, mailbox: MailboxId) {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    if held.len() < MAILBOXES {
        held.push(mailbox);
    }
}

impl Act {
    /// Goes on until the link ends.
    async fn over(&self, to: NodeId, link: &LinkSender, mailbox: MailboxId, tally: &Tally) -> Result<(), Trouble> {
        for id in 0.. {
            match self {
                Self::Packets(batches) => send(batches, link, tally).await?,
                Self::Garbage(batches) => {
                    send(batches, link, tally).await?;
                    if id % SPOILED == SPOILED - 1 {
                        link.send(Frame::control(b"no message".to_vec())).await?;
                        tally.sent("malformed messages", 1);
                    }
                }
                Self::OpenMailbox(_) => return Ok(()),
                Self::AckItems(held) => {
                    if id == 0 {
                        ask(link, 0, Op::Attach).await?;
                        remember(held, mailbox);
                    }
                    let seqs: Vec<u64> = (id * ACKS..).take(usize::try_from(ACKS)?).collect();
                    for frame in Frame::item_acks(&seqs) {
                        tally.turn(1).await;
                        link.send(frame).await?;
                        tally.sent("ack frames", 1);
                    }
                }
                Self::Publish => {
                    tally.turn(1).await;
                    ask(link, id, Op::PutWorker { worker: worker(to)? }).await?;
                    tally.sent("workers", 1);
                }
                Self::AskForWorkers => {
                    tally.turn(1).await;
                    ask(link, id, Op::GetWorkers { have: None }).await?;
                    tally.sent("requests", 1);
                }
            }
        }
        Ok(())
    }
}

async fn send(batches: &Batches, link: &LinkSender, tally: &Tally) -> Result<(), Trouble> {
    let batch = batches.lock().await.recv().await.ok_or("no packets are made any more")?;
    for packet in batch {
        tally.turn(1).await;
        link.send(Frame::packet(packet)).await?;
        tally.sent("packets", 1);
    }
    Ok(())
}

async fn ask(link: &LinkSender, id: u64, op: Op) -> Result<(), Trouble> {
    Ok(link.send_message(&Request { id, op }).await?)
}

/// Takes what comes over a link, until it ends.
async fn read(mut reader: LinkReader, act: &Act, link: &LinkSender, tally: &Tally) {
    loop {
        match reader.next().await {
            Ok(Received::Item(Item { seq, .. })) => {
                tally.came("items");
                if matches!(act, Act::AckItems(_)) {
                    for frame in Frame::item_acks(&[seq]) {
                        // A full queue is a flood as well.
                        let _ = link.try_send(frame);
                    }
                }
            }
            Ok(Received::Message(message)) => match Received::message(&message) {
                Ok(Answer::Reply { outcome: Outcome::Refused { .. }, .. }) => tally.refused("request"),
                _ => tally.came("answers"),
            },
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// A worker that nobody has heard of.
fn worker(edge: NodeId) -> Result<Signed, Trouble> {
    let key = fresh_key()?;
    let id = key.verifying_key().to_bytes();
    let now_ms = now_ms();
    let descriptor = WorkerDescriptor {
        id: WorkerId(id),
        name: "flood".to_owned(),
        kinds: vec!["wasm".to_owned()],
        slots: 1,
        memory_bytes: 1 << 30,
        limits: None,
        groups: Vec::new(),
        address: Address::new(vec![Mailbox { edge, mailbox: mailbox_of(&id) }], id)?,
        issued_ms: now_ms,
        level: None,
        expires_ms: now_ms + WORKER_LIFE_MS,
    };
    Ok(Verified::sign(descriptor, &key)?.signed().clone())
}
