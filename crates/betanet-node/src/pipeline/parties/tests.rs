#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_mix::pool::Buffer;
use tokio::task::yield_now;

use super::*;
use crate::pipeline::Arrival;

/// Packets that the queue of these tests has room for.
const DEPTH: usize = 64;

fn parties() -> Parties {
    Parties::new(Arc::new(Arrivals::new(DEPTH, 1)), 1000)
}

fn ip(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn known(parties: &Parties) -> usize {
    lock(&parties.known).len()
}

/// INV-LINK-48
#[tokio::test]
async fn an_address_is_shut_out_with_all_its_links_and_nobody_else_is() {
    let parties = parties();
    let links = [1, 2].map(|key| parties.client(ip(1), [key; 32]).unwrap());
    let other = parties.client(ip(2), [3; 32]).unwrap();
    assert_eq!(links[0].source, links[1].source);
    assert_ne!(links[0].source, other.source);
    let refused = (1..9999).find(|_| links[0].blame(PacketError::BadMac).1).unwrap();
    assert!(refused < 2000, "{refused}");
    for link in &links {
        link.shut_out().await;
    }
    assert_eq!(Err(ShutOut), parties.client(ip(1), [4; 32]).map(|_| ()));
    assert!(parties.is_shut_out(ip(1)) && !parties.is_shut_out(ip(2)));
    assert!(parties.client(ip(2), [3; 32]).is_ok());
    // To come again is no way out.
    for link in &links {
        parties.go(link);
    }
    assert_eq!(Err(ShutOut), parties.client(ip(1), [5; 32]).map(|_| ()));
}

/// INV-LINK-49
#[test]
fn a_node_pays_in_turns_for_its_own_faults_and_acknowledgements_cost_nothing() {
    let parties = parties();
    let node = parties.node(NodeId::from([7; 32]));
    for _ in 0..5000 {
        assert_eq!((0, false), node.blame(PacketError::BadMac));
        assert_eq!((0, false), node.blame(PacketError::Replay));
        assert_eq!((conduct::TURNS, false), node.blame(PacketError::UnknownVersion));
    }
    assert_eq!((0, false), parties.own().blame(PacketError::UnknownVersion));
    assert!(!node.broke_link());
}

/// INV-LINK-48
#[test]
fn clients_of_this_machine_are_told_apart_by_their_keys() {
    let parties = parties();
    let [one, other] = [1, 2].map(|key| parties.client([127, 0, 0, 1].into(), [key; 32]).unwrap());
    assert_ne!(one.source, other.source);
    while !one.broke_link() {}
    assert!(parties.client([127, 0, 0, 1].into(), [1; 32]).is_err());
    assert!(parties.client([127, 0, 0, 1].into(), [2; 32]).is_ok());
    assert!(!parties.is_shut_out([127, 0, 0, 1].into()));
}

#[test]
fn who_left_nothing_behind_is_forgotten_and_others_are_up_to_a_bound() {
    let parties = parties();
    let clean = parties.client(ip(1), [1; 32]).unwrap();
    parties.go(&clean);
    assert_eq!(0, known(&parties));
    let address = |n: usize| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0b00_0000 + u32::try_from(n).unwrap()));
    for n in 0..REMEMBERED + 20 {
        parties.blame_address(address(n));
        // The first are worse than all others.
        if n < 5 {
            parties.blame_address(address(n));
        }
    }
    assert_eq!(REMEMBERED, known(&parties));
    for n in 0..5 {
        assert!(lock(&parties.known).contains_key(&Name::Address(address(n))), "{n}");
    }
}

/// INV-LINK-83
#[tokio::test]
async fn a_client_is_read_no_further_while_it_holds_its_part_of_the_queue() {
    let parties = parties();
    let client = |last| parties.client(ip(last), [last; 32]).unwrap();
    let (flooder, other, node) = (client(1), client(2), parties.node(NodeId::from([7; 32])));
    let push = |party: &Arc<Party>| {
        let arrival = Arrival { packet: Buffer::blank(), received: Instant::now(), from: party.hold() };
        parties.arrivals.push(party.source, [arrival].into_iter()).unwrap()
    };
    let mut held = 0;
    while tokio::time::timeout(Duration::ZERO, flooder.room()).await.is_ok() {
        assert_eq!(0, push(&flooder));
        held += 1;
    }
    assert!((2..DEPTH / 4).contains(&held), "{held}");
    other.room().await;
    assert_eq!(0, (held..DEPTH).map(|_| push(&node)).sum::<usize>());
    node.room().await;
    // Those that make way for others are no longer held either.
    for _ in 0..DEPTH {
        push(&other);
    }
    let waits = tokio::spawn({
        let flooder = Arc::clone(&flooder);
        async move { flooder.room().await }
    });
    yield_now().await;
    let mut group = Vec::new();
    assert!(parties.arrivals.collect(&mut group, DEPTH, Duration::ZERO, &mut Vec::new()));
    group.clear();
    waits.await.unwrap();
}
