#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::sync::lock;

const PATIENCE: Duration = Duration::from_secs(20);

fn named(port: u16) -> LinkAddress {
    format!("mix.example:{port}").parse().unwrap()
}

/// INV-LINK-68: a name is looked up at every attempt, so a machine that moved or came late is found by the next one.
#[tokio::test]
async fn a_name_is_resolved_again_after_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let names = Names::new(2, {
        let asked = Arc::clone(&asked);
        move |name, port| {
            assert_eq!("mix.example", name);
            match asked.fetch_add(1, Ordering::Relaxed) {
                0 => Err(io::Error::other("no such name")),
                // Nobody listens at port 1 of this machine.
                1 => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))]),
                _ => Ok(vec![SocketAddr::from(([127, 0, 0, 9], 1)), SocketAddr::from(([127, 0, 0, 1], port))]),
            }
        }
    });
    let to = named(there.port());
    assert!(matches!(names.connect(&to, PATIENCE).await, Err(HandshakeError::Name(_))));
    assert!(matches!(names.connect(&to, PATIENCE).await, Err(HandshakeError::Connect(_))));
    // The first address of the name does not answer, the second does.
    assert_eq!(there, names.connect(&to, PATIENCE).await.unwrap().peer_addr().unwrap());
    // An address needs no resolver.
    assert!(names.connect(&there.try_into().unwrap(), PATIENCE).await.is_ok());
    assert_eq!(3, asked.load(Ordering::Relaxed));
}

/// INV-LINK-68: also a name that leads to any address, to a group or to a cable is none.
#[tokio::test]
async fn a_name_leads_to_nothing_that_could_not_be_announced() {
    let names = Names::new(1, |_, port| {
        let all = ["0.0.0.0", "::", "224.0.0.1", "fe80::1", "169.254.0.1"];
        Ok(all.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
    });
    let refused = names.connect(&named(7), PATIENCE).await.unwrap_err();
    assert!(refused.to_string().contains("no address that can be dialled"), "{refused}");
    let mapped = Names::new(1, |_, port| Ok(vec![SocketAddr::new("::ffff:192.0.2.1".parse().unwrap(), port); 9]));
    assert_eq!(vec![SocketAddr::from(([192, 0, 2, 1], 7))], mapped.resolve("mix.example", 7).await.unwrap());
    let many = Names::new(1, |_, port| Ok((1..=9).map(|last| SocketAddr::from(([192, 0, 2, last], port))).collect()));
    assert_eq!(TRIED, many.resolve("mix.example", 7).await.unwrap().len());
}

/// A resolver that answers for `slow.example` when it is told to, how often it was asked for that, and what tells it.
fn told(at_once: usize) -> (Arc<Names>, Arc<AtomicUsize>, Sender<()>) {
    let (go, gate) = channel::<()>();
    let gate: Mutex<Receiver<()>> = Mutex::new(gate);
    let asked = Arc::new(AtomicUsize::new(0));
    let names = Names::new(at_once, {
        let asked = Arc::clone(&asked);
        move |name, port| {
            if name == "slow.example" {
                asked.fetch_add(1, Ordering::SeqCst);
                let _ = lock(&gate).recv();
            }
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
        }
    });
    (Arc::new(names), asked, go)
}

fn ask(names: &Arc<Names>, port: u16) -> JoinHandle<io::Result<Vec<SocketAddr>>> {
    let names = Arc::clone(names);
    tokio::spawn(async move { names.resolve("slow.example", port).await })
}

async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waited).await.unwrap();
}

/// INV-LINK-92: two wait for a place, and one look-up is enough for both.
#[tokio::test]
async fn who_waits_for_a_look_up_that_another_has_begun_holds_no_place() {
    let (names, asked, go) = told(2);
    let begun = [ask(&names, 1), ask(&names, 2)];
    until(|| asked.load(Ordering::SeqCst) == 2).await;
    let both = [ask(&names, 3), ask(&names, 3)];
    tokio::task::yield_now().await;
    (0..2).for_each(|_| go.send(()).unwrap());
    until(|| asked.load(Ordering::SeqCst) == 3 && names.free.available_permits() == 1).await;
    drop(go);
    for task in begun.into_iter().chain(both) {
        assert_eq!(1, timeout(PATIENCE, task).await.unwrap().unwrap().unwrap().len());
    }
    assert_eq!(3, asked.load(Ordering::SeqCst));
}

/// INV-LINK-92: a name that takes long has one thread, however often it is asked for.
#[tokio::test]
async fn a_name_that_nobody_answers_for_keeps_no_other_from_being_found() {
    let (names, asked, go) = told(4);
    // Asked for again and again, each time for as long as a handshake has.
    for _ in 0..9 {
        let slow = ask(&names, 1);
        until(|| asked.load(Ordering::SeqCst) == 1).await;
        tokio::task::yield_now().await;
        slow.abort();
        assert!(slow.await.unwrap_err().is_cancelled());
    }
    assert_eq!((1, 3), (asked.load(Ordering::SeqCst), names.free.available_permits()));
    let good = timeout(PATIENCE, names.resolve("mix.example", 9)).await.unwrap();
    assert_eq!(vec![SocketAddr::from(([192, 0, 2, 1], 9))], good.unwrap());
    // Who comes while it is looked up has what comes of it.
    let late = [ask(&names, 1), ask(&names, 1)];
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    for late in late {
        assert_eq!(1, timeout(PATIENCE, late).await.unwrap().unwrap().unwrap().len());
    }
    assert_eq!(1, asked.load(Ordering::SeqCst));

    // Many such names have all places at their first look-up, and half of them from then on.
    let begin = |port| ask(&names, port);
    let given_up: Vec<_> = (1..=4).map(begin).collect();
    until(|| asked.load(Ordering::SeqCst) == 5).await;
    for task in given_up {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    (0..4).for_each(|_| go.send(()).unwrap());
    until(|| names.free.available_permits() == 4).await;
    let again: Vec<_> = (1..=4).map(begin).collect();
    until(|| asked.load(Ordering::SeqCst) == 7).await;
    assert_eq!(1, timeout(PATIENCE, names.resolve("mix.example", 9)).await.unwrap().unwrap().len());
    assert_eq!(7, asked.load(Ordering::SeqCst));
    // One that is answered in time is like any other again.
    drop(go);
    for task in again {
        assert_eq!(1, timeout(PATIENCE, task).await.unwrap().unwrap().unwrap().len());
    }
    assert_eq!(HashSet::new(), *lock(&names.slow));
}

/// INV-LINK-68: the resolver's threads are bounded, also those that nobody waits for any more.
#[tokio::test]
async fn no_more_names_than_allowed_are_looked_up_at_once() {
    let (go, gate) = channel::<()>();
    let gate: Mutex<Receiver<()>> = Mutex::new(gate);
    let asked = Arc::new(AtomicUsize::new(0));
    let names = Arc::new(Names::new(3, {
        let asked = Arc::clone(&asked);
        move |_, port| {
            asked.fetch_add(1, Ordering::SeqCst);
            let _ = lock(&gate).recv();
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
        }
    }));
    let one = |number: u16| {
        let names = Arc::clone(&names);
        tokio::spawn(async move { names.resolve("mix.example", number).await })
    };
    let given_up: Vec<_> = (1..=3).map(one).collect();
    while asked.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    for task in given_up {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    let patient = one(4);
    tokio::task::yield_now().await;
    assert_eq!((3, 0), (asked.load(Ordering::SeqCst), names.free.available_permits()));
    drop(go);
    assert_eq!(1, patient.await.unwrap().unwrap().len());
    assert_eq!(4, asked.load(Ordering::SeqCst));
}
