#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use crate::view::{Address, Mailbox, node_id_of};
use betanet_sphinx::MailboxId;

use super::*;
use crate::fixtures::fresh_rng;

const NOW: u64 = 1_000_000_000;

fn key() -> SigningKey {
    SigningKey::generate(&mut fresh_rng())
}

fn edge(byte: u8) -> Bringer {
    of_operator(byte, byte)
}

fn of_operator(operator: u8, edge: u8) -> Bringer {
    Bringer { operator: format!("operator {operator}"), edge: NodeId::from([edge; 32]) }
}

fn workers(limits: Limits) -> Workers {
    Workers { limits, ..Workers::open(&[], NOW) }
}

fn worker(key: &SigningKey, issued_ms: u64, expires_ms: u64) -> Signed {
    let mailbox = Mailbox { edge: edge(1).edge, mailbox: MailboxId::from([1; 16]) };
    let worker = WorkerDescriptor {
        id: WorkerId(key.verifying_key().to_bytes()),
        name: "worker".into(),
        kinds: vec!["wasm".into()],
        slots: 1,
        memory_bytes: 1,
        limits: None,
        groups: Vec::new(),
        address: Address::new(vec![mailbox], [9; 32]).unwrap(),
        level: None,
        issued_ms,
        expires_ms,
    };
    Verified::sign(worker, key).unwrap().signed().clone()
}

fn read(list: &Listed) -> WorkerList {
    let signed: Signed = serde_json::from_slice(&list.encoded).unwrap();
    serde_json::from_str(&signed.content).unwrap()
}

fn listed(workers: &mut Workers, now_ms: u64) -> Vec<WorkerId> {
    read(workers.list(Epoch(1), &key(), now_ms).unwrap()).verified(now_ms).iter().map(|worker| worker.id).collect()
}

fn id(key: &SigningKey) -> WorkerId {
    WorkerId(key.verifying_key().to_bytes())
}

/// INV-LINK-20
#[test]
fn a_descriptor_holds_for_an_hour_at_most_and_then_goes() {
    let mut workers = workers(LIMITS);
    let worker_key = key();
    for expires_ms in [u64::MAX, NOW + LIFETIME_MS + AHEAD_MS + 1] {
        let refused = workers.put(&edge(1), &worker(&worker_key, NOW, expires_ms), NOW).unwrap_err();
        assert!(refused.contains("an hour at most"), "{refused}");
    }
    let first = workers.put(&edge(1), &worker(&worker_key, NOW, NOW + LIFETIME_MS), NOW).unwrap();
    assert_eq!(vec![id(&worker_key)], listed(&mut workers, NOW));
    assert_eq!([1, 0], [NOW, NOW + LIFETIME_MS].map(|now_ms| workers.live(now_ms)));
    assert!(listed(&mut workers, NOW + LIFETIME_MS).is_empty());
    assert!(workers.save().0 > first, "the change shows in the revision");
}

/// INV-LINK-20
#[test]
fn a_flood_through_one_edge_takes_the_room_of_that_edge_alone() {
    let mut workers = workers(Limits { workers: 8, ..LIMITS });
    let honest = key();
    workers.put(&edge(1), &worker(&honest, NOW, NOW + 10), NOW).unwrap();
    let flood: Vec<_> = (0..20).map(|_| worker(&key(), NOW, NOW + LIFETIME_MS)).collect();
    let taken = flood.iter().filter(|one| workers.put(&edge(2), one, NOW).is_ok()).count();
    assert_eq!(7, taken, "a full list takes no more from the edge that fills it");
    let newcomer = key();
    workers.put(&edge(3), &worker(&newcomer, NOW, NOW + 10), NOW).unwrap();
    // Who is listed can always renew.
    workers.put(&edge(1), &worker(&honest, NOW + 1, NOW + 20), NOW + 1).unwrap();
    let listed = listed(&mut workers, NOW + 1);
    assert_eq!(8, listed.len());
    assert!(listed.contains(&id(&honest)) && listed.contains(&id(&newcomer)));
}

/// INV-LINK-63
#[test]
fn an_operator_of_many_edges_has_the_share_of_one() {
    let mut workers = workers(Limits { workers: 9, ..LIMITS });
    let fresh = || worker(&key(), NOW, NOW + LIFETIME_MS);
    // Eight edges with one each and one with one: no edge has more than another.
    for number in 1..=8 {
        workers.put(&of_operator(1, number), &fresh(), NOW).unwrap();
    }
    workers.put(&of_operator(2, 20), &fresh(), NOW).unwrap();
    assert!(workers.put(&of_operator(1, 9), &fresh(), NOW).is_err(), "its operator has most already");
    let honest: Vec<_> = (0..3).map(|_| key()).collect();
    for key in &honest {
        workers.put(&of_operator(2, 20), &worker(key, NOW, NOW + LIFETIME_MS), NOW).unwrap();
    }
    let taken = (0..50).filter(|number| workers.put(&of_operator(1, 30 + number), &fresh(), NOW).is_ok()).count();
    assert_eq!(0, taken);
    let listed = listed(&mut workers, NOW);
    assert!(honest.iter().all(|key| listed.contains(&id(key))));
    // Within an operator, an edge that brings much makes way for one that brings little.
    let mut workers = self::workers(Limits { workers: 4, ..LIMITS });
    for _ in 0..4 {
        workers.put(&of_operator(1, 1), &fresh(), NOW).unwrap();
    }
    let taken = (0..9).filter(|_| workers.put(&of_operator(1, 2), &fresh(), NOW).is_ok()).count();
    assert_eq!(2, taken);
}

/// INV-LINK-20
#[test]
fn the_list_never_outgrows_what_can_be_signed() {
    let one = worker(&key(), NOW, NOW + LIFETIME_MS);
    let bytes = serde_json::to_vec(&one).unwrap().len() + 1;
    let mut workers = workers(Limits { bytes: 5 * bytes / 2, ..LIMITS });
    let keys = [key(), key(), key()];
    let taken = keys.iter().filter(|key| workers.put(&edge(1), &worker(key, NOW, NOW + LIFETIME_MS), NOW).is_ok());
    assert_eq!(2, taken.count());
    // The bytes that are counted are those of the list.
    let signed: Signed = serde_json::from_slice(&workers.list(Epoch(1), &key(), NOW).unwrap().encoded).unwrap();
    let text = signed.content.len();
    assert!(text < workers.bytes + 4096 && text >= workers.bytes);
}

/// INV-LINK-61
#[test]
fn a_list_names_the_epoch_it_is_served_in_and_its_revision_grows_with_every_epoch_and_change() {
    let (authority, mut workers) = (key(), workers(LIMITS));
    workers.put(&edge(1), &worker(&key(), NOW, NOW + LIFETIME_MS), NOW).unwrap();
    let mut before = 0;
    for epoch in [7, 8, 9] {
        let list = workers.list(Epoch(epoch), &authority, NOW).unwrap().clone();
        let signed: Signed = serde_json::from_slice(&list.encoded).unwrap();
        let read = signed.verify::<WorkerList>(&[node_id_of(&authority)], 1).unwrap();
        assert_eq!((Epoch(epoch), list.revision), (read.epoch, read.revision));
        assert!(list.revision > before);
        before = list.revision;
        let again = workers.list(Epoch(epoch), &authority, NOW).unwrap();
        assert!(Arc::ptr_eq(&list.encoded, &again.encoded), "it is made once");
    }
    workers.put(&edge(1), &worker(&key(), NOW, NOW + LIFETIME_MS), NOW).unwrap();
    let changed = workers.list(Epoch(9), &authority, NOW).unwrap();
    assert!(changed.revision > before, "with a change too, within one epoch and one millisecond");
}

#[test]
fn a_restart_keeps_the_list_and_its_revisions_ascend() {
    let mut first = workers(LIMITS);
    let worker_key = key();
    let shown = first.put(&edge(1), &worker(&worker_key, NOW, NOW + LIFETIME_MS), NOW).unwrap();
    let mut second = Workers::open(&first.save().1, NOW + 1);
    assert_eq!(vec![id(&worker_key)], listed(&mut second, NOW + 1));
    assert!(second.save().0 > shown);
    let older = worker(&worker_key, NOW - 1, NOW + LIFETIME_MS);
    assert!(second.put(&edge(1), &older, NOW + 1).unwrap_err().contains("newer"));
}

/// INV-LINK-24
#[test]
fn a_descriptor_with_a_date_of_the_future_does_not_stand_in_the_way_of_later_ones() {
    let mut workers = workers(LIMITS);
    let worker_key = key();
    // Dated before the clock of its worker, and that of the authority, were set back by a little or by much.
    for ahead_ms in [AHEAD_MS, 30 * 24 * 3_600_000] {
        let then = NOW + ahead_ms;
        workers.put(&edge(1), &worker(&worker_key, then, then + LIFETIME_MS), then).unwrap();
        let shown = workers.save().0;
        let right = worker(&worker_key, NOW, NOW + LIFETIME_MS);
        assert!(workers.put(&edge(1), &right, NOW).unwrap() > shown, "the list goes on with another revision");
        assert_eq!(vec![right], workers.save().1);
    }
    // Of two dates that can be, the later one counts.
    let older = worker(&worker_key, NOW - 1, NOW + LIFETIME_MS);
    assert!(workers.put(&edge(1), &older, NOW).unwrap_err().contains("newer"));
}
