#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use super::*;
use crate::clock::wall_ms;
use crate::fixtures::{EPOCH_MS, NETWORK, consensus, key};

pub(super) fn config(dir: PathBuf) -> AuthorityConfig {
    AuthorityConfig {
        dir,
        network: NETWORK.into(),
        expect: 1,
        epoch: None,
        mean_delay: None,
        one_operator: true,
        listen: ([127, 0, 0, 1], 0).into(),
        announce: None,
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
    };
    let now_ms = wall_ms();
    let clock = EpochClock::new(EPOCH_MS, terms.constants.skew_ms).unwrap();
    let mut ledger = Ledger::open(&terms, clock, &Saved::default(), now_ms);
    let descriptor = consensus(&[&node], 0, betanet_mix::view::ConsensusHash::default()).nodes.remove(0);
    let descriptor = betanet_mix::view::Verified::sign(descriptor, &node).unwrap();
    ledger.put_node(node_id_of(&node), descriptor.signed(), now_ms).unwrap();
    assert_eq!(1, ledger.due(&signer, now_ms).unwrap().len());
    let saved = ledger.save();
    let with = |epoch| AuthorityConfig { epoch, ..config("unused".into()) };
    let other = Some(Duration::from_millis(2 * EPOCH_MS));
    assert_eq!(EPOCH_MS, with(None).constants(&saved).unwrap().epoch_length_ms);
    let refused = with(other).constants(&saved).unwrap_err();
    assert!(refused.to_string().contains(&format!("--epoch {EPOCH_MS}ms")), "{refused}");
    assert_eq!(2 * EPOCH_MS, with(other).constants(&Saved::default()).unwrap().epoch_length_ms);
}
