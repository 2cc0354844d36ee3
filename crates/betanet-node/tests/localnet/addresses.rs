//! Every address that is bound can be chosen, and chosen anew.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;

use betanet_mix::view::LinkAddress;
use betanet_node::daemon::NodeRecord;
use betanet_node::net::NetFile;
use betanet_node::state::read_json;

use crate::harness::{Net, client, take};

const SMALL: [&str; 8] = ["--entry", "1", "--middle", "1", "--exit", "1", "--mean-delay", "1ms"];

fn start(folder: &Path, ip: &str) -> Net {
    Net::start(folder, &[&SMALL[..], &["--ip", ip]].concat())
}

/// All addresses that the network has written down.
fn addresses(file: &NetFile, folder: &Path) -> Vec<IpAddr> {
    let records = ["entry-0", "middle-0", "exit-0"]
        .map(|name| -> NodeRecord { read_json(&folder.join(name).join("node.json"), "record").unwrap().unwrap() });
    let ip = |address: &LinkAddress| address.to_string().parse::<SocketAddr>().unwrap().ip();
    let mut all = vec![ip(&file.authority.address)];
    all.extend(file.edges.iter().map(|edge| ip(&edge.address)));
    all.extend(file.http.values().map(SocketAddr::ip));
    all.extend(
        records.iter().flat_map(|record| [ip(&record.link_address), record.listens.ip(), record.http_address.ip()]),
    );
    all
}

/// INV-LINK-30
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_moves_to_the_address_that_it_is_given_and_loses_no_message() {
    if let Err(err) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        eprintln!("skipped: this machine has no ::1 ({err})");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("net");
    let mut sent = Vec::new();
    for ip in ["::1", "127.0.0.1", "127.0.0.3"] {
        let net = start(&folder, ip);
        let expected: IpAddr = ip.parse().unwrap();
        for address in addresses(&net.file(), &folder) {
            assert_eq!(expected, address);
        }
        let bob = client(&net, &dir, "bob").await;
        for body in sent.drain(..) {
            assert_eq!(body, take(&bob).await);
        }
        let to = bob.address();
        bob.close().await;
        let alice = client(&net, &dir, "alice").await;
        let body = format!("sent over {ip}").into_bytes();
        alice.send(&to, body.clone(), 3).await.unwrap();
        sent.push(body);
        alice.close().await;
        assert_eq!(Some(0), net.terminate());
    }
}
