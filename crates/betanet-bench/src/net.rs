//! A whole network on this machine, clients of it and what stands in their way: how fast messages get through, at what
//! cost, and whether they do at all.

mod local;
mod lossy;
mod messages;
mod relayed;
mod replayer;

pub use self::local::{Local, Times};
pub use self::lossy::Lossy;
pub use self::messages::{Pair, Sent, Timed};
pub use self::replayer::{Replayed, Replayer};
