#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use betanet_sphinx::SecretKey;

use super::*;
use crate::directory::NetworkConstants;
use crate::fixtures::fresh_rng;
use crate::view::{AdmissionToken, Role, TokenId, node_id_of};
use crate::vrf;

const LENGTH: u64 = 10_000;
const START: u64 = 1000 * LENGTH;

/// An authority that lets in nodes with tokens.
struct Gate {
    key: SigningKey,
    loopback: bool,
    ledger: Ledger,
}

impl Gate {
    fn new(key: SigningKey, loopback: bool, saved: &Saved) -> Self {
        let constants = NetworkConstants {
            network: "test".into(),
            epoch_length_ms: LENGTH,
            skew_ms: LENGTH / 10,
            mean_delay_ms: 15,
        };
        let door = Door::Tokens { authority: node_id_of(&key), loopback };
        let clock = EpochClock::new(LENGTH, constants.skew_ms).unwrap();
        let terms = Terms { constants, expect: 1, one_operator: false, door };
        let ledger = Ledger::open(&terms, clock, saved, START);
        Self { key, loopback, ledger }
    }

    /// As after a restart.
    fn again(self) -> Self {
        let saved = serde_json::from_str(&serde_json::to_string(&self.ledger.save()).unwrap()).unwrap();
        Self::new(self.key, self.loopback, &saved)
    }

    fn token(&self, operator: &str, uses: u32) -> Signed {
        let token = AdmissionToken {
            network: "test".into(),
            authority: node_id_of(&self.key),
            id: TokenId([u8::try_from(operator.len()).unwrap(); 16]),
            operator: operator.into(),
            roles: vec![Role::Middle],
            uses,
            expires_ms: START + 5 * LENGTH,
        };
        Verified::sign(token, &self.key).unwrap().signed().clone()
    }

    /// As a node that is reached at `ip` comes, or with what it is refused.
    fn come(&mut self, node: &SigningKey, says: &str, token: Option<&Signed>, ip: &str) -> Result<bool, String> {
        let (id, signed) = (node_id_of(node), descriptor(node, says));
        let dialled = self.ledger.to_be_reached(id, &signed, token, START)?;
        let reached = dialled.as_ref().map(|address| {
            assert_eq!(says, address.to_string());
            ip.parse().unwrap()
        });
        self.ledger.put_node(id, &signed, Shown { token, reached }, START)?;
        Ok(dialled.is_some())
    }

    /// Operator and prefix of each node that is listed.
    fn listed(&mut self, now_ms: u64) -> BTreeMap<NodeId, (String, String)> {
        let signed = self.ledger.due(&self.key, now_ms).unwrap();
        let nodes = signed.last().into_iter().flat_map(|one| one.nodes.clone());
        nodes.map(|node| (node.id, (node.operator.clone(), node.prefix.to_string()))).collect()
    }
}

fn descriptor(key: &SigningKey, link_address: &str) -> Signed {
    let node = NodeDescriptor {
        id: node_id_of(key),
        role: Role::Middle,
        link_address: link_address.parse().unwrap(),
        keys: [(Epoch(1000), SecretKey::generate(&mut fresh_rng()).public())].into(),
        vrf_key: vrf::VrfSecretKey::from_seed(key.as_bytes()).public(),
        delay_proofs: Vec::new(),
        issued_ms: START,
        expires_ms: START + 3 * LENGTH,
    };
    Verified::sign(node, key).unwrap().signed().clone()
}

fn key() -> SigningKey {
    SigningKey::generate(&mut fresh_rng())
}

fn fact(operator: &str, prefix: &str) -> (String, String) {
    (operator.to_owned(), prefix.to_owned())
}

/// INV-LINK-69, INV-LINK-70: without a token nobody is listed; with one, by the operator of the token and the prefix at
/// which the node was reached. Both outlive a restart, and so does what was used up.
#[test]
fn nodes_are_listed_with_what_was_verified_about_them() {
    let mut gate = Gate::new(key(), false, &Saved::default());
    let (one, two, three) = (key(), key(), key());
    let refused = gate.come(&one, "192.0.2.7:9", None, "192.0.2.7").unwrap_err();
    assert!(refused.contains("--token FILE"), "{refused}");
    assert!(gate.listed(START + 100_000).is_empty());

    let (anna, bert) = (gate.token("anna", 1), gate.token("bertram", 2));
    assert_eq!(Ok(true), gate.come(&one, "192.0.2.7:9", Some(&anna), "192.0.2.7"));
    assert_eq!(Ok(true), gate.come(&two, "mix.example:9", Some(&bert), "198.51.100.1"));
    let used_up = gate.come(&three, "203.0.113.1:9", Some(&anna), "203.0.113.1").unwrap_err();
    assert!(used_up.contains("used up by 1 nodes"), "{used_up}");
    let expected: BTreeMap<_, _> =
        [(node_id_of(&one), fact("anna", "192.0.0.0/16")), (node_id_of(&two), fact("bertram", "198.51.0.0/16"))].into();
    let settled = START + LENGTH / 2;
    assert_eq!(expected, gate.listed(settled));

    let mut gate = gate.again();
    assert_eq!(Err(used_up), gate.come(&three, "203.0.113.1:9", Some(&anna), "203.0.113.1"));
    // Who was let in needs its token no more, and no second look where it was reached.
    assert_eq!(Ok(false), gate.come(&one, "192.0.2.7:9", None, "unused"));
    // A name may lead elsewhere by now, and what moved is looked for.
    assert_eq!(Ok(true), gate.come(&two, "mix.example:9", None, "203.0.113.9"));
    assert_eq!(Ok(true), gate.come(&one, "[2001:db8:1::1]:9", None, "2001:db8:1::1"));
    let moved: BTreeMap<_, _> =
        [(node_id_of(&one), fact("anna", "2001:db8::/32")), (node_id_of(&two), fact("bertram", "203.0.0.0/16"))].into();
    assert_eq!(moved, gate.listed(settled + LENGTH / 4));
}

/// INV-LINK-70: what the authority did not reach is not listed, and loopback is nobody's address but the authority's.
#[test]
fn a_node_that_was_not_reached_is_not_listed() {
    let mut gate = Gate::new(key(), false, &Saved::default());
    let (one, token) = (key(), gate.token("anna", 9));
    let id = node_id_of(&one);
    let shown = Shown { token: Some(&token), reached: None };
    assert!(gate.ledger.put_node(id, &descriptor(&one, "192.0.2.7:9"), shown, START).is_err());
    let own = gate.come(&one, "127.0.0.1:9", Some(&token), "127.0.0.1").unwrap_err();
    assert!(own.contains("--announce"), "{own}");
    assert!(gate.listed(START + 100_000).is_empty());
    // What was refused has used up nothing.
    assert!(!gate.ledger.save().admissions.holds(id));
    let mut near = Gate::new(gate.key, true, &Saved::default());
    assert_eq!(Ok(true), near.come(&one, "127.0.0.1:9", Some(&token), "127.0.0.1"));
}

/// INV-LINK-80: who came with a token that was revoked is listed no longer, in the epochs that are signed already too, and
/// does not come back with it.
#[test]
fn who_came_with_a_revoked_token_is_out_of_the_next_revision() {
    let mut gate = Gate::new(key(), false, &Saved::default());
    let (one, two) = (key(), key());
    let (anna, bert) = (gate.token("anna", 2), gate.token("bertram", 2));
    gate.come(&one, "192.0.2.7:9", Some(&anna), "192.0.2.7").unwrap();
    gate.come(&two, "198.51.100.1:9", Some(&bert), "198.51.100.1").unwrap();
    assert_eq!(2, gate.listed(START + LENGTH / 2).len());

    let id = anna.verify::<AdmissionToken>(&[node_id_of(&gate.key)], 1).unwrap().id;
    let revoked = [id].into();
    assert_eq!(1, gate.ledger.revoke(&revoked, START + LENGTH / 2));
    assert_eq!(0, gate.ledger.revoke(&revoked, START + LENGTH / 2), "once");
    let fact = fact("bertram", "198.51.0.0/16");
    assert_eq!(BTreeMap::from([(node_id_of(&two), fact)]), gate.listed(START + LENGTH * 3 / 4));
    let refused = gate.come(&one, "192.0.2.7:9", Some(&anna), "192.0.2.7").unwrap_err();
    assert!(refused.contains("was revoked"), "{refused}");
    assert!(gate.come(&one, "192.0.2.7:9", None, "192.0.2.7").is_err());
    // What was written before is no way back.
    let mut gate = gate.again();
    gate.ledger.revoke(&revoked, START);
    assert_eq!(Err(refused), gate.come(&one, "192.0.2.7:9", Some(&anna), "192.0.2.7"));
    // With another token it is welcome.
    assert_eq!(Ok(true), gate.come(&one, "192.0.2.7:9", Some(&bert), "192.0.2.7"));
}

/// INV-LINK-69: a network that was local lists nobody without a token once it is not.
#[test]
fn nodes_of_a_local_network_do_not_stay_when_it_opens() {
    let (signer, one) = (key(), key());
    let gate = Gate::new(signer, true, &Saved::default());
    let mut local = Ledger { door: Door::Open, one_operator: true, ..gate.ledger };
    local.put_node(node_id_of(&one), &descriptor(&one, "localhost:9"), Shown::default(), START).unwrap();
    let due = local.due(&gate.key, START).unwrap();
    assert_eq!(("local", "127.0.0.0/16"), (&*due[0].nodes[0].operator, &*due[0].nodes[0].prefix.to_string()));
    let mut open = Gate { ledger: local, ..gate }.again();
    let revised = open.ledger.due(&open.key, START + LENGTH / 2).unwrap();
    assert!(revised[0].nodes.is_empty() && !revised[0].one_operator);
}
