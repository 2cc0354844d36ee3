#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_mix::mailbox::Limits;

use super::*;
use crate::clock::NetworkClock;
use crate::daemon::mixer::Released;
use crate::daemon::onward::Onward;
use crate::fixtures;

const DEADLINE: Duration = Duration::from_mins(1);

fn mailboxes(folder: &tempfile::TempDir, metrics: &Arc<Metrics>) -> Mailboxes {
    mailboxes_within(Limits::default(), folder, metrics)
}

fn mailboxes_within(limits: Limits, folder: &tempfile::TempDir, metrics: &Arc<Metrics>) -> Mailboxes {
    let store = folder.path().join("mailboxes.redb");
    Mailboxes::open(&store, limits, Arc::clone(metrics), Box::new(|_, _, _| {})).unwrap()
}

impl Edge {
    /// As after a write that failed; it is over when the store has tried again.
    pub(in crate::daemon) fn lose_disk(&self) {
        self.mailboxes.lose_disk();
    }

    /// Items of a mailbox that are on the disk, whatever is still to be written or deleted.
    pub(in crate::daemon) fn on_disk(&self, mailbox: MailboxId) -> usize {
        self.mailboxes.read_after(mailbox, 0, usize::MAX).unwrap().len()
    }
}

#[tokio::test]
async fn a_wanted_ack_without_a_surb_is_counted_and_the_item_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new(true));
    let mailboxes = mailboxes(&folder, &metrics);
    let mailbox = MailboxId::from([1; 16]);
    let _hold = mailboxes.attach(mailbox, None).await.unwrap();
    let edge = Edge::new(mailboxes, Sessions::default(), Arc::clone(&metrics));
    let mut payload = vec![0xff; betanet_sphinx::USER_PAYLOAD_LEN];
    *payload.first_mut().unwrap() = 1;
    assert!(Envelope::parse(&payload).is_ok_and(|envelope| envelope.kind == EnvelopeKind::AckWanted));
    edge.deliver(mailbox, &payload);
    assert_eq!((1, 1), (metrics.dropped("bad_surb"), metrics.delivered.get()));
}

#[tokio::test]
async fn what_an_edge_cannot_keep_or_hand_over_is_counted_by_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new(true));
    let limits = Limits { mailboxes: 2, bytes_each: 9 << 10, bytes_total: 13 << 10, ..Limits::default() };
    let mailboxes = mailboxes_within(limits, &folder, &metrics);
    let [own, other, unknown] = [1, 2, 3].map(|n| MailboxId::from([n; 16]));
    let (_own, _other) = (mailboxes.attach(own, None).await.unwrap(), mailboxes.attach(other, None).await.unwrap());
    let edge = Edge::new(mailboxes, Sessions::default(), Arc::clone(&metrics));
    let payload = |kind: u8| {
        let mut payload = vec![0; betanet_sphinx::USER_PAYLOAD_LEN];
        *payload.first_mut().unwrap() = kind;
        assert!(Envelope::parse(&payload).is_ok());
        payload
    };
    let kinds = [EnvelopeKind::Plain, EnvelopeKind::Bulk, EnvelopeKind::Cover];
    let [plain, bulk, cover] = kinds.map(|kind| {
        (0..=u8::MAX).map(payload).find(|payload| Envelope::parse(payload).is_ok_and(|it| it.kind == kind)).unwrap()
    });
    edge.deliver(own, &cover);
    assert_eq!(1, metrics.cover.get());
    let refused = |reason: &str, provoke: &dyn Fn()| {
        provoke();
        assert!(metrics.dropped(reason) > 0, "{reason}");
    };
    refused("bad_envelope", &|| edge.deliver(own, &[]));
    refused("bad_item", &|| edge.deliver_reply(own, SurbId::from([4; 16]), &[0; PACKET_LEN]));
    refused("owner_away", &|| edge.deliver(own, &bulk));
    refused("unknown_mailbox", &|| edge.deliver(unknown, &plain));
    let fill = |mailbox| (0..9).for_each(|_| edge.deliver(mailbox, &plain));
    refused("mailbox_full", &|| fill(own));
    refused("edge_full", &|| fill(other));
    assert_eq!(2, metrics.mailboxes.get());
    // Some have made way for others.
    assert!((1..=metrics.delivered.get()).contains(&metrics.mailbox_items.get()));

    let nowhere = Onward {
        egress: Egress::new(NetworkClock::from_wall(), Arc::clone(&metrics)),
        edge: None,
        metrics: Arc::clone(&metrics),
    };
    refused("not_an_edge", &|| nowhere.take(Released::Deliver { mailbox: own, payload: plain.clone() }));
}

/// INV-LINK-85
#[tokio::test]
async fn a_link_that_attaches_again_and_again_holds_the_items_of_one_attachment() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new(true));
    let edge = Arc::new(Edge::new(mailboxes(&folder, &metrics), Sessions::default(), metrics));
    let mailbox = MailboxId::from([1; 16]);
    let (link, _peer) = fixtures::link(5).await;
    // More than all buffers between the two sides hold: whatever comes behind it waits.
    link.send_message(&"x".repeat(20 << 20)).await.unwrap();
    let mut attachment = edge.attach(mailbox, None, link.clone()).await.unwrap();
    for _ in 0..70 {
        edge.deliver(mailbox, &[0; betanet_sphinx::USER_PAYLOAD_LEN]);
    }
    eventually(|| edge.on_disk(mailbox) == 70).await;
    for _ in 0..20 {
        attachment = edge.attach(mailbox, None, link.clone()).await.unwrap();
    }
    // The test's, the attachment's, and that of what sends the items: nothing else holds any.
    eventually(|| Arc::strong_count(&edge) == 3 && link.queued() == 5).await;
    drop(attachment);
    eventually(|| Arc::strong_count(&edge) == 1).await;
}

async fn eventually(condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, poll).await.unwrap();
}
