#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_sphinx::SURB_LEN;

use super::*;
use crate::link::frame::{EncodedItem, Item, ItemBody};
use crate::link::{Frame, LinkError, Received};
use crate::random::os_rng;

const DEADLINE: Duration = Duration::from_mins(1);

fn key() -> SigningKey {
    SigningKey::generate(&mut os_rng())
}

fn quick() -> LinkTimeouts {
    LinkTimeouts { keepalive: Duration::from_millis(20), ..LinkTimeouts::default() }
}

async fn listen(key: &SigningKey) -> (Listener, LinkAddress) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = Listener::new(tcp, key, quick()).unwrap();
    let address = listener.local_addr().unwrap().try_into().unwrap();
    (listener, address)
}

/// INV-LINK-01
#[tokio::test]
async fn both_sides_learn_the_key_of_the_other_and_everything_crosses() {
    let (server, client) = (key(), key());
    let (listener, address) = listen(&server).await;
    let accept = async {
        let accepted = listener.accept().await.unwrap();
        accepted.handshake(8).await.unwrap()
    };
    let dialer = Dialer::new(&client, quick()).unwrap();
    let dial = dialer.dial(&address, server.verifying_key().to_bytes(), 8);
    let ((peer, to_client, mut at_server), dialled) = tokio::join!(accept, dial);
    let (to_server, mut at_client) = dialled.unwrap();
    assert_eq!(client.verifying_key().to_bytes(), peer);

    let packet = [7; betanet_sphinx::PACKET_LEN];
    to_server.send(Frame::packet(&packet)).await.unwrap();
    let message: Vec<u32> = (0..3000).collect();
    to_server.send_message(&message).await.unwrap();
    to_server.send(Frame::item_acks(&[1, 2, 3]).remove(0)).await.unwrap();
    assert!(matches!(at_server.next().await, Ok(Received::Packets(got)) if got.iter().eq([&packet])));
    let Ok(Received::Message(got)) = at_server.next().await else {
        panic!("no message came");
    };
    assert_eq!(message, Received::message::<Vec<u32>>(&got).unwrap());
    assert!(matches!(at_server.next().await, Ok(Received::ItemAck(got)) if got == [1, 2, 3]));
    let item = Item { seq: 9, body: ItemBody::Forward([[1].as_slice(), &[0; SURB_LEN], &[1; 1000]].concat()) };
    to_client.send(Frame::item(EncodedItem::forward(&[1; SURB_LEN + 1001]).unwrap().numbered(9))).await.unwrap();
    assert!(matches!(at_client.next().await, Ok(Received::Item(got)) if got == item));

    // Padding keeps the link alive and is not seen; what is queued at the end still arrives.
    to_server.send(Frame::packet(&packet)).await.unwrap();
    to_server.finish().await;
    assert!(matches!(at_server.next().await, Ok(Received::Packets(_))));
    assert!(matches!(at_server.next().await, Err(LinkError::Closed)));
}

/// INV-LINK-01
#[tokio::test]
async fn a_peer_with_another_key_than_the_pinned_one_is_refused() {
    let (listener, address) = listen(&key()).await;
    let accept = async { listener.accept().await.unwrap().handshake(8).await };
    let dialer = Dialer::new(&key(), quick()).unwrap();
    let dial = dialer.dial(&address, key().verifying_key().to_bytes(), 8);
    let (accepted, dialled) = tokio::join!(accept, dial);
    assert!(matches!(accepted, Err(HandshakeError::Tls(_))));
    assert!(matches!(dialled, Err(HandshakeError::Tls(_))));
}

#[tokio::test]
async fn a_peer_that_says_nothing_times_out() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timeouts = LinkTimeouts { handshake: Duration::from_millis(10), ..LinkTimeouts::default() };
    let listener = Listener::new(tcp, &key(), timeouts).unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let accepted = listener.accept().await.unwrap().handshake(8).await;
    assert!(matches!(accepted, Err(HandshakeError::Timeout)));
}

/// INV-LINK-04
#[tokio::test]
async fn a_stranger_cannot_make_the_accepting_side_hold_much() {
    let server = key();
    let (listener, address) = listen(&server).await;
    let accept = async { listener.accept().await.unwrap().handshake(8).await.unwrap() };
    let dialer = Dialer::new(&key(), quick()).unwrap();
    let dial = dialer.dial(&address, server.verifying_key().to_bytes(), 8);
    let ((_, _to_client, mut at_server), dialled) = tokio::join!(accept, dial);
    let (to_server, _at_client) = dialled.unwrap();
    let long = "x".repeat(REQUEST_LIMIT + 1);
    to_server.send_message(&long).await.unwrap();
    assert!(matches!(at_server.next().await, Err(LinkError::Message)));
}

/// INV-LINK-84
#[tokio::test]
async fn a_link_that_we_give_up_is_closed_though_its_peer_reads_nothing() {
    // No writer gives up by itself while this test runs.
    let patient = LinkTimeouts { silence: DEADLINE * 60, ..quick() };
    let server = key();
    let (mut listener, address) = listen(&server).await;
    listener.timeouts = patient;
    let accept = async { listener.accept().await.unwrap().handshake(8).await.unwrap() };
    let dialer = Dialer::new(&key(), patient).unwrap();
    let dial = dialer.dial(&address, server.verifying_key().to_bytes(), 8);
    let ((_, to_client, at_server), dialled) = tokio::join!(accept, dial);
    let (to_server, _at_client) = dialled.unwrap();
    // More than all buffers between the two sides hold.
    to_client.send_message(&"x".repeat(MESSAGE_LIMIT / 2)).await.unwrap();
    drop(at_server);
    let gone = async {
        to_client.closed().await;
        // A system whose process has closed the connection says so to who writes to it.
        to_server.closed().await;
    };
    tokio::time::timeout(DEADLINE, gone).await.unwrap();
}

#[tokio::test]
async fn a_peer_of_another_protocol_is_told_from_one_of_another_key() {
    let server = key();
    let (mut listener, address) = listen(&server).await;
    let mut config = ServerConfig::clone(listener.acceptor.config());
    config.alpn_protocols.clear();
    listener.acceptor = TlsAcceptor::from(Arc::new(config));
    let accept = async { listener.accept().await.unwrap().handshake(8).await };
    let dialer = Dialer::new(&key(), quick()).unwrap();
    let dial = dialer.dial(&address, server.verifying_key().to_bytes(), 8);
    let (accepted, dialled) = tokio::join!(accept, dial);
    assert!(matches!(accepted, Err(HandshakeError::Protocol)));
    assert!(matches!(dialled, Err(HandshakeError::Protocol)));
}
