use super::*;
use crate::fixtures::{EPOCH, consensus, id, mailbox, member, nodes, rng, view, view_of};
use crate::path::select_forward;
use crate::view::{Address, Consensus, Member, Role};

fn short(hops: u8, what: &'static str, needed: usize, available: usize) -> PathError {
    PathError::NotEnoughNodes { hops, what, needed, available }
}

/// Two entries, nine middles and two exits, all of one party's name and each of a prefix of its own.
fn of_one_party() -> Vec<Member> {
    let mut all = nodes(9);
    for node in &mut all {
        "the only one".clone_into(&mut node.operator);
    }
    all
}

/// INV-MSG-79: enough nodes of one operator are no path of three hops or more, and what is missing is named.
#[test]
fn nodes_of_one_operator_make_no_path() {
    let apart = view_of(consensus(of_one_party()));
    let told: Vec<_> = (3..=7).map(|hops| short(hops, EDGES_OF_OTHERS, 2, 1)).collect();
    assert_eq!(told, shortages(&apart, EPOCH));
    assert_eq!(
        "too few edges of different operators and address prefixes for a path of 3 hops: 1 of 2",
        told[0].to_string()
    );
    // Where one party runs the network by its own word, nobody is to be kept apart.
    let closed = view_of(Consensus { one_operator: true, ..consensus(of_one_party()) });
    assert!(shortages(&closed, EPOCH).is_empty());
}

/// INV-MSG-79
#[test]
fn every_length_is_told_what_it_lacks() {
    assert!(shortages(&view(5), EPOCH).is_empty());
    assert_eq!(
        vec![short(5, MIDDLES, 3, 2), short(6, MIDDLES, 4, 2), short(7, MIDDLES, 5, 2)],
        shortages(&view(2), EPOCH)
    );
    let later = Epoch(EPOCH.0 + 5);
    assert_eq!(short(1, EDGES, 1, 0), shortages(&view(5), later)[0]);

    // Nine middles of three parties.
    let mut crowd = nodes(0);
    crowd.extend((10..19).map(|number| member(number, Role::Middle, 20 + number % 3)));
    assert_eq!(vec![short(6, APART, 4, 3), short(7, APART, 5, 3)], shortages(&view_of(consensus(crowd)), EPOCH));

    // Who runs the middles runs all edges but one.
    let mut both = nodes(0);
    both.retain(|node| node.role.is_edge());
    both.extend([member(10, Role::Middle, 0), member(11, Role::Middle, 1), member(12, Role::Middle, 2)]);
    let told = shortages(&view_of(consensus(both)), EPOCH);
    assert_eq!(vec![short(5, ALL_APART, 5, 4), short(6, MIDDLES, 4, 3), short(7, MIDDLES, 5, 3)], told);
}

/// INV-MSG-79: prefixes count as operators do, and one that has several is moved where that makes room.
#[test]
fn operators_and_prefixes_are_matched() {
    let mut all = nodes(0);
    // Three operators; the first could stand at either of two prefixes, the others at one of these each.
    for (number, party, operator) in [(10, 30, "a"), (11, 31, "a"), (12, 30, "b"), (13, 32, "c"), (14, 32, "d")] {
        let mut node = member(number, Role::Middle, party);
        operator.clone_into(&mut node.operator);
        all.push(node);
    }
    let told = shortages(&view_of(consensus(all)), EPOCH);
    assert_eq!(vec![short(6, APART, 4, 3), short(7, APART, 5, 3)], told);
}

/// INV-MSG-79: a length that is told to be short is one for which no path is ever drawn.
#[test]
fn what_is_short_cannot_be_drawn() {
    let mut rng = rng(7);
    let mut drawn = 0;
    for round in 0..200u8 {
        let edges = [(0, Role::Entry), (1, Role::Entry), (2, Role::Exit)];
        let party = |number: u8| number.wrapping_mul(round | 1).wrapping_add(round / 3) % (2 + round % 9);
        let mut all: Vec<_> = edges.map(|(number, role)| member(number, role, party(number))).into();
        all.extend((10..10 + round % 8).map(|number| member(number, Role::Middle, party(number))));
        for (number, node) in (0u8..).zip(&mut all) {
            node.operator = format!("operator {}", number.wrapping_mul(3).wrapping_add(round) % (2 + round % 7));
        }
        let view = view_of(consensus(all));
        let told = shortages(&view, EPOCH);
        let to = Address::new(vec![mailbox(1), mailbox(2)], [4; 32]).unwrap();
        for hops in 1..=7 {
            if select_forward(&mut rng, &view, EPOCH, &[id(0), id(1)], &to, hops).is_ok() {
                drawn += 1;
                let lacks =
                    |short: &PathError| matches!(short, PathError::NotEnoughNodes { hops: of, .. } if *of == hops);
                assert!(!told.iter().any(lacks), "round {round}: {told:?}");
            }
        }
    }
    assert!(drawn > 200, "{drawn}");
}
