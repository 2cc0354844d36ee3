//! A network of several operators: its clients have edges of different ones, and move when one is found.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use betanet_mix::view::Role;
use betanet_node::authority::issue_token;
use betanet_node::client::{Client, ClientConfig};
use betanet_node::daemon::{NodeRecord, RECORD_FILE};
use betanet_node::http;
use betanet_node::net::{NET_FILE, NetFile};
use betanet_node::state::{read_json, write_json};
use betanet_sphinx::NodeId;
use tempfile::TempDir;

use crate::harness::{DEADLINE, betanet, eventually, take};

/// A process that ends with the test.
struct Service(Child);

impl Service {
    fn start(arguments: &[&str], dir: &Path) -> Self {
        let mut command = betanet();
        command.args(arguments).arg("--dir").arg(dir).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An authority that lets in nodes with tokens, and edges with addresses of their own.
struct Operators {
    folder: TempDir,
    authority: Service,
}

impl Operators {
    async fn start(expect: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A node that comes just when an epoch ends waits for another one. This one is almost as long as may be.
        let arguments = ["authority", "run", "--network", "several", "--expect", expect, "--epoch", "167h"];
        let authority = Service::start(&arguments, &folder.path().join("authority"));
        let operators = Self { folder, authority };
        eventually("the authority is there", async || operators.bootstrap().exists()).await;
        operators
    }

    fn bootstrap(&self) -> PathBuf {
        self.folder.path().join("authority").join(NET_FILE)
    }

    fn token(&self, operator: &str) -> PathBuf {
        let dir = self.folder.path().join("authority");
        let token = issue_token(&dir, operator.to_owned(), vec![Role::Entry], 2, DEADLINE).unwrap();
        let path = self.folder.path().join(operator);
        write_json(&path, &token).unwrap();
        path
    }

    /// An edge at an address range of its operator's.
    fn edge(&self, name: &str, token: &Path, ip: &str) -> Service {
        let (net, token) = (self.bootstrap(), token.to_owned());
        let listen = format!("{ip}:0");
        let places = ["--bootstrap", net.to_str().unwrap(), "--token", token.to_str().unwrap()];
        let arguments = ["node", "--role", "entry", "--http-port", "0", "--listen", &listen];
        Service::start(&[&arguments[..], &places].concat(), &self.folder.path().join(name))
    }

    /// The edges that are listed once there are `count`.
    async fn edges(&self, count: usize) -> Vec<NodeId> {
        let listed = || NetFile::read(&self.bootstrap()).unwrap().edges;
        eventually("the edges are listed", async || listed().len() == count).await;
        listed().into_iter().map(|edge| edge.id).collect()
    }

    async fn client(&self, name: &str) -> Client {
        Client::open(ClientConfig::new(self.folder.path().join(name), self.bootstrap())).await.unwrap()
    }
}

fn edges_of(client: &Client) -> Vec<NodeId> {
    client.address().mailboxes().iter().map(|mailbox| mailbox.edge).collect()
}

/// INV-LINK-74, INV-LINK-77: the only two edges are one operator's until another comes; then a mailbox moves there. What is
/// sent to the former address arrives, also when its edge is gone for good, and a new client is at both operators at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_moves_to_the_edge_of_another_operator_and_loses_nothing() {
    let operators = Operators::start("2").await;
    let (anna, bert) = (operators.token("anna"), operators.token("bert"));
    let mut first = Vec::new();
    for (name, ip) in [("anna-0", "127.1.0.1"), ("anna-1", "127.1.0.2")] {
        first.push(operators.edge(name, &anna, ip));
    }
    let of_anna = operators.edges(2).await;
    let one_too_many = operators.edge("anna-2", &anna, "127.1.0.3");
    eventually("a node that is not taken says why", async || {
        let record = operators.folder.path().join("anna-2").join(RECORD_FILE);
        let Ok(Some(record)) = read_json::<NodeRecord>(&record, "node record") else { return false };
        let Ok((status, body)) = http::get(record.http_address, "/health").await else { return false };
        status == 503 && body.contains("\"listed\":false") && body.contains("used up by 2 nodes")
    })
    .await;
    drop(one_too_many);
    let bob = operators.client("bob").await;
    let former = bob.address();
    assert!(edges_of(&bob).iter().all(|edge| of_anna.contains(edge)));

    let _of_bert = operators.edge("bert-0", &bert, "127.2.0.1");
    let listed = operators.edges(3).await;
    let other = *listed.iter().find(|edge| !of_anna.contains(edge)).unwrap();
    eventually("the mailbox moves", async || edges_of(&bob).contains(&other)).await;
    let present = bob.address();
    assert_eq!((2, former.sealing_key()), (present.mailboxes().len(), present.sealing_key()));
    let alice = operators.client("alice").await;
    assert!(edges_of(&alice).contains(&other), "a new client draws its edges apart");

    for (to, body) in [(&former, "to the former address"), (&present, "to the present one")] {
        alice.send(to, body.as_bytes().to_vec(), 1).await.unwrap();
        assert_eq!(body.as_bytes(), take(&bob).await);
    }
    // The edge that bob left ends, and the client comes back without it.
    bob.close().await;
    let gone = *of_anna.iter().find(|edge| !present.mailboxes().iter().any(|mailbox| mailbox.edge == **edge)).unwrap();
    let stays = present.mailboxes().iter().map(|mailbox| mailbox.edge).find(|edge| of_anna.contains(edge)).unwrap();
    assert_ne!(gone, stays);
    let position = names_of(&operators, &["anna-0", "anna-1"]).iter().position(|id| *id == gone).unwrap();
    drop(first.remove(position));
    let bob = operators.client("bob").await;
    assert_eq!(present, bob.address());
    for (to, body) in [(&former, "past an edge that is gone"), (&present, "as before")] {
        tokio::time::timeout(DEADLINE, alice.send(to, body.as_bytes().to_vec(), 1)).await.unwrap().unwrap();
        assert_eq!(body.as_bytes(), take(&bob).await);
    }
    alice.close().await;
    bob.close().await;
    drop(operators.authority);
}

/// The ids of nodes, by what they wrote about themselves.
fn names_of(operators: &Operators, names: &[&str]) -> Vec<NodeId> {
    let record = |name: &&str| {
        let path = operators.folder.path().join(name).join("node.json");
        let record: betanet_node::daemon::NodeRecord =
            betanet_node::state::read_json(&path, "record").unwrap().unwrap();
        record.id
    };
    names.iter().map(record).collect()
}
