#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use betanet_mix::epoch::Epoch;
use betanet_mix::mailbox::Limits as MailboxLimits;
use betanet_mix::view::{ConsensusHash, Signature, Signed, node_id_of};
use betanet_sphinx::PACKET_LEN;
use betanet_sphinx::{MailboxId, USER_PAYLOAD_LEN};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::clock::wall_ms;
use crate::control::ControlChannel;
use crate::daemon::authority_link::{ConsensusFile, Described, Uplink};
use crate::daemon::delays::Delays;
use crate::daemon::edge::Sessions;
use crate::daemon::mailboxes::Mailboxes;
use crate::daemon::mixer::{Mixer, MixerConfig};
use crate::daemon::packet_keys::PacketKeys;
use crate::fixtures::{ANNOUNCED, NETWORK, consensus, key, sign};
use crate::link::frame::{Item, ItemBody};
use crate::link::{Dialer, Frame, LinkTimeouts, REQUEST_LIMIT};
use crate::metrics::Exporter;
use crate::net::Endpoint;
use crate::state::StateDir;

const DEADLINE: Duration = Duration::from_mins(1);

const WIDE: Limits = Limits::of(256);

/// An edge without an authority.
struct TestEdge {
    address: SocketAddr,
    key: SigningKey,
    authority: SigningKey,
    consensuses: watch::Sender<Arc<Consensuses>>,
    metrics: Arc<Metrics>,
    edge: Arc<Edge>,
    inbound: Inbound,
    _mixer: Mixer,
    _folder: TempDir,
}

impl TestEdge {
    async fn start(limits: Limits) -> Self {
        Self::start_at(10_000, limits, patient()).await
    }

    /// Clients may send so many packets a second.
    async fn start_at(client_rate: u32, limits: Limits, timeouts: LinkTimeouts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let (own, authority) = (key(), key());
        let metrics = Arc::new(Metrics::new(true));
        let packet_keys = Arc::new(PacketKeys::open(&state, "boot", Epoch(1), 1000).unwrap());
        let delays = Arc::new(Mutex::new(Delays::open(&state).unwrap()));
        let config = MixerConfig { workers: 1, batch: 8, pool: 8, depth: 64, client_rate };
        let mixer = Mixer::new(config, Arc::default(), &metrics);
        mixer.start(&packet_keys, &delays, |_| {}).unwrap();
        let sessions = Sessions::default();
        let stored = {
            let sessions = sessions.clone();
            Box::new(move |mailbox, _, _| sessions.wake(mailbox))
        };
        let store = state.join("mailboxes.redb");
        let mailboxes = Mailboxes::open(
            &store,
            MailboxLimits { mailboxes: 5, ..MailboxLimits::default() },
            Arc::clone(&metrics),
            stored,
        )
        .unwrap();
        let consensuses = watch::Sender::new(Arc::new(Consensuses::new(NETWORK.into(), node_id_of(&authority))));
        let directory = Uplink {
            refusal: watch::Sender::default(),
            token: None,
            owed: watch::Sender::default(),
            time: NetworkClock::from_wall(),
            bootstrap: state.join("missing.json"),
            authority: Endpoint { id: node_id_of(&authority), address: "127.0.0.1:1".parse().unwrap() },
            dialer: Dialer::new(&own, LinkTimeouts::default()).unwrap(),
            descriptor: watch::Sender::new(Described::default()).subscribe(),
            consensuses: consensuses.clone(),
            cache: ConsensusFile::new(state.join("consensus.json")),
            metrics: Arc::clone(&metrics),
        }
        .start();
        let edge = Arc::new(Edge::new(mailboxes, sessions, Arc::clone(&metrics)));
        let inbound = Inbound {
            ingress: mixer.ingress().clone(),
            edge: Some(Arc::clone(&edge)),
            directory,
            consensuses: consensuses.subscribe(),
            time: NetworkClock::from_wall(),
            stock: Arc::default(),
            metrics: Arc::clone(&metrics),
        };
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = Listener::new(tcp, &own, timeouts).unwrap();
        let address = listener.local_addr().unwrap();
        let served = inbound.clone();
        tokio::spawn(async move { served.serve_within(limits, &listener).await });
        Self { address, key: own, authority, consensuses, metrics, edge, inbound, _mixer: mixer, _folder: folder }
    }

    async fn dial(&self, key: &SigningKey) -> Peer {
        self.dial_with(key, LinkTimeouts::default()).await
    }

    async fn dial_with(&self, key: &SigningKey, timeouts: LinkTimeouts) -> Peer {
        self.dial_to(self.address, key, timeouts).await
    }

    /// Dials another socket of the same key.
    async fn dial_at(&self, address: SocketAddr, key: &SigningKey) -> Peer {
        self.dial_to(address, key, LinkTimeouts::default()).await
    }

    async fn dial_to(&self, address: SocketAddr, key: &SigningKey, timeouts: LinkTimeouts) -> Peer {
        let dialer = Dialer::new(key, timeouts).unwrap();
        let (sender, reader) =
            dialer.dial(&address.try_into().unwrap(), *node_id_of(&self.key).as_bytes(), 64).await.unwrap();
        Peer { channel: ControlChannel::new(sender.clone()), sender, reader }
    }

    /// A client that is attached, and its mailbox.
    async fn attach(&self) -> (Peer, MailboxId) {
        let key = key();
        let mut peer = self.dial(&key).await;
        assert!(matches!(peer.ask(Op::Attach).await, Some(Outcome::Attached)));
        (peer, mailbox_of(node_id_of(&key).as_bytes()))
    }

    /// Puts items without acks into a mailbox, numbered by their last bytes.
    fn deliver(&self, mailbox: MailboxId, count: u16) {
        for n in 0..count {
            let mut payload = vec![0; USER_PAYLOAD_LEN];
            *payload.last_chunk_mut().unwrap() = n.to_be_bytes();
            self.edge.deliver(mailbox, &payload);
        }
    }

    fn items(&self) -> u64 {
        self.edge.update_levels();
        self.metrics.mailbox_items.get()
    }

    /// Publishes a consensus that lists these and nobody else.
    fn list(&self, nodes: &[&SigningKey]) {
        let mut consensuses = Consensuses::clone(&self.consensuses.borrow());
        let last = consensuses.at(wall_ms()).map(|view| (view.consensus().revision + 1, view.hash()));
        let (revision, previous) = last.unwrap_or((0, ConsensusHash::default()));
        assert!(consensuses.accept(&sign(consensus(nodes, revision, previous), &self.authority), wall_ms()).unwrap());
        self.consensuses.send_replace(Arc::new(consensuses));
    }

    async fn eventually(&self, condition: impl Fn(&Arc<Metrics>) -> bool) {
        let poll = async {
            while !condition(&self.metrics) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, poll).await.unwrap();
    }

    async fn dropped(&self, reason: &str, count: usize) {
        let count = u64::try_from(count).unwrap();
        self.eventually(|metrics| metrics.dropped(reason) == count).await;
    }
}

/// Handshakes take as long as they need.
fn patient() -> LinkTimeouts {
    LinkTimeouts { handshake: DEADLINE * 2, ..LinkTimeouts::default() }
}

fn rendered(metrics: &Arc<Metrics>) -> String {
    Exporter::new(metrics).render(Instant::now())
}

struct Peer {
    channel: ControlChannel,
    sender: LinkSender,
    reader: LinkReader,
}

impl Peer {
    /// The answer, or `None` when the link ended.
    async fn ask(&mut self, op: Op) -> Option<Outcome> {
        let read = async {
            while let Ok(Received::Message(message)) = self.reader.next().await {
                self.channel.take(&message).unwrap();
            }
        };
        tokio::select! {
            answer = self.channel.call(op) => match answer {
                Ok(outcome) => Some(outcome),
                Err(crate::control::ControlError::Refused(reason)) => Some(Outcome::Refused { reason }),
                Err(_) => None,
            },
            () = read => None,
        }
    }

    /// The next items: what [`TestEdge::deliver`] wrote, and their numbers.
    async fn items(&mut self, count: u16) -> (Vec<u16>, Vec<u64>) {
        let (mut bodies, mut seqs) = (Vec::new(), Vec::new());
        let read = async {
            while seqs.len() < usize::from(count) {
                if let Received::Item(Item { seq, body: ItemBody::Forward(payload) }) =
                    self.reader.next().await.unwrap()
                {
                    bodies.push(u16::from_be_bytes(*payload.last_chunk().unwrap()));
                    seqs.push(seq);
                }
            }
        };
        tokio::time::timeout(DEADLINE, read).await.unwrap();
        (bodies, seqs)
    }

    async fn is_served(&mut self) -> bool {
        matches!(self.ask(Op::Time).await, Some(Outcome::Time { .. }))
    }

    async fn ended(mut self) {
        let end = async { while self.reader.next().await.is_ok() {} };
        tokio::time::timeout(DEADLINE, end).await.unwrap();
    }
}

/// INV-LINK-17
#[tokio::test]
async fn clients_keep_no_node_out() {
    let edge = TestEdge::start(Limits { clients: 2, ..WIDE }).await;
    let node = key();
    edge.list(&[&node]);
    let mut clients = [edge.dial(&key()).await, edge.dial(&key()).await];
    for client in &mut clients {
        assert!(client.is_served().await);
    }
    assert!(!edge.dial(&key()).await.is_served().await);
    edge.dropped("too_many_clients", 1).await;
    let peer = edge.dial(&node).await;
    peer.sender.send(Frame::packet(&[7; PACKET_LEN])).await.unwrap();
    edge.eventually(|metrics| metrics.bytes_in.get() > 0).await;
    let mut links = vec![peer];
    for _ in 1..WIDE.of_one_node {
        links.push(edge.dial(&node).await);
    }
    links.push(edge.dial(&node).await);
    edge.dropped("too_many_node_links", 1).await;
}

/// INV-LINK-36
#[tokio::test]
async fn who_has_shown_no_key_or_asked_for_nothing_gives_way_to_who_comes() {
    let edge = TestEdge::start(Limits { newcomers: 1, ..WIDE }).await;
    let mut silent = TcpStream::connect(edge.address).await.unwrap();
    let mut asking = edge.dial(&key()).await;
    assert!(asking.is_served().await);
    assert_eq!(0, tokio::time::timeout(DEADLINE, silent.read(&mut [0])).await.unwrap().unwrap_or(0));
    edge.dropped("too_many_newcomers", 1).await;

    let quiet = edge.dial(&key()).await;
    let node = key();
    edge.list(&[&node]);
    let listed = edge.dial(&node).await;
    quiet.ended().await;
    edge.dropped("too_many_newcomers", 2).await;
    listed.sender.send(Frame::packet(&[7; PACKET_LEN])).await.unwrap();
    edge.eventually(|metrics| metrics.bytes_in.get() > 0).await;

    // Neither who has asked nor a node gives way, though they are older.
    let mut silent = Vec::new();
    for _ in 0..9 {
        silent.push(TcpStream::connect(edge.address).await.unwrap());
    }
    edge.dropped("too_many_newcomers", 10).await;
    assert!(asking.is_served().await);
    let before = edge.metrics.bytes_in.get();
    listed.sender.send(Frame::packet(&[7; PACKET_LEN])).await.unwrap();
    edge.eventually(|metrics| metrics.bytes_in.get() > before).await;
}

/// INV-LINK-51
#[tokio::test]
async fn who_comes_from_a_nodes_address_gives_way_to_no_stranger_elsewhere() {
    let edge = TestEdge::start(Limits { newcomers: 1, ..WIDE }).await;
    let connect = async |from: [u8; 4]| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(edge.address).await.unwrap()
    };
    let node = key();
    edge.list(&[&node]);
    let mut early = connect(ANNOUNCED).await;
    let mut strangers = Vec::new();
    for _ in 0..5 {
        strangers.push(connect([127, 0, 0, 1]).await);
    }
    edge.dropped("too_many_newcomers", 4).await;
    assert_eq!(std::io::ErrorKind::WouldBlock, early.try_read(&mut [0]).unwrap_err().kind());
    // It is still there to give way to another from a node's address.
    let _late = connect(ANNOUNCED).await;
    assert_eq!(0, tokio::time::timeout(DEADLINE, early.read(&mut [0])).await.unwrap().unwrap_or(0));
    edge.dropped("too_many_newcomers", 5).await;

    // A node that comes from another address than it announces is known there from then on.
    let peer = edge.dial(&node).await;
    peer.sender.send(Frame::packet(&[7; PACKET_LEN])).await.unwrap();
    edge.eventually(|metrics| metrics.bytes_in.get() > 0).await;
    let again = connect([127, 0, 0, 1]).await;
    edge.dropped("too_many_newcomers", 6).await;
    strangers.push(connect([127, 0, 0, 2]).await);
    edge.dropped("too_many_newcomers", 7).await;
    assert_eq!(std::io::ErrorKind::WouldBlock, again.try_read(&mut [0]).unwrap_err().kind());
}

/// INV-LINK-48
#[tokio::test]
async fn a_client_that_sends_garbage_has_to_go_and_to_wait() {
    let edge = TestEdge::start(WIDE).await;
    let flooder = key();
    let mut other = edge.dial(&key()).await;
    assert!(other.is_served().await);
    let peer = edge.dial(&flooder).await;
    let flood = async { while peer.sender.send(Frame::packet(&[7; PACKET_LEN])).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, flood).await.unwrap();
    edge.dropped("too_much_garbage", 1).await;
    assert!(!edge.dial(&flooder).await.is_served().await);
    edge.dropped("shut_out", 1).await;
    assert!(other.is_served().await);
}

/// INV-LINK-48
#[tokio::test]
async fn a_connection_from_an_address_that_is_shut_out_is_counted_once() {
    let edge = TestEdge::start(WIDE).await;
    let (room, ip) = (Room::new(WIDE), IpAddr::from([192, 0, 2, 1]));
    assert!(edge.inbound.admits(&room, ip));
    for _ in 0..30 {
        edge.inbound.ingress.blame_address(ip);
    }
    assert!(!edge.inbound.admits(&room, ip));
    assert_eq!(1, edge.metrics.dropped("shut_out"));
}

/// INV-LINK-17
#[tokio::test]
async fn a_client_that_neither_attaches_nor_asks_has_to_go() {
    let edge = TestEdge::start(Limits { idle: Duration::from_secs(1), ..WIDE }).await;
    let padding = LinkTimeouts { keepalive: Duration::from_millis(100), ..LinkTimeouts::default() };
    let mut attached = edge.dial_with(&key(), padding).await;
    assert!(matches!(attached.ask(Op::Attach).await, Some(Outcome::Attached)));
    edge.dial_with(&key(), padding).await.ended().await;
    edge.dropped("idle_client", 1).await;
    assert!(attached.is_served().await);
    // In the end it has to go as well: what keeps the link alive says nothing.
    attached.ended().await;
    edge.dropped("idle_client", 2).await;
}

/// INV-LINK-86
#[tokio::test]
async fn frames_that_ask_for_nothing_cost_a_client_what_packets_cost() {
    // So few that whoever sends anything at all has to wait.
    let edge = TestEdge::start_at(1, WIDE, patient()).await;
    let padding: Vec<_> = (0..200).map(|_| Frame::padding()).collect();
    let unfinished = Frame::control(vec![b' '; REQUEST_LIMIT - 1000]);
    for frames in [padding, vec![unfinished]] {
        let key = key();
        let mut peer = edge.dial(&key).await;
        assert!(peer.is_served().await);
        let source = edge.inbound.ingress.client(edge.address.ip(), *node_id_of(&key).as_bytes()).unwrap();
        assert!(source.spend(0).is_zero());
        let flood = tokio::spawn(async move {
            for frame in frames {
                peer.sender.send(frame).await.unwrap();
            }
            peer
        });
        edge.eventually(|_| !source.spend(0).is_zero()).await;
        flood.abort();
    }
}

/// INV-LINK-86
#[tokio::test]
async fn a_newcomer_that_sends_nothing_but_padding_has_to_go() {
    let edge = TestEdge::start(WIDE).await;
    let send_padding = async |count: u16| {
        let peer = edge.dial(&key()).await;
        for _ in 0..count {
            // The link may be closed by now.
            let _ = peer.sender.send(Frame::padding()).await;
        }
        peer
    };
    assert!(send_padding(50).await.is_served().await);
    send_padding(100).await.ended().await;
    edge.dropped("malformed_frame", 1).await;
}

/// INV-LINK-38
#[tokio::test]
async fn a_link_whose_mailbox_another_one_takes_is_closed() {
    let edge = TestEdge::start(WIDE).await;
    let owner = key();
    let mut first = edge.dial(&owner).await;
    for _ in 0..2 {
        // Attaching again over the same link asks for all items once more.
        assert!(matches!(first.ask(Op::Attach).await, Some(Outcome::Attached)));
    }
    assert!(first.is_served().await);
    let mut second = edge.dial(&owner).await;
    assert!(matches!(second.ask(Op::Attach).await, Some(Outcome::Attached)));
    first.ended().await;
    edge.dropped("mailbox_taken", 1).await;
    assert!(second.is_served().await);
}

#[tokio::test]
async fn links_are_counted_by_what_they_are_as_long_as_they_last() {
    let edge = TestEdge::start(WIDE).await;
    let node = key();
    edge.list(&[&node]);
    let links = |clients, nodes| {
        edge.eventually(move |metrics| (clients, nodes) == (metrics.client_links.get(), metrics.node_links.get()))
    };
    let mut client = edge.dial(&key()).await;
    assert!(client.is_served().await);
    links(1, 0).await;
    let (first, second) = (edge.dial(&node).await, edge.dial(&node).await);
    links(1, 2).await;
    drop((client, first));
    links(0, 1).await;
    drop(second);
    links(0, 0).await;
}

#[tokio::test]
async fn who_shows_no_key_in_time_or_none_that_is_known_is_counted() {
    let hasty = LinkTimeouts { handshake: Duration::from_millis(10), ..LinkTimeouts::default() };
    let edge = TestEdge::start_at(10, WIDE, hasty).await;
    let _silent = TcpStream::connect(edge.address).await.unwrap();
    edge.dropped("handshake_timeout", 1).await;

    let edge = TestEdge::start(WIDE).await;
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = Listener::new(tcp, &edge.key, LinkTimeouts::default()).unwrap();
    let address = listener.local_addr().unwrap();
    let middle = Inbound { edge: None, ..edge.inbound.clone() };
    let limits = Limits { membership: Duration::from_millis(10), ..WIDE };
    tokio::spawn(async move { middle.serve_within(limits, &listener).await });
    edge.dial_at(address, &key()).await.ended().await;
    edge.dropped("unknown_peer", 1).await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_accepted_is_counted() {
    let edge = TestEdge::start(WIDE).await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    // A socket that listens no more refuses to accept, as one does without free files.
    std::net::TcpStream::from(OwnedFd::from(socket.try_clone().unwrap())).shutdown(Shutdown::Both).unwrap();
    let listener = Listener::new(TcpListener::from_std(socket).unwrap(), &edge.key, patient()).unwrap();
    let inbound = edge.inbound.clone();
    let serving = tokio::spawn(async move { inbound.serve_within(WIDE, &listener).await });
    edge.eventually(|metrics| metrics.dropped("accept_failed") > 0).await;
    serving.abort();
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_counted() {
    let edge = TestEdge::start(WIDE).await;
    let (room, ip) = (Room::new(WIDE), IpAddr::from([192, 0, 2, 1]));
    while edge.inbound.admits(&room, ip) {}
    assert_eq!(1, edge.metrics.dropped("too_many_connections"));
}

#[tokio::test]
async fn a_client_for_whose_mailbox_there_is_no_room_is_counted() {
    let edge = TestEdge::start(WIDE).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(edge.attach().await);
    }
    let mut last = edge.dial(&key()).await;
    assert!(matches!(last.ask(Op::Attach).await, Some(Outcome::Refused { .. })));
    edge.dropped("too_many_mailboxes", 1).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_has_to_go_and_is_counted() {
    let edge = TestEdge::start_at(10_000, WIDE, LinkTimeouts { silence: Duration::from_secs(1), ..patient() }).await;
    let key = key();
    // It lives, and says so.
    let talking = LinkTimeouts { keepalive: Duration::from_millis(20), ..LinkTimeouts::default() };
    let mut peer = edge.dial_with(&key, talking).await;
    assert!(matches!(peer.ask(Op::Attach).await, Some(Outcome::Attached)));
    // More than all buffers between the two sides hold.
    edge.deliver(mailbox_of(node_id_of(&key).as_bytes()), 4000);
    edge.dropped("slow_reader", 1).await;
}

/// INV-LINK-18
#[tokio::test]
async fn a_link_follows_its_key_into_the_consensus_and_out_of_it() {
    let edge = TestEdge::start(Limits { clients: 1, ..WIDE }).await;
    let node = key();
    let mut peer = edge.dial(&node).await;
    assert!(peer.is_served().await);
    edge.list(&[&node]);
    // It is a node's link now: it leaves its place as a client to others.
    let freed = async { while !edge.dial(&key()).await.is_served().await {} };
    tokio::time::timeout(DEADLINE, freed).await.unwrap();
    peer.sender.send(Frame::packet(&[7; PACKET_LEN])).await.unwrap();
    edge.eventually(|metrics| metrics.bytes_in.get() > 0).await;
    edge.list(&[]);
    peer.ended().await;
}

/// INV-LINK-19
#[tokio::test]
async fn what_the_authority_would_close_the_link_for_is_refused_before() {
    let edge = TestEdge::start(WIDE).await;
    let mut client = edge.dial(&key()).await;
    let empty = Signed { content: String::new(), signatures: Vec::new() };
    let around = serde_json::to_vec(&Request { id: 0, op: Op::PutWorker { worker: empty.clone() } }).unwrap().len();
    let longest = Signed { content: "0".repeat(REQUEST_LIMIT - around), ..empty.clone() };
    let signature = Signature { key: [0; 32], sig: [0; 64] };
    let crowded = Signed { signatures: vec![signature; 200], ..empty };
    for (worker, why) in [(longest, "at most 8192 are accepted"), (crowded, "its issuer alone signs it")] {
        let Some(Outcome::Refused { reason }) = client.ask(Op::PutWorker { worker }).await else {
            panic!("it was not refused");
        };
        assert!(reason.contains(why), "{reason}");
    }
}

/// INV-LINK-19
#[tokio::test]
async fn a_client_publishes_no_faster_than_it_may() {
    let edge = TestEdge::start(WIDE).await;
    let mut client = edge.dial(&key()).await;
    let mut last = String::new();
    // The allowance refills while we ask, but not as fast as that.
    let ask = async {
        while !last.contains("too many descriptors") {
            let worker = Signed { content: String::new(), signatures: Vec::new() };
            let Some(Outcome::Refused { reason }) = client.ask(Op::PutWorker { worker }).await else {
                panic!("it was not refused");
            };
            last = reason;
        }
    };
    tokio::time::timeout(DEADLINE, ask).await.unwrap();
    edge.dropped("too_many_publications", 1).await;
}

/// INV-LINK-43 INV-LINK-44 INV-LINK-46
#[tokio::test]
async fn clients_that_do_not_read_or_send_nothing_but_item_acks_take_nothing_from_others() {
    let edge = TestEdge::start(WIDE).await;
    let (mut slow, of_slow) = edge.attach().await;
    // More than all buffers between the two sides hold.
    edge.deliver(of_slow, 4000);
    let (flooding, of_flooding) = edge.attach().await;
    edge.deliver(of_flooding, 100);
    // Acks of everything that anybody has, without an end.
    let flood = tokio::spawn(async move {
        let acks: Vec<u64> = (0..5000).collect();
        loop {
            for frame in Frame::item_acks(&acks) {
                flooding.sender.send(frame).await.unwrap();
            }
        }
    });
    let (mut honest, of_honest) = edge.attach().await;
    for round in 0..3 {
        edge.deliver(of_honest, 50);
        let (bodies, seqs) = honest.items(50).await;
        assert_eq!((0..50).collect::<Vec<u16>>(), bodies, "round {round}");
        honest.sender.send(Frame::item_acks(&seqs).remove(0)).await.unwrap();
    }
    // Each has deleted its own and no other's.
    edge.eventually(|_| edge.items() == 4000).await;
    flood.abort();
    // What the disk does not know of yet would be lost with it: its senders send it again, and its owners delete it again.
    let on_disk = || [of_slow, of_flooding, of_honest].map(|mailbox| edge.edge.on_disk(mailbox));
    edge.eventually(|_| on_disk() == [4000, 0, 0]).await;
    // Whoever reads while the disk cannot be read gets the rest when it can.
    edge.edge.lose_disk();
    let (bodies, seqs) = slow.items(4000).await;
    assert_eq!((0..4000).collect::<Vec<u16>>(), bodies);
    for frame in Frame::item_acks(&seqs) {
        slow.sender.send(frame).await.unwrap();
    }
    edge.eventually(|_| edge.items() == 0).await;
    let page = rendered(&edge.metrics);
    assert!(!page.lines().any(|line| line.contains("reason=") && !line.ends_with(" 0")), "{page}");
}
