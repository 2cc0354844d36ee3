#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::SocketAddr;

use betanet_mix::directory::Consensuses;
use betanet_mix::view::{ConsensusHash, node_id_of};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::*;
use crate::authority::Authority;
use crate::authority::tests::config;
use crate::clock::wall_ms;
use crate::control::ControlChannel;
use crate::fixtures::{consensus, key, sign};
use crate::link::{Dialer, LinkTimeouts};

const DEADLINE: Duration = Duration::from_mins(1);

struct Running {
    address: SocketAddr,
    id: [u8; 32],
    shared: Arc<Shared>,
    _folder: TempDir,
}

impl Running {
    async fn start(places: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(config(folder.path().to_owned())).await.unwrap();
        let (address, shared) = (authority.listener.local_addr().unwrap(), Arc::clone(&authority.shared));
        tokio::spawn(async move { serve_within(places, &authority.listener, &authority.shared).await });
        Self { address, id: *node_id_of(&shared.key).as_bytes(), shared, _folder: folder }
    }

    /// Publishes a consensus that lists these and nobody else.
    fn list(&self, nodes: &[&SigningKey]) {
        let mut views = Consensuses::clone(&self.shared.views.borrow());
        assert!(
            views.accept(&sign(consensus(nodes, 0, ConsensusHash::default()), &self.shared.key), wall_ms()).unwrap()
        );
        self.shared.views.send_replace(Arc::new(views));
    }

    async fn dial(&self, key: &SigningKey) -> Peer {
        let dialer = Dialer::new(key, LinkTimeouts::default()).unwrap();
        let (sender, reader) = dialer.dial(&self.address.try_into().unwrap(), self.id, 8).await.unwrap();
        Peer { channel: ControlChannel::new(sender), reader }
    }
}

struct Peer {
    channel: ControlChannel,
    reader: LinkReader,
}

impl Peer {
    async fn is_served(&mut self) -> bool {
        let read = async {
            while let Ok(Received::Message(message)) = self.reader.next().await {
                self.channel.take(&message).unwrap();
            }
        };
        tokio::select! {
            answer = self.channel.call(Op::Time) => answer.is_ok(),
            () = read => false,
        }
    }

    async fn ended(mut self) {
        let end = async { while self.reader.next().await.is_ok() {} };
        tokio::time::timeout(DEADLINE, end).await.unwrap();
    }
}

/// INV-LINK-37
#[tokio::test]
async fn strangers_keep_no_listed_node_from_the_authority_and_no_newcomer_either() {
    // One place for newcomers, one for strangers, two for nodes.
    let authority = Running::start(5).await;
    let (node, late) = (key(), key());
    let mut early = authority.dial(&node).await;
    assert!(early.is_served().await);
    // A stranger's link becomes a node's with the consensus that lists it.
    authority.list(&[&node, &late]);
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let mut stranger = authority.dial(&key()).await;
        assert!(stranger.is_served().await);
        strangers.push(stranger);
    }
    let last = strangers.pop().unwrap();
    for stranger in strangers {
        stranger.ended().await;
    }
    let mut silent = TcpStream::connect(authority.address).await.unwrap();
    let mut listed = authority.dial(&late).await;
    assert_eq!(0, tokio::time::timeout(DEADLINE, silent.read(&mut [0])).await.unwrap().unwrap_or(0));
    assert!(listed.is_served().await);
    let quiet = authority.dial(&key()).await;
    let mut other = authority.dial(&key()).await;
    quiet.ended().await;
    assert!(other.is_served().await);
    last.ended().await;
    assert!(early.is_served().await);
    assert!(listed.is_served().await);
}
