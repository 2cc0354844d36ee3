#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_mix::mailbox::Limits;

use super::*;
use crate::daemon::metrics::Exporter;

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
    let store = folder.path().join("mailboxes.redb");
    let metrics = Arc::new(Metrics::new(true));
    let mailboxes = Mailboxes::open(&store, Limits::default(), Arc::clone(&metrics), Box::new(|_, _, _| {})).unwrap();
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
