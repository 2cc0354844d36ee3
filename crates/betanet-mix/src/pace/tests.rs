#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use proptest::prelude::*;

use super::*;
use crate::conduct::Conduct;

const MOST: u32 = 9000;

/// Packets that are read together.
const LUMP: u32 = 26;

/// Ends a round in which packets left, late or not, and a client sent so many.
fn round(pace: &mut Pace, number: u32, late: Duration, sent: u32) -> f64 {
    let now = ROUND * number;
    pace.left(now, 10, late * 10);
    pace.sent(sent);
    pace.ceiling(now + ROUND)
}

/// INV-LINK-82
#[test]
fn lateness_slows_the_heaviest_and_punctuality_lets_it_go_again() {
    let mut pace = Pace::new(MOST);
    let top = f64::from(MOST);
    assert_eq!(top.to_bits(), round(&mut pace, 0, LATE, 2400).to_bits(), "as late as may be");
    // 1200 in a round are 4,000 a second.
    let cut = round(&mut pace, 1, LATE * 2, 1200);
    assert!((LEAST..4000.0).contains(&cut), "{cut}");
    assert!(round(&mut pace, 2, LATE * 2, 900) < cut);
    // Others are not slower than it is by then.
    assert!((3..99).all(|number| round(&mut pace, number, LATE * 2, 900) >= LEAST));
    let rounds = (99..9999).find(|number| round(&mut pace, *number, LATE / 2, 900) >= top).unwrap();
    assert!((110..200).contains(&rounds), "it rises step by step: {rounds}");
}

/// INV-LINK-82
#[test]
fn nobody_is_slowed_where_no_client_sends_much_or_nothing_leaves() {
    let mut pace = Pace::new(MOST);
    let top = f64::from(MOST).to_bits();
    assert!((0..50).all(|number| round(&mut pace, number, LATE * 9, 290).to_bits() == top));
    pace.sent(2900);
    assert_eq!(top, pace.ceiling(ROUND * 99).to_bits());
}

/// INV-LINK-82
#[test]
fn a_ceiling_below_the_least_holds_all_the_same() {
    let mut pace = Pace::new(7);
    assert!((0..50).all(|number| round(&mut pace, number, LATE * 9, 4000) <= 7.0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A client that sends all that is read of it, and one that sends a little, at a node that carries so many packets a
    /// second: the little is never held back, what has come in does not wait for long, and the node has work.
    ///
    /// INV-LINK-82
    #[test]
    fn a_flood_is_held_back_as_far_as_the_node_needs_it(capacity in 4000_u32..20_000) {
        let step = Duration::from_millis(5);
        let mut pace = Pace::new(MOST);
        let [mut flood, mut honest] = [(); 2].map(|()| Conduct::new(Duration::ZERO, f64::from(MOST)));
        let (mut free, mut waiting, mut served, mut worst) = (Duration::ZERO, 0.0_f64, 0.0, 0.0_f64);
        let each_step = f64::from(capacity) * step.as_secs_f64();
        for number in 0..4000 {
            let now = step * number;
            while free <= now {
                // Reads lie between the steps.
                let at = free.max(now.saturating_sub(step));
                free = at + flood.spend(at, LUMP, &mut pace).max(Duration::from_micros(500));
                waiting += f64::from(LUMP);
            }
            prop_assert_eq!(Duration::ZERO, honest.spend(now, 1, &mut pace));
            waiting += 1.0;
            let leave = waiting.min(each_step);
            let late = waiting / f64::from(capacity);
            waiting -= leave;
            pace.left(now, 10, Duration::from_secs_f64(late) * 10);
            if number > 1000 {
                served += leave;
                worst = worst.max(late);
            }
        }
        prop_assert!(worst < 0.4, "{worst} s late with {capacity}/s");
        let carried = served / (3000.0 * step.as_secs_f64());
        let could = f64::from(capacity).min(f64::from(MOST));
        prop_assert!(carried > 0.7 * could, "{carried}/s of {could}/s");
    }
}
