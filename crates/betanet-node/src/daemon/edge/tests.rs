#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_mix::mailbox::Limits;

use super::*;
use crate::daemon::metrics::Exporter;
use crate::fixtures;

const DEADLINE: Duration = Duration::from_mins(1);

fn mailboxes(folder: &tempfile::TempDir, metrics: &Arc<Metrics>) -> Mailboxes {
    let store = folder.path().join("mailboxes.redb");
    Mailboxes::open(&store, Limits::default(), Arc::clone(metrics), Box::new(|_, _, _| {})).unwrap()
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
    let text = Exporter::new(&metrics).render(Instant::now());
    assert!(text.contains("{reason=\"bad_surb\"} 1\n"), "{text}");
    assert_eq!(1, metrics.delivered.get());
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
