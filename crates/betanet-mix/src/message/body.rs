//! Where a message's bytes come from while it is sent.

use std::fmt::Debug;
use std::sync::Arc;

/// Bytes that are there for as long as a message is on its way, in memory or elsewhere.
pub trait BodySource: Debug + Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them are in memory.
    fn in_memory(&self) -> usize;

    /// Fills `into` with those from `start` on. `None` if they cannot be read.
    fn read(&self, start: usize, into: &mut [u8]) -> Option<()>;
}

impl BodySource for Vec<u8> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn in_memory(&self) -> usize {
        Vec::len(self)
    }

    fn read(&self, start: usize, into: &mut [u8]) -> Option<()> {
        into.copy_from_slice(self.get(start..start.checked_add(into.len())?)?);
        Some(())
    }
}

/// The body of a message on its way out. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Body(Arc<dyn BodySource>);

impl Body {
    /// A body that is read as it is sent.
    #[must_use]
    pub fn new(source: Arc<dyn BodySource>) -> Self {
        Self(source)
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of its bytes are in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.0.in_memory()
    }

    /// Fills `into` with its bytes from `start` on. `None` if they cannot be read.
    #[must_use]
    pub fn read(&self, start: usize, into: &mut [u8]) -> Option<()> {
        self.0.read(start, into)
    }
}

impl<T: AsRef<[u8]> + ?Sized> From<&T> for Body {
    fn from(bytes: &T) -> Self {
        Self(Arc::new(bytes.as_ref().to_vec()))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl From<Arc<Vec<u8>>> for Body {
    fn from(bytes: Arc<Vec<u8>>) -> Self {
        Self(bytes)
    }
}
