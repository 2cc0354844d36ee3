//! A whole network on this machine and two clients in this process: how fast messages get through, and at what cost.

mod local;
mod lossy;
mod messages;

pub use self::local::{Local, Times};
pub use self::lossy::Lossy;
pub use self::messages::{Pair, Sent, Timed};
