use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Packets a second that a client may send.
const CEILING: u32 = 3000;

fn pace() -> Pace {
    Pace::new(CEILING)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// INV-LINK-49
#[test]
fn a_node_pays_for_what_it_checks_itself_and_not_for_what_a_sender_chose() {
    let paid = |from| PacketError::ALL.into_iter().filter(move |error| is_charged(from, *error));
    let of_nodes: Vec<_> = paid(Side::Nodes).map(|error| error.reason()).collect();
    assert_eq!(["wrong_length", "unknown_version", "bad_parity", "bad_alpha"], *of_nodes);
    let of_clients: Vec<_> = paid(Side::Clients).map(|error| error.reason()).collect();
    for reason in ["bad_mac", "no_key", "replay", "bad_payload"] {
        assert!(of_clients.contains(&reason), "{reason}");
    }
    assert!(!of_clients.contains(&"replay_cache_full"), "that is ours");
}

/// INV-LINK-48
#[test]
fn nothing_but_garbage_shuts_a_client_out_for_a_while() {
    let mut conduct = Conduct::new(ms(0), f64::from(CEILING));
    let sent = (1..9999).find(|n| conduct.charge(ms(*n), 1, 0)).unwrap();
    assert!((900..1200).contains(&sent), "{sent}");
    let ends = ms(sent) + HALF_LIFE;
    assert!(!conduct.charge(ms(sent + 1), 1, 0), "it is said once");
    assert!(conduct.is_shut_out(ms(sent + 1) + HALF_LIFE.mul_f64(0.99)) && !conduct.is_shut_out(ends));
    // Half is forgotten by then; it is not shut out again for a little more.
    assert!(!conduct.charge(ends, 100, 0));
    assert!(conduct.charge(ends, 500, 0));
    assert!(!conduct.is_clean(ends));
    assert!(conduct.is_clean(ends + HALF_LIFE * 20));
}

/// INV-LINK-49
#[test]
fn who_sends_as_much_that_is_good_is_not_shut_out() {
    let mut conduct = Conduct::new(ms(0), f64::from(CEILING));
    assert!((0..100_000).all(|n| !conduct.charge(ms(n / 100), 1, 1)));
    // What was good long ago is no allowance for later.
    assert!(!conduct.charge(ms(2000), 1, u64::MAX));
    assert!((1..1100).any(|_| conduct.charge(ms(2000), 1, 0)));
}

#[test]
fn links_that_break_the_protocol_shut_out_sooner() {
    let mut conduct = Conduct::new(ms(0), f64::from(CEILING));
    let links = (1..9999).find(|n| conduct.charge(ms(*n), BROKEN_LINK, 0)).unwrap();
    assert!((10..40).contains(&links), "{links}");
}

proptest! {
    /// Whatever the order and the size of what comes: beyond the burst, no more is let in than the rate allows, and who
    /// waits as long as it is told never waits longer than its own packets are worth.
    ///
    /// INV-LINK-48
    #[test]
    fn packets_pass_no_faster_than_they_may(steps in vec((0_u64..50, 0_u32..999), 1..80)) {
        let mut conduct = Conduct::new(ms(0), f64::from(CEILING));
        let mut pace = pace();
        let (rate, one_go) = (f64::from(CEILING), f64::from(CEILING) * ONE_GO);
        let (mut now, mut sent) = (ms(0), 0.0);
        for (pause, packets) in steps {
            now += ms(pause);
            let wait = conduct.spend(now, packets, &mut pace);
            sent += f64::from(packets);
            prop_assert!(wait <= Duration::from_secs_f64(f64::from(packets) / rate) + ms(1));
            now += wait;
            prop_assert!(sent <= one_go + (now.as_secs_f64() + 0.001) * rate);
        }
        prop_assert!(!conduct.is_shut_out(now), "to send much is no garbage");
    }
}

/// INV-LINK-46
#[test]
fn item_acks_are_read_at_a_rate_of_their_own() {
    let mut conduct = Conduct::new(ms(0), f64::from(CEILING));
    let frames = |conduct: &mut Conduct, items| (0u32..99_999).find(|_| !conduct.acknowledge(ms(0), items).is_zero());
    let many = frames(&mut conduct.clone(), 309).unwrap();
    assert!((300..400).contains(&many), "{many}");
    // Frames that acknowledge nothing are not free.
    let empty = frames(&mut conduct, 0).unwrap();
    assert!((10_000..20_000).contains(&empty), "{empty}");
    assert!(!conduct.is_clean(ms(0)));
    // Its packets are read meanwhile.
    assert_eq!(ms(0), conduct.spend(ms(0), 100, &mut pace()));
    assert!(conduct.acknowledge(ms(0), 5000) >= ms(100));
    assert_eq!(ms(0), conduct.acknowledge(ms(1000), 9));
    assert!(conduct.is_clean(ms(9000)));
}

/// INV-LINK-79
#[test]
fn requests_are_answered_at_a_rate_of_their_own() {
    let mut conduct = Conduct::new(ms(0), f64::from(CEILING));
    let asked = (0u32..99_999).find(|_| !conduct.ask(ms(0)).is_zero()).unwrap();
    assert!((1900..2100).contains(&asked), "{asked}");
    assert!(!conduct.is_clean(ms(0)));
    // Its packets are read meanwhile, and what it has to wait for a request is short.
    assert_eq!(ms(0), conduct.spend(ms(0), 100, &mut pace()));
    assert!((1..20).contains(&conduct.ask(ms(0)).as_millis()));
    assert_eq!(ms(0), conduct.ask(ms(1000)));
    assert!(conduct.is_clean(ms(20_000)));
}
