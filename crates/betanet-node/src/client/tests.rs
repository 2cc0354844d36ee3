#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_mix::courier::SendError;
use betanet_mix::path::PathError;
use betanet_mix::view::{ConsensusHash, Mailbox, Verified, WorkerList, node_id_of};
use betanet_sphinx::{MailboxId, NodeId};

use super::driver::SendFailure;
use super::outgoing::EDGE_PAUSE;
use super::seen::SeenDocuments;
use super::*;
use crate::fixtures::{consensus, key, sign};
use crate::sync::lock;

fn edge() -> NodeId {
    NodeId::from([2; 32])
}

fn nothing_seen() -> SeenDocuments {
    SeenDocuments::open("/nowhere/seen.json".into(), NodeId::from([1; 32])).unwrap()
}

/// As [`client`], attached to its edge and with a consensus in force.
fn attached_client() -> (Client, mpsc::Receiver<ClientCommand>) {
    let (mut client, queue) = client();
    let authority = key();
    let consensuses = Consensuses::new("test".into(), node_id_of(&authority));
    let time = NetworkTime::new(NetworkClock::from_wall(), 1);
    client.links = Arc::new(ClientLinks::new(PathBuf::new(), consensuses, time, nothing_seen()));
    client.links.accept(&[sign(consensus(&[], 0, ConsensusHash::default()), &authority)]);
    lock(&client.shared.status).edges_attached = 1;
    (client, queue)
}

/// A client whose driver is the test, by the returned commands.
fn client() -> (Client, mpsc::Receiver<ClientCommand>) {
    let (commands, queue) = mpsc::channel(1);
    let authority = NodeId::from([1; 32]);
    let mailbox = Mailbox { edge: edge(), mailbox: MailboxId::from([3; 16]) };
    let client = Client {
        hops_default: 3,
        level: None,
        commands,
        incoming: tokio::sync::Mutex::new(mpsc::channel(1).1),
        shared: Arc::new(Shared::new("test".into(), Address::new(vec![mailbox], [9; 32]).unwrap())),
        links: Arc::new(ClientLinks::new(
            PathBuf::new(),
            Consensuses::new("test".into(), authority),
            NetworkTime::new(NetworkClock::from_wall(), 1),
            nothing_seen(),
        )),
        worker_key: SigningKey::from_bytes(&[4; 32]),
        authority,
        workers: Mutex::new(None),
        running: tokio::sync::Mutex::new(None),
        closed: watch::Sender::new(false),
        content: RandomState::new(),
        spool: PathBuf::new(),
        room: Semaphore::new(ROOM_KIB),
    };
    (client, queue)
}

#[tokio::test]
async fn a_request_times_out_while_too_much_is_under_way() {
    let (client, mut queue) = attached_client();
    let busy = async {
        while let Some(command) = queue.recv().await {
            let ClientCommand::Request { done, .. } = command else { panic!("{command:?}") };
            let _ = done.send(Err(SendFailure::Refused(SendError::Busy { messages: 1, bytes: 1 })));
        }
    };
    let to = client.address();
    let request = client.request(&to, Vec::new(), 3, 1, Duration::from_millis(50));
    tokio::select! {
        () = busy => panic!("the client is open"),
        outcome = request => assert!(matches!(outcome, Err(ClientError::Timeout))),
        () = tokio::time::sleep(Duration::from_mins(1)) => panic!("it still waits"),
    }
}

#[test]
fn the_network_is_shown_as_soon_as_its_consensus_is_there() {
    assert!(client().0.view().is_none());
    let (view, in_force) = attached_client().0.view().unwrap();
    assert!(in_force && view.nodes().next().is_none());
}

/// Refuses what it is asked `times` times, then lets it succeed.
async fn refuse(mut queue: mpsc::Receiver<ClientCommand>, refusal: SendError, times: usize) {
    let mut left = times;
    while let Some(command) = queue.recv().await {
        let refused = left > 0;
        left = left.saturating_sub(1);
        let failure = SendFailure::Refused(refusal.clone());
        match command {
            ClientCommand::Send { done, .. } => {
                drop(done.send(if refused { Err(failure) } else { Ok(MessageId([1; 16])) }));
            }
            ClientCommand::Request { done, .. } => drop(done.send(if refused { Err(failure) } else { Ok(vec![2]) })),
            ClientCommand::Ping { done, .. } => {
                drop(done.send(if refused { Err(failure) } else { Ok(Some(Duration::from_millis(3))) }));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// INV-MSG-24
#[tokio::test]
async fn what_comes_by_itself_in_a_moment_is_waited_for() {
    let lacks_own = PathError::NotEnoughNodes { hops: 3, what: "edges of ours", needed: 1, available: 0 };
    for refusal in [SendError::NoConsensus, SendError::Path(lacks_own)] {
        let (client, queue) = client();
        let to = client.address();
        tokio::spawn(refuse(queue, refusal.clone(), 3));
        assert_eq!(MessageId([1; 16]), client.send(&to, Vec::new(), 3).await.unwrap(), "{refusal}");
        let (client, queue) = self::client();
        tokio::spawn(refuse(queue, refusal.clone(), 3));
        assert_eq!(vec![2], client.request(&to, Vec::new(), 3, 1, Duration::from_mins(1)).await.unwrap(), "{refusal}");
        let (client, queue) = self::client();
        tokio::spawn(refuse(queue, refusal.clone(), 3));
        assert_eq!(Duration::from_millis(3), client.ping(3).await.unwrap(), "{refusal}");
    }
}

/// INV-MSG-24
#[tokio::test]
async fn a_loop_that_gets_lost_is_sent_again() {
    let (client, mut queue) = attached_client();
    tokio::spawn(async move {
        for came_back in [None, Some(Duration::from_millis(3))] {
            let Some(ClientCommand::Ping { done, .. }) = queue.recv().await else { return };
            let _ = done.send(Ok(came_back));
        }
    });
    assert_eq!(Duration::from_millis(3), client.ping(3).await.unwrap());
}

/// INV-MSG-24
#[tokio::test]
async fn a_client_that_is_cut_off_says_so_with_the_cause_first() {
    // Too short for a second try, so nothing hangs on how punctual the machine is.
    let patience = EDGE_PAUSE / 2;
    let (client, queue) = client();
    tokio::spawn(refuse(queue, SendError::NoConsensus, usize::MAX));
    let to = client.address();
    let ask = async || {
        let refused = client.request(&to, Vec::new(), 3, 1, patience).await.unwrap_err();
        assert!(matches!(refused, ClientError::Offline(_)), "{refused:?}");
        refused.to_string()
    };
    let failure = EdgeFailure { address: "127.0.0.1:9".parse().unwrap(), reason: "refuses the connection".into() };
    client.links.note(edge(), Some(failure));
    assert_eq!("no edge of the network answers: 127.0.0.1:9 refuses the connection; is the network up?", ask().await);
    lock(&client.shared.status).edges_attached = 1;
    assert_eq!("there is no valid consensus: the edges have none yet; is the directory authority up?", ask().await);

    client.links.accept(&[sign(consensus(&[], 0, ConsensusHash::default()), &key())]);
    assert_eq!(
        "there is no valid consensus: the edges have one of another network or authority; is the network file right?",
        ask().await
    );

    let (client, queue) = attached_client();
    lock(&client.shared.status).edges_wanted = 2;
    let failure = EdgeFailure { address: "127.0.0.1:9".parse().unwrap(), reason: "does not answer".into() };
    client.links.note(edge(), Some(failure));
    let lacks_own = select_nothing();
    assert!(lacks_own.lacks_own_edge());
    tokio::spawn(refuse(queue, SendError::Path(lacks_own), usize::MAX));
    let refused = client.request(&to, Vec::new(), 3, 1, patience).await.unwrap_err();
    assert!(matches!(refused, ClientError::Offline(Offline::Edges { all: false, .. })), "{refused:?}");
}

/// The path error of somebody who is attached to no edge.
fn select_nothing() -> PathError {
    let authority = key();
    let verified = Verified::sign(consensus(&[], 0, ConsensusHash::default()), &authority).unwrap();
    let view = betanet_mix::view::NetworkView::new(verified).unwrap();
    let epoch = view.consensus().epoch;
    betanet_mix::path::select_loop(&mut crate::random::os_rng(), &view, epoch, &[], 3).unwrap_err()
}

#[test]
fn an_edge_that_is_listed_twice_is_drawn_once() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = |id: u8| crate::net::Endpoint { id: [id; 32].into(), address: "127.0.0.1:9".parse().unwrap() };
    let net = NetFile {
        network: "test".into(),
        authority: endpoint(1),
        edges: vec![endpoint(2), endpoint(2), endpoint(3), endpoint(2)],
        one_operator: true,
        http: std::collections::BTreeMap::new(),
    };
    let refused = ClientStore::open(dir.path(), &net, 3).unwrap_err();
    assert!(matches!(refused, ClientError::BadEdges { asked: 3, most: 2 }), "{refused}");
    let store = ClientStore::open(dir.path(), &net, 2).unwrap();
    assert_eq!(2, store.mailboxes().len());
}

#[tokio::test]
async fn a_bootstrap_pipe_that_brings_nothing_is_waited_for_by_its_caller_alone() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let config = ClientConfig::new(dir.path().join("client"), pipe.clone());
    // On this one thread nothing else would run if the pipe were waited for here.
    let opening = tokio::spawn(async move { Client::open(config).await.map(drop) });
    tokio::task::yield_now().await;
    opening.abort();
    assert!(opening.await.unwrap_err().is_cancelled());
    // Whoever still reads gets an end.
    drop(std::fs::OpenOptions::new().write(true).open(&pipe).unwrap());
}

#[test]
fn a_consensus_that_is_out_of_date_is_told_with_the_seconds() {
    let authority = key();
    let verified = Verified::sign(consensus(&[], 0, ConsensusHash::default()), &authority).unwrap();
    let view = betanet_mix::view::NetworkView::new(verified).unwrap();
    let (from, until) = (view.consensus().valid_after_ms, view.consensus().valid_until_ms);
    assert_eq!(ConsensusTrouble::RanOut(90), ConsensusTrouble::of(Some(&view), until + 90_000));
    assert_eq!(ConsensusTrouble::NotYet(90), ConsensusTrouble::of(Some(&view), from - 90_000));
    assert_eq!(ConsensusTrouble::None, ConsensusTrouble::of(None, from));
}

/// A send waits for room in its turn; one that may not wait is refused, and nothing of it was taken.
#[tokio::test]
async fn a_send_waits_for_room_and_a_try_is_refused() {
    let (client, mut queue) = attached_client();
    let to = client.address();
    let everything = client.room.acquire_many(u32::try_from(ROOM_KIB).unwrap()).await.unwrap();
    let refused = client.try_send(&to, b"x", SendOptions::hops(3), None).await;
    assert!(matches!(refused, Err(ClientError::Busy)), "{refused:?}");
    let waiting = client.send(&to, b"y", 3);
    tokio::pin!(waiting);
    assert!(look_at(&mut waiting).await.is_none() && queue.try_recv().is_err());
    drop(everything);
    assert!(look_at(&mut waiting).await.is_none());
    let Ok(ClientCommand::Send { done, .. }) = queue.try_recv() else { panic!("it has room now") };
    done.send(Ok(MessageId([5; 16]))).unwrap();
    assert_eq!(MessageId([5; 16]), waiting.await.unwrap());
    assert_eq!(ROOM_KIB, client.room.available_permits());
}

/// One look at a future.
async fn look_at<T>(future: &mut std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// INV-LINK-73 INV-LINK-81: an edge that shows what was in force before gains nothing by waiting for a restart.
#[test]
fn old_documents_stay_old_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let authority = key();
    let id = node_id_of(&authority);
    let start = || {
        let seen = SeenDocuments::open(dir.path().join("seen.json"), id).unwrap();
        let time = NetworkTime::new(NetworkClock::from_wall(), 1);
        ClientLinks::new(PathBuf::new(), Consensuses::new("test".into(), id), time, seen)
    };
    let opening = Verified::sign(consensus(&[], 0, ConsensusHash::default()), &authority).unwrap();
    let revised = sign(consensus(&[], 1, opening.hash()), &authority);
    let now_ms = crate::clock::wall_ms();
    let workers = |revision| {
        let list = WorkerList { epoch: opening.epoch, revision, workers: Vec::new() };
        Verified::sign(list, &authority).unwrap().signed().clone()
    };
    let edges = start();
    edges.accept(&[opening.signed().clone(), revised.clone()]);
    assert_eq!(1, edges.view_at(now_ms).unwrap().consensus().revision);
    assert!(edges.take_workers(&workers(now_ms), id).is_ok());
    for edges in [edges, start()] {
        edges.accept(&[opening.signed().clone()]);
        assert!(edges.view_at(now_ms).is_none_or(|view| view.consensus().revision == 1));
        let refused = edges.take_workers(&workers(now_ms - 1), id).unwrap_err();
        assert!(refused.to_string().contains("older list of workers"), "{refused}");
        edges.accept(std::slice::from_ref(&revised));
        assert!(edges.view_at(now_ms).is_some() && edges.take_workers(&workers(now_ms), id).is_ok());
    }
    // A damaged file is none, and is replaced with the next news.
    std::fs::write(dir.path().join("seen.json"), "{").unwrap();
    start().accept(&[revised]);
    assert!(!SeenDocuments::open(dir.path().join("seen.json"), id).unwrap().admits(&opening, now_ms));
    // Another authority under the same folder is another network: nothing is known of that.
    let other = SeenDocuments::open(dir.path().join("seen.json"), edge()).unwrap();
    assert!(other.admits(&opening, now_ms));
}
