//! Links that take places: connections that say nothing, handshakes left half way, links that ask and do not read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use betanet_node::control::{Op, Request};
use betanet_node::net::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::tally::Tally;
use crate::site::open;

/// Pause before an edge that refused is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// The first bytes of a TLS record with a handshake message of 512 bytes, which then does not come.
const HALF_A_HELLO: [u8; 9] = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc];

/// What a link does that takes a place.
#[derive(Clone, Copy)]
enum Way {
    Silent,
    HalfOpen,
    Quiet,
    SlowReader,
}

/// So many links at a time, a quarter of each way.
pub(super) fn start(to: &Endpoint, links: usize, tally: &Arc<Tally>, tasks: &mut JoinSet<()>) {
    for way in [Way::Silent, Way::HalfOpen, Way::Quiet, Way::SlowReader].into_iter().cycle().take(links) {
        tasks.spawn(go_on(to.clone(), way, Arc::clone(tally)));
    }
}

async fn go_on(to: Endpoint, way: Way, tally: Arc<Tally>) {
    loop {
        tally.turn(1).await;
        let held = match way {
            Way::Silent => connect(&to, &[], "silent", &tally).await,
            Way::HalfOpen => connect(&to, &HALF_A_HELLO, "half open", &tally).await,
            Way::Quiet => be_quiet(&to, &tally).await,
            Way::SlowReader => do_not_read(&to, &tally).await,
        };
        tally.refused(if held.is_some() { "link ended" } else { "link" });
        tokio::time::sleep(AGAIN).await;
    }
}

/// Says so much and no more, until the other side closes.
async fn connect(to: &Endpoint, bytes: &[u8], name: &'static str, tally: &Tally) -> Option<()> {
    let address: SocketAddr = to.address.to_string().parse().ok()?;
    let mut tcp = TcpStream::connect(address).await.ok()?;
    tcp.write_all(bytes).await.ok()?;
    tally.sent(name, 1);
    let mut rest = [0; 256];
    while tcp.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    Some(())
}

/// Shows a key and says nothing.
async fn be_quiet(to: &Endpoint, tally: &Tally) -> Option<()> {
    let (sender, mut reader, _) = open(to).await.ok()?;
    tally.sent("quiet", 1);
    while reader.next().await.is_ok() {}
    drop(sender);
    Some(())
}

/// Asks for everything that is long, and reads nothing.
async fn do_not_read(to: &Endpoint, tally: &Tally) -> Option<()> {
    let (sender, reader, _) = open(to).await.ok()?;
    tally.sent("slow readers", 1);
    for id in 0.. {
        let op = if id % 2 == 0 {
            Op::GetConsensus { have: Vec::new(), follow: true }
        } else {
            Op::GetWorkers { have: None }
        };
        if sender.send_message(&Request { id, op }).await.is_err() {
            break;
        }
        tally.sent("requests", 1);
    }
    drop(reader);
    Some(())
}
