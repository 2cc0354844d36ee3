#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::SocketAddr;

use betanet_mix::directory::Consensuses;
use betanet_mix::view::{Consensus, ConsensusHash, Role, Signed, node_id_of};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::authority::Authority;
use crate::authority::tests::config;
use crate::clock::wall_ms;
use crate::control::{ControlChannel, ControlError};
use crate::fixtures::{consensus, key, sign};
use crate::link::{Dialer, Frame, LinkTimeouts, REQUEST_LIMIT};

const DEADLINE: Duration = Duration::from_mins(1);

struct Running {
    address: SocketAddr,
    id: [u8; 32],
    shared: Arc<Shared>,
    _folder: TempDir,
}

impl Running {
    async fn start(limits: Limits) -> Self {
        Self::start_with(limits, LinkTimeouts::default()).await
    }

    async fn start_with(limits: Limits, timeouts: LinkTimeouts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = Authority::open(config(folder.path().to_owned())).await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        authority.listener = Listener::new(tcp, &authority.shared.key, timeouts).unwrap();
        let (address, shared) = (authority.listener.local_addr().unwrap(), Arc::clone(&authority.shared));
        let room = Arc::new(Room::of(limits));
        tokio::spawn(async move { serve_within(&room, &authority.listener, &authority.shared).await });
        Self { address, id: *node_id_of(&shared.key).as_bytes(), shared, _folder: folder }
    }

    /// Publishes a consensus that lists these and nobody else.
    fn list(&self, nodes: &[&SigningKey]) {
        self.publish(consensus(nodes, 0, ConsensusHash::default()));
    }

    fn publish(&self, consensus: Consensus) {
        let mut consensuses = Consensuses::clone(&self.shared.consensuses.borrow());
        assert!(consensuses.accept(&sign(consensus, &self.shared.key), wall_ms()).unwrap());
        self.shared.consensuses.send_replace(Arc::new(consensuses));
    }

    /// Waits until so many links had to go for a reason.
    async fn until_turned_away(&self, why: Refused, links: u64) {
        let counted = async {
            while self.shared.counts.refused(why) < links {
                tokio::task::yield_now().await;
            }
        };
        let counted = tokio::time::timeout(DEADLINE, counted).await;
        assert!(counted.is_ok(), "{why:?}: {links} are missing from {:?}", self.shared.counts);
    }

    async fn until_refused(&self, key: &SigningKey, op: impl Fn() -> Op, why: Refused) {
        let mut peer = self.dial(key).await;
        let before = self.shared.counts.refused(why);
        while self.shared.counts.refused(why) == before {
            let given = peer.ask(op()).await;
            assert!(matches!(given, Err(ControlError::Refused(_))), "{why:?}: {given:?}");
        }
    }

    async fn link(&self, key: &SigningKey, timeouts: LinkTimeouts) -> (LinkSender, LinkReader) {
        let dialer = Dialer::new(key, timeouts).unwrap();
        dialer.dial(&self.address.try_into().unwrap(), self.id, 8).await.unwrap()
    }

    async fn dial_with(&self, key: &SigningKey, timeouts: LinkTimeouts) -> Dialled {
        let (sender, reader) = self.link(key, timeouts).await;
        Dialled { channel: ControlChannel::new(sender), reader }
    }

    async fn dial(&self, key: &SigningKey) -> Dialled {
        self.dial_with(key, LinkTimeouts::default()).await
    }
}

struct Dialled {
    channel: ControlChannel,
    reader: LinkReader,
}

impl Dialled {
    async fn ask(&mut self, op: Op) -> Result<Outcome, ControlError> {
        let read = async {
            while let Ok(Received::Message(message)) = self.reader.next().await {
                self.channel.take(&message).unwrap();
            }
        };
        tokio::select! {
            answer = self.channel.call(op) => answer,
            () = read => Err(LinkError::Closed.into()),
        }
    }

    async fn is_served(&mut self) -> bool {
        self.ask(Op::Time).await.is_ok()
    }

    async fn ended(mut self) {
        let end = async { while self.reader.next().await.is_ok() {} };
        tokio::time::timeout(DEADLINE, end).await.unwrap();
    }
}

/// INV-LINK-37
#[tokio::test]
async fn strangers_keep_no_listed_node_from_the_authority_and_no_newcomer_either() {
    // One place for newcomers, one for neighbours, two for strangers, four for nodes.
    let authority = Running::start(Limits::of(8)).await;
    let (node, late) = (key(), key());
    let mut early = authority.dial(&node).await;
    assert!(early.is_served().await);
    // A stranger's link becomes a node's with the consensus that lists it.
    authority.list(&[&node, &late]);
    let mut strangers = Vec::new();
    for _ in 0..4 {
        let mut stranger = authority.dial(&key()).await;
        assert!(stranger.is_served().await);
        strangers.push(stranger);
    }
    let mut strangers = strangers.into_iter();
    for stranger in strangers.by_ref().take(2) {
        stranger.ended().await;
    }
    let mut listed = authority.dial(&late).await;
    assert!(listed.is_served().await);
    // From here on the address is known as that of nodes.
    let mut silent = TcpStream::connect(authority.address).await.unwrap();
    let quiet = authority.dial(&key()).await;
    assert_eq!(0, tokio::time::timeout(DEADLINE, silent.read(&mut [0])).await.unwrap().unwrap_or(0));
    let mut other = authority.dial(&key()).await;
    quiet.ended().await;
    assert!(other.is_served().await);
    strangers.next().unwrap().ended().await;
    assert!(early.is_served().await);
    assert!(listed.is_served().await);
    assert!(authority.shared.counts.refused(Refused::NoPlace) >= 4);
}

/// INV-LINK-37
#[tokio::test]
async fn strangers_at_one_address_give_way_to_each_other_before_others_do() {
    let room = Room::of(Limits::of(64));
    let address = |last| Some(IpAddr::from([192, 0, 2, last]));
    let mut other = room.strangers.come(address(7));
    let mut crowd: Vec<_> = (0..6).map(|_| room.strangers.come(address(1))).collect();
    // A quarter of sixteen.
    for one in crowd.iter_mut().take(2) {
        one.gives_way().await;
    }
    let stays = async {
        tokio::select! {
            biased;
            () = other.gives_way() => false,
            () = std::future::ready(()) => true,
        }
    };
    assert!(stays.await);
}

/// INV-LINK-64
#[tokio::test]
async fn padding_keeps_no_place_at_the_authority() {
    let authority = Running::start(Limits { idle: Duration::from_millis(500), ..Limits::of(64) }).await;
    let node = key();
    authority.list(&[&node]);
    let padding = LinkTimeouts { keepalive: Duration::from_millis(50), ..LinkTimeouts::default() };
    for key in [node, key()] {
        let mut peer = authority.dial_with(&key, padding).await;
        assert!(peer.is_served().await);
        peer.ended().await;
    }
    authority.until_turned_away(Refused::Idle, 2).await;
}

/// INV-LINK-86
#[tokio::test]
async fn whoever_pads_instead_of_asking_has_to_go_from_the_authority() {
    let authority = Running::start(Limits::of(64)).await;
    let node = key();
    authority.list(&[&node]);
    for key in [node, key()] {
        let (sender, reader) = authority.link(&key, LinkTimeouts::default()).await;
        let mut peer = Dialled { channel: ControlChannel::new(sender.clone()), reader };
        let pad = async |count: u16| {
            for _ in 0..count {
                // The link may be closed by now.
                let _ = sender.send(Frame::padding()).await;
            }
        };
        for _ in 0..2 {
            pad(40).await;
            assert!(peer.is_served().await, "it asked in time");
        }
        pad(100).await;
        peer.ended().await;
    }
    authority.until_turned_away(Refused::Malformed, 2).await;
    // Before the first request as well.
    let (sender, _reader) = authority.link(&key(), LinkTimeouts::default()).await;
    let flood = async { while sender.send(Frame::padding()).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, flood).await.unwrap();
    authority.until_turned_away(Refused::Malformed, 3).await;
}

/// INV-LINK-03, INV-LINK-65
#[tokio::test]
async fn whoever_breaks_the_protocol_is_cut_off_and_counted_and_others_are_served() {
    let authority = Running::start(Limits::of(64)).await;
    let mut honest = authority.dial(&key()).await;
    assert!(honest.is_served().await);

    // No handshake: garbage, a connection that closes, and one that takes the authority for another.
    let mut garbage = TcpStream::connect(authority.address).await.unwrap();
    garbage.write_all(&[0x16; 4096]).await.unwrap();
    authority.until_turned_away(Refused::Handshake, 1).await;
    drop(TcpStream::connect(authority.address).await.unwrap());
    authority.until_turned_away(Refused::Handshake, 2).await;
    let dialer = Dialer::new(&key(), LinkTimeouts::default()).unwrap();
    let other = *node_id_of(&key()).as_bytes();
    assert!(dialer.dial(&authority.address.try_into().unwrap(), other, 8).await.is_err());
    authority.until_turned_away(Refused::Handshake, 3).await;

    // A handshake and nothing more.
    let hasty = Running::start(Limits { first_request: Duration::from_millis(1), ..Limits::of(64) }).await;
    hasty.dial(&key()).await.ended().await;
    hasty.until_turned_away(Refused::Idle, 1).await;

    // What is no request, is too long for one, or is for nodes.
    let wrong = [
        Frame::control(b"{}".to_vec()),
        Frame::control(vec![b' '; REQUEST_LIMIT + 1]),
        Frame::packet(&[7; betanet_sphinx::PACKET_LEN]),
        Frame::item_acks(&[1]).remove(0),
    ];
    for (count, frame) in (1..).zip(wrong) {
        let (sender, mut reader) = authority.link(&key(), LinkTimeouts::default()).await;
        sender.send(frame).await.unwrap();
        tokio::time::timeout(DEADLINE, async { while reader.next().await.is_ok() {} }).await.unwrap();
        authority.until_turned_away(Refused::Malformed, count).await;
    }
    assert!(honest.is_served().await);
}

/// INV-LINK-63
#[tokio::test]
async fn only_an_edge_that_is_listed_brings_workers() {
    let authority = Running::start(Limits::of(64)).await;
    let (edge, middle) = (key(), key());
    let mut nodes = consensus(&[&edge, &middle], 0, ConsensusHash::default());
    nodes.nodes.first_mut().unwrap().descriptor.role = Role::Exit;
    authority.publish(nodes);
    for (peer, brings) in [(edge, true), (middle, false), (key(), false)] {
        assert_eq!(brings, authority.shared.bringer(node_id_of(&peer)).is_some());
    }
}

#[tokio::test]
async fn what_is_asked_for_and_not_granted_is_counted_by_its_reason() {
    let authority = Running::start(Limits::of(64)).await;
    let edge = key();
    let mut nodes = consensus(&[&edge], 0, ConsensusHash::default());
    nodes.nodes.first_mut().unwrap().descriptor.role = Role::Exit;
    authority.publish(nodes);
    let empty = || Signed { content: String::new(), signatures: Vec::new() };
    let worker = || Op::PutWorker { worker: empty() };
    let node = || Op::PutDescriptor { descriptor: empty(), token: None };
    authority.until_refused(&edge, worker, Refused::Worker).await;
    authority.until_refused(&key(), worker, Refused::NotAnEdge).await;
    authority.until_refused(&key(), node, Refused::Descriptor).await;
    authority.until_refused(&edge, || Op::Attach, Refused::Unexpected).await;
    authority.until_refused(&key(), worker, Refused::TooManyDescriptors).await;
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_counted() {
    let authority = Running::start(Limits::of(64)).await;
    let (room, ip) = (Room::of(Limits::of(64)), IpAddr::from([192, 0, 2, 1]));
    while room.admits(ip, &authority.shared.counts) {}
    assert_eq!(1, authority.shared.counts.refused(Refused::TooManyConnections));
}

#[tokio::test]
async fn a_node_that_reads_no_answer_has_to_go_and_is_counted() {
    let hasty = LinkTimeouts { silence: Duration::from_secs(1), ..LinkTimeouts::default() };
    let authority = Running::start_with(Limits::of(64), hasty).await;
    let node = key();
    let nodes: Vec<_> = (0..40).map(|_| key()).chain([node.clone()]).collect();
    authority.list(&nodes.iter().collect::<Vec<_>>());
    // It lives, and asks without an end.
    let talking = LinkTimeouts { keepalive: Duration::from_millis(20), ..LinkTimeouts::default() };
    let (sender, _reader) = authority.link(&node, talking).await;
    let asking = tokio::spawn(async move {
        for id in 0.. {
            let request = Request { id, op: Op::GetConsensus { have: Vec::new(), follow: false } };
            if sender.send_message(&request).await.is_err() {
                break;
            }
        }
    });
    authority.until_turned_away(Refused::SlowReader, 1).await;
    asking.abort();
}
