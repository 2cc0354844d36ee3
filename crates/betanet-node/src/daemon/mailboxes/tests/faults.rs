//! Floods, a full disk, a damaged file.

use std::sync::atomic::AtomicBool;

use redb::{Database, StorageBackend};

use super::*;

const NARROW: Limits =
    Limits { mailboxes: 8, bytes_each: 60 * SIZE, bytes_total: 100 * SIZE, time_to_live: Duration::from_hours(1) };

/// Puts until the store has refused some; the refusals.
fn flood(store: &TestStore, to: u8, refusals: usize) -> Vec<PutError> {
    std::iter::repeat_with(|| store.put(to, 0)).filter_map(Result::err).take(refusals).collect()
}

/// INV-LINK-40 INV-LINK-41
#[tokio::test]
async fn floods_of_mailboxes_take_nothing_from_others_and_are_over_when_they_are_over() {
    let dir = tempfile::tempdir().unwrap();
    let one = TestStore::open(dir.path(), NARROW);
    let _honest = one.store.attach(mailbox(9), origin(9)).await.unwrap();
    for n in 0..20 {
        one.put(9, n).unwrap();
    }
    // One mailbox.
    let _flooded = one.store.attach(mailbox(1), origin(1)).await.unwrap();
    assert_eq!(vec![PutError::from(Refusal::MailboxFull); 3], flood(&one, 1, 3));
    // Many of one address.
    let mut holds = Vec::new();
    for n in 2..6 {
        holds.push(one.store.attach(mailbox(n), origin(1)).await.unwrap());
        flood(&one, n, 3);
    }
    assert!(one.dropped("item_evicted") > 0);
    for n in 20..40 {
        one.put(9, n).unwrap();
    }
    poll(|| one.read(9).0.len() == 40);
    assert_eq!((0..40).collect::<Vec<u8>>(), one.read(9).0);
    assert!(one.store.held().1 <= 100);

    // Whose owner takes care of his items has room again.
    for n in 1..6 {
        poll(|| {
            one.store.acknowledge(mailbox(n), &one.read(n).1);
            one.read(n).1.is_empty()
        });
        one.put(n, 7).unwrap();
    }
    drop(one);
    let two = TestStore::open(dir.path(), NARROW);
    assert_eq!(((6, 45), vec![7]), (two.store.held(), two.read(3).0));
}

/// A file in memory that may be full or stuck. What is opened over it again finds what was written.
#[derive(Clone, Debug, Default)]
struct SmallDisk {
    bytes: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
    /// Whoever holds it keeps writes from coming to their end.
    stuck: Arc<Mutex<()>>,
}

impl SmallDisk {
    fn open(&self) -> disk::Open {
        let opened = self.clone();
        Box::new(move || {
            let database = Database::builder().create_with_backend(opened.clone())?;
            disk::read(database, Limits::default())
        })
    }

    fn check(&self) -> std::io::Result<()> {
        if self.full.load(Ordering::Relaxed) { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for SmallDisk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(u64::try_from(lock(&self.bytes).len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&lock(&self.bytes)[start..][..out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.check()?;
        lock(&self.bytes).resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        let _stuck = lock(&self.stuck);
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.check()?;
        let start = usize::try_from(offset).unwrap();
        lock(&self.bytes)[start..][..data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// INV-LINK-44
#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_stored_and_is_recovered_from() {
    let small = SmallDisk::default();
    let one = TestStore::with(small.open(), Limits::default());
    let hold = one.store.attach(mailbox(1), origin(1)).await.unwrap();
    one.put(1, 1).unwrap();
    one.wait_stored();

    small.full.store(true, Ordering::Relaxed);
    one.put(1, 2).unwrap();
    poll(|| one.store.has_failed());
    assert_eq!(Err(PutError::StoreFailed), one.put(1, 3));
    assert_eq!(PutError::StoreFailed, one.store.attach(mailbox(2), None).await.unwrap_err());
    assert!(one.stored.try_recv().is_err(), "what is not on disk was called stored");

    small.full.store(false, Ordering::Relaxed);
    poll(|| !one.store.has_failed());
    assert_eq!(1, one.dropped("store_failed"));
    assert_eq!(((1, 1), vec![1]), (one.store.held(), one.read(1).0));
    one.put(1, 4).unwrap();
    one.wait_stored();
    assert_eq!(vec![1, 4], one.read(1).0);
    // Who was there is there.
    let late = one.store.shared.disk.now_ms() + u64::try_from(Limits::default().time_to_live.as_millis()).unwrap() * 2;
    one.store.shared.state().books.pass(late, 9);
    assert_eq!((1, 0), one.store.held());
    drop(hold);
}

/// INV-LINK-82
#[tokio::test]
async fn what_comes_to_the_disk_late_is_said_to_be_late() {
    let small = SmallDisk::default();
    let (sender, lateness) = channel();
    let tell: Stored = Box::new(move |_, _, late| {
        let _ = sender.send(late);
    });
    let metrics = Arc::new(Metrics::new(true));
    let store = Mailboxes::open_with(small.open(), Limits::default(), metrics, tell).unwrap();
    let _hold = store.attach(mailbox(1), origin(1)).await.unwrap();
    let stuck = lock(&small.stuck);
    store.put(mailbox(1), item(1), Some(surb())).unwrap();
    let start = Instant::now();
    poll(|| start.elapsed() > LATE + Duration::from_millis(45));
    drop(stuck);
    let late = lateness.recv_timeout(DEADLINE).unwrap();
    assert!(late >= Duration::from_millis(40), "{late:?}");
}

#[tokio::test]
async fn what_makes_way_while_the_disk_is_stuck_is_counted() {
    let small = SmallDisk::default();
    let one = TestStore::with(small.open(), Limits::default());
    let _holds = [
        one.store.attach(mailbox(1), origin(1)).await.unwrap(),
        one.store.attach(mailbox(2), origin(2)).await.unwrap(),
    ];
    let stuck = lock(&small.stuck);
    // The writer takes some and is stuck with them; after that there is no place.
    let refused = std::iter::repeat_with(|| one.store.put(mailbox(1), item(1), None)).find_map(Result::err);
    assert_eq!(Some(PutError::from(Refusal::StoreBusy)), refused);
    assert_eq!(0, one.dropped("store_busy"));
    one.store.put(mailbox(2), item(2), None).unwrap();
    assert_eq!(1, one.dropped("store_busy"));
    drop(stuck);
}

/// INV-LINK-45
#[tokio::test]
async fn a_damaged_file_is_kept_aside_and_the_edge_starts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mailboxes.redb");
    let one = TestStore::open(dir.path(), Limits::default());
    let _hold = one.store.attach(mailbox(1), None).await.unwrap();
    for n in 0..50 {
        one.put(1, n).unwrap();
    }
    poll(|| one.read(1).0.len() == 50);
    drop(one);
    let whole = std::fs::read(&path).unwrap();
    let cut = |len: usize| whole[..len].to_vec();
    let overwritten = |from: usize| {
        let mut bytes = whole.clone();
        bytes[from..].fill(0xa5);
        bytes
    };
    let damaged =
        [b"no database".to_vec(), cut(100), cut(5000), cut(whole.len() / 2), overwritten(0), overwritten(4096)];
    for bytes in damaged {
        std::fs::write(&path, &bytes).unwrap();
        let two = TestStore::open(dir.path(), Limits::default());
        assert_eq!((0, 0), two.store.held(), "{} bytes", bytes.len());
        let _hold = two.store.attach(mailbox(1), None).await.unwrap();
        assert_eq!(bytes.len(), std::fs::read(dir.path().join("mailboxes.redb.damaged")).unwrap().len());
    }
}

#[test]
fn a_store_has_one_owner_and_what_another_holds_is_not_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let _one = TestStore::open(dir.path(), Limits::default());
    let path = dir.path().join("mailboxes.redb");
    let second = Mailboxes::open(&path, Limits::default(), Arc::new(Metrics::new(true)), Box::new(|_, _, _| {}));
    assert!(second.unwrap_err().to_string().contains("mailboxes.redb"));
    assert_eq!(1, std::fs::read_dir(dir.path()).unwrap().count());
}
