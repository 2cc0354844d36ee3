//! Each target over its seeds, and a few thousand inputs that are like them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use betanet_fuzz::{Run, TARGETS};

#[test]
fn no_target_panics_and_each_tells_its_seeds_from_garbage() {
    for target in &TARGETS {
        let mut run = Run::new(target, 1).unwrap().unwrap_or_else(|finding| panic!("{}: {finding:?}", target.name));
        let (seeds, ends) = run.count();
        assert!(seeds > 0 && ends > 0, "{} has no seeds", target.name);
        assert_eq!(Ok(true), run.once(b"\x00garbage\xff").map(|_| true));
        run.go(|tried| tried < 4_000).unwrap_or_else(|finding| panic!("{}: {finding:?}", target.name));
        assert!(run.count().1 > ends, "no input of {} comes to another end than its seeds", target.name);
    }
}
