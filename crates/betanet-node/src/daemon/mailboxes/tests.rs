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
    let _hold = store.attach(mailbox(1)).await.unwrap();
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
    let _one = store.attach(mailbox(1)).await.unwrap();
    let _two = store.attach(mailbox(2)).await.unwrap();
    let _again = store.attach(mailbox(2)).await.unwrap();
    assert_eq!(PutError::TooManyMailboxes, store.attach(mailbox(3)).await.unwrap_err());
    store.put(mailbox(1), vec![0], None).unwrap();
    store.put(mailbox(1), vec![0], None).unwrap();
    assert_eq!(Err(PutError::MailboxFull), store.put(mailbox(1), vec![0], None));
    store.put(mailbox(2), vec![0], None).unwrap();
    assert_eq!(Err(PutError::MailboxFull), store.put(mailbox(2), vec![0], None));
}

/// INV-LINK-06
#[tokio::test]
async fn an_unused_mailbox_whose_owner_has_gone_makes_way_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { mailboxes: 3, ..Limits::default() };
    let (store, _stored) = open(dir.path(), limits);
    let _attached = store.attach(mailbox(1)).await.unwrap();
    drop(store.attach(mailbox(2)).await.unwrap());
    store.put(mailbox(2), vec![0], None).unwrap();
    drop(store.attach(mailbox(3)).await.unwrap());
    let four = store.attach(mailbox(4)).await.unwrap();
    assert_eq!(Err(PutError::UnknownMailbox), store.put(mailbox(3), vec![0], None));
    assert_eq!(PutError::TooManyMailboxes, store.attach(mailbox(5)).await.unwrap_err());
    drop(four);
    drop(store);

    // The disk says the same.
    let (store, _stored) = open(dir.path(), limits);
    assert_eq!((3, 1), store.held());
    let _one = store.attach(mailbox(1)).await.unwrap();
    let _five = store.attach(mailbox(5)).await.unwrap();
    assert_eq!(Err(PutError::UnknownMailbox), store.put(mailbox(4), vec![0], None));
    store.put(mailbox(2), vec![0], None).unwrap();
}

/// INV-LINK-06
#[tokio::test]
async fn what_outlives_its_time_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { time_to_live: Duration::ZERO, ..Limits::default() };
    let (store, _stored) = open(dir.path(), limits);
    drop(store.attach(mailbox(1)).await.unwrap());
    // The item may find its mailbox expired already; both ways everything goes.
    let _ = store.put(mailbox(1), vec![0], None);
    poll(|| store.held() == (0, 0));
    poll(|| store.read_after(mailbox(1), 0, 9).unwrap().is_empty());
}

/// INV-LINK-05
#[tokio::test]
async fn a_mailbox_lives_as_long_as_its_owner_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { time_to_live: Duration::ZERO, ..Limits::default() };
    let (store, stored) = open(dir.path(), limits);
    let hold = store.attach(mailbox(1)).await.unwrap();
    drop(store.attach(mailbox(2)).await.unwrap());
    // The second mailbox goes, so the expiry has run; the first lives and takes items, also after
    // they have expired in turn.
    poll(|| store.held() == (1, 0));
    for _ in 0..2 {
        store.put(mailbox(1), vec![0], None).unwrap();
        stored.recv_timeout(DEADLINE).unwrap();
        poll(|| store.held() == (1, 0));
    }
    drop(hold);
    poll(|| store.held() == (0, 0));
}

/// INV-LINK-05
#[tokio::test]
async fn the_life_of_a_held_mailbox_is_renewed_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _stored) = open(dir.path(), Limits { time_to_live: Duration::ZERO, ..Limits::default() });
    let _hold = store.attach(mailbox(1)).await.unwrap();
    let date = || attached_ms(store.shared.database.read().unwrap().as_ref().unwrap(), mailbox(1));
    let first = date();
    poll(|| date() > first);
}

fn attached_ms(database: &Database, mailbox: MailboxId) -> Option<u64> {
    let owners = database.begin_read().unwrap().open_table(OWNERS).unwrap();
    owners.get(mailbox.as_bytes()).unwrap().map(|date| date.value())
}

#[test]
fn a_store_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, _stored) = open(dir.path(), Limits::default());
    let path = dir.path().join("mailboxes.redb");
    let second = Mailboxes::open(&path, Limits::default(), Box::new(|_, _| {}));
    assert!(second.unwrap_err().to_string().contains("mailboxes.redb"));
}

/// INV-LINK-29
#[tokio::test]
async fn an_item_ages_while_its_edge_runs_and_by_no_clock_that_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mailboxes.redb");
    let (store, stored) = open(dir.path(), Limits::default());
    let _hold = store.attach(mailbox(1)).await.unwrap();
    store.put(mailbox(1), vec![1], Some(vec![1])).unwrap();
    stored.recv_timeout(DEADLINE).unwrap();
    drop(store);
    // A store of 30 days ago, by its dates, is as old as it was when it was closed.
    let database = open_database(&path).unwrap();
    let month_ms = 30 * 24 * 3_600_000;
    let transaction = database.begin_write().unwrap();
    let age = {
        let mut meta = transaction.open_table(META).unwrap();
        let age = meta.get(AGE).unwrap().unwrap().value() - month_ms;
        meta.insert(AGE, age).unwrap();
        let mut items = transaction.open_table(ITEMS).unwrap();
        let value = [age.to_be_bytes().as_slice(), &[1]].concat();
        items.insert((mailbox(1).as_bytes(), 1), value.as_slice()).unwrap();
        transaction.open_table(OWNERS).unwrap().insert(mailbox(1).as_bytes(), age).unwrap();
        age
    };
    transaction.commit().unwrap();
    assert_eq!(age, read_age(&database).unwrap());
    // Stores of before this was written down go by what they hold.
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().remove(AGE).unwrap();
    transaction.commit().unwrap();
    assert_eq!(age, read_age(&database).unwrap());
    drop(database);
    let (store, _stored) = open(dir.path(), Limits::default());
    store.shared.expire().unwrap();
    assert_eq!((1, 1), store.held());
}
