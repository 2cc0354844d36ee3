#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

/// What an item of [`item`] takes.
const SIZE: u64 = 100 + ITEM_OVERHEAD;

const WIDE: Limits = Limits {
    mailboxes: 500,
    bytes_each: 90 * SIZE,
    bytes_total: 100 * SIZE,
    time_to_live: Duration::from_millis(1680),
};

fn id(number: u16) -> MailboxId {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    bytes.into()
}

fn origin(number: u8) -> Origin {
    (number > 0).then(|| Ipv4Addr::new(192, 0, 2, number).into())
}

fn item(promised: bool, stored_ms: u64) -> super::ItemRecord {
    super::ItemRecord { stored_ms, len: 100, promised }
}

fn index(limits: Limits) -> Index {
    Index::new(limits, 1)
}

/// Puts until the edge refuses; how many it took.
fn fill(index: &mut Index, mailbox: MailboxId, promised: bool) -> usize {
    std::iter::from_fn(|| index.put(mailbox, item(promised, 0)).ok()).count()
}

fn items_of(index: &Index, mailbox: MailboxId) -> usize {
    index.mailboxes.get(&mailbox).map_or(0, |mailbox| mailbox.items.len())
}

/// INV-LINK-40
#[test]
fn four_mailboxes_that_fill_the_edge_keep_no_other_from_its_part() {
    for origins in [1, 4] {
        let mut index = index(WIDE);
        for n in 0u8..4 {
            index.attach(id(n.into()), origin(n % origins), 0).unwrap();
            fill(&mut index, id(n.into()), true);
        }
        assert_eq!(100, index.held().1);
        index.attach(id(9), origin(9), 0).unwrap();
        // An equal part for each origin.
        assert_eq!(100 / (usize::from(origins) + 1), fill(&mut index, id(9), true));
        assert_eq!(Err(Refusal::EdgeFull), index.put(id(9), item(true, 0)));
        let others: Vec<usize> = (0..4).map(|n| items_of(&index, id(n))).collect();
        let even = others.iter().all(|count| others.iter().all(|other| count.abs_diff(*other) <= 1));
        assert!(even, "what went was not taken from whoever had most: {others:?}");
    }
}

/// INV-LINK-40
#[test]
fn within_one_address_each_mailbox_has_its_part() {
    let mut index = index(WIDE);
    for n in 0..5 {
        index.attach(id(n), None, 0).unwrap();
    }
    fill(&mut index, id(0), true);
    fill(&mut index, id(1), true);
    for n in 2..5 {
        for _ in 0..20 {
            index.put(id(n), item(true, 0)).unwrap();
        }
    }
    assert_eq!([20; 5].to_vec(), (0..5).map(|n| items_of(&index, id(n))).collect::<Vec<_>>());
    assert_eq!(Err(Refusal::EdgeFull), index.put(id(3), item(true, 0)));
}

/// INV-LINK-40
#[test]
fn a_mailbox_has_a_limit_of_its_own_in_bytes() {
    let mut index = index(WIDE);
    index.attach(id(1), None, 0).unwrap();
    assert_eq!(90, fill(&mut index, id(1), true));
    assert_eq!(Err(Refusal::MailboxFull), index.put(id(1), item(true, 0)));
    assert_eq!(Err(Refusal::UnknownMailbox), index.put(id(2), item(true, 0)));
}

/// INV-LINK-41
#[test]
fn what_its_sender_counts_on_makes_way_last_and_the_newest_first() {
    let mut index = index(WIDE);
    index.attach(id(1), origin(1), 0).unwrap();
    index.attach(id(2), origin(2), 0).unwrap();
    for n in 0..90 {
        index.put(id(1), item(n % 9 != 0, 0)).unwrap();
    }
    fill(&mut index, id(2), true);
    let mut gone = Vec::new();
    while let Ok(taken) = index.put(id(2), item(true, 0)) {
        gone.extend(taken.gone.into_iter().flat_map(|gone| gone.seqs));
    }
    // Of 90 with the numbers 1 to 90, each ninth was not promised, from the first on.
    assert_eq!(50, items_of(&index, id(1)));
    let unpromised = (0u64..10).rev().map(|n| n * 9 + 1);
    let newest = (1u64..=90).rev().filter(|seq| seq % 9 != 1);
    let expected: Vec<u64> = unpromised.chain(newest).take(40).collect();
    let all: Vec<u64> = (1u64..=90).filter(|seq| !index.holds(id(1), *seq)).collect();
    assert_eq!(expected.iter().copied().collect::<BTreeSet<_>>(), all.into_iter().collect());
    assert!(gone.len() <= 40);
}

/// INV-LINK-42
#[test]
fn used_mailboxes_of_one_address_shut_no_newcomer_out() {
    let mut index = index(Limits { bytes_total: 600 * SIZE, ..WIDE });
    for n in 0..500 {
        index.attach(id(n), origin(1), u64::from(n)).unwrap();
        index.put(id(n), item(true, 0)).unwrap();
    }
    let emptied = id(6);
    let seqs: Vec<u64> = index.mailboxes.get(&emptied).unwrap().items.keys().copied().collect();
    index.remove(emptied, seqs);
    assert_eq!(Err(Refusal::TooManyMailboxes), index.attach(id(600), origin(1), 900));
    let gone = index.attach(id(601), origin(2), 900).unwrap();
    assert_eq!(Some(Gone { mailbox: emptied, seqs: Vec::new(), forgotten: true }), gone);
    assert_eq!(None, index.owner(emptied));
    index.put(id(601), item(true, 0)).unwrap();
    for n in 602..851 {
        assert!(index.attach(id(n), origin(2), 900).unwrap().is_some());
        index.put(id(n), item(true, 0)).unwrap();
    }
    assert_eq!((500, Err(Refusal::TooManyMailboxes)), (index.held().0, index.attach(id(900), origin(2), 900)));
}

/// INV-LINK-42
#[test]
fn a_mailbox_makes_way_by_what_is_lost_with_it_and_never_while_its_owner_is_there() {
    let mut index = index(Limits { mailboxes: 4, ..WIDE });
    for n in 0..4 {
        index.attach(id(n), origin(1), n.into()).unwrap();
    }
    index.hold(id(0));
    index.put(id(1), item(true, 0)).unwrap();
    let taken = index.put(id(2), item(true, 0)).unwrap();
    assert!(taken.is_first);
    assert!(index.owner(id(2)).unwrap().used);
    index.remove(id(2), [taken.seq]);
    // Unused, then emptied.
    assert_eq!(Some(id(3)), index.attach(id(5), origin(2), 9).unwrap().map(|gone| gone.mailbox));
    assert_eq!(Some(id(2)), index.attach(id(6), origin(2), 9).unwrap().map(|gone| gone.mailbox));
    // The others have no more than the newcomers, of whom an unused one makes way.
    assert_eq!(Some(id(5)), index.attach(id(7), origin(2), 9).unwrap().map(|gone| gone.mailbox));
    index.hold(id(6));
    index.hold(id(7));
    assert_eq!(Err(Refusal::TooManyMailboxes), index.attach(id(8), origin(2), 9));
    let gone = index.attach(id(9), origin(3), 9);
    assert_eq!(Some(Gone { mailbox: id(1), seqs: vec![1], forgotten: true }), gone.unwrap());
}

/// INV-LINK-06
#[test]
fn what_outlives_its_time_goes_and_what_is_held_is_renewed() {
    let mut index = index(WIDE);
    for n in 0..3 {
        index.attach(id(n), origin(1), 0).unwrap();
    }
    index.hold(id(1));
    index.put(id(1), item(true, 0)).unwrap();
    index.put(id(1), item(true, 5)).unwrap();
    index.put(id(2), item(true, 5)).unwrap();
    assert_eq!((Vec::new(), Vec::new()), (index.expire(1680, 10), index.renew(10)));
    // A held mailbox gets another date after a part of its life, and once.
    assert_eq!((vec![id(1)], Vec::new()), (index.renew(11), index.renew(11)));
    let gone = index.expire(1681, 10);
    let of = |mailbox, seqs, forgotten| Gone { mailbox, seqs, forgotten };
    assert_eq!(vec![of(id(0), vec![], true), of(id(2), vec![3], true), of(id(1), vec![1], false)], gone);
    index.release(id(1), 2000);
    assert_eq!((vec![of(id(1), vec![2], false)], (1, 0)), (index.expire(3000, 10), index.held()));
    assert_eq!((vec![of(id(1), vec![], true)], (0, 0)), (index.expire(2000 + 1681, 10), index.held()));
}

/// INV-LINK-06
#[test]
fn no_more_goes_at_once_than_is_asked_for() {
    let mut index = index(WIDE);
    index.attach(id(1), None, 0).unwrap();
    index.hold(id(1));
    fill(&mut index, id(1), true);
    let rounds: Vec<usize> = std::iter::from_fn(|| {
        let gone: usize = index.expire(2000, 40).iter().map(|gone| gone.seqs.len()).sum();
        (gone > 0).then_some(gone)
    })
    .collect();
    assert_eq!(vec![40, 40, 10], rounds);
}

/// INV-LINK-42
#[test]
fn what_is_put_back_is_what_was_kept() {
    let mut former = index(WIDE);
    for n in 0u8..3 {
        former.attach(id(n.into()), origin(n), 7).unwrap();
    }
    let kept = former.put(id(0), item(false, 8)).unwrap().seq;
    let removed = former.put(id(1), item(true, 8)).unwrap().seq;
    former.remove(id(1), [removed]);
    former.hold(id(2));
    let mut index = Index::new(WIDE, 1);
    for n in 0..3 {
        index.restore(id(n), former.owner(id(n)).unwrap());
    }
    assert!(index.restore_item(id(0), kept, item(false, 8)));
    assert!(!index.restore_item(id(9), 90, item(false, 8)));
    index.keep_holds(&former);
    assert_eq!((former.held(), 91), (index.held(), index.next_seq()));
    for n in 0..3 {
        assert_eq!(former.owner(id(n)), index.owner(id(n)));
    }
    // The first is of a used mailbox that was emptied, the last is held.
    let mut order = std::iter::from_fn(|| index.forget(index.order.away_since(u64::MAX)?).map(|gone| gone.mailbox));
    assert_eq!(vec![id(0), id(1)], order.by_ref().collect::<Vec<_>>());
}

#[derive(Clone, Debug)]
enum Step {
    Attach(u16, u8),
    Hold(u16),
    Release(u16),
    Put(u16, u32, bool),
    Remove(u16, usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let mailbox = 0u16..12;
    prop_oneof![
        2 => (mailbox.clone(), 0u8..3).prop_map(|(n, from)| Step::Attach(n, from)),
        1 => mailbox.clone().prop_map(Step::Hold),
        1 => mailbox.clone().prop_map(Step::Release),
        9 => (mailbox.clone(), 1u32..300, any::<bool>()).prop_map(|(n, len, promised)| Step::Put(n, len, promised)),
        1 => (mailbox, 0usize..9).prop_map(|(n, nth)| Step::Remove(n, nth)),
        1 => (0u64..400).prop_map(Step::Pass),
    ]
}

/// The same books in the plainest way.
#[derive(Debug, Default)]
struct Model {
    mailboxes: BTreeMap<MailboxId, (Origin, usize)>,
    items: BTreeMap<u64, (MailboxId, super::ItemRecord)>,
}

impl Model {
    fn take_out(&mut self, gone: &[Gone]) {
        for gone in gone {
            for seq in &gone.seqs {
                assert_eq!(Some(gone.mailbox), self.items.remove(seq).map(|(mailbox, _)| mailbox));
            }
            if gone.forgotten {
                let (_, holds) = self.mailboxes.remove(&gone.mailbox).unwrap();
                assert_eq!(0, holds, "a mailbox went whose owner was there");
                assert!(self.items.values().all(|(mailbox, _)| *mailbox != gone.mailbox));
            }
        }
    }

    fn bytes(&self, of: impl Fn(MailboxId, Origin) -> bool) -> u64 {
        let origin = |mailbox| self.mailboxes.get(&mailbox).unwrap().0;
        let counted = self.items.values().filter(|(mailbox, _)| of(*mailbox, origin(*mailbox)));
        counted.map(|(_, item)| item.bytes()).sum()
    }

    /// Origins with items.
    fn origins(&self) -> u64 {
        let origins = self.items.values().map(|(mailbox, _)| self.mailboxes.get(mailbox).unwrap().0);
        u64::try_from(origins.collect::<BTreeSet<_>>().len()).unwrap()
    }
}

proptest! {
    /// INV-LINK-40 INV-LINK-41 INV-LINK-42
    #[test]
    fn whoever_has_less_than_his_part_is_never_refused(steps in prop::collection::vec(step(), 1..200)) {
        let limits = Limits { mailboxes: 6, bytes_each: 2500, bytes_total: 6000, time_to_live: Duration::from_secs(1) };
        let mut index = index(limits);
        let mut model = Model::default();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Attach(n, from) => {
                    let counts = |of: Origin| model.mailboxes.values().filter(|(origin, _)| *origin == of).count();
                    let own = counts(origin(from));
                    match index.attach(id(n), origin(from), now) {
                        Ok(gone) => {
                            model.take_out(gone.as_slice());
                            model.mailboxes.entry(id(n)).or_default().0 = origin(from);
                        }
                        Err(_) => for other in 0..3 {
                            let idle = |holds: usize| holds == 0;
                            let of_other = model.mailboxes.values().filter(|(of, holds)| *of == origin(other) && idle(*holds));
                            prop_assert!(of_other.count() == 0 || counts(origin(other)) <= own + 1);
                        }
                    }
                }
                Step::Hold(n) => {
                    index.hold(id(n));
                    model.mailboxes.entry(id(n)).and_modify(|one| one.1 += 1);
                }
                Step::Release(n) => {
                    index.release(id(n), now);
                    model.mailboxes.entry(id(n)).and_modify(|one| one.1 = one.1.saturating_sub(1));
                }
                Step::Put(n, len, promised) => {
                    let item = super::ItemRecord { stored_ms: now, len, promised };
                    match index.put(id(n), item) {
                        Ok(taken) => {
                            for gone in &taken.gone {
                                let spared = |seq: &u64| model.items.get(seq).is_some_and(|(_, item)| item.promised);
                                let unpromised = model.items.iter().filter(|(seq, (mailbox, item))|
                                    *mailbox == gone.mailbox && !item.promised && !gone.seqs.contains(seq));
                                prop_assert!(!gone.seqs.iter().any(spared) || unpromised.count() == 0 || taken.gone.len() > 1);
                            }
                            model.take_out(&taken.gone);
                            prop_assert!(model.items.insert(taken.seq, (id(n), item)).is_none());
                        }
                        Err(Refusal::UnknownMailbox) => prop_assert!(!model.mailboxes.contains_key(&id(n))),
                        Err(Refusal::MailboxFull) => {
                            prop_assert!(model.bytes(|mailbox, _| mailbox == id(n)) + item.bytes() > limits.bytes_each);
                        }
                        Err(_) => {
                            let from = model.mailboxes.get(&id(n)).unwrap().0;
                            let own = model.bytes(|_, of| of == from) + 2 * item.bytes();
                            prop_assert!(own * model.origins().max(1) >= limits.bytes_total, "it had less than its part");
                        }
                    }
                }
                Step::Remove(n, nth) => {
                    let of_mailbox = model.items.iter().filter(|(_, (mailbox, _))| *mailbox == id(n));
                    let seq = of_mailbox.map(|(seq, _)| *seq).nth(nth).unwrap_or(u64::MAX);
                    let gone = index.remove(id(n), [seq, seq]);
                    prop_assert_eq!(seq != u64::MAX, gone.is_some());
                    model.take_out(gone.as_slice());
                }
                Step::Pass(ms) => {
                    now += ms;
                    model.take_out(&index.expire(now, usize::MAX));
                    index.renew(now);
                }
            }
            prop_assert_eq!((model.mailboxes.len(), model.items.len()), index.held());
            prop_assert!(model.items.iter().all(|(seq, (mailbox, _))| index.holds(*mailbox, *seq)));
            prop_assert!(model.mailboxes.len() <= limits.mailboxes);
            prop_assert!(model.bytes(|_, _| true) <= limits.bytes_total);
            prop_assert_eq!(model.bytes(|_, _| true), index.bytes.total());
        }
    }
}

/// INV-LINK-43
#[test]
fn places_of_what_waits_for_the_disk_are_shared_out_too() {
    let mut books: Books<u64> = Books::new(index(WIDE), 12);
    for n in 0u8..3 {
        books.attach(id(n.into()), origin(n), 0).unwrap();
    }
    assert_eq!(3, books.take(100, 9).owners.len());
    let fill = |books: &mut Books<u64>, n| {
        let put = || books.put(id(n), item(true, 0), |seq| seq);
        let taken: Vec<Losses> = std::iter::repeat_with(put).map_while(Result::ok).collect();
        (taken.len(), taken.iter().map(|losses| losses.unwritten).sum::<usize>())
    };
    assert_eq!((12, 0), fill(&mut books, 0));
    assert_eq!(Err(Refusal::StoreBusy), books.put(id(0), item(true, 0), |seq| seq));
    assert_eq!((6, 6), fill(&mut books, 1));
    assert_eq!((4, 4), fill(&mut books, 2));
    let group = books.take(100, 9);
    // Whatever waited first is written, and under its own number.
    let of = |n| group.puts.iter().filter(move |((mailbox, _), _)| *mailbox == id(n)).map(|(_, seq)| *seq);
    assert_eq!((vec![1, 2, 3, 4], vec![13, 14, 15, 16]), (of(0).collect(), of(1).collect()));
    assert!(group.removals.is_empty());
    assert_eq!((3, 12), books.held());
    assert!(books.is_idle() && books.put(id(0), item(true, 0), |seq| seq).is_ok());
}

/// INV-LINK-43
#[test]
fn the_many_acknowledgements_of_one_delay_nobody() {
    let mut books: Books<()> = Books::new(index(WIDE), 100);
    for n in 0..3 {
        books.attach(id(n), None, 0).unwrap();
    }
    let mut put = |n| books.put(id(n), item(true, 0), |_| ()).unwrap();
    assert_eq!(0, (0..60).map(|_| put(0).evicted).sum::<usize>());
    assert_eq!(0, (0..5).map(|_| put(1).evicted).sum::<usize>());
    assert_eq!(0, (0..5).map(|_| put(2).evicted).sum::<usize>());
    assert!(books.is_awaited(99));
    books.take(100, 0);
    // Everything that may be sent, and more than once.
    for n in 0..3 {
        books.acknowledge(id(n), (0..1000).chain(0..1000));
    }
    assert!(books.is_awaited(70) && !books.is_awaited(71));
    books.acknowledge(id(9), 0..1000);
    let taken: Vec<Vec<u64>> = std::iter::from_fn(|| {
        let group = books.take(100, 6);
        (!group.is_empty()).then(|| {
            let of = |n| group.removals.iter().filter(|(mailbox, _)| *mailbox == id(n)).count();
            vec![of(0), of(1), of(2)].into_iter().map(|count| u64::try_from(count).unwrap()).collect()
        })
    })
    .collect();
    assert_eq!(vec![vec![2, 2, 2], vec![2, 2, 2], vec![4, 1, 1], vec![6, 0, 0]], taken.get(..4).unwrap());
    assert_eq!((70, (3, 0)), (taken.iter().flatten().sum(), books.held()));
    books.acknowledge(id(0), 0..1000);
    assert!(books.is_idle());
}

/// INV-LINK-43
#[test]
fn what_is_gone_before_it_was_written_is_not_written() {
    let mut books: Books<()> = Books::new(index(WIDE), 100);
    books.attach(id(1), None, 0).unwrap();
    books.put(id(1), item(true, 0), |_| ()).unwrap();
    let written = books.take(100, 9);
    books.put(id(1), item(true, 0), |_| ()).unwrap();
    books.acknowledge(id(1), 1..9);
    let group = books.take(100, 9);
    assert_eq!((1, 0, vec![(id(1), 1)]), (written.puts.len(), group.puts.len(), group.removals));
    books.release(id(1), 0);
    books.put(id(1), item(true, 0), |_| ()).unwrap();
    // The mailbox goes, and comes again, before anything is written.
    assert_eq!(Losses { expired: 1, ..Losses::default() }, books.pass(1681, 9));
    books.attach(id(1), origin(1), 1681).unwrap();
    let group = books.take(100, 9);
    let owner = Owner { origin: origin(1), attached_ms: 1681, used: false };
    assert_eq!(
        (0, vec![(id(1), Some(owner))], 4),
        (group.puts.len(), group.owners.into_iter().collect(), group.next_seq)
    );
}

/// INV-LINK-43
#[test]
fn books_that_begin_again_lose_what_waited_and_keep_who_is_there() {
    let mut books: Books<()> = Books::new(index(WIDE), 100);
    books.attach(id(1), None, 0).unwrap();
    let written = books.take(100, 9);
    books.put(id(1), item(true, 0), |_| ()).unwrap();
    let mut index = index(WIDE);
    for (mailbox, owner) in written.owners {
        index.restore(mailbox, owner.unwrap());
    }
    assert_eq!(1, books.begin_again(index));
    assert!(books.is_idle());
    books.pass(9999, 9);
    assert_eq!((1, 0), books.held());
}

/// INV-LINK-43
#[test]
fn the_many_items_of_one_delay_nobody() {
    let mut books: Books<()> = Books::new(index(WIDE), 100);
    for (n, from) in [(0, 1), (1, 1), (2, 2)] {
        books.attach(id(n), origin(from), 0).unwrap();
    }
    let mut put = |n| books.put(id(n), item(true, 0), |_| ()).unwrap();
    assert_eq!(0, (0..60).map(|_| put(0).evicted).sum::<usize>());
    assert_eq!(0, [1, 1, 2, 2, 2, 2, 2, 2, 2].map(|n| put(n).evicted).into_iter().sum::<usize>());
    let groups: Vec<Vec<(MailboxId, u64)>> = std::iter::from_fn(|| {
        let group = books.take(10, 0);
        (!group.is_empty()).then(|| group.puts.into_keys().collect())
    })
    .collect();
    let of = |group: usize, n| groups.get(group).unwrap().iter().filter(|(mailbox, _)| *mailbox == id(n)).count();
    assert_eq!([[3, 2, 5], [8, 0, 2], [10, 0, 0]], [0, 1, 2].map(|group| [0, 1, 2].map(|n| of(group, n))));
    let first: Vec<u64> =
        groups.iter().flatten().filter(|(mailbox, _)| *mailbox == id(0)).map(|(_, seq)| *seq).collect();
    assert!(first.is_sorted() && first.len() == 60 && books.is_idle());
}
