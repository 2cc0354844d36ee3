#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use betanet_mix::view::{NodeDescriptor, Prefix, Role, Verified};
use betanet_mix::vrf;
use betanet_sphinx::SecretKey;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::clock::wall_ms;
use crate::control::{ControlChannel, ControlError};
use crate::fixtures::{EPOCH_MS, NETWORK, consensus, key};
use crate::random::os_rng;

const DEADLINE: Duration = Duration::from_mins(1);

pub(super) fn config(dir: PathBuf) -> AuthorityConfig {
    AuthorityConfig {
        dir,
        net_file: None,
        network: NETWORK.into(),
        expect: 1,
        epoch: None,
        mean_delay: None,
        one_operator: true,
        listen: ([127, 0, 0, 1], 0).into(),
        announce: None,
        http: None,
    }
}

/// INV-LINK-22
#[test]
fn a_network_keeps_the_length_of_its_epochs() {
    let (signer, node) = (key(), key());
    let terms = Terms {
        constants: NetworkConstants {
            epoch_length_ms: EPOCH_MS,
            ..config("unused".into()).constants(&Saved::default()).unwrap()
        },
        expect: 1,
        one_operator: true,
        door: Door::Open,
    };
    let now_ms = wall_ms();
    let clock = EpochClock::new(EPOCH_MS, terms.constants.skew_ms).unwrap();
    let mut ledger = Ledger::open(&terms, clock, &Saved::default(), now_ms);
    let listed = consensus(&[&node], 0, betanet_mix::view::ConsensusHash::default()).nodes.remove(0);
    let descriptor = Verified::sign(listed.descriptor, &node).unwrap();
    ledger.put_node(node_id_of(&node), descriptor.signed(), Shown::default(), now_ms).unwrap();
    assert_eq!(1, ledger.due(&signer, now_ms).unwrap().len());
    let saved = ledger.save();
    let with = |epoch| AuthorityConfig { epoch, ..config("unused".into()) };
    let other = Some(Duration::from_millis(2 * EPOCH_MS));
    assert_eq!(EPOCH_MS, with(None).constants(&saved).unwrap().epoch_length_ms);
    let refused = with(other).constants(&saved).unwrap_err();
    assert!(refused.to_string().contains(&format!("--epoch {EPOCH_MS}ms")), "{refused}");
    assert_eq!(2 * EPOCH_MS, with(other).constants(&Saved::default()).unwrap().epoch_length_ms);
}

/// INV-LINK-22
#[tokio::test]
async fn an_authority_starts_with_no_settings_that_it_could_not_sign() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("authority");
    let usual = || config(dir.clone());
    let named = |network: &str| AuthorityConfig { network: network.into(), ..usual() };
    let epoch = |hours| AuthorityConfig { epoch: Some(Duration::from_hours(hours)), ..usual() };
    let delay = |seconds| AuthorityConfig { mean_delay: Some(Duration::from_secs(seconds)), ..epoch(1) };
    for wrong in [named(""), named("two\nlines"), named(&"long".repeat(17)), epoch(200), epoch(0), delay(61)] {
        let Err(refused) = Authority::open(wrong).await else { panic!("it was taken") };
        assert!(matches!(refused, AuthorityError::Settings(_)), "{refused}");
    }
    assert!(!dir.join(NET_FILE).exists(), "what nobody can use is not given out");
    Authority::open(delay(60)).await.unwrap();
}

#[tokio::test]
async fn the_network_file_goes_where_it_is_wanted_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, shared) = (folder.path().join("authority"), folder.path().join("shared.json"));
    Authority::open(AuthorityConfig { net_file: Some(shared.clone()), ..config(dir.clone()) }).await.unwrap();
    assert_eq!(NETWORK, NetFile::read(&shared).unwrap().network);
    assert!(!dir.join(NET_FILE).exists());
}

/// INV-LINK-69
#[tokio::test]
async fn a_token_that_lets_in_nobody_is_not_given_out() {
    let running = Running::start().await;
    let dir = running.folder.path();
    let issue = |lasts| issue_token(dir, "anna".into(), vec![Role::Exit], 1, lasts);
    assert!(matches!(issue(Duration::ZERO), Err(AuthorityError::Token(_))));
    assert!(given_tokens(dir).unwrap().is_empty());
    issue(DEADLINE).unwrap();
    assert_eq!(1, given_tokens(dir).unwrap().len());
}

/// An authority on this machine whose nodes have several operators.
struct Running {
    authority: Arc<Authority>,
    folder: TempDir,
}

impl Running {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = AuthorityConfig { one_operator: false, ..config(folder.path().to_owned()) };
        let authority = Arc::new(Authority::open(config).await.unwrap());
        let serving = Arc::clone(&authority);
        tokio::spawn(async move { links::serve(&serving.listener, &serving.shared).await });
        Self { authority, folder }
    }

    fn net(&self) -> NetFile {
        NetFile::read(&self.folder.path().join(NET_FILE)).unwrap()
    }

    /// As a node that says it is at `announced` comes.
    async fn come(&self, node: &SigningKey, announced: &LinkAddress, token: Option<Signed>) -> Result<(), String> {
        let Endpoint { id, address } = self.net().authority;
        let dialer = Dialer::new(node, LinkTimeouts::default()).unwrap();
        let (sender, reader) = dialer.dial(&address, *id.as_bytes(), 8).await.unwrap();
        let epoch = self.authority.shared.clock.epoch_at(wall_ms());
        let start_ms = self.authority.shared.clock.start_of(epoch);
        let descriptor = NodeDescriptor {
            id: node_id_of(node),
            role: Role::Exit,
            link_address: announced.clone(),
            keys: [(epoch, SecretKey::generate(&mut os_rng()).public())].into(),
            vrf_key: vrf::VrfSecretKey::from_seed(node.as_bytes()).public(),
            delay_proofs: Vec::new(),
            issued_ms: start_ms,
            expires_ms: start_ms + 3 * self.authority.shared.clock.length_ms(),
        };
        let descriptor = Verified::sign(descriptor, node).unwrap().signed().clone();
        let asked = ControlChannel::ask_over(sender, reader, async |channel| {
            channel.call(Op::PutDescriptor { descriptor, token }).await
        });
        match asked.await.unwrap() {
            Ok(Outcome::Stored) => Ok(()),
            Err(ControlError::Refused(reason)) => Err(reason),
            other => panic!("{other:?}"),
        }
    }
}

/// A socket that proves `key` to everybody who dials it.
async fn listen(key: &SigningKey) -> LinkAddress {
    let tcp = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let listener = Listener::new(tcp, key, LinkTimeouts::default()).unwrap();
    let address = listener.local_addr().unwrap().try_into().unwrap();
    tokio::spawn(async move {
        while let Ok(accepted) = listener.accept().await {
            let _ = accepted.handshake(1).await;
        }
    });
    address
}

/// INV-LINK-70, INV-LINK-71: the authority dials a node where it says that it is; one that proves its key there is listed,
/// and an edge then stands in the network file.
#[tokio::test]
async fn the_authority_looks_where_a_node_says_that_it_is() {
    let running = Running::start().await;
    let (node, other) = (key(), key());
    let (there, elsewhere) = (listen(&node).await, listen(&other).await);
    let issue =
        |roles: &[Role]| issue_token(running.folder.path(), "anna".into(), roles.to_vec(), 1, DEADLINE).unwrap();
    let token = issue(&[Role::Exit]);
    assert!(running.come(&node, &there, None).await.unwrap_err().contains("--token FILE"));
    let wrong_role = running.come(&node, &there, Some(issue(&[Role::Entry]))).await.unwrap_err();
    assert!(wrong_role.contains("not for exit nodes but for entry"), "{wrong_role}");
    let nobody: LinkAddress = "127.0.0.1:1".parse().unwrap();
    for wrong in [&elsewhere, &nobody] {
        let refused = running.come(&node, wrong, Some(token.clone())).await.unwrap_err();
        assert!(refused.contains(&format!("does not reach the node at {wrong}")), "{refused}");
    }
    assert_eq!(Vec::<Endpoint>::new(), running.net().edges);
    running.come(&node, &there, Some(token)).await.unwrap();
    running.authority.shared.publish().await.unwrap();
    let consensuses = Arc::clone(&running.authority.shared.consensuses.borrow());
    let view = consensuses.newest().unwrap();
    let listed = view.node(node_id_of(&node)).unwrap();
    assert_eq!(("anna", Prefix::of([127, 0, 0, 1].into())), (listed.operator(), listed.prefix()));
    assert_eq!(vec![Endpoint { id: node_id_of(&node), address: there }], running.net().edges);
    let readable = running.folder.path().join(NET_FILE).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(0o644, readable, "it is for everybody on the machine");
    let counts = &running.authority.shared.counts;
    let refused = [Refused::Descriptor, Refused::Unreachable].map(|why| counts.refused(why));
    assert_eq!(([2, 2], 1), (refused, counts.descriptors.get()));
    // The file is enough to find the authority, and says that there are several operators.
    assert!(!running.net().one_operator);
}

/// INV-LINK-80: the authority that runs takes note of it by itself; so does one that was away.
#[tokio::test]
async fn a_token_that_is_revoked_puts_out_whoever_came_with_it() {
    let running = Running::start().await;
    let (dir, node) = (running.folder.path(), key());
    let there = listen(&node).await;
    let token = issue_token(dir, "anna".into(), vec![Role::Exit], 2, DEADLINE).unwrap();
    running.come(&node, &there, Some(token.clone())).await.unwrap();
    let shared = Arc::clone(&running.authority.shared);
    shared.publish().await.unwrap();
    let given = given_tokens(dir).unwrap().remove(0);
    assert_eq!((vec![node_id_of(&node)], false), (given.nodes, given.revoked));

    let (folder, id) = (dir.to_owned(), given.id);
    let following = Arc::clone(&shared);
    let follow = tokio::spawn(async move { tokens::follow(&folder, &following, BTreeSet::new()).await });
    assert!(shared.ledger.lock().await.knows(node_id_of(&node)));
    revoke_token(dir, id).unwrap();
    let out = async {
        while shared.ledger.lock().await.knows(node_id_of(&node)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, out).await.unwrap();
    follow.abort();
    let refused = running.come(&node, &there, Some(token)).await.unwrap_err();
    assert!(refused.contains("was revoked"), "{refused}");

    drop(running.authority);
    drop(shared);
    let saved = Saved::came_with(&read_json(&dir.join(STATE_FILE), "directory").unwrap().unwrap(), id).count();
    assert_eq!(1, saved, "the last consensus on disk is from before");
}

/// INV-LINK-81: workers publish again; who was let in, and what was signed, nobody can tell again.
#[tokio::test]
async fn a_damaged_worker_list_is_made_anew_and_a_damaged_directory_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || Authority::open(config(folder.path().to_owned())).await;
    drop(open().await.unwrap());
    std::fs::write(folder.path().join("workers.json"), "[{").unwrap();
    drop(open().await.unwrap());
    std::fs::write(folder.path().join(STATE_FILE), "[{").unwrap();
    let refused = open().await.map(drop).unwrap_err().to_string();
    assert!(refused.contains(STATE_FILE) && refused.contains("restore or remove it"), "{refused}");
}

#[test]
fn a_folder_without_an_authority_makes_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let refused = issue_token(folder.path(), "anna".into(), vec![Role::Exit], 1, DEADLINE).unwrap_err().to_string();
    assert!(refused.contains("betanet authority run --dir"), "{refused}");
    assert_eq!(0, std::fs::read_dir(folder.path()).unwrap().count());
}
