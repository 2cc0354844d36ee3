//! Places for links that are held until they end.

use std::hash::Hash;
use std::sync::{Arc, Mutex};

use betanet_mix::places::KeptPlaces;

use crate::sync::lock;

/// A bounded number of places, of which no single holder gets more than its share.
#[derive(Debug)]
pub(crate) struct Places<K: Eq + Hash + Copy>(Arc<Mutex<KeptPlaces<K>>>);

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash + Copy> {
    holder: Option<K>,
    places: Arc<Mutex<KeptPlaces<K>>>,
}

impl<K: Eq + Hash + Copy> Places<K> {
    /// As many as `most`, of which one holder has `share`.
    pub(crate) fn new(most: usize, share: usize) -> Self {
        Self(Arc::new(Mutex::new(KeptPlaces::new(most, share))))
    }

    /// A place for `holder`; `None` if all are taken, or as many as one holder may have.
    /// Without a holder only the total counts.
    pub(crate) fn take(&self, holder: Option<K>) -> Option<Place<K>> {
        lock(&self.0).take(holder).then(|| Place { holder, places: Arc::clone(&self.0) })
    }
}

impl<K: Eq + Hash + Copy> Drop for Place<K> {
    fn drop(&mut self) {
        lock(&self.places).give_back(self.holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_once_its_link_ends() {
        let places = Places::new(2, 1);
        let held = places.take(Some('a'));
        assert!(held.is_some() && places.take(Some('a')).is_none());
        drop(held);
        assert!(places.take(Some('a')).is_some());
    }
}
