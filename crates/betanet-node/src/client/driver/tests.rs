#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use std::sync::atomic::{AtomicU64, Ordering};

use betanet_mix::courier::SendError;
use betanet_mix::directory::Consensuses;
use betanet_mix::epoch::Epoch;
use betanet_mix::message::{EnvelopeKind, Outbound, Sealer, encode_envelope};
use betanet_mix::view::{Consensus, DelaySection, Mailbox, Signed, Verified};
use betanet_sphinx::PACKET_LEN;
use ed25519_dalek::SigningKey;

use super::*;
use crate::client::links::LINK_QUEUE;
use crate::client::network_time::NetworkTime;
use crate::clock::NetworkClock;
use crate::control::ControlChannel;
use crate::fixtures;
use crate::link::{Frame, LinkSender};
use crate::net::{Endpoint, NetFile};
use crate::random::os_rng;
use crate::sync::lock;

const EPOCH_MS: u64 = 20_000;
const EPOCH: Epoch = Epoch(100);
/// The middle of the epoch.
pub(super) const NOW_MS: u64 = EPOCH.0 * EPOCH_MS + EPOCH_MS / 2;

pub(super) fn authority() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

pub(super) fn consensus() -> Signed {
    let start = EPOCH.0 * EPOCH_MS;
    let consensus = Consensus {
        network: "test".into(),
        epoch: EPOCH,
        revision: 0,
        epoch_length_ms: EPOCH_MS,
        skew_ms: 2_000,
        mean_delay_ms: 15,
        valid_after_ms: start,
        fresh_until_ms: start + EPOCH_MS,
        valid_until_ms: start + 2 * EPOCH_MS,
        previous_hash: ConsensusHash::default(),
        one_operator: true,
        delays: DelaySection::default(),
        nodes: Vec::new(),
    };
    Verified::sign(consensus, &authority()).unwrap().signed().clone()
}

/// A driver without links, its folder, and the wall clock that it sees.
pub(super) fn driver() -> (Driver, tempfile::TempDir, Arc<AtomicU64>) {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = |number| Endpoint {
        id: NodeId::from(SigningKey::from_bytes(&[number; 32]).verifying_key().to_bytes()),
        address: "127.0.0.1:1".parse().unwrap(),
    };
    let net = NetFile {
        network: "test".into(),
        authority: Endpoint { id: NodeId::from(authority().verifying_key().to_bytes()), ..endpoint(1) },
        edges: vec![endpoint(2), endpoint(3)],
        one_operator: true,
        http: [].into(),
    };
    let store = ClientStore::open(dir.path(), &net, 2).unwrap();
    let time = NetworkTime::new(NetworkClock::from_wall(), 2);
    let consensuses = Consensuses::new("test".into(), net.authority.id);
    let links = Arc::new(ClientLinks::new(
        dir.path().join("net.json"),
        consensuses,
        time,
        store.seen_documents(net.authority.id).unwrap(),
    ));
    links.accept(&[consensus()]);
    let shared = Arc::new(Shared::new("test".into(), store.address()));
    let wall = Arc::new(AtomicU64::new(NOW_MS));
    let shown = Arc::clone(&wall);
    let clocks = Clocks { start: Instant::now(), wall: Box::new(move || shown.load(Ordering::Relaxed)) };
    let (spool, config) = (Spooling::open(dir.path().join("spool")).unwrap(), CourierConfig::default());
    (Driver::new(store, config, links, shared, mpsc::channel(1).0, clocks, spool), dir, wall)
}

/// INV-MSG-22: the consensus in force follows the wall clock both ways, while timers only go forward.
#[test]
fn a_clock_that_is_set_right_brings_the_consensus_back() {
    let (mut driver, _dir, wall) = driver();
    wall.store(NOW_MS + 7_200_000, Ordering::Relaxed);
    let before = driver.read_clocks();
    driver.refresh_view();
    assert_eq!(Err(SendError::NoConsensus), driver.courier.ping(before, 3));
    wall.store(NOW_MS, Ordering::Relaxed);
    let after = driver.read_clocks();
    driver.refresh_view();
    assert!(after >= before);
    // There is a consensus now, though an empty one.
    assert!(matches!(driver.courier.ping(after, 3), Err(SendError::Path(_))));
}

/// A message that the driver has delivered and that waits for its commit.
pub(super) fn plant(driver: &mut Driver) -> MessageId {
    let outbound = Outbound::new(MessageId([9; 16]), NOW_MS + 60_000, &[], b"hello").unwrap();
    let sealer = Sealer::new(&mut os_rng(), &driver.courier.sealing_key(), 1).unwrap();
    let closed = sealer.seal(&mut os_rng(), &outbound.fragment(&mut os_rng(), 0).unwrap()).unwrap();
    let payload = encode_envelope(&mut os_rng(), EnvelopeKind::Plain, None, &closed);
    let now = driver.read_clocks();
    driver.courier.on_forward(now, ItemRef { edge: NodeId::from([2; 32]), seq: 1 }, &payload);
    outbound.id()
}

/// INV-MSG-08: a message counts as committed once that is written down, and not before.
#[test]
fn a_commit_that_cannot_be_written_down_can_be_repeated() {
    let (mut driver, dir, _) = driver();
    let id = plant(&mut driver);
    // The file is long enough to be written anew, but its folder is gone.
    for _ in 0..4096 {
        driver.store.note_committed(MessageId([1; 16]), 0).unwrap();
    }
    std::fs::remove_dir_all(dir.path()).unwrap();
    driver.store.compact(driver.courier.remembered());
    for _ in 0..2 {
        assert!(matches!(driver.commit(id), Err(ClientError::Storage(_))));
        assert_eq!(1, driver.courier.stats().uncommitted);
    }
    std::fs::create_dir(dir.path()).unwrap();
    for _ in 0..2 {
        driver.commit(id).unwrap();
        assert_eq!(0, driver.courier.stats().uncommitted);
    }
    let noted = std::fs::read(dir.path().join("committed.log")).unwrap();
    let until_ms = NOW_MS + 60_000 + 45 * 60_000;
    assert_eq!([&id.0[..], &until_ms.to_be_bytes()].concat(), noted, "with its end, once");
}

/// INV-MSG-25: an answer leaves when its note is on the disk, and waits when that is full.
#[tokio::test]
async fn answers_are_written_down_in_batches_before_they_leave() {
    let (mut driver, dir, _) = driver();
    let noted = || std::fs::read(dir.path().join("answered.log")).unwrap();
    for number in 0..3 {
        driver.notes.add(ReplyHandle(number), MessageId([u8::try_from(number).unwrap(); 16]), 7);
    }
    assert_eq!(Vec::<u8>::new(), noted());
    driver.write_notes(0);
    driver.notes.add(ReplyHandle(3), MessageId([3; 16]), 7);
    driver.write_notes(0);
    let written = driver.notes.written().await;
    assert_eq!((3, 3 * 24, true), (written.handles.len(), noted().len(), written.outcome.is_ok()));
    driver.take_notes(0, written);
    driver.write_notes(0);
    let written = driver.notes.written().await;
    assert_eq!((1, 4 * 24), (written.handles.len(), noted().len()));
    driver.take_notes(0, written);
    drop(driver);
    let known = crate::client::id_log::IdLog::read(dir.path().join("answered.log")).unwrap().1;
    assert!((0..4).eq(known.iter().map(|(id, _)| id.0[0])));
}

/// INV-MSG-25
#[tokio::test]
async fn an_answer_that_cannot_be_written_down_fails_and_may_be_given_later() {
    let (mut driver, dir, _) = driver();
    for _ in 0..4096 {
        driver.notes.add(ReplyHandle(0), MessageId([1; 16]), 0);
    }
    driver.write_notes(0);
    let written = driver.notes.written().await;
    driver.take_notes(0, written);
    // The file is long enough to be written anew, but its folder is gone.
    std::fs::remove_dir_all(dir.path()).unwrap();
    let (done, wait) = oneshot::channel();
    driver.replies.insert(ReplyHandle(1), done);
    driver.notes.add(ReplyHandle(1), MessageId([2; 16]), 0);
    driver.write_notes(0);
    let written = driver.notes.written().await;
    assert!(written.outcome.is_err());
    driver.take_notes(0, written);
    assert!(matches!(wait.await.unwrap(), Err(ClientError::Storage(_))));
    assert!(driver.store.lend_answered(driver.courier.answered()).is_some(), "the file was given back");
}

/// A link, and a peer that reads nothing. Its queue is not written before the test waits for something.
pub(super) async fn link() -> (LinkSender, impl Sized) {
    fixtures::link(LINK_QUEUE).await
}

pub(super) fn attach(driver: &mut Driver, mailbox: Mailbox, link: &LinkSender) {
    let channel = ControlChannel::new(link.clone());
    driver.happen(0, LinkEvent::Attached { mailbox, link: link.clone(), channel });
}

#[tokio::test]
async fn the_first_attached_edge_ends_the_trouble_of_having_none() {
    let (mut driver, _dir, _wall) = driver();
    driver.trouble = driver.links.trouble(0);
    driver.publish();
    assert!(lock(&driver.shared.status).trouble.as_ref().is_some_and(|text| text.contains("no edge")));
    let (link, _peer) = link().await;
    let mailbox = driver.store.mailboxes()[0];
    attach(&mut driver, mailbox, &link);
    driver.publish();
    let status = lock(&driver.shared.status).clone();
    assert_eq!(1, status.edges_attached);
    let attached = status.edges.iter().filter(|edge| edge.attached).map(|edge| edge.id);
    assert_eq!(vec![mailbox.edge], attached.collect::<Vec<_>>());
    assert!(status.trouble.is_none_or(|text| !text.contains("no edge")));
}

#[tokio::test]
async fn a_driver_that_gets_no_thread_is_given_up_among_tasks() {
    drop(OwnRuntime::new().unwrap());
}

/// An edge that is not trusted may hand over what is to be deleted at once, and read no deletion.
#[tokio::test]
async fn what_is_to_be_deleted_at_an_edge_that_does_not_read_takes_bounded_memory() {
    let (mut driver, _dir, _wall) = driver();
    let (link, _peer) = link().await;
    let mailbox = driver.store.mailboxes()[0];
    attach(&mut driver, mailbox, &link);
    let full_mailbox: Vec<_> = (1..=65_536).collect();
    driver.delete(mailbox.edge, &full_mailbox);
    assert_eq!(full_mailbox, driver.own[&mailbox.edge].deletions());
    for _ in 0..10 {
        driver.delete(mailbox.edge, &full_mailbox);
    }
    let held = driver.own[&mailbox.edge].deletions().len();
    assert!(held < 200_000, "{held}");
}

/// An edge that is frozen holds nobody up, and is used again when it takes something.
#[tokio::test]
async fn a_full_link_does_not_stop_the_others() {
    let (mut driver, _dir, _wall) = driver();
    let ((first, _first), (second, _second)) = (link().await, link().await);
    let links = [first, second];
    let [frozen, healthy] = [0, 1].map(|place| {
        let mailbox = driver.store.mailboxes()[place];
        attach(&mut driver, mailbox, &links[place]);
        mailbox
    });
    assert_eq!(GRANT, driver.room());
    while links[0].queued() < LINK_QUEUE {
        links[0].try_send(Frame::packet(&[0; PACKET_LEN])).unwrap();
    }
    // Being full for a moment is back-pressure.
    driver.watch_links(10);
    driver.watch_links(1_009);
    assert_eq!((0, 2), (driver.room(), driver.usable().count()));
    driver.watch_links(1_010);
    assert_eq!(GRANT, driver.room());
    assert!(driver.usable().all(|own| own.mailbox == healthy));
    // What is to be deleted at the full edge waits until it takes it.
    driver.delete(frozen.edge, &[7, 0]);
    let frozen = |driver: &mut Driver| {
        let own = driver.own.get_mut(&frozen.edge).unwrap();
        own.flush_deletions();
        own.deletions().to_vec()
    };
    assert_eq!(vec![7], frozen(&mut driver));
    let drained = async {
        while links[0].queued() > LINK_QUEUE / 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), drained).await.unwrap();
    driver.watch_links(1_011);
    assert_eq!((GRANT, 2), (driver.room(), driver.usable().count()));
    let queued = links[0].queued();
    assert!(frozen(&mut driver).is_empty());
    assert_eq!(queued + 1, links[0].queued());
}
