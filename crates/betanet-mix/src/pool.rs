//! Packet buffers that are used again, so that a busy node does not ask the allocator for every packet.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use betanet_sphinx::PACKET_LEN;

/// Where free buffers wait. Clones share one shelf; buffers may outlive the pool and go to any thread.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shelf>);

#[derive(Debug)]
struct Shelf {
    stock: Mutex<Stock>,
    limit: usize,
}

#[derive(Debug)]
struct Stock {
    free: Vec<Vec<u8>>,
    taken: usize,
}

impl Shelf {
    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// A pool that keeps up to `limit` free buffers of [`PACKET_LEN`] bytes. It starts empty: buffers are made when
    /// they are first needed, and what comes back beyond the limit is freed.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let stock = Stock { free: Vec::with_capacity(limit), taken: 0 };
        Self(Arc::new(Shelf { stock: Mutex::new(stock), limit }))
    }

    /// A buffer that holds `packet` and comes back to this pool when it is dropped.
    #[must_use]
    pub fn take(&self, packet: &[u8; PACKET_LEN]) -> Buffer {
        let free = {
            let mut stock = self.0.stock();
            stock.taken += 1;
            stock.free.pop()
        };
        let mut bytes = free.unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(packet);
        Buffer { bytes, home: Some(Arc::clone(&self.0)) }
    }

    /// Free buffers at hand.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.stock().free.len()
    }

    /// Buffers that were taken and have not come back.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.stock().taken
    }
}

/// The bytes of one packet; from a [`Pool`], or of its own.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    home: Option<Arc<Shelf>>,
}

impl From<&[u8; PACKET_LEN]> for Buffer {
    fn from(packet: &[u8; PACKET_LEN]) -> Self {
        Self { bytes: packet.to_vec(), home: None }
    }
}

impl Buffer {
    /// A buffer of its own for a packet that is yet to be written.
    #[must_use]
    pub fn blank() -> Self {
        Self { bytes: vec![0; PACKET_LEN], home: None }
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl From<Vec<u8>> for Buffer {
    /// Of any length: whether it is that of a packet says whoever unwraps it.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, home: None }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let mut stock = home.stock();
            stock.taken -= 1;
            if stock.free.len() < home.limit {
                stock.free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let pool = Pool::new(2);
        let first = pool.take(&[1; PACKET_LEN]);
        let place = first.as_ptr();
        drop(first);
        assert_eq!(pool.free(), 1);
        let second = pool.take(&[2; PACKET_LEN]);
        assert_eq!((second.as_ptr(), pool.free()), (place, 0));
        assert_eq!(*second, [2; PACKET_LEN]);
    }

    #[test]
    fn a_pool_keeps_no_more_than_its_limit() {
        let pool = Pool::new(2);
        let many: Vec<_> = (0..5).map(|_| pool.take(&[0; PACKET_LEN])).collect();
        assert_eq!((pool.free(), pool.taken()), (0, 5));
        drop(many);
        assert_eq!((pool.free(), pool.taken()), (2, 0));
    }

    #[test]
    fn a_buffer_outlives_its_pool_and_one_without_a_pool_is_freed() {
        let pool = Pool::new(1);
        let buffer = pool.take(&[3; PACKET_LEN]);
        drop(pool);
        assert_eq!(buffer.len(), PACKET_LEN);
        drop(buffer);
        drop(Buffer::from(&[4; PACKET_LEN]));
    }
}
