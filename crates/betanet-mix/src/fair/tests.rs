use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SIDES: [Side; 2] = [Side::Nodes, Side::Clients];

fn drain<T>(queue: &mut FairQueue<T>) -> Vec<T> {
    std::iter::from_fn(|| queue.pop()).collect()
}

#[test]
fn sources_take_turns_and_each_keeps_its_order() {
    let mut queue = FairQueue::new(30);
    let [one, other] = [(); 2].map(|()| queue.join(Side::Clients));
    for n in 0..4 {
        assert_eq!(None, queue.push(one, ("one", n)));
    }
    for n in 0..2 {
        assert_eq!(None, queue.push(other, ("other", n)));
    }
    let out = drain(&mut queue);
    assert_eq!([("one", 0), ("other", 0), ("one", 1), ("other", 1), ("one", 2), ("one", 3)], *out);
    assert!(queue.is_empty());
}

/// INV-LINK-47
#[test]
fn nodes_have_every_second_turn_whatever_number_of_clients_waits() {
    let mut queue = FairQueue::new(1000);
    let node = queue.join(Side::Nodes);
    for _ in 0..50 {
        let client = queue.join(Side::Clients);
        for _ in 0..3 {
            queue.push(client, "client");
        }
    }
    for _ in 0..10 {
        queue.push(node, "node");
    }
    let out: Vec<_> = std::iter::from_fn(|| queue.pop()).take(20).collect();
    assert_eq!(10, out.iter().filter(|from| **from == "node").count());
    assert_eq!(140, drain(&mut queue).len());
}

#[test]
fn one_that_is_alone_may_fill_the_queue_and_makes_way_for_who_comes() {
    let mut queue = FairQueue::new(10);
    let hog = queue.join(Side::Clients);
    let dropped: Vec<_> = (0..15).filter_map(|n| queue.push(hog, n)).collect();
    assert_eq!([10, 11, 12, 13, 14], *dropped);
    // Its newest make way, and those that waited longest keep their places.
    let node = queue.join(Side::Nodes);
    assert_eq!([Some(9), Some(8), Some(7), Some(6), Some(5)], [(); 5].map(|()| queue.push(node, 100)));
    assert_eq!(Some(101), queue.push(node, 101), "half of the places is what nodes may take from clients");
    let client = queue.join(Side::Clients);
    assert_eq!(Some(4), queue.push(client, 200));
    assert_eq!([100, 0, 100, 200, 100, 1, 100, 2, 100, 3], *drain(&mut queue));
}

/// INV-LINK-48
#[test]
fn who_owes_turns_lets_others_pass_and_loses_none_when_nobody_waits() {
    let mut queue = FairQueue::new(100);
    let [bad, good] = [(); 2].map(|()| queue.join(Side::Clients));
    for _ in 0..6 {
        queue.push(bad, "bad");
        queue.push(good, "good");
    }
    queue.charge(bad, 4);
    let out: Vec<_> = std::iter::from_fn(|| queue.pop()).take(8).collect();
    assert_eq!(["good", "good", "good", "good", "bad", "good", "bad", "good"], *out);
    assert_eq!(["bad"; 4], *drain(&mut queue));
    // Alone in its half, it lets nodes pass.
    queue.charge(bad, 3);
    let node = queue.join(Side::Nodes);
    for _ in 0..4 {
        queue.push(bad, "bad");
        queue.push(node, "node");
    }
    assert_eq!(["node", "node", "node", "bad", "node", "bad", "bad", "bad"], *drain(&mut queue));
    queue.charge(bad, u32::MAX);
    queue.push(bad, "alone");
    assert_eq!(["alone"], *drain(&mut queue));
}

#[test]
fn what_a_source_left_behind_is_served_and_its_place_is_used_again() {
    let mut queue = FairQueue::new(10);
    let first = queue.join(Side::Nodes);
    queue.push(first, 1);
    queue.charge(first, 100);
    queue.leave(first);
    assert_eq!(Some(2), queue.push(first, 2), "it has left");
    let second = queue.join(Side::Clients);
    assert_ne!(first.index, second.index);
    assert_eq!([1], *drain(&mut queue));
    let third = queue.join(Side::Clients);
    assert_eq!(first.index, third.index);
    assert_ne!(first, third);
    queue.charge(first, 100);
    queue.leave(first);
    queue.push(second, 7);
    queue.push(third, 8);
    assert_eq!([7, 8], *drain(&mut queue), "an old id does nothing to who has its place now");
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Pop,
    Charge(usize, u32),
    Leave(usize),
}

/// Items of one source that wait.
fn held_by<T>(queue: &FairQueue<T>, id: SourceId) -> usize {
    let source = queue.sources.get(id.index).filter(|source| source.generation == id.generation);
    source.map_or(0, |source| source.waiting.len())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_usize..12).prop_map(Step::Push),
        4 => Just(Step::Pop),
        1 => (0_usize..12, 0_u32..20).prop_map(|(who, turns)| Step::Charge(who, turns)),
        1 => (0_usize..12).prop_map(Step::Leave),
    ];
    vec(step, 0..600)
}

proptest! {
    /// Nothing appears or disappears but by what is said, and nobody loses a place who holds less than an equal part of
    /// its half.
    ///
    /// INV-LINK-47
    #[test]
    fn nobody_below_an_equal_part_of_its_half_loses_anything(capacity in 4_usize..60, steps in steps()) {
        let mut queue = FairQueue::new(capacity);
        let side = |who: usize| SIDES[who % 2];
        let mut ids: Vec<_> = (0..12).map(|who| queue.join(side(who))).collect();
        let mut held = [0_usize; 12];
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(who) => {
                    let full = held.iter().sum::<usize>() == capacity;
                    let dropped = queue.push(ids[who], (who, n));
                    held[who] += 1;
                    prop_assert_eq!(full, dropped.is_some());
                    if let Some((victim, _)) = dropped {
                        let of_side = |other: &usize| side(*other) == side(victim);
                        let active = (0..12).filter(of_side).filter(|other| held[*other] > 0).count();
                        prop_assert!(held[victim] > capacity / 2 / active, "{victim} of {held:?}");
                        let most = (0..12).filter(of_side).map(|other| held[other]).max();
                        prop_assert!(held[victim] + 1 >= most.unwrap());
                        held[victim] -= 1;
                    }
                }
                Step::Pop => {
                    let out = queue.pop();
                    prop_assert_eq!(held == [0; 12], out.is_none());
                    if let Some((who, _)) = out {
                        held[who] -= 1;
                    }
                }
                Step::Charge(who, turns) => queue.charge(ids[who], turns),
                // Who comes back is another source; what waits of the former one is still counted as its own here, so
                // it comes back only with nothing left.
                Step::Leave(who) if held[who] == 0 => {
                    queue.leave(ids[who]);
                    ids[who] = queue.join(side(who));
                }
                Step::Leave(_) => {}
            }
            prop_assert_eq!(held.iter().sum::<usize>(), queue.len());
            for who in 0..12 {
                prop_assert_eq!(held[who], held_by(&queue, ids[who]));
            }
        }
        let left = queue.len();
        prop_assert_eq!(left, drain(&mut queue).len());
    }

    /// Of sources that always have something, each gets the same number of turns within its half.
    #[test]
    fn who_always_has_something_gets_as_many_turns_as_others_of_its_half(
        nodes in 1_usize..6, clients in 1_usize..9, rounds in 1_usize..20,
    ) {
        let mut queue = FairQueue::new(2 * (nodes + clients) * 3);
        let sides = [(Side::Nodes, nodes), (Side::Clients, clients)];
        let mut served = std::collections::BTreeMap::new();
        for (side, count) in sides {
            for n in 0..count {
                let id = queue.join(side);
                let name = (side.index(), n);
                for _ in 0..3 {
                    queue.push(id, (id, name));
                }
                served.insert(name, 0_usize);
            }
        }
        let turns = 2 * nodes * clients * rounds;
        for _ in 0..turns {
            let (id, name) = queue.pop().unwrap();
            *served.get_mut(&name).unwrap() += 1;
            queue.push(id, (id, name));
        }
        for ((side, _), times) in served {
            prop_assert_eq!(if side == 0 { clients } else { nodes } * rounds, times);
        }
    }
}
