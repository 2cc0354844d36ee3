#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

mod faults;

use std::sync::mpsc::{Receiver, channel};

use betanet_sphinx::{Hop, NodeId, SecretKey, SurbId, build_surb};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// Bytes of an item of [`item`] as the limits count them.
const SIZE: u64 = 109 + 64;

fn mailbox(byte: u8) -> MailboxId {
    MailboxId::from([byte; 16])
}

fn origin(last: u8) -> Origin {
    (last > 0).then(|| [192, 0, 2, last].into())
}

fn item(byte: u8) -> EncodedItem {
    EncodedItem::new(vec![byte; 109]).unwrap()
}

fn surb() -> Surb {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let path = [Hop { node: NodeId::from([1; 32]), key: SecretKey::generate(&mut rng).public() }];
    build_surb(&mut rng, 0, &path, mailbox(1), SurbId::from([2; 16])).unwrap().0
}

/// A store, and who hears of it.
struct TestStore {
    store: Mailboxes,
    /// Mailboxes of what was stored, and whether there was a receipt.
    stored: Receiver<(MailboxId, bool)>,
    metrics: Arc<Metrics>,
}

impl TestStore {
    fn open(dir: &Path, limits: Limits) -> Self {
        Self::with(disk::file(&dir.join("mailboxes.redb"), limits), limits)
    }

    fn with(open: disk::Open, limits: Limits) -> Self {
        let (sender, stored) = channel();
        let tell: Stored = Box::new(move |mailbox, receipt, _| {
            let _ = sender.send((mailbox, receipt.is_some()));
        });
        let metrics = Arc::new(Metrics::new(true));
        let store = Mailboxes::open_with(open, limits, Arc::clone(&metrics), tell).unwrap();
        Self { store, stored, metrics }
    }

    fn put(&self, to: u8, byte: u8) -> Result<(), PutError> {
        self.store.put(mailbox(to), item(byte), Some(surb()))
    }

    /// The last bytes of what a mailbox holds, and its numbers.
    fn read(&self, of: u8) -> (Vec<u8>, Vec<u64>) {
        let items = self.store.read_after(mailbox(of), 0, 1000).unwrap();
        items.iter().map(|(seq, body)| (*body.last().unwrap(), *seq)).unzip()
    }

    fn wait_stored(&self) -> (MailboxId, bool) {
        self.stored.recv_timeout(DEADLINE).unwrap()
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.metrics.dropped(reason)
    }
}

impl Mailboxes {
    /// As after a write that failed.
    pub(in crate::daemon) fn lose_disk(&self) {
        let group = self.shared.state().books.take(0, 0);
        self.shared.fail(&group);
    }
}

fn poll(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "the condition never held");
        std::thread::yield_now();
    }
}

/// INV-LINK-05
#[tokio::test]
async fn items_survive_reopening_in_order_until_they_are_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let one = TestStore::open(dir.path(), Limits::default());
    let _hold = one.store.attach(mailbox(1), None).await.unwrap();
    for n in 0u8..5 {
        one.put(1, n).unwrap();
    }
    for _ in 0..5 {
        assert_eq!((mailbox(1), true), one.wait_stored());
    }
    drop(one);

    let two = TestStore::open(dir.path(), Limits::default());
    let (bodies, seqs) = two.read(1);
    assert_eq!(vec![0, 1, 2, 3, 4], bodies);
    assert!(seqs.is_sorted_by(|a, b| a < b));
    // What is read is what stands in the frame, with its number.
    let (seq, body) = two.store.read_after(mailbox(1), seqs[2], 1).unwrap().remove(0);
    assert_eq!((seqs[3], item(3).numbered(seqs[3]).as_bytes()), (seq, body.as_slice()));
    two.store.acknowledge(mailbox(1), &seqs[..4]);
    poll(|| two.store.held() == (1, 1));
    two.store.acknowledge(mailbox(1), &seqs);
    poll(|| two.store.held() == (1, 0));
    poll(|| two.read(1).1.is_empty());
    drop(two);

    let three = TestStore::open(dir.path(), Limits::default());
    three.store.put(mailbox(1), item(9), None).unwrap();
    assert_eq!((mailbox(1), false), three.wait_stored());
    let (_, next) = three.read(1);
    assert!(next.first() > seqs.last(), "a sequence number was used twice");
}

/// INV-LINK-06 INV-LINK-42
#[tokio::test]
async fn whose_mailbox_it_is_and_that_it_was_used_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { mailboxes: 3, ..Limits::default() };
    let one = TestStore::open(dir.path(), limits);
    for n in [1, 2, 3] {
        // Neither dates nor names say which is unused.
        drop(one.store.attach(mailbox(n), origin(7)).await.unwrap());
    }
    for n in [1, 3] {
        one.put(n, 0).unwrap();
        one.wait_stored();
        one.store.acknowledge(mailbox(n), &one.read(n).1);
    }
    poll(|| one.store.held() == (3, 0));
    drop(one);

    let two = TestStore::open(dir.path(), limits);
    // The unused one makes way for another of the same address, and no used one does.
    let hold = two.store.attach(mailbox(4), origin(7)).await.unwrap();
    assert_eq!(Err(Refusal::UnknownMailbox.into()), two.put(2, 0));
    let refused = two.store.attach(mailbox(5), origin(7)).await.unwrap_err();
    assert_eq!(PutError::from(Refusal::TooManyMailboxes), refused);
    // Who comes from elsewhere gets a place, of the address that has three.
    let _five = two.store.attach(mailbox(5), origin(8)).await.unwrap();
    assert_eq!(((3, 0), 2), (two.store.held(), two.dropped("mailbox_evicted")));
    drop(hold);
    drop(two);
    let three = TestStore::open(dir.path(), limits);
    assert_eq!((3, 0), three.store.held());
    assert_eq!(Err(Refusal::UnknownMailbox.into()), three.put(1, 0));
    three.put(5, 0).unwrap();
}

/// INV-LINK-06
#[tokio::test]
async fn what_outlives_its_time_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let one = TestStore::open(dir.path(), Limits { time_to_live: Duration::ZERO, ..Limits::default() });
    drop(one.store.attach(mailbox(1), None).await.unwrap());
    // The item may find its mailbox expired already; both ways everything goes.
    let _ = one.put(1, 0);
    poll(|| one.store.held() == (0, 0));
    poll(|| one.read(1).1.is_empty());
}

/// INV-LINK-05
#[tokio::test]
async fn a_mailbox_lives_as_long_as_its_owner_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let one = TestStore::open(dir.path(), Limits { time_to_live: Duration::ZERO, ..Limits::default() });
    let hold = one.store.attach(mailbox(1), None).await.unwrap();
    let date = || one.store.shared.disk.attached_ms(mailbox(1));
    let first = date();
    drop(one.store.attach(mailbox(2), None).await.unwrap());
    // The second mailbox goes, so the expiry has run; the first lives and takes items, also after
    // they have expired in turn.
    poll(|| one.store.held() == (1, 0));
    for n in 1..3 {
        one.put(1, 0).unwrap();
        one.wait_stored();
        poll(|| one.store.held() == (1, 0) && one.dropped("item_expired") >= n);
        assert_eq!(n, one.dropped("item_expired"));
    }
    // Its life is renewed on the disk too.
    poll(|| date() > first);
    drop(hold);
    poll(|| one.store.held() == (0, 0));
}

/// INV-LINK-29
#[tokio::test]
async fn an_item_ages_while_its_edge_runs_and_by_no_clock_that_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let one = TestStore::open(dir.path(), Limits::default());
    let _hold = one.store.attach(mailbox(1), None).await.unwrap();
    one.put(1, 1).unwrap();
    one.wait_stored();
    drop(one);
    // A store of 30 days ago, by its dates, is as old as it was when it was closed.
    let month_ms = 30 * 24 * 3_600_000;
    disk::fixtures::backdate(&dir.path().join("mailboxes.redb"), month_ms);
    let two = TestStore::open(dir.path(), Limits::default());
    two.store.shared.state().books.pass(two.store.shared.disk.now_ms(), 9);
    assert_eq!((1, 1), two.store.held());
}
