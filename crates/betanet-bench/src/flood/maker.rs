//! Packets of floods, made ahead by a thread of their own.

use std::sync::{Arc, Mutex, PoisonError};

use betanet_mix::message::{EnvelopeKind, SEALED_LEN, encode_envelope};
use betanet_mix::pool::Buffer;
use betanet_sphinx::{Draft, Hop, MailboxId, NodeId, Surb, SurbDraft, SurbId, build_forward_batch, build_surb_batch};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use tokio::sync::mpsc;

use crate::site::Site;
use crate::{Failure, fresh_rng};

/// Packets that are made at a time.
const BATCH: usize = 64;

/// Batches that are made ahead.
const AHEAD: usize = 8;

/// Packets, all for one edge.
pub(super) type Batch = Vec<Buffer>;

/// Mailboxes of the flooder, at one edge.
pub(super) type Mailboxes = Arc<Mutex<Vec<MailboxId>>>;

/// What the packets are.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Three hops, to mailboxes that nobody has.
    Through,
    /// The same, spoiled: nothing in them but the group element is what it was.
    Spoiled,
    /// One hop, to mailboxes of the flooder, once there are some; whether stored-acks are wanted, over the network.
    Items(Mailboxes, bool),
}

/// Makes packets for one edge until nobody wants them any more.
pub(super) fn start(site: Arc<Site>, edge: NodeId, shape: Shape) -> Result<mpsc::Receiver<Batch>, Failure> {
    let (sender, batches) = mpsc::channel(AHEAD);
    let mut maker = Maker { rng: fresh_rng()?, site, edge, shape, pattern: Batch::new() };
    // What fails from the start fails for the caller.
    maker.pattern = maker.through()?;
    std::thread::Builder::new().name("maker".into()).spawn(move || {
        // It ends with the receiver, or where the keys that it knows are gone.
        while maker.batch().is_ok_and(|batch| sender.blocking_send(batch).is_ok()) {}
    })?;
    Ok(batches)
}

struct Maker {
    rng: ChaCha20Rng,
    site: Arc<Site>,
    edge: NodeId,
    shape: Shape,
    /// Good packets, as they were at the start.
    pattern: Batch,
}

impl Maker {
    fn batch(&mut self) -> Result<Batch, Failure> {
        match self.shape.clone() {
            Shape::Through => self.through(),
            Shape::Spoiled => Ok(self.spoiled()),
            Shape::Items(mailboxes, with_acks) => self.items(&mailboxes, with_acks),
        }
    }

    /// Costs no multiplication: that is for the edge.
    fn spoiled(&mut self) -> Batch {
        let Self { rng, pattern, .. } = self;
        let spoil = |packet: &Buffer| {
            let mut spoiled = Buffer::from(packet.to_vec());
            if let Some(rest) = spoiled.get_mut(GROUP_ELEMENT_END..) {
                rng.fill_bytes(rest);
            }
            spoiled
        };
        pattern.iter().map(spoil).collect()
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let number = usize::try_from(self.rng.next_u32()).unwrap_or(0);
        of.get(number % of.len().max(1)).copied()
    }

    /// From the edge over a middle to another edge.
    fn path(&mut self) -> Result<[Hop; 3], Failure> {
        let site = Arc::clone(&self.site);
        let middle = self.any(&site.middles()).ok_or("the network has no middle")?;
        let others: Vec<NodeId> = site.edges.iter().map(|edge| edge.id).filter(|id| *id != self.edge).collect();
        let last = self.any(&others).ok_or("the network has one edge")?;
        Ok([site.hop(self.edge)?, site.hop(middle)?, site.hop(last)?])
    }

    fn through(&mut self) -> Result<Batch, Failure> {
        let paths = (0..BATCH).map(|_| self.path()).collect::<Result<Vec<_>, _>>()?;
        let payload = encode_envelope(&mut self.rng, EnvelopeKind::Plain, None, &[0; SEALED_LEN]);
        let drafts: Vec<_> = paths.iter().map(|path| (path.as_slice(), self.mailbox(), payload.as_slice())).collect();
        self.build(&drafts)
    }

    fn mailbox(&mut self) -> MailboxId {
        let mut id = [0; MailboxId::LEN];
        self.rng.fill_bytes(&mut id);
        MailboxId::from(id)
    }

    fn items(&mut self, mailboxes: &Mailboxes, with_acks: bool) -> Result<Batch, Failure> {
        let path = [self.site.hop(self.edge)?];
        let held = mailboxes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut to = Vec::new();
        while to.len() < BATCH {
            let Some(mailbox) = self.any(&held) else {
                // Nobody has given it one yet.
                std::thread::sleep(std::time::Duration::from_millis(5));
                return Ok(Batch::new());
            };
            to.push(mailbox);
        }
        let surbs = if with_acks { self.surbs(&to)? } else { Vec::new() };
        let kind = if with_acks { EnvelopeKind::AckWanted } else { EnvelopeKind::Plain };
        let payloads: Vec<_> =
            (0..BATCH).map(|place| encode_envelope(&mut self.rng, kind, surbs.get(place), &[0; SEALED_LEN])).collect();
        let drafts: Vec<_> =
            to.iter().zip(&payloads).map(|(to, payload)| (path.as_slice(), *to, payload.as_slice())).collect();
        self.build(&drafts)
    }

    /// Reply blocks that lead from the edge through the network, to nobody.
    fn surbs(&mut self, to: &[MailboxId]) -> Result<Vec<Surb>, Failure> {
        let paths = to.iter().map(|_| self.path()).collect::<Result<Vec<_>, _>>()?;
        let parity = self.site.parity();
        let drafts: Vec<_> = paths
            .iter()
            .zip(to)
            .map(|(path, mailbox)| SurbDraft {
                parity,
                path,
                mailbox: *mailbox,
                surb_id: SurbId::from([5; SurbId::LEN]),
            })
            .collect();
        let made = build_surb_batch(&mut self.rng, &drafts);
        Ok(made.into_iter().map(|made| made.map(|(surb, _)| surb)).collect::<Result<_, _>>()?)
    }

    fn build(&mut self, drafts: &[(&[Hop], MailboxId, &[u8])]) -> Result<Batch, Failure> {
        let parity = self.site.parity();
        let drafts: Vec<Draft<'_>> =
            drafts.iter().map(|(path, to, payload)| Draft::new(parity, path, *to, payload)).collect();
        let mut batch: Batch = drafts.iter().map(|_| Buffer::blank()).collect();
        for outcome in build_forward_batch(&mut self.rng, &drafts, &mut batch) {
            outcome?;
        }
        Ok(batch)
    }
}

/// Where the group element of a packet ends: behind version and parity.
const GROUP_ELEMENT_END: usize = 2 + 32;
