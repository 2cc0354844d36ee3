#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::mpsc::channel;
use std::time::Instant;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn mailbox(byte: u8) -> MailboxId {
    MailboxId::from([byte; 16])
}

type Receipts = Receiver<(MailboxId, Option<Vec<u8>>)>;

fn open(dir: &Path, limits: Limits) -> (Mailboxes, Receipts) {
    let (sender, receiver) = channel();
    let stored = Box::new(move |mailbox, receipt| {
        let _ = sender.send((mailbox, receipt));
    });
    let store = Mailboxes::open(&dir.join("mailboxes.redb"), limits, stored).unwrap();
    (store, receiver)
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
async fn items_survive_reopening_in_order_until_they_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, stored) = open(dir.path(), Limits::default());
    store.attach(mailbox(1)).await.unwrap();
    for n in 0u8..5 {
        store.put(mailbox(1), vec![n], Some(vec![n, n])).unwrap();
    }
    for n in 0u8..5 {
        let (to, receipt) = stored.recv_timeout(DEADLINE).unwrap();
        assert_eq!((mailbox(1), Some(vec![n, n])), (to, receipt));
    }
    drop(store);

    let (store, _stored) = open(dir.path(), Limits::default());
    let items = store.read_after(mailbox(1), 0, 10).unwrap();
    let bodies: Vec<_> = items.iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(vec![vec![0], vec![1], vec![2], vec![3], vec![4]], bodies);
    let seqs: Vec<u64> = items.iter().map(|(seq, _)| *seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b));
    store.delete(mailbox(1), seqs.iter().copied().take(4).collect()).unwrap();
    poll(|| store.held() == (1, 1));
    store.delete(mailbox(1), seqs.clone()).unwrap();
    poll(|| store.held() == (1, 0));
    store.put(mailbox(1), vec![9], None).unwrap();
    poll(|| !store.read_after(mailbox(1), 0, 1).unwrap().is_empty());
    let (next, _) = store.read_after(mailbox(1), 0, 1).unwrap().remove(0);
    assert!(Some(&next) > seqs.last(), "a sequence number was used twice");
}

/// INV-LINK-06
#[tokio::test]
async fn limits_hold_per_mailbox_and_in_total() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { mailboxes: 2, items_each: 2, items_total: 3, ..Limits::default() };
    let (store, _stored) = open(dir.path(), limits);
    assert_eq!(Err(PutError::UnknownMailbox), store.put(mailbox(1), vec![0], None));
    store.attach(mailbox(1)).await.unwrap();
    store.attach(mailbox(2)).await.unwrap();
    store.attach(mailbox(2)).await.unwrap();
    assert_eq!(Err(PutError::MailboxFull), store.attach(mailbox(3)).await);
    store.put(mailbox(1), vec![0], None).unwrap();
    store.put(mailbox(1), vec![0], None).unwrap();
    assert_eq!(Err(PutError::MailboxFull), store.put(mailbox(1), vec![0], None));
    store.put(mailbox(2), vec![0], None).unwrap();
    assert_eq!(Err(PutError::MailboxFull), store.put(mailbox(2), vec![0], None));
}

/// INV-LINK-06
#[tokio::test]
async fn what_outlives_its_time_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { time_to_live: Duration::ZERO, ..Limits::default() };
    let (store, _stored) = open(dir.path(), limits);
    store.attach(mailbox(1)).await.unwrap();
    // The item may find its mailbox expired already; both ways everything goes.
    let _ = store.put(mailbox(1), vec![0], None);
    poll(|| store.held() == (0, 0));
    assert_eq!(Vec::<(u64, Vec<u8>)>::new(), store.read_after(mailbox(1), 0, 9).unwrap());
}

#[test]
fn a_store_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, _stored) = open(dir.path(), Limits::default());
    let path = dir.path().join("mailboxes.redb");
    let second = Mailboxes::open(&path, Limits::default(), Box::new(|_, _| {}));
    assert!(second.unwrap_err().to_string().contains("mailboxes.redb"));
}
