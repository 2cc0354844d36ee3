//! A whole network on this machine and two clients in this process: how fast messages get through, and at what cost.

mod local;
mod messages;

pub use self::local::{Local, Times};
pub use self::messages::{Pair, Sent, Timed};
