//! Messages, requests, loops, workers; every packet is accounted for.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use betanet_mix::message::MessageId;
use betanet_mix::view::WorkerLimits;
use betanet_node::client::{Client, ClientError, Offline, SendOptions, WorkerOffer};
use betanet_node::http;
use betanet_node::link::{Dialer, Frame, LinkTimeouts};
use ed25519_dalek::SigningKey;

use crate::harness::{DEADLINE, Net, client, dropped, eventually, take};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_a_client_can_do_works_over_real_processes() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::start(&dir.path().join("net"), &["--mean-delay", "5ms"]);
    let alice = client(&net, &dir, "alice").await;
    let bob = Arc::new(client(&net, &dir, "bob").await);

    messages_cross_one_to_seven_hops_and_every_packet_is_counted(&net, &alice, &bob).await;
    a_long_message_arrives_whole(&alice, &bob).await;
    a_message_sent_again_under_its_id_arrives_once(&alice, &bob).await;
    requests_are_answered(&alice, &bob).await;
    an_answered_message_comes_again_without_its_way_back(&net, &dir, &alice).await;
    wrong_sends_are_refused(&alice, &bob).await;
    loops_come_back(&alice).await;
    workers_are_published(&alice, &bob).await;
    garbage_kills_no_node(&net).await;

    // Still alive after all of that.
    alice.send(&bob.address(), b"bye".to_vec(), 3).await.unwrap();
    assert_eq!(b"bye".to_vec(), take(&bob).await);
    bob.close().await;
    assert!(matches!(bob.receive().await, Err(ClientError::Closed)));
    assert_eq!(Some(0), net.terminate());
    a_network_that_is_down_is_named_with_its_edges(&alice).await;
    alice.close().await;
}

/// INV-MSG-24
async fn a_network_that_is_down_is_named_with_its_edges(alice: &Client) {
    eventually("the links have ended", async || alice.status().edges_attached == 0).await;
    let to = alice.address();
    let cause = async || {
        let error = alice.request(&to, vec![1], 3, 1, Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(error, ClientError::Offline(Offline::Edges { all: true, .. })), "{error:?}");
        error.to_string()
    };
    eventually("both edges refuse", async || cause().await.matches("refuses the connection").count() == 2).await;
    assert!(cause().await.starts_with("no edge of the network answers: 127.0.0.1:"), "{}", cause().await);
}

/// INV-LINK-10
async fn messages_cross_one_to_seven_hops_and_every_packet_is_counted(net: &Net, alice: &Client, bob: &Client) {
    const EACH: u64 = 5;
    for hops in [1, 3, 5, 7] {
        let before = (net.processed().await, alice.status().fragments_resent);
        for number in 0..EACH {
            let body = format!("{number} over {hops}").into_bytes();
            alice.send(&bob.address(), body.clone(), hops).await.unwrap();
            assert_eq!(body, take(bob).await);
        }
        // Each message is one fragment there and one ack back, and every hop unwraps each of them.
        let exact = EACH * 2 * u64::from(hops);
        let resent = alice.status().fragments_resent - before.1;
        let counted = net.processed().await - before.0;
        assert!(
            (exact..=exact + resent * 2 * u64::from(hops)).contains(&counted),
            "{counted} unwraps for {exact} at {hops} hops with {resent} sent again"
        );
    }
}

async fn a_long_message_arrives_whole(alice: &Client, bob: &Client) {
    let body: Vec<u8> = (0u32..300_000).map(|n| (n % 251) as u8).collect();
    alice.send(&bob.address(), body.clone(), 3).await.unwrap();
    assert!(body == take(bob).await, "300 KB differ");
}

/// INV-MSG-04
async fn a_message_sent_again_under_its_id_arrives_once(alice: &Client, bob: &Client) {
    let id = MessageId([7; 16]);
    let options = SendOptions { id: Some(id), ..SendOptions::hops(3) };
    let to = bob.address();
    let send = || alice.send_with(&to, b"once".to_vec(), options);
    let mut given_up = Box::pin(send());
    tokio::select! {
        biased;
        _ = &mut given_up => panic!("no message is acknowledged at once"),
        () = tokio::task::yield_now() => drop(given_up),
    }
    for _ in 0..3 {
        assert_eq!(id, send().await.unwrap());
    }
    assert_eq!(b"once".to_vec(), take(bob).await);
    let another = alice.send_with(&to, b"another".to_vec(), options).await;
    assert!(matches!(another, Err(ClientError::IdUsed { id: used }) if used == id), "{another:?}");
    alice.send(&bob.address(), b"another".to_vec(), 3).await.unwrap();
    assert_eq!(b"another".to_vec(), take(bob).await);
}

async fn requests_are_answered(alice: &Client, bob: &Arc<Client>) {
    let replier = Arc::clone(bob);
    let answering = tokio::spawn(async move {
        for _ in 0..3 {
            let request = replier.receive().await.unwrap();
            let mut answer = request.body.into_bytes().unwrap().repeat(1000);
            answer.truncate(request.reply_capacity);
            replier.reply(request.reply.unwrap(), answer).await.unwrap();
            replier.commit(request.id).await.unwrap();
        }
    });
    let to = bob.address();
    for hops in [3, 5, 7] {
        let request = alice.request(&to, b"ping".to_vec(), hops, 4, DEADLINE);
        let answer = request.await.unwrap();
        assert_eq!(b"ping".repeat(1000), answer, "{hops} hops");
    }
    answering.await.unwrap();

    // Nobody answers: the request ends in time, and the replier still gets the message.
    let short = Duration::from_millis(300);
    let unanswered = alice.request(&to, b"hello?".to_vec(), 1, 1, short);
    assert!(matches!(unanswered.await, Err(ClientError::Timeout | ClientError::Unanswered)));
    assert_eq!(b"hello?".to_vec(), take(bob).await);
}

/// INV-MSG-25, INV-MSG-11
async fn an_answered_message_comes_again_without_its_way_back(net: &Net, dir: &tempfile::TempDir, alice: &Client) {
    let carol = client(net, dir, "carol").await;
    let to = carol.address();
    let answer = async {
        let request = carol.receive().await.unwrap();
        carol.reply(request.reply.unwrap(), b"answer".to_vec()).await.unwrap();
        request.id
    };
    let (id, answered) = tokio::join!(answer, alice.request(&to, b"question".to_vec(), 3, 4, DEADLINE));
    assert_eq!(b"answer".to_vec(), answered.unwrap());
    carol.close().await;
    let carol = client(net, dir, "carol").await;
    let again = tokio::time::timeout(DEADLINE, carol.receive()).await.unwrap().unwrap();
    assert_eq!((id, None, 0), (again.id, again.reply, again.reply_capacity));
    carol.commit(id).await.unwrap();
    carol.close().await;
}

async fn wrong_sends_are_refused(alice: &Client, bob: &Client) {
    let too_far = alice.send(&bob.address(), vec![1], 8).await;
    assert!(matches!(too_far, Err(ClientError::Invalid(_))));
    let too_long = alice.send(&bob.address(), vec![0; 65 << 20], 3).await;
    assert!(matches!(too_long, Err(ClientError::Invalid(_))));
    let unknown = alice.commit(betanet_mix::message::MessageId([7; 16])).await;
    assert!(matches!(unknown, Err(ClientError::Invalid(_))));
    let second_owner = betanet_node::client::ClientConfig::new("/nowhere".into(), "/nowhere".into());
    assert!(Client::open(second_owner).await.is_err());
}

async fn loops_come_back(alice: &Client) {
    let status = alice.status();
    assert_eq!((2, 6, 2), (status.entry_nodes, status.middle_nodes, status.exit_nodes));
    assert_eq!((2, 2), (status.edges_attached, status.edges_wanted));
    assert!(status.one_operator);
    for hops in [1, 3, 7] {
        assert!(alice.ping(hops).await.unwrap() < DEADLINE);
    }
}

async fn workers_are_published(alice: &Client, bob: &Client) {
    let offer = WorkerOffer {
        name: "bench".into(),
        kinds: vec!["wasm".into()],
        slots: 2,
        memory_bytes: 1 << 30,
        limits: Some(WorkerLimits { wall_ms: 90_000, scratch_bytes: 1 << 20, output_bytes: 0 }),
        groups: vec!["lab".into()],
        lifetime: Duration::from_mins(1),
    };
    let published = bob.publish_worker(offer.clone()).await.unwrap();
    assert_eq!(bob.address(), published.address);
    eventually("the worker is listed", async || alice.workers().await.unwrap() == [published.clone()]).await;
    let nameless = WorkerOffer { name: String::new(), ..offer };
    assert!(matches!(bob.publish_worker(nameless).await, Err(ClientError::Invalid(_))));
}

/// INV-LINK-03
async fn garbage_kills_no_node(net: &Net) {
    let file = net.file();
    let dialer = Dialer::new(&SigningKey::from_bytes(&[5; 32]), LinkTimeouts::default()).unwrap();
    for edge in &file.edges {
        // No TLS at all.
        let mut stream = TcpStream::connect(edge.address.to_string()).unwrap();
        let _ = stream.write_all(&[0xff; 10_000]);
        // A wrong key is noticed.
        assert!(dialer.dial(&edge.address, [1; 32], 8).await.is_err());
        // Packets of noise are dropped and the link stays.
        let id = *edge.id.as_bytes();
        let (sender, mut reader) = dialer.dial(&edge.address, id, 8).await.unwrap();
        let noise = [0xa5; betanet_sphinx::PACKET_LEN];
        sender.send(Frame::packet(&noise)).await.unwrap();
        // A control message that is none, and an item from a client, end the link.
        sender.send(Frame::control(b"{".to_vec())).await.unwrap();
        assert!(reader.next().await.is_err());
        let (sender, mut reader) = dialer.dial(&edge.address, id, 8).await.unwrap();
        sender.send(Frame::item_acks(&[1]).remove(0)).await.unwrap();
        assert!(reader.next().await.is_err());
        // Unknown operations too.
        let (sender, mut reader) = dialer.dial(&edge.address, id, 8).await.unwrap();
        let operation = br#"{"id":1,"op":"obey"}"#.to_vec();
        sender.send(Frame::control(operation)).await.unwrap();
        assert!(reader.next().await.is_err());
    }
    for address in file.http.values() {
        assert_eq!(200, http::get(*address, "/health").await.unwrap().0);
    }
    for reason in ["handshake_failed", "malformed_frame", "unknown_version"] {
        eventually(reason, async || {
            for address in file.http.values() {
                if dropped(*address, reason).await > 0 {
                    return true;
                }
            }
            false
        })
        .await;
    }
}
